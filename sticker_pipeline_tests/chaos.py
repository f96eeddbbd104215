"""Kills `sticker-pipeline update` at random moments, for a test and a benchmark."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.small_character import add_small_character

MARK = "STICKER_CHAOS"  # in the environment of all that a command starts
GONE_SECONDS = 90.0  # two graces of the trainer's, and room: nothing outlives its command by more
WORKER, SUPERVISOR, TRAINER = (
    f"sticker_pipeline.{name}" for name in ("cli.work", "training.supervisor", "training")
)  # as their command lines have them
ENDED = (0, 3)  # made, or refused by the gate
HAVE_TIMES = ("released_lora", "comfyui_workflow")  # when a LoRA was released stands in these
SETTINGS = """\
trigger: skv_{name}
groups:
  gifs: {{learned: [{name}_sticker]}}
  stickers: {{learned: [{name}_sticker], share: 2.0}}
  art: {{medium: art}}
training: {{epochs: 2, samples_per_epoch: {draws}, rank: 16}}
benchmark: {{holdout: 0.3, prompts: ["angry, arms up"], gate: {{one_source: 1.0, gain: 0.0, identity: 0.0}}}}
"""


@dataclass(frozen=True)
class Kill:
    """A way to end a command: the signal, and the processes by their command lines."""

    name: str
    number: signal.Signals
    hits: Callable[[Sequence[str]], bool]


def _is_guard(words: Sequence[str]) -> bool:
    return "update" in words and WORKER not in words


def _is_trainer(words: Sequence[str]) -> bool:
    return TRAINER in words and SUPERVISOR not in words


KILLS = [
    Kill("Ctrl-C", signal.SIGINT, _is_guard),
    Kill("SIGTERM", signal.SIGTERM, _is_guard),
    Kill("terminal closed", signal.SIGHUP, _is_guard),
    Kill("guard killed", signal.SIGKILL, _is_guard),
    Kill("worker killed", signal.SIGKILL, lambda words: WORKER in words),
    Kill("supervisor killed", signal.SIGKILL, lambda words: SUPERVISOR in words),
    Kill("trainer killed", signal.SIGKILL, _is_trainer),
    Kill("all killed", signal.SIGKILL, lambda words: True),
    Kill("all but the trainer killed", signal.SIGKILL, lambda words: not _is_trainer(words)),
]


@dataclass
class Command:
    """A `sticker-pipeline update` that was started, what it printed, and its longest silence in seconds."""

    process: "subprocess.Popen[str]"
    mark: str
    lines: list[str] = field(default_factory=list)
    longest_silence: float = 0.0

    def family(self) -> list[psutil.Process]:
        """Every living process of the command."""
        return [process for process in psutil.process_iter() if _is_marked(process, self.mark)]


def add_characters(folder: Path, draws: int) -> None:
    """Add two small characters, each trained for two epochs of `draws` images."""
    for name, demo in (("anki", "pip_comet"), ("moth", "velvet_moth")):
        add_small_character(folder / name, demo, SETTINGS.format(name=name, draws=draws))


def workspace(root: Path, characters: Path) -> dict[str, str]:
    """Return the variables of a workspace whose artifacts and history lie in `root`."""
    return {
        "STICKER_CHARACTERS": str(characters),
        "STICKER_ARTIFACTS": str(root / "artifacts"),
        "STICKER_MODELS": str(REPOSITORY / "data" / "models"),
        "DAGSTER_HOME": str(root / "dagster"),
        "OMP_NUM_THREADS": "1",
    }


def start(variables: Mapping[str, str], *names: str) -> Command:
    """Start `sticker-pipeline update NAMES`."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", "from sticker_pipeline.__main__ import run; run()", "update", *names],
        env={**os.environ, **variables, MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        cwd=REPOSITORY,
    )
    command = Command(process, mark)
    threading.Thread(target=_read, args=(command,), daemon=True).start()
    return command


def hit(command: Command, kill: Kill) -> int:
    """Send the signal to those that the kill hits; returns how many were there."""
    sent = 0
    for process in command.family():
        try:
            if kill.hits(process.cmdline()):
                process.send_signal(kill.number)
                sent += 1
        except psutil.NoSuchProcess:
            continue
    return sent


def wait_until_gone(command: Command, seconds: float = GONE_SECONDS) -> list[str]:
    """Wait for the command's last process; return the command lines of those left."""
    deadline = time.monotonic() + seconds
    while (left := command.family()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [f"{process.pid} {' '.join(process.cmdline())}" for process in left]


def versions(root: Path) -> dict[str, str]:
    """Return the data version of every artifact of a character, by character and asset."""
    store = ArtifactStore(root / "artifacts")
    found = {}
    for manifest in sorted(store.root.glob("[a-z]*/*/artifact.json")):
        scope, asset = manifest.parts[-3:-1]
        if asset not in HAVE_TIMES:
            found[f"{scope}/{asset}"] = store.read(scope, asset).data_version
    return found


def moment(random_numbers: random.Random, most: float) -> float:
    """Return a random time to kill at, in seconds, an early one more often."""
    return most * random_numbers.random() ** 1.5


def _read(command: Command) -> None:
    last = time.monotonic()
    assert command.process.stdout is not None
    for line in command.process.stdout:
        command.longest_silence = max(command.longest_silence, time.monotonic() - last)
        last = time.monotonic()
        command.lines.append(line)


def _is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False  # it is somebody else's, or has just ended
