"""Markdown that shows text from downloads literally. Standard library only.

File names, prompts, captions, tags and tensor names pass through here before being rendered (Dagster's UI, model
cards).
"""

import re
from collections.abc import Iterable

_SPACES = re.compile("[ \t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]+")
# Characters with a meaning; an underscore inside a word has none.
_ACTIVE = re.compile(r"((?<=[^\W_])_+(?=[^\W_]))|[\\`*_{}\[\]<>&~|$#!^]")
_FIRST = re.compile(r"^(\d{1,9})?([-+.)](?=[ -]|$)|=)")  # lists, rules and underlined headings
_LINK = re.compile(r"https?(?=://)|www(?=\.)|(?<=[\w.+-])(?=@)", re.IGNORECASE)
_BREAK = "<!-- -->"  # stops automatic links; a line that began with it would be HTML
_ESCAPED = re.compile(rf"{_BREAK}|\\([!-/:-@\[-`{{-~])")
_TICKS = re.compile("`+")


def literal(text: str) -> str:
    """Return `text` as one line of markdown showing its letters, spaces collapsed."""
    line = _SPACES.sub(" ", text).strip(" ")
    line = _ACTIVE.sub(lambda found: found[1] or f"\\{found[0]}", line)
    line = _FIRST.sub(lambda found: f"{found[1] or ''}\\{found[2]}", line)
    return _LINK.sub(lambda found: f"{found[0]}{_BREAK}", line)


def letters(markdown: str) -> str:
    """Undo `literal`, except collapsed spaces."""
    return _ESCAPED.sub(lambda found: found[1] or "", markdown)


def code(text: str) -> str:
    """Return `text` as a one-line code span; not for table cells."""
    line = _SPACES.sub(" ", text).strip(" ")
    if not line:
        return ""
    fence = "`" * _beyond(line, 0)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def code_block(lines: Iterable[str]) -> str:
    text = "\n".join(lines)
    fence = "`" * _beyond(text, 2)
    return f"{fence}\n{text}\n{fence}"


def bullets(sentences: Iterable[str], nothing: str = "nothing") -> str:
    return "\n".join(f"- {literal(sentence)}" for sentence in sentences) or nothing


def table(rows: Iterable[Iterable[str]]) -> str:
    """Return a table of `rows`; cells are markdown without bars."""
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _beyond(text: str, least: int) -> int:
    """Return a fence length above `least` and all runs of backticks in `text`."""
    return 1 + max([least, *(len(run) for run in _TICKS.findall(text))])
