"""A training as a process: one argument, signals, exit codes.

Exit codes: 0 trained; 1 failed; 2 the spec cannot be trained; 130, 143 and 129 stopped by SIGINT, SIGTERM and SIGHUP,
with its state saved.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

from sticker_pipeline.core.files.claims import claimed
from sticker_pipeline.core.process import lifeline
from sticker_pipeline.core.process.threads import sharing
from sticker_pipeline.diffusion.base_model import BaseModelError
from sticker_pipeline.training.logs.progress import Progress, open_progress
from sticker_pipeline.training.spec import SpecError
from sticker_pipeline.training.stopping import NOTHING_LEARNED, Interrupted, StopRequest, stop_requests
from sticker_pipeline.training.supervisor import DEFAULT_GRACE_SECONDS, GRACE_VARIABLE


class AnySpec(Protocol):
    """A spec with name and output folder."""

    @property
    def name(self) -> str: ...

    @property
    def output(self) -> Path: ...


Spec = TypeVar("Spec", bound=AnySpec)


def run(
    arguments: list[str],
    module: str,
    load: Callable[[Path], Spec],
    train: Callable[[Spec, Progress, StopRequest], Path],
    to_save_memory: str,
) -> int:
    """Train the spec in `arguments` of `python -m <module>`; return the exit code.

    `load` reads and checks the spec without heavy libraries; `train`, which loads them, returns the LoRA file.
    `to_save_memory`: what to lower where a GPU's memory does not suffice.
    """
    if len(arguments) != 1:
        print(f"usage: python -m {module} SPEC.json", file=sys.stderr)
        return 2
    try:
        return _train(load(Path(arguments[0])), train, to_save_memory)
    except SpecError as error:
        print(error, file=sys.stderr)
    except BaseModelError as error:
        print(f"base: {error}", file=sys.stderr)
    return 2


def _train(spec: Spec, train: Callable[[Spec, Progress, StopRequest], Path], to_save_memory: str) -> int:
    with stop_requests() as stop, open_progress() as progress:
        lifeline.listen(_end_without_starter)
        # After the checks: these take ten seconds to load.
        import torch

        from sticker_pipeline.diffusion.lora.file import LoraError
        from sticker_pipeline.training.step import TrainingDiverged

        try:
            with alone(spec, progress, stop), sharing(progress.note):
                path = train(spec, progress, stop)
        except Interrupted as interruption:
            print(interruption, file=sys.stderr)
            return interruption.exit_code
        except torch.OutOfMemoryError as error:
            message = f"The GPU's memory did not suffice; what was saved is whole. {to_save_memory}, and start again."
            print(f"{message} {error}", file=sys.stderr)
            return 1
        except (TrainingDiverged, LoraError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        progress.note(f"done: {path}")
        return 0


def alone(spec: AnySpec, progress: Progress, stop: StopRequest) -> AbstractContextManager[None]:
    """Keep other trainings out of the output folder.

    A training whose step was killed may still be saving its state. Of several processes (torchrun), the first does
    this. Raises Interrupted while waiting.
    """

    def check() -> None:
        if (number := stop()) is not None:
            raise Interrupted(number, NOTHING_LEARNED)

    if os.environ.get("RANK", "0") != "0":
        return nullcontext()
    return claimed(spec.output / ".training.lock", f"an earlier training of {spec.name}", progress.note, check)


def _end_without_starter(message: int | None) -> None:
    """Stop as after SIGINT when the supervisor is gone; then exit anyway."""
    grace = float(os.environ.get(GRACE_VARIABLE, DEFAULT_GRACE_SECONDS))
    signal.raise_signal(signal.SIGINT)
    time.sleep(2 * grace)  # the supervisor's total grace
    os._exit(128 + 9)


def let_memory_grow() -> None:
    """Let GPU memory blocks grow, so that phases can reuse them.

    Linux only; a user's own setting stays.
    """
    if sys.platform == "linux" and "PYTORCH_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
