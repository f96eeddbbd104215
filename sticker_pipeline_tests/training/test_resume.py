"""A killed training resumes, and ends with the same bytes as an uninterrupted one."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from sticker_pipeline.core.files.space import SpaceError
from sticker_pipeline.core.process.threads import processors, waiting_asleep
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.logs.tables import LOG
from sticker_pipeline.training.saved_state import last_intact
from sticker_pipeline.training.spec import TrainingSpec, save_spec
from sticker_pipeline.training.state import keep_state
from sticker_pipeline.training.train import train
from sticker_pipeline_tests.damage import damaged_files, flip
from sticker_pipeline_tests.training.conftest import SpecMaker

QUIET = Progress(lambda line: None)
SEED = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(10**6)
SETTINGS = {"epochs": 2, "samples_per_epoch": 8, "batch_size": 2, "cycles": 2}  # 4 steps in each of 2 epochs

# What holds state of its own beside the weights: moments, averages, accumulated batches, cached and varied texts.
VARIANTS: list[dict[str, Any]] = [
    {"ema_decay": 0.9, "gradient_accumulation": 2, "batch_size": 1},
    {"optimizer": "prodigy", "learning_rate_unet": 1.0, "learning_rate_text_encoder": 1.0, "schedule": "cosine"},
    {"optimizer": "adafactor", "learning_rate_text_encoder": 0.0, "shuffle_tags": True, "tag_dropout": 0.2},
    {"targets": "all+conv", "conv_rank": 2, "dora": True, "flip": True},
    {"max_weight_norm": 1e-3, "ema_decay": 0.9, "schedule": "constant", "warmup_fraction": 0.0},
]


class Killed(BaseException):
    """Stands for SIGKILL inside this process: nothing of the trainer's may catch it."""


def results(output: Path) -> dict[str, str]:
    """Hashes of all that a person gets from a training."""
    files = [*output.glob("checkpoints/*"), *output.glob("samples/*")]
    return {path.name: file_sha256(path) for path in files}


def logs(output: Path) -> list[pd.DataFrame]:
    steady = [name for name in LOG.names if name not in ("samples_per_s", "seconds", "memory_bytes")]
    return [pd.read_parquet(output / "log.parquet")[steady], pd.read_parquet(output / "validation_loss.parquet")]


def assert_same(first: Path, second: Path) -> None:
    assert results(first) == results(second)
    for one, other in zip(logs(first), logs(second), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def killed_at(spec: TrainingSpec, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until `step` steps are done, and die there."""
    import sticker_pipeline.training.train as module

    original = module.training_step

    def dying(run: Any, *rest: Any) -> Any:
        if len(run.history.log) == step:
            raise Killed
        return original(run, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(module, "training_step", dying)
        patched.setattr(module, "keep_logs", lambda run: None)  # a SIGKILL leaves no time for a last log
        with pytest.raises(Killed):
            train(spec, QUIET)


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda settings: "-".join(settings))
def test_killed_at_random_steps(
    settings: dict[str, Any], make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(settings={**SETTINGS, **settings}, sample_prompts=["nova_tag, smile"], state_seconds=0)
    whole = spec.model_copy(update={"output": tmp_path / "whole"})
    train(whole, QUIET)
    dice = random.Random(SEED)
    steps = sorted(dice.sample(range(8), 2))
    print(f"KILL_SEED={SEED}: killed after steps {steps}")
    for step in steps:
        killed_at(spec, step, monkeypatch)
    lines: list[str] = []
    train(spec, Progress(lines.append))
    assert any(line.startswith(f"goes on after step {steps[-1]} of ") for line in lines) == (steps[-1] > 0)
    assert_same(spec.output, whole.output)


# The weights of a LoRA on convolutions of 3×3 have convolutions of 1×1, for which PyTorch has another kernel with one
# thread: without the number in the state, the bytes would differ.
CONVOLUTIONS = {**SETTINGS, "targets": "all+conv", "conv_rank": 2}


def test_it_goes_on_with_another_number_of_threads(
    two_threads: None, make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(settings={**CONVOLUTIONS, "epochs": 1}, state_seconds=0)
    whole = spec.model_copy(update={"output": tmp_path / "whole"})
    with waiting_asleep(2, len(processors())):  # other tests run meanwhile
        train(whole, QUIET)
        killed_at(spec, 2, monkeypatch)
        torch.set_num_threads(1)
        train(spec, QUIET)
    assert_same(spec.output, whole.output)
    assert torch.get_num_threads() == 2


def test_a_machine_that_is_busy_now_and_then_changes_nothing(
    two_threads: None, make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sticker_pipeline.training.train as module

    spec = make_spec(settings={**CONVOLUTIONS, "epochs": 1})
    whole = spec.model_copy(update={"output": tmp_path / "whole"})
    original, spun = module.training_step, random.Random(SEED).randrange(4)

    with ExitStack() as asleep:
        asleep.enter_context(waiting_asleep(2, len(processors())))
        train(whole, QUIET)

        def disturbed(run: Any, *rest: Any) -> Any:
            if len(run.history.log) == spun:
                asleep.close()
                row = original(run, *rest)
                asleep.enter_context(waiting_asleep(2, len(processors())))
                return row
            return original(run, *rest)

        monkeypatch.setattr(module, "training_step", disturbed)
        train(spec, QUIET)
    assert_same(spec.output, whole.output)


def test_killed_for_real(make_spec: SpecMaker, tmp_path: Path) -> None:
    """SIGKILL to the trainer's process, wherever it is when the line of some step appears."""
    spec = make_spec(settings={**SETTINGS, "epochs": 4}, state_seconds=0)
    whole = spec.model_copy(update={"output": tmp_path / "whole"})
    train(whole, QUIET)
    save_spec(spec, tmp_path / "spec.json")
    command = [sys.executable, "-m", "sticker_pipeline.training", str(tmp_path / "spec.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen = random.Random(SEED).randint(1, 4)  # lines: one at each epoch's end, and more on a slow machine
    for line in process.stdout:
        seen -= line.startswith("step ")
        if not seen:
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    has_state = any((spec.output / "state").glob("step_*"))  # the line of a step comes before its state
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ("goes on after step " in finished.stdout) == has_state
    assert_same(spec.output, whole.output)


def test_a_stopped_training_goes_on(make_spec: SpecMaker, tmp_path: Path) -> None:
    """As after a cancellation in the UI, which leaves time to save."""
    from sticker_pipeline.training.stopping import Interrupted

    spec = make_spec(settings=SETTINGS)
    whole = spec.model_copy(update={"output": tmp_path / "whole"})
    train(whole, QUIET)
    lines: list[str] = []
    with pytest.raises(Interrupted, match="run again to go on"):
        train(spec, Progress(lines.append), lambda: 15 if any(line.startswith("step 4") for line in lines) else None)
    train(spec, QUIET)
    (stopped,) = (spec.output / "checkpoints").glob("interrupted_*")
    stopped.unlink()
    assert_same(spec.output, whole.output)


def test_an_epoch_stopped_while_its_samples_are_drawn_is_ended_again(make_spec: SpecMaker, tmp_path: Path) -> None:
    """Its checkpoint is written by then, its samples are not: none may be missing in the end."""
    from sticker_pipeline.training.stopping import Interrupted

    prompts = ["nova_tag, smile", "nova_tag, angry"]
    spec = make_spec(settings={**SETTINGS, "ema_decay": 0.9}, sample_prompts=prompts)
    whole = spec.model_copy(update={"output": tmp_path / "whole"})
    train(whole, QUIET)
    checkpoint = spec.output / "checkpoints" / "epoch_01.safetensors"
    with pytest.raises(Interrupted, match="4 of 8 steps"):
        train(spec, QUIET, lambda: 15 if checkpoint.exists() else None)
    assert not list((spec.output / "samples").glob("epoch_01_*"))
    train(spec, QUIET)
    for path in (spec.output / "checkpoints").glob("interrupted_*"):
        path.unlink()
    assert_same(spec.output, whole.output)


@pytest.mark.parametrize("change", ["seed", "image", "base", "held out"])
def test_another_training_begins_anew(
    change: str, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "epochs": 1}
    spec = make_spec(settings=settings, state_seconds=0)
    killed_at(spec, 2, monkeypatch)
    match change:
        case "held out":
            index = pd.read_parquet(spec.training_set / "index.parquet")
            index.drop(index[index["split"] == "holdout"].index[0]).to_parquet(spec.training_set / "index.parquet")
        case "seed":
            spec = make_spec(settings={**settings, "seed": 1})
        case "base":
            spec = make_spec(settings=settings, base_sha="another")
        case "image":
            first, second = spec.frames / "0.png", spec.frames / "1.png"
            first.write_bytes(second.read_bytes())
    lines: list[str] = []
    train(spec, Progress(lines.append))
    assert not any(line.startswith("goes on") for line in lines)
    assert len(pd.read_parquet(spec.output / "log.parquet")) == 4


def test_a_half_written_state_is_no_state(make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state before it is taken, and its remains are cleared away."""
    import sticker_pipeline.training.saved_state as module

    spec = make_spec(settings={**SETTINGS, "epochs": 1}, state_seconds=0)
    killed_at(spec, 2, monkeypatch)

    def dying(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(module, "raw_table", dying)
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)  # nobody cleans up behind a SIGKILL
        with pytest.raises(Killed):
            train(spec, QUIET)
    assert len(list((spec.output / "state").iterdir())) == 2
    lines: list[str] = []
    train(spec, Progress(lines.append))
    assert any(line.startswith("goes on after step 2 of 4") for line in lines)
    (state,) = (spec.output / "state").iterdir()
    assert json.loads((state / "state.json").read_text())["epochs_done"] == 1


def test_a_full_disk_is_a_clear_error_and_what_was_saved_is_whole(
    make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sticker_pipeline.training.saved_state as module

    spec = make_spec(settings=SETTINGS)
    original = module.write_lora

    def full(path: Path, *arguments: Any) -> None:
        original(path, *arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_lora", full)
        with pytest.raises(SpaceError, match=r"state/step_0000004_epoch_0001 cannot be written: its disk is full\."):
            train(spec, QUIET)
    assert (spec.output / "checkpoints" / "epoch_01.safetensors").stat().st_size > 0
    assert not list((spec.output / "state").iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(make_spec: SpecMaker, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(SpaceError, match="cannot be written: writing there is not allowed"):
        train(make_spec(output=tmp_path / "locked" / "out"), QUIET)


def test_an_output_that_is_a_file_is_a_clear_error(make_spec: SpecMaker, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(SpaceError, match=r"taken.* cannot be written: there is a file where a folder has to be"):
        train(make_spec(output=tmp_path / "taken" / "out"), QUIET)


def test_a_state_can_be_kept_twice_at_the_same_step(make_spec: SpecMaker) -> None:
    from sticker_pipeline.training.setup import set_up

    run = set_up(make_spec(), QUIET, lambda: None).run
    first = keep_state(run)
    again = keep_state(replace(run))
    assert first == again and (again / "state.json").is_file()


def test_the_state_before_an_epochs_end_stays_until_the_one_after_it_is_whole(
    make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are of the same step: a disk that fills between them must not cost the only one."""
    import sticker_pipeline.training.saved_state as module
    from sticker_pipeline.training.setup import set_up

    run = set_up(make_spec(), QUIET, lambda: None).run
    before = keep_state(run)
    run.history.epochs_done = 1

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_lora", full)
        with pytest.raises(SpaceError):
            keep_state(run)
    assert list(before.parent.iterdir()) == [before] and (before / "state.json").is_file()
    after = keep_state(run)
    assert list(after.parent.iterdir()) == [after] and after != before


@pytest.mark.parametrize("file", ["state.json", "optimizer.safetensors"])
def test_after_a_damaged_state_the_training_begins_again(
    file: str,
    make_spec: SpecMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = make_spec(settings={**SETTINGS, "epochs": 1}, state_seconds=0)
    whole = spec.model_copy(update={"output": tmp_path / "whole"})
    train(whole, QUIET)
    killed_at(spec, 2, monkeypatch)
    (state,) = (spec.output / "state").glob("step_*")
    flip(state / file, 8 * (state / file).stat().st_size - 9)
    lines: list[str] = []
    train(spec, Progress(lines.append))
    assert not any(line.startswith("goes on after step") for line in lines)
    assert caplog.messages == [
        f"{state} is damaged (the checksum of {file} does not fit): it is treated as missing and made again."
    ]
    assert_same(spec.output, whole.output)


def test_of_two_states_the_last_intact_one_counts(make_spec: SpecMaker, tmp_path: Path) -> None:
    """A crash between writing one and removing the one before leaves both."""
    from sticker_pipeline.training.setup import set_up

    run = set_up(make_spec(), QUIET, lambda: None).run
    states = tmp_path / "states"
    shutil.copytree(keep_state(run), states / "step_0000001_epoch_0000")
    shutil.copytree(keep_state(run), states / "step_0000002_epoch_0000")
    assert last_intact(states) == states / "step_0000002_epoch_0000"
    found = set()
    newer = {path: path.read_bytes() for path in (states / "step_0000002_epoch_0000").iterdir()}
    for damage in damaged_files(states / "step_0000002_epoch_0000", flips=10):
        assert last_intact(states) == states / "step_0000001_epoch_0000", damage
        found.add(damage.partition(":")[0])
    assert found == {path.name for path in newer} >= {"state.json", "lora.safetensors", "log.parquet"}
    for _ in damaged_files(states / "step_0000001_epoch_0000", flips=3):
        shutil.rmtree(states / "step_0000002_epoch_0000", ignore_errors=True)
        assert last_intact(states) is None
    assert last_intact(tmp_path / "none") is None
