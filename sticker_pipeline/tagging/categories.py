"""Tag categories (categories.csv): place in a caption, possible character trait."""

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
    """The category of a tag.

    `kind`: one of ORDER. `inherent_candidate`: a trait of a person (hair, eyes, ears, horns, skin, marks). `rank`: the
    matching row, which orders tags inside a kind.
    """

    kind: str
    inherent_candidate: bool
    rank: int


@dataclass(frozen=True)
class _Table:
    exact: dict[str, Category]
    patterns: tuple[tuple[re.Pattern[str], Category], ...]  # the most literal characters first
    rows: int


def known_category(tag: str) -> Category | None:
    """Return the category of `tag` (with spaces) in categories.csv, or None.

    Searches its own row, then the matching `*` row with most literal characters, then the same for more general tags
    ("torn red dress" -> "red dress" -> "dress").
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
    """Return the category of `tag`; unknown tags are props, which come last."""
    return known_category(tag) or Category("props", False, _table().rows)


@cache
def _table() -> _Table:
    """Read categories.csv. Raises ValueError for an unknown kind or a repeated tag."""
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
    """Read a CSV table of this package without its `# ` comments."""
    text = files("sticker_pipeline.tagging").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if line and not line.startswith("# ")))
