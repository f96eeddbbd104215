"""Written GIF files, read back by Pillow and by a decoder written here from the GIF89a specification."""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sticker_pipeline.embedded.gif_file import (
    BACKGROUND,
    KEEP,
    PREVIOUS,
    changes,
    encode_gif,
    over_first,
    quantise,
    whole_content,
)


@dataclass(frozen=True)
class Stored:
    """One frame as it stands in the file."""

    left: int
    top: int
    width: int
    height: int
    disposal: int
    delay: int
    local_palette: bool
    transparent: int | None
    table: bytes
    bits: int
    data: bytes

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 [height, width, 4], alpha 0 where the file says transparent."""
        indices = np.array(_unpack(self.data, self.bits, self.width * self.height)).reshape(self.height, self.width)
        colours = np.frombuffer(self.table, np.uint8).reshape(-1, 3)
        opaque = indices != self.transparent
        return np.dstack([colours[np.where(opaque, indices, 0)], np.where(opaque, 255, 0)]).astype(np.uint8)


def _unpack(data: bytes, bits: int, count: int) -> list[int]:
    """LZW: the plain algorithm of the specification, with strings instead of chains."""
    clear, end = 1 << bits, (1 << bits) + 1
    table: list[list[int]] = []
    size, before, result = bits + 1, None, []
    stream, at = int.from_bytes(data, "little"), 0
    while True:
        code = stream >> at & (1 << size) - 1
        at += size
        if code == clear:
            table, size, before = [[n] for n in range(clear)] + [[], []], bits + 1, None
            continue
        if code == end:
            assert len(result) == count
            return result
        entry = table[code] if code < len(table) else [*before, before[0]]
        result += entry
        if before is not None and len(table) < 4096:
            table.append([*before, entry[0]])
        if len(table) == 1 << size and size < 12:
            size += 1
        before = entry


def read_gif(content: bytes) -> tuple[int, int, list[Stored]]:
    """Width, height and the stored frames of a GIF."""
    assert content[:6] == b"GIF89a"
    width, height, flags = struct.unpack("<HHB", content[6:11])
    at, shared = 13, None
    if flags & 0x80:
        shared, at = content[13 : 13 + 3 * 2 ** ((flags & 7) + 1)], 13 + 3 * 2 ** ((flags & 7) + 1)
    frames: list[Stored] = []
    control = (0, 0, None)
    while content[at] != 0x3B:
        if content[at] == 0x21:
            if content[at + 1] == 0xF9:
                packed, delay, clear = struct.unpack("<BHB", content[at + 3 : at + 7])
                control = (packed >> 2 & 7, delay, clear if packed & 1 else None)
            at += 2
            while content[at]:
                at += content[at] + 1
            at += 1
            continue
        left, top, wide, high, flags = struct.unpack("<HHHHB", content[at + 1 : at + 10])
        at, table = at + 10, shared
        if flags & 0x80:
            table, at = content[at : at + 3 * 2 ** ((flags & 7) + 1)], at + 3 * 2 ** ((flags & 7) + 1)
        bits, at, data = content[at], at + 1, b""
        while content[at]:
            data, at = data + content[at + 1 : at + 1 + content[at]], at + 1 + content[at]
        at += 1
        frames.append(
            Stored(left, top, wide, high, control[0], control[1], bool(flags & 0x80), control[2], table, bits, data)
        )
    return width, height, frames


def composite(width: int, height: int, frames: list[Stored]) -> list[np.ndarray]:
    """The full canvas of each frame."""
    canvas, shown = np.zeros((height, width, 4), np.uint8), []
    for frame in frames:
        area = (slice(frame.top, frame.top + frame.height), slice(frame.left, frame.left + frame.width))
        saved = canvas.copy()
        canvas[area] = np.where(frame.pixels[..., 3:] > 0, frame.pixels, canvas[area])
        shown.append(canvas.copy())
        if frame.disposal == BACKGROUND:
            canvas[area] = 0
        elif frame.disposal == PREVIOUS:
            canvas = saved
    return shown


def _animation(seed: int, n_frames: int, colours: int, side: int = 13) -> list[np.ndarray]:
    """Noise in `colours` colours, partly transparent, that changes in a random box from frame to frame."""
    rng = np.random.default_rng(seed)
    frames = []
    frame = np.zeros((side, side + 2, 4), np.uint8)
    for _ in range(n_frames):
        top, left = rng.integers(side - 1, size=2)
        area = (slice(top, top + rng.integers(1, side)), slice(left, left + rng.integers(1, side)))
        frame = frame.copy()
        noise = rng.integers(colours, size=frame[area].shape[:2])
        frame[area] = np.dstack([noise, 255 - noise, noise // 2, np.full(noise.shape, 255)])
        frame[area] *= rng.random(noise.shape)[..., None] < 0.8
        frames.append(frame)
    return frames


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n_frames=st.integers(1, 6),
    colours=st.sampled_from([1, 2, 3, 4, 15, 16, 200, 255]),
    store=st.sampled_from([changes, whole_content]),
    local_palettes=st.booleans(),
)
def test_what_is_written_is_read_back(
    seed: int, n_frames: int, colours: int, store: Callable, local_palettes: bool
) -> None:
    frames = _animation(seed, n_frames, colours)
    delays = list(range(3, 3 + n_frames))
    width, height, stored = read_gif(encode_gif(frames, delays, store, local_palettes))
    assert [frame.delay for frame in stored] == delays
    assert all(frame.local_palette == local_palettes for frame in stored)
    for shown, frame in zip(composite(width, height, stored), frames, strict=True):
        assert np.array_equal(shown, frame)


def test_overlays_on_the_first_frame_are_read_back() -> None:
    first = _animation(1, 1, 9)[0]
    frames = [first]
    for frame in _animation(2, 4, 7):
        frames.append(np.where(frame[..., 3:] > 0, frame, first))
    width, height, stored = read_gif(encode_gif(frames, [5] * 5, over_first))
    assert [frame.disposal for frame in stored] == [KEEP, *[PREVIOUS] * 4]
    for shown, frame in zip(composite(width, height, stored), frames, strict=True):
        assert np.array_equal(shown, frame)


def test_large_noise_fills_the_code_table_and_is_read_back() -> None:
    """Over 4096 codes: the table is cleared on the way. Pillow reads it, too."""
    frame = _animation(3, 1, 255, side=2)[0]
    noise = np.random.default_rng(5).integers(255, size=(180, 170))
    frame = np.dstack([noise, noise, noise, np.full(noise.shape, 255)]).astype(np.uint8)
    content = encode_gif([frame], [5], changes)
    width, height, stored = read_gif(content)
    assert np.array_equal(composite(width, height, stored)[0], frame)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")), frame)


def test_what_cannot_be_written_is_refused() -> None:
    full, empty = np.full((4, 4, 4), 255, np.uint8), np.zeros((4, 4, 4), np.uint8)
    with pytest.raises(ValueError, match="transparent where the first is not"):
        encode_gif([full, empty], [5, 5], over_first)
    with pytest.raises(ValueError, match="one delay per frame"):
        encode_gif([full], [5, 5], changes)
    many = np.zeros((16, 16, 4), np.uint8)
    many[..., 0], many[..., 3] = np.arange(256).reshape(16, 16), 255
    with pytest.raises(ValueError, match="256 colours"):
        encode_gif([many], [5], changes)


def test_quantising_keeps_flat_colours_and_makes_alpha_binary() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(256, size=(40, 40, 4)).astype(np.uint8)
    frame[:20, :, :3] = (12, 200, 60)
    frame[20:30, 5:9, :3] = (250, 3, 180)
    frame[:30, :, 3] = 255
    result = quantise([frame, frame[::-1].copy()], 30)
    assert all(set(np.unique(image[..., 3])) <= {0, 255} for image in result)
    assert np.array_equal(result[0][..., 3] == 255, frame[..., 3] >= 128)
    assert (result[0][result[0][..., 3] == 0] == 0).all()
    opaque = np.concatenate([image[image[..., 3] > 0] for image in result])
    assert len(np.unique(opaque, axis=0)) <= 30
    assert (result[0][:20, :, :3] == (12, 200, 60)).all()
    assert np.abs(result[0][20:30, 5:9, :3].astype(int) - (250, 3, 180)).max() <= 8
