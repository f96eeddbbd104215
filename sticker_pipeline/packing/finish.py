"""Finished stickers: subjects on a platform's canvas, with outline and shadow."""

from collections.abc import Callable
from dataclasses import dataclass

from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.outline import Shadow, outlined, room_for
from sticker_pipeline.packing.place import fitted_into, placed
from sticker_pipeline.packing.platforms import PlatformKind

FULL_SIDE = 512  # pixels, to which the look's widths refer
SMALLER = (448, 384, 320, 256, 192, 160, 128)  # sides tried where the canvas may be smaller
LEAST_MARGIN = 2  # pixels that stay free


@dataclass(frozen=True)
class Look:
    """The outline around a sticker, and whether a shadow lies below.

    `outline`: pixels of a sticker of 512.
    """

    outline: float = 8.0
    shadow: bool = False


def sides(kind: PlatformKind, animated: bool) -> tuple[int, ...]:
    """Return the longer sides of accepted canvases, in pixels, descending.

    One for stills, and wherever the size is fixed: a smaller file is looked for by its colours and quality.
    """
    canvas = kind.rules.canvas.value
    full = max(canvas.width, canvas.height)
    may_be_smaller = canvas.fit == "any" or (canvas.fit == "within" and not canvas.one_side_min)
    if not animated or not may_be_smaller:
        return (full,)
    return (full, *(side for side in SMALLER if max(canvas.min_side, full // 4) <= side < full))


def renderer(master: Animation, kind: PlatformKind, look: Look) -> Callable[[int], Animation]:
    """Return a function from a side in pixels to the finished sticker.

    master: cut out, without a rim. The function raises PlaceError where nothing is visible, or nothing fits.
    """
    canvas, advised = kind.rules.canvas.value, kind.rules.advised_margin
    full = max(canvas.width, canvas.height)
    own_shape = canvas.fit == "one_side" or (canvas.fit == "within" and not canvas.square)

    def render(side: int) -> Animation:
        width, shadow = _outline(look, side)
        margin = max(LEAST_MARGIN, round((advised.value if advised else 0) * side / full))
        room = room_for(width, shadow)
        free = max(0, margin - room)  # the outline may lie in the margin, its edge may not
        size = round(canvas.width * side / full), round(canvas.height * side / full)
        if own_shape:
            subject = fitted_into(master, size, free + LEAST_MARGIN, room, even=canvas.even)
        else:
            subject = placed(master, size, free + LEAST_MARGIN, room)
        return outlined(subject, width, shadow=shadow)

    return render


def finished(master: Animation, side: int, look: Look) -> Animation:
    """Return the sticker on a square canvas, as pages show it.

    side: pixels.
    """
    width, shadow = _outline(look, side)
    return outlined(placed(master, (side, side), LEAST_MARGIN, room_for(width, shadow)), width, shadow=shadow)


def _outline(look: Look, side: int) -> tuple[float, Shadow | None]:
    """Return the outline's width and the shadow for a side in pixels."""
    shadow = Shadow(offset=(0, max(1, round(side / 128))), blur_px=side / 128) if look.shadow else None
    return look.outline * side / FULL_SIDE, shadow
