"""What a person gives, as the roots of the lineage: the media files, and the settings that decide each stage.

Each is an observable asset, partitioned by character, whose data version is the hash of exactly what the stages behind
it use. So Dagster marks as stale what an edit really changes: a word in `curation:` leaves the frames alone, a new GIF
changes one character. The folder sensor observes them, and "Observe" in the UI does so at once; no stage logic belongs
here. What is about all characters together stands in across.py.
"""

import json
import stat
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg

from sticker_pipeline.benchmark.recommend import FILE_NAME, RecommendError, read_recommendations, settings_for
from sticker_pipeline.caching import file_hashes, folder_hashes
from sticker_pipeline.character import Character, character_names
from sticker_pipeline.dagster_kit.scope import Scope, observable_roots, own_artifact
from sticker_pipeline.dagster_kit.step import Step
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.inside import sha256, status
from sticker_pipeline.media.heic_jxl import installed
from sticker_pipeline.media.inventory import media_files
from sticker_pipeline.profile import Profile, check_models, with_values
from sticker_pipeline.publishing.contents import LCM_FACTS
from sticker_pipeline.publishing.release import Release, current, events, incumbent, releases_folder
from sticker_pipeline.storage import (
    MANIFEST,
    Artifact,
    ArtifactStore,
    content_hash,
    profile_scope,
    style_scope,
)
from sticker_pipeline.tagging.thresholds import resolved
from sticker_pipeline.training.foreign import lora_hash

PREFIX = "character"

LORA_FILE = "lora.safetensors"  # in every artifact that is one LoRA
SWEPT_OTHERWISE = (
    "What `adapter_sweep` recommends is not drawn: the base model, prompts or the profile's way to draw were others "
    "then. Materialize it again."
)
MOST_OTHERS = 40  # characters that one is told apart from
FRAME_SETTINGS = {"crop", "crop_margin", "merge", "near_duplicate_distance"}  # of the media settings

DESCRIPTIONS = {
    "media": "The files in the character's folder, and which groups they belong to.",
    "frames": "What is cut off frames, and when two count as the same picture.",
    "sampling": "Weighting mode, the share of each group, and the draws of an epoch.",
    "tagging": "The tagger's file and its thresholds.",
    "curation": "Trigger, learned tags and the `curation` section of character.yaml.",
    "dataset": "What is held out, and how pictures are prepared and cut.",
    "training": "The base model's files and every training setting.",
    "generation": "The base model's files, prompts, seeds and sampler.",
    "release": "The release that a new LoRA may replace, and is measured beside.",
    "recommended": "The settings that a sweep recommends for the selected LoRA.",
    "recommended_release": "The settings that a sweep recommends for the released LoRA.",
    "rivals": "The LoRA files of others that are measured beside ours.",
    "choice": "What else decides which epoch is used.",
    "benchmark": "The CLIP model's files, and how intervals are computed.",
    "others": "The other characters that pictures might be taken for.",
    "gate": "The limits that a LoRA must keep to be released.",
    "sweep": "The grid of a sweep, and the LoRAs of the release, the style and LCM that are swept.",
    "lcm": "The profile's LCM-LoRA, and how it goes on learning.",
    "roll_backs": "The releases that a person went back to.",
}


def key(section: str) -> dg.AssetKey:
    """The asset key of a section; stages name it in `deps`."""
    return dg.AssetKey([PREFIX, section])


@dataclass(frozen=True)
class OneCharacter:
    """A character and its profile."""

    character: Character
    profile: Profile


CharacterStep = Step[OneCharacter]


def of_character(workspace: Workspace, name: str) -> Scope[OneCharacter]:
    """Return the scope of the character with the name. Its `load` raises CharacterError or ProfileError."""

    def load() -> OneCharacter:
        character = workspace.character(name)
        return OneCharacter(character, workspace.profile(character))

    return Scope(
        name=name,
        partition=name,
        place=name,
        load=load,
        roots=[key(section) for section in DESCRIPTIONS],
        value=lambda section, own, store: section_value(section, own.character, own.profile, store),
        artifacts=partial(own_artifact, name),
        check=lambda own: check_models(own.profile),
        change=partial(_with_values, workspace),
    )


def _with_values(workspace: Workspace, own: OneCharacter, section: str, values: Mapping[str, Any]) -> OneCharacter:
    """Return the character as if `values` of the section stood in its character.yaml. Raises ProfileError."""
    changed = with_values(own.character, own.profile, section, values)
    return OneCharacter(changed, workspace.profile(changed))


observed_character = observable_roots(
    "observed_character",
    of_character,
    {key(section): description for section, description in DESCRIPTIONS.items()},
    partitions=CHARACTERS,
    kinds={"media": "file"},
)


def section_value(section: str, character: Character, profile: Profile, store: ArtifactStore) -> dict[str, Any]:
    """All that `section` stands for, as JSON types. Equal values mean that nothing has to be made again."""
    match section:
        case "media":
            return _media_value(character, profile, store)
        case "frames":
            return profile.media.model_dump(include=FRAME_SETTINGS)
        case "sampling":
            shares = {name: group.share for name, group in character.groups.items()}
            draws = profile.training.draws_per_epoch
            return {"mode": profile.sampling.mode, "shares": shares, "draws_per_epoch": draws}
        case "tagging":
            return _tagging_value(profile, store)
        case "curation":
            return _curation_value(character)
        case "dataset":
            return _dataset_value(character, profile)
        case "training":
            return _training_value(character, profile, store)
        case "generation":
            return _generation_value(character, profile, store)
        case "release":
            return _release_value(character, store)
        case "recommended":
            return _recommended_value(character, profile, store, "selected_lora", LORA_FILE)
        case "recommended_release":
            return _recommended_value(character, profile, store, "released_lora", f"{character.name}.safetensors")
        case "rivals":
            return _rivals_value(character, store)
        case "choice":
            settings = character.settings.benchmark
            return {"patience": settings.patience, "copies": settings.gate.copies}
        case "benchmark":
            return {
                "clip": model_hash(profile.clip, store),
                "styles": {name: group.style for name, group in character.groups.items()},
                "background": profile.background,
                "bootstrap_samples": profile.benchmark.bootstrap_samples,
            }
        case "others":
            return {"characters": other_characters(character, store)}
        case "gate":
            return character.settings.benchmark.gate.model_dump(mode="json")
        case "sweep":
            return _sweep_value(character, profile, store)
        case "lcm":
            return _lcm_value(profile, store)
        case "roll_backs":
            found = events(releases_folder(store, character.name))
            return {"to": [event.number for event in found if event.action == "roll back"]}
        case _:
            raise KeyError(section)


def _media_value(character: Character, profile: Profile, store: ArtifactStore) -> dict[str, Any]:
    files = media_files(character.folder, character.roots)
    hash_file = partial(sha256, roots=character.roots)
    hashes = file_hashes(files, store.cache("hashes") / f"{character.name}.json", hash_file)
    return {
        "files": {path.relative_to(character.folder).as_posix(): sha for path, sha in hashes.items()},
        "groups": sorted(character.groups),
        "limits": profile.media.model_dump(exclude=FRAME_SETTINGS),
        "readers": installed(),  # a file that was refused for want of one is looked at again
    }


def _tagging_value(profile: Profile, store: ArtifactStore) -> dict[str, Any]:
    thresholds = resolved(profile)
    return {
        "tagger": model_hash(profile.tagger, store),
        "thresholds": {
            "general_threshold": thresholds.general,
            "character_threshold": thresholds.character,
        },
    }


def _curation_value(character: Character) -> dict[str, Any]:
    learned = {name: group.learned for name, group in character.groups.items()}
    return {
        "trigger": character.trigger,
        "learned": learned,
        "curation": character.settings.curation.model_dump(mode="json"),
    }


def _dataset_value(character: Character, profile: Profile) -> dict[str, Any]:
    return {
        "holdout": character.settings.benchmark.holdout,
        "validation": character.settings.benchmark.validation,
        "resolution": profile.resolution,
        "background": profile.background,
        "buckets": profile.buckets.model_dump(mode="json"),
    }


def _generation_value(character: Character, profile: Profile, store: ArtifactStore) -> dict[str, Any]:
    return {
        "base": base_hash(profile.base, store),
        "resolution": profile.resolution,
        "styles": {name: group.style for name, group in character.groups.items()},
        "prompts": character.settings.benchmark.prompts,
        "sampler": profile.generation.model_dump(mode="json", exclude={"batch_size"}),
        "profile": profile.benchmark.model_dump(mode="json", exclude={"bootstrap_samples"}),
    }


def _rivals_value(character: Character, store: ArtifactStore) -> dict[str, Any]:
    return {
        rival.name: {
            **rival.model_dump(mode="json"),
            "file": _lora_hash(character.folder / rival.lora, character.roots, store),
        }
        for rival in character.settings.benchmark.rivals
    }


def _lora_hash(path: Path, roots: Sequence[Path], store: ArtifactStore) -> str:
    """The hash of a LoRA of others; `missing` where no file below `roots` can be read: a folder is none."""

    def hash_file(file: Path) -> str:
        memo = store.cache("hashes") / f"lora-{content_hash(str(file))[:16]}.json"
        return file_hashes([file], memo, partial(sha256, roots=roots)).get(file, "missing")

    try:
        return lora_hash(path, hash_file) if stat.S_ISREG(status(path, roots).st_mode) else "missing"
    except OSError:  # a name too long, a folder that may not be entered, a place out of the character's folder
        return "missing"


def _release_value(character: Character, store: ArtifactStore) -> dict[str, Any]:
    chosen = store.find(character.name, "selected_lora")
    sha256 = chosen.files["lora.safetensors"]["sha256"] if chosen else ""
    release = incumbent(releases_folder(store, character.name), sha256)
    return {"sha256": release.record.sha256 if release else None}


def _sweep_value(character: Character, profile: Profile, store: ArtifactStore) -> dict[str, Any]:
    release, selected = swept_release(character, profile, store), store.find(character.name, "selected_lora")
    swept = release.record.sha256 if release else selected.files[LORA_FILE]["sha256"] if selected else ""
    adapters = {"style": style_lora(character, store), "lcm": lcm_for(swept, character, profile, store)}
    return {
        "settings": profile.sweep.model_dump(mode="json"),
        "release": release.record.sha256 if release else None,
        **{name: found.files[LORA_FILE]["sha256"] if found else None for name, found in adapters.items()},
    }


def _lcm_value(profile: Profile, store: ArtifactStore) -> dict[str, Any]:
    found = lcm_lora(profile, store)
    return {
        "base": base_hash(profile.base, store),
        "settings": profile.lcm.model_dump(mode="json"),
        "lcm_lora": found.files[LORA_FILE]["sha256"] if found else None,
    }


def _recommended_value(
    character: Character, profile: Profile, store: ArtifactStore, asset: str, file: str
) -> dict[str, Any]:
    """For the LoRA `file` of `asset`; where nothing was swept, and where nothing is recommended, nothing of either."""
    swept, lora = store.find(character.name, "adapter_sweep"), store.find(character.name, asset)
    if swept is None or lora is None:
        return {"settings": [], "left_out": []}
    sha256 = lora.files[file]["sha256"]
    adapters = {"style": style_lora(character, store), "lcm": lcm_for(sha256, character, profile, store)}
    now = {name: found.files[LORA_FILE]["sha256"] if found else None for name, found in adapters.items()}
    try:
        found = read_recommendations(swept.folder / FILE_NAME)
    except RecommendError as error:
        return {"settings": [], "left_out": [str(error)]}
    settings, left_out = settings_for(found, profile.name, now | {"character": sha256})
    drawn_as = content_hash(_generation_value(character, profile, store))
    if settings and swept.inputs.get(f"{PREFIX}/generation") != drawn_as:
        settings, left_out = [], [SWEPT_OTHERWISE]
    weights = {name: f"{name}_weight" for name in now}
    return {
        "settings": [
            # with the files, so that a sweep of others that comes to the same setting is another value
            {**asdict(each), "loras": {name: now[name] for name, of in weights.items() if getattr(each.cell, of)}}
            for each in settings
        ],
        "left_out": left_out,
    }


def swept_release(character: Character, profile: Profile, store: ArtifactStore) -> Release | None:
    """The release that counts, which is what people use, if it is for the profile's base model."""
    release = current(releases_folder(store, character.name))
    return release if release and release.record.family == profile.family else None


def style_lora(character: Character, store: ArtifactStore) -> Artifact | None:
    """The LoRA of the style that the character names, where there is one."""
    style = character.settings.style
    return store.find(style_scope(style), "selected_style_lora") if style else None


def lcm_lora(profile: Profile, store: ArtifactStore) -> Artifact | None:
    """The LCM-LoRA of the profile's base model, where there is one."""
    return store.find(profile_scope(profile.name), "lcm_lora")


def lcm_for(sha256: str, character: Character, profile: Profile, store: ArtifactStore) -> Artifact | None:
    """The LCM-LoRA to use with the character's LoRA of that hash, where there is one: the character's own, if it was
    made for that LoRA, else the profile's."""
    own = store.find(character.name, "character_lcm_lora")
    return own if own and _made_for(own) == sha256 else lcm_lora(profile, store)


def _made_for(lcm: Artifact) -> str | None:
    """The hash of the character's LoRA that its LCM-LoRA was made for; None where the file that says so is damaged:
    then it is for none."""
    try:
        made_for: str = json.loads((lcm.folder / LCM_FACTS).read_text(encoding="utf-8"))["character_lora"]
    except (OSError, ValueError, KeyError):
        return None
    return made_for


def other_characters(character: Character, store: ArtifactStore) -> list[str]:
    """The names of at most MOST_OTHERS other characters that have a training set, sorted.

    Of more, those that follow it on a ring of hashes: a new character changes this for MOST_OTHERS others at most. Who
    they are is part of the lineage, their pictures are not: a new GIF of one has none of the others measured again.
    """
    ring = store.once("ring", lambda: _ring(character.folder.parent, store))
    own = bisect(ring, _on_ring(character.name))
    most = MOST_OTHERS + 1  # with its own place
    following = dict.fromkeys(name for _, name in ring[own : own + most] + ring[:most] if name != character.name)
    return sorted(islice(following, MOST_OTHERS))


def _ring(characters: Path, store: ArtifactStore) -> list[tuple[str, str]]:
    """The characters that have a training set, as (hash, name), sorted by hash."""
    made = ("training_set", "frames")
    return sorted(
        _on_ring(name)
        for name in character_names(characters)
        if all((store.folder(name, asset) / MANIFEST).is_file() for asset in made)
    )


def _on_ring(name: str) -> tuple[str, str]:
    return content_hash(name), name


def _training_value(character: Character, profile: Profile, store: ArtifactStore) -> dict[str, Any]:
    folder = regularisation_folder(character, profile)
    hash_file = partial(sha256, roots=character.roots)
    pictures = folder_hashes(folder, store.cache("hashes"), hash_file) if folder and folder.is_dir() else {}
    return {
        "base": base_hash(profile.base, store),
        "settings": profile.training.model_dump(mode="json"),
        "regularisation": content_hash(pictures),
    }


def regularisation_folder(character: Character, profile: Profile) -> Path | None:
    """The folder that training.regularisation names, beside the character's own where it is relative."""
    name = profile.training.regularisation
    return character.folder / name if name else None


def base_hash(base: Path, store: ArtifactStore) -> str:
    """`model_hash` of a base model: with a single file, also over the folder of configurations beside it."""
    return store.once(("base", base), lambda: _base_hash(base, store))


def _base_hash(base: Path, store: ArtifactStore) -> str:
    own, beside = model_hash(base, store), base.with_suffix("")
    if base.is_file() and beside.is_dir():
        return content_hash({"file": own, "configurations": model_hash(beside, store)})
    return own


def file_hash(path: Path, store: ArtifactStore) -> str:
    """Hex SHA-256 of a file that is there, remembered in the store."""
    return file_hashes([path], store.cache("hashes") / f"{path.name}.json")[path]


def model_hash(folder: Path, store: ArtifactStore) -> str:
    """One hash over the names and contents of a model's files, or that of a single file; `missing` where there is
    neither."""
    return store.once(("model", folder), lambda: _model_hash(folder, store))


def _model_hash(folder: Path, store: ArtifactStore) -> str:
    if folder.is_file():
        return file_hash(folder, store)
    if not folder.is_dir():
        return "missing"
    return content_hash(folder_hashes(folder, store.cache("hashes")))
