"""Model profiles: base model, tagger, CLIP and their defaults, as data."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from sticker_pipeline.core.character import FILE_NAME, PACK, Character, Pack, describe_problems, may_lead
from sticker_pipeline.core.files.inside import OutsideError, real_path
from sticker_pipeline.core.known_models import known_name
from sticker_pipeline.core.kohya_settings.form import KohyaSettingsError, Target
from sticker_pipeline.core.kohya_settings.read import KohyaImport, read_kohya_settings
from sticker_pipeline.core.settings import (
    BenchmarkSettings,
    BucketSettings,
    ConsistencySettings,
    GenerationSettings,
    MediaSettings,
    SamplingGridSettings,
    SamplingSettings,
    Strict,
    StyleSettings,
    TaggingSettings,
    TrainingSettings,
    without_effect,
)
from sticker_pipeline.core.texts import UserError, closest, quoted, shortened

SETTINGS_VARIABLE = "STICKER_PROFILE"

Family = Literal["sd15", "sdxl"]


class ProfileError(UserError):
    """A profile that is missing, lacks model files, or has invalid overrides."""


class Profile(Strict):
    """A model profile with absolute paths.

    `clip`: for open_clip's `local-dir`.
    """

    name: str = Field(description="its name in character.yaml and STICKER_PROFILE")
    base: Path = Field(description="the base model: a diffusers folder, or one .safetensors file")
    tagger: Path = Field(description="the folder of a WD14 tagger")
    clip: Path = Field(description="the folder of an open_clip model")
    family: Family = Field(description="architecture of the base model")
    resolution: int = Field(gt=0, multiple_of=8, description="side in pixels of a square training image")
    background: str = Field("white", description="the colour behind transparent images")
    media: MediaSettings = MediaSettings()
    sampling: SamplingSettings = SamplingSettings()
    buckets: BucketSettings = BucketSettings()
    tagging: TaggingSettings
    training: TrainingSettings
    generation: GenerationSettings
    lcm: ConsistencySettings
    benchmark: BenchmarkSettings
    style: StyleSettings = StyleSettings()
    sampling_grid: SamplingGridSettings = SamplingGridSettings()


FREE_ATTRIBUTES = ["smile", "open mouth, arms up", "closed eyes", "angry", "crying", "waving"]

# Words of the prompts for distilling an LCM-LoRA, in the base models' order of tags.
# fmt: off
EMBEDDED_WORDS = [
    ["1girl", "1girl", "1boy"],
    ["solo, chibi"],
    ["short hair", "long hair", "twintails", "side ponytail", "bob cut", "double bun", "twin braids", "drill hair",
     "spiky hair"],
    ["black hair", "brown hair", "blonde hair", "orange hair", "red hair", "pink hair", "purple hair", "blue hair",
     "aqua hair", "green hair", "white hair"],
    ["blue eyes", "green eyes", "red eyes", "purple eyes", "yellow eyes", "brown eyes"],
    ["serafuku, blue serafuku", "hoodie, red hoodie", "dress, yellow dress", "kimono, pink kimono",
     "jacket, black jacket", "armor, green armor", "shirt, red shirt", "overalls, blue overalls", "cape, black cape"],
    ["witch hat", "beret", "crown", "halo", "hair bow", "headphones", "horns", "cat ears", "hair flower", "glasses"],
    ["smile", "open mouth", "tongue out", "one eye closed", "closed eyes", "blush", "surprised", "sad", "crying",
     "angry"],
    ["looking at viewer", "looking at viewer", "looking to the side"],
    ["arms at sides", "arms up", "waving", "v", "hand on own cheek", "hands on own hips", "crossed arms"],
    ["full body", "upper body", "portrait"],
    ["transparent background, simple background, outline, flat color",
     "transparent background, simple background, outline, flat color", "white background, simple background",
     "blue background, gradient background", "pink background, gradient background", "outdoors, scenery",
     "indoors, scenery", "starry sky, scenery", "sunset, scenery"],
]
ANIME_WORDS = [
    ["1girl", "1girl", "1boy"],
    ["solo"],
    ["short hair", "long hair", "medium hair", "twintails", "ponytail", "bob cut", "braid"],
    ["black hair", "brown hair", "blonde hair", "red hair", "pink hair", "purple hair", "blue hair", "green hair",
     "white hair", "grey hair"],
    ["blue eyes", "green eyes", "red eyes", "purple eyes", "yellow eyes", "brown eyes"],
    ["serafuku", "hoodie", "white dress", "kimono", "black jacket", "armor", "shirt", "sweater", "cape", "suit"],
    ["hat", "hair bow", "headphones", "animal ears", "hair flower", "glasses", "scarf", "jewelry"],
    ["smile", "open mouth", "closed eyes", "one eye closed", "blush", "surprised", "sad", "crying", "angry",
     "expressionless"],
    ["arms up", "waving", "v", "hand on own hip", "crossed arms", "holding", "sitting", "standing"],
    ["full body", "upper body", "cowboy shot", "portrait"],
    ["white background", "simple background", "outdoors, sky", "indoors", "night, starry sky", "sunset", "city",
     "chibi, sticker, white background", "anime coloring"],
]
# fmt: on

# Relative paths are below STICKER_MODELS. Source of `embedded`'s settings: data/models/embedded/REPORT.md.
PROFILES: dict[str, dict[str, Any]] = {
    "embedded": {
        "base": "embedded/base",
        "family": "sd15",
        "tagger": "embedded/tagger",
        "clip": "embedded/clip",
        "resolution": 96,
        "buckets": {"shape": "square"},  # its base model was trained on squares only
        "tagging": {"general_threshold": 0.5, "character_threshold": 0.8, "batch_size": 32},
        "training": {
            "rank": 16,
            "alpha": 16.0,
            "batch_size": 8,
            "learning_rate_unet": 1e-3,
            "learning_rate_text_encoder": 5e-4,
        },
        "generation": {"steps": 10, "guidance_scale": 4.0, "batch_size": 16},
        "sampling_grid": {"steps": (2, 4, 6, 10), "guidance_scales": (1.0, 4.0)},
        "lcm": {
            "words": EMBEDDED_WORDS,
            "images": 64,
            "skip": 250,  # with 20, images of several steps dissolve after such short training
            "rank": 32,
            "alpha": 32.0,
            "steps": 80,
            "batch_size": 8,
            "gradient_checkpointing": False,
            "learning_rate": 3e-4,
            "tuning": {"images": 64, "steps": 60},
        },
        "benchmark": {
            "seeds_per_prompt": 4,
            "prompts": {"sticker": FREE_ATTRIBUTES, "art": FREE_ATTRIBUTES},
            "medium_tags": {
                "sticker": "solo, chibi, outline, flat color, transparent background, simple background",
                "art": "solo, chibi",
            },
        },
    },
    # Any SD1.5 model, and any WD14 tagger.
    "sd15": {
        "base": "sd15/base",
        "family": "sd15",
        "tagger": "wd-vit-tagger-v3",
        "clip": "clip-vit-l-14-quickgelu-openai",
        "resolution": 512,
        "tagging": {},
        "training": {},
        "generation": {"negative_prompt": "lowres, bad anatomy, worst quality, low quality"},
        "lcm": {"words": ANIME_WORDS},
        "benchmark": {
            "prompts": {"sticker": FREE_ATTRIBUTES, "art": FREE_ATTRIBUTES},
            "medium_tags": {"sticker": "chibi, sticker, white background", "art": "anime coloring"},
        },
    },
    # Any SDXL model, such as animagine-xl, and any WD14 tagger. Sizes as in SDXL's training.
    "sdxl": {
        "base": "sdxl/base",
        "tagger": "wd-swinv2-tagger-v3",
        "clip": "clip-vit-l-14-quickgelu-openai",
        "family": "sdxl",
        "resolution": 1024,
        "buckets": {"min_side": 512, "upscale": False},
        "tagging": {},
        "training": {"learning_rate_unet": 1e-4, "learning_rate_text_encoder": 0.0},
        "generation": {"negative_prompt": "lowres, bad anatomy, worst quality, low quality"},
        "lcm": {"words": ANIME_WORDS, "batch_size": 8},
        "benchmark": {
            "prompts": {"sticker": FREE_ATTRIBUTES, "art": FREE_ATTRIBUTES},
            "medium_tags": {"sticker": "chibi, sticker, white background", "art": "anime coloring"},
        },
    },
}

# Changes of `training.preset` by family, applied before those of character.yaml. `kohya_import` comes from its file.
_SMALL = {"batch_size": 1, "learning_rate_text_encoder": 0.0}
PRESETS: dict[str, dict[Family, dict[str, Any]]] = {
    "low_memory": {"sd15": {**_SMALL, "memory_budget": "4GiB"}, "sdxl": {**_SMALL, "memory_budget": "8GiB"}},
}


CLIP_WORDS = 49_408  # tokens of CLIP's vocabulary, which each Stable Diffusion has
TOY = (
    "Made with the embedded models: tiny models of our own that know only a small drawn world. Such a LoRA works with "
    "no Stable Diffusion. For real stickers choose the profile sd15 or sdxl."
)


def toy_note(profile: Profile) -> str:
    """Return TOY if the profile's base model is a toy, else ""."""
    return base_note(profile.base)


def base_note(base: Path) -> str:
    """Return TOY if the base model at `base` is a toy, else "".

    It knows fewer words than any Stable Diffusion, by its text encoder's configuration. A file without configurations
    beside it is no toy.
    """
    folder = base.with_suffix("") if base.is_file() else base
    try:
        words = json.loads((folder / "text_encoder" / "config.json").read_text(encoding="utf-8"))["vocab_size"]
        return TOY if words < CLIP_WORDS else ""
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # missing or damaged: check_base says so
        return ""


def profile_name(character: Character) -> str:
    """Return character.yaml's `profile`, else STICKER_PROFILE, else `embedded`."""
    return character.settings.profile or os.environ.get(SETTINGS_VARIABLE) or "embedded"


def load_profile(name: str, models: Path) -> Profile:
    """Return the profile with paths below `models`. Raises ProfileError for unknown names.

    The base model is the profile's folder, or the file of that name with `.safetensors`, beside which the folder may
    hold configurations without weights; or the only `.safetensors` file in a folder without model_index.json.
    """
    if name not in PROFILES:
        raise ProfileError(
            f"There is no profile {quoted(name)} (named by `profile` in character.yaml, or by {SETTINGS_VARIABLE}). "
            f"Profiles: {', '.join(PROFILES)}.{closest(name, list(PROFILES))}"
        )
    data = PROFILES[name]
    paths = {key: models.absolute() / data[key] for key in ("base", "tagger", "clip")}
    single = paths["base"].with_name(paths["base"].name + ".safetensors")
    if single.is_file() and not any(paths["base"].glob("unet/*.safetensors")):
        paths["base"] = single
    elif not (paths["base"] / "model_index.json").is_file():
        files = list(paths["base"].glob("*.safetensors"))
        paths["base"] = files[0] if len(files) == 1 else paths["base"]
    return Profile(name=name, **{**data, **paths})


OVERRIDABLE: dict[str, type[Strict]] = {
    "media": MediaSettings,
    "sampling": SamplingSettings,
    "buckets": BucketSettings,
    "tagging": TaggingSettings,
    "training": TrainingSettings,
    "sampling_grid": SamplingGridSettings,
}
"""Sections of a profile that character.yaml may override, under the same name."""


def character_profile(character: Character, models: Path) -> Profile:
    """Return the profile with the overrides of character.yaml.

    Raises ProfileError, with the key, for an invalid override.
    """
    try:
        profile = load_profile(profile_name(character), models)
    except ProfileError as error:
        raise ProfileError(f"{character.folder / FILE_NAME}: {error}") from error
    preset = _preset(profile, character)
    sections = {name: _overridden(profile, name, character, preset.get(name, {})) for name in OVERRIDABLE}
    changed = profile.model_copy(update=sections)
    _check_effects(changed, character)
    _check_regularisation(changed, character)
    model = changed.tagging.model
    return changed.model_copy(update={"tagger": models.absolute() / model}) if model else changed


def with_values(character: Character, profile: Profile, section: str, values: Mapping[str, Any]) -> Character:
    """Return the character as if its character.yaml's `section` had `values`.

    `section`: one of the profile's, or `pack`. Raises ProfileError, with the key, for a value out of range.
    """
    model: type[BaseModel] = Pack if section == PACK else OVERRIDABLE[section]
    now = (character.settings.pack or Pack()) if section == PACK else getattr(profile, section)
    try:
        checked = model.model_validate({**now.model_dump(), **values})
    except ValidationError as error:
        source = f"The launch's configuration: {section}"
        raise ProfileError("\n".join(describe_problems(source, error, model))) from error
    stated = checked if section == PACK else {**getattr(character.settings, section), **values}
    return replace(character, settings=character.settings.model_copy(update={section: stated}))


def style_profile(name: str, models: Path) -> Profile:
    """Return the profile with `style.training`, without characters' overrides.

    Raises ProfileError for an unknown profile or invalid settings.
    """
    profile = load_profile(name, models)
    try:
        training = TrainingSettings.model_validate({**profile.training.model_dump(), **profile.style.training})
    except ValidationError as error:
        source = f"profile {name!r}: style.training"
        raise ProfileError("\n".join(describe_problems(source, error, TrainingSettings))) from error
    return profile.model_copy(update={"training": training})


def character_kohya_import(character: Character, models: Path) -> KohyaImport | None:
    """Return the character's kohya_ss import; None without that preset.

    Raises ProfileError as `character_profile`, with a line per faulty key.
    """
    return _kohya_import(load_profile(profile_name(character), models), character)


def kohya_target(profile: Profile, epochs: int | None = None) -> Target:
    """Return the target of a kohya_ss import; default `epochs`: the profile's."""
    return Target(profile.name, profile.family, profile.resolution, epochs or profile.training.epochs)


def _preset(profile: Profile, character: Character) -> dict[str, dict[str, Any]]:
    name = character.settings.training.get("preset")
    if imported := _kohya_import(profile, character):
        return {"training": imported.training, "buckets": imported.buckets}
    small = PRESETS.get(name) if isinstance(name, str) else None
    return {"training": small[profile.family]} if small else {}


def _kohya_import(profile: Profile, character: Character) -> KohyaImport | None:
    stated = character.settings.training
    if stated.get("preset") != "kohya_import":
        return None
    name, source = stated.get("kohya_json"), f"{character.folder / FILE_NAME}: training"
    if not name:
        raise ProfileError(f"{source}: 'preset: kohya_import' needs 'kohya_json', the file that kohya_ss has saved.")
    if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ProfileError(
            f"{source}: 'kohya_json' = {quoted(name)}: it must be the path of a file in the character's folder."
        )
    epochs = stated.get("epochs")
    target = kohya_target(profile, epochs if isinstance(epochs, int) and epochs > 0 else None)
    try:
        return read_kohya_settings(character.folder / name, target, character.roots)
    except KohyaSettingsError as error:
        raise ProfileError(str(error)) from error


def _overridden(profile: Profile, section: str, character: Character, preset: dict[str, Any]) -> Strict:
    model, stated = OVERRIDABLE[section], getattr(character.settings, section)
    usual: Strict = getattr(profile, section)
    if not preset and not stated:
        return usual
    source = f"{character.folder / FILE_NAME}: {section}"
    try:
        return model.model_validate({**usual.model_dump(), **preset, **stated})
    except ValidationError as error:
        raise ProfileError("\n".join(describe_problems(source, error, model))) from error


def _check_effects(profile: Profile, character: Character) -> None:
    stated = {name: getattr(character.settings, name) for name in ("training", "buckets")}
    idle = without_effect(profile.training, profile.buckets, profile.family, stated)
    if idle:
        path = character.folder / FILE_NAME
        raise ProfileError("\n".join(f"{path}: {sentence}" for sentence in idle))


def _check_regularisation(profile: Profile, character: Character) -> None:
    """Raise ProfileError for an invalid folder of regularisation images.

    It may not hold the character (every file would be read), nor lie outside the allowed links.
    """
    name, path = profile.training.regularisation, character.folder / FILE_NAME
    try:
        folder = real_path(character.folder / name, character.roots) if name else None
    except OutsideError as error:
        raise ProfileError(
            f"{path}: training.regularisation leads out of the character's folder, to "
            f"{shortened(str(error.filename2))}: {may_lead(character.folder)}"
        ) from error
    if folder and character.folder.resolve().is_relative_to(folder):
        raise ProfileError(
            f"{path}: training: 'regularisation' = {quoted(str(name))}: it must be a folder of images of no "
            "character, beside the groups or elsewhere."
        )


MODEL_FILES = {
    "base": ["model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"],
    "tagger": ["model.onnx", "selected_tags.csv"],
    "clip": ["open_clip_config.json", "open_clip_model.safetensors"],
}
FURTHER_BASE_FILES: dict[Family, list[str]] = {"sd15": [], "sdxl": ["text_encoder_2/config.json"]}


def check_models(profile: Profile) -> None:
    """Raise ProfileError naming the first missing model file."""
    for key, names in MODEL_FILES.items():
        folder: Path = getattr(profile, key)
        further = FURTHER_BASE_FILES[profile.family] if key == "base" else []
        for name in [*names, *further] if not folder.is_file() else ():
            if not (folder / name).is_file():
                raise ProfileError(
                    f"Profile {profile.name!r} needs {folder / name}, which is missing. {_how_to_get(profile, folder)} "
                    f"the {key} model there, or point STICKER_MODELS at the folder that holds the models."
                )


def profile_models(name: str) -> list[str]:
    """Return a profile's fetchable models. Raises ProfileError for an unknown profile."""
    profile = load_profile(name, Path())
    names = (known_name(folder) for folder in (profile.base, profile.tagger, profile.clip))
    return [known for known in names if known]


def _how_to_get(profile: Profile, folder: Path) -> str:
    """Return a sentence up to `put`, with the fetch command, if any."""
    known = known_name(folder)
    if known in profile_models(profile.name):
        return f"`sticker-pipeline fetch-models --profile {profile.name}` downloads it; or put"
    if known or (folder == profile.tagger and profile.tagging.model):
        return f"`sticker-pipeline fetch-models {known or 'OWNER/' + folder.name}` downloads it; or put"
    return "Put"
