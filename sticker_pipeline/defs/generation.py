"""Asset of the stage `generation`: pictures of the base model and of the LoRA, on the same prompts and seeds."""

import dagster as dg
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.measure import BASE, LORA
from sticker_pipeline.defs.loggers import SUMMARY
from sticker_pipeline.defs.making import Making, described, making, picture, table
from sticker_pipeline.defs.observed import key
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.generation.generate import generate, open_pipeline, with_lora
from sticker_pipeline.generation.grid import sample_grid
from sticker_pipeline.generation.prompts import Request, benchmark_prompts, requests_for
from sticker_pipeline.storage import write_table


@dg.asset(
    deps=["selected_lora", key("generation")],
    partitions_def=CHARACTERS,
    code_version="1",
    group_name="generation",
    kinds={"diffusers", "parquet"},
    owners=["team:training"],
    pool="gpu",
    description="The benchmark's prompts drawn by the base model and by the LoRA, with the same starting noise.",
)
def samples(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with making(context, workspace) as work:
        prompts = benchmark_prompts(work.character, work.profile)
        requests = requests_for(prompts, work.profile.benchmark.seeds_per_prompt)
        pipeline = open_pipeline(work.profile)
        settings, resolution = work.profile.generation, work.profile.resolution
        pictures = {BASE: list(generate(pipeline, requests, settings, resolution, _progress(context, BASE)))}
        with with_lora(pipeline, work.inputs["selected_lora"].folder / "lora.safetensors"):
            pictures[LORA] = list(generate(pipeline, requests, settings, resolution, _progress(context, LORA)))
        index = pd.concat([_save(work, model, requests, images) for model, images in pictures.items()])
        write_table(index, work.staging)
        seeds = work.profile.benchmark.seeds_per_prompt
        first = {model: images[::seeds] for model, images in pictures.items()}
        labels = [f"{prompt.style}: {prompt.attributes}" for prompt in prompts]
        return work.publish(
            {
                SUMMARY: f"{len(requests)} pictures each of the base model and the LoRA",
                "same_noise": picture(sample_grid(first, labels, most=len(labels), cell=84), "base and LoRA"),
                "prompts": table(pd.DataFrame([vars(prompt) for prompt in prompts])),
                **described(index),
            }
        )


def _save(work: Making, model: str, requests: list[Request], images: list[Image.Image]) -> pd.DataFrame:
    rows = []
    for number, (request, image) in enumerate(zip(requests, images, strict=True)):
        name = f"{model}/{request.style}_{number:03d}.png"
        (work.staging / model).mkdir(exist_ok=True)
        image.save(work.staging / name)
        rows.append((f"{model}-{number:03d}", model, request.style, request.prompt, request.seed, name))
    return pd.DataFrame(rows, columns=["image", "model", "style", "prompt", "seed", "file"])


def _progress(context: dg.AssetExecutionContext, model: str):  # type: ignore[no-untyped-def]
    def show(done: int, total: int) -> None:
        context.log.info(f"{model}: {done} of {total} pictures")

    return show
