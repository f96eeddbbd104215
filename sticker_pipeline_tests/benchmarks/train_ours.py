"""Our trainer with a line of progress for each step, as the peers' have: `python -m …benchmarks.train_ours SPEC`."""

import sys
from functools import partial
from pathlib import Path

from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.spec import load_spec
from sticker_pipeline.training.train import train

if __name__ == "__main__":
    train(load_spec(Path(sys.argv[1])), Progress(partial(print, flush=True), seconds_between_lines=0.0))
