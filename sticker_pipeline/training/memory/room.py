"""Checks that a training fits on disk and in a CPU's memory."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sticker_pipeline.core.files import space
from sticker_pipeline.training.cache.latents import MEMORY, View, entry_path
from sticker_pipeline.training.cache.text import Reading, Variants
from sticker_pipeline.training.cache.text import entry_path as text_path
from sticker_pipeline.training.memory.dry_run import RESERVE, Workload, state_bytes
from sticker_pipeline.training.memory.plan import counting, what_to_lower
from sticker_pipeline.training.models import Models
from sticker_pipeline.training.spec import TrainingSpec

MOST_CHANNELS, LEAST_FACTOR = 16, 8  # of the latents of any known VAE


def check_disk(spec: TrainingSpec, layers: Mapping[str, Any], uncached: int, processes: int, say: space.Say) -> None:
    """Raise SpaceError where the training would fill its output's or cache's disk.

    `layers`: the adapters; `uncached`: bytes still to be cached. Files in the output, of this or a replaced training,
    need no more room.
    """
    there = sum(path.stat().st_size for path in spec.output.rglob("*") if path.is_file())
    needs = {spec.output: output_bytes(spec, layers, processes) - there, spec.cache: uncached}
    for path, need in space.by_disk(needs).items():
        space.enough(path, need, f"the training of {spec.name}", say)


def output_bytes(spec: TrainingSpec, layers: Mapping[str, Any], processes: int) -> int:
    """Bytes of checkpoints, states, logs and samples (TensorBoard's too)."""
    settings = spec.settings
    trained = [parameter for layer in layers.values() for parameter in layer.parameters() if parameter.requires_grad]
    epochs = settings.epochs
    kept = space.training_bytes(
        parameters=sum(parameter.numel() for parameter in trained),
        modules=len(layers),
        epochs=epochs,
        steps=epochs * (1 + spec.samples_per_epoch // (settings.batch_size * processes)),
        save_bytes={"float16": 2, "float32": 4}[spec.save_precision],
        optimizer_bytes=sum(state_bytes(settings.optimizer, parameter) for parameter in trained),
        averaged=settings.ema_decay is not None,
    )
    return kept + space.image_bytes(epochs * len(spec.sample_prompts), spec.resolution, spec.resolution, copies=2)


def latents_to_cache(views: Iterable[Sequence[Sequence[View]]], spec: TrainingSpec, vae_sha: str, vae: Any) -> int:
    """Bytes of the latents of `views` (by split, row) not cached."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    cache = spec.cache / "latents"
    every = [view for split in views for row in split for view in row]
    missing = [view for view in every if not entry_path(cache, vae_sha, vae.dtype, view).is_file()]
    return sum(space.latent_bytes(1, vae.config.latent_channels, view.width, view.height, factor) for view in missing)


def texts_to_cache(
    captions: Sequence[str], variants: Variants, spec: TrainingSpec, reading: Reading, models: Models
) -> int:
    """Bytes of the encodings of `captions` not cached."""
    width = sum(encoder.config.hidden_size for encoder in models.text_encoders)
    chunks = spec.settings.max_tokens // 75
    sampled = [list(dict.fromkeys(variants(caption))) for caption in dict.fromkeys(captions)]
    missing = [texts for texts in [[""], *sampled] if not text_path(spec.cache / "text", reading, texts).is_file()]
    return sum(space.text_bytes(1, len(texts), chunks, width, reading.dtype.itemsize) for texts in missing)


def check_memory(spec: TrainingSpec, images: int, work: Workload, kept: Path, say: space.Say) -> None:
    """Raise SpaceError where training on the CPU needs too much memory.

    `images`: their number. Where a rough bound fits, nothing is counted; `kept` caches counts.
    """
    files = [spec.base] if spec.base.is_file() else list(spec.base.glob("*/*.safetensors"))
    weights = 2 * sum(path.stat().st_size for path in files)  # may be in half precision
    if (
        space.rough_training_memory(weights, spec.settings.batch_size, work.width, work.height)
        < space.available_memory()
    ):
        return
    remedy = f"Lower {what_to_lower(work, 'train')}; or set memory_budget, which saves memory"
    views = images * spec.settings.crops * (2 if spec.settings.flip else 1)
    latents = min(MEMORY, space.latent_bytes(views, MOST_CHANNELS, work.width, work.height, LEAST_FACTOR))
    space.enough_memory(latents + cpu_bytes(work, kept), f"the training of {spec.name}", remedy, say)


def cpu_bytes(work: Workload, kept: Path | None = None) -> int:
    """Peak CPU memory of a training, without latents.

    All models stay, and frozen weights up to three times: as read, and laid out for each direction. SD1.5 with rank 16,
    batch 2 and 128 px: 14.4 GB; measured resident peak 12.56.
    """
    count = counting(work, kept)
    idle = count("idle")
    phases = {
        "encode": count("encode"),
        "train": count("train", False),
        "sample": count("sample", work.sample_batch),
        "decode": count("decode", 1),
    }
    worst = max(size - RESERVE + idle[phase] for phase, size in phases.items())
    return worst + 2 * idle["encode"] + space.CPU_PROCESS
