"""Schemas of the assets' tables: type, range and meaning of each column.

A schema is defined beside its table's function. Tables are checked when written, not when read: earlier versions' stay
readable. `dagster_kit/metadata.py` shows schemas in the UI.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

INDEX = "index.parquet"  # the first table of an artifact

Dtype = Literal["str", "int64", "float64", "float32", "bool"]


class SchemaError(ValueError):
    """A table that violates its schema."""


@dataclass(frozen=True)
class Column:
    """A column: name, type and description.

    `nullable`: cells may be empty. `low` and `high`: inclusive range. `values`: the only ones allowed. `is_open`: any
    number of columns; `name` describes their names.
    """

    name: str
    dtype: Dtype
    description: str
    nullable: bool = False
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    is_open: bool = False


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table in order.

    `rows`: the meaning of one row. `key`: columns that are unique together. `file`: its place in the artifact. At most
    one column is open.
    """

    rows: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    file: str = INDEX

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


def typed(rows: pd.DataFrame, schema: TableSchema) -> pd.DataFrame:
    """Return the columns of `schema`, typed, also without rows.

    No column may be open.
    """
    return rows[schema.names].astype({column.name: column.dtype for column in schema.columns})


def columns_of(names: Sequence[str], schema: TableSchema) -> list[Column]:
    """Return the expected columns of a table with `names`.

    The open column stands for each name that matches no other.
    """
    known = {column.name for column in schema.columns if not column.is_open}
    further = [name for name in names if name not in known]
    return [
        each
        for column in schema.columns
        for each in ([replace(column, name=name, is_open=False) for name in further] if column.is_open else [column])
    ]


def check(rows: pd.DataFrame, schema: TableSchema) -> None:
    """Raise SchemaError for invalid rows, naming file, columns and faults."""
    faults = list(_faults(rows, schema))
    if faults:
        raise SchemaError(f"{schema.file}, one row for {schema.rows}, is not written: {'; '.join(faults)}.")


def limits(column: Column) -> list[str]:
    """Describe the allowed values of `column`, beside the type."""
    found = [f"one of {', '.join(map(repr, column.values))}"] if column.values else []
    if column.low is not None and column.high is not None:
        return [*found, f"{column.low:g} to {column.high:g}"]
    if column.low is not None:
        return [*found, f"at least {column.low:g}"]
    return [*found, f"at most {column.high:g}"] if column.high is not None else found


def _faults(rows: pd.DataFrame, schema: TableSchema) -> Iterator[str]:
    names = [str(name) for name in rows.columns]
    columns = columns_of(names, schema)
    expected = [column.name for column in columns]
    if names != expected:
        yield from _wrong_names(names, expected)
        return
    for column in columns:
        yield from _wrong_values(rows[column.name], column)
    if schema.key and rows.duplicated(list(schema.key)).any():
        row = int(rows.duplicated(list(schema.key)).to_numpy().argmax())
        yield "two rows have " + ", ".join(f"{name} {_cell(rows[name], row)}" for name in schema.key)


def _wrong_names(names: Sequence[str], expected: Sequence[str]) -> Iterator[str]:
    missing = [name for name in expected if name not in names]
    unknown = [name for name in names if name not in expected]
    yield from (f"column {name!r} is missing" for name in missing)
    yield from (f"column {name!r} is not in the schema" for name in unknown)
    if not missing and not unknown:
        yield f"the columns are {', '.join(names)}, and must be {', '.join(expected)}"


def _wrong_values(values: pd.Series, column: Column) -> Iterator[str]:
    if str(values.dtype) != column.dtype:
        yield f"column {column.name!r} is {values.dtype}, and must be {column.dtype}"
        return
    empty = values.isna()
    if empty.any() and not column.nullable:
        yield f"column {column.name!r} has no value in row {int(empty.to_numpy().argmax())}"
    outside = pd.Series(False, index=values.index)
    if column.values:
        outside |= ~values.isin(column.values)
    if column.low is not None:
        outside |= values < column.low
    if column.high is not None:
        outside |= values > column.high
    outside &= ~empty
    if outside.any():
        row = int(outside.to_numpy().argmax())
        yield f"column {column.name!r} is {_cell(values, row)} in row {row}, and must be {' and '.join(limits(column))}"


def _cell(values: pd.Series, row: int) -> str:
    return repr(values.iloc[[row]].tolist()[0])
