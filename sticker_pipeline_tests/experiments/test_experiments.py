"""Parts of the experiments: training sets, metrics, tables; and one very short trial from end to end."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sticker_pipeline.embedded.scene import identity_tags
from sticker_pipeline_tests.experiments import __main__ as command
from sticker_pipeline_tests.experiments import page, questions, studio, trials


def test_invented_characters_differ() -> None:
    assert len({tuple(identity_tags(studio.invented(number))) for number in range(12)}) > 10


def test_curated_captions_leave_out_who_is_drawn() -> None:
    scene = studio.scenes(studio.invented(1), 1, seed=2)[0]
    words = studio.curated("skv_x")(scene).split(", ")
    assert words[:2] == ["skv_x", scene.identity.gender]
    assert scene.pose in words or scene.view == "portrait"
    assert scene.identity.hair_colour not in words
    assert scene.identity.outfit not in words


def test_a_gif_weighs_as_one_still_by_inverse_length(tmp_path: Path) -> None:
    caption = studio.curated("skv_x")
    stills = studio.images(questions.stickers(0, 3), caption)
    frames = [studio.InlineImage(scene, caption(scene), "gif") for scene in questions.gif(0)[:7]]
    studio.write_training_set(tmp_path / "inverse", [*stills, *frames], "inverse_length")
    studio.write_training_set(tmp_path / "each", [*stills, *frames], "uniform")
    inverse = pd.read_parquet(tmp_path / "inverse" / "index.parquet")
    each = pd.read_parquet(tmp_path / "each" / "index.parquet")
    np.testing.assert_allclose(inverse["probability"], [1 / 4] * 3 + [1 / 28] * 7)
    np.testing.assert_allclose(each["probability"], [1 / 10] * 10)
    image = np.asarray(Image.open(tmp_path / "each" / "000.png"))
    np.testing.assert_array_equal(image, np.asarray(studio.pixels(stills[0].scene)))


def test_found_is_the_share_of_tags_seen() -> None:
    scenes = studio.scenes(studio.invented(2), 8, seed=4)
    images = [studio.pixels(scene) for scene in scenes]
    assert studio.found(images, [[scene.view] for scene in scenes]) > 0.8
    assert studio.found(images, [["ocean"]] * 8) == 0.0
    assert np.isnan(studio.found(images, [[]] * 8))


def test_a_table_has_mean_and_range() -> None:
    question = questions.Question("t", "s", {}, {"x": "what x is"})
    arms = {("one", ", early"): [questions.Outcome({"x": value}, []) for value in (0.1, 0.2, 0.6)]}
    assert "| one, early | 0.30 [0.10, 0.60] |" in page.table(question, arms)


def test_readings_are_split_by_letter() -> None:
    assert page.read_readings("# Readings\n\n## a\n\nOne.\n\n## b\n\nTwo.\n") == {"a": "One.\n", "b": "Two.\n"}


def test_the_shipped_page_has_a_reading_of_every_question() -> None:
    readings = page.read_readings(page.READINGS.read_text())
    assert list(readings) == list(questions.QUESTIONS)
    shipped = (command.HOME / "docs" / "results" / "experiments.md").read_text()
    assert all(reading.strip() in shipped for reading in readings.values())


def test_spawned_processes_find_what_they_run() -> None:
    assert command.run_trial.__module__ == trials.__name__  # a function of `__main__` would not be found


def test_a_trial_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studio, "DRAWS", 16)
    monkeypatch.setattr(studio, "SEEDS_PER_PROMPT", 1)
    monkeypatch.setattr(studio, "ATTRIBUTES", studio.ATTRIBUTES[:2])
    monkeypatch.setattr(trials, "SEEDS", (0,))
    question = questions.QUESTIONS["f"]
    short = {name: question.trials[name] for name in ("constant", "4 restarts")}
    monkeypatch.setitem(questions.QUESTIONS, "f", questions.Question("t", "s", short, question.figures, ["one", "two"]))
    for trial in short:
        trials.run_trial(("f", trial, 0, tmp_path))
    arms = trials.outcomes_of("f", tmp_path)
    assert list(arms) == [("constant", ""), ("4 restarts", "")]
    for outcomes in arms.values():
        assert -1 <= outcomes[0].figures[questions.SIMILARITY] <= 1
        assert len(outcomes[0].curves[questions.SIMILARITY]) == 8
        assert [image.size for image in outcomes[0].images] == [(96, 96)] * 2
    constant, restarts = (np.asarray(arms[name][0].images[0], dtype=int) for name in arms)
    assert np.abs(constant - restarts).max() > 0  # the schedule reaches the training
    assert page.image(question, arms).size[0] > 2 * 96
