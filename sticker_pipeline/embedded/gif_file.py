"""Writes animated GIFs with the features of other encoders.

These are partial frames, all disposal methods, transparency and local palettes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

KEEP, BACKGROUND, PREVIOUS = 1, 2, 3
"""Disposal methods: GIF89a specification, section 23.c.iv."""

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels; right and bottom are outside."""


@dataclass(frozen=True)
class Patch:
    """A stored frame: its place, painted pixels and disposal method."""

    box: Box
    painted: np.ndarray  # bool [H, W] of the whole canvas; used inside `box`
    disposal: int


def quantise(frames: Sequence[np.ndarray], colours: int) -> list[np.ndarray]:
    """Reduce an animation to colours for a GIF: at most `colours` opaque ones.

    Args:
        frames: uint8 [H, W, 4] each, all of one size.
        colours: over all frames, 2–255.

    Returns:
        uint8 [H, W, 4] each: alpha is 0 (with R = G = B = 0) or 255.
    """
    opaque = [frame[..., 3] >= 128 for frame in frames]
    samples = np.concatenate([_packed(frame)[mask] for frame, mask in zip(frames, opaque, strict=True)])
    palette = Image.new("P", (1, 1))
    palette.putpalette(_representatives(samples, colours).tobytes())
    result = []
    for frame, mask in zip(frames, opaque, strict=True):
        rgb = Image.fromarray(np.ascontiguousarray(frame[..., :3]))
        nearest = rgb.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB")
        result.append(np.dstack([np.asarray(nearest), np.full(mask.shape, 255, np.uint8)]) * mask[..., None])
    return result


def _representatives(samples: np.ndarray, colours: int) -> np.ndarray:
    """Choose colours `uint8[<= colours, 3]` of packed `samples`, each the worst served so far.

    Cost: squared distance to the chosen colours times the root of the area. So flat areas and small bright signs keep
    their colour; averages over regions of the colour cube (median cut) are duller.
    """
    different, counts = np.unique(samples, return_counts=True)
    bins = (different >> 3) & 0x1F1F1F
    order = np.lexsort((-counts, bins))
    _, first = np.unique(bins[order], return_index=True)
    areas = np.add.reduceat(counts[order], first)
    candidates = _unpacked(different[order][first]).astype(np.float64)
    cost = np.full(len(candidates), np.inf)
    chosen: list[int] = []
    while len(chosen) < min(colours, len(candidates)):
        chosen.append(int(np.argmax(np.where(np.isinf(cost), 1.0, cost) * np.sqrt(areas))))
        cost = np.minimum(cost, ((candidates - candidates[chosen[-1]]) ** 2).sum(axis=1))
    return candidates[chosen].astype(np.uint8)


# --- storage of frames -----------------------------------------------------------------------------------------------


def whole_content(frames: Sequence[np.ndarray]) -> list[Patch]:
    """Store each frame as the box around its content, then clear it."""
    masks = [frame[..., 3] > 0 for frame in frames]
    return [Patch(_around(mask), mask, BACKGROUND) for mask in masks]


def over_first(frames: Sequence[np.ndarray]) -> list[Patch]:
    """Keep the first frame; later ones paint differences, then are undone.

    Raises ValueError if a later frame is transparent where the first is not.
    """
    first = frames[0]
    patches = [Patch(_whole(first), first[..., 3] > 0, KEEP)]
    for index, frame in enumerate(frames[1:], start=1):
        changed = (frame != first).any(axis=-1)
        if (frame[changed][:, 3] == 0).any():
            raise ValueError(f"frame {index} is transparent where the first is not; store this animation otherwise")
        patches.append(Patch(_around(changed), changed, PREVIOUS))
    return patches


def changes(frames: Sequence[np.ndarray]) -> list[Patch]:
    """Paint the changes since the previous frame, which stays.

    If content vanishes, the previous frame's box is extended over it and cleared.
    """
    patches = [Patch(_whole(frames[0]), frames[0][..., 3] > 0, KEEP)]
    shown = frames[0]
    for frame in frames[1:]:
        vanished = (shown[..., 3] > 0) & (frame[..., 3] == 0)
        if vanished.any():
            left, top, right, bottom = patches[-1].box
            reach = vanished.copy()
            reach[top:bottom, left:right] = True
            patches[-1] = Patch(_around(reach), patches[-1].painted, BACKGROUND)
            shown = _cleared(shown, patches[-1].box)
        changed = (frame != shown).any(axis=-1)
        patches.append(Patch(_around(changed), changed, KEEP))
        shown = frame
    return patches


def _whole(frame: np.ndarray) -> Box:
    return 0, 0, frame.shape[1], frame.shape[0]


def _around(mask: np.ndarray) -> Box:
    """Box around True values, or a corner pixel if there are none.

    GIF frames cannot be empty.
    """
    if not mask.any():
        return 0, 0, 1, 1
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _cleared(frame: np.ndarray, box: Box) -> np.ndarray:
    left, top, right, bottom = box
    result = frame.copy()
    result[top:bottom, left:right] = 0
    return result


# --- the file --------------------------------------------------------------------------------------------------------


def encode_gif(
    frames: Sequence[np.ndarray],
    delays: Sequence[int],
    store: Callable[[Sequence[np.ndarray]], list[Patch]],
    local_palettes: bool = False,
) -> bytes:
    """Encode a GIF89a file that loops forever.

    Args:
        frames: from `quantise`: uint8 [H, W, 4], alpha 0 or 255, at most 255 colours.
        delays: one per frame, in hundredths of a second.
        store: `whole_content`, `over_first` or `changes`.
        local_palettes: a palette per frame instead of one per file.

    Raises ValueError if the counts of frames and delays differ, or for more than 255 colours.
    """
    if len(frames) != len(delays):
        raise ValueError(f"{len(frames)} frames with {len(delays)} delays: give one delay per frame")
    height, width = frames[0].shape[:2]
    palette = np.unique(np.concatenate([_packed(frame)[frame[..., 3] > 0] for frame in frames]))
    if len(palette) > 255:
        raise ValueError(f"{len(palette)} colours do not fit into a GIF with transparency; quantise to 255 at most")
    bits = _palette_bits(len(palette))
    has_table = 0 if local_palettes else 0x80
    parts = [b"GIF89a", struct.pack("<HHBBB", width, height, has_table | 0x70 | (bits - 1), 0, 0)]
    if not local_palettes:
        parts.append(_colour_table(palette, bits))
    parts.append(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
    for frame, patch, delay in zip(frames, store(frames), delays, strict=True):
        parts.append(_encode_patch(frame, patch, delay, None if local_palettes else palette))
    return b"".join([*parts, b"\x3b"])


def _encode_patch(frame: np.ndarray, patch: Patch, delay: int, shared: np.ndarray | None) -> bytes:
    """Encode graphic control, image descriptor, palette unless `shared`, and pixels."""
    left, top, right, bottom = patch.box
    pixels = _packed(frame)[top:bottom, left:right]
    painted = (patch.painted & (frame[..., 3] > 0))[top:bottom, left:right]
    palette = np.unique(pixels[painted]) if shared is None else shared
    bits = _palette_bits(len(palette))
    transparent = len(palette)
    indices = np.where(painted, np.searchsorted(palette, pixels), transparent)
    control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, patch.disposal << 2 | 1, delay, transparent, 0)
    table = _colour_table(palette, bits) if shared is None else b""
    flags = 0x80 | (bits - 1) if shared is None else 0
    descriptor = struct.pack("<BHHHHB", 0x2C, left, top, right - left, bottom - top, flags)
    return control + descriptor + table + _compress(indices.ravel().tolist(), max(bits, 2))


def _packed(frame: np.ndarray) -> np.ndarray:
    """int64 [H, W]: red, green and blue in one number."""
    return frame[..., :3].astype(np.int64) @ np.array([65536, 256, 1])


def _unpacked(colours: np.ndarray) -> np.ndarray:
    """uint8 [N, 3] from `_packed` numbers [N]."""
    return np.stack([colours >> 16 & 255, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8)


def _palette_bits(colours: int) -> int:
    """Bits per index, with one transparent entry."""
    return max(1, int(colours).bit_length())


def _colour_table(palette: np.ndarray, bits: int) -> bytes:
    table = np.zeros((2**bits, 3), np.uint8)
    table[: len(palette)] = _unpacked(palette)
    return table.tobytes()


def _compress(indices: list[int], bits: int) -> bytes:
    """LZW by appendix F of the GIF89a specification, in sub-blocks."""
    clear, end = 1 << bits, (1 << bits) + 1
    codes: dict[tuple[int, int], int] = {}
    size, following = bits + 1, end + 1
    value, filled, out = clear, size, bytearray()
    prefix = indices[0]
    for index in indices[1:]:
        code = codes.get((prefix, index))
        if code is not None:
            prefix = code
            continue
        value |= prefix << filled
        filled += size
        if following < 4096:
            codes[prefix, index] = following
            size += following == 1 << size
            following += 1
        else:
            value |= clear << filled
            filled += size
            codes.clear()
            size, following = bits + 1, end + 1
        while filled >= 8:
            out.append(value & 255)
            value >>= 8
            filled -= 8
        prefix = index
    value |= prefix << filled
    filled += size
    size += following == 1 << size and size < 12
    value |= end << filled
    filled += size
    out += value.to_bytes((filled + 7) // 8, "little")
    blocks = [out[at : at + 255] for at in range(0, len(out), 255)]
    return bytes([bits]) + b"".join(bytes([len(block)]) + bytes(block) for block in blocks) + b"\x00"
