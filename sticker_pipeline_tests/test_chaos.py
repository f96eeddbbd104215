"""Updates stopped or killed at any moment give the same result. bench_chaos.py is the long form."""

import os
import random
import re
import time
from pathlib import Path

import dagster as dg
import pytest

from sticker_pipeline.core.process.guard import GO_ON
from sticker_pipeline_tests import chaos
from sticker_pipeline_tests.benchmarks.bench_chaos import held, killed

KILLS = 3  # bench_chaos.py has a hundred


@pytest.mark.timeout(900)
def test_kills_change_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(10**6)))
    print(f"KILL_SEED={seed}")
    characters = tmp_path / "characters"
    chaos.add_characters(characters, draws=48)
    (characters / "moth").rename(tmp_path / "moth")  # one character is enough here
    command = chaos.start(chaos.workspace(tmp_path / "undisturbed", characters))
    assert command.process.wait() in chaos.ENDED, "".join(command.lines)
    wanted = chaos.versions(tmp_path / "undisturbed")
    assert {"anki/frames", "anki/lora", "anki/samples", "anki/benchmark"} <= wanted.keys()
    assert list(killed(tmp_path, KILLS, 40.0, random.Random(seed), wanted)) == []


@pytest.mark.timeout(900)
def test_one_signal_ends_the_command_as_a_whole(tmp_path: Path) -> None:
    """One signal in mid-training: the training is saved, and no other character begins.

    The run is cancelled, one line says how to resume, and the same command resumes.
    """
    chaos.add_characters(tmp_path / "characters", draws=4800)
    variables = chaos.workspace(tmp_path, tmp_path / "characters")
    steps = 0
    for kill, status in zip(chaos.KILLS[:2], (130, 143), strict=True):
        command = chaos.start(variables)
        wait_for(command, r"step \d+/")
        assert chaos.hit(command, kill) == 1
        assert command.process.wait() == status
        assert chaos.wait_until_gone(command) == []
        shown = "".join(command.lines)
        assert shown.endswith(f"Stopped. {GO_ON}\n") and "Traceback" not in shown and "failed" not in shown
        assert "moth character_line" not in shown
        if steps:
            assert f"goes on after step {steps} of " in shown
        (saved,) = re.findall(r"stopped by SIGINT; (\d+) of 1,200 steps saved", shown)
        steps = int(saved)
        with dg.DagsterInstance.from_config(variables["DAGSTER_HOME"]) as instance:
            assert instance.get_runs(limit=1)[0].status == dg.DagsterRunStatus.CANCELED
        assert list(held(tmp_path)) == []

    command = chaos.start(variables)
    wait_for(command, r"step \d+/")
    chaos.hit(command, chaos.KILLS[0])
    time.sleep(1.2)
    chaos.hit(command, chaos.KILLS[0])
    assert command.process.wait() == 130
    assert chaos.wait_until_gone(command, seconds=10) == []


def wait_for(command: chaos.Command, pattern: str) -> None:
    while not any(re.match(pattern, line) for line in command.lines):
        assert command.process.poll() is None, "".join(command.lines)
        time.sleep(0.1)
