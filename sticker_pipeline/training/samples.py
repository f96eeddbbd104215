"""The pictures that a person looks at after each epoch, to see a LoRA grow.

A quick look with few prompts; the pictures that the benchmark measures are made by generation/.
"""

from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import torch
from PIL import Image

from sticker_pipeline.training.models import Models, move
from sticker_pipeline.training.sampler import make_scheduler
from sticker_pipeline.training.spec import TrainingSpec
from sticker_pipeline.training.text import Encoded, TextModels, encode, tokenize

Prompts = Callable[[], Encoded]
"""The encodings of spec.sample_prompts, and of the negative prompt last: one row each."""


@torch.no_grad()
def encode_prompts(models: TextModels, spec: TrainingSpec) -> Encoded:
    """See Prompts; on the device and in the dtype of the text encoders."""
    texts = [*spec.sample_prompts, spec.generation.negative_prompt]
    return encode(models, tokenize(models.tokenizers, texts, spec.settings.max_tokens), spec.settings.clip_skip)


@torch.no_grad()
def sample_pictures(
    models: Models, spec: TrainingSpec, prompts: Prompts, stop: Callable[[], int | None] = lambda: None
) -> Iterator[Image.Image]:
    """One picture of each of spec.sample_prompts, drawn with the adapters as they are; fewer when `stop` asks to end.

    Prompt k always starts from the noise of sample_seed + k, so that epochs differ in what was learned alone. Pictures
    are drawn one by one, and the VAE is on the U-Net's device only while it decodes: this must not need more memory
    than the training.
    """
    if not spec.sample_prompts:
        return
    pipeline, encoded = _pipeline(models, spec), prompts()
    device, home = models.unet.device, models.vae.device
    latents = []
    for number in range(len(spec.sample_prompts)):
        if stop() is not None:
            return
        latents.append(_latents(pipeline, encoded, number, spec, models))
    move([models.vae], device)
    try:
        for one in latents:
            # Decoded here, because the VAE stays in float32 where the rest is in half precision.
            decoded = models.vae.decode(one.to(models.vae.dtype) / models.vae.config.scaling_factor).sample
            yield from pipeline.image_processor.postprocess(decoded, output_type="pil")
    finally:
        move([models.vae], home)


def _latents(pipeline: Any, encoded: Encoded, number: int, spec: TrainingSpec, models: Models) -> torch.Tensor:
    device, dtype, settings = models.unet.device, models.dtype, spec.generation
    prompt, negative = ({"hidden": encoded.hidden[row][None].to(device, dtype)} for row in (number, -1))
    if encoded.pooled is not None:
        prompt["pooled"], negative["pooled"] = (encoded.pooled[row][None].to(device, dtype) for row in (number, -1))
    pooled = {
        "pooled_prompt_embeds": prompt.get("pooled"),
        "negative_pooled_prompt_embeds": negative.get("pooled"),
    }
    found: torch.Tensor = pipeline(
        prompt_embeds=prompt["hidden"],
        negative_prompt_embeds=negative["hidden"],
        **(pooled if models.family.pooled else {}),
        height=spec.resolution,
        width=spec.resolution,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        generator=torch.Generator().manual_seed(spec.sample_seed + number),
        output_type="latent",
    ).images
    return found


def _pipeline(models: Models, spec: TrainingSpec) -> Any:
    """The models in training as a pipeline: it shares their weights and holds nothing of its own."""
    texts = {name: None for part in models.family.text_encoders for name in (part.folder, part.tokenizer)}
    extra: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline: Any = getattr(diffusers, models.family.pipeline)(
        unet=models.unet,
        vae=models.vae,
        scheduler=make_scheduler(spec.generation.scheduler, models.noise.config),
        **texts,
        **({"add_watermarker": False} if models.family.pooled else extra),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
