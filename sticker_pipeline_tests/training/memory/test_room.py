"""The room of a training is checked before it begins; a full disk later costs only time."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sticker_pipeline.core.files import space
from sticker_pipeline.core.files.space import SpaceError
from sticker_pipeline.diffusion.lora.file import read_lora
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.memory import room
from sticker_pipeline.training.memory.dry_run import folder_parts
from sticker_pipeline.training.setup import set_up
from sticker_pipeline.training.train import train
from sticker_pipeline_tests.full_disk import PAGE, files_below, small_disk, with_free
from sticker_pipeline_tests.training.conftest import SpecMaker
from sticker_pipeline_tests.training.memory.test_dry_run import workload

QUIET = Progress(lambda line: None)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 3, "rank": 16},
        {"epochs": 2, "optimizer": "adafactor", "ema_decay": 0.9, "samples_per_epoch": 40},
        {"epochs": 2, "learning_rate_text_encoder": 0.0, "shuffle_tags": True, "caption_variants": 4},
    ],
)
def test_what_a_training_writes_is_little_less_than_was_counted(
    make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    counted: dict[str, int] = {}
    spec = make_spec(settings=settings, sample_prompts=["nova_tag, smile", "nova_tag, angry"], state_seconds=0)

    def note(path: Path, need: int, what: str, say: space.Say) -> None:
        counted[what] = counted.get(what, 0) + need

    monkeypatch.setattr(space, "enough", note)
    train(spec, QUIET)
    # one state is there at the end; while the next is written there are two
    written = size_of(spec.output) + size_of(spec.output / "state") + size_of(spec.cache)
    assert written <= counted["the training of nova"] <= 4 * written


def test_a_training_that_does_not_fit_is_not_begun(make_spec: SpecMaker, tmp_path: Path) -> None:
    lines: list[str] = []
    with small_disk(tmp_path / "small", 2**24) as disk:
        spec = make_spec(output=disk / "out", cache=disk / "cache")
        with (
            with_free(disk, 20 * PAGE),
            pytest.raises(
                SpaceError, match=r"out: the training of nova needs up to .* and its disk has [78]\d\.\d kB free"
            ),
        ):
            train(spec, QUIET)
        assert not [name for name in files_below(disk) if name.startswith("out/")]
        layers = set_up(spec, Progress(lines.append), lambda: None).run.layers
        need = room.output_bytes(spec, layers, 1)
        assert not [line for line in lines if "just fits" in line]
        with with_free(disk, need + 2 * PAGE):
            set_up(spec, Progress(lines.append), lambda: None)
        (said,) = [line for line in lines if "just fits" in line]
        assert said.startswith(f"{disk / 'out'}: the training of nova needs up to ")


def test_output_and_cache_on_two_disks_are_counted_apart(make_spec: SpecMaker, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 2**24) as disk:
        spec = make_spec(output=tmp_path / "out", cache=disk / "cache")
        with (
            with_free(disk, 5 * PAGE),
            pytest.raises(SpaceError, match=r"small/cache: the training of nova needs up to "),
        ):
            train(spec, QUIET)


def test_a_training_on_a_disk_that_fills_goes_on_to_the_same_bytes(
    make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 2, "samples_per_epoch": 6}
    prompts = ["nova_tag, smile"]
    whole = train(make_spec(settings=settings, sample_prompts=prompts, output=tmp_path / "whole"), QUIET).read_bytes()
    monkeypatch.setattr("sticker_pipeline.training.setup.check_disk", lambda *_: None)
    said: list[str] = []
    went_on = 0
    with small_disk(tmp_path / "small", 2**24) as disk:
        spec = make_spec(
            settings=settings, sample_prompts=prompts, output=disk / "out", cache=disk / "cache", state_seconds=0
        )
        for pages in range(1, 200, 9):
            lines: list[str] = []
            try:
                with with_free(disk, pages * PAGE):
                    checkpoint = train(spec, Progress(lines.append))
                break
            except SpaceError as error:
                said.append(str(error))
            went_on += any(line.startswith("goes on after step") for line in lines)
            for path in disk.glob("out/checkpoints/*"):
                assert read_lora(path).adapters
            for path in disk.glob("out/state/*"):
                assert json.loads((path / "state.json").read_text())["fingerprint"]
            assert not list(disk.rglob(".*.????????"))
        assert checkpoint.read_bytes() == whole
    assert len(said) > 3 and went_on
    for sentence in said:
        assert str(disk) in sentence and "cannot be written: its disk is full. What was written before" in sentence


def test_memory_of_a_cpu_is_compared_before_anything_is_loaded(
    make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(space, "available_memory", lambda: 2**30)
    with pytest.raises(SpaceError) as failure:
        train(make_spec(), QUIET)
    sentence = str(failure.value)
    assert sentence.startswith("the training of nova needs up to 1.") and "1.07 GB are available" in sentence
    assert "Lower batch_size (2); or the resolution (32 × 32)" in sentence and "memory_budget" in sentence
    assert not (tmp_path / "out").exists()


def test_what_is_far_less_than_there_is_is_not_counted(
    make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch, tiny_base: Path, tmp_path: Path
) -> None:
    def fails(*_: Any) -> int:
        raise AssertionError("counted")

    monkeypatch.setattr(room, "cpu_bytes", fails)
    monkeypatch.setattr(space, "available_memory", lambda: 16 * 2**30)
    room.check_memory(make_spec(), 8, workload(folder_parts(tiny_base, "sd15")), tmp_path / "kept.json", print)


def test_the_rough_bound_is_above_what_is_counted(tiny_base: Path) -> None:
    """Of a large batch, where the pixels decide."""
    work = workload(folder_parts(tiny_base, "sd15"), batch_size=64)
    tensors = room.cpu_bytes(work) - space.CPU_PROCESS
    weights = sum(path.stat().st_size for path in tiny_base.glob("*/*.safetensors"))
    rough = space.rough_training_memory(weights, 64, work.width, work.height) - space.CPU_PROCESS
    assert tensors < rough
    assert work.dtype == torch.float32
