"""`sticker-pipeline request`: refusals before any run, and the lines of runs that change."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import click
import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from sqlalchemy.exc import OperationalError

from sticker_pipeline.cli import request as module
from sticker_pipeline.cli.commands import main
from sticker_pipeline.cli.request import (
    LAUNCH,
    LOCATIONS,
    POLL_SECONDS,
    check_instance,
    follow,
    request,
    submitted,
    summed_up,
)
from sticker_pipeline.core.storage import StorageError
from sticker_pipeline.dagster_kit import compat
from sticker_pipeline.dagster_kit.instance import open_instance
from sticker_pipeline.dagster_kit.progress import PROGRESS_TAG
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.defs.conftest import SETTINGS
from sticker_pipeline_tests.small_character import add_small_character
from sticker_pipeline_tests.ui.deployment import deployment

UI = "http://127.0.0.1:3001"
WORKSPACE = REPOSITORY / "workspace.yaml"
Status = dg.DagsterRunStatus
ENDS = {
    Status.STARTED: dg.DagsterEventType.RUN_START,
    Status.SUCCESS: dg.DagsterEventType.RUN_SUCCESS,
    Status.FAILURE: dg.DagsterEventType.RUN_FAILURE,
    Status.CANCELED: dg.DagsterEventType.RUN_CANCELED,
}
Step = Callable[[], object]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are printed."""
    lines: list[str] = []
    monkeypatch.setattr(
        module, "tell", lambda *parts: lines.append("".join(p if isinstance(p, str) else p[0] for p in parts))
    )
    return lines


def queued(instance: dg.DagsterInstance, name: str, job: str = "character_line", **tags: str) -> str:
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("sticker_pipeline"), "any"), job)
    run = dg.DagsterRun(
        job_name=job,
        status=Status.QUEUED,
        tags={"dagster/partition": name, **tags},
        remote_job_origin=origin,
    )
    return instance.add_run(run).run_id


def becomes(instance: dg.DagsterInstance, run_id: str, status: dg.DagsterRunStatus) -> None:
    event = dg.DagsterEvent(event_type_value=ENDS[status].value, job_name="character_line")
    instance.report_dagster_event(event, run_id)


def fails(instance: dg.DagsterInstance, run_id: str) -> None:
    becomes(instance, run_id, Status.FAILURE)


class Script:
    """A clock and what happens while the command waits, a step each time."""

    def __init__(self, *steps: Step) -> None:
        self.now, self.steps = 0.0, list(steps)

    def wait(self, seconds: float) -> None:
        assert seconds == POLL_SECONDS
        self.now += seconds
        self.steps.pop(0)()

    def follow(self, instance: dg.DagsterInstance, **runs: str) -> dict[str, int]:
        return follow(instance, runs, UI, self.wait, lambda: self.now)


def nothing() -> None:
    """Do nothing."""


def test_each_change_is_a_line_until_all_have_ended(
    instance: dg.DagsterInstance, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    luma, moth = queued(instance, "luma"), queued(instance, "moth")
    steps = [SimpleNamespace(step_key="lora", start_time=1.0, end_time=None)]

    def trains() -> None:
        monkeypatch.setattr(instance, "get_run_step_stats", lambda run_id: steps)
        instance.add_run_tags(luma, {PROGRESS_TAG: "lora: epoch 3 of 10, 41 %, about 4 min left"})

    script = Script(
        lambda: becomes(instance, luma, Status.STARTED),
        trains,
        nothing,
        lambda: becomes(instance, luma, Status.SUCCESS),
        lambda: becomes(instance, moth, Status.CANCELED),
    )
    assert script.follow(instance, luma=luma, moth=moth) == {"luma": 0, "moth": 1}
    said[4] = re.sub(r"\d+ s", "0 s", said[4])
    assert said == [
        "luma: queued",
        "moth: queued",
        "luma: started",
        "luma: lora: epoch 3 of 10, 41 %, about 4 min left",
        "luma: done in 0 s",
        f"moth: canceled, {UI}/runs/{moth}",
    ]


def test_nothing_new_is_a_line_every_half_minute(instance: dg.DagsterInstance, said: list[str], tmp_path: Path) -> None:
    luma = queued(instance, "luma")
    script = Script(*[nothing] * 12, lambda: becomes(instance, luma, Status.SUCCESS))
    script.follow(instance, luma=luma)
    still = f"still under way: luma (queued). No daemon has ever looked at the queue of {tmp_path / 'home'}."
    assert said == ["luma: queued", still, still, "luma: done in 0 s"]


def test_many_changes_are_a_few_lines(
    instance: dg.DagsterInstance, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LINES", 2)
    runs = {name: queued(instance, name) for name in "abcde"}
    script = Script(lambda: [becomes(instance, run, Status.CANCELED) for run in runs.values()])
    script.follow(instance, **runs)
    ends = [f"{name}: canceled, {UI}/runs/{runs[name]}" for name in "ab"]
    assert said == ["a: queued", "b: queued", "and 3 more changed", *ends, "and 3 more changed"]


def test_a_retry_is_followed(instance: dg.DagsterInstance, said: list[str]) -> None:
    luma, retry = queued(instance, "luma", **{"dagster/will_retry": "true"}), queued(instance, "luma")
    script = Script(
        lambda: fails(instance, luma),
        lambda: instance.add_run_tags(luma, {"dagster/auto_retry_run_id": retry}),
        nothing,
        lambda: becomes(instance, retry, Status.SUCCESS),
    )
    assert script.follow(instance, luma=luma) == {"luma": 0}
    assert said[1:4] == [
        "luma: has ended early; Dagster will run it again",
        f"luma: has ended early, and runs again: {UI}/runs/{retry}",
        "luma: queued",
    ]


def test_a_deleted_run_has_failed(instance: dg.DagsterInstance, said: list[str]) -> None:
    luma = queued(instance, "luma")
    assert Script(lambda: instance.delete_run(luma)).follow(instance, luma=luma) == {"luma": 1}
    assert said[-1] == "luma: failed: its run was deleted"


def test_a_database_that_is_away_is_waited_for(
    instance: dg.DagsterInstance, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    luma, real = queued(instance, "luma"), instance.get_run_records

    def away(*_: object) -> None:
        raise OperationalError("SELECT 1", None, Exception("server closed the connection"))

    def back() -> None:
        monkeypatch.setattr(instance, "get_run_records", real)
        becomes(instance, luma, Status.SUCCESS)

    script = Script(lambda: monkeypatch.setattr(instance, "get_run_records", away), back)
    assert script.follow(instance, luma=luma) == {"luma": 0}
    assert said[1] == "the run history cannot be read now: (builtins.Exception) server closed the connection"


PARTITIONS = dg.StaticPartitionsDefinition(["luma"])


@dg.asset(partitions_def=PARTITIONS)
def lora() -> None:
    raise StorageError("The disk is full.\nFree some.")


@dg.asset(partitions_def=PARTITIONS)
def benchmark() -> None:
    return None


NO_COPIES = dg.AssetCheckSpec("no_copies", asset="benchmark", blocking=True, partitions_def=PARTITIONS)


@dg.multi_asset_check(
    name="benchmark_checks",
    specs=[NO_COPIES],
)
def gate() -> Iterator[dg.AssetCheckResult]:
    yield dg.AssetCheckResult(passed=False, check_name="no_copies", asset_key="benchmark", description="3 of 10 copied")


def test_a_failure_has_its_reason_and_page(instance: dg.DagsterInstance, said: list[str]) -> None:
    run = dg.materialize([lora], partition_key="luma", instance=instance, raise_on_error=False)
    assert Script().follow(instance, luma=run.run_id) == {"luma": 1}
    assert said == [f"luma: failed: The disk is full. {UI}/runs/{run.run_id}"]


def test_a_gate_that_refuses_is_no_failure(instance: dg.DagsterInstance, said: list[str]) -> None:
    run = dg.materialize([benchmark, gate], instance=instance, partition_key="luma", raise_on_error=False)
    assert Script().follow(instance, luma=run.run_id) == {"luma": 3}
    assert said == ["luma: not released: no_copies: 3 of 10 copied"]


@pytest.mark.parametrize(
    ("found", "status", "line"),
    [
        ({}, 0, "Nothing to do: all is up to date."),
        ({"luma": 0}, 0, "1 character. done: luma"),
        ({"luma": 0, "moth": 3}, 3, "2 characters. done: luma; not released: moth"),
        ({"luma": 3, "moth": 1, "kai": 0}, 1, "3 characters. done: kai; not released: luma; failed: moth"),
    ],
)
def test_the_exit_status_is_that_of_update(found: dict[str, int], status: int, line: str, said: list[str]) -> None:
    assert summed_up(found) == status
    assert said == [line]


def test_without_a_daemon_nothing_is_submitted(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    with pytest.raises(click.ClickException) as never:
        check_instance(instance, 0.0)
    assert never.value.message == (
        f"No daemon has ever looked at the queue of {home}: no run would start. Start one: sticker-pipeline ui, or "
        "dagster-daemon run; or name another instance with DAGSTER_HOME."
    )
    monkeypatch.setattr(compat, "seconds_since_queue_daemon", lambda instance, now: 600.0)
    with pytest.raises(click.ClickException, match=f"^The daemon of {home} was last seen 10 minutes ago: no run"):
        check_instance(instance, 0.0)
    monkeypatch.setattr(compat, "seconds_since_queue_daemon", lambda instance, now: 30.0)
    check_instance(instance, 0.0)


def test_a_history_of_another_dagster_is_refused(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compat, "schemas", lambda instance: ("abc", "def"))
    with pytest.raises(click.ClickException) as refused:
        check_instance(instance, 0.0)
    assert refused.value.message == (
        f"The run history of {tmp_path / 'home'} is that of another Dagster (schema abc; {dg.__version__} here has "
        "def). Install the release that runs there; after an upgrade: dagster instance migrate"
    )


@pytest.fixture
def character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("characters", "artifacts"):
        monkeypatch.setenv(f"STICKER_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("STICKER_MODELS", str(REPOSITORY / "data" / "models"))
    monkeypatch.setenv("STICKER_UI", UI)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    add_small_character(tmp_path / "characters" / "luma", "bram_thistle", SETTINGS)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--workspace", "no.yaml"],
            "no.yaml is not there: request in the project's folder, or name the file with --workspace.",
        ),
        (["lumo"], "There is no character 'lumo' in {}/characters. Did you mean 'luma'?"),
        (["luma"], "No daemon has ever looked at the queue of {}/home: no run would start. Start one: "),
    ],
)
def test_an_error_is_one_sentence(character: Path, arguments: list[str], message: str) -> None:
    found = CliRunner().invoke(main, ["request", *arguments])
    assert found.exit_code == 1
    assert found.output.startswith(f"Error: {message.format(character)}") and found.output.count("\n") == 1


@pytest.fixture
def ready(character: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An instance that takes runs; the characters that are submitted."""
    monkeypatch.setattr(compat, "seconds_since_queue_daemon", lambda instance, now: 1.0)
    names: list[str] = []

    def submitted(context: object, job: str, wanted: dict[str, list[dg.AssetKey]]) -> Iterator[tuple[str, str]]:
        for name in wanted:
            names.append(name)
            yield name, "0123"

    monkeypatch.setattr(module, "submitted", submitted)
    monkeypatch.setattr(compat, "webserver_context", lambda *_, **__: nullcontext())
    return names


def test_a_run_under_way_is_followed_and_not_submitted_again(
    ready: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_instance() as instance:
        queued(instance, "luma", "dataset_line")
        run_id = queued(instance, "luma")
        queued(instance, "somebody_else")
    followed: dict[str, str] = {}
    monkeypatch.setattr(module, "follow", lambda instance, runs, address: followed.update(runs) or {"luma": 0})
    assert request(["luma"], "character_line", WORKSPACE, detach=False) == 0
    assert (followed, ready) == ({"luma": run_id}, [])
    assert said[0] == f"luma: under way already, not submitted again: {UI}/runs/{run_id}"


def test_detached_it_does_not_follow(ready: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "follow", None)
    assert request([], "character_line", WORKSPACE, detach=True) == 0
    assert ready == ["luma"]
    assert said == [
        f"luma: submitted, {UI}/runs/0123",
        f"1 run, at {UI}/runs. The same command without --detach follows.",
    ]
    with open_instance() as instance:
        assert instance.get_dynamic_partitions("characters") == ["luma"], "the folder sensor may not have looked yet"


def test_ctrl_c_ends_the_following_and_not_the_runs(
    ready: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_instance() as instance:
        run_id = queued(instance, "luma")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "follow", interrupted)
    assert request([], "character_line", WORKSPACE, detach=False) == 130
    assert said[-1] == f"No longer followed: the runs go on. Cancel them in the UI: {UI}/runs"
    with open_instance() as instance:
        assert instance.get_run_by_id(run_id).status == Status.QUEUED


def test_what_dagster_refuses_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    location = {"name": "here", "locationOrLoadError": {"message": "No module named 'x'"}}

    def answers(*given: dict) -> None:
        left = list(given)
        monkeypatch.setattr(compat, "asked", lambda context, query, variables=None: left.pop(0))

    def message() -> str:
        with pytest.raises(click.ClickException) as refused:
            list(submitted(None, "character_line", {"luma": [dg.AssetKey("lora")]}))
        return refused.value.message

    answers({"workspaceOrError": {"locationEntries": [location]}})
    assert message() == "The workspace has no job character_line: here: No module named 'x'"
    answers({"workspaceOrError": {"locationEntries": []}})
    assert message() == "The workspace has no job character_line: its code locations are of another project"
    loaded = {"repositories": [{"name": "r", "jobs": [{"name": "character_line"}]}]}
    there = {"workspaceOrError": {"locationEntries": [{"name": "here", "locationOrLoadError": loaded}]}}
    result = {"__typename": "UnauthorizedError", "message": "not allowed"}
    answers(there, {"launchMultipleRuns": {"launchMultipleRunsResult": [result]}})
    assert message() == "Dagster refuses a run of character_line for luma: not allowed"


@pytest.mark.parametrize("text", [LOCATIONS, LAUNCH])
def test_dagster_knows_what_it_is_asked(text: str) -> None:
    from dagster_graphql.schema import create_schema
    from graphql import parse, validate

    assert validate(create_schema().graphql_schema, parse(text)) == []


def test_a_daemon_makes_what_is_requested(tmp_path: Path) -> None:
    """With daemon, queue and code server as on a fleet; the launcher is that of this machine."""
    add_small_character(tmp_path / "characters" / "luma", "bram_thistle", SETTINGS)
    with deployment(tmp_path) as there:

        def run(*arguments: str) -> tuple[int, str]:
            command = [sys.executable, "-m", "sticker_pipeline", "request", *arguments]
            environment = {**there.environment, "STICKER_UI": there.url, "PYTHONWARNINGS": "ignore"}
            ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
            return ended.returncode, ended.stdout + ended.stderr * bool(ended.returncode)

        deadline = time.monotonic() + 120
        while "No daemon has ever" in (found := run("luma", "--job", "dataset_line"))[1]:
            assert time.monotonic() < deadline
        status, printed = found
        assert status == 0, printed
        lines = printed.splitlines()
        number = re.fullmatch(rf"luma: submitted, {there.url}/runs/(\S+)", lines[0])
        assert number and re.fullmatch(r"luma: done in \d+ s", lines[-2]), printed
        assert lines[-1] == "1 character. done: luma"
        assert run("luma", "--job", "dataset_line") == (
            0,
            "luma dataset_line: up to date\nNothing to do: all is up to date.\n",
        )
        with dg.DagsterInstance.from_config(str(there.home)) as instance:
            made = instance.fetch_materializations(dg.AssetKey("training_set"), limit=1).records[0]
            assert (made.partition_key, made.run_id) == ("luma", number[1])
            ran = instance.get_run_by_id(number[1])
            assert ran and ran.job_name == "dataset_line" and ran.tags["sticker/host"]
