"""The asset `lcm_lora` of each profile: its base model taught to draw in a few steps, and what that costs.

It belongs to a base model, not to a character, and is made when a person asks for it: other profiles' models need not
be there.
"""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.embed import embed
from sticker_pipeline.benchmark.few_steps import FIDELITY_CHANGE, SECONDS, Seen, few_step_table, side_by_side
from sticker_pipeline.defs.launcher import TrainerLauncher, progress_observer
from sticker_pipeline.defs.loggers import SUMMARY
from sticker_pipeline.defs.making import code_version, described, picture, reported, table
from sticker_pipeline.defs.observed import model_hash, observe_root
from sticker_pipeline.defs.orphans import end_with_run
from sticker_pipeline.defs.partitions import PROFILE_NAMES
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.seen import clip_of, tags_found_in
from sticker_pipeline.generation.generate import generate, open_pipeline, with_lora
from sticker_pipeline.generation.grid import sample_grid
from sticker_pipeline.generation.prompts import Prompt, Request, prompts_of_words, requests_for
from sticker_pipeline.profile import Profile, check_models, load_profile
from sticker_pipeline.settings import GenerationSettings
from sticker_pipeline.storage import ArtifactStore, content_hash, link_or_copy, profile_scope, write_table
from sticker_pipeline.tagging.wd14 import open_tagger
from sticker_pipeline.training import curves
from sticker_pipeline.training.consistency.spec import ConsistencySpec
from sticker_pipeline.training.sampler import make_scheduler
from sticker_pipeline.training.spec import FILE_NAME, save_spec

ROOT = dg.AssetKey(["profile", "lcm"])
LORA, FACTS, LOG = "lora.safetensors", "lcm.json", "log.parquet"
STEPS = (1, 2, 4, 8)  # that the LoRA is measured with
MANY, FEW = 25, 4  # steps that they are held against, and that the summary speaks of


@dg.multi_observable_source_asset(
    specs=[
        dg.AssetSpec(
            ROOT,
            description="The files of the base model, of CLIP and tagger, and the profile's sections `lcm` and "
            "`generation`.",
            group_name="profile",
            kinds={"file"},
            owners=["team:training"],
        )
    ],
    partitions_def=PROFILE_NAMES,
)
def observed_profile(context: dg.AssetExecutionContext, workspace: Workspace) -> Iterator[dg.ObserveResult]:
    value = decisive(load_profile(context.partition_key, Path(workspace.models)), workspace.store)
    yield dg.ObserveResult(
        asset_key=ROOT,
        data_version=dg.DataVersion(content_hash(value)),
        metadata={"value": dg.MetadataValue.json(value)},
    )


def decisive(profile: Profile, store: ArtifactStore) -> dict[str, Any]:
    """All that the LoRA and its figures are made from, as JSON types."""
    return {
        **{name: model_hash(getattr(profile, name), store) for name in ("base", "clip", "tagger")},
        "resolution": profile.resolution,
        "lcm": profile.lcm.model_dump(mode="json"),
        "generation": profile.generation.model_dump(mode="json"),
        "tagging": profile.tagging.model_dump(mode="json", exclude={"batch_size", "provider"}),
    }


@dg.asset(
    deps=[ROOT],
    partitions_def=PROFILE_NAMES,
    code_version="1",
    group_name="training",
    kinds={"pytorch", "diffusers"},
    owners=["team:training"],
    pool="gpu",
    description="A LoRA with which the profile's base model draws in 1 to 8 steps without guidance (LCM-LoRA), "
    "distilled from pictures that it draws itself, and measured against its own 25 steps: seconds, likeness, whether "
    "the tagger finds what was asked for. A run that was stopped or killed goes on when this is materialized again.",
)
def lcm_lora(
    context: dg.AssetExecutionContext, workspace: Workspace, launcher: TrainerLauncher
) -> dg.MaterializeResult:
    end_with_run()
    profile, store = load_profile(context.partition_key, Path(workspace.models)), workspace.store
    check_models(profile)
    value, scope = decisive(profile, store), profile_scope(profile.name)
    if observe_root(context.instance, ROOT, profile.name, value):
        raise dg.RetryRequested(max_retries=1)  # as in making.py: versions were noted when the step began
    measured, learned = _prompts(profile)
    with store.writing(scope, "lcm_lora") as staging:
        spec = _spec(profile, store, value["base"], learned)
        path = store.work(scope, "lcm_lora-spec") / FILE_NAME
        save_spec(spec, path)
        launcher.train(context, [str(path)], progress_observer(context), module="sticker_pipeline.training.consistency")
        for name in (LORA, LOG):
            link_or_copy(spec.output / name, staging / name)
        facts = {"guidance_scale": spec.settings.guidance_scale, "steps": list(STEPS), "scheduler": "lcm"}
        (staging / FACTS).write_text(json.dumps(facts) + "\n", encoding="utf-8")
        measuring = Measuring(profile, store, staging, _requests(profile, measured))
        index = measuring.table(context)
        write_table(index, staging)
        artifact = store.publish(
            staging,
            scope,
            "lcm_lora",
            code_version=code_version(context),
            inputs={ROOT.to_user_string(): content_hash(value)},
            settings={"lcm": value},
            content=lambda name: name in (LORA, FACTS),
        )
    shutil.rmtree(spec.output)
    return reported(artifact, _metadata(artifact.folder, index, measuring, spec))


def _prompts(profile: Profile) -> tuple[list[str], list[str]]:
    """Those that the LoRA is measured by, and others to learn on."""
    settings = profile.lcm
    count = settings.measured_prompts
    prompts = prompts_of_words(settings.words, settings.omitted, count + settings.pictures, settings.seed)
    return prompts[:count], prompts[count:]


def _spec(profile: Profile, store: ArtifactStore, base_sha: str, prompts: list[str]) -> ConsistencySpec:
    return ConsistencySpec(
        name=f"lcm-{profile.name}",
        family=profile.family,
        base=profile.base,
        base_sha=base_sha,
        output=store.work(profile_scope(profile.name), "lcm_lora"),
        resolution=profile.resolution,
        prompts=prompts,
        settings=profile.lcm,
        generation=profile.generation,
    )


def _requests(profile: Profile, prompts: list[str]) -> list[Request]:
    return requests_for([Prompt("", text, text) for text in prompts], profile.lcm.measured_seeds, purpose="lcm")


@dataclass(frozen=True)
class Way:
    """A way to draw: settings, with or without the LoRA."""

    settings: GenerationSettings
    lora: bool = False

    @property
    def calls(self) -> int:
        """Of the U-Net for each picture: guidance asks it twice."""
        return self.settings.steps * (2 if self.settings.guidance_scale > 1 else 1)


def ways_to_draw(base: GenerationSettings) -> dict[str, Way]:
    """What is compared, by name: the base model as its settings have it and with the LoRA, in many steps and in few."""
    few = base.model_copy(update={"scheduler": "lcm", "guidance_scale": 1.0})

    def steps(settings: GenerationSettings, count: int) -> GenerationSettings:
        return settings.model_copy(update={"steps": count})

    return {
        f"base, steps: {MANY}": Way(steps(base, MANY)),
        f"base, steps: {base.steps}": Way(base),
        f"base, steps: {FEW}": Way(steps(base, FEW)),
        f"LCM sampler without the LoRA, steps: {FEW}": Way(steps(few, FEW)),
        **{f"LCM-LoRA, steps: {count}": Way(steps(few, count), lora=True) for count in STEPS},
    }


@dataclass(frozen=True)
class Measuring:
    """The pictures by which the LoRA in `staging` is measured: the same `requests` drawn in every way."""

    profile: Profile
    store: ArtifactStore
    staging: Path
    requests: list[Request]

    @property
    def ways(self) -> dict[str, Way]:
        return ways_to_draw(self.profile.generation)

    @property
    def reference(self) -> str:
        return next(iter(self.ways))

    def files(self, way: str) -> list[str]:
        number = list(self.ways).index(way)
        return [f"pictures/{number}_{place:03d}.png" for place in range(len(self.requests))]

    def table(self, context: dg.AssetExecutionContext) -> pd.DataFrame:
        """Draw and keep all pictures, and measure them: rows of few_steps.COLUMNS."""
        (self.staging / "pictures").mkdir()
        pipeline = open_pipeline(self.profile)
        list(self._drawn(pipeline, Way(self.profile.generation.model_copy(update={"steps": 1})), 1))  # warms up
        seconds = {}
        for name, way in self.ways.items():
            context.log.info(f"{name}: {len(self.requests)} pictures")
            started = time.monotonic()
            images = list(self._drawn(pipeline, way, len(self.requests)))
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

    def _drawn(self, pipeline: Any, way: Way, count: int) -> Iterator[Image.Image]:
        pipeline.scheduler = make_scheduler(way.settings.scheduler, pipeline.scheduler.config)
        with with_lora(pipeline, self.staging / LORA) if way.lora else nullcontext():
            yield from generate(pipeline, self.requests[:count], way.settings, self.profile.resolution)


def _metadata(folder: Path, index: pd.DataFrame, measuring: Measuring, spec: ConsistencySpec) -> dict[str, Any]:
    """What a person judges it by, pictures and figures first."""
    log, reference = pd.read_parquet(folder / LOG), measuring.reference
    return {
        SUMMARY: _summary(index, reference),
        "pictures": picture(_grid(folder, measuring), "the same prompts and seeds in every way"),
        "figures": table(side_by_side(index, reference), most=40),
        "how_to_use": "LCM sampler, 1 to 8 steps, CFG 1, strength 1",
        "guidance_distilled_in": spec.settings.guidance_scale,
        "loss": picture(curves.losses(log), "loss"),
        "loss_by_timestep": picture(curves.losses_by_timestep(log), "squared error by timestep"),
        "steps": len(log),
        "training_seconds": float(log["seconds"].sum()),
        "peak_memory_mb": int(log["memory_bytes"].max() // 2**20),
        "settings": dg.MetadataValue.json(spec.settings.model_dump(mode="json")),
        **described(index),
    }


def _summary(index: pd.DataFrame, reference: str) -> str:
    rows = zip(index["model"], index["metric"], index["mean"], strict=True)
    means = {(str(model), str(metric)): float(mean) for model, metric, mean in rows}
    ours = f"LCM-LoRA, steps: {FEW}"
    speed = means[reference, SECONDS] / means[ours, SECONDS]
    change = means.get((ours, FIDELITY_CHANGE))
    found = "" if change is None else f", prompted tags found {change:+.3f}"
    return f"{FEW} steps: {speed:.1f} times as fast as {MANY}{found}"


def _grid(folder: Path, measuring: Measuring) -> Image.Image:
    """The first seed of the first prompts."""
    seeds = measuring.profile.lcm.measured_seeds
    rows = {way: [Image.open(folder / file) for file in measuring.files(way)[::seeds]] for way in measuring.ways}
    labels = [request.prompt for request in measuring.requests[::seeds]]
    return sample_grid(rows, labels, most=8, cell=84)
