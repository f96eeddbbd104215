"""Styles shared by characters: names, members, and values of roots."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile, ProfileError, profile_name, style_profile
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.core.texts import UserError
from sticker_pipeline.dataset.style_set import MIN_MEMBERS, Member
from sticker_pipeline.roots.hashes import base_hash, model_hash
from sticker_pipeline.roots.others import some_others
from sticker_pipeline.tagging.curation import DROPPED
from sticker_pipeline.tagging.thresholds import resolved

MADE_OF = ("frames", "curated_tags", "training_set")  # artifacts of each character


class StyleError(UserError):
    """A style cannot be made; the message gives reason and remedy."""


@dataclass(frozen=True)
class Style:
    """A style, its characters sorted by name, and their shared profile."""

    name: str
    members: list[Character]
    profile: Profile


def named_styles(valid: Sequence[tuple[Character, Profile]]) -> dict[str, list[Character]]:
    """Return style -> its characters among `valid`, both sorted."""
    found: dict[str, list[Character]] = {}
    for character, _ in valid:
        if character.settings.style:
            found.setdefault(character.settings.style, []).append(character)
    return dict(sorted(found.items()))


def of_its_style(character: Character, valid: Sequence[tuple[Character, Profile]]) -> list[Character]:
    """Return the character, and those that share its style.

    Of more than MOST_OTHERS others, those that follow on the ring of `roots/others.py`.
    """
    named = named_styles(valid).get(character.settings.style or "", [])
    others = set(some_others(character.name, (member.name for member in named)))
    return [character, *(member for member in named if member.name in others)]


def ready_styles(
    valid: Sequence[tuple[Character, Profile]], store: ArtifactStore, models: Path
) -> tuple[list[Style], list[str]]:
    """Return the styles that can be made, and problems of others.

    Those with fewer than MIN_MEMBERS characters with a dataset are in neither.
    """
    ready, problems = [], []
    for name, named in named_styles(valid).items():
        try:
            style = _style(name, named, store, models)
        except (StyleError, ProfileError) as error:
            problems.append(str(error))
            continue
        if len(style.members) >= MIN_MEMBERS:
            ready.append(style)
    return ready, problems


def style_of(name: str, valid: Sequence[tuple[Character, Profile]], store: ArtifactStore, models: Path) -> Style:
    """Return the style with its characters that have a training set.

    Raises StyleError without characters or with several profiles, ProfileError for invalid settings.
    """
    return _style(name, named_styles(valid).get(name, []), store, models)


def _style(name: str, named: Sequence[Character], store: ArtifactStore, models: Path) -> Style:
    profiles = {profile_name(character): character.name for character in named}
    if not named:
        raise StyleError(f"No character names the style '{name}': write `style: {name}` in its character.yaml.")
    if len(profiles) > 1:
        who = ", ".join(f"{member} has {profile}" for profile, member in profiles.items())
        raise StyleError(f"Style '{name}': its characters need one profile, for one LoRA fits one base model; {who}.")
    members = [one for one in named if all(store.stamp(one.name, asset) for asset in MADE_OF)]
    return Style(name, members, style_profile(next(iter(profiles)), models))


def value(part: str, style: Style, store: ArtifactStore) -> dict[str, Any]:
    """Return the value of `part` as JSON types.

    If it is equal, nothing is made again. Raises KeyError for another part.
    """
    profile = style.profile
    match part:
        case "members":
            return {
                one.name: {asset: store.read(one.name, asset).data_version for asset in MADE_OF}
                for one in style.members
            }
        case "dataset":
            return {
                "tags": profile.style.tags,
                "resolution": profile.resolution,
                "buckets": profile.buckets.model_dump(mode="json"),
            }
        case "training":
            return {"base": base_hash(profile.base, store), "settings": profile.training.model_dump(mode="json")}
        case "choice":
            thresholds = resolved(profile)
            return {
                "base": base_hash(profile.base, store),
                "clip": model_hash(profile.clip, store),
                "tagger": model_hash(profile.tagger, store),
                "thresholds": [thresholds.general, thresholds.character],
                "resolution": profile.resolution,
                "background": profile.background,
                "sampler": profile.generation.model_dump(mode="json", exclude={"batch_size"}),
                "bootstrap_samples": profile.benchmark.bootstrap_samples,
                "style": profile.style.model_dump(mode="json", exclude={"tags", "training"}),
            }
        case _:
            raise KeyError(part)


def members_of(style: Style, store: ArtifactStore) -> list[Member]:
    """Return the style's characters with their published tables.

    Taught tags are those of the captions, not of the current character.yaml.
    """
    found = []
    for character in style.members:
        frames, curated, training_set = (store.read(character.name, asset) for asset in MADE_OF)
        said = curated.settings["curation"]
        taught = {group: [said["trigger"], *learned] for group, learned in said["learned"].items()}
        found.append(
            Member(
                character.name,
                frames.table(),
                training_set.table(),
                curated.table(),
                curated.table(DROPPED.file),
                taught,
            )
        )
    return found
