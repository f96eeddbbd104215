"""The distillation as a process: `python -m sticker_pipeline.training.distill spec.json`."""

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until handlers are set, SIGINT ends it without a traceback

from sticker_pipeline.core.process.quiet import quiet
from sticker_pipeline.diffusion.base_model import check_base
from sticker_pipeline.training.distill.spec import ConsistencySpec
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.process import let_memory_grow, run
from sticker_pipeline.training.spec import read_spec
from sticker_pipeline.training.stopping import StopRequest

MODULE = "sticker_pipeline.training.distill"
TO_SAVE_MEMORY = "Lower batch_size or rank, or turn gradient_checkpointing on, in the profile's section `lcm`"


def main(arguments: list[str]) -> int:
    """Distil the spec named by the argument; return the exit code."""
    return run(arguments, MODULE, _loaded, _distil, TO_SAVE_MEMORY)


def _loaded(path: Path) -> ConsistencySpec:
    spec = read_spec(path, ConsistencySpec)
    check_base(spec.base, spec.family)
    return spec


def _distil(spec: ConsistencySpec, progress: Progress, stop: StopRequest) -> Path:
    from sticker_pipeline.training.distill.train import distil

    return distil(spec, progress, stop)


if __name__ == "__main__":
    quiet()
    let_memory_grow()
    sys.exit(main(sys.argv[1:]))
