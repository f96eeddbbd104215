"""Table of models, and the names that a person may write instead."""

from pathlib import Path

import pytest

from sticker_pipeline.core.known_models import FetchError, known_models, known_name, source_of
from sticker_pipeline.core.profile import MODEL_FILES, PROFILES, profile_models
from sticker_pipeline.diffusion.base_model import config_files
from sticker_pipeline.tagging.thresholds import model_thresholds


def test_every_tagger_with_a_threshold_can_be_fetched_from_its_author() -> None:
    taggers = {name: source.repo for name, source in known_models().items() if source.kind == "tagger"}
    assert taggers == {name: f"SmilingWolf/{name}" for name in model_thresholds()}


def test_the_files_are_those_that_the_project_asks_for() -> None:
    for source in known_models().values():
        assert set(MODEL_FILES[source.kind.partition("_")[0]]) <= set(source.files)
        assert all(not name.endswith((".bin", ".ckpt", ".pt")) for name in source.files)
    for family in ("sd15", "sdxl"):
        assert set(config_files(family)) <= set(known_models()[f"{family}/base"].files)


def test_every_model_of_the_real_profile_can_be_fetched() -> None:
    assert profile_models("sd15") == ["sd15/base", "wd-vit-tagger-v3", "clip-vit-l-14-quickgelu-openai"]
    assert profile_models("sd15") == [PROFILES["sd15"][part] for part in ("base", "tagger", "clip")]
    assert profile_models("sdxl") == ["sdxl/base", "wd-swinv2-tagger-v3", "clip-vit-l-14-quickgelu-openai"]
    assert profile_models("embedded") == []


def test_a_repository_with_and_without_a_revision() -> None:
    source = source_of("some-body/my.tagger_v1@refs/pr/1")
    assert (source.name, source.repo, source.revision) == ("my.tagger_v1", "some-body/my.tagger_v1", "refs/pr/1")
    assert source.files == ("model.onnx", "selected_tags.csv")
    known = source_of("SmilingWolf/wd-vit-tagger-v3@v2.0")
    assert (known.name, known.revision) == ("wd-vit-tagger-v3", "v2.0")
    assert source_of("stable-diffusion-v1-5/stable-diffusion-v1-5").name == "sd15/base"


@pytest.mark.parametrize(
    "text", ["", "wd-vit-tagger", "../x", "a/..", "a/.b", "a/b/c", "a/b@", "a/b@../x", "a b/c", "/a/b", "a/b\n"]
)
def test_anything_else_is_answered_with_the_list(text: str) -> None:
    with pytest.raises(
        FetchError, match=r"There is no model .*wd-vit-tagger-v3, .*sdxl/base; .*`owner/repo`.*civitai:VERSION"
    ):
        source_of(text)


def test_the_folder_of_a_known_model_is_not_for_others() -> None:
    with pytest.raises(FetchError, match="which is that of SmilingWolf/wd-vit-tagger-v3"):
        source_of("somebody/wd-vit-tagger-v3")


def test_the_place_of_a_known_model_is_recognised() -> None:
    assert known_name(Path("/models/sd15/base")) == "sd15/base"
    assert known_name(Path("/models/wd-swinv2-tagger-v3")) == "wd-swinv2-tagger-v3"
    assert known_name(Path("/models/embedded/base")) is None
