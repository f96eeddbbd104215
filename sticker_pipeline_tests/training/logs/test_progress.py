from dataclasses import replace
from typing import Any

import pytest

from sticker_pipeline.training.logs.log import LogRow, state
from sticker_pipeline.training.logs.progress import Progress, State, open_progress

STATE = State(120, 800, 2, 8, 0.12345, 0.7, 1e-5, 31.21, 83.4)


def test_line_of_the_log() -> None:
    assert STATE.line() == "step 120/800  epoch 2/8  loss 0.1235  lr 1.00e-05  31.2 img/s  about 1 min left"
    assert replace(STATE, step=800).line().endswith("img/s")


def test_lines_every_5_s_messages_every_2_s_and_both_at_an_epochs_end() -> None:
    now = 0.0
    lines: list[str] = []
    messages: list[dict[str, Any]] = []
    progress = Progress(lines.append, messages.append, clock=lambda: now)
    for second in range(11):
        now = float(second)
        progress.show(replace(STATE, step=second))
    assert [line.split("/")[0] for line in lines] == ["step 0", "step 5", "step 10"]
    assert [message["step"] for message in messages] == [0, 2, 4, 6, 8, 10]
    progress.show(STATE, always=True)
    assert len(lines) == 4 and messages[-1] == {
        "step": 120,
        "total_steps": 800,
        "epoch": 2,
        "epochs": 8,
        "loss": 0.12345,
        "grad_norm": 0.7,
        "samples_per_s": 31.21,
        "eta_s": 83.4,
    }


def test_counts_come_at_intervals_and_at_the_end() -> None:
    now = [0.0]
    lines: list[str] = []
    messages: list[dict[str, Any]] = []
    progress = Progress(lines.append, messages.append, clock=lambda: now[0])
    for now[0], done in ((0.0, 1), (1.0, 2), (2.0, 3), (3.0, 4), (3.5, 9)):
        progress.count("latents", done, 9)
    assert lines == ["latents 1/9", "latents 9/9"]
    assert [message["done"] for message in messages] == [1, 3, 9]
    assert messages[-1] == {"counted": "latents", "done": 9, "total": 9}
    progress.show(STATE)
    assert lines[-1] == STATE.line() and messages[-1] == STATE.message(), "a count delays no state"


def test_state_is_the_pace_of_the_last_steps() -> None:
    row = LogRow(1, 1, 0.5, 0.4, (0.4,) * 4, 1e-3, 0.0, 2.0, samples=4, seconds=100.0, memory_bytes=1)
    log = [row, *(replace(row, step=step, epoch=2, seconds=0.5) for step in range(2, 22))]
    assert state(log, total_steps=31, epochs=3) == State(21, 31, 2, 3, 0.5, 2.0, 1e-3, 8.0, 5.0)


def test_without_dagster_it_prints(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_PIPES_CONTEXT", raising=False)
    with open_progress() as progress:
        progress.show(STATE)
    assert capsys.readouterr().out == STATE.line() + "\n"


def test_only_the_first_process_shows_anything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("DAGSTER_PIPES_CONTEXT", "not even read")
    with open_progress() as progress:
        progress.show(STATE)
    assert capsys.readouterr().out == ""
