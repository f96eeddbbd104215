"""Real characters by other artists, from files to training sets, without manual changes."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from PIL import Image

from sticker_pipeline.dataset.new_character import create
from sticker_pipeline.media.sheets import PAGE_CELLS
from sticker_pipeline_tests.defs.conftest import Bench
from sticker_pipeline_tests.test_definitions import LINE


@pytest.fixture(scope="module", params=["anki_tan", "blobfox", "gopher"])
def character(bench: Bench, realdata: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.param
    create(name, realdata / name, Path(bench.workspace.characters), f"skv_{name}", link=True)
    bench.instance.add_dynamic_partitions("characters", [name])
    job = bench.definitions.resolve_job_def("character_line")
    keys = [dg.AssetKey(asset) for asset in LINE[: LINE.index("training_set") + 1]]
    assert job.execute_in_process(instance=bench.instance, partition_key=name, asset_selection=keys).success
    yield name


def test_frame_counts_are_those_of_the_files(bench: Bench, character: str, realdata: Path) -> None:
    index = json.loads((realdata / "INDEX.json").read_text())[character]
    expected = {path: entry["frames"] for path, entry in index.items()}
    media = bench.store.read(character, "raw_media").table()
    assert media.loc[media["status"] == "accepted"].set_index("path")["n_frames"].to_dict() == expected
    assert not (media["status"] == "rejected").any()
    frames = bench.store.read(character, "frames").table()
    assert frames.groupby("path").size().to_dict() == expected


def test_every_kept_frame_has_a_caption_and_a_place(bench: Bench, character: str) -> None:
    frames = bench.store.read(character, "frames").table()
    rows = bench.store.read(character, "training_set").table()
    assert rows["frame_id"].tolist() == frames.loc[frames["kept"], "frame_id"].tolist()
    assert rows["caption"].str.startswith(f"skv_{character}").all()
    assert rows.groupby("split")["probability"].sum().round(12).to_dict() == {"holdout": 0, "train": 1, "validation": 0}


def test_every_frame_is_on_a_sheet(bench: Bench, character: str) -> None:
    artifact = bench.store.read(character, "frames")
    frames = artifact.table()
    for name, count in {"kept": frames["kept"].sum(), "dropped": (~frames["kept"]).sum()}.items():
        pages = sorted((artifact.folder / "sheets").glob(f"{name}_*.webp"))
        assert len(pages) == -(-count // PAGE_CELLS)
        for page in pages:
            with Image.open(page) as image:
                assert image.width <= 880
