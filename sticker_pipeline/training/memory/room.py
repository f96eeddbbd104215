"""Whether a training fits: on the disk, and on a CPU in memory. Asked before anything long begins.

How much each kind of work takes is in space.py, what the models take of memory in training/memory/dry_run.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sticker_pipeline.core.files import space
from sticker_pipeline.training.cache.latents import MEMORY, View, entry_path
from sticker_pipeline.training.cache.text import Reading, Variants
from sticker_pipeline.training.cache.text import entry_path as text_path
from sticker_pipeline.training.memory.dry_run import RESERVE, Workload, counting, state_bytes, what_to_lower
from sticker_pipeline.training.models import Models
from sticker_pipeline.training.spec import TrainingSpec

MOST_CHANNELS, LEAST_FACTOR = 16, 8  # of the latents of any VAE that is known


def check_disk(spec: TrainingSpec, layers: Mapping[str, Any], uncached: int, processes: int, say: space.Say) -> None:
    """Raise SpaceError where the training would fill a disk: that of its output, or of its cache.

    `layers` are the adapters; `uncached` the bytes of what is to be cached yet. What the output holds already, of this
    training or of one that it replaces, is not needed again.
    """
    there = sum(path.stat().st_size for path in spec.output.rglob("*") if path.is_file())
    needs = {spec.output: output_bytes(spec, layers, processes) - there, spec.cache: uncached}
    for path, need in space.by_disk(needs).items():
        space.enough(path, need, f"the training of {spec.name}", say)


def output_bytes(spec: TrainingSpec, layers: Mapping[str, Any], processes: int) -> int:
    """What the training will write into its output: checkpoints, states, logs, and samples, TensorBoard's too."""
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
    """Bytes of the latents of those `views` (of each split, of each row) that the cache does not have."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    cache = spec.cache / "latents"
    every = [view for split in views for row in split for view in row]
    missing = [view for view in every if not entry_path(cache, vae_sha, vae.dtype, view).is_file()]
    return sum(space.latent_bytes(1, vae.config.latent_channels, view.width, view.height, factor) for view in missing)


def texts_to_cache(
    captions: Sequence[str], variants: Variants, spec: TrainingSpec, reading: Reading, models: Models
) -> int:
    """Bytes of the encodings of those `captions` that the cache does not have."""
    width = sum(encoder.config.hidden_size for encoder in models.text_encoders)
    chunks = spec.settings.max_tokens // 75
    drawn = [list(dict.fromkeys(variants(caption))) for caption in dict.fromkeys(captions)]
    missing = [texts for texts in [[""], *drawn] if not text_path(spec.cache / "text", reading, texts).is_file()]
    return sum(space.text_bytes(1, len(texts), chunks, width, reading.dtype.itemsize) for texts in missing)


def check_memory(spec: TrainingSpec, images: int, work: Workload, kept: Path, say: space.Say) -> None:
    """Raise SpaceError where a training of so many `images` on the CPU would need more memory than can be had.

    Where a rough bound fits, nothing is counted; what is counted is kept in the file `kept`, as for a GPU.
    """
    files = [spec.base] if spec.base.is_file() else list(spec.base.glob("*/*.safetensors"))
    weights = 2 * sum(path.stat().st_size for path in files)  # they may be in half precision
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
    """What a training takes of a CPU's memory at its worst moment, without its latents. No model leaves it, and frozen
    weights are held up to three times: as they were read, and laid out for each direction.

    SD1.5 with rank 16, batch 2 and 128 px: 14.4 GB, of which the process had 12.56 resident at its peak.
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
