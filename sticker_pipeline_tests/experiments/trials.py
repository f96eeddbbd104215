"""Runs trials in their own processes, and keeps the results, in a folder each: metrics, curves, images.

`questions` defines trials; `page` shows outcomes. Nothing here may move to `__main__`: a spawned process cannot find
the functions of a package's `__main__`.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from PIL import Image

from sticker_pipeline.embedded.build import processor
from sticker_pipeline_tests.experiments.questions import QUESTIONS, Outcome

SEEDS = (0, 1, 2)


def outcome_file(name: str, trial: str, seed: int, work: Path) -> Path:
    """Return the file of one trial's outcome."""
    return work / f"{name} {trial} {seed}".replace(" ", "_").replace(",", "") / "outcome.json"


def run_trial(task: tuple[str, str, int, Path]) -> str:
    """Run one trial and keep its figures, curves and images; returns what was done, in words."""
    import torch

    torch.set_num_threads(1)
    name, trial, seed, _ = task
    file = outcome_file(*task)
    shutil.rmtree(file.parent, ignore_errors=True)
    started = time.monotonic()
    outcomes = QUESTIONS[name].trials[trial](seed, file.parent / "training")
    kept = {}
    for way, outcome in outcomes.items():
        folder = file.parent / f"images{way}"
        folder.mkdir()
        for number, image in enumerate(outcome.images):
            image.save(folder / f"{number:02d}.png")
        kept[way] = {"figures": dict(outcome.figures), "curves": dict(outcome.curves)}
    shutil.rmtree(file.parent / "training")
    seconds = time.monotonic() - started
    file.write_text(json.dumps({"outcomes": kept, "seconds": seconds, "machine": processor()}, indent=1))
    return f"{name}: {trial}, seed {seed}: {seconds:.0f} s;"


Arms = dict[tuple[str, str], list[Outcome]]
"""What is compared, as (trial, way of using its LoRA) -> its outcome for each of SEEDS."""


def outcomes_of(name: str, work: Path) -> Arms:
    """The kept outcomes of a question."""
    arms: Arms = {}
    for trial in QUESTIONS[name].trials:
        for seed in SEEDS:
            file = outcome_file(name, trial, seed, work)
            for way, kept in json.loads(file.read_text())["outcomes"].items():
                paths = sorted((file.parent / f"images{way}").glob("*.png"))
                arms.setdefault((trial, way), []).append(
                    Outcome(kept["figures"], [Image.open(path).convert("RGB") for path in paths], kept["curves"])
                )
    return arms
