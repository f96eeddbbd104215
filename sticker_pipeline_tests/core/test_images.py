import base64
import io

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.core.images import (
    MAX_EMBEDDED_BYTES,
    MAX_EMBEDDED_SIDE,
    Panel,
    bar_chart,
    contact_sheet,
    count_histogram,
    embedded_markdown,
    front_chart,
    grouped_intervals,
    interval_chart,
    labelled_grid,
    line_chart,
    paired_bars,
    panels,
    spread_over_intervals,
    word_cloud,
)

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def square(colour: tuple[int, ...], size: int = 96) -> Image.Image:
    return Image.new("RGB" if len(colour) == 3 else "RGBA", (size, size), colour)


def decoded(markdown: str) -> Image.Image:
    head, _, encoded = markdown.partition(";base64,")
    assert head.endswith("](data:image/webp")
    assert encoded.endswith(")")
    return Image.open(io.BytesIO(base64.b64decode(encoded[:-1])))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_contact_sheet_puts_images_in_rows_of_columns() -> None:
    sheet = contact_sheet([square(RED), square(BLUE), square(BLUE)], columns=2)
    assert (sheet.mode, sheet.size) == ("RGB", (200, 200))
    centres = [sheet.getpixel((x, y)) for y in (50, 150) for x in (50, 150)]
    assert centres == [RED, BLUE, BLUE, WHITE]


def test_contact_sheet_shows_transparency_as_checkers_and_never_hidden_colour() -> None:
    sheet = np.asarray(contact_sheet([square((255, 0, 0, 0))]))
    assert {tuple(colour) for colour in sheet.reshape(-1, 3).tolist()} == {WHITE, (226, 226, 232)}


def test_contact_sheet_keeps_the_shape_of_images() -> None:
    sheet = np.asarray(contact_sheet([Image.new("RGB", (200, 50), RED)])).astype(int)
    red = (sheet == RED).all(axis=2)
    assert (red.any(axis=1).sum(), red.any(axis=0).sum()) == (24, 96)


def test_contact_sheet_has_a_line_for_captions_in_any_script() -> None:
    sheet = contact_sheet([square(RED), square(RED)], ["a caption much longer than its cell", "日本語"], columns=2)
    assert sheet.size == (200, 112)
    assert (np.asarray(sheet)[100:, :100] < 200).any()


def test_contact_sheet_of_nothing_is_one_empty_cell() -> None:
    assert contact_sheet([]).size == (100, 100)


def test_small_images_grow_by_whole_factors_with_sharp_edges() -> None:
    pixels = np.array([[RED, BLUE], [BLUE, RED]], dtype=np.uint8)
    sheet = np.asarray(contact_sheet([Image.fromarray(pixels)], cell=9))
    assert {tuple(colour) for colour in sheet[2:10, 2:10].reshape(-1, 3).tolist()} == {RED, BLUE}


def test_labelled_grid_shows_rows_and_columns_over_white() -> None:
    grid = labelled_grid(["one", "two"], ["a", "b"], [[square(RED), square((255, 0, 0, 0))], [square(BLUE)]])
    assert grid.size == (84 + 200, 16 + 200)
    assert [grid.getpixel((84 + x, 16 + y)) for y in (50, 150) for x in (50, 150)] == [RED, WHITE, BLUE, WHITE]
    labels = np.asarray(grid)[:, :84]
    assert (labels[16:116] < 200).any() and (labels[116:] < 200).any()


def test_long_column_names_take_lines_of_their_own() -> None:
    grid = labelled_grid(["r"], ["sticker: open mouth, arms up", "x"], [[square(RED), square(BLUE)]])
    assert grid.size == (284, 4 + 2 * 12 + 100)
    assert grid.getpixel((84 + 50, 28 + 50)) == RED
    assert (np.asarray(grid)[16:28, 84:184] < 200).any()
    assert labelled_grid(["r"], ["word " * 50], [[square(RED)]]).height == 4 + 3 * 12 + 100
    assert labelled_grid([], [], []).size == (84, 16)


def test_long_row_names_are_told_apart() -> None:
    names = ("own trigger, own tag", "own trigger, shared")
    one, two = (labelled_grid([name], ["x"], [[square(RED)]]) for name in names)
    assert (np.asarray(one)[:, :84] != np.asarray(two)[:, :84]).any()


def test_bars_with_names_alike_in_their_first_letters_stay_apart() -> None:
    def bars(values: dict[str, float]) -> int:
        violet = (np.asarray(bar_chart(values, title="t", unit="u")) == (0x7A, 0x6F, 0xF0)).all(axis=2).any(axis=1)
        return int(np.count_nonzero(np.diff(violet.astype(int)) == 1))

    assert bars({"x" * 40 + "1": 1.0, "x" * 40 + "2": 2.0, "y": 3.0}) == 3
    assert bars({str(number): 1.0 for number in range(30)}) == 24


@pytest.mark.parametrize("name", ["cost $5", r"$\nonsense$", "^_^", "", "日本語"])
def test_charts_take_any_name_as_it_is(name: str) -> None:
    values = np.arange(3.0)
    for chart in (
        bar_chart({name: 1.0}, title=name, unit="share"),
        line_chart({name: (values, values), "other": (values, values)}, title=name, x="step", y="loss"),
        interval_chart({name: (0.5, 0.4, 0.6)}, title=name, unit="cosine"),
        front_chart({name: (values + 1, values)}, (values + 1, values), title=name, x="seconds", y="quality"),
    ):
        assert chart.mode == "RGB"
        assert chart.width == 640


def test_charts_of_nothing_are_empty_axes() -> None:
    for chart in (bar_chart({}, title="t", unit="u"), interval_chart({}, title="t", unit="u")):
        assert chart.width == 640


def test_points_on_the_front_are_ringed() -> None:
    points = {"a": (np.array([1.0, 2.0]), np.array([0.2, 0.6])), "b": (np.array([2.0]), np.array([0.3]))}
    chart = np.asarray(front_chart(points, points["a"], title="t", x="seconds", y="quality")).astype(int)
    none = (np.empty(0), np.empty(0))
    plain = np.asarray(front_chart(points, none, title="t", x="seconds", y="quality")).astype(int)
    dark = [int((np.abs(each - (0x1B, 0x1A, 0x26)).max(axis=2) < 16).sum()) for each in (chart, plain)]
    assert dark[0] > dark[1] + 20


def test_an_interval_without_bounds_is_a_dot() -> None:
    nan = float("nan")
    dot = np.asarray(interval_chart({"a": (0.5, nan, nan)}, title="t", unit="u"))
    assert (dot == (0x4A, 0x3F, 0xD0)).all(axis=2).any()
    assert not (dot == (0xB9, 0xB4, 0xF7)).all(axis=2).any()


def test_embedded_markdown_fits_the_event_log() -> None:
    markdown = embedded_markdown(noise(1200, 900), "frames")
    assert len(markdown) <= MAX_EMBEDDED_BYTES + 100
    image = decoded(markdown)
    assert image.width / image.height == pytest.approx(4 / 3, abs=0.05)


def test_a_small_image_is_embedded_as_large_as_it_is() -> None:
    assert decoded(embedded_markdown(square(RED, 120), "x")).size == (120, 120)


def test_the_alternative_text_ends_where_it_should() -> None:
    markdown = embedded_markdown(square(RED, 8), "a](http://127.0.0.1:9/a.png) [b")
    assert markdown.startswith(r"![a\](http<!-- -->://127.0.0.1:9/a.png) \[b](data:image/webp;base64,")


def test_a_sheet_taller_than_webp_allows_is_embedded_smaller() -> None:
    assert decoded(embedded_markdown(Image.new("RGB", (1000, 20_000)), "x")).height == MAX_EMBEDDED_SIDE


def test_embedding_flattens_over_white_and_leaves_the_image_alone() -> None:
    image = square((255, 0, 0, 0))
    assert decoded(embedded_markdown(image, "x")).convert("RGB").getpixel((50, 50)) == WHITE
    assert image.mode == "RGBA"


def _pixels(image: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(image) == colour).all(axis=2).sum())


def test_paired_bars_are_as_long_as_their_numbers() -> None:
    pale, dark = (0xC9, 0xC5, 0xF5), (0x5A, 0x4F, 0xE0)

    def lengths(pairs: dict[str, tuple[float, float]]) -> tuple[int, int]:
        image = paired_bars(pairs, title="t", unit="u", names=("before", "after"))
        array = np.asarray(image)
        return tuple(int((array == colour).all(axis=2).sum(axis=1).max()) for colour in (pale, dark))

    before, after = lengths({"smile": (8, 2), "x": (1, 1)})
    assert before == pytest.approx(4 * after, rel=0.05)
    assert paired_bars({}, title="t", unit="u", names=("a", "b")).mode == "RGB"


def test_a_histogram_states_the_means_and_takes_no_data() -> None:
    full = count_histogram({"before": [1, 2, 2], "after": [1]}, title="t", x="tags", y="images")
    assert (np.asarray(full) != np.asarray(count_histogram({"before": [], "after": []}, title="t", x="x", y="y"))).any()


def test_the_word_cloud_shows_what_is_frequent_larger_and_is_the_same_every_time() -> None:
    alone = word_cloud({"smile": 9})
    assert _pixels(alone, WHITE) < 640 * 320
    assert (np.asarray(alone) == np.asarray(word_cloud({"smile": 9}))).all()
    assert _pixels(word_cloud({}), WHITE) == 640 * 320


def test_panels_keep_their_images_and_frame_what_is_marked() -> None:
    rows = {"art": [Panel([square(RED, 88)] * 4, [("one", (0, 0, 0))]), Panel([square(RED, 88)] * 3, [], marked=True)]}
    sheet = panels(rows, ["ours", "theirs"], title="t")
    assert _pixels(sheet, RED) == 7 * 88 * 88
    frame = (np.asarray(sheet) == (82, 70, 214)).all(axis=2)
    assert not frame[:, : sheet.width - 200].any()
    assert frame[:, sheet.width - 200 :].sum() > 500
    both = panels(rows | {"sticker": rows["art"][:1]}, ["ours", "theirs"], title="t")
    assert both.width == sheet.width and _pixels(both, RED) == 11 * 88 * 88
    assert panels({}, [], title="t").mode == "RGB"


def test_grouped_intervals_of_one_name_have_one_colour() -> None:
    blue, orange = (0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)
    both = {"a": {"base": (0.2, 0.1, 0.3), "lora": (0.6, 0.5, 0.7)}, "b": {"lora": (0.7, 0.6, 0.8)}}
    image = grouped_intervals(both, title="t", unit="u")
    assert _pixels(image, orange) > 1.2 * _pixels(image, blue) > 0, "base on one line, lora on two, each in the legend"
    only = grouped_intervals({"b": both["b"]}, title="t", unit="u")
    assert _pixels(only, orange) == 0 and _pixels(only, blue) > 0
    assert grouped_intervals({}, title="t", unit="u").mode == "RGB"


def test_a_spread_has_the_colours_of_its_lines() -> None:
    """Blue is drawn for both names that are there; the legend names no third one."""
    blue, orange, green = (0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E), (0x2C, 0xA0, 0x2C)
    rows = {"a": {"base": (0.2, 0.1, 0.3), "lora": (0.6, 0.5, 0.7)}, "(8 others)": {}, "b": {"base": (0.1, 0.0, 0.2)}}
    spread = {"base": [0.1, 0.2, 0.2], "lora": [0.6] * 10}
    image = spread_over_intervals(spread, rows, titles=("t", "u"), unit="u", count="n")
    assert _pixels(image, orange) > 0 < _pixels(image, blue) and _pixels(image, green) == 0


def test_forty_characters_in_one_chart_fit_the_event_log_as_they_are() -> None:
    rows = {
        f"character_{number:02}": dict.fromkeys(("base", "lora", "released", "rival"), (0.5, 0.4, 0.6))
        for number in range(40)
    }
    image = grouped_intervals(rows, title="t", unit="u")
    assert decoded(embedded_markdown(image, "x")).size == image.size
