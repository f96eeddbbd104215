"""Profiles, overrides, and messages for missing models."""

import csv
from pathlib import Path

import pytest

from sticker_pipeline.core.character import load_character
from sticker_pipeline.core.profile import (
    MODEL_FILES,
    PROFILES,
    SETTINGS_VARIABLE,
    TOY,
    ProfileError,
    character_profile,
    check_models,
    load_profile,
    profile_name,
    style_profile,
    toy_note,
    with_values,
)


def character_with(folder: Path, text: str):  # type: ignore[no-untyped-def]
    (folder / "luma" / "gifs").mkdir(parents=True, exist_ok=True)
    (folder / "luma" / "character.yaml").write_text(text)
    return load_character(folder / "luma")


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_valid_and_absolute(name: str) -> None:
    profile = load_profile(name, Path("models"))
    assert profile.base.is_absolute()
    assert set(profile.benchmark.prompts) == set(profile.benchmark.medium_tags) == {"sticker", "art"}


def test_the_recipe_is_the_default_of_real_models() -> None:
    training = load_profile("sd15", Path("models")).training
    assert (training.preset, training.epochs, training.cycles, training.warmup_fraction) == ("default", 8, 4, 0.1)
    assert training.learning_rate_unet == training.learning_rate_text_encoder == 1e-5


@pytest.mark.parametrize("name", PROFILES)
def test_a_style_is_trained_as_a_character_but_for_what_the_profile_changes(name: str) -> None:
    profile, style = load_profile(name, Path("models")), style_profile(name, Path("models"))
    changed = profile.training.model_copy(update=profile.style.training)
    assert style == profile.model_copy(update={"training": changed})
    assert style.training.regularisation is None  # it would be a folder of a character's


def test_what_a_style_changes_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "sd15", {**PROFILES["sd15"], "style": {"training": {"epoch": 2}}})
    with pytest.raises(ProfileError, match=r"'sd15': style.training: unknown key 'epoch'. Did you mean 'epochs'"):
        style_profile("sd15", Path("models"))


def test_where_a_profile_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTINGS_VARIABLE, raising=False)
    assert profile_name(character_with(tmp_path, "trigger: a\n")) == "embedded"
    monkeypatch.setenv(SETTINGS_VARIABLE, "sd15")
    assert profile_name(character_with(tmp_path, "trigger: a\n")) == "sd15"
    assert profile_name(character_with(tmp_path, "trigger: a\nprofile: embedded\n")) == "embedded"
    with pytest.raises(ProfileError, match=r"no profile 'sd16'.*character.yaml.*embedded, sd15"):
        character_profile(character_with(tmp_path, "trigger: a\nprofile: sd16\n"), tmp_path)


def test_training_overrides_are_checked(tmp_path: Path) -> None:
    character = character_with(tmp_path, "trigger: a\ntraining: {rank: 3}\n")
    profile = character_profile(character, tmp_path)
    assert profile.training.rank == 3
    assert profile.training.epochs == load_profile("embedded", tmp_path).training.epochs
    for text, sentence in [
        ("{draws_per_epoch: 9}", "'draws_per_epoch' is called 'samples_per_epoch' now"),
        ("{schedule: restarts}", "'schedule': 'restarts' is called 'cosine_restarts_warmup_each' now"),
        ("{optimizer: restarts}", "'optimizer' = 'restarts': Input should be"),
        ("{preset: recipe}", "'preset': 'recipe' is called 'default' now"),
        ("{rnk: 3}", "Did you mean 'rank'"),
        ("{rank: 0}", "greater than or equal to 1"),
    ]:
        with pytest.raises(ProfileError, match=sentence) as error:
            character_profile(character_with(tmp_path, f"trigger: a\ntraining: {text}\n"), tmp_path)
        assert "character.yaml: training" in str(error.value)


def test_values_for_one_run_are_taken_as_if_they_stood_in_the_file(tmp_path: Path) -> None:
    character = character_with(tmp_path, "trigger: a\ntraining: {rank: 3, epochs: 4}\n")
    profile = character_profile(character, tmp_path)
    once = character_profile(with_values(character, profile, "training", {"epochs": 9, "seed": 2}), tmp_path)
    assert once == profile.model_copy(update={"training": profile.training.model_copy(update={"epochs": 9, "seed": 2})})
    assert character_profile(character, tmp_path) == profile
    said = "The launch's configuration: training: 'seed' = -1: Input should be greater than or equal to 0."
    with pytest.raises(ProfileError) as error:
        with_values(character, profile, "training", {"seed": -1})
    assert str(error.value) == said


def test_media_sampling_and_tagging_may_be_overridden_too(tmp_path: Path) -> None:
    text = "trigger: a\nmedia: {crop: alpha, merge: none}\nsampling: {mode: uniform}\ntagging: {batch_size: 3}\n"
    profile = character_profile(character_with(tmp_path, text), tmp_path)
    assert (profile.media.crop, profile.media.merge, profile.media.max_frames) == ("alpha", "none", 2_000)
    assert profile.sampling.mode == "uniform"
    assert profile.tagging.batch_size == 3
    with pytest.raises(ProfileError, match=r"character.yaml: media: unknown key 'crp'\. Did you mean 'crop'"):
        character_profile(character_with(tmp_path, "trigger: a\nmedia: {crp: alpha}\n"), tmp_path)


def test_the_grid_of_a_sampling_grid_may_be_overridden(tmp_path: Path) -> None:
    profile = character_profile(character_with(tmp_path, "trigger: a\nsampling_grid: {steps: [8, 3]}\n"), tmp_path)
    own = load_profile("embedded", tmp_path).sampling_grid
    assert profile.sampling_grid.steps == (3, 8) and profile.sampling_grid.guidance_scales == own.guidance_scales
    assert profile.generation.steps in own.steps and profile.generation.guidance_scale in own.guidance_scales
    for text, sentence in [
        ("{most_pictures: 3}", "'most_pictures' is called 'most_images' now"),
        ("{stepz: [3]}", "Did you mean 'steps'"),
        ("{steps: []}", "at least 1 item"),
        ("{guidance_scales: [0]}", "greater than or equal to 1"),
        ("{character_weights: [1, 1]}", "each value may occur only once"),
    ]:
        with pytest.raises(ProfileError, match=sentence) as error:
            character_profile(character_with(tmp_path, f"trigger: a\nsampling_grid: {text}\n"), tmp_path)
        assert "character.yaml: sampling_grid" in str(error.value)


def test_the_tagger_may_be_chosen_and_does_not_leave_the_models(tmp_path: Path) -> None:
    character = character_with(tmp_path, "trigger: a\ntagging: {model: taggers/wd-swinv2-tagger-v3}\n")
    profile = character_profile(character, tmp_path / "models")
    assert profile.tagger == tmp_path / "models" / "taggers" / "wd-swinv2-tagger-v3"
    assert profile.base == load_profile("embedded", tmp_path / "models").base
    for name in ("../elsewhere", "/etc", "a/../../b", "a/", "", ".hidden", "a\\b", "a/.."):
        with pytest.raises(ProfileError, match=r"character\.yaml: tagging: 'model'"):
            character_profile(character_with(tmp_path, f"trigger: a\ntagging: {{model: '{name}'}}\n"), tmp_path)


@pytest.mark.parametrize("value", ["0", "1", "0.35", "mcut"])
def test_a_threshold_is_a_number_or_a_word(tmp_path: Path, value: str) -> None:
    text = f"trigger: a\ntagging: {{general_threshold: {value}, character_threshold: {value}}}\n"
    tagging = character_profile(character_with(tmp_path, text), tmp_path).tagging
    expected = value if value == "mcut" else float(value)
    assert (tagging.general_threshold, tagging.character_threshold) == (expected, expected)


@pytest.mark.parametrize("value", ["1.1", "-0.1", ".nan", "yes", "high", "[0.5]", "'0.5'"])
def test_another_threshold_is_one_sentence(tmp_path: Path, value: str) -> None:
    for key, words in {"general_threshold": "model or mcut", "character_threshold": "or mcut"}.items():
        with pytest.raises(ProfileError) as error:
            character_profile(character_with(tmp_path, f"trigger: a\ntagging: {{{key}: {value}}}\n"), tmp_path)
        text = str(error.value)
        assert f"character.yaml: tagging: '{key}' = " in text and "number from 0 to 1" in text and words in text
        assert len(text.splitlines()) == 1
    if value == "high":
        with pytest.raises(ProfileError, match="'character_threshold' = 'model'"):
            text = "trigger: a\ntagging: {character_threshold: model}\n"
            character_profile(character_with(tmp_path, text), tmp_path)


def test_a_missing_model_names_the_first_missing_file(tmp_path: Path) -> None:
    profile = load_profile("embedded", tmp_path)
    for part, names in MODEL_FILES.items():
        for name in names:
            with pytest.raises(ProfileError) as error:
                check_models(profile)
            path = getattr(profile, part) / name
            assert str(path) in str(error.value)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
    check_models(profile)


def test_a_base_of_sdxl_has_two_text_encoders(tmp_path: Path) -> None:
    profile = load_profile("sdxl", tmp_path)
    for part, names in MODEL_FILES.items():
        for name in names:
            (getattr(profile, part) / name).parent.mkdir(parents=True, exist_ok=True)
            (getattr(profile, part) / name).write_text("")
    with pytest.raises(ProfileError, match=r"sdxl/base/text_encoder_2/config\.json, which is missing"):
        check_models(profile)
    (profile.base / "text_encoder_2").mkdir()
    (profile.base / "text_encoder_2" / "config.json").write_text("")
    check_models(profile)


def test_sdxl_draws_and_trains_at_its_own_size() -> None:
    """The negative prompt is a part of the one in animagine-xl-4.0's model card."""
    profile = load_profile("sdxl", Path("models"))
    assert (profile.family, profile.resolution, profile.tagger.name) == ("sdxl", 1024, "wd-swinv2-tagger-v3")
    assert (profile.generation.steps, profile.generation.guidance_scale) == (25, 7.0)
    told = profile.generation.negative_prompt.split(", ")
    assert told == ["lowres", "bad anatomy", "worst quality", "low quality"]
    assert profile.buckets.shape == "aspect" and not profile.buckets.upscale


def test_a_base_model_may_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "sd15").mkdir()
    (tmp_path / "sd15" / "base.safetensors").write_text("")
    assert load_profile("sd15", tmp_path).base == tmp_path / "sd15" / "base.safetensors"
    with pytest.raises(ProfileError, match=r"wd-vit-tagger-v3/model\.onnx, which is missing"):
        check_models(load_profile("sd15", tmp_path))
    folder = tmp_path / "sd15" / "base"
    (folder / "unet").mkdir(parents=True)
    for name in ("model_index.json", "unet/config.json"):  # of the single file, where it is not of the usual shape
        (folder / name).write_text("")
    assert load_profile("sd15", tmp_path).base == tmp_path / "sd15" / "base.safetensors"
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_text("")
    assert load_profile("sd15", tmp_path).base == folder


def test_a_missing_model_that_can_be_fetched_names_the_command(tmp_path: Path) -> None:
    def said(text: str, *there: str) -> str:
        profile = character_profile(character_with(tmp_path, f"trigger: a\n{text}\n"), tmp_path)
        for part in there:
            for name in MODEL_FILES[part]:
                (getattr(profile, part) / name).parent.mkdir(parents=True, exist_ok=True)
                (getattr(profile, part) / name).write_text("")
        with pytest.raises(ProfileError) as error:
            check_models(profile)
        return str(error.value)

    assert "is missing. Put the base model there, or point STICKER_MODELS" in said("profile: embedded")
    command = "is missing. `sticker-pipeline fetch-models --profile sd15` downloads it; or put the base model there, or"
    assert command in said("profile: sd15")
    tagger = said("profile: sd15\ntagging: {model: wd-swinv2-tagger-v3}", "base")
    assert "`sticker-pipeline fetch-models wd-swinv2-tagger-v3` downloads it; or put the tagger model" in tagger
    other = said("profile: sd15\ntagging: {model: mine, general_threshold: 0.3}", "base")
    assert "`sticker-pipeline fetch-models OWNER/mine` downloads it; or put the tagger model" in other


def test_the_embedded_tagger_knows_every_word_that_an_lcm_lora_is_measured_by(embedded_models: Path) -> None:
    profile = load_profile("embedded", embedded_models.parent)
    with (profile.tagger / "selected_tags.csv").open() as file:
        known = {row["name"].replace("_", " ") for row in csv.DictReader(file)}
    said = {tag for entries in profile.lcm.words for entry in entries for tag in entry.split(", ")}
    assert said <= known


@pytest.mark.parametrize(
    ("config", "is_toy"),
    [
        ('{"vocab_size": 967}', True),
        ('{"vocab_size": 49407}', True),
        ('{"vocab_size": 49408}', False),
        ('{"vocab_size": 49410}', False),  # with tokens of a textual inversion
        ('{"vocab_size": "many"}', False),
        ("{}", False),
        ("[]", False),
        ("{", False),
        (None, False),
    ],
)
def test_a_toy_knows_fewer_words_than_any_stable_diffusion(tmp_path: Path, config: str | None, is_toy: bool) -> None:
    """In a folder, and beside a single file; whatever the profile is called."""
    folder = tmp_path / "sd15" / "base"
    (folder / "text_encoder").mkdir(parents=True)
    if config is not None:
        (folder / "text_encoder" / "config.json").write_text(config)
    assert toy_note(load_profile("sd15", tmp_path)) == (TOY if is_toy else "")
    single = folder.with_name("base.safetensors")
    single.write_bytes(b"")
    profile = load_profile("sd15", tmp_path)
    assert profile.base == single and toy_note(profile) == (TOY if is_toy else "")
