"""Implied tags, by head noun and implications.csv."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from sticker_pipeline.tagging.categories import read_rows
from sticker_pipeline.tagging.words import head_endings, pattern


@dataclass(frozen=True)
class _Table:
    exact: Mapping[str, tuple[str, ...]]
    patterns: tuple[tuple[re.Pattern[str], str], ...]
    exceptions: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]


def implied_by(tag: str) -> frozenset[str]:
    """Return every other tag that `tag` implies, in any number of steps.

    By head noun ("white shirt" -> "shirt", "mole under eye" -> "mole") and by implications.csv ("serafuku" -> "school
    uniform" -> "uniform"), unless a row denies it ("hot dog" -> "dog").
    """
    table = _table()
    found: set[str] = set()
    waiting = [tag]
    while waiting:
        specific = waiting.pop()
        for general in _one_step(specific, table):
            if general not in found and general != tag and not _denied(tag, general, table):
                found.add(general)
                waiting.append(general)
    return frozenset(found)


def _one_step(tag: str, table: _Table) -> list[str]:
    stated = [*table.exact.get(tag, ()), *(general for wild, general in table.patterns if wild.fullmatch(tag))]
    return [general for general in [*stated, *head_endings(tag)] if not _denied(tag, general, table)]


def _denied(specific: str, general: str, table: _Table) -> bool:
    return any(first.fullmatch(specific) and second.fullmatch(general) for first, second in table.exceptions)


@cache
def _table() -> _Table:
    exact: dict[str, tuple[str, ...]] = {}
    patterns: list[tuple[re.Pattern[str], str]] = []
    exceptions: list[tuple[re.Pattern[str], re.Pattern[str]]] = []
    for row in read_rows("implications.csv"):
        specific, general, holds = row["specific"], row["general"], row["holds"]
        if holds == "no":
            exceptions.append((pattern(specific), pattern(general)))
        elif holds != "yes":
            raise ValueError(f"implications.csv: {specific!r}: holds {holds!r} is neither yes nor no")
        elif "*" in specific:
            patterns.append((pattern(specific), general))
        else:
            exact[specific] = (*exact.get(specific, ()), general)
    return _Table(exact, tuple(patterns), tuple(exceptions))
