"""Writes docs/results/experiments.md from kept outcomes: a table, an image and a reading for each question.

Nothing is trained or measured here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sticker_pipeline.core.images import labelled_grid, line_chart
from sticker_pipeline_tests.experiments import studio
from sticker_pipeline_tests.experiments.questions import QUESTIONS, Question
from sticker_pipeline_tests.experiments.trials import SEEDS, Arms, outcomes_of

READINGS = Path(__file__).with_name("readings.md")  # what a person says of the figures: to be read again with new ones


def write_page(work: Path, page: Path) -> None:
    """Write the page with a table, an image and a reading for each question; images go to images/experiments."""
    folder = page.parent / "images" / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    notes = [json.loads(path.read_text()) for path in sorted(work.glob("*/outcome.json"))]
    readings = read_readings(READINGS.read_text())
    parts = [opening(notes)]
    for name, question in QUESTIONS.items():
        arms = outcomes_of(name, work)
        image(question, arms).save(folder / f"{name}.webp", quality=85)
        section = [f"## ({name}) {question.title}\n", f"{question.setting}\n", table(question, arms)]
        section += [f"![generated images, by arm](images/experiments/{name}.webp)\n"]
        if any(outcome.curves for outcomes in arms.values() for outcome in outcomes):
            curves(arms).save(folder / f"{name}_curves.webp", quality=85)
            section += [f"![curves over epochs, mean of the seeds](images/experiments/{name}_curves.webp)\n"]
        parts += [*section, readings[name]]
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
        f"in brackets the lowest and the highest. A training draws {studio.DRAWS} images if not said otherwise.\n"
        "Rows of images are the arms, columns six prompts of the first seed.\n"
    )


def table(question: Question, arms: Arms) -> str:
    """A row for each arm, a column for each figure; below, what the figures say."""
    names = list(question.figures)
    rows = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for (trial, way), outcomes in arms.items():
        cells = [cell([outcome.figures[name] for outcome in outcomes]) for name in names]
        rows.append(f"| {trial}{way} | " + " | ".join(cells) + " |")
    meanings = [f"- *{name}*: {text}" for name, text in question.figures.items()]
    return "\n".join([*rows, "", *meanings, ""])


def cell(values: list[float]) -> str:
    """Mean [lowest, highest]."""
    return f"{np.mean(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def image(question: Question, arms: Arms) -> Image.Image:
    """The images of the first seed, a row for each arm."""
    rows = [list(outcomes[0].images) for outcomes in arms.values()]
    return labelled_grid([trial + way for trial, way in arms], question.columns, rows, cell=96)


def curves(arms: Arms) -> Image.Image:
    """Each arm's curves over epochs, averaged over seeds; ways of using one training share theirs."""
    series = {}
    for (trial, _), outcomes in arms.items():
        for name in outcomes[0].curves:
            mean = np.mean([outcome.curves[name] for outcome in outcomes], axis=0)
            series[f"{trial}: {name}"] = (np.arange(1, len(mean) + 1), mean)
    return line_chart(series, title="mean over the seeds", x="epoch", y="CLIP cosine")


def read_readings(text: str) -> dict[str, str]:
    """The sections of readings.md by the letter of their heading `## a`: what a person says of the figures."""
    sections = [section for section in text.split("\n## ") if section[:1] in QUESTIONS and section[1:2] == "\n"]
    return {section[0]: section[2:].strip() + "\n" for section in sections}
