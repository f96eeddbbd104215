"""Training speed in images per second, beside the peers: `python -m …benchmarks.bench_training`.

The peers are diffusers' example scripts and kohya-ss/sd-scripts, run unchanged, each in its own process: `--diffusers
CHECKOUT` (needs the package `datasets`; `--diffusers-python` if another environment has it) and `--sd-scripts CHECKOUT
--sd-scripts-python PYTHON` (needs its own environment, see its requirements.txt).

Each trainer's own progress is read while it runs. The time between two shown steps is the time of the steps between
them, with all that happens there; loading, caching and saving drop out. Trainers take turns; medians. Equal for all:
images, side, batch, modules, rank, precision, AdamW, attention by PyTorch, no gradient checkpointing. Each caches all
it can. sd-scripts cannot open the embedded base: its U-Net has the channels of SD1.5 built in.

Without peers, ours alone: its speed, and the time of a step by part. On a CUDA machine the same at real sizes, with the
share of the GPU's peak; base models are then of the true architecture with random weights, kept in `--work`.
"""

import argparse
import fcntl
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sticker_pipeline.training.spec import load_spec
from sticker_pipeline_tests.benchmarks.trainers import Work, diffusers_script, ours, sd_scripts, write_images
from sticker_pipeline_tests.benchmarks.true_base import true_base

EMBEDDED = Path(__file__).resolve().parents[2] / "data" / "models" / "embedded" / "base"
Command = Callable[[Work, Path, Path, int], list[Any]]  # of (work, images, output folder, steps)


@dataclass(frozen=True)
class Case:
    """One comparison over `steps` steps, and the wanted ratio against each peer.

    The first `warm_up` steps are not timed.
    """

    name: str
    work: Work
    warm_up: int
    steps: int
    wanted: dict[str, float]


def main() -> None:
    """Print for each case a table of samples/s and ratios, then where the time of our step goes."""
    arguments = _arguments()
    peers = _peers(arguments)
    import torch

    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} threads of a CPU"
    print(f"PyTorch {torch.__version__} on {device}; {arguments.rounds} rounds, medians")
    for case in _cases(arguments.work, cuda, peers):
        if arguments.only and arguments.only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_images(folder / "images", case.work.side)
            turns = Turns(arguments.work / "turn.lock", arguments.together)
            _race(case, {name: peers[name] for name in case.wanted if name in peers}, folder, arguments.rounds, turns)
            if arguments.no_profile:
                continue
            # In a process of its own: what it holds in memory would be missing in the next race.
            process = multiprocessing.get_context("spawn").Process(target=_shares_of_a_step, args=(case.work, folder))
            process.start()
            process.join()
    for name in ("diffusers", "sd-scripts"):
        if name not in peers:
            print(f"\nOpen: beside {name}; name its checkout with --{name}.")
    if not cuda:
        print("\nOpen: the figures of a GPU; there is no CUDA device here.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own = Path(sys.executable)
    parser.add_argument("--diffusers", type=Path, default=os.environ.get("DIFFUSERS"))
    parser.add_argument("--diffusers-python", type=Path, default=os.environ.get("DIFFUSERS_PYTHON", own))
    parser.add_argument("--sd-scripts", type=Path, default=os.environ.get("SD_SCRIPTS"))
    parser.add_argument("--sd-scripts-python", type=Path, default=os.environ.get("SD_SCRIPTS_PYTHON"))
    parser.add_argument("--work", type=Path, default=Path(".build/bench_training"), help="base models are kept here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="the case with this in its name")
    parser.add_argument(
        "--together",
        action="store_true",
        help="trainers start side by side and wait for their turn at their first step",
    )
    parser.add_argument("--no-profile", action="store_true", help="not where the time of our step goes")
    return parser.parse_args()


def _peers(arguments: argparse.Namespace) -> dict[str, Command]:
    peers: dict[str, Command] = {}
    if arguments.diffusers:
        peers["diffusers"] = partial(diffusers_script, arguments.diffusers, arguments.diffusers_python)
    if arguments.sd_scripts:
        peers["sd-scripts"] = partial(sd_scripts, arguments.sd_scripts, arguments.sd_scripts_python)
    return peers


def _cases(folder: Path, cuda: bool, peers: dict[str, Command]) -> list[Case]:
    """diffusers' script trains attention alone, sd-scripts all linear layers: each is met on its own ground."""
    grounds = {"attention": "diffusers", "all": "sd-scripts"}
    if cuda:
        return [
            Case(
                f"{family} {side} px, batch {batch}, {targets}",
                Work(family, true_base(family, folder / family), side, batch, targets, "bfloat16"),
                10,
                steps,
                {peer: wanted[peer]},
            )
            for family, side, batch, steps, wanted in (
                ("sd15", 512, 1, 80, {"diffusers": 2.0, "sd-scripts": 1.5}),
                ("sd15", 512, 4, 60, {"diffusers": 2.0, "sd-scripts": 1.5}),
                ("sdxl", 1024, 1, 40, {"diffusers": 1.3, "sd-scripts": 1.3}),
            )
            for targets, peer in grounds.items()
        ]
    embedded = [
        Case(
            f"embedded 96 px, batch {batch}, attention",
            Work("sd15", EMBEDDED, 96, batch, "attention", "float32"),
            10,
            steps,
            {"diffusers": 2.0},
        )
        for batch, steps in ((8, 110), (1, 310))
    ]
    true = [
        Case(
            f"sd15 128 px, batch 1, {targets}",
            Work("sd15", true_base("sd15", folder / "sd15"), 128, 1, targets, "float32"),
            4,
            34,
            {peer: 1.3},
        )
        for targets, peer in grounds.items()
        if peer in peers
    ]
    return embedded + true


@dataclass(frozen=True)
class Turns:
    """Exclusive turns on the machine, for all trainers that know the file `lock`."""

    lock: Path
    together: bool  # trainers start side by side, and then wait, each stopped at its first step, until none starts

    @contextmanager
    def hold(self, kind: int) -> Iterator[None]:
        """Hold the lock with others that start (fcntl.LOCK_SH), or alone (fcntl.LOCK_EX)."""
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.lock.open("w") as file:
            fcntl.flock(file, kind)
            yield


def _race(case: Case, peers: dict[str, Command], folder: Path, rounds: int, turns: Turns) -> None:
    contenders: dict[str, Command] = {"ours": ours, **peers}
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        commands, outputs = {}, {}
        for name, command in contenders.items():
            outputs[name] = folder / f"{name}_{number}"
            outputs[name].mkdir()
            commands[name] = command(case.work, folder / "images", outputs[name], case.steps)
        with ThreadPoolExecutor(len(contenders)) as threads:
            started = {n: threads.submit(_rate, commands[n], outputs[n], case, turns) for n in contenders}
        for name, future in started.items():
            rates[name].append(future.result())
    print(f"\n{case.name}: samples/s after {case.warm_up} of {case.steps} steps")
    for name, found in rates.items():
        rate = statistics.median(found)
        line = f"  {name:12} {rate:8.3f} ({min(found):.3f} to {max(found):.3f})"
        if name != "ours":
            ratio = statistics.median(rates["ours"]) / rate
            line += f"   ours is {ratio:.2f} times as fast, wanted {case.wanted[name]}"
        print(line, flush=True)


def _rate(command: list[Any], output: Path, case: Case, turns: Turns) -> float:
    """Return samples/s between the first and the last step shown after the warm-up.

    Raises RuntimeError, with the trainer's last words, if it fails.
    """
    with ExitStack() as start:
        start.enter_context(turns.hold(fcntl.LOCK_SH if turns.together else fcntl.LOCK_EX))
        # No network, and every run reads its images anew: what `datasets` kept of another run would be quicker.
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(output / "datasets")}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        shown = _shown(process, case.steps)
        first = next(shown, None)
        moments = dict([first] if first else [])
        if turns.together:
            process.send_signal(signal.SIGSTOP)
            start.close()
        with turns.hold(fcntl.LOCK_EX) if turns.together else nullcontext():
            process.send_signal(signal.SIGCONT)
            for step, moment in shown:
                moments.setdefault(step, moment)
    timed = {step: moment for step, moment in moments.items() if case.warm_up <= step < case.steps}
    begin, end = min(timed), max(timed)
    return case.work.batch * (end - begin) / (timed[end] - timed[begin])


def _shown(process: subprocess.Popen[bytes], steps: int) -> Iterator[tuple[int, float]]:
    """Each step of `steps` that a trainer says it has done, and when it said so."""
    assert process.stdout is not None
    said = b""
    while part := os.read(process.stdout.fileno(), 2**16):
        said = said[-3000:] + part
        for step in re.findall(rb"\b(\d+)/%d\b" % steps, said[-len(part) - 20 :]):
            yield int(step), time.perf_counter()
    if process.wait():
        raise RuntimeError(f"{process.args!r} failed:\n{said.decode(errors='replace')}")


KINDS = (  # words in the names of PyTorch's operations on a CPU, and of kernels on a GPU
    ("attention", ("scaled_dot_product", "attention", "sdpa", "flash", "fmha")),
    ("convolutions", ("conv", "fprop", "dgrad", "nchwtonhwc", "nhwctonchw")),
    ("matrix products", ("::mm", "addmm", "bmm", "linear_pointwise", "gemm", "nvjet", "cutlass")),
    ("norms", ("group_norm", "layer_norm", "vector_norm", "groupnorm", "layernorm", "rowwisemoments")),
    ("optimizer", ("adam",)),
)
STEPS_PROFILED = 5


def _shares_of_a_step(work: Work, folder: Path) -> None:
    """Print the share of each kind of operation in our step and, on a GPU, the share of the hardware's peak."""
    import torch
    from torch.profiler import profile

    from sticker_pipeline.training.backward import unet_backward
    from sticker_pipeline.training.logs.progress import Progress
    from sticker_pipeline.training.setup import set_up
    from sticker_pipeline.training.step import training_step

    output = folder / "shares"
    output.mkdir()
    ours(work, folder / "images", output, 3 * STEPS_PROFILED)
    run = set_up(load_spec(output / "bench.json"), Progress(lambda line: None), lambda: None).run
    batches = run.plan.epoch(0)[0]

    def steps() -> float:
        start = time.perf_counter()
        for _ in range(STEPS_PROFILED):
            run.history.log.append(training_step(run, batches, 1))
        return (time.perf_counter() - start) / STEPS_PROFILED

    steps()
    seconds = steps()
    with profile() as profiler:
        steps()
    on_gpu = run.accelerator.device.type == "cuda"
    busy: dict[str, float] = {}
    for event in profiler.key_averages():
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        kind = next((kind for kind, words in KINDS if any(word in event.key.lower() for word in words)), "the rest")
        busy[kind] = busy.get(kind, 0.0) + spent
    whole = sum(busy.values())
    print(f"  a step takes {seconds * 1000:.0f} ms: " + ", ".join(f"{k} {v / whole:.0%}" for k, v in busy.items()))
    if on_gpu:
        eager = replace(run, backward=unet_backward(run.models.unet, run.weights["unet"], lambda loss: loss))
        flops, peak = _flops(lambda: training_step(eager, batches, 1)), _peak_flops(torch.bfloat16)
        print(
            f"  {flops / 1e12:.2f} TFLOP a step: {flops / seconds / peak:.0%} of the {peak / 1e12:.0f} TFLOP/s", end=""
        )
        print(" that this GPU reaches in a large bfloat16 product")


def _flops(step: Callable[[], Any]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def _peak_flops(dtype: Any, side: int = 8192, products: int = 20) -> float:
    import torch

    a, b = (torch.randn(side, side, device="cuda", dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(products):
        a @ b
    torch.cuda.synchronize()
    return 2 * side**3 * products / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
