"""Asset of the stage `generation`: pictures of the base model, of the LoRA and of its rivals, on the same seeds."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.measure import BASE, LORA
from sticker_pipeline.defs.automation import FOLLOW
from sticker_pipeline.defs.loggers import SUMMARY
from sticker_pipeline.defs.making import Making, described, making, picture, table
from sticker_pipeline.defs.observed import key
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.generation.drawn import decisive, drawn
from sticker_pipeline.generation.generate import generate, open_pipeline, with_lora
from sticker_pipeline.generation.grid import sample_grid
from sticker_pipeline.generation.prompts import Prompt, Request, benchmark_prompts, requests_for, rival_prompts
from sticker_pipeline.storage import file_sha256, write_table
from sticker_pipeline.training.foreign import read_any_lora
from sticker_pipeline.training.lora_file import LoraError

LEFT_OUT = "left_out.json"


@dataclass(frozen=True)
class Drawer:
    """Who draws: a model by the name of its rows, its prompts, and its LoRA file, if it has one."""

    model: str
    prompts: list[Prompt]
    lora: Path | None = None
    strength: float = 1.0


@dg.asset(
    deps=["selected_lora", key("generation"), key("rivals")],
    partitions_def=CHARACTERS,
    code_version="3",
    automation_condition=FOLLOW,
    group_name="generation",
    kinds={"diffusers", "parquet"},
    owners=["team:training"],
    pool="gpu",
    description="The benchmark's prompts drawn by the base model, by the LoRA and by each rival, all from the same "
    "noise. Only what was never drawn is generated.",
)
def samples(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with making(context, workspace) as work:
        prompts = benchmark_prompts(work.character, work.profile)
        rivals, left_out = _rivals(work)
        lora = work.inputs["selected_lora"].folder / "lora.safetensors"
        seeds = work.profile.benchmark.seeds_per_prompt
        opened = cache(lambda: open_pipeline(work.profile))
        tables, shown = [], {}
        for drawer in [Drawer(BASE, prompts), Drawer(LORA, prompts, lora), *rivals]:
            requests = requests_for(drawer.prompts, seeds)
            try:
                images = draw(work, drawer.model, requests, opened, drawer.lora, drawer.strength)
            except LoraError as error:
                if drawer not in rivals:
                    raise
                left_out.append(_is_left_out(drawer.model, error))
                continue
            asked = [prompt.attributes for prompt in drawer.prompts for _ in range(seeds)]
            tables.append(_save(work, drawer.model, requests, asked, images))
            shown[drawer.model] = images[::seeds]
        for sentence in left_out:
            context.log.warning(sentence)
        index = pd.concat(tables)
        write_table(index, work.staging)
        (work.staging / LEFT_OUT).write_text(json.dumps(left_out), encoding="utf-8")
        labels = [f"{prompt.style}: {prompt.attributes}" for prompt in prompts]
        return work.publish(
            {
                SUMMARY: f"{len(prompts) * seeds} pictures each of {', '.join(shown)}",
                "same_noise": picture(sample_grid(shown, labels, most=len(labels), cell=84), "base, LoRA and rivals"),
                "prompts": table(pd.DataFrame([vars(prompt) for prompt in prompts])),
                "left_out": dg.MetadataValue.md("\n".join(f"- {sentence}" for sentence in left_out) or "nothing"),
                **described(index),
            }
        )


def _rivals(work: Making) -> tuple[list[Drawer], list[str]]:
    """The rivals whose files can be read, and a sentence about each other: a bad one never stops the rest."""
    found, left_out = [], []
    for rival in work.character.settings.benchmark.rivals:
        path = work.character.folder / rival.lora
        try:
            read_any_lora(path, work.profile.family)
        except (OSError, LoraError) as error:
            left_out.append(_is_left_out(rival.name, error))
            continue
        prompts = rival_prompts(work.character, work.profile, rival.trigger)
        found.append(Drawer(rival.name, prompts, path, rival.strength))
    return found, left_out


def _is_left_out(rival: str, error: Exception) -> str:
    return f"Rival '{rival}' is left out: {error}"


def draw(
    work: Making,
    who: str,
    requests: list[Request],
    opened: Callable[[], Any],
    lora: Path | None = None,
    strength: float = 1.0,
) -> list[Image.Image]:
    """The pictures of one model, which the log calls `who`: from the cache, and what is not there with the pipeline
    that is `opened` for it. Raises LoraError for a LoRA that does not fit the base model."""
    settings, resolution = work.profile.generation, work.profile.resolution
    base, sha256 = work.sections["generation"]["base"], file_sha256(lora) if lora else None

    def generated(missing: Sequence[Request]) -> Iterator[Image.Image]:
        def show(done: int, total: int) -> None:
            work.context.log.info(f"{who}: {done} of {total} pictures")

        pipeline = opened()
        with with_lora(pipeline, lora, strength) if lora else nullcontext():
            yield from generate(pipeline, missing, settings, resolution, show)

    decided = decisive(base, sha256, strength, settings, resolution)
    return drawn(requests, decided, work.store.cache("pictures"), generated)


def _save(
    work: Making, model: str, requests: list[Request], asked: list[str], images: list[Image.Image]
) -> pd.DataFrame:
    """Rows of the index; `attributes` is the free part of the prompt, which is the same for all models."""
    rows = []
    for number, (request, attributes, image) in enumerate(zip(requests, asked, images, strict=True)):
        name = f"{model}/{request.style}_{number:03d}.png"
        (work.staging / model).mkdir(exist_ok=True)
        image.save(work.staging / name)
        rows.append((f"{model}-{number:03d}", model, request.style, request.prompt, attributes, request.seed, name))
    return pd.DataFrame(rows, columns=["image", "model", "style", "prompt", "attributes", "seed", "file"])
