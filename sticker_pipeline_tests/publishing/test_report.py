"""Report pages: no network requests, people's text escaped, missing parts named with a remedy."""

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

from sticker_pipeline.core.profile import TOY
from sticker_pipeline.publishing import report as module
from sticker_pipeline.publishing.charts import Curve
from sticker_pipeline.publishing.report import (
    CharacterReport,
    Check,
    Choice,
    DropReason,
    FewSteps,
    Grid,
    GridRow,
    InlineImage,
    Made,
    MetricEstimate,
    Release,
    SourceWeight,
    StyleReport,
    TagCount,
    Tags,
    Training,
    Weights,
    character_page,
    few_steps_page,
    judgement,
    model_looks,
    number,
    style_page,
)
from sticker_pipeline.publishing.report_index import character_line, few_steps_line, index_page, style_line
from sticker_pipeline_tests.publishing.conftest import UI
from sticker_pipeline_tests.publishing.html_tree import Element, parsed

NAN = math.nan
NOTHING = "The trigger adds nothing measurable."
ALONE = "The trigger adds nothing measurable: the LoRA alone makes the character."
KINDS = ("characters", "profiles", "styles")
HOSTILE = "\"'><script>hacked=1</script><img src=x onerror=hacked=1>&amp;{{7*7}}{%x%}]]>--></style></title>\u202e${x}"


PAGES = [
    "report.html",
    *(f"characters/{name}.html" for name in ("bram_thistle", "pip_comet", "velvet_moth")),
    "profiles/embedded.html",
    "styles/chibi.html",
]


@pytest.fixture(scope="module", params=PAGES)
def page(example_folder: Path, request: pytest.FixtureRequest) -> Element:
    """Each page of the report, one after the other."""
    return parsed((example_folder / request.param).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def index(example_index: Path) -> Element:
    return parsed(example_index.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def characters(example_folder: Path) -> dict[str, Element]:
    """The page of each character."""
    return {path.stem: parsed(path.read_text(encoding="utf-8")) for path in (example_folder / "characters").iterdir()}


def test_every_page_is_tested(example_folder: Path) -> None:
    assert sorted(path.relative_to(example_folder).as_posix() for path in example_folder.rglob("*.html")) == sorted(
        PAGES
    )


def estimate(model: str, style: str, metric: str, mean: float, low: float = NAN, high: float = NAN) -> MetricEstimate:
    return MetricEstimate(model, style, metric, mean, low, high, 8)


def image(alt: str = "an image") -> InlineImage:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "WEBP")
    return InlineImage(buffer.getvalue(), "image/webp", 4, 4, alt)


def everything(text: str) -> CharacterReport:
    """A character of which every text is `text`."""
    curve = (Curve(text, "m-lora", (1.0, 2.0), (1.0, 2.0)),)
    return CharacterReport(
        name=text,
        trigger=text,
        profile=text,
        style=text,
        problems=(text,),
        estimates=tuple(
            estimate(model, text, metric, 0.5, 0.4, 0.6)
            for model in ("base", "lora", text)
            for metric in ("clip_similarity", "clip_similarity_gain", text)
        ),
        differences=(
            *(estimate(text, style, "clip_similarity", 0.1, 0.05, 0.2) for style in (text, "all")),
            estimate(text, "all", "copies", 0.1),
        ),
        grids=(Grid(text, (text,), (GridRow("lora", (image(text),)), GridRow(text, (None,))), (image(text),)),),
        training=Training(text, curve, curve, curve),
        choice=Choice(1, text, curve, ((2, text),)),
        tags=Tags(2.0, 1.0, (TagCount(text, 2, 1),), (DropReason(text, 1, text),), (text,)),
        weights=Weights(1.0, (SourceWeight(text, text, 1, 1.0),)),
        checks=(Check(text, text, False, text), Check(text, text, None, text), Check(text, text, True, "", True)),
        lineage=(Made(text, text, text, ((text, text),), (text,)), Made(text, "", "", (), ())),
        releases=(Release(text, True, True, text, 1, text), Release(text, False, False, text, None, text)),
    )


def every_style(text: str) -> StyleReport:
    """A style of which every text is `text`."""
    curve = (Curve(text, "m-lora", (1.0, 2.0), (1.0, 2.0)),)
    estimates = tuple(estimate(model, text, "leaks", 0.5, 0.4, 0.6) for model in ("base", "lora", text))
    differences = (estimate("lora", text, "leaks", 0.1, 0.05, 0.2),)
    return StyleReport(text, (text,), Choice(1, text, curve, ((2, text),)), estimates, differences, image(text))


def every_way(text: str) -> FewSteps:
    """Ways to draw of which every text is `text`."""
    return FewSteps(text, 2.0, tuple(estimate(text, text, metric, 0.5) for metric in ("seconds", "likeness", text)))


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
            pages = ("characters/", "profiles/", "styles/", "../report.html")
            assert address.startswith(("#", f"{UI}/assets/", *pages)), address
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
    shas = [
        base64.b64encode(hashlib.sha256("".join(map(str, script.children)).encode()).digest()).decode()
        for script in page.all("script")
    ]
    assert rules["default-src"] == ["'none'"]
    assert rules["img-src"] == ["data:"]
    assert rules["script-src"] == ([f"'sha256-{sha}'" for sha in shas] or ["'none'"])
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


def test_images_have_a_size_and_words(page: Element) -> None:
    for image in page.all("img"):
        assert image.attributes["width"].isdigit()
        assert image.attributes["height"].isdigit()
        assert "alt" in image.attributes
        data = base64.b64decode(image.attributes["src"].partition(",")[2], validate=True)
        assert Image.open(io.BytesIO(data)).format == "WEBP"
    silent = [image for image in page.all("img") if not image.attributes["alt"]]
    assert silent == [image for link in page.all("a") for image in link.all("img")], "beside the same name in words"
    for chart in page.all("svg"):
        assert chart.attributes.get("aria-hidden") == "true" or (
            chart.attributes["role"] == "img" and chart.attributes["aria-label"]
        )


def test_images_are_where_there_are_any(index: Element, characters: dict[str, Element]) -> None:
    assert [len(list(row.all("img"))) for row in next(index.all("tbody")).all("tr")] == [1, 0, 0]
    assert {name: bool(list(page.all("img"))) for name, page in characters.items()} == {
        "bram_thistle": True, "pip_comet": False, "velvet_moth": False
    }  # fmt: skip
    assert len(list(characters["bram_thistle"].all("img"))) > 40


def test_tables_have_headers_for_columns_and_rows(page: Element) -> None:
    for table in page.all("table"):
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
    assert all(nav.attributes["aria-label"] for nav in page.all("nav"))
    first = next(next(page.all("body")).all("a"))
    assert (first.attributes["class"], first.attributes["href"]) == ("skip", "#main")
    levels = [int(element.tag[1]) for element in page.all() if re.fullmatch(r"h[1-6]", element.tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for region in page.all():
        if region.attributes.get("role") == "region":
            assert region.attributes["tabindex"] == "0", "what scrolls can be reached by keyboard"
            assert region.attributes.get("aria-label") or region.attributes.get("aria-labelledby")


def test_nothing_is_offered_that_needs_javascript(index: Element) -> None:
    (finder,) = index.with_class("finder")
    assert "hidden" in finder.attributes, "without JavaScript nothing is offered that does not work"


def board(page: Element) -> dict[str, dict[str, str]]:
    """Character -> column -> text, of the leaderboard."""
    (table,) = (table for table in page.all("table") if table.attributes.get("id") == "board")
    columns = [column.text for column in table.all("th") if column.attributes["scope"] == "col"]
    names = [name.text for row in next(table.all("tbody")).all("tr") for name in row.all("b") if name.attributes == {}]
    return {name: dict(zip(columns, row, strict=True)) for name, row in zip(names, cells(table), strict=True)}


def test_the_index_says_the_figures(index: Element) -> None:
    rows = board(index)
    assert list(rows) == ["bram_thistle", "pip_comet", "velvet_moth"]
    assert "not measured yet" in rows["velvet_moth"].values()
    assert {name: (row["style"], row["profile"]) for name, row in rows.items()} == dict.fromkeys(
        rows, ("chibi", "embedded")
    )
    assert {name: row["failed checks"] for name, row in rows.items()} == {
        "bram_thistle": "passed",
        "pip_comet": "1 of 3 failed",
        "velvet_moth": "not checked",
    }
    assert {name: row["release"] for name, row in rows.items()} == {
        "bram_thistle": "release 2",
        "pip_comet": "none",
        "velvet_moth": "none",
    }
    assert rows["bram_thistle"]["gain"].endswith(" better than base")
    assert rows["pip_comet"]["gain"] == rows["pip_comet"]["new LoRA"] == "–"


def test_what_is_missing_says_what_to_do(index: Element, characters: dict[str, Element]) -> None:
    todo = {name: [note.text for note in page.with_class("todo")] for name, page in characters.items()}
    assert todo["bram_thistle"] == []
    for asset in ("samples", "benchmark", "lora", "released_lora"):
        assert any(f"Materialize {asset} of pip_comet." in note for note in todo["pip_comet"]), asset
    for asset in ("samples", "benchmark", "lora", "curated_tags", "frame_weights", "released_lora"):
        assert any(f"Materialize {asset} of velvet_moth." in note for note in todo["velvet_moth"]), asset
    assert any("No check has run" in note for note in todo["velvet_moth"])
    (problem,) = index.with_class("problem")
    assert "character.yaml is missing" in problem.text


def test_checks_have_a_verdict_in_words(characters: dict[str, Element]) -> None:
    assert {name: [verdict.text for verdict in page.with_class("verdict")] for name, page in characters.items()} == {
        "bram_thistle": [*["✓ passed"] * 5, "– not checked", *["✓ passed"] * 3],
        "pip_comet": ["✕ failed", "✓ passed", "✓ passed"],
        "velvet_moth": [],
    }


def test_pages_of_a_toy_say_so_at_their_head(page: Element) -> None:
    """All characters of the example are made with the embedded models; another profile's page has no banner."""
    (banner,) = page.with_class("toy")
    assert banner.text == (f"Profile embedded: {TOY}" if list(page.with_class("board")) else TOY)
    assert "toy" not in character_page(CharacterReport("kai", "t", "sd15")).partition("</style>")[2]
    assert "toy" not in index_page([]).partition("</style>")[2]


def test_a_check_that_nothing_decided_is_not_called_failed() -> None:
    reason = "art: diversity could not be measured, as fewer than two of its sources are held out."
    check = Check("benchmark", "not_collapsed", False, reason, blocking=True, unmeasured=True)
    page = parsed(character_page(CharacterReport("kai", "t", "p", checks=(check, replace(check, verdict=True)))))
    verdicts = [(one.attributes["class"], one.text) for one in page.with_class("verdict")]
    assert verdicts == [("verdict failed", "– not measured"), ("verdict unknown", "– not measured")]


@pytest.mark.parametrize(("low", "gain", "said"), [(0.01, 0.5, ""), (-0.1, 0.5, ALONE), (-0.1, 0.0, NOTHING)])
def test_a_trigger_that_adds_nothing_is_said_beside_the_metrics(low: float, gain: float, said: str) -> None:
    rows = (
        estimate("lora", "all", "clip_similarity", 0.6, 0.5, 0.7),
        estimate("lora", "all", "trigger_effect", 0.05, low, 0.2),
        estimate("lora", "all", "clip_similarity_gain", 0.6, gain, 0.7),
        estimate("lora", "art", "trigger_effect", -0.5, -0.6, -0.4),
    )
    page = character_page(CharacterReport("kai", "t", "p", estimates=rows))
    assert (f'<p class="reason">{said}</p>' in page) if said else ("adds nothing" not in page)


def test_an_index_without_characters_says_how_to_begin() -> None:
    page = parsed(index_page([]))
    (note,) = page.with_class("todo")
    assert "character.yaml" in note.text


def hostile_pages(text: str) -> list[str]:
    """Every kind of page, of which every text is `text`."""
    character, style, way = everything(text), every_style(text), every_way(text)
    lines = [character_line(character)], [style_line(style)], [few_steps_line(way)]
    return [index_page(*lines, problems=[text]), character_page(character), style_page(style), few_steps_page(way)]


def test_what_people_write_is_text() -> None:
    for hostile, plain in zip(hostile_pages(HOSTILE), hostile_pages("plain"), strict=True):
        page, other = parsed(hostile), parsed(plain)
        assert [element.tag for element in page.all()] == [element.tag for element in other.all()]
        assert [sorted(element.attributes) for element in page.all()] == [
            sorted(element.attributes) for element in other.all()
        ]
        assert re.sub(r"\s+", " ", HOSTILE) in next(page.all("main")).text
        for _, address in addresses(page):
            assert address.startswith(("#", "data:", "../report.html", *(f"{kind}/" for kind in KINDS)))
            assert not re.search(r"[^!-~]|[\"'<>]", address), "percent-encoded"


def test_rivals_have_a_column_only_where_there_are_any() -> None:
    ours = [
        MetricEstimate(model, "all", "clip_similarity", 0.5, 0.4, 0.6, 8) for model in ("base", "lora", "reference")
    ]
    theirs = [
        MetricEstimate(model, "all", "clip_similarity", mean, 0.2, 0.4, 8) for model, mean in (("a", 0.2), ("b", 0.3))
    ]
    for estimates, count in ((ours, 9), ([*ours, *theirs], 10)):
        character = CharacterReport("luma", "skv_luma", "embedded", estimates=tuple(estimates))
        (row,) = board(parsed(index_page([character_line(character)]))).values()
        assert len(row) == count
        assert row.get("best rival") == ("0.300 b" if count == 10 else None)


def test_the_address_of_an_asset_is_one_segment_and_one_value() -> None:
    page = parsed(character_page(everything("a/b?c&d#e"), "https://example.org/"))
    links = {address for element, address in addresses(page) if element.tag == "a" and address[0] not in "#."}
    assert "https://example.org/assets/benchmark?view=partitions&partition=a/b%3Fc%26d%23e" in links
    assert "https://example.org/assets/a/b%3Fc%26d%23e?view=checks&checkDetail=a/b%3Fc%26d%23e" in links
    assert all(address.count("?") == 1 and "#" not in address for address in links)


def test_a_recommended_setting_is_no_rival() -> None:
    """Nor does it change how rivals look; and the best LoRA is told among those drawn alike."""
    names = ["base", "lora", "LoRA in at most 12 steps", "LoRA in at most 4 steps", "zed"]
    rows = [
        MetricEstimate(name, "all", "clip_similarity", 0.1 * place, 0, 1, 8)
        for place, name in enumerate(names, start=1)
    ]
    character, plain = (
        CharacterReport("luma", "t", "p", estimates=tuple(part)) for part in (rows, [rows[0], rows[-1]])
    )
    looks = model_looks(character)
    assert list(looks) == ["base", "lora", "LoRA in at most 4 steps", "LoRA in at most 12 steps", "zed"]
    assert looks["zed"] == model_looks(plain)["zed"]
    assert [look.colour for look in looks.values()] == ["m-base", "m-lora", "m-lora", "m-lora", "m-rival0"]
    signs = {(look.colour, look.shape) for look in looks.values()}
    assert len(signs) == len(looks)
    alone = CharacterReport("luma", "t", "p", estimates=tuple(rows[:-1]))
    assert character_line(alone).rival == "" and character_line(character).rival == "zed"
    metric = module.METRICS["clip_similarity"]
    assert module.best_lora(character, "all", "clip_similarity", metric) == "zed"
    assert module.best_lora(alone, "all", "clip_similarity", metric) == ""


@pytest.mark.parametrize("ui", ["javascript:alert(1)", "file:///etc", "//example.org", "127.0.0.1:3000"])
def test_a_ui_that_is_no_web_address_is_refused(ui: str) -> None:
    with pytest.raises(ValueError, match="http"):
        character_page(CharacterReport("a", "b", "c"), ui)


def test_an_image_of_another_type_is_refused() -> None:
    bad = replace(image(), media_type='image/svg"onload="x')
    character = CharacterReport("a", "b", "c", grids=(Grid("art", (), (), (bad,)),))
    with pytest.raises(ValueError, match="image"):
        character_page(character)


def test_odd_file_names_can_be_written() -> None:
    for page in hostile_pages("a\udcff"):
        page.encode("utf-8")


def test_equal_content_gives_equal_bytes(example_characters: dict[str, CharacterReport]) -> None:
    character = example_characters["bram_thistle"]
    before = character_page(character)
    module._environment.cache_clear()
    assert character_page(replace(character)) == before


def test_a_model_looks_the_same_in_whatever_order_it_was_measured() -> None:
    models = ("lora", "x", "y", "chance", "base", "reference")
    one, other = (
        CharacterReport("a", "t", "p", estimates=tuple(estimate(model, "art", "m", 0.1) for model in part))
        for part in (models, models[::-1])
    )
    looks = model_looks(one)
    assert looks == model_looks(other)
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
    assert judgement(estimate("lora", "art", "clip_similarity_gain", 0.1, low, high)) == says
    assert judgement(None) == "unclear"


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(0.5, ".3f", "0.500"), (-0.25, "+.2f", "−0.25"), (0.125, ".0%", "12\u202f%"), (NAN, ".3f", "–")],
)
def test_numbers(value: float, form: str, text: str) -> None:
    assert number(value, form) == text


def test_the_best_lora_is_marked_and_ties_are_not() -> None:
    means = {"base": 0.1, "lora": 0.5, "x": 0.4, "reference": 0.9}
    estimates = tuple(estimate(model, "art", "copies", mean) for model, mean in means.items())
    similar = tuple(estimate(model, "art", "clip_similarity", 0.5) for model in means)
    page = parsed(character_page(CharacterReport("a", "t", "p", estimates=estimates + similar)))
    assert [cell.text for cell in page.with_class("best")] == ["40 %"], "fewer copies are better; no one is most alike"


def versus(page: Element) -> list[list[str]]:
    (table,) = page.with_class("versus")
    rows = list(next(table.all("tbody")).all("tr"))
    return [[cell.text for cell in row.children if isinstance(cell, Element)] for row in rows]


def test_the_lora_is_beside_each_model_by_style_with_the_paired_difference(characters: dict[str, Element]) -> None:
    rows = versus(characters["bram_thistle"])
    others = ["base model", "baseline release", "tensorart"]
    assert [row[:2] for row in rows] == [[style, other] for style in ("all", "art", "sticker") for other in others]
    assert [row[2] for row in rows[:3]] == ["better", "better", "unclear"]
    assert rows[0][3] == "+0.290 +0.250 … +0.330"


def test_a_difference_is_drawn_on_its_side_of_zero_and_fewer_copies_are_better() -> None:
    def difference(metric: str, mean: float) -> MetricEstimate:
        return estimate("zed", "all", metric, mean, mean - 0.05, mean + 0.05)

    similar = tuple(estimate(model, "all", "clip_similarity", 0.5) for model in ("lora", "zed"))
    differences = (
        difference("clip_similarity", -0.1),
        difference("copies", -0.1),
        difference("identity", -0.1),
        difference("diversity", -0.1),
    )
    page = parsed(character_page(CharacterReport("a", "t", "p", estimates=similar, differences=differences)))
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


def test_a_style_stands_beside_the_base_model_and_fewer_leaks_are_better(example_folder: Path) -> None:
    section = parsed((example_folder / "styles" / "chibi.html").read_text(encoding="utf-8"))
    assert [heading.text for heading in section.all("h1")] == ["Style chibi"]
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
            "prompt fidelity↑higher is better",
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


def test_few_steps_are_held_against_the_first_way_to_draw(example_folder: Path) -> None:
    page = parsed((example_folder / "profiles" / "embedded.html").read_text(encoding="utf-8"))
    (table,) = page.all("table")
    rows = {row[0]: row[1:] for row in cells(table)}
    assert rows["base, steps: 25"][:4] == ["1.0 ×", "2.00", "50", "1.000 1.000 … 1.000"]
    assert rows["LCM-LoRA, steps: 4"][:4] == ["8.0 ×", "0.25", "4", "0.610 0.550 … 0.670"]
    assert rows["base, steps: 25, another seed"] == ["–", "–", "–", "0.480 0.400 … 0.560", "–", "–"]


def section(page: Element, name: str) -> list[list[str]]:
    (found,) = (part for part in page.all("section") if part.attributes["aria-labelledby"] == name)
    return cells(next(found.all("table")))


def test_the_index_has_a_line_for_each_style_and_profile(index: Element) -> None:
    assert section(index, "styles") == [["chibi", "2", "2", "+0.190 +0.150 … +0.230 better"]]
    assert section(index, "few-steps") == [["embedded", "LCM-LoRA, steps: 4", "8.0 ×"]]


def test_where_there_is_no_style_there_is_no_section() -> None:
    page = parsed(index_page([character_line(everything("plain"))]))
    assert [part.attributes["aria-labelledby"] for part in page.all("section")] == ["leaderboard"]


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
