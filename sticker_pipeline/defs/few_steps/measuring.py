"""What an LCM-LoRA is judged by, in its asset: the same requests drawn in several ways, measured and shown."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.embed import embed
from sticker_pipeline.benchmark.features import clip_of, tags_found_in
from sticker_pipeline.benchmark.few_steps import (
    FEW_STEPS,
    FIDELITY_CHANGE,
    SECONDS,
    Seen,
    few_step_table,
    side_by_side,
)
from sticker_pipeline.dagster_kit.metadata import SUMMARY, described, picture, table
from sticker_pipeline.generation.generate import Model, generate, pipelines, with_loras
from sticker_pipeline.generation.grid import sample_grid
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.profile import Profile
from sticker_pipeline.settings import GenerationSettings
from sticker_pipeline.storage import ArtifactStore
from sticker_pipeline.tagging.wd14 import open_tagger
from sticker_pipeline.training import curves
from sticker_pipeline.training.consistency.spec import ConsistencySpec
from sticker_pipeline.training.tables import LOG

STEPS = (1, 2, 4, 8)  # that an LCM-LoRA is measured with
MANY, FEW = 25, 4  # steps that they are held against, and that the summary speaks of


@dataclass(frozen=True)
class Way:
    """A way to draw: settings, and the LoRA files that take part."""

    settings: GenerationSettings
    loras: tuple[Path, ...] = ()

    @property
    def calls(self) -> int:
        """Of the U-Net for each picture: guidance asks it twice."""
        return self.settings.steps * (2 if self.settings.guidance_scale > 1 else 1)


def ways_to_draw(
    generation: GenerationSettings, who: str, always: Sequence[Path], lcm: Mapping[str, Path]
) -> dict[str, Way]:
    """What is compared, by name. `who` draws, with the LoRAs `always`: as `generation` has it, in many steps and in
    few, with the LCM sampler alone, and with each of the `lcm` LoRAs, the last of them in every number of STEPS."""
    few = generation.model_copy(update={"scheduler": "lcm", "guidance_scale": 1.0})
    *others, own = lcm

    def way(settings: GenerationSettings, steps: int, *more: Path) -> Way:
        return Way(settings.model_copy(update={"steps": steps}), (*always, *more))

    return {
        f"{who}, steps: {MANY}": way(generation, MANY),
        f"{who}, steps: {generation.steps}": way(generation, generation.steps),
        f"{who}, steps: {FEW}": way(generation, FEW),
        f"LCM sampler without an LCM-LoRA, steps: {FEW}": way(few, FEW),
        **{f"{name}, steps: {FEW}": way(few, FEW, lcm[name]) for name in others},
        **{f"{own}, steps: {count}": way(few, count, lcm[own]) for count in STEPS},
    }


@dataclass(frozen=True)
class Measuring:
    """The pictures in `staging` by which an LCM-LoRA is measured: the same `requests`, `seeds` for each prompt, drawn
    in all `ways`, of which the first is what the others are held against."""

    profile: Profile
    store: ArtifactStore
    staging: Path
    requests: list[Request]
    seeds: int
    ways: Mapping[str, Way]

    @property
    def reference(self) -> str:
        return next(iter(self.ways))

    @property
    def ours(self) -> str:
        """The way that the summary speaks of."""
        return [name for name, way in self.ways.items() if way.settings.steps == FEW][-1]

    def files(self, way: str) -> list[str]:
        number = list(self.ways).index(way)
        return [f"pictures/{number}_{place:03d}.png" for place in range(len(self.requests))]

    def table(self, context: dg.AssetExecutionContext) -> pd.DataFrame:
        """Draw and keep all pictures, and measure them: the table FEW_STEPS."""
        (self.staging / "pictures").mkdir()
        opened, seconds = pipelines(self.profile), {}
        for name, way in self.ways.items():
            context.log.info(f"{name}: {len(self.requests)} pictures")
            pipeline = opened(way.settings.scheduler)
            with with_loras(pipeline, [(path, 1.0) for path in way.loras]) as model:
                list(self._drawn(model, way.settings.model_copy(update={"steps": 1}), 1))  # warms up
                started = time.monotonic()
                images = list(self._drawn(model, way.settings, len(self.requests)))
                seconds[name] = (time.monotonic() - started) / len(images)
            for image, file in zip(images, self.files(name), strict=True):
                image.save(self.staging / file)
        tagger = open_tagger(self.profile.tagger, self.profile.tagging.provider)
        embedder = clip_of(self.profile, self.store)
        seen = {
            name: Seen(
                taken,
                self.ways[name].calls,
                embed(embedder, (Image.open(self.staging / file) for file in self.files(name))),
                tags_found_in(tagger, self.profile, self.store, self.staging, self.files(name)),
            )
            for name, taken in seconds.items()
        }
        return few_step_table(
            seen,
            self.reference,
            [request.prompt for request in self.requests],
            [label.name for label in tagger.labels],
            samples=self.profile.benchmark.bootstrap_samples,
        )

    def _drawn(self, model: Model, settings: GenerationSettings, count: int) -> Iterator[Image.Image]:
        return generate(model, self.requests[:count], settings, self.profile.resolution)

    def metadata(self, index: pd.DataFrame, spec: ConsistencySpec) -> dict[str, Any]:
        """What a person judges the LoRA by, pictures and figures first. `index`: from `table`."""
        log = pd.read_parquet(self.staging / LOG.file)
        return {
            SUMMARY: self._summary(index),
            "pictures": picture(self._grid(), "the same prompts and seeds in every way"),
            "figures": table(side_by_side(index, self.reference), most=40),
            "how_to_use": "LCM sampler, 1 to 8 steps, CFG 1, strength 1",
            "guidance_distilled_in": spec.settings.guidance_scale,
            "loss": picture(curves.losses(log), "loss"),
            "loss_by_timestep": picture(curves.losses_by_timestep(log), "squared error by timestep"),
            "steps": len(log),
            "training_seconds": float(log["seconds"].sum()),
            "peak_memory_mb": int(log["memory_bytes"].max() // 2**20),
            "settings": dg.MetadataValue.json(spec.settings.model_dump(mode="json")),
            **described(index, FEW_STEPS),
        }

    def _summary(self, index: pd.DataFrame) -> str:
        rows = zip(index["model"], index["metric"], index["mean"], strict=True)
        means = {(str(model), str(metric)): float(mean) for model, metric, mean in rows}
        speed = means[self.reference, SECONDS] / means[self.ours, SECONDS]
        change = means.get((self.ours, FIDELITY_CHANGE))
        found = "" if change is None else f", prompted tags found {change:+.3f}"
        return f"{FEW} steps: {speed:.1f} times as fast as {MANY}{found}"

    def _grid(self) -> Image.Image:
        """The first seed of the first prompts."""
        rows = {way: [Image.open(self.staging / file) for file in self.files(way)[:: self.seeds]] for way in self.ways}
        labels = [request.prompt for request in self.requests[:: self.seeds]]
        return sample_grid(rows, labels, most=8, cell=84)
