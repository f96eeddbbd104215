"""Assets of a style that several characters share: its training set, its LoRA, and the epoch to use."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.embed import Embedder, embed
from sticker_pipeline.benchmark.evaluation import Embeddings
from sticker_pipeline.benchmark.features import clip_of, embedded, tags_found_in
from sticker_pipeline.benchmark.measure import BASE, LORA
from sticker_pipeline.benchmark.style_choice import (
    BASE_EPOCH,
    CHOICE,
    GOAL,
    METRICS,
    Drawn,
    StyleEvaluationContext,
    choose_style_epoch,
    goal,
    style_metrics,
)
from sticker_pipeline.dagster_kit.launcher import TrainerLauncher
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, picture, table
from sticker_pipeline.dagster_kit.pools import GPU
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.dataset.manifest import HOLDOUT, TRAIN
from sticker_pipeline.dataset.style_set import STYLE_DROPPED, STYLE_ROWS, STYLE_TAGS, kind_of, own_traits, style_set
from sticker_pipeline.defs.automation import FOLLOW, RETRAIN
from sticker_pipeline.defs.partitions import STYLES
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import StyleStep, of_style, style_made_from
from sticker_pipeline.defs.training.lora import (
    SAMPLE_PROMPTS,
    checkpoints_of,
    is_checkpoint,
    train,
    training_metadata,
    with_draws,
)
from sticker_pipeline.generation.drawn import decisive, drawn
from sticker_pipeline.generation.generate import generate, how_trained, open_pipeline, with_loras
from sticker_pipeline.generation.prompts import Prompt, Request, requests_for
from sticker_pipeline.generation.unseen import unseen_prompts
from sticker_pipeline.pictures import contact_sheet, interval_chart, labelled_grid, line_chart
from sticker_pipeline.roots.style import StyleError, members_of
from sticker_pipeline.storage import discard, file_sha256, link_or_copy, write_table
from sticker_pipeline.tagging.captions import parse_caption
from sticker_pipeline.tagging.wd14 import Tagger, open_tagger
from sticker_pipeline.training.spec import TrainingSpec
from sticker_pipeline.training.tables import HELD_OUT, LOG

PICTURES = "frames"  # the folder of the training set's pictures
CHOICE_CHARACTERS, GOAL_CHARACTERS = (0, 2, 4, 6), (1, 3, 5, 7)  # numbers of invented characters: never the same ones
GOAL_SEEDS = 2
SHEET_CELLS = 24


@dg.asset(
    **style_made_from(uses=["members", "dataset"]),
    partitions_def=STYLES,
    code_version="1",
    automation_condition=FOLLOW,
    group_name="style",
    kinds={"pandas", "parquet"},
    metadata=columns(STYLE_ROWS, STYLE_TAGS, STYLE_DROPPED),
    description="The pictures of all characters that name the style, each character counting alike, with captions the "
    "other way round: traits and clothes are said, and what is left unsaid is the style. What is held out of a "
    "character's training is held out here.",
)
@once
def style_training_set(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_style) as work:
        profile = work.profile
        made = style_set(members_of(work.subject, work.store), profile.style.tags, profile.resolution, profile.buckets)
        for name in made.rows["file"]:  # the characters' own may be made anew while this is trained on
            who, _, file = name.partition("/")
            link_or_copy(work.store.folder(who, "frames") / file, work.staging / PICTURES / name)
        write_table(made.rows, work.staging, STYLE_ROWS)
        write_table(made.tags, work.staging, STYLE_TAGS)
        write_table(made.dropped, work.staging, STYLE_DROPPED)
        trained = made.rows[made.rows["split"] == TRAIN]
        per_picture = trained["caption"].map(lambda caption: len(parse_caption(caption)))
        splits = made.rows.groupby(["character", "split"])["clip_id"].nunique().unstack(fill_value=0).reset_index()
        return work.publish(
            {
                SUMMARY: f"{len(trained)} frames of {trained['clip_id'].nunique()} clips of "
                f"{len(work.subject.members)} characters, {per_picture.mean():.1f} tags per caption",
                "trained_on": picture(_sheet(work.staging / PICTURES, trained), "training pictures"),
                "tags_per_caption": float(per_picture.mean()),
                "clips": table(splits),
                "what_is_said": table(made.tags, most=40),
                "why_dropped": table(_reasons(made.dropped)),
                "captions": table(trained[["frame_id", "caption"]].iloc[:: max(1, len(trained) // 20)]),
                **described(made.rows, STYLE_ROWS),
            }
        )


@dg.asset(
    **style_made_from(style_training_set, uses=["training"]),
    partitions_def=STYLES,
    code_version="1",
    automation_condition=RETRAIN,
    group_name="style",
    kinds={"pytorch", "diffusers"},
    metadata=columns(LOG, HELD_OUT),
    pool=GPU,
    description="A LoRA of the style, trained as a character's is (`lora`) on the pictures of all its characters. No "
    "word calls it.",
)
@once
def style_lora(
    context: dg.AssetExecutionContext, workspace: Workspace, launcher: TrainerLauncher
) -> dg.MaterializeResult:
    with open_step(context, workspace, of_style) as work:
        spec = _spec(work)
        train(context, launcher, spec, work.store.work(work.scope.place, "lora-spec"), work.staging)
        result = work.publish(training_metadata(work.staging, spec), content=is_checkpoint)
        discard(spec.output)
        return result


@dg.asset(
    **style_made_from(style_lora, style_training_set, uses=["choice"]),
    partitions_def=STYLES,
    code_version="1",
    automation_condition=FOLLOW,
    group_name="style",
    kinds={"open-clip", "onnx", "parquet"},
    metadata=columns(CHOICE, GOAL),
    pool=GPU,
    description="The epoch to use, by a stated rule, on pictures of characters that nobody has drawn: none whose "
    "pictures pass for a character of the style, none that shows less of what is asked; of those that are as much in "
    "the style as any, the earliest. How good it is, is measured on other invented characters.",
)
@once
def selected_style_lora(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_style) as work:
        profile = work.profile
        embedder = clip_of(profile, work.store)
        tagger = open_tagger(profile.tagger, profile.tagging.provider)
        opened = cache(lambda: open_pipeline(profile))
        checkpoints: dict[int, Path | None] = {BASE_EPOCH: None, **checkpoints_of(work.inputs["style_lora"])}
        asked = _prompts(work, CHOICE_CHARACTERS)
        requests = requests_for(asked, 1, "style selection")
        pictures = {epoch: _draw(work, _folder(epoch), requests, opened, path) for epoch, path in checkpoints.items()}
        evaluation = _evaluation_context(work, embedder, tagger, [prompt.attributes for prompt in asked])
        figures = {
            epoch: style_metrics(_seen(work, embedder, tagger, _folder(epoch), images), evaluation)
            for epoch, images in pictures.items()
        }
        limits = profile.style
        choice = choose_style_epoch(figures, most_leaks=limits.most_leaks, most_lost=limits.most_lost)
        epoch = int(choice.loc[choice["chosen"], "epoch"].iloc[0])
        chosen = checkpoints[epoch]
        assert chosen is not None
        link_or_copy(chosen, work.staging / "lora.safetensors")
        write_table(choice, work.staging, CHOICE)
        reached, shown = _goal(work, embedder, tagger, opened, chosen)
        write_table(reached, work.staging, GOAL)
        by_epoch = labelled_grid(
            [_row(number) for number in pictures],
            [prompt.attributes for prompt in asked],
            list(pictures.values()),
            cell=84,
        )
        by_epoch.save(work.staging / "by_epoch.png")
        shown.save(work.staging / "goal.png")
        return work.publish(
            {
                SUMMARY: f"epoch {epoch} of {len(checkpoints) - 1}; {_headline(reached)}",
                "epoch": epoch,
                "why": str(choice.loc[choice["chosen"], "reason"].iloc[0]),
                "pictures": picture(by_epoch, "characters that nobody has drawn, by epoch"),
                "by_epoch": picture(_epoch_chart(choice), "evidence by epoch"),
                "evidence": table(choice, most=len(choice)),
                "goal": table(reached, most=len(reached)),
                "goal_figures": picture(_goal_chart(reached), "the goal, with intervals"),
                "goal_pictures": picture(shown, "other invented characters, base model and LoRA"),
                **described(choice, CHOICE),
            },
            content=lambda name: not name.endswith(".png"),
        )


def _spec(work: StyleStep) -> TrainingSpec:
    training_set, profile = work.inputs["style_training_set"], work.profile
    rows = training_set.table()
    return TrainingSpec(
        name=work.subject.name,
        trigger=None,
        family=profile.family,
        base=profile.base,
        base_sha=work.roots["training"]["base"],
        training_set=training_set.folder,
        frames=training_set.folder / PICTURES,
        output=work.store.work(work.scope.place, "style_lora"),
        cache=work.store.cache("training"),
        resolution=profile.resolution,
        background=profile.background,
        buckets=profile.buckets,
        settings=with_draws(profile.training, rows.loc[rows["split"] == TRAIN, "clip_id"].nunique()),
        sample_prompts=[prompt.text for prompt in _prompts(work, CHOICE_CHARACTERS[:SAMPLE_PROMPTS], each=1)],
        generation=profile.generation,
    )


def _prompts(work: StyleStep, numbers: Sequence[int], each: int | None = None) -> list[Prompt]:
    """The prompts about the invented characters of these numbers; `each`: only the first ones of each."""
    rows = work.inputs["style_training_set"]
    taken = own_traits(rows.table(STYLE_TAGS.file), sorted(set(rows.table()["character"])))
    settings = work.profile.style
    if each:
        settings = settings.model_copy(update={"attributes": settings.attributes[:each]})
    return unseen_prompts(settings, taken, numbers)


def _draw(
    work: StyleStep, folder: str, requests: list[Request], opened: Callable[[], Any], lora: Path | None
) -> list[Image.Image]:
    """The pictures of one model, kept in `folder` of the artifact: from the cache, and what is not there with the
    pipeline that is `opened` for it."""
    profile = work.profile
    adapters = [(lora, 1.0)] if lora else []
    hashes = [(file_sha256(path), strength) for path, strength in adapters]
    trained = how_trained(profile, adapters)
    decided = decisive(work.roots["choice"]["base"], hashes, profile.generation, profile.resolution, trained)

    def generated(missing: Sequence[Request]) -> Iterator[Image.Image]:
        work.context.log.info(f"{folder}: {len(missing)} pictures")
        with with_loras(opened(), adapters) as model:
            yield from generate(model, missing, profile.generation, profile.resolution)

    images = drawn(requests, decided, work.store.cache("pictures"), generated, profile.generation.batch_size)
    (work.staging / folder).mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(work.staging / folder / f"{number:03d}.png")
    return images


def _seen(work: StyleStep, embedder: Embedder, tagger: Tagger, folder: str, images: list[Image.Image]) -> Drawn:
    """What CLIP and tagger see on the `images` that are kept in `folder`."""
    files = [f"{folder}/{number:03d}.png" for number in range(len(images))]
    found = tags_found_in(tagger, work.profile, work.store, work.staging, files)
    return Drawn(embed(embedder, images), found)


def _evaluation_context(
    work: StyleStep, embedder: Embedder, tagger: Tagger, asked: Sequence[str]
) -> StyleEvaluationContext:
    held_out = _of_each_character(work, embedder, HOLDOUT)
    if not held_out:
        raise StyleError(
            f"Style '{work.subject.name}': none of its characters has a held-out picture to compare with. Add "
            "pictures, or name files in benchmark.holdout of a character.yaml."
        )
    return StyleEvaluationContext(
        held_out=held_out,
        trained=_of_each_character(work, embedder, TRAIN),
        asked=asked,
        tag_names=[label.name for label in tagger.labels],
        samples=work.profile.benchmark.bootstrap_samples,
    )


def _of_each_character(work: StyleStep, embedder: Embedder, split: str) -> dict[str, Embeddings]:
    training_set = work.inputs["style_training_set"]
    rows = training_set.table()
    return {
        str(who): Embeddings(
            embedded(embedder, training_set, [f"{PICTURES}/{name}" for name in part["file"]]), part["clip_id"].tolist()
        )
        for who, part in rows[rows["split"] == split].groupby("character")
    }


def _goal(
    work: StyleStep, embedder: Embedder, tagger: Tagger, opened: Callable[[], Any], lora: Path
) -> tuple[pd.DataFrame, Image.Image]:
    """The figures of the goal, and its pictures: other invented characters than the epoch was chosen on."""
    prompts = _prompts(work, GOAL_CHARACTERS)
    asked = [prompt.attributes for prompt in prompts for _ in range(GOAL_SEEDS)]
    requests = requests_for(prompts, GOAL_SEEDS, "style goal")
    pictures = {
        model: _draw(work, f"goal/{model}", requests, opened, path) for model, path in ((BASE, None), (LORA, lora))
    }
    reached = goal(
        {model: _seen(work, embedder, tagger, f"goal/{model}", images) for model, images in pictures.items()},
        _evaluation_context(work, embedder, tagger, asked),
    )
    shown = [images[::GOAL_SEEDS] for images in pictures.values()]
    return reached, labelled_grid(list(pictures), [prompt.attributes for prompt in prompts], shown, cell=84)


def _folder(epoch: int) -> str:
    return f"selection/epoch_{epoch:02d}"


def _row(epoch: int) -> str:
    return f"epoch {epoch}" if epoch != BASE_EPOCH else BASE


def _epoch_chart(choice: pd.DataFrame) -> Image.Image:
    curves = {name: (choice["epoch"].to_numpy(), choice[name].to_numpy()) for name in METRICS}
    return line_chart(curves, title="by epoch (0: the base model), invented characters", x="epoch", y="cosine, share")


def _goal_chart(reached: pd.DataFrame) -> Image.Image:
    shown = reached[~reached["metric"].str.startswith("gain:")].sort_values("metric", kind="stable")
    return interval_chart(
        {
            f"{row['metric']} · {row['model']}": (float(row["mean"]), float(row["ci_low"]), float(row["ci_high"]))
            for row in shown.to_dict("records")
        },
        title="characters that nobody has drawn, in the style; 95 % intervals",
        unit="cosine, share",
    )


def _headline(reached: pd.DataFrame) -> str:
    mean = reached.set_index(["model", "metric"])["mean"]
    return ", ".join(
        f"{metric.replace('_', ' ')} {mean[LORA, metric]:.3f} (base {mean[BASE, metric]:.3f})" for metric in METRICS
    )


def _reasons(dropped: pd.DataFrame) -> pd.DataFrame:
    """How many tags each kind of reason dropped, and from how many frames."""
    kinds = dropped.assign(reason=dropped["reason"].map(kind_of))
    return kinds.groupby("reason").agg(tags=("tag", "nunique"), frames=("frame_id", "nunique")).reset_index()


def _sheet(folder: Path, rows: pd.DataFrame) -> Image.Image:
    chosen = rows.iloc[:: max(1, -(-len(rows) // SHEET_CELLS))]
    return contact_sheet([Image.open(folder / name) for name in chosen["file"]], cell=84)
