from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.tagging.captions import format_caption, parse_caption
from sticker_pipeline.training.captions import caption_variants, vary

TAG = st.text("ab (:)\\1.2", min_size=1, max_size=9).filter(lambda tag: tag == tag.strip())
TAGS = st.lists(st.tuples(TAG, st.sampled_from([1.0, 1.0, 0.5, 1.2])), max_size=8, unique_by=lambda one: one[0])
FREE = TrainingSettings(shuffle_tags=True, tag_dropout=0.3, keep_tags=1)


def written(tags: list[tuple[str, float]]) -> str:
    return format_caption([tag for tag, _ in tags], dict(tags))


@given(TAGS, st.integers(0, 9), st.integers(0, 99))
def test_shuffling_keeps_every_tag_its_weight_and_the_first_ones_places(
    tags: list[tuple[str, float]], keep: int, seed: int
) -> None:
    settings = TrainingSettings(shuffle_tags=True, keep_tags=keep)
    drawn = parse_caption(vary(written(tags), settings, np.random.default_rng(seed)))
    assert drawn[:keep] == tags[:keep]
    assert Counter(drawn) == Counter(tags)


@given(TAGS, st.integers(0, 9), st.floats(0, 0.99), st.integers(0, 99))
def test_dropout_leaves_a_part_in_order_and_the_first_ones_whole(
    tags: list[tuple[str, float]], keep: int, dropout: float, seed: int
) -> None:
    settings = TrainingSettings(tag_dropout=dropout, keep_tags=keep)
    drawn = parse_caption(vary(written(tags), settings, np.random.default_rng(seed)))
    assert drawn[:keep] == tags[:keep]
    assert drawn == [tag for tag in tags if tag in drawn]


def test_a_caption_without_its_last_weight_is_read_as_a_plain_one() -> None:
    settings = TrainingSettings(tag_dropout=0.99, keep_tags=2)
    drawn = vary(r"nova, star \(symbol\), (smile:1.2)", settings, np.random.default_rng(0))
    assert parse_caption(drawn) == [("nova", 1.0), ("star (symbol)", 1.0)]


def test_each_tag_is_dropped_with_the_stated_chance_alone() -> None:
    settings = TrainingSettings(tag_dropout=0.3, keep_tags=1)
    drawn = [set(one.split(", ")) for one in caption_variants("nova, a, b, c", settings, seed=0, count=4_000)]
    kept = {tag: np.array([tag in one for one in drawn]) for tag in ("nova", "a", "b", "c")}
    assert kept["nova"].all()
    for tag in ("a", "b", "c"):
        assert kept[tag].mean() == pytest.approx(0.7, abs=4 * (0.3 * 0.7 / 4_000) ** 0.5)
    assert abs(np.corrcoef(kept["a"], kept["b"])[0, 1]) < 4 / 4_000**0.5


def test_every_order_is_as_likely_as_the_others() -> None:
    settings = TrainingSettings(shuffle_tags=True, keep_tags=1)
    counts = Counter(caption_variants("nova, a, b, c", settings, seed=1, count=6_000))
    assert len(counts) == 6
    assert sum((count - 1_000) ** 2 / 1_000 for count in counts.values()) < 25.7  # χ², 5 degrees of freedom, p = 1e-4


def test_repeats_of_short_captions_are_kept() -> None:
    settings = TrainingSettings(tag_dropout=0.25, keep_tags=1)
    counts = Counter(caption_variants("nova, a", settings, seed=0, count=1_000))
    assert counts["nova"] == pytest.approx(250, abs=55) and counts.total() == 1_000


@given(TAGS, st.integers(0, 1_000), st.integers(1, 8), st.integers(0, 8))
def test_variants_depend_on_nothing_else_and_more_of_them_begin_with_the_same(
    tags: list[tuple[str, float]], seed: int, count: int, more: int
) -> None:
    caption = written(tags)
    first = caption_variants(caption, FREE, seed=seed, count=count)
    assert len(first) == count
    assert caption_variants(caption, FREE, seed=seed, count=count + more)[:count] == first


def test_captions_and_seeds_have_draws_of_their_own() -> None:
    tags = ", ".join(f"t{number}" for number in range(12))
    drawn = {
        tuple(one.replace("nova", "").replace("luna", "") for one in caption_variants(*draw, seed=seed, count=4))
        for draw in ((f"nova, {tags}", FREE), (f"luna, {tags}", FREE))
        for seed in (0, 1)
    }
    assert len(drawn) == 4


@pytest.mark.parametrize("caption", ["", "nova", "nova, (smile:1.2)", "nova,  two  spaces , "])
def test_without_shuffling_and_dropout_there_is_the_caption_alone(caption: str) -> None:
    assert caption_variants(caption, TrainingSettings(), seed=3, count=16) == [caption]


def test_a_caption_of_another_tool_is_varied_as_it_stands() -> None:
    settings = TrainingSettings(shuffle_tags=True, keep_tags=1)
    caption = "nova, a,b, , end"  # format_caption would refuse its second and third items
    (drawn,) = caption_variants(caption, settings, seed=0, count=1)
    assert Counter(drawn.split(", ")) == Counter(caption.split(", "))
