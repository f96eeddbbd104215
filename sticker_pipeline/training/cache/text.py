"""Encodings of captions, cached on disk; untrained text encoders leave memory.

An entry, named by a hash of all that decides it, holds all variants of one caption, equal ones once. Each chunk of a
variant takes 77·768·2 = 118 kB in half precision on SD1.5 and 77·2048·2 + 1280·2 = 318 kB on SDXL, twice that in
float32: 500 captions with 16 variants of one chunk are 0.9 or 2.5 GB, 30,000 captions 57 or 153 GB.
"""

import errno
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file

from sticker_pipeline.core import caching
from sticker_pipeline.core.storage import atomic_file, content_hash, file_sha256
from sticker_pipeline.diffusion.text import LENGTH, Encoded, TextModels, encode, tokenize

VERSION = "3"  # of the function from texts to an entry; raise it when that changes
BATCH = 16  # texts encoded together
MEMORY = 2**30  # bytes

Variants = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Reading:
    """All that decides an encoding, except the caption's words.

    `text_sha`: hash of the text models' files; `dtype`: of the encoders and of the stored encodings.
    """

    family: str
    text_sha: str
    clip_skip: int
    max_tokens: int
    dtype: torch.dtype


def text_hash(paths: Iterable[Path]) -> str:
    """Hash of the files that decide an encoding, in this order.

    Configurations, tokenizers, weights; not names and folders: a model may be moved.
    """
    return content_hash([file_sha256(path) for path in paths])


def entry_path(cache: Path, reading: Reading, texts: Sequence[str]) -> Path:
    """Cache path of `texts`, the variants of one caption."""
    decides = [VERSION, reading.family, reading.text_sha, reading.clip_skip, reading.max_tokens, str(reading.dtype)]
    digest = content_hash([decides, list(texts)])
    return cache / reading.text_sha[:16] / digest[:2] / f"{digest}.safetensors"


@dataclass(frozen=True)
class _Entry:
    """A cached caption.

    `starts`: first chunk of each text, then the number of chunks; `texts`: each variant's text.
    """

    path: Path
    starts: tuple[int, ...]
    texts: tuple[int, ...]


def encode_captions(
    captions: Iterable[str],
    variants: Variants,
    models: Callable[[], TextModels],
    reading: Reading,
    cache: Path,
    *,
    memory: int = MEMORY,
    encoded: Callable[[int], None] = lambda count: None,
) -> "Encodings":
    """Encodings of all `variants` of distinct `captions` and of the empty one.

    From the cache or the text encoders, which the result does not reference. `models` is called once, only for missing
    entries. A caption's texts are encoded together, apart from others: the result must not depend on other missing
    entries. `memory` bounds the bytes kept after reading. `encoded` gets the number of captions done after each,
    without the empty one, which has one variant; it may raise to stop. Raises ValueError for encoders of another dtype
    than `reading.dtype`.
    """
    entries: dict[str, _Entry] = {}
    loaded: TextModels | None = None
    for number, caption in enumerate(dict.fromkeys(["", *captions])):
        sampled = list(variants(caption)) if caption else [caption]
        texts = list(dict.fromkeys(sampled))
        path = entry_path(cache, reading, texts)
        starts = _cached(path)
        if starts is None:
            loaded = loaded or _checked(models(), reading)
            _write(path, loaded, reading, texts)
            starts = _cached(path)
            assert starts is not None  # just written
        places = {text: place for place, text in enumerate(texts)}
        entries[caption] = _Entry(path, starts, tuple(places[text] for text in sampled))
        encoded(number)
    return Encodings(entries, memory)


def _cached(path: Path) -> tuple[int, ...] | None:
    return caching.read_entry(path, _starts)


def _starts(path: Path) -> tuple[int, ...]:
    """`starts` of a checked entry. Raises ValueError for a damaged one."""
    try:
        tensors = load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    hidden, chunks = tensors["hidden"], tensors["chunks"].tolist()
    if min(chunks) < 1 or sum(chunks) != len(hidden):
        raise ValueError("it has not as many chunks as it says")
    pooled = tensors.get("pooled")
    starts = tuple(accumulate(chunks, initial=0))
    for text, expected in enumerate(tensors["checksums"].tolist()):
        if _checksum(_text_of(hidden, pooled, starts, text)) != expected:
            raise ValueError(f"the checksum of text {text} does not fit")
    if len(tensors["checksums"]) != len(chunks):
        raise ValueError("it has not as many texts as it says")
    return starts


def _checked(models: TextModels, reading: Reading) -> TextModels:
    for encoder in models.encoders:
        if encoder.dtype != reading.dtype:
            raise ValueError(f"The text encoder is {encoder.dtype}, its encodings were to be {reading.dtype}.")
    return models


@torch.no_grad()
def _write(path: Path, models: TextModels, reading: Reading, texts: Sequence[str]) -> None:
    """Write the entry of `texts`.

    `hidden` [chunks of all texts, 77, width], `chunks` int64[texts], `pooled` [texts, width] where the family has it,
    `checksums` int64[texts]: each text is read and checked separately.
    """
    tokens = tokenize(models.tokenizers, texts, reading.max_tokens)
    hidden, pooled = [], []
    for start in range(0, len(texts), BATCH):
        part = tokens.rows(range(start, min(start + BATCH, len(texts))))
        states = encode(models, part, reading.clip_skip)
        chunked = states.hidden.cpu().unflatten(1, (-1, LENGTH))
        hidden += [chunked[row, :count] for row, count in enumerate(part.chunks.tolist())]
        pooled += [states.pooled.cpu()] if states.pooled is not None else []
    tensors = {"hidden": torch.cat(hidden), "chunks": tokens.chunks}
    if pooled:
        tensors["pooled"] = torch.cat(pooled)
    starts = tuple(accumulate(tokens.chunks.tolist(), initial=0))
    sums = [_checksum(_text_of(tensors["hidden"], tensors.get("pooled"), starts, text)) for text in range(len(texts))]
    tensors["checksums"] = torch.tensor(sums, dtype=torch.int64)
    with atomic_file(path) as staging:
        save_file(tensors, staging)


class Encodings:
    """Encodings of captions, read on demand; recent ones stay in bounded memory."""

    def __init__(self, entries: Mapping[str, _Entry], memory: int = MEMORY) -> None:
        self._entries = entries
        self._recent = _Recent(memory)
        self._empty = self._text("", 0)

    def variants(self, caption: str) -> int:
        """Number of variants of `caption`. Raises KeyError if not encoded."""
        return len(self._entries[caption].texts)

    def batch(self, captions: Sequence[str], numbers: Sequence[int]) -> Encoded:
        """Variant `numbers[k]` (modulo their number) of `captions[k]`, on the CPU.

        In the stored dtype, filled up to the longest with empty chunks, as Tokens of `diffusion/text.py`. Raises
        KeyError for a caption not encoded, OSError where the cache was deleted or damaged.
        """
        pairs = zip(captions, numbers, strict=True)
        found = [self._text(caption, number % self.variants(caption)) for caption, number in pairs]
        longest = max(len(one.hidden) for one in found)
        pooled = [one.pooled for one in found if one.pooled is not None]
        return Encoded(
            torch.stack([self._filled(one.hidden, longest) for one in found]), torch.stack(pooled) if pooled else None
        )

    def _filled(self, hidden: torch.Tensor, length: int) -> torch.Tensor:
        missing = (length - len(hidden)) // LENGTH
        return torch.cat([hidden, *[self._empty.hidden] * missing])

    def _text(self, caption: str, variant: int) -> Encoded:
        entry = self._entries[caption]
        text = entry.texts[variant]
        return self._recent.get((caption, text), lambda: _read(entry, text))


def _read(entry: _Entry, text: int) -> Encoded:
    """One text of an entry: hidden [length, width], pooled [width].

    Raises OSError, with the remedy, where the entry is gone or damaged.
    """
    try:
        with safe_open(entry.path, "pt") as file:
            names = file.keys()
            pooled = file.get_slice("pooled") if "pooled" in names else None
            found = _text_of(file.get_slice("hidden"), pooled, entry.starts, text)
            expected = int(file.get_slice("checksums")[text])
        if _checksum(found) != expected:
            raise ValueError("its checksum does not fit")
    except (OSError, SafetensorError, ValueError) as error:
        raise OSError(
            errno.ENOENT,
            "the cached encodings of a caption are gone or damaged: train again, which makes them",
            str(entry.path),
        ) from error
    return found


def _text_of(hidden: Any, pooled: Any, starts: Sequence[int], text: int) -> Encoded:
    return Encoded(hidden[starts[text] : starts[text + 1]].flatten(0, 1), None if pooled is None else pooled[text])


def _checksum(encoded: Encoded) -> int:
    value = caching.checksum(str(encoded.hidden.dtype).encode("ascii"))
    for tensor in (encoded.hidden, encoded.pooled):
        if tensor is not None:
            value = caching.checksum(tensor.contiguous().view(torch.uint8).numpy().data, value)
    return value


class _Recent:
    """The last encodings used, at most `limit` bytes; shared between threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[tuple[str, int], Encoded] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def get(self, key: tuple[str, int], read: Callable[[], Encoded]) -> Encoded:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = read()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = found
                self.bytes += _bytes(found)
            while self.bytes > self._limit:
                self.bytes -= _bytes(self._kept.popitem(last=False)[1])
        return found


def _bytes(encoded: Encoded) -> int:
    return encoded.hidden.nbytes + (encoded.pooled.nbytes if encoded.pooled is not None else 0)
