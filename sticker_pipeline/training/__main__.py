"""`python -m sticker_pipeline.training spec.json`: the trainer as a process. Arguments, signals and exit codes only.

Exit codes: 0 trained; 1 failed; 2 the spec cannot be trained; 130 and 143 stopped by SIGINT and SIGTERM, with a
checkpoint saved.
"""

import sys
from pathlib import Path

from sticker_pipeline.training.data import read_training_set
from sticker_pipeline.training.progress import open_progress
from sticker_pipeline.training.spec import SpecError, TrainingSpec, check_paths, load_spec
from sticker_pipeline.training.stopping import Interrupted, stop_requests

USAGE = "usage: python -m sticker_pipeline.training SPEC.json"


def main(arguments: list[str]) -> int:
    """Train the spec that the one argument names; returns the exit code."""
    if len(arguments) != 1:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        spec = load_spec(Path(arguments[0]))
        check_paths(spec)
        read_training_set(spec)
        return _train(spec)
    except SpecError as error:
        print(error, file=sys.stderr)
        return 2


def _train(spec: TrainingSpec) -> int:
    with stop_requests() as stop, open_progress() as progress:
        # Only now: these take ten seconds to load, and the spec is known to be good.
        import torch

        from sticker_pipeline.training.base_model import BaseModelError
        from sticker_pipeline.training.lora_file import LoraError
        from sticker_pipeline.training.state import OutputError
        from sticker_pipeline.training.step import TrainingDiverged
        from sticker_pipeline.training.train import train

        try:
            checkpoint = train(spec, progress, stop)
        except Interrupted as interruption:
            print(interruption, file=sys.stderr)
            return interruption.exit_code
        except BaseModelError as error:
            raise SpecError(f"base: {error}") from error
        except torch.OutOfMemoryError as error:
            print(
                "The GPU's memory did not suffice; what was saved is whole. Lower batch_size, rank or the resolution, "
                f"or change memory_budget, in the training settings, and start again. {error}",
                file=sys.stderr,
            )
            return 1
        except (TrainingDiverged, LoraError, OutputError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        progress.note(f"done: {checkpoint}")
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
