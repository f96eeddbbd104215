"""Prompts, and shares of prompted tags found, on drawings with known tags."""

from pathlib import Path

import numpy as np
import pytest

from sticker_pipeline.embedded import base, obedience
from sticker_pipeline.embedded.dataset import flatten, fresh_drawings

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "models" / "embedded"


def test_spread_rows_are_half_stickers_half_art() -> None:
    fresh = fresh_drawings(24, seed=3)
    rows = obedience.spread_rows(fresh, 10)
    assert len(set(rows.tolist())) == 10
    assert int(fresh.sticker[rows].sum()) == 5
    assert rows.min() == 0
    assert rows.max() == 23


def test_short_prompts_are_five_of_the_tags_in_any_order() -> None:
    tags = [f"tag {number}" for number in range(12)]
    rng = np.random.default_rng(0)
    made = [obedience.short_prompt(tags, rng) for _ in range(400)]
    assert all(len(set(prompt)) == 5 and set(prompt) <= set(tags) for prompt in made)
    first = np.array([tags.index(prompt[0]) for prompt in made])
    assert set(first) == set(range(12))  # any tag may come first
    assert obedience.short_prompt(["smile", "v"], rng) in (["smile", "v"], ["v", "smile"])


def test_shares_are_high_for_the_right_tags_and_low_for_those_of_other_images() -> None:
    fresh = fresh_drawings(36, seed=4)
    images = flatten(fresh.pixels)
    right = obedience.shares(SHIPPED, images, fresh.tags)
    wrong = obedience.shares(SHIPPED, images, fresh.tags[18:] + fresh.tags[:18])
    assert right["hair colour"].asked == 36
    for kind in ("hair colour", "expression", "pose"):
        assert right[kind].found > 0.8
        assert wrong[kind].found < 0.4
    one = obedience.shares(SHIPPED, images[:1], [fresh.tags[0][-1:]])
    assert list(one.values()) == [obedience.Share(1.0, 1)]


def test_mean_share_counts_kinds_alike() -> None:
    found = {"pose": obedience.Share(0.5, 2), "view": obedience.Share(1.0, 200)}
    assert obedience.mean_share(found, ["pose", "view"]) == 0.75


@pytest.mark.parametrize("sampling", obedience.SAMPLERS[1:4:2] + obedience.SAMPLERS[-1:])
def test_standard_schedulers_draw_stickers_on_white(sampling: obedience.Sampling) -> None:
    pipeline = base.open_base(SHIPPED / "base")
    usual = pipeline.scheduler
    prompt = ["1girl", "solo", "chibi", "red hair", "smile", "upper body", "transparent background", "outline"]
    quick = obedience.Sampling(sampling.scheduler, min(sampling.steps, 8), sampling.guidance)
    made = obedience.draw(pipeline, [prompt] * 2, quick, seed=5)
    assert made.shape == (2, 96, 96, 3)
    assert made.dtype == np.uint8
    assert made[:, [0, 0], [0, -1]].mean() > 225
    assert made[:, 30:70, 30:70].std() > 20  # somebody stands there
    assert pipeline.scheduler is usual
