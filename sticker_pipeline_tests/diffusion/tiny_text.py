"""Small random text encoders of both families, with CLIP's true tokenizers."""

from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from sticker_pipeline.diffusion.architectures import clip_tokenizer
from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.text import TextModels


def text_encoder(kind: type, width: int, *, seed: int = 0, **values: Any) -> Any:
    """A text encoder of three layers with large weights.

    They are larger than transformers makes them, so that layers and tokens differ by more than rounding.
    """
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=24,
        **values,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = kind(config).eval().requires_grad_(False)
        for parameter in encoder.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3)
    return encoder


def sd15_text() -> TextModels:
    """One encoder of width 16."""
    return TextModels(FAMILIES["sd15"], (text_encoder(CLIPTextModel, 16),), (clip_tokenizer(),))


def sdxl_text() -> TextModels:
    """Encoders of widths 16 and 32; pooled outputs have width 24."""
    # eos_token_id 2 is what the published text_encoder_2 says; its pooling then looks for the highest token.
    second = text_encoder(CLIPTextModelWithProjection, 32, seed=1, eos_token_id=2)
    tokenizers = (clip_tokenizer(), clip_tokenizer(pad_token="!"))
    return TextModels(FAMILIES["sdxl"], (text_encoder(CLIPTextModel, 16), second), tokenizers)
