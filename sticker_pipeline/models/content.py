"""What a file is, judged by its content: files that could run code when loaded never reach a model's folder."""

import json
from pathlib import Path

_ONNX_START = b"\x08"  # an ONNX file begins with field 1, ir_version (onnx.proto), as every serialiser writes it
_PICKLE, _ZIP = (
    b"\x80",
    b"PK\x03\x04",
)  # torch.save writes a zip archive of pickles; older ones, and joblib, bare pickles


def why_not_safetensors(path: Path) -> str | None:
    """What is wrong with `path` as a safetensors file, as the end of a sentence; None where nothing is."""
    with path.open("rb") as file:
        start = file.read(9)
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header <= path.stat().st_size - 8:  # the length's own first byte may be any
        return None
    if start[8:9] == b"{":
        return "is a safetensors file that was cut off."
    return _pickle(start) or "is not a safetensors file."


def why_refused(path: Path, name: str) -> str | None:
    """What is wrong with the content of `path` for a model's file of that name; None where nothing is."""
    suffix = Path(name).suffix
    if suffix == ".safetensors":
        return why_not_safetensors(path)
    with path.open("rb") as file:
        start = file.read(9)
    if suffix == ".onnx":
        return None if start.startswith(_ONNX_START) else _pickle(start) or "is not an ONNX file."
    if suffix not in (".json", ".csv", ".txt"):
        return "is of a kind that no model here has."
    try:
        text = path.read_text(encoding="utf-8")
        if suffix == ".json":
            json.loads(text)
    except ValueError:
        return _pickle(start) or f"is not a {suffix[1:]} file."
    return _pickle(start)


def _pickle(start: bytes) -> str | None:
    if start.startswith((_PICKLE, _ZIP)):
        return "is a pickle checkpoint, which can run code when loaded. Use a .safetensors file."
    return None
