"""Configurations of the published SD1.5 and SDXL architectures.

They open single .safetensors files offline and give LoRA keys and memory estimates without weights. Weights are loaded
by `diffusion/base_model.py`.
"""

import gzip
import json
from pathlib import Path
from typing import Any

from sticker_pipeline.core.storage import new_folder
from sticker_pipeline.diffusion.families import FAMILIES

# config.json of the published models (stable-diffusion-v1-5, stable-diffusion-xl-base-1.0) without the defaults of
# diffusers and transformers.
_CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
_SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "sd15": {
        "unet": {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64},
        "vae": {**_VAE, "sample_size": 512, "scaling_factor": 0.18215},
        "text_encoder": _CLIP_L,
        "scheduler": _SCHEDULER,
    },
    "sdxl": {
        "unet": {
            "sample_size": 128,
            "block_out_channels": [320, 640, 1280],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "transformer_layers_per_block": [1, 2, 10],
            "attention_head_dim": [5, 10, 20],
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        "vae": {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
        "text_encoder": _CLIP_L,
        "text_encoder_2": {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "hidden_act": "gelu",
            "projection_dim": 1280,
        },
        "scheduler": _SCHEDULER,
    },
}

# Tensor counts (tested), without buffers (position_ids) and unused tensors. In single files, SDXL's second text encoder
# has query, key and value in one matrix.
_TENSORS = {
    "sd15": {"unet": 686, "vae": 248, "text_encoder": 196},
    "sdxl": {"unet": 1680, "vae": 248, "text_encoder": 196, "text_encoder_2": 517},
}
_SINGLE_FILE_TENSORS = {"text_encoder_2": 389}
# Settings that decide the counts, with the defaults of diffusers and transformers.
_SIZES: dict[str, dict[str, Any]] = {
    "unet": {
        "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "transformer_layers_per_block": 1,
        "cross_attention_dim": 1280,
    },
    "vae": {"_class_name": "AutoencoderKL", "block_out_channels": [64], "layers_per_block": 1},
    "text_encoder": {"num_hidden_layers": 12, "hidden_size": 512},
}
_SIZES["text_encoder_2"] = _SIZES["text_encoder"]

_DIFFUSERS_CLASSES = {
    "unet": ("config.json", "UNet2DConditionModel"),
    "vae": ("config.json", "AutoencoderKL"),
    "scheduler": ("scheduler_config.json", "DDIMScheduler"),
}

_VOCABULARY = 49_408  # of CLIP: 512 bytes, 48,894 merges, 2 special tokens
_MERGES = _VOCABULARY - 512 - 2


def least_tensors(family: str, part: str, config: dict[str, Any], *, single_file: bool) -> int:
    """Return the least number of tensors of a part with that `config`.

    1, as it is unknown, where sizes differ from the published architecture.
    """
    sizes, true = _SIZES[part], CONFIGS[family][part]
    if any(config.get(name, usual) != true.get(name, usual) for name, usual in sizes.items()):
        return 1
    tensors = _TENSORS[family][part]
    return _SINGLE_FILE_TENSORS.get(part, tensors) if single_file else tensors


def build(family: str, part: str) -> Any:
    """Build a part of the published architecture with random weights.

    `part`: "unet", "vae", "text_encoder" or "text_encoder_2". It takes no memory under `torch.device("meta")`. SDXL's
    VAE and U-Net have 84 M and 2.6 G parameters.
    """
    import diffusers
    import transformers

    config = CONFIGS[family][part]
    if part in ("unet", "vae"):
        model = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}[part]
        return model.from_config(config)
    (encoder,) = [encoder for encoder in FAMILIES[family].text_encoders if encoder.folder == part]
    return getattr(transformers, encoder.class_name)(transformers.CLIPTextConfig(**config))


def clip_tokenizer(*, pad_token: str = "<|endoftext|>") -> Any:
    """Build CLIP's tokenizer from open_clip's merges, without files of a base model.

    SDXL's second text encoder pads with "!" (token 0); its first, and SD1.5's, with the end token.
    """
    import open_clip
    import transformers
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    path = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : _MERGES + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges)]
    vocabulary = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, pad_token=pad_token)


def write_config_folder(family: str, folder: Path) -> Path:
    """Write configurations and tokenizers, which single-file checkpoints lack, unless `folder` exists.

    Diffusers' layout, for `from_single_file(..., config=folder)`. Returns `folder`.
    """
    if folder.is_dir():
        return folder
    with new_folder(folder) as staging:
        for part in CONFIGS[family]:
            _write_config(family, part, staging / part)
        for number, encoder in enumerate(FAMILIES[family].text_encoders):
            tokenizer = clip_tokenizer(pad_token="!" if number else "<|endoftext|>")
            tokenizer.save_pretrained(staging / encoder.tokenizer)
        _write_index(family, staging)
    return folder


def _write_config(family: str, part: str, folder: Path) -> None:
    import transformers

    config = CONFIGS[family][part]
    if part.startswith("text_encoder"):
        (encoder,) = [encoder for encoder in FAMILIES[family].text_encoders if encoder.folder == part]
        whole = transformers.CLIPTextConfig(**config, architectures=[encoder.class_name])
        whole.save_pretrained(folder)
        return
    name, class_name = _DIFFUSERS_CLASSES[part]
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps({"_class_name": class_name, **config}, indent=1), encoding="utf-8")


def _write_index(family: str, folder: Path) -> None:
    parts: dict[str, list[str | None]] = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    for encoder in FAMILIES[family].text_encoders:
        parts |= {encoder.folder: ["transformers", encoder.class_name]}
        parts |= {encoder.tokenizer: ["transformers", "CLIPTokenizer"]}
    index = {"_class_name": FAMILIES[family].pipeline, **parts}
    (folder / "model_index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
