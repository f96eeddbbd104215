"""Asset `lcm_lora` of a profile: base model distilled to few steps, and measured.

Made only on request, like `character_lcm_lora`, which shares distillation and measurement.
"""

import json
from typing import Any

import dagster as dg
import pandas as pd

from sticker_pipeline.benchmark.few_steps import FEW_STEPS, headline, measured_comparison, side_by_side
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import link_or_copy, write_table
from sticker_pipeline.dagster_kit.launcher import TrainerLauncher
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.on_request import GROUP, on_request
from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline.dagster_kit.progress import step_count
from sticker_pipeline.dagster_kit.resumable import finish, train_in
from sticker_pipeline.dagster_kit.step import Step, once, open_step
from sticker_pipeline.defs.partitions import PROFILE_NAMES
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import LCM_LORA, ON_REQUEST, of_profile, profile_made_from
from sticker_pipeline.generation.few_steps import (
    STEPS,
    StepComparison,
    compared_configs,
    comparison_grid,
    generate_comparison,
)
from sticker_pipeline.generation.prompts import distillation_prompts, requests_of_texts
from sticker_pipeline.roots.loras import LCM_FACTS, LORA_FILE
from sticker_pipeline.training.distill.spec import ConsistencySpec
from sticker_pipeline.training.distill.specs import base_spec
from sticker_pipeline.training.logs import curves
from sticker_pipeline.training.logs.results import peak_memory_mb
from sticker_pipeline.training.logs.tables import LOG
from sticker_pipeline.training.spec import FILE_NAME, save_spec

MODULE = "sticker_pipeline.training.distill"


@dg.asset(
    key=LCM_LORA,
    **profile_made_from(uses=["lcm"]),
    partitions_def=PROFILE_NAMES,
    code_version="1",
    group_name=GROUP,
    kinds={"pytorch", "diffusers"},
    metadata=columns(FEW_STEPS, LOG),
    pool=GPU,
    op_tags=gpu_request(GPU),
    output_required=False,
    description="A LoRA with which the profile's base model generates in 1 to 8 steps without guidance (LCM-LoRA), "
    "distilled from images that it generates itself, and measured against its own 25 steps: seconds, likeness, "
    'prompted tags found by the tagger. Made on request alone: "Materialize all" leaves it out. A run that was '
    "stopped or killed resumes when this is materialized again.",
)
@on_request(ON_REQUEST)
@once
def lcm_lora(
    context: dg.AssetExecutionContext, workspace: Workspace, launcher: TrainerLauncher
) -> dg.MaterializeResult:
    with open_step(context, workspace, of_profile) as work:
        profile, store, place = work.subject, work.store, work.scope.place
        measured, learned = distillation_prompts(profile.lcm)
        spec = base_spec(profile, work.roots["lcm"]["base"], learned, store.work(place, "lcm_lora"))
        distil(work, launcher, spec)
        configs = compared_configs(profile.generation, "base", [], {"LCM-LoRA": work.staging / LORA_FILE})
        seeds = profile.lcm.measured_seeds
        requests = requests_of_texts(measured, seeds, purpose="lcm")
        return published(work, profile, StepComparison(work.staging, requests, seeds, configs), spec)


def distil(work: Step[Any], launcher: TrainerLauncher, spec: ConsistencySpec, **more: str) -> None:
    """Run the distillation of `spec`.

    LoRA, log and sampling facts (with `more`) go to the step's staging folder.
    """
    path = work.store.work(work.scope.place, f"{spec.output.name}-spec") / FILE_NAME
    save_spec(spec, path)
    train_in(work, launcher, spec.output, [str(path)], module=MODULE)
    for name in (LORA_FILE, LOG.file):
        link_or_copy(spec.output / name, work.staging / name)
    facts = {"guidance_scale": spec.settings.guidance_scale, "steps": list(STEPS), "scheduler": "lcm", **more}
    (work.staging / LCM_FACTS).write_text(json.dumps(facts) + "\n", encoding="utf-8")


def published(
    work: Step[Any], profile: Profile, comparison: StepComparison, spec: ConsistencySpec
) -> dg.MaterializeResult:
    """Generate and measure `comparison`, publish all, remove the work folder."""
    seconds = generate_comparison(comparison, profile, step_count(work.context))
    index = measured_comparison(comparison, seconds, profile, work.store)
    write_table(index, work.staging, FEW_STEPS)
    log = pd.read_parquet(work.staging / LOG.file)
    result = work.publish(
        {
            SUMMARY: headline(index, comparison),
            "images": inline_image(comparison_grid(comparison), "the same prompts and seeds in each configuration"),
            "metrics": table(side_by_side(index, comparison.reference.name), most=40),
            "how_to_use": "LCM sampler, 1 to 8 steps, CFG 1, strength 1",
            "guidance_distilled_in": spec.settings.guidance_scale,
            "loss": inline_image(curves.losses(log), "loss"),
            "loss_by_timestep": inline_image(curves.losses_by_timestep(log), "squared error by timestep"),
            "steps": len(log),
            "training_seconds": float(log["seconds"].sum()),
            "peak_memory_mb": peak_memory_mb(log),
            "settings": dg.MetadataValue.json(spec.settings.model_dump(mode="json")),
            **described(index, FEW_STEPS),
        },
        content=lambda name: name in (LORA_FILE, LCM_FACTS),
    )
    finish(work, spec.output)
    return result
