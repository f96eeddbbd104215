"""Dagster's history is read for all partitions at once."""

import dagster as dg
import pytest

from sticker_pipeline.dagster_kit import history
from sticker_pipeline.dagster_kit.compat import DATA_VERSION_TAG
from sticker_pipeline.dagster_kit.history import History, remember_members

NAMES = [f"c{number}" for number in range(50)]


def test_partitions_are_looked_for_in_one_set(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    clock = [100.0]
    monkeypatch.setattr(history.time, "monotonic", lambda: clock[0])
    storage = instance.event_log_storage
    for name in ("get_dynamic_partitions", "has_dynamic_partition"):
        real = getattr(storage, name)
        monkeypatch.setattr(storage, name, lambda *given, name=name, real=real: asked.append(name) or real(*given))
    instance.add_dynamic_partitions("characters", NAMES)
    remember_members(instance)
    assert all(instance.has_dynamic_partition("characters", name) for name in NAMES)
    assert asked == ["get_dynamic_partitions"]
    instance.add_dynamic_partitions("characters", ["new"])
    assert instance.has_dynamic_partition("characters", "new")
    assert not instance.has_dynamic_partition("characters", "nobody")
    assert not instance.has_dynamic_partition("styles", "c1")
    instance.delete_dynamic_partition("characters", "c1")
    clock[0] += history.MEMBERS_SECONDS + 0.1
    assert not instance.has_dynamic_partition("characters", "c1")
    assert instance.has_dynamic_partition("characters", "c2")


@pytest.fixture
def drawn(instance: dg.DagsterInstance) -> History:
    """An asset made for each of NAMES, and twice for the first."""
    partitions = dg.DynamicPartitionsDefinition(name="characters")

    @dg.asset(partitions_def=partitions)
    def drawing() -> None: ...

    instance.add_dynamic_partitions("characters", NAMES)
    for name in (*NAMES, NAMES[0]):
        tags = {DATA_VERSION_TAG: f"{name}.{len(instance.fetch_materializations(drawing.key, limit=99).records)}"}
        instance.report_runless_asset_event(dg.AssetMaterialization(drawing.key, partition=name, tags=tags))
    return History(instance, dg.Definitions([drawing]).resolve_asset_graph())


def test_records_are_read_once_in_a_process_for_those_that_are_asked_for(
    drawn: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record has the images of its asset; numbers and versions have an index of their own."""
    key, read = dg.AssetKey("drawing"), list[int]()
    real = drawn.instance.fetch_materializations

    def fetch(records, limit):  # type: ignore[no-untyped-def]
        found = real(records, limit)
        read.extend(record.storage_id for record in found.records)
        return found

    monkeypatch.setattr(drawn.instance, "fetch_materializations", fetch)
    latest = drawn.latest_of_all(key)
    assert [latest[name].version for name in NAMES[:3]] == ["c0.50", "c1.1", "c2.2"] and len(latest) == len(NAMES)
    assert drawn.version_at(key, "c0", latest["c49"].storage_id) == "c0.0"
    assert drawn.versions_at(key, latest["c1"].storage_id) == {"c0": "c0.0", "c1": "c1.1"}
    assert read == []
    assert drawn.noted(key, "c7") == {DATA_VERSION_TAG: "c7.7"} == drawn.noted(key, "c7")
    assert read == [latest["c7"].storage_id]
    again = History(drawn.instance, drawn.graph)
    again.read_noted(key, [*NAMES, "nobody"])
    assert again.noted(key, "c0") == {DATA_VERSION_TAG: "c0.50"}
    assert sorted(read) == sorted(event.storage_id for event in latest.values())


def test_what_is_reported_is_read_when_it_is_asked_for(drawn: History) -> None:
    key = dg.AssetKey("drawing")
    before = drawn.latest(key, "c1")
    drawn.report(dg.AssetMaterialization(key, partition="c1", tags={DATA_VERSION_TAG: "new"}))
    drawn.instance.report_runless_asset_event(  # by another process, before we read
        dg.AssetMaterialization(key, partition="c1", tags={DATA_VERSION_TAG: "newer"})
    )
    after = drawn.latest(key, "c1")
    assert before and after and after.storage_id > before.storage_id and after.version == "newer"
    assert drawn.noted(key, "c1") == {DATA_VERSION_TAG: "newer"}, "what the other noted, not what we did"
    assert drawn.latest_of_all(key)["c2"].version == "c2.2"
