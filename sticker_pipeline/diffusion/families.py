"""Data on each family of base models: parts, handling of prompts, names.

Names of LoRA modules: `diffusion/lora/key_map.py`. The training loop does not branch on families.
"""

from dataclasses import dataclass

from sticker_pipeline.core.profile import Family as FamilyName


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder: its folder in the diffusers layout, its transformers classes."""

    folder: str
    tokenizer: str
    class_name: str
    prefix: str  # of its modules in a LoRA file
    single_file_prefix: str  # of its tensors in a single-file checkpoint
    first_tensor: str  # without that prefix

    @property
    def single_file_key(self) -> str:
        """Return its first tensor's name in single files, unique to the family."""
        return self.single_file_prefix + self.first_tensor


@dataclass(frozen=True)
class Family:
    """A family of base models.

    `penultimate`: the U-Net reads the text encoders' second-to-last layer without the final norm, else the last (with
    clip skip n, the n-th last) through it. `pooled`: it also reads the last text encoder's pooled output and
    `time_ids`: image size, crop, target size (SDXL, section 2.2).
    """

    name: FamilyName
    title: str
    text_encoders: tuple[TextEncoder, ...]
    penultimate: bool
    pooled: bool
    pipeline: str  # class in diffusers
    base_version: str  # `ss_base_model_version` in LoRA files
    architecture: str  # `modelspec.architecture` in LoRA files


_CLIP_TENSOR = "text_model.embeddings.token_embedding.weight"

FAMILIES: dict[str, Family] = {
    "sd15": Family(
        name="sd15",
        title="Stable Diffusion 1.5",
        text_encoders=(
            TextEncoder(
                "text_encoder", "tokenizer", "CLIPTextModel", "lora_te", "cond_stage_model.transformer.", _CLIP_TENSOR
            ),
        ),
        penultimate=False,
        pooled=False,
        pipeline="StableDiffusionPipeline",
        base_version="sd_v1",
        architecture="stable-diffusion-v1/lora",
    ),
    "sdxl": Family(
        name="sdxl",
        title="SDXL",
        text_encoders=(
            TextEncoder(
                "text_encoder",
                "tokenizer",
                "CLIPTextModel",
                "lora_te1",
                "conditioner.embedders.0.transformer.",
                _CLIP_TENSOR,
            ),
            TextEncoder(
                "text_encoder_2",
                "tokenizer_2",
                "CLIPTextModelWithProjection",
                "lora_te2",
                "conditioner.embedders.1.model.",
                "token_embedding.weight",
            ),
        ),
        penultimate=True,
        pooled=True,
        pipeline="StableDiffusionXLPipeline",
        base_version="sdxl_base_v1-0",
        architecture="stable-diffusion-xl-v1-base/lora",
    ),
}
