"""Costs of a step on Ray beside this machine's executor, and payloads on one to four nodes.

    python -m sticker_pipeline_tests.benchmarks.bench_fleet [--seconds 60]

Head, nodes, Postgres and payloads share this machine: its cores, not Ray, limit what a node adds. A payload sleeps, as
a step that waits for its GPU. The loss is that against as many times the throughput of one node.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import dagster as dg
import pytest

from sticker_pipeline_tests.benchmarks.fleet_jobs import PAYLOADS, SECONDS
from sticker_pipeline_tests.fleet import parts

MODULE = "sticker_pipeline_tests.benchmarks.fleet_jobs"
NODES = (4, 2, 1)  # nodes leave as it goes on


def main(seconds: float) -> None:
    variables = {
        "STICKER_EXECUTOR": "ray",
        "STICKER_STEP_CPUS": "2",  # of a node's three: one step at a time, and room for runs
        SECONDS: str(seconds),
    }
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        fleet = parts.fleet(Path(name), variables, MODULE, nodes=max(NODES), cpus=3)
        with fleet as found, parts.history(found) as history:
            for executor in ("local", "ray", "ray"):
                times = step_times(history, execute(found, history, "in_a_row", executor).run_id)
                first, *others = (max(both) - min(both) for both in times.values())
                print(f"a step, {executor}: first {first:.1f} s, then {statistics.mean(others):.1f} s", flush=True)
            taken = {count: payloads_on(found, history, count) for count in NODES}
    for count in sorted(taken):
        speed, loss = PAYLOADS / taken[count] * 3600, 1 - taken[1] / (count * taken[count])
        print(f"{PAYLOADS} payloads of {seconds:.0f} s, {count} nodes: {speed:.0f} an hour, loss {loss:.0%}")


def execute(fleet: parts.Fleet, history: dg.DagsterInstance, job: str, executor: str) -> dg.DagsterRun:
    """Run the job to its end: by the run launcher, or in a process of this machine."""
    if executor == "ray":
        return parts.ended(history, fleet.launch(job), 1200)
    before = {run.run_id for run in history.get_runs()}
    command = [sys.executable, "-m", "dagster", "job", "execute", "--module-name", MODULE, "--job", job]
    environment = {**fleet.environment, "STICKER_EXECUTOR": "local"}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (run,) = [run for run in history.get_runs() if run.run_id not in before]
    return run


def step_times(history: dg.DagsterInstance, run_id: str) -> dict[str, list[float]]:
    """Return the times of each step's launch and end."""
    kinds = {dg.DagsterEventType.STEP_WORKER_STARTING, dg.DagsterEventType.STEP_SUCCESS}
    times: dict[str, list[float]] = {}
    for log in history.all_logs(run_id, of_type=kinds):
        times.setdefault(log.step_key or "", []).append(log.timestamp)
    return times


def payloads_on(fleet: parts.Fleet, history: dg.DagsterInstance, count: int) -> float:
    """Return the seconds from the first payload's launch to the last one's end, on `count` nodes."""
    for node in fleet.nodes[count:]:
        node.terminate()
        node.wait()
    run = execute(fleet, history, "side_by_side", "ray")
    assert run.status == dg.DagsterRunStatus.SUCCESS, run.status
    times = [time for found in step_times(history, run.run_id).values() for time in found]
    return max(times) - min(times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="that a payload sleeps")
    try:
        parts.require()
        main(parser.parse_args().seconds)
    except pytest.skip.Exception as missing:
        print(f"not measured: {missing}")
