"""Distillation in one process without Dagster: set up, loop, save."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sticker_pipeline.core.files.space import writing
from sticker_pipeline.core.texts import counted
from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.lora.apply import apply_lora
from sticker_pipeline.diffusion.lora.file import LoraFile, read_lora, write_lora
from sticker_pipeline.diffusion.lora.formats import read_any_lora
from sticker_pipeline.diffusion.lora.trained_for import trained_for
from sticker_pipeline.diffusion.text import Encoded, TextModels, encode, tokenize
from sticker_pipeline.training.accel.layers import accelerate_layers
from sticker_pipeline.training.adapters import adapters_of, add_adapters, load_adapters
from sticker_pipeline.training.backward import weights_of
from sticker_pipeline.training.distill.images import encoded_images, generated_latents
from sticker_pipeline.training.distill.objective import GRID
from sticker_pipeline.training.distill.spec import ConsistencySpec
from sticker_pipeline.training.distill.state import find_state, fingerprint, keep_state, restore_state
from sticker_pipeline.training.distill.step import Distillation, distillation_step
from sticker_pipeline.training.logs.log import state, write_log
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.logs.tables import LOG
from sticker_pipeline.training.lora_metadata import IMPLEMENTATIONS, PREDICTION_NAMES
from sticker_pipeline.training.models import Models, checkpoint_gradients, load_models, move
from sticker_pipeline.training.optimizers import make_optimizer
from sticker_pipeline.training.saved_state import periodically, take_threads
from sticker_pipeline.training.schedule import make_schedule
from sticker_pipeline.training.spec import SpecError
from sticker_pipeline.training.stopping import Interrupted, StopRequest

LORA_NAME = "lora.safetensors"
TEXTS_AT_ONCE = 32


def distil(spec: ConsistencySpec, progress: Progress, stop: StopRequest = lambda: None) -> Path:
    """Distil the LoRA that `spec` describes; return its file.

    Writes to spec.output: latents/, state/, log.parquet, lora.safetensors. Resumes an unfinished distillation of the
    same spec there, with the result of an uninterrupted one: bit for bit on a CPU.

    Raises SpecError or BaseModelError before any long work; TrainingDiverged when loss or gradient is not finite;
    SpaceError when a file cannot be written; Interrupted, with a state saved, when `stop` asks to end.
    """
    found, total = find_state(spec), spec.settings.steps
    if found:
        take_threads(found)
    run = set_up(spec, progress, stop)
    if found:
        restore_state(run, found)
        progress.note(f"goes on after step {len(run.log)} of {total}, from {found}")
    keep_at_times = periodically(partial(keep_state, run), spec.state_seconds)
    while len(run.log) < total:
        if (number := stop()) is not None:
            raise Interrupted(
                number, f"{len(run.log)} of {counted(total, 'step')} kept in {keep_state(run)}; run again"
            )
        run.log.append(distillation_step(run))
        progress.show(state(run.log, total, 1), always=len(run.log) == total)
        keep_at_times()
    keep_state(run)
    return save(run)


def set_up(spec: ConsistencySpec, progress: Progress, stop: StopRequest) -> Distillation:
    """Prepare a distillation for its first step.

    Encodes texts, generates the base model's images or encodes the character's, then adds adapters.
    """
    device, dtype = place()
    guidance = spec.settings.guidance_scale
    progress.note(f"{spec.name}: base model {spec.base}, on {device}, guidance {guidance:g} is distilled in")
    tuning = spec.tuning
    lora = read_any_lora(tuning.lora, spec.family) if tuning else None
    stated = [(tuning.lora, lora.metadata)] if tuning and lora else []
    trained = trained_for(stated, spec.family)
    models = load_models(
        spec.base,
        spec.family,
        dtype,
        prediction=trained.prediction or "base",
        zero_terminal_snr=trained.zero_terminal_snr,
    )
    if lora:
        apply_lora(models.unet, models.text_encoders, lora, family=spec.family)
    move([*models.text_encoders, models.unet, models.vae], device)
    texts = encoded_texts(models, spec, trained.clip_skip)
    count = counting(progress, stop)
    latents = encoded_images(models, spec, tuning, count) if tuning else generated_latents(models, spec, texts, count)
    move([*models.text_encoders, models.vae], "cpu")
    settings = spec.adapters()
    layers = add_adapters(models.unet, (), spec.family, settings)
    if spec.accelerate == "auto":
        accelerate_layers(models.unet, device)
    if tuning:
        go_on_from(tuning.start, layers, spec)
    if spec.settings.gradient_checkpointing:
        checkpoint_gradients(models.unet)
    weights = weights_of(layers.values(), dtype)
    group = {"name": "unet", "params": weights.learned, "peak": settings.learning_rate_unet}
    progress.note(f"{counted(len(layers), 'adapter')}; {counted(spec.settings.steps, 'step')}")
    return Distillation(
        spec=spec,
        fingerprint=fingerprint(spec),
        models=models,
        layers=layers,
        weights=weights,
        optimizer=make_optimizer(settings, [group]),
        schedule=make_schedule(settings, spec.settings.steps),
        latents=latents,
        texts=texts,
        alphas=models.noise.alphas_cumprod.to(device),
    )


def go_on_from(start: Path, layers: dict[str, Any], spec: ConsistencySpec) -> None:
    """Load the LoRA file `start` into the adapters.

    Raises SpecError for another base model, targets, rank or alpha.
    """
    settings, file = spec.settings, read_lora(start, spec.family)
    saved, fresh = file.adapters, adapters_of(layers)
    if file.metadata.get("ss_new_sd_model_hash") != spec.base_sha:
        raise SpecError(f"tuning.start: {start} was made for another base model than {spec.base}: make it anew first.")
    if {key: (one.rank, one.alpha) for key, one in saved.items()} != {
        key: (one.rank, one.alpha) for key, one in fresh.items()
    }:
        raise SpecError(
            f"tuning.start: {start} was made with another rank, alpha or other targets than settings.rank "
            f"({settings.rank}), alpha ({settings.alpha:g}) and targets ({settings.targets}): make it anew first."
        )
    load_adapters(layers, saved)


def place() -> tuple[torch.device, torch.dtype]:
    """Device and dtype: bfloat16 on a GPU that has it, else float32."""
    if not torch.cuda.is_available():
        return torch.device("cpu"), torch.float32
    return torch.device("cuda"), torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32


@torch.no_grad()
def encoded_texts(models: Models, spec: ConsistencySpec, clip_skip: int) -> Encoded:
    """Encodings of the prompts and, last, the negative prompt, on the CPU.

    One chunk each, as in pipelines.
    """
    reader = TextModels(models.family, models.text_encoders, models.tokenizers)
    texts = [*spec.prompts, spec.generation.negative_prompt]
    parts = [
        encode(reader, tokenize(models.tokenizers, texts[start : start + TEXTS_AT_ONCE], 75), clip_skip)
        for start in range(0, len(texts), TEXTS_AT_ONCE)
    ]
    pooled = [part.pooled.cpu() for part in parts if part.pooled is not None]
    return Encoded(torch.cat([part.hidden.cpu() for part in parts]), torch.cat(pooled) if pooled else None)


def counting(progress: Progress, stop: StopRequest) -> Callable[[int, int], None]:
    """Callback that reports how many images are ready, and stops when asked.

    Only generated images are kept: encoding is fast.
    """

    def count(done: int, total: int) -> None:
        if (number := stop()) is not None:
            raise Interrupted(number, f"{done} of {counted(total, 'image')} ready; run again to go on")
        progress.count("images", done, total)

    return count


def save(run: Distillation) -> Path:
    """Write the LoRA and the log: whole files or none."""
    output = run.spec.output
    with writing(output):
        write_log(run.log, output / LOG.file)
        write_lora(output / LORA_NAME, LoraFile(adapters_of(run.layers), lora_metadata(run)), "float16")
    return output / LORA_NAME


def lora_metadata(run: Distillation) -> dict[str, str]:
    """Metadata of the LoRA file: kohya's keys, and a usage hint."""
    spec, settings, family = run.spec, run.spec.settings, FAMILIES[run.spec.family]
    arguments = {"targets": settings.targets, "guidance_scale": str(settings.guidance_scale), "grid": str(GRID)}
    values = {
        "ss_output_name": spec.name,
        "ss_base_model_version": family.base_version,
        "ss_sd_model_name": spec.base.name,
        "ss_new_sd_model_hash": spec.base_sha,
        "ss_v2": False,
        "ss_network_module": "networks.lora",
        "ss_network_dim": settings.rank,
        "ss_network_alpha": settings.alpha,
        "ss_network_args": json.dumps(arguments),
        "ss_learning_rate": settings.learning_rate,
        "ss_steps": len(run.log),
        "ss_seed": settings.seed,
        "ss_loss_type": "huber",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": family.architecture,
        "modelspec.implementation": IMPLEMENTATIONS[spec.family],
        "modelspec.title": spec.name,
        "modelspec.resolution": f"{spec.resolution}x{spec.resolution}",
        "modelspec.prediction_type": PREDICTION_NAMES[run.models.prediction_type],
        "modelspec.usage_hint": "LCM sampler, 1 to 8 steps, CFG 1.",
    }
    return {key: str(value) for key, value in values.items()}
