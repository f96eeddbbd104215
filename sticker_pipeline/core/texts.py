"""Texts and names that people write: encodings, spaces, invisible characters, spellings."""

import codecs
import difflib
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
# White space (NEL ends a line), and DOS's end-of-file mark.
HARMLESS = frozenset("\t\n\v\f\r\x1a\x1c\x1d\x1e\x1f\x85")
JOINERS = frozenset("\u200c\u200d")  # in emoji, Persian and Indic words
EMOJI_TAGS = range(0xE0020, 0xE0080)  # in flags such as Scotland's
REMEDY = "save it as UTF-8"
BEGINNING = 4096

_LOOSE_JOINER = re.compile("(?:^|(?<=[\\s,]))[\u200c\u200d]+|(?<![\u200c\u200d])[\u200c\u200d]++(?=[\\s,]|$)")
_ESCAPED_BRACKET = re.compile(r"\\([()\[\]])")
# Joiners, and flags such as Scotland's.
_JOINING = re.compile("[\u200c\u200d]|(?<=\U0001f3f4)[\U000e0030-\U000e007a]{2,8}\U000e007f")
VIRAMA = 9  # combining class of a virama (silences a vowel); a joiner after it changes the shape
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # invisible letters and marks
MOST_QUOTED = 120  # letters of foreign text in a message
MOST_NAMED = 8  # names in a message
MOST_LETTERS = 500  # letters of one name


class UserError(ValueError):
    """An error that a person can correct; hidden letters are escaped."""

    def __init__(self, message: object = "") -> None:
        super().__init__(visible(str(message)))


class TextError(UserError):
    """Bytes that are not text.

    The message has reason and remedy, no file name.
    """


def decoded(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 or UTF-32 with a byte order mark.

    Raises TextError for other encodings and for control characters (except HARMLESS).
    """
    return _decoded(data, whole=True)


def is_text(data: bytes) -> bool:
    return beginning(data) is not None


def beginning(data: bytes) -> str | None:
    """Decode a file's first BEGINNING bytes; None if they are not text."""
    try:
        return _decoded(data[:BEGINNING], whole=len(data) <= BEGINNING)
    except TextError:
        return None


def _decoded(data: bytes, *, whole: bool) -> str:
    """Decode `data`, which may end inside a character unless `whole`."""
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

    Hidden: controls, marks of direction, zero-width letters, lone surrogates. Line breaks, tabs, and joiners inside
    words and emoji stay.
    """
    return _escaped(text, "\n\t")


def hidden_letters(text: str) -> str:
    """Return the hidden letters of `text`, each once, escaped; line breaks included."""
    return " ".join(dict.fromkeys(_escape(one) for part in _by_joining(text)[::2] for one in part if _is_hidden(one)))


def without_hidden(text: str) -> str:
    """Return `text`. Raises ValueError for hidden letters."""
    if found := hidden_letters(text):
        raise ValueError(f"it holds invisible characters ({shortened(found, 40)}): remove them")
    return text


def shortened(text: str, most: int = MOST_QUOTED) -> str:
    """Return the first `most` letters of `text` in one visible line.

    The number of the others is appended.
    """
    shown = _escaped(text[: most + 1], "")
    if len(text) <= most and len(shown) <= most:
        return shown
    kept = text[:most]
    while len(_escaped(kept, "")) > most:
        kept = kept[:-1]
    return f"{_escaped(kept, '')}… ({counted(len(text) - len(kept), 'more letter')})"


def quoted(value: object, most: int = MOST_QUOTED) -> str:
    return shortened(repr(value), most)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 file`, `1,200 files`. For regular plurals."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def are(number: int) -> str:
    """Return the verb of `number` things."""
    return "is" if number == 1 else "are"


def listed(names: Sequence[str]) -> str:
    """List the first MOST_NAMED `names`, visibly, and the number of others."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(shortened(name, MOST_LETTERS) for name in names[:MOST_NAMED]) + more


def closest(word: str, known: Sequence[str]) -> str:
    """Return a sentence that suggests the most similar known word, or ""."""
    match = difflib.get_close_matches(word[:MOST_QUOTED], known, n=1)
    return f" Did you mean '{match[0]}'?" if match else ""


def _escaped(text: str, kept: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    parts = _by_joining(text)
    parts[::2] = [
        "".join(_escape(one) if _is_hidden(one) and one not in kept else one for one in p) for p in parts[::2]
    ]
    return "".join(parts)


def _by_joining(text: str) -> list[str]:
    """Split `text`: every second part is a joiner in use."""
    parts, end = [], 0
    for found in _JOINING.finditer(text):
        if found[0] not in JOINERS or _joins(*_beside(text, found)):
            parts += [text[end : found.start()], found[0]]
            end = found.end()
    return [*parts, text[end:]]


def _beside(text: str, found: re.Match[str]) -> tuple[str, str]:
    return text[max(found.start() - 1, 0) : found.start()], text[found.end() : found.end() + 1]


def _joins(before: str, after: str) -> bool:
    """Tell whether a joiner between two letters ("": none) changes the display.

    It does after a virama, between parts of an emoji, and between letters, digits and marks that are not all ASCII.
    """
    if _is_virama(before):
        return True
    if not before or not after or (before.isascii() and after.isascii()):
        return False
    kinds = "LMN" if before.isascii() or after.isascii() else "LMNS"
    return all(_kind(one) in kinds and not _is_hidden(one) for one in (before, after))


def _kind(letter: str) -> str:
    """Return the Unicode category's first letter; "S" if unassigned (new emoji)."""
    category = unicodedata.category(letter)
    return "S" if category in ("Cn", "Co") else category[0]


def _is_virama(letter: str) -> bool:
    return bool(letter) and unicodedata.combining(letter) == VIRAMA


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in _HIDDEN or letter in _FILLERS


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def tidy(text: str) -> str:
    """Return `text` in one line, composed (NFC), without invisible letters.

    White space, also no-break and ideographic, becomes one space. Joiners stay between letters, one after a virama.
    """
    seen = "".join(one for one in text if not _is_invisible(one))
    line = composed(" ".join(seen.replace("\x1a", " ").split()))
    joined = _LOOSE_JOINER.sub(lambda found: found[0][: _is_virama(_beside(line, found)[0])], line)
    return composed(" ".join(joined.split()))


def tidy_lines(text: str) -> list[str]:
    """Return the tidy lines of `text` that hold a word."""
    return [line for line in map(tidy, text.splitlines()) if line.strip(" ,")]


def unescaped(tag: str) -> str:
    """Return `tag` without the escapes of A1111 and sd-scripts: `star \\(symbol\\)`."""
    return _ESCAPED_BRACKET.sub(r"\1", tag)


def is_unicode(name: str) -> bool:
    """Tell whether `name` is text; Python keeps other bytes as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def composed(name: str) -> str:
    """Return a key that ignores composition (NFC, NFD)."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return a key that ignores case and composition (NFC, NFD)."""
    return composed(composed(name).casefold())


def name_finder(known: Iterable[str]) -> Callable[[str], str | None]:
    """Return a function that finds a name's spelling in `known`.

    It matches exactly, else the only name that folds alike, else None.
    """
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
