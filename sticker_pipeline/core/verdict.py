"""What a check of a dataset says.

What is checked, and against which bound, belongs to the stages; how it reaches the UI belongs to the shell."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

NAMED = 5


@dataclass(frozen=True)
class Verdict:
    """`summary` says in a sentence what was found, and what to do about it where something was; `evidence` has the rows
    to look at. `pointless`: going on to train would be a waste."""

    passed: bool
    summary: str
    evidence: pd.DataFrame
    pointless: bool = False


def listed(names: Iterable[str]) -> str:
    """The distinct names, in order, for a sentence: the first NAMED, and how many more."""
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - NAMED} more" if len(distinct) > NAMED else ""
    return ", ".join(distinct[:NAMED]) + more
