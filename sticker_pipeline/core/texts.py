"""Texts and names that people write: encodings, spaces, characters that nobody sees, two spellings of one name."""

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

# UTF-32's mark begins with UTF-16's.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
# White space among the control characters (NEL ends a line), and DOS's mark for the end of a file.
HARMLESS = frozenset("\t\n\v\f\r\x1a\x1c\x1d\x1e\x1f\x85")
JOINERS = frozenset("\u200c\u200d")  # parts of emoji, and of Persian and Indic words
EMOJI_TAGS = range(0xE0020, 0xE0080)  # parts of the flags of Scotland, Wales and others
REMEDY = "save it as UTF-8"
BEGINNING = 4096

_LOOSE_JOINER = re.compile("(?:^|(?<=[\\s,]))[\u200c\u200d]+|(?<![\u200c\u200d])[\u200c\u200d]++(?=[\\s,]|$)")
_ESCAPED_BRACKET = re.compile(r"\\([()\[\]])")
# A joiner, and the flags of Scotland, Wales and others.
_JOINING = re.compile("[\u200c\u200d]|(?<=\U0001f3f4)[\U000e0030-\U000e007a]{2,8}\U000e007f")
VIRAMA = 9  # the combining class of the sign that takes a consonant's vowel: a joiner behind it gives it another shape
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # letters and marks without a shape
MOST_QUOTED = 120  # letters of what is not ours, in a message
MOST_NAMED = 8  # names in a message
MOST_LETTERS = 500  # of one of them


class UserError(ValueError):
    """An error that a person can mend; hidden letters in its message are escapes."""

    def __init__(self, message: object = "") -> None:
        super().__init__(visible(str(message)))


class TextError(UserError):
    """Bytes that are no text that can be read; the message says why and what to do, without the file's name."""


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 or UTF-32 with a byte order mark.

    Raises TextError for another encoding, and for control characters, which no text has.
    """
    return _decoded(data, whole=True)


def is_text(data: bytes) -> bool:
    """Tell whether the first BEGINNING bytes of a file are those of a text that `decoded` reads."""
    return beginning(data) is not None


def beginning(data: bytes) -> str | None:
    """The text of the first BEGINNING bytes of a file; None where they are no text that `decoded` reads."""
    try:
        return _decoded(data[:BEGINNING], whole=len(data) <= BEGINNING)
    except TextError:
        return None


def _decoded(data: bytes, *, whole: bool) -> str:
    """`decoded` of data that may end inside a character, unless it is `whole`."""
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data, final=whole)
    except UnicodeDecodeError as error:
        raise TextError(f"byte {error.start} is not {encoding.removesuffix('-sig').upper()}: {REMEDY}") from error
    control = next((one for one in text if unicodedata.category(one) == "Cc" and one not in HARMLESS), None)
    if control is not None:
        raise TextError(f"it holds the control character U+{ord(control):04X}: remove it, or {REMEDY}")
    return text


def visible(text: str) -> str:
    """Return `text` with hidden letters as escapes, such as `\\x1b` and `\\u202e`.

    Hidden are control characters, marks of direction, zero-width letters and lone surrogates. Line breaks, tabs and
    joiners inside words and emoji stay.
    """
    return _escaped(text, "\n\t")


def hidden_letters(text: str) -> str:
    """Return the letters of `text` that nobody sees, each once, as escapes; a line break is one."""
    return " ".join(dict.fromkeys(_escape(one) for part in _by_joining(text)[::2] for one in part if _is_hidden(one)))


def without_hidden(text: str) -> str:
    """Return `text` as it is. Raises ValueError, naming the letters, where it holds hidden ones."""
    if found := hidden_letters(text):
        raise ValueError(f"it holds letters that nobody sees ({shortened(found, 40)}): remove them")
    return text


def shortened(text: str, most: int = MOST_QUOTED) -> str:
    """Return the first `most` letters of `text` in one visible line, with the number of those left out."""
    shown = _escaped(text[: most + 1], "")
    if len(text) <= most and len(shown) <= most:
        return shown
    kept = text[:most]
    while len(_escaped(kept, "")) > most:
        kept = kept[:-1]
    return f"{_escaped(kept, '')}… ({len(text) - len(kept):,} more letters)"


def quoted(value: object, most: int = MOST_QUOTED) -> str:
    """Return what Python writes for `value`, shortened."""
    return shortened(repr(value), most)


def listed(names: Sequence[str]) -> str:
    """The first MOST_NAMED of `names`, with hidden letters as escapes, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(shortened(name, MOST_LETTERS) for name in names[:MOST_NAMED]) + more


def _escaped(text: str, kept: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    parts = _by_joining(text)
    parts[::2] = [
        "".join(_escape(one) if _is_hidden(one) and one not in kept else one for one in p) for p in parts[::2]
    ]
    return "".join(parts)


def _by_joining(text: str) -> list[str]:
    """`text` in parts, of which every second one joins what is around it."""
    parts, end = [], 0
    for found in _JOINING.finditer(text):
        if found[0] not in JOINERS or _joins(*_beside(text, found)):
            parts += [text[end : found.start()], found[0]]
            end = found.end()
    return [*parts, text[end:]]


def _beside(text: str, found: re.Match[str]) -> tuple[str, str]:
    """The letters before and behind what was found in `text`, "" for none."""
    return text[max(found.start() - 1, 0) : found.start()], text[found.end() : found.end() + 1]


def _joins(before: str, after: str) -> bool:
    """Tell whether a joiner between two letters ("": none) changes what is seen.

    It does behind a virama, between parts of an emoji, and between letters, digits and marks that are not all ASCII.
    """
    if _is_virama(before):
        return True
    if not before or not after or (before.isascii() and after.isascii()):
        return False
    kinds = "LMN" if before.isascii() or after.isascii() else "LMNS"
    return all(_kind(one) in kinds and not _is_hidden(one) for one in (before, after))


def _kind(letter: str) -> str:
    """The first letter of a letter's category; "S" for what this Python does not know yet, such as new emoji."""
    category = unicodedata.category(letter)
    return "S" if category in ("Cn", "Co") else category[0]


def _is_virama(letter: str) -> bool:
    return bool(letter) and unicodedata.combining(letter) == VIRAMA


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in _HIDDEN or letter in _FILLERS


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def tidy(text: str) -> str:
    """`text` in one line, composed (NFC): every run of white space is one space, and nothing is invisible but joiners
    between two letters, and one behind a virama.

    A no-break and an ideographic space are spaces too.
    """
    seen = "".join(one for one in text if not _is_invisible(one))
    composed = unicodedata.normalize("NFC", " ".join(seen.replace("\x1a", " ").split()))
    joined = _LOOSE_JOINER.sub(lambda found: found[0][: _is_virama(_beside(composed, found)[0])], composed)
    return unicodedata.normalize("NFC", " ".join(joined.split()))


def tidy_lines(text: str) -> list[str]:
    """The lines of `text` that hold a word, each tidy."""
    return [line for line in map(tidy, text.splitlines()) if line.strip(" ,")]


def unescaped(tag: str) -> str:
    """`tag` with plain brackets where A1111 and sd-scripts have escaped ones: `star \\(symbol\\)`."""
    return _ESCAPED_BRACKET.sub(r"\1", tag)


def is_unicode(name: str) -> bool:
    """Tell whether a file's `name` is text; Python keeps bytes of other encodings as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def folded(name: str) -> str:
    """A key that is equal for names which differ in case or composition (NFC, NFD) alone."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def name_finder(known: Iterable[str]) -> Callable[[str], str | None]:
    """A function that gives a name as it is spelled in `known`: exactly, else the only one that folds alike; None where
    there is none."""
    exact = set(known)
    by_fold: dict[str, list[str]] = {}
    for name in exact:
        by_fold.setdefault(folded(name), []).append(name)

    def find(name: str) -> str | None:
        alike = [name] if name in exact else by_fold.get(folded(name), [])
        return alike[0] if len(alike) == 1 else None

    return find


def _is_invisible(character: str) -> bool:
    hidden = unicodedata.category(character) == "Cf"  # zero-width spaces, marks of direction, soft hyphens
    return hidden and character not in JOINERS and ord(character) not in EMOJI_TAGS
