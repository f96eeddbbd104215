"""A step of any scope finds its inputs by its deps, is made once, and tells Dagster what it has not seen."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import dagster as dg
import pytest

from sticker_pipeline.dagster_kit.metadata import SUMMARY
from sticker_pipeline.dagster_kit.one_off import OneOff
from sticker_pipeline.dagster_kit.scope import Scope, observable_roots, observe, own_artifact
from sticker_pipeline.dagster_kit.staleness import current_inputs, is_current, stale_assets
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.places import Places
from sticker_pipeline.storage import ArtifactStore, StorageError, content_hash

SIZE, COLOUR = dg.AssetKey(["box", "size"]), dg.AssetKey(["box", "colour"])
PARTITIONS = dg.StaticPartitionsDefinition(["red", "blue"])
made: list[str] = []


class Folders(SimpleNamespace):
    """A deployment of which only the store is used."""

    store: ArtifactStore
    places: Places


def of_box(workspace: Any, name: str) -> Scope[dict[str, int]]:
    return Scope(
        name=f"box {name}",
        partition=name,
        place=f"_styles/{name}",
        load=lambda: workspace.boxes[name],
        roots=[SIZE, COLOUR],
        value=lambda section, box, _: [box[section]],
        artifacts=partial(own_artifact, f"_styles/{name}"),
        check=lambda box: _check(box),
        change=lambda box, _, values: {**box, **values},
    )


def _check(box: dict[str, int]) -> None:
    if box["size"] < 0:
        raise ValueError("a box of no size")


def asset(name: str, deps: list[Any], **options: Any) -> dg.AssetsDefinition:
    @dg.asset(name=name, deps=deps, code_version="1", partitions_def=PARTITIONS)
    @once
    def step(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Any]) -> dg.MaterializeResult:
        with open_step(context, workspace, of_box, **options) as work:
            made.append(name)
            (work.staging / "value.txt").write_text(f"{work.subject['size']} {sorted(work.inputs)}")
            return work.publish({"roots": sorted(work.roots)})

    return step


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    made.clear()
    monkeypatch.setattr("sticker_pipeline.dagster_kit.step.check_places", lambda *_: None)
    return Folders(
        store=ArtifactStore(str(tmp_path / "artifacts")), places=None, boxes={"red": {"size": 3, "colour": 5}}
    )


class BoxConfig(OneOff):
    section: ClassVar[str] = "box"

    size: int | None = None
    sides: list[int] | None = None


@dg.asset(deps=[SIZE], code_version="1", partitions_def=PARTITIONS)
@once
def sized(
    context: dg.AssetExecutionContext, config: BoxConfig, workspace: dg.ResourceParam[Any]
) -> dg.MaterializeResult:
    with open_step(context, workspace, of_box, config=config) as work:
        made.append("sized")
        (work.staging / "value.txt").write_text(f"{work.subject['size']} {work.roots['size']}")
        return work.publish({SUMMARY: "a box"})


FIRST = asset("first", [SIZE])
SECOND = asset("second", ["first", SIZE, COLOUR])


def run(
    instance: dg.DagsterInstance,
    workspace: Folders,
    *assets: dg.AssetsDefinition,
    config: dict[str, Any] | None = None,
    **tags: str,
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [*assets, *(dg.AssetSpec(root, partitions_def=PARTITIONS) for root in (SIZE, COLOUR))],
        selection=[one.key for one in assets],
        resources={"workspace": workspace},
        partition_key="red",
        instance=instance,
        raise_on_error=False,
        tags=tags,
        run_config={"ops": {assets[0].op.name: {"config": config}}} if config is not None else None,
    )


def test_inputs_are_found_by_deps_and_noted(instance: dg.DagsterInstance, workspace: Folders) -> None:
    assert run(instance, workspace, FIRST, SECOND).success
    first, second = (workspace.store.read("_styles/red", name) for name in ("first", "second"))
    sizes = {"box/size": content_hash([3])}
    assert (first.inputs, first.settings) == (sizes, {"size": [3]})
    assert second.inputs == {"first": first.data_version, "box/colour": content_hash([5]), **sizes}
    assert (second.folder / "value.txt").read_text() == "3 ['first']"


def test_roots_that_dagster_has_not_seen_are_observed_first(instance: dg.DagsterInstance, workspace: Folders) -> None:
    run(instance, workspace, FIRST)
    assert made == ["first"]  # after a second beginning
    record = instance.get_latest_data_version_record(SIZE, is_source=True, partition_key="red")
    assert record is not None
    assert not observe(instance, "red", {SIZE: [3]})
    assert observe(instance, "red", {SIZE: [4]})


def test_roots_are_observed_at_a_click(instance: dg.DagsterInstance, workspace: Folders) -> None:
    roots = {SIZE: "How large it is.", COLOUR: "Its colour."}
    observable = observable_roots("boxes", of_box, roots, partitions=PARTITIONS, kinds={"colour": "file"})
    kinds = [(observable.get_asset_spec(root).kinds, observable.get_asset_spec(root).group_name) for root in roots]
    assert kinds == [({"yaml"}, "box"), ({"file"}, "box")]
    definitions = dg.Definitions([observable], resources={"workspace": workspace})
    job = definitions.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(partition_key="red", instance=instance, asset_selection=[SIZE]).success
    assert not observe(instance, "red", {SIZE: [3]})
    assert observe(instance, "red", {COLOUR: [5]})


def test_what_is_current_is_made_again_for_a_person_or_where_it_is_wanted(
    instance: dg.DagsterInstance, workspace: Folders
) -> None:
    by_automation = {"dagster/from_automation_condition": "true"}
    run(instance, workspace, FIRST)
    assert run(instance, workspace, FIRST, **by_automation).success
    assert made == ["first"]
    run(instance, workspace, FIRST)
    run(instance, workspace, asset("first", [SIZE], also_current=True), **by_automation)
    assert made == ["first"] * 3
    workspace.boxes["red"] = {"size": 4, "colour": 5}
    run(instance, workspace, FIRST, **by_automation)
    assert made == ["first"] * 4


def test_values_of_a_launch_are_used_and_noted_and_count_as_the_settings(
    instance: dg.DagsterInstance, workspace: Folders
) -> None:
    spec = sized.get_asset_spec(sized.key)
    result = run(instance, workspace, sized, config={"size": 9})
    artifact = workspace.store.read("_styles/red", "sized")
    assert (artifact.folder / "value.txt").read_text() == "9 [9]"
    assert artifact.settings == {"size": [9], "one_off": {"size": 9}}
    assert artifact.inputs == {"box/size": content_hash([3])}
    (event,) = result.get_asset_materialization_events()
    said = "a box; made with size = 9 by its launch, not as character.yaml says"
    assert event.materialization.metadata[SUMMARY].value == said
    assert is_current(spec, of_box(workspace, "red"), workspace.store)
    workspace.boxes["red"]["size"] = 4
    assert not is_current(spec, of_box(workspace, "red"), workspace.store)
    run(instance, workspace, sized, config={})
    artifact = workspace.store.read("_styles/red", "sized")
    assert (artifact.folder / "value.txt").read_text() == "4 [4]"
    assert artifact.settings == {"size": [4]}


PERSON: dict[str, str] = {}
AUTOMATION = {"dagster/from_automation_condition": "true"}
RETRY = {"dagster/retry_number": "1"}
OLDER, NEWER = 0.0, float("inf")


@pytest.mark.parametrize(
    ("before", "given", "tags", "published", "makes"),
    [
        ({}, {}, PERSON, NEWER, False),
        ({}, {}, PERSON, OLDER, True),
        ({}, {"size": 9}, PERSON, NEWER, True),
        ({"size": 9}, {}, PERSON, NEWER, True),
        ({"size": 9}, {"size": 8}, PERSON, NEWER, True),
        ({"size": 9}, {"size": 9}, PERSON, NEWER, False),
        ({"size": 9}, {"size": 9}, PERSON, OLDER, True),
        ({"size": 9}, {}, AUTOMATION, OLDER, False),
        ({"size": 9}, {}, RETRY, OLDER, True),
        ({"size": 9}, {"size": 9}, RETRY, OLDER, False),
        ({}, {"size": 9}, RETRY, OLDER, True),
        ({"size": 9}, {}, AUTOMATION | RETRY, OLDER, False),
    ],
)
def test_what_another_run_has_made_is_taken_if_it_is_what_this_one_was_asked_for(
    instance: dg.DagsterInstance,
    workspace: Folders,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, int],
    given: dict[str, int],
    tags: dict[str, str],
    published: float,
    makes: bool,
) -> None:
    run(instance, workspace, sized, config=before)
    made.clear()
    monkeypatch.setattr(ArtifactStore, "published_at", lambda *_: published)
    assert run(instance, workspace, sized, config=given, **tags).success
    assert made == (["sized"] if makes else [])


@pytest.mark.parametrize("config", [{"size": {"env": "NUMBER"}}, {"sides": [1, {"env": "NUMBER"}]}])
def test_a_launch_reads_no_variable_of_the_environment(
    instance: dg.DagsterInstance, workspace: Folders, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]
) -> None:
    monkeypatch.setenv("NUMBER", "5")
    result = run(instance, workspace, sized, config=config)
    (name,) = config
    (event,) = (event for event in result.all_node_events if event.is_step_failure)
    error = event.step_failure_data.error
    assert error is not None and error.cause is not None
    said = f"The launch's configuration: '{name}': write the number; a variable is not read."
    assert said in error.cause.message
    assert not made


def test_stale_is_what_other_inputs_or_other_code_would_make(instance: dg.DagsterInstance, workspace: Folders) -> None:
    line = dg.define_asset_job("line", selection=["first", "second"])
    sources = [dg.AssetSpec(root, partitions_def=PARTITIONS) for root in (SIZE, COLOUR)]
    definitions = dg.Definitions([FIRST, SECOND, *sources], jobs=[line], resources={"workspace": workspace})

    def stale() -> list[str]:
        found = stale_assets(definitions, "line", of_box(workspace, "red"), workspace.store)
        return [key.to_user_string() for key in found]

    spec = SECOND.get_asset_spec(SECOND.key)
    assert stale() == ["first", "second"]
    assert current_inputs(spec, of_box(workspace, "red"), workspace.store)["first"] is None
    run(instance, workspace, FIRST, SECOND)
    assert stale() == []
    workspace.boxes["red"]["colour"] = 6
    assert stale() == ["second"]
    workspace.boxes["red"] = {"size": 4, "colour": 5}
    assert stale() == ["first", "second"]
    workspace.boxes["red"]["size"] = 3
    assert is_current(spec, of_box(workspace, "red"), workspace.store)
    assert not is_current(spec.replace_attributes(code_version="2"), of_box(workspace, "red"), workspace.store)


def test_what_is_in_the_way_is_said_before_any_work(instance: dg.DagsterInstance, workspace: Folders) -> None:
    observe(instance, "red", {SIZE: [3], COLOUR: [5]})
    assert failure(run(instance, workspace, SECOND)) == StorageError.__name__
    workspace.boxes["red"]["size"] = -1
    assert failure(run(instance, workspace, FIRST)) == "ValueError"
    assert not made


def failure(result: dg.ExecuteInProcessResult) -> str | None:
    (event,) = (event for event in result.all_node_events if event.is_step_failure)
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.cls_name if error else None
