"""Evaluation of the arms of a LoRA composition. Their generation is tested with the assets."""

from pathlib import Path

import numpy as np
import pytest

from sticker_pipeline_tests.experiments import composition_page, lora_composition
from sticker_pipeline_tests.experiments.composition_page import Found, cell, in_words, interval, read_readings
from sticker_pipeline_tests.experiments.lora_composition import NOISES, PROMPTS, SEEDS, Arm, mixed

SHAPE = (len(SEEDS), PROMPTS, NOISES)


def keep(work: Path, arm: Arm, **values: np.ndarray) -> None:
    """`values` [seeds, prompts, noises, …] as the arm's."""
    for seed in SEEDS:
        folder = lora_composition.seed_folder(work, seed) / "arms"
        folder.mkdir(parents=True, exist_ok=True)
        flat = {name: value[seed].reshape(PROMPTS * NOISES, *value.shape[3:]) for name, value in values.items()}
        np.savez(folder / f"{arm.name}.npz", **flat)  # type: ignore[arg-type]


def test_no_arm_is_drawn_twice_and_each_has_a_file_of_its_own() -> None:
    assert (
        len({arm.name for arm in lora_composition.ARMS})
        == len(set(lora_composition.ARMS))
        == len(lora_composition.ARMS)
    )


def test_an_interval_has_both_prompts_and_seeds_in_it() -> None:
    assert interval(np.full(SHAPE, 0.5)) == (0.5, 0.5, 0.5)
    by_seed = np.broadcast_to(np.array([0.0, 1.0, 2.0])[:, None, None], SHAPE)
    mean, low, high = interval(by_seed)
    assert (mean, low, high) == (1.0, 0.0, 2.0)  # one of 27 draws has the same seed three times, more than 2.5 %
    by_prompt = np.broadcast_to(np.arange(PROMPTS, dtype=float)[None, :, None], SHAPE)
    mean, low, high = interval(by_prompt)
    assert mean == pytest.approx(2.5) and 0.9 < low < 1.6 and 3.4 < high < 4.1
    by_noise = np.broadcast_to(np.arange(NOISES, dtype=float), SHAPE)
    assert interval(by_noise) == (1.5, 1.5, 1.5)


def test_consistency_is_to_the_images_of_other_prompts(tmp_path: Path) -> None:
    embeddings = np.zeros((*SHAPE, 2))
    embeddings[..., 0] = 1
    embeddings[:, 0] = [0, 1]  # the images of the first prompt are alike, and unlike all others
    keep(tmp_path, Arm(), embeddings=embeddings)
    consistency = Found(tmp_path).consistency(Arm())
    assert np.all(consistency[:, 0] == 0)
    np.testing.assert_allclose(consistency[:, 1:], (PROMPTS - 2) / (PROMPTS - 1))


def test_shift_and_veil_are_held_against_the_same_image(tmp_path: Path) -> None:
    before, after = Arm(1.0), mixed(1.0, 4)
    keep(tmp_path, before, contrast=np.full(SHAPE, 0.2), haze=np.full(SHAPE, 0.2))
    keep(tmp_path, after, contrast=np.full(SHAPE, 0.15), haze=np.full(SHAPE, 0.6))
    found = Found(tmp_path)
    np.testing.assert_allclose(found.shift(after, before, "contrast"), -0.25)
    np.testing.assert_allclose(found.veil(after, before), 0.5)
    assert cell(found.shift(after, before, "contrast"), signed=True) == "-0.250 [-0.250, -0.250]"


def test_an_arm_in_words() -> None:
    assert in_words(Arm()) == "base model"
    assert in_words(Arm(1.0, 0.5)) == "character 1 + style 0.5"
    assert in_words(mixed(0.25, 4, own=True, guidance=2.0)) == "character 1 + its own LCM 0.25, 4 steps, CFG 2"


def test_the_page_has_a_reading_for_each_statement() -> None:
    opening, readings = read_readings(composition_page.READINGS.read_text(encoding="utf-8"))
    assert opening.startswith("# ") and "MACHINE" in opening
    assert list(readings) == list(composition_page.STATEMENTS)
    assert all(text.strip() for text in readings.values())
