"""Die-cut outlines: one that is drawn already, removed; ours, drawn after scaling."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.cut_out import Background, distances, unmixed
from sticker_pipeline.packing.place import each_frame, premultiplied_at, straight, visible_box
from sticker_pipeline.packing.regions import grown, labelled, offsets_by_distance

OPAQUE = 255
WHITE = (255, 255, 255)

MIN_RIM_FRAMES = 0.25  # of the frames looked at: of 541 of 294 real files without a rim, none seems to have one
MIN_RIM_SHARE = 0.8  # of the outline's length that has the rim's colour
MIN_RIM_LUMINANCE = 140  # levels of 255: the dark line around a drawing is no rim
MAX_RIM_WIDTH = 0.08  # of the longer side
_LOOKED_AT = 8  # frames
_SAME = 24  # levels: of one colour
_RIM_TOLERANCE = 6
_HAIRLINE = 3  # pixels of a thin line that is drawn around a rim
_NEARLY = 90  # levels: what is left of a thin line, mixed with the rim
_RIM_REACH = 1.5  # of its width: a corner of the subject is filled 1.4 times as deep
_ROOM_FOR_BLUR = 2.5  # standard deviations: less than two levels of 255 lie beyond


@dataclass(frozen=True)
class Rim:
    """A die-cut outline that is drawn already.

    `colour`: R, G, B. `width_px`: of the widest place. `share`: 0..1, of the outline's length that has it.
    """

    colour: tuple[int, int, int]
    width_px: int
    share: float


@dataclass(frozen=True)
class Shadow:
    """A soft shadow under sticker and outline.

    `offset`: x and y in pixels. `blur_px`: standard deviation. `opacity`: 0..1.
    """

    offset: tuple[int, int] = (0, 2)
    blur_px: float = 3.0
    colour: tuple[int, int, int] = (0, 0, 0)
    opacity: float = 0.35


def room_for(width_px: float, shadow: Shadow | None = None) -> int:
    """Return the pixels that outline and shadow need around a subject."""
    if shadow is None:
        return math.ceil(width_px)
    return math.ceil(width_px + _ROOM_FOR_BLUR * shadow.blur_px + max(map(abs, shadow.offset)))


def outlined(
    animation: Animation, width_px: float, colour: tuple[int, int, int] = WHITE, shadow: Shadow | None = None
) -> Animation:
    """Draw a uniform outline under each frame, and a shadow under it.

    It is antialiased. `width_px` is measured from the subject's edge, at alpha 0.5; what the outline encloses within
    its width is filled. Raises ValueError where the canvas has not `room_for` it around all frames.
    """
    if width_px <= 0 and shadow is None:
        return animation
    _check_room(animation, room_for(width_px, shadow))
    return each_frame(animation, lambda frame: _outlined_frame(frame, width_px, colour, shadow))


def _check_room(animation: Animation, room: int) -> None:
    box = visible_box(animation)
    if box is None:
        return
    left = min(box[0], box[1], animation.size[0] - box[2], animation.size[1] - box[3])
    if left < room:
        raise ValueError(f"the outline needs {room} pixels around the subject, and there are {left}.")


def _outlined_frame(
    frame: np.ndarray, width_px: float, colour: tuple[int, int, int], shadow: Shadow | None
) -> np.ndarray:
    cover = outline_cover(frame[..., 3], width_px)
    below = np.zeros((*cover.shape, 4), dtype=np.float32)
    if shadow is not None:
        below = _layer(shadow.colour, _shadow_cover(cover, shadow))
    below = _over(_layer(colour, cover), below)
    return straight(_over(premultiplied_at(frame, (frame.shape[1], frame.shape[0])), below))


def outline_cover(alpha: np.ndarray, width_px: float) -> np.ndarray:
    """Return the share of each pixel that subject and outline cover.

    `alpha`: uint8 [h, w]. float32 [h, w], 0..1. The edge lies alpha - 0.5 outside of the middle of an edge pixel, as a
    straight edge along the pixels has it; the distance to it is Euclidean, and a pixel is covered by width + 0.5 less
    the distance.
    """
    reach = math.ceil(width_px) + 1
    share = np.pad(alpha, reach).astype(np.float32) / OPAQUE
    solid = share >= 0.5
    edge = np.flatnonzero(grown(solid) & (share > 0) & grown(share < 1))
    away = 0.5 - share.ravel()[edge]
    distance = np.where(solid, np.float32(0), np.float32(reach + 1)).ravel()
    distance[edge] = np.minimum(distance[edge], np.maximum(away, 0))
    for dy, dx in offsets_by_distance(reach):
        at = edge + (dy * share.shape[1] + dx)
        distance[at] = np.minimum(distance[at], away + np.float32(math.hypot(dy, dx)))
    cover = np.clip(np.float32(width_px + 0.5) - distance.reshape(share.shape), 0, 1)
    cover = np.maximum(cover, share) if width_px < 0.5 else cover
    return np.ascontiguousarray(cover[reach:-reach, reach:-reach])


def _shadow_cover(cover: np.ndarray, shadow: Shadow) -> np.ndarray:
    blurred = Image.fromarray((cover * OPAQUE + 0.5).astype(np.uint8)).filter(ImageFilter.GaussianBlur(shadow.blur_px))
    dx, dy = shadow.offset
    moved = Image.new("L", blurred.size)
    moved.paste(blurred, (dx, dy))
    return np.asarray(moved).astype(np.float32) * np.float32(shadow.opacity / OPAQUE)


def _layer(colour: tuple[int, int, int], cover: np.ndarray) -> np.ndarray:
    """Return a premultiplied layer of one colour; float32 [h, w, 4], 0..1."""
    return np.array([*colour, OPAQUE], dtype=np.float32) / OPAQUE * cover[..., None]


def _over(top: np.ndarray, below: np.ndarray) -> np.ndarray:
    return top + below * (1 - top[..., 3:])


def without_rim(animation: Animation) -> Animation:
    """Remove the outline that `rim_of` finds; without one, return the same.

    The inner edge is unmixed as `cut_out` unmixes the outer one, with the rim as its background. Deep gaps that the
    rim fills stay filled, rather than that white parts of the subject, open to the rim, are lost.
    """
    rim = rim_of(animation)
    return animation if rim is None else each_frame(animation, lambda frame: _stripped(frame, rim))


def rim_of(animation: Animation) -> Rim | None:
    """Return the outline that the subject has already, if any.

    Two pixels inside, MIN_RIM_SHARE of the outline have one light colour (the dark line around a drawing is no rim);
    that colour ends within MAX_RIM_WIDTH of the side almost everywhere, as a plain body's does not. Of up to eight
    frames, evenly spread, MIN_RIM_FRAMES must have the same: in others, white clothes may lie against it.
    """
    chosen = np.unique(np.linspace(0, len(animation.frames) - 1, _LOOKED_AT).astype(int))
    found = [_rim_of_frame(animation.frames[index]) for index in chosen]
    rims = [rim for rim in found if rim is not None]
    if not rims or len(rims) < MIN_RIM_FRAMES * len(found):
        return None
    if any(distances(np.array(rim.colour), rims[0].colour) > _SAME for rim in rims):
        return None
    return Rim(rims[0].colour, max(rim.width_px for rim in rims), min(rim.share for rim in rims))


def _rim_of_frame(frame: np.ndarray) -> Rim | None:
    outside = _around(frame[..., 3])
    near = grown(outside, 2)
    ring = grown(near) & ~near & (frame[..., 3] == OPAQUE)
    if not ring.any():
        return None
    colours = frame[ring][:, :3]
    colour = np.median(colours, axis=0)
    share = float(np.mean(distances(colours, colour) <= _SAME))
    if share < MIN_RIM_SHARE or colour @ (0.299, 0.587, 0.114) < MIN_RIM_LUMINANCE:
        return None
    width = _width(frame, outside, colour)
    red, green, blue = (int(level) for level in np.rint(colour))
    return None if width is None else Rim((red, green, blue), width, share)


def _around(alpha: np.ndarray) -> np.ndarray:
    """Return what lies around the subject, connected to the canvas's edge."""
    padded = np.pad(alpha < OPAQUE // 2, 1, constant_values=True)
    labels, _ = labelled(padded, diagonal=False)
    return (labels == labels[0, 0])[1:-1, 1:-1]


def _width(frame: np.ndarray, outside: np.ndarray, colour: np.ndarray) -> int | None:
    """Return the rim's width in pixels.

    None: it does not end, as a body's colour.
    """
    most = max(3, round(MAX_RIM_WIDTH * max(frame.shape[:2])))
    same = distances(frame[..., :3], colour) <= _SAME
    reached, areas = outside, []
    for _ in range(most + 1):
        wider = grown(reached) & (same | outside)
        wider |= grown(reached) & (frame[..., 3] < OPAQUE) & grown(outside, 2)  # the antialiased outer edge
        areas.append(int(np.count_nonzero(wider & ~reached)))
        reached = wider
    width = next((step for step, area in enumerate(areas) if area < 0.1 * areas[0]), None)
    return None if width is None or width < 2 else width


def _stripped(frame: np.ndarray, rim: Rim) -> np.ndarray:
    colour = np.array(rim.colour)
    alpha = frame[..., 3:] / OPAQUE
    image = np.rint(frame[..., :3] * alpha + (1 - alpha) * colour).astype(np.uint8)
    outside = _around(frame[..., 3])
    reach = grown(outside, math.ceil(_RIM_REACH * rim.width_px) + 1)
    near = (distances(image, rim.colour) <= _RIM_TOLERANCE) & reach
    near |= grown(outside, _HAIRLINE) & grown(near & ~outside, _HAIRLINE)
    return _without_remains(unmixed(image, near, Background(rim.colour, 2, rim.share))[0], reach, rim)


def _without_remains(frame: np.ndarray, reach: np.ndarray, rim: Rim) -> np.ndarray:
    """Remove regions in the rim's place alone, nearly of its colour."""
    shown = frame[..., 3] > 0
    labels, count = labelled(shown, diagonal=True)
    inside = set(np.unique(labels[shown & ~reach]).tolist())
    light = distances(frame[..., :3], rim.colour) <= _NEARLY
    total, alike = np.bincount(labels.ravel(), minlength=count + 1), np.bincount(labels[light], minlength=count + 1)
    remains = [each for each in range(1, count + 1) if each not in inside and 2 * alike[each] > total[each]]
    frame[np.isin(labels, remains)] = 0
    return frame
