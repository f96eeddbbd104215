"""The assets `lcm_lora` of each profile, its base model taught to draw in a few steps, and `character_lcm_lora`, in
which that goes on learning on the pictures of one character; and what each costs.

Both are made when a person asks for them.
"""

import json
from pathlib import Path

import dagster as dg
import numpy as np

from sticker_pipeline.benchmark.few_steps import FEW_STEPS
from sticker_pipeline.dagster_kit.launcher import TrainerLauncher, progress_observer
from sticker_pipeline.dagster_kit.metadata import columns
from sticker_pipeline.dagster_kit.pools import GPU
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.dataset.manifest import TRAIN
from sticker_pipeline.defs.few_steps.measuring import STEPS, Measuring, ways_to_draw
from sticker_pipeline.defs.partitions import CHARACTERS, PROFILE_NAMES
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import CharacterStep, made_from, of_character, of_profile, profile_made_from
from sticker_pipeline.generation.prompts import Prompt, Request, benchmark_prompts, prompts_of_words, requests_for
from sticker_pipeline.profile import Profile
from sticker_pipeline.roots.loras import LCM_FACTS, LORA_FILE
from sticker_pipeline.roots.loras import lcm_lora as found_lcm_lora
from sticker_pipeline.sampling.draws import systematic_draws
from sticker_pipeline.storage import (
    Artifact,
    ArtifactStore,
    discard,
    file_sha256,
    link_or_copy,
    profile_scope,
    write_table,
)
from sticker_pipeline.training.consistency.spec import ConsistencySpec, Tuning
from sticker_pipeline.training.spec import FILE_NAME, save_spec
from sticker_pipeline.training.tables import LOG

MODULE = "sticker_pipeline.training.consistency"


@dg.asset(
    **profile_made_from(uses=["lcm"]),
    partitions_def=PROFILE_NAMES,
    code_version="1",
    group_name="training",
    kinds={"pytorch", "diffusers"},
    metadata=columns(FEW_STEPS, LOG),
    pool=GPU,
    description="A LoRA with which the profile's base model draws in 1 to 8 steps without guidance (LCM-LoRA), "
    "distilled from pictures that it draws itself, and measured against its own 25 steps: seconds, likeness, whether "
    "the tagger finds what was asked for. A run that was stopped or killed goes on when this is materialized again.",
)
@once
def lcm_lora(
    context: dg.AssetExecutionContext, workspace: Workspace, launcher: TrainerLauncher
) -> dg.MaterializeResult:
    with open_step(context, workspace, of_profile) as work:
        profile, store, staging = work.subject, work.store, work.staging
        measured, learned = _prompts(profile)
        spec = _spec(profile, store, work.roots["lcm"]["base"], learned)
        _distil(context, launcher, spec, store.work(work.scope.place, "lcm_lora-spec"), staging)
        ways = ways_to_draw(profile.generation, "base", [], {"LCM-LoRA": staging / LORA_FILE})
        measuring = Measuring(profile, store, staging, _requests(profile, measured), profile.lcm.measured_seeds, ways)
        index = measuring.table(context)
        write_table(index, staging, FEW_STEPS)
        result = work.publish(measuring.metadata(index, spec), content=_is_content)
        discard(spec.output)
    return result


@dg.asset(
    **made_from("selected_lora", "training_set", "frames", uses=["generation", "benchmark", "tagging", "lcm"]),
    partitions_def=CHARACTERS,
    code_version="1",
    group_name="training",
    kinds={"pytorch", "diffusers"},
    metadata=columns(FEW_STEPS, LOG),
    pool=GPU,
    description="The profile's `lcm_lora`, distilled further on the character's training pictures, with the base model "
    "and the character's LoRA as the teacher: for drawing this character in 1 to 8 steps. It is used together with "
    "that LoRA, and held against its 25 steps. A run that was stopped or killed goes on when materialized again.",
)
@once
def character_lcm_lora(
    context: dg.AssetExecutionContext, workspace: Workspace, launcher: TrainerLauncher
) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        start = found_lcm_lora(work.profile, work.store)
        if start is None:
            raise dg.Failure(
                f"There is no lcm_lora of the profile {work.profile.name!r} to go on from: materialize its partition "
                f"{work.profile.name!r} first."
            )
        lora = work.inputs["selected_lora"].file(LORA_FILE)
        spec = _tuning_spec(work, start, lora)
        folder = work.store.work(work.character.name, "character_lcm_lora-spec")
        _distil(context, launcher, spec, folder, work.staging, character_lora=file_sha256(lora))
        ways = ways_to_draw(
            work.profile.generation,
            "LoRA",
            [lora],
            {"LCM-LoRA of the base model": start.folder / LORA_FILE, "its own LCM-LoRA": work.staging / LORA_FILE},
        )
        seeds = work.profile.lcm.measured_seeds
        requests = requests_for(benchmark_prompts(work.character, work.profile), seeds, purpose="lcm")
        measuring = Measuring(work.profile, work.store, work.staging, requests, seeds, ways)
        index = measuring.table(context)
        write_table(index, work.staging, FEW_STEPS)
        result = work.publish(measuring.metadata(index, spec), content=_is_content)
        discard(spec.output)
    return result


def _is_content(name: str) -> bool:
    return name in (LORA_FILE, LCM_FACTS)


def _distil(
    context: dg.AssetExecutionContext,
    launcher: TrainerLauncher,
    spec: ConsistencySpec,
    folder: Path,
    staging: Path,
    **more: str,
) -> None:
    """Run the distillation of `spec`, which is kept in `folder`; its LoRA, its log, and how to draw with it, with
    `more` that is known of it, go to `staging`."""
    save_spec(spec, folder / FILE_NAME)
    launcher.train(context, [str(folder / FILE_NAME)], progress_observer(context), module=MODULE)
    for name in (LORA_FILE, LOG.file):
        link_or_copy(spec.output / name, staging / name)
    facts = {"guidance_scale": spec.settings.guidance_scale, "steps": list(STEPS), "scheduler": "lcm", **more}
    (staging / LCM_FACTS).write_text(json.dumps(facts) + "\n", encoding="utf-8")


def _tuning_spec(work: CharacterStep, start: Artifact, lora: Path) -> ConsistencySpec:
    """Pictures and captions are drawn of the training set by its weights, systematically, once for all."""
    profile, tuning = work.profile, work.profile.lcm.tuning
    rows = work.inputs["training_set"].table()
    rows = rows[rows["split"] == TRAIN]
    counts = systematic_draws(rows["probability"].to_numpy(dtype=np.float64), tuning.pictures, profile.lcm.seed, 0)
    drawn = rows.loc[np.repeat(rows.index, counts)]
    return ConsistencySpec(
        name=f"lcm-{work.character.name}",
        family=profile.family,
        base=profile.base,
        base_sha=work.roots["lcm"]["base"],
        output=work.store.work(work.character.name, "character_lcm_lora"),
        resolution=profile.resolution,
        prompts=drawn["caption"].tolist(),
        settings=profile.lcm.model_copy(update=tuning.model_dump()),
        generation=profile.generation,
        tuning=Tuning(
            start=start.file(LORA_FILE),
            start_sha=file_sha256(start.folder / LORA_FILE),
            lora=lora,
            lora_sha=file_sha256(lora),
            frames=work.inputs["frames"].folder,
            files=drawn["file"].tolist(),
            background=profile.background,
        ),
    )


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
