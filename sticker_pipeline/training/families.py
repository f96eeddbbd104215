"""What differs between the families of base models, as data: their parts, how they read prompts, what they are called.

The names of modules in a LoRA file stand in keys.py; the loop in train.py knows no family.
"""

from dataclasses import dataclass

from sticker_pipeline.profile import Family as FamilyName


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder of a family: its folder in the diffusers layout and its classes in transformers."""

    folder: str
    tokenizer: str
    class_name: str
    prefix: str  # of its modules in a LoRA file


@dataclass(frozen=True)
class Family:
    """A family of base models.

    `penultimate`: the U-Net reads the text encoders' layer before the last, without their final norm; otherwise the
    last one (or, with clip skip n, the n-th last) through the final norm. `pooled`: it also reads the pooled output of
    the last text encoder, and `time_ids`, the picture's size, crop and target size (SDXL, section 2.2).
    """

    name: FamilyName
    text_encoders: tuple[TextEncoder, ...]
    penultimate: bool
    pooled: bool
    pipeline: str  # class in diffusers
    single_file_key: str  # of a tensor that only files of this family have
    base_version: str  # `ss_base_model_version` in LoRA files
    architecture: str  # `modelspec.architecture` in LoRA files


FAMILIES: dict[str, Family] = {
    "sd15": Family(
        name="sd15",
        text_encoders=(TextEncoder("text_encoder", "tokenizer", "CLIPTextModel", "lora_te"),),
        penultimate=False,
        pooled=False,
        pipeline="StableDiffusionPipeline",
        single_file_key="cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
        base_version="sd_v1",
        architecture="stable-diffusion-v1/lora",
    ),
    "sdxl": Family(
        name="sdxl",
        text_encoders=(
            TextEncoder("text_encoder", "tokenizer", "CLIPTextModel", "lora_te1"),
            TextEncoder("text_encoder_2", "tokenizer_2", "CLIPTextModelWithProjection", "lora_te2"),
        ),
        penultimate=True,
        pooled=True,
        pipeline="StableDiffusionXLPipeline",
        single_file_key="conditioner.embedders.1.model.token_embedding.weight",
        base_version="sdxl_base_v1-0",
        architecture="stable-diffusion-xl-v1-base/lora",
    ),
}
