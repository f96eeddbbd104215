"""Report index: lines of characters, styles and profiles, linked to their pages.

It is one file without network requests, below 2 MB for 1,000 characters. Lines are JSON types, stored with the pages:
unchanged pages are not read.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from markupsafe import Markup

from sticker_pipeline.benchmark.measure import BASE, LORA, REFERENCE, RELEASED, is_rival
from sticker_pipeline.benchmark.metrics import COPIES, SIMILARITY
from sticker_pipeline.benchmark.side_by_side import verdict
from sticker_pipeline.publishing import charts
from sticker_pipeline.publishing.charts import Mark
from sticker_pipeline.publishing.report import (
    CharacterReport,
    FewSteps,
    Look,
    MetricEstimate,
    StyleReport,
    by_model,
    current_release,
    data_uri,
    estimates_by_model,
    failed_checks,
    gain_of,
    mediums_of,
    number,
    page,
    sign,
    speed,
    spoken,
    was_checked,
)
from sticker_pipeline.publishing.thumbnails import face

RIVAL = "rival"  # mark of the character's best rival
LOOKS = {
    BASE: Look("m-base", "ring", "base model"),
    LORA: Look("m-lora", "dot", "new LoRA"),
    RELEASED: Look("m-released", "square", "baseline release"),
    RIVAL: Look("m-rival0", "diamond", "best rival"),
    REFERENCE: Look("m-reference", "bar", "held-out images"),
}
WORDS = {"better": "better than base", "worse": "worse than base", "unclear": "no clear difference"}
FACES = ((72, 30), (36, 35))  # longest side, WebP quality: about 1.0 and 0.4 kB
FINE = 400  # most characters for finer faces, and intervals at all signs
MOST_FACES = 1_100  # most characters for any faces
MOST_PROBLEMS = 50  # shown; each is a sentence of about 200 characters

Interval = Sequence[float]  # mean, low, high


@dataclass(frozen=True)
class CharacterLine:
    """A character's index line.

    - `marks`: key of LOOKS -> similarity over all mediums.
    - `checks`: their number, `checked` or not.
    - `faces`: data URIs, in the order of FACES.
    - `problems`: sentences about unreadable sources.
    """

    name: str
    trigger: str
    style: str
    profile: str
    marks: Mapping[str, Interval]
    gain: Interval | None
    rival: str
    copies: float | None
    release: str
    refused: bool
    checked: bool
    failed: int
    checks: int
    faces: Sequence[str]
    problems: Sequence[str]


@dataclass(frozen=True)
class StyleLine:
    """A style's index line; `characters` is 0 if its training set has changed."""

    name: str
    characters: int
    epoch: int
    gain: Interval | None


@dataclass(frozen=True)
class FewStepsLine:
    """A profile's index line; `times` as fast is its fastest setting."""

    name: str
    fastest: str
    times: float


def character_line(character: CharacterReport) -> CharacterLine:
    medium = next(iter(mediums_of(character)), "")
    found = estimates_by_model(character, medium)
    measured = {model: own[SIMILARITY] for model, own in found.items() if SIMILARITY in own}
    rival = max(filter(is_rival, measured), key=lambda model: measured[model].mean, default="")
    marks = {key: measured[model] for key in LOOKS if (model := rival if key == RIVAL else key) in measured}
    copies, release = found.get(LORA, {}).get(COPIES), current_release(character)
    return CharacterLine(
        name=character.name,
        trigger=character.trigger,
        style=character.style,
        profile=character.profile,
        marks={key: _interval(estimate) for key, estimate in marks.items()},
        gain=_interval(gain) if (gain := gain_of(character, medium)) else None,
        rival=rival,
        copies=copies.mean if copies else None,
        release=release.name if release else "",
        refused=any(not release.accepted for release in character.releases),
        checked=was_checked(character),
        failed=failed_checks(character),
        checks=len(character.checks),
        faces=_faces(character),
        problems=[f"{character.name}: {problem}" for problem in character.problems],
    )


def style_line(style: StyleReport) -> StyleLine:
    gain = by_model(style.differences).get(LORA, {}).get("style_similarity")
    return StyleLine(style.name, len(style.characters), style.choice.epoch, _interval(gain) if gain else None)


def few_steps_line(way: FewSteps) -> FewStepsLine:
    times = speed(way.estimates)
    fastest = max(times, key=lambda name: times[name], default="")
    return FewStepsLine(way.profile, fastest, times.get(fastest, math.nan))


def index_page(
    lines: Sequence[CharacterLine],
    styles: Sequence[StyleLine] = (),
    profiles: Sequence[FewStepsLine] = (),
    problems: Sequence[str] = (),
    toys: Mapping[str, str] | None = None,
) -> str:
    """Return the index as HTML text.

    `problems`: sentences about invalid characters. `toys`: profile -> its note (`core/profile.py`), if it has one.
    """
    said = [*problems, *(problem for line in lines for problem in line.problems)]
    shown = [key for key in LOOKS if any(key in line.marks for line in lines)]
    low, high = charts.extent([mark for line in lines for mark in _marks(line)])
    margin = 0.02 * (high - low) or 0.05
    return page(
        "index.html.jinja",
        "index.js",
        "",
        lines=lines,
        styles=styles,
        profiles=profiles,
        toys=toys or {},
        problems=said[:MOST_PROBLEMS],
        unsaid=max(0, len(said) - MOST_PROBLEMS),
        looks=[LOOKS[key] for key in shown],
        has_rivals=RIVAL in shown,
        low=low,
        high=high,
        fine=len(lines) <= FINE,
        strip=lambda line: _strip(line, low - margin, high + margin, fine=len(lines) <= FINE),
        face=lambda line: _face(line, len(lines)),
        address=address,
        says=lambda line: verdict(line.gain[1], line.gain[2]),
        sign=sign,
        number=number,
        words=WORDS,
        LORA=LORA,
        RIVAL=RIVAL,
    )


def page_file(name: str, kind: str = "characters") -> str:
    """Return a page's path in the report."""
    return f"{kind}/{name}.html"


def address(name: str, kind: str = "characters") -> str:
    """Return a page's relative, percent-encoded address."""
    return f"{kind}/{quote(name, safe='', errors='backslashreplace')}.html"


def _interval(estimate: MetricEstimate) -> list[float]:
    return [estimate.mean, estimate.low, estimate.high]


def _marks(line: CharacterLine) -> list[Mark]:
    looks = [(LOOKS[key], line.marks[key]) for key in LOOKS if key in line.marks]
    return [Mark(look.title, look.colour, look.shape, *found) for look, found in looks]


def _strip(line: CharacterLine, low: float, high: float, *, fine: bool) -> Markup:
    marks = _marks(line)
    return charts.strip(marks, low, high, label=spoken(marks)) if fine else charts.bare_strip(marks, low, high)


def _faces(character: CharacterReport) -> list[str]:
    holdout = next((image for grid in character.grids for image in grid.references), None)
    if holdout is None:
        return []
    small = (face(holdout.data, side, quality) for side, quality in FACES)
    return [data_uri(replace(holdout, data=data, media_type="image/webp")) for data in small]


def _face(line: CharacterLine, count: int) -> Markup:
    """Return a character's face: finer if few, none if too many."""
    if count > MOST_FACES:
        return Markup("")
    if not line.faces:
        return Markup('<i class="noface" aria-hidden="true">{0}</i>').format(line.name[:1])
    kind = '<img src="{0}" width="36" height="36" alt="">'
    return Markup(kind).format(line.faces[0 if count <= FINE else 1])
