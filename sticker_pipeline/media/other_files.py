"""Non-images among images: archives, documents, texts, files of other tools.

Only first bytes and names are unpacked.
"""

import io
import json
import re
import zipfile
import zlib

from sticker_pipeline.core.texts import TextError, beginning, decoded, is_text
from sticker_pipeline.media.limits import IN_ANNEX

# Text kept beside images on purpose: captions, notes, listings, licences, links to sources.
TEXT_SUFFIXES = (
    *(".txt", ".md", ".caption", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml", ""),
    *(".log", ".ini", ".url", ".xmp", ".aae", ".srt", ".webloc", ".bak", ".txt~", ".identifier"),  # by programs
)
# Beginnings of HTML. Short tags but `p` are omitted: captions begin with embeddings such as `<s1>`, `<b>`.
WEB_PAGE = re.compile(
    "<(?:!doctype|!--|(?:html|head|title|meta|link|script|style|body|main|header|nav|section|article|div|span|p|h[1-6]"
    "|table|form|iframe|img)(?=[\\s/>]))"
)
JSON_OBJECT = re.compile(r'\{\s*"[^"]*"\s*:')  # its beginning: also if cut off, or one per line
LOOKED_AT = 1024  # letters of a text
A_TEXT = "not an image: text"
ZIP = b"PK\x03\x04"
PICKLE_PROTOCOLS = range(2, 6)
UNPACKED = 1 << 16  # inspected bytes of a gzip file
LARGEST_LOTTIE = 1 << 22  # bytes of an inspected JSON file
VECTORS = "convert it to GIF, APNG or WEBM (the package lottie can, and so can LottieFiles' page)"
LFS = "text that stands for a file kept in Git LFS: fetch it with `git lfs pull`"
ANNEX = f"text that stands for a file {IN_ANNEX}"
# Name in a ZIP archive, or its end -> kind of the archive.
IN_ZIPS = (
    ("word/document.xml", "a Word document: save its images as files"),
    ("ppt/presentation.xml", "a presentation: save its images as files"),
    ("maindoc.xml", "a Krita drawing: export it as PNG"),
    ("stack.xml", "an OpenRaster drawing: export it as PNG"),
    ("AndroidManifest.xml", "an Android app"),
    ("Document.archive", "a Procreate drawing: export it as PNG"),
    ("manifest.json", f"an animation of vectors in an archive (.lottie): {VECTORS}"),
    (".wastickers", "stickers of WhatsApp in an archive: unpack it"),
)


def beside_images(suffix: str, data: bytes) -> str:
    """Return the kind of a file usual beside images, else "".

    A text with an image's `suffix` (such as ".png") does not count.
    """
    if suffix.lower() in TEXT_SUFFIXES and is_text(data) and not is_lottie(data):
        return "text, such as notes"
    if data.startswith(b"\x93NUMPY"):
        return "a trainer's cache (a NumPy array)"
    if data.startswith(b"\x89HDF\r\n\x1a\n"):
        return "a trainer's cache (HDF5)"
    if data[8:10] == b'{"' and int.from_bytes(data[:8], "little") <= len(data):
        return "tensors (safetensors), such as a trainer's cache"
    names = _names(data) if data.startswith(ZIP) else []
    if names and all(name.endswith(".npy") for name in names):
        return "a trainer's cache (NumPy arrays)"
    if any(name.endswith("/data.pkl") for name in names):
        return "tensors (PyTorch), such as a trainer's cache, which are never opened"
    return ""


def caption_text(data: bytes) -> str:
    """Return the text of a caption file.

    Raises TextError for an unreadable text, a Git LFS or git-annex pointer, a web page, JSON, a drawing, a document.
    """
    text = decoded(data)
    kind = _text_kind(data)
    if kind not in ("", A_TEXT):
        raise TextError(kind)
    if text.lstrip().startswith(("{\\rtf", "%PDF")):
        raise TextError("it is a document, and no plain text: save it as text")
    if _is_json(text):
        raise TextError("it is JSON, and no plain text: write its tags with commas between them")
    return text


def _is_json(text: str) -> bool:
    """Tell whether `text` is a JSON object or list, not a scalar."""
    if JSON_OBJECT.match(text.lstrip()):
        return True
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def what_else_is_it(data: bytes) -> str:
    """Return a non-image's kind by first bytes and names."""
    if data.startswith(ZIP):
        return _zip_kind(data)
    if data.startswith(b"\x1f\x8b"):
        return _gzip_kind(data)
    if data[0] == 0x80 and data[1:2] and data[1] in PICKLE_PROTOCOLS:
        return "not an image: a Python pickle, which is never opened"
    return _text_kind(data) or "not an image: unknown content"


def is_lottie(data: bytes) -> bool:
    """Detect vector animation in JSON, as by Telegram, LINE, After Effects."""
    if len(data) > LARGEST_LOTTIE or b'"layers"' not in data:
        return False
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"layers", "v", "op"} <= content.keys()


def _names(data: bytes) -> list[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, RuntimeError, EOFError):  # damaged, or of a newer version
        return []


def _zip_kind(data: bytes) -> str:
    names = _names(data)
    if not names:
        return "a ZIP archive that is damaged or cut off"
    if {"title.txt", "author.txt"} <= set(names):
        return "a sticker pack of WhatsApp (.wastickers): unpack it"
    return next(
        (kind for end, kind in IN_ZIPS if any(name.endswith(end) for name in names)), "a ZIP archive: unpack it"
    )


def _gzip_kind(data: bytes) -> str:
    try:
        unpacked = zlib.decompressobj(wbits=31).decompress(data, UNPACKED)
    except zlib.error:
        unpacked = b""
    if not unpacked:
        return "a gzip archive that is damaged or cut off"
    if b"<svg" in unpacked[:4096]:
        return "an SVG drawing: export it as PNG"
    if unpacked.lstrip()[:1] == b"{" and any(word in unpacked for word in (b'"tgs"', b'"layers"')):
        return f"an animated sticker of Telegram (.tgs), which is made of vectors: {VECTORS}"
    return "a gzip archive: unpack it"


def _text_kind(data: bytes) -> str:
    """Return the kind of a text in an image's place, else ""."""
    text = beginning(data)
    if text is None:
        return ""
    if is_lottie(data):
        return f"a Lottie animation, which is made of vectors: {VECTORS}"
    text = text[:LOOKED_AT].lower()
    if "<svg" in text:
        return "an SVG drawing: export it as PNG"
    if "git-lfs" in text or "//hawser.github.com" in text:
        return LFS
    if "annex/objects" in text:
        return ANNEX
    if "<html" in text or WEB_PAGE.match(text.lstrip()):
        return "a web page: download the image itself"
    if text.lstrip().startswith("<?xml"):
        return "an XML document: it holds no image"
    if text.startswith("%!ps"):
        return "a PostScript drawing: export it as PNG"
    return A_TEXT
