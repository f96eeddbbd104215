"""Assets of the stage `training`: the LoRA, trained in a process of its own."""

import shutil
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.defs.launcher import TrainerLauncher, progress_observer
from sticker_pipeline.defs.loggers import SUMMARY
from sticker_pipeline.defs.making import Making, described, making, picture, table
from sticker_pipeline.defs.observed import key
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.generation.prompts import benchmark_prompts
from sticker_pipeline.pictures import labelled_grid, line_chart
from sticker_pipeline.sampling.weights import DRAWS_PER_CLIP
from sticker_pipeline.storage import link_or_copy
from sticker_pipeline.training.spec import FILE_NAME, TrainingSpec, save_spec

SAMPLE_PROMPTS = 2


@dg.asset(
    deps=["training_set", "frames", key("training")],
    partitions_def=CHARACTERS,
    code_version="1",
    group_name="training",
    kinds={"pytorch", "diffusers"},
    owners=["team:training"],
    pool="gpu",
    description="A LoRA of U-Net and text encoder trained on the training set: one checkpoint per epoch, the log of "
    "every step, and sample pictures. Live curves: Metadata → Plots → Events.",
)
def lora(context: dg.AssetExecutionContext, workspace: Workspace, launcher: TrainerLauncher) -> dg.MaterializeResult:
    with making(context, workspace) as work:
        spec = _spec(work)
        path = work.store.work(work.character.name, "lora-spec") / FILE_NAME
        save_spec(spec, path)
        launcher.train(context, [str(path)], progress_observer(context))
        _collect(spec.output, work.staging)
        log = pd.read_parquet(work.staging / "log.parquet")
        checkpoints = sorted((work.staging / "checkpoints").glob("epoch_*.safetensors"))
        result = work.publish(
            {
                SUMMARY: f"{len(checkpoints)} epochs, {len(log)} steps, {_seconds(log, spec):.0f} s of steps, "
                f"last loss {log['loss'].tail(20).mean():.4f}",
                "learning_rate": picture(_rates(log), "learning rates"),
                "loss": picture(_loss(log), "loss"),
                "samples": picture(_samples(work.staging, len(checkpoints)), "samples per epoch"),
                "steps": len(log),
                "samples_per_s": float(log["samples_per_s"].median()),
                "peak_memory_mb": int(log["memory_bytes"].max() // 2**20),
                "settings": dg.MetadataValue.json(spec.settings.model_dump(mode="json")),
                "log": table(log.iloc[:: max(1, len(log) // 20)]),
                **described(log),
            },
            content=lambda name: name.startswith("checkpoints/"),
        )
        shutil.rmtree(spec.output)
        return result


def _spec(work: Making) -> TrainingSpec:
    rows = work.inputs["training_set"].table()
    clips = rows.loc[rows["split"] == "train", "frame_id"].map(_clips(work)).nunique()
    settings = work.profile.training
    if settings.draws_per_epoch is None:
        settings = settings.model_copy(update={"draws_per_epoch": DRAWS_PER_CLIP * clips})
    prompts = [prompt.text for prompt in benchmark_prompts(work.character, work.profile)]
    return TrainingSpec(
        name=work.character.name,
        trigger=work.character.trigger,
        base=work.profile.base,
        base_sha=work.sections["training"]["base"],
        training_set=work.inputs["training_set"].folder,
        frames=work.inputs["frames"].folder,
        output=work.store.work(work.character.name, "lora"),
        cache=work.store.cache("latents"),
        resolution=work.profile.resolution,
        background=work.profile.background,
        settings=settings,
        sample_prompts=prompts[:: max(1, len(prompts) // SAMPLE_PROMPTS)][:SAMPLE_PROMPTS],
        generation=work.profile.generation,
    )


def _clips(work: Making) -> dict[str, str]:
    frames = work.inputs["frames"].table()
    return dict(zip(frames["frame_id"], frames["clip_id"], strict=True))


def _collect(output: Path, staging: Path) -> None:
    """Place what the trainer wrote; checkpoints of interrupted runs stay behind."""
    for path in sorted(output.rglob("*")):
        relative = path.relative_to(output)
        if path.is_file() and not path.name.startswith("interrupted"):
            link_or_copy(path, staging / relative)


def _seconds(log: pd.DataFrame, spec: TrainingSpec) -> float:
    return float((spec.settings.batch_size / log["samples_per_s"]).sum())


def _rates(log: pd.DataFrame) -> Image.Image:
    steps = log["step"].to_numpy()
    curves = {"U-Net": (steps, log["lr_unet"].to_numpy()), "text encoder": (steps, log["lr_text_encoder"].to_numpy())}
    return line_chart(curves, title="learning rate", x="step", y="learning rate")


def _loss(log: pd.DataFrame) -> Image.Image:
    steps, loss = log["step"].to_numpy(), log["loss"]
    window = max(1, len(log) // 20)
    smooth = loss.rolling(window, min_periods=1).mean().to_numpy()
    return line_chart(
        {"each step": (steps, loss.to_numpy()), f"mean of {window}": (steps, np.asarray(smooth))},
        title="loss",
        x="step",
        y="mean squared error",
    )


def _samples(folder: Path, epochs: int) -> Image.Image:
    """Sample pictures of every epoch: a row per prompt, a column per epoch."""
    names = [f"epoch {epoch}" for epoch in range(1, epochs + 1)]
    rows = [
        [Image.open(folder / "samples" / f"epoch_{epoch:02d}_{number}.png") for epoch in range(1, epochs + 1)]
        for number in range(len(list((folder / "samples").glob("epoch_01_*.png"))))
    ]
    return labelled_grid([f"prompt {number + 1}" for number in range(len(rows))], names, rows, cell=84)
