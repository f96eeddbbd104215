"""docs/tables.md is what `make tables` writes."""

from sticker_pipeline.definitions import defs
from sticker_pipeline_tests.tables_page import PAGE, tables_page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == tables_page(defs()), "run `make tables` and commit docs/tables.md"
