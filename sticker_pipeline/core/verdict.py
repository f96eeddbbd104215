"""The result of a dataset check; `dagster_kit/checks.py` shows it in the UI."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

NAMED = 5


@dataclass(frozen=True)
class Verdict:
    """A check's result: `summary`, a sentence with remedy; `evidence`, rows to inspect.

    `pointless`: training would be a waste.
    """

    passed: bool
    summary: str
    evidence: pd.DataFrame
    pointless: bool = False


def listed(names: Iterable[str]) -> str:
    """List the first NAMED distinct names, in order, and count the others."""
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - NAMED} more" if len(distinct) > NAMED else ""
    return ", ".join(distinct[:NAMED]) + more
