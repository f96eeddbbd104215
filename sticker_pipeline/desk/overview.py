"""A character's training, comparison, gate and releases as JSON types."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from sticker_pipeline.benchmark.forecast import forewarnings
from sticker_pipeline.benchmark.measure import OVERALL
from sticker_pipeline.benchmark.metrics import METRICS
from sticker_pipeline.benchmark.releases import releases_folder
from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile, toy_note
from sticker_pipeline.core.storage import Artifact, ArtifactStore, StorageError
from sticker_pipeline.dataset.manifest import HOLDOUT
from sticker_pipeline.desk.rows import Rows, counts, window
from sticker_pipeline.publishing.contents import choice, estimates, ordered_models, own_tags, spread
from sticker_pipeline.publishing.history import release_history
from sticker_pipeline.publishing.report import Check

ASSETS = ("lora", "selected_lora", "samples", "benchmark")
MOST_PROMPTS, MOST_REFERENCES, MOST_SAMPLES = 24, 24, 8


@dataclass(frozen=True)
class Subject:
    """A character with the parts that its page shows."""

    character: Character
    profile: Profile
    store: ArtifactStore
    rows: Rows
    checks: Sequence[Check]


def overview(subject: Subject) -> dict[str, Any]:
    """Return everything but frames; `problems` names damaged artifacts."""
    problems: list[str] = []
    found = _artifacts(subject, problems)
    released, of_releases = release_history(releases_folder(subject.store, subject.character.name))
    return {
        "name": subject.character.name,
        "trigger": subject.character.trigger,
        "profile": subject.profile.name,
        "style": subject.character.settings.style or "",
        "banner": toy_note(subject.profile),
        "forewarnings": _forewarnings(subject, problems),
        "counts": counts(subject.rows),
        "groups": _groups(subject),
        "settings": _settings(subject.character),
        "epochs": _epochs(found),
        "comparison": _comparison(found),
        "references": _references(subject),
        "metrics": _metrics(found.get("benchmark")),
        "gate": [asdict(check) for check in subject.checks],
        "releases": [{**asdict(release), "number": _number(release.name)} for release in released],
        "problems": [*problems, *of_releases],
    }


def _forewarnings(subject: Subject, problems: list[str]) -> list[str]:
    """Return what will keep a LoRA from release, before any training."""
    try:
        found = forewarnings(subject.character, subject.profile, subject.store)
    except StorageError as error:
        problems.append(str(error))
        return []
    return [f"{name.replace('_', ' ')}: {verdict.summary}" for name, verdict in found.items() if not verdict.passed]


def _artifacts(subject: Subject, problems: list[str]) -> dict[str, Artifact]:
    found = {}
    for asset in ASSETS:
        try:
            artifact = subject.store.find(subject.character.name, asset)
            if artifact is not None:
                artifact.content("index.parquet") if "index.parquet" in artifact.files else None
                found[asset] = artifact
        except StorageError as error:
            problems.append(str(error))
    return found


def _groups(subject: Subject) -> list[dict[str, Any]]:
    table = subject.rows.table
    weight = table.groupby("group")["weight"].sum()
    files = table[table["file"] != ""].groupby("group")["path"].nunique()
    return [
        {
            "name": name,
            "medium": group.medium,
            "share": group.share,
            "learned": group.learned,
            "files": int(files.get(name, 0)),
            "weight": float(weight.get(name, 0.0)),
        }
        for name, group in subject.character.groups.items()
    ]


def _settings(character: Character) -> dict[str, Any]:
    """Return the settings that the page shows and changes, by key."""
    curation = character.settings.curation
    return {
        "curation.blacklist": curation.blacklist,
        "curation.aliases": curation.aliases,
        "curation.weights": curation.weights,
        "curation.written": curation.written,
        "media.exclude": list(character.settings.media.get("exclude", [])),
        "benchmark.prompts": character.settings.benchmark.prompts,
    }


def _epochs(found: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """Return each epoch's sample images, and why it was chosen or not."""
    training = found.get("lora")
    if training is None:
        return []
    by_epoch: dict[int, list[str]] = {}
    for file in sorted(name for name in training.files if name.startswith("samples/epoch_")):
        by_epoch.setdefault(int(file.split("_")[1]), []).append(file)
    selected = choice(found["selected_lora"].table()) if "selected_lora" in found else None
    reasons = {selected.epoch: selected.reason, **dict(selected.others)} if selected else {}
    return [
        {
            "epoch": epoch,
            "images": files[:MOST_SAMPLES],
            "chosen": bool(selected and selected.epoch == epoch),
            "reason": reasons.get(epoch, ""),
        }
        for epoch, files in sorted(by_epoch.items())
    ]


def _comparison(found: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """Return each model's images of the same prompts, by medium."""
    if "samples" not in found:
        return []
    table = found["samples"].table()
    models = ordered_models(table["model"])
    return [_of_medium(str(medium), part, models) for medium, part in table.groupby("medium", sort=True)]


def _of_medium(medium: str, part: pd.DataFrame, models: Sequence[str]) -> dict[str, Any]:
    asked = "attributes" if "attributes" in part else "prompt"  # earlier versions have only the text
    first = part.drop_duplicates(["model", asked])
    prompts = list(dict.fromkeys(first[asked]))
    chosen = [prompts[row] for row in spread(len(prompts), MOST_PROMPTS)]
    files = {(row["model"], row[asked]): row["file"] for row in first.to_dict("records")}
    return {
        "medium": medium,
        "prompts": own_tags(chosen),
        "models": [
            {"model": model, "images": [files.get((model, prompt), "") for prompt in chosen]} for model in models
        ],
    }


def _references(subject: Subject) -> list[dict[str, Any]]:
    """Return the middle frame of each held-out source, by medium."""
    table, groups = subject.rows.table, subject.character.groups
    holdout = table[(table["state"] == HOLDOUT) & table["group"].isin(groups)]
    by_source: dict[str, list[int]] = {}
    for number, path in zip(holdout.index.tolist(), holdout["path"], strict=True):
        by_source.setdefault(str(path), []).append(number)
    found: dict[str, list[int]] = {}
    for numbers in by_source.values():
        middle = numbers[len(numbers) // 2]
        found.setdefault(groups[str(table["group"].iloc[middle])].medium, []).append(middle)
    return [{"medium": medium, "frames": _some(subject.rows, numbers)} for medium, numbers in sorted(found.items())]


def _some(rows: Rows, numbers: Sequence[int]) -> list[dict[str, Any]]:
    chosen = [numbers[place] for place in spread(len(numbers), MOST_REFERENCES)]
    return window(rows, chosen, 0, MOST_REFERENCES)


def _metrics(artifact: Artifact | None) -> list[dict[str, Any]]:
    """Return each metric over all mediums, with each model's interval."""
    found = [one for one in estimates(artifact.table() if artifact else None) if one.medium == OVERALL]
    return [
        {
            "metric": name,
            "title": metric.title,
            "meaning": metric.meaning,
            "better": metric.better,
            "models": {
                one.model: [_finite(one.mean), _finite(one.low), _finite(one.high)]
                for one in found
                if one.metric == name
            },
        }
        for name, metric in METRICS.items()
        if any(one.metric == name for one in found)
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(name: str) -> int:
    return int(name.rpartition(" ")[2])
