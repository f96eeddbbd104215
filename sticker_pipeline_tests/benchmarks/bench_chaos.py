"""Kills the jobs of two small characters a hundred times, and repeats the command each time.

Run: python -m sticker_pipeline_tests.benchmarks.bench_chaos [KILLS] [SEED]   (default: 100 kills; some 40 minutes)

The result must be that of a run without kills: the same data versions, no process left behind, no place in a pool held,
no minute without output. Otherwise the exit status is 1.
"""

import collections
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from sticker_pipeline.dagster_kit.dead_runs import dead_runs, unheld_claims
from sticker_pipeline.dagster_kit.patience import pools_in_use
from sticker_pipeline_tests import chaos
from sticker_pipeline_tests.conftest import heed_signals

MOST_SILENCE = 60.0
DRAWS = 192


def main() -> None:
    heed_signals()
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        chaos.add_characters(root / "characters", DRAWS)
        started = time.monotonic()
        command = chaos.start(chaos.workspace(root / "undisturbed", root / "characters"))
        if command.process.wait() not in chaos.ENDED:
            raise SystemExit("without kills it does not go through:\n" + "".join(command.lines))
        seconds = time.monotonic() - started
        print(f"without kills: {seconds:.0f} s, {command.longest_silence:.0f} s of silence at most")
        faults = list(killed(root, kills, seconds, random.Random(seed), chaos.versions(root / "undisturbed")))
    print("\n".join(faults) or "as without kills")
    sys.exit(bool(faults))


def killed(
    root: Path, kills: int, seconds: float, random_numbers: random.Random, wanted: dict[str, str]
) -> Iterator[str]:
    """Kill `kills` times, in as many rounds from nothing to the end as that takes; yields what is wrong."""
    done: collections.Counter[str] = collections.Counter()
    silence, rounds = 0.0, 0
    while done.total() < kills:
        rounds += 1
        folder = root / f"round_{rounds}"
        variables = chaos.workspace(folder, root / "characters")
        while True:
            command = chaos.start(variables)
            kill = random_numbers.choice(chaos.KILLS)
            due = time.monotonic() + chaos.moment(random_numbers, seconds / 2)
            while command.process.poll() is None and time.monotonic() < due:
                time.sleep(0.05)
            while done.total() < kills and command.process.poll() is None and not chaos.hit(command, kill):
                time.sleep(0.05)  # until there is such a process
            command.process.wait()
            if left := chaos.wait_until_gone(command):
                yield f"left after {kill.name}: {left}"
            silence = max(silence, command.longest_silence)
            if command.process.returncode in chaos.ENDED:
                break
            done[kill.name] += 1
            print(f"{done.total():3} {kill.name}: {command.lines[-1].strip() if command.lines else ''}", flush=True)
        found = chaos.versions(folder)
        if different := [name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]:
            yield f"round {rounds} came out otherwise: {', '.join(different)}"
        yield from held(folder)
        shutil.rmtree(folder)
    print(f"{done.total()} kills in {rounds} rounds: {dict(done)}; {silence:.0f} s of silence at most")
    if silence > MOST_SILENCE:
        yield f"{silence:.0f} s without a line"


def held(folder: Path) -> Iterator[str]:
    """Yield what a workspace still holds though nothing is under way."""
    with dg.DagsterInstance.from_config(str(folder / "dagster")) as instance:
        yield from (f"dead: {run.run_id}" for run, _ in dead_runs(instance))
        yield from (f"a place is held by {run_id}" for run_id in unheld_claims(instance))
        yield from pools_in_use(instance)


if __name__ == "__main__":
    main()
