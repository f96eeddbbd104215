"""`python -m sticker_pipeline.training.consistency SPEC.json`: arguments, signals and exit codes only.

Exit codes, as the trainer's: 0 distilled; 1 failed; 2 the spec cannot be used; 130 and 143 stopped by SIGINT and
SIGTERM, with a state saved.
"""

import sys
from pathlib import Path

from sticker_pipeline.training.base_model import BaseModelError, check_base
from sticker_pipeline.training.consistency.spec import ConsistencySpec
from sticker_pipeline.training.progress import open_progress
from sticker_pipeline.training.spec import SpecError, read_spec
from sticker_pipeline.training.stopping import Interrupted, stop_requests

USAGE = "usage: python -m sticker_pipeline.training.consistency SPEC.json"


def main(arguments: list[str]) -> int:
    """Distil the spec that the one argument names; returns the exit code."""
    if len(arguments) != 1:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        spec = read_spec(Path(arguments[0]), ConsistencySpec)
        check_base(spec.base, spec.family)
        return _distil(spec)
    except SpecError as error:
        print(error, file=sys.stderr)
        return 2
    except BaseModelError as error:
        print(f"base: {error}", file=sys.stderr)
        return 2


def _distil(spec: ConsistencySpec) -> int:
    with stop_requests() as stop, open_progress() as progress:
        # Only now: these take ten seconds to load, and the spec is known to be good.
        import torch

        from sticker_pipeline.training.consistency.train import distil
        from sticker_pipeline.training.lora_file import LoraError
        from sticker_pipeline.training.state import OutputError
        from sticker_pipeline.training.step import TrainingDiverged

        try:
            path = distil(spec, progress, stop)
        except Interrupted as interruption:
            print(interruption, file=sys.stderr)
            return interruption.exit_code
        except torch.OutOfMemoryError as error:
            print(
                "The GPU's memory did not suffice; what was saved is whole. Lower batch_size or rank in the profile's "
                f"section `lcm`, and start again. {error}",
                file=sys.stderr,
            )
            return 1
        except (TrainingDiverged, LoraError, OutputError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        progress.note(f"done: {path}")
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
