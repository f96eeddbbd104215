import numpy as np
import pytest

from sticker_pipeline.benchmark.few_steps import Features, few_step_table, side_by_side

PROMPTS = ["smile, waving", "smile, waving", "angry", "angry"]
NAMES = ["smile", "waving", "angry"]
EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def seen(seconds: float, calls: int, embeddings: list[list[float]], found: list[list[int]]) -> Features:
    return Features(seconds, calls, np.array(embeddings, dtype=np.float32), np.array(found, dtype=bool))


def test_figures_of_known_images() -> None:
    many = seen(0.5, 50, [EAST, NORTH, EAST, EAST], [[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]])
    few = seen(0.1, 4, [EAST, EAST, NORTH, EAST], [[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]])
    table = few_step_table({"many": many, "few": few}, "many", PROMPTS, NAMES, samples=200)
    mean = table.set_index(["model", "metric"])["mean"]
    assert mean["many", "likeness"] == 1.0
    assert mean["few", "likeness"] == pytest.approx(0.5)  # 1, 0, 0, 1
    assert mean["many, another seed", "likeness"] == pytest.approx(0.5)  # 0, 0 of the first prompt; 1, 1 of the second
    assert mean["many", "fidelity"] == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert mean["few", "fidelity"] == pytest.approx((1 + 0 + 1 + 0) / 4)
    assert mean["few", "fidelity_change"] == pytest.approx(0.5 - 0.875)
    assert mean["many", "fidelity_change"] == 0.0

    shown = side_by_side(table, "many").set_index("model")
    assert shown.index.tolist() == ["many", "few", "many, another seed"]
    assert shown.loc["few", "speed"] == "5.0×"
    assert shown.loc["few", "seconds"] == "0.1"
    assert shown.loc["few", "unet_calls"] == "4"
    assert str(shown.loc["few", "likeness"]).startswith("0.500 [")
    assert shown.loc["many, another seed", "fidelity"] == ""


def test_without_known_tags_there_is_no_fidelity() -> None:
    one = seen(0.5, 50, [EAST, NORTH, EAST, EAST], [[0], [0], [0], [0]])
    assert set(few_step_table({"many": one}, "many", PROMPTS, ["hat"], samples=100)["metric"]) == {
        "seconds",
        "unet_calls",
        "likeness",
    }
