"""Images to distil on, as latents.

A base model generates its own, with guidance: only the model is needed, and its own output is distilled. The work
folder keeps batches to resume. Characters use their training images.
"""

from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load, save

from sticker_pipeline.core.caching import read_cached, write_cached
from sticker_pipeline.core.storage import content_hash, file_sha256
from sticker_pipeline.diffusion.denoise import Prompts, latents_of
from sticker_pipeline.diffusion.text import Encoded
from sticker_pipeline.training.cache.latents import View, encode, prepare
from sticker_pipeline.training.distill.spec import ConsistencySpec, Tuning
from sticker_pipeline.training.models import Models
from sticker_pipeline.training.samples import pipeline_of

FOLDER = "latents"
VERSION = 2  # raise it when equal specs give other latents


def generated_latents(
    models: Models, spec: ConsistencySpec, texts: Encoded, count: Callable[[int, int], None]
) -> torch.Tensor:
    """Generate each prompt's latents: float32[n, c, h, w] on the CPU.

    Scaled as the U-Net's input. Prompt k starts from the noise of seed settings.seed + k. `texts`: encodings of the
    prompts and, last, of the negative prompt. `count(done, total)` is called before each batch and after the last; if
    it raises, whole batches are kept.
    """
    decisive = spec.model_dump(mode="json", include={"base_sha", "resolution", "prompts", "generation"})
    key = content_hash([VERSION, decisive, spec.settings.seed])
    folder, size, total = spec.output / FOLDER / key[:16], spec.generation.batch_size, len(spec.prompts)
    pipeline = pipeline_of(models, spec.generation.scheduler)
    parts = []
    for start in range(0, total, size):
        count(start, total)
        path = folder / f"{start:06d}.safetensors"
        kept = read_cached(path)
        if kept is None:
            batch = _generated(pipeline, models, spec, texts, range(start, min(start + size, total)))
            kept = save({"latents": batch})
            write_cached(path, kept)
        parts.append(load(kept)["latents"])
    count(total, total)
    return torch.cat(parts)


@torch.no_grad()
def encoded_images(
    models: Models, spec: ConsistencySpec, tuning: Tuning, count: Callable[[int, int], None]
) -> torch.Tensor:
    """Encode a character's images: whole, on a square, like `generated_latents`.

    `count(done, total)` is called before each and after the last. Raises SpecError for an unreadable image, OSError for
    a missing one.
    """
    known: dict[str, torch.Tensor] = {}
    names = sorted(set(tuning.files))
    for number, name in enumerate(names):
        count(number, len(names))
        path, side = tuning.frames / name, spec.resolution
        view = View(path, file_sha256(path), side, side, "square", tuning.background, 0.5, False)
        known[name] = encode(models.vae, prepare(view).pixels)[0]
    count(len(names), len(names))
    config = models.vae.config
    means = torch.stack([known[name] for name in tuning.files])
    return (means - (config.get("shift_factor") or 0.0)) * config.scaling_factor


@torch.no_grad()
def _generated(pipeline: Any, models: Models, spec: ConsistencySpec, texts: Encoded, rows: range) -> torch.Tensor:
    generation = spec.generation
    prompts = Prompts(texts.rows(slice(rows.start, rows.stop)), texts.rows([-1] * len(rows)))
    seeds = [spec.settings.seed + row for row in rows]
    latents = latents_of(pipeline, prompts, seeds, generation, spec.resolution, models.dtype)
    return latents.float().cpu().contiguous()
