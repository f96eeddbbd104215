"""Metadata of an asset's tables in the UI, before and after a run."""

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.metadata import TableMetadataSet

from sticker_pipeline.core.schemas import Column, TableSchema
from sticker_pipeline.dagster_kit.metadata import ROW_COUNT, columns, described

BOXES = TableSchema(
    "each box",
    (
        Column("name", "str", "what it is called"),
        Column("size", "int64", "its side, in cm", low=1, high=9),
        Column("<content>", "float64", "share of the box that this fills", nullable=True, is_open=True),
    ),
    key=("name",),
)
LIDS = TableSchema(
    "each lid", (Column("box", "str", "its box"), Column("lid", "str", "it")), ("box", "lid"), "lids.parquet"
)


def shown(
    name: str, kind: str, meaning: str, *limits: str, nullable: bool = False, unique: bool = False
) -> dg.TableColumn:
    return dg.TableColumn(name, kind, meaning, dg.TableColumnConstraints(nullable, unique, list(limits)))


NAME = shown("name", "str", "what it is called", unique=True)
SIZE = shown("size", "int64", "its side, in cm", "1 to 9")


def schema(rule: str, *columns: dg.TableColumn) -> dg.TableSchema:
    return dg.TableSchema(list(columns), dg.TableConstraints([rule]))


def test_a_definition_has_the_columns_of_each_table() -> None:
    content = shown("<content>", "float64", "share of the box that this fills", nullable=True)
    lids = schema("no two rows have the same box and lid", shown("box", "str", "its box"), shown("lid", "str", "it"))
    assert columns(BOXES, LIDS) == {
        "rows of index.parquet": "one for each box",
        "rows of lids.parquet": "one for each lid",
        "dagster/column_schema": schema("no two rows have the same name", NAME, SIZE, content),
        "columns of lids.parquet": lids,
    }


@pytest.mark.parametrize(("count", "of"), [((), "partition_row_count"), ((ROW_COUNT,), "row_count")])
def test_a_run_reports_rows_and_columns_under_the_keys_of_dagster(count: tuple[str, ...], of: str) -> None:
    found = described(pd.DataFrame({"name": ["a", "b"], "size": 3, "hats": 0.5, "pens": 0.1}), BOXES, *count)
    contents = [shown(one, "float64", "share of the box that this fills", nullable=True) for one in ("hats", "pens")]
    standard = TableMetadataSet.extract(found)
    assert standard.column_schema == schema("no two rows have the same name", NAME, SIZE, *contents)
    assert getattr(standard, of) == 2 and len(found) == 2
