"""Rows, filters and windows against the tables that they are made from."""

import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.desk.rows import (
    COLUMNS,
    FilterError,
    Rows,
    common_caption,
    counts,
    dropped_tags,
    duplicates,
    files_of,
    matching,
    read_rows,
    suggestions,
    window,
    with_captions,
    with_tags,
)
from sticker_pipeline_tests.desk.example import NAME

WORDS = ["smile", "closed eyes", "hat", "red hat", "1girl", "Ünï"]


def table(captions: list[str]) -> pd.DataFrame:
    count = len(captions)
    rows = {name: [value] * count for name, value in COLUMNS.items()} | {
        "frame_id": [f"f-{number}" for number in range(count)],
        "path": [f"gifs/{number // 2}.gif" for number in range(count)],
        "group": ["gifs" if number % 3 else "art" for number in range(count)],
        "state": ["train" if number % 2 else "holdout" for number in range(count)],
        "caption": captions,
        "file": ["x.png"] * count,
    }
    return pd.DataFrame(rows)


captions = st.lists(st.lists(st.sampled_from(WORDS), unique=True, max_size=4).map(", ".join), min_size=1, max_size=12)


@settings(deadline=None)
@given(captions, st.lists(st.tuples(st.booleans(), st.sampled_from(WORDS)), max_size=3))
def test_a_filter_of_tags_finds_what_a_loop_finds(texts: list[str], terms: list[tuple[bool, str]]) -> None:
    rows = with_tags(table(texts))
    present = {tag for text in texts for tag in text.split(", ") if tag}

    def has(text: str, word: str) -> bool:
        own = [tag for tag in text.split(", ") if tag]
        return word in own if word in present else any(word.casefold() in tag.casefold() for tag in own)

    expected = [n for n, text in enumerate(texts) if all(has(text, word) == wanted for wanted, word in terms)]
    query = ",".join(("" if wanted else "-") + word for wanted, word in terms)
    assert matching(rows, query).tolist() == expected


@settings(deadline=None)
@given(captions)
def test_suggestions_count_frames(texts: list[str]) -> None:
    found = suggestions(with_tags(table(texts)), "")
    expected = pd.Series([tag for text in texts for tag in text.split(", ") if tag], dtype=str).value_counts()
    assert dict(found) == expected.to_dict()
    assert [count for _, count in found] == sorted((count for _, count in found), reverse=True)


def test_suggestions_begin_with_what_begins_so() -> None:
    rows = with_tags(table(["red hat", "red hat", "hat"]))
    assert suggestions(rows, "hat") == [("hat", 1), ("red hat", 2)]
    assert suggestions(rows, "hat", np.array([0])) == [("red hat", 1)]


def test_order_group_state_and_source() -> None:
    rows = with_tags(table(["a, b", "a", "", "a, b, c"]).assign(weight=[0.1, 0.4, 0.2, 0.3]))
    assert matching(rows, order="weight").tolist() == [1, 3, 2, 0]
    assert matching(rows, order="tags").tolist() == [2, 1, 0, 3]
    assert matching(rows, group="art").tolist() == [0, 3]
    assert matching(rows, state="holdout").tolist() == [0, 2]
    assert matching(rows, source="S/1.G").tolist() == [2, 3]
    with pytest.raises(FilterError, match="state=all"):
        matching(rows, state="all")
    with pytest.raises(FilterError, match="order=x"):
        matching(rows, order="x")


def test_the_rows_of_a_character(root) -> None:
    rows = read_rows(ArtifactStore(root / "artifacts"), NAME)
    by_path = rows.table.set_index("path")
    assert counts(rows) == {"train": 3, "holdout": 1, "dropped": 1, "rejected": 1}
    assert by_path.loc["stickers/sad.png", "state"] == "holdout"
    assert by_path.loc["stickers/broken.png", "reason"] == "the PNG is cut off"
    assert by_path.loc["stickers/happy.png", "caption"] == "skv_fox, fox_sticker, smile, hat"
    assert by_path.loc["stickers/happy.png", "weight"] == pytest.approx(1 / 3)
    assert rows.table["path"].is_monotonic_increasing
    total, groups = duplicates(rows, 0, 10)
    assert total == 1
    assert {groups[0]["kept"]["path"], groups[0]["dropped"][0]["path"]} == {"stickers/happy.png", "stickers/twin.png"}


def test_any_artifact_may_be_missing(root) -> None:
    store = ArtifactStore(root / "artifacts")
    seen = {"kept", "dropped", "rejected"}
    left = {"training_set": seen, "curated_tags": seen, "frames": {"rejected"}, "raw_media": set()}
    for asset, states in left.items():
        shutil.rmtree(store.folder(NAME, asset))
        assert set(read_rows(store, NAME).table["state"]) == states


def test_a_window_is_json_without_hashes(root) -> None:
    rows = read_rows(ArtifactStore(root / "artifacts"), NAME)
    found = matching(rows, state="holdout")
    (row,) = window(rows, found, 0, 5)
    assert set(row) == {*COLUMNS, "v"} - {"pixel_sha256", "sha256"}
    assert row["v"] == rows.table["pixel_sha256"].iloc[found[0]][:12]
    assert window(rows, found, 1, 5) == []
    assert files_of(rows, matching(rows)) == ["gifs/wave.gif", "stickers/happy.png", "stickers/sad.png"]


def test_captions_in_memory_follow_an_edit() -> None:
    rows: Rows = with_tags(table(["smile", "smile", "hat"]))
    new = with_captions(rows, {"gifs/0.gif": "closed eyes"})
    assert new.table["caption"].tolist() == ["closed eyes", "closed eyes", "hat"]
    assert matching(new, "closed eyes").tolist() == [0, 1]
    assert matching(new, "smile").tolist() == []


def test_the_common_caption_of_a_file() -> None:
    assert common_caption(["skv, a, b", "skv, b, c", "skv, b"], ["skv"]) == "b"
    assert common_caption(["skv, a"], ["skv"]) == "a"
    assert common_caption(["a", "b"], []) == ""
    assert common_caption([], []) == ""


def test_dropped_tags_have_reasons(root) -> None:
    store = ArtifactStore(root / "artifacts")
    rows = read_rows(store, NAME)
    assert dropped_tags(store, NAME, rows.table["frame_id"].tolist()) == []
