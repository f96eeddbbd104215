"""Opens the base model, frozen, and puts trainable adapters into it.

Which modules adapt is data in keys.py; how they are trained stands in train.py.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import peft
import torch
import transformers
from diffusers import AutoencoderKL, AutoencoderTiny, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from sticker_pipeline.settings import TrainingSettings
from sticker_pipeline.training.keys import adaptable_modules
from sticker_pipeline.training.lora_file import Adapter
from sticker_pipeline.training.spec import SpecError

ADAPTER = "default"  # peft's name of the adapter inside each module
VAE_CLASSES = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
PREDICTION_TYPES = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class Models:
    """A base model, all of it frozen and in evaluation mode. `scheduler` has the noise levels of the training."""

    unet: Any
    text_encoder: Any
    tokenizer: Any
    vae: Any
    scheduler: Any

    @property
    def prediction_type(self) -> str:
        return str(self.scheduler.config.prediction_type)


def load_models(base: Path, device: torch.device, dtype: torch.dtype) -> Models:
    """The diffusers folder `base`, from local safetensors only. U-Net and text encoder get `dtype`, the VAE float32.

    Raises SpecError for a VAE or prediction type that is not known here, or a tokenizer that does not fit.
    """
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    local: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
    vae_name = json.loads((base / "vae" / "config.json").read_text(encoding="utf-8"))["_class_name"]
    if vae_name not in VAE_CLASSES:
        raise SpecError(f"base: {base / 'vae'} is a {vae_name}; known are {', '.join(VAE_CLASSES)}.")
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet", torch_dtype=dtype, **local)
    text_encoder = CLIPTextModel.from_pretrained(base, subfolder="text_encoder", dtype=dtype, **local)
    vae = VAE_CLASSES[vae_name].from_pretrained(base, subfolder="vae", torch_dtype=torch.float32, **local)
    tokenizer = CLIPTokenizer.from_pretrained(base, subfolder="tokenizer", local_files_only=True)
    scheduler = DDPMScheduler.from_pretrained(base, subfolder="scheduler", local_files_only=True)
    if scheduler.config.prediction_type not in PREDICTION_TYPES:
        raise SpecError(f"base: prediction type {scheduler.config.prediction_type!r} is none of {PREDICTION_TYPES}.")
    _check_tokenizer(base, tokenizer, text_encoder.config.vocab_size)
    for model in (unet, text_encoder, vae):
        model.requires_grad_(False)
        model.eval().to(device)
    return Models(unet, text_encoder, tokenizer, vae, scheduler)


def _check_tokenizer(base: Path, tokenizer: Any, expected: int) -> None:
    """transformers builds an empty tokenizer from missing files without complaint, and every caption reads the same."""
    if len(tokenizer) != expected:
        raise SpecError(
            f"base: {base / 'tokenizer'} has {len(tokenizer)} tokens where the text encoder has {expected}. "
            "It needs tokenizer.json, or vocab.json and merges.txt."
        )


def add_adapters(models: Models, settings: TrainingSettings, family: str) -> dict[str, Any]:
    """Put a fresh float32 LoRA into each module that `settings` name; returns peft's LoRA layers by kohya name.

    Adapters begin as no change at all (up = 0; down uniform, seeded by settings.seed). A text encoder whose learning
    rate is 0 gets none.
    """
    text_encoder = models.text_encoder if settings.learning_rate_text_encoder > 0 else None
    modules = adaptable_modules(models.unet, (text_encoder,), family=family, targets=settings.targets)
    targets = set(modules.values())
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        for model in filter(None, (models.unet, text_encoder)):
            _inject(model, [path for path, module in model.named_modules() if module in targets], settings)
    layers = adaptable_modules(models.unet, (text_encoder,), family=family, targets=settings.targets)
    for layer in layers.values():
        for part in (layer.lora_A, layer.lora_B):
            part[ADAPTER].float()
    return layers


def _inject(model: Any, paths: list[str], settings: TrainingSettings) -> None:
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        init_lora_weights=True,
        target_modules=paths,
    )
    peft.inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    model.eval()


def adapters_of(layers: dict[str, Any]) -> dict[str, Adapter]:
    """The adapters in peft's LoRA `layers` as a LoRA file holds them (sharing the memory of the trained weights)."""
    found = {}
    for key, layer in layers.items():
        down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        adapter = Adapter(down.detach(), up.detach(), float(layer.lora_alpha[ADAPTER]))
        if not math.isclose(layer.scaling[ADAPTER], adapter.alpha / adapter.rank):
            raise RuntimeError(f"{key}: peft scales by {layer.scaling[ADAPTER]}, a LoRA file would not.")
        found[key] = adapter
    return found
