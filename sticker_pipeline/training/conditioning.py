"""Conditions of the U-Net: encoded text and, for SDXL, sizes and crops."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.diffusion.text import Encoded, TextModels, encode, tokenize
from sticker_pipeline.training.cache.latents import LatentEntry
from sticker_pipeline.training.cache.text import Encodings
from sticker_pipeline.training.captions import caption_variants, vary
from sticker_pipeline.training.models import Models

TextSource = Callable[[Sequence[str], np.random.Generator | None], Callable[[], Encoded]]
"""Captions -> a function that encodes them.

Varied and dropped by the generator; with None as they are written. The function is called when the encodings are
needed: text encoders may have learned more by then.
"""


def live_text(models: TextModels, settings: TrainingSettings) -> TextSource:
    """Captions encoded by text encoders in training."""

    def sample(captions: Sequence[str], rng: np.random.Generator | None) -> Callable[[], Encoded]:
        texts = list(captions)
        if rng is not None:
            dropped = rng.random(len(texts)) < settings.caption_dropout
            texts = ["" if out else vary(text, settings, rng) for text, out in zip(texts, dropped, strict=True)]
        tokens = tokenize(models.tokenizers, texts, settings.max_tokens)
        return lambda: encode(models, tokens, settings.clip_skip)

    return sample


def cached_text(encodings: Encodings, settings: TrainingSettings) -> TextSource:
    """Captions encoded in advance; see `variants_to_encode`."""

    def sample(captions: Sequence[str], rng: np.random.Generator | None) -> Callable[[], Encoded]:
        texts, numbers = list(captions), np.zeros(len(captions), dtype=np.int64)
        if rng is not None:
            dropped = rng.random(len(texts)) < settings.caption_dropout
            texts = ["" if out else text for text, out in zip(texts, dropped, strict=True)]
            varied = np.array([encodings.variants(text) - 1 for text in texts])
            numbers = np.where(varied > 0, 1 + rng.integers(np.maximum(varied, 1)), 0)
        encoded = encodings.batch(texts, numbers.tolist())
        return lambda: encoded

    return sample


def variants_to_encode(settings: TrainingSettings) -> Callable[[str], list[str]]:
    """Function from a caption to texts to encode: itself, then its variants."""

    def variants(caption: str) -> list[str]:
        variants = caption_variants(caption, settings, seed=settings.seed, count=settings.caption_variants)
        return [caption] if variants == [caption] else [caption, *variants]

    return variants


def conditions(
    models: Models, encoded: Encoded, entries: Sequence[LatentEntry], device: torch.device
) -> dict[str, torch.Tensor]:
    """Conditions of b images, on `device` and in the U-Net's dtype.

    `encoder_hidden_states` and, for SDXL, `text_embeds` and `time_ids`.
    """
    dtype = models.dtype
    hidden = encoded.hidden.to(device, dtype)
    if not models.family.pooled:
        return {"encoder_hidden_states": hidden}
    assert encoded.pooled is not None
    factor = 2 ** (len(models.vae.config.block_out_channels) - 1)
    sizes = torch.tensor([time_ids(entry, factor) for entry in entries], dtype=dtype, device=device)
    return {"encoder_hidden_states": hidden, "text_embeds": encoded.pooled.to(device, dtype), "time_ids": sizes}


def time_ids(entry: LatentEntry, factor: int) -> list[int]:
    """SDXL's conditions of an image, in pixels (Podell et al. 2023, 2.2).

    Height and width before scaling, top and left of the cut, height and width after it. `factor`: pixels per latent
    pixel.
    """
    height, width = entry.mean.shape[-2:]
    return [*entry.size, *entry.crop, height * factor, width * factor]
