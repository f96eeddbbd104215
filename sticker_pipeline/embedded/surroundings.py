"""Draws a figure's props and background.

Coordinates: held props from the hand, all else on the 256-unit canvas.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import skia

from sticker_pipeline.embedded.brush import (
    INK,
    WHITE,
    Brush,
    box,
    colour,
    darker,
    faded,
    heart,
    lighter,
    line,
    moved,
    oval,
    shape,
    star,
)
from sticker_pipeline.embedded.palette import Palette
from sticker_pipeline.embedded.scene import Scene

SIDE = 256.0


# --- held props: the hand is at (0, 0) -------------------------------------------------------------------------------


def draw_held_prop(brush: Brush, scene: Scene, colours: Palette, x: float, y: float) -> None:
    """Draw the prop of a `holding` figure with its hand at (x, y)."""
    brush.canvas.save()
    brush.canvas.translate(x, y)
    _HELD[scene.prop](brush, scene, colours)
    brush.canvas.restore()


def _cup(brush: Brush, scene: Scene, colours: Palette) -> None:
    white = colour(200, 0.30, 0.95)
    brush.stroke(oval(15, -10, 8, 8), brush.ink(white), 5.5 + brush.width)
    brush.stroke(oval(15, -10, 8, 8), white, 4)
    brush.fill(shape((-15, -24), (15, -24), (12, 4), (-1, 8, -12, 4)), white, shade=0.18)
    brush.fill(oval(0, -24, 15, 4.6), colour(22, 0.55, 0.36), shade=0)
    for at in (-5, 5):
        wave = 3 * scene.sway
        brush.stroke(
            line((at, -31), (at - 5 - wave, -37, at, -42), (at + 5 + wave, -47, at, -52)),
            faded(colour(210, 0.3, 0.72), 0.9),
            3,
        )


def _book(brush: Brush, scene: Scene, colours: Palette) -> None:
    cover = colour(12, 0.62, 0.42)
    brush.canvas.rotate(-6)
    brush.fill(box(-19, -30, 21, 10, 3), cover)
    brush.fill(box(-14, -26, 21, 6, 1), WHITE, shade=0, lined=False)
    brush.fill(box(-19, -32, 17, 8, 3), cover, shade=0.12)
    brush.fill(box(-9, -24, 11, -12, 2), colour(44, 0.85, 0.66), shade=0)


def _flower(brush: Brush, scene: Scene, colours: Palette) -> None:
    brush.stroke(line((0, 12), (2, -12, 4, -24)), colour(130, 0.5, 0.24), 4.2 + brush.width)
    brush.stroke(line((0, 12), (2, -12, 4, -24)), colour(130, 0.5, 0.42), 4.2)
    brush.fill(shape((1, -4), (-16, -10, -18, -18), (-4, -18, 1, -4)), colour(130, 0.5, 0.45), shade=0)
    petal = oval(0, -11, 8, 10)
    for index in range(6):
        brush.fill(moved(petal, 5, -34, 60 * index + 4 * scene.sway), colour(330, 0.85, 0.72), shade=0.08)
    brush.fill(oval(5, -34, 7, 7), colour(46, 0.95, 0.58), shade=0)


def _ice_cream(brush: Brush, scene: Scene, colours: Palette) -> None:
    brush.fill(shape((-12, -16), (12, -16), (1, 16), (-1, 16)), colour(32, 0.70, 0.60), shade=0.2)
    for start, end in (((-8, -12), (4, 6)), ((8, -12), (-4, 6))):
        brush.stroke(line(start, end), colour(26, 0.60, 0.40), 1.8)
    brush.fill(oval(0, -22, 15, 12), colour(345, 0.85, 0.82))
    brush.fill(oval(0, -38, 12, 11), colour(170, 0.50, 0.78))
    brush.fill(oval(2, -50, 4.5, 4.5), colour(354, 0.8, 0.5), shade=0)


def _balloon(brush: Brush, scene: Scene, colours: Palette) -> None:
    x = 14 + 4 * scene.sway
    brush.stroke(line((0, 0), (4, -24, x, -52)), INK, 2.2)
    brush.fill(oval(x, -78, 22, 26), colour(4, 0.85, 0.58), shade=0.18)
    brush.fill(shape((x - 5, -48), (x, -53), (x + 5, -48)), colour(4, 0.85, 0.50), shade=0)
    brush.flat(moved(oval(0, 0, 4, 8), x - 9, -88, 24), faded(WHITE, 0.75))


_HELD: dict[str, Callable[[Brush, Scene, Palette], None]] = {
    "cup": _cup,
    "book": _book,
    "flower": _flower,
    "ice cream": _ice_cream,
    "balloon": _balloon,
}


# --- floating props: drawn around (0, 0), about 46 units wide --------------------------------------------------------


def draw_floating_prop(brush: Brush, scene: Scene) -> None:
    """Draw a prop in the canvas' upper left, beside the head."""
    brush.canvas.save()
    brush.canvas.translate(36, 46 + 3 * scene.sway)
    brush.canvas.rotate(5 * scene.sway)
    _FLOATING[scene.prop](brush)
    brush.canvas.restore()


def _heart(brush: Brush) -> None:
    brush.fill(moved(heart(0, 0, 22), 0, 0, -12), colour(348, 0.92, 0.58), shade=0.15)
    brush.flat(moved(oval(0, 0, 4, 6.5), -11, -7, 40), faded(WHITE, 0.8))


def _star(brush: Brush) -> None:
    brush.fill(star(0, 0, 27, 0.52, -8), colour(48, 0.98, 0.58), shade=0.12)


def _speech_bubble(brush: Brush) -> None:
    brush.fill(shape((8, 12), (30, 32), (22, 8)), WHITE, shade=0)
    brush.fill(oval(0, -4, 30, 22), WHITE, shade=0)
    brush.flat(shape((9, 10), (27, 28), (21, 7)), WHITE)
    for x in (-14, 0, 14):
        brush.flat(oval(x, -4, 4.4, 4.4), INK)


def _musical_note(brush: Brush) -> None:
    ink = colour(318, 0.78, 0.56)
    for value, extra in ((brush.ink(ink), brush.width), (ink, 0.0)):
        brush.stroke(line((-9, 16), (-9, -20), (16, -26), (16, 10)), value, 5.5 + 1.6 * extra)
        brush.stroke(line((-9, -14), (16, -20)), value, 7 + 1.6 * extra)
        brush.stroke(line((-16, 17), (-13, 16)), value, 12 + 1.6 * extra)
        brush.stroke(line((9, 11), (12, 10)), value, 12 + 1.6 * extra)


def _bold(brush: Brush, path: skia.Path, value: int, dot_y: float) -> None:
    for tone, extra in ((INK, 2 * brush.width), (value, 0.0)):
        brush.stroke(path, tone, 10 + extra)
        brush.stroke(line((0, dot_y), (0.1, dot_y)), tone, 11 + extra)


def _question(brush: Brush) -> None:
    _bold(
        brush,
        line((-13, -14), (-12, -29, 1, -28), (15, -27, 13, -12), (11, -5, 1, 0), (0, 4, 0, 6)),
        colour(210, 0.85, 0.60),
        24,
    )


def _exclamation(brush: Brush) -> None:
    _bold(brush, line((0, -28), (0, 5)), colour(2, 0.88, 0.56), 24)


def _sweatdrop(brush: Brush) -> None:
    drop = shape((0, -28), (20, -2, 18, 10), (16, 26, 0, 26), (-16, 26, -18, 10), (-20, -2, 0, -28))
    brush.fill(moved(drop, 8, 8, 10), colour(202, 0.85, 0.72), shade=0.15)
    brush.flat(moved(oval(0, 0, 3.6, 7), 0, 16, 10), faded(WHITE, 0.85))


def _anger_vein(brush: Brush) -> None:
    for value, extra in ((INK, brush.width * 1.8), (colour(356, 0.88, 0.52), 0.0)):
        for turn in range(4):
            arc = line((6, -25), (5, -6, 25, -7))
            brush.stroke(moved(arc, 2, 2, 90 * turn), value, 7.5 + extra)


def _zzz(brush: Brush) -> None:
    for value, extra in ((INK, brush.width * 1.8), (colour(232, 0.65, 0.68), 0.0)):
        for x, y, size in ((14, 22, 7), (2, 3, 9), (-14, -20, 11.5)):
            brush.stroke(
                line((x - size, y - size), (x + size, y - size), (x - size, y + size), (x + size, y + size)),
                value,
                5 + extra,
            )


_FLOATING: dict[str, Callable[[Brush], None]] = {
    "heart": _heart,
    "star (symbol)": _star,
    "speech bubble": _speech_bubble,
    "musical note": _musical_note,
    "?": _question,
    "!": _exclamation,
    "sweatdrop": _sweatdrop,
    "anger vein": _anger_vein,
    "zzz": _zzz,
}


# --- backgrounds -----------------------------------------------------------------------------------------------------


def draw_background(brush: Brush, scene: Scene) -> None:
    """Draw the background over the canvas, unless it is transparent."""
    if scene.background in _GRADIENTS:
        _draw_gradient(brush, scene)
    elif scene.background != "transparent background":
        _SCENERIES[scene.background](brush, scene)


_FULL = (0.0, 0.0, SIDE, SIDE)
_GRADIENTS = {
    "blue background": (214, 0.80),
    "pink background": (338, 0.85),
    "green background": (135, 0.55),
    "yellow background": (48, 0.95),
    "purple background": (272, 0.62),
}


def _scatter(scene: Scene, count: int, stream: int) -> np.ndarray:
    """`count` rows of four numbers in 0–1, fixed by the scene's `backdrop`."""
    return np.random.default_rng([stream, round(scene.backdrop * 1e6)]).random((count, 4))


def _draw_gradient(brush: Brush, scene: Scene) -> None:
    hue, saturation = _GRADIENTS[scene.background]
    tone = colour(hue, saturation, 0.66)
    brush.gradient(box(*_FULL), lighter(tone, 0.45), darker(tone, 0.08))
    for x, y, size, strength in _scatter(scene, 9, 1):
        brush.glow(x * SIDE, y * SIDE, 14 + 26 * size, faded(WHITE, 0.2 + 0.3 * strength))


def _white(brush: Brush, scene: Scene) -> None:
    brush.flat(box(*_FULL), WHITE)


def _starry_sky(brush: Brush, scene: Scene) -> None:
    brush.gradient(box(*_FULL), colour(236, 0.62, 0.13), colour(264, 0.50, 0.38))
    for x, y, size, turn in _scatter(scene, 34, 2):
        brush.flat(star(x * SIDE, y * SIDE, 2.4 + 4.5 * size * size, 0.4, 72 * turn), colour(50, 0.9, 0.90))
    brush.glow(212, 44, 50, faded(colour(50, 0.9, 0.85), 0.5))
    moon = oval(212, 44, 20, 20)
    brush.flat(moon, colour(50, 0.95, 0.86))
    brush.within(moon, oval(203, 38, 17, 18), colour(240, 0.55, 0.19))


def _cloud(brush: Brush, x: float, y: float, size: float) -> None:
    for dx, dy, r in ((-1.3, 0.2, 0.7), (-0.4, -0.3, 1.0), (0.6, -0.1, 0.85), (1.4, 0.3, 0.6)):
        brush.flat(oval(x + dx * size, y + dy * size, r * size, r * size * 0.8), faded(WHITE, 0.92))


def _outdoors(brush: Brush, scene: Scene) -> None:
    brush.gradient(box(*_FULL), colour(206, 0.82, 0.62), colour(200, 0.80, 0.88))
    for x, y, size, _ in _scatter(scene, 3, 3):
        _cloud(brush, x * SIDE, 24 + 70 * y, 12 + 8 * size)
    lift = 10 * scene.backdrop
    brush.flat(
        shape((0, 190 - lift), (70, 150, 150, 176), (210, 190, 256, 160 + lift), (256, 256), (0, 256)),
        colour(120, 0.42, 0.58),
    )
    brush.gradient(
        shape((0, 206), (90, 186, 256, 204), (256, 256), (0, 256)), colour(112, 0.50, 0.54), colour(125, 0.55, 0.34)
    )
    for x, y, size, _ in _scatter(scene, 12, 4):
        brush.flat(oval(x * SIDE, 216 + 36 * y, 2.5 + 2 * size, 2.5 + 2 * size), colour(48, 0.95, 0.75))


def _indoors(brush: Brush, scene: Scene) -> None:
    brush.gradient(box(*_FULL), colour(34, 0.50, 0.86), colour(28, 0.46, 0.76))
    for x in range(10, 256, 34):
        brush.flat(box(x, 0, x + 12, 196), faded(colour(24, 0.50, 0.70), 0.45))
    brush.gradient(box(0, 196, 256, 256), colour(22, 0.48, 0.50), colour(20, 0.50, 0.36))
    brush.flat(box(0, 190, 256, 198), colour(24, 0.40, 0.92))
    left = 14 if scene.backdrop < 0.5 else 176
    brush.flat(box(left - 5, 25, left + 71, 121, 4), colour(22, 0.45, 0.40))
    brush.gradient(box(left, 30, left + 66, 116), colour(205, 0.75, 0.70), colour(195, 0.70, 0.88))
    _cloud(brush, left + 32, 60, 11)
    brush.flat(box(left + 30, 30, left + 36, 116), colour(22, 0.45, 0.40))
    brush.flat(box(left, 70, left + 66, 76), colour(22, 0.45, 0.40))


def _sunset(brush: Brush, scene: Scene) -> None:
    brush.gradient(box(0, 0, 256, 130), colour(268, 0.45, 0.42), colour(345, 0.75, 0.66))
    brush.gradient(box(0, 129, 256, 256), colour(18, 0.92, 0.64), colour(42, 0.98, 0.66))
    x = 40 + 176 * scene.backdrop
    brush.glow(x, 176, 90, faded(colour(50, 1.0, 0.85), 0.9))
    brush.flat(oval(x, 176, 34, 34), colour(50, 1.0, 0.86))
    brush.flat(
        shape((0, 214), (50, 196, 110, 208), (180, 222, 256, 200), (256, 256), (0, 256)), colour(290, 0.38, 0.24)
    )


def _snowing(brush: Brush, scene: Scene) -> None:
    brush.gradient(box(*_FULL), colour(215, 0.34, 0.56), colour(208, 0.42, 0.80))
    brush.flat(shape((0, 208), (80, 186, 150, 204), (210, 216, 256, 196), (256, 256), (0, 256)), colour(210, 0.5, 0.97))
    for x, y, size, _ in _scatter(scene, 46, 5):
        brush.flat(oval(x * SIDE, y * SIDE, 2.4 + 3.4 * size, 2.4 + 3.4 * size), WHITE)


def _cherry_blossoms(brush: Brush, scene: Scene) -> None:
    brush.gradient(box(*_FULL), colour(200, 0.60, 0.82), colour(338, 0.75, 0.90))
    brush.stroke(line((-6, 70), (70, 20, 262, 26)), colour(18, 0.35, 0.28), 11)
    brush.stroke(line((120, 26), (190, 60, 262, 66)), colour(18, 0.35, 0.28), 7)
    for x, y, size, shade in _scatter(scene, 34, 6):
        at = 58 - 40 * x + 40 * x * x + 44 * (y - 0.5) + (18 * x)
        brush.flat(oval(x * SIDE, at, 9 + 8 * size, 8 + 7 * size), colour(340, 0.85, 0.76 + 0.16 * shade))
    petal = shape((0, -6), (7, -2, 0, 6), (-7, -2, 0, -6))
    for x, y, size, turn in _scatter(scene, 18, 7):
        brush.flat(moved(petal, x * SIDE, 90 + 160 * y, 360 * turn, 0.8 + 0.6 * size), colour(338, 0.88, 0.74))


def _ocean(brush: Brush, scene: Scene) -> None:
    brush.gradient(box(0, 0, 256, 120), colour(204, 0.80, 0.66), colour(192, 0.80, 0.88))
    brush.gradient(box(0, 112, 256, 212), colour(206, 0.85, 0.42), colour(184, 0.75, 0.58))
    _cloud(brush, 30 + 190 * scene.backdrop, 44, 16)
    for y in (128, 150, 174):
        waves = [(x + 16, y - 7 if (x // 32) % 2 else y + 7, x + 32, y) for x in range(-16, 256, 32)]
        brush.stroke(line((-16, y), *waves), faded(WHITE, 0.75), 3)
    brush.gradient(
        shape((0, 206), (80, 192, 160, 206), (210, 214, 256, 202), (256, 256), (0, 256)),
        colour(44, 0.75, 0.82),
        colour(38, 0.60, 0.66),
    )


_SCENERIES: dict[str, Callable[[Brush, Scene], None]] = {
    "white background": _white,
    "starry sky": _starry_sky,
    "outdoors": _outdoors,
    "indoors": _indoors,
    "sunset": _sunset,
    "snowing": _snowing,
    "cherry blossoms": _cherry_blossoms,
    "ocean": _ocean,
}
