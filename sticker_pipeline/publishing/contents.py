"""Content of the report, read from artifacts.

Any artifact may be missing; nothing is measured or decided here.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.measure import LORA, by_name
from sticker_pipeline.benchmark.metrics import COPIES, METRICS, SIMILARITY
from sticker_pipeline.benchmark.releases import releases_folder
from sticker_pipeline.benchmark.side_by_side import COMPARISONS
from sticker_pipeline.benchmark.style_choice import BASE_EPOCH, GOAL
from sticker_pipeline.benchmark.style_choice import METRICS as STYLE_METRICS
from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile, toy_note
from sticker_pipeline.core.storage import Artifact, ArtifactStore, StorageError, profile_scope, style_scope
from sticker_pipeline.core.texts import counted
from sticker_pipeline.publishing.charts import Curve
from sticker_pipeline.publishing.history import refused_candidate, release_history
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
)
from sticker_pipeline.publishing.thumbnails import reduced, sheet, thumbnails
from sticker_pipeline.roots.across import (
    LCM_LORA,
    RELEASED_LORA,
    SELECTED_STYLE_LORA,
    STYLE_SET,
)
from sticker_pipeline.roots.loras import LCM_FACTS
from sticker_pipeline.sampling.weights import effective_images, source_shares
from sticker_pipeline.tagging import summary
from sticker_pipeline.tagging.curation import DROPPED
from sticker_pipeline.training.logs.tables import LOG, VALIDATION_LOSS

GAINS = "gain:"  # prefix of a style's metrics that are differences to the base model
LINE = (
    *("raw_media", "frames", "frame_weights", "wd14_tags", "curated_tags", "training_set"),
    *("lora", "selected_lora", "samples", "benchmark", RELEASED_LORA, "comfyui_workflow"),
)
"""A character's assets, upstream first."""
STYLE_BYTES = 120_000  # per style image
CHARACTER_BYTES = 1_500_000  # all images of a character
MOST_PROMPTS, MOST_REFERENCES = 8, 8
SMOOTHED = 20  # a step's loss is noisy: means over a twentieth of the training
BY_EPOCH = {name: METRICS[name].title for name in (SIMILARITY, "nearest_training", "diversity", COPIES)}
LOOKS = ("m-lora", "m-base", "m-released", "m-rival0", "m-rival1")  # of curves that belong to no model
WHY = "It has the highest similarity; of equal epochs the earliest is taken, which had the least time to copy."


def style_report(store: ArtifactStore, name: str) -> StyleReport | None:
    """Return the report of a style's LoRA, if there is one.

    Raises StorageError for a damaged artifact.
    """
    chosen = store.find(style_scope(name), SELECTED_STYLE_LORA)
    if chosen is None:
        return None
    goal = chosen.table(GOAL.file).assign(medium=name)
    gains = goal["metric"].str.startswith(GAINS)
    differences = goal[gains].assign(metric=goal["metric"].str.removeprefix(GAINS))
    made_of = store.find(style_scope(name), STYLE_SET)
    current = made_of is not None and chosen.inputs.get(STYLE_SET) == made_of.data_version
    with Image.open(chosen.file("goal.png")) as image:
        data, width, height = sheet(image, STYLE_BYTES)
    alt = f"{name}: invented characters by base model and style LoRA"
    return StyleReport(
        name=name,
        characters=tuple(sorted(made_of.table()["character"].unique())) if made_of and current else (),
        choice=style_choice(chosen.table()),
        estimates=estimates(goal[~gains]),
        differences=estimates(differences),
        image=InlineImage(data, "image/webp", width, height, alt),
    )


def style_choice(table: pd.DataFrame) -> Choice:
    """Return the choice among a style's epochs.

    `table`: epoch (base model first), STYLE_METRICS, chosen, reason.
    """
    epochs = _floats(table["epoch"])
    curves = tuple(
        Curve(metric.title, look, epochs, _floats(table[name]))
        for (name, metric), look in zip(STYLE_METRICS.items(), LOOKS, strict=False)
    )
    chosen = table[table["chosen"]].iloc[0]
    others = table[~table["chosen"] & (table["epoch"] != BASE_EPOCH)]
    pairs = zip(others["epoch"], others["reason"], strict=True)
    reasons = tuple((int(epoch), _sentence(reason)) for epoch, reason in pairs)
    return Choice(int(chosen["epoch"]), _sentence(chosen["reason"]), curves, reasons)


def few_steps(store: ArtifactStore, profile: str) -> FewSteps | None:
    """Return the report of a profile's LCM-LoRA, if there is one.

    Raises StorageError for a damaged artifact.
    """
    made = store.find(profile_scope(profile), LCM_LORA)
    if made is None:
        return None
    facts = json.loads(made.content(LCM_FACTS))
    return FewSteps(profile, facts["guidance_scale"], estimates(made.table().assign(medium="")))


@dataclass(frozen=True)
class Sources:
    """Sources of a character's page.

    Of `artifacts`, only manifests are read. `problems`: a sentence per unreadable source.
    """

    character: Character
    profile: Profile
    checks: tuple[Check, ...]
    artifacts: Mapping[str, Artifact]
    releases: tuple[Release, ...]
    problems: tuple[str, ...]


def sources_of(store: ArtifactStore, character: Character, profile: Profile, checks: Sequence[Check] = ()) -> Sources:
    """Return a character's sources; `checks`: last results."""
    problems: list[str] = []
    found = {asset: artifact for asset in LINE if (artifact := _found(store, character.name, asset, problems))}
    released, of_releases = release_history(releases_folder(store, character.name))
    return Sources(character, profile, tuple(checks), found, released, (*problems, *of_releases))


def shown(sources: Sources) -> Any:
    """Return all that determines the page, as JSON types."""
    character = sources.character
    return {
        "character": [character.name, character.trigger, character.settings.style, sources.profile.name],
        "toy": toy_note(sources.profile),
        "groups": {name: group.medium for name, group in character.groups.items()},
        "artifacts": {asset: published(artifact) for asset, artifact in sources.artifacts.items()},
        "checks": [asdict(check) for check in sources.checks],
        "releases": [asdict(release) for release in sources.releases],
    }


def published(artifact: Artifact | None) -> Any:
    """Return an artifact's versions, inputs and file hashes, as JSON types."""
    if artifact is None:
        return None
    hashes = {name: entry["sha256"] for name, entry in artifact.files.items()}
    return [artifact.data_version, artifact.code_version, artifact.inputs, hashes]


def character_report(sources: Sources) -> CharacterReport:
    """Return a character's report.

    An artifact with a damaged table counts as missing, with a sentence in `problems`.
    """
    problems = list(sources.problems)
    found = {asset: artifact for asset, artifact in sources.artifacts.items() if _is_whole(artifact, problems)}
    character, checks = sources.character, sources.checks
    chosen = choice(_table(found, "selected_lora"))
    candidate = _candidate(found, chosen, checks, sources.releases)
    return CharacterReport(
        name=character.name,
        trigger=character.trigger,
        profile=sources.profile.name,
        style=character.settings.style or "",
        estimates=estimates(_table(found, "benchmark")),
        differences=differences(_table(found, "benchmark", COMPARISONS.file)),
        grids=_grids(found, character, CHARACTER_BYTES),
        training=training(_table(found, "lora", LOG.file), _table(found, "lora", VALIDATION_LOSS.file)),
        choice=chosen,
        tags=tags(
            *(_table(found, *name) for name in (("wd14_tags",), ("curated_tags",), ("curated_tags", DROPPED.file)))
        ),
        weights=weights(_table(found, "frame_weights")),
        checks=checks,
        lineage=lineage(found, kept=(RELEASED_LORA,) if candidate else ()),
        releases=(candidate, *sources.releases) if candidate else sources.releases,
        problems=tuple(problems),
        toy=toy_note(sources.profile),
    )


def _found(store: ArtifactStore, name: str, asset: str, problems: list[str]) -> Artifact | None:
    """Return the artifact, if any; a damaged manifest adds to `problems`."""
    try:
        return store.find(name, asset)
    except StorageError as error:
        problems.append(str(error))
        return None


def _is_whole(artifact: Artifact, problems: list[str]) -> bool:
    """Return True if the tables are as published; else add to `problems`."""
    try:
        for table in artifact.files:
            if table.endswith(".parquet"):
                artifact.content(table)
    except StorageError as error:
        problems.append(str(error))
        return False
    return True


def _candidate(
    found: Mapping[str, Artifact], chosen: Choice | None, checks: Sequence[Check], released: Sequence[Release]
) -> Release | None:
    """Return the chosen and measured LoRA if the gate refused it."""
    if chosen is None or not _judged(found):
        return None
    sha256 = str(found["selected_lora"].sha256("lora.safetensors"))
    return refused_candidate(chosen.epoch, sha256, checks, released)


def _judged(found: Mapping[str, Artifact]) -> bool:
    """Return True if the benchmark is of the LoRA chosen now."""
    links = (("selected_lora", "samples"), ("samples", "benchmark"))
    return all(
        {before, after} <= found.keys() and found[after].inputs.get(before) == found[before].data_version
        for before, after in links
    )


def _table(found: Mapping[str, Artifact], asset: str, name: str = "index.parquet") -> pd.DataFrame | None:
    """Return an artifact's table; None if missing, as in earlier versions."""
    artifact = found.get(asset)
    return artifact.table(name) if artifact and name in artifact.files else None


def estimates(table: pd.DataFrame | None) -> tuple[MetricEstimate, ...]:
    """Return the estimates of a table.

    `table`: model, medium, metric, mean, ci_low, ci_high, n.
    """
    if table is None:
        return ()
    columns = (table[name].tolist() for name in ("model", "medium", "metric", "mean", "ci_low", "ci_high", "n"))
    return tuple(MetricEstimate(*row) for row in zip(*columns, strict=True))


def differences(table: pd.DataFrame | None) -> tuple[MetricEstimate, ...]:
    """Return the LoRA's paired differences, each under the other model's name.

    `table`: model, other, metric, medium, difference, ci_low, ci_high, n.
    """
    if table is None:
        return ()
    ours = table[table["model"] == LORA]
    return estimates(ours.assign(model=ours["other"], mean=ours["difference"]))


def training(log: pd.DataFrame | None, fixed: pd.DataFrame | None) -> Training | None:
    """Return a training's curves.

    `log`: a row per step; `fixed`: error by epoch and split.
    """
    if log is None or log.empty:
        return None
    window = max(1, len(log) // SMOOTHED)
    smooth = log["loss"].rolling(window, min_periods=1)
    loss = Curve(f"mean of {counted(window, 'step')}", "m-lora", _floats(log["step"]), _floats(smooth.mean()))
    rates = {"U-Net": "lr_unet", "text encoder": "lr_text_encoder"}
    names = {"train": "trained on", "holdout": "held out", "validation": "validation"}
    seconds = float(log["seconds"].sum()) if "seconds" in log else math.nan
    took = f", {seconds / 60:.1f} minutes of steps" if math.isfinite(seconds) else ""
    return Training(
        summary=f"{counted(log['epoch'].nunique(), 'epoch')}, {counted(len(log), 'step')}{took}; loss at the end "
        f"{loss.y[-1]:.4f}.",
        loss=(loss,),
        fixed=tuple(
            Curve(names.get(str(split), str(split)), look, _floats(part["epoch"]), _floats(part["loss"]))
            for (split, part), look in zip(_by(fixed, "split"), LOOKS, strict=False)
        ),
        learning_rate=tuple(
            Curve(name, look, _floats(log["step"]), _floats(log[column]))
            for (name, column), look in zip(rates.items(), LOOKS, strict=False)
            if column in log
        ),
    )


def choice(table: pd.DataFrame | None) -> Choice | None:
    """Return the chosen epoch, if any.

    `table`: epoch, metrics (JSON), chosen; optionally `reason`, which may begin with "chosen: " or "not: ".
    """
    if table is None or not table["chosen"].any():
        return None
    metrics = [json.loads(text) for text in table["metrics"]]
    epochs = _floats(table["epoch"])
    chosen = table[table["chosen"]].iloc[0]

    def values(name: str) -> tuple[float, ...]:
        return tuple(float(entry.get(name, math.nan)) for entry in metrics)

    curves = tuple(
        Curve(title, look, epochs, values(name), values(f"{name}_low"), values(f"{name}_high"))
        for (name, title), look in zip(BY_EPOCH.items(), LOOKS, strict=False)
        if any(name in entry for entry in metrics)
    )
    if "reason" not in table:
        return Choice(int(chosen["epoch"]), WHY, curves)
    others = table[~table["chosen"]]
    reasons = (_sentence(reason) for reason in others["reason"])
    pairs = tuple((int(epoch), reason) for epoch, reason in zip(others["epoch"], reasons, strict=True))
    return Choice(int(chosen["epoch"]), _sentence(chosen["reason"]), curves, pairs)


def _sentence(reason: str) -> str:
    """Return `reason` capitalized, without "chosen: " or "not: "."""
    plain = reason.removeprefix("chosen: ").removeprefix("not: ")
    return plain[:1].upper() + plain[1:]


def tags(found: pd.DataFrame | None, captions: pd.DataFrame | None, dropped: pd.DataFrame | None) -> Tags | None:
    """Return tags before and after curation."""
    if found is None or captions is None:
        return None
    before, after = summary.mean_tags(found, captions)
    counts = summary.before_and_after(found, captions)
    reasons = [] if dropped is None else summary.drop_reasons(dropped).to_dict("records")
    return Tags(
        per_image_before=before,
        per_image_after=after,
        counts=tuple(TagCount(tag, seen_on, kept_on) for tag, (seen_on, kept_on) in counts.items()),
        dropped=tuple(DropReason(row["reason"], row["rows"], row["examples"]) for row in reasons),
        captions=tuple(summary.caption_sample(captions)["caption"]) if len(captions) else (),
    )


def weights(table: pd.DataFrame | None) -> Weights | None:
    """Return the sources' sampling shares, largest first."""
    if table is None or table.empty:
        return None
    sources = source_shares(table).sort_values("share", ascending=False, kind="stable")
    columns = (sources[name].tolist() for name in ("group", "source_id", "frames", "share"))
    rows = tuple(SourceWeight(*row) for row in zip(*columns, strict=True))
    return Weights(effective_images(table["probability"].to_numpy()), rows)


def lineage(found: Mapping[str, Artifact], kept: Sequence[str] = ()) -> tuple[Made, ...]:
    """Return every asset of LINE, with its outdated inputs.

    An input is outdated if its artifact has another version now. Assets in `kept` have none: a release stays while the
    new LoRA is refused.
    """
    made = (_made(asset, found) for asset in LINE)
    return tuple(replace(one, outdated=()) if one.asset in kept else one for one in made)


def _made(asset: str, found: Mapping[str, Artifact]) -> Made:
    artifact = found.get(asset)
    if artifact is None:
        return Made(asset, "", "", (), ())
    changed = (
        name
        for name, version in artifact.inputs.items()
        if name in LINE and (name not in found or found[name].data_version != version)
    )
    return Made(
        asset, artifact.data_version, artifact.code_version, tuple(sorted(artifact.inputs.items())), tuple(changed)
    )


def _grids(found: Mapping[str, Artifact], character: Character, most_bytes: int) -> tuple[Grid, ...]:
    """Return held-out and generated images by medium, in `most_bytes` together."""
    plans = _InlineImages()
    references = _references(found, character, plans)
    first_images = _first_images(found, plans)
    ready = plans.encoded(most_bytes)
    return tuple(
        Grid(
            medium=medium,
            prompts=first_images[medium][0] if medium in first_images else (),
            rows=tuple(
                GridRow(model, tuple(None if place is None else ready[place] for place in places))
                for model, places in (first_images[medium][1] if medium in first_images else {}).items()
            ),
            references=tuple(ready[place] for place in references.get(medium, ())),
        )
        for medium in sorted({*references, *first_images})
    )


class _InlineImages:
    """Requested images, later thumbnails in the same order."""

    def __init__(self) -> None:
        self._images: list[Image.Image] = []
        self._alts: list[str] = []

    def want(self, artifact: Artifact, file: str, alt: str) -> int:
        """Request an image; return its number."""
        with Image.open(artifact.fetched([file]) / file) as image:
            self._images.append(reduced(image))
        self._alts.append(alt)
        return len(self._images) - 1

    def encoded(self, most_bytes: int) -> list[InlineImage]:
        small = thumbnails(self._images, most_bytes)
        return [
            InlineImage(data, "image/webp", width, height, alt)
            for (data, width, height), alt in zip(small, self._alts, strict=True)
        ]


def _references(found: Mapping[str, Artifact], character: Character, plans: _InlineImages) -> dict[str, list[int]]:
    """Return medium -> images of at most MOST_REFERENCES held-out sources.

    Each is a source's middle frame.
    """
    rows, frames = _table(found, "training_set"), _table(found, "frames")
    if rows is None or frames is None:
        return {}
    mediums = {name: group.medium for name, group in character.groups.items()}
    # files from the frames' table: the training set may name removed frames
    holdout = frames[frames["frame_id"].isin(rows.loc[rows["split"] == "holdout", "frame_id"])]
    holdout = holdout.assign(medium=holdout["group"].map(mediums)).sort_values(["source_id", "frame_index"])
    wanted = {}
    for medium, part in holdout.groupby("medium"):
        middles = [(str(source), own["file"].iloc[len(own) // 2]) for source, own in part.groupby("source_id")]
        wanted[str(medium)] = [
            plans.want(found["frames"], file, f"{character.name}, held out: {source}")
            for source, file in (middles[row] for row in spread(len(middles), MOST_REFERENCES))
        ]
    return wanted


def _first_images(
    found: Mapping[str, Artifact], plans: _InlineImages
) -> dict[str, tuple[tuple[str, ...], dict[str, list[int | None]]]]:
    """Return medium -> (prompt contents, model -> image numbers).

    The images are first seeds of at most MOST_PROMPTS prompts. Models are aligned by requested attributes: prompts
    differ, as a rival has its own trigger.
    """
    table = _table(found, "samples")
    if table is None:
        return {}
    asked = "attributes" if "attributes" in table else "prompt"  # earlier versions have only the text
    wanted = {}
    for medium, part in table.groupby("medium", sort=True):
        first = part.drop_duplicates(["model", asked])
        prompts = list(dict.fromkeys(first[asked]))
        chosen = [prompts[row] for row in spread(len(prompts), MOST_PROMPTS)]
        by_prompt = {(row["model"], row[asked]): row for row in first.to_dict("records")}
        rows: dict[str, list[int | None]] = {}
        for model in ordered_models(first["model"]):
            own = [by_prompt.get((model, prompt)) for prompt in chosen]
            rows[model] = [
                None if row is None else plans.want(found["samples"], row["file"], f"{model}: {row['prompt']}")
                for row in own
            ]
        wanted[str(medium)] = (tuple(own_tags(chosen)), rows)
    return wanted


def own_tags(prompts: Sequence[str]) -> list[str]:
    """Return each prompt's tags without common ones, or all if none remain."""
    split = [[tag.strip() for tag in prompt.split(",")] for prompt in prompts]
    shared = set.intersection(*(set(part) for part in split)) if len(split) > 1 else set()
    return [", ".join([tag for tag in part if tag not in shared] or part) for part in split]


def ordered_models(models: pd.Series) -> list[str]:
    """Return base, lora, released, recommended settings, then others by name."""
    first = {"base": 0, "lora": 1, "released": 2}
    return sorted(models.unique(), key=lambda model: (first.get(model, 3), by_name(model)))


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` of 0 … count − 1, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist() if count else []


def _by(table: pd.DataFrame | None, column: str) -> list[tuple[object, pd.DataFrame]]:
    return [] if table is None else list(table.groupby(column, sort=False))


def _floats(column: pd.Series) -> tuple[float, ...]:
    return tuple(column.astype(float).tolist())
