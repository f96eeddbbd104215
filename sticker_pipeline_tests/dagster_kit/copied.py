"""The history of an instance in memory, copied into another one."""

from sqlite3 import Connection
from typing import Any

import dagster as dg

from sticker_pipeline.dagster_kit.compat import history_id


def copy_history(source: dg.DagsterInstance, target: dg.DagsterInstance) -> None:
    """Copy the events and runs of `source` into `target`: both are `DagsterInstance.ephemeral()`.

    Events keep their numbers, which cursors name. The target keeps its identity: what a process has read of a history
    is remembered by it.
    """
    original, identity = history_id(source), history_id(target)  # made when they are first asked for
    _database(source.event_log_storage).backup(_database(target.event_log_storage))
    runs = _database(target.run_storage)
    _database(source.run_storage).backup(runs)
    with runs:
        runs.execute("UPDATE instance_info SET run_storage_id = ?", [identity])
    assert history_id(target) == identity != original


def _database(storage: Any) -> Connection:
    return getattr(storage, "_storage", storage)._held_conn.connection.driver_connection
