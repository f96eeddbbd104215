"""Runs the trials of `make experiments`, and writes docs/results/experiments.md.

As many trials at a time as there are cores, each on one thread. Finished ones are kept in the work folder and not run
again. Interrupt at will. This module has only the command line.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import click

from sticker_pipeline_tests.experiments import studio
from sticker_pipeline_tests.experiments.page import READINGS, table, write_page
from sticker_pipeline_tests.experiments.questions import QUESTIONS
from sticker_pipeline_tests.experiments.trials import SEEDS, outcome_file, outcomes_of, run_trial

HOME = Path(__file__).resolve().parents[2]


@click.command()
@click.option("--only", default=",".join(QUESTIONS), show_default=True, help="Questions to answer, comma-separated.")
@click.option("--work", type=click.Path(path_type=Path), default=Path(".build/experiments"), show_default=True)
@click.option(
    "--page",
    "target",
    type=click.Path(path_type=Path),
    default=HOME / "docs" / "results" / "experiments.md",
    show_default=True,
)
@click.option("--processes", type=click.IntRange(1), default=os.cpu_count(), show_default=True)
def main(only: str, work: Path, target: Path, processes: int) -> None:
    """Run the experiments on the embedded models, print their tables, and write their page when all are answered."""
    chosen = only.split(",")
    unknown = [name for name in chosen if name not in QUESTIONS]
    if unknown:
        raise click.BadParameter(f"unknown question {unknown[0]!r}; choose from {', '.join(QUESTIONS)}")
    work = work / studio.models_key(studio.DRAWS)
    tasks = [(name, trial, seed, work) for name in chosen for trial in QUESTIONS[name].trials for seed in SEEDS]
    missing = [task for task in tasks if not outcome_file(*task).exists()]
    click.echo(f"{len(tasks)} trials, {len(tasks) - len(missing)} of them finished")
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, done in enumerate(pool.imap_unordered(run_trial, missing, chunksize=1), 1):
            minutes = (time.monotonic() - began) / 60
            left = minutes / number * (len(missing) - number)
            click.echo(f"{number:3d} of {len(missing)}  {done}  {minutes:.1f} min, {left:.1f} min left")
    for name in chosen:
        click.echo(f"\n({name}) {QUESTIONS[name].title}\n\n{table(QUESTIONS[name], outcomes_of(name, work))}")
    if set(chosen) == set(QUESTIONS):
        write_page(work, target)
        click.echo(f"wrote {target}. Its words are those of {READINGS}: do they still fit the figures?")


if __name__ == "__main__":
    main()
