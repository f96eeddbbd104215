"""The text of a caption: how tags and their weights are written, and how they are read back.

Which tags a caption has is decided in `curation`.

A caption is its tags joined by ", ". It is *plain* - each tag stands as it is, parentheses too, as our own trainer
reads it - unless one of its tags has a weight other than 1. Then it is a *weighted* caption, as trainers and UIs with
prompt weights read it: a weighted tag is `(tag:1.2)`, and in all of its tags `(`, `)` and `\\` are escaped with `\\`.
A reader tells the two apart by looking for one item of the form `(...:number)`.
"""

import re
from collections.abc import Iterable, Mapping

SEPARATOR = ", "
_WEIGHTED = re.compile(r"\((.*):(\d+(?:\.\d+)?(?:e-?\d+)?)\)", re.DOTALL)
_SPECIAL = re.compile(r"[\\()]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def format_caption(tags: Iterable[str], weights: Mapping[str, float]) -> str:
    """`tags` in this order as a caption; `weights` (tag -> factor above 0) may name other tags too.

    A tag that itself looks like a weighted one is written with weight 1, so that `parse_caption` inverts this always.
    Raises ValueError for a tag that is empty, has a comma, or begins or ends with a space.
    """
    items = list(tags)
    for tag in items:
        if not tag or "," in tag or tag != tag.strip():
            raise ValueError(f"{tag!r} cannot stand in a caption: tags are joined by commas and stripped of spaces")
    if not any(weights.get(tag, 1.0) != 1.0 or _WEIGHTED.fullmatch(tag) for tag in items):
        return SEPARATOR.join(items)
    return SEPARATOR.join(_weighted_item(tag, weights.get(tag, 1.0)) for tag in items)


def _weighted_item(tag: str, weight: float) -> str:
    escaped = _SPECIAL.sub(lambda match: "\\" + match.group(), tag)
    plain = weight == 1.0 and not _WEIGHTED.fullmatch(tag)
    return escaped if plain else f"({escaped}:{float(weight)!r})"


def parse_caption(caption: str) -> list[tuple[str, float]]:
    """The (tag, weight) pairs of a caption that `format_caption` wrote."""
    items = caption.split(SEPARATOR) if caption else []
    if not any(_WEIGHTED.fullmatch(item) for item in items):
        return [(item, 1.0) for item in items]
    return [parse_weighted(item) for item in items]


def parse_weighted(item: str) -> tuple[str, float]:
    """The (tag, weight) of one item of a weighted caption."""
    match = _WEIGHTED.fullmatch(item)
    return (_unescaped(match.group(1)), float(match.group(2))) if match else (_unescaped(item), 1.0)


def is_weighted(caption: str) -> bool:
    """Whether `caption` is a weighted one, in which parentheses mean emphasis unless they are escaped."""
    return any(_WEIGHTED.fullmatch(item) for item in caption.split(SEPARATOR))


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)
