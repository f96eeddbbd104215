"""Asset on request: weights, steps and guidance compared."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import dagster as dg
from pydantic import Field

from sticker_pipeline.benchmark.features import embedder_of, holdout_references, trained_images
from sticker_pipeline.benchmark.grid_images import features_of_grid, front, measured_grid, pareto_chart
from sticker_pipeline.benchmark.grid_table import SAMPLING_GRID
from sticker_pipeline.benchmark.recommend import advice_table, headline, recommendations, write_recommendations
from sticker_pipeline.benchmark.releases import whole
from sticker_pipeline.core.markdown import bullets
from sticker_pipeline.core.storage import write_table
from sticker_pipeline.core.texts import counted
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.on_request import GROUP, on_request
from sticker_pipeline.dagster_kit.one_off import OneOff
from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline.dagster_kit.progress import step_count
from sticker_pipeline.dagster_kit.room import check_images
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import ON_REQUEST, CharacterStep, made_from, of_character
from sticker_pipeline.generation.jobs import open_generator
from sticker_pipeline.generation.prompts import Prompt, benchmark_prompts, prompts_beginning
from sticker_pipeline.generation.sampling_grid import generate_grid, grid_sheets, plan_grid, seconds_of
from sticker_pipeline.roots.loras import LORA_FILE, adapters_of, release_to_sample
from sticker_pipeline.tagging.wd14 import open_tagger

SHOWN_GRIDS = 3  # in the UI; all are in the artifact


class GridConfig(OneOff):
    """Axes of one grid, in place of `sampling_grid:` in character.yaml.

    Omitted values are as in character.yaml.
    """

    section: ClassVar[str] = "sampling_grid"

    style_weights: list[float] | None = Field(None, description="of the LoRA of the style")
    character_weights: list[float] | None = Field(None, description="of the character's LoRA")
    lcm_weights: list[float] | None = Field(None, description="of the LCM-LoRA; 0: none")
    steps: list[int] | None = Field(None, description="1 to 200")
    guidance_scales: list[float] | None = Field(None, description="1 to 50; 1: no guidance")


@dg.asset(
    # The part `sampling_grid` contains the release; without one, the selected LoRA is used.
    **made_from(
        "selected_lora", "training_set", "frames", uses=["generation", "benchmark", "tagging", "sampling_grid"]
    ),
    partitions_def=CHARACTERS,
    code_version="2",
    group_name=GROUP,
    kinds={"diffusers", "open-clip", "parquet"},
    metadata=columns(SAMPLING_GRID),
    pool=GPU,
    op_tags=gpu_request(GPU),
    output_required=False,
    description="The best weights of the LoRAs of character and style and of the LCM-LoRA, steps and guidance: a "
    "grid of all (`sampling_grid:` in character.yaml), generated, measured and timed; the Pareto front of quality "
    'against seconds, and a setting for each number of steps. Made on request alone: "Materialize all" leaves it out.',
)
@on_request(ON_REQUEST)
@once
def sampling_grid(context: dg.AssetExecutionContext, config: GridConfig, workspace: Workspace) -> dg.MaterializeResult:
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
        name, lora, prompts = _lora_and_prompts(work)
        adapters = adapters_of(lora, character, profile, store)
        plan = plan_grid(adapters, prompts, sorted(references), profile.sampling_grid, profile.generation)
        context.log.info(
            f"{counted(len(plan.points), 'setting')} of {counted(len(plan.requests), 'image')} each: "
            f"{counted(plan.images, 'image')}. Images that exist are not generated again."
        )
        check_images(work, plan.images, profile.resolution)
        generator = open_generator(profile, work.roots["generation"]["base"], store, step_count(context, plan.images))
        tagger = open_tagger(profile.tagger, profile.tagging.provider)
        with TemporaryDirectory(dir=work.staging) as temporary:
            files = generate_grid(generator, plan, Path(temporary))
            features = features_of_grid(plan, files, Path(temporary), embedder, tagger, profile, store)
            grids = grid_sheets(plan, files)
        seconds = {point: seconds_of(generator, plan, point, store.cache("seconds")) for point in plan.points}
        trained = trained_images(embedder, character, *dataset)
        rows = measured_grid(plan, features, seconds, references, trained, tagger, profile)
        write_table(rows, work.staging, SAMPLING_GRID)
        advice = recommendations(rows, sorted(set(rows["steps"].tolist())))
        write_recommendations(work.staging, profile.name, name, adapters, advice)
        chart = pareto_chart(rows)
        for title, image in {**grids, "pareto": chart}.items():
            image.save(work.staging / f"{title}.png")
        return work.publish(
            {
                SUMMARY: f"{counted(len(rows), 'setting')} of {name}; {headline(advice)}",
                "recommended": table(advice_table(advice), most=len(advice)),
                "why": dg.MetadataValue.md(bullets(each.why for each in advice)),
                "pareto": inline_image(chart, "quality against seconds"),
                "front": table(front(rows), most=len(rows)),
                **{title: inline_image(image, title) for title, image in list(grids.items())[:SHOWN_GRIDS]},
                "table": table(rows, most=len(rows)),
                **described(rows, SAMPLING_GRID),
            }
        )


def _lora_and_prompts(work: CharacterStep) -> tuple[str, Path, list[Prompt]]:
    release = release_to_sample(work.character, work.profile, work.store)
    if release is None:
        lora = work.inputs["selected_lora"].file(LORA_FILE)
        return "the selected LoRA", lora, benchmark_prompts(work.character, work.profile)
    record = release.record
    prompts = prompts_beginning(work.character, work.profile, record.beginnings, otherwise=[record.trigger])
    return f"release {record.number}", whole(work.store, release).lora, prompts
