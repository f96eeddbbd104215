import math

import pandas as pd

from sticker_pipeline.tagging import summary

TAGS = pd.DataFrame(
    [("a", "smile", "general"), ("a", "general", "rating"), ("b", "smile", "general"), ("b", "cup", "general")],
    columns=["frame_id", "tag", "category"],
)
CAPTIONS = pd.DataFrame({"frame_id": ["a", "b"], "caption": ["t", r"(t:1.2), star \(symbol\)"], "n_tags": [1, 2]})
DROPPED = pd.DataFrame(
    [
        ("a", "smile", "rare: on 1 of at least 2 images"),
        ("b", "smile", "rare: on 1 of at least 2 images"),
        ("b", "cup", "rare: on 2 of at least 3 images"),
        ("a", "general", "rating"),
    ],
    columns=["frame_id", "tag", "reason"],
)


def test_counts() -> None:
    assert list(summary.tag_counts(TAGS).items()) == [("smile", 2), ("cup", 1)]
    assert list(summary.caption_tag_counts(CAPTIONS).items()) == [("t", 2), ("star (symbol)", 1)]
    assert summary.mean_tags(TAGS, CAPTIONS) == (1.5, 1.5)
    assert all(math.isnan(value) for value in summary.mean_tags(TAGS[:0], CAPTIONS[:0]))


def test_drop_reasons() -> None:
    assert summary.drop_reasons(DROPPED).to_dict("records") == [
        {"reason": "rare", "rows": 3, "distinct_tags": 2, "examples": "smile, cup"},
        {"reason": "rating", "rows": 1, "distinct_tags": 1, "examples": "general"},
    ]
    assert list(summary.drop_reasons(DROPPED[:0]).columns) == ["reason", "rows", "distinct_tags", "examples"]


def test_dropped_tags() -> None:
    assert summary.dropped_tags(DROPPED).values.tolist() == [
        ["smile", "rare: on 1 of at least 2 images", 2],
        ["cup", "rare: on 2 of at least 3 images", 1],
        ["general", "rating", 1],
    ]


def test_before_and_after() -> None:
    assert list(summary.before_and_after(TAGS, CAPTIONS).items()) == [
        ("smile", (2, 0)),
        ("t", (0, 2)),
        ("cup", (1, 0)),
        ("star (symbol)", (0, 1)),
    ]
    assert summary.tags_per_image(TAGS, CAPTIONS) == ([1, 2], [1, 2])
    assert summary.tags_per_image(TAGS[:0], CAPTIONS) == ([0, 0], [1, 2])


def test_what_says_who_it_is_before_and_after() -> None:
    """Tags of the identity: trigger and learned tag are in the captions, the rest is gone.

    The trigger means nothing to the tagger, and is in all captions; the learned tag is one of its own. The tagger's
    names of the character, and the inherent traits, are gone, except for one caption that a person wrote.
    """
    rows = [
        *(("abcd"[n], "blue hair", "general", score) for n, score in enumerate([0.9, 0.7, 0.8])),
        *(("a", tag, "general", 0.5) for tag in ("smile", "ahoge", "small sticker")),
        ("b", "ahoge", "general", 0.75),
        ("d", "hatsune miku", "character", 0.95),
        ("d", "general", "rating", 0.9),
    ]
    tags = pd.DataFrame(rows, columns=["frame_id", "tag", "category", "score"])
    captions = pd.DataFrame(
        {"frame_id": list("abcd"), "caption": ["(t_x:1.2), small_sticker, smile", "t_x", "t_x", "t_x, blue hair"]}
    )
    dropped = pd.DataFrame(
        [
            ("a", "ahoge", "inherent: listed"),
            ("a", "blue hair", "inherent: on 75 % of the images"),
            ("d", "hatsune miku", "character tag of the tagger"),
            ("b", "smile", "rare: on 1 of at least 2 images"),
        ],
        columns=["frame_id", "tag", "reason"],
    )
    found = summary.character_tags(tags, captions, dropped, ["t_x", "small_sticker"])
    expected = pd.DataFrame(
        [
            ("t_x", "taught", 0.0, math.nan, 1.0, 1.05),
            ("small_sticker", "taught", 0.25, 0.5, 0.25, 1.0),
            ("hatsune miku", "character", 0.25, 0.95, 0.0, math.nan),
            ("blue hair", "inherent", 0.75, 0.8, 0.25, 1.0),
            ("ahoge", "inherent", 0.5, 0.625, 0.0, math.nan),
        ],
        columns=["tag", "kind", "found_on", "score", "written_on", "weight"],
    )
    pd.testing.assert_frame_equal(found, expected)
    empty = summary.character_tags(tags[:0], captions[:0], dropped[:0], ["t_x"])
    assert empty["found_on"].tolist() == empty["written_on"].tolist() == [0.0]


def test_caption_sample_is_spread_over_the_table() -> None:
    captions = pd.DataFrame({"frame_id": [str(i) for i in range(21)], "caption": "t", "n_tags": 1})
    assert summary.caption_sample(captions, 3)["frame_id"].tolist() == ["0", "10", "20"]
    assert len(summary.caption_sample(captions, 50)) == 21
    assert summary.caption_sample(captions[:0]).empty
