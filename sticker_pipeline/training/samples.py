"""Sample images after each epoch; `generation/` makes the benchmark's."""

from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import torch
from PIL import Image

from sticker_pipeline.diffusion.denoise import Prompts, decoded, encode_prompts, latents_of
from sticker_pipeline.diffusion.samplers import make_scheduler
from sticker_pipeline.diffusion.text import TextModels
from sticker_pipeline.training.memory.dry_run import tile_vae
from sticker_pipeline.training.memory.plan import MemoryPlan
from sticker_pipeline.training.models import Models, move
from sticker_pipeline.training.spec import TrainingSpec

PromptSource = Callable[[], Prompts]
"""Returns the encodings of spec.sample_prompts when they are needed: text encoders may have learned more by then."""


def encode_samples(models: TextModels, spec: TrainingSpec) -> Prompts:
    """Encodings of spec.sample_prompts, or of one empty prompt."""
    prompts = spec.sample_prompts or [""]
    return encode_prompts(models, prompts, spec.generation.negative_prompt, spec.settings.clip_skip)


@torch.no_grad()
def sample_images(
    models: Models,
    spec: TrainingSpec,
    prompts: PromptSource,
    memory: MemoryPlan,
    stop: Callable[[], int | None] = lambda: None,
) -> Iterator[Image.Image]:
    """Generate one image of each of spec.sample_prompts with the current adapters.

    None when `stop` asks to end. Prompt k always starts from the noise of sample_seed + k: epochs differ only in what
    was learned. `memory` bounds the number at once; the VAE is on the U-Net's device only while decoding.
    """
    if not spec.sample_prompts:
        return
    pipeline, encoded = pipeline_of(models, spec.generation.scheduler), prompts()
    device, home, count = models.unet.device, models.vae.device, len(spec.sample_prompts)
    latents: list[torch.Tensor] = []
    for start in range(0, count, memory.sample_batch):
        if stop() is not None:
            return
        rows = range(start, min(start + memory.sample_batch, count))
        seeds = [spec.sample_seed + row for row in rows]
        some = encoded.rows(slice(rows.start, rows.stop))
        latents += latents_of(pipeline, some, seeds, spec.generation, spec.resolution, models.dtype)
    if memory.tiles > 1:
        tile_vae(models.vae, spec.resolution, spec.resolution, memory.tiles)
    move([models.vae], device)
    try:
        for one in latents:
            for pixels in decoded(models.vae, one[None]):
                yield from pipeline.image_processor.postprocess(pixels, output_type="pil")
    finally:
        move([models.vae], home)


def pipeline_of(models: Models, scheduler: str) -> Any:
    """Pipeline of the models in training for encoded prompts, sharing weights."""
    texts = {name: None for part in models.family.text_encoders for name in (part.folder, part.tokenizer)}
    extra: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline: Any = getattr(diffusers, models.family.pipeline)(
        unet=models.unet,
        vae=models.vae,
        scheduler=make_scheduler(scheduler, models.noise.config),
        **texts,
        **({"add_watermarker": False} if models.family.pooled else extra),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
