"""Asset of the stage `training`: the LoRA, trained in its own process."""

from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pandas as pd
from pydantic import Field

from sticker_pipeline.core.kohya_settings.read import report_table
from sticker_pipeline.core.profile import character_kohya_import
from sticker_pipeline.core.storage import write_table
from sticker_pipeline.dagster_kit.launcher import TrainerLauncher
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.one_off import OneOff
from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline.dagster_kit.resumable import finish, train_in
from sticker_pipeline.dagster_kit.step import Step, once, open_step
from sticker_pipeline.dataset.sources import SOURCES, file_hashes, training_sources
from sticker_pipeline.defs.automation import NIGHTLY_WHEN_STALE
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import CharacterStep, made_from, of_character
from sticker_pipeline.generation.check import prompt_notes, prompt_problem
from sticker_pipeline.generation.prompts import PromptError, benchmark_prompts
from sticker_pipeline.roots.character import regularisation_folder
from sticker_pipeline.training.logs import curves, results
from sticker_pipeline.training.logs.tables import LOG, VALIDATION_LOSS
from sticker_pipeline.training.spec import FILE_NAME, TrainingSpec, save_spec
from sticker_pipeline.training.specs import character_spec


class LoraConfig(OneOff):
    """Settings of one training, in place of `training:` in character.yaml.

    Omitted values are as in character.yaml.
    """

    section: ClassVar[str] = "training"

    epochs: int | None = Field(None, description="passes, each with a checkpoint, 1 to 10,000")
    samples_per_epoch: int | None = Field(None, description="images per epoch, 1 to 1,000,000")
    rank: int | None = Field(None, description="of the LoRA, 1 to 320; its strength is alpha / rank")
    alpha: float | None = Field(None, description="of the LoRA, above 0")
    learning_rate_unet: float | None = Field(None, description="its peak, above 0")
    learning_rate_text_encoder: float | None = Field(None, description="0 leaves the text encoder as it is")
    seed: int | None = Field(None, description="0 or more")


@dg.asset(
    **made_from("training_set", "frames", uses=["training"]),
    partitions_def=CHARACTERS,
    code_version="2",
    automation_condition=NIGHTLY_WHEN_STALE,
    group_name="lora_training",
    kinds={"pytorch", "diffusers"},
    metadata=columns(LOG, VALIDATION_LOSS, SOURCES),
    pool=GPU,
    op_tags=gpu_request(GPU),
    description="A LoRA of U-Net and text encoder trained on the training set: one checkpoint per epoch, the log of "
    "every step, the loss on held-out images, samples, and the files that it was made from. Live: Metadata → Plots → "
    "Events, and TensorBoard. A run that was stopped or killed resumes when this is materialized again.",
)
@once
def lora(
    context: dg.AssetExecutionContext, config: LoraConfig, workspace: Workspace, launcher: TrainerLauncher
) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character, config=config) as work:
        spec = character_spec(
            work.character,
            work.profile,
            work.roots["training"]["base"],
            work.inputs["training_set"],
            work.inputs["frames"],
            prompts=[prompt.text for prompt in benchmark_prompts(work.character, work.profile)],
            regularisation=regularisation_folder(work.character, work.profile),
            store=work.store,
        )
        _check_prompts(work)
        write_table(_sources(work), work.staging, SOURCES)
        train(work, launcher, spec)
        imported = character_kohya_import(work.character, workspace.models_folder)
        report = {"kohya_settings": table(report_table(imported), most=400)} if imported else {}
        result = work.publish({**training_metadata(work.staging, spec), **report}, content=results.is_checkpoint)
        finish(work, spec.output)
        return result


def train(work: Step[Any], launcher: TrainerLauncher, spec: TrainingSpec) -> None:
    """Train by `spec`; put the results into the step's staging folder."""
    path = work.store.work(work.scope.place, f"{spec.output.name}-spec") / FILE_NAME
    save_spec(spec, path)
    work.context.log.info("TensorBoard: tensorboard --logdir %s", spec.output / "tensorboard")
    train_in(work, launcher, spec.output, [str(path)])
    results.collect(spec.output, work.staging)


def training_metadata(folder: Path, spec: TrainingSpec) -> dict[str, Any]:
    """Return a training's evidence, curves and images first."""
    log, fixed = (pd.read_parquet(folder / schema.file) for schema in (LOG, VALIDATION_LOSS))
    return {
        SUMMARY: results.headline(folder, log),
        "fixed_images": inline_image(curves.fixed_losses(fixed), "loss on fixed images"),
        "loss_by_step": inline_image(curves.losses(log), "loss"),
        "loss_by_timestep": inline_image(curves.losses_by_timestep(log), "loss by timestep"),
        "gradient_norm": inline_image(curves.gradient_norms(log, spec.settings.max_grad_norm), "gradient norm"),
        "learning_rate": inline_image(curves.learning_rates(log), "learning rates"),
        "samples": inline_image(results.sample_grid(folder), "samples per epoch"),
        "steps": len(log),
        "samples_per_s": float(log["samples_per_s"].median()),
        "peak_memory_mb": results.peak_memory_mb(log),
        "memory": dg.MetadataValue.json(results.memory(folder)),
        "settings": dg.MetadataValue.json(spec.settings.model_dump(mode="json")),
        "log": table(log.iloc[:: max(1, len(log) // 20)]),
        **described(log, LOG),
    }


def _sources(work: CharacterStep) -> pd.DataFrame:
    """Return the table SOURCES; the trainer refuses another training set."""
    frames = work.inputs["frames"]
    hashes = file_hashes(frames, work.store.find(work.character.name, "raw_media"))
    if not hashes:
        work.context.log.warning("The sources have no hashes: raw_media was made again since frames.")
    return training_sources(work.inputs["training_set"].table(), frames.table(), hashes)


def _check_prompts(work: CharacterStep) -> None:
    if problem := prompt_problem(work.character, work.profile):
        raise PromptError(problem)
    for note in prompt_notes(work.character):
        work.context.log.warning(note)
