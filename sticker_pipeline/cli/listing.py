"""Tables in the terminal, and results of commands as JSON."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from sticker_pipeline.core.process.output import tell
from sticker_pipeline.core.texts import counted, shortened

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 40
MOST_LETTERS = 60  # of a cell
SHOWN_DIGITS = 12  # of a hash


def tell_table(names: Sequence[str], rows: Sequence[Sequence[object]], rest: str, right: Collection[str] = ()) -> None:
    """Print `rows` in columns, at most MOST_ROWS.

    Columns in `right` are aligned there. `rest` says where further rows are.
    """
    cells = [[shortened(str(cell), MOST_LETTERS) for cell in row] for row in rows[:MOST_ROWS]]
    widths = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
    for number, line in enumerate([names, *cells]):
        padded = [_padded(cell, width, name in right) for cell, width, name in zip(line, widths, names, strict=True)]
        tell(("  ".join(padded).rstrip(), "" if number else "bold"))
    if len(rows) > MOST_ROWS:
        tell(f"and {len(rows) - MOST_ROWS:,} more; {rest}")


def tell_sources(sources: "pd.DataFrame", rest: str) -> None:
    """Print sources, as from `by_source` of `dataset/sources.py`, and their numbers."""
    counts, frames = Counter(sources["split"]), sources.loc[sources["split"] == "train", "frames"].sum()
    tell(
        f"Files trained on: {counts['train']}, with {counted(int(frames), 'frame')}; "
        f"for validation: {counts['validation']}; held out: {counts['holdout']}"
    )
    names = ("split", "weight", "frames", "SHA-256", "path", "captions", "the first")
    rows = [
        (
            *(row["split"], share(row["weight"]), row["frames"], row["sha256"][:SHOWN_DIGITS], row["path"]),
            *(row["captions"], row["caption"]),
        )
        for row in sources.to_dict(orient="records")
    ]
    tell_table(names, rows, rest, right=("weight", "frames", "captions"))


def tell_json(value: Any) -> None:
    """Print JSON, in letters that no terminal interprets."""
    tell(json.dumps(value, indent=1).replace("\x7f", "\\u007f"))


def share(weight: float) -> str:
    """Return a probability in percent; nothing for 0."""
    return f"{weight:.2%}" if weight else ""


def when(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space
