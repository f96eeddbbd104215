"""Inline SVG charts of the report page: curves, and means with intervals.

Colours and fonts come from `publishing/templates/report.css`: charts follow light and dark mode and stay sharp. The
Dagster UI lacks that style sheet; its charts are images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

WIDTH, HEIGHT = 440, 216  # in user units; text is 12 high
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 40
MOST_POINTS = 160  # of a curve; more only enlarge the page
ROW = 26
NAME_LETTERS = 17
STRIP_WIDTH, STRIP_HEIGHT, STRIP_PAD = 240, 26, 9


@dataclass(frozen=True)
class Curve:
    """A curve: y over x, both [n].

    `low`, `high`: edges of a band, if any. NaN leaves a gap. `look`: CSS class.
    """

    name: str
    look: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A mean with its interval (NaN: none)."""

    name: str
    look: str
    shape: str
    mean: float
    low: float
    high: float


def line_chart(curves: Sequence[Curve], *, label: str, x: str, y: str, chosen: float | None = None) -> Markup:
    """Return a chart of curves; empty without points.

    A dashed line is at x = `chosen`.
    """
    thinned = [thin(curve) for curve in curves]
    xs = [value for curve in thinned for value in curve.x]
    ys = [value for curve in thinned for value in (*curve.y, *curve.low, *curve.high) if math.isfinite(value)]
    if not xs or not ys:
        return Markup("")
    frame = _Frame(*_widened(min(xs), max(xs), 0.0), *_widened(min(ys), max(ys), 0.06))
    parts = [frame.axes(x, y)]
    if chosen is not None:
        at = frame.x(chosen)
        parts.append(Markup('<path class="chosen" d="M{0:.1f} {1}V{2}"/>').format(at, TOP, HEIGHT - BOTTOM))
    parts += [frame.curve(curve) for curve in thinned]
    return _svg(WIDTH, HEIGHT, label, parts)


def interval_chart(marks: Sequence[Mark], *, label: str, x: str, ceiling: str = "") -> Markup:
    """Return a chart with a row per mark; empty without marks.

    A vertical line through all rows is at the mean of the mark `ceiling`.
    """
    if not marks:
        return Markup("")
    width, left, right, height = 370, 122, 46, TOP + ROW * len(marks) + BOTTOM
    low, high = _widened(*extent(marks), 0.05)
    scale = (width - left - right) / (high - low)
    parts = [Markup('<g class="grid">')]
    for tick in ticks(low, high, 4):
        at = left + (tick - low) * scale
        parts.append(Markup('<path d="M{0:.1f} {1}V{2}"/>').format(at, TOP, height - BOTTOM))
        text = '<text x="{0:.1f}" y="{1}" text-anchor="middle">{2}</text>'
        parts.append(Markup(text).format(at, height - BOTTOM + 16, tick_text(tick)))
    parts.append(Markup('</g><text class="axis" x="{0}" y="{1}">{2}</text>').format(left, height - 6, x))
    for number, mark in enumerate(marks):
        y = TOP + ROW * (number + 0.5)
        if mark.name == ceiling:
            at = left + (mark.mean - low) * scale
            parts.append(Markup('<path class="ceiling" d="M{0:.1f} {1}V{2}"/>').format(at, TOP, height - BOTTOM))
        name = '<text x="{0}" y="{1:.1f}" text-anchor="end">{2}</text>'
        parts.append(Markup(name).format(left - 10, y + 4, shortened(mark.name)))
        parts.append(_mark(mark, left, low, scale, y))
        value = '<text class="value" x="{0}" y="{1:.1f}" text-anchor="end">{2:.3f}</text>'
        parts.append(Markup(value).format(width - 2, y + 4, mark.mean))
    return _svg(width, height, label, parts)


def strip(marks: Sequence[Mark], low: float, high: float, *, label: str) -> Markup:
    """Return marks on one line, for a table cell; empty without marks.

    The line goes from `low` to `high`.
    """
    if not marks:
        return Markup("")
    scale = (STRIP_WIDTH - 2 * STRIP_PAD) / (high - low)
    middle = STRIP_HEIGHT / 2
    line = '<path class="rail" d="M{0} {1:g}H{2}"/>'
    parts = [Markup(line).format(STRIP_PAD, middle, STRIP_WIDTH - STRIP_PAD)]
    parts += [_mark(mark, STRIP_PAD, low, scale, middle) for mark in marks]
    return _svg(STRIP_WIDTH, STRIP_HEIGHT, label, parts, "strip")


def bare_strip(marks: Sequence[Mark], low: float, high: float) -> Markup:
    """Return `strip` in fewer bytes: no text, an interval only for "dot"."""
    if not marks:
        return Markup("")
    scale = (STRIP_WIDTH - 2 * STRIP_PAD) / (high - low)
    middle = STRIP_HEIGHT / 2
    parts = [_interval(mark, STRIP_PAD, low, scale, middle, f" {mark.look}") for mark in marks if mark.shape == "dot"]
    parts += [marker(mark.shape, STRIP_PAD + (mark.mean - low) * scale, middle, f" {mark.look}") for mark in marks]
    opening = Markup('<svg class="strip" viewBox="0 0 {0} {1}" aria-hidden="true">').format(STRIP_WIDTH, STRIP_HEIGHT)
    return opening + Markup("").join(parts) + Markup("</svg>")


def about_zero(mark: Mark, reach: float, *, label: str) -> Markup:
    """Return a difference on a line `[−reach, reach]`, for a table cell.

    A vertical line is at 0.
    """
    middle, centre = STRIP_HEIGHT / 2, STRIP_WIDTH / 2
    rail = '<path class="rail" d="M{0} {1:g}H{2}"/><path class="zero" d="M{3:g} 2V{4}"/>'
    parts = [Markup(rail).format(STRIP_PAD, middle, STRIP_WIDTH - STRIP_PAD, centre, STRIP_HEIGHT - 2)]
    scale = (STRIP_WIDTH - 2 * STRIP_PAD) / (2 * reach)
    parts.append(_mark(mark, STRIP_PAD, -reach, scale, middle))
    return _svg(STRIP_WIDTH, STRIP_HEIGHT, label, parts, "strip")


def extent(marks: Sequence[Mark]) -> tuple[float, float]:
    """Return the lowest and highest finite value; (0, 1) without any."""
    values = [value for mark in marks for value in (mark.mean, mark.low, mark.high) if math.isfinite(value)]
    return (min(values), max(values)) if values else (0.0, 1.0)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return about `about` round numbers from `low` to `high`.

    They are multiples of 1, 2, 2.5 or 5 times a power of ten.
    """
    least = (high - low) / about
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    """Return `value` as short text: 0.25, 1500, 5e−6."""
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.6g}".replace("-", "−")
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(power)}".replace("-", "−")


def shortened(name: str, letters: int = NAME_LETTERS) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"


def thin(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """Return a curve of at most `most` points: means of equal parts.

    The band spans each part's band, or its y without a band.
    """
    count = len(curve.x)
    if count <= most:
        return curve
    edges = [count * part // most for part in range(most + 1)]
    parts = [slice(start, end) for start, end in pairwise(edges)]
    return Curve(
        curve.name,
        curve.look,
        tuple(_mean(curve.x[part]) for part in parts),
        tuple(_mean(curve.y[part]) for part in parts),
        tuple(min(_finite(curve.low[part] or curve.y[part]), default=math.nan) for part in parts),
        tuple(max(_finite(curve.high[part] or curve.y[part]), default=math.nan) for part in parts),
    )


def marker(shape: str, x: float, y: float, look: str = "") -> Markup:
    """Return a sign of about 10 units around (x, y).

    Shapes differ: colour is not needed. `look`: more CSS classes, each after a space.
    """
    paths = {
        "dot": f"M{x - 5:.1f} {y:.1f}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z",
        "ring": f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
        "square": f"M{x - 4.5:.1f} {y - 4.5:.1f}h9v9h-9Z",
        "diamond": f"M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6Z",
        "triangle": f"M{x:.1f} {y - 6:.1f}l6 10.5h-12Z",
        "bar": f"M{x - 1.5:.1f} {y - 7:.1f}h3v14h-3Z",
    }
    return Markup('<path class="sign {0}{1}" d="{2}"/>').format(shape, look, paths[shape])


@dataclass(frozen=True)
class _Frame:
    """Scales from values to positions in a chart of curves."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM)

    def axes(self, x: str, y: str) -> Markup:
        parts = [Markup('<g class="grid">')]
        for tick in ticks(self.y_low, self.y_high):
            at = self.y(tick)
            line = '<path d="M{0} {1:.1f}H{2}"/><text x="{3}" y="{4:.1f}" text-anchor="end">{5}</text>'
            parts.append(Markup(line).format(LEFT, at, WIDTH - RIGHT, LEFT - 7, at + 4, tick_text(tick)))
        for tick in ticks(self.x_low, self.x_high, 6):
            text = '<text x="{0:.1f}" y="{1}" text-anchor="middle">{2}</text>'
            parts.append(Markup(text).format(self.x(tick), HEIGHT - BOTTOM + 17, tick_text(tick)))
        names = '</g><text class="axis" x="{0}" y="{1}" text-anchor="end">{2}</text>'
        parts.append(Markup(names).format(WIDTH - RIGHT, HEIGHT - 6, x))
        turned = '<text class="axis" transform="translate(11 {0}) rotate(-90)" text-anchor="end">{1}</text>'
        return Markup("").join([*parts, Markup(turned).format(TOP, y)])

    def curve(self, curve: Curve) -> Markup:
        points = [(self.x(x), self.y(y)) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(y)]
        band = [
            (self.x(x), self.y(low), self.y(high))
            for x, low, high in zip(curve.x, curve.low, curve.high, strict=False)
            if math.isfinite(low) and math.isfinite(high)
        ]
        edges = [(x, high) for x, _, high in band] + [(x, low) for x, low, _ in reversed(band)]
        shade = Markup('<path class="band" d="{0}Z"/>').format(_path(edges)) if edges else Markup("")
        dots = Markup("").join(marker("dot", x, y) for x, y in points) if len(points) <= 30 else Markup("")
        line = Markup('<path class="line" d="{0}"/>').format(_path(points))
        return Markup('<g class="{0}">{1}{2}{3}</g>').format(curve.look, shade, line, dots)


def _mark(mark: Mark, left: float, low: float, scale: float, y: float) -> Markup:
    interval = _interval(mark, left, low, scale, y)
    sign = marker(mark.shape, left + (mark.mean - low) * scale, y)
    return Markup('<g class="{0}">{1}{2}</g>').format(mark.look, interval, sign)


def _interval(mark: Mark, left: float, low: float, scale: float, y: float, look: str = "") -> Markup:
    if not (math.isfinite(mark.low) and math.isfinite(mark.high)):
        return Markup("")
    ends = (left + (value - low) * scale for value in (mark.low, mark.high))
    return Markup('<path class="interval{3}" d="M{0:.1f} {2:.1f}H{1:.1f}"/>').format(*ends, y, look)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{'L' if number else 'M'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(points))


def _svg(width: float, height: float, label: str, parts: Sequence[Markup], look: str = "chart") -> Markup:
    opening = '<svg class="{0}" viewBox="0 0 {1:g} {2:g}" role="img" aria-label="{3}">'
    return Markup(opening).format(look, width, height, label) + Markup("").join(parts) + Markup("</svg>")


def _widened(low: float, high: float, share: float) -> tuple[float, float]:
    """Return the interval, never empty, widened by `share` at both ends."""
    margin = (high - low) * share or (0.0 if high > low else abs(high) * 0.1 or 0.5)
    return low - margin, high + margin


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _mean(values: Sequence[float]) -> float:
    found = _finite(values)
    return math.fsum(found) / len(found) if found else math.nan
