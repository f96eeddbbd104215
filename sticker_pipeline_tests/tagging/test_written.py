import pandas as pd
import pytest

from sticker_pipeline.character import Curation, Group
from sticker_pipeline.tagging.curation import WRITTEN, curate
from sticker_pipeline.tagging.written import written_caption, written_captions


@pytest.mark.parametrize(
    ("text", "caption", "tags"),
    [
        ("smile,  red hair ,", "skv_x, sticker, smile, red hair", 4),
        ("skv x, sticker, smile", "skv x, sticker, smile", 3),
        ("STICKER, a fox, sitting", "skv_x, sticker, STICKER, a fox, sitting", 5),
        ("sticker, skv_x", "sticker, skv_x", 2),
        ("star_(symbol), long_hair", "skv_x, sticker, star_(symbol), long_hair", 4),
        (r"star \(symbol\)", "skv_x, sticker, star (symbol)", 3),
        (r"skv_x, (smile:1.2), star \(symbol\)", r"sticker, skv_x, (smile:1.2), star \(symbol\)", 4),
        ("(one, two:1.2)", "skv_x, sticker, (one, two:1.2)", 4),
    ],
)
def test_a_written_caption_stands_as_it_is_behind_what_it_lacks(text: str, caption: str, tags: int) -> None:
    assert written_caption(text, ["skv_x", "sticker"]) == (caption, tags)


def test_frames_take_the_caption_of_their_file_or_of_a_file_merged_into_them() -> None:
    frames = pd.DataFrame(
        [
            ("f0", "art/a.png", True, ""),
            ("f1", "art/b.png", True, ""),
            ("f2", "art/copy_of_b.png", False, "f1"),
            ("f3", "art/copy_of_a.png", False, "f0"),
            ("f4", "gifs/c.gif", True, ""),
            ("f5", "gifs/c.gif", True, ""),
            ("f6", "art/blank.png", False, ""),
        ],
        columns=["frame_id", "path", "kept", "duplicate_of"],
    )
    captions = pd.DataFrame(
        [
            ("art/a.png", "own"),
            ("art/copy_of_a.png", "not needed"),
            ("art/copy_of_b.png", "the copy's"),
            ("gifs/c.gif", "c"),
            ("art/blank.png", "x"),
        ],
        columns=["path", "caption"],
    )
    assert written_captions(frames, captions) == {"f0": "own", "f1": "the copy's", "f4": "c", "f5": "c"}


def test_curation_leaves_written_captions_alone_and_says_where_the_taggers_tags_went() -> None:
    frames = pd.DataFrame(
        [("f0", "art", "a"), ("f1", "art", "b"), ("f2", "art", "c")], columns=["frame_id", "group", "clip_id"]
    )
    tags = pd.DataFrame(
        [(frame, tag, "general", 0.9) for frame in ("f0", "f1", "f2") for tag in ("smile", "red hair")],
        columns=["frame_id", "tag", "category", "score"],
    )
    curated = curate(tags, frames, {"art": Group()}, "skv_x", Curation(blacklist=["smile"]), {"f1": "smile, red hair"})
    assert curated.captions["caption"].tolist() == ["skv_x", "skv_x, smile, red hair", "skv_x"]
    assert curated.captions["n_tags"].tolist() == [1, 3, 1]
    own = curated.dropped[curated.dropped["frame_id"] == "f1"]
    assert own["reason"].tolist() == [WRITTEN, WRITTEN]
    assert curated.dropped[curated.dropped["frame_id"] == "f0"]["reason"].tolist() == [
        "blacklisted",
        "inherent: on 100 % of the images",
    ]
