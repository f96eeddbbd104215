"""Terminal output and logs of a run: other people's text is neither markup nor cursor movement."""

import io
import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from rich.console import Console

from sticker_pipeline.core.storage import ArtifactStore, StorageError
from sticker_pipeline.dagster_kit.launcher import _forwarded
from sticker_pipeline.dagster_kit.loggers import TerminalHandler
from sticker_pipeline.dagster_kit.metadata import SUMMARY
from sticker_pipeline.dagster_kit.step import writing
from sticker_pipeline.defs.resources import Workspace

BAD = "[/x] [bold]\x1b[31mred\u202e\r"
SHOWN = "[/x] [bold]\\x1b[31mred\\u202e\\r"


def logger_of(target: io.StringIO) -> dg.LoggerDefinition:
    """The terminal's logger, which writes to `target`."""
    import logging

    @dg.logger(None)
    def terminal(_: dg.InitLoggerContext) -> logging.Logger:
        made = logging.Logger("terminal", level=logging.DEBUG)
        made.addHandler(TerminalHandler(Console(file=target, width=400)))
        return made

    return terminal


def test_a_step_shows_what_nobody_sees(tmp_path: Path) -> None:
    for name in ("characters", "models"):
        (tmp_path / name).mkdir()
    places = {name: str(tmp_path / name) for name in ("characters", "artifacts", "models")}
    workspace = Workspace(**places)

    @dg.asset(check_specs=[dg.AssetCheckSpec("fine", asset="made")])
    def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        scope: Any = SimpleNamespace(place="luma", artifact_name=lambda key: key.path[-1])
        with writing(context, workspace, scope):
            context.log.warning("%s is no image", BAD)
            context.log.info(BAD)
        return dg.MaterializeResult(
            metadata={SUMMARY: f"a summary {BAD}"},
            check_results=[dg.AssetCheckResult(passed=False, check_name="fine", description=f"a check {BAD}")],
        )

    @dg.asset(deps=[made])
    def failed(context: dg.AssetExecutionContext) -> None:
        raise StorageError(f"an error {BAD}")

    target = io.StringIO()
    job = dg.define_asset_job("job", "*")
    definitions = dg.Definitions([made, failed], jobs=[job], loggers={"terminal": logger_of(target)})
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("job").execute_in_process(
            instance=instance, raise_on_error=False, run_config={"loggers": {"terminal": {"config": {}}}}
        )
        entries = instance.all_logs(result.run_id)
    assert {f"{SHOWN} is no image", SHOWN} <= {entry.user_message for entry in entries}
    (failure,) = [entry for entry in entries if entry.dagster_event and entry.dagster_event.is_step_failure]
    assert BAD not in str(failure.dagster_event) and BAD not in failure.message
    shown = target.getvalue()
    for line in (f"{SHOWN} is no image", f"a summary {SHOWN} (", f"fine: a check {SHOWN}\n", f"an error {SHOWN}\n"):
        assert line in shown
    assert {letter for letter in shown if not letter.isprintable()} == {"\n"}


def test_what_the_trainer_prints_is_passed_on_with_escapes() -> None:
    target, kept = io.StringIO(), deque[str](maxlen=1)
    with _forwarded(io.StringIO("one\n\x1b[2J\u202etwo\n"), target, kept):
        pass
    assert target.getvalue() == "one\n\\x1b[2J\\u202etwo\n"
    assert list(kept) == ["\\x1b[2J\\u202etwo\n"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_rival_of_the_system_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sticker_pipeline.roots import hashes

    (tmp_path / "other.safetensors").symlink_to("/proc/kmsg")
    monkeypatch.setattr(hashes, "lora_hash", lambda path, sha256: pytest.fail("it was opened"))
    assert hashes.lora_file_hash(tmp_path / "other.safetensors", (tmp_path,), ArtifactStore(str(tmp_path))) == "missing"


def test_progress_of_the_trainer_is_not_said_twice() -> None:
    """The trainer's own lines, with loss and speed, are in the terminal already."""

    @dg.asset
    def made(context: dg.AssetExecutionContext) -> None:
        for line in ("epoch 3 of 10, 41 %, about 4 min left", "step 1,200 of 8,000, 15 %", "epoch 3 of 10 is chosen"):
            context.log.info(line)

    target = io.StringIO()
    definitions = dg.Definitions(
        [made], jobs=[dg.define_asset_job("job", "*")], loggers={"terminal": logger_of(target)}
    )
    with dg.DagsterInstance.ephemeral() as instance:
        definitions.resolve_job_def("job").execute_in_process(
            instance=instance, run_config={"loggers": {"terminal": {"config": {}}}}
        )
    said = [line.strip() for line in target.getvalue().splitlines()]
    assert [line for line in said if " of " in line] == ["epoch 3 of 10 is chosen"]
