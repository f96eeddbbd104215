"""Charts: values in the right place, no invalid numbers, small size."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.publishing import charts
from sticker_pipeline.publishing.charts import (
    Curve,
    Mark,
    about_zero,
    interval_chart,
    line_chart,
    strip,
    thin,
    tick_text,
    ticks,
)
from sticker_pipeline_tests.publishing.html_tree import Element, parsed

NAN = math.nan


def svg(text: str) -> Element:
    (element,) = parsed(text).all("svg")
    return element


def points(path: Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.attributes["d"])]


def mark(name: str, mean: float, low: float = NAN, high: float = NAN, shape: str = "dot") -> Mark:
    return Mark(name, "m-lora", shape, mean, low, high)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (0.41, 0.87, [0.6, 0.8]),
        (1, 640, [200, 400, 600]),
        (-0.1, 0.1, [-0.1, -0.05, 0.0, 0.05, 0.1]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_lie_inside_and_are_few(low: float, span: float) -> None:
    high = low + span
    found = ticks(low, high)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-6 * span <= tick <= high + 1e-6 * span + 1e-9 * abs(high) for tick in found)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.25, "0.25"), (1500, "1500"), (5e-6, "5e−6"), (-0.1, "−0.1"), (2.5e-5, "2.5e−5")]
)
def test_tick_text(value: float, text: str) -> None:
    assert tick_text(value) == text


def test_a_straight_line_is_straight_and_spans_the_chart() -> None:
    curve = Curve("loss", "m-lora", (0.0, 1.0, 4.0), (0.0, 1.0, 4.0))
    (line,) = svg(line_chart([curve], label="loss", x="step", y="loss")).with_class("line")
    (x0, y0), (x1, y1), (x2, y2) = points(line)
    assert (x0, x2) == (charts.LEFT, charts.WIDTH - charts.RIGHT)
    assert (x1 - x0) / (x2 - x0) == pytest.approx(0.25, abs=1e-3)
    assert (y1 - y0) / (y2 - y0) == pytest.approx(0.25, abs=1e-3)
    assert y2 < y0, "larger values are higher up"


def test_what_is_no_number_is_not_drawn() -> None:
    curve = Curve("loss", "m-lora", (1.0, 2.0, 3.0), (1.0, NAN, 3.0), (0.5, NAN, NAN), (1.5, NAN, NAN))
    chart = svg(line_chart([curve], label="loss", x="step", y="loss"))
    assert "nan" not in line_chart([curve], label="loss", x="step", y="loss")
    assert len(points(next(chart.with_class("line")))) == 2
    assert line_chart([Curve("loss", "m-lora", (1.0,), (NAN,))], label="", x="", y="") == ""
    assert line_chart([], label="", x="", y="") == ""


@pytest.mark.parametrize("y", [0.0, 3.0, -2.0])
def test_a_constant_has_room_around_it(y: float) -> None:
    chart = svg(line_chart([Curve("rate", "m-lora", (1.0, 2.0), (y, y))], label="", x="step", y="rate"))
    ((_, first), (_, second)) = points(next(chart.with_class("line")))
    assert first == second
    assert charts.TOP < first < charts.HEIGHT - charts.BOTTOM


def test_the_chosen_epoch_is_where_its_point_is() -> None:
    curve = Curve("similarity", "m-lora", (1.0, 2.0, 3.0), (1.0, 2.0, 1.5))
    chart = svg(line_chart([curve], label="", x="epoch", y="cosine", chosen=2))
    (chosen,) = chart.with_class("chosen")
    assert points(chosen)[0][0] == points(next(chart.with_class("line")))[1][0]


def test_thinning_keeps_means_and_extremes() -> None:
    values = [float(number % 10) for number in range(1600)]
    values[803] = 99.0
    thinned = thin(Curve("loss", "m-lora", tuple(float(number) for number in range(1600)), tuple(values)), most=160)
    assert len(thinned.x) == len(thinned.y) == len(thinned.low) == len(thinned.high) == 160
    assert thinned.x[0] == 4.5
    assert thinned.y[0] == 4.5
    assert (thinned.low[0], thinned.high[0]) == (0.0, 9.0)
    assert max(thinned.high) == 99.0
    short = Curve("loss", "m-lora", (1.0,), (2.0,))
    assert thin(short) is short


def test_a_chart_stays_small_however_long_the_training() -> None:
    curve = Curve("loss", "m-lora", tuple(map(float, range(100_000))), tuple(math.sin(n) for n in range(100_000)))
    assert len(line_chart([curve], label="loss", x="step", y="loss")) < 12_000


def test_intervals_are_on_one_scale() -> None:
    marks = [mark("base", 0.2, 0.1, 0.3), mark("lora", 0.6, 0.5, 0.7), mark("reference", 0.9, shape="bar")]
    chart = svg(interval_chart(marks, label="similarity", x="cosine", ceiling="reference"))
    intervals = [re.findall(r"-?[\d.]+", path.attributes["d"]) for path in chart.with_class("interval")]
    (left, y0, right), (left2, y1, right2) = [[float(number) for number in found] for found in intervals]
    assert right - left == pytest.approx(right2 - left2, abs=0.2)
    assert (left2 - left) / (right - left) == pytest.approx(2.0, abs=0.01)
    assert y1 - y0 == charts.ROW
    assert len(list(chart.with_class("ceiling"))) == 1
    assert [text.text for text in chart.with_class("value")] == ["0.200", "0.600", "0.900"]
    assert chart.attributes["aria-label"] == "similarity"
    assert interval_chart([], label="", x="") == ""


def test_a_strip_puts_the_ends_at_its_ends() -> None:
    chart = svg(strip([mark("a", 0.0), mark("b", 1.0)], 0.0, 1.0, label="a and b"))
    first, last = (float(path.attributes["d"][1:].split(" ")[0]) + 5 for path in chart.with_class("sign"))
    assert (first, last) == (charts.STRIP_PAD, charts.STRIP_WIDTH - charts.STRIP_PAD)


def test_names_are_text_and_nothing_else() -> None:
    hostile = '"><script>x</script>'
    chart = interval_chart([mark(hostile, 0.5)], label=hostile, x=hostile)
    curves = line_chart([Curve(hostile, "m-lora", (1.0, 2.0), (1.0, 2.0))], label=hostile, x=hostile, y=hostile)
    for text in (chart, curves):
        assert not list(parsed(text).all("script"))
        assert svg(text).attributes["aria-label"] == hostile


def test_a_difference_stands_where_it_is_about_zero() -> None:
    def places(mean: float) -> tuple[float, list[float]]:
        chart = svg(about_zero(mark("m", mean, mean - 0.1, mean + 0.1), 0.5, label="m"))
        (zero,) = chart.with_class("zero")
        (interval,) = chart.with_class("interval")
        return float(zero.attributes["d"][1:].split(" ")[0]), [
            float(x) for x in re.findall(r"[MH](-?[\d.]+)", interval.attributes["d"])
        ]

    zero, (start, end) = places(0.0)
    assert zero == charts.STRIP_WIDTH / 2 == pytest.approx((start + end) / 2)
    unit = (charts.STRIP_WIDTH - 2 * charts.STRIP_PAD) / 1.0
    for mean in (-0.4, 0.25):
        _, ends = places(mean)
        assert ends == pytest.approx([zero + unit * (mean - 0.1), zero + unit * (mean + 0.1)], abs=0.06)
