"""What differs between the families of base models, as data: their parts, how they read prompts, what they are called.

The names of modules in a LoRA file stand in diffusion/lora/key_map.py; the loop in train.py knows no family.
"""

from dataclasses import dataclass

from sticker_pipeline.core.profile import Family as FamilyName


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder of a family: its folder in the diffusers layout and its classes in transformers."""

    folder: str
    tokenizer: str
    class_name: str
    prefix: str  # of its modules in a LoRA file
    single_file_prefix: str  # of its tensors in a single-file checkpoint
    first_tensor: str  # without that prefix

    @property
    def single_file_key(self) -> str:
        """The name of its first tensor in a single-file checkpoint, which files of other families do not have."""
        return self.single_file_prefix + self.first_tensor


@dataclass(frozen=True)
class Family:
    """A family of base models.

    `penultimate`: the U-Net reads the text encoders' layer before the last, without their final norm; otherwise the
    last one (or, with clip skip n, the n-th last) through the final norm. `pooled`: it also reads the pooled output of
    the last text encoder, and `time_ids`, the image's size, crop and target size (SDXL, section 2.2).
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
