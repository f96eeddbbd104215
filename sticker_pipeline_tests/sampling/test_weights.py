"""Probabilities against exact rational arithmetic."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.sampling.weights import (
    FRAME_WEIGHTS,
    MODES,
    SamplingError,
    effective_images,
    frame_weights,
    group_shares,
    source_shares,
    source_similarity,
)

CLIPS = {
    ("gifs", "gifs/a.gif"): 40,
    ("gifs", "gifs/b.gif"): 3,
    ("stickers", "stickers/c.png"): 1,
    ("art", "art/d.png"): 1,
}
SHARES = {"gifs": 1.0, "stickers": 1.0, "art": 0.5}


def frames_of(sources: dict[tuple[str, str], int], dropped: int = 0) -> pd.DataFrame:
    """A frames table with the columns that sampling reads; `dropped` frames more in each source are not kept."""
    rows = [
        (f"{source}#{index}", group, source, f"{index:016x}", index < count)
        for (group, source), count in sources.items()
        for index in range(count + dropped)
    ]
    return pd.DataFrame(rows, columns=["frame_id", "group", "source_id", "phash", "kept"])


def exact(sources, shares, mode, similarity) -> dict[str, Fraction]:
    """p of each frame by the formula of the design, in rational numbers."""
    weight = {}
    for (_, source), count in sources.items():
        kish = Fraction(count) / (1 + (count - 1) * Fraction(similarity[source]))
        weight[source] = {"inverse_length": Fraction(1), "uniform": Fraction(count), "effective_size": kish}[mode]
    group_weight: dict[str, Fraction] = {}
    for group, source in sources:
        group_weight[group] = group_weight.get(group, Fraction(0)) + weight[source]
    total = sum(Fraction(shares[group]) * w for group, w in group_weight.items())
    result = {}
    for (group, source), count in sources.items():
        pi = Fraction(shares[group]) * group_weight[group] / total
        for index in range(count):
            result[f"{source}#{index}"] = pi * (weight[source] / group_weight[group]) / count
    assert sum(result.values()) == 1
    return result


@pytest.mark.parametrize("mode", MODES)
def test_equals_exact_arithmetic(mode):
    similarity = {"gifs/a.gif": 0.9, "gifs/b.gif": 0.25, "stickers/c.png": 1.0, "art/d.png": 1.0}
    table = frame_weights(frames_of(CLIPS, dropped=2), SHARES, mode, 200, similarity)
    expected = exact(CLIPS, SHARES, mode, similarity)
    assert list(table.columns) == FRAME_WEIGHTS.names
    assert table["frame_id"].tolist() == list(expected)
    for row in table.itertuples():
        assert abs(Fraction(row.probability) - expected[row.frame_id]) < Fraction(1, 10**15)
        assert abs(Fraction(row.samples_per_epoch) - 200 * expected[row.frame_id]) < Fraction(1, 10**12)
    assert abs(sum(map(Fraction, table["probability"])) - 1) < Fraction(1, 10**12)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30), st.floats(0, 1)), min_size=1, max_size=8),
    shares=st.tuples(*[st.floats(0.01, 100)] * 3),
    mode=st.sampled_from(MODES),
)
def test_equals_exact_arithmetic_for_any_character(lengths, shares, mode):
    sources = {(group, f"{group}/{number}"): count for number, (group, count, _) in enumerate(lengths)}
    similarity = {f"{group}/{number}": rho for number, (group, _, rho) in enumerate(lengths)}
    by_group = dict(zip("abc", shares, strict=True))
    table = frame_weights(frames_of(sources), by_group, mode, None, similarity)
    expected = exact(sources, by_group, mode, similarity)
    assert all(abs(Fraction(row.probability) - expected[row.frame_id]) < 1e-12 for row in table.itertuples())
    assert abs(sum(map(Fraction, table["probability"])) - 1) < 1e-12


def test_a_source_counts_as_much_as_a_still():
    shares = source_shares(frame_weights(frames_of(CLIPS), dict.fromkeys(SHARES, 1.0), "inverse_length", None))
    assert shares["share"].to_numpy() == pytest.approx([0.25] * 4, abs=1e-15)
    assert shares["frames"].tolist() == [1, 40, 3, 1]
    assert shares["samples_per_epoch"].to_numpy() == pytest.approx([10.0] * 4)


def test_a_share_scales_how_much_each_source_of_its_group_counts():
    table = frame_weights(frames_of(CLIPS), SHARES, "inverse_length", None)
    groups = group_shares(table).set_index("group")
    # 2 sources at 1, 1 source at 1, 1 source at 0.5
    assert groups["share"].to_dict() == pytest.approx({"gifs": 2 / 3.5, "stickers": 1 / 3.5, "art": 0.5 / 3.5})
    assert groups["sources"].to_dict() == {"gifs": 2, "stickers": 1, "art": 1}
    assert groups["frames"].to_dict() == {"gifs": 43, "stickers": 1, "art": 1}


def test_effective_size_lies_between_its_two_extremes():
    same, unlike = ({source: rho for _, source in CLIPS} for rho in (1.0, 0.0))
    frames = frames_of(CLIPS)
    for similarity, mode in ((same, "inverse_length"), (unlike, "uniform")):
        effective = frame_weights(frames, SHARES, "effective_size", None, similarity)
        pd.testing.assert_frame_equal(effective, frame_weights(frames, SHARES, mode, None))


def test_similarity_is_the_mean_over_all_pairs():
    hashes = ["0000000000000000", "00000000000000ff", "000000000000ffff", "0000000000000fff"]
    frames = pd.DataFrame({"source_id": "a", "phash": hashes, "kept": True})
    pairs = [1 - (int(one, 16) ^ int(other, 16)).bit_count() / 32 for one, other in combinations(hashes, 2)]
    assert source_similarity(frames) == {"a": pytest.approx(sum(pairs) / len(pairs), abs=1e-15)}


def test_similarity_stays_in_0_to_1_and_a_still_has_1():
    frames = pd.DataFrame(
        {
            "source_id": ["a", "a", "b", "c"],
            "phash": ["0" * 16, "f" * 16, "1" * 16, "2" * 16],
            "kept": [True] * 3 + [False],
        }
    )
    assert source_similarity(frames) == {"a": 0.0, "b": 1.0}


def test_effective_size_finds_the_similarity_itself():
    frames = frames_of({("gifs", "a"): 8, ("gifs", "b"): 1})
    given_similarity = frame_weights(frames, SHARES, "effective_size", None, source_similarity(frames))
    pd.testing.assert_frame_equal(frame_weights(frames, SHARES, "effective_size", None), given_similarity)


def test_effective_images():
    assert effective_images(np.full(8, 1 / 8)) == pytest.approx(8)
    assert effective_images(np.array([1.0, 0.0])) == 1
    assert effective_images(np.array([0.5, 0.25, 0.25])) == pytest.approx(1 / 0.375)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": {"gifs": 1.0}}, "group 'art' has frames but no share"),
        ({"shares": SHARES | {"art": 0.0}}, "share of group 'art' is 0"),
        ({"shares": SHARES | {"art": float("inf")}}, "share of group 'art' is inf"),
        ({"mode": "uniformly"}, "'uniformly' does not exist: use one of inverse_length"),
        ({"samples_per_epoch": 0}, "samples_per_epoch is 0"),
        ({"frames": frames_of({("gifs", "a"): 0}, dropped=3)}, "no frame is kept"),
        ({"mode": "effective_size", "similarity": {"gifs/a.gif": 0.5}}, "gifs/b.gif: its similarity is None"),
        ({"mode": "effective_size", "similarity": {source: 1.5 for _, source in CLIPS}}, "similarity is 1.5"),
    ],
)
def test_refused(changes, message):
    arguments = {"frames": frames_of(CLIPS), "shares": SHARES, "mode": "inverse_length", "samples_per_epoch": None}
    with pytest.raises(SamplingError, match=message):
        frame_weights(**(arguments | changes))
