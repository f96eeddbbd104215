"""`python -m sticker_pipeline_tests.experiments.training_sweep`: LoRA settings compared on the demo characters.

Do the defaults of the profile `embedded` pass their gates, and are other settings better? The table goes to
data/models/embedded/report/training_sweep.json, from which REPORT.md is written. Finished trainings are kept and not
run again.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.memorisation import nearest_training
from sticker_pipeline.benchmark.similarity import clip_similarity, diversity, reference_similarity, source_means
from sticker_pipeline.core.character import Character, load_character
from sticker_pipeline.core.profile import SETTINGS_VARIABLE
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.core.storage import content_hash, file_sha256
from sticker_pipeline.embedded import report
from sticker_pipeline.embedded.build import processor
from sticker_pipeline.embedded.roster import demo_characters
from sticker_pipeline.embedded.scene import identity_tags
from sticker_pipeline.generation.prompts import benchmark_prompts, join_tags
from sticker_pipeline.sampling.weights import SAMPLES_PER_SOURCE
from sticker_pipeline_tests.experiments import studio

DEMO = studio.MODELS.parent / "characters"
RESULTS = studio.MODELS / "embedded" / report.IMAGES / report.TRAINING_SWEEP
SEEDS_PER_PROMPT = 4
DEFAULTS: dict[str, Any] = {}  # the profile's own settings
GRID: tuple[dict[str, Any], ...] = (
    {"rank": 4, "alpha": 4.0},
    {"rank": 32, "alpha": 32.0},
    {"targets": "attention"},
    {"learning_rate_unet": 5e-4, "learning_rate_text_encoder": 2.5e-4},
    {"learning_rate_unet": 2e-3, "learning_rate_text_encoder": 1e-3},
    {"learning_rate_text_encoder": 0.0},
    {"epochs": 16},
)
"""What is compared with the defaults: one departure from them at a time."""


@dataclass(frozen=True)
class Trial:
    """One training: a demo character, settings that depart from the profile's, a seed."""

    character: str
    settings: Mapping[str, Any]
    seed: int

    @property
    def name(self) -> str:
        """A folder's name."""
        return content_hash([self.character, dict(self.settings), self.seed])[:12]


@click.command()
@click.option("--gates", is_flag=True, help="Only the defaults, with three seeds: do they pass?")
@click.option("--work", type=click.Path(path_type=Path), default=Path(".build/training_sweep"), show_default=True)
@click.option("--processes", type=click.IntRange(1), default=os.cpu_count(), show_default=True)
def main(gates: bool, work: Path, processes: int) -> None:
    """Train and judge; print the table and the gates of the defaults; write them for the report."""
    media = [path for name in demo_characters() for path in sorted((DEMO / name).rglob("*")) if path.is_file()]
    work = work.absolute() / studio.models_key(*(file_sha256(path) for path in media))
    make_datasets(work / "artifacts")
    defaults = [Trial(name, DEFAULTS, seed) for seed in (0, 1, 2) for name in demo_characters()]
    departures = [Trial(name, settings, 0) for settings in GRID for name in demo_characters()]
    wanted = defaults if gates else defaults + departures
    missing = [trial for trial in wanted if not figures_file(trial, work).exists()]
    click.echo(f"{len(wanted)} trainings, {len(wanted) - len(missing)} of them finished")
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, line in enumerate(pool.imap_unordered(run_trial, [(trial, work) for trial in missing]), 1):
            click.echo(f"{number:3d} of {len(missing)}  {line}  {(time.monotonic() - began) / 60:.1f} min")
    files = [figures_file(trial, work) for trial in defaults + departures]
    rows = pd.DataFrame([row for file in files if file.exists() for row in json.loads(file.read_text())])
    RESULTS.write_text(json.dumps(rows.to_dict("records"), indent=1) + "\n")
    click.echo(report.lora_section(RESULTS.parents[1]).text)
    for gate in report.lora_gates(rows):
        click.echo(report.verdict(gate))
    click.echo("Now put these into REPORT.md: python -m sticker_pipeline.embedded --only report")


def figures_file(trial: Trial, work: Path) -> Path:
    """Return the file of one trial's metrics."""
    return work / trial.name / "figures.json"


def make_datasets(artifacts: Path) -> None:
    """The demo characters' training sets, made by the assets themselves."""
    import dagster as dg
    from rich.console import Console

    from sticker_pipeline.cli.update import update
    from sticker_pipeline.definitions import defs
    from sticker_pipeline.defs.resources import workspace_from_environment

    os.environ["STICKER_CHARACTERS"] = str(DEMO)
    os.environ["STICKER_ARTIFACTS"] = str(artifacts)
    os.environ["STICKER_MODELS"] = str(studio.MODELS)
    os.environ[SETTINGS_VARIABLE] = studio.profile().name
    workspace = workspace_from_environment()
    demo = [known for known in workspace.valid_characters()[0] if known[0].name in demo_characters()]
    with dg.DagsterInstance.ephemeral() as instance:
        if not update(defs(), instance, workspace, demo, Console(), jobs=("dataset_line",)):
            raise click.ClickException("a training set could not be made; the reason stands above")


# --- one training -----------------------------------------------------------------------------------------------------


def run_trial(task: tuple[Trial, Path]) -> str:
    """Train and judge one trial; keeps its figures, one row for each style; returns what was done, in words."""
    import torch

    torch.set_num_threads(1)
    trial, work = task
    folder = work / trial.name
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    lora = train(trial, work, folder)
    trained = time.monotonic() - started
    rows = [{**row, "train_seconds": round(trained, 1), "machine": processor()} for row in judge(trial, work, lora)]
    shutil.rmtree(folder / "lora")
    figures_file(trial, work).write_text(json.dumps(rows, indent=1))
    shown = "  ".join(f"{row['medium']} {row['share_of_ceiling']:.2f}" for row in rows)
    return f"{trial.character} {dict(trial.settings)} seed {trial.seed}: trained in {trained:.0f} s  {shown}"


def dataset(character: str, work: Path) -> tuple[Path, pd.DataFrame]:
    """The frames' folder, and the training set's rows with source and group of each."""
    frames = work / "artifacts" / character / "frames"
    table = pd.read_parquet(work / "artifacts" / character / "training_set" / "index.parquet")
    sources = pd.read_parquet(frames / "index.parquet")[["frame_id", "source_id", "group"]]
    return frames, table.merge(sources, on="frame_id", validate="one_to_one")


def train(trial: Trial, work: Path, folder: Path) -> Path:
    """Train as the asset `lora` does; returns the last checkpoint."""
    frames, rows = dataset(trial.character, work)
    character = loaded(trial.character)
    usual = {**studio.profile().training.model_dump(), **character.settings.training}
    chosen = TrainingSettings.model_validate({**usual, **trial.settings, "seed": trial.seed})
    draws = chosen.samples_per_epoch or SAMPLES_PER_SOURCE * rows.loc[rows["split"] == "train", "source_id"].nunique()
    settings = chosen.model_copy(update={"samples_per_epoch": draws})
    training_set = work / "artifacts" / trial.character / "training_set"
    return studio.train_on(training_set, frames, character.trigger, settings, folder / "lora", work / "latents")[-1]


def loaded(name: str) -> Character:
    """The demo character `name` from its folder."""
    return load_character(DEMO / name)


def judge(trial: Trial, work: Path, lora: Path) -> list[dict[str, Any]]:
    """One row for each medium: similarity with and without the trigger, obedience, copying; of LoRA and base."""
    frames, rows = dataset(trial.character, work)
    character = loaded(trial.character)
    mediums = {name: group.medium for name, group in character.groups.items()}
    rows = rows.assign(medium=rows["group"].map(mediums))
    trained = images(frames, rows[rows["split"] == "train"])
    result = []
    for medium, part in rows[rows["split"] == "holdout"].groupby("medium"):
        held = images(frames, part)
        sources = source_means(held, part["source_id"].tolist())
        ceiling = reference_similarity(sources)
        wanted = [prompt for prompt in benchmark_prompts(character, studio.profile()) if prompt.medium == medium]
        asked = [prompt.attributes.split(", ") for prompt in wanted for _ in range(SEEDS_PER_PROMPT)]
        texts = [prompt.text for prompt in wanted]
        others = [join_tags([stranger(trial.character), *without(prompt.text, character)]) for prompt in wanted]
        base = base_images(tuple(texts))
        with_trigger, elsewise = (studio.generated(lora, prompts, SEEDS_PER_PROMPT) for prompts in (texts, others))
        made = studio.embedded(with_trigger)
        similarity, spread = clip_similarity(made, sources).mean, diversity(made)
        nothing = clip_similarity(studio.embedded(elsewise), sources).mean
        result.append(
            {
                "character": trial.character,
                "settings": json.dumps(dict(trial.settings)),
                "seed": trial.seed,
                "medium": medium,
                "base": clip_similarity(studio.embedded(base), sources).mean,
                "lora": similarity,
                "references": ceiling.mean if ceiling else float("nan"),
                "share_of_ceiling": similarity / ceiling.mean if ceiling else float("nan"),
                "without_trigger": nothing,
                "trigger_effect": similarity - nothing,
                "free_base": studio.found(base, asked),
                "free_lora": studio.found(with_trigger, asked),
                "nearest_lora": nearest_training(made, trained).mean,
                "nearest_holdout": nearest_training(held, trained).mean,
                "diversity": spread.mean if spread else float("nan"),
            }
        )
    return result


@functools.cache
def base_images(prompts: tuple[str, ...]) -> list[Image.Image]:
    """Return the base model's images; they are the same for every trial."""
    return studio.generated(None, prompts, SEEDS_PER_PROMPT)


def images(frames: Path, rows: pd.DataFrame) -> np.ndarray:
    """Embeddings of the rows' images."""
    return studio.embedded([Image.open(frames / file) for file in rows["file"]])


def stranger(name: str) -> str:
    """Tags of another demo character: what the LoRA is prompted with in place of the trigger."""
    names = list(demo_characters())
    other = demo_characters()[names[(names.index(name) + 1) % len(names)]]
    return ", ".join(identity_tags(other))


def without(prompt: str, character: Character) -> list[str]:
    """The tags of `prompt` but for the trigger and the learned ones."""
    learned = {character.trigger, *(tag for group in character.groups.values() for tag in group.learned)}
    return [tag for tag in prompt.split(", ") if tag not in learned]


if __name__ == "__main__":
    main()
