"""Setup of a training, in the order of least memory.

Checks, then models, adapters, latents, encodings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import accelerate
import diffusers
import pandas as pd
import torch

from sticker_pipeline.core.files.space import Say, writing
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.core.storage import content_hash, discard
from sticker_pipeline.core.texts import counted
from sticker_pipeline.diffusion.base_model import part_files
from sticker_pipeline.diffusion.text import TextModels
from sticker_pipeline.training import ema
from sticker_pipeline.training.accel.cuda_graph import Recordings, recorded
from sticker_pipeline.training.accel.layers import accelerate_layers
from sticker_pipeline.training.adapters import add_adapters, by_model
from sticker_pipeline.training.backward import unet_backward, weights_of
from sticker_pipeline.training.cache.latents import Latents, View, vae_hash, views_of
from sticker_pipeline.training.cache.text import Reading, encode_captions, text_hash
from sticker_pipeline.training.conditioning import TextSource, cached_text, live_text, variants_to_encode
from sticker_pipeline.training.data import plan, read_holdout, read_training_set, read_validation
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.logs.tensorboard import FOLDER as BOARD
from sticker_pipeline.training.memory.dry_run import Workload, base_parts, parts_hash
from sticker_pipeline.training.memory.plan import MemoryPlan, decide, no_limit, stay_within, write_plan
from sticker_pipeline.training.memory.room import check_disk, check_memory, latents_to_cache, texts_to_cache
from sticker_pipeline.training.models import Models, checkpoint_gradients, load_models, move
from sticker_pipeline.training.objective import check_objective
from sticker_pipeline.training.optimizers import check_optimizer, make_optimizer
from sticker_pipeline.training.samples import PromptSource, encode_samples
from sticker_pipeline.training.saved_state import FOLDER as STATE
from sticker_pipeline.training.saved_state import take_threads
from sticker_pipeline.training.schedule import make_schedule
from sticker_pipeline.training.spec import FILE_NAME, SpecError, TrainingSpec, save_spec
from sticker_pipeline.training.state import find_state, fingerprint, restore_state
from sticker_pipeline.training.step import Run
from sticker_pipeline.training.stopping import NOTHING_LEARNED, Interrupted, StopRequest
from sticker_pipeline.training.validation_loss import Probe, chosen_rows

MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}  # accelerate's names
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # of the frozen base model
TRAIN, HOLDOUT, VALIDATION = "train", "holdout", "validation"


@dataclass(frozen=True)
class Prepared:
    """A training ready for its next step, with probes and sample prompts."""

    run: Run
    probes: list[Probe]
    prompts: PromptSource
    memory: MemoryPlan


def set_up(spec: TrainingSpec, progress: Progress, stop: StopRequest) -> Prepared:
    """Set up a new training, or resume from the state in spec.output.

    Raises SpecError or BaseModelError, and SpaceError where it would not fit, before any long work; Interrupted when
    `stop` asks to end.
    """
    settings = spec.settings
    table = read_training_set(spec, progress.note)
    unseen = {HOLDOUT: read_holdout(spec), VALIDATION: read_validation(spec)}
    check_optimizer(settings)
    accelerator = make_accelerator(spec)
    progress.note(f"{spec.name}: {counted(len(table), 'image')}, base model {spec.base}, on {accelerator.device}")
    memory = plan_memory(spec, table, accelerator, progress.note)
    progress.note(memory.line())
    models = load_models(
        spec.base,
        spec.family,
        DTYPES[accelerator.mixed_precision],
        prediction=settings.prediction,
        zero_terminal_snr=settings.zero_terminal_snr,
    )
    check_objective(settings, models.prediction_type)
    layers = add_adapters(models.unet, models.text_encoders, spec.family, settings)
    views = views_of(table, spec)
    plain = spec.model_copy(update={"settings": settings.model_copy(update={"flip": False, "crops": 1})})
    their_views = {split: views_of(rows, plain) for split, rows in unseen.items() if len(rows)}
    captions = [caption for rows in (table, *unseen.values()) for caption in rows["caption"]]
    vae_sha = vae_hash(spec.base)
    how = None if settings.learning_rate_text_encoder > 0 else reading(spec, models)
    if accelerator.is_main_process:
        uncached = latents_to_cache([views, *their_views.values()], spec, vae_sha, models.vae)
        uncached += texts_to_cache(captions, variants_to_encode(settings), spec, how, models) if how else 0
        check_disk(spec, layers, uncached, accelerator.num_processes, progress.note)
    mark = fingerprint(spec, [table, *unseen.values()], [row[0].sha256 for row in views], accelerator.num_processes)
    found = find_state(spec, mark)
    if found:
        take_threads(found)
    if accelerator.is_main_process:
        begin_output(spec, memory, afresh=found is None)

    device = Device(accelerator, torch.device("cpu") if memory.phasing else accelerator.device)
    read = partial(load_latents, vae_sha=vae_sha, spec=spec, models=models, device=device)
    latents = read(views, count=counting(progress, stop, "latents"))
    probes = [probe(TRAIN, table, latents)]
    for split, their in their_views.items():
        probes.append(probe(split, unseen[split], read(their, count=counting(progress, stop, f"{split} latents"))))
    placed = to_device(models, spec, captions, how, device, counting(progress, stop, "captions"))
    make_cheaper(models.unet, *placed.encoders, on=accelerator.device, settings=settings, memory=memory)

    run = make_run(spec, mark, table, accelerator, models, placed, layers, latents)
    progress.note(
        f"{counted(len(layers), 'adapter')}; {counted(run.plan.total_steps, 'step')} in "
        f"{counted(settings.epochs, 'epoch')}"
    )
    if found:
        restore_state(run, found)
        progress.note(f"goes on after step {len(run.history.log)} of {run.plan.total_steps}, from {found}")
    return Prepared(run, probes, placed.prompts, memory)


def make_run(
    spec: TrainingSpec,
    mark: str,
    table: pd.DataFrame,
    accelerator: accelerate.Accelerator,
    models: Models,
    placed: "Placed",
    layers: dict[str, Any],
    latents: Latents,
) -> Run:
    """Build the Run before its first step."""
    settings = spec.settings
    peaks = {"unet": settings.learning_rate_unet, "text_encoder": settings.learning_rate_text_encoder}
    weights = {name: weights_of(group, models.dtype) for name, group in by_model(layers).items()}
    groups = [{"name": name, "params": one.learned, "peak": peaks[name]} for name, one in weights.items()]
    trained = [parameter for one in weights.values() for parameter in one.learned]
    scale = accelerator.scaler.scale if accelerator.scaler else lambda loss: loss
    backward = unet_backward(models.unet, weights["unet"], scale)
    recordings: Recordings = {}
    planned = plan(table, spec, accelerator.process_index, accelerator.num_processes)
    return Run(
        spec=spec,
        fingerprint=mark,
        table=table,
        plan=planned,
        accelerator=accelerator,
        models=models,
        layers=layers,
        weights=weights,
        backward=recorded(backward, recordings) if uses_cuda_graphs(settings, accelerator.device) else backward,
        recordings=recordings,
        optimizer=accelerator.prepare(make_optimizer(settings, groups)),
        schedule=make_schedule(settings, planned.total_steps),
        latents=latents,
        text=placed.text,
        average=ema.moving_average(trained, settings.ema_decay) if settings.ema_decay else None,
    )


def make_accelerator(spec: TrainingSpec) -> accelerate.Accelerator:
    """Accelerator on the GPU where there is one, else on the CPU.

    Precision "auto" is bfloat16 on a GPU, float16 where it lacks that, float32 on a CPU. Raises SpecError for float16
    on a CPU, which has no gradient scaler.
    """
    on_gpu = torch.cuda.is_available()
    precision: str = spec.settings.precision
    if precision == "auto":
        half = "bfloat16" if on_gpu and torch.cuda.is_bf16_supported() else "float16"
        precision = half if on_gpu else "float32"
    if precision == "float16" and not on_gpu:
        raise SpecError("settings.precision: float16 needs a GPU. Set `precision: auto` in the training settings.")
    return accelerate.Accelerator(cpu=not on_gpu, mixed_precision=MIXED[precision])


def plan_memory(spec: TrainingSpec, table: pd.DataFrame, accelerator: accelerate.Accelerator, say: Say) -> MemoryPlan:
    """Memory plan within the budget of the settings.

    Without one: within a GPU's free memory; on a CPU, unlimited. Raises SpecError where no plan fits, SpaceError for a
    CPU without a budget that has too little.
    """
    budget: int | None = spec.settings.memory_budget
    on_gpu = accelerator.device.type == "cuda"
    if budget is not None and on_gpu:
        stay_within(budget)
    elif on_gpu:
        budget = torch.cuda.mem_get_info()[0]
    sizes = table[["bucket_width", "bucket_height"]].to_numpy()
    width, height = sizes[sizes.prod(axis=1).argmax()].tolist()
    work = Workload(
        parts=base_parts(spec.base, spec.family),
        family=spec.family,
        settings=spec.settings,
        adapt=lambda unet, encoders: add_adapters(unet, encoders, spec.family, spec.settings),
        width=max(width, spec.resolution),  # sample images are squares of it
        height=max(height, spec.resolution),
        dtype=DTYPES[accelerator.mixed_precision],
        sample_batch=min(len(spec.sample_prompts), spec.generation.batch_size) or 1,
        guided=spec.generation.guidance_scale > 1,
    )
    decisive = [work.width, work.height, str(work.dtype), work.sample_batch, work.guided]
    settings = spec.settings.model_dump(mode="json", exclude={"memory_budget"})
    key = content_hash([torch.__version__, diffusers.__version__, parts_hash(spec.base), settings, decisive])
    counted = spec.cache / "memory" / f"{key}.json"
    if budget is None:
        check_memory(spec, len(table), work, counted, say)
        return no_limit(spec.generation.batch_size)
    return decide(int(budget), work, counted)


def begin_output(spec: TrainingSpec, memory: MemoryPlan, *, afresh: bool) -> None:
    """Write spec and memory plan; `afresh`: first remove an earlier training."""
    with writing(spec.output):
        if afresh:
            for name in ("checkpoints", "samples", BOARD, STATE):
                discard(spec.output / name)
            for path in spec.output.glob("*.parquet"):
                path.unlink()
        save_spec(spec, spec.output / FILE_NAME)
        write_plan(memory, spec.output / "memory.json")


def counting(progress: Progress, stop: StopRequest, what: str) -> Callable[[int, int], None]:
    """Callback (done, total) that reports now and then, and stops when asked."""

    def count(done: int, total: int) -> None:
        if (number := stop()) is not None:
            raise Interrupted(number, NOTHING_LEARNED)
        if done:
            progress.count(what, done, total)

    return count


@dataclass(frozen=True)
class Device:
    """Device of a training, and of its idle models."""

    accelerator: accelerate.Accelerator
    away: torch.device


def load_latents(
    views: list[list[View]],
    *,
    vae_sha: str,
    spec: TrainingSpec,
    models: Models,
    device: Device,
    count: Callable[[int, int], None],
) -> Latents:
    """Latents of all `views`, encoding missing ones; then the VAE moves away."""
    latents = Latents(views, vae_sha, spec.cache / "latents", dtype=models.vae.dtype)
    missing = latents.missing()
    count(0, len(missing))
    if missing:
        move([models.vae], device.accelerator.device)
        latents.encode(
            missing,
            models.vae,
            rank=device.accelerator.process_index,
            ranks=device.accelerator.num_processes,
            encoded=lambda done: count(done, len(missing)),
        )
    move([models.vae], device.away)
    device.accelerator.wait_for_everyone()
    return latents


def probe(split: str, table: pd.DataFrame, latents: Latents) -> Probe:
    rows = chosen_rows(table)
    return Probe(split, table["caption"].to_numpy()[rows].tolist(), [latents.entry(row, 0) for row in rows.tolist()])


@dataclass(frozen=True)
class Placed:
    """Sources of captions and prompts, with models on their devices.

    `encoders`: the trained text encoders, none or all.
    """

    encoders: tuple[Any, ...]
    text: TextSource
    prompts: PromptSource


def to_device(
    models: Models,
    spec: TrainingSpec,
    captions: list[str],
    how: Reading | None,
    device: Device,
    count: Callable[[int, int], None],
) -> Placed:
    """Place the models; untrained text encoders encode, then move away.

    `how`: the settings of that encoding; None: text encoders are trained.
    """
    settings, accelerator = spec.settings, device.accelerator
    move(models.text_encoders, accelerator.device)
    texts = TextModels(models.family, models.text_encoders, models.tokenizers)
    if how is None:
        move([models.unet], accelerator.device)
        return Placed(models.text_encoders, live_text(texts, settings), lambda: encode_samples(texts, spec))
    kept = encode_samples(texts, spec).on("cpu")
    distinct = len(set(captions))
    with accelerator.main_process_first():
        encodings = encode_captions(
            captions,
            variants_to_encode(settings),
            lambda: texts,
            how,
            spec.cache / "text",
            encoded=lambda done: count(done, distinct),
        )
    move(models.text_encoders, device.away)
    move([models.unet], accelerator.device)
    return Placed((), cached_text(encodings, settings), lambda: kept)


def uses_cuda_graphs(settings: TrainingSettings, device: torch.device) -> bool:
    """True if batches run as CUDA graphs."""
    return device.type == "cuda" and settings.accelerate == "auto"


def make_cheaper(*trained: Any, on: torch.device, settings: TrainingSettings, memory: MemoryPlan) -> None:
    """Make a step of the `trained` models faster or smaller, with equal results."""
    for model in trained:
        if settings.accelerate == "auto":
            accelerate_layers(model, on)
        if memory.gradient_checkpointing:
            checkpoint_gradients(model)


def reading(spec: TrainingSpec, models: Models) -> Reading:
    """All that decides an encoding, except the words."""
    parts = [name for part in models.family.text_encoders for name in (part.folder, part.tokenizer)]
    return Reading(
        family=spec.family,
        text_sha=text_hash(part_files(spec.base, *parts)),
        clip_skip=spec.settings.clip_skip,
        max_tokens=spec.settings.max_tokens,
        dtype=models.text_encoders[0].dtype,
    )
