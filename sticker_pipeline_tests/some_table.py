"""Tables with only the columns of a test, in place of an asset's."""

from pathlib import Path

import pandas as pd

from sticker_pipeline.core.schemas import INDEX


def write_rows(rows: pd.DataFrame, folder: Path, name: str = INDEX) -> None:
    """Write `rows` as Parquet, whatever their columns."""
    rows.to_parquet(folder / name, index=False)
