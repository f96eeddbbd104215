"""Styles: the ones that there are, the characters of each, and the scope of one.

A style is made of all characters whose character.yaml names it and that have a training set, once there are two. What
it is made of is observed, as that of a character is (observed.py): `style/members` has the versions of the characters'
artifacts. So the assets of a style have its own partitions alone, and are out of date when a dataset of one of its
characters is another one, and by nothing that other characters do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from sticker_pipeline.character import Character
from sticker_pipeline.dagster_kit.scope import Scope, observable_roots, one_hash, own_artifact
from sticker_pipeline.dagster_kit.step import Step
from sticker_pipeline.dataset.style_set import MIN_MEMBERS, Member
from sticker_pipeline.defs.observed import base_hash, model_hash
from sticker_pipeline.defs.partitions import STYLES
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.profile import Profile, ProfileError, check_models, profile_name, style_profile
from sticker_pipeline.storage import MANIFEST, ArtifactStore, style_scope
from sticker_pipeline.tagging.curation import DROPPED
from sticker_pipeline.tagging.thresholds import resolved
from sticker_pipeline.texts import UserError

PREFIX = "style"
MEMBERS = "members"
MADE_OF = ("frames", "curated_tags", "training_set")  # of each character
DESCRIPTIONS = {
    MEMBERS: "The frames, captions and splits of the characters that name the style.",
    "dataset": "How long captions are, and how pictures are cut.",
    "training": "The base model's files and every training setting.",
    "choice": "The models and settings that its epochs are drawn, looked at and chosen with.",
}


class StyleError(UserError):
    """A style that cannot be made; the message says why, and what to do."""


@dataclass(frozen=True)
class Style:
    """A style, the characters that it is made of, sorted by name, and the profile that they share."""

    name: str
    members: list[Character]
    profile: Profile


StyleStep = Step[Style]


def key(section: str) -> dg.AssetKey:
    """The asset key of a section of a style; its assets name it in `deps`."""
    return dg.AssetKey([PREFIX, section])


def of_style(workspace: Workspace, name: str) -> Scope[Style]:
    """Return the scope of the style. Its `load` raises StyleError or ProfileError."""
    return Scope(
        name=f"style {name}",
        partition=name,
        place=style_scope(name),
        load=lambda: style_of(workspace, name),
        roots=[key(section) for section in DESCRIPTIONS],
        value=section_value,
        artifacts=partial(own_artifact, style_scope(name)),
        versions=_versions,
        check=lambda style: check_models(style.profile),
    )


observed_style = observable_roots(
    "observed_style",
    of_style,
    {key(section): description for section, description in DESCRIPTIONS.items()},
    partitions=STYLES,
    kinds={MEMBERS: "parquet"},
)


def named_styles(valid: Sequence[tuple[Character, Profile]]) -> dict[str, list[Character]]:
    """Style -> those of the `valid` characters that name it, both sorted."""
    found: dict[str, list[Character]] = {}
    for character, _ in valid:
        if character.settings.style:
            found.setdefault(character.settings.style, []).append(character)
    return dict(sorted(found.items()))


def ready_styles(workspace: Workspace, valid: Sequence[tuple[Character, Profile]]) -> tuple[list[Style], list[str]]:
    """The styles that can be made, and what is in the way of others. One of which fewer than MIN_MEMBERS characters
    have a dataset is in neither."""
    ready, problems = [], []
    for name, named in named_styles(valid).items():
        try:
            style = _style(workspace, name, named)
        except (StyleError, ProfileError) as error:
            problems.append(str(error))
            continue
        if len(style.members) >= MIN_MEMBERS:
            ready.append(style)
    return ready, problems


def style_of(workspace: Workspace, name: str) -> Style:
    """The style, with those of its characters that have a training set. Raises StyleError where nobody names it, or
    characters with different profiles do; ProfileError for settings that cannot be."""
    return _style(workspace, name, named_styles(workspace.valid_characters()[0]).get(name, []))


def _style(workspace: Workspace, name: str, named: Sequence[Character]) -> Style:
    profiles = {profile_name(character): character.name for character in named}
    if not named:
        raise StyleError(f"No character names the style '{name}': write `style: {name}` in its character.yaml.")
    if len(profiles) > 1:
        who = ", ".join(f"{member} has {profile}" for profile, member in profiles.items())
        raise StyleError(f"Style '{name}': its characters need one profile, for one LoRA fits one base model; {who}.")
    store = workspace.store
    members = [one for one in named if all((store.folder(one.name, asset) / MANIFEST).is_file() for asset in MADE_OF)]
    return Style(name, members, style_profile(next(iter(profiles)), Path(workspace.models)))


def section_value(section: str, style: Style, store: ArtifactStore) -> dict[str, Any]:
    """All that `section` stands for, as JSON types. Equal values mean that nothing has to be made again."""
    profile = style.profile
    match section:
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
            raise KeyError(section)


def members_of(style: Style, store: ArtifactStore) -> list[Member]:
    """The style's characters with their tables as published. What a character's captions are taught is what they were
    made with, whatever its character.yaml says now."""
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


def _versions(root: dg.AssetKey, value: dict[str, Any]) -> dict[str, str]:
    """Return what stands among an artifact's inputs for a root.

    Of the members it is each artifact of each character, so that the lineage of a style can be followed.
    """
    if root == key(MEMBERS):
        return {f"{who}/{asset}": version for who, own in value.items() for asset, version in own.items()}
    return one_hash(root, value)
