"""The LoRA beside other models: every shown difference is the paired one."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sticker_pipeline.benchmark.evaluation import Embeddings, EvaluationContext, GeneratedImages
from sticker_pipeline.benchmark.side_by_side import (
    COMPARISONS,
    _best,
    by_character,
    comparisons,
    shown_characters,
    side_by_side,
    side_by_side_table,
    similarity_image,
    verdict,
)
from sticker_pipeline.benchmark.tables import BenchmarkResult, benchmark_table, compare
from sticker_pipeline.core.images import MAX_EMBEDDED_BYTES, embedded_markdown

X, Y, Z = np.eye(3)
TRAINING = Embeddings(np.array([Y, Z]), ["gif", "still"], ["sticker", "sticker"])
REFERENCES = {
    "sticker": Embeddings(np.array([X, 0.6 * X + 0.8 * Y, Y]), ["a", "b", "c"]),
    "art": Embeddings(np.array([X, 0.8 * X + 0.6 * Z]), ["d", "e"]),
}


def measured(**models: dict[str, list[np.ndarray]]) -> BenchmarkResult:
    generated = {
        model: {medium: GeneratedImages(np.array(rows)) for medium, rows in mediums.items()}
        for model, mediums in models.items()
    }
    return benchmark_table(generated, EvaluationContext(REFERENCES, TRAINING), samples=200)


def four_models() -> BenchmarkResult:
    """The rival was drawn in one medium only."""
    return measured(
        zed={"sticker": [X, Y, X]},
        lora={"sticker": [X, X, X], "art": [X, X, Z]},
        base={"sticker": [Y, Z, X], "art": [Z, Y, Z]},
        released={"sticker": [X, X, Y], "art": [X, X, X]},
    )


def test_the_lora_is_compared_with_every_other_model() -> None:
    result = four_models()
    table = comparisons(result)
    assert list(table.columns) == COMPARISONS.names
    assert list(dict.fromkeys(table["other"])) == ["base", "released", "zed"]
    assert set(table["model"]) == {"lora"}
    for other, part in table.groupby("other"):
        own = part.drop(columns=["model", "other"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(own, compare(result, "lora", str(other)))
    assert set(table.loc[table["other"] == "zed", "medium"]) == {"all", "sticker"}
    row = table[(table["other"] == "base") & (table["metric"] == "clip_similarity") & (table["medium"] == "sticker")]
    # to the sources a, b, c: X is (1 + .6 + 0) / 3 like them, Y (0 + .8 + 1) / 3, Z not at all
    assert row["difference"].item() == pytest.approx(1.6 / 3 - (1.8 / 3 + 0 + 1.6 / 3) / 3)
    assert row["n"].item() == 3


@pytest.mark.parametrize("models", [{}, {"base": {"art": [X, Y]}}, {"lora": {"art": [X, Y]}}])
def test_who_is_alone_is_compared_with_nobody(models: dict[str, dict[str, list[np.ndarray]]]) -> None:
    table = comparisons(measured(**models))
    assert table.empty
    pd.testing.assert_series_equal(table.dtypes, comparisons(four_models()).dtypes)


COLUMNS = ["model", "medium", "metric", "mean", "ci_low", "ci_high", "n"]
NAN = float("nan")
TABLE = pd.DataFrame(
    [
        ("zed", "art", "clip_similarity", 0.7, 0.65, 0.75, 8),
        ("released", "art", "clip_similarity", 0.5, 0.4, 0.6, 8),
        ("lora", "art", "clip_similarity", 0.6, 0.5, 0.7, 8),
        ("lora", "art", "copies", 0.9, 0.5, 0.7, 8),
        ("base", "art", "clip_similarity", 0.2, 0.1, 0.3, 8),
        ("reference", "art", "clip_similarity", 0.9, NAN, NAN, 2),
        ("chance", "art", "copies", 0.1, NAN, NAN, 2),
        ("lora", "all", "clip_similarity", 0.6, 0.5, 0.7, 8),
        ("base", "all", "clip_similarity", 0.2, 0.1, 0.3, 8),
    ],
    columns=COLUMNS,
)
COMPARED = pd.DataFrame(
    [
        ("lora", "base", "clip_similarity", "all", 0.4, 0.3, 0.5, 8),
        ("lora", "base", "clip_similarity", "art", 0.4, 0.3, 0.5, 8),
        ("lora", "released", "clip_similarity", "art", 0.1, -0.1, 0.2, 8),
        ("lora", "zed", "clip_similarity", "art", -0.1, -0.2, -0.05, 8),
        ("lora", "zed", "copies", "art", 0.1, 0.05, 0.2, 8),
    ],
    columns=COMPARISONS.names,
)


def test_the_table_says_which_is_better() -> None:
    assert side_by_side_table(TABLE, COMPARED).to_numpy().tolist() == [
        ["all", "base model", "0.200 [0.100, 0.300]", "+0.400 [+0.300, +0.500]", "better"],
        ["all", "new LoRA", "0.600 [0.500, 0.700]", "", ""],
        ["art", "held out", "0.900", "", ""],
        ["art", "base model", "0.200 [0.100, 0.300]", "+0.400 [+0.300, +0.500]", "better"],
        ["art", "new LoRA", "0.600 [0.500, 0.700]", "", ""],
        ["art", "baseline release", "0.500 [0.400, 0.600]", "+0.100 [-0.100, +0.200]", "unclear"],
        ["art", "zed", "0.700 [0.650, 0.750]", "-0.100 [-0.200, -0.050]", "worse"],
    ]
    assert side_by_side_table(TABLE.iloc[:0], COMPARED.iloc[:0]).empty


def test_a_recommended_setting_stands_before_the_rivals_and_is_none() -> None:
    steps = [TABLE[TABLE["model"] == "zed"].assign(model=f"LoRA in at most {n} steps", mean=0.99) for n in (12, 4)]
    table = pd.concat([TABLE, *steps])
    models = side_by_side_table(table, COMPARED).query("medium == 'art'")["model"].tolist()
    assert models == [
        "held out", "base model", "new LoRA", "baseline release", "LoRA in at most 4 steps", "LoRA in at most 12 steps",
        "zed",
    ]  # fmt: skip
    everywhere = table.assign(medium="all", character="moth")
    assert by_character(everywhere)["moth"]["best rival"][0] == 0.7


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(0.1, 0.2, "better"), (-0.2, -0.1, "worse"), (-0.1, 0.1, "unclear"), (0.0, 0.1, "unclear"), (NAN, NAN, "unclear")],
)
def test_a_difference_is_called_by_its_whole_interval(low: float, high: float, says: str) -> None:
    assert verdict(low, high) == says


def test_the_image_has_a_row_for_each_medium_and_frames_the_best_lora() -> None:
    """Columns: held out, base, LoRA, released, zed, which is best in art. Nothing was measured in stickers."""
    models = ("zed", "lora", "reference", "released", "base")
    shown = {("art", model): [Image.new("RGB", (8, 8), "red")] * 4 for model in models}
    one = np.asarray(side_by_side(TABLE, COMPARED, shown)).astype(int)
    red = (one == [255, 0, 0]).all(axis=2)
    per_column = [red[:, 62 + 200 * column : 62 + 200 * (column + 1)].sum() for column in range(5)]
    assert per_column == [4 * 88 * 88] * 5
    frame = (one == [82, 70, 214]).all(axis=2)
    assert frame[:, 62 + 4 * 200 :].sum() > 500 and not frame[:, : 62 + 4 * 200].any()
    stickers = {("sticker", model): images[:2] for (_, model), images in shown.items()}
    both = side_by_side(TABLE, COMPARED, shown | stickers)
    assert both.width == one.shape[1] and both.height > one.shape[0] + 88
    assert (np.asarray(both) == [255, 0, 0]).all(axis=2).sum() == (20 + 10) * 88 * 88


def test_the_best_is_a_lora_and_alone() -> None:
    assert _best({"base": 0.9, "reference": 0.95, "lora": 0.5, "zed": 0.4}) == "lora"
    assert _best({"lora": 0.5, "zed": 0.5}) is None
    assert _best({"base": 0.1, "lora": 0.5}) is None
    assert _best({"lora": 0.5, "LoRA in at most 4 steps": 0.9}) is None  # the same LoRA
    assert _best({"lora": 0.5, "LoRA in at most 4 steps": 0.9, "zed": 0.4}) == "lora"
    assert _best({"lora": NAN, "zed": 0.5, "other": 0.4}) == "zed"


def test_an_image_of_many_models_fits_into_metadata() -> None:
    """Noise, which compresses worst, of ten rivals in two mediums."""
    rng = np.random.default_rng(0)
    images = {
        (medium, model): [Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)) for _ in range(4)]
        for medium in ("art", "sticker")
        for model in ("reference", "base", "lora", *(f"rival_{number}" for number in range(10)))
    }
    assert len(embedded_markdown(side_by_side(TABLE, COMPARED, images), "models")) < MAX_EMBEDDED_BYTES + 100


def test_each_character_is_beside_the_best_of_its_own_rivals() -> None:
    rows = [("moth", "zed", 0.4), ("moth", "lora", 0.5), ("moth", "yan", 0.6), ("moth", "base", 0.1)]
    rows += [("comet", "reference", 0.9), ("comet", "released", 0.7), ("comet", "lora", 0.3)]
    table = pd.DataFrame(rows, columns=["character", "model", "mean"]).assign(
        metric="clip_similarity", medium="all", ci_low=0.0, ci_high=1.0
    )
    others = [table.assign(medium="art", mean=0.99), table.assign(metric="copies", mean=0.99)]
    found = by_character(pd.concat([table, *others]))
    assert {name: {who: values[0] for who, values in own.items()} for name, own in found.items()} == {
        "comet": {"new LoRA": 0.3, "baseline release": 0.7},
        "moth": {"base model": 0.1, "new LoRA": 0.5, "best rival": 0.6},
    }
    assert [*found] == ["comet", "moth"] and found["moth"]["best rival"] == (0.6, 0.0, 1.0)


def similarities(count: int) -> dict[str, dict[str, tuple[float, float, float]]]:
    """c000 has the lowest new LoRA; each tenth character has none."""
    found = {f"c{number:03}": {"base model": (0.1, 0.0, 0.2)} for number in range(count)}
    for number, own in enumerate(found.values()):
        if number % 10 != 9:
            own["new LoRA"] = (number / count, number / count - 0.05, number / count + 0.05)
    return found


def test_of_many_characters_the_best_and_the_worst_are_shown() -> None:
    assert shown_characters(similarities(40)) == [*similarities(40)]
    shown = shown_characters(similarities(200))
    best = [f"c{number:03}" for number in range(199, 0, -1) if number % 10 != 9][:20]
    worst = [f"c{number:03}" for number in range(30) if number % 10 != 9][:20]
    assert shown == [*best, *worst[::-1]]
    few = {name: own for name, own in similarities(50).items() if name < "c003"} | {
        f"d{number}": {"base model": (0.1, 0.0, 0.2)} for number in range(60)
    }
    assert shown_characters(few) == ["c002", "c001", "c000"], "nobody twice"
    assert shown_characters({}) == []


def test_the_image_of_many_characters_is_no_larger_than_that_of_a_few() -> None:
    sizes = {count: similarity_image(similarities(count)).size for count in (45, 1_000)}
    assert sizes[45] == sizes[1_000]
    assert len(embedded_markdown(similarity_image(similarities(1_000)), "all")) < MAX_EMBEDDED_BYTES + 100
    assert similarity_image({}).mode == "RGB"
