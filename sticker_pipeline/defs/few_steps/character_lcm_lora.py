"""Asset `character_lcm_lora`: the profile's `lcm_lora`, trained further on one character's images.

Made only on request.
"""

import dagster as dg

from sticker_pipeline.benchmark.few_steps import FEW_STEPS
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.dagster_kit.launcher import TrainerLauncher
from sticker_pipeline.dagster_kit.metadata import columns
from sticker_pipeline.dagster_kit.on_request import GROUP, on_request
from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.few_steps.lcm_lora import distil, published
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import ON_REQUEST, made_from, of_character
from sticker_pipeline.generation.few_steps import StepComparison, compared_configs
from sticker_pipeline.generation.prompts import benchmark_prompts, requests_for
from sticker_pipeline.roots.loras import LORA_FILE, lcm_lora
from sticker_pipeline.training.distill.specs import character_spec
from sticker_pipeline.training.logs.tables import LOG


@dg.asset(
    **made_from("selected_lora", "training_set", "frames", uses=["generation", "benchmark", "tagging", "lcm"]),
    partitions_def=CHARACTERS,
    code_version="1",
    group_name=GROUP,
    kinds={"pytorch", "diffusers"},
    metadata=columns(FEW_STEPS, LOG),
    pool=GPU,
    op_tags=gpu_request(GPU),
    output_required=False,
    description="The profile's `lcm_lora`, distilled further on the character's training images, with the base model "
    "and the character's LoRA as the teacher: it generates this character in 1 to 8 steps. It is used together with "
    'that LoRA, and compared with its 25 steps. Made on request alone: "Materialize all" leaves it '
    "out. A run that was stopped or killed resumes when materialized again.",
)
@on_request(ON_REQUEST)
@once
def character_lcm_lora(
    context: dg.AssetExecutionContext, workspace: Workspace, launcher: TrainerLauncher
) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        profile, store, name = work.profile, work.store, work.character.name
        found = lcm_lora(profile, store)
        if found is None:
            raise dg.Failure(
                f"There is no lcm_lora of the profile {profile.name!r} to go on from: materialize its partition "
                f"{profile.name!r} first."
            )
        start, lora = found.file(LORA_FILE), work.inputs["selected_lora"].file(LORA_FILE)
        spec = character_spec(
            name,
            profile,
            work.roots["lcm"]["base"],
            work.inputs["training_set"].table(),
            work.inputs["frames"].fetched(),
            start=start,
            lora=lora,
            output=store.work(name, "character_lcm_lora"),
        )
        distil(work, launcher, spec, character_lora=file_sha256(lora))
        lcm = {"LCM-LoRA of the base model": start, "its own LCM-LoRA": work.staging / LORA_FILE}
        configs = compared_configs(profile.generation, "LoRA", [lora], lcm)
        seeds = profile.lcm.measured_seeds
        requests = requests_for(benchmark_prompts(work.character, profile), seeds, purpose="lcm")
        return published(work, profile, StepComparison(work.staging, requests, seeds, configs), spec)
