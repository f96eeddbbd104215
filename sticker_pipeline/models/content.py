"""Checks of files by content, against code that runs when loaded."""

import json
from pathlib import Path
from typing import Any

_ONNX_START = b"\x08"  # an ONNX file begins with field 1, ir_version (onnx.proto), as every serialiser writes it
# Header limits. SDXL has 2,500 tensors, its LoRAs at most 8,000; thumbnails and tag counts take a few megabytes.
MOST_HEADER, _MOST_TENSORS, _MOST_SIDES, _LONGEST_NAME = 32_000_000, 20_000, 8, 500
_AGAIN = "Download it again."

# First bytes of other files, and the message. torch.save writes a zip archive of pickles; older versions, and joblib,
# bare pickles. GGUF: llama.cpp, ggml/docs/gguf.md. LFS: git-lfs, docs/spec.md.
_PICKLE = "is a pickle checkpoint, which can run code when loaded. Use a .safetensors file."
_PAGE = "is a web page, not a model: its address needs a login, or is not the file's own. Download the file itself."
_STARTS = (
    (b"\x80", _PICKLE),
    (b"PK\x03\x04", _PICKLE),
    (b"GGUF", "is a GGUF file, whose weights are quantised for other programs. Use a .safetensors file."),
    (
        b"version https://git-lfs",
        "is a Git LFS pointer, not the file. Run `git lfs pull`, or download the file.",
    ),
    (b"<!doctype html", _PAGE),
    (b"<html", _PAGE),
    (b"<?xml", _PAGE),
)

Header = dict[str, Any]


def parse_json(text: str | bytes) -> Any:
    """Parse JSON. Raises ValueError for other text and too deep nesting."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def why_not_safetensors(path: Path) -> str | None:
    """Return the end of a sentence on a bad safetensors file."""
    with path.open("rb") as file:
        start = file.read(64)
        length = int.from_bytes(start[:8], "little")
        size = path.stat().st_size
        if start[8:9] != b"{":  # the length may begin with any byte
            return _known(start) or "is not a safetensors file."
        if length > size - 8:
            return f"is a safetensors file that was cut off: {size} bytes do not hold its header. {_AGAIN}"
        if length > MOST_HEADER:
            return f"has a header of {length} bytes, more than any model has. It is not read."
        file.seek(8)
        text = file.read(length)
    try:
        header = parse_json(text)
        tensors = tensors_of(header)
        if len(tensors) > _MOST_TENSORS:
            return f"has {len(tensors)} tensors, more than any model has. It is not read."
        if any(len(name) > _LONGEST_NAME for name in tensors):
            raise ValueError("a name is too long")
        stated = 8 + length + max(map(_end, tensors.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return f"is a safetensors file whose header is damaged. {_AGAIN}"
    if size < stated:
        return f"is a safetensors file that was cut off: it has {size} of {stated} bytes. {_AGAIN}"
    if size > stated:
        return f"is a damaged safetensors file: it has {size} bytes where its header states {stated}. {_AGAIN}"
    return None


def read_header(path: Path) -> Header:
    """Read the header of a file that passed `why_not_safetensors`.

    name -> dtype, shape, data_offsets; the optional `__metadata__` is name -> text.
    """
    with path.open("rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def tensors_of(header: Header) -> Header:
    """Remove `__metadata__` from a header."""
    return {name: value for name, value in header.items() if name != "__metadata__"}


def _end(tensor: Header) -> int:
    if not isinstance(tensor["dtype"], str) or not _is_shape(tensor["shape"]):
        raise TypeError("dtype is no text, or shape no list of numbers")
    start, end = tensor["data_offsets"]
    if not 0 <= start <= end:
        raise ValueError("data_offsets are no range")
    return int(end)


def _is_shape(value: Any) -> bool:
    sides = isinstance(value, list) and len(value) <= _MOST_SIDES
    return sides and all(isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in value)


def why_refused(path: Path, name: str) -> str | None:
    """Return the error in the content of model file `name`, or None."""
    suffix = Path(name).suffix
    if suffix == ".safetensors":
        return why_not_safetensors(path)
    with path.open("rb") as file:
        start = file.read(64)
    if suffix == ".onnx":
        return None if start.startswith(_ONNX_START) else _known(start) or "is not an ONNX file."
    if suffix not in (".json", ".csv", ".txt"):
        return "is of a kind that no model here has."
    try:
        text = path.read_text(encoding="utf-8")
        if suffix == ".json":
            parse_json(text)
    except ValueError:
        return _known(start) or f"is not a {suffix[1:]} file."
    return _known(start)


def _known(start: bytes) -> str | None:
    if not start:
        return f"is empty. {_AGAIN}"
    return next((what for mark, what in _STARTS if start.lstrip().lower().startswith(mark.lower())), None)
