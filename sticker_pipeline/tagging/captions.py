"""The text of a caption: how tags and their weights are written, and how they are read, whoever wrote them.

Which tags a caption has is decided in `curation`.

A caption is tags separated by commas. `(tag:1.2)` gives a tag a weight, `(one, two:1.2)` gives it to several. Groups
may be nested, and their weights multiply. Behind a backslash, a bracket or a backslash is a letter. So is any other
bracket, as in `(tag:3)`: a weight is above 0 and at most HEAVIEST. Trainers and UIs with prompt weights read it alike,
but take bare brackets for emphasis; `format_caption` escapes them where there are weights.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping

from sticker_pipeline.core.character import HEAVIEST

SEPARATOR = ", "
LONGEST_NUMBER = 40  # letters of a weight with its colon
LIGHTEST = sys.float_info.min  # what is left where a product is nothing

_NUMBER = r"(?:\d{1,32}(?:\.\d{0,32})?|\.\d{1,32})(?:e[+-]?\d{1,3})?"
_WEIGHT = re.compile(rf":\s*({_NUMBER})\s*$")
_SOME_WEIGHT = re.compile(rf":\s*[+-]?{_NUMBER}\s*\)")
_NO_WEIGHT = re.compile(rf"(?P<before>.?):\s*[+-]?{_NUMBER}\s*$", re.DOTALL)
_FULL_WIDTH = str.maketrans("（），：", "(),:")
# What A1111 (modules/prompt_parser.py), its extra networks and the extension Dynamic Prompts read in a prompt.
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
    """`tags` in this order as a caption; `weights` (tag -> factor above 0, at most HEAVIEST) may name other tags too.

    Brackets are escaped in all tags as soon as one tag has a weight, or would be read otherwise than it stands: other
    trainers and UIs escape in all captions or in none. `parse_caption` inverts this, also of items in another order.
    Raises ValueError for a tag that is empty, has a comma, or begins or ends with a space, and for another weight.
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
    """Tell whether `tag` is read as it stands, wherever in a caption."""
    return not _SOME_WEIGHT.search(tag) and parse_caption(tag) == [(tag, 1.0)]


def _escaped(tag: str, weight: float) -> str:
    escaped = _SPECIAL.sub(lambda match: "\\" + match.group(), tag)
    return escaped if weight == 1.0 else f"({escaped}:{float(weight)!r})"


def parse_caption(caption: str) -> list[tuple[str, float]]:
    """The (tag, weight) pairs of a caption; weights are above 0 and at most HEAVIEST, where products are cut off.

    A weight around a part of a tag holds for the whole tag; of several, the last.
    """
    if "\\" not in caption and not _SOME_WEIGHT.search(caption):
        return [(item, 1.0) for part in caption.split(",") if (item := part.strip())]
    read = map(_joined, _pieces(caption))
    return [(tag, min(max(weight, LIGHTEST), HEAVIEST)) for tag, weight in read if tag]


def plain_text(caption: str) -> str:
    """The words of a caption without weights and escapes, as a text encoder reads them."""
    return SEPARATOR.join(tag for tag, _ in parse_caption(caption))


def _pieces(caption: str) -> Iterator[list[tuple[str, float]]]:
    """Of each tag its pieces, with their weights: brackets of weights begin new ones."""
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
    """A tag of `pieces`, which are words of their own, and its weight."""
    tag, weight = "", 1.0
    for text, factor in pieces:
        space = " " if tag and text and " " not in tag[-1] + text[0] else ""
        tag += space + text
        weight = factor if factor != 1.0 and text.strip() else weight
    return tag.strip(), weight


def _weight_groups(caption: str) -> tuple[dict[int, float], dict[int, int]]:
    """Where brackets give a weight: position of each opening one -> the weight; of each closing one -> its colon's."""
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
    """`prompt` for a UI that takes bare brackets for emphasis: the `special` characters of tags escaped.

    ComfyUI escapes round brackets alone, A1111 also square ones and the backslash.
    """
    characters = re.compile(f"[{re.escape(special)}]")

    def escaped(text: str) -> str:
        return characters.sub(lambda match: "\\" + match.group(), text)

    if not is_weighted(prompt):
        return escaped(prompt)
    tags = ((escaped(tag), weight) for tag, weight in parse_caption(prompt))
    return SEPARATOR.join(tag if weight == 1.0 else f"({tag}:{weight!r})" for tag, weight in tags)


def habits(prompt: str) -> list[str]:
    """A sentence on each part of `prompt` that does something in A1111 or its extensions, and is plain text here."""
    found = ((match.group().strip(), what) for pattern, what in _HABITS for match in pattern.finditer(prompt))
    return [f"{part!r} {what}" for part, what in dict.fromkeys(found)]


def is_weighted(caption: str) -> bool:
    """Tell whether a reader that knows no weights would read other tags in `caption`."""
    return parse_caption(caption) != [(item.strip(), 1.0) for item in caption.split(",") if item.strip()]


def misread_weights(caption: str) -> list[str]:
    """What looks like a weight in `caption`, and is read as text: `(smile:3)`, one in full-width letters, one whose
    brackets do not match. Of several around each other, the innermost."""
    opened, colons = _weight_groups(caption)
    plain = caption.translate(_FULL_WIDTH)
    found: list[tuple[int, int]] = []
    waiting: list[int] = []
    tag = 0  # where it begins
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
    """Tell whether a colon and a number end `plain` from `begin` to `end`, the last tag of which begins at `tag`.

    `:3` is a tag too: behind a comma, or without a bracket, a letter has to be before the colon.
    """
    has_bracket = plain[begin] == "("
    match = _NO_WEIGHT.search(plain[max(begin + has_bracket, end - LONGEST_NUMBER) : end])
    return match is not None and (bool(match["before"].strip(" ,")) or (has_bracket and begin >= tag))


def cut_weights(caption: str) -> list[str]:
    """The tags whose weights multiply to more than HEAVIEST, where `parse_caption` cuts them off."""
    return [tag for tag, weight in map(_joined, _pieces(caption)) if tag and weight > HEAVIEST]
