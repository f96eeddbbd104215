"""Assets and messages after a change of tagging settings."""

import dagster as dg
import pytest

from sticker_pipeline.core.character import load_character
from sticker_pipeline.core.profile import ProfileError
from sticker_pipeline.roots.character import value as root_value
from sticker_pipeline.tagging import wd14
from sticker_pipeline_tests.defs.conftest import SETTINGS, Bench
from sticker_pipeline_tests.test_definitions import LINE


@pytest.fixture(scope="module")
def tagged(bench: Bench) -> Bench:
    """The character `small` with its tags."""
    bench.add_character("small", "bram_thistle")
    bench.instance.add_dynamic_partitions("characters", ["small"])
    _make(bench, LINE[: LINE.index("wd14_tags") + 1])
    return bench


def _make(bench: Bench, assets: list[str]) -> None:
    job = bench.definitions.resolve_job_def("character_line")
    keys = [dg.AssetKey(asset) for asset in assets]
    assert job.execute_in_process(instance=bench.instance, partition_key="small", asset_selection=keys).success


def _write(bench: Bench, tagging: str) -> None:
    (bench.folder("small") / "character.yaml").write_text(f"{SETTINGS}tagging: {tagging}\n")


def _value(bench: Bench) -> dict[str, object]:
    character, profile = bench.character("small")
    return root_value("tagging", character, profile, bench.store)


def test_other_thresholds_make_another_table_without_running_the_model(tagged: Bench) -> None:
    metadata = tagged.metadata("wd14_tags", "small")
    assert metadata["thresholds"] == "general ≥ 0.5; character ≥ 0.8"
    before = tagged.store.read("small", "wd14_tags").table()
    _write(tagged, "{general_threshold: 0.9, character_threshold: mcut}")
    _make(tagged, ["wd14_tags"])
    metadata = tagged.metadata("wd14_tags", "small")
    frames = tagged.store.read("small", "frames").table()
    assert (metadata["computed"], metadata["from_cache"]) == (0, frames.loc[frames["kept"], "pixel_sha256"].nunique())
    assert str(metadata["thresholds"]).startswith("general ≥ 0.9; character ≥ MCut of each image (")
    after = tagged.store.read("small", "wd14_tags").table()
    expected = before[(before["category"] == "general") & (before["score"] >= 0.9)]
    assert after[after["category"] == "general"]["tag"].tolist() == expected["tag"].tolist()
    assert 0 < len(expected) < (before["category"] == "general").sum()


def test_what_the_tags_do_not_depend_on_makes_nothing_stale(tagged: Bench) -> None:
    _write(tagged, "{}")
    before = _value(tagged)
    assert before["thresholds"] == {"general_threshold": 0.5, "character_threshold": 0.8}
    _write(tagged, "{provider: cpu, batch_size: 3}")
    assert _value(tagged) == before
    _write(tagged, "{general_threshold: 0.4}")
    assert _value(tagged) != before
    _write(tagged, "{model: embedded/clip}")
    assert _value(tagged)["tagger"] not in ("missing", before["tagger"])


def test_a_run_beside_an_unused_gpu_says_so(tagged: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [wd14.CPU])
    monkeypatch.setattr(wd14, "nvidia_gpu_here", lambda: True)
    _write(tagged, "{}")
    _make(tagged, ["wd14_tags"])
    assert tagged.metadata("wd14_tags", "small")["provider"] == f"CPUExecutionProvider ({wd14.CPU_BUILD})"


def test_a_threshold_that_is_not_known_stops_one_character_before_any_work(tagged: Bench) -> None:
    _write(tagged, "{general_threshold: model}")
    with pytest.raises(
        ProfileError, match=r"small/character.yaml: tagging: .*no threshold is known for the tagger 'tagger'"
    ):
        tagged.workspace.profile(load_character(tagged.folder("small")))
    valid, problems = tagged.workspace.valid_characters()
    assert (valid, len(problems)) == ([], 1)
    assert "no threshold is known" in problems[0]


def test_it_is_shown_that_the_trigger_takes_the_place_of_what_says_who_it_is(tagged: Bench) -> None:
    (tagged.folder("small") / "character.yaml").write_text(SETTINGS)
    _make(tagged, ["wd14_tags", "curated_tags"])
    metadata = tagged.metadata("curated_tags", "small")
    assert str(metadata["character_tag_weight"]).startswith("![")
    shown = metadata["who_it_is"]
    assert isinstance(shown, dg.TableMetadataValue)
    rows = {record.data["tag"]: record.data for record in shown.records}
    assert list(rows)[:2] == ["skv_small", "small_sticker"]
    assert rows["skv_small"] == {
        "tag": "skv_small",
        "kind": "taught",
        "found_on": 0.0,
        "score": None,
        "written_on": 1.0,
        "weight": 1.0,
    }
    traits = [row for row in rows.values() if row["kind"] == "inherent"]
    assert traits[0]["found_on"] > 0.5 and traits[0]["score"] > 0.5
    assert {row["written_on"] for row in traits} == {0.0}
