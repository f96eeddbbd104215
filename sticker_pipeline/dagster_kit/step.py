"""Steps: each makes one asset of a scope: finds inputs, publishes, reports."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import dagster as dg

from sticker_pipeline.core.character import Character
from sticker_pipeline.core.files.places import check_places
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import ALL, Artifact, ArtifactStore, StorageError
from sticker_pipeline.core.texts import visible
from sticker_pipeline.dagster_kit.compat import note_inputs
from sticker_pipeline.dagster_kit.dead_runs import UPDATE_TAG
from sticker_pipeline.dagster_kit.history import latest_observed
from sticker_pipeline.dagster_kit.metadata import SUMMARY
from sticker_pipeline.dagster_kit.one_off import ONE_OFF, OneOff, in_words
from sticker_pipeline.dagster_kit.orphans import end_with_run
from sticker_pipeline.dagster_kit.scope import Deployment, Scope, Subject, Values, news

BY_ITSELF = {UPDATE_TAG, "dagster/from_automation_condition", "dagster/sensor_name"}
NOT_BY_A_PERSON = {*BY_ITSELF, "dagster/retry_number"}


class _WithProfile(Protocol):
    @property
    def profile(self) -> Profile: ...


class _WithCharacter(Protocol):
    @property
    def character(self) -> Character: ...


@dataclass(frozen=True)
class Step(Generic[Subject]):
    """One asset of one scope being made: write into `staging`, then `publish` once.

    - `subject`: the loaded scope.
    - `inputs`: artifacts among the asset's deps.
    - `roots`: values of the used parts of roots.
    - `versions`: data versions of both, by input name.
    - `one_off`: the launch's values, included in `subject` and `roots`, not in `versions`: the artifact is out of date
      only when the settings change.
    """

    context: dg.AssetExecutionContext
    store: ArtifactStore
    scope: Scope[Subject]
    subject: Subject
    staging: Path
    inputs: dict[str, Artifact]
    roots: dict[str, Any]
    versions: dict[str, str]
    one_off: dict[str, Any]

    @property
    def profile(self: "Step[_WithProfile]") -> Profile:
        return self.subject.profile

    @property
    def character(self: "Step[_WithCharacter]") -> Character:
        return self.subject.character

    def leave_out(self, entry: str) -> None:
        """Remove an input of the artifact."""
        del self.inputs[entry], self.versions[entry]

    def publish(
        self, metadata: Mapping[str, Any], content: Callable[[str], bool] = lambda name: True
    ) -> dg.MaterializeResult:
        """Publish `staging` as the artifact.

        `content` selects the files of the data version (default: all).
        """
        settings, shown = dict(self.roots), dict(metadata)
        if self.one_off:
            settings[ONE_OFF] = self.one_off
            shown[SUMMARY] = f"{shown[SUMMARY]}; {in_words(self.one_off)}"
        artifact = self.store.publish(
            self.staging,
            self.scope.place,
            self.scope.artifact_name(self.context.asset_key),
            code_version=code_version(self.context),
            inputs=self.versions,
            settings=settings,
            content=content,
        )
        return reported(artifact, shown)


Place = TypeVar("Place", bound=Deployment)


@contextmanager
def open_step(
    context: dg.AssetExecutionContext,
    workspace: Place,
    scope_of: Callable[[Place, str], Scope[Subject]],
    *,
    also_current: bool = False,
    config: OneOff | None = None,
    optional: Collection[str] = (),
) -> Iterator[Step[Subject]]:
    """Open the artifacts and roots that the asset's `deps` name.

    Raises an error with a remedy before any work. Raises MadeMeanwhile if nothing is left to do (see `once`), unless
    `also_current`. `config` has the launch's values. `optional`: artifacts that may be missing.
    """
    end_with_run()
    scope = scope_of(workspace, context.partition_key if context.has_partition_key else ALL)
    store = workspace.store
    with writing(context, workspace, scope) as staging:
        scope = scope.loaded(scope.load())  # as after the wait
        subject = scope.load()
        scope.check(subject)
        given = config.given(context) if config else {}
        changed = _changed(scope, subject, config, given)
        spec = context.assets_def.get_asset_spec(context.asset_key)
        deps = [dep.asset_key for dep in spec.deps]
        values = scope.values(store, deps)
        observe(context.instance, scope.partition, values)
        note_inputs(context)
        inputs: dict[str, Artifact] = {}
        for name in (scope.artifact_name(dep) for dep in deps if dep not in values):
            for entry, found in scope.artifacts(name, store).items():
                if found or name not in optional:
                    inputs[entry] = found or store.read(scope.place, name)
        versions = {entry: artifact.data_version for entry, artifact in inputs.items()} | scope.part_versions(
            spec, values
        )
        if not also_current:
            check_not_made(context, store, scope, versions, given)
        if given:
            values = scope.loaded(changed).values(store, deps)
        yield Step(context, store, scope, changed, staging, inputs, scope.used(spec, values), versions, given)


def observe(instance: dg.DagsterInstance, partition: str | None, values: Values) -> None:
    """Report the roots with a value new to Dagster."""
    for each in news(values, partition, partial(latest_observed, instance)):
        instance.report_runless_asset_event(each)


def _changed(scope: Scope[Subject], subject: Any, config: OneOff | None, given: Mapping[str, Any]) -> Any:
    if config is None or not given:
        return subject
    assert scope.change is not None, f"{scope.name} takes no values of a launch"
    return scope.change(subject, config.section, given)


class MadeMeanwhile(Exception):
    """An artifact that another run has made since the request."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact.uri)
        self.artifact = artifact


Result = TypeVar("Result", dg.MaterializeResult, dg.MaterializeResult | None)


def once(make: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate an asset's function to accept another run's result."""

    @wraps(make)
    def step(context: dg.AssetExecutionContext, *resources: Any, **named: Any) -> Result:
        try:
            return make(context, *resources, **named)
        except MadeMeanwhile as found:
            context.log.info("another run has made it meanwhile")
            return reported(found.artifact, _last_metadata(context))

    return step


def check_not_made(
    context: dg.AssetExecutionContext,
    store: ArtifactStore,
    scope: Scope[Any],
    inputs: Mapping[str, str],
    given: Mapping[str, Any],
) -> None:
    """Raise MadeMeanwhile if another run made the artifact from equal `inputs` and code.

    For a person's run, only if published since its request. A person's run and its retries need the same `given` values
    too, and so does every run with such values.
    """
    try:
        artifact = store.find(scope.place, scope.artifact_name(context.asset_key))
    except StorageError as error:
        context.log.warning(f"{error} It is made again now.")
        return
    if artifact is None or artifact.code_version != code_version(context) or artifact.inputs != dict(inputs):
        return
    record = context.instance.get_run_record_by_id(context.run_id)
    assert record is not None
    tags = {tag for tag, value in record.dagster_run.tags.items() if value}
    if (given or not tags & BY_ITSELF) and artifact.settings.get(ONE_OFF, {}) != dict(given):
        return
    by_a_person = not tags & NOT_BY_A_PERSON
    if not by_a_person or store.published_at(artifact) > record.create_timestamp.timestamp():
        raise MadeMeanwhile(artifact)


def _last_metadata(context: dg.AssetExecutionContext) -> Mapping[str, Any]:
    partitions = [context.partition_key] if context.has_partition_key else None
    records = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(context.asset_key, asset_partitions=partitions), limit=1
    ).records
    found = records[0].asset_materialization if records else None
    return found.metadata if found else {}


def writing(
    context: dg.AssetExecutionContext, workspace: Deployment, scope: Scope[Any]
) -> AbstractContextManager[Path]:
    """Open the asset's staging folder, after other runs that make it.

    Raises SpaceError for unusable folders. From here on, hidden letters in the step's log are escaped: Dagster prints
    it in a terminal too.
    """
    check_places(workspace.places)
    context.log.addFilter(without_hidden_letters)
    return workspace.store.writing(
        scope.place, scope.artifact_name(context.asset_key), context.log.info, context.run_id
    )


def without_hidden_letters(record: logging.LogRecord) -> bool:
    """Escape hidden letters in the message; keep every record."""
    record.msg, record.args = visible(record.getMessage()), ()
    return True


def code_version(context: dg.AssetExecutionContext) -> str:
    version = context.assets_def.code_versions_by_key[context.asset_key]
    assert version is not None, f"{context.asset_key} has no code_version"
    return version


def reported(artifact: Artifact, metadata: Mapping[str, Any]) -> dg.MaterializeResult:
    """Return the step's result for an artifact."""
    return dg.MaterializeResult(
        data_version=dg.DataVersion(artifact.data_version),
        metadata={**metadata, "dagster/uri": artifact.uri},
    )
