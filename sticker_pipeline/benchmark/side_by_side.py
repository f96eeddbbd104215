"""Our LoRA beside every other model: differences, table and image."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from PIL import Image

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
from sticker_pipeline.benchmark.metrics import SIMILARITY
from sticker_pipeline.benchmark.tables import COMPARED, BenchmarkResult, compare
from sticker_pipeline.core.images import Panel, grouped_intervals, panels, spread_over_intervals
from sticker_pipeline.core.schemas import Column, TableSchema, typed
from sticker_pipeline.core.texts import counted

COMPARISONS = TableSchema(
    "each metric in each medium of each other model",
    (
        Column("model", "str", "the model that is compared: the new LoRA"),
        Column("other", "str", "the model that it is compared with"),
        *COMPARED.columns,
    ),
    key=("model", "other", *COMPARED.key),
    file="compared.parquet",
)
TITLES = {REFERENCE: "held out", BASE: "base model", LORA: "new LoRA", RELEASED: "baseline release"}
BEST_RIVAL = "best rival"
CAPTION = "mean CLIP similarity to held-out images with 95 % intervals; ours: the new LoRA less this one, paired"
GOOD, BAD, PLAIN = (19, 115, 74), (179, 38, 30), (92, 89, 107)  # colours: better, worse, unclear

MOST_SHOWN = 40  # characters that an image or a table has a line for

Key = tuple[str, str]  # medium, model
Interval = tuple[float, float, float]  # mean, low, high


def comparisons(result: BenchmarkResult, model: str = LORA) -> pd.DataFrame:
    """Compare `model` with each other model: the table COMPARISONS.

    Others in the order of the benchmark's table (base first), within each as `compare` sorts. References and chance are
    excluded: they have other requests, so they cannot be paired. Empty without rows of `model`, or of any other.
    """
    models = list(dict.fromkeys(result.table["model"]))
    others = [name for name in models if name not in (model, *NO_MODELS)] if model in models else []
    parts = [compare(result, model, other).assign(model=model, other=other) for other in others]
    return typed(pd.concat(parts or [pd.DataFrame(columns=COMPARISONS.names)], ignore_index=True), COMPARISONS)


def verdict(low: float, high: float) -> Literal["better", "worse", "unclear"]:
    """Interpret the interval of a paired difference where more is better.

    NaN: unclear.
    """
    if low > 0:
        return "better"
    return "worse" if high < 0 else "unclear"


def side_by_side_table(table: pd.DataFrame, compared: pd.DataFrame) -> pd.DataFrame:
    """Format one row for each medium (`all` first) and model, for people.

    Similarity, our LoRA's difference to it, with 95 % intervals, and the verdict. Models: held out, base, LoRA,
    released, the LoRA in recommended settings, rivals by name. table: model, medium, metric, mean, ci_low, ci_high;
    compared: COMPARISONS.
    """
    means, gains = _by_medium(table, "model"), _by_medium(compared, "other")
    models = _models(model for _, model in means)
    rows = [
        {
            "medium": medium,
            "model": _title(model),
            "similarity": _number(means[medium, model], "mean"),
            "new LoRA less it": _number(gains.get((medium, model)), "difference", signed=True),
            "new LoRA is": _called(gains.get((medium, model))),
        }
        for medium in _mediums(medium for medium, _ in means)
        for model in models
        if (medium, model) in means
    ]
    return pd.DataFrame(rows, columns=["medium", "model", "similarity", "new LoRA less it", "new LoRA is"])


def side_by_side(
    table: pd.DataFrame, compared: pd.DataFrame, images: Mapping[Key, Sequence[Image.Image]]
) -> Image.Image:
    """Make one image: a row per medium, a column per model.

    Each cell has images of the model over its similarity and our LoRA's difference. The best LoRA of a medium is
    framed. images: (medium, model) -> images to show, `reference` for held-out ones; equal numbers look best. Other
    arguments as for `side_by_side_table`.
    """
    means, gains = _by_medium(table, "model"), _by_medium(compared, "other")
    mediums, models = sorted({medium for medium, _ in images}), _models(model for _, model in images)
    rows = {}
    for medium in mediums:
        best = _best({model: row["mean"] for (of, model), row in means.items() if of == medium})
        rows[medium] = [
            Panel(
                images.get((medium, model), ()),
                [
                    (_number(means.get((medium, model)), "mean") or "not measured", (27, 26, 38)),
                    *_beside(gains.get((medium, model)), marked=model == best),
                ],
                marked=model == best,
            )
            for model in models
        ]
    return panels(rows, [_title(model) for model in models], title=CAPTION)


def by_character(leaderboard: pd.DataFrame) -> dict[str, dict[str, Interval]]:
    """Character -> model -> similarity over all mediums, with its interval.

    Our models, and the best rival, which differs by character. leaderboard: character, model, medium, metric, mean,
    ci_low, ci_high.
    """
    chosen = leaderboard[(leaderboard["metric"] == SIMILARITY) & (leaderboard["medium"] == OVERALL)]
    found: dict[str, dict[str, Interval]] = {}
    for character, part in chosen.groupby("character", sort=True):
        figures = {str(row["model"]): (row["mean"], row["ci_low"], row["ci_high"]) for row in part.to_dict("records")}
        rivals = [values for model, values in figures.items() if is_rival(model)]
        ours = {TITLES[model]: figures[model] for model in (BASE, LORA, RELEASED) if model in figures}
        found[str(character)] = ours | ({BEST_RIVAL: max(rivals)} if rivals else {})
    return found


def shown_characters(similarity: Mapping[str, Mapping[str, Interval]], most: int = MOST_SHOWN) -> list[str]:
    """Select all characters in order, or the best and the worst.

    similarity: as from `by_character`. Of more than `most`, half of `most` are the best by the new LoRA and half the
    worst, best first; those without a new LoRA are left out.
    """
    if len(similarity) <= most:
        return list(similarity)
    ours = {name: own[TITLES[LORA]][0] for name, own in similarity.items() if TITLES[LORA] in own}
    ranked = sorted(ours, key=lambda name: (-ours[name], name))
    return [*ranked[: most // 2], *ranked[max(most // 2, len(ranked) - most // 2) :]]


def similarity_image(similarity: Mapping[str, Mapping[str, Interval]], most: int = MOST_SHOWN) -> Image.Image:
    """Make the leaderboard's image: a line for each of `shown_characters`.

    With more characters, also the distribution over all. similarity: as from `by_character`.
    """
    shown, unit = shown_characters(similarity, most), "mean cosine"
    if len(similarity) <= most:
        title = "CLIP similarity to held-out images, over all mediums, 95 % intervals"
        return grouped_intervals(similarity, title=title, unit=unit)
    half = most // 2
    between = f"({counted(len(similarity) - len(shown), 'other')})"
    rows = {name: similarity[name] for name in shown[:half]} | {between: {}}
    rows |= {name: similarity[name] for name in shown[half:]}
    names = [TITLES[BASE], TITLES[LORA], TITLES[RELEASED], BEST_RIVAL]
    spread = {name: [own[name][0] for own in similarity.values() if name in own] for name in names}
    titles = (
        f"CLIP similarity to held-out images, over all mediums: {counted(len(similarity), 'character')}",
        f"the {half} best and the {len(shown) - half} worst new LoRAs of them, 95 % intervals",
    )
    known = {name: values for name, values in spread.items() if values}
    return spread_over_intervals(known, rows, titles=titles, unit=unit, count="characters")


def _best(means: Mapping[str, float]) -> str | None:
    """The LoRA with the highest mean; recommended settings do not count.

    None where there is only one, or no single best.
    """
    found = {
        name: mean
        for name, mean in means.items()
        if name not in (BASE, *NO_MODELS) and not is_recommended(name) and math.isfinite(mean)
    }
    winners = [name for name, mean in found.items() if mean == max(found.values())]
    return winners[0] if len(winners) == 1 and len(found) > 1 else None


def _beside(gain: Mapping[Hashable, Any] | None, *, marked: bool) -> list[tuple[str, tuple[int, int, int]]]:
    lines = [("the best LoRA", (82, 70, 214))] if marked else []
    if gain is not None:
        colour = {"better": GOOD, "worse": BAD, "unclear": PLAIN}[_called(gain)]
        lines.append((f"ours {_number(gain, 'difference', signed=True)}", colour))
    return lines


def _called(gain: Mapping[Hashable, Any] | None) -> str:
    return "" if gain is None else verdict(gain["ci_low"], gain["ci_high"])


def _by_medium(table: pd.DataFrame, model: str) -> dict[Key, Mapping[Hashable, Any]]:
    rows = table[table["metric"] == SIMILARITY].to_dict("records")
    return {(str(row["medium"]), str(row[model])): row for row in rows}


def _mediums(mediums: Any) -> list[str]:
    return sorted(set(mediums), key=lambda medium: (medium != OVERALL, medium))


def _models(models: Any) -> list[str]:
    order = {name: place for place, name in enumerate(TITLES)}
    return sorted(set(models) - {CHANCE}, key=lambda model: (order.get(model, len(order)), by_name(model)))


def _title(model: str) -> str:
    return TITLES.get(model, model)


def _number(row: Mapping[Hashable, Any] | None, name: str, *, signed: bool = False) -> str:
    if row is None:
        return ""
    form = "+.3f" if signed else ".3f"
    interval = "" if math.isnan(row["ci_low"]) else f" [{row['ci_low']:{form}}, {row['ci_high']:{form}}]"
    return f"{row[name]:{form}}{interval}"
