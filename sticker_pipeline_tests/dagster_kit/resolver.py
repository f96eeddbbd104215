"""Dagster's own staleness, as the UI shows it."""

from collections.abc import Iterable

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from sticker_pipeline.dagster_kit.compat import AssetGraph


def statuses(
    instance: dg.DagsterInstance, graph: AssetGraph, assets: Iterable[dg.AssetKey], partition: str | None
) -> dict[str, str]:
    """The last part of each key -> FRESH, STALE or MISSING."""
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return {key.path[-1]: resolver.get_status(key, partition).name for key in assets}
