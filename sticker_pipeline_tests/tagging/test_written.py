import pandas as pd
import pytest

from sticker_pipeline.core.character import Curation, Group
from sticker_pipeline.tagging.curation import WRITTEN, curate
from sticker_pipeline.tagging.written import Written, written_caption, written_captions


@pytest.mark.parametrize(
    ("text", "caption", "tags"),
    [
        ("smile,  red hair ,", "skv_x, sticker, smile, red hair", 4),
        ("skv x, sticker, smile", "skv x, sticker, smile", 3),
        ("STICKER, a fox, sitting", "skv_x, STICKER, a fox, sitting", 4),
        ("sticker, skv_x", "sticker, skv_x", 2),
        ("star_(symbol), long_hair", "skv_x, sticker, star_(symbol), long_hair", 4),
        (r"star \(symbol\)", "skv_x, sticker, star (symbol)", 3),
        (r"skv_x, (smile:1.2), star \(symbol\)", r"sticker, skv_x, (smile:1.2), star \(symbol\)", 4),
        ("(one, two:1.2)", "skv_x, sticker, (one:1.2), (two:1.2)", 4),
    ],
)
def test_a_written_caption_stands_as_it_is_behind_what_it_lacks(text: str, caption: str, tags: int) -> None:
    read = written_caption(text, ["skv_x", "sticker"])
    assert (read.caption, read.n_tags, read.notes) == (caption, tags, ())
    again = written_caption(read.caption, ["skv_x", "sticker"])
    assert again == read


def test_a_repeated_tag_stands_once_with_the_weight_that_it_was_given() -> None:
    read = written_caption("smile, (red_hair:1.2), red hair, Smile, smile", [])
    assert read.caption == "smile, (red_hair:1.2)"


def test_lines_are_one_caption_unless_each_begins_with_the_trigger() -> None:
    assert written_caption("skv_x, smile,\nhat", ["skv_x"]) == Written("skv_x, smile, hat", 3)
    read = written_caption("skv x, smile\n(skv_x:1.1), frown\nskv_x", ["skv_x"])
    assert read.caption == "skv x, smile"
    assert read.notes == ("3 captions, each beginning with the trigger: the first is taken",)
    assert written_caption("skv_x", ["skv_x"]).notes == ()


def test_what_keeps_tags_in_front_is_no_tag() -> None:
    assert written_caption("skv_x, smile ||| hat|||", ["skv_x"]).caption == "skv_x, smile, hat"


def test_a_weight_that_is_none_is_said() -> None:
    read = written_caption("skv_x, (smile:45), hat", ["skv_x"])
    assert read == Written(
        "skv_x, \\(smile:45\\), hat", 3, ("(smile:45): read as text: a weight is above 0 and at most 2",)
    )


def test_a_product_of_weights_that_is_cut_off_is_said() -> None:
    read = written_caption("skv_x, ((smile:1.5):1.5)", ["skv_x"])
    assert read == Written("skv_x, (smile:2.0)", 2, ("smile: its weights multiply to more than 2, and are cut to it",))


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
        [("f0", "art", "a"), ("f1", "art", "b"), ("f2", "art", "c")], columns=["frame_id", "group", "source_id"]
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


def test_what_a_person_listed_in_vain_is_said_with_what_may_be_meant() -> None:
    frames = pd.DataFrame([("f0", "art", "a"), ("f1", "art", "b")], columns=["frame_id", "group", "source_id"])
    tags = pd.DataFrame(
        [(frame, tag, "general", 0.9) for frame in ("f0", "f1") for tag in ("smile", "star (symbol)")],
        columns=["frame_id", "tag", "category", "score"],
    )
    curation = Curation(
        blacklist=["star_\\(symbol\\)", "smlie"], aliases={"hat": "cap"}, weights={"skv_x": 1.2, "red hair": 1.1}
    )
    curated = curate(tags, frames, {"art": Group()}, "skv_x", curation, {"f1": "skv_x, red_hair\nskv_x"})
    assert curated.idle == [
        "curation.blacklist: 'smlie' is on no image. Did you mean 'smile'?",
        "curation.aliases: 'hat' is on no image.",
    ]
    assert curated.captions["caption"].tolist() == ["(skv_x:1.2), smile", "skv_x, red_hair"]
    assert curated.notes.to_dict("records") == [
        {"path": "b", "note": "2 captions, each beginning with the trigger: the first is taken"}
    ]
