"""Verdicts on the page: the last ones of each character, also after runs that died.

The page is out of date if anything that it shows has changed.
"""

import re
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from sticker_pipeline.core.storage import ALL
from sticker_pipeline.dagster_kit.history import History
from sticker_pipeline.dagster_kit.restored import stale_now
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.release.report import check_specs, latest_verdicts
from sticker_pipeline.defs.scopes import of_all
from sticker_pipeline.publishing.report import Check
from sticker_pipeline_tests.defs.conftest import SETTINGS, Bench
from sticker_pipeline_tests.defs.test_checks import CHECKS
from sticker_pipeline_tests.publishing.example import fill_few_steps, fill_style
from sticker_pipeline_tests.some_table import write_rows


@dg.asset(partitions_def=CHARACTERS)
def drawing() -> None: ...


SPECS = [
    dg.AssetCheckSpec("round", asset=drawing, blocking=True, partitions_def=CHARACTERS),
    dg.AssetCheckSpec("blue", asset=drawing, partitions_def=CHARACTERS),
]


def checks(failing: dict[str, str], dies: bool = False) -> dg.AssetChecksDefinition:
    """Checks of `drawing`: those in `failing` fail for the reason given; or the step dies before any of them."""

    @dg.multi_asset_check(specs=SPECS)
    def drawing_checks(context):  # type: ignore[no-untyped-def]
        if dies:
            raise RuntimeError("out of memory")
        for spec in SPECS:
            reason = failing.get(spec.name, "")
            yield dg.AssetCheckResult(
                passed=not reason,
                asset_key=drawing.key,
                check_name=spec.name,
                severity=dg.AssetCheckSeverity.WARN,
                description=reason or "it is",
            )

    return drawing_checks


def run(instance: dg.DagsterInstance, character: str, failing: dict[str, str], dies: bool = False) -> None:
    definitions = dg.Definitions([drawing], asset_checks=[checks(failing, dies)], jobs=[dg.define_asset_job("line")])
    job = definitions.resolve_job_def("line")
    assert job.execute_in_process(instance=instance, partition_key=character, raise_on_error=False).success != dies


@pytest.fixture
def instance(tmp_path: Path):  # type: ignore[no-untyped-def]
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.add_dynamic_partitions(str(CHARACTERS.name), ["moth", "comet", "kai"])
        yield instance


def test_the_last_verdict_of_each_character_counts(instance: dg.DagsterInstance) -> None:
    run(instance, "moth", {"blue": "it is red"})
    run(instance, "comet", {"round": "it has corners"})
    run(instance, "moth", {})
    verdicts = latest_verdicts(instance, SPECS, ["moth", "comet", "kai"])
    assert verdicts == {
        "moth": [Check("drawing", "round", True, "it is", blocking=True), Check("drawing", "blue", True, "it is")],
        "comet": [
            Check("drawing", "round", False, "it has corners", blocking=True),
            Check("drawing", "blue", True, "it is"),
        ],
        "kai": [Check("drawing", "round", None, "", blocking=True), Check("drawing", "blue", None, "")],
    }


def test_a_run_that_died_does_not_hide_what_was_found_before(instance: dg.DagsterInstance) -> None:
    run(instance, "kai", {}, dies=True)
    assert [check.verdict for check in latest_verdicts(instance, SPECS, ["kai"])["kai"]] == [None, None]
    run(instance, "moth", {"blue": "it is red"})
    run(instance, "moth", {}, dies=True)
    found = latest_verdicts(instance, SPECS, ["moth"])["moth"]
    assert [(check.verdict, check.summary) for check in found] == [(True, "it is"), (False, "it is red")]


def test_every_check_of_the_line_is_on_the_page_in_the_order_of_the_line() -> None:
    specs = check_specs()
    found = {spec.name: spec.asset_key.path[-1] for spec in specs}
    assert found.items() >= CHECKS.items()
    assets = list(dict.fromkeys(spec.asset_key.path[-1] for spec in specs))
    order = ["raw_media", "frames", "frame_weights", "curated_tags", "training_set"]
    assert [asset for asset in assets if asset in order] == order


def test_the_report_follows_the_styles_and_profiles_that_characters_name(bench: Bench) -> None:
    bench.add_character("small", "bram_thistle", SETTINGS + "style: chibi\n")
    with bench.store.writing(ALL, "leaderboard") as staging:
        write_rows(pd.DataFrame({"character": []}), staging)
        bench.store.publish(staging, ALL, "leaderboard", code_version="1", inputs={}, settings={})
    definition = bench.definitions.resolve_assets_def(dg.AssetKey("report"))

    def up_to_date() -> bool:
        history = History(bench.instance, bench.definitions.resolve_asset_graph())
        return not stale_now(history, [dg.AssetKey("report")], of_all(bench.workspace), bench.store)

    def pages() -> str:
        assert dg.materialize([definition], instance=bench.instance).success
        assert up_to_date()
        folder = bench.store.read(ALL, "report").folder
        assert (folder / "characters" / "small.html").is_file()
        return "".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.html")))

    assert not up_to_date()
    assert 'id="styles"' not in pages()
    fill_style(bench.store, "chibi", ["small", "other"])
    fill_style(bench.store, "nobodys", ["small", "other"])
    assert not up_to_date()
    assert '<b class="name">other</b>' in pages()
    fill_few_steps(bench.store, "sdxl")  # no character has that profile
    assert up_to_date()
    fill_few_steps(bench.store, "embedded")
    assert not up_to_date()
    assert "LCM-LoRA, steps: 4" in pages()
    inputs = bench.store.read(ALL, "report").inputs
    assert set(inputs) == {"leaderboard", "character/shared"}


def test_links_to_the_ui_follow_its_address(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.add_character("linked", "bram_thistle")
    with bench.store.writing(ALL, "leaderboard") as staging:
        write_rows(pd.DataFrame({"character": []}), staging)
        bench.store.publish(staging, ALL, "leaderboard", code_version="1", inputs={}, settings={})
    definition = bench.definitions.resolve_assets_def(dg.AssetKey("report"))
    for address in ("http://127.0.0.1:3001", "https://stickers.example.org"):
        monkeypatch.setenv("STICKER_UI", address)
        assert dg.materialize([definition], instance=bench.instance).success
        page = (bench.store.read(ALL, "report").folder / "characters" / "linked.html").read_text(encoding="utf-8")
        links = set(re.findall('href="(http[^"]*?)/assets/', page))
        assert links == {address}


def test_the_leaderboard_of_many_characters_is_of_bounded_size(bench: Bench) -> None:
    """60 are measured, and 70 are not, besides those of other tests."""
    for number in range(130):
        folder = bench.workspace.characters_folder / f"c{number:03}"
        folder.mkdir(parents=True)
        (folder / "character.yaml").write_text(f"trigger: {folder.name}_x\n", encoding="utf-8")
    for number in range(60):
        rows = [("lora", "all", "clip_similarity", number / 60, 0.0, 1.0, 8)]
        with bench.store.writing(f"c{number:03}", "benchmark") as staging:
            write_rows(
                pd.DataFrame(rows, columns=["model", "medium", "metric", "mean", "ci_low", "ci_high", "n"]), staging
            )
            bench.store.publish(staging, f"c{number:03}", "benchmark", code_version="1", inputs={}, settings={})
    definition = bench.definitions.resolve_assets_def(dg.AssetKey("leaderboard"))
    assert dg.materialize([definition], instance=bench.instance).success
    artifact = bench.store.read(ALL, "leaderboard")
    assert artifact.table()["character"].nunique() == 60
    shown = [f"c{number:03}" for number in (*range(20), *range(40, 60))]
    metadata = bench.metadata("leaderboard", None)
    assert [record.data["character"] for record in metadata["leaderboard"].records] == shown  # type: ignore[attr-defined]
    text = artifact.content("leaderboard.md").decode()
    assert [line.split(" | ")[0] for line in text.splitlines()[2:42]] == [f"| {name}" for name in shown]
    assert "worst 40 of 60 characters" in text and "worst 40 of 60 characters" in str(metadata["left_out"])
    others = len(list(bench.workspace.characters_folder.iterdir())) - 130
    unmeasured = str(metadata["not_measured_yet"])
    assert unmeasured.startswith(f"{70 + others} without a benchmark: c060, ")
    assert f"c109 and {20 + others} more. Materialize" in unmeasured
