"""Dagster's history is read for all partitions at once."""

import dagster as dg
import pytest

from sticker_pipeline.dagster_kit import history
from sticker_pipeline.dagster_kit.history import remember_members

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
