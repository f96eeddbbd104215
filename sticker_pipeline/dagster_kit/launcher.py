"""Runs the trainer as a process through Dagster Pipes; ends it reliably.

Dagster's own client signals only its direct child and never kills it. Here a supervisor owns the trainer's process
group and ends it when the step is cancelled, fails or dies. Replace this resource to train on another machine.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import dagster as dg
import psutil
from dagster import PipesSession, PipesTempFileContextInjector, PipesTempFileMessageReader, open_pipes_session
from PIL import Image
from pydantic import Field

from sticker_pipeline.core.images import contact_sheet, embedded_markdown
from sticker_pipeline.core.process import lifeline
from sticker_pipeline.core.process.signals import STOP_SIGNALS
from sticker_pipeline.core.progress import counter
from sticker_pipeline.core.texts import visible
from sticker_pipeline.dagster_kit.progress import step_progress
from sticker_pipeline.training.logs.progress import work_done
from sticker_pipeline.training.supervisor import GRACE_VARIABLE

KEPT_LINES = 20  # of stderr, in the message of a failure
SAMPLE_SIDE = 192  # pixels, of a sample image in the UI
NOT_PLOTTED = {"total_steps", "epoch", "epochs", "epoch_done", "eta_s"}  # useless as curves
MIN_SECONDS_BETWEEN_OBSERVATIONS = 15.0  # the UI loads every event of an asset


class TrainerFailed(Exception):
    """The trainer failed; the message ends with its last stderr lines."""


class TrainerLauncher(dg.ConfigurableResource):
    """Runs the trainer on this machine."""

    stop_grace_seconds: float = Field(
        default=20.0, gt=0, description="for a checkpoint, after SIGINT and again after SIGTERM"
    )

    def train(
        self,
        context: dg.AssetExecutionContext,
        arguments: Sequence[str],
        on_progress: Callable[[Mapping[str, Any]], None],
        module: str,
    ) -> None:
        """Run `python -m <module> <arguments>` to its end.

        Calls `on_progress` with each progress message. Raises TrainerFailed for a failure. On cancellation, the trainer
        is asked for a checkpoint, and all its processes end first.
        """
        python = [sys.executable, "-P", "-m"]  # -P: import nothing from the working folder
        command = [*python, "sticker_pipeline.training.supervisor", *python, module, *arguments]
        with open_pipes_session(
            context=context,
            context_injector=PipesTempFileContextInjector(),
            message_reader=PipesTempFileMessageReader(),
        ) as session:
            environment = {
                **lifeline.environment(os.environ),
                **session.get_bootstrap_env_vars(),
                GRACE_VARIABLE: str(self.stop_grace_seconds),
                "PYTHONUNBUFFERED": "1",
            }
            # Own session: Ctrl-C in the terminal reaches the trainer once, through the launcher.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
                text=True,
                errors="replace",
            )
            last_words: deque[str] = deque(maxlen=KEPT_LINES)
            with (
                _forwarded(process.stdout, sys.stdout, deque(maxlen=0)),
                _forwarded(process.stderr, sys.stderr, last_words),
            ):
                try:
                    _follow(process, session, on_progress)
                finally:
                    _end(process, self.stop_grace_seconds)
        if process.returncode != 0:
            words = "".join(last_words).strip()
            raise TrainerFailed(f"The trainer {_ending(process.returncode)}:\n{words}")


def _follow(
    process: subprocess.Popen[str], session: PipesSession, on_progress: Callable[[Mapping[str, Any]], None]
) -> None:
    seen = 0
    while True:
        ended = process.poll() is not None
        messages = session.get_custom_messages()
        for message in messages[seen:]:
            on_progress(message)
        seen = len(messages)
        if ended:
            return
        time.sleep(0.2)


@contextmanager
def _forwarded(source: IO[str] | None, target: IO[str], last_lines: deque[str]) -> Iterator[None]:
    """Copy a process's output to `target` during the block, line by line.

    Escapes hidden letters and keeps the last lines in `last_lines`.
    """
    assert source is not None

    def forward() -> None:
        for line in source:
            shown = visible(line)
            target.write(shown)
            target.flush()
            last_lines.append(shown)

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _end(process: subprocess.Popen[str], grace_seconds: float) -> None:
    """Close the supervisor's lifeline, which ends the trainer, and wait.

    Further signals do not cut this short. If the supervisor was killed, the trainer ends by its own lifeline, or is
    killed after two graces.
    """
    assert process.stdin is not None
    process.stdin.close()
    with _signals_ignored():
        try:
            code = process.wait(3 * grace_seconds)
        except subprocess.TimeoutExpired:  # halted, for instance
            process.kill()
            code = process.wait()
        if code < 0:
            left = _session(process.pid)
            _, alive = psutil.wait_procs(left, timeout=2 * grace_seconds)
            for one in alive:
                one.kill()
            psutil.wait_procs(alive)


def _session(leader: int) -> list[psutil.Process]:
    """Return the session's processes: the trainer and its descendants."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader:
                found.append(process)
        except (OSError, psutil.NoSuchProcess):
            continue  # it ended meanwhile
    return found


@contextmanager
def _signals_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ending(code: int) -> str:
    number = -code if code < 0 else code - 128
    if number in signal.valid_signals():
        ended = f"was ended by signal {number} ({signal.Signals(number).name})"
        memory = "; the system may have run out of memory" if number == signal.SIGKILL else ""
        return f"{ended}{memory}. What was saved is whole: materialize it again to go on"
    return f"ended with exit status {code}"


def progress_observer(context: dg.AssetExecutionContext) -> Callable[[Mapping[str, Any]], None]:
    """Return a callback that shows progress in the UI.

    Counts and steps become progress of this step (`dagster_kit/progress.py`). Steps (step, loss, gradient norm, speed:
    live curves) are observations of the asset too, throttled; epochs, with losses on fixed images and samples, are not.
    """
    last = {"time": 0.0, "step": -1}
    show = step_progress(context)
    count = counter(show)

    def observe(message: Mapping[str, Any]) -> None:
        if "counted" in message:
            count(message["counted"], message["done"], message["total"])
            return
        metadata: dict[str, Any] = {
            key: value for key, value in message.items() if isinstance(value, int | float) and key not in NOT_PLOTTED
        }
        if "epoch_done" in message:
            images = [Image.open(path) for path in message["images"] if Path(path).is_file()]
            if images:
                sheet = contact_sheet(images, cell=SAMPLE_SIDE)
                metadata["samples"] = dg.MetadataValue.md(embedded_markdown(sheet, "samples"))
            _log_observation(context, metadata)
            return
        show(work_done(message))
        step, total = int(message["step"]), int(message["total_steps"])
        due = time.monotonic() - last["time"] >= MIN_SECONDS_BETWEEN_OBSERVATIONS
        if step == last["step"] or not (due or step == total):
            return
        last.update(time=time.monotonic(), step=step)
        _log_observation(context, metadata)

    return observe


def _log_observation(context: dg.AssetExecutionContext, metadata: Mapping[str, Any]) -> None:
    context.log_event(
        dg.AssetObservation(asset_key=context.asset_key, partition=context.partition_key, metadata=metadata)
    )
