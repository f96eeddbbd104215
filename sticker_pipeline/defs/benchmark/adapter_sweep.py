"""Asset of the stage `benchmark` that a person asks for: which weights, steps and guidance to draw a character with."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import dagster as dg
import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from sticker_pipeline.benchmark.embed import Embedder, embed
from sticker_pipeline.benchmark.evaluation import Requests
from sticker_pipeline.benchmark.features import by_style, clip_of, held_out_references, tags_found_in, trained_pictures
from sticker_pipeline.benchmark.recommend import FILE_NAME, Recommendation, as_json, recommendations
from sticker_pipeline.benchmark.similarity import clip_means
from sticker_pipeline.benchmark.sweep import SWEEP, Seen, Timed, sweep_table
from sticker_pipeline.benchmark.tone import Tones, tones
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, picture, table
from sticker_pipeline.dagster_kit.one_off import OneOff
from sticker_pipeline.dagster_kit.pools import GPU
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.benchmark.samples import draw
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.room import check_images
from sticker_pipeline.defs.scopes import CharacterStep, made_from, of_character
from sticker_pipeline.generation.cells import Cell, check_size, drawn_with, grid, grid_size, loras_of, reference_of
from sticker_pipeline.generation.generate import pipelines, without_loras
from sticker_pipeline.generation.prompts import (
    Prompt,
    Request,
    benchmark_prompts,
    prompts_beginning,
    requests_for,
)
from sticker_pipeline.generation.timing import kept_seconds, seconds_per_picture
from sticker_pipeline.markdown import bullets
from sticker_pipeline.pictures import front_chart, labelled_grid
from sticker_pipeline.roots.loras import LORA_FILE, lcm_for, style_lora, swept_release
from sticker_pipeline.storage import file_sha256, write_table
from sticker_pipeline.tagging.wd14 import open_tagger

SWEEP_PURPOSE = "sweep"  # of the seeds: not those that the benchmark reports on
SHOWN_GRIDS = 3  # in the UI; the artifact has all


@dataclass(frozen=True)
class Adapters:
    """The LoRA files that are swept, and the prompts that call the character; None for what does not exist."""

    name: str
    character: Path
    style: Path | None
    lcm: Path | None
    prompts: list[Prompt]

    def of(self, cell: Cell) -> list[tuple[Path, float]]:
        """(file, strength) of those that the cell uses."""
        return loras_of(cell, style=self.style, character=self.character, lcm=self.lcm)


@dataclass(frozen=True)
class Plan:
    """What is drawn: every cell for the same requests. `grid` are the cells of the settings; `cells` those that they
    are held against as well. `attributes`: the free part of each request's prompt."""

    adapters: Adapters
    grid: list[Cell]
    cells: list[Cell]
    requests: list[Request]
    attributes: list[str]


class SweepConfig(OneOff):
    """The grid of one sweep, in place of `sweep:` in character.yaml. Leave out what is to be as it says."""

    section: ClassVar[str] = "sweep"

    style_weights: list[float] | None = Field(None, description="of the LoRA of the style")
    character_weights: list[float] | None = Field(None, description="of the character's LoRA")
    lcm_weights: list[float] | None = Field(None, description="of the LCM-LoRA; 0: none")
    steps: list[int] | None = Field(None, description="1 to 200")
    guidance_scales: list[float] | None = Field(None, description="1 to 50; 1: no guidance")


@dg.asset(
    # The release is part of the section `sweep`: there may be none, and then it is the selected LoRA that is swept.
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
        embedder = clip_of(work.profile, work.store)
        references = held_out_references(embedder, work.character, work.inputs["training_set"], work.inputs["frames"])
        plan = _plan(work, sorted(references))
        context.log.info(
            f"{len(plan.cells)} settings of {len(plan.requests)} pictures each: "
            f"{len(plan.cells) * len(plan.requests)} pictures. What was drawn before is not drawn again."
        )
        check_images(work, len(plan.cells) * len(plan.requests))
        opened = pipelines(work.profile)
        with TemporaryDirectory(dir=work.staging) as name:
            folder = Path(name)
            files = {cell: _draw(work, plan, number, opened, folder) for number, cell in enumerate(plan.cells)}
            seen, tag_names = _seen(work, plan, folder, files, embedder)
            grids = _grids(work, plan, files)
        asked = by_style(np.arange(len(plan.requests)), [request.style for request in plan.requests])
        rows = sweep_table(
            seen,
            {cell: reference_of(cell, work.profile.generation) for cell in plan.cells},
            {cell: _timed(work, plan, cell, opened) for cell in plan.cells},
            {style: clip_means(found.vectors, found.clips) for style, found in references.items()},
            {style: _requests(plan, numbers) for style, numbers in asked.items()},
            tag_names,
            trained_pictures(embedder, work.character, work.inputs["training_set"], work.inputs["frames"]),
            samples=work.profile.benchmark.bootstrap_samples,
        )
        write_table(rows, work.staging, SWEEP)
        advice = recommendations(rows, sorted(set(rows["steps"].tolist())))
        _write_recommended(work, plan, advice)
        chart = _front(rows)
        chart.save(work.staging / "pareto.png")
        return work.publish(
            {
                SUMMARY: f"{len(rows)} settings of {plan.adapters.name}; {_headline(advice)}",
                "recommended": table(_advice_table(advice), most=len(advice)),
                "why": dg.MetadataValue.md(bullets(each.why for each in advice)),
                "pareto": picture(chart, "quality against seconds"),
                "front": table(rows[rows["pareto"]].sort_values("seconds"), most=len(rows)),
                **{name: picture(image, name) for name, image in list(grids.items())[:SHOWN_GRIDS]},
                "table": table(rows, most=len(rows)),
                **described(rows, SWEEP),
            }
        )


def _plan(work: CharacterStep, styles: Sequence[str]) -> Plan:
    """Raises SweepError, before any work, for a grid that is too large; Failure where there is nothing to compare
    with."""
    if not styles:
        raise dg.Failure(
            f"No picture of {work.character.name} is held out to compare with: give it more clips, or name files in "
            "benchmark.holdout of character.yaml."
        )
    settings, adapters = work.profile.sweep, _adapters(work)
    prompts = [
        prompt
        for style in styles
        for prompt in [prompt for prompt in adapters.prompts if prompt.style == style][: settings.prompts_per_style]
    ]
    requests = requests_for(prompts, settings.seeds_per_prompt, SWEEP_PURPOSE)
    exist = {"style": adapters.style is not None, "lcm": adapters.lcm is not None}
    check_size(grid_size(settings, **exist), len(requests), settings)  # before so many are listed
    cells = grid(settings, **exist)
    against = [reference_of(cell, work.profile.generation) for cell in cells]
    every = list(dict.fromkeys([*cells, *against]))
    check_size(len(every), len(requests), settings)
    attributes = [prompt.attributes for prompt in prompts for _ in range(settings.seeds_per_prompt)]
    return Plan(adapters, cells, every, requests, attributes)


def _adapters(work: CharacterStep) -> Adapters:
    release = swept_release(work.character, work.profile, work.store)
    if release:
        name, path, record = f"release {release.record.number}", release.lora, release.record
        prompts = prompts_beginning(work.character, work.profile, record.beginnings, otherwise=[record.trigger])
    else:
        name, path = "the selected LoRA", work.inputs["selected_lora"].file(LORA_FILE)
        prompts = benchmark_prompts(work.character, work.profile)
    style = style_lora(work.character, work.store)
    lcm = lcm_for(file_sha256(path), work.character, work.profile, work.store)
    return Adapters(name, path, style.file(LORA_FILE) if style else None, lcm.file(LORA_FILE) if lcm else None, prompts)


def _draw(work: CharacterStep, plan: Plan, number: int, opened: Callable[[str], Any], folder: Path) -> list[Path]:
    """The pictures of the cell of that number, as files in `folder`."""
    cell = plan.cells[number]
    settings = drawn_with(cell, work.profile.generation)
    who = f"setting {number + 1} of {len(plan.cells)}"
    images = draw(work, who, plan.requests, lambda: opened(settings.scheduler), plan.adapters.of(cell), settings)
    paths = [folder / f"{number:04d}_{place:03d}.png" for place in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    return paths


def _timed(work: CharacterStep, plan: Plan, cell: Cell, opened: Callable[[str], Any]) -> Timed:
    settings, resolution = drawn_with(cell, work.profile.generation), work.profile.resolution

    seconds = kept_seconds(
        work.roots["generation"]["base"],
        settings,
        resolution,
        work.store.cache("seconds"),
        lambda: seconds_per_picture(without_loras(opened(settings.scheduler)), plan.requests, settings, resolution),
    )
    return Timed(settings.scheduler, seconds)


def _seen(
    work: CharacterStep, plan: Plan, folder: Path, files: Mapping[Cell, Sequence[Path]], embedder: Embedder
) -> tuple[dict[Cell, dict[str, Seen]], list[str]]:
    """What each cell drew, as `files` in `folder`: by style, as the CLIP and the tagger see it, and its tones; and the
    names of the tagger's tags."""
    tagger = open_tagger(work.profile.tagger, work.profile.tagging.provider)
    names = [path.name for paths in files.values() for path in paths]
    found = tags_found_in(tagger, work.profile, work.store, folder, names)
    tags = dict(zip(files, np.split(found, len(files)), strict=True))
    styles = [request.style for request in plan.requests]
    seen = {}
    for cell, paths in files.items():
        embeddings = by_style(embed(embedder, (Image.open(path) for path in paths)), styles)
        colours = tones([Image.open(path) for path in paths])
        parts = {name: by_style(values, styles) for name, values in vars(colours).items()}
        seen[cell] = {
            style: Seen(
                own, by_style(tags[cell], styles)[style], Tones(**{name: part[style] for name, part in parts.items()})
            )
            for style, own in embeddings.items()
        }
    return seen, [label.name for label in tagger.labels]


def _requests(plan: Plan, numbers: np.ndarray) -> Requests:
    return Requests(
        [plan.attributes[number] for number in numbers], [plan.requests[number].prompt for number in numbers]
    )


def _grids(work: CharacterStep, plan: Plan, files: Mapping[Cell, Sequence[Path]]) -> dict[str, Image.Image]:
    """One picture for each style of the prompts and weight of the style's LoRA, by name, saved in the artifact: the
    first request in every setting; guidance and steps downwards, LCM and the character's weight across."""
    styles = [request.style for request in plan.requests]
    found = {}
    for weight, style in product(_axis(plan, "style_weight"), dict.fromkeys(styles)):
        down = list(product(_axis(plan, "guidance_scale"), _axis(plan, "steps")))
        across = list(product(_axis(plan, "lcm_weight"), _axis(plan, "character_weight")))
        first = styles.index(style)
        images = [
            [Image.open(files[Cell(weight, character, lcm, steps, scale)][first]) for lcm, character in across]
            for scale, steps in down
        ]
        name = f"grid_{style}" + (f"_style_{weight:g}" if plan.adapters.style else "")
        found[name] = labelled_grid(
            [f"{steps} steps\nCFG {scale:g}" for scale, steps in down],
            [f"character {character:g}" + (f"\nLCM {lcm:g}" if plan.adapters.lcm else "") for lcm, character in across],
            images,
        )
        found[name].save(work.staging / f"{name}.png")
    return found


def _axis(plan: Plan, name: str) -> list[Any]:
    return sorted({getattr(cell, name) for cell in plan.grid})


def _front(rows: pd.DataFrame) -> Image.Image:
    front = rows[rows["pareto"]].sort_values("seconds")
    points = {
        f"{'LCM, ' if lcm else ''}{steps} steps": (part["seconds"].to_numpy(), part["quality"].to_numpy())
        for (lcm, steps), part in rows.groupby([rows["lcm_weight"] > 0, "steps"])
    }
    return front_chart(
        points,
        (front["seconds"].to_numpy(), front["quality"].to_numpy()),
        title="quality against seconds; the Pareto front is ringed",
        x="seconds of a picture",
        y="root of similarity × fidelity",
    )


def _headline(advice: Sequence[Recommendation]) -> str:
    found = [each for each in advice if each.setting]
    if not found:
        return "none is without fault"
    last = found[-1]
    return f"at most {last.budget} steps: {_in_words(last)}, quality {last.figures['quality']:.3f}"


def _in_words(each: Recommendation) -> str:
    if each.setting is None:
        return "none"
    weights = {name: each.setting[f"{name}_weight"] for name in ("style", "character", "lcm")}
    used = ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight) or "no LoRA"
    return f"{used}, {each.setting['steps']} steps, CFG {each.setting['guidance_scale']:g}"


def _advice_table(advice: Sequence[Recommendation]) -> pd.DataFrame:
    return pd.DataFrame([{"steps_at_most": each.budget, "setting": _in_words(each), **each.figures} for each in advice])


def _write_recommended(work: CharacterStep, plan: Plan, advice: Sequence[Recommendation]) -> None:
    content = {
        "profile": work.profile.name,
        "character": plan.adapters.name,
        "loras": {
            name: file_sha256(path) if path else None
            for name, path in (
                ("character", plan.adapters.character),
                ("style", plan.adapters.style),
                ("lcm", plan.adapters.lcm),
            )
        },
        "budgets": as_json(advice),
    }
    (work.staging / FILE_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
