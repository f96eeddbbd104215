"""Images for the UI and artifacts: sheets of images, bars and curves."""

import base64
import io
import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sticker_pipeline.core.fonts import font_for, installed_wide, is_wide, wide_file
from sticker_pipeline.core.markdown import literal

MAX_EMBEDDED_BYTES = 100_000  # metadata is stored in Dagster's event log
MAX_EMBEDDED_SIDE = 4_096  # WebP allows 16,383 px, illegible in so few bytes
CHECKER = ((255, 255, 255), (226, 226, 232))


def contact_sheet(
    images: Sequence[Image.Image],
    captions: Sequence[str] | None = None,
    *,
    cell: int = 96,
    columns: int = 10,
    lines: int = 1,
) -> Image.Image:
    """Arrange images in rows of `columns`, with captions of at most `lines` lines.

    Each fits a square of `cell` pixels over a checkerboard. Returns RGB; without images, one empty cell.
    """
    columns = max(1, min(columns, len(images) or 1))
    rows = max(1, math.ceil(len(images) / columns))
    line = 12 * lines if captions else 0
    sheet = Image.new("RGB", (columns * (cell + 4), rows * (cell + 4 + line)), "white")
    pen = ImageDraw.Draw(sheet)
    board = _checkerboard(cell)
    for number, image in enumerate(images):
        x, y = (number % columns) * (cell + 4) + 2, (number // columns) * (cell + 4 + line) + 2
        fitted = _fit(image, cell)
        tile = board.copy()
        tile.paste(fitted, ((cell - fitted.width) // 2, (cell - fitted.height) // 2), fitted)
        sheet.paste(tile, (x, y))
        if captions:
            text = _in_lines(captions[number], cell // 6, lines) if lines > 1 else captions[number][: cell // 6]
            pen.multiline_text((x, y + cell), text, fill=(60, 60, 70), spacing=1, font=font_for(text))
    return sheet


def sheet_of_files(folder: Path, names: Sequence[str], most: int, *, cell: int = 84) -> Image.Image:
    """Make a `contact_sheet` of up to `most` files in `folder`, evenly spread."""
    chosen = names[:: max(1, -(-len(names) // most))]
    return contact_sheet([Image.open(folder / name) for name in chosen], cell=cell)


def labelled_grid(
    rows: Sequence[str], columns: Sequence[str], images: Sequence[Sequence[Image.Image]], *, cell: int = 96
) -> Image.Image:
    """Arrange `images[row][column]` in a grid with names.

    Names have up to three lines. Rows may be shorter than `columns`.
    """
    names = [_in_lines(name, cell // 6) for name in columns]
    left, top = 84, 4 + 12 * max((name.count("\n") + 1 for name in names), default=1)
    sheet = Image.new("RGB", (left + len(columns) * (cell + 4), top + len(rows) * (cell + 4)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, name in enumerate(names):
        pen.multiline_text((left + number * (cell + 4) + 2, 2), name, fill=(60, 60, 70), spacing=1, font=font_for(name))
    for row, name in enumerate(rows):
        lines = _in_lines(name, left // 6)
        middle = top + row * (cell + 4) + cell // 2
        pen.multiline_text(
            (2, middle - 6 * (lines.count("\n") + 1)), lines, fill=(60, 60, 70), spacing=1, font=font_for(lines)
        )
        for column, image in enumerate(images[row]):
            fitted = _fit(image, cell)
            sheet.paste(fitted, (left + column * (cell + 4) + 2, top + row * (cell + 4) + 2), fitted)
    return sheet


@dataclass(frozen=True)
class Panel:
    """Images above coloured lines of text; a `marked` panel is framed."""

    images: Sequence[Image.Image]
    lines: Sequence[tuple[str, tuple[int, int, int]]]
    marked: bool = False


def panels(
    rows: Mapping[str, Sequence[Panel]], columns: Sequence[str], *, title: str, cell: int = 88, across: int = 2
) -> Image.Image:
    """Arrange panels in a table with named rows and columns; returns RGB.

    A panel's images stand in squares of `cell` pixels, `across` in a row. Rows may be shorter.
    """
    small, large, line, pad = 12, 15, 16, 8
    left, top, width = 62, 52, across * (cell + 4) + 2 * pad
    heights = [max((_panel_height(panel, cell, across, line) for panel in own), default=0) for own in rows.values()]
    sheet = Image.new("RGB", (left + len(columns) * width, top + sum(heights) + pad * len(heights)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((pad, 6), title, fill=(92, 89, 107), font=font_for(title, small))
    for number, name in enumerate(columns):
        pen.text((left + number * width + pad, 26), name, fill=(27, 26, 38), font=font_for(name, large))
    for (name, own), height in zip(rows.items(), heights, strict=True):
        pen.line([(0, top - 4), (sheet.width, top - 4)], fill=(227, 224, 236))
        pen.text((pad, top + cell // 2), name, fill=(27, 26, 38), font=font_for(name, large))
        for number, panel in enumerate(own):
            x, y = left + number * width, top
            if panel.marked:
                box = (x + 1, y, x + width - 3, y + height)
                pen.rounded_rectangle(box, 8, fill=(240, 238, 247), outline=(82, 70, 214), width=2)
            for place, image in enumerate(panel.images):
                fitted = _fit(image, cell)
                corner = (x + pad + place % across * (cell + 4), y + pad + place // across * (cell + 4))
                pen.rectangle((*corner, corner[0] + cell - 1, corner[1] + cell - 1), fill="white")
                middle = ((cell - fitted.width) // 2, (cell - fitted.height) // 2)
                sheet.paste(fitted, (corner[0] + middle[0], corner[1] + middle[1]), fitted)
            below = y + _panel_height(panel, cell, across, line) - len(panel.lines) * line - 4
            for place, (text, colour) in enumerate(panel.lines):
                pen.text((x + pad, below + place * line), text, fill=colour, font=font_for(text, small))
        top += height + pad
    return sheet


def _panel_height(panel: Panel, cell: int, across: int, line: int) -> int:
    return 8 + math.ceil(len(panel.images) / across) * (cell + 4) + len(panel.lines) * line + 4


def _in_lines(name: str, characters: int, lines: int = 3) -> str:
    """Break `name` into at most `lines` lines of `characters`, keeping its line breaks."""
    broken = [part for line in name.split("\n") for part in textwrap.wrap(line, max(1, characters), placeholder="…")]
    last = "…" if len(broken) > lines else ""
    return "\n".join([*broken[: lines - 1], (broken[lines - 1 : lines] or [""])[0] + last]).rstrip("\n")


def bar_chart(values: Mapping[str, float], *, title: str, unit: str, most: int = 24) -> Image.Image:
    """Plot the first `most` values as horizontal bars; names cut at 32 characters."""
    names = list(values)[:most]
    figure, axes = _figure(6.4, 0.9 + 0.24 * max(1, len(names)))
    axes.barh(range(len(names)), [values[name] for name in names], color="#7a6ff0")
    axes.set_yticks(range(len(names)), [_plain(name[:32]) for name in names])
    axes.invert_yaxis()
    left_out = f" (first {most} of {len(values)})" if len(values) > most else ""
    axes.set_title(_plain(title + left_out), fontsize=10)
    axes.set_xlabel(unit, fontsize=9)
    return _rendered(figure)


def paired_bars(
    values: Mapping[str, tuple[float, float]], *, title: str, unit: str, names: tuple[str, str], most: int = 32
) -> Image.Image:
    """Plot two horizontal bars, labelled `names`, for each of the first `most` values."""
    shown = list(values)[:most]
    figure, axes = _figure(6.4, 1.2 + 0.26 * max(1, len(shown)))
    for side, colour, offset in ((0, "#c9c5f5", -0.2), (1, "#5a4fe0", 0.2)):
        places = [row + offset for row in range(len(shown))]
        axes.barh(places, [values[name][side] for name in shown], 0.4, color=colour, label=names[side])
    axes.set_yticks(range(len(shown)), [_plain(name[:32]) for name in shown])
    axes.set_ylim(max(1, len(shown)) - 0.4, -0.6)
    left_out = f" (first {most} of {len(values)})" if len(values) > most else ""
    axes.set_title(_plain(title + left_out), fontsize=10)
    axes.set_xlabel(unit, fontsize=9)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    return _rendered(figure)


def count_histogram(counts: Mapping[str, Sequence[int]], *, title: str, x: str, y: str) -> Image.Image:
    """Plot the frequency of whole numbers in each named sequence, overlaid."""
    figure, axes = _figure(6.4, 2.8)
    highest = max((max(values, default=0) for values in counts.values()), default=0)
    for (name, values), colour in zip(counts.items(), ("#c9c5f5", "#5a4fe0"), strict=False):
        mean = f"{name}: {sum(values) / max(1, len(values)):.1f} on average"
        axes.hist(values, bins=np.arange(highest + 2) - 0.5, label=_plain(mean), color=colour, alpha=0.75)
    axes.set_title(_plain(title), fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.legend(fontsize=8)
    return _rendered(figure)


def word_cloud(counts: Mapping[str, int]) -> Image.Image:
    """Render the keys of `counts`, sized by frequency; deterministic."""
    from wordcloud import WordCloud

    if not counts:
        return Image.new("RGB", (640, 320), "white")
    file = wide_file() if any(map(is_wide, counts)) else None
    font = {"font_path": str(file)} if file else {}
    cloud = WordCloud(width=640, height=320, background_color="white", colormap="viridis", random_state=0, **font)
    return cloud.generate_from_frequencies(dict(counts)).to_image()


def line_chart(series: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str, x: str, y: str) -> Image.Image:
    """Plot curves `name: (x values [n], y values [n])`."""
    figure, axes = _figure(6.4, 2.8)
    for name, (xs, ys) in series.items():
        axes.plot(xs, ys, label=_plain(name), linewidth=1.4)
    axes.set_title(_plain(title), fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    if len(series) > 1:
        axes.legend(fontsize=8)
    return _rendered(figure)


def front_chart(
    points: Mapping[str, tuple[np.ndarray, np.ndarray]],
    front: tuple[np.ndarray, np.ndarray],
    *,
    title: str,
    x: str,
    y: str,
) -> Image.Image:
    """Plot points `name: (x values [n], y values [n])` over a logarithmic x.

    Each name has a colour. A stepped line joins `front`, in ascending order of x.
    """
    figure, axes = _figure(6.4, 3.6)
    axes.step(*front, where="post", color="#9a96a8", linewidth=1.0)
    for number, (name, (xs, ys)) in enumerate(points.items()):
        axes.plot(xs, ys, "o", color=f"C{number % 10}", markersize=4, alpha=0.7, label=_plain(name))
    axes.plot(*front, "o", color="none", markeredgecolor="#1b1a26", markersize=8)
    axes.set_xscale("log")
    for axis_ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis_ticks(lambda value, _: f"{value:g}")
    axes.set_title(_plain(title), fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    if points:
        axes.legend(fontsize=8)
    return _rendered(figure)


def interval_chart(rows: Mapping[str, tuple[float, float, float]], *, title: str, unit: str) -> Image.Image:
    """Plot a dot with its interval for each `name: (mean, low, high)`."""
    figure, axes = _figure(6.4, 0.9 + 0.28 * max(1, len(rows)))
    for number, (mean, low, high) in enumerate(rows.values()):
        axes.plot([low, high], [number, number], color="#b9b4f7", linewidth=5, solid_capstyle="round")
        axes.plot([mean], [number], "o", color="#4a3fd0")
    axes.set_yticks(range(len(rows)), [_plain(name[:40]) for name in rows])
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.set_title(_plain(title), fontsize=10)
    axes.set_xlabel(unit, fontsize=9)
    return _rendered(figure)


Intervals = Mapping[str, Mapping[str, tuple[float, float, float]]]  # line -> name -> mean, low, high


def grouped_intervals(rows: Intervals, *, title: str, unit: str) -> Image.Image:
    """Plot dots with intervals (mean, low, high) for each name, in lines.

    A name has the same colour on all lines.
    """
    names = _names(rows)
    figure, axes = _figure(7.2, 1.2 + _height(rows, names))
    _draw_groups(axes, rows, names)
    axes.set_title(_plain(title), fontsize=10)
    axes.set_xlabel(unit, fontsize=9)
    if names:
        figure.legend(fontsize=8, loc="outside lower center", ncols=min(5, len(names)))
    return _rendered(figure)


def spread_over_intervals(
    spread: Mapping[str, Sequence[float]], rows: Intervals, *, titles: tuple[str, str], unit: str, count: str
) -> Image.Image:
    """Plot `grouped_intervals` of `rows` under a histogram of `spread`.

    `spread`: each name's values in all lines; `rows`: some of the lines. `count`: the histogram's axis. `titles`: of
    histogram and lines. Both share names and colours.
    """
    names = list(spread)
    figure, above = _figure(7.2, 2.6 + _height(rows, names))
    figure.delaxes(above)
    above, axes = figure.subplots(2, 1, sharex=True, height_ratios=[1.4, _height(rows, names)])
    edges = np.histogram_bin_edges(np.concatenate([*spread.values()]), bins=40)
    for number, (name, values) in enumerate(spread.items()):
        above.hist(values, bins=edges, histtype="step", color=f"C{number % 10}", linewidth=1.6, label=_plain(name))
    above.set_ylabel(count, fontsize=9)
    _draw_groups(axes, rows, names)
    for part, title in zip((above, axes), titles, strict=True):
        part.set_title(_plain(title), fontsize=10)
        part.tick_params(labelsize=8, labelbottom=True)
        part.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(unit, fontsize=9)
    figure.legend(*above.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=min(5, len(names)))
    return _rendered(figure)


def _names(rows: Intervals) -> list[str]:
    return list(dict.fromkeys(name for own in rows.values() for name in own))


def _height(rows: Intervals, names: Sequence[str]) -> float:
    """Return the height of lines of intervals in inches."""
    return max(1, len(rows)) * max(0.24, 0.09 * len(names))


def _draw_groups(axes, rows: Intervals, names: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    share = 0.8 / max(1, len(names))
    for number, name in enumerate(names):
        shown = [(place, own[name]) for place, own in enumerate(rows.values()) if name in own]
        heights = [place + (number - (len(names) - 1) / 2) * share for place, _ in shown]
        means, lows, highs = ([values[part] for _, values in shown] for part in range(3))
        colour = f"C{number % 10}"
        axes.hlines(heights, lows, highs, color=colour, linewidth=2.5, alpha=0.45)
        axes.plot(means, heights, "o", color=colour, markersize=4, label=_plain(name))
    axes.hlines(
        np.arange(len(rows) - 1) + 0.5, 0, 1, transform=axes.get_yaxis_transform(), color="#e3e0ec", linewidth=0.6
    )
    axes.set_yticks(range(len(rows)), [_plain(name[:32]) for name in rows])
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)


def embedded_markdown(image: Image.Image, alt: str) -> str:
    """Return `image` over white as markdown: base64 WebP of at most MAX_EMBEDDED_BYTES."""
    image = over_white(image)
    image.thumbnail((MAX_EMBEDDED_SIDE, MAX_EMBEDDED_SIDE), Image.Resampling.LANCZOS)
    while True:
        for quality in (85, 70, 50):
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=quality)
            encoded = base64.b64encode(buffer.getvalue()).decode()
            if len(encoded) <= MAX_EMBEDDED_BYTES:
                return f"![{literal(alt)}](data:image/webp;base64,{encoded})"
        image = image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)), Image.Resampling.LANCZOS)


def over_white(image: Image.Image) -> Image.Image:
    """Flatten to RGB over white; dropping alpha would reveal hidden colours."""
    rgba = image.convert("RGBA")
    flat = Image.new("RGB", rgba.size, "white")
    flat.paste(rgba, (0, 0), rgba)
    return flat


def _fit(image: Image.Image, cell: int) -> Image.Image:
    """Scale `image` to RGBA of `cell` pixels; small images by whole factors only."""
    rgba = image.convert("RGBA")
    scale = cell / max(rgba.size)
    if scale >= 2:
        scale = math.floor(scale)
    elif scale > 1:
        return rgba
    size = (max(1, round(rgba.width * scale)), max(1, round(rgba.height * scale)))
    return rgba.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)


def _checkerboard(cell: int) -> Image.Image:
    y, x = np.indices((cell, cell)) // 8
    return Image.fromarray(np.array(CHECKER, dtype=np.uint8)[(x + y) % 2], "RGB")


def _plain(text: str) -> str:
    """Escape `$`, which begins a formula in matplotlib."""
    return text.replace("$", r"\$")


def _figure(width: float, height: float):  # type: ignore[no-untyped-def]
    """Return an Agg figure and axes without pyplot's global state or display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure, axes


def _rendered(figure) -> Image.Image:  # type: ignore[no-untyped-def]
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_fontfamily([*text.get_fontfamily(), *installed_wide()])
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)  # missing letters show as boxes
        figure.savefig(buffer, format="png")
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")
