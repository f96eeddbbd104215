"""Asset of the stage `benchmark`, on request: weights, steps and guidance compared."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import dagster as dg
from pydantic import Field

from sticker_pipeline.benchmark.features import embedder_of, holdout_references, trained_images
from sticker_pipeline.benchmark.recommend import advice_table, headline, recommendations, write_recommendations
from sticker_pipeline.benchmark.sweep import SWEEP
from sticker_pipeline.benchmark.swept import front, measured_sweep, pareto_chart, seen_images
from sticker_pipeline.core.markdown import bullets
from sticker_pipeline.core.storage import write_table
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.one_off import OneOff
from sticker_pipeline.dagster_kit.pools import GPU
from sticker_pipeline.dagster_kit.room import check_images
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import CharacterStep, made_from, of_character
from sticker_pipeline.generation.jobs import open_generator
from sticker_pipeline.generation.prompts import Prompt, benchmark_prompts, prompts_beginning
from sticker_pipeline.generation.sweep import generate_cells, seconds_of, sweep_grids, sweep_plan
from sticker_pipeline.roots.loras import LORA_FILE, adapters_of, swept_release
from sticker_pipeline.tagging.wd14 import open_tagger

SHOWN_GRIDS = 3  # in the UI; all are in the artifact


class SweepConfig(OneOff):
    """The grid of one sweep, in place of `sweep:` in character.yaml.

    Omitted values are as in character.yaml.
    """

    section: ClassVar[str] = "sweep"

    style_weights: list[float] | None = Field(None, description="of the LoRA of the style")
    character_weights: list[float] | None = Field(None, description="of the character's LoRA")
    lcm_weights: list[float] | None = Field(None, description="of the LCM-LoRA; 0: none")
    steps: list[int] | None = Field(None, description="1 to 200")
    guidance_scales: list[float] | None = Field(None, description="1 to 50; 1: no guidance")


@dg.asset(
    # The release is part of the section `sweep`; without one, the selected LoRA is swept.
    **made_from("selected_lora", "training_set", "frames", uses=["generation", "benchmark", "tagging", "sweep"]),
    partitions_def=CHARACTERS,
    code_version="2",
    group_name="benchmark",
    kinds={"diffusers", "open-clip", "parquet"},
    metadata=columns(SWEEP),
    pool=GPU,
    description="Which weights of the character's LoRA, of its style's and of the LCM-LoRA, how many steps and how "
    "much guidance: a grid of all (`sweep:` in character.yaml), drawn, measured and timed; the Pareto front of quality "
    "against seconds, and a setting for each number of steps. Only made when a person asks for it.",
)
@once
def adapter_sweep(context: dg.AssetExecutionContext, config: SweepConfig, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character, config=config) as work:
        character, profile, store = work.character, work.profile, work.store
        dataset = work.inputs["training_set"], work.inputs["frames"]
        embedder = embedder_of(profile, store)
        references = holdout_references(embedder, character, *dataset)
        if not references:
            raise dg.Failure(
                f"No image of {character.name} is held out to compare with: give it more sources, or name files in "
                "benchmark.holdout of character.yaml."
            )
        name, lora, prompts = _swept(work)
        adapters = adapters_of(lora, character, profile, store)
        plan = sweep_plan(adapters, prompts, sorted(references), profile.sweep, profile.generation)
        context.log.info(
            f"{len(plan.cells)} settings of {len(plan.requests)} images each: {plan.images} images. What was drawn "
            "before is not drawn again."
        )
        check_images(work, plan.images, profile.resolution)
        generator = open_generator(profile, work.roots["generation"]["base"], store, context.log.info)
        tagger = open_tagger(profile.tagger, profile.tagging.provider)
        with TemporaryDirectory(dir=work.staging) as temporary:
            files = generate_cells(generator, plan, Path(temporary))
            seen = seen_images(plan, files, Path(temporary), embedder, tagger, profile, store)
            grids = sweep_grids(plan, files)
        seconds = {cell: seconds_of(generator, plan, cell, store.cache("seconds")) for cell in plan.cells}
        trained = trained_images(embedder, character, *dataset)
        rows = measured_sweep(plan, seen, seconds, references, trained, tagger, profile)
        write_table(rows, work.staging, SWEEP)
        advice = recommendations(rows, sorted(set(rows["steps"].tolist())))
        write_recommendations(work.staging, profile.name, name, adapters, advice)
        chart = pareto_chart(rows)
        for title, image in {**grids, "pareto": chart}.items():
            image.save(work.staging / f"{title}.png")
        return work.publish(
            {
                SUMMARY: f"{len(rows)} settings of {name}; {headline(advice)}",
                "recommended": table(advice_table(advice), most=len(advice)),
                "why": dg.MetadataValue.md(bullets(each.why for each in advice)),
                "pareto": inline_image(chart, "quality against seconds"),
                "front": table(front(rows), most=len(rows)),
                **{title: inline_image(image, title) for title, image in list(grids.items())[:SHOWN_GRIDS]},
                "table": table(rows, most=len(rows)),
                **described(rows, SWEEP),
            }
        )


def _swept(work: CharacterStep) -> tuple[str, Path, list[Prompt]]:
    """Return the swept LoRA's name and file, and its prompts."""
    release = swept_release(work.character, work.profile, work.store)
    if release is None:
        lora = work.inputs["selected_lora"].file(LORA_FILE)
        return "the selected LoRA", lora, benchmark_prompts(work.character, work.profile)
    record = release.record
    prompts = prompts_beginning(work.character, work.profile, record.beginnings, otherwise=[record.trigger])
    return f"release {record.number}", release.lora, prompts
