"""Subjects cut from a flat background, by unmixing their edge."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sticker_pipeline.core.texts import UserError
from sticker_pipeline.media.frame import clear_hidden_colour
from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.place import once_each
from sticker_pipeline.packing.regions import at_border, grown, labelled, offsets_by_distance

OPAQUE = 255
VISIBLE = 128  # of alpha: a pixel counts as part of the subject

MIN_FLAT_SHARE = 0.5  # a bust that the canvas cuts at one side leaves more of the border than that
MIN_TRANSPARENT = 0.01  # of all pixels: the image has an alpha channel of its own
MIN_WHOLE_BORDER = 0.95  # of each frame's border, where the background changes from frame to frame
SPECK_SHARE = 0.0002  # of the largest region's pixels: a smaller region is a speck
SPECK_PIXELS = 4
MIN_HOLE = 9  # pixels of an enclosed region that is cleared

_AGREES = 24  # levels from the background's colour, of 255: noise of a flat background
_CLEAN = 2  # levels: rounding, no noise
_PAD = 3  # pixels of background around the canvas, since the edge may be the canvas's own
_BAND = 2  # pixels from the background in which alpha may be partial
_NOISY_BAND = 4
_REACH = 4  # pixels from an edge pixel to a sure one
_LINE_REACH = 4  # pixels along a thin line
_WEAK = 0.84  # a reference of less, in lengths of the edge pixel, is another colour
_CANVAS = (slice(_PAD, -_PAD), slice(_PAD, -_PAD))
_SAME = 12.0  # levels: colours on one line to the background

_WHITE, _BLACK = 230, 25


class CutOutError(UserError):
    """A background that is not flat; the message omits the file's name."""


@dataclass(frozen=True)
class Background:
    """The flat colour behind a subject.

    `colour`: R, G, B. `tolerance`: levels (of 255) by which its pixels differ from it. `flat_share`: 0..1, of the
    border's pixels in all frames that have that colour.
    """

    colour: tuple[int, int, int]
    tolerance: int
    flat_share: float


@dataclass(frozen=True)
class FrameEvidence:
    """Findings about one frame's cut-out.

    `kept`: 0..1, of the canvas with alpha of VISIBLE and more. `specks`: small regions apart from the subject, that
    were removed where a background was cut. `border`: 0..1, of the canvas's border that the subject covers. `holes`:
    regions of the background's colour that the subject encloses.
    """

    kept: float
    specks: int
    border: float
    holes: int


@dataclass(frozen=True)
class CutOut:
    """A subject without its background, and evidence per frame.

    `background`: that of most frames; None where the image had an alpha channel of its own, which was kept.
    """

    animation: Animation
    background: Background | None
    evidence: tuple[FrameEvidence, ...]

    @cached_property
    def specks(self) -> int:
        """Specks of all frames."""
        return sum(frame.specks for frame in self.evidence)

    @cached_property
    def kept(self) -> float:
        """Mean share of the canvas that was kept."""
        return float(np.mean([frame.kept for frame in self.evidence]))


def cut_out(animation: Animation, *, clear_holes: bool | None = None) -> CutOut:
    """Cut the subject from a flat background; an alpha channel is kept.

    All frames have one background, or each one its own (`_background_behind`). It is flooded from the border; enclosed
    regions of its colour are holes. None: they are cleared, unless the background is near white or near black, the
    colours of eyes and teeth; True and False say so for any colour. Alpha a and colour F of the edge's pixels solve
    I = a F + (1 - a) B, with a from the projection on the colour of the nearest pixel that is surely inside, and then F
    exactly, so that a composite on B is the image. Raises CutOutError where less than MIN_FLAT_SHARE of the border is
    of one colour, or that colour changes.
    """
    if has_alpha(animation):
        return CutOut(
            animation,
            None,
            tuple(once_each(animation.frames, lambda frame: _evidence(frame[..., 3], _specks(frame[..., 3])[1], 0))),
        )
    background = background_of(animation)
    behind = _background_behind(animation, background)
    results = once_each(animation.frames, lambda frame: _cut_frame(frame, behind(frame), clear_holes))
    cut = Animation(np.stack([frame for frame, _ in results]), animation.durations, animation.loops)
    return CutOut(cut, background, tuple(evidence for _, evidence in results))


def has_alpha(animation: Animation) -> bool:
    """Tell whether an alpha channel already cuts the subject out.

    It does where MIN_TRANSPARENT of a frame's pixels are transparent, or half of its border; one frame is enough, since
    a subject may fill the canvas in all others. Frames without anything visible do not count.
    """
    clear = animation.frames[..., 3] < VISIBLE
    share = clear.mean(axis=(1, 2))
    border = clear[:, at_border((clear.shape[1], clear.shape[2]))].mean(axis=1)
    return bool((((share >= MIN_TRANSPARENT) | (border >= 0.5)) & (share < 1)).any() or (share == 1).all())


def _background_behind(animation: Animation, common: Background) -> Callable[[np.ndarray], Background]:
    """Return a function from a frame to its background.

    It is `common`, or the frame's own where the background changes.

    It changes where most of a frame's border has another colour. Every frame must then show MIN_WHOLE_BORDER of its
    own: a subject that comes near and fills the canvas does not. Raises CutOutError otherwise.
    """
    if len(animation.frames) == 1:
        _check_flat(common.flat_share)
        return lambda _: common
    alone = once_each(animation.frames, lambda frame: (_share_of(frame, common), _alone(frame).flat_share))
    changed = [number for number, (share, own) in enumerate(alone, 1) if share < MIN_FLAT_SHARE < own]
    whole = min(own for _, own in alone) >= MIN_WHOLE_BORDER
    if not (changed and whole):
        _check_flat(common.flat_share)
    if changed and not whole:
        raise CutOutError(
            f"the background changes: in frame {changed[0]} most of the border has another colour. Save the animation "
            "with a transparent background."
        )
    if not changed:
        return lambda _: common
    return lambda frame: common if _share_of(frame, common) >= MIN_FLAT_SHARE else _alone(frame)


def _check_flat(share: float) -> None:
    if share < MIN_FLAT_SHARE:
        raise CutOutError(
            f"the background is not flat: {share:.0%} of the border has one colour, at least {MIN_FLAT_SHARE:.0%} must."
            " Make the image on a plain background, or save it with a transparent one."
        )


def _alone(frame: np.ndarray) -> Background:
    return background_of(Animation(frame[None], (0,)))


def _share_of(frame: np.ndarray, background: Background) -> float:
    """Return the share of a frame's border that is background or transparent."""
    border = frame[at_border((frame.shape[0], frame.shape[1]))]
    agrees = (distances(border[:, :3], background.colour) <= _AGREES) | (border[:, 3] < VISIBLE)
    return float(agrees.mean())


def background_of(animation: Animation) -> Background:
    """Return the most frequent colour of the border, over all frames.

    Transparent pixels do not count. The tolerance is twice the 90th percentile of the noise in the border and beside
    the flooded background of the first frame, at most 24; 2 where there is none.
    """
    height, width = animation.frames.shape[1:3]
    border = animation.frames[:, at_border((height, width))].reshape(-1, 4)
    shown = border[:, 3] >= VISIBLE
    pixels = border[shown if shown.any() else slice(None), :3]
    colour = _most_frequent(pixels)
    apart = distances(pixels, colour)
    agrees = apart <= _AGREES
    noise = max(float(np.quantile(apart[agrees], 0.9)) if agrees.any() else 0, _noise_beside(animation, colour))
    tolerance = _CLEAN if noise <= 1 else min(_AGREES, round(2 * noise) + _CLEAN)
    return Background(colour, tolerance, float(agrees.mean()))


def _most_frequent(pixels: np.ndarray) -> tuple[int, int, int]:
    """Return the median around the fullest cube of 32 levels a side."""
    coarse = (pixels.astype(np.uint32) >> 4) @ np.array([256, 16, 1], dtype=np.uint32)
    counts = np.pad(np.bincount(coarse, minlength=4096).reshape(16, 16, 16), 1)
    for axis in range(3):  # neighbours together, since noise may lie on a bin's edge
        counts = np.take(counts, range(17), axis) + np.take(counts, range(1, 18), axis)
    colour = np.array(np.unravel_index(int(counts.argmax()), counts.shape)) * 16
    for _ in range(3):  # the bin's centre moves to that of the noise
        colour = np.median(pixels[distances(pixels, colour) <= _AGREES], axis=0)
    red, green, blue = (int(level) for level in np.rint(colour))
    return red, green, blue


def distances(pixels: np.ndarray, colour: np.ndarray | tuple[int, int, int]) -> np.ndarray:
    """Return the largest difference of a channel.

    `pixels`: uint8 [..., 3]. Returns int16 [...], levels.
    """
    apart = np.abs(pixels.astype(np.int16) - np.asarray(colour).astype(np.int16))
    return np.maximum(np.maximum(apart[..., 0], apart[..., 1]), apart[..., 2])


def _noise_beside(animation: Animation, colour: tuple[int, int, int]) -> float:
    """Return levels of a codec's noise in the background near the subject.

    The 95th percentile, three to eight pixels from the subject of the first frame, in pixels that are connected to the
    background.
    """
    apart = distances(animation.frames[0, ..., :3], colour)
    subject = apart > _AGREES
    ring = grown(subject, 8) & ~grown(subject, 3) & grown(_flooded(apart <= _CLEAN))
    return float(np.quantile(apart[ring], 0.95)) if ring.any() else 0.0


def _is_seldom_drawn(colour: tuple[int, int, int]) -> bool:
    return not (min(colour) >= _WHITE or max(colour) <= _BLACK)


def _flooded(near: np.ndarray) -> np.ndarray:
    """Return the part of `near` that is connected to the border by sides."""
    labels, count = labelled(near, diagonal=False)
    outer = np.zeros(count + 1, dtype=bool)
    outer[labels[at_border((labels.shape[0], labels.shape[1]))]] = True
    outer[0] = False
    return outer[labels]


def _cut_frame(frame: np.ndarray, background: Background, clear_holes: bool | None) -> tuple[np.ndarray, FrameEvidence]:
    clears = _is_seldom_drawn(background.colour) if clear_holes is None else clear_holes
    opaque = frame[..., :3]
    if frame[..., 3].min() < OPAQUE:
        opaque = np.rint(_composited(frame, np.array(background.colour))).astype(np.uint8)
    near = distances(opaque, background.colour) <= background.tolerance
    cut, holes = unmixed(opaque, near, background, clears)
    specks, count = _specks(cut[..., 3])
    cut[specks] = 0
    return cut, _evidence(cut[..., 3], count, holes)


def unmixed(
    frame: np.ndarray, near: np.ndarray, background: Background, clears: bool = False
) -> tuple[np.ndarray, int]:
    """Cut what is connected to the canvas's edge from one frame.

    `frame`: uint8 [h, w, 3], on the background. `near`: bool [h, w], pixels that may be background. `clears`: so are
    enclosed ones. Returns uint8 [h, w, 4], and the number of enclosed regions.
    """
    colour = np.array(background.colour, dtype=np.uint8)
    image = np.empty((frame.shape[0] + 2 * _PAD, frame.shape[1] + 2 * _PAD, 3), dtype=np.uint8)
    image[:] = colour
    image[_CANVAS] = frame
    outside, holes = _outside(np.pad(near, _PAD, constant_values=True), clears)
    edge = _edge(image, outside, background)
    result = np.dstack([image, np.where(outside, 0, OPAQUE).astype(np.uint8)]).reshape(-1, 4)
    result[edge.at, :3] = np.clip(edge.apart / np.maximum(edge.alphas, 1e-3)[:, None] + (colour + 0.5), 0, OPAQUE)
    result[edge.at, 3] = edge.alphas * OPAQUE + 0.5
    return clear_hidden_colour(np.ascontiguousarray(result.reshape(*image.shape[:2], 4)[_CANVAS])), holes


def _outside(near: np.ndarray, clears: bool) -> tuple[np.ndarray, int]:
    """Return the background's mask and the number of holes, cleared or not.

    `near`: pixels of the background's colour, with padding of it.
    """
    labels, count = labelled(near, diagonal=False)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    hole = sizes >= MIN_HOLE
    hole[[0, labels[0, 0]]] = False
    outer = hole.copy() if clears else np.zeros_like(hole)
    outer[labels[0, 0]] = True
    return outer[labels], int(np.count_nonzero(hole))


@dataclass(frozen=True)
class _Edge:
    """Pixels near the background: flat indexes, colours less the background's, alphas 0..1."""

    at: np.ndarray
    apart: np.ndarray
    alphas: np.ndarray


def _edge(image: np.ndarray, outside: np.ndarray, background: Background) -> _Edge:
    """Estimate alpha of the pixels near the background.

    The outermost pixel is compared with the second one if that has a colour of its own, as a thin outline has, else
    with the nearest pixel that is surely inside; where there is none, or it differs less from the background or the
    other way, as the white of an eye in a thin line does, with the strongest one of its own colour around.
    """
    clean = background.tolerance == _CLEAN
    first = grown(outside) & ~outside
    within = grown(outside, _BAND if clean else _NOISY_BAND)
    at = np.flatnonzero(within & ~outside)
    colour = np.array(background.colour, dtype=np.float32)
    inside = _nearest(at, ~within, _REACH if clean else _REACH + _NOISY_BAND - _BAND)
    reference = _own_outline(image, colour, at, first, within & ~first & ~outside, inside) if clean else inside
    apart = _apart(image, colour, at)
    outermost = first.ravel()[at]
    shares, _ = _projected(_apart(image, colour, reference), apart)
    weak = np.flatnonzero((reference < 0) | (outermost & (shares < _WEAK)))
    strongest = _strongest(image, colour, at[weak], within & ~outside)
    # In noise, a pixel that is strongest itself is more likely a codec's error than a thin line.
    better = clean | (strongest != at[weak]) | (reference[weak] < 0)
    reference[weak[better]] = strongest[better]
    alphas, rest = _projected(apart, _apart(image, colour, reference))
    pale = ~outermost & ((_strength(image, colour, reference) < _SAME**2) | ((alphas < 0) & clean))
    # Of another colour than its reference it is solid, unless it touches the background itself; so it is where the
    # reference has nearly the background's colour.
    other = (rest > _SAME + 2 * (background.tolerance - _CLEAN)) & ~(outermost & _touches(at, outside))
    alphas[other | pale] = 1
    alphas = np.maximum(np.clip(alphas, 0, 1), _least_alpha(apart, colour, background.tolerance - _CLEAN))
    alphas[np.abs(apart).max(axis=1) <= background.tolerance] = 0
    return _Edge(at, apart, alphas)


def _own_outline(
    image: np.ndarray, colour: np.ndarray, at: np.ndarray, first: np.ndarray, second: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """Return references, for outermost pixels the second one.

    That is so where the second one has a colour of its own; for others it is `inside`.
    """
    beside = _nearest(at, second, 2)
    share, rest = _projected(_apart(image, colour, beside), _apart(image, colour, inside))
    own = (rest > _SAME) | (share > 0.95) | (inside < 0)
    return np.where(first.ravel()[at] & own & (beside >= 0), beside, inside)


def _apart(image: np.ndarray, colour: np.ndarray, at: np.ndarray) -> np.ndarray:
    return image.reshape(-1, 3)[at] - colour


def _projected(colours: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each reference's share in each colour, and the remaining length."""
    share = (colours * references).sum(axis=1) / np.maximum((references * references).sum(axis=1), 1)
    return share, np.sqrt(np.square(colours - share[:, None] * references).sum(axis=1))


def _least_alpha(apart: np.ndarray, colour: np.ndarray, noise: int) -> np.ndarray:
    """Return the least alpha at which the true colour is within 0..255.

    `noise`: levels by which the image may be wrong.
    """
    room = np.where(apart > 0, OPAQUE - colour, colour)
    return np.clip(((np.abs(apart) - noise) / np.maximum(room, 1)).max(axis=1), 0, 1)


def _nearest(at: np.ndarray, wanted: np.ndarray, reach: int) -> np.ndarray:
    """Return the flat index of the nearest wanted pixel to each.

    -1 where none is in reach. Pixels at the canvas's edge are padding, so that no neighbour lies in another row.
    """
    flat, width = wanted.ravel(), wanted.shape[1]
    found = np.full(len(at), -1)
    missing = np.arange(len(at))
    for dy, dx in offsets_by_distance(reach):
        index = np.clip(at[missing] + (dy * width + dx), 0, len(flat) - 1)
        hit = flat[index]
        found[missing[hit]] = index[hit]
        missing = missing[~hit]
    return found


def _strongest(image: np.ndarray, colour: np.ndarray, at: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the pixel around each that differs most, the same way.

    Of those of `among`, bool [h, w], that are in reach: the one that is farthest from the background in the pixel's own
    direction, less twice its distance from that direction.
    """
    own = _apart(image, colour, at)
    most = np.sqrt(np.square(own).sum(axis=1))
    direction = own / np.maximum(most, 1)[:, None]
    best, flat = at, among.ravel()
    for dy, dx in offsets_by_distance(_LINE_REACH):
        index = np.clip(at + (dy * image.shape[1] + dx), 0, len(flat) - 1)
        apart = _apart(image, colour, index)
        along = (apart * direction).sum(axis=1)
        across = np.sqrt(np.maximum(np.square(apart).sum(axis=1) - np.square(along), 0))
        score = np.where(flat[index], along - 2 * across, 0)
        best, most = np.where(score > most, index, best), np.maximum(score, most)
    return best


def _strength(image: np.ndarray, colour: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return squared distances to the background's colour."""
    strength: np.ndarray = np.square(_apart(image, colour, at)).sum(axis=1)
    return strength


def _touches(at: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Tell which pixels have the shown background beside them.

    Padding around the canvas is not shown.
    """
    shown = outside.copy()
    shown[:_PAD] = shown[-_PAD:] = shown[:, :_PAD] = shown[:, -_PAD:] = False
    touching: np.ndarray = grown(shown).ravel()[at]
    return touching


def _specks(alpha: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the mask of small regions, and their number."""
    labels, count = labelled(alpha > 0, diagonal=True)
    if count < 2:
        return np.zeros(alpha.shape, dtype=bool), 0
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    small = sizes <= max(SPECK_PIXELS, SPECK_SHARE * sizes.max())
    small[[0, int(sizes.argmax())]] = False
    return small[labels], int(np.count_nonzero(small))


def _evidence(alpha: np.ndarray, specks: int, holes: int) -> FrameEvidence:
    visible = alpha >= VISIBLE
    border = visible[at_border((alpha.shape[0], alpha.shape[1]))]
    return FrameEvidence(float(visible.mean()), specks, float(border.mean()), holes)


@dataclass(frozen=True)
class Halo:
    """Errors of a cut-out's outline in levels of 255.

    Each is that on the worse of two backgrounds. `excess`: mean excess of the old background's light or shade.
    `error`: mean absolute error.
    """

    excess: float
    error: float


def halo(cut: np.ndarray, known: np.ndarray, background: tuple[int, int, int]) -> Halo:
    """Measure what is left of `background` around a cut-out of known alpha.

    `cut`, `known`: uint8 [h, w, 4]. Both are composited on black and on the contrary colour (each channel 0 or 255,
    the farther one), and compared in the outline: within two pixels of the known transparent region that reaches the
    canvas's edge, one pixel of that region included. An excess is a difference towards `background`. Enclosed holes
    do not count.
    """
    outline = _outline(known[..., 3])
    colour = np.array(background, dtype=np.float32)
    backdrops = np.zeros(3), np.where(colour >= 128, 0, OPAQUE)
    found = [_halo_on(cut[outline], known[outline], colour, backdrop) for backdrop in backdrops]
    return Halo(max(excess for excess, _ in found), max(error for _, error in found))


def _outline(alpha: np.ndarray) -> np.ndarray:
    """Return the mask of pixels near the outer edge, on both sides."""
    outside = _flooded(np.pad(alpha == 0, 1, constant_values=True))
    return (grown(outside, 2) & grown(~outside))[1:-1, 1:-1]


def _halo_on(cut: np.ndarray, known: np.ndarray, colour: np.ndarray, backdrop: np.ndarray) -> tuple[float, float]:
    if not len(known):
        return 0.0, 0.0
    difference = _composited(cut, backdrop) - _composited(known, backdrop)
    towards = difference * np.sign(colour - backdrop)
    return float(np.maximum(towards, 0).mean()), float(np.abs(difference).mean())


def _composited(pixels: np.ndarray, backdrop: np.ndarray) -> np.ndarray:
    alpha = pixels[..., 3:] / OPAQUE
    return pixels[..., :3] * alpha + (1 - alpha) * backdrop
