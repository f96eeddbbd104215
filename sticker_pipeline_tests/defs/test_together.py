"""Simultaneous runs do no work twice: results of other runs from the same inputs are reused."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from sticker_pipeline.cli.update import update
from sticker_pipeline.cli.work import REFUSED
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.dagster_kit.checks import cut_off
from sticker_pipeline.dagster_kit.dead_runs import UPDATE_TAG
from sticker_pipeline.defs.dataset import checks
from sticker_pipeline_tests import chaos
from sticker_pipeline_tests.defs.conftest import Bench

DATASET = ["raw_media", "frames", "frame_weights", "wd14_tags", "curated_tags", "training_set"]
BY_A_PERSON: dict[str, str] = {}
NOT_BY_A_PERSON = [
    {UPDATE_TAG: "true"},
    {"dagster/from_automation_condition": "true", "dagster/sensor_name": "automation"},
    {"dagster/retry_number": "1"},
]


@pytest.fixture(scope="module")
def made(bench: Bench) -> Bench:
    """The dataset of the character `small` is made."""
    bench.add_character("small", "bram_thistle")
    bench.instance.add_dynamic_partitions("characters", ["small"])
    run(bench, BY_A_PERSON)
    return bench


def run(bench: Bench, tags: Mapping[str, str]) -> None:
    job = bench.definitions.resolve_job_def("dataset_line")
    assert job.execute_in_process(instance=bench.instance, partition_key="small", tags=tags).success


def published(bench: Bench) -> dict[str, int]:
    """Return each artifact's publication time, in nanoseconds."""
    return {asset: (bench.store.folder("small", asset) / "artifact.json").stat().st_mtime_ns for asset in DATASET}


def latest(bench: Bench, asset: str) -> dg.AssetMaterialization:
    records = bench.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=["small"]), limit=1
    ).records
    materialization = records[0].asset_materialization
    assert materialization is not None
    return materialization


@pytest.mark.parametrize("tags", NOT_BY_A_PERSON)
def test_what_is_current_is_taken_and_shown_as_it_was(made: Bench, tags: dict[str, str]) -> None:
    before, shown = published(made), {asset: latest(made, asset).metadata for asset in DATASET}
    run(made, tags)
    assert published(made) == before
    for asset in DATASET:
        assert latest(made, asset).metadata == shown[asset]
        assert latest(made, asset).tags["dagster/data_version"] == made.store.read("small", asset).data_version


def test_a_person_who_asks_gets_it_made(made: Bench) -> None:
    before = published(made)
    run(made, BY_A_PERSON)
    assert all(published(made)[asset] > before[asset] for asset in DATASET)


def test_a_person_gets_what_was_made_since_the_question(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = published(made)
    monkeypatch.setattr(ArtifactStore, "published_at", lambda store, artifact: 2.0**40)
    run(made, BY_A_PERSON)
    assert published(made) == before


def test_what_is_out_of_date_is_made_by_whoever_asks(made: Bench) -> None:
    before = published(made)
    settings = made.folder("small") / "character.yaml"
    settings.write_text(settings.read_text() + "curation: {blacklist: [smile]}\n")
    run(made, {UPDATE_TAG: "true"})
    changed = {asset for asset in DATASET if published(made)[asset] > before[asset]}
    assert changed == {"curated_tags", "training_set"}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A workspace with one small character, for commands in processes of their own."""
    chaos.add_characters(tmp_path / "characters", draws=24)
    yield tmp_path, chaos.workspace(tmp_path, tmp_path / "characters")


def test_two_updates_at_once_do_everything_once(alone: tuple[Path, dict[str, str]]) -> None:
    root, variables = alone
    commands = [chaos.start(variables, "anki") for _ in range(2)]
    for command in commands:
        assert command.process.wait() in (0, REFUSED), "".join(command.lines)
    assert any("waiting for another update, anki" in line for command in commands for line in command.lines)
    with dg.DagsterInstance.from_config(variables["DAGSTER_HOME"]) as instance:
        times = {
            key.path[-1]: len(instance.fetch_materializations(key, limit=10).records)
            for key in instance.all_asset_keys()
            if key.path[0] not in ("character", "style", "profile")  # roots are observed
        }
    once = [*DATASET, "lora", "selected_lora", "samples", "benchmark", "leaderboard", "report"]
    assert {asset: times[asset] for asset in once} == dict.fromkeys(once, 1)
    assert times["released_lora"] == times["comfyui_workflow"] <= 1  # the gate may refuse it
    releases = [path.name for path in (root / "artifacts" / "anki" / "releases").glob("0*")]
    assert releases == ["0001"] * times["released_lora"]


def test_a_check_that_a_stopped_run_left_unmade_is_made(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its asset is current, and would otherwise not be touched."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    check = dg.AssetCheckKey(dg.AssetKey("frames"), "same_character")
    assert cut_off(made.instance, [check], "small") == set()
    with monkeypatch.context() as patch:
        patch.setattr(checks, "same_character", stopped)
        job = made.definitions.resolve_job_def("dataset_line")
        assert not job.execute_in_process(instance=made.instance, partition_key="small", raise_on_error=False).success
    assert cut_off(made.instance, [check], "small") == {dg.AssetKey("frames")}
    before = published(made)
    character = made.character("small")
    console = Console(quiet=True)
    update(made.definitions, made.instance, made.workspace, [character], console, jobs=("dataset_line",))
    assert cut_off(made.instance, [check], "small") == set()
    after = published(made)
    assert after["frames"] == before["frames"] and after["raw_media"] == before["raw_media"]


def test_settings_that_changed_while_an_update_waited_count(made: Bench) -> None:
    character, before = made.character("small"), published(made)
    settings = made.folder("small") / "character.yaml"
    written = settings.read_text()
    settings.write_text(written.replace("blacklist: [smile]", "blacklist: [hat]"))
    console = Console(quiet=True)
    outcome = update(made.definitions, made.instance, made.workspace, [character], console, jobs=("dataset_line",))
    assert outcome.failed == []
    after = published(made)
    assert {asset for asset in DATASET if after[asset] > before[asset]} == {"curated_tags", "training_set"}
    settings.write_text("trigger: [\n")
    outcome = update(made.definitions, made.instance, made.workspace, [character], console, jobs=("dataset_line",))
    assert outcome.failed == ["small"]
    settings.write_text(written)
