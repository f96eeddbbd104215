"""Tables match their schema; else the error names the column and the fault."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.core.schemas import Column, SchemaError, TableSchema, check, columns_of, limits, typed
from sticker_pipeline.dataset.manifest import TRAINING_SET
from sticker_pipeline.dataset.style_set import STYLE_TAGS

SCHEMA = TableSchema(
    "each box",
    (
        Column("name", "str", "what it is called"),
        Column("size", "int64", "its side, in cm", low=1, high=9),
        Column("full", "float64", "share that is filled", nullable=True, low=0, high=1),
        Column("colour", "str", "its colour", values=("red", "blue")),
        Column("shut", "bool", "whether it is shut"),
    ),
    key=("name",),
    file="boxes.parquet",
)
ROWS = pd.DataFrame(
    {"name": ["a", "b"], "size": [1, 9], "full": [np.nan, 1.0], "colour": ["red", "blue"], "shut": [True, False]}
)


def faults(rows: pd.DataFrame, schema: TableSchema = SCHEMA) -> str:
    with pytest.raises(SchemaError) as raised:
        check(rows, schema)
    return str(raised.value)


def test_a_table_that_is_as_it_should_be_passes() -> None:
    check(ROWS, SCHEMA)
    check(typed(ROWS.iloc[:0], SCHEMA), SCHEMA)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (ROWS.drop(columns="size"), "column 'size' is missing"),
        (ROWS.assign(more=1), "column 'more' is not in the schema"),
        (
            ROWS[["size", "name", "full", "colour", "shut"]],
            "the columns are size, name, full, colour, shut, and must be",
        ),
        (ROWS.assign(size=[1.0, 2.0]), "column 'size' is float64, and must be int64"),
        (ROWS.assign(size=[1, 0]), "column 'size' is 0 in row 1, and must be 1 to 9"),
        (ROWS.assign(size=[10, 9]), "column 'size' is 10 in row 0, and must be 1 to 9"),
        (ROWS.assign(full=[0.5, 1.5]), "column 'full' is 1.5 in row 1, and must be 0 to 1"),
        (ROWS.assign(full=[0.5, np.inf]), "column 'full' is inf in row 1, and must be 0 to 1"),
        (ROWS.assign(colour=["red", "green"]), "column 'colour' is 'green' in row 1, and must be one of 'red', 'blue'"),
        (ROWS.assign(name=pd.Series(["a", None], dtype="str")), "column 'name' has no value in row 1"),
        (ROWS.assign(name=pd.Series(["a", 1], dtype=object)), "column 'name' is object, and must be str"),
        (ROWS.assign(name="a"), "two rows have name 'a'"),
        (ROWS.set_axis([7, 7]).assign(size=[5, 0]), "column 'size' is 0 in row 1"),
    ],
)
def test_an_error_names_the_table_the_column_and_the_fault(rows: pd.DataFrame, fault: str) -> None:
    message = faults(rows)
    assert message.startswith("boxes.parquet, one row for each box, is not written: ") and fault in message


def test_all_faults_are_said_at_once() -> None:
    message = faults(ROWS.assign(size=[0, 1], colour="green", name="a"))
    assert [part.split(" ")[1] for part in message.split(": ", 1)[1].split("; ")] == ["'size'", "'colour'", "rows"]


def test_an_empty_table_has_types_too() -> None:
    empty = typed(pd.DataFrame(columns=TRAINING_SET.names), TRAINING_SET)
    assert empty.dtypes.astype(str).to_dict() == {one.name: one.dtype for one in TRAINING_SET.columns}
    assert "column 'full' is object" in faults(ROWS.iloc[:0].astype({"full": object}))


@settings(deadline=None)
@given(st.lists(st.from_regex(r"[a-z]{1,8}_own", fullmatch=True), unique=True, max_size=5))
def test_an_open_column_stands_for_any_number(characters: list[str]) -> None:
    table = pd.DataFrame({"tag": ["hat"], "share": 0.5, "bits": 1.0, **dict.fromkeys(characters, 0.25), "kept": 3})
    check(table, STYLE_TAGS)
    found = columns_of(list(table.columns), STYLE_TAGS)
    assert [one.name for one in found] == list(table.columns)
    assert {one.description for one in found[3:-1]} <= {STYLE_TAGS.columns[3].description}
    for name in characters:
        assert f"column {name!r} is -1.0 in row 0" in faults(table.assign(**{name: -1.0}), STYLE_TAGS)
        moved = table[[*(other for other in table.columns if other != name), name]]
        assert "the columns are" in faults(moved, STYLE_TAGS)


@settings(deadline=None)
@given(st.integers(-20, 20), st.integers(-20, 20), st.integers(-20, 20))
def test_a_range_has_both_its_ends(value: int, low: int, high: int) -> None:
    column = Column("x", "int64", "a number", low=low, high=high)
    schema, rows = TableSchema("each", (column,)), pd.DataFrame({"x": [value]})
    if low <= value <= high:
        check(rows, schema)
    else:
        assert f"'x' is {value} in row 0" in faults(rows, schema)


def test_limits_in_words() -> None:
    number = Column("x", "int64", "a number")
    assert limits(number) == []
    assert limits(replace(number, low=0)) == ["at least 0"]
    assert limits(replace(number, high=2.5)) == ["at most 2.5"]
    assert limits(replace(number, values=("a",))) == ["one of 'a'"]
