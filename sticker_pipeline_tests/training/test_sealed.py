"""A training's state in which a bit has flipped counts as none: the training ends as one that began anew."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sticker_pipeline.training.progress import Progress
from sticker_pipeline.training.sealed import NAME, damage, seal
from sticker_pipeline.training.state import last_whole
from sticker_pipeline.training.train import train
from sticker_pipeline_tests.training.conftest import SpecMaker
from sticker_pipeline_tests.training.test_resume import QUIET, SETTINGS, assert_same, killed_at

STATE = ("average.safetensors", "log.parquet", "lora.safetensors", "optimizer.safetensors", NAME, "state.json")


def flip(path: Path, part: float = 0.7) -> None:
    """Flip one bit of the byte at that part of the file."""
    data = bytearray(path.read_bytes())
    data[int(part * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def test_no_flipped_bit_is_trained_on(make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each file of a state, and in the checkpoint of the epoch that is done."""
    spec = make_spec(settings={**SETTINGS, "epochs": 2, "ema_decay": 0.9}, state_seconds=0)
    whole = spec.model_copy(update={"output": tmp_path / "whole"})
    train(whole, QUIET)
    killed_at(spec, 5, monkeypatch)
    (state,) = (spec.output / "state").iterdir()
    assert tuple(sorted(path.name for path in state.iterdir())) == STATE
    shutil.copytree(spec.output, tmp_path / "kept")
    for name in (*(f"state/{state.name}/{name}" for name in STATE), "checkpoints/epoch_01.safetensors"):
        shutil.rmtree(spec.output)
        shutil.copytree(tmp_path / "kept", spec.output)
        flip(spec.output / name)
        lines: list[str] = []
        train(spec, Progress(lines.append))
        assert [line for line in lines if "damaged" in line] == [
            f"{state} is damaged: {Path(name).name} is not what was written; it counts as none, and what it held is "
            "made again."
        ] or name.endswith(NAME), (name, lines)
        assert len([line for line in lines if "damaged" in line]) == 1
        assert not any(line.startswith("goes on") for line in lines), name
        assert_same(spec.output, whole.output)


def write_state(states: Path, step: int) -> Path:
    folder = states / f"step_{step}"
    folder.mkdir(parents=True)
    (folder / "tensors").write_bytes(bytes(range(100)))
    (folder / "state.json").write_text("{}")
    (states.parent / "checkpoints").mkdir(exist_ok=True)
    (states.parent / "checkpoints" / "epoch_01").write_bytes(b"weights")
    seal(folder, [states.parent / "checkpoints" / "epoch_01"])
    return folder


def deep(folder: Path) -> None:
    (folder / NAME).write_text("[" * 100_000)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "another byte": lambda folder: flip(folder / "tensors"),
    "cut off": lambda folder: (folder / "tensors").write_bytes(b"\0"),
    "empty": lambda folder: (folder / "state.json").write_bytes(b""),
    "missing": lambda folder: (folder / "tensors").unlink(),
    "a folder": lambda folder: ((folder / "tensors").unlink(), (folder / "tensors").mkdir()),
    "one more": lambda folder: (folder / "other").write_bytes(b""),
    "an epoch missing": lambda folder: (folder.parent.parent / "checkpoints" / "epoch_01").unlink(),
    "no seal": lambda folder: (folder / NAME).unlink(),
    "an empty seal": lambda folder: (folder / NAME).write_bytes(b""),
    "a seal of another kind": lambda folder: (folder / NAME).write_text("[]"),
    "a deep seal": deep,
    "a seal with a path": lambda folder: (folder / NAME).write_text(json.dumps({"files": {"a\0b": 1}, "beside": {}})),
}


@pytest.mark.parametrize("how", DAMAGES.values(), ids=DAMAGES)
def test_the_newest_whole_state_is_found(how: Callable[[Path], object], tmp_path: Path) -> None:
    states = tmp_path / "state"
    newer = write_state(states, 2)
    assert damage(newer) is None
    how(newer)
    if how is not DAMAGES["an epoch missing"]:
        older = write_state(states, 1)
    said: list[str] = []
    found = last_whole(states, said.append)
    assert len(said) == 1 and said[0].startswith(f"{newer} is damaged: ") and not newer.exists()
    assert found is None if how is DAMAGES["an epoch missing"] else found == older


def test_a_link_in_the_place_of_a_state_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "step_9").symlink_to(tmp_path / "precious")
    assert last_whole(tmp_path / "state", lambda line: None) is None
    assert (tmp_path / "precious" / "file").read_text() == "mine" and not (tmp_path / "state" / "step_9").exists()
