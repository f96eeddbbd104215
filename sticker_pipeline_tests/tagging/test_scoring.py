from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sticker_pipeline.tagging import scoring, wd14
from sticker_pipeline.tagging.scoring import score_frames, tag_table
from sticker_pipeline.tagging.wd14 import Label, Tagger, TaggerError
from sticker_pipeline_tests.damage import flip
from sticker_pipeline_tests.tagging.tiny_tagger import write_tagger

Files = dict[str, tuple[Path, str]]


@pytest.fixture
def tagger(tmp_path: Path) -> Tagger:
    return wd14.open_tagger(write_tagger(tmp_path / "tagger"), "cpu")


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every batch that the model is given."""
    sizes: list[int] = []
    original = wd14.scores

    def counting(tagger: Tagger, batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return original(tagger, batch)

    monkeypatch.setattr(wd14, "scores", counting)
    return sizes


def make_files(folder: Path, reds: range) -> Files:
    """One-coloured images (red, 100, 0), named by a made-up hash."""
    folder.mkdir(exist_ok=True)
    files = {}
    for red in reds:
        path = folder / f"{red}.png"
        Image.new("RGBA", (8 + red % 3, 10), (red, 100, 0, 255)).save(path)
        files[f"f{red}"] = (path, f"{red:064x}")
    return files


def direct(files: Files, tagger: Tagger) -> np.ndarray:
    """The same scores without cache, batches or threads."""
    images = [wd14.preprocess(np.asarray(Image.open(path).convert("RGBA")), tagger.size) for path, _ in files.values()]
    name = tagger.input_name
    return np.concatenate([tagger.session.run(None, {name: one[None]})[0] for one in images])


def test_scores_equal_the_bare_model_in_the_order_of_the_frames(tmp_path: Path, tagger: Tagger) -> None:
    files = make_files(tmp_path / "frames", range(23))
    seen: list[tuple[int, int]] = []
    result = score_frames(files, tagger, tmp_path / "cache", 5, lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(result.scores, direct(files, tagger), atol=1e-6)
    assert (result.computed, result.cached) == (23, 0)
    assert seen == [(5, 23), (10, 23), (15, 23), (20, 23), (23, 23)]


def test_one_new_image_costs_one_image(tmp_path: Path, tagger: Tagger, batches: list[int]) -> None:
    files = make_files(tmp_path / "frames", range(10))
    first = score_frames(files, tagger, tmp_path / "cache", 4)
    assert batches == [4, 4, 2]
    again = score_frames(files, tagger, tmp_path / "cache", 4)
    assert batches == [4, 4, 2]
    assert (again.computed, again.cached) == (0, 10)
    np.testing.assert_array_equal(again.scores, first.scores)

    more = {**make_files(tmp_path / "frames", range(10, 11)), **dict(reversed(files.items()))}
    result = score_frames(more, tagger, tmp_path / "cache", 4)
    assert batches == [4, 4, 2, 1]
    assert (result.computed, result.cached) == (1, 10)
    np.testing.assert_array_equal(result.scores[1:], first.scores[::-1])


def test_equal_pixels_are_scored_once(tmp_path: Path, tagger: Tagger, batches: list[int]) -> None:
    files = make_files(tmp_path / "frames", range(3))
    files["copy"] = files["f1"]
    result = score_frames(files, tagger, tmp_path / "cache", 8)
    assert batches == [3]
    assert (result.computed, result.cached) == (3, 0)
    np.testing.assert_array_equal(result.scores[3], result.scores[1])


def test_another_model_or_preprocessing_does_not_read_old_scores(
    tmp_path: Path, tagger: Tagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_files(tmp_path / "frames", range(3))
    score_frames(files, tagger, tmp_path / "cache", 8)
    other = wd14.open_tagger(write_tagger(tmp_path / "other", scale=1 / 510))
    result = score_frames(files, other, tmp_path / "cache", 8)
    assert result.computed == 3
    np.testing.assert_allclose(result.scores, direct(files, other), atol=1e-6)
    monkeypatch.setattr(wd14, "PREPROCESSING_VERSION", 999)
    assert score_frames(files, tagger, tmp_path / "cache", 8).computed == 3


def test_an_interrupted_run_keeps_what_it_scored(tmp_path: Path, tagger: Tagger) -> None:
    files = make_files(tmp_path / "frames", range(12))
    Path(files["f9"][0]).write_bytes(b"not an image")
    with pytest.raises(TaggerError, match=r"9\.png"):
        score_frames(files, tagger, tmp_path / "cache", 3)
    make_files(tmp_path / "frames", range(9, 10))
    result = score_frames(files, tagger, tmp_path / "cache", 3)
    assert (result.computed, result.cached) == (3, 9)
    np.testing.assert_allclose(result.scores, direct(files, tagger), atol=1e-6)


def test_shards_are_written_on_the_way(tmp_path: Path, tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SHARD_FRAMES", 4)
    score_frames(make_files(tmp_path / "frames", range(11)), tagger, tmp_path / "cache", 2)
    assert len(list((tmp_path / "cache").rglob("*.rows"))) == 3
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".rows"]


def test_concurrent_runs_share_a_cache(tmp_path: Path, tagger: Tagger) -> None:
    files = make_files(tmp_path / "frames", range(40))
    parts = [dict(list(files.items())[start : start + 25]) for start in (0, 5, 10, 15)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda part: score_frames(part, tagger, tmp_path / "cache", 4), parts))
    for part, result in zip(parts, results, strict=True):
        np.testing.assert_allclose(result.scores, direct(part, tagger), atol=1e-6)
    assert score_frames(files, tagger, tmp_path / "cache", 4).cached == 40


def test_of_a_damaged_shard_all_rows_are_scored_again(
    tmp_path: Path, tagger: Tagger, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that nobody asks for is not looked at, and goes with one that is damaged."""
    files = make_files(tmp_path / "frames", range(3))
    scores = score_frames(files, tagger, tmp_path / "cache", 4).scores
    (shard,) = (tmp_path / "cache").rglob("*.rows")
    flip(shard, 8 * shard.stat().st_size - 1)  # of the last row
    assert score_frames({"f0": files["f0"]}, tagger, tmp_path / "cache", 4).cached == 1
    result = score_frames(files, tagger, tmp_path / "cache", 4)
    assert (result.computed, result.scores.tolist()) == (3, scores.tolist())
    assert caplog.messages == [
        f"{shard} is damaged (the checksum of row 2 does not fit): it is treated as missing and made again."
    ]


def test_nothing_to_do(tmp_path: Path, tagger: Tagger) -> None:
    result = score_frames({}, tagger, tmp_path / "cache", 4)
    assert result.scores.shape == (0, 4)
    with pytest.raises(ValueError, match="batch_size"):
        score_frames({}, tagger, tmp_path / "cache", 0)


# --- the table of tags

LABELS = (
    Label("explicit", "rating"),
    Label("b", "general"),
    Label("a", "general"),
    Label("somebody", "character"),
    Label("general", "rating"),
)


def limits(frames: int, general: float, character: float) -> dict[wd14.Category, np.ndarray]:
    """The same thresholds for every frame."""
    return {
        "general": np.full(frames, general, np.float32),
        "character": np.full(frames, character, np.float32),
    }


def test_tag_table_by_hand() -> None:
    scores = np.array([[0.1, 0.5, 0.5, 0.84, 0.2], [0.4, 0.49, 0.9, 0.85, 0.3], [0, 0, 0, 0, 0]], dtype=np.float32)
    table = tag_table(["z", "y", "x"], scores, LABELS, limits(3, 0.5, 0.85))
    assert list(table.columns) == ["frame_id", "tag", "category", "score"]
    assert list(table.itertuples(index=False, name=None)) == [
        ("z", "a", "general", np.float32(0.5)),
        ("z", "b", "general", np.float32(0.5)),
        ("z", "general", "rating", np.float32(0.2)),
        ("y", "a", "general", np.float32(0.9)),
        ("y", "somebody", "character", np.float32(0.85)),
        ("y", "explicit", "rating", np.float32(0.4)),
        ("x", "explicit", "rating", np.float32(0.0)),
    ]


def test_each_frame_may_have_a_threshold_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "ROWS_AT_A_TIME", 2)
    scores = np.tile(np.array([0.1, 0.4, 0.6, 0.9, 0], dtype=np.float32), (5, 1))
    general, character = np.array([0, 0.5, 0.7, 0.6, 0.4]), np.array([1, 0.9, 0.95, 0, 1])
    each = {"general": general.astype(np.float32), "character": character.astype(np.float32)}
    table = tag_table(list("vwxyz"), scores, LABELS, each)
    found = table[table["category"] != "rating"].groupby("frame_id")["tag"].agg(list)
    assert found.to_dict() == {"v": ["a", "b"], "w": ["somebody", "a"], "y": ["somebody", "a"], "z": ["a", "b"]}
    assert table[table["category"] == "rating"]["tag"].tolist() == ["explicit"] * 5


def test_tag_table_of_nothing_has_its_columns() -> None:
    table = tag_table([], np.empty((0, 5), np.float32), LABELS, limits(0, 0.5, 0.5))
    assert list(table.columns) == ["frame_id", "tag", "category", "score"]
    assert table.empty
    with pytest.raises(ValueError, match="2 frames and 5 labels"):
        tag_table(["a", "b"], np.empty((1, 5), np.float32), LABELS, limits(2, 0.5, 0.5))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 6), st.integers(0, 2**32 - 1), st.floats(0, 1, width=16), st.floats(0, 1, width=16))
def test_tag_table_equals_a_loop(frames: int, seed: int, general: float, character: float) -> None:
    scores = np.random.default_rng(seed).integers(0, 9, (frames, len(LABELS))).astype(np.float32) / 8
    ids = [f"frame{i}" for i in range(frames)]
    expected = []
    for frame, row in zip(ids, scores.tolist(), strict=True):
        found = [
            (frame, label.name, label.category, score)
            for label, score in zip(LABELS, row, strict=True)
            if label.category != "rating" and score >= {"general": general, "character": character}[label.category]
        ]
        best = max(row[0], row[4])
        name = "explicit" if row[0] == best else "general"
        found.append((frame, name, "rating", best))
        expected += sorted(found, key=lambda entry: (-entry[3], entry[1]))
    table = tag_table(ids, scores, LABELS, limits(frames, general, character))
    assert list(table.itertuples(index=False, name=None)) == expected


def test_tag_table_survives_parquet(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).uniform(0, 1, (4, 5)).astype(np.float32)
    table = tag_table(list("abcd"), scores, LABELS, limits(4, 0.2, 0.2))
    table.to_parquet(tmp_path / "t.parquet", index=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), table)
