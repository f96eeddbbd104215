"""Trainings that go on from their saved state, also on another machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sticker_pipeline.dagster_kit.launcher import TrainerLauncher, progress_observer
from sticker_pipeline.dagster_kit.step import Step

TRAINER = "sticker_pipeline.training"


def train_in(
    work: Step[Any], launcher: TrainerLauncher, output: Path, arguments: Sequence[str], module: str = TRAINER
) -> None:
    """Run the trainer; save its folder `output` in the store.

    `output`: of `store.work`. Raises as `launcher.train`; Superseded where another run took the training over.
    """
    observe, ended = progress_observer(work.context), False
    with work.store.working(work.scope.place, output.name) as save:

        def progress(message: Mapping[str, Any]) -> None:
            nonlocal ended
            observe(message)
            save(at_once=ended)  # the state of an epoch is written after its message
            ended = "epoch_done" in message

        launcher.train(work.context, arguments, progress, module)


def finish(work: Step[Any], output: Path) -> None:
    """Discard the training's folder `output`: its results are published."""
    work.store.finish_work(work.scope.place, output.name)
