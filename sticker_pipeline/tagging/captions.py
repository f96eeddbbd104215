"""The grammar of captions: tags, weights, brackets.

`(tag:1.2)` weights one tag, `(one, two:1.2)` several; nested weights multiply. Literal are escaped brackets and
backslashes, and brackets without a weight above 0 and at most HEAVIEST, as in `(tag:3)`. Other trainers and UIs read
weights alike, but take bare brackets for emphasis.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping

from sticker_pipeline.core.character import HEAVIEST

SEPARATOR = ", "
LONGEST_NUMBER = 40  # characters of a weight with its colon
LIGHTEST = sys.float_info.min  # replaces a product that underflows to 0

_NUMBER = r"(?:\d{1,32}(?:\.\d{0,32})?|\.\d{1,32})(?:e[+-]?\d{1,3})?"
_WEIGHT = re.compile(rf":\s*({_NUMBER})\s*$")
_SOME_WEIGHT = re.compile(rf":\s*[+-]?{_NUMBER}\s*\)")
_NO_WEIGHT = re.compile(rf"(?P<before>.?):\s*[+-]?{_NUMBER}\s*$", re.DOTALL)
_FULL_WIDTH = str.maketrans("（），：", "(),:")
# Syntax of A1111 (modules/prompt_parser.py), its extra networks and Dynamic Prompts.
_HABITS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>"), "loads nothing here: it is read as text"),
    (re.compile(r"\bBREAK\b"), "begins nothing here: it is read as a word"),
    (re.compile(r"\bAND\b"), "joins no prompts here: it is read as a word"),
    (re.compile(r"(?<!\\)\[[^\[\]]{0,80}:[^\[\]]{0,80}\]"), "changes nothing at a step here: it is read as text"),
    (re.compile(r"(?:^|(?<=,))\s*\[+[^\[\]:]+\]+\s*(?=,|$)"), "weakens nothing: write (tag:0.9)"),
    (
        re.compile(r"(?:^|(?<=,))\s*\({1,9}[^(),:\\]{2,80}\){1,9}\s*(?=,|$)"),
        "strengthens nothing here: write (tag:1.1)",
    ),
    (re.compile(r"\{[^{}]{0,80}\|[^{}]{0,80}\}|__\w[\w/-]*__"), "chooses nothing here: it is read as text"),
    (re.compile(r"\bembedding:\S+"), "loads nothing here: it is read as text"),
)
_SPECIAL = re.compile(r"[\\()]")
_TOKEN = re.compile(r"\\[()\[\]\\]|[(),]|[^\\(),]+|\\")


def format_caption(tags: Iterable[str], weights: Mapping[str, float]) -> str:
    """Write `tags` in this order as a caption.

    `weights`: tag -> factor (above 0, at most HEAVIEST); may name other tags. If one tag is weighted or would be
    misread, brackets are escaped in all, as other programs escape everywhere or nowhere. `parse_caption` inverts this,
    also after reordering. Raises ValueError for another weight, an empty tag, or one with a comma or outer spaces.
    """
    items = list(tags)
    for tag in items:
        if not tag or "," in tag or tag != tag.strip():
            raise ValueError(f"{tag!r} cannot stand in a caption: tags are joined by commas and stripped of spaces")
        if not 0 < weights.get(tag, 1.0) <= HEAVIEST:
            raise ValueError(f"the weight {weights[tag]} of {tag!r} is not above 0 and at most {HEAVIEST:g}")
    if all(weights.get(tag, 1.0) == 1.0 and _stands_for_itself(tag) for tag in items):
        return SEPARATOR.join(items)
    return SEPARATOR.join(_escaped(tag, weights.get(tag, 1.0)) for tag in items)


def _stands_for_itself(tag: str) -> bool:
    return not _SOME_WEIGHT.search(tag) and parse_caption(tag) == [(tag, 1.0)]


def _escaped(tag: str, weight: float) -> str:
    escaped = _SPECIAL.sub(lambda match: "\\" + match.group(), tag)
    return escaped if weight == 1.0 else f"({escaped}:{float(weight)!r})"


def parse_caption(caption: str) -> list[tuple[str, float]]:
    """Parse a caption into (tag, weight) pairs.

    Weights are above 0, products at most HEAVIEST. A weight inside a tag holds for all of it; of several, the last.
    """
    if "\\" not in caption and not _SOME_WEIGHT.search(caption):
        return [(item, 1.0) for part in caption.split(",") if (item := part.strip())]
    read = map(_joined, _pieces(caption))
    return [(tag, min(max(weight, LIGHTEST), HEAVIEST)) for tag, weight in read if tag]


def plain_text(caption: str) -> str:
    """Remove weights and escapes from a caption, as for a text encoder."""
    return SEPARATOR.join(tag for tag, _ in parse_caption(caption))


def _pieces(caption: str) -> Iterator[list[tuple[str, float]]]:
    """Yield each tag as weighted pieces, split at brackets of weights."""
    opened, colons = _weight_groups(caption)
    factors, pieces = [1.0], [("", 1.0)]
    for token in _TOKEN.finditer(caption):
        at, said = token.start(), token.group()
        if said == ",":
            yield pieces
            pieces = [("", factors[-1])]
        elif at in opened or at in colons:
            if at in opened:
                factors.append(opened[at] * factors[-1])
            else:
                factors.pop()
            pieces.append(("", factors[-1]))
        else:
            said = said[: colons[token.end()] - at] if token.end() in colons else said
            literal = said[1:] if len(said) == 2 and said[0] == "\\" else said
            pieces[-1] = (pieces[-1][0] + literal, factors[-1])
    yield pieces


def _joined(pieces: Iterable[tuple[str, float]]) -> tuple[str, float]:
    tag, weight = "", 1.0
    for text, factor in pieces:
        space = " " if tag and text and " " not in tag[-1] + text[0] else ""
        tag += space + text
        weight = factor if factor != 1.0 and text.strip() else weight
    return tag.strip(), weight


def _weight_groups(caption: str) -> tuple[dict[int, float], dict[int, int]]:
    """Return {opening bracket: weight} and {closing bracket: colon}, as positions."""
    waiting: list[int] = []
    opened: dict[int, float] = {}
    colons: dict[int, int] = {}
    for token in _TOKEN.finditer(caption):
        at, said = token.start(), token.group()
        if said == "(":
            waiting.append(at)
        elif said == ")" and waiting:
            begin = waiting.pop()
            start = max(begin + 1, at - LONGEST_NUMBER)
            match = _WEIGHT.search(caption[start:at])
            if match and 0 < float(match[1]) <= HEAVIEST and caption[begin + 1 : start + match.start()].strip(" ,"):
                opened[begin], colons[at] = float(match[1]), start + match.start()
    return opened, colons


def escaped_prompt(prompt: str, special: str = "()") -> str:
    """Escape `special` in the tags of a prompt for UIs with bracket emphasis.

    ComfyUI escapes round brackets, A1111 also square ones and the backslash.
    """
    characters = re.compile(f"[{re.escape(special)}]")

    def escaped(text: str) -> str:
        return characters.sub(lambda match: "\\" + match.group(), text)

    if not is_weighted(prompt):
        return escaped(prompt)
    tags = ((escaped(tag), weight) for tag, weight in parse_caption(prompt))
    return SEPARATOR.join(tag if weight == 1.0 else f"({tag}:{weight!r})" for tag, weight in tags)


def habits(prompt: str) -> list[str]:
    """Describe parts of `prompt` that act only in A1111 or its extensions."""
    found = ((match.group().strip(), what) for pattern, what in _HABITS for match in pattern.finditer(prompt))
    return [f"{part!r} {what}" for part, what in dict.fromkeys(found)]


def is_weighted(caption: str) -> bool:
    """Tell whether ignoring weight syntax would change the tags."""
    return parse_caption(caption) != [(item.strip(), 1.0) for item in caption.split(",") if item.strip()]


def misread_weights(caption: str) -> list[str]:
    """Return parts that resemble weights but are text, innermost if nested.

    Such as `(smile:3)`, full-width letters, unmatched brackets.
    """
    opened, colons = _weight_groups(caption)
    plain = caption.translate(_FULL_WIDTH)
    found: list[tuple[int, int]] = []
    waiting: list[int] = []
    tag = 0  # its start
    for token in _TOKEN.finditer(plain + ","):
        at, said = token.start(), token.group()
        if said == "(":
            waiting.append(at)
        elif said in (")", ","):
            begin = waiting[-1] if waiting else tag
            is_read = at in colons if said == ")" else begin in opened or begin < tag or not waiting
            if not is_read and _looks_weighted(plain, begin, at, tag) and not (found and found[-1][0] >= begin):
                found.append((begin, at + (said == ")")))
            if said == ",":
                tag = token.end()
            elif waiting:
                waiting.pop()
    return [caption[begin:end].strip() for begin, end in found]


def _looks_weighted(plain: str, begin: int, end: int, tag: int) -> bool:
    """Tell whether `plain[begin:end]` ends with a colon and number.

    `tag`: start of its last tag. `:3` is a tag too: after a comma, or without a bracket, a letter must precede the
    colon.
    """
    has_bracket = plain[begin] == "("
    match = _NO_WEIGHT.search(plain[max(begin + has_bracket, end - LONGEST_NUMBER) : end])
    return match is not None and (bool(match["before"].strip(" ,")) or (has_bracket and begin >= tag))


def cut_weights(caption: str) -> list[str]:
    """Return tags with a weight product above HEAVIEST, which `parse_caption` cuts."""
    return [tag for tag, weight in map(_joined, _pieces(caption)) if tag and weight > HEAVIEST]
