"""A base model is named so that other people can get it, or it is said that nobody can."""

import shutil
from pathlib import Path

import pytest

from sticker_pipeline.core.known_models import known_models
from sticker_pipeline.core.profile import TOY, load_profile
from sticker_pipeline.models.lock import LOCK_FILE, Locked, LockedFile, write_entry
from sticker_pipeline.publishing.base_name import BaseName, base_name, base_of_profile

CHOOSE = "Choose your base model in its box: the LoRA's has no public name."
FILE = LockedFile(1, "0" * 64)
HUB = known_models()["sd15/base"].repo


def locked(models: Path, name: str, repo: str, *files: str) -> None:
    models.mkdir(exist_ok=True)
    write_entry(models, name, Locked(repo, "0" * 40, dict.fromkeys(files, FILE)))


@pytest.mark.parametrize(
    ("repo", "place", "expected"),
    [
        (HUB, "sd15/base", {"hub": HUB, "file": "v1-5-pruned-emaonly.safetensors"}),
        ("someone/else", "sd15/base", {"hub": "someone/else"}),
        (HUB, "sd15/base.safetensors", {"file": "base.safetensors"}),
        ("civitai:12", "sd15/base/x.safetensors", {"file": "x.safetensors", "origin": "civitai:12"}),
        ("file:y.safetensors", "sd15/base/x.safetensors", {"file": "x.safetensors"}),
        (HUB, "sd15/base/mine.safetensors", {"file": "mine.safetensors"}),
        (HUB, "sdxl/base", {}),
    ],
)
def test_a_fetched_one_is_named_by_the_lock_file(
    tmp_path: Path, repo: str, place: str, expected: dict[str, str]
) -> None:
    locked(tmp_path, "sd15/base", repo, "model_index.json", "x.safetensors")
    assert base_name(place, "sd15", tmp_path) == BaseName("sd15", place, **expected)


def test_the_file_of_another_model_does_not_name_a_folder(tmp_path: Path) -> None:
    locked(tmp_path, "sd15/base", "civitai:12", "x.safetensors")
    assert base_name("sd15/base", "sd15", tmp_path) == BaseName("sd15", "sd15/base")


def test_a_malformed_lock_file_names_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("[")
    assert base_name("sd15/base", "sd15", tmp_path) == BaseName("sd15", "sd15/base")


@pytest.mark.parametrize("place", ["embedded/base", "sd15/base"])
def test_our_own_base_model_is_a_toy_wherever_it_lies(tmp_path: Path, place: str, embedded_models: Path) -> None:
    shutil.copytree(embedded_models / "base" / "text_encoder", tmp_path / place / "text_encoder")
    profile = load_profile(place.partition("/")[0], tmp_path)
    assert base_of_profile(profile, tmp_path) == BaseName("sd15", place, toy=TOY)


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (BaseName("sd15", "sd15/base", hub="a/b", file="c.safetensors"),
         "`a/b` on the Hugging Face hub, in one file `c.safetensors`"),
        (BaseName("sd15", "sd15/base", hub="a/b"), "`a/b` on the Hugging Face hub"),
        (BaseName("sdxl", "x", file="c.safetensors", origin="civitai:1"), "`c.safetensors` from `civitai:1`"),
        (BaseName("sdxl", "x", file="c.safetensors"), "`c.safetensors`"),
        (BaseName("sdxl", "x"), "the Stable Diffusion XL that it was trained with, which has no public name"),
        (BaseName("sd15", "embedded/base", toy=TOY), "`embedded/base` of sticker_pipeline"),
    ],
)  # fmt: skip
def test_its_words(base: BaseName, words: str) -> None:
    assert base.words == words


@pytest.mark.parametrize(
    ("base", "checkpoint", "warning"),
    [
        (BaseName("sd15", "sd15/base", hub="a/b", file="c.safetensors"), "c.safetensors", ""),
        (BaseName("sd15", "sd15/base", hub="a/b"), "sd15.safetensors", CHOOSE),
        (BaseName("sdxl", "sdxl/base/c.safetensors", file="c.safetensors"), "c.safetensors", ""),
        (BaseName("sd15", "embedded/base", toy=TOY), "embedded.safetensors", TOY),
    ],
)
def test_a_workflow_warns_where_it_names_no_file_of_the_base_model(
    base: BaseName, checkpoint: str, warning: str
) -> None:
    assert (base.checkpoint, base.warning) == (checkpoint, warning)
