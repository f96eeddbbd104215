"""Asset `style/lora`: the LoRA of a style."""

import dagster as dg

from sticker_pipeline.dagster_kit.launcher import TrainerLauncher
from sticker_pipeline.dagster_kit.metadata import columns
from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline.dagster_kit.resumable import finish
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.dataset.style_set import taken_traits
from sticker_pipeline.defs.automation import NIGHTLY_WHEN_STALE
from sticker_pipeline.defs.partitions import STYLES
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import STYLE_LORA, STYLE_TRAINING_SET, of_style, style_made_from
from sticker_pipeline.defs.training.lora import train, training_metadata
from sticker_pipeline.generation.unseen import sampled_prompts
from sticker_pipeline.training.logs.results import is_checkpoint
from sticker_pipeline.training.logs.tables import LOG, VALIDATION_LOSS
from sticker_pipeline.training.specs import SAMPLE_PROMPTS, style_spec


@dg.asset(
    key=STYLE_LORA,
    **style_made_from(STYLE_TRAINING_SET, uses=["training"]),
    partitions_def=STYLES,
    code_version="1",
    automation_condition=NIGHTLY_WHEN_STALE,
    group_name="style",
    kinds={"pytorch", "diffusers"},
    metadata=columns(LOG, VALIDATION_LOSS),
    pool=GPU,
    op_tags=gpu_request(GPU),
    description="A LoRA of the style, trained as a character's is (`lora`) on the images of all its characters. It "
    "has no trigger word.",
)
@once
def style_lora(
    context: dg.AssetExecutionContext, workspace: Workspace, launcher: TrainerLauncher
) -> dg.MaterializeResult:
    with open_step(context, workspace, of_style) as work:
        training_set, store, place = work.inputs["style_training_set"], work.store, work.scope.place
        spec = style_spec(
            work.subject.name,
            work.profile,
            work.roots["training"]["base"],
            training_set,
            prompts=sampled_prompts(work.profile.style, taken_traits(training_set), SAMPLE_PROMPTS),
            output=store.work(place, "style_lora"),
            store=store,
        )
        train(work, launcher, spec)
        result = work.publish(training_metadata(work.staging, spec), content=is_checkpoint)
        finish(work, spec.output)
        return result
