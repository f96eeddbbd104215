"""The trainer as a process: `python -m sticker_pipeline.training spec.json`."""

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until handlers are set, SIGINT ends it without a traceback

from sticker_pipeline.core.process.quiet import quiet
from sticker_pipeline.training.data import read_training_set
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.process import let_memory_grow, run
from sticker_pipeline.training.spec import TrainingSpec, check_paths, load_spec
from sticker_pipeline.training.stopping import StopRequest

MODULE = "sticker_pipeline.training"
TO_SAVE_MEMORY = "Lower batch_size, rank or the resolution, or change memory_budget, in the training settings"


def main(arguments: list[str]) -> int:
    """Train the spec named by the argument; return the exit code."""
    return run(arguments, MODULE, _loaded, _train, TO_SAVE_MEMORY)


def _loaded(path: Path) -> TrainingSpec:
    spec = load_spec(path)
    check_paths(spec)
    read_training_set(spec)
    return spec


def _train(spec: TrainingSpec, progress: Progress, stop: StopRequest) -> Path:
    from sticker_pipeline.training.train import train

    return train(spec, progress, stop)


if __name__ == "__main__":
    quiet()
    let_memory_grow()
    sys.exit(main(sys.argv[1:]))
