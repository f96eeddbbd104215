"""Asset of the stage `generation`: pictures of the base model, of the LoRA and of its rivals, on the same seeds."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.measure import BASE, LORA, RELEASED, recommended_model
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, picture, table
from sticker_pipeline.dagster_kit.pools import GPU
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.automation import FOLLOW
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.recommended import recommended
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.room import check_images
from sticker_pipeline.defs.scopes import CharacterStep, made_from, of_character
from sticker_pipeline.generation.drawn import decisive, drawn
from sticker_pipeline.generation.generate import generate, how_trained, pipelines, with_loras
from sticker_pipeline.generation.grid import sample_grid
from sticker_pipeline.generation.prompts import Prompt, Request, benchmark_prompts, prompts_beginning, requests_for
from sticker_pipeline.generation.rivals import (
    is_left_out,
    rival_file,
    rival_prompts,
    usable_rivals,
    why_not_drawn,
)
from sticker_pipeline.generation.samples import SAMPLES, WITHOUT_TRIGGER
from sticker_pipeline.markdown import bullets
from sticker_pipeline.releases import baseline_release, releases_folder
from sticker_pipeline.settings import GenerationSettings
from sticker_pipeline.space import SpaceError, refusal
from sticker_pipeline.storage import file_sha256, write_table
from sticker_pipeline.training.foreign import lora_hash

LEFT_OUT = "left_out.json"


@dataclass(frozen=True)
class Drawer:
    """Who draws: a model by the name of its rows, its prompts, its LoRA files with their strengths, if it has any, and
    how, where not as the profile says."""

    model: str
    prompts: list[Prompt]
    loras: list[tuple[Path, float]] = field(default_factory=list)
    settings: GenerationSettings | None = None


@dg.asset(
    **made_from("selected_lora", uses=["generation", "release", "recommended", "rivals"]),
    partitions_def=CHARACTERS,
    code_version="6",
    automation_condition=FOLLOW,
    group_name="generation",
    kinds={"diffusers", "parquet"},
    metadata=columns(SAMPLES, WITHOUT_TRIGGER),
    pool=GPU,
    description="The benchmark's prompts drawn by the base model, by the LoRA, by the release that it may replace and "
    "by each rival, all from the same noise; by each LoRA without its trigger as well; and by the LoRA in each setting "
    "that a sweep recommends for it. Only what was never drawn is generated.",
)
@once
def samples(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        opened = pipelines(work.profile)
        rivals, left_out = _rivals(work)
        released, another_base = _released(work)
        left_out += [*another_base, *work.roots["recommended"]["left_out"]]
        drawn: list[pd.DataFrame] = []
        plain: list[pd.DataFrame] = []
        shown: dict[str, pd.DataFrame] = {}
        drawers = [*_ours(work), *released, *rivals]
        check_images(work, sum(_images(work, drawer) for drawer in drawers))
        for drawer in drawers:
            try:
                found = _saved(work, _folder(drawer), drawer, opened)
                without = _without_trigger(work, drawer, opened) if _is_called(drawer) else None
            except Exception as error:
                if drawer not in rivals or isinstance(error, SpaceError) or refusal(work.staging, error):
                    raise
                left_out.append(is_left_out(drawer.model, why_not_drawn(error)))
                shutil.rmtree(work.staging / _folder(drawer))
                continue
            drawn.append(found)
            shown[drawer.model] = found
            if without is not None:
                plain.append(without)
                shown[f"{drawer.model}, no trigger"] = without
        for sentence in left_out:
            context.log.warning(sentence)
        index = pd.concat(drawn)
        write_table(index, work.staging, SAMPLES)
        write_table(pd.concat(plain), work.staging, WITHOUT_TRIGGER)
        (work.staging / LEFT_OUT).write_text(json.dumps(left_out), encoding="utf-8")
        prompts = benchmark_prompts(work.character, work.profile)
        return work.publish(
            {
                SUMMARY: f"{len(shown[BASE])} pictures each of {', '.join(shown)}",
                "same_noise": picture(_grid(work, prompts, shown), "the same prompts and noise"),
                "prompts": table(pd.DataFrame([vars(prompt) for prompt in prompts])),
                "left_out": dg.MetadataValue.md(bullets(left_out)),
                **described(index, SAMPLES),
            }
        )


def _ours(work: CharacterStep) -> list[Drawer]:
    prompts, lora = benchmark_prompts(work.character, work.profile), _new_lora(work)
    settings = [
        Drawer(recommended_model(each.budget), prompts, each.loras, each.settings)
        for each in recommended(work, "recommended", lora, strength=1.0)
    ]
    return [Drawer(BASE, prompts), Drawer(LORA, prompts, [(lora, 1.0)]), *settings]


def _new_lora(work: CharacterStep) -> Path:
    return work.inputs["selected_lora"].file("lora.safetensors")


def _released(work: CharacterStep) -> tuple[list[Drawer], list[str]]:
    """The release that the new LoRA may replace, called by the words that it was taught, where there is one; and a
    sentence where it cannot draw on this base model."""
    release = baseline_release(releases_folder(work.store, work.character.name), file_sha256(_new_lora(work)))
    if release is None:
        return [], []
    record = release.record
    if record.family != work.profile.family:
        return [], [f"Release {record.number} is left out: it is for {record.family}, not for {work.profile.family}."]
    prompts = prompts_beginning(work.character, work.profile, record.beginnings, otherwise=[record.trigger])
    return [Drawer(RELEASED, prompts, [(release.lora, record.drawing.strength)])], []


def _rivals(work: CharacterStep) -> tuple[list[Drawer], list[str]]:
    """The rivals that can be drawn, and a sentence about each other: a bad one never stops the rest."""
    character, profile = work.character, work.profile
    usable, left_out = usable_rivals(character, profile)
    return [
        Drawer(rival.name, rival_prompts(character, profile, rival), [(rival_file(character, rival), rival.strength)])
        for rival in usable
    ], left_out


def _is_called(drawer: Drawer) -> bool:
    """Whether it is asked without its trigger too. A setting has no trigger of its own: the LoRA's is asked about."""
    return bool(drawer.loras) and drawer.settings is None


def _images(work: CharacterStep, drawer: Drawer) -> int:
    """How many pictures the model draws: with its trigger, and where it has one of its own, without it."""
    with_trigger = len(drawer.prompts) * work.profile.benchmark.seeds_per_prompt
    return 2 * with_trigger if _is_called(drawer) else with_trigger


def _folder(drawer: Drawer) -> str:
    """Where its pictures lie: those of a setting below its LoRA's, where no rival can have a folder."""
    return f"{LORA}/{drawer.model.replace(' ', '_')}" if drawer.settings else drawer.model


def _without_trigger(work: CharacterStep, drawer: Drawer, opened: Callable[[str], Any]) -> pd.DataFrame:
    """The same requests without the words that the LoRA was taught."""
    plain = replace(drawer, prompts=prompts_beginning(work.character, work.profile, {}))
    return _saved(work, f"{drawer.model}/without_trigger", plain, opened)


def _saved(work: CharacterStep, folder: str, drawer: Drawer, opened: Callable[[str], Any]) -> pd.DataFrame:
    """Draw and save below `folder`; rows of the index. `attributes` is the free part of a prompt, which is the same for
    all models."""
    seeds = work.profile.benchmark.seeds_per_prompt
    requests = requests_for(drawer.prompts, seeds)
    asked = [prompt.attributes for prompt in drawer.prompts for _ in range(seeds)]
    (work.staging / folder).mkdir(parents=True)
    rows = []
    settings = drawer.settings or work.profile.generation
    images = draw(work, folder, requests, lambda: opened(settings.scheduler), drawer.loras, settings)
    for number, (request, attributes, image) in enumerate(zip(requests, asked, images, strict=True)):
        name = f"{folder}/{request.style}_{number:03d}.png"
        image.save(work.staging / name)
        image_id = f"{folder.replace('/', '-')}-{number:03d}"
        rows.append((image_id, drawer.model, request.style, request.prompt, attributes, request.seed, name))
    return pd.DataFrame(rows, columns=SAMPLES.names)


def _grid(work: CharacterStep, prompts: list[Prompt], shown: Mapping[str, pd.DataFrame]) -> Image.Image:
    """The first seed of every prompt."""
    seeds = work.profile.benchmark.seeds_per_prompt
    rows = {name: [Image.open(work.staging / file) for file in part["file"][::seeds]] for name, part in shown.items()}
    labels = [f"{prompt.style}: {prompt.attributes}" for prompt in prompts]
    return sample_grid(rows, labels, most=len(labels), cell=84)


def draw(
    work: CharacterStep,
    who: str,
    requests: list[Request],
    opened: Callable[[], Any],
    loras: Sequence[tuple[Path, float]] = (),
    settings: GenerationSettings | None = None,
) -> list[Image.Image]:
    """The pictures of a model with `loras` (file, strength), which the log calls `who`: from the cache, and what is not
    there with the pipeline that is `opened` for it. `settings`: None for the profile's. Raises LoraError for a LoRA
    that does not fit the base model."""
    settings, resolution = settings or work.profile.generation, work.profile.resolution

    def generated(missing: Sequence[Request]) -> Iterator[Image.Image]:
        def show(done: int, total: int) -> None:
            work.context.log.info(f"{who}: {done} of {total} pictures")

        with with_loras(opened(), loras) as model:
            yield from generate(model, missing, settings, resolution, show)

    hashed = [(lora_hash(path, file_sha256), strength) for path, strength in loras]
    trained = how_trained(work.profile, loras)
    decided = decisive(work.roots["generation"]["base"], hashed, settings, resolution, trained)
    return drawn(requests, decided, work.store.cache("pictures"), generated, settings.batch_size)
