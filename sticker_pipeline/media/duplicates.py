"""Exact and near duplicates among frames; pure arrays."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import numpy as np
from PIL import Image, ImageChops, ImageFilter

THUMBNAIL_SIDE = 16
NO_CAPTION = 0
# The perceptual hash ignores colour and transparency and hardly changes with a blink: near duplicates must also agree
# in every cell of a 16×16 thumbnail. Measured on real stickers (hashes within 2 bits): one image as GIF and as
# APNG differs by at most 14 of 255 levels in a cell; visibly different frames by 26 and more.
THUMBNAIL_TOLERANCE = 24
# A thumbnail does not resolve a small mouth on a large image. Measured on 114 real stickers and six expressions of one
# sprite, luminance within CLOSE_SIDE, means of 3×3 pixels: copies (JPEG quality 40, WebP quality 60, 128 colours, a
# quarter to 1.5 of the size) differ by at most 42 of 255, half of them by 12; other expressions by 78 and more.
CLOSE_SIDE = 512  # pixels of the longer side
CLOSE_WINDOW = 1  # radius in pixels: 3×3
CLOSE_TOLERANCE = 48
# Expressions of one sprite have one size. Another size shifts every edge slightly: stickers of 208 and 224 px differ by
# up to 80.
RESIZED_TOLERANCE = 96
MOST_CLOSE_LOOKS = 8  # per still, at the nearest thumbnails
MOST_CANDIDATES = 64  # per still, for thumbnail comparison


def representatives(
    pixel_hashes: Sequence[str],
    perceptual_hashes: np.ndarray,
    thumbnails: np.ndarray,
    preference: np.ndarray,
    distance: int,
    captions: Sequence[str],
    stills: Sequence[bool],
    close_look: Callable[[int, int], float],
) -> tuple[np.ndarray, dict[int, int]]:
    """Return each frame's representative, and frames kept only for their caption.

    The first, int64 [n], is the position of the frame that stands for each one: itself when kept. The second maps a
    position to that of the frame it would have been merged into.

    Frames are visited in the order `preference` (int64 [n], positions). Each is merged into the first kept frame with
    the same pixels, else into the earliest near one: perceptual hashes (uint64 [n]) differ in at most `distance` of 64
    bits (-1: none), thumbnails (uint8 [n, 16, 16, 4]: RGB over white, alpha) by at most THUMBNAIL_TOLERANCE in every
    cell. A frame of `stills` (the only one of its file) is merged into the near one with the lowest `close_look`, if at
    most 1.

    Only kept frames are compared, so likeness does not drift along an animation. Frames with different `captions` ("":
    none) are never merged, nor into one frame. Time: one vector operation over the kept frames per distinct image and
    caption, and MOST_CLOSE_LOOKS per still.
    """
    representative = np.empty(len(preference), dtype=np.int64)
    codes = _codes(captions)
    found: dict[tuple[str, int], int] = {}
    first: dict[str, int] = {}  # first frame kept for these pixels, with any caption
    apart: dict[int, int] = {}
    kept = _Kept(len(preference))
    for position in map(int, preference):
        pixels, code = pixel_hashes[position], codes[position]
        if (pixels, code) not in found:

            def near(code: int, one: int = position) -> Iterator[int]:
                look = (perceptual_hashes[one], thumbnails[one], distance, code)
                if stills[one]:
                    looks = sorted((close_look(one, other), other) for other in kept.nearest(*look))
                    yield from (other for seen, other in looks if seen <= 1)
                else:
                    yield from kept.near(*look)

            same = (first[pixels],) if pixels in first and kept.fits(first[pixels], code) else ()
            keeper = next(chain(same, near(code)), None)
            if keeper is None:
                looks_like = chain((first[pixels],) if pixels in first else (), near(NO_CAPTION))
                other = None if code == NO_CAPTION else next(looks_like, None)
                apart |= {} if other is None else {position: other}
                keeper = position
                kept.add(position, perceptual_hashes[position], thumbnails[position])
            kept.take_caption(keeper, code)
            found[pixels, code] = keeper
            first.setdefault(pixels, keeper)
        representative[position] = found[pixels, code]
    return representative, apart


def _codes(captions: Sequence[str]) -> list[int]:
    numbers = {caption: number for number, caption in enumerate(dict.fromkeys(["", *captions]))}
    return [numbers[caption] for caption in captions]


class _Kept:
    """The kept frames so far, in arrays for vectorised search.

    A frame's caption is its own, else the first merged into it.
    """

    def __init__(self, capacity: int) -> None:
        self.count = 0
        self.positions = np.empty(capacity, dtype=np.int64)
        self.codes = np.full(capacity, NO_CAPTION, dtype=np.int64)
        self.place: dict[int, int] = {}
        self.hashes = np.empty(capacity, dtype=np.uint64)
        self.means = np.empty((capacity, 4), dtype=np.float32)
        self.thumbnails = np.empty((capacity, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 4), dtype=np.uint8)

    def add(self, position: int, perceptual_hash: np.uint64, thumbnail: np.ndarray) -> None:
        self.positions[self.count] = position
        self.place[int(position)] = self.count
        self.hashes[self.count] = perceptual_hash
        self.means[self.count] = thumbnail.mean(axis=(0, 1))
        self.thumbnails[self.count] = thumbnail
        self.count += 1

    def fits(self, position: int, code: int) -> bool:
        """Tell whether caption `code` may be merged into the frame at `position`."""
        return code == NO_CAPTION or self.codes[self.place[position]] in (NO_CAPTION, code)

    def take_caption(self, position: int, code: int) -> None:
        """Give the kept frame at `position` the caption, unless it has one."""
        place = self.place[position]
        self.codes[place] = self.codes[place] or code

    def near(self, perceptual_hash: np.uint64, thumbnail: np.ndarray, distance: int, code: int) -> Iterator[int]:
        """Yield positions of near kept frames that fit caption `code`, earliest first."""
        places, _ = self._alike(perceptual_hash, thumbnail, distance, code)
        for place in places:
            if thumbnail_difference(self.thumbnails[place], thumbnail) <= THUMBNAIL_TOLERANCE:
                yield int(self.positions[place])

    def nearest(self, perceptual_hash: np.uint64, thumbnail: np.ndarray, distance: int, code: int) -> list[int]:
        """Return at most MOST_CLOSE_LOOKS of these positions, by nearest thumbnail."""
        places, gaps = self._alike(perceptual_hash, thumbnail, distance, code)
        likely = places[np.argsort(gaps.sum(axis=1), kind="stable")[:MOST_CANDIDATES]]
        differences = [(thumbnail_difference(self.thumbnails[place], thumbnail), place) for place in likely]
        near = sorted(pair for pair in differences if pair[0] <= THUMBNAIL_TOLERANCE)
        return [int(self.positions[place]) for _, place in near[:MOST_CLOSE_LOOKS]]

    def _alike(
        self, perceptual_hash: np.uint64, thumbnail: np.ndarray, distance: int, code: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return indices of similar kept frames, and the gaps of their means.

        Similar: a near hash, a near mean and a caption that fits. Means are a cheap prefilter: they differ no more than
        thumbnails.
        """
        alike = np.bitwise_count(self.hashes[: self.count] ^ perceptual_hash) <= distance
        if code != NO_CAPTION:
            codes = self.codes[: self.count]
            alike &= (codes == NO_CAPTION) | (codes == code)
        near = np.flatnonzero(alike)
        gaps = np.abs(self.means[near] - thumbnail.mean(axis=(0, 1))) if len(near) else np.empty((0, 4), np.float32)
        fits = (gaps <= THUMBNAIL_TOLERANCE).all(axis=1)
        return near[fits], gaps[fits]


def thumbnail_difference(one: np.ndarray, other: np.ndarray) -> int:
    """Return the largest channel difference of two thumbnails (uint8 [16, 16, 4])."""
    return int(np.abs(one.astype(np.int16) - other).max())


def close_up(flat: Image.Image) -> Image.Image:
    """Return the luminance of an opaque image, longer side at most CLOSE_SIDE."""
    grey = flat.convert("L")
    grey.thumbnail((CLOSE_SIDE, CLOSE_SIDE), Image.Resampling.LANCZOS)
    return grey


def close_difference(one: Image.Image, other: Image.Image) -> int:
    """Return the largest difference between two close-ups' 3×3-pixel means, 0 to 255.

    The larger is resized to the smaller. Noise and edges shifted by resizing cancel out in signed means; a line in
    another place does not.
    """
    small, large = sorted((one, other), key=lambda image: image.width * image.height)
    if large.size != small.size:
        large = large.resize(small.size, Image.Resampling.LANCZOS)
    halves = ImageChops.subtract(small, large, scale=2, offset=128).filter(ImageFilter.BoxBlur(CLOSE_WINDOW))
    return min(255, 2 * int(np.abs(np.asarray(halves, dtype=np.int16) - 128).max()))
