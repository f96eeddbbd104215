"""Forecast of what the benchmark cannot measure, from the training set alone.

Benchmark and gate judge stand-ins: as many images and held-out sources as there will be, with arbitrary vectors. So
each condition for a metric is stated once, where the metric is computed, and a rule is forecast to be unmeasured
exactly where the gate will find it so.
"""

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pandas as pd
import yaml

from sticker_pipeline.benchmark.evaluation import Embeddings, EvaluationContext, GeneratedImages, Requests
from sticker_pipeline.benchmark.features import with_mediums
from sticker_pipeline.benchmark.gate import ACCEPT_UNMEASURED, Check
from sticker_pipeline.benchmark.gate_checks import checks_of
from sticker_pipeline.benchmark.measure import BASE, LORA, RELEASED
from sticker_pipeline.benchmark.side_by_side import comparisons
from sticker_pipeline.benchmark.tables import benchmark_table
from sticker_pipeline.core.character import Benchmark, Character, Gate
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.core.texts import are, counted
from sticker_pipeline.core.verdict import Verdict
from sticker_pipeline.dataset.manifest import HOLDOUT, MIN_VALIDATED, TRAIN, VALIDATION, held_out_of, in_turn
from sticker_pipeline.generation.prompts import benchmark_prompts, requests_for
from sticker_pipeline.sampling.balance import TOO_FEW

CHECKS = {
    "can_be_released": "The gate can measure each of its rules, or need not.",
    "has_validation": "Some sources are for validation: their loss helps to choose the epoch.",
}
"""Check of `training_set` -> its statement."""
ENOUGH = 3  # images or sources: more of them change nothing about what can be measured
RESAMPLES = 100  # their values do not matter
MOST_ADDED = 20  # images that a remedy asks for
MORE = "add images, and hold out more of them"

Sizes = Mapping[str, tuple[int, int]]  # medium -> its generated images, and its held-out sources


def forecast(sizes: Sizes, *, others: bool = True, tagged: bool = True, released: bool = False) -> list[Check]:
    """Return the gate's checks of stand-ins; only `checked` and `unmeasured` mean something.

    `others`: there are other characters with held-out images; `tagged`: the tagger knows a prompted tag; `released`:
    there is a baseline release.
    """
    few = tuple((name, min(images, ENOUGH), min(sources, ENOUGH)) for name, (images, sources) in sorted(sizes.items()))
    return list(_forecast(few, others, tagged, released))


@lru_cache(maxsize=256)
def _forecast(sizes: tuple[tuple[str, int, int], ...], others: bool, tagged: bool, released: bool) -> tuple[Check, ...]:
    models = (BASE, LORA, *([RELEASED] if released else []))
    tags = ["any"] if tagged else []
    images = {
        name: GeneratedImages(_stand_ins(count), tags=np.ones((count, len(tags)), dtype=bool))
        for name, count, _ in sizes
        if count
    }
    context = EvaluationContext(
        references={name: _each_a_source(sources) for name, _, sources in sizes if sources},
        training=_each_a_source(1),
        others={"other": {"any": _each_a_source(1)}} if others else {},
        requests={name: Requests(["any"] * count) for name, count, _ in sizes},
        tag_names=tags,
    )
    result = benchmark_table(dict.fromkeys(models, images), context, samples=RESAMPLES)
    return tuple(checks_of(result.table, comparisons(result), Gate()))


def _stand_ins(count: int) -> np.ndarray:
    """Return different unit vectors, float64[count, 2]."""
    angles = np.arange(count, dtype=np.float64)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _each_a_source(count: int) -> Embeddings:
    names = [str(number) for number in range(count)]
    return Embeddings(_stand_ins(count), names, ["any"] * count)


def forewarnings(character: Character, profile: Profile, store: ArtifactStore) -> dict[str, Verdict]:
    """Return the verdicts of CHECKS on the current training set.

    Settings are the current ones too. Empty without a training set of the current frames. Raises StorageError for a
    damaged artifact.
    """
    training_set, frames = (store.find(character.name, asset) for asset in ("training_set", "frames"))
    if training_set is None or frames is None:
        return {}
    rows = with_mediums(character, training_set, frames)
    return {} if rows.empty else verdicts(rows, character, profile)


def verdicts(rows: pd.DataFrame, character: Character, profile: Profile) -> dict[str, Verdict]:
    """Return the verdict of each of CHECKS on the rows of `with_mediums`."""
    requests = requests_for(benchmark_prompts(character, profile), profile.benchmark.seeds_per_prompt)
    images, settings = Counter(request.medium for request in requests), character.settings.benchmark
    known = rows.assign(medium=rows["medium"].fillna(""))  # a group that character.yaml no longer has
    return {
        "can_be_released": can_be_released(known, images, settings),
        "has_validation": has_validation(known, settings),
    }


def can_be_released(rows: pd.DataFrame, images: Mapping[str, int], settings: Benchmark) -> Verdict:
    """Check that no LoRA is refused for an unmeasured rule.

    rows: split, group, source_id, medium of each frame. images: medium -> number that will be generated.
    """
    sizes = _sizes(rows, images)
    unmeasured = _unmeasured(sizes)
    table = split_table(rows)
    if not unmeasured:
        left_out = " and ".join(medium for medium, (_, held) in sizes.items() if not held)
        note = f" No source of {left_out} is held out: {left_out} is not judged." if left_out else ""
        return Verdict(True, f"the gate can measure all of its rules.{note}", table)
    if settings.gate.unmeasured == "release":
        return Verdict(True, f"a LoRA may be released unmeasured, as character.yaml says: {unmeasured}.", table)
    return Verdict(False, f"a LoRA would be refused: {unmeasured}. {_remedy(rows, sizes, settings)}", table)


def has_validation(rows: pd.DataFrame, settings: Benchmark) -> Verdict:
    """Check that there are sources whose loss helps choose the epoch.

    rows: split, group, source_id, medium of each frame. A benchmark.validation of 0 passes.
    """
    table = split_table(rows)
    sources = int(table[VALIDATION].sum())
    if sources or not settings.validation:
        reason = (
            f"{counted(sources, 'source')} {are(sources)} for validation" if sources else "benchmark.validation is 0"
        )
        return Verdict(True, f"{reason}.", table)
    group, sources = max(_groups(rows), key=lambda found: found[2])[::2]
    lacking = MIN_VALIDATED - sources
    remedy = f"Add {_images(lacking)} to the group {group}" if lacking > 0 else "Hold out fewer files"
    summary = (
        "no source is for validation, so the epoch is chosen by similarity alone, and benchmark.patience does nothing. "
    )
    return Verdict(False, f"{summary}{remedy}, or accept it by benchmark.validation: 0.", table)


def split_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Count the sources of each group: group, medium, train, validation, holdout."""
    each = rows.drop_duplicates("source_id")
    counts = each.groupby(["group", "medium", "split"])["source_id"].size().unstack(fill_value=0)
    return counts.reindex(columns=[TRAIN, VALIDATION, HOLDOUT], fill_value=0).reset_index().rename_axis(None, axis=1)


def _groups(rows: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Return each group, its medium, and its number of sources."""
    each = rows.drop_duplicates("source_id")
    counts = Counter(zip(each["group"], each["medium"], strict=True))
    return [(group, medium, sources) for (group, medium), sources in sorted(counts.items())]


def _sizes(rows: pd.DataFrame, images: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    held = rows[rows["split"] == HOLDOUT].groupby("medium")["source_id"].nunique()
    return {medium: (count, int(held.get(medium, 0))) for medium, count in images.items()}


def _unmeasured(sizes: Sizes) -> str:
    """Return why rules cannot be measured, "" if all can."""
    return "; ".join(dict.fromkeys(sentence for check in forecast(sizes) for sentence in check.unmeasured))


def _with_more(sizes: Sizes, medium: str, more: int) -> Sizes:
    images, held = sizes.get(medium, (0, 0))
    return {**sizes, medium: (images, held + more)}


def _remedy(rows: pd.DataFrame, sizes: Sizes, settings: Benchmark) -> str:
    options = [_to_add(rows, sizes, settings.holdout), _to_hold_out(rows, sizes)]
    said = ", or ".join([*(filter(None, options) if any(options) else [MORE]), ACCEPT_UNMEASURED])
    return f"{said[:1].upper()}{said[1:]}."


def _to_add(rows: pd.DataFrame, sizes: Sizes, share: float | list[str]) -> str:
    """Name the fewest images to add; "" if files are named."""
    if not isinstance(share, float):
        return ""
    for count in range(1, MOST_ADDED + 1):
        for group, medium, sources in _groups(rows):
            more = held_out_of(sources + count, share) - held_out_of(sources, share)
            if not _unmeasured(_with_more(sizes, medium, more)):
                return f"add {_images(count)} to the group {group}"
    return ""


def _to_hold_out(rows: pd.DataFrame, sizes: Sizes) -> str:
    """Name files to hold out; "" if too few would be left."""
    held = in_turn(rows[rows["split"] == HOLDOUT])
    trained = rows[rows["split"] == TRAIN]
    for medium in trained.groupby("medium")["source_id"].nunique().sort_values(ascending=False, kind="stable").index:
        free = in_turn(trained[trained["medium"] == medium])
        for count in range(1, ENOUGH):
            is_enough = trained["source_id"].nunique() - count >= TOO_FEW and len(free) > count
            if is_enough and not _unmeasured(_with_more(sizes, medium, count)):
                named = yaml.safe_dump([*held, *free[:count]], default_flow_style=True, allow_unicode=True, width=2**20)
                return f"set benchmark.holdout: {named.strip()}"
    return ""


def _images(count: int) -> str:
    return f"{counted(count, 'image')} or {'GIF' if count == 1 else 'GIFs'}"
