"""The page asks the network for nothing, says what people wrote as text, and says what is missing and what to do."""

import base64
import hashlib
import io
import math
import re
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from sticker_pipeline.publishing import report as module
from sticker_pipeline.publishing.charts import Curve
from sticker_pipeline.publishing.report import (
    CharacterReport,
    Check,
    Choice,
    ClipWeight,
    DropReason,
    FewSteps,
    Figure,
    Grid,
    GridRow,
    Made,
    Picture,
    Release,
    Report,
    StyleReport,
    TagCount,
    Tags,
    Training,
    Weights,
    judgement,
    model_looks,
    number,
    report_page,
)
from sticker_pipeline_tests.publishing.conftest import UI
from sticker_pipeline_tests.publishing.html_tree import Element, parsed

NAN = math.nan
HOSTILE = "\"'><script>hacked=1</script><img src=x onerror=hacked=1>&amp;{{7*7}}{%x%}]]>--></style></title>\u202e${x}"


@pytest.fixture(scope="module")
def page(example_page: Path) -> Element:
    return parsed(example_page.read_text(encoding="utf-8"))


def figure(model: str, style: str, metric: str, mean: float, low: float = NAN, high: float = NAN) -> Figure:
    return Figure(model, style, metric, mean, low, high, 8)


def picture(alt: str = "a picture") -> Picture:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "WEBP")
    return Picture(buffer.getvalue(), "image/webp", 4, 4, alt)


def everything(text: str) -> CharacterReport:
    """A character of which every text is `text`."""
    curve = (Curve(text, "m-lora", (1.0, 2.0), (1.0, 2.0)),)
    return CharacterReport(
        name=text,
        trigger=text,
        profile=text,
        figures=tuple(
            figure(model, text, metric, 0.5, 0.4, 0.6)
            for model in ("base", "lora", text)
            for metric in ("clip_similarity", "clip_similarity_gain", text)
        ),
        differences=(
            *(figure(text, style, "clip_similarity", 0.1, 0.05, 0.2) for style in (text, "all")),
            figure(text, "all", "copies", 0.1),
        ),
        grids=(Grid(text, (text,), (GridRow("lora", (picture(text),)), GridRow(text, (None,))), (picture(text),)),),
        training=Training(text, curve, curve, curve),
        choice=Choice(1, text, curve, ((2, text),)),
        tags=Tags(2.0, 1.0, (TagCount(text, 2, 1),), (DropReason(text, 1, text),), (text,)),
        weights=Weights(1.0, (ClipWeight(text, text, 1, 1.0),)),
        checks=(Check(text, text, False, text), Check(text, text, None, text), Check(text, text, True, "", True)),
        lineage=(Made(text, text, text, ((text, text),), (text,)), Made(text, "", "", (), ())),
        releases=(Release(text, True, True, text, 1, text), Release(text, False, False, text, None, text)),
    )


def every_style(text: str) -> StyleReport:
    """A style of which every text is `text`."""
    curve = (Curve(text, "m-lora", (1.0, 2.0), (1.0, 2.0)),)
    figures = tuple(figure(model, text, "leaks", 0.5, 0.4, 0.6) for model in ("base", "lora", text))
    differences = (figure("lora", text, "leaks", 0.1, 0.05, 0.2),)
    return StyleReport(text, (text,), Choice(1, text, curve, ((2, text),)), figures, differences, picture(text))


def every_way(text: str) -> FewSteps:
    """Ways to draw of which every text is `text`."""
    return FewSteps(text, 2.0, tuple(figure(text, text, metric, 0.5) for metric in ("seconds", "likeness", text)))


def addresses(page: Element) -> list[tuple[Element, str]]:
    """Everything on the page that a browser may follow or load."""
    names = (
        "src",
        "href",
        "srcset",
        "xlink:href",
        "action",
        "formaction",
        "data",
        "poster",
        "background",
        "cite",
        "ping",
    )
    return [
        (element, element.attributes[name]) for element in page.all() for name in names if name in element.attributes
    ]


def test_nothing_is_loaded_from_anywhere(page: Element) -> None:
    for element, address in addresses(page):
        if element.tag == "a":
            assert address.startswith(("#", f"{UI}/assets/")), address
        else:
            assert address.startswith("data:"), (element.tag, address)
    styles = "".join(element.text for element in page.all("style"))
    styles += "".join(element.attributes.get("style", "") for element in page.all())
    assert "url(" not in styles
    assert "@import" not in styles
    assert not [
        element for element in page.all() if element.tag in ("iframe", "object", "embed", "base", "use", "image")
    ]
    assert {element.attributes["rel"] for element in page.all("link")} == {"icon"}


def test_the_page_forbids_itself_the_network_and_all_scripts_but_its_own(page: Element) -> None:
    (policy,) = (meta.attributes["content"] for meta in page.all("meta") if "http-equiv" in meta.attributes)
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    (script,) = page.all("script")
    sha = base64.b64encode(hashlib.sha256("".join(map(str, script.children)).encode()).digest()).decode()
    assert rules["default-src"] == ["'none'"]
    assert rules["img-src"] == ["data:"]
    assert rules["script-src"] == [f"'sha256-{sha}'"]
    assert not [name for element in page.all() for name in element.attributes if name.startswith("on")]


def test_ids_are_unique_and_every_reference_has_its_target(page: Element) -> None:
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element, address in addresses(page):
        if element.tag == "a" and address.startswith("#"):
            assert address[1:] in ids
    for element in page.all():
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert set(element.attributes.get(name, "").split()) <= set(ids)


def test_pictures_have_a_size_and_words(page: Element) -> None:
    images = list(page.all("img"))
    assert len(images) > 40
    for image in images:
        assert image.attributes["width"].isdigit()
        assert image.attributes["height"].isdigit()
        assert "alt" in image.attributes
        data = base64.b64decode(image.attributes["src"].partition(",")[2], validate=True)
        assert Image.open(io.BytesIO(data)).format == "WEBP"
    index = next(page.all("nav"))
    silent = [image for image in images if not image.attributes["alt"]]
    assert silent == list(index.all("img")), "only pictures beside the same name in words may be silent"
    for chart in page.all("svg"):
        assert chart.attributes.get("aria-hidden") == "true" or (
            chart.attributes["role"] == "img" and chart.attributes["aria-label"]
        )


def test_tables_have_headers_for_columns_and_rows(page: Element) -> None:
    tables = list(page.all("table"))
    assert len(tables) > 10
    for table in tables:
        (head,) = table.all("thead")
        columns = [child for row in head.all("tr") for child in row.children if isinstance(child, Element)]
        assert all(column.attributes.get("scope") == "col" for column in columns if column.tag == "th")
        for row in next(table.all("tbody")).all("tr"):
            cells = [child for child in row.children if isinstance(child, Element)]
            assert cells[0].tag == "th"
            assert cells[0].attributes["scope"] == "row"
            assert sum(int(cell.attributes.get("colspan", "1")) for cell in cells) == len(columns)


def test_landmarks_and_headings(page: Element) -> None:
    assert next(page.all("html")).attributes["lang"] == "en"
    assert [len(list(page.all(tag))) for tag in ("main", "h1", "title")] == [1, 1, 1]
    assert next(page.all("nav")).attributes["aria-label"]
    first = next(next(page.all("body")).all("a"))
    assert (first.attributes["class"], first.attributes["href"]) == ("skip", "#main")
    levels = [int(element.tag[1]) for element in page.all() if re.fullmatch(r"h[1-6]", element.tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for region in page.all():
        if region.attributes.get("role") == "region":
            assert region.attributes["tabindex"] == "0", "what scrolls can be reached by keyboard"
            assert region.attributes.get("aria-label") or region.attributes.get("aria-labelledby")
    (finder,) = page.with_class("finder")
    assert "hidden" in finder.attributes, "without JavaScript nothing is offered that does not work"


def test_the_page_says_the_figures(page: Element) -> None:
    rows = {
        (cells[0].text, cells[1].text): [cell.text for cell in cells]
        for row in page.all("tr")
        if "data-for" in row.attributes
        for cells in [[child for child in row.children if isinstance(child, Element)]]
    }
    assert set(rows) == {("bram_thistle", "all"), ("bram_thistle", "art"), ("bram_thistle", "sticker"),
                         ("pip_comet", "–"), ("velvet_moth", "–")}  # fmt: skip
    assert "not measured yet" in rows["velvet_moth", "–"][2]
    assert rows["pip_comet", "–"][-1] == "1 of 3"
    assert rows["bram_thistle", "all"][-1] == "0"
    assert "better than base" in rows["bram_thistle", "all"][4]
    assert rows["bram_thistle", "all"][-2] == "release 2"


def test_what_is_missing_says_what_to_do(page: Element) -> None:
    articles = {article.attributes["id"]: article for article in page.all("article")}
    todo = {name: [note.text for note in part.with_class("todo")] for name, part in articles.items()}
    assert todo["c-bram_thistle"] == []
    for asset in ("samples", "benchmark", "lora", "released_lora"):
        assert any(f"Materialize {asset} of pip_comet." in note for note in todo["c-pip_comet"]), asset
    for asset in ("samples", "benchmark", "lora", "curated_tags", "frame_weights", "released_lora"):
        assert any(f"Materialize {asset} of velvet_moth." in note for note in todo["c-velvet_moth"]), asset
    assert any("No check has run" in note for note in todo["c-velvet_moth"])
    (problem,) = page.with_class("problem")
    assert "character.yaml is missing" in problem.text


def test_checks_have_a_verdict_in_words(page: Element) -> None:
    words = {
        article.attributes["id"]: [verdict.text for verdict in article.with_class("verdict")]
        for article in page.all("article")
    }
    assert words == {
        "c-bram_thistle": [*["✓ passed"] * 5, "– not checked", *["✓ passed"] * 3],
        "c-pip_comet": ["✕ failed", "✓ passed", "✓ passed"],
        "c-velvet_moth": [],
    }


def test_a_page_without_characters_says_how_to_begin() -> None:
    page = parsed(report_page(Report(())))
    (note,) = page.with_class("todo")
    assert "character.yaml" in note.text


def test_what_people_write_is_text() -> None:
    page, plain = (
        parsed(
            report_page(
                Report((everything(text),), problems=(text,), styles=(every_style(text),), few_steps=(every_way(text),))
            )
        )
        for text in (HOSTILE, "plain")
    )
    assert [element.tag for element in page.all()] == [element.tag for element in plain.all()]
    assert [sorted(element.attributes) for element in page.all()] == [
        sorted(element.attributes) for element in plain.all()
    ]
    assert next(page.all("h2")).text == "Leaderboard"
    assert re.sub(r"\s+", " ", HOSTILE) in next(page.all("article")).text
    for _, address in addresses(page):
        assert address.startswith(("#", "data:"))


def test_rivals_have_a_column_only_where_there_are_any() -> None:
    ours = [Figure(model, "all", "clip_similarity", 0.5, 0.4, 0.6, 8) for model in ("base", "lora", "reference")]
    theirs = Figure("civitai", "all", "clip_similarity", 0.3, 0.2, 0.4, 8)
    for figures, count in ((ours, 8), ([*ours, theirs], 9)):
        character = CharacterReport("luma", "skv_luma", "embedded", figures=tuple(figures))
        board = next(parsed(report_page(Report((character,)))).all("table"))
        rows = [[cell for cell in row.all() if cell.tag in ("td", "th")] for row in board.all("tr")]
        assert [len(row) for row in rows] == [count, count]
        assert ("best rival" in board.text) == (count == 9)


def test_the_address_of_an_asset_is_one_segment_and_one_value() -> None:
    page = parsed(report_page(Report((everything("a/b?c&d#e"),), ui="https://example.org/")))
    links = {address for element, address in addresses(page) if element.tag == "a" and not address.startswith("#")}
    assert "https://example.org/assets/benchmark?view=partitions&partition=a/b%3Fc%26d%23e" in links
    assert "https://example.org/assets/a/b%3Fc%26d%23e?view=checks&checkDetail=a/b%3Fc%26d%23e" in links
    assert all(address.count("?") == 1 and "#" not in address for address in links)


def test_a_recommended_setting_is_no_rival() -> None:
    """Nor does it change how rivals look; and the best LoRA is told among those drawn alike."""
    names = ["base", "lora", "LoRA in at most 12 steps", "LoRA in at most 4 steps", "zed"]
    rows = [Figure(name, "all", "clip_similarity", 0.1 * place, 0, 1, 8) for place, name in enumerate(names, start=1)]
    character, plain = (CharacterReport("luma", "t", "p", figures=tuple(part)) for part in (rows, [rows[0], rows[-1]]))
    looks = model_looks([character])
    assert list(looks) == ["base", "lora", "LoRA in at most 4 steps", "LoRA in at most 12 steps", "zed"]
    assert looks["zed"] == model_looks([plain])["zed"]
    assert [look.colour for look in looks.values()] == ["m-base", "m-lora", "m-lora", "m-lora", "m-rival0"]
    signs = {(look.colour, look.shape) for look in looks.values()}
    assert len(signs) == len(looks)
    alone = CharacterReport("luma", "t", "p", figures=tuple(rows[:-1]))
    assert "best rival" not in next(parsed(report_page(Report((alone,)))).all("table")).text
    metric = module.METRICS["clip_similarity"]
    assert module._Helpers(looks).best(character, "all", "clip_similarity", metric) == "zed"
    assert module._Helpers(looks).best(alone, "all", "clip_similarity", metric) == ""


@pytest.mark.parametrize("ui", ["javascript:alert(1)", "file:///etc", "//example.org", "127.0.0.1:3000"])
def test_a_ui_that_is_no_web_address_is_refused(ui: str) -> None:
    with pytest.raises(ValueError, match="http"):
        report_page(Report((), ui=ui))


def test_a_picture_of_another_type_is_refused() -> None:
    bad = replace(picture(), media_type='image/svg"onload="x')
    character = CharacterReport("a", "b", "c", grids=(Grid("art", (), (), (bad,)),))
    with pytest.raises(ValueError, match="picture"):
        report_page(Report((character,)))


def test_odd_file_names_can_be_written() -> None:
    report_page(Report((everything("a\udcff"),))).encode("utf-8")


def test_equal_content_gives_equal_bytes(example_report: Report) -> None:
    assert report_page(example_report) == report_page(replace(example_report))
    module._template.cache_clear()
    assert report_page(example_report) == report_page(example_report)


def test_names_that_look_alike_as_ids_stay_apart() -> None:
    names = ["a b", "a-b", "A B", "ü", "?"]
    page = parsed(report_page(Report(tuple(CharacterReport(name, "t", "p") for name in names))))
    ids = [article.attributes["id"] for article in page.all("article")]
    assert len(set(ids)) == len(names)


def test_a_model_looks_the_same_whoever_was_measured_with_it() -> None:
    one = CharacterReport(
        "a", "t", "p", figures=tuple(figure(m, "art", "m", 0.1) for m in ("lora", "x", "y", "chance"))
    )
    other = CharacterReport(
        "b", "t", "p", figures=(figure("base", "art", "m", 0.1), figure("reference", "art", "m", 0.1))
    )
    looks = model_looks([one, other])
    assert looks == model_looks([other, one])
    assert list(looks) == ["base", "lora", "x", "y", "reference", "chance"]
    signs = [(look.colour, look.shape) for look in looks.values()]
    assert len(set(signs)) == len(signs)


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.01, 0.2, "better"),
        (-0.2, -0.01, "worse"),
        (-0.01, 0.2, "unclear"),
        (0.0, 0.2, "unclear"),
        (NAN, NAN, "unclear"),
    ],
)
def test_a_gain_is_called_by_its_whole_interval(low: float, high: float, says: str) -> None:
    assert judgement(figure("lora", "art", "clip_similarity_gain", 0.1, low, high)) == says
    assert judgement(None) == "unclear"


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(0.5, ".3f", "0.500"), (-0.25, "+.2f", "−0.25"), (0.125, ".0%", "12\u202f%"), (NAN, ".3f", "–")],
)
def test_numbers(value: float, form: str, text: str) -> None:
    assert number(value, form) == text


def test_the_best_lora_is_marked_and_ties_are_not() -> None:
    means = {"base": 0.1, "lora": 0.5, "x": 0.4, "reference": 0.9}
    figures = tuple(figure(model, "art", "copies", mean) for model, mean in means.items())
    similar = tuple(figure(model, "art", "clip_similarity", 0.5) for model in means)
    page = parsed(report_page(Report((CharacterReport("a", "t", "p", figures=figures + similar),))))
    assert [cell.text for cell in page.with_class("best")] == ["40 %"], "fewer copies are better; no one is most alike"


def versus(page: Element) -> list[list[str]]:
    (table,) = page.with_class("versus")
    rows = list(next(table.all("tbody")).all("tr"))
    return [[cell.text for cell in row.children if isinstance(cell, Element)] for row in rows]


def test_the_lora_is_beside_each_model_by_style_with_the_paired_difference(page: Element) -> None:
    rows = versus(page)
    others = ["base model", "release before", "tensorart"]
    assert [row[:2] for row in rows] == [[style, other] for style in ("all", "art", "sticker") for other in others]
    assert [row[2] for row in rows[:3]] == ["better", "better", "unclear"]
    assert rows[0][3] == "+0.290 +0.250 … +0.330"


def test_a_difference_is_drawn_on_its_side_of_zero_and_fewer_copies_are_better() -> None:
    def difference(metric: str, mean: float) -> Figure:
        return figure("zed", "all", metric, mean, mean - 0.05, mean + 0.05)

    similar = tuple(figure(model, "all", "clip_similarity", 0.5) for model in ("lora", "zed"))
    differences = (
        difference("clip_similarity", -0.1),
        difference("copies", -0.1),
        difference("identity", -0.1),
        difference("diversity", -0.1),
    )
    page = parsed(report_page(Report((CharacterReport("a", "t", "p", figures=similar, differences=differences),))))
    ((style, other, called, *_),) = versus(page)
    assert (style, other, called) == ("all", "zed", "worse")
    (strip,) = next(page.with_class("versus")).with_class("strip")
    assert strip.attributes["aria-label"] == "new LoRA less zed -0.100, 95 % interval -0.150 to -0.050"
    (others,) = (table for table in page.with_class("numbers") if "new LoRA less" in table.text)
    rows = [row.text for row in next(others.all("tbody")).all("tr")]
    assert [(row.split("↓")[0].split("↑")[0].strip(), row.split()[-1]) for row in rows] == [
        ("copies", "better"),
        ("right character", "worse"),
    ], "of diversity neither more nor less is better"


def cells(table: Element) -> list[list[str]]:
    rows = next(table.all("tbody")).all("tr")
    return [[cell.text for cell in row.children if isinstance(cell, Element)] for row in rows]


def test_a_style_stands_beside_the_base_model_and_fewer_leaks_are_better(page: Element) -> None:
    (section,) = (part for part in page.all("section") if part.attributes["aria-labelledby"] == "styles")
    assert [heading.text for heading in section.all("h3")] == ["chibi"]
    assert "of bram_thistle, pip_comet" in section.text and "Epoch 2 was chosen. The earliest" in section.text
    (table,) = section.with_class("numbers")
    assert cells(table) == [
        [
            "in the style↑higher is better",
            "0.300 0.270 … 0.330",
            "0.490 0.450 … 0.530",
            "+0.190 +0.150 … +0.230 better",
            "0.580 0.520 … 0.640",
        ],
        [
            "does as told↑higher is better",
            "61 % 52 % … 70 %",
            "59 % 50 % … 68 %",
            "−2 % −8 % … +4 % unclear",
            "–",
        ],
        [
            "leaks↓lower is better",
            "0 % 0 % … 0 %",
            "12 % 2 % … 23 %",
            "+12 % +2 % … +23 % worse",
            "–",
        ],
    ]
    (image,) = section.all("img")
    assert image.attributes["src"].startswith("data:image/webp;base64,")


def test_few_steps_are_held_against_the_first_way_to_draw(page: Element) -> None:
    (section,) = (part for part in page.all("section") if part.attributes["aria-labelledby"] == "few-steps")
    (table,) = section.all("table")
    rows = {row[0]: row[1:] for row in cells(table)}
    assert rows["base, steps: 25"][:4] == ["1.0 ×", "2.00", "50", "1.000 1.000 … 1.000"]
    assert rows["LCM-LoRA, steps: 4"][:4] == ["8.0 ×", "0.25", "4", "0.610 0.550 … 0.670"]
    assert rows["base, steps: 25, another seed"] == ["–", "–", "–", "0.480 0.400 … 0.560", "–", "–"]


def test_where_there_is_no_style_there_is_no_section() -> None:
    page = parsed(report_page(Report((everything("plain"),))))
    assert not [part for part in page.all("section") if part.attributes["aria-labelledby"] in ("styles", "few-steps")]


def contrast(one: str, other: str) -> float:
    """The contrast of two colours #rrggbb as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_measured_rightly() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_signs_stand_out(scheme: str) -> None:
    style = (files("sticker_pipeline.publishing") / "templates" / "report.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", light if scheme == "light" else dark))
    for ground in ("paper", "card", "soft"):
        for ink in ("ink", "muted", "accent", "good", "bad"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for ink in ("good", "bad", "warn"):
        assert contrast(colours[ink], colours[f"{ink}-soft"]) >= 4.5
    for sign in ("base", "lora", "released", "reference", *(f"rival{place}" for place in range(module.RIVAL_LOOKS))):
        assert contrast(colours[sign], colours["card"]) >= 4.5, sign
