"""Metadata of assets in the UI: images, tables and columns.

Dagster's own keys begin with `dagster/` and have a place in its UI.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd
from PIL import Image

from sticker_pipeline.core.images import embedded_markdown
from sticker_pipeline.core.schemas import Column, TableSchema, columns_of, limits

SUMMARY = "summary"  # a step's result in one line
PREVIEW_ROWS = 20
COLUMN_SCHEMA = "dagster/column_schema"
ROW_COUNT = "dagster/row_count"  # of an asset without partitions
PARTITION_ROW_COUNT = "dagster/partition_row_count"
ROWS_OF, COLUMNS_OF = "rows of ", "columns of "


def inline_image(image: Image.Image, alt: str) -> dg.MetadataValue:
    """Return metadata that shows an image."""
    return dg.MetadataValue.md(embedded_markdown(image, alt))


def note(sentence: str) -> dict[str, Any]:
    """Return metadata of a sentence for people; none for ""."""
    return {"note": sentence} if sentence else {}


def table(rows: pd.DataFrame, most: int = PREVIEW_ROWS) -> dg.TableMetadataValue:
    """Return metadata that shows a table's first rows, with four significant digits."""
    shown = rows.head(most)
    columns = [dg.TableColumn(str(name), _column_type(shown[name])) for name in shown.columns]
    records = [
        dg.TableRecord({str(key): _plain(value) for key, value in record.items()})
        for record in shown.to_dict(orient="records")
    ]
    return dg.MetadataValue.table(records=records, schema=dg.TableSchema(columns=columns))


def columns(first: TableSchema, *others: TableSchema) -> dict[str, Any]:
    """Return metadata of an asset that writes these tables, `first` as its own."""
    return {
        **{f"{ROWS_OF}{schema.file}": f"one for {schema.rows}" for schema in (first, *others)},
        COLUMN_SCHEMA: _shown(first.columns, first),
        **{f"{COLUMNS_OF}{schema.file}": _shown(schema.columns, schema) for schema in others},
    }


def described(rows: pd.DataFrame, schema: TableSchema, count: str = PARTITION_ROW_COUNT) -> dict[str, Any]:
    """Return a table's metadata: columns, and row count under `count`."""
    return {count: len(rows), COLUMN_SCHEMA: _shown(columns_of(list(map(str, rows.columns)), schema), schema)}


def _shown(columns: Sequence[Column], schema: TableSchema) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.dtype,
                column.description,
                dg.TableColumnConstraints(
                    nullable=column.nullable, unique=schema.key == (column.name,), other=limits(column)
                ),
            )
            for column in columns
        ],
        constraints=dg.TableConstraints(_rules(schema)),
    )


def _rules(schema: TableSchema) -> list[str]:
    if not schema.key:
        return []
    *others, last = schema.key
    return [f"no two rows have the same {' and '.join([', '.join(others), last]) if others else last}"]


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
