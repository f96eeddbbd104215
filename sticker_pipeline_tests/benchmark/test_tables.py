from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.benchmark.evaluation import Embeddings, EvaluationContext, GeneratedImages, Requests
from sticker_pipeline.benchmark.metrics import METRICS
from sticker_pipeline.benchmark.tables import (
    BENCHMARK,
    COMPARED,
    LEADERBOARD,
    BenchmarkResult,
    benchmark_table,
    compare,
    leaderboard,
    leaderboard_markdown,
    leaderboard_text,
)
from sticker_pipeline_tests.benchmark.measured import full

X, Y, Z = np.eye(3)


TRAINING = Embeddings(np.array([Y, Z]), ["gif", "still"], ["sticker", "sticker"])


def drawn(**mediums: list[np.ndarray]) -> dict[str, GeneratedImages]:
    return {medium: GeneratedImages(np.array(rows)) for medium, rows in mediums.items()}


def result() -> BenchmarkResult:
    generated = {
        "lora": drawn(sticker=[X, X, X], art=[Y, Y, Y]),
        "rival": drawn(sticker=[X, Y, Z], art=[X, Y, Z]),
        "base": drawn(sticker=[Y, Y, X], art=[X, Y, Z]),
    }
    references = {"sticker": Embeddings(np.array([X, X, 0.6 * X + 0.8 * Y, Y]), ["a", "a", "b", "c"])}
    return benchmark_table(generated, EvaluationContext(references, TRAINING), samples=200)


def value(table: pd.DataFrame, model: str, metric: str, medium: str = "sticker") -> pd.Series:
    rows = table[(table["model"] == model) & (table["metric"] == metric) & (table["medium"] == medium)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_rows_are_sorted_and_columns_are_the_contract() -> None:
    table = result().table
    assert list(table.columns) == BENCHMARK.names
    of_a_model = [
        "clip_similarity", "clip_similarity_gain", "diversity", "nearest_training", "nearest_training_excess",
        "copies", "one_source_share", "centroid_similarity",
    ]  # fmt: skip
    expected = {
        "base": [metric for metric in of_a_model if metric != "clip_similarity_gain"],
        "lora": of_a_model,
        "rival": of_a_model,
        "reference": ["clip_similarity", "diversity", "nearest_training", "copies", "centroid_similarity"],
        "chance": ["copies", "one_source_share"],
    }
    known = table[table["metric"].isin(list(METRICS)[:12])]  # later ones come behind
    assert list(zip(known["model"], known["medium"], known["metric"], strict=True)) == [
        (model, medium, metric)
        for model, metrics in expected.items()
        for medium in ("all", "sticker")
        for metric in metrics
    ]
    assert [table[name].dtype.kind for name in ("mean", "ci_low", "ci_high", "n")] == ["f", "f", "f", "i"]


def test_recommended_settings_stand_behind_the_lora_by_their_steps() -> None:
    names = ["zed", "LoRA in at most 10 steps", "base", "LoRA in at most 4 steps", "lora", "LoRA in at most 1 step"]
    context = EvaluationContext({"art": Embeddings(np.array([X, Y]), ["a", "b"])}, TRAINING)
    table = benchmark_table({name: drawn(art=[X, Y]) for name in names}, context, samples=100).table
    steps = ["LoRA in at most 1 step", "LoRA in at most 4 steps", "LoRA in at most 10 steps"]
    assert table["model"].unique().tolist() == ["base", "lora", *steps, "zed", "reference", "chance"]
    lines = leaderboard_markdown(leaderboard({"kai": table})).split("\n\n")[0].splitlines()[2:]
    assert [line.split(" | ")[2] for line in lines] == 2 * ["lora", *steps, "zed"]


def test_values_by_hand() -> None:
    table = result().table
    sources_to_x, sources_to_y = (1 + 0.6 + 0) / 3, (0 + 0.8 + 1) / 3
    lora, base = value(table, "lora", "clip_similarity"), value(table, "base", "clip_similarity")
    assert lora["mean"] == pytest.approx(sources_to_x)
    assert base["mean"] == pytest.approx((2 * sources_to_y + sources_to_x) / 3)
    assert value(table, "lora", "clip_similarity_gain")["mean"] == pytest.approx(lora["mean"] - base["mean"])
    assert value(table, "lora", "diversity")["mean"] == pytest.approx(0)
    assert value(table, "base", "nearest_training")["mean"] == pytest.approx(2 / 3)
    assert lora["n"] == base["n"] == 3
    ceiling = value(table, "reference", "clip_similarity")
    assert (ceiling["mean"], ceiling["n"]) == (pytest.approx((0.6 + 0 + 0.8) / 3), 3)  # three sources of four images
    assert value(table, "reference", "nearest_training")["n"] == 4
    # of the three images one is at the source of Y or Z each, X at both alike: the first of them, which is Y's
    assert value(table, "rival", "one_source_share")["mean"] == pytest.approx(2 / 3)
    assert value(table, "chance", "one_source_share")["n"] == 2


def test_everything_that_is_given_is_measured_in_both_mediums() -> None:
    outcome = full()
    table = outcome.table
    # nova has no art: there it is known by its stickers, Y, and so is as near to the art image Y as nobody else is
    assert [value(table, "lora", "identity", medium)["mean"] for medium in ("sticker", "art")] == [1, 0.5]
    assert [value(table, "base", "identity", medium)["mean"] for medium in ("sticker", "art")] == [0, 0]
    chance = value(table, "chance", "identity")
    assert (chance["mean"], chance["n"]) == (pytest.approx(1 / 3), 3)
    # of stickers nova's Y and zed's Z count alike; of art there is only zed's Z
    assert value(table, "base", "style_similarity")["mean"] == pytest.approx(0.5)
    assert value(table, "base", "style_similarity", "art")["mean"] == pytest.approx(0.5)
    assert value(table, "lora", "style_similarity", "art")["mean"] == pytest.approx(0.5)
    assert value(table, "lora", "prompt_fidelity")["mean"] == 1
    assert value(table, "lora", "prompt_fidelity", "art")["mean"] == 0.5
    assert value(table, "lora", "trigger_effect")["mean"] == pytest.approx(0.5)
    assert value(table, "base", "trigger_effect")["mean"] == 0
    assert value(table, "reference", "identity")["mean"] == 1
    assert any("'sticker': prompt_fidelity does not count" in line and "dabbing" in line for line in outcome.left_out)


def test_overall_is_the_plain_mean_over_mediums() -> None:
    table = full().table
    for model, metric in table.loc[table["medium"] == "all", ["model", "metric"]].itertuples(index=False):
        mediums = table[(table["model"] == model) & (table["metric"] == metric) & (table["medium"] != "all")]
        row = value(table, model, metric, "all")
        assert row["mean"] == pytest.approx(mediums["mean"].mean()) and row["n"] == mediums["n"].sum()
    assert set(table["medium"]) == {"all", "art", "sticker"}


def test_a_character_without_others_has_no_retrieval_and_that_is_said() -> None:
    context = EvaluationContext({"art": Embeddings(np.array([X, Y]), ["a", "b"])}, TRAINING, others={})
    outcome = benchmark_table({"base": drawn(art=[X, Y])}, context, samples=50)
    assert "identity" not in set(outcome.table["metric"])
    assert any("identity: there is no other character" in line for line in outcome.left_out)
    assert value(outcome.table, "base", "style_similarity", "art")["mean"] == pytest.approx(0.5)


def test_compare_is_paired_and_in_the_columns_of_the_contract() -> None:
    outcome = full()
    table = compare(outcome, "lora", "base")
    assert list(table.columns) == COMPARED.names
    assert list(table["medium"].iloc[:3]) == ["all", "art", "sticker"]
    assert set(table["metric"]) == METRICS.keys() - {"clip_similarity_gain"}
    assert len(table) == 3 * (len(METRICS) - 1)
    for row in table.itertuples():
        means = [value(outcome.table, model, row.metric, row.medium)["mean"] for model in ("lora", "base")]
        assert row.difference == pytest.approx(means[0] - means[1])
    gain = value(outcome.table, "lora", "clip_similarity_gain", "all")
    own = table[(table["metric"] == "clip_similarity") & (table["medium"] == "all")].iloc[0]
    assert (own["difference"], own["ci_low"], own["ci_high"]) == pytest.approx(
        tuple(gain[["mean", "ci_low", "ci_high"]])
    )
    back = compare(outcome, "base", "lora")
    np.testing.assert_allclose(back["ci_low"], -table["ci_high"], atol=1e-12)
    same = compare(outcome, "lora", "lora")
    assert (same["difference"] == 0).all()
    assert (same[["ci_low", "ci_high"]].dropna() == 0).all(axis=None)
    # of two images there is one pair: nothing to resample
    assert set(same.loc[same["ci_low"].isna(), "metric"]) == {"diversity"}


def test_planted_bad_models_are_each_found_out_by_their_metric() -> None:
    """The good model generates the character anew; each bad one has one known fault.

    Noise shows no character, a copier repeats training images, a collapsed one repeats frames of one GIF. The last two
    are more like the references than the good one: similarity alone would choose them.
    """
    rng, character, somebody = np.random.default_rng(0), np.eye(32)[0], np.eye(32)[1]

    def around(centre: np.ndarray, n: int, spread: float) -> np.ndarray:
        vectors = centre + spread * rng.normal(size=(n, 32))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    good, stills = around(character, 32, 0.14), around(character, 24, 0.12)
    gif = around(around(character, 1, 0.08)[0], 12, 0.01)
    training = np.concatenate([stills, gif])
    sources = [str(row) for row in range(24)] + ["gif"] * 12
    noise = around(np.zeros(32), 32, 1.0)
    models = {
        "good": good,
        "noise": noise,
        "copier": training[rng.integers(24, size=32)],
        "gif": gif[rng.integers(12, size=32)],
    }
    context = EvaluationContext(
        references={"art": Embeddings(around(character, 24, 0.12), [str(row) for row in range(24)])},
        training=Embeddings(training, sources, ["art"] * 36),
        others={"else": {"art": Embeddings(around(somebody, 12, 0.12), [str(row) for row in range(12)])}},
        requests={"art": Requests(["smile"] * 32, [str(row // 4) for row in range(32)])},
    )
    outcome = benchmark_table({name: {"art": GeneratedImages(rows)} for name, rows in models.items()}, context)

    def against_good(model: str, metric: str) -> tuple[float, float]:
        rows = compare(outcome, model, "good")
        row = rows[(rows["metric"] == metric) & (rows["medium"] == "all")].iloc[0]
        return row["ci_low"], row["ci_high"]

    assert against_good("noise", "clip_similarity")[1] < 0 and against_good("noise", "identity")[1] < 0
    assert against_good("noise", "nearest_training_excess")[1] < 0  # noise copies nothing
    for model in ("copier", "gif"):
        assert against_good(model, "clip_similarity")[0] > 0
        assert against_good(model, "copies")[0] > 0 and against_good(model, "nearest_training_excess")[0] > 0
    assert against_good("gif", "one_source_share")[0] > 0 and against_good("gif", "diversity")[1] < 0
    assert against_good("copier", "one_source_share")[0] < 0.1


def test_compare_names_a_model_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no metrics of 'released'; there are of base, chance, lora, reference, rival"):
        compare(result(), "lora", "released")


def test_a_medium_without_holdout_images_is_left_out_and_said() -> None:
    outcome = result()
    assert set(outcome.table["medium"]) == {"all", "sticker"}
    assert len(outcome.left_out) == 2
    assert "'art' has no row" in outcome.left_out[0]
    assert "'sticker': only 3 sources" in outcome.left_out[1]


def test_one_holdout_source_gives_model_rows_but_no_ceiling() -> None:
    context = EvaluationContext({"art": Embeddings(np.array([X, X]), ["a", "a"])}, TRAINING)
    outcome = benchmark_table({"base": drawn(art=[X, Y])}, context, samples=100)
    reference = outcome.table[(outcome.table["model"] == "reference") & (outcome.table["medium"] == "art")]
    assert list(reference["metric"])[:2] == ["nearest_training", "copies"]
    assert "only one source is held out" in outcome.left_out[0]


def test_enough_holdout_sources_need_no_remark() -> None:
    context = EvaluationContext({"art": Embeddings(np.array([X, Y, Z, X, Y]), list("abcde"))}, TRAINING)
    assert benchmark_table({"base": drawn(art=[X, Y])}, context, samples=100).left_out == []


def test_no_references_at_all_give_an_empty_table_of_the_same_shape() -> None:
    outcome = benchmark_table({"base": drawn(art=[X])}, EvaluationContext({}, TRAINING))
    assert list(outcome.table.columns) == BENCHMARK.names and outcome.table.empty
    assert leaderboard({"a": outcome.table}).empty


def test_the_table_is_the_same_whatever_the_order_of_models(tmp_path: Path) -> None:
    generated = {name: drawn(art=[X, Y, Z]) for name in ("lora", "base")}
    context = EvaluationContext({"art": Embeddings(np.array([X, Y]), ["a", "b"])}, TRAINING)
    tables = [
        benchmark_table(dict(order), context, samples=100).table
        for order in (generated.items(), reversed(generated.items()))
    ]
    pd.testing.assert_frame_equal(*tables)
    tables[0].to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), tables[0])


def test_leaderboard_puts_characters_in_order() -> None:
    table = leaderboard({"b": result().table, "a": result().table})
    assert list(table.columns) == LEADERBOARD.names
    assert list(dict.fromkeys(table["character"])) == ["a", "b"]
    assert len(table) == 2 * len(result().table)
    assert list(leaderboard({}).columns) == LEADERBOARD.names


def test_leaderboard_as_text_and_markdown() -> None:
    rows = [
        ("base", "clip_similarity", 0.3, 0.25, 0.35, 24),
        ("lora", "clip_similarity", 0.5, 0.45, 0.55, 24),
        ("lora", "clip_similarity_gain", 0.2, 0.15, 0.25, 24),
        ("reference", "clip_similarity", 0.9, float("nan"), float("nan"), 2),
    ]
    table = pd.DataFrame(
        [("kai", model, "art", metric, *numbers) for model, metric, *numbers in rows], columns=LEADERBOARD.names
    )
    assert leaderboard_text(table).splitlines() == [
        "character  medium  model  similarity            base model            gain                     references  n",
        "---------  ------  -----  --------------------  --------------------  -----------------------  ----------  --",
        "kai        art     lora   0.500 [0.450, 0.550]  0.300 [0.250, 0.350]  +0.200 [+0.150, +0.250]  0.900       24",
    ]
    assert leaderboard_markdown(table).splitlines()[2] == (
        "| kai | art | lora | 0.500 [0.450, 0.550] | 0.300 [0.250, 0.350] | +0.200 [+0.150, +0.250] | 0.900 | 24 |"
    )


def test_the_leaderboard_ends_with_the_mean_of_each_metric_over_the_characters() -> None:
    """Of all mediums; what only an older version measured comes last, and what the LoRA lacks has no line."""
    nan = float("nan")
    rows = [
        ("kai", "base", "all", "copies", 0.25),
        ("kai", "lora", "all", "copies", 0.5),
        ("kai", "lora", "all", "older_metric", 0.75),
        ("kai", "lora", "all", "clip_similarity", 0.5),
        ("kai", "lora", "art", "clip_similarity", 0.9),
        ("mia", "lora", "all", "clip_similarity", 0.25),
        ("mia", "lora", "all", "copies", nan),
        ("mia", "reference", "all", "clip_similarity", 0.75),
        ("mia", "reference", "all", "diversity", 0.75),
    ]
    table = pd.DataFrame(
        [(who, model, medium, metric, mean, nan, nan, 4) for who, model, medium, metric, mean in rows],
        columns=["character", *BENCHMARK.names],
    )
    assert leaderboard_text(table).split("\n\n")[1].splitlines() == [
        "Means over the characters, of all mediums:",
        "metric        better  LoRA   base model  references  characters",
        "------------  ------  -----  ----------  ----------  ----------",
        "similarity    higher  0.375  –           0.750       2",
        "copies        lower   50%    25%         –           1",
        "older metric  –       0.750  –           –           1",
    ]
    assert leaderboard_markdown(table).endswith(
        "| --- | --- | --- | --- | --- | --- |\n"
        "| similarity | higher | 0.375 | – | 0.750 | 2 |\n"
        "| copies | lower | 50% | 25% | – | 1 |\n"
        "| older metric | – | 0.750 | – | – | 1 |"
    )
