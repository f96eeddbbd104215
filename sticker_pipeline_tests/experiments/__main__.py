"""`python -m sticker_pipeline_tests.experiments` (`make experiments`): runs the trials, and writes docs/experiments.md.

As many trials at a time as there are cores, each on one thread; finished ones are kept in the work folder and not run
again. Interrupt at will.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from sticker_pipeline.embedded.build import processor
from sticker_pipeline.pictures import labelled_grid, line_chart
from sticker_pipeline.storage import content_hash, file_sha256
from sticker_pipeline_tests.experiments import studio
from sticker_pipeline_tests.experiments.questions import QUESTIONS, Outcome, Question

SEEDS = (0, 1, 2)
HOME = Path(__file__).resolve().parents[2]
READINGS = Path(__file__).with_name("readings.md")  # what a person says of the figures, where somebody has


@click.command()
@click.option("--only", default=",".join(QUESTIONS), show_default=True, help="Questions to answer, comma-separated.")
@click.option("--work", type=click.Path(path_type=Path), default=Path(".build/experiments"), show_default=True)
@click.option("--page", type=click.Path(path_type=Path), default=HOME / "docs" / "experiments.md", show_default=True)
@click.option("--processes", type=click.IntRange(1), default=os.cpu_count(), show_default=True)
def main(only: str, work: Path, page: Path, processes: int) -> None:
    """Run the experiments on the embedded models (under an hour on two cores) and write their page."""
    chosen = only.split(",")
    unknown = [name for name in chosen if name not in QUESTIONS]
    if unknown:
        raise click.BadParameter(f"unknown question {unknown[0]!r}; choose from {', '.join(QUESTIONS)}")
    work = work / models_key()
    tasks = [(name, trial, seed, work) for name in chosen for trial in QUESTIONS[name].trials for seed in SEEDS]
    missing = [task for task in tasks if not outcome_file(*task).exists()]
    click.echo(f"{len(tasks)} trials, {len(tasks) - len(missing)} of them finished")
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, done in enumerate(pool.imap_unordered(run_trial, missing, chunksize=1), 1):
            minutes = (time.monotonic() - began) / 60
            left = minutes / number * (len(missing) - number)
            click.echo(f"{number:3d} of {len(missing)}  {done}  {minutes:.1f} min, {left:.1f} min left")
    if set(chosen) == set(QUESTIONS):
        write_page(work, page)
        click.echo(f"wrote {page}")


def models_key() -> str:
    """Eight hex digits of the embedded models and of the profile's settings: outcomes of others are never mixed in."""
    weights = sorted(studio.MODELS.glob("embedded/*/**/*.safetensors")) + sorted(
        studio.MODELS.glob("embedded/*/*.onnx")
    )
    used = studio.profile().model_dump(mode="json", exclude={"base", "tagger", "clip"})
    return content_hash([used, studio.DRAWS, *(file_sha256(path) for path in weights)])[:8]


def outcome_file(name: str, trial: str, seed: int, work: Path) -> Path:
    """Where the outcome of one trial is kept."""
    return work / f"{name} {trial} {seed}".replace(" ", "_").replace(",", "") / "outcome.json"


def run_trial(task: tuple[str, str, int, Path]) -> str:
    """Run one trial and keep its figures, curves and pictures; returns what was done, in words."""
    import torch

    torch.set_num_threads(1)
    name, trial, seed, _ = task
    file = outcome_file(*task)
    shutil.rmtree(file.parent, ignore_errors=True)
    started = time.monotonic()
    outcomes = QUESTIONS[name].trials[trial](seed, file.parent / "training")
    kept = {}
    for way, outcome in outcomes.items():
        folder = file.parent / f"pictures{way}"
        folder.mkdir()
        for number, picture in enumerate(outcome.pictures):
            picture.save(folder / f"{number:02d}.png")
        kept[way] = {"figures": dict(outcome.figures), "curves": dict(outcome.curves)}
    shutil.rmtree(file.parent / "training")
    seconds = time.monotonic() - started
    file.write_text(json.dumps({"outcomes": kept, "seconds": seconds, "machine": processor()}, indent=1))
    return f"{name}: {trial}, seed {seed}: {seconds:.0f} s;"


def outcomes_of(name: str, work: Path) -> dict[str, list[Outcome]]:
    """The kept outcomes of a question: arm -> one for each of SEEDS."""
    arms: dict[str, list[Outcome]] = {}
    for trial in QUESTIONS[name].trials:
        for seed in SEEDS:
            file = outcome_file(name, trial, seed, work)
            for way, kept in json.loads(file.read_text())["outcomes"].items():
                paths = sorted((file.parent / f"pictures{way}").glob("*.png"))
                arms.setdefault(trial + way, []).append(
                    Outcome(kept["figures"], [Image.open(path).convert("RGB") for path in paths], kept["curves"])
                )
    return arms


# --- the page ---------------------------------------------------------------------------------------------------------


def write_page(work: Path, page: Path) -> None:
    """Write the page with a table, a picture and a reading for each question; pictures go to images/experiments."""
    folder = page.parent / "images" / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    notes = [json.loads(path.read_text()) for path in sorted(work.glob("*/outcome.json"))]
    readings = read_readings(READINGS.read_text()) if READINGS.exists() else {}
    parts = [opening(notes)]
    for name, question in QUESTIONS.items():
        arms = outcomes_of(name, work)
        picture(question, arms).save(folder / f"{name}.webp", quality=85)
        section = [f"## ({name}) {question.title}\n", f"{question.setting}\n", table(question, arms)]
        section += [f"![generated pictures, by arm](images/experiments/{name}.webp)\n"]
        if any(outcome.curves for outcomes in arms.values() for outcome in outcomes):
            curves(arms).save(folder / f"{name}_curves.webp", quality=85)
            section += [f"![curves over epochs, mean of the seeds](images/experiments/{name}_curves.webp)\n"]
        parts += [*section, readings.get(name, "")]
    page.write_text("\n".join(parts).rstrip() + "\n")


def opening(notes: list[dict[str, Any]]) -> str:
    """The page's head: what was run, where, how long."""
    minutes = sum(note["seconds"] for note in notes) / 60
    return (
        "# Experiments\n\n"
        "Observations that people share about training character LoRAs, tried on the embedded base model and its\n"
        "drawn characters: tiny models, 96 pixels. What shows here need not show on SD1.5, and the other way round.\n\n"
        f"Command: `make experiments`. {len(notes)} trainings, {minutes:.0f} minutes of one core in all, "
        f"on {', '.join(sorted({note['machine'] for note in notes}))}.\n"
        f"Each arm has {len(SEEDS)} seeds, each with another invented character; a cell is the mean over them, and\n"
        f"in brackets the lowest and the highest. A training draws {studio.DRAWS} pictures if not said otherwise.\n"
        "Rows of pictures are the arms, columns six prompts of the first seed.\n"
    )


def table(question: Question, arms: dict[str, list[Outcome]]) -> str:
    """A row for each arm, a column for each figure; below, what the figures say."""
    names = list(question.figures)
    rows = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for arm, outcomes in arms.items():
        cells = [cell([outcome.figures[name] for outcome in outcomes]) for name in names]
        rows.append(f"| {arm} | " + " | ".join(cells) + " |")
    meanings = [f"- *{name}*: {text}" for name, text in question.figures.items()]
    return "\n".join([*rows, "", *meanings, ""])


def cell(values: list[float]) -> str:
    """Mean [lowest, highest]."""
    return f"{np.mean(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def picture(question: Question, arms: dict[str, list[Outcome]]) -> Image.Image:
    """The pictures of the first seed, a row for each arm."""
    rows = [list(outcomes[0].pictures) for outcomes in arms.values()]
    return labelled_grid(list(arms), [", ".join(tags) for tags in studio.ATTRIBUTES], rows, cell=96)


def curves(arms: dict[str, list[Outcome]]) -> Image.Image:
    """Each arm's curves over epochs, averaged over seeds; ways of using one training share theirs."""
    series = {}
    for arm, outcomes in arms.items():
        for name in outcomes[0].curves:
            mean = np.mean([outcome.curves[name] for outcome in outcomes], axis=0)
            series[f"{arm.split(', ')[0] if ', last' in arm or ', stopped' in arm else arm}: {name}"] = (
                np.arange(1, len(mean) + 1),
                mean,
            )
    return line_chart(series, title="mean over the seeds", x="epoch", y="CLIP cosine")


def read_readings(text: str) -> dict[str, str]:
    """The sections of readings.md by the letter of their heading `## a`: what a person says of the figures."""
    sections = [section for section in text.split("\n## ") if section[:1] in QUESTIONS and section[1:2] == "\n"]
    return {section[0]: section[2:].strip() + "\n" for section in sections}


if __name__ == "__main__":
    main()
