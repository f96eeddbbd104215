"""An update that is killed at random moments comes out as any other. bench_chaos.py is the long form."""

import os
import random
from pathlib import Path

import pytest

from sticker_pipeline_tests import chaos
from sticker_pipeline_tests.benchmarks.bench_chaos import killed

KILLS = 7


@pytest.mark.timeout(900)
def test_kills_change_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(10**6)))
    print(f"KILL_SEED={seed}")
    chaos.add_characters(tmp_path / "characters", draws=48)
    folder = tmp_path / "characters" / "moth"
    folder.rename(tmp_path / "moth")  # one character is enough here
    command = chaos.start(chaos.workspace(tmp_path / "undisturbed", tmp_path / "characters"))
    assert command.process.wait() == 0, "".join(command.lines)
    wanted = chaos.versions(tmp_path / "undisturbed")
    assert {"anki/frames", "anki/lora", "anki/samples", "anki/benchmark"} <= wanted.keys()
    assert list(killed(tmp_path, KILLS, 40.0, random.Random(seed), wanted)) == []
