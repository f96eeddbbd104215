"""Names of earlier versions: none is reused, and files written under them are read."""

import pandas as pd
import pytest

from sticker_pipeline.core import earlier_names
from sticker_pipeline.core.earlier_names import COLUMNS, KEYS, METRICS, VALUES, record_of_today, table_of_today
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.dataset.kohya import Record
from sticker_pipeline.definitions import defs
from sticker_pipeline_tests.tables_page import tables_of


def test_no_table_has_an_earlier_column() -> None:
    schemas = [schema for spec in defs().resolve_all_asset_specs() for _, _, schema in tables_of(spec)]
    assert len(schemas) > 15
    assert {column.name for schema in schemas for column in schema.columns} & COLUMNS.keys() == set()


@pytest.mark.parametrize("names", [KEYS, COLUMNS, METRICS, earlier_names.ARTIFACTS, earlier_names.RECORD_KEYS])
def test_a_name_of_today_is_no_earlier_one(names: dict[str, str]) -> None:
    assert not set(names.values()) & names.keys()


@pytest.mark.parametrize(("key", "now"), [(key, now) for (key, _), now in VALUES.items()])
def test_a_value_of_today_is_valid(key: str, now: str) -> None:
    assert getattr(TrainingSettings.model_validate({key: now}), key) == now


def test_a_table_of_today_stays_as_it_is() -> None:
    table = pd.DataFrame({"source_id": ["a.gif"], "metric": ["identity"]})
    pd.testing.assert_frame_equal(table_of_today(table), table)


def test_a_record_of_an_export_is_read() -> None:
    record = Record.model_validate({"folders": {"10_luma": {"style": "art", "learned": ["x"]}}})
    assert record.folders["10_luma"].medium == "art"


@pytest.mark.parametrize("data", [None, [1], "text"])
def test_what_is_no_mapping_stays_as_it_is(data: object) -> None:
    assert record_of_today(data) is data
