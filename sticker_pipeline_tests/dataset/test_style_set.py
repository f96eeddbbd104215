"""The training set of a style, against numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.core.settings import BucketSettings
from sticker_pipeline.dataset.manifest import DatasetError
from sticker_pipeline.dataset.style_set import Member, entropy, own_traits, style_set

SQUARE = BucketSettings(shape="square")

# frame: (source, group, split, caption behind the trigger, {dropped tag: reason})
ADA = {
    "a1": ("still.png", "stickers", "train", "outline, solo, smile", {"red hair": "inherent: on 100 % of the images"}),
    "a2": ("wave.gif", "stickers", "train", "solo, waving", {"red hair": "inherent: listed", "hair": "implied: 'red'"}),
    "a3": ("wave.gif", "stickers", "train", "solo, waving", {"red hair": "inherent: listed", "mug": "rare: on 1 of"}),
    "a4": ("held.png", "stickers", "holdout", "solo, crying", {"red hair": "inherent: listed"}),
}
BO = {
    "a1": ("one.png", "art", "train", "solo, smile", {"blue hair": "inherent: listed", "ugly": "blacklisted"}),
    "b2": ("two.png", "art", "validation", "solo, smile", {"blue hair": "inherent: listed"}),
}


def member(name: str, frames: dict[str, tuple[str, str, str, str, dict[str, str]]]) -> Member:
    ids = list(frames)
    sources, groups, splits, said, dropped = zip(*frames.values(), strict=True)
    learned = {"stickers": f"{name}_sticker", "art": ""}
    captions = [
        ", ".join(filter(None, [f"skv_{name}", learned[group], text])) for group, text in zip(groups, said, strict=True)
    ]
    return Member(
        name,
        frames=pd.DataFrame(
            {"frame_id": ids, "source_id": sources, "group": groups, "width": 96, "height": [64 + len(ids)] * len(ids)}
        ),
        rows=pd.DataFrame({"frame_id": ids, "file": [f"frames/{name}.png" for name in ids], "split": splits}),
        captions=pd.DataFrame({"frame_id": ids, "caption": captions}),
        dropped=pd.DataFrame(
            [(frame, tag, why) for frame, own in zip(ids, dropped, strict=True) for tag, why in own.items()],
            columns=["frame_id", "tag", "reason"],
        ),
        taught={"stickers": [f"skv_{name}", f"{name}_sticker"], "art": [f"skv_{name}"]},
    )


def made(most: int = 8, universal: float = 0.9):  # type: ignore[no-untyped-def]
    return style_set([member("ada", ADA), member("bo", BO)], most, 96, SQUARE, universal=universal)


def test_each_character_counts_alike_and_in_it_each_source() -> None:
    rows = made().rows.set_index("frame_id")
    expected = {"ada/a1": 1 / 4, "ada/a2": 1 / 8, "ada/a3": 1 / 8, "ada/a4": 0, "bo/a1": 1 / 2, "bo/b2": 0}
    assert rows["probability"].to_dict() == expected
    assert rows["split"].tolist() == ["train", "train", "train", "holdout", "train", "validation"]
    assert rows.loc["ada/a2", ["file", "source_id", "character"]].tolist() == [
        "ada/frames/a2.png",
        "ada/wave.gif",
        "ada",
    ]
    assert set(rows["bucket_width"]) == set(rows["bucket_height"]) == {96}


def test_traits_are_said_and_the_trigger_and_the_style_are_not() -> None:
    found = made()
    captions = found.rows.set_index("frame_id")["caption"].to_dict()
    assert captions == {
        "ada/a1": "red hair, smile",
        "ada/a2": "red hair, waving",
        "ada/a3": "red hair, waving, mug",
        "ada/a4": "red hair, crying",
        "bo/a1": "blue hair, smile",
        "bo/b2": "blue hair, smile",
    }
    dropped = found.dropped.set_index(["frame_id", "tag"])["reason"]
    assert dropped["ada/a1", "outline"] == "a tag of drawing style"
    assert dropped["bo/a1", "solo"] == "universal: on 100% of the samples"
    assert len(dropped) == 1 + 6
    assert "solo" in made(universal=1.1).rows["caption"].iloc[0]


def test_the_tags_that_say_most_are_kept() -> None:
    found = made(most=1)
    tags = found.tags.set_index("tag")
    assert tags.loc["smile", "share"] == 0.75
    assert tags.loc[["red hair", "blue hair"], "bits"].tolist() == [1, 1]
    assert tags.loc["mug", "bits"] == pytest.approx(-(1 / 8 * math.log2(1 / 8) + 7 / 8 * math.log2(7 / 8)))
    assert tags.loc["crying", ["share", "bits"]].tolist() == [0, 0]  # on held-out images alone
    assert tags.loc["waving", ["share", "ada", "bo"]].tolist() == [0.25, 0.5, 0]
    assert tags.index[:5].tolist() == ["blue hair", "red hair", "outline", "smile", "waving"]
    assert set(found.rows["caption"]) == {"red hair", "blue hair"}
    assert found.dropped.set_index(["frame_id", "tag"])["reason"]["ada/a1", "smile"] == (
        "pruned: 0.81 bits, 1 other has more"
    )
    assert tags["kept"].to_dict()["red hair"] == 4


def test_own_traits_are_those_of_any_character() -> None:
    assert own_traits(made().tags, ["ada", "bo"]) == {"red hair", "blue hair", "solo", "smile", "waving", "outline"}


def test_a_weight_and_an_alias_of_the_character_do_not_matter() -> None:
    weighted = {"a1": ("x.png", "art", "train", "(smile:1.2), a \\(b\\)", {})}
    rows = style_set([member("ada", ADA), member("bo", weighted)], 8, 96, SQUARE).rows
    assert rows["caption"].iloc[-1] == "smile, a (b)"


def test_what_no_style_can_be_made_of() -> None:
    with pytest.raises(DatasetError, match="at least 2 characters"):
        style_set([member("ada", ADA)], 8, 96, SQUARE)
    held = {"x": ("x.png", "art", "holdout", "smile", {})}
    with pytest.raises(DatasetError, match="'bo' has no image to train on"):
        style_set([member("ada", ADA), member("bo", held)], 8, 96, SQUARE)
    with pytest.raises(DatasetError, match=r"buckets\.step is 128"):
        style_set([member("ada", ADA), member("bo", BO)], 8, 96, BucketSettings(step=128))


def test_entropy() -> None:
    np.testing.assert_allclose(entropy(np.array([0, 0.25, 0.5, 1.0])), [0, 2 - 0.75 * math.log2(3), 1, 0], atol=1e-12)
