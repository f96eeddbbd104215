"""Small random models in real formats: Stable Diffusion and CLIP folders.

They are untrained: use them for plumbing, determinism and formats, not for quality. This module only builds them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# fmt: off
WORDS = [
    "sticker", "art", "chibi", "white", "background", "smile", "open", "mouth", "arms", "up", "closed", "eyes", "angry",
    "crying", "waving", "hair", "dress", "blue", "red", "green", "long", "short", "girl", "boy", "solo",
]
# fmt: on
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tiny_pipeline(
    folder: Path,
    *,
    seed: int = 0,
    words: Sequence[str] = WORDS,
    block: int = 32,
    text_layers: int = 1,
    prediction: str = "v_prediction",
) -> Path:
    """Write a StableDiffusionPipeline of about 1.1 M random parameters to `folder`, which is returned.

    f4 VAE (a 32 px image has 8×8 latents), U-Net of two levels (`block`, 2·`block` channels) with cross-attention in
    both, text encoder of width 32 over 77 tokens. Equal arguments give equal weights.
    """
    import torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    vocabulary, merges = byte_pair_vocabulary(words)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        text_encoder = CLIPTextModel(_text_config(vocabulary, layers=text_layers))
        vae = _vae()
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(block, 2 * block),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=2,
            norm_num_groups=8,
        )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=_scheduler(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def build_tiny_sdxl(folder: Path, *, seed: int = 0, words: Sequence[str] = WORDS, block: int = 16) -> Path:
    """Write a StableDiffusionXLPipeline of about 2.3 M random parameters to `folder`, which is returned.

    Its blocks are those of SDXL, so that its LoRA keys are a part of SDXL's: three levels (`block`, 2·`block`,
    4·`block` channels) of two layers, without attention, with 1 and with 2 transformer blocks. Text encoders of two
    layers, width 32 and 48; time ids; f4 VAE (a 32 px image has 8×8 latents); epsilon prediction.
    """
    import torch
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    vocabulary, merges = byte_pair_vocabulary(words)
    pads = (END, "!")  # as in SDXL
    first, second = (CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, pad_token=pad) for pad in pads)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        text_encoder = CLIPTextModel(_text_config(vocabulary, layers=2))
        text_encoder_2 = CLIPTextModelWithProjection(_text_config(vocabulary, width=48, layers=2))
        vae = _vae()
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(block, 2 * block, 4 * block),
            layers_per_block=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 1, 2),
            attention_head_dim=(1, 2, 4),
            cross_attention_dim=32 + 48,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=48 + 6 * 8,
            norm_num_groups=8,
        )
    StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=first,
        tokenizer_2=second,
        unet=unet,
        scheduler=_scheduler("epsilon"),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def build_tiny_clip(folder: Path, *, seed: int = 0, size: int = 32, dimensions: int = 16) -> Path:
    """Write an open_clip `local-dir` model with random weights, for `size` px images, to `folder`; returns it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config: dict[str, Any] = {
        "embed_dim": dimensions,
        "vision_cfg": {"image_size": size, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
    }
    preprocess = {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.CLIP(**config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def byte_pair_vocabulary(words: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A CLIP vocabulary (bytes, bytes that end a word, then whole `words`) and its merges.

    The end token has the highest id, which CLIP's pooling looks for.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = letters + [letter + "</w>" for letter in letters]
    merges = []
    for word in words:
        left = word[0]
        for position, letter in enumerate(word[1:], start=2):
            right = letter + "</w>" if position == len(word) else letter
            if left + right not in tokens:
                merges.append((left, right))
                tokens.append(left + right)
            left += right
    tokens += [START, END]
    return {token: number for number, token in enumerate(tokens)}, merges


def _text_config(vocabulary: dict[str, int], *, width: int = 32, layers: int = 1) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=width,
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[END],
    )


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
    )


def _scheduler(prediction_type: str) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        prediction_type=prediction_type, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
