"""Asset `style/selected_lora`: the chosen epoch of a style's training."""

from dataclasses import replace
from pathlib import Path

import dagster as dg

from sticker_pipeline.benchmark import style_images
from sticker_pipeline.benchmark.features import embedder_of
from sticker_pipeline.benchmark.style_choice import BASE_EPOCH, CHOICE, GOAL, choose_style_epoch, style_metrics
from sticker_pipeline.core.storage import link_or_copy, write_table
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline.dagster_kit.progress import step_count
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.dataset.style_set import taken_traits
from sticker_pipeline.defs.automation import WHEN_STALE
from sticker_pipeline.defs.partitions import STYLES
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import SELECTED_STYLE_LORA, STYLE_LORA, STYLE_TRAINING_SET, of_style, style_made_from
from sticker_pipeline.generation.jobs import open_generator
from sticker_pipeline.generation.unseen import CHOICE_CHARACTERS, GOAL_CHARACTERS, unseen_prompts
from sticker_pipeline.roots.loras import LORA_FILE
from sticker_pipeline.tagging.wd14 import open_tagger
from sticker_pipeline.training.logs.results import checkpoints_of


@dg.asset(
    key=SELECTED_STYLE_LORA,
    **style_made_from(STYLE_LORA, STYLE_TRAINING_SET, uses=["choice"]),
    partitions_def=STYLES,
    code_version="1",
    automation_condition=WHEN_STALE,
    group_name="style",
    kinds={"open-clip", "onnx", "parquet"},
    metadata=columns(CHOICE, GOAL),
    pool=GPU,
    op_tags=gpu_request(GPU),
    description="The epoch to use, by a stated rule, on images of invented characters: none with images that pass for "
    "a character of the style, none that shows fewer prompted tags than the base model; of those that are as much in "
    "the style as any, the earliest. Its quality is measured on other invented characters.",
)
@once
def selected_style_lora(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_style) as work:
        profile, staging, training_set = work.profile, work.staging, work.inputs["style_training_set"]
        tagger = open_tagger(profile.tagger, profile.tagging.provider)
        evaluator = style_images.Evaluator(embedder_of(profile, work.store), tagger, profile, work.store)
        taken = taken_traits(training_set)
        checkpoints: dict[int, Path | None] = {BASE_EPOCH: None, **checkpoints_of(work.inputs["style_lora"])}
        sample = style_images.selection(unseen_prompts(profile.style, taken, CHOICE_CHARACTERS))
        goal = style_images.goal_sample(unseen_prompts(profile.style, taken, GOAL_CHARACTERS))
        count = step_count(context, len(checkpoints) * len(sample.asked) + 2 * len(goal.asked))
        generator = open_generator(profile, work.roots["choice"]["base"], work.store, count)
        images = {
            epoch: style_images.save_sample(generator, sample, staging, style_images.epoch_folder(epoch), path)
            for epoch, path in checkpoints.items()
        }
        evaluation = style_images.style_evaluation_context(evaluator, work.subject.name, training_set, sample.asked)
        metrics = {
            epoch: style_metrics(evaluator.features_of(own, staging, style_images.epoch_folder(epoch)), evaluation)
            for epoch, own in images.items()
        }
        limits = profile.style
        choice = choose_style_epoch(metrics, most_leaks=limits.most_leaks, most_lost=limits.most_lost)
        epoch = int(choice.loc[choice["chosen"], "epoch"].iloc[0])
        chosen = checkpoints[epoch]
        assert chosen is not None
        link_or_copy(chosen, staging / LORA_FILE)
        write_table(choice, staging, CHOICE)
        asked = replace(evaluation, asked=goal.asked)
        reached, shown = style_images.measured_goal(generator, evaluator, goal, asked, staging, chosen)
        write_table(reached, staging, GOAL)
        by_epoch = style_images.epoch_grid(images, sample.prompts)
        by_epoch.save(staging / "by_epoch.png")
        shown.save(staging / "goal.png")
        return work.publish(
            {
                SUMMARY: f"epoch {epoch} of {len(checkpoints) - 1}; {style_images.headline(reached)}",
                "epoch": epoch,
                "why": str(choice.loc[choice["chosen"], "reason"].iloc[0]),
                "images": inline_image(by_epoch, "invented characters, by epoch"),
                "by_epoch": inline_image(style_images.epoch_chart(choice), "evidence by epoch"),
                "evidence": table(choice, most=len(choice)),
                "goal": table(reached, most=len(reached)),
                "goal_metrics": inline_image(style_images.goal_chart(reached), "the goal, with intervals"),
                "goal_images": inline_image(shown, "other invented characters, base model and LoRA"),
                **described(choice, CHOICE),
            },
            content=lambda name: not name.endswith(".png"),
        )
