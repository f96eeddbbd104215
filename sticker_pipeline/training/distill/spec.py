"""Spec of one distillation: every effective value, as a strict model in JSON."""

from pathlib import Path

from pydantic import Field, model_validator

from sticker_pipeline.core.profile import Family
from sticker_pipeline.core.settings import ConsistencySettings, GenerationSettings, Strict, TrainingSettings


class Tuning(Strict):
    """Additions for one character: continue a LoRA on the character's images."""

    start: Path = Field(description="LCM-LoRA of the same base model, rank and targets, to go on from")
    start_sha: str = Field(description="hash of that file")
    lora: Path = Field(description="the character's LoRA: part of the base model here, of teacher and student alike")
    lora_sha: str = Field(description="hash of that file")
    frames: Path = Field(description="folder of the images")
    files: list[str] = Field(description="names of the images in it: one of each prompt, its caption")
    background: str = Field("white", description="what transparent images are flattened over")


class ConsistencySpec(Strict):
    """One distillation.

    Relative paths are relative to the working folder: better make them absolute.
    """

    name: str = Field(min_length=1, description="of the LoRA, in its metadata")
    family: Family = Field("sd15", description="of the base model; decides the keys in the LoRA file")
    base: Path = Field(description="the base model: a folder in the diffusers layout, or one .safetensors file")
    base_sha: str = Field(description="hash of the base model, stamped into the LoRA file")
    output: Path = Field(description="work folder: an unfinished distillation of the same spec in it goes on")
    resolution: int = Field(gt=0, multiple_of=8, description="side of an image in pixels")
    prompts: list[str] = Field(
        min_length=1, description="what is learned on, one image of each: drawn by the base model, or `tuning.files`"
    )
    tuning: Tuning | None = Field(None, description="the character that an LCM-LoRA goes on learning for")
    settings: ConsistencySettings
    generation: GenerationSettings = Field(description="how the base model draws; its negative prompt is distilled in")
    state_seconds: float = Field(60.0, ge=0, description="between two states to go on from")

    @model_validator(mode="after")
    def _images_are_those_of_the_settings(self) -> "ConsistencySpec":
        if len(self.prompts) != self.settings.images:
            raise ValueError(f"prompts: there are {len(self.prompts)}, and settings.images is not as many")
        if self.tuning and len(self.tuning.files) != len(self.prompts):
            raise ValueError(f"tuning.files: there are {len(self.tuning.files)}, and not as many prompts")
        return self

    def adapters(self) -> TrainingSettings:
        """LoRA and optimizer settings for the trainer's parts: U-Net alone."""
        settings = self.settings
        return TrainingSettings(
            rank=settings.rank,
            alpha=settings.alpha,
            targets=settings.targets,
            learning_rate_unet=settings.learning_rate,
            learning_rate_text_encoder=0.0,
            schedule="cosine",
            warmup_fraction=settings.warmup_fraction,
            weight_decay=0.0,
            seed=settings.seed,
        )
