from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.core.character import Curation, Group
from sticker_pipeline.tagging.captions import parse_caption
from sticker_pipeline.tagging.categories import read_rows
from sticker_pipeline.tagging.curation import Curated, curate
from sticker_pipeline.tagging.wd14 import spelled

GROUPS = {"gifs": Group(learned=["hsr_sticker"]), "art": Group(medium="art")}
CATEGORIES = {"general rating": "rating", "somebody (series)": "character"}


def curated(images: dict[str, list[str]], *, sources: dict[str, str] | None = None, **settings: Any) -> Curated:
    """Curation of frame -> tags (best score first), frames named by group/number, each its own source unless stated."""
    rows = [
        (frame, tag, CATEGORIES.get(tag, "general"), np.float32(1 - 0.01 * position))
        for frame, tags in images.items()
        for position, tag in enumerate(tags)
    ]
    tags = pd.DataFrame(rows, columns=["frame_id", "tag", "category", "score"])
    frames = pd.DataFrame({"frame_id": list(images), "group": [frame.split("/")[0] for frame in images]})
    frames["source_id"] = [(sources or {}).get(frame, frame) for frame in images]
    return curate(tags, frames, GROUPS, "hsr_a", Curation.model_validate({"min_images": 1, **settings}))


def captions(result: Curated) -> dict[str, str]:
    return dict(zip(result.captions["frame_id"], result.captions["caption"], strict=True))


def reasons(result: Curated) -> dict[tuple[str, str], str]:
    return {(row.frame_id, row.tag): row.reason for row in result.dropped.itertuples()}


def test_a_caption_by_hand() -> None:
    result = curated(
        {
            "gifs/1": [
                "cup",
                "white shirt",
                "shirt",
                "smile",
                "solo",
                "general rating",
                "somebody (series)",
                "blue hair",
            ],
            "art/2": ["blue hair", "simple background"],
        },
        blacklist=["solo"],
    )
    assert captions(result) == {
        "gifs/1": "hsr_a, hsr_sticker, smile, white shirt, cup",
        "art/2": "hsr_a, simple background",
    }
    assert reasons(result) == {
        ("gifs/1", "shirt"): "implied: 'white shirt' is more specific",
        ("gifs/1", "solo"): "blacklisted",
        ("gifs/1", "general rating"): "rating",
        ("gifs/1", "somebody (series)"): "character tag of the tagger",
        ("gifs/1", "blue hair"): "inherent: on 100 % of the images",
        ("art/2", "blue hair"): "inherent: on 100 % of the images",
    }
    assert result.captions["n_tags"].tolist() == [5, 2]
    assert list(result.captions.columns) == ["frame_id", "caption", "n_tags"]
    assert list(result.dropped.columns) == ["frame_id", "tag", "reason"]


def test_a_frame_without_tags_has_the_learned_ones() -> None:
    result = curated({"gifs/1": [], "art/2": []})
    assert captions(result) == {"gifs/1": "hsr_a, hsr_sticker", "art/2": "hsr_a"}
    assert result.captions["n_tags"].tolist() == [2, 1]
    assert result.dropped.empty


def test_order_is_style_face_body_props_then_the_table_then_the_name() -> None:
    result = curated(
        {"art/1": ["zebra crossing", "balloon", "cup", "arms up", "smile", "full body", "chibi", "alpha x"]}
    )
    assert captions(result)["art/1"] == "hsr_a, chibi, full body, smile, arms up, cup, balloon, alpha x, zebra crossing"


WRONG_PAIRS = [
    ("sweater", "sweat"),
    ("elbow gloves", "bow"),
    ("multicolored hair", "red hair"),
    ("gloves", "v"),
    ("solo focus", "solo"),
    ("dress shirt", "dress"),
]


@pytest.mark.parametrize(("specific", "general"), WRONG_PAIRS)
def test_pairs_written_inside_each_other_both_stay(specific: str, general: str) -> None:
    result = curated({"art/1": [specific, general]}, inherent=[])
    assert {tag for tag, _ in parse_caption(captions(result)["art/1"])} == {"hsr_a", specific, general}


def test_implication_needs_the_same_frame_and_a_living_tag() -> None:
    result = curated({"art/1": ["white shirt"], "art/2": ["shirt"], "art/3": ["white shirt", "shirt"]})
    assert captions(result)["art/2"] == "hsr_a, shirt"
    assert captions(curated({"art/1": ["white shirt", "shirt"]}, blacklist=["white_shirt"]))["art/1"] == "hsr_a, shirt"


def test_the_reason_names_a_tag_that_is_still_there() -> None:
    result = curated({"art/1": ["uniform", "school uniform", "serafuku"]})
    assert set(reasons(result).values()) == {"implied: 'serafuku' is more specific"}


def test_inherent_counts_sources_not_frames() -> None:
    """A GIF of 30 frames with a wig is one image of four; half of the sources is enough, less is not."""
    images = {f"gifs/{i}": ["green hair"] for i in range(30)}
    sources = dict.fromkeys(images, "wig.gif")
    images |= {"art/1": ["blue hair"], "art/2": ["blue hair"], "art/3": []}
    result = curated(images, sources=sources)
    assert captions(result)["gifs/0"] == "hsr_a, hsr_sticker, green hair"
    assert reasons(result) == {(f"art/{i}", "blue hair"): "inherent: on 50 % of the images" for i in (1, 2)}


def test_inherent_needs_half_of_a_source_of_one() -> None:
    images = {f"gifs/{i}": ["red eyes"] if i < 5 else ["closed eyes"] for i in range(10)}
    assert len(reasons(curated(images, sources=dict.fromkeys(images, "a")))) == 5
    images["gifs/10"] = ["closed eyes"]
    assert not reasons(curated(images, sources=dict.fromkeys(images, "a")))


def test_a_trait_counts_where_a_more_specific_one_stands_for_it() -> None:
    result = curated({"art/1": ["very long hair", "long hair"], "art/2": ["long hair"], "art/3": []})
    assert reasons(result) == {
        ("art/1", "long hair"): "implied: 'very long hair' is more specific",
        ("art/2", "long hair"): "inherent: on 67 % of the images",
    }


def test_frequent_clothes_are_not_inherent_unless_listed() -> None:
    images = {"art/1": ["cape", "blue hair"], "art/2": ["cape", "blue hair"]}
    assert captions(curated(images))["art/1"] == "hsr_a, cape"
    result = curated(images, inherent=["cape"])
    assert captions(result)["art/1"] == "hsr_a, blue hair"
    assert reasons(result)[("art/1", "cape")] == "inherent: listed"


def test_rare_counts_sources() -> None:
    images = {f"gifs/{i}": ["waving"] for i in range(5)}
    sources = dict.fromkeys(images, "a.gif")
    images |= {"art/1": ["smile"], "art/2": ["smile"]}
    result = curated(images, sources=sources, min_images=2)
    assert captions(result)["art/1"] == "hsr_a, smile"
    assert set(reasons(result).values()) == {"rare: on 1 of at least 2 images"}


def test_aliases_and_repetitions() -> None:
    result = curated(
        {"gifs/1": ["serafuku", "school bag", "handbag", "hsr sticker"]},
        aliases={"serafuku": "hsr suit", "school_bag": "bag", "handbag": "bag"},
    )
    assert captions(result)["gifs/1"] == "hsr_a, hsr_sticker, hsr suit, bag"  # the suit stands among the clothes
    assert reasons(result) == {
        ("gifs/1", "school bag"): "repeated: 'bag' is in the caption",
        ("gifs/1", "hsr sticker"): "repeated: 'hsr sticker' is in the caption",
    }


def test_weights_name_tags_of_the_caption() -> None:
    result = curated(
        {"gifs/1": ["star (symbol)", "smile"], "art/1": ["star (symbol)"]},
        weights={"hsr_sticker": 1.1, "happy": 1.3},
        aliases={"smile": "happy"},
    )
    assert captions(result) == {
        "gifs/1": r"hsr_a, (hsr_sticker:1.1), (happy:1.3), star \(symbol\)",
        "art/1": "hsr_a, star (symbol)",
    }


def test_bad_tables_are_refused() -> None:
    tags = pd.DataFrame({"frame_id": ["a", "a"], "tag": ["x", "x"], "category": "general", "score": 1.0})
    frames = pd.DataFrame({"frame_id": ["a"], "group": ["art"], "source_id": ["a"]})
    with pytest.raises(ValueError, match="frame and tag twice"):
        curate(tags, frames, GROUPS, "t", Curation())
    with pytest.raises(ValueError, match="not among the frames"):
        curate(tags[:1].assign(frame_id="b"), frames, GROUPS, "t", Curation())
    with pytest.raises(ValueError, match="group 'photos'"):
        curate(tags[:1], frames.assign(group="photos"), GROUPS, "t", Curation())
    with pytest.raises(ValueError, match="occurs twice"):
        curate(tags[:1], pd.concat([frames, frames]), GROUPS, "t", Curation())


NAMES = st.sampled_from(
    [
        *("smile", "shirt", "white shirt", "uniform", "serafuku", "blue hair", "long hair", "very long hair", "cup"),
        *("holding cup", "solo", "hsr sticker", "hsr_a", "star (symbol)", ">_<", "closed eyes", "unheard of", "v"),
        *CATEGORIES,
    ]
)


@settings(max_examples=80, deadline=None)
@given(
    images=st.dictionaries(
        st.sampled_from([f"{group}/{i}" for group in GROUPS for i in range(4)]),
        st.lists(NAMES, unique=True, max_size=10),
    ),
    blacklist=st.lists(NAMES, max_size=2),
    inherent=st.one_of(st.just("auto"), st.lists(NAMES, max_size=2)),
    aliases=st.dictionaries(NAMES, NAMES, max_size=3),
    weights=st.dictionaries(NAMES, st.floats(0.1, 2), max_size=3),
    min_images=st.integers(1, 3),
    one_source=st.booleans(),
)
def test_nothing_is_lost(
    images: dict[str, list[str]],
    blacklist: list[str],
    inherent: Any,
    aliases: dict[str, str],
    weights: dict[str, float],
    min_images: int,
    one_source: bool,
) -> None:
    sources = dict.fromkeys(images, "one") if one_source else None
    result = curated(
        images,
        sources=sources,
        blacklist=blacklist,
        inherent=inherent,
        aliases=aliases,
        weights=weights,
        min_images=min_images,
    )
    assert result.captions["frame_id"].tolist() == list(images)
    assert not result.dropped.duplicated(["frame_id", "tag"]).any()
    assert (result.dropped["reason"] != "").all()
    gone = set(result.dropped[["frame_id", "tag"]].itertuples(index=False, name=None))
    assert gone <= {(frame, tag) for frame, tags in images.items() for tag in tags}
    readable = {spelled(tag): alias for tag, alias in aliases.items()}
    for frame, caption, n_tags in result.captions.itertuples(index=False):
        names = [tag for tag, _ in parse_caption(caption)]
        first = ["hsr_a", *GROUPS[frame.split("/")[0]].learned]
        assert names[: len(first)] == first
        kept = [tag for tag in images[frame] if (frame, tag) not in gone]
        assert sorted(names[len(first) :]) == sorted(readable.get(tag, tag) for tag in kept)
        assert len(set(names)) == len(names) == n_tags


def test_thirty_thousand_frames_of_thirty_tags() -> None:
    rng = np.random.default_rng(0)
    names = np.array([row["tag"] for row in read_rows("categories.csv") if "*" not in row["tag"]])
    n = 30_000
    chosen = np.argsort(rng.random((n, 300)), axis=1)[:, :30]
    ids = np.array([f"frame{i}" for i in range(n)], dtype=object)
    tags = pd.DataFrame({"frame_id": np.repeat(ids, 30), "tag": names[chosen.ravel() * 3]})
    tags = tags.assign(category="general", score=rng.random(n * 30).astype(np.float32))
    frames = pd.DataFrame({"frame_id": ids, "group": "art", "source_id": [f"clip{i // 20}" for i in range(n)]})
    result = curate(tags, frames, GROUPS, "t", Curation())
    assert int(result.captions["n_tags"].sum()) - n + len(result.dropped) == len(tags)
