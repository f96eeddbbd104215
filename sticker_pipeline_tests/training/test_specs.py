"""Specs made of datasets and settings."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.core.character import Character, load_character
from sticker_pipeline.core.profile import Profile, load_profile
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.core.storage import Artifact, ArtifactStore, file_sha256
from sticker_pipeline.training.distill import specs as consistency
from sticker_pipeline.training.specs import character_spec, style_spec, with_samples_per_epoch
from sticker_pipeline_tests.some_table import write_rows

ROWS = pd.DataFrame(
    {
        "frame_id": ["a", "b", "c", "d"],
        "file": ["a.png", "b.png", "c.png", "d.png"],
        "caption": ["skv, a", "skv, b", "skv, c", "skv, d"],
        "split": ["train", "train", "train", "holdout"],
        "probability": [0.5, 0.25, 0.25, 0.0],
    }
)
CLIPS = {"a": "one", "b": "one", "c": "two", "d": "three"}


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return load_profile("embedded", tmp_path / "models")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def character(tmp_path: Path) -> Character:
    folder = tmp_path / "moth"
    (folder / "art").mkdir(parents=True)
    (folder / "character.yaml").write_text("trigger: skv_moth\n")
    return load_character(folder)


def artifact(store: ArtifactStore, asset: str, table: pd.DataFrame) -> Artifact:
    with store.writing("moth", asset) as staging:
        write_rows(table, staging)
        return store.publish(staging, "moth", asset, code_version="1", inputs={}, settings={})


def test_an_epoch_has_ten_draws_of_each_source_unless_it_says_otherwise() -> None:
    assert with_samples_per_epoch(TrainingSettings(), 7).samples_per_epoch == 70
    assert with_samples_per_epoch(TrainingSettings(samples_per_epoch=96), 7).samples_per_epoch == 96


def test_a_character_is_trained_on_the_sources_of_its_training_split(
    character: Character, profile: Profile, store: ArtifactStore
) -> None:
    frames = pd.DataFrame({"frame_id": list(CLIPS), "source_id": list(CLIPS.values())})
    profile = profile.model_copy(update={"training": profile.training.model_copy(update={"samples_per_epoch": None})})
    prompts = [f"prompt {number}" for number in range(6)]
    inputs = artifact(store, "training_set", ROWS), artifact(store, "frames", frames)
    spec = character_spec(character, profile, "ab12", *inputs, prompts=prompts, regularisation=None, store=store)
    assert spec.samples_per_epoch == 10 * 2  # sources one and two
    assert spec.sample_prompts == ["prompt 0", "prompt 3"]
    assert (spec.name, spec.trigger, spec.base_sha) == ("moth", "skv_moth", "ab12")
    assert (spec.training_set, spec.frames) == tuple(each.folder for each in inputs)
    assert spec.training_set_sha256 == file_sha256(inputs[0].folder / "index.parquet")
    assert spec.output == store.work("moth", "lora")


def test_a_style_is_bound_to_no_word(profile: Profile, store: ArtifactStore, tmp_path: Path) -> None:
    rows = ROWS.assign(source_id=ROWS["frame_id"].map(CLIPS))
    training_set = artifact(store, "style_training_set", rows)
    spec = style_spec("flat", profile, "ab12", training_set, prompts=["smile"], output=tmp_path / "work", store=store)
    assert spec.trigger is None and spec.sample_prompts == ["smile"]
    assert spec.frames == training_set.folder / "frames"
    assert spec.training_set_sha256 == file_sha256(training_set.folder / "index.parquet")


def test_a_distillation_for_a_character_sees_images_by_their_weights(profile: Profile, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("start.safetensors", "lora.safetensors")]
    for path in files:
        path.write_bytes(path.name.encode())
    tuning = profile.lcm.tuning.model_copy(update={"images": 8})
    profile = profile.model_copy(update={"lcm": profile.lcm.model_copy(update={"tuning": tuning})})
    start, lora = files
    spec = consistency.character_spec(
        "moth", profile, "ab12", ROWS, tmp_path, start=start, lora=lora, output=tmp_path / "work"
    )
    assert spec.tuning is not None
    names, counts = np.unique(spec.tuning.files, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"a.png": 4, "b.png": 2, "c.png": 2}
    assert spec.prompts == [f"skv, {name[0]}" for name in spec.tuning.files]
    assert spec.settings.images == 8 and spec.settings.guidance_scale == tuning.guidance_scale
    assert spec.tuning.start_sha != spec.tuning.lora_sha
