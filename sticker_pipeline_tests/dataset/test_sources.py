"""The table of sources says for each frame where it came from, and sums up by source."""

import hashlib
import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.core.schemas import INDEX, check
from sticker_pipeline.core.settings import BucketSettings
from sticker_pipeline.core.storage import Artifact, ArtifactStore, StorageError
from sticker_pipeline.dataset.manifest import DatasetError, training_set
from sticker_pipeline.dataset.sources import SOURCES, SPLITS, by_source, file_hashes, training_sources
from sticker_pipeline.media.frames import FRAMES
from sticker_pipeline_tests.damage import flip
from sticker_pipeline_tests.some_table import write_rows

HASHES = {"gifs/wave.gif": "a1" * 32, "art/sea.png": "b2" * 32}


def frames_of(sources: list[tuple[str, int]]) -> pd.DataFrame:
    """Frames of files, as (path, number of frames); the columns that these functions read, and `width`, `height`."""
    rows = [
        (f"{place:02d}-{number:04d}", path, path.partition("/")[0], path, number, pixels_of(path, number))
        for place, (path, count) in enumerate(sources)
        for number in range(count)
    ]
    table = pd.DataFrame(rows, columns=["frame_id", "path", "group", "source_id", "frame_index", "pixel_sha256"])
    assert set(table.columns) < set(FRAMES.names)
    return table.assign(file="files/" + table["pixel_sha256"] + ".png", kept=True, width=64, height=64, duplicate_of="")


def pixels_of(path: str, number: int) -> str:
    return hashlib.sha256(f"{path} {number}".encode()).hexdigest()


def rows_of(frames: pd.DataFrame, splits: dict[str, str], captions: list[str]) -> pd.DataFrame:
    """The columns of a training set that these functions read, each trained frame with the same probability."""
    split = frames["path"].map(splits)
    trained = split == "train"
    return frames[["frame_id", "file"]].assign(split=split, probability=trained / trained.sum(), caption=captions)


FRAMES_OF_TWO = frames_of([("gifs/wave.gif", 2), ("art/sea.png", 1)])
ROWS = rows_of(FRAMES_OF_TWO, {"gifs/wave.gif": "train", "art/sea.png": "holdout"}, ["a", "b", "c"])


def test_each_frame_has_its_file_hash_and_pixels() -> None:
    table = training_sources(ROWS, FRAMES_OF_TWO, HASHES)
    check(table, SOURCES)
    assert [tuple(row) for row in table.to_numpy().tolist()] == [
        ("gifs/wave.gif", "gifs", "a1" * 32, 0, "00-0000", pixels_of("gifs/wave.gif", 0), "train", 0.5, "a"),
        ("gifs/wave.gif", "gifs", "a1" * 32, 1, "00-0001", pixels_of("gifs/wave.gif", 1), "train", 0.5, "b"),
        ("art/sea.png", "art", "b2" * 32, 0, "01-0000", pixels_of("art/sea.png", 0), "holdout", 0.0, "c"),
    ]


def test_a_file_without_a_known_hash_has_none() -> None:
    assert training_sources(ROWS, FRAMES_OF_TWO, {})["sha256"].tolist() == [""] * 3


@pytest.mark.parametrize(
    "changed",
    [
        FRAMES_OF_TWO.iloc[[0, 2]],
        FRAMES_OF_TWO.assign(kept=[True, False, True]),
        FRAMES_OF_TWO.assign(file=["files/x.png", "files/y.png", "files/z.png"]),
    ],
)
def test_frames_that_have_changed_since_are_refused(changed: pd.DataFrame) -> None:
    with pytest.raises(
        DatasetError, match=r"is not in frames: training_set is older than frames, materialize it again"
    ):
        training_sources(ROWS, changed, HASHES)


def test_a_source_is_summed_up() -> None:
    table = by_source(training_sources(ROWS, FRAMES_OF_TWO, HASHES).iloc[::-1])
    assert table.to_dict("records") == [
        {"path": "gifs/wave.gif", "group": "gifs", "sha256": "a1" * 32, "split": "train", "frames": 2, "weight": 1.0,
         "caption": "a", "captions": 2},
        {"path": "art/sea.png", "group": "art", "sha256": "b2" * 32, "split": "holdout", "frames": 1, "weight": 0.0,
         "caption": "c", "captions": 1},
    ]  # fmt: skip


def test_sources_are_sorted_by_split_then_weight_then_path() -> None:
    frames = frames_of([("a", 1), ("b", 1), ("c", 3), ("d", 1), ("e", 2)])
    splits = dict(zip("abcde", ("holdout", "train", "train", "train", "validation"), strict=True))
    table = by_source(training_sources(rows_of(frames, splits, [""] * 8), frames, {}))
    assert table["path"].tolist() == ["c", "b", "d", "e", "a"]
    assert table["weight"].tolist() == pytest.approx([0.6, 0.2, 0.2, 0, 0])


FILES = st.lists(
    st.tuples(st.sampled_from(["gifs", "art"]), st.integers(1, 5), st.floats(1e-3, 1)), min_size=1, max_size=12
)


@settings(deadline=None)
@given(FILES, st.floats(0.05, 0.6), st.floats(0, 0.6), st.randoms())
def test_weights_sum_to_1_and_each_frame_has_one_split(files: list[tuple[str, int, float]], held, validated, random):  # type: ignore[no-untyped-def]
    frames = frames_of([(f"{group}/{place}", count) for place, (group, count, _) in enumerate(files)])
    shares = dict(enumerate(share for *_, share in files))
    place = frames["frame_id"].str[:2].astype(int)
    weights = frames[["frame_id"]].assign(probability=place.map(shares))
    captions = frames[["frame_id"]].assign(caption=[f"tag {random.randint(0, 3)}" for _ in range(len(frames))])
    rows = training_set(frames, weights, captions, held, 64, BucketSettings(shape="square"), validation=validated)
    table = training_sources(rows, frames, dict.fromkeys(frames["path"], "c3" * 32))
    check(table, SOURCES)
    assert sorted(table["frame_id"]) == sorted(frames["frame_id"])
    assert table.groupby("frame_id")["split"].nunique().eq(1).all()
    sources = by_source(table)
    assert sources["path"].is_unique and sources["frames"].sum() == len(frames)
    assert math.fsum(sources.loc[sources["split"] == "train", "weight"]) == pytest.approx(1, abs=1e-12)
    assert (sources.loc[sources["split"] != "train", "weight"] == 0).all()
    assert set(sources["split"]) <= set(SPLITS)


# --- hashes of files --------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def put(store: ArtifactStore, asset: str, rows: pd.DataFrame, inputs: dict[str, str]) -> Artifact:
    with store.writing("luma", asset) as staging:
        write_rows(rows, staging)
        return store.publish(staging, "luma", asset, code_version="1", inputs=inputs, settings={})


def inventory(hashes: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame({"path": list(hashes), "sha256": list(hashes.values()), "bytes": 1})


def test_hashes_are_those_of_the_inventory_that_frames_were_made_from(store: ArtifactStore) -> None:
    raw_media = put(store, "raw_media", inventory(HASHES), {})
    frames = put(store, "frames", FRAMES_OF_TWO, {"raw_media": raw_media.data_version})
    assert file_hashes(frames, raw_media) == HASHES
    assert file_hashes(frames, None) == {}
    later = put(store, "raw_media", inventory({"gifs/wave.gif": "c3" * 32}), {})
    assert file_hashes(frames, later) == {}
    assert file_hashes(frames, raw_media) == {}  # its files are those of the later one


def test_an_inventory_without_files_has_no_hash(store: ArtifactStore) -> None:
    raw_media = put(store, "raw_media", inventory({}), {})
    assert file_hashes(put(store, "frames", FRAMES_OF_TWO, {"raw_media": raw_media.data_version}), raw_media) == {}


def test_a_damaged_inventory_is_named(store: ArtifactStore) -> None:
    raw_media = put(store, "raw_media", inventory(HASHES), {})
    frames = put(store, "frames", FRAMES_OF_TWO, {"raw_media": raw_media.data_version})
    flip(raw_media.folder / INDEX, 100)
    with pytest.raises(StorageError, match="materialize that again"):
        file_hashes(frames, raw_media)
