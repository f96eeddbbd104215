"""Writes docs/results/composition.md from the kept arms: text, table and image for each statement.

Intervals: bootstrap over three training seeds, each with another character, and over the prompts (2,000 resamples; the
same ones for both sides of a difference). Three seeds make coarse intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.embed import embed
from sticker_pipeline.benchmark.features import embedder_of, holdout_references
from sticker_pipeline.benchmark.similarity import source_means
from sticker_pipeline.benchmark.tone import relative_shifts, veils
from sticker_pipeline.core.character import load_character
from sticker_pipeline.core.images import labelled_grid
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.embedded.build import processor
from sticker_pipeline_tests.experiments import studio
from sticker_pipeline_tests.experiments.lora_composition import (
    ALONE,
    BOTH,
    FEW,
    GUIDED,
    NOISES,
    OWN,
    PLAIN_FEW,
    PROMPTS,
    SEEDS,
    SHIFTED,
    SHIFTED_ALONE,
    STEPS,
    STYLE,
    TOGETHER,
    WEIGHTS,
    Arm,
    character_of,
    mixed,
    seed_folder,
)

READINGS = Path(__file__).with_name("composition.md")  # written by a person: read again with new results
SAMPLES = 2_000
SHOWN_SEED = 2  # whose images are shown
EVERY = slice(None, None, NOISES)  # the first image of each prompt

Values = np.ndarray
"""A figure of one arm: float64[seeds, prompts, noises]."""


@dataclass(frozen=True)
class Found:
    """Kept results of all seeds."""

    work: Path

    def kept(self, arm: Arm, name: str) -> Values:
        """Of each image: `embeddings` with one axis more, `fidelity`, and the tones."""
        parts = [np.load(seed_folder(self.work, seed) / "arms" / f"{arm.name}.npz")[name] for seed in SEEDS]
        stacked = np.stack(parts).astype(np.float64)
        return stacked.reshape(len(SEEDS), PROMPTS, NOISES, *stacked.shape[2:])

    @cached_property
    def references(self) -> dict[str, list[np.ndarray]]:
        """ "character" and "style" -> for each seed a row for each held-out source."""
        found = [_references(seed, seed_folder(self.work, seed)) for seed in SEEDS]
        return {name: [each[name] for each in found] for name in ("character", "style")}

    def similarity(self, arm: Arm) -> Values:
        return self._to(arm, "character")

    def style(self, arm: Arm) -> Values:
        return self._to(arm, "style")

    def _to(self, arm: Arm, whom: str) -> Values:
        pairs = zip(self.kept(arm, "embeddings"), self.references[whom], strict=True)
        return np.stack([(images @ sources.T).mean(axis=-1) for images, sources in pairs])

    def consistency(self, arm: Arm) -> Values:
        """Of each image the mean cosine to the arm's images of other prompts."""
        embeddings = self.kept(arm, "embeddings")
        sums = embeddings.sum(axis=2, keepdims=True)  # of each prompt
        others = sums.sum(axis=1, keepdims=True) - sums
        return (embeddings * others).sum(axis=-1) / ((PROMPTS - 1) * NOISES)

    def fidelity(self, arm: Arm) -> Values:
        return self.kept(arm, "fidelity")

    def likeness(self, arm: Arm, reference: Arm) -> Values:
        """The cosine to the image of the same prompt and noise by `reference`."""
        return (self.kept(arm, "embeddings") * self.kept(reference, "embeddings")).sum(axis=-1)

    def shift(self, arm: Arm, reference: Arm, name: str) -> Values:
        """By how much a tone is larger than the reference's, as a share of its mean."""
        pairs = zip(self.kept(arm, name), self.kept(reference, name), strict=True)
        return np.stack([relative_shifts(own, other) for own, other in pairs])

    def veil(self, arm: Arm, reference: Arm) -> Values:
        """The strength of the white veil over the reference's image that would lift its black point as much."""
        pairs = zip(self.kept(arm, "haze"), self.kept(reference, "haze"), strict=True)
        return np.stack([veils(own.ravel(), other.ravel()).reshape(own.shape) for own, other in pairs])

    def images(self, arm: Arm) -> list[Image.Image]:
        """One of each prompt."""
        folder = seed_folder(self.work, SHOWN_SEED) / "images" / arm.name
        return [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))[EVERY]]

    def artifact(self, seed: int, scope: str, asset: str, file: str = "index.parquet") -> pd.DataFrame:
        """A table of an artifact in the workspace of `seed`."""
        return pd.read_parquet(seed_folder(self.work, seed) / "artifacts" / scope / asset / file)


def _references(seed: int, folder: Path) -> dict[str, np.ndarray]:
    workspace = Workspace(
        characters=str(folder / "characters"), artifacts=str(folder / "artifacts"), models=str(studio.MODELS)
    )
    store, character = workspace.store, load_character(folder / "characters" / character_of(seed))
    embedder = embedder_of(studio.profile(), store)
    training_set, frames = (store.read(character.name, name) for name in ("training_set", "frames"))
    own = holdout_references(embedder, character, training_set, frames)["sticker"]
    shared = store.read(f"_styles/{STYLE}", "style_training_set")
    rows = shared.table()
    rows = rows[rows["split"] == "holdout"]
    images = [Image.open(shared.folder / "frames" / name) for name in rows["file"]]
    sources = source_means(embed(embedder, images), (rows["character"] + "/" + rows["source_id"]).tolist())
    return {"character": source_means(own.vectors, own.sources), "style": sources}


# --- figures ----------------------------------------------------------------------------------------------------------


def interval(values: Values) -> tuple[float, float, float]:
    """Mean and 95 % interval over seeds and prompts."""
    rng = np.random.default_rng(0)  # the same draws for all: differences are paired
    seeds = rng.integers(values.shape[0], size=(SAMPLES, values.shape[0]))
    prompts = rng.integers(values.shape[1], size=(SAMPLES, values.shape[1]))
    means = values.mean(axis=2)
    drawn = means[seeds[:, :, None], prompts[:, None, :]].mean(axis=(1, 2))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def cell(values: Values, *, signed: bool = False) -> str:
    mean, low, high = interval(values)
    form = "{:+.3f} [{:+.3f}, {:+.3f}]" if signed else "{:.3f} [{:.3f}, {:.3f}]"
    return form.format(mean, low, high)


def table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())]) + "\n"


def in_words(arm: Arm) -> str:
    """Return the model in words, and its settings if they differ from the profile's."""
    who = [f"{name} {weight:g}" for name, weight in (("character", arm.character), ("style", arm.style)) if weight] or [
        "base model"
    ]
    if arm.lcm is not None:
        who.append(f"{'its own LCM' if arm.own else 'LCM'} {arm.lcm:g}")
    how = [f"{arm.steps} steps"] if arm.steps else []
    how += [f"CFG {arm.guidance:g}"] if arm.guidance and arm.guidance != 1 else []
    return ", ".join([" + ".join(who), *how])


# --- the statements ---------------------------------------------------------------------------------------------------


def together(found: Found) -> tuple[str, list[Arm]]:
    rows = {
        in_words(arm): [
            cell(found.similarity(arm)),
            cell(found.consistency(arm)),
            cell(found.fidelity(arm)),
            "" if arm == ALONE else cell(found.similarity(arm) - found.similarity(ALONE), signed=True),
        ]
        for arm in TOGETHER
    }
    columns = [
        "similarity to the character",
        "consistency",
        "prompted tags found",
        "similarity, less that of the LoRA alone",
    ]
    return table(columns, rows), TOGETHER


def early(found: Found) -> tuple[str, list[Arm]]:
    metrics = {
        "style_similarity": "similarity to the style",
        "fidelity": "prompted tags found",
        "leaks": "pass for a character",
        "copies": "copies",
    }
    evidence = pd.concat([found.artifact(seed, f"_styles/{STYLE}", "selected_style_lora") for seed in SEEDS])
    rows = {}
    for epoch, part in evidence.groupby("epoch"):
        chosen = int(part["chosen"].sum())
        name = (
            "base model"
            if epoch == 0
            else f"epoch {epoch}" + (f" (chosen by {chosen} of {len(SEEDS)})" if chosen else "")
        )
        rows[name] = [f"{part[one].mean():.3f} ({part[one].min():.3f} to {part[one].max():.3f})" for one in metrics]
    return table(list(metrics.values()), rows), []


def shifted(found: Found) -> tuple[str, list[Arm]]:
    rows = {}
    for arm, reference in [(arm, ALONE) for arm in SHIFTED_ALONE] + [(arm, BOTH) for arm in SHIFTED]:
        names = ("contrast", "saturation", "sharpness")
        tones = [cell(found.shift(arm, reference, name), signed=True) for name in names]
        style = cell(found.style(arm) - found.style(reference), signed=True)
        rows[in_words(arm)] = [*tones, cell(found.veil(arm, reference), signed=True), style]
    columns = ["contrast", "saturation", "sharpness", "white veil", "similarity to the style"]
    return table(columns, rows), [ALONE, *SHIFTED_ALONE, BOTH, *SHIFTED]


def weighed(found: Found) -> tuple[str, list[Arm]]:
    rows = {
        f"LCM {weight:g}": [cell(found.likeness(mixed(weight, steps), ALONE)) for steps in STEPS] for weight in WEIGHTS
    }
    rows["without: the profile's sampler, CFG 4"] = [cell(found.likeness(arm, ALONE)) for arm in PLAIN_FEW]
    less = {
        f"LCM {weight:g} less LCM 1": [
            cell(found.likeness(mixed(weight, steps), ALONE) - found.likeness(mixed(1.0, steps), ALONE), signed=True)
            for steps in STEPS
        ]
        for weight in WEIGHTS[:-1]
    }
    columns = [f"{steps} steps" for steps in STEPS]
    tables = f"Likeness:\n\n{table(columns, rows)}\nPaired differences of it:\n\n{table(columns, less)}"
    return tables, [arm for arm in FEW if arm.steps in (4, 16)]


def hazy(found: Found) -> tuple[str, list[Arm]]:
    arms = [mixed(weight, 4) for weight in WEIGHTS] + GUIDED + [arm for arm in OWN if arm.steps == 4]
    rows = {
        in_words(arm): [
            cell(found.veil(arm, ALONE), signed=True),
            cell(found.shift(arm, ALONE, "contrast"), signed=True),
            cell(found.shift(arm, ALONE, "saturation"), signed=True),
            cell(found.shift(arm, ALONE, "sharpness"), signed=True),
            cell(found.similarity(arm)),
            cell(found.likeness(arm, ALONE)),
        ]
        for arm in arms
    }
    own, of_base = mixed(1.0, 4, own=True), mixed(1.0, 4)
    differences = [found.veil(own, ALONE) - found.veil(of_base, ALONE)]
    for name in ("contrast", "saturation", "sharpness"):
        differences.append(found.shift(own, ALONE, name) - found.shift(of_base, ALONE, name))
    differences.append(found.similarity(own) - found.similarity(of_base))
    differences.append(found.likeness(own, ALONE) - found.likeness(of_base, ALONE))
    rows["*its own LCM 1 less LCM 1, paired*"] = [cell(values, signed=True) for values in differences]
    columns = ["white veil", "contrast", "saturation", "sharpness", "similarity to the character", "likeness"]
    return table(columns, rows), [ALONE, *arms]


def faster(found: Found) -> tuple[str, list[Arm]]:
    parts = []
    for scope, asset in (("_profiles/embedded", "lcm_lora"), (None, "character_lcm_lora")):
        tables = [found.artifact(seed, scope or character_of(seed), asset) for seed in SEEDS]
        rows = {}
        for model in tables[0]["model"].unique():
            by_metric = [one[one["model"] == model].set_index("metric") for one in tables]
            rows[model] = [_seeds(by_metric, metric) for metric in ("likeness", "fidelity")]
            rows[model].insert(0, _speed(tables, model))
        parts.append(table(["times as fast", "likeness to 25 steps", "prompted words found"], rows))
    return f"Of the base model (`lcm_lora`):\n\n{parts[0]}\nOf a character (`character_lcm_lora`):\n\n{parts[1]}", []


def unseen(found: Found) -> tuple[str, list[Arm]]:
    tables = [found.artifact(seed, f"_styles/{STYLE}", "selected_style_lora", "goal.parquet") for seed in SEEDS]
    rows = {}
    for metric in ("style_similarity", "fidelity", "leaks", "copies"):
        of_metric = [one[one["metric"] == metric].set_index("model") for one in tables]
        rows[metric.replace("_", " ")] = [_seeds(of_metric, model) for model in ("base", "lora")]
    return table(["base model", "with the style LoRA"], rows), []


def _seeds(tables: Sequence[pd.DataFrame], row: str) -> str:
    """Return each seed's values in its table's row, with the interval over its prompts."""
    known = [one.loc[row] for one in tables if row in one.index]
    return "<br>".join(f"{one['mean']:.3f} [{one['ci_low']:.3f}, {one['ci_high']:.3f}]" for one in known)


def _speed(tables: Sequence[pd.DataFrame], model: str) -> str:
    """Return the speed relative to the first model of the table, seed by seed."""
    ratios = []
    for one in tables:
        seconds = one[one["metric"] == "seconds"].set_index("model")["mean"]
        if model in seconds:
            ratios.append(f"{seconds.iloc[0] / seconds[model]:.1f}")
    return "<br>".join(ratios)


STATEMENTS: dict[str, tuple[str, Callable[[Found], tuple[str, list[Arm]]]]] = {
    "1": ("The character LoRA alone is the most consistent", together),
    "2": ("The style LoRA overfits early", early),
    "3": ("The LCM-LoRA shifts contrast and style", shifted),
    "4": ("Lowering the weight of the LCM-LoRA costs steps", weighed),
    "5": ("The LCM sampler with a low weight gives a white haze; it needs its own tuning and its own CFG", hazy),
    "6": ("Four steps instead of 25", faster),
    "7": ("A character that nobody has drawn, in the style", unseen),
}


def write_page(work: Path, page: Path) -> None:
    """Write the page, and its images to images/composition."""
    folder = page.parent / "images" / "composition"
    folder.mkdir(parents=True, exist_ok=True)
    found, (opening, readings) = Found(work), read_readings(READINGS.read_text(encoding="utf-8"))
    parts = [opening.replace("MACHINE", processor())]
    for number, (title, read) in STATEMENTS.items():
        figures, arms = read(found)
        parts += [f"## {number}. {title}\n", readings[number], figures]
        if arms:
            grid = labelled_grid(
                [in_words(arm) for arm in arms],
                [f"prompt {place + 1}" for place in range(PROMPTS)],
                [found.images(arm) for arm in arms],
                cell=96,
            )
            grid.save(folder / f"{number}.webp", quality=60, method=6)
            parts.append(f"![an image of each prompt, seed {SHOWN_SEED}](images/composition/{number}.webp)\n")
    page.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def read_readings(text: str) -> tuple[str, dict[str, str]]:
    """Return composition.md's text before its sections, and its sections by the number of their heading `## 1`."""
    opening, *sections = text.split("\n## ")
    return opening, {section[0]: section[2:].strip() + "\n" for section in sections}
