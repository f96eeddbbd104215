"""PNG stills, and the chunks and rows that APNG shares.

Source: PNG specification, third edition.
"""

import struct
import zlib

import numpy as np

from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.encode.palette import Indexed, indexed
from sticker_pipeline.packing.encode.settings import Settings

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TRUECOLOUR_ALPHA, PALETTE = 6, 3  # colour types
DOTS_PER_METRE = 2835  # 72 dpi
NONE, SUB, UP, AVERAGE, PAETH = range(5)


def encode(animation: Animation, settings: Settings) -> bytes:
    """Encode frame 1 as a PNG of 72 dpi.

    Lossless RGBA; with `settings.colours` a palette with alpha.
    """
    frames = animation.frames[:1]
    reduced = None if settings.colours is None else indexed(frames, settings.colours)
    pixels = chunk(b"IDAT", compressed(frames[0] if reduced is None else reduced.indices[0], reduced, settings.level))
    resolution = chunk(b"pHYs", struct.pack(">IIB", DOTS_PER_METRE, DOTS_PER_METRE, 1))
    return b"".join([SIGNATURE, header(animation.size, reduced), resolution, *tables(reduced), pixels, chunk(b"IEND")])


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(size: tuple[int, int], reduced: Indexed | None) -> bytes:
    """Return the IHDR chunk."""
    kind = TRUECOLOUR_ALPHA if reduced is None else PALETTE
    return chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth(reduced), kind, 0, 0, 0))


def tables(reduced: Indexed | None) -> list[bytes]:
    """Return PLTE, and tRNS up to the last alpha below 255."""
    if reduced is None:
        return []
    alpha = reduced.palette[:, 3]
    see_through = alpha[: int((alpha < 255).sum())].tobytes()  # alpha ascends
    return [chunk(b"PLTE", reduced.palette[:, :3].tobytes()), *([chunk(b"tRNS", see_through)] if see_through else [])]


def depth(reduced: Indexed | None) -> int:
    """Return the bits of a sample: the fewest that hold an index."""
    if reduced is None:
        return 8
    return next(bits for bits in (1, 2, 4, 8) if len(reduced.palette) <= 1 << bits)


def compressed(pixels: np.ndarray, reduced: Indexed | None, level: int) -> bytes:
    """Return filtered and compressed rows.

    `pixels`: uint8 [h, w, 4], or indices [h, w]. Indices have no filter: neighbouring ones have no relation. RGBA is
    tried without and with the filter of the smallest absolute sum in each row (PNG specification, 12.7).
    """
    if reduced is not None:
        rows = _packed_bits(pixels, depth(reduced))
        return zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes(), level)
    rows = pixels.reshape(len(pixels), -1)
    plain = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes(), level)
    return min(plain, zlib.compress(_filtered(rows).tobytes(), level), key=len)


def _packed_bits(indices: np.ndarray, bits: int) -> np.ndarray:
    """Return rows of indices of `bits` bits, the first pixel highest."""
    if bits == 8:
        return indices
    each = 8 // bits
    padded = np.pad(indices, ((0, 0), (0, -indices.shape[1] % each))).reshape(len(indices), -1, each)
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    return np.bitwise_or.reduce(padded << shifts, axis=2).astype(np.uint8)


def _filtered(rows: np.ndarray) -> np.ndarray:
    """Return rows with their filters, uint8 [h, 1 + bytes]."""
    here = rows.astype(np.int16)
    up = np.pad(here, ((1, 0), (0, 0)))[:-1]
    left, corner = np.pad(here, ((0, 0), (4, 0)))[:, :-4], np.pad(up, ((0, 0), (4, 0)))[:, :-4]
    tried = np.stack([here, here - left, here - up, here - (left + up) // 2, here - _paeth(left, up, corner)])
    wrapped = tried.astype(np.uint8)
    best = np.abs(wrapped.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64).argmin(axis=0)
    chosen = np.take_along_axis(wrapped, best[None, :, None], axis=0)[0]
    return np.concatenate([best[:, None].astype(np.uint8), chosen], axis=1)


def _paeth(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Return the neighbour nearest to left + up - corner (section 9.4)."""
    by_left, by_up = np.abs(up - corner), np.abs(left - corner)
    by_corner = np.abs(left + up - 2 * corner)
    return np.where((by_left <= by_up) & (by_left <= by_corner), left, np.where(by_up <= by_corner, up, corner))
