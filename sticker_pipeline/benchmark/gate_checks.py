"""The gate's checks of a benchmark, for the UI and the release."""

import pandas as pd

from sticker_pipeline.benchmark.gate import Check, gate
from sticker_pipeline.benchmark.measure import BASE, RELEASED
from sticker_pipeline.benchmark.side_by_side import COMPARISONS
from sticker_pipeline.core.character import Character
from sticker_pipeline.core.storage import Artifact


def gate_checks(benchmark: Artifact, character: Character) -> list[Check]:
    """The gate's verdicts on a benchmark. Raises StorageError for a damaged one."""
    compared = benchmark.table(COMPARISONS.file)
    over_release = _over(compared, RELEASED)
    return gate(
        benchmark.table(),
        _over(compared, BASE),
        None if over_release.empty else over_release,
        character.settings.benchmark.gate,
    )


def _over(compared: pd.DataFrame, other: str) -> pd.DataFrame:
    return compared[compared["other"] == other]
