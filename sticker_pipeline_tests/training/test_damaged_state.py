"""A training's state with a flipped bit counts as missing: the training starts anew."""

import shutil
from pathlib import Path

import pytest

from sticker_pipeline.core.caching import SEALS, seal_folder
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.saved_state import last_intact
from sticker_pipeline.training.train import train
from sticker_pipeline_tests.damage import flip
from sticker_pipeline_tests.training.conftest import SpecMaker
from sticker_pipeline_tests.training.test_resume import QUIET, SETTINGS, assert_same, killed_at

STATE = {"average.safetensors", "log.parquet", "lora.safetensors", "optimizer.safetensors", SEALS, "state.json"}


def test_no_flipped_bit_is_trained_on(
    make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In each file of a state, and in the checkpoint of the epoch that is done."""
    spec = make_spec(settings={**SETTINGS, "epochs": 2, "ema_decay": 0.9}, state_seconds=0)
    whole = spec.model_copy(update={"output": tmp_path / "whole"})
    train(whole, QUIET)
    killed_at(spec, 5, monkeypatch)
    (state,) = (spec.output / "state").iterdir()
    assert {path.name for path in state.iterdir()} == STATE
    shutil.copytree(spec.output, tmp_path / "kept")
    for name in (*(f"state/{state.name}/{name}" for name in sorted(STATE)), "checkpoints/epoch_01.safetensors"):
        shutil.rmtree(spec.output)
        shutil.copytree(tmp_path / "kept", spec.output)
        flip(spec.output / name, int(0.7 * 8 * (spec.output / name).stat().st_size))
        caplog.clear()
        lines: list[str] = []
        train(spec, Progress(lines.append))
        (said,) = [line for line in caplog.messages if "damaged" in line]
        assert said.startswith(f"{state} is damaged (") and said.endswith("it is treated as missing and made again.")
        assert not any(line.startswith("goes on") for line in lines), name
        assert_same(spec.output, whole.output)


@pytest.mark.parametrize("how", ["gone", "a folder"])
def test_a_checkpoint_that_is_gone_is_trained_again(
    how: str, make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(settings={**SETTINGS, "epochs": 2}, state_seconds=0)
    whole = spec.model_copy(update={"output": tmp_path / "whole"})
    train(whole, QUIET)
    killed_at(spec, 5, monkeypatch)
    path = spec.output / "checkpoints" / "epoch_01.safetensors"
    path.unlink()
    if how == "a folder":
        path.mkdir()
    train(spec, QUIET)
    assert_same(spec.output, whole.output)


def test_a_link_in_the_place_of_a_state_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    older = tmp_path / "state" / "step_8"
    older.mkdir(parents=True)
    seal_folder(older)
    (tmp_path / "state" / "step_9").symlink_to(tmp_path / "precious")
    assert last_intact(tmp_path / "state") == older
    assert (tmp_path / "precious" / "file").read_text() == "mine"
