"""What a tag is about: its place in a caption, and whether it can be a character's own trait. The table is data
(categories.csv); nothing here decides what is dropped.
"""

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sticker_pipeline.tagging.words import head_endings, pattern

ORDER = ("learned", "style", "face", "body", "props")
"""Kinds of tags in the order of a caption."""


@dataclass(frozen=True)
class Category:
    """`kind` is one of ORDER. `inherent_candidate`: a trait of a person (hair, eyes, ears, horns, skin, marks) rather
    than of an image. `rank` is the row of the table that decided, which orders tags inside a kind."""

    kind: str
    inherent_candidate: bool
    rank: int


@dataclass(frozen=True)
class _Table:
    exact: dict[str, Category]
    patterns: tuple[tuple[re.Pattern[str], Category], ...]  # the most literal characters first
    rows: int


def known_category(tag: str) -> Category | None:
    """The category that categories.csv gives `tag` (spelled with spaces), or None where it says nothing.

    In this order: the row of that very tag; the row with a `*` that fits and has the most other characters; the same
    for what the tag is a kind of ("torn red dress" -> "red dress" -> "dress").
    """
    table = _table()
    for name in [tag, *head_endings(tag)]:
        if name in table.exact:
            return table.exact[name]
        for expression, category in table.patterns:
            if expression.fullmatch(name):
                return category
    return None


def category_of(tag: str) -> Category:
    """The category of `tag`; things that nobody has described are props, which come last in a caption."""
    return known_category(tag) or Category("props", False, _table().rows)


@cache
def _table() -> _Table:
    """categories.csv. Raises ValueError for an unknown kind or a tag with two rows."""
    exact: dict[str, Category] = {}
    wild: list[tuple[str, Category]] = []
    rows = read_rows("categories.csv")
    for rank, row in enumerate(rows):
        tag, kind, inherent = row["tag"], row["kind"], row["inherent"]
        if kind not in ORDER[1:] or inherent not in ("yes", ""):
            raise ValueError(f"categories.csv: {tag!r}: kind {kind!r}, inherent {inherent!r} are not understood")
        if tag in exact or any(tag == other for other, _ in wild):
            raise ValueError(f"categories.csv: {tag!r} has two rows")
        category = Category(kind, inherent == "yes", rank)
        if "*" in tag:
            wild.append((tag, category))
        else:
            exact[tag] = category
    wild.sort(key=lambda entry: -len(entry[0].replace("*", "")))
    return _Table(exact, tuple((pattern(tag), category) for tag, category in wild), len(rows))


def read_rows(name: str) -> list[dict[str, str]]:
    """The rows of a table of this package; lines that begin with `# ` are comments."""
    text = files("sticker_pipeline.tagging").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if line and not line.startswith("# ")))
