"""The training set: splits by whole sources, probabilities after the holdout, and refusals."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.core.settings import BucketSettings
from sticker_pipeline.dataset.manifest import (
    TRAINING_SET,
    DatasetError,
    holdout_sources,
    training_set,
    validation_sources,
)
from sticker_pipeline.sampling.weights import frame_weights

SQUARE = BucketSettings(shape="square")

CLIPS = {
    **{("gifs", f"gifs/{name}.gif"): 5 for name in "abcd"},
    **{("stickers", f"stickers/{number:02}.png"): 1 for number in range(20)},
    ("art", "art/one.png"): 1,
    ("art", "art/two.png"): 1,
}
SHARES = {"gifs": 1.0, "stickers": 1.0, "art": 2.0}


def frames_of(sources=CLIPS) -> pd.DataFrame:
    rows = [
        (f"{source}#{index}", source, group, source, "0" * 16, True, "", "", f"files/{source}{index}.png", 300, 200)
        for (group, source), count in sources.items()
        for index in range(count)
    ]
    columns = [
        "frame_id",
        "path",
        "group",
        "source_id",
        "phash",
        "kept",
        "reason",
        "duplicate_of",
        "file",
        "width",
        "height",
    ]
    return pd.DataFrame(rows, columns=columns)


def drop(frames: pd.DataFrame, frame: str, reason: str, duplicate_of: str = "") -> None:
    row = frames["frame_id"] == frame
    frames.loc[row, ["kept", "reason", "duplicate_of", "file"]] = [False, reason, duplicate_of, ""]


def made(
    frames: pd.DataFrame, holdout=0.15, mode="inverse_length", resolution=96, buckets=SQUARE, validation=0.0
) -> pd.DataFrame:
    weights = frame_weights(frames, SHARES, mode, None)
    captions = pd.DataFrame({"frame_id": weights["frame_id"], "caption": "caption of " + weights["frame_id"]})
    shuffled = captions.sample(frac=1, random_state=1)
    return training_set(frames, weights, shuffled, holdout, resolution, buckets, validation=validation)


def sources_of(table: pd.DataFrame, split: str) -> set[str]:
    return {name.rpartition("#")[0] for name in table.loc[table["split"] == split, "frame_id"]}


def test_every_kept_frame_has_its_row():
    frames = frames_of()
    drop(frames, "gifs/a.gif#2", "blank")
    table = made(frames)
    assert list(table.columns) == TRAINING_SET.names
    kept = frames[frames["kept"]]
    assert table["frame_id"].tolist() == kept["frame_id"].tolist()
    assert table["file"].tolist() == kept["file"].tolist()
    assert (table["caption"] == "caption of " + table["frame_id"]).all()
    assert (table[["bucket_width", "bucket_height"]] == 96).all(axis=None)


def test_each_image_goes_to_the_size_of_its_shape():
    frames = frames_of()
    frames.loc[frames["source_id"] == "art/two.png", ["width", "height"]] = [100, 400]
    drop(frames, "gifs/a.gif#2", "blank")  # rows do not stand where frames do
    table = made(frames, resolution=512, buckets=BucketSettings())
    tall = table["frame_id"] == "art/two.png#0"
    assert table.loc[tall, ["bucket_width", "bucket_height"]].to_numpy().tolist() == [[256, 1024]]
    assert (table.loc[~tall, ["bucket_width", "bucket_height"]] == [640, 384]).all(axis=None)
    with pytest.raises(DatasetError, match=r"buckets\.step is 64 pixels, but the resolution is 32"):
        made(frames, resolution=32, buckets=BucketSettings())


def test_whole_sources_are_holdout_in_every_group_that_can_spare_one():
    table = made(frames_of())
    held = sources_of(table, "holdout")
    assert held.isdisjoint(sources_of(table, "train"))
    groups = [source.split("/")[0] for source in held]
    # 0.15 · 20 = 3 stickers, at least one of 4 GIFs, none of 2 images of art.
    assert (groups.count("stickers"), groups.count("gifs"), groups.count("art")) == (3, 1, 0)
    assert (table["split"] == "holdout").sum() == 3 + 5


def test_stills_are_holdout_before_animations():
    kept = frames_of({("g", "a.gif"): 9, ("g", "b.png"): 1, ("g", "c.gif"): 2, ("g", "d.png"): 1, ("g", "e.gif"): 3})
    assert holdout_sources(kept, 0.4) == {"b.png", "d.png"}
    assert {"b.png", "d.png"} < holdout_sources(kept, 0.6)
    assert len(holdout_sources(kept, 0.6)) == 3


def test_a_new_file_hardly_changes_who_is_holdout():
    stickers = {("stickers", f"stickers/{number:03}.png"): 1 for number in range(100)}
    before = holdout_sources(frames_of(stickers), 0.15)
    after = holdout_sources(frames_of({("stickers", "stickers/0new.png"): 1, **stickers}), 0.15)
    assert len(before) == len(after) == 15
    assert len(before & after) >= 14


def test_validation_takes_whole_sources_that_are_neither_trained_on_nor_holdout():
    without, table = made(frames_of()), made(frames_of(), validation=0.1)
    splits = {split: sources_of(table, split) for split in ("train", "holdout", "validation")}
    assert splits["holdout"] == sources_of(without, "holdout")
    # 0.1 · 20 = 2 stickers; four GIFs and two images of art are too few to give any.
    assert len(splits["validation"]) == 2 and all(source.startswith("stickers/") for source in splits["validation"])
    assert splits["train"] == sources_of(without, "train") - splits["validation"]
    assert (table.loc[table["split"] != "train", "probability"] == 0).all()
    assert math.fsum(table["probability"]) == pytest.approx(1, abs=1e-12)
    trained = table[table["split"] == "train"].set_index("frame_id")["probability"]
    ratio = trained / without.set_index("frame_id").loc[trained.index, "probability"]
    np.testing.assert_allclose(ratio, ratio.iloc[0], rtol=1e-12)


def test_validation_never_takes_more_than_half_of_what_is_left():
    kept = frames_of({("g", f"g/{number}.png"): 1 for number in range(8)})
    held = {f"g/{number}.png" for number in range(5)}
    assert len(validation_sources(kept, held, 0.89)) == 1
    assert len(validation_sources(kept, set(), 0.89)) == 4
    assert len(validation_sources(kept, set(), 0.01)) == 1
    assert validation_sources(kept, set(), 0.0) == set()
    assert validation_sources(kept.iloc[:7], set(), 0.5) == set()


def test_a_new_file_hardly_changes_who_validates():
    stickers = {("stickers", f"stickers/{number:03}.png"): 1 for number in range(100)}
    frames, more = frames_of(stickers), frames_of({("stickers", "stickers/0new.png"): 1, **stickers})
    before = validation_sources(frames, holdout_sources(frames, 0.15), 0.1)
    after = validation_sources(more, holdout_sources(more, 0.15), 0.1)
    assert len(before) == len(after) == 10
    assert len(before & after) >= 9


@pytest.mark.parametrize("mode", ["inverse_length", "uniform"])
def test_probabilities_follow_the_formula_on_the_sources_that_are_left(mode):
    frames = frames_of()
    table = made(frames, mode=mode)
    training = table[table["split"] == "train"]
    left = frames[frames["source_id"].isin(sources_of(table, "train"))]
    again = frame_weights(left, SHARES, mode, None)
    assert training["frame_id"].tolist() == again["frame_id"].tolist()
    np.testing.assert_allclose(training["probability"], again["probability"], rtol=0, atol=1e-15)
    assert abs(sum(map(Fraction, training["probability"])) - 1) < 1e-12
    assert (table.loc[table["split"] == "holdout", "probability"] == 0).all()


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), min_size=1, max_size=25),
    share=st.floats(0.01, 0.89),
)
def test_any_character_can_be_split(lengths, share):
    sources = {(group, f"{group}/{number}"): count for number, (group, count) in enumerate(lengths)}
    held = holdout_sources(frames_of(sources), share)
    for group in "abc":
        names = [source for of, source in sources if of == group]
        count = len(held & set(names))
        if len(names) < 3:
            assert count == 0
        else:
            assert 1 <= count <= len(names) - 1
            assert count == min(max(1, math.floor(len(names) * share + 0.5)), len(names) - 1)


def test_named_files():
    table = made(frames_of(), holdout=["gifs/b.gif", "art/one.png"])
    assert sources_of(table, "holdout") == {"gifs/b.gif", "art/one.png"}


def test_a_file_may_be_named_in_another_case_or_composition():
    table = made(frames_of(), holdout=["gifs/B.GIF", "ART/one.png"])
    assert sources_of(table, "holdout") == {"gifs/b.gif", "art/one.png"}


def test_a_named_file_takes_along_the_source_that_keeps_its_image():
    frames = frames_of()
    drop(frames, "stickers/03.png#0", "the same image as stickers/02.png", duplicate_of="stickers/02.png#0")
    drop(frames, "gifs/b.gif#1", "nearly the same image as art/two.png", duplicate_of="art/two.png#0")
    table = made(frames, holdout=["stickers/03.png", "gifs/b.gif"])
    assert sources_of(table, "holdout") == {"stickers/02.png", "gifs/b.gif", "art/two.png"}


def test_no_holdout_where_no_group_can_spare_a_source():
    table = made(frames_of({("gifs", "a"): 3, ("stickers", "b"): 1, ("art", "c"): 1}))
    assert set(table["split"]) == {"train"}


@pytest.mark.parametrize(
    ("holdout", "message"),
    [
        (["stickers/1.png"], r"no accepted image file 'stickers/1\.png'\. Did you mean 'stickers/1\d\.png'"),
        (["nothing like it"], r"'nothing like it'\.$"),
        (["stickers/05.png"], r"'stickers/05\.png' has no usable image: blank"),
        ([source for _, source in CLIPS if source != "stickers/05.png"], "keeps every source from training, 25 in all"),
    ],
)
def test_holdouts_that_cannot_be(holdout, message):
    frames = frames_of()
    drop(frames, "stickers/05.png#0", "blank: one single colour")
    with pytest.raises(DatasetError, match=message):
        made(frames, holdout=holdout)


def test_no_usable_frame():
    frames = frames_of({("gifs", "a"): 1})
    weights = frame_weights(frames, SHARES, "uniform", None)
    drop(frames, "a#0", "blank")
    with pytest.raises(DatasetError, match="no frame is kept"):
        training_set(frames, weights, pd.DataFrame({"frame_id": [], "caption": []}), 0.15, 96, SQUARE)


def test_tables_of_different_ages_are_noticed():
    frames = frames_of()
    weights = frame_weights(frames, SHARES, "uniform", None)
    captions = pd.DataFrame({"frame_id": weights["frame_id"][1:], "caption": "x"})
    with pytest.raises(DatasetError, match="has no caption: curated_tags is older"):
        training_set(frames, weights, captions, 0.15, 96, SQUARE)
