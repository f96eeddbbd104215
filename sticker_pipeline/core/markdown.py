"""Markdown made of text that is not ours: the letters show, and nothing else happens. Standard library only.

File names, prompts, captions, tags and tensor names come with folders and LoRAs that people download. Wherever a text
with such a part is rendered as markdown (Dagster's UI, a model card), it goes through this module.
"""

import re
from collections.abc import Iterable

_SPACES = re.compile("[ \t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]+")
# Whatever begins, ends or separates something; an underscore inside a word does not.
_ACTIVE = re.compile(r"((?<=[^\W_])_+(?=[^\W_]))|[\\`*_{}\[\]<>&~|$#!^]")
_FIRST = re.compile(r"^(\d{1,9})?([-+.)](?=[ -]|$)|=)")  # lists, rules and underlined headings
_LINK = re.compile(r"https?(?=://)|www(?=\.)|(?<=[\w.+-])(?=@)", re.IGNORECASE)
_BREAK = "<!-- -->"  # who links bare addresses does not look across it; a line that began with it would be all HTML
_ESCAPED = re.compile(rf"{_BREAK}|\\([!-/:-@\[-`{{-~])")
_TICKS = re.compile("`+")


def literal(text: str) -> str:
    """Return `text` as markdown of one line that shows its letters, spaces run together."""
    line = _SPACES.sub(" ", text).strip(" ")
    line = _ACTIVE.sub(lambda found: found[1] or f"\\{found[0]}", line)
    line = _FIRST.sub(lambda found: f"{found[1] or ''}\\{found[2]}", line)
    return _LINK.sub(lambda found: f"{found[0]}{_BREAK}", line)


def letters(markdown: str) -> str:
    """Return the text that `literal` was given, spaces run together."""
    return _ESCAPED.sub(lambda found: found[1] or "", markdown)


def code(text: str) -> str:
    """Return `text` as a code span of one line; nothing for an empty text. Not for the cells of a table."""
    line = _SPACES.sub(" ", text).strip(" ")
    if not line:
        return ""
    fence = "`" * _beyond(line, 0)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def code_block(lines: Iterable[str]) -> str:
    """Return `lines` as a fenced block of code."""
    text = "\n".join(lines)
    fence = "`" * _beyond(text, 2)
    return f"{fence}\n{text}\n{fence}"


def bullets(sentences: Iterable[str], nothing: str = "nothing") -> str:
    """Return a list of `sentences`, or the word `nothing` where there are none."""
    return "\n".join(f"- {literal(sentence)}" for sentence in sentences) or nothing


def table(rows: Iterable[Iterable[str]]) -> str:
    """Return a table of `rows` whose cells are markdown already, without bars."""
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _beyond(text: str, least: int) -> int:
    """The length of a fence that `text` does not end: longer than each run of backticks, and than `least`."""
    return 1 + max([least, *(len(run) for run in _TICKS.findall(text))])
