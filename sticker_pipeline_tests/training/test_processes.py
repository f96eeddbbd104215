"""Several processes that train together, as on several GPUs: on the CPU, started by torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from sticker_pipeline.training.spec import TrainingSpec, save_spec
from sticker_pipeline_tests.tiny_models import build_tiny_sdxl
from sticker_pipeline_tests.training.conftest import SpecMaker

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # more threads than cores wait for each other


def train_on(processes: int, spec: TrainingSpec, folder: Path) -> dict[str, torch.Tensor]:
    save_spec(spec, folder / "spec.json")
    starter = TORCHRUN if processes == 2 else [sys.executable]
    command = [*starter, "-m", "sticker_pipeline.training", str(folder / "spec.json")]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, env=ENVIRONMENT)
    assert finished.returncode == 0, finished.stderr
    return load_file(spec.output / "checkpoints" / "epoch_02.safetensors")


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_two_processes_learn_what_one_learns_from_two_batches(
    family: str, make_spec: SpecMaker, tmp_path: Path
) -> None:
    """One process that adds up two batches draws the same images, captions and noise as two with one batch each."""
    changes = {"family": family, "base": build_tiny_sdxl(tmp_path / "sdxl")} if family == "sdxl" else {}
    settings = {"epochs": 2, "samples_per_epoch": 8, "batch_size": 2, "cycles": 1, "warmup_fraction": 0.0}
    two = make_spec(settings=settings, output=tmp_path / "two", save_precision="float32", **changes)
    one = make_spec(
        settings={**settings, "gradient_accumulation": 2}, output=tmp_path / "one", save_precision="float32", **changes
    )
    first, second = train_on(2, two, tmp_path), train_on(1, one, tmp_path)
    assert first.keys() == second.keys()
    moved = [name for name in first if name.endswith("lora_up.weight") and first[name].abs().max() > 0]
    assert len(moved) > 50
    for name in first:
        assert torch.allclose(first[name], second[name], atol=2e-5), name
    log = pd.read_parquet(two.output / "log.parquet")
    assert log["step"].tolist() == [1, 2, 3, 4]
