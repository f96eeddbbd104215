"""The gate's checks of a benchmark, for the UI and the release."""

import pandas as pd

from sticker_pipeline.benchmark.gate import Check, gate
from sticker_pipeline.benchmark.measure import BASE, RELEASED
from sticker_pipeline.benchmark.side_by_side import COMPARISONS
from sticker_pipeline.core.character import Character, Gate
from sticker_pipeline.core.storage import Artifact


def gate_checks(benchmark: Artifact, character: Character) -> list[Check]:
    """The gate's verdicts on a benchmark. Raises StorageError for a damaged one."""
    return checks_of(benchmark.table(), benchmark.table(COMPARISONS.file), character.settings.benchmark.gate)


def checks_of(table: pd.DataFrame, compared: pd.DataFrame, limits: Gate) -> list[Check]:
    """The gate's verdicts on a benchmark's table and its comparisons (COMPARISONS)."""
    over_base, over_release = (compared[compared["other"] == other] for other in (BASE, RELEASED))
    return gate(table, over_base, None if over_release.empty else over_release, limits)
