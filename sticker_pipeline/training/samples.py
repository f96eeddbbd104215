"""The pictures that a person looks at after each epoch, to see a LoRA grow.

A quick look with few prompts; the pictures that the benchmark measures are made by generation/.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from sticker_pipeline.training.models import Models
from sticker_pipeline.training.sampler import make_scheduler
from sticker_pipeline.training.spec import TrainingSpec


@torch.no_grad()
def sample_pictures(
    models: Models, spec: TrainingSpec, stop: Callable[[], int | None] = lambda: None
) -> Iterator[Image.Image]:
    """One picture of each of spec.sample_prompts, drawn with the adapters as they are; fewer when `stop` asks to end.

    Prompt k always starts from the noise of sample_seed + k, so that epochs differ in what was learned alone.
    """
    pipeline = _pipeline(models, spec)
    settings = spec.generation
    for start in range(0, len(spec.sample_prompts), settings.batch_size):
        if stop() is not None:
            return
        prompts = spec.sample_prompts[start : start + settings.batch_size]
        latents = pipeline(
            prompts,
            negative_prompt=[settings.negative_prompt] * len(prompts),
            height=spec.resolution,
            width=spec.resolution,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            generator=[torch.Generator().manual_seed(spec.sample_seed + start + k) for k in range(len(prompts))],
            output_type="latent",
        ).images
        # Decoded here, because the VAE stays in float32 where the rest is in half precision.
        decoded = models.vae.decode(latents.to(models.vae.dtype) / models.vae.config.scaling_factor).sample
        yield from pipeline.image_processor.postprocess(decoded, output_type="pil")


def _pipeline(models: Models, spec: TrainingSpec) -> Any:
    """The models in training as a pipeline: it shares their weights and holds nothing of its own."""
    pipeline: Any = StableDiffusionPipeline(
        unet=models.unet,
        text_encoder=models.text_encoder,
        tokenizer=models.tokenizer,
        vae=models.vae,
        scheduler=make_scheduler(spec.generation.scheduler, models.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
