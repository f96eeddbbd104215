"""Damaged small files: an error names file, owner and remedy, for that owner alone."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from rich.console import Console

from sticker_pipeline.benchmark.releases import (
    POINTER,
    RECORD,
    SPEC,
    ReleaseError,
    all_releases,
    current,
    place,
    publish,
    read,
    releases_folder,
    roll_back,
)
from sticker_pipeline.benchmark.tables import leaderboard as leaderboard_rows
from sticker_pipeline.cli.update import update
from sticker_pipeline.core.storage import ALL, MANIFEST, Artifact, ArtifactStore, StorageError
from sticker_pipeline.defs.benchmark.leaderboard import leaderboard
from sticker_pipeline.publishing.contents import character_report, sources_of
from sticker_pipeline.roots.across import artifacts_across
from sticker_pipeline_tests.damage import GARBAGE, damaged_files, flip
from sticker_pipeline_tests.defs.conftest import Bench, bench, models  # noqa: F401 - fixtures
from sticker_pipeline_tests.publishing.candidates import METRICS, candidate
from sticker_pipeline_tests.some_table import write_rows

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FIGURES = pd.DataFrame(METRICS, columns=["model", "medium", "metric", "mean", "ci_low", "ci_high", "n"])
CHOICE = pd.DataFrame({"epoch": [1], "metrics": ["{}"], "chosen": [False], "reason": [""]})
TYPES = ["[]", "null", "3", '"text"', "{}", '{"files": []}']


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def made(store: ArtifactStore, name: str, asset: str = "frames", table: pd.DataFrame = FIGURES) -> Artifact:
    with store.writing(name, asset) as staging:
        write_rows(table, staging)
        (staging / "lora.safetensors").write_bytes(bytes(range(256)))
        return store.publish(staging, name, asset, code_version="1", inputs={}, settings={})


def ways_to_damage(path: Path, types: list[str] = TYPES) -> Iterator[str]:
    """Damage a small file in each way but flipped bits: valid JSON with other values is not detected."""
    whole = path.read_bytes()
    for way in damaged_files(path.parent, flips=0):
        if way.startswith(path.name):
            yield way
    for text in types:
        path.write_text(text)
        yield f"{path.name}: {text}"
    path.write_bytes(whole)


def test_a_damaged_manifest_is_an_error_about_one_artifact(store: ArtifactStore) -> None:
    first, second = made(store, "luma"), made(store, "comet")
    (first.folder / "index.parquet").unlink()  # what is damaged below is the manifest alone
    (first.folder / "lora.safetensors").unlink()
    manifest, remedy = first.folder / MANIFEST, f"delete the folder {first.folder} and run `sticker-pipeline update`"
    for way in ways_to_damage(manifest):
        with pytest.raises(StorageError) as failure:
            store.find("luma", "frames")
        assert str(failure.value).startswith(f"{manifest} is damaged: "), way
        assert f"It belongs to 'frames' of 'luma': materialize that again, or {remedy}." in str(failure.value)
        assert "\n" not in str(failure.value) and len(str(failure.value)) < 600
        assert store.damaged() == [str(failure.value)]
        assert store.read("comet", "frames") == second
    manifest.write_text('{"asset": "frames"' + "[" * 100_000)
    assert len(store.damaged()) == 1
    assert made(store, "luma").data_version == first.data_version  # made again in its place
    assert store.damaged() == []


def test_a_damaged_folder_of_an_artifact(store: ArtifactStore) -> None:
    artifact = made(store, "luma")
    for path in artifact.folder.iterdir():
        path.unlink()
    artifact.folder.rmdir()
    artifact.folder.write_text("a file where a folder has to be")
    with pytest.raises(StorageError, match=r"artifact\.json is damaged: Not a directory\. It belongs to 'frames'"):
        store.find("luma", "frames")


def test_no_flipped_bit_of_a_file_is_read(store: ArtifactStore) -> None:
    artifact = made(store, "luma")
    assert artifact.file("lora.safetensors") == artifact.folder / "lora.safetensors"
    read_as = {"index.parquet": lambda: artifact.table(), "lora.safetensors": lambda: artifact.file("lora.safetensors")}
    seen = set()
    for damage in damaged_files(artifact.folder, flips=50):
        name = damage.partition(":")[0]
        if name == MANIFEST:
            continue
        seen.add(name)
        with pytest.raises(StorageError) as failure:
            read_as[name]()
        assert str(failure.value).startswith(f"{artifact.folder / name} is damaged: "), damage
        assert "It belongs to 'frames' of 'luma': materialize that again" in str(failure.value)
        assert "\n" not in str(failure.value)
    assert seen == set(read_as)
    assert artifact.table().equals(FIGURES)


def test_a_flipped_bit_of_a_hash_in_the_manifest_is_an_error_too(store: ArtifactStore) -> None:
    artifact = made(store, "luma")
    manifest = json.loads((artifact.folder / MANIFEST).read_text())
    manifest["files"]["lora.safetensors"]["sha256"] = "0" * 64
    (artifact.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StorageError, match=r"lora\.safetensors is damaged: it is not what artifact\.json says"):
        store.read("luma", "frames").file("lora.safetensors")


def test_what_is_exchanged_while_it_is_read_is_not_damaged(store: ArtifactStore) -> None:
    before = made(store, "luma")
    other = FIGURES.assign(n=1)
    made(store, "luma", table=other)
    assert before.table().equals(other)
    with pytest.raises(StorageError, match="has no more"):
        before.table("more.parquet")


# --- releases


@pytest.fixture
def releases(store: ArtifactStore, tmp_path: Path) -> Path:
    folder = releases_folder(store, "luma")
    for number in (1, 2):
        publish(folder, candidate(tmp_path / str(number), bytes([number]) * 300), NOW)
    return folder


def test_a_damaged_pointer(releases: Path) -> None:
    pointer = releases / POINTER
    for way in ways_to_damage(pointer, ["[]", "null", '{"number": "x"}', '{"log": 3}', '{"more": 1}']):
        for look in (current, all_releases):
            with pytest.raises(ReleaseError) as failure:
                look(releases)
            assert str(failure.value).startswith(f"{pointer} is damaged: "), way
            assert "Move it away, and choose the current release of luma with `sticker-pipeline roll-back" in str(
                failure.value
            )
            assert "\n" not in str(failure.value)
    found = current(releases)
    assert found and found.record.number == 2
    pointer.rename(releases.parent / "away")
    assert roll_back(releases, 1, "the pointer was damaged", NOW).record.number == 1


def test_a_damaged_record_and_spec(releases: Path) -> None:
    for name, types in ((RECORD, ["[]", "null", "{}", '{"number": 1}']), (SPEC, ["[1]", "null", "3"])):
        path = releases / "0002" / name
        for way in ways_to_damage(path, types):
            with pytest.raises(ReleaseError) as failure:
                read(releases, 2).spec()
            assert str(failure.value).startswith(f"{path} is damaged: "), way
            assert f"or move {path.parent} out of {releases}" in str(failure.value)
            assert "\n" not in str(failure.value)
            assert read(releases, 1).record.number == 1
    assert read(releases, 2).spec()["base_sha"] == "fe09"


def test_no_flipped_bit_of_a_released_file_is_placed(releases: Path, tmp_path: Path) -> None:
    release = read(releases, 2)
    for bit in (0, 1000, 8 * 300 - 1):
        flip(release.lora, bit)
        with pytest.raises(ReleaseError, match=r"luma\.safetensors is not the file that was released.*backup"):
            place(release, tmp_path / "placed")
        flip(release.lora, bit)
    place(release, tmp_path / "placed")
    assert (tmp_path / "placed" / "luma.safetensors").read_bytes() == bytes([2]) * 300


# --- who reads the artifacts of all characters


@pytest.fixture
def three(bench: Bench) -> Bench:  # noqa: F811
    """Three characters with a measured LoRA, of which `bad` has damaged tables, `worse` a damaged manifest."""
    for name in ("bad", "good", "worse"):
        if not bench.folder(name).exists():
            bench.add_character(name, "pip_comet")
        for asset, table in (("benchmark", FIGURES), ("selected_lora", CHOICE)):
            artifact = made(bench.store, name, asset, table)
            if name == "bad":
                flip(artifact.folder / "index.parquet", 100)
            if name == "worse":
                (artifact.folder / MANIFEST).write_bytes(GARBAGE)
    return bench


def test_the_leaderboard_leaves_out_who_is_damaged(three: Bench, caplog: pytest.LogCaptureFixture) -> None:
    assert list(artifacts_across(three.workspace.characters_folder, three.store, "benchmark")) == ["bad", "good"]
    assert "worse is left out: " in caplog.text
    result = dg.materialize([leaderboard], instance=three.instance, resources={"workspace": three.workspace})
    assert result.success
    artifact = three.store.read(ALL, "leaderboard")
    assert artifact.table().equals(leaderboard_rows({"good": FIGURES}))
    assert {name for name in artifact.inputs if "benchmark" in name} == {"good/benchmark"}


def test_the_report_shows_the_others_and_says_what_is_damaged(three: Bench) -> None:
    found = {
        name: character_report(sources_of(three.store, *three.character(name))) for name in ("bad", "good", "worse")
    }
    assert [bool(one.estimates) for one in found.values()] == [False, True, False]
    assert found["good"].problems == ()
    for name, file in (("bad", "index.parquet"), ("worse", MANIFEST)):
        place = three.store.folder(name, "benchmark") / file
        assert [problem for problem in found[name].problems if problem.startswith(f"{place} is damaged: ")]


def test_an_update_leaves_out_who_is_damaged(three: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sticker_pipeline.cli.update._materialize", lambda *_: "made")
    console = Console(record=True, width=1000)
    characters = [three.character(name) for name in ("good", "worse")]
    updated = update(three.definitions, three.instance, three.workspace, characters, console, jobs=("dataset_line",))
    assert updated.failed == ["worse"]
    manifest = three.store.folder("worse", "selected_lora") / MANIFEST
    assert f"left out: worse: {manifest} is damaged: " in console.export_text()


def test_a_damaged_artifact_is_no_reason_not_to_make_it(three: Bench, caplog: pytest.LogCaptureFixture) -> None:
    (three.store.folder(ALL, "leaderboard") / MANIFEST).parent.mkdir(parents=True, exist_ok=True)
    (three.store.folder(ALL, "leaderboard") / MANIFEST).write_bytes(b"")
    with caplog.at_level(logging.INFO):
        result: Any = dg.materialize([leaderboard], instance=three.instance, resources={"workspace": three.workspace})
    assert result.success
    assert three.store.read(ALL, "leaderboard").table()["character"].unique().tolist() == ["good"]
