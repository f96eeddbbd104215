"""Values of a character's roots: media files, and each asset's settings."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from sticker_pipeline.benchmark.recommend import FILE_NAME, RecommendError, read_recommendations, settings_for
from sticker_pipeline.benchmark.releases import baseline_release, events, releases_folder
from sticker_pipeline.core.caching import file_hashes, folder_hashes
from sticker_pipeline.core.character import PACK, Character, Pack
from sticker_pipeline.core.files.inside import sha256
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import ArtifactStore, content_hash
from sticker_pipeline.media.heic_jxl import installed
from sticker_pipeline.media.inventory import media_files
from sticker_pipeline.roots.hashes import base_hash, lora_file_hash, model_hash
from sticker_pipeline.roots.loras import LORA_FILE, lcm_for, lcm_lora, release_to_sample, style_lora
from sticker_pipeline.roots.others import other_characters
from sticker_pipeline.tagging.thresholds import resolved

FRAME_SETTINGS = {"crop", "crop_margin", "merge", "near_duplicate_distance"}  # part of the media settings
MADE_OTHERWISE = (
    "The settings that `sampling_grid` recommends are not used: it was made with another base model, other prompts or "
    "other sampling settings of the profile. Materialize it again."
)
Value = dict[str, Any]


def value(part: str, character: Character, profile: Profile, store: ArtifactStore) -> Value:
    """Return the value of `part` as JSON types.

    If it is equal, nothing is made again.
    """
    return VALUES[part](character, profile, store)


def _media(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    files = media_files(character.folder, character.roots)
    hash_file = partial(sha256, roots=character.roots)
    hashes = file_hashes(files, store.cache("hashes") / f"{character.name}.json", hash_file)
    return {
        "files": {path.relative_to(character.folder).as_posix(): sha for path, sha in hashes.items()},
        "groups": sorted(character.groups),
        "limits": profile.media.model_dump(exclude=FRAME_SETTINGS),
        "readers": installed(),  # a file refused without a reader is tried again
    }


def _frames(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    return profile.media.model_dump(include=FRAME_SETTINGS)


def _sampling(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    shares = {name: group.share for name, group in character.groups.items()}
    draws = profile.training.samples_per_epoch
    return {"mode": profile.sampling.mode, "shares": shares, "samples_per_epoch": draws}


def _tagging(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    thresholds = resolved(profile)
    return {
        "tagger": model_hash(profile.tagger, store),
        "thresholds": {
            "general_threshold": thresholds.general,
            "character_threshold": thresholds.character,
        },
    }


def _curation(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    learned = {name: group.learned for name, group in character.groups.items()}
    return {
        "trigger": character.trigger,
        "learned": learned,
        "curation": character.settings.curation.model_dump(mode="json"),
    }


def _dataset(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    settings = character.settings.benchmark
    unmeasured = settings.gate.unmeasured  # the default is left out: training sets of before this key stay current
    return {
        **({} if unmeasured == "refuse" else {"unmeasured": unmeasured}),
        "holdout": settings.holdout,
        "validation": settings.validation,
        "resolution": profile.resolution,
        "background": profile.background,
        "buckets": profile.buckets.model_dump(mode="json"),
    }


def _training(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    folder = regularisation_folder(character, profile)
    hash_file = partial(sha256, roots=character.roots)
    images = folder_hashes(folder, store.cache("hashes"), hash_file) if folder and folder.is_dir() else {}
    return {
        "base": base_hash(profile.base, store),
        "settings": profile.training.model_dump(mode="json"),
        "regularisation": content_hash(images),
    }


def _generation(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    return {
        "base": base_hash(profile.base, store),
        "resolution": profile.resolution,
        "mediums": {name: group.medium for name, group in character.groups.items()},
        "prompts": character.settings.benchmark.prompts,
        "sampler": profile.generation.model_dump(mode="json", exclude={"batch_size"}),
        "profile": profile.benchmark.model_dump(mode="json", exclude={"bootstrap_samples"}),
    }


def _rivals(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    return {
        rival.name: {
            **rival.model_dump(mode="json"),
            "file": lora_file_hash(character.folder / rival.lora, character.roots, store),
        }
        for rival in character.settings.benchmark.rivals
    }


def _choice(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    settings = character.settings.benchmark
    return {"patience": settings.patience, "copies": settings.gate.copies}


def _benchmark(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    return {
        "clip": model_hash(profile.clip, store),
        "mediums": {name: group.medium for name, group in character.groups.items()},
        "background": profile.background,
        "bootstrap_samples": profile.benchmark.bootstrap_samples,
    }


def _others(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    return {"characters": other_characters(character, store)}


def _gate(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    return character.settings.benchmark.gate.model_dump(mode="json")


def _roll_backs(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    found = events(releases_folder(store, character.name))
    return {"to": [event.number for event in found if event.action == "roll back"]}


def _release(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    chosen = store.find(character.name, "selected_lora")
    sha256 = chosen.sha256("lora.safetensors") if chosen else ""
    release = baseline_release(releases_folder(store, character.name), sha256)
    return {"sha256": release.record.sha256 if release else None}


def _sampling_grid(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    release, selected = release_to_sample(character, profile, store), store.find(character.name, "selected_lora")
    lora = release.record.sha256 if release else selected.sha256(LORA_FILE) if selected else ""
    adapters = {"style": style_lora(character, store), "lcm": lcm_for(lora, character, profile, store)}
    return {
        "settings": profile.sampling_grid.model_dump(mode="json"),
        "release": release.record.sha256 if release else None,
        **{name: found.sha256(LORA_FILE) if found else None for name, found in adapters.items()},
    }


def _lcm(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    found = lcm_lora(profile, store)
    return {
        "base": base_hash(profile.base, store),
        "settings": profile.lcm.model_dump(mode="json"),
        "lcm_lora": found.sha256(LORA_FILE) if found else None,
    }


def _recommended_for(character: Character, profile: Profile, store: ArtifactStore, asset: str, file: str) -> Value:
    """Return the recommendation for the LoRA `file` of `asset`.

    Empty without a grid, a LoRA or a recommendation.
    """
    grid, lora = store.find(character.name, "sampling_grid"), store.find(character.name, asset)
    if grid is None or lora is None:
        return {"settings": [], "left_out": []}
    sha256 = lora.sha256(file)
    adapters = {"style": style_lora(character, store), "lcm": lcm_for(sha256, character, profile, store)}
    now = {name: found.sha256(LORA_FILE) if found else None for name, found in adapters.items()}
    try:
        found = read_recommendations(grid.fetched([FILE_NAME]) / FILE_NAME)
    except RecommendError as error:
        return {"settings": [], "left_out": [str(error)]}
    settings, left_out = settings_for(found, profile.name, now | {"character": sha256})
    drawn_as = content_hash(_generation(character, profile, store))
    if settings and grid.inputs.get("character/generation") != drawn_as:
        settings, left_out = [], [MADE_OTHERWISE]
    weights = {name: f"{name}_weight" for name in now}
    return {
        "settings": [
            # with the files: the same setting for other LoRAs is another value
            {**asdict(each), "loras": {name: now[name] for name, of in weights.items() if getattr(each.point, of)}}
            for each in settings
        ],
        "left_out": left_out,
    }


def _recommended(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    return _recommended_for(character, profile, store, "selected_lora", LORA_FILE)


def _recommended_release(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    return _recommended_for(character, profile, store, "released_lora", f"{character.name}.safetensors")


def _pack_candidates(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    pack = character.settings.pack or Pack()
    return {"slots": pack.slots, **pack.model_dump(mode="json", include={"prompts", "seeds", "own"})}


def _pack(character: Character, profile: Profile, store: ArtifactStore) -> Value:
    pack, folder = character.settings.pack or Pack(), character.folder / PACK
    hash_file = partial(sha256, roots=character.roots)
    own = folder_hashes(folder, store.cache("hashes"), hash_file) if folder.is_dir() else {}
    return {**pack.model_dump(mode="json", exclude={"prompts", "seeds"}), "files": content_hash(own)}


def regularisation_folder(character: Character, profile: Profile) -> Path | None:
    """Return training.regularisation, relative to the character's folder."""
    name = profile.training.regularisation
    return character.folder / name if name else None


VALUES: dict[str, Callable[[Character, Profile, ArtifactStore], Value]] = {
    "media": _media,
    "frames": _frames,
    "tagging": _tagging,
    "curation": _curation,
    "sampling": _sampling,
    "dataset": _dataset,
    "training": _training,
    "generation": _generation,
    "rivals": _rivals,
    "recommended": _recommended,
    "choice": _choice,
    "benchmark": _benchmark,
    "others": _others,
    "sampling_grid": _sampling_grid,
    "lcm": _lcm,
    "release": _release,
    "gate": _gate,
    "roll_backs": _roll_backs,
    "recommended_release": _recommended_release,
    "pack_candidates": _pack_candidates,
    "pack": _pack,
}
