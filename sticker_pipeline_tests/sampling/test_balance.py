import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.sampling.balance import balanced, different_enough, enough_images
from sticker_pipeline.sampling.weights import frame_weights


def trained(sources: int, frames_each: int = 1) -> pd.DataFrame:
    return pd.DataFrame(
        [(f"f{source}-{frame}", "gifs", f"c{source}") for source in range(sources) for frame in range(frames_each)],
        columns=["frame_id", "group", "source_id"],
    )


@pytest.mark.parametrize(
    ("sources", "passed", "pointless"), [(0, False, True), (2, False, True), (3, False, False), (10, True, False)]
)
def test_sources_count_not_frames(sources: int, passed: bool, pointless: bool) -> None:
    verdict = enough_images(trained(sources, frames_each=20))
    assert (verdict.passed, verdict.pointless) == (passed, pointless)
    assert verdict.summary.startswith(f"{sources} sources")
    assert verdict.evidence["frames"].sum() == 20 * sources


def hashed(values: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {"frame_id": [f"f{n}" for n in range(len(values))], "source_id": [f"c{n}" for n in range(len(values))]}
    ).assign(phash=[f"{value:016x}" for value in values], kept=True)


def test_variants_of_one_drawing_are_told_from_different_images() -> None:
    rng = np.random.default_rng(0)
    unrelated = [int(value) for value in rng.integers(0, 2**63, 12)]
    assert different_enough(hashed(unrelated)).passed
    variants = [unrelated[0] ^ (1 << int(bit)) for bit in rng.integers(0, 63, 12)]
    verdict = different_enough(hashed(variants))
    assert not verdict.passed
    assert "1.1 unrelated images" in verdict.summary
    assert verdict.evidence["differing_bits"].max() <= 2
    assert not verdict.pointless


def test_kishs_number_by_hand() -> None:
    """Two pairs of equal images that differ from each other in 32 bits.

    Likeness 1 for 2 of 6 pairs, so n_eff is 4 / (1 + 3·⅓) = 2.
    """
    assert "2.0 unrelated" in different_enough(hashed([0, 0, 0xFFFFFFFF, 0xFFFFFFFF])).summary


def test_frames_of_a_source_are_one_image_and_few_sources_are_somebody_elses_business() -> None:
    frames = hashed([0, 2**40 - 1, 7]).assign(source_id=["a", "a", "b"])
    assert different_enough(frames).passed
    assert different_enough(frames[:0]).passed


def weights(groups: dict[str, list[int]], **shares: float) -> pd.DataFrame:
    """`groups`: the lengths of each group's sources."""
    rows = [
        (f"{group}{source}-{frame}", group, f"{group}{source}", True)
        for group, lengths in groups.items()
        for source, length in enumerate(lengths)
        for frame in range(length)
    ]
    frames = pd.DataFrame(rows, columns=["frame_id", "group", "source_id", "kept"])
    return frame_weights(frames, {**dict.fromkeys(groups, 1.0), **shares}, "inverse_length", None)


def test_a_long_source_is_no_imbalance_but_a_forgotten_group_and_a_heavy_source_are() -> None:
    assert balanced(weights({"gifs": [300], "stickers": [1] * 9})).passed
    verdict = balanced(weights({"art": [1], "stickers": [1] * 11}))
    assert not verdict.passed
    assert "group stickers is sampled 11 times as often as art" in verdict.summary
    assert verdict.evidence["share"].tolist() == pytest.approx([1 / 12, 11 / 12])
    heavy = balanced(weights({"art": [1], "stickers": [1] * 9}, art=4.0))
    assert "art0 alone is 31% of the samples" in heavy.summary
