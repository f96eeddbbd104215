"""Scopes (character, style, profile, all characters) and their roots, as observed assets.

The parts of a root name its settings and files; `roots/` has their values. An asset names the parts that it uses:
`@dg.asset(**made_from("frames", uses=["sampling"]), …)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile, check_models, load_profile, with_values
from sticker_pipeline.core.storage import ALL, ASSETS, Artifact, ArtifactStore, profile_scope, style_scope
from sticker_pipeline.dagster_kit import scope
from sticker_pipeline.dagster_kit.scope import Root, Scope, observable_roots, one_hash, own_artifact
from sticker_pipeline.dagster_kit.step import Step
from sticker_pipeline.defs.partitions import CHARACTERS, PROFILE_NAMES, STYLES
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.roots import across, character, profile, style
from sticker_pipeline.roots.across import AllCharacters, artifacts_across
from sticker_pipeline.roots.style import Style, style_of

CHARACTER_ROOTS = (
    Root(
        dg.AssetKey(["character", "media"]),
        "The character's files, and how they are read.",
        {
            "media": "the files in the character's folder, their groups, and the limits of files",
            "frames": "how frames are cropped, and when two count as the same image",
        },
        kind="file",
    ),
    Root(
        dg.AssetKey(["character", "captions"]),
        "How images are tagged, and captions made of the tags.",
        {
            "tagging": "the tagger's file and its thresholds",
            "curation": "trigger, learned tags, and the section `curation` of character.yaml",
        },
    ),
    Root(
        dg.AssetKey(["character", "training"]),
        "How images are weighted, split and trained on.",
        {
            "sampling": "weighting mode, the share of each group, and the samples of an epoch",
            "dataset": "what is held out, what the gate may leave unmeasured, and how images are prepared and cut",
            "training": "the base model's files, and every setting of the section `training`",
        },
    ),
    Root(
        dg.AssetKey(["character", "generation"]),
        "Generated images: prompts, models and settings.",
        {
            "generation": "the base model's files, prompts, seeds and sampler",
            "rivals": "the LoRA files of others that are measured beside ours",
            "recommended": "the settings that the sampling grid recommends for the selected LoRA",
        },
    ),
    Root(
        dg.AssetKey(["character", "evaluation"]),
        "How images are measured, and epochs chosen.",
        {
            "choice": "further settings that decide the epoch",
            "benchmark": "the CLIP model's files, and how intervals are computed",
            "others": "the other characters that images may be mistaken for",
            "sampling_grid": "the axes of the sampling grid, and its LoRAs: of the release, the style, LCM",
            "lcm": "the profile's LCM-LoRA, and how it is trained further",
        },
    ),
    Root(
        dg.AssetKey(["character", "release"]),
        "The releases, and the conditions for a new one.",
        {
            "release": "the baseline release, which a new LoRA may replace and is compared with",
            "gate": "the limits that a LoRA must keep to be released",
            "roll_backs": "the releases that a person went back to",
            "recommended_release": "the settings that the sampling grid recommends for the released LoRA",
        },
    ),
    Root(
        dg.AssetKey(["character", "pack"]),
        "The sticker pack, and a person's picks.",
        {
            "pack_candidates": "the slots and their tags, and the number of seeds",
            "pack": "the section `pack` of character.yaml, and the files in the folder pack",
        },
    ),
)
STYLE_ROOTS = (
    Root(
        dg.AssetKey(["style", "members"]),
        "The characters that name the style.",
        {"members": "their frames, captions and splits"},
        kind="parquet",
    ),
    Root(
        dg.AssetKey(["style", "training"]),
        "How the style is trained.",
        {
            "dataset": "how long captions are, and how images are cut",
            "training": "the base model's files, and every setting of the training",
        },
    ),
    Root(
        dg.AssetKey(["style", "evaluation"]),
        "How its epochs are measured and chosen.",
        {"choice": "the models and settings that epochs are sampled, measured and chosen with"},
    ),
)
PROFILE_ROOTS = (
    Root(
        dg.AssetKey(["profile", "lcm"]),
        "The inputs of an LCM-LoRA.",
        {"lcm": "the files of the base model, of CLIP and tagger, and the sections `lcm` and `generation`"},
        kind="file",
    ),
)
ALL_ROOTS = (
    Root(
        dg.AssetKey(["character", "roster"]),
        "Which characters there are.",
        {"roster": "the folders with a valid character.yaml"},
        kind="file",
    ),
    Root(
        dg.AssetKey(["character", "shared"]),
        "LoRAs that characters share.",
        {"shared": "LoRAs of their styles, and LCM-LoRAs of their profiles"},
        kind="file",
    ),
)
KEYS = {artifact: dg.AssetKey(key.split("/")) for artifact, key in ASSETS.items()}
STYLE_TRAINING_SET, STYLE_LORA = KEYS["style_training_set"], KEYS["style_lora"]
SELECTED_STYLE_LORA, LCM_LORA = KEYS["selected_style_lora"], KEYS["lcm_lora"]
ON_REQUEST = frozenset({dg.AssetKey("sampling_grid"), dg.AssetKey("character_lcm_lora"), LCM_LORA})  # slow
PACK_ASSETS = frozenset({dg.AssetKey("pack_candidates"), dg.AssetKey("sticker_pack")})  # by `pack:`, or on request
EVERYBODY = "all characters"  # name of the scope of_all
OF_ALL = ("leaderboard", "report")  # assets of all characters together

made_from = partial(scope.made_from, CHARACTER_ROOTS)
style_made_from = partial(scope.made_from, STYLE_ROOTS)
profile_made_from = partial(scope.made_from, PROFILE_ROOTS)
all_made_from = partial(scope.made_from, ALL_ROOTS)


@dataclass(frozen=True)
class OneCharacter:
    character: Character
    profile: Profile


CharacterStep = Step[OneCharacter]
StyleStep = Step[Style]


def of_character(workspace: Workspace, name: str) -> Scope[OneCharacter]:
    """Return the character's scope; its `load` raises CharacterError or ProfileError."""

    def load() -> OneCharacter:
        loaded = workspace.character(name)
        return OneCharacter(loaded, workspace.profile(loaded))

    return Scope(
        name=name,
        partitions=CHARACTERS,
        partition=name,
        place=name,
        load=load,
        roots=CHARACTER_ROOTS,
        value=lambda part, own, store: character.value(part, own.character, own.profile, store),
        artifacts=partial(own_artifact, name),
        check=lambda own: check_models(own.profile),
        is_wanted=lambda asset, own: asset not in PACK_ASSETS or own.character.settings.pack is not None,
        change=partial(_with_values, workspace),
    )


def _with_values(workspace: Workspace, own: OneCharacter, section: str, values: Mapping[str, Any]) -> OneCharacter:
    """Return the character with these `values` in a section of its settings.

    Raises ProfileError.
    """
    changed = with_values(own.character, own.profile, section, values)
    return OneCharacter(changed, workspace.profile(changed))


def of_style(workspace: Workspace, name: str) -> Scope[Style]:
    """Return the style's scope; its `load` raises StyleError or ProfileError."""
    return Scope(
        name=f"style {name}",
        partitions=STYLES,
        partition=name,
        place=style_scope(name),
        load=lambda: style_of(name, workspace.valid_characters()[0], workspace.store, workspace.models_folder),
        roots=STYLE_ROOTS,
        value=style.value,
        artifacts=partial(own_artifact, style_scope(name)),
        versions=_style_versions,
        check=lambda own: check_models(own.profile),
    )


def of_profile(workspace: Workspace, name: str) -> Scope[Profile]:
    """Return the profile's scope; its `load` raises ProfileError."""
    return Scope(
        name=f"profile {name}",
        partitions=PROFILE_NAMES,
        partition=name,
        place=profile_scope(name),
        load=lambda: load_profile(name, Path(workspace.models)),
        roots=PROFILE_ROOTS,
        value=lambda _, own, store: profile.value(own, store),
        artifacts=partial(own_artifact, profile_scope(name)),
        check=check_models,
    )


def of_all(workspace: Workspace, place: str = ALL) -> Scope[AllCharacters]:

    def artifacts(asset: str, store: ArtifactStore) -> Mapping[str, Artifact | None]:
        if asset in OF_ALL:
            return own_artifact(place, asset, store)
        found = artifacts_across(workspace.characters_folder, store, asset)
        return {f"{who}/{asset}": artifact for who, artifact in found.items()}

    return Scope(
        name=EVERYBODY,
        partitions=None,
        partition=None,
        place=place,
        load=lambda: AllCharacters(*workspace.valid_characters()),
        roots=ALL_ROOTS,
        value=lambda part, own, store: across.value(part, own.valid, store),
        artifacts=artifacts,
    )


def _style_versions(entry: str, value: dict[str, Any]) -> dict[str, str]:
    """Return a part's entries among an artifact's inputs.

    Members have one per character and artifact, for a style's lineage.
    """
    if entry == "style/members":
        return {f"{who}/{asset}": version for who, own in value.items() for asset, version in own.items()}
    return one_hash(entry, value)


observed_character = observable_roots("observed_character", of_character, CHARACTER_ROOTS, CHARACTERS)
observed_style = observable_roots("observed_style", of_style, STYLE_ROOTS, STYLES)
observed_profile = observable_roots("observed_profile", of_profile, PROFILE_ROOTS, PROFILE_NAMES)
observed_across = observable_roots("observed_across", of_all, ALL_ROOTS)
