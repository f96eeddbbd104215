"""Runs for the desk, and the command that opens it."""

import json
import sys
import time
import webbrowser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from sticker_pipeline.cli import commands
from sticker_pipeline.cli import desk as desk_module
from sticker_pipeline.cli.desk import DagsterRuns
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.desk.edits import EditError
from sticker_pipeline_tests.desk.example import NAME, add_character
from sticker_pipeline_tests.desk.served import served


@dg.op
def nothing() -> None:
    """Do nothing."""


@dg.job
def line() -> None:
    nothing()


@pytest.fixture
def runs(instance: dg.DagsterInstance, tmp_path: Path) -> DagsterRuns:
    return DagsterRuns(instance, ArtifactStore(tmp_path / "artifacts"), list)


def add_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, name: str = NAME, **tags: str) -> str:
    made = instance.create_run_for_job(line, status=status, tags={"dagster/partition": name, **tags})
    return made.run_id


def test_without_a_run_there_is_no_state(runs: DagsterRuns) -> None:
    assert runs.state(NAME) is None
    assert runs.cancel(NAME) is False


def test_the_newest_run_of_the_character_is_shown(instance: dg.DagsterInstance, runs: DagsterRuns) -> None:
    add_run(instance, dg.DagsterRunStatus.SUCCESS)
    add_run(instance, dg.DagsterRunStatus.STARTED, "somebody_else")
    assert runs.state(NAME)["text"] == "last run: success"
    number = add_run(instance, dg.DagsterRunStatus.STARTED)
    assert runs.state(NAME) == {"id": number, "active": True, "text": "started", "share": None}
    with pytest.raises(EditError, match="is worked on"):
        runs.update(NAME)


ENDED = "it has ended: why"


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("lora", ("lora: epoch 3 of 10, 41 %, about 4 min left", 0.41)),
        ("frames", ("frames", None)),  # the tag is of a step that is over
    ],
)
def test_progress_of_the_step(instance, runs: DagsterRuns, monkeypatch, step: str, expected: tuple) -> None:
    add_run(instance, dg.DagsterRunStatus.STARTED, progress="lora: epoch 3 of 10, 41 %, about 4 min left")
    stats = [SimpleNamespace(step_key=step, start_time=1.0, end_time=None)]
    monkeypatch.setattr(instance, "get_run_step_stats", lambda run_id: stats)
    assert (runs.state(NAME)["text"], runs.state(NAME)["share"]) == expected


@dg.asset(check_specs=[dg.AssetCheckSpec("good", asset="made", blocking=True)])
def made():
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=False)])


def test_a_refusal_is_no_failure(instance: dg.DagsterInstance, runs: DagsterRuns) -> None:
    dg.materialize([made], instance=instance, tags={"dagster/partition": NAME}, raise_on_error=False)
    assert runs.state(NAME)["text"] == "last run: not released, see Gate"


@pytest.mark.parametrize(("code", "expected"), [("print('all done')", None), ("print('why'); exit(3)", ENDED)])
def test_a_process_is_followed(runs: DagsterRuns, monkeypatch, tmp_path: Path, code: str, expected: str | None) -> None:
    script = tmp_path / "sticker_pipeline.py"
    script.write_text(f"import time; time.sleep(0.5); {code}")
    monkeypatch.setattr(desk_module, "COMMAND", [sys.executable, str(script)])
    runs.update(NAME)
    assert runs.state(NAME)["text"] == "starting"
    with pytest.raises(EditError):
        runs.roll_back(NAME, 1, "")
    runs._processes[NAME].wait()
    state = runs.state(NAME)
    assert (state and state["text"]) == expected


def test_cancel_interrupts_the_process(runs: DagsterRuns, monkeypatch, tmp_path: Path) -> None:
    script = tmp_path / "wait.py"
    script.write_text(
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nprint('up', flush=True)\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('stopped')\n    raise SystemExit(130)\n"
    )
    monkeypatch.setattr(desk_module, "COMMAND", [sys.executable, str(script)])
    runs.update(NAME)
    log = tmp_path / "artifacts" / NAME / ".work" / "desk" / "output.log"
    while "up" not in log.read_text():
        time.sleep(0.05)
    assert runs.cancel(NAME) is True
    runs._processes[NAME].wait(30)
    assert runs.state(NAME)["text"] == "it has ended: stopped"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(webbrowser, "open", found.append)
    return found


def run(*arguments: str) -> Any:
    return CliRunner().invoke(commands.main, list(arguments))


def test_the_command_starts_the_ui_with_the_page(tmp_path: Path, monkeypatch, opened: list[str]) -> None:
    add_character(tmp_path)
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(commands, "guarded", lambda *arguments: started.append(arguments))
    monkeypatch.setenv("STICKER_CHARACTERS", str(tmp_path / "characters"))
    assert run("desk", NAME, "--port", "3999").exit_code == 0
    page = f"http://127.0.0.1:3999/desk/c/{NAME}"
    assert started == [("sticker_pipeline.cli.ui", "--workspace", "workspace.yaml", "--port", "3999", "--open", page)]
    assert opened == []
    assert run("desk", "nobody").exit_code == 1


def test_a_desk_that_runs_already_is_opened(tmp_path: Path, monkeypatch, opened: list[str]) -> None:
    add_character(tmp_path)
    monkeypatch.setenv("STICKER_CHARACTERS", str(tmp_path / "characters"))
    with served(tmp_path) as address:
        result = run("desk", NAME, "--port", address.rpartition(":")[2])
    assert opened == [f"{address}/desk/c/{NAME}"]
    assert json.dumps(result.output).count("The desk is at") == 1
