"""Drawing tools: colours, shapes, and a Brush that fills and outlines them."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import skia

Point = tuple[float, float]
Segment = Sequence[float]
"""A segment: (x, y) straight, (cx, cy, x, y) quadratic, (cx, cy, dx, dy, x, y) cubic."""


# --- colours: 0xAARRGGBB integers, as in skia ------------------------------------------------------------------------

WHITE = 0xFFFFFFFF
INK = 0xFF3A2C3E


def colour(hue: float, saturation: float, lightness: float, alpha: float = 1.0) -> int:
    """Convert hue in degrees, others in 0–1; saturation and lightness are clipped."""
    r, g, b = colorsys.hls_to_rgb(hue / 360 % 1, min(max(lightness, 0.0), 1.0), min(max(saturation, 0.0), 1.0))
    return skia.ColorSetARGB(round(alpha * 255), round(r * 255), round(g * 255), round(b * 255))


def blend(first: int, second: int, share: float) -> int:
    """Mix `share` (0–1) of `second` into each channel of `first`."""
    parts = ((first >> s & 255, second >> s & 255) for s in (24, 16, 8, 0))
    a, r, g, b = (round(x + (y - x) * share) for x, y in parts)
    return skia.ColorSetARGB(a, r, g, b)


def darker(value: int, share: float) -> int:
    """Mix in `share` of deep violet: shadows do not turn grey."""
    return blend(value, 0xFF2B1740, share)


def lighter(value: int, share: float) -> int:
    """Mix in `share` of white."""
    return blend(value, WHITE, share)


def faded(value: int, alpha: float) -> int:
    return skia.ColorSetARGB(round(alpha * 255), value >> 16 & 255, value >> 8 & 255, value & 255)


# --- shapes ----------------------------------------------------------------------------------------------------------


def line(start: Point, *segments: Segment) -> skia.Path:
    """An open path from `start` through `segments`."""
    path = skia.Path()
    path.moveTo(*start)
    for segment in segments:
        if len(segment) == 2:
            path.lineTo(*segment)
        elif len(segment) == 4:
            path.quadTo(*segment)
        else:
            path.cubicTo(*segment)
    return path


def shape(start: Point, *segments: Segment) -> skia.Path:
    """A closed path from `start` through `segments`."""
    path = line(start, *segments)
    path.close()
    return path


def mirrored(start: Point, *segments: Segment) -> skia.Path:
    """A closed path symmetrical about x = 0, from its right half.

    Both ends of the half lie on the axis.
    """
    ends = [start, *((segment[-2], segment[-1]) for segment in segments)]
    back = []
    for index in reversed(range(len(segments))):
        controls = [tuple(segments[index][at : at + 2]) for at in range(0, len(segments[index]) - 2, 2)]
        points = [*reversed(controls), ends[index]]
        back.append([value for x, y in points for value in (-x, y)])
    return shape(start, *segments, *back)


def oval(x: float, y: float, rx: float, ry: float) -> skia.Path:
    path = skia.Path()
    path.addOval(skia.Rect(x - rx, y - ry, x + rx, y + ry))
    return path


def box(left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> skia.Path:
    """A rectangle with rounded corners."""
    path = skia.Path()
    path.addRoundRect(skia.Rect(left, top, right, bottom), radius, radius)
    return path


def moved(
    path: skia.Path, x: float, y: float, degrees: float = 0.0, scale: float = 1.0, flip: bool = False
) -> skia.Path:
    """Scale, mirror (`flip`: left to right), rotate, then move to (x, y)."""
    matrix = skia.Matrix.Translate(x, y)
    matrix.preRotate(degrees)
    matrix.preScale(-scale if flip else scale, scale)
    copy = skia.Path(path)
    copy.transform(matrix)
    return copy


def star(x: float, y: float, radius: float, inner: float = 0.5, degrees: float = 0.0) -> skia.Path:
    points = []
    for index in range(10):
        angle = skia.Matrix.RotateDeg(degrees + index * 36)
        far = radius if index % 2 == 0 else radius * inner
        at = angle.mapXY(0, -far)
        points.append((x + at.x(), y + at.y()))
    return shape(points[0], *points[1:])


def heart(x: float, y: float, size: float) -> skia.Path:
    """A heart, about 2·`size` wide."""
    right = [(0.35, -0.95, 1.25, -0.75, 1.0, 0.05), (0.85, 0.45, 0.4, 0.65, 0, 0.95)]
    left = [(-0.4, 0.65, -0.85, 0.45, -1.0, 0.05), (-1.25, -0.75, -0.35, -0.95, 0, -0.45)]
    return moved(shape((0, -0.45), *right, *left), x, y, scale=size)


# --- the brush -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Brush:
    """Draws shapes onto `canvas` in one medium.

    `sticker`: flat colour, one hard shadow, thick dark lines. `art`: soft gradient, thin lines in the fill's tone.
    """

    canvas: skia.Canvas
    style: str

    @property
    def width(self) -> float:
        """Line width; the canvas has 256 units."""
        return 3.2 if self.style == "sticker" else 1.7

    def ink(self, fill: int) -> int:
        """Outline colour of shapes filled with `fill`."""
        return blend(INK, fill, 0.12) if self.style == "sticker" else darker(fill, 0.62)

    def fill(self, path: skia.Path, value: int, shade: float = 0.22, lined: bool = True) -> None:
        """Fill `path`, shaded by `shade` (0–1; 0: flat), and outline it."""
        if shade <= 0:
            self.flat(path, value)
        elif self.style == "sticker":
            self._cel(path, value, shade)
        else:
            self._soft(path, value, shade)
        if lined:
            self.stroke(path, self.ink(value))

    def flat(self, path: skia.Path, value: int) -> None:
        self.canvas.drawPath(path, skia.Paint(Color=value, AntiAlias=True))

    def gradient(self, path: skia.Path, top: int, bottom: int) -> None:
        """Fill `path` from `top` to `bottom` colour over its height."""
        bounds = path.getBounds()
        ends = [skia.Point(bounds.left(), bounds.top()), skia.Point(bounds.left(), bounds.bottom())]
        paint = skia.Paint(AntiAlias=True, Shader=skia.GradientShader.MakeLinear(ends, [top, bottom]))
        self.canvas.drawPath(path, paint)

    def glow(self, x: float, y: float, radius: float, value: int) -> None:
        """Draw a round light that fades out at `radius`."""
        shader = skia.GradientShader.MakeRadial(skia.Point(x, y), radius, [value, faded(value, 0)])
        self.canvas.drawCircle(x, y, radius, skia.Paint(AntiAlias=True, Shader=shader))

    def stroke(self, path: skia.Path, value: int, width: float | None = None) -> None:
        """Draw along `path` with round ends; default `width`: the medium's."""
        paint = skia.Paint(
            Color=value,
            AntiAlias=True,
            Style=skia.Paint.kStroke_Style,
            StrokeWidth=self.width if width is None else width,
            StrokeCap=skia.Paint.kRound_Cap,
            StrokeJoin=skia.Paint.kRound_Join,
        )
        self.canvas.drawPath(path, paint)

    def limb(self, path: skia.Path, value: int, width: float) -> None:
        """Draw an outlined tube along `path`."""
        self.stroke(path, self.ink(value), width + 2 * self.width * 0.9)
        self.stroke(path, value if self.style == "sticker" else lighter(value, 0.06), width)

    def within(self, path: skia.Path, inner: skia.Path, value: int) -> None:
        """Fill the part of `inner` inside `path`."""
        self.canvas.save()
        self.canvas.clipPath(path, doAntiAlias=True)
        self.flat(inner, value)
        self.canvas.restore()

    def _cel(self, path: skia.Path, value: int, shade: float) -> None:
        bounds = path.getBounds()
        self.flat(path, darker(value, shade))
        lit = skia.Path(path)
        lit.offset(-bounds.width() * 0.07, -bounds.height() * 0.09)
        self.within(path, lit, value)

    def _soft(self, path: skia.Path, value: int, shade: float) -> None:
        bounds = path.getBounds()
        ends = [
            skia.Point(bounds.left() + bounds.width() * 0.3, bounds.top()),
            skia.Point(bounds.left() + bounds.width() * 0.7, bounds.bottom()),
        ]
        colours = [lighter(value, 0.22), value, darker(value, shade * 1.3)]
        paint = skia.Paint(AntiAlias=True, Shader=skia.GradientShader.MakeLinear(ends, colours, [0, 0.45, 1]))
        self.canvas.drawPath(path, paint)
