"""Model profiles: which base model, tagger and CLIP are used, and the defaults that fit them.

A profile is data. Code that differs between model families belongs to training and generation; what one character
overrides stands in its character.yaml.
"""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from sticker_pipeline.character import Character, describe_problems
from sticker_pipeline.models.known import known_name

SETTINGS_VARIABLE = "STICKER_PROFILE"


class ProfileError(ValueError):
    """A profile that does not exist, lacks its model files, or is overridden with settings that it does not know."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MediaSettings(Strict):
    """Limits checked before a file is decoded, what is cut off its frames, and when two count as the same picture."""

    max_pixels: int = Field(40_000_000, gt=0, description="of one canvas")
    max_frames: int = Field(2_000, gt=0, description="of one file")
    max_seconds: float = Field(120.0, gt=0, description="of one video")
    max_bytes: int = Field(200_000_000, gt=0, description="of one file on disk")
    crop: Literal["none", "alpha", "subject"] = Field(
        "none",
        description="`alpha` cuts a frame to what is visible; `subject` also cuts an even border off opaque ones",
    )
    crop_margin: float = Field(
        0.05, ge=0, le=1, description="left around the box of `crop`, as a share of its longer side"
    )
    merge: Literal["near", "exact", "none"] = Field("near", description="which frames count as the same picture")
    near_duplicate_distance: int = Field(
        2, ge=0, le=64, description="with `merge: near`: perceptual hashes differ in at most this many of 64 bits"
    )


class SamplingSettings(Strict):
    mode: Literal["inverse_length", "effective_size", "uniform"] = "inverse_length"


class TaggingSettings(Strict):
    """Which tagger looks at the frames, on what, and from which score a tag counts.

    A threshold is a number from 0 to 1, or a word: `mcut` finds one for each picture, `model` is what the tagger's
    model card states (tagging/thresholds.csv; the cards state one for general tags only).
    """

    model: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*$",
        description="the tagger's folder below STICKER_MODELS; None: the profile's",
    )
    provider: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="what onnxruntime runs on; `auto`: CUDA where it starts, else the CPU, and says so"
    )
    general_threshold: float | Literal["model", "mcut"] = "model"
    character_threshold: float | Literal["mcut"] = 0.85
    batch_size: int = Field(16, gt=0)

    @field_validator("general_threshold", "character_threshold", mode="before")
    @classmethod
    def _number_or_word(cls, value: Any, info: ValidationInfo) -> Any:
        """One sentence for a person, where a union would give one for each of its members."""
        words = ("model", "mcut") if info.field_name == "general_threshold" else ("mcut",)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 <= value <= 1) and value not in words:
            raise ValueError(f"it must be a number from 0 to 1, or {' or '.join(words)}")
        return value


class TrainingSettings(Strict):
    """Every choice about a training run that a person may make. Defaults: the original recipe on SD1.5."""

    preset: Literal["recipe"] = Field("recipe", description="the original project's settings")
    rank: int = Field(32, ge=1, le=320)
    alpha: float = Field(16.0, gt=0)
    targets: Literal["all", "attention"] = Field("all", description="which layers of the transformer blocks adapt")
    epochs: int = Field(8, ge=1)
    draws_per_epoch: int | None = Field(None, ge=1, description="pictures per epoch; None: 10 for each clip")
    batch_size: int = Field(1, ge=1)
    learning_rate_unet: float = Field(1e-5, gt=0)
    learning_rate_text_encoder: float = Field(1e-5, ge=0, description="0 leaves the text encoder as it is")
    schedule: Literal["restarts", "constant"] = Field(
        "restarts", description="cosine with hard restarts and a warm-up in each cycle, or the peak throughout"
    )
    cycles: int = Field(4, ge=1)
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="of each cycle (`constant`: of the first only)")
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    caption_dropout: float = Field(0.05, ge=0, le=1)
    seed: int = Field(0, ge=0)


class GenerationSettings(Strict):
    scheduler: Literal["euler", "dpmsolver++", "ddim"] = "dpmsolver++"
    steps: int = Field(25, ge=1)
    guidance_scale: float = Field(7.0, ge=0)
    negative_prompt: str = ""
    batch_size: int = Field(4, ge=1)


class BenchmarkSettings(Strict):
    seeds_per_prompt: int = Field(4, ge=1)
    bootstrap_samples: int = Field(2_000, ge=100)
    prompts: dict[str, list[str]] = Field(description="free attributes for each style, used beside the character's own")
    style_tags: dict[str, str] = Field(description="what the base model calls each style")


class Profile(Strict):
    """Paths are absolute. `clip` is an open_clip model folder (`local-dir`)."""

    name: str
    base: Path
    tagger: Path
    clip: Path
    resolution: int = Field(gt=0, multiple_of=8, description="side in pixels of a square training picture")
    background: str = Field("white", description="what transparent pictures are flattened over")
    media: MediaSettings = MediaSettings()
    sampling: SamplingSettings = SamplingSettings()
    tagging: TaggingSettings
    training: TrainingSettings
    generation: GenerationSettings
    benchmark: BenchmarkSettings


FREE_ATTRIBUTES = ["smile", "open mouth, arms up", "closed eyes", "angry", "crying", "waving"]

# Relative paths are below STICKER_MODELS. How `embedded` got its settings: data/models/embedded/REPORT.md.
PROFILES: dict[str, dict[str, Any]] = {
    "embedded": {
        "base": "embedded/base",
        "tagger": "embedded/tagger",
        "clip": "embedded/clip",
        "resolution": 96,
        "tagging": {"general_threshold": 0.5, "character_threshold": 0.8, "batch_size": 32},
        "training": {
            "rank": 16,
            "alpha": 16.0,
            "batch_size": 8,
            "learning_rate_unet": 1e-3,
            "learning_rate_text_encoder": 5e-4,
        },
        "generation": {"steps": 10, "guidance_scale": 4.0, "batch_size": 16},
        "benchmark": {
            "seeds_per_prompt": 4,
            "prompts": {"sticker": FREE_ATTRIBUTES, "art": FREE_ATTRIBUTES},
            "style_tags": {
                "sticker": "solo, chibi, outline, flat color, transparent background, simple background",
                "art": "solo, chibi",
            },
        },
    },
    # Any SD1.5 model in the diffusers layout, and any WD14 tagger.
    "sd15": {
        "base": "sd15/base",
        "tagger": "wd-vit-tagger-v3",
        "clip": "clip-vit-l-14-quickgelu-openai",
        "resolution": 512,
        "tagging": {},
        "training": {},
        "generation": {"negative_prompt": "lowres, bad anatomy, worst quality, low quality"},
        "benchmark": {
            "prompts": {"sticker": FREE_ATTRIBUTES, "art": FREE_ATTRIBUTES},
            "style_tags": {"sticker": "chibi, sticker, white background", "art": "anime coloring"},
        },
    },
}


def profile_name(character: Character) -> str:
    """character.yaml's `profile`, else the environment's STICKER_PROFILE, else `embedded`."""
    return character.settings.profile or os.environ.get(SETTINGS_VARIABLE) or "embedded"


def load_profile(name: str, models: Path) -> Profile:
    """The profile `name` with its model paths below `models`. Raises ProfileError for an unknown name."""
    if name not in PROFILES:
        raise ProfileError(
            f"There is no profile {name!r} (named by `profile` in character.yaml, or by {SETTINGS_VARIABLE}). "
            f"Profiles: {', '.join(PROFILES)}."
        )
    data = PROFILES[name]
    paths = {key: models.absolute() / data[key] for key in ("base", "tagger", "clip")}
    return Profile(name=name, **{**data, **paths})


OVERRIDABLE: dict[str, type[Strict]] = {
    "media": MediaSettings,
    "sampling": SamplingSettings,
    "tagging": TaggingSettings,
    "training": TrainingSettings,
}
"""Sections of a profile of which character.yaml may override any setting, under the same name."""


def character_profile(character: Character, models: Path) -> Profile:
    """The character's profile with the overrides of its character.yaml applied.

    Raises ProfileError naming the key in character.yaml for an override that does not exist or is out of range.
    """
    profile = load_profile(profile_name(character), models)
    sections = {name: _overridden(profile, name, character) for name in OVERRIDABLE}
    changed = profile.model_copy(update=sections)
    model = changed.tagging.model
    return changed.model_copy(update={"tagger": models.absolute() / model}) if model else changed


def _overridden(profile: Profile, section: str, character: Character) -> Strict:
    model = OVERRIDABLE[section]
    try:
        return model.model_validate({**getattr(profile, section).model_dump(), **getattr(character.settings, section)})
    except ValidationError as error:
        source = f"{character.folder / 'character.yaml'}: {section}"
        raise ProfileError("\n".join(describe_problems(source, error, model))) from error


MODEL_FILES = {
    "base": ["model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"],
    "tagger": ["model.onnx", "selected_tags.csv"],
    "clip": ["open_clip_config.json", "open_clip_model.safetensors"],
}


def check_models(profile: Profile) -> None:
    """Raise ProfileError naming the first model file that the profile needs and that is not there."""
    for key, names in MODEL_FILES.items():
        folder: Path = getattr(profile, key)
        for name in names:
            if not (folder / name).is_file():
                raise ProfileError(
                    f"Profile {profile.name!r} needs {folder / name}, which is missing. {_how_to_get(profile, folder)} "
                    f"the {key} model there, or point STICKER_MODELS at the folder that holds the models."
                )


def profile_models(name: str) -> list[str]:
    """The models of the profile `name` that can be fetched. Raises ProfileError for an unknown profile."""
    profile = load_profile(name, Path())
    names = (known_name(folder) for folder in (profile.base, profile.tagger, profile.clip))
    return [known for known in names if known]


def _how_to_get(profile: Profile, folder: Path) -> str:
    """The command that fetches the model of that folder, where there is one, up to the `put` of the sentence."""
    known = known_name(folder)
    if known in profile_models(profile.name):
        return f"`sticker-pipeline fetch-models --profile {profile.name}` downloads it; or put"
    if known or (folder == profile.tagger and profile.tagging.model):
        return f"`sticker-pipeline fetch-models {known or 'OWNER/' + folder.name}` downloads it; or put"
    return "Put"
