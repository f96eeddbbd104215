"""The distillation as its own process: exit codes, and a stop that keeps what was learned."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sticker_pipeline.training.distill.__main__ import main
from sticker_pipeline.training.spec import save_spec
from sticker_pipeline_tests.training.distill.conftest import ConsistencySpecMaker


def test_usage_errors_are_one_line_and_exit_code_2(
    make_consistency_spec: ConsistencySpecMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 2 and "usage:" in capsys.readouterr().err
    assert main([str(tmp_path / "none.json")]) == 2 and "none.json" in capsys.readouterr().err
    save_spec(make_consistency_spec(base=tmp_path), tmp_path / "spec.json")
    assert main([str(tmp_path / "spec.json")]) == 2
    assert capsys.readouterr().err.startswith(f"base: {tmp_path / 'model_index.json'} is missing.")


def test_sigterm_keeps_a_state_and_the_next_run_goes_on(
    make_consistency_spec: ConsistencySpecMaker, tmp_path: Path
) -> None:
    save_spec(make_consistency_spec(settings={"steps": 100_000}), tmp_path / "spec.json")
    command = [sys.executable, "-m", "sticker_pipeline.training.distill", str(tmp_path / "spec.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step "):
            process.send_signal(signal.SIGTERM)
            break
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and "steps kept in" in said
    (kept,) = (tmp_path / "out" / "state").glob("step_*")
    assert (kept / "lora.safetensors").is_file()
