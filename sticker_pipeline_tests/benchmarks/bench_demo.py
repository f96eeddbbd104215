"""Time of each step of one demo character: `python -m sticker_pipeline_tests.benchmarks.bench_demo [CHARACTER]`.

Runs `update` of one character in its own process, with empty caches, in a temporary workspace; then again, with nothing
to do. Seconds of a step are those between its events in Dagster's log. Inside `lora`: the trainer's messages with their
times, and its log of steps. One evaluation of the losses on fixed images, and the samples of one epoch, are measured
afterwards by themselves.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

CHARACTER = "pip_comet"
UPDATE = "from sticker_pipeline.cli.commands import main; main()"
TRAINER_SAYS = {"start-up of the trainer": r": \d+ images, base model", "preparation": r"\d+ adapters; \d+ steps"}


def main() -> None:
    """Print the table of a first update, and the seconds of one that has nothing to do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("character", nargs="?", default=CHARACTER)
    character = parser.parse_args().character
    with tempfile.TemporaryDirectory() as temporary:
        folders = {"DAGSTER_HOME": Path(temporary) / "home", "STICKER_ARTIFACTS": Path(temporary) / "artifacts"}
        before = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        whole, said = update(character, folders)
        steps = step_seconds(folders["DAGSTER_HOME"])
        folder = folders["STICKER_ARTIFACTS"] / character / "lora"
        lora = lora_seconds(folder, steps["lora"], said)
        again, _ = update(character, folders)
        losses, samples = seconds_of_a_look(folder)
    print(f"{character}: {whole:.1f} s, {os.cpu_count()} cores, load {before:.1f} before")
    for name, (_, seconds) in steps.items():
        print(f"  {name:40}{seconds:8.1f}")
        for part, inner in lora.items() if name == "lora" else ():
            print(f"    {part:38}{inner:8.1f}")
    print(f"  {'between steps, imports, Dagster':40}{whole - sum(seconds for _, seconds in steps.values()):8.1f}")
    print(f"again, with nothing to do: {again:.1f} s")
    print(f"afterwards: losses on fixed images {losses:.2f} s for each time, samples of an epoch {samples:.2f} s")


def update(character: str, folders: Mapping[str, Path]) -> tuple[float, list[tuple[float, str]]]:
    """Wall-clock seconds of `update`, and the lines that it printed, each with its time since the epoch."""
    environment = {**os.environ, **{name: str(folder) for name, folder in folders.items()}, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-W", "ignore", "-c", UPDATE, "update", character]
    started = time.perf_counter()
    said = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append((time.time(), line.rstrip()))
    if process.returncode:
        raise SystemExit("\n".join(line for _, line in said))
    return time.perf_counter() - started, said


def step_seconds(home: Path) -> dict[str, tuple[float, float]]:
    """Step -> (when it began, in seconds since the epoch; seconds that it took), in the order of their beginnings."""
    import dagster as dg

    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for run in instance.get_runs():
            for entry in instance.all_logs(run.run_id):
                event = entry.dagster_event
                if event is not None and event.event_type == dg.DagsterEventType.STEP_START:
                    begun[str(event.step_key)] = entry.timestamp
                if event is not None and event.event_type == dg.DagsterEventType.STEP_SUCCESS:
                    ended[str(event.step_key)] = entry.timestamp
    return {name: (begun[name], ended[name] - begun[name]) for name in sorted(ended, key=lambda name: begun[name])}


def lora_seconds(folder: Path, step: tuple[float, float], said: list[tuple[float, str]]) -> dict[str, float]:
    """Part of the asset step `lora` (its beginning and its length in seconds) -> seconds."""
    began, whole = step
    found: dict[str, float] = {}
    since = began
    for part, words in TRAINER_SAYS.items():
        at = next(moment for moment, line in said if moment >= began and re.search(words, line))
        found[part], since = at - since, at
    found["steps"] = float(pd.read_parquet(folder / "log.parquet")["seconds"].sum())
    found["fixed images, samples, the rest"] = whole - sum(found.values())
    return found


def seconds_of_a_look(folder: Path) -> tuple[float, float]:
    """Return seconds of the losses on all fixed images, and of one epoch's sample images.

    With fresh adapters; each is the faster of two.
    """
    from sticker_pipeline.training.logs.progress import Progress
    from sticker_pipeline.training.samples import sample_images
    from sticker_pipeline.training.setup import set_up
    from sticker_pipeline.training.spec import FILE_NAME, load_spec
    from sticker_pipeline.training.validation_loss import validation_rows

    with tempfile.TemporaryDirectory() as output:
        spec = load_spec(folder / FILE_NAME).model_copy(update={"output": Path(output)})
        prepared = set_up(spec, Progress(lambda line: None), lambda: None)
        run, memory = prepared.run, prepared.memory
        return (
            faster(lambda: validation_rows(run, prepared.probes, 0, memory.sample_batch)),
            faster(lambda: list(sample_images(run.models, spec, prepared.prompts, memory))),
        )


def faster(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
