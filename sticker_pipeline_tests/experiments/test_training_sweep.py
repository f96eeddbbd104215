"""Trials of the training sweep and their names; training and metrics have their own tests."""

from pathlib import Path

import pytest

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.embedded.roster import demo_characters
from sticker_pipeline.generation.prompts import benchmark_prompts
from sticker_pipeline_tests.experiments import studio, training_sweep


def test_a_trials_name_depends_on_all_that_it_is() -> None:
    trials = [
        training_sweep.Trial("a", {}, 0),
        training_sweep.Trial("b", {}, 0),
        training_sweep.Trial("a", {"rank": 2}, 0),
        training_sweep.Trial("a", {}, 1),
    ]
    assert len({trial.name for trial in trials}) == 4
    assert training_sweep.Trial("a", {"rank": 2}, 0).name == trials[2].name


def test_datasets_are_made_and_nothing_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHARACTERS", "ARTIFACTS", "MODELS", "PROFILE"):
        monkeypatch.setenv(f"STICKER_{name}", "nowhere")  # put back afterwards; what a person has set does not matter
    training_sweep.make_datasets(tmp_path / "artifacts")
    for name in demo_characters():
        frames, rows = training_sweep.dataset(name, tmp_path)
        assert set(rows["split"]) == {"train", "holdout"}
        assert all((frames / file).is_file() for file in rows["file"])
        assert not (tmp_path / "artifacts" / name / "lora").exists()


def test_every_setting_of_the_grid_exists() -> None:
    usual = studio.profile().training.model_dump()
    for settings in training_sweep.GRID:
        chosen = TrainingSettings.model_validate({**usual, **settings})
        assert chosen != studio.profile().training


def test_the_trigger_is_exchanged_for_another_characters_tags() -> None:
    for name, identity in demo_characters().items():
        character = training_sweep.loaded(name)
        other = training_sweep.stranger(name).split(", ")
        assert identity.hair_colour not in other
        for prompt in benchmark_prompts(character, studio.profile()):
            rest = training_sweep.without(prompt.text, character)
            assert character.trigger in prompt.text
            assert not [tag for tag in rest if "skv" in tag or tag.endswith("_sticker")]
            assert rest[-1] == prompt.attributes.split(", ")[-1]
