"""Requests runs from the instance of DAGSTER_HOME, and follows them.

Nothing runs in this process: the instance queues the runs, and its daemon launches them, here, on Ray or on Kubernetes.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import dagster as dg

from sticker_pipeline.benchmark.gate import CHECKS
from sticker_pipeline.cli.update import BAD_INPUT, Look, Work, stale_assets
from sticker_pipeline.cli.work import FAILED, MADE, REFUSED, check_folders, check_known, no_character
from sticker_pipeline.core.address import AddressError, ui_address
from sticker_pipeline.core.character import Character
from sticker_pipeline.core.markdown import letters
from sticker_pipeline.core.process.output import CONSOLE, tell
from sticker_pipeline.core.process.stopping import Stopping
from sticker_pipeline.core.texts import counted, listed, shortened
from sticker_pipeline.dagster_kit import compat
from sticker_pipeline.dagster_kit.dead_runs import PARTITION
from sticker_pipeline.dagster_kit.instance import home, open_instance
from sticker_pipeline.dagster_kit.progress import under_way
from sticker_pipeline.dagster_kit.run_news import step_failures, why_failed
from sticker_pipeline.definitions import defs
from sticker_pipeline.defs.benchmark.checks import benchmark_checks
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace, workspace_from_environment
from sticker_pipeline.defs.scopes import of_character

WILL_RETRY, RETRY = "dagster/will_retry", "dagster/auto_retry_run_id"  # Dagster's tags
TO_FOLLOW = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
TITLES = {MADE: "done", REFUSED: "not released", FAILED: "failed"}
POLL_SECONDS = 5.0
QUIET_SECONDS = 30.0  # without a change: one line
DAEMON_SECONDS = 180.0  # a daemon that lives is seen every 30 s
MOST_LINES = 20  # of one look
AT_ONCE = 20  # runs of one submission
STOPPED = 130

LOCATIONS = """query {workspaceOrError {
    ... on Workspace {locationEntries {name locationOrLoadError {
        ... on RepositoryLocation {repositories {name jobs {name}}}
        ... on PythonError {message}}}}
    ... on PythonError {message}}}"""
LAUNCH = """mutation ($runs: [ExecutionParams!]!) {launchMultipleRuns(executionParamsList: $runs) {
    ... on LaunchMultipleRunsResult {launchMultipleRunsResult {
        __typename
        ... on LaunchRunSuccess {run {runId}}
        ... on Error {message}}}
    ... on PythonError {message}}}"""

Runs = Mapping[str, str]  # character -> run id


def request(names: Sequence[str], job: str, workspace: Path, *, detach: bool) -> int:
    """Submit a run of `job` for each character; follow them unless `detach`.

    Returns the exit status. Raises ClickException, in one sentence, before any run is submitted.
    """
    try:
        address = ui_address(os.environ)
    except AddressError as error:
        raise click.ClickException(str(error)) from error
    if not workspace.is_file():
        raise click.ClickException(
            f"{workspace} is not there: request in the project's folder, or name the file with --workspace."
        )
    folders = workspace_from_environment()
    characters = _chosen(folders, names)
    try:
        with open_instance() as instance:
            check_instance(instance, time.time())
            return _request(instance, folders, characters, job, workspace, address, detach=detach)
    except Exception as error:
        if not is_database_error(error):
            raise
        raise click.ClickException(f"The run history of {home()} cannot be used: {_first_line(error)}") from error


def _chosen(folders: Workspace, names: Sequence[str]) -> list[Character]:
    """Return the named characters, or all valid ones."""
    check_folders(folders)
    valid, problems = folders.valid_characters()
    check_known(names, [character.name for character, _ in valid], problems, folders.characters_folder)
    for problem in [] if names else problems:
        tell(("left out:", "red"), f" {problem}")
    chosen = [character for character, _ in valid if not names or character.name in names]
    if not chosen:
        raise click.ClickException(
            "No character can be worked on; see above." if problems else no_character(folders.characters)
        )
    return chosen


def check_instance(instance: dg.DagsterInstance, now: float) -> None:
    """Raise ClickException if the instance would not run what is submitted.

    `now`: seconds of the clock.
    """
    found = compat.schemas(instance)
    if len(set(found)) > 1:
        raise click.ClickException(
            f"The run history of {home()} is that of another Dagster (schema {found[0]}; {dg.__version__} here has "
            f"{found[1]}). Install the release that runs there; after an upgrade: dagster instance migrate"
        )
    if problem := daemon_problem(instance, now):
        raise click.ClickException(
            f"{problem}: no run would start. Start one: sticker-pipeline ui, or dagster-daemon run; or name another "
            "instance with DAGSTER_HOME."
        )


def daemon_problem(instance: dg.DagsterInstance, now: float) -> str | None:
    """Return why the queue does not move, or None."""
    seconds = compat.seconds_since_queue_daemon(instance, now)
    if seconds is None:
        return f"No daemon has ever looked at the queue of {home()}"
    if seconds > DAEMON_SECONDS:
        return f"The daemon of {home()} was last seen {counted(int(seconds / 60), 'minute')} ago"
    return None


def is_database_error(error: Exception) -> bool:
    """Tell whether the run history cannot be reached at the moment.

    By name: `dagster-postgres` is installed on fleets alone.
    """
    return {"OperationalError", "DagsterPostgresException"} & {kind.__name__ for kind in type(error).__mro__} != set()


def _request(
    instance: dg.DagsterInstance,
    folders: Workspace,
    characters: Sequence[Character],
    job: str,
    workspace: Path,
    address: str,
    *,
    detach: bool,
) -> int:
    runs = dict[str, str]()
    try:
        runs |= _to_follow(instance, [character.name for character in characters], job, address)
        new = [character.name for character in characters if character.name not in runs]
        wanted, failed = _wanted(instance, folders, new, job)
        if wanted:
            instance.add_dynamic_partitions(str(CHARACTERS.name), list(wanted))
            with compat.webserver_context(instance, workspace, read_only=False) as context:
                for name, run_id in submitted(context, job, wanted):
                    runs[name] = run_id
                    tell((name, "bold"), f": submitted, {page(address, run_id)}")
        if detach:
            tell(f"{counted(len(runs), 'run')}, at {address}/runs. The same command without --detach follows.")
            return FAILED if failed else MADE
        found = follow(instance, runs, address)
    except KeyboardInterrupt:
        tell(f"No longer followed: the runs go on. Cancel them in the UI: {address}/runs")
        return STOPPED
    return summed_up({**found, **dict.fromkeys(failed, FAILED)})


def _to_follow(instance: dg.DagsterInstance, names: Sequence[str], job: str, address: str) -> Runs:
    """Return the job's runs that are under way, and print them."""
    found = dict[str, str]()
    for run in instance.get_runs(dg.RunsFilter(job_name=job, statuses=TO_FOLLOW)):
        if (name := run.tags.get(PARTITION)) in names:
            found.setdefault(str(name), run.run_id)
    for name, run_id in found.items():
        tell((name, "bold"), f": under way already, not submitted again: {page(address, run_id)}")
    return found


def _wanted(
    instance: dg.DagsterInstance, folders: Workspace, names: Sequence[str], job: str
) -> tuple[dict[str, list[dg.AssetKey]], list[str]]:
    """Return each character's stale assets, and the unusable characters.

    A character without stale assets is left out.
    """
    work = Work(defs(), instance, folders.store, CONSOLE, Stopping())
    look, wanted, failed = Look(folders.store.snapshot(), work.history()), dict[str, list[dg.AssetKey]](), []
    for asset in compat.asset_specs(look.history.graph, CHARACTERS):
        look.history.read_noted(asset.key, names)
    for name in names:
        try:
            stale = stale_assets(work, job, of_character(folders, name), look)
        except (OSError, *BAD_INPUT) as error:
            tell(("left out:", "red"), f" {name}: {error}")
            failed.append(name)
            continue
        if stale:
            wanted[name] = stale
        else:
            tell((name, "bold"), f" {job}: up to date")
    return wanted, failed


def submitted(context: Any, job: str, wanted: Mapping[str, Sequence[dg.AssetKey]]) -> Iterator[tuple[str, str]]:
    """Submit a run per character; yield its name and run id.

    Through the API of the Dagster UI, on the workspace `context`: a run is as one that a person launches there. Raises
    ClickException where there is no such job, or a run is refused.
    """
    place = _place(context, job)
    everything = list(wanted.items())
    for start in range(0, len(everything), AT_ONCE):
        some = everything[start : start + AT_ONCE]
        answer = compat.asked(context, LAUNCH, {"runs": [_launch(place, *each) for each in some]})["launchMultipleRuns"]
        if "message" in answer:
            raise click.ClickException(f"Dagster refuses the runs: {answer['message']}")
        for (name, _), result in zip(some, answer["launchMultipleRunsResult"], strict=True):
            if "run" not in result:
                why = result.get("message", result["__typename"])
                raise click.ClickException(f"Dagster refuses a run of {job} for {name}: {why}")
            yield name, result["run"]["runId"]


def _place(context: Any, job: str) -> Mapping[str, str]:
    """Return the job's selector in the workspace, or raise ClickException."""
    answer = compat.asked(context, LOCATIONS)["workspaceOrError"]
    problems = [answer["message"]] if "message" in answer else []
    for entry in answer.get("locationEntries", []):
        loaded = entry["locationOrLoadError"] or {"message": "not loaded"}
        if "message" in loaded:
            problems.append(f"{entry['name']}: {loaded['message']}")
        for repository in loaded.get("repositories", []):
            if job in [each["name"] for each in repository["jobs"]]:
                return {
                    "jobName": job,
                    "repositoryName": repository["name"],
                    "repositoryLocationName": entry["name"],
                }
    why = shortened(" ".join("; ".join(problems).split()), 400) or "its code locations are of another project"
    raise click.ClickException(f"The workspace has no job {job}: {why}")


def _launch(place: Mapping[str, str], name: str, assets: Sequence[dg.AssetKey]) -> dict[str, Any]:
    return {
        "selector": {**place, "assetSelection": [{"path": list(key.path)} for key in assets]},
        "executionMetadata": {"tags": [{"key": PARTITION, "value": name}]},
    }


def follow(
    instance: dg.DagsterInstance,
    runs: Runs,
    address: str,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, int]:
    """Print changes until all runs have ended; return their exit statuses.

    A run that Dagster retries is followed by its retry. While the history is out of reach, it waits.
    """
    left, ended, told, spoken = dict(runs), dict[str, int](), dict[str, str](), clock()
    while left:
        try:
            records = instance.get_run_records(dg.RunsFilter(run_ids=list(left.values())))
            by_id = {record.dagster_run.run_id: record for record in records}
            seen = {name: _seen(instance, by_id.get(run_id), run_id, address) for name, run_id in left.items()}
        except Exception as error:
            if not is_database_error(error):
                raise
            seen, lines = {}, [f"the run history cannot be read now: {_first_line(error)}"]
        else:
            lines = [f"{name}: {text}" for name, (text, _, _) in seen.items() if told.get(name) != text]
        told |= {name: text for name, (text, _, _) in seen.items()}
        ended |= {name: status for name, (_, status, _) in seen.items() if status is not None}
        left = {name: seen[name][2] if name in seen else left[name] for name in left if name not in ended}
        if not lines and clock() - spoken >= QUIET_SECONDS:
            lines = [_still(instance, left, told)]
        for line in _at_most(lines):
            tell(line)
            spoken = clock()
        if left:
            wait(POLL_SECONDS)
    return ended


def _seen(
    instance: dg.DagsterInstance, record: dg.RunRecord | None, run_id: str, address: str
) -> tuple[str, int | None, str]:
    """Return the run's state in words, its exit status, and its successor.

    No status: it goes on. The successor is the run itself, or its retry.
    """
    if record is None:
        return "failed: its run was deleted", FAILED, run_id
    run = record.dagster_run
    if run.is_success:
        seconds = record.end_time - record.start_time if record.end_time and record.start_time else 0.0
        return f"done in {seconds:.0f} s", MADE, run_id
    if run.status == dg.DagsterRunStatus.CANCELED:
        return f"canceled, {page(address, run_id)}", FAILED, run_id
    if not run.is_failure:
        waits = run.status == dg.DagsterRunStatus.QUEUED
        return "queued" if waits else under_way(instance, run)[0], None, run_id
    if following := run.tags.get(RETRY):
        return f"has ended early, and runs again: {page(address, following)}", None, following
    if run.tags.get(WILL_RETRY) == "true":
        return f"has ended early{why_failed(instance, run)}; Dagster will run it again", None, run_id
    if {event.step_key for event in step_failures(instance, run)} == {benchmark_checks.node_def.name}:
        return f"not released: {_refusals(instance, run)}", REFUSED, run_id
    return f"failed{why_failed(instance, run)} {page(address, run_id)}", FAILED, run_id


def _refusals(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return the failed gate checks of the run, with their reasons."""
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    checks = [record.event_log_entry.get_dagster_event().asset_check_evaluation_data for record in records]
    return "; ".join(
        f"{check.check_name}: {letters(check.description or '')}"
        for check in checks
        if check.check_name in CHECKS and not check.passed
    )


def _still(instance: dg.DagsterInstance, left: Runs, told: Mapping[str, str]) -> str:
    """Return a line about unchanged runs, and an idle queue."""
    queued = [name for name in left if told.get(name) == "queued"]
    text = f"still under way: {listed([f'{name} ({told[name]})' if name in told else name for name in left])}"
    problem = daemon_problem(instance, time.time()) if queued else None
    return f"{text}. {problem}." if problem else text


def _at_most(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"and {more:,} more changed"] if more > 0 else [])]


def summed_up(found: Mapping[str, int]) -> int:
    """Print how many characters ended how; return the exit status of all."""
    by_status = {status: [name for name, each in found.items() if each == status] for status in TITLES}
    parts = [f"{TITLES[status]}: {listed(names)}" for status, names in by_status.items() if names]
    tell(f"{counted(len(found), 'character')}. {'; '.join(parts)}" if parts else "Nothing to do: all is up to date.")
    return FAILED if by_status[FAILED] else REFUSED if by_status[REFUSED] else MADE


def page(address: str, run_id: str) -> str:
    return f"{address}/runs/{run_id}"


def _first_line(error: Exception) -> str:
    return shortened((str(error).splitlines() or [type(error).__name__])[0], 300)
