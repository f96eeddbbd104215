"""A step of any scope finds its inputs by its deps, runs once, and reports new roots to Dagster."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import dagster as dg
import pytest

from sticker_pipeline.core.files.places import Places
from sticker_pipeline.core.storage import ArtifactStore, StorageError, content_hash
from sticker_pipeline.dagster_kit.compat import latest_checks
from sticker_pipeline.dagster_kit.history import History, latest_observed
from sticker_pipeline.dagster_kit.metadata import SUMMARY
from sticker_pipeline.dagster_kit.one_off import OneOff
from sticker_pipeline.dagster_kit.restored import stale_now
from sticker_pipeline.dagster_kit.scope import Root, Scope, made_from, observable_roots, own_artifact
from sticker_pipeline.dagster_kit.step import observe, once, open_step
from sticker_pipeline_tests.dagster_kit.resolver import statuses

SHAPE, COLOUR = dg.AssetKey(["box", "shape"]), dg.AssetKey(["box", "colour"])
ROOTS = (
    Root(SHAPE, "Its shape.", {"size": "how large it is", "corners": "how many it has"}),
    Root(COLOUR, "Its colour.", {"colour": "of its lid"}, kind="file"),
)
PARTITIONS = dg.StaticPartitionsDefinition(["red", "blue"])
RED = {"size": 3, "corners": 8, "colour": 5}
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
        partitions=PARTITIONS,
        roots=ROOTS,
        value=lambda part, box, _: [box[part]],
        artifacts=partial(own_artifact, f"_styles/{name}"),
        check=lambda box: _check(box),
        change=lambda box, _, values: {**box, **values},
    )


def _check(box: dict[str, int]) -> None:
    if box["size"] < 0:
        raise ValueError("a box of no size")


def asset(name: str, inputs: dict[str, Any], code: str = "1", **options: Any) -> dg.AssetsDefinition:
    @dg.asset(name=name, **inputs, code_version=code, partitions_def=PARTITIONS)
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
    return Folders(store=ArtifactStore(str(tmp_path / "artifacts")), places=None, boxes={"red": dict(RED)})


class BoxConfig(OneOff):
    section: ClassVar[str] = "box"

    size: int | None = None
    sides: list[int] | None = None


@dg.asset(**made_from(ROOTS, uses=["size"]), code_version="1", partitions_def=PARTITIONS)
@once
def sized(
    context: dg.AssetExecutionContext, config: BoxConfig, workspace: dg.ResourceParam[Any]
) -> dg.MaterializeResult:
    with open_step(context, workspace, of_box, config=config) as work:
        made.append("sized")
        (work.staging / "value.txt").write_text(f"{work.subject['size']} {work.roots['size']}")
        return work.publish({SUMMARY: "a box"})


FIRST = asset("first", made_from(ROOTS, uses=["size"]))
SECOND = asset("second", made_from(ROOTS, "first", uses=["size", "colour"]))


def run(
    instance: dg.DagsterInstance,
    workspace: Folders,
    *assets: dg.AssetsDefinition,
    config: dict[str, Any] | None = None,
    **tags: str,
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [*assets, *(dg.AssetSpec(root, partitions_def=PARTITIONS) for root in (SHAPE, COLOUR))],
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
    assert made == ["first"]
    assert latest_observed(instance, SHAPE, "red") == content_hash({"size": [3], "corners": [8]})
    assert latest_observed(instance, COLOUR, "red") is None


def test_what_was_observed_by_the_step_is_what_it_was_made_from(
    instance: dg.DagsterInstance, workspace: Folders
) -> None:
    """Without a second beginning: Dagster itself does not show it as stale."""
    run(instance, workspace, FIRST)
    workspace.boxes["red"]["size"] = 4
    run(instance, workspace, FIRST, SECOND)
    assert made == ["first", "first", "second"]
    assert resolved(instance, workspace) == {"first": "FRESH", "second": "FRESH"}


def resolved(instance: dg.DagsterInstance, workspace: Folders) -> dict[str, str]:
    """The status that the UI shows."""
    keys = [dg.AssetKey(name) for name in ("first", "second")]
    return statuses(instance, definitions(workspace).resolve_asset_graph(), keys, "red")


def definitions(workspace: Folders) -> dg.Definitions:
    line = dg.define_asset_job("line", selection=["first", "second"])
    sources = [dg.AssetSpec(root.key, partitions_def=PARTITIONS) for root in ROOTS]
    return dg.Definitions([FIRST, SECOND, *sources], jobs=[line], resources={"workspace": workspace})


def test_roots_are_observed_at_a_click(instance: dg.DagsterInstance, workspace: Folders) -> None:
    observable = observable_roots("boxes", of_box, ROOTS, PARTITIONS)
    specs = [observable.get_asset_spec(root.key) for root in ROOTS]
    assert [(spec.kinds, spec.group_name) for spec in specs] == [({"yaml"}, "box"), ({"file"}, "box")]
    assert specs[0].description == "Its shape.\n\n- size: how large it is\n\n- corners: how many it has"
    job = dg.Definitions([observable], resources={"workspace": workspace}).resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(partition_key="red", instance=instance, asset_selection=[SHAPE]).success
    assert latest_observed(instance, SHAPE, "red") == content_hash({"size": [3], "corners": [8]})
    assert latest_observed(instance, COLOUR, "red") is None


def test_what_is_current_is_made_again_for_a_person_or_where_it_is_wanted(
    instance: dg.DagsterInstance, workspace: Folders
) -> None:
    by_automation = {"dagster/from_automation_condition": "true"}
    run(instance, workspace, FIRST)
    assert run(instance, workspace, FIRST, **by_automation).success
    assert made == ["first"]
    run(instance, workspace, FIRST)
    run(instance, workspace, asset("first", made_from(ROOTS, uses=["size"]), also_current=True), **by_automation)
    assert made == ["first"] * 3
    workspace.boxes["red"] = RED | {"size": 4}
    run(instance, workspace, FIRST, **by_automation)
    assert made == ["first"] * 4


def test_values_of_a_launch_are_used_and_noted_and_count_as_the_settings(
    instance: dg.DagsterInstance, workspace: Folders
) -> None:
    result = run(instance, workspace, sized, config={"size": 9})
    artifact = workspace.store.read("_styles/red", "sized")
    assert (artifact.folder / "value.txt").read_text() == "9 [9]"
    assert artifact.settings == {"size": [9], "one_off": {"size": 9}}
    assert artifact.inputs == {"box/size": content_hash([3])}
    (event,) = result.get_asset_materialization_events()
    said = "a box; made with size = 9 by its launch, not as character.yaml says"
    assert event.materialization.metadata[SUMMARY].value == said
    assert sized_is_stale(instance, workspace) == []
    workspace.boxes["red"]["size"] = 4
    assert sized_is_stale(instance, workspace) == [sized.key]
    run(instance, workspace, sized, config={})
    artifact = workspace.store.read("_styles/red", "sized")
    assert (artifact.folder / "value.txt").read_text() == "4 [4]"
    assert artifact.settings == {"size": [4]}


def sized_is_stale(instance: dg.DagsterInstance, workspace: Folders) -> list[dg.AssetKey]:
    sources = [dg.AssetSpec(root.key, partitions_def=PARTITIONS) for root in ROOTS]
    graph = dg.Definitions([sized, *sources], resources={"workspace": workspace}).resolve_asset_graph()
    return stale_now(History(instance, graph), [sized.key], of_box(workspace, "red"), workspace.store)


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


def stale(instance: dg.DagsterInstance, workspace: Folders) -> list[str]:
    graph = definitions(workspace).resolve_asset_graph()
    assets = [dg.AssetKey("first"), dg.AssetKey("second")]
    found = stale_now(History(instance, graph), assets, of_box(workspace, "red"), workspace.store)
    shown = {name for name, status in resolved(instance, workspace).items() if status != "FRESH"}
    assert shown <= {key.path[-1] for key in found}
    return [key.path[-1] for key in found]


def test_stale_is_what_other_inputs_or_other_code_would_make(
    instance: dg.DagsterInstance, workspace: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stale(instance, workspace) == ["first", "second"]
    run(instance, workspace, FIRST, SECOND)
    assert stale(instance, workspace) == []
    workspace.boxes["red"]["colour"] = 6
    assert stale(instance, workspace) == ["second"]
    workspace.boxes["red"] = RED | {"size": 4}
    assert stale(instance, workspace) == ["first", "second"]
    workspace.boxes["red"] = dict(RED)
    assert stale(instance, workspace) == []
    monkeypatch.setattr(
        f"{__name__}.SECOND", asset("second", made_from(ROOTS, "first", uses=["size", "colour"]), code="2")
    )
    assert stale(instance, workspace) == ["second"]


def test_a_part_that_an_asset_does_not_use_leaves_it_as_it_is(instance: dg.DagsterInstance, workspace: Folders) -> None:
    run(instance, workspace, FIRST, SECOND)
    before = instance.get_latest_materialization_event(FIRST.key).asset_materialization
    workspace.boxes["red"]["corners"] = 6
    assert stale(instance, workspace) == []
    after = instance.get_latest_materialization_event(FIRST.key).asset_materialization
    assert after != before and after.metadata == before.metadata
    count = len(instance.fetch_materializations(FIRST.key, limit=99).records)
    assert stale(instance, workspace) == []
    assert len(instance.fetch_materializations(FIRST.key, limit=99).records) == count, "nothing is reported twice"


def test_a_deleted_history_is_restored_from_the_manifests(workspace: Folders, instance: dg.DagsterInstance) -> None:
    run(instance, workspace, FIRST, SECOND)
    with dg.DagsterInstance.ephemeral() as new:
        assert stale(new, workspace) == []
        assert resolved(new, workspace) == {"first": "FRESH", "second": "FRESH"}
    workspace.boxes["red"]["colour"] = 6
    with dg.DagsterInstance.ephemeral() as new:
        assert stale(new, workspace) == ["second"]
        assert resolved(new, workspace) == {"first": "FRESH", "second": "STALE"}
    assert made == ["first", "second"]


def test_a_verdict_that_a_new_history_lacks_is_given_on_what_is_current(workspace: Folders) -> None:
    """The step ends at once, and its blocking check is made."""
    check = dg.AssetCheckKey(FIRST.key, "small")

    @dg.asset_check(asset=FIRST, name=check.name, blocking=True, partitions_def=PARTITIONS)
    def small() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    with dg.DagsterInstance.ephemeral() as old:
        run(old, workspace, FIRST)
    with dg.DagsterInstance.ephemeral() as new:
        assert stale(new, workspace) == ["second"]
        assert latest_checks(new, [check], "red") == {}
        line = dg.Definitions([FIRST], asset_checks=[small], resources={"workspace": workspace})
        job = line.resolve_implicit_global_asset_job_def()
        tags = {"dagster/from_automation_condition": "true"}
        assert job.execute_in_process(partition_key="red", instance=new, tags=tags).success
        assert latest_checks(new, [check], "red")[check].evaluation.passed
    assert made == ["first"]


def test_an_artifact_that_was_deleted_or_exchanged_is_shown_as_it_is(
    workspace: Folders, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run(instance, workspace, FIRST, SECOND)
    folder = workspace.store.folder("_styles/red", "first")
    folder.rename(tmp_path / "aside")
    assert stale(instance, workspace) == ["first", "second"]
    assert resolved(instance, workspace)["first"] == "STALE"
    (tmp_path / "aside").rename(folder)
    assert stale(instance, workspace) == []
    assert resolved(instance, workspace) == {"first": "FRESH", "second": "FRESH"}


def last(instance: dg.DagsterInstance) -> dg.AssetMaterialization:
    found = instance.fetch_materializations(FIRST.key, limit=1).records[0].asset_materialization
    assert found is not None
    return found


def test_an_artifact_that_was_away_for_a_look_keeps_its_metadata(
    workspace: Folders, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run(instance, workspace, FIRST)
    made, folder = last(instance), workspace.store.folder("_styles/red", "first")
    folder.rename(tmp_path / "aside")
    assert "first" in stale(instance, workspace)
    assert last(instance).metadata["summary"].value == f"{folder} was deleted"
    (tmp_path / "aside").rename(folder)
    assert stale(instance, workspace) == ["second"]
    assert last(instance).metadata == made.metadata


def test_a_look_that_began_before_a_step_ended_reports_nothing_older(
    workspace: Folders, instance: dg.DagsterInstance
) -> None:
    """An evaluation of many scopes continues while others work: its data may be old when it reaches a scope."""
    run(instance, workspace, FIRST)
    graph, store = definitions(workspace).resolve_asset_graph(), workspace.store.snapshot()
    history, scope = History(instance, graph), of_box(workspace, "red")
    assets = [FIRST.key, SECOND.key]
    assert stale_now(history, assets, scope, store) == [SECOND.key]
    workspace.boxes["red"]["size"] = 4
    run(instance, workspace, FIRST, SECOND)
    made = last(instance)
    stale_now(history, assets, scope, store)
    assert last(instance) == made
    assert stale(instance, workspace) == []


def test_what_is_in_the_way_is_said_before_any_work(instance: dg.DagsterInstance, workspace: Folders) -> None:
    of_red = of_box(workspace, "red")
    observe(instance, "red", of_red.values(workspace.store))
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
