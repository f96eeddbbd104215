import numpy as np
import pytest

from sticker_pipeline.benchmark.fidelity import asked_tags, found_tags, prompt_fidelity, unknown_tags
from sticker_pipeline.tagging.thresholds import Thresholds, per_frame
from sticker_pipeline.tagging.wd14 import Label, category_columns

NAMES = ["smile", "arms up", "open mouth", "^_^"]


def test_tags_are_read_as_captions_spell_them() -> None:
    assert asked_tags("open mouth, Arms_up,, (smile:1.2) ,smile, ^_^") == ["open mouth", "arms up", "smile", "^_^"]
    assert asked_tags(r"holding \(toy\)") == ["holding (toy)"]
    assert asked_tags(" ") == []


def test_each_image_counts_alike() -> None:
    """1 of 1, 1 of 2, 0 of 2: by tag it would be 2 of 5."""
    found = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [1, 0, 0, 1]], dtype=bool)
    estimate = prompt_fidelity(found, NAMES, ["smile", "smile, arms up", "arms up, open mouth"])
    assert estimate is not None
    assert (estimate.mean, estimate.n) == (pytest.approx(0.5), 3)
    assert 0 <= estimate.ci_low < 0.5 < estimate.ci_high <= 1


def test_tags_that_the_tagger_does_not_know_are_named_and_not_counted() -> None:
    attributes = ["smile, dabbing", "yoga", "smile"]
    found = np.array([[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=bool)
    estimate = prompt_fidelity(found, NAMES, attributes)
    assert estimate is not None
    assert (estimate.mean, estimate.n) == (0.5, 2)
    assert unknown_tags(attributes, NAMES) == ["dabbing", "yoga"]
    assert prompt_fidelity(found, NAMES, ["yoga", "dabbing", ""]) is None


def test_prompts_are_resampled_whole() -> None:
    found = np.zeros((8, 4), dtype=bool)
    found[:4, 0] = True  # the first prompt always, the second never
    estimate = prompt_fidelity(found, NAMES, ["smile"] * 4 + ["smile, smile"] * 4, prompts=["a"] * 4 + ["b"] * 4)
    assert estimate is not None
    assert (estimate.mean, estimate.ci_low, estimate.ci_high) == (0.5, 0, 1)


def test_found_is_at_least_the_threshold_of_the_image_and_category() -> None:
    labels = [
        Label("smile", "general"),
        Label("general", "rating"),
        Label("hero", "character"),
        Label("hat", "general"),
    ]
    columns = category_columns(labels)
    scores = np.array([[0.5, 1.0, 0.79, 0.49], [0.2, 0.0, 0.8, 0.9]], dtype=np.float32)
    limits = per_frame(Thresholds(0.5, 0.8), scores, columns)
    assert found_tags(scores, limits, columns).tolist() == [[True, False, False, False], [False, False, True, True]]


def test_found_must_fit_images_and_tags() -> None:
    with pytest.raises(ValueError, match=r"found is \[2, 3\] for 2 images and 4 tags"):
        prompt_fidelity(np.zeros((2, 3), dtype=bool), NAMES, ["smile", "smile"])
