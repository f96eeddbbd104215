"""Resources: folders (STICKER_* variables) and the trainer's launcher."""

import os
from pathlib import Path

import dagster as dg
from pydantic import Field

from sticker_pipeline.core.character import (
    FILE_NAME,
    Character,
    CharacterError,
    character_folders,
    check_name,
    load_character,
    unknown_character,
)
from sticker_pipeline.core.files.places import Places
from sticker_pipeline.core.files.space import FULL, SpaceError
from sticker_pipeline.core.profile import Profile, ProfileError, character_profile
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.core.stores import is_address, open_store
from sticker_pipeline.core.texts import shortened
from sticker_pipeline.dagster_kit.executors import chosen_executor
from sticker_pipeline.dagster_kit.fixed import NO_VALUES, fixed
from sticker_pipeline.dagster_kit.instance import home
from sticker_pipeline.dagster_kit.launcher import TrainerLauncher
from sticker_pipeline.dagster_kit.loggers import terminal
from sticker_pipeline.dagster_kit.patience import wait_in_peace
from sticker_pipeline.tagging.thresholds import resolved

MOST_WORDS = 400  # characters of an error that are shown


class Workspace(dg.ConfigurableResource):
    """The deployment's folders."""

    characters: str = Field(description="one folder per character, each with a character.yaml")
    artifacts: str = Field(description="what the assets make; may be deleted, and is made again")
    models: str = Field(description="base models, taggers and CLIPs")
    scratch: str = Field("scratch", description="local copies, if the artifacts are in an object store")

    @property
    def store(self) -> ArtifactStore:
        return open_store(self.artifacts, self.scratch)

    @property
    def places(self) -> Places:
        """Return the folders that `core/files/places.py` checks. Raises SpaceError for an address."""
        for name, value in (("STICKER_CHARACTERS", self.characters), ("STICKER_MODELS", self.models)):
            if is_address(value):
                raise SpaceError(f"{name}={value}: only a folder that this machine mounts. Artifacts may be elsewhere.")
        variable = "STICKER_SCRATCH" if is_address(self.artifacts) else "STICKER_ARTIFACTS"
        return Places(self.characters_folder, self.store.root, Path(self.models).absolute(), home(), variable)

    @property
    def models_folder(self) -> Path:
        return Path(self.models)

    @property
    def characters_folder(self) -> Path:
        return Path(self.characters).absolute()

    def character(self, name: str) -> Character:
        """Return the character; raise CharacterError with a remedy, also for invalid names."""
        check_name(name)
        folder = self.characters_folder / name
        if not os.path.lexists(folder):
            raise CharacterError(unknown_character(self.characters_folder, name))
        return load_character(folder)

    def profile(self, character: Character) -> Profile:
        """Return the character's profile; raises ProfileError, with a remedy."""
        profile = character_profile(character, Path(self.models))
        try:
            resolved(profile)  # report unknown thresholds before any work
        except ProfileError as error:
            raise ProfileError(f"{character.folder / FILE_NAME}: {error}") from error
        return profile

    def valid_characters(self) -> tuple[list[tuple[Character, Profile]], list[str]]:
        """Return all valid characters, and problems of the others."""
        valid, problems = [], []
        for folder in character_folders(Path(self.characters).absolute()):
            try:
                character = load_character(folder)
                valid.append((character, self.profile(character)))
            except (CharacterError, ProfileError) as error:
                problems.append(str(error))
            except Exception as error:
                if isinstance(error, OSError) and error.errno in FULL:  # a full disk concerns all characters
                    raise
                problems.append(f"{folder}: {shortened(str(error), MOST_WORDS)}")
        return valid, problems


def workspace_from_environment() -> Workspace:
    return Workspace(
        characters=os.environ.get("STICKER_CHARACTERS") or "data/characters",
        artifacts=os.environ.get("STICKER_ARTIFACTS") or "artifacts",
        models=os.environ.get("STICKER_MODELS") or "data/models",
        scratch=os.environ.get("STICKER_SCRATCH") or "scratch",
    )


@dg.definitions
def defs() -> dg.Definitions:
    wait_in_peace()
    return dg.Definitions(
        loggers={"terminal": terminal},
        resources={
            "workspace": fixed(workspace_from_environment(), "The folders of this deployment: STICKER_* variables."),
            "launcher": fixed(TrainerLauncher(), "Runs the trainer on this machine."),
            "io_manager": NO_VALUES,
        },
        executor=chosen_executor(os.environ),
    )
