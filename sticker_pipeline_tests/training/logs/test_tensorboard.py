from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sticker_pipeline.training.logs.log import LogRow
from sticker_pipeline.training.logs.tensorboard import Board, open_board


def row(step: int) -> LogRow:
    bands = (0.5, float("nan"), float("nan"), float("nan"))
    return LogRow(step, 1, step / 2, 0.5, bands, 1e-4, 0.0, 0.25, samples=4, seconds=2.0, memory_bytes=7)


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_curves_and_images_are_there_for_tensorboard(tmp_path: Path) -> None:
    with open_board(tmp_path, 0) as board:
        for step in (1, 2):
            board.step(row(step))
        board.image("sample_0", Image.fromarray(np.zeros((4, 6, 3), np.uint8)), 2)
    assert points(tmp_path, "training/loss") == [(1, 0.5), (2, 1.0)]
    assert points(tmp_path, "training/samples_per_s") == [(1, 2.0), (2, 2.0)]
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()
    assert "training/error/0_250" in tags["scalars"] and "training/error/250_500" not in tags["scalars"]
    assert tags["images"] == ["sample_0"]


def test_norms_are_there_where_they_are_limited(tmp_path: Path) -> None:
    with open_board(tmp_path, 0) as board:
        board.step(row(1))
        board.step(replace(row(2), weights_scaled=3, weight_norm=0.5))
    assert points(tmp_path, "training/weight_norm") == [(2, 0.5)]
    assert points(tmp_path, "training/weights_scaled") == [(2, 3.0)]


def test_what_comes_after_the_state_is_drawn_once(tmp_path: Path) -> None:
    """Steps 2 and 3 were done, and lost with the process: the curve goes on from step 1."""
    with open_board(tmp_path, 0) as board:
        for step in (1, 2, 3):
            board.step(row(step))
    with open_board(tmp_path, 1) as board:
        board.step(row(2))
    assert [step for step, _ in points(tmp_path, "training/loss")] == [1, 2]


def test_processes_without_a_folder_write_nothing(tmp_path: Path) -> None:
    with open_board(None, 0) as board:
        board.step(row(1))
        board.image("sample_0", Image.new("RGB", (1, 1)), 1)
    assert isinstance(board, Board) and not list(tmp_path.iterdir())
