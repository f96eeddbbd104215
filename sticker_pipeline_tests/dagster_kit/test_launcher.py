"""Any end of a training step: no live process remains, and a checkpoint exists."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.dagster_kit.launcher import _ending
from sticker_pipeline.diffusion.lora.file import read_lora
from sticker_pipeline.training.spec import TrainingSpec, save_spec
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.tiny_models import build_tiny_pipeline
from sticker_pipeline_tests.training.conftest import write_training_set

STEP = "sticker_pipeline_tests.dagster_kit.step_process"
SUPERVISOR = "sticker_pipeline.training.supervisor"
STUBBORN = "sticker_pipeline_tests.dagster_kit.stubborn_trainer"


@contextmanager
def started_step(log: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen, list[psutil.Process]]]:
    """The step process once its trainer has reported progress, with every process below it."""
    with log.open("w") as out:
        # our processes do not look for modules in the working folder; the trainers of these tests lie there
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        step = subprocess.Popen([sys.executable, "-m", STEP, *arguments], stdout=out, stderr=out, env=environment)
        family: list[psutil.Process] = []
        try:
            deadline = time.monotonic() + 240
            while "progress {'step'" not in log.read_text():  # not what it counts before
                assert step.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.1)
            family = psutil.Process(step.pid).children(recursive=True)
            yield step, family
        finally:
            for process in [*family, step]:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            step.wait()


def assert_all_end(family: list[psutil.Process], seconds: float) -> None:
    _, alive = psutil.wait_procs(family, timeout=seconds)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("behaviour", ["ignore-int", "ignore-all"])
def test_stubborn_trainer_and_its_child_end(tmp_path: Path, behaviour: str, ending: signal.Signals) -> None:
    with started_step(tmp_path / "log", STUBBORN, "1", behaviour, str(tmp_path)) as (step, family):
        assert len(family) >= 3  # supervisor, trainer, the trainer's child
        os.kill(step.pid, ending)
        step.wait(timeout=60)
        assert_all_end(family, 60)
    assert (tmp_path / "checkpoint").exists()


def test_a_killed_supervisor_takes_the_trainer_with_it(tmp_path: Path) -> None:
    with started_step(tmp_path / "log", STUBBORN, "1", "ignore-all", str(tmp_path)) as (step, family):
        next(process for process in family if SUPERVISOR in process.cmdline()).kill()
        assert step.wait(timeout=60) == 1
        assert_all_end(family, 60)
    assert "was ended by signal 9 (SIGKILL)" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("code", "words"), [(2, "exit status 2"), (255, "exit status 255"), (143, "signal 15 (SIGTERM)"), (-9, "SIGKILL")]
)
def test_every_ending_has_words(code: int, words: str) -> None:
    assert words in _ending(code)


def test_trainer_that_fails_fails_the_step(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", STEP, "sticker_pipeline.training", "1", str(tmp_path / "no_such_spec.json")]
    step = subprocess.run(arguments, capture_output=True, text=True, timeout=240, check=False)
    assert step.returncode == 1
    assert "TrainerFailed" in step.stderr + step.stdout
    assert "no_such_spec.json" in step.stderr + step.stdout


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_the_trainer_saves_a_checkpoint_and_ends(tmp_path: Path, ending: signal.Signals) -> None:
    """A cancelled step, and one that is killed outright: the trainer notices, saves and is gone."""
    write_training_set(tmp_path / "set")
    spec = TrainingSpec(
        name="nova",
        trigger="nova_tag",
        base=build_tiny_pipeline(tmp_path / "base"),
        base_sha="ab12",
        training_set=tmp_path / "set",
        frames=tmp_path / "set" / "frames",
        output=tmp_path / "out",
        cache=tmp_path / "cache",
        resolution=32,
        settings=TrainingSettings(rank=4, epochs=2, samples_per_epoch=100_000),
    )
    save_spec(spec, tmp_path / "spec.json")
    trainer = ("sticker_pipeline.training", "30", str(tmp_path / "spec.json"))
    with started_step(tmp_path / "log", *trainer) as (step, family):
        os.kill(step.pid, ending)
        step.wait(timeout=60)
        assert_all_end(family, 60)
    checkpoint = next((tmp_path / "out" / "checkpoints").glob("interrupted_step_*.safetensors"))
    assert read_lora(checkpoint).adapters
