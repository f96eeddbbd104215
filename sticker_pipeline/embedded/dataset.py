"""Drawings that the embedded models are trained on and measured with.

Training drawings lie in memory-mapped arrays.
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sticker_pipeline.core.progress import time_left
from sticker_pipeline.embedded import roster
from sticker_pipeline.embedded.scene import RESERVED_LOOKS, Identity, Scene, identity_tags, random_scene, scene_tags

SIZE = 96  # pixels, as in the embedded profile
PER_IDENTITY = 6  # drawings, stickers and art in turn
KNOWN_EVERY = 20  # every 20th identity is a known character
CHUNK = 480  # drawings per unit of work; a multiple of PER_IDENTITY
_SCENE_STREAM = 11
_FRESH_STREAM = 12


@dataclass(frozen=True)
class Drawings:
    """Images and their contents, row by row.

    `pixels`: uint8 [N, 96, 96, 4] RGBA, straight alpha; `tags`: all, in fixed order; `identity`: its number, int64 [N];
    `sticker`: bool [N]; `character`: the known character's name or ""; `identity_words`: inherent tags; `faces`:
    float32 [N, 3] of `face_circle` in `embedded/drawing.py`.
    """

    pixels: np.ndarray
    tags: list[list[str]]
    identity: np.ndarray
    sticker: np.ndarray
    character: list[str]
    identity_words: list[list[str]]
    faces: np.ndarray

    def __len__(self) -> int:
        return len(self.tags)


@dataclass(frozen=True)
class Drawn:
    """A planned drawing: scene, identity number, known character's name."""

    scene: Scene
    identity: int
    character: str


def training_row(index: int) -> Drawn:
    """Plan training drawing `index` (≥ 0), without demo characters and held-out identities."""
    number = index // PER_IDENTITY
    known = sorted(roster.known_characters().items())
    if number % KNOWN_EVERY == 0:
        name, identity = known[number // KNOWN_EVERY % len(known)]
        return Drawn(_scene(identity, [_SCENE_STREAM, index], index), -1 - number // KNOWN_EVERY % len(known), name)
    return Drawn(_scene(roster.training_identity(number), [_SCENE_STREAM, index], index), number, "")


def fresh_row(index: int, seed: int, known: bool) -> Drawn:
    """Plan fresh drawing `index` of a held-out identity, or (`known`) a known character."""
    number = index // PER_IDENTITY
    stream = [_FRESH_STREAM, seed, index, int(known)]
    if known:
        names = sorted(roster.known_characters())
        name = names[number % len(names)]
        return Drawn(_scene(roster.known_characters()[name], stream, index), number % len(names), name)
    return Drawn(_scene(roster.heldout_identity(seed * 100_000 + number), stream, index), number, "")


def _scene(identity: Identity, stream: list[int], index: int) -> Scene:
    """Random scene of `identity`; one in four in mid-animation (bounce, blink, speech)."""
    rng = np.random.default_rng(stream)
    scene = random_scene(rng, identity, "sticker" if index % 2 == 0 else "art")
    if rng.random() < 0.75:
        return scene
    blink = 0.0 if rng.random() < 0.7 else float(rng.choice([0.3, 1.0]))
    return replace(scene, bob=float(rng.uniform(-1, 1)), blink=blink, mouth_open=float(rng.uniform(0, 1)))


def fresh_drawings(count: int, *, seed: int, known: bool = False) -> Drawings:
    """Draw `count` images of held-out identities, or (`known`) of known characters."""
    rows = [fresh_row(index, seed, known) for index in range(count)]
    return _as_drawings(rows, np.stack([_pixels(row.scene) for row in rows]))


def training_drawings(
    folder: Path, count: int, *, processes: int = 1, chunk: int = CHUNK, say: Callable[[str], None] = print
) -> Drawings:
    """Return `count` training drawings; draw missing ones into `folder`, resumably.

    Raises ValueError if `count` is not a multiple of `chunk`.
    """
    if count % chunk:
        raise ValueError(f"number of drawings {count}: choose a multiple of {chunk}")
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / f"pixels-{count}-{drawing_version()}.npy"
    if not store.exists():
        np.lib.format.open_memmap(store, mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 4)).flush()
    ledger = store.with_suffix(".json")
    done = set(json.loads(ledger.read_text())) if ledger.exists() else set()
    missing = [(store, start, start + chunk) for start in range(0, count, chunk) if start not in done]
    if missing:
        _draw_missing(ledger, done, missing, processes, say)
    return _as_drawings([training_row(index) for index in range(count)], np.load(store, mmap_mode="r"))


def _draw_missing(
    ledger: Path, done: set[int], missing: Sequence[tuple[Path, int, int]], processes: int, say: Callable[[str], None]
) -> None:
    """Draw the ranges `missing`; note each finished one's start in `ledger`."""
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, start in enumerate(pool.imap_unordered(_draw_range, missing), start=1):
            done.add(start)
            ledger.write_text(json.dumps(sorted(done)))
            left = (time.monotonic() - began) / number * (len(missing) - number)
            if number % 10 == 0 or number == len(missing):
                say(f"draw      {number} of {len(missing)} batches, {time_left(left)}")


def _draw_range(task: tuple[Path, int, int]) -> int:
    store, start, stop = task
    pixels = np.load(store, mmap_mode="r+")
    for index in range(start, stop):
        pixels[index] = _pixels(training_row(index).scene)
    pixels.flush()
    return start


@functools.cache
def drawing_version() -> str:
    """Eight hex digits over 24 drawings' pixels, reserved looks and known characters."""
    digest = hashlib.sha256(repr((sorted(RESERVED_LOOKS), sorted(roster.known_characters().items()))).encode())
    for index in range(0, 24 * 7, 7):
        digest.update(_pixels(training_row(index).scene).tobytes())
    return digest.hexdigest()[:8]


def _pixels(scene: Scene) -> np.ndarray:
    from sticker_pipeline.embedded.drawing import draw

    return draw(scene, SIZE)


def _as_drawings(rows: Sequence[Drawn], pixels: np.ndarray) -> Drawings:
    from sticker_pipeline.embedded.drawing import face_circle

    return Drawings(
        pixels=pixels,
        tags=[scene_tags(row.scene) for row in rows],
        identity=np.array([row.identity for row in rows], dtype=np.int64),
        sticker=np.array([row.scene.style == "sticker" for row in rows]),
        character=[row.character for row in rows],
        identity_words=[identity_tags(row.scene.identity) for row in rows],
        faces=np.array([face_circle(row.scene) for row in rows], dtype=np.float32),
    )


def flatten(rgba: np.ndarray, background: np.ndarray | float = 255.0) -> np.ndarray:
    """Blend RGBA uint8 [N, H, W, 4] over `background` -> float32.

    `background`: 0–255, a number or an array that fits [N, H, W, 3].
    """
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    return rgba[..., :3].astype(np.float32) * alpha + np.float32(1.0) * background * (1.0 - alpha)


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Blend RGBA uint8 over white, scaled to -1…1.

    [N, H, W, 4] -> float32 [N, 3, H, W].
    """
    return np.ascontiguousarray((flatten(rgba) / 127.5 - 1.0).transpose(0, 3, 1, 2).astype(np.float32))
