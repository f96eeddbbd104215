"""CLIP embeddings of images, cached by content."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sticker_pipeline.core.caching import read_cached, sealed
from sticker_pipeline.core.process.threads import sharing
from sticker_pipeline.core.storage import atomic_files, content_hash, file_sha256
from sticker_pipeline.core.texts import UserError
from sticker_pipeline.dataset.pixels import fit_image
from sticker_pipeline.models.content import parse_json, read_header, tensors_of, why_not_safetensors

if TYPE_CHECKING:
    import torch

LEAST = 16  # images of a batch: smaller ones round differently in matrix products on a CPU
PREPARATION_VERSION = 3  # raise it when `prepare` or `_run` gives other numbers for an image
ELSEWHERE = ("hf_model", "timm_")  # keys that name a model on the hub, or in another folder
MOST_PIXELS = 4096  # of an image's side; larger numbers may not exceed the largest side of the weights
WHOLE = "Use a CLIP that is whole in its folder."
FILES = ("open_clip_config.json", "open_clip_model.safetensors")


class EmbedderError(UserError):
    """An unusable CLIP folder; the message names the file."""


@dataclass(frozen=True)
class Embedder:
    """An open CLIP model.

    Its input: images flattened over `background`, as squares of `resolution` pixels. preprocess: the model's own
    resizing and normalising. cache: folder of embeddings, or None.
    """

    model: Any
    preprocess: Any
    device: str
    key: str
    resolution: int
    background: str
    cache: Path | None


def open_embedder(clip: Path, *, resolution: int, background: str, cache: Path | None = None) -> Embedder:
    """Open the open_clip model in the folder `clip` (`local-dir` format).

    On the GPU if there is one; loads safetensors only, downloads nothing. `resolution` and `background`: the profile's,
    so references are prepared like training images. Raises EmbedderError for a missing or unfit file.
    """
    for name in FILES:
        if not (clip / name).is_file():
            raise EmbedderError(f"{clip / name} is missing: an open_clip model folder needs {' and '.join(FILES)}.")
    import open_clip
    import torch

    _check_config(clip)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{clip}", device=device)
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError, AssertionError) as error:
        why = " ".join(str(error).split())[:300]
        raise EmbedderError(f"{clip} cannot be opened as a CLIP ({why}). Download it again.") from error
    key = content_hash({"files": [file_sha256(clip / name) for name in FILES], "version": PREPARATION_VERSION})
    return Embedder(model.eval(), preprocess, device, key, resolution, background, cache)


def _check_config(clip: Path) -> None:
    """Raise EmbedderError if the configuration names other models or sizes."""
    path, weights = (clip / name for name in FILES)
    if why := why_not_safetensors(weights):
        raise EmbedderError(f"{weights} {why}")
    sides = [side for tensor in tensors_of(read_header(weights)).values() for side in tensor["shape"]]
    try:
        model = parse_json(path.read_bytes())["model_cfg"]
        for name in ("vision_cfg", "text_cfg"):
            for key, value in dict(model[name]).items():
                if key.startswith(ELSEWHERE) and value is not None:
                    raise EmbedderError(f"{path} says {key} {value!r}: parts from elsewhere are never loaded. {WHOLE}")
                if any(number > max(*sides, MOST_PIXELS) for number in _whole_numbers(value)):
                    raise EmbedderError(f"{path} says {key} {value!r}, and its weights have no such side. {WHOLE}")
    except EmbedderError:
        raise
    except (ValueError, TypeError, LookupError) as error:
        raise EmbedderError(f"{path} is no configuration of open_clip ({error}). Download it again.") from error


def _whole_numbers(value: Any) -> list[int]:
    return [number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int)]


def prepare(image: Image.Image, resolution: int, background: str) -> np.ndarray:
    """Convert any image to uint8[resolution, resolution, 3].

    Flattened over `background` (a colour name or #rrggbb), padded to a square with it, resized. Generated images and
    references are prepared alike.
    """
    return fit_image(np.asarray(image.convert("RGBA")), resolution, resolution, background)


def embed(embedder: Embedder, images: Iterable[Image.Image], *, batch_size: int = 32) -> np.ndarray:
    """Embeddings float32[n, d] of length 1, one row per image.

    `batch_size` images are held at a time. Equal pixels after `prepare` are embedded once; cache entries are named by
    them, the model files and PREPARATION_VERSION.
    """
    names: list[str] = []
    known: dict[str, np.ndarray] = {}
    source = iter(images)
    with sharing():
        while batch := list(islice(source, batch_size)):
            squares = [prepare(image, embedder.resolution, embedder.background) for image in batch]
            hashes = [hashlib.sha256(square.tobytes()).hexdigest() for square in squares]
            known |= _embed_new(embedder, {n: s for n, s in zip(hashes, squares, strict=True) if n not in known})
            names += hashes
    return np.stack([known[name] for name in names]) if names else np.zeros((0, _dimensions(embedder)), np.float32)


def _embed_new(embedder: Embedder, squares: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    rows = {name: row for name in squares if (row := _read(embedder, name)) is not None}
    pending = [name for name in squares if name not in rows]
    if pending:
        new = dict(zip(pending, _run(embedder, [squares[name] for name in pending]), strict=True))
        _write(embedder, new)
        rows |= new
    return rows


def _run(embedder: Embedder, squares: Sequence[np.ndarray]) -> np.ndarray:
    """Return the embeddings of `squares`.

    Small batches are filled up: on a CPU an image's embedding does not depend on the others, and so not on the cache of
    this machine.
    """
    import torch

    batch: torch.Tensor = torch.stack([embedder.preprocess(Image.fromarray(square)) for square in squares])
    if embedder.device == "cpu" and len(batch) < LEAST:
        batch = torch.cat([batch, batch[:1].expand(LEAST - len(batch), -1, -1, -1)])
    with torch.inference_mode():
        features = embedder.model.encode_image(batch.to(embedder.device), normalize=True)
    return features[: len(squares)].float().cpu().numpy()


def _dimensions(embedder: Embedder) -> int:
    return int(embedder.model.visual.output_dim)


def _entry(embedder: Embedder, name: str) -> Path | None:
    return embedder.cache / embedder.key[:16] / name[:2] / f"{name}.npy" if embedder.cache else None


def _read(embedder: Embedder, name: str) -> np.ndarray | None:
    path = _entry(embedder, name)
    content = read_cached(path) if path else None
    return None if content is None else np.load(io.BytesIO(content))


def _write(embedder: Embedder, rows: Mapping[str, np.ndarray]) -> None:
    entries = {path: row for name, row in rows.items() if (path := _entry(embedder, name))}
    with atomic_files(list(entries)) as stagings:
        for staging, row in zip(stagings, entries.values(), strict=True):
            buffer = io.BytesIO()
            np.save(buffer, row)
            staging.write_bytes(sealed(buffer.getvalue()))
