"""The trainer as its own process: exit codes, signals, Pipes messages."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sticker_pipeline.diffusion.lora.file import read_lora
from sticker_pipeline.training.__main__ import main
from sticker_pipeline.training.spec import TrainingSpec, save_spec
from sticker_pipeline_tests.training.conftest import SpecMaker

COMMAND = [sys.executable, "-m", "sticker_pipeline.training"]


def test_usage_errors_are_one_line_and_exit_code_2(
    make_spec: SpecMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def complaint(spec: TrainingSpec) -> str:
        save_spec(spec, tmp_path / "spec.json")
        assert main([str(tmp_path / "spec.json")]) == 2
        return capsys.readouterr().err

    assert main([]) == 2 and "usage:" in capsys.readouterr().err
    assert main([str(tmp_path / "none.json")]) == 2 and "none.json" in capsys.readouterr().err
    assert complaint(make_spec(base=tmp_path)).startswith(f"base: {tmp_path / 'model_index.json'} is missing.")
    assert complaint(make_spec(training_set=tmp_path / "nothing")).count("\n") == 1


def test_a_faulty_spec_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from sticker_pipeline.training.__main__ import main; "
        f"code = main([{str(tmp_path / 'none.json')!r}]); "
        "sys.exit(9 if 'torch' in sys.modules or 'diffusers' in sys.modules else code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2, result.stderr


def test_a_good_spec_is_trained(make_spec: SpecMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = make_spec(settings={"epochs": 1})
    save_spec(spec, tmp_path / "spec.json")
    assert main([str(tmp_path / "spec.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"done: {spec.output / 'checkpoints' / 'epoch_01.safetensors'}"
    assert lines[-2].startswith("step 3/3  epoch 1/1  loss ")


def test_a_full_gpu_is_one_line_that_says_what_to_lower(
    make_spec: SpecMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    save_spec(make_spec(), tmp_path / "spec.json")
    monkeypatch.setattr("sticker_pipeline.training.train.set_up", full)
    assert main([str(tmp_path / "spec.json")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("The GPU's memory did not suffice") and "memory_budget" in said and said.count("\n") == 1


def test_sigterm_under_dagster_leaves_a_whole_checkpoint(make_spec: SpecMaker, tmp_path: Path) -> None:
    """Started as Dagster does it (context and messages are files, named in two variables), then cancelled."""
    spec = make_spec(settings={"epochs": 1, "samples_per_epoch": 100_000})
    save_spec(spec, tmp_path / "spec.json")
    process = subprocess.Popen(
        [*COMMAND, str(tmp_path / "spec.json")],
        env={**os.environ, **pipes_environment(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step "):
                break
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 143, complaint
    assert complaint.startswith("stopped by SIGTERM; ")
    (checkpoint,) = (spec.output / "checkpoints").iterdir()
    assert checkpoint.name.startswith("interrupted_step_")
    assert read_lora(checkpoint).adapters
    assert (spec.output / "log.parquet").exists()

    messages = [json.loads(line) for line in (tmp_path / "messages").read_text().splitlines()]
    progress = [message["params"]["payload"] for message in messages if message["method"] == "report_custom_message"]
    assert progress[0].keys() == {"counted", "done", "total"}, "what comes before the first step"
    steps = [each for each in progress if "counted" not in each]
    assert steps[0].keys() == {"step", "total_steps", "epoch", "epochs", "loss", "grad_norm", "samples_per_s", "eta_s"}
    assert steps[0]["total_steps"] == 50_000
    assert messages[-1]["method"] == "closed" and "exception" not in messages[-1]["params"]


def pipes_environment(folder: Path) -> dict[str, str]:
    from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, DAGSTER_PIPES_MESSAGES_ENV_VAR, encode_param

    context = {"asset_keys": ["lora"], "run_id": "r", "retry_number": 0, "extras": {}}
    names = ["code_version_by_asset_key", "provenance_by_asset_key", "partition_key", "partition_key_range"]
    context |= dict.fromkeys([*names, "partition_time_window", "job_name"])
    (folder / "context").write_text(json.dumps(context))
    return {
        DAGSTER_PIPES_CONTEXT_ENV_VAR: encode_param({"path": str(folder / "context")}),
        DAGSTER_PIPES_MESSAGES_ENV_VAR: encode_param({"path": str(folder / "messages")}),
    }
