"""Metadata of assets as the UI shows it: images, tables and their columns."""

from typing import Any

import dagster as dg
import pandas as pd
from PIL import Image

from sticker_pipeline.pictures import embedded_markdown

SUMMARY = "summary"  # the entry that says in one line what a step made
PREVIEW_ROWS = 20


def picture(image: Image.Image, alt: str) -> dg.MetadataValue:
    """Show an image in the UI."""
    return dg.MetadataValue.md(embedded_markdown(image, alt))


def table(rows: pd.DataFrame, most: int = PREVIEW_ROWS) -> dg.TableMetadataValue:
    """Show the first rows of a table in the UI; numbers keep four significant digits."""
    shown = rows.head(most)
    columns = [dg.TableColumn(str(name), _column_type(shown[name])) for name in shown.columns]
    records = [
        dg.TableRecord({str(key): _plain(value) for key, value in record.items()})
        for record in shown.to_dict(orient="records")
    ]
    return dg.MetadataValue.table(records=records, schema=dg.TableSchema(columns=columns))


def column_schema(rows: pd.DataFrame) -> dg.TableSchema:
    """Return the names and types of the columns."""
    return dg.TableSchema(columns=[dg.TableColumn(str(name), _column_type(rows[name])) for name in rows.columns])


def described(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the standard metadata of a table asset: row count and column types."""
    return {"dagster/row_count": len(rows), "dagster/column_schema": column_schema(rows)}


def _column_type(column: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(column):
        return "bool"
    if pd.api.types.is_integer_dtype(column):
        return "int"
    return "float" if pd.api.types.is_float_dtype(column) else "string"


def _plain(value: Any) -> str | int | float | bool | None:
    if value is None or value is pd.NA or value != value:
        return None
    if isinstance(value, bool | int | str):
        return value
    if hasattr(value, "item"):
        return _plain(value.item())
    return float(f"{value:.4g}") if isinstance(value, float) else str(value)
