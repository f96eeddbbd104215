"""Our process in bench_tagging: tags the images of a folder, as the asset does.

python -m sticker_pipeline_tests.benchmarks.tag_folder FRAMES MODEL OUT; without arguments it only imports.
"""

import sys
import tempfile
from pathlib import Path

from sticker_pipeline.core.storage import write_table
from sticker_pipeline.tagging import wd14
from sticker_pipeline.tagging.scoring import WD14_TAGS, score_frames, tag_table
from sticker_pipeline.tagging.thresholds import Thresholds, per_frame

BATCH = 16


def tag_folder(frames: Path, model: Path, out: Path) -> None:
    """Every PNG file of the folder `frames` to a table of tags in `out`; nothing is in the cache."""
    files = {path.stem: (path, path.stem.rjust(64, "0")) for path in sorted(frames.glob("*.png"))}
    tagger = wd14.open_tagger(model, "cpu")
    with tempfile.TemporaryDirectory() as cache:
        scored = score_frames(files, tagger, Path(cache), BATCH)
    limits = per_frame(Thresholds(0.35, 0.35), scored.scores, wd14.category_columns(tagger.labels))
    out.mkdir(exist_ok=True)
    write_table(tag_table(list(files), scored.scores, tagger.labels, limits), out, WD14_TAGS)


if __name__ == "__main__":
    if sys.argv[1:]:
        tag_folder(*map(Path, sys.argv[1:]))
