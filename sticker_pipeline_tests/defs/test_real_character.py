"""A real character, from its files to its training set, without a hand-made change."""

import json
from pathlib import Path

import dagster as dg
import pytest

from sticker_pipeline.new_character import create
from sticker_pipeline_tests.defs.conftest import Bench
from sticker_pipeline_tests.test_definitions import LINE


@pytest.fixture(scope="module")
def anki(bench: Bench, realdata: Path) -> Bench:
    create("anki_tan", realdata / "anki_tan", Path(bench.workspace.characters), "skv_anki")
    bench.instance.add_dynamic_partitions("characters", ["anki_tan"])
    job = bench.definitions.resolve_job_def("character_line")
    keys = [dg.AssetKey(asset) for asset in LINE[: LINE.index("training_set") + 1]]
    assert job.execute_in_process(instance=bench.instance, partition_key="anki_tan", asset_selection=keys).success
    return bench


def test_frame_counts_are_those_of_the_files(anki: Bench, realdata: Path) -> None:
    expected = {
        path: entry["frames"] for path, entry in json.loads((realdata / "INDEX.json").read_text())["anki_tan"].items()
    }
    media = anki.store.read("anki_tan", "raw_media").table()
    assert media.loc[media["status"] == "accepted"].set_index("path")["n_frames"].to_dict() == expected
    frames = anki.store.read("anki_tan", "frames").table()
    assert frames.groupby("path").size().to_dict() == expected


def test_every_kept_frame_has_a_caption_and_a_place(anki: Bench) -> None:
    frames = anki.store.read("anki_tan", "frames").table()
    rows = anki.store.read("anki_tan", "training_set").table()
    assert rows["frame_id"].tolist() == frames.loc[frames["kept"], "frame_id"].tolist()
    assert rows["caption"].str.startswith("skv_anki").all()
    assert rows.groupby("split")["probability"].sum().round(12).to_dict() == {"holdout": 0, "train": 1}
