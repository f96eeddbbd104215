"""What every asset step does around its stage: find the inputs, publish the artifact, report it to Dagster."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from sticker_pipeline.character import Character, character_names
from sticker_pipeline.dagster_kit.dead_runs import UPDATE_TAG
from sticker_pipeline.dagster_kit.orphans import end_with_run
from sticker_pipeline.defs.across import ROSTER, SHARED, across_value
from sticker_pipeline.defs.observed import PREFIX, key, observe, section_value
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.places import check_places
from sticker_pipeline.profile import Profile, check_models
from sticker_pipeline.storage import ALL, Artifact, ArtifactStore, StorageError, content_hash
from sticker_pipeline.texts import visible

LOGGER = logging.getLogger(__name__)
NOT_BY_A_PERSON = {UPDATE_TAG, "dagster/from_automation_condition", "dagster/sensor_name", "dagster/retry_number"}


@dataclass(frozen=True)
class Making:
    """One asset of one character in the making: write files into `staging`, then `publish` once."""

    context: dg.AssetExecutionContext
    store: ArtifactStore
    character: Character
    profile: Profile
    models: Path
    staging: Path
    inputs: dict[str, Artifact]
    sections: dict[str, dict[str, Any]]

    def publish(
        self, metadata: Mapping[str, Any], content: Callable[[str], bool] = lambda name: True
    ) -> dg.MaterializeResult:
        """Publish `staging` as the artifact. `content` picks the files that make the data version (default: all)."""
        versions = input_versions(self.inputs, self.sections)
        scope, settings = self.context.partition_key, self.sections
        return published(self.context, self.store, scope, self.staging, versions, settings, metadata, content)


class MadeMeanwhile(Exception):
    """Another run has made the artifact that this one was asked for."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(str(artifact.folder))
        self.artifact = artifact


Result = TypeVar("Result", dg.MaterializeResult, dg.MaterializeResult | None)


def once(make: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate the function of an asset so that it takes what another run has made meanwhile."""

    @wraps(make)
    def step(context: dg.AssetExecutionContext, *resources: Any, **named: Any) -> Result:
        try:
            return make(context, *resources, **named)
        except MadeMeanwhile as found:
            context.log.info("another run has made it meanwhile")
            return reported(found.artifact, _last_metadata(context))

    return step


def check_not_made(
    context: dg.AssetExecutionContext, store: ArtifactStore, scope: str, inputs: Mapping[str, str]
) -> None:
    """Raises MadeMeanwhile where another run has made the artifact from the same `inputs` by the same code: at any
    time, if this run was not requested by a person; since this one was, if it was."""
    try:
        artifact = store.find(scope, context.asset_key.to_user_string())
    except StorageError as error:
        context.log.warning(f"{error} It is made again now.")
        return
    if artifact is None or artifact.code_version != code_version(context) or artifact.inputs != dict(inputs):
        return
    record = context.instance.get_run_record_by_id(context.run_id)
    assert record is not None
    by_a_person = not any(record.dagster_run.tags.get(tag) for tag in NOT_BY_A_PERSON)
    if not by_a_person or store.published_at(artifact) > record.create_timestamp.timestamp():
        raise MadeMeanwhile(artifact)


def input_versions(inputs: Mapping[str, Artifact], sections: Mapping[str, Any]) -> dict[str, str]:
    """What stands among an artifact's inputs: a data version for each artifact, a hash for each section."""
    versions = {name: artifact.data_version for name, artifact in inputs.items()}
    return versions | {f"{PREFIX}/{name}": content_hash(value) for name, value in sections.items()}


def _last_metadata(context: dg.AssetExecutionContext) -> Mapping[str, Any]:
    """What the last materialization of the asset showed."""
    partitions = [context.partition_key] if context.has_partition_key else None
    records = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(context.asset_key, asset_partitions=partitions), limit=1
    ).records
    found = records[0].asset_materialization if records else None
    return found.metadata if found else {}


def published(
    context: dg.AssetExecutionContext,
    store: ArtifactStore,
    scope: str,
    staging: Path,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    metadata: Mapping[str, Any],
    content: Callable[[str], bool],
) -> dg.MaterializeResult:
    """Publish `staging` as the artifact of the asset of `context`, and report it to Dagster."""
    asset, version = context.asset_key.to_user_string(), code_version(context)
    artifact = store.publish(
        staging, scope, asset, code_version=version, inputs=inputs, settings=settings, content=content
    )
    return reported(artifact, metadata)


@contextmanager
def making(context: dg.AssetExecutionContext, workspace: Workspace) -> Iterator[Making]:
    """Open what the asset of `context` needs, as its `deps` name it: artifacts of the same character, and sections.

    Raises CharacterError, ProfileError or StorageError, each saying what to mend, before any work is done;
    MadeMeanwhile where there is nothing left to do (see `once`).
    """
    end_with_run()
    store = workspace.store
    with writing(context, workspace, context.partition_key) as staging:
        character = workspace.character(context.partition_key)  # as it is after a wait
        profile = workspace.profile(character)
        check_models(profile)
        inputs, sections = {}, {}
        for upstream in context.assets_def.asset_deps[context.asset_key]:
            if upstream.path[0] == PREFIX:
                sections[upstream.path[-1]] = section_value(upstream.path[-1], character, profile, store)
            else:
                inputs[upstream.path[-1]] = store.read(character.name, upstream.path[-1])
        if observe(context.instance, character.name, {key(name): value for name, value in sections.items()}):
            # Dagster noted the inputs' versions when the step began; without a second beginning, what is made now would
            # be shown as stale as soon as the sensor has looked.
            raise dg.RetryRequested(max_retries=1)
        check_not_made(context, store, character.name, input_versions(inputs, sections))
        yield Making(context, store, character, profile, Path(workspace.models), staging, inputs, sections)


def writing(context: dg.AssetExecutionContext, workspace: Workspace, scope: str) -> AbstractContextManager[Path]:
    """Open the folder in which the asset of `context` is made, after any other run that makes it.

    Raises SpaceError where the folders of this deployment cannot be worked on. From here on what the step logs has no
    hidden letters: Dagster prints it in a terminal too.
    """
    check_places(workspace.places)
    context.log.addFilter(without_hidden_letters)
    return workspace.store.writing(scope, context.asset_key.path[-1], context.log.info, context.run_id)


def without_hidden_letters(record: logging.LogRecord) -> bool:
    """Make hidden letters of the record's message escapes; keeps every record."""
    record.msg, record.args = visible(record.getMessage()), ()
    return True


def code_version(context: dg.AssetExecutionContext) -> str:
    version = context.assets_def.code_versions_by_key[context.asset_key]
    assert version is not None, f"{context.asset_key} has no code_version"
    return version


def reported(artifact: Artifact, metadata: Mapping[str, Any]) -> dg.MaterializeResult:
    """The result of a step whose artifact is published."""
    return dg.MaterializeResult(
        data_version=dg.DataVersion(artifact.data_version),
        metadata={**metadata, "dagster/uri": str(artifact.folder)},
    )


def current_inputs(
    spec: dg.AssetSpec,
    scope: str,
    workspace: Workspace,
    store: ArtifactStore,
    character: Character | None,
    profile: Profile | None,
) -> dict[str, str | None]:
    """The data versions that the asset would be made from now; None for an artifact that is not there.

    `store`: the workspace's, or a snapshot of it.
    """
    versions: dict[str, str | None] = {}
    for dep in spec.deps:
        name = dep.asset_key.path[-1]
        if dep.asset_key in (key(ROSTER), key(SHARED)):
            versions[f"{PREFIX}/{name}"] = content_hash(across_value(name, workspace.valid_characters()[0], store))
        elif dep.asset_key.path[0] == PREFIX:
            assert character is not None
            assert profile is not None
            value = section_value(name, character, profile, store)
            versions[f"{PREFIX}/{name}"] = content_hash(value)
        elif scope == ALL and (across := store.find(ALL, name)):
            versions[name] = across.data_version
        elif scope == ALL:
            versions |= made_across(workspace, name)
        else:
            found = store.find(scope, name)
            versions[name] = found.data_version if found else None
    return versions


def characters_with(workspace: Workspace, asset: str) -> list[str]:
    """The characters that have the artifact `asset`, sorted; artifacts of characters that were removed do not count."""
    return list(artifacts_across(workspace, asset))


def artifacts_across(workspace: Workspace, asset: str) -> dict[str, Artifact]:
    """The artifact `asset` of each character that has it, by name. One that is damaged is left out, with a warning."""
    found = {}
    for name in character_names(Path(workspace.characters)):
        try:
            artifact = workspace.store.find(name, asset)
        except StorageError as error:
            LOGGER.warning("%s is left out: %s", name, error)
            continue
        if artifact:
            found[name] = artifact
    return found


def made_across(workspace: Workspace, asset: str) -> dict[str, str]:
    """The data version of each character's `asset`, by `character/asset`: what stands among the inputs of an asset
    across characters."""
    return {f"{who}/{asset}": found.data_version for who, found in artifacts_across(workspace, asset).items()}


def checkpoints_of(training: Artifact) -> dict[int, Path]:
    """The checkpoint of each epoch of a training. Raises StorageError for one that is damaged."""
    names = sorted(name for name in training.files if name.startswith("checkpoints/epoch_"))
    return {int(Path(name).stem.removeprefix("epoch_")): training.file(name) for name in names}


def is_current(spec: dg.AssetSpec, scope: str, store: ArtifactStore, inputs: Mapping[str, str | None]) -> bool:
    """Whether the published artifact was made by this code from these inputs: Dagster's own rule for staleness, read
    from the artifacts themselves, so that it also holds when they or the run history were deleted."""
    artifact = store.find(scope, spec.key.path[-1])
    return artifact is not None and artifact.code_version == spec.code_version and artifact.inputs == dict(inputs)
