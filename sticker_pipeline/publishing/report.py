"""Pages of the report: self-contained HTML about a character, style or profile.

Equal values give equal bytes. `publishing/contents.py` reads the values, `publishing/report_index.py` has the index.
The Content-Security-Policy forbids network requests. JavaScript only searches, sorts and enlarges.
"""

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import jinja2
from markupsafe import Markup

from sticker_pipeline.benchmark.few_steps import METRICS as FEW_STEPS_METRICS
from sticker_pipeline.benchmark.measure import (
    BASE,
    CHANCE,
    LORA,
    NO_MODELS,
    OVERALL,
    REFERENCE,
    RELEASED,
    by_name,
    is_recommended,
    is_rival,
)
from sticker_pipeline.benchmark.metrics import GAIN, METRICS, SIMILARITY, Metric, described, signed, trigger_note
from sticker_pipeline.benchmark.side_by_side import verdict
from sticker_pipeline.benchmark.style_choice import METRICS as STYLE_METRICS
from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.publishing import charts
from sticker_pipeline.publishing.charts import Curve, Mark

RIVAL_LOOKS = 5  # colours of rivals, reused in turn
RECOMMENDED_SHAPES = ("ring", "diamond", "triangle", "square")  # of recommended settings, in the new LoRA's colour


@dataclass(frozen=True)
class MetricEstimate:
    """A mean with its 95 % interval (NaN: none) over `n` units."""

    model: str
    medium: str
    metric: str
    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class InlineImage:
    """An encoded image with its size in pixels and alternative text.

    `media_type`: such as image/webp.
    """

    data: bytes
    media_type: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class GridRow:
    model: str
    images: tuple[InlineImage | None, ...]


@dataclass(frozen=True)
class Grid:
    """Images of one medium.

    `rows`: models over the same `prompts`. `references`: held-out images.
    """

    medium: str
    prompts: tuple[str, ...]
    rows: tuple[GridRow, ...]
    references: tuple[InlineImage, ...]


@dataclass(frozen=True)
class Training:
    """Charts of a training, one per group of curves (empty: not logged)."""

    summary: str
    loss: tuple[Curve, ...]
    fixed: tuple[Curve, ...]
    learning_rate: tuple[Curve, ...]


@dataclass(frozen=True)
class Choice:
    """The chosen epoch, the reason, and the deciding curves.

    `others`: epochs with the reasons against them.
    """

    epoch: int
    reason: str
    curves: tuple[Curve, ...]
    others: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class TagCount:
    tag: str
    before: int
    after: int


@dataclass(frozen=True)
class DropReason:
    reason: str
    frames: int
    examples: str


@dataclass(frozen=True)
class Tags:
    """Tags before and after curation; `counts`: frames per tag, most frequent first."""

    per_image_before: float
    per_image_after: float
    counts: tuple[TagCount, ...]
    dropped: tuple[DropReason, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class SourceWeight:
    group: str
    source: str
    frames: int
    share: float


@dataclass(frozen=True)
class Weights:
    """Sampling shares of `sources`, largest first.

    `effective`: Kish's effective sample size, in images.
    """

    effective: float
    sources: tuple[SourceWeight, ...]


@dataclass(frozen=True)
class Check:
    """A check's result; `verdict` None: not checked.

    `summary`: finding and remedy. `unmeasured`: no measured value decided it.
    """

    asset: str
    name: str
    verdict: bool | None
    summary: str
    blocking: bool = False
    unmeasured: bool = False


@dataclass(frozen=True)
class Made:
    """An artifact in the lineage: its and its inputs' data versions.

    `outdated`: inputs changed since. `version` is empty if missing.
    """

    asset: str
    version: str
    code_version: str
    inputs: tuple[tuple[str, str], ...]
    outdated: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """An entry of the release history, accepted or refused."""

    name: str
    accepted: bool
    current: bool
    reason: str
    epoch: int | None
    version: str


@dataclass(frozen=True)
class CharacterReport:
    """The report of one character; None or empty: missing.

    `differences` are paired: new LoRA minus `model`. `problems`: sentences about unreadable sources. `toy`: the note of
    `core/profile.py`.
    """

    name: str
    trigger: str
    profile: str
    style: str = ""
    estimates: tuple[MetricEstimate, ...] = ()
    differences: tuple[MetricEstimate, ...] = ()
    grids: tuple[Grid, ...] = ()
    training: Training | None = None
    choice: Choice | None = None
    tags: Tags | None = None
    weights: Weights | None = None
    checks: tuple[Check, ...] = ()
    lineage: tuple[Made, ...] = ()
    releases: tuple[Release, ...] = ()
    problems: tuple[str, ...] = ()
    toy: str = ""


@dataclass(frozen=True)
class StyleReport:
    """The report of a style's LoRA.

    `estimates` and `differences` (paired with the base model) are of invented characters. `image`: base model and LoRA
    for equal prompts. `characters` is empty if the training set has changed.
    """

    name: str
    characters: tuple[str, ...]
    choice: Choice
    estimates: tuple[MetricEstimate, ...]
    differences: tuple[MetricEstimate, ...]
    image: InlineImage


@dataclass(frozen=True)
class FewSteps:
    """Few-step sampling with a profile's LCM-LoRA.

    `estimates` are per sampling setting, the reference first. `guidance_scale` is distilled into the LoRA.
    """

    profile: str
    guidance_scale: float
    estimates: tuple[MetricEstimate, ...]


@dataclass(frozen=True)
class Look:
    """A model's CSS class, sign and title on the whole page."""

    colour: str
    shape: str
    title: str


def character_page(character: CharacterReport, ui: str = "") -> str:
    """Return a character's page; raises ValueError as `page` does."""
    looks = model_looks(character)
    return page(
        "character.html.jinja",
        "character.js",
        ui,
        character=character,
        toy=character.toy,
        looks=looks,
        page=_helpers(looks),
        metrics=METRICS,
        REFERENCE=REFERENCE,
        OVERALL=OVERALL,
    )


def style_page(style: StyleReport, ui: str = "", toy: str = "") -> str:
    """Return a style's page; `toy` as in CharacterReport. Raises ValueError as `page` does."""
    values = {"BASE": BASE, "LORA": LORA, "REFERENCE": REFERENCE, "toy": toy}
    return page("style.html.jinja", "", ui, style=style, metrics=STYLE_METRICS, page=_helpers({}), **values)


def few_steps_page(way: FewSteps, ui: str = "", toy: str = "") -> str:
    """Return a profile's page about few-step sampling.

    `toy` as in CharacterReport. Raises ValueError as `page` does.
    """
    return page("few_steps.html.jinja", "", ui, way=way, toy=toy, metrics=FEW_STEPS_METRICS, page=_helpers({}))


def page(template: str, script: str, ui: str, **values: Any) -> str:
    """Return a page as HTML text, to be written as UTF-8.

    `script`: empty for none. Text from people's files (names, tags, prompts) is escaped, also text that UTF-8 cannot
    encode, as in odd file names. `ui`: the Dagster UI's address, such as http://127.0.0.1:3000; empty for no links.
    Raises ValueError for a `ui` that is no http address, and for a media type that is no image's.
    """
    if ui and not re.match(r"https?://", ui):
        raise ValueError(f"{ui!r} is not the address of a UI: it must begin with http:// or https://")
    code = template_text(script) if script else ""
    text = _environment().get_template(template).render(
        ui=ui.rstrip("/"),
        css=Markup(template_text("report.css")),
        script=Markup(code),
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        **values,
    )  # fmt: skip
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def model_looks(character: CharacterReport) -> dict[str, Look]:
    """Return each model's look, in legend order.

    A rival's depends only on the rivals' names.
    """
    named = {estimate.model for estimate in character.estimates}
    named |= {row.model for grid in character.grids for row in grid.rows}
    looks = {
        BASE: Look("m-base", "ring", "base model"),
        LORA: Look("m-lora", "dot", "new LoRA"),
        RELEASED: Look("m-released", "square", "baseline release"),
    }
    for number, name in enumerate(sorted(filter(is_recommended, named), key=by_name)):
        looks[name] = Look("m-lora", RECOMMENDED_SHAPES[number % len(RECOMMENDED_SHAPES)], name)
    shapes = ("diamond", "triangle")
    for number, name in enumerate(sorted(filter(is_rival, named))):
        looks[name] = Look(f"m-rival{number % RIVAL_LOOKS}", shapes[number % len(shapes)], name)
    looks[REFERENCE] = Look("m-reference", "bar", "held-out images")
    looks[CHANCE] = Look("m-base", "bar", "by chance")
    return {name: look for name, look in looks.items() if name in named}


def mediums_of(character: CharacterReport) -> tuple[str, ...]:
    """Return the mediums with a similarity: all together first, then by name."""
    found = {estimate.medium for estimate in character.estimates if estimate.metric == SIMILARITY}
    return tuple(sorted(found, key=lambda medium: (medium != OVERALL, medium)))


def similarity_marks(character: CharacterReport, medium: str, looks: Mapping[str, Look]) -> tuple[Mark, ...]:
    found = estimates_by_model(character, medium)
    return tuple(
        Mark(looks[model].title, looks[model].colour, looks[model].shape, own.mean, own.low, own.high)
        for model in looks
        if model in found and (own := found[model].get(SIMILARITY)) is not None
    )


def estimates_by_model(character: CharacterReport, medium: str) -> dict[str, dict[str, MetricEstimate]]:
    """Return model -> metric -> estimate of one medium."""
    return by_model(estimate for estimate in character.estimates if estimate.medium == medium)


def by_model(estimates: Iterable[MetricEstimate]) -> dict[str, dict[str, MetricEstimate]]:
    """Return model -> metric -> estimate."""
    found: dict[str, dict[str, MetricEstimate]] = {}
    for estimate in estimates:
        found.setdefault(estimate.model, {})[estimate.metric] = estimate
    return found


def spoken(marks: Iterable[Mark]) -> str:
    """Return the marks as a sentence: the chart's alternative text."""
    return "; ".join(f"{mark.name} {mark.mean:.3f}{_spoken_interval(mark)}" for mark in marks)


def _spoken_interval(mark: Mark) -> str:
    return f", 95 % interval {mark.low:.3f} to {mark.high:.3f}" if math.isfinite(mark.low) else ""


def sign(look: Look) -> Markup:
    """Return a model's sign for legends."""
    svg = '<svg class="key {0}" viewBox="0 0 14 14" aria-hidden="true">{1}</svg>'
    return Markup(svg).format(look.colour, charts.marker(look.shape, 7, 7))


def judgement(gain: MetricEstimate | None, better: str = "higher") -> str:
    """Return a paired difference's verdict: better, worse or unclear (also for None).

    `better`: higher or lower.
    """
    if gain is None:
        return "unclear"
    return verdict(gain.low, gain.high) if better == "higher" else verdict(-gain.high, -gain.low)


def gain_of(character: CharacterReport, medium: str) -> MetricEstimate | None:
    """Return the new LoRA's paired gain over the base model."""
    return estimates_by_model(character, medium).get(LORA, {}).get(GAIN)


def was_checked(character: CharacterReport) -> bool:
    return any(check.verdict is not None for check in character.checks)


def failed_checks(character: CharacterReport) -> int:
    return sum(check.verdict is False for check in character.checks)


def current_release(character: CharacterReport) -> Release | None:
    return next((release for release in character.releases if release.current), None)


def data_uri(image: InlineImage) -> str:
    """Return the image as a data URI; raise ValueError for other types."""
    if not re.fullmatch(r"image/[a-z+]+", image.media_type):
        raise ValueError(f"{image.media_type!r} is not the type of an image")
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"


def speed(estimates: Sequence[MetricEstimate]) -> dict[str, float]:
    """Return sampling setting -> speed relative to the first."""
    seconds = {estimate.model: estimate.mean for estimate in estimates if estimate.metric == "seconds"}
    first = next(iter(seconds.values()), math.nan)
    return {way: first / taken for way, taken in seconds.items()}


def number(value: float, form: str = ".3f") -> str:
    """Format `value`; return a dash if it is not finite.

    The minus sign is U+2212; a narrow no-break space is before %.
    """
    return format(value, form).replace("-", "−").replace("%", "\u202f%") if math.isfinite(value) else "–"


@dataclass(frozen=True)
class Versus:
    """The new LoRA beside one model in one medium.

    `theirs`: the other's similarity; `difference`: ours minus theirs.
    """

    medium: str
    model: str
    theirs: MetricEstimate | None
    difference: MetricEstimate
    strip: Markup


def _helpers(looks: Mapping[str, Look]) -> dict[str, Callable[..., Any]]:
    return {
        "best": best_lora,
        "by_model": by_model,
        "cloud": tag_cloud,
        "columns": measured_columns,
        "compared": partial(compared_models, looks=looks),
        "current": current_release,
        "curves": curve_chart,
        "data_uri": data_uri,
        "failed": failed_checks,
        "failed_first": failed_first,
        "estimates": estimates_by_model,
        "gain": gain_of,
        "judgement": judgement,
        "mediums": mediums_of,
        "metrics": metrics_of,
        "number": number,
        "other_differences": other_differences,
        "sign": lambda model: sign(looks[model]),
        "signed": signed,
        "trigger_note": trigger_note_of,
        "similarity": partial(similarity_chart, looks=looks),
        "speed": speed,
        "versus": partial(versus, looks=looks),
        "was_checked": was_checked,
    }


def similarity_chart(character: CharacterReport, medium: str, looks: Mapping[str, Look]) -> Markup:
    """Return the chart of each model's similarity in the medium."""
    marks = similarity_marks(character, medium, looks)
    ceiling = looks[REFERENCE].title if REFERENCE in looks else ""
    return charts.interval_chart(marks, label=spoken(marks), x="mean cosine, 95 % interval", ceiling=ceiling)


def curve_chart(curves: Sequence[Curve], title: str, x: str, y: str, chosen: float | None = None) -> Markup:
    """Return a line chart labelled with each curve's first and last value."""
    return charts.line_chart(curves, label=f"{title}: {ends_of(curves, x)}", x=x, y=y, chosen=chosen)


def measured_columns(estimates: Sequence[MetricEstimate], metrics: Mapping[str, Metric]) -> list[tuple[str, Metric]]:
    """Return those of `metrics` with an estimate, in order."""
    present = {estimate.metric for estimate in estimates}
    return [(name, metric) for name, metric in metrics.items() if name in present]


def metrics_of(character: CharacterReport, medium: str) -> list[tuple[str, Metric]]:
    """Return the medium's metrics: known ones first, others by name."""
    present = {estimate.metric for estimate in character.estimates if estimate.medium == medium}
    names = [*(name for name in METRICS if name in present), *sorted(present - METRICS.keys())]
    return [(name, described(name)) for name in names]


def trigger_note_of(character: CharacterReport) -> str:
    """Return `trigger_note` of the character's new LoRA."""
    found = estimates_by_model(character, OVERALL).get(LORA, {})
    return trigger_note({metric: estimate.low for metric, estimate in found.items()})


def best_lora(character: CharacterReport, medium: str, name: str, metric: Metric) -> str:
    """Return the single best LoRA, `""` for a tie or fewer than two."""
    found = {
        model: estimates[name].mean
        for model, estimates in estimates_by_model(character, medium).items()
        if model not in (BASE, *NO_MODELS) and not is_recommended(model)
        if name in estimates and math.isfinite(estimates[name].mean)
    }
    if not metric.better or len(found) < 2:
        return ""
    best = (max if metric.better == "higher" else min)(found.values())
    winners = [model for model, mean in found.items() if mean == best]
    return winners[0] if len(winners) == 1 else ""


def versus(character: CharacterReport, looks: Mapping[str, Look]) -> list[Versus]:
    """Compare the new LoRA with each model, by medium.

    Strips share one scale.
    """
    found = [
        Versus(medium, model, theirs.get(SIMILARITY), difference, Markup(""))
        for medium in mediums_of(character)
        for model in looks
        for difference in character.differences
        if (difference.medium, difference.model, difference.metric) == (medium, model, SIMILARITY)
        for theirs in [estimates_by_model(character, medium).get(model, {})]
    ]
    marks = {row: _mark(row.difference, looks) for row in found}
    reach = 1.05 * max((abs(edge) for edge in charts.extent([*marks.values()])), default=1.0) or 1.0
    return [replace(row, strip=charts.about_zero(mark, reach, label=spoken([mark]))) for row, mark in marks.items()]


def _mark(difference: MetricEstimate, looks: Mapping[str, Look]) -> Mark:
    name = f"new LoRA less {looks[difference.model].title}"
    return Mark(name, judgement(difference), "dot", difference.mean, difference.low, difference.high)


def other_differences(character: CharacterReport) -> list[tuple[Metric, dict[str, MetricEstimate]]]:
    """Return metric -> model -> difference over all mediums.

    Similarity and metrics without a better direction are left out.
    """
    over_all = [difference for difference in character.differences if difference.medium == OVERALL]
    rows = [
        (metric, {difference.model: difference for difference in over_all if difference.metric == name})
        for name, metric in METRICS.items()
        if metric.better and name != SIMILARITY
    ]
    return [(metric, found) for metric, found in rows if found]


def compared_models(character: CharacterReport, looks: Mapping[str, Look]) -> list[str]:
    """Return the models compared with the new LoRA, ordered as in `looks`."""
    return [model for model in looks if any(model == each.model for each in character.differences)]


def failed_first(character: CharacterReport) -> list[Check]:
    """Return the checks, failed ones first."""
    return sorted(character.checks, key=lambda check: check.verdict is not False)


def tag_cloud(tags: Tags, trigger: str) -> list[tuple[TagCount, float]]:
    """Return at most 60 caption tags by name, with sizes in em.

    The trigger, which all captions have, is left out.
    """
    kept = [count for count in tags.counts if count.after and count.tag != trigger][:60]
    most = max((count.after for count in kept), default=1)
    sized = [(count, 0.75 + 1.45 * math.sqrt(count.after / most)) for count in kept]
    return sorted(sized, key=lambda entry: entry[0].tag)


def ends_of(curves: Iterable[Curve], x: str) -> str:
    """Return each curve's first and last value as a sentence."""
    parts = []
    for curve in curves:
        points = [(at, value) for at, value in zip(curve.x, curve.y, strict=True) if math.isfinite(value)]
        if points:
            (first, start), (last, end) = points[0], points[-1]
            parts.append(f"{curve.name} {start:.3g} at {x} {first:g}, {end:.3g} at {x} {last:g}")
    return "; ".join(parts)


def templates_hash() -> str:
    """Return the hash of all templates, scripts and style sheets."""
    names = sorted(entry.name for entry in _templates().iterdir() if entry.is_file())
    return content_hash({name: template_text(name) for name in names})


def template_text(name: str) -> str:
    return (_templates() / name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(template_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _templates() -> Traversable:
    return files("sticker_pipeline.publishing") / "templates"
