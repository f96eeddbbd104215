"""Candidates are published, or the current release stays, with the reason."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sticker_pipeline.benchmark.releases import Candidate, all_releases, roll_back
from sticker_pipeline.core.storage import Artifact, ArtifactStore
from sticker_pipeline.publishing.candidate import (
    OUTCOMES,
    gate_table,
    history_table,
    recorded_sources,
    release_that_counts,
)
from sticker_pipeline_tests.publishing.candidates import SOURCES, candidate, check, sources_file

TIME = datetime(2026, 11, 30, 3, 4, tzinfo=UTC)
GOOD, BAD = [check("no_copies")], [check("no_copies"), check("identity", passed=False)]


def never() -> Candidate:
    raise AssertionError("a refused LoRA is no candidate")


def test_a_refused_lora_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "releases"
    release, outcome = release_that_counts(folder, BAD, never, TIME)
    assert release is None and outcome.startswith("nothing is released yet: the new LoRA is ")
    first, outcome = release_that_counts(folder, GOOD, lambda: candidate(tmp_path / "a", b"a"), TIME)
    assert first is not None and outcome == OUTCOMES["first"] == "the first one"
    stays, outcome = release_that_counts(folder, BAD, never, TIME)
    assert stays == first and outcome.startswith("it stays: the new LoRA is ")
    assert [each.record.number for each in all_releases(folder)] == [1]


@pytest.mark.parametrize(("content", "outcome"), [(b"b", "already"), (b"c", "new")])
def test_one_that_passes_counts_and_its_outcome_is_said(tmp_path: Path, content: bytes, outcome: str) -> None:
    folder = tmp_path / "releases"
    for each in (b"a", b"b"):
        release_that_counts(folder, GOOD, lambda each=each: candidate(tmp_path / "x", each), TIME)
    release, said = release_that_counts(folder, GOOD, lambda: candidate(tmp_path / "y", content), TIME)
    assert release is not None and release.lora.read_bytes() == content and said == OUTCOMES[outcome]


def test_one_that_a_person_left_stays_withdrawn(tmp_path: Path) -> None:
    folder = tmp_path / "releases"
    for each in (b"a", b"b"):
        release_that_counts(folder, GOOD, lambda each=each: candidate(tmp_path / "x", each), TIME)
    roll_back(folder, 1, "the eyes", TIME)
    release, said = release_that_counts(folder, GOOD, lambda: candidate(tmp_path / "y", b"b"), TIME)
    assert release is not None and release.record.number == 1 and said == OUTCOMES["withdrawn"]
    rows = history_table(all_releases(folder), 1)
    assert rows.to_dict("list") == {
        "release": [1, 2],
        "counts": [True, False],
        "published": ["2026-11-30 03:04"] * 2,
        "epoch": [6, 6],
    }


def test_sources_are_those_of_the_training_of_the_selected_lora(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    table = sources_file(SOURCES)

    def put(asset: str, files: dict[str, bytes]) -> Artifact:
        with store.writing("luma", asset) as staging:
            for name, data in files.items():
                (staging / name).parent.mkdir(exist_ok=True)
                (staging / name).write_bytes(data)
            return store.publish(staging, "luma", asset, code_version="1", inputs={}, settings={})

    checkpoints = {f"checkpoints/epoch_0{epoch}.safetensors": b"epoch %d" % epoch for epoch in (1, 2)}
    selected = put("selected_lora", {"lora.safetensors": b"epoch 2"})
    assert recorded_sources(put("lora", checkpoints), selected) is None  # of an earlier version
    training = put("lora", {**checkpoints, "sources.parquet": table})
    assert recorded_sources(training, selected) == table
    other = {"checkpoints/epoch_01.safetensors": b"trained later", "sources.parquet": sources_file(SOURCES[:2])}
    later = put("lora", other)
    assert recorded_sources(later, selected) is None  # it replaced the training of the selected LoRA
    assert recorded_sources(training, selected) is None  # its files are those of the later one


def test_the_gate_is_a_row_for_each_check() -> None:
    assert gate_table(BAD).to_dict("list") == {
        "check": ["no_copies", "identity"],
        "passed": [True, False],
        "summary": ["it holds."] * 2,
    }
