"""Check results in Dagster's form."""

import dagster as dg
import pandas as pd
import pytest

from sticker_pipeline.core.verdict import Verdict
from sticker_pipeline.dagster_kit.checks import check_result, check_specs

PARTITIONS = dg.StaticPartitionsDefinition(["moth"])


@pytest.mark.parametrize(
    ("error", "severity"), [(True, dg.AssetCheckSeverity.ERROR), (False, dg.AssetCheckSeverity.WARN)]
)
def test_a_result_says_what_was_found_and_whether_it_stops_anything(
    error: bool, severity: dg.AssetCheckSeverity
) -> None:
    evidence = pd.DataFrame({"path": ["a.png"]})
    found = check_result("frames", "same", Verdict(False, "it is *odd*", evidence), error=error, extra={"more": 1})
    assert (found.passed, found.severity, found.asset_key) == (False, severity, dg.AssetKey("frames"))
    assert found.description == r"it is \*odd\*"
    assert set(found.metadata) == {"evidence", "more"}


def test_each_check_of_an_asset_has_a_spec() -> None:
    specs = check_specs("frames", PARTITIONS, {"one": "It is one.", "two": "They are two."}, blocking=True)
    assert [(spec.name, spec.asset_key.to_user_string(), spec.description) for spec in specs] == [
        ("one", "frames", "It is one."),
        ("two", "frames", "They are two."),
    ]
    assert all(spec.blocking and spec.partitions_def == PARTITIONS for spec in specs)
