"""Messages of the commands for missing or wrong input. test_line has their normal work."""

import errno
import json
import re
import shutil
import signal
import subprocess
import sys
import webbrowser
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from sticker_pipeline.benchmark.releases import publish, releases_folder
from sticker_pipeline.cli import work
from sticker_pipeline.cli.commands import main
from sticker_pipeline.cli.update import Updated
from sticker_pipeline.core.known_models import FetchError
from sticker_pipeline.core.profile import TOY
from sticker_pipeline.core.storage import ALL, ArtifactStore, file_sha256
from sticker_pipeline.models.lock import LOCK_FILE
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.dataset.small_set import captions_of, draw_character, made
from sticker_pipeline_tests.full_disk import small_disk, with_free
from sticker_pipeline_tests.publishing.candidates import candidate
from sticker_pipeline_tests.some_table import write_rows


@pytest.fixture
def characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two characters, of which one has a misspelt key, and no models."""
    for name, settings in {
        "good": "trigger: skv_good\n",
        "bad": "trigger: skv_bad\ncuration: {blaklist: []}\n",
    }.items():
        (tmp_path / "characters" / name / "stickers").mkdir(parents=True)
        (tmp_path / "characters" / name / "character.yaml").write_text(settings)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("STICKER_CHARACTERS", str(tmp_path / "characters"))
    monkeypatch.setenv("STICKER_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("STICKER_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("STICKER_PROFILE", raising=False)
    return tmp_path / "characters"


def run(*arguments: str) -> Result:
    """Run a command; for `update`, the code of the process that it starts."""
    return CliRunner().invoke(work.main if arguments[0] == "update" else main, list(arguments))


def test_doctor_names_every_problem(characters: Path) -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert "Did you mean 'blacklist'" in result.output
    assert f"good: Profile 'embedded' needs {characters.parent / 'models'}" in result.output


def test_doctor_names_a_damaged_artifact(characters: Path, tmp_path: Path) -> None:
    for scope in ("good", "_all", "_styles/chibi", "_profiles/sd15"):
        (tmp_path / "artifacts" / scope / "frames").mkdir(parents=True)
        (tmp_path / "artifacts" / scope / "frames" / "artifact.json").write_bytes(b"{")
    output = run("doctor").output.replace("\n", " ")
    for scope in ("good", "_all", "_styles/chibi", "_profiles/sd15"):
        assert f"problem      {tmp_path}/artifacts/{scope}/frames/artifact.json is damaged: " in output


@pytest.mark.parametrize("command", ["doctor", "releases", "update"])
def test_a_full_disk_is_one_sentence_whoever_meets_it(
    characters: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody thought of it: `load_character` writes nothing."""

    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sticker_pipeline.defs.resources.load_character", full)
    monkeypatch.setattr("sticker_pipeline.core.character.check_name", full)
    result = run(command, *(["good"] if command == "releases" else []))
    assert result.exit_code == 1
    assert "dagster cannot be written: its disk is full. What was written before is whole." in result.output
    assert "Traceback" not in result.output and isinstance(result.exception, SystemExit)


def test_doctor_mentions_a_folder_of_images_without_settings(characters: Path) -> None:
    for name in ("loose/gifs", "empty/gifs", ".hidden"):
        (characters / name).mkdir(parents=True)
    for name in ("loose/gifs/a.gif", ".hidden/a.gif"):
        (characters / name).write_bytes(b"GIF89a")
    output = run("doctor").output.replace("\n", " ")
    assert f"left aside   {characters / 'loose'} has no character.yaml: move it away and run" in output
    assert output.count("left aside") == 1


def test_doctor_names_rivals_that_are_left_out(characters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STICKER_MODELS", str(REPOSITORY / "data" / "models"))
    rivals = [
        {"name": "root", "lora": "/", "trigger": "x"},
        {"name": "folder", "lora": "stickers", "trigger": "x"},
        {"name": "long", "lora": "/", "trigger": "x " * 230},
    ]
    shutil.rmtree(characters / "good")
    draw_character(characters / "good")
    (characters / "good" / "character.yaml").write_text(
        f"trigger: skv_good\nbenchmark: {{rivals: {json.dumps(rivals)}}}\n"
    )
    result = run("doctor")
    assert "ok           good (profile embedded)" in result.output
    folder = characters / "good"
    assert (
        "good: Rival 'root' is left out: its file leads out of the character's folder, to /: copy it" in result.output
    )
    words = f"good: Rival 'folder' is left out: {folder / 'stickers'} is a folder: name the .safetensors file in it."
    assert words in result.output
    assert "good: Rival 'long' is left out: with its trigger a prompt has" in result.output


@pytest.fixture
def linked(characters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The character `good`, whose images are links that nothing allows, as an earlier `--link` made them."""
    monkeypatch.setenv("STICKER_MODELS", str(REPOSITORY / "data" / "models"))
    shutil.rmtree(characters / "good")
    draw_character(tmp_path / "originals" / "good")
    folder = characters / "good"
    run("new-character", "good", str(tmp_path / "originals" / "good"), "--trigger", "skv_good", "--link")
    (characters / "good.links").unlink()
    return folder


def test_links_of_a_character_that_was_linked_before_are_named_with_the_remedy(
    linked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sticker_pipeline.cli.doctor.MOST_LINKS", 3)
    paths = sorted(path for path in linked.rglob("*") if path.is_symlink())
    remedy = "copy the files, or write the folder that holds them into good.links, beside good."
    output = run("doctor").output
    assert f"problem      {paths[0]}: a link that leaves the folder, to {paths[0].readlink()}: {remedy}" in output
    assert f"good: there is no file that can be used in {linked}; " in output
    assert f"good: {len(paths) - 3} more links are refused." in output
    (linked.parent / "good.links").write_text(str(tmp_path / "originals"))
    output = run("doctor").output
    assert "ok           good (profile embedded)" in output and "leaves the folder" not in output
    assert f"note         good: links may lead into {tmp_path / 'originals'}." in output


def test_a_loosened_gate_is_said_by_doctor_and_before_an_update(
    linked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (linked.parent / "good.links").write_text(str(tmp_path / "originals"))
    path = linked / "character.yaml"
    path.write_text(path.read_text() + "benchmark: {gate: {copies: 1}}\n")
    said = f"{path}: benchmark.gate.copies is 1.0, laxer than the default 0.2: at most this share"
    assert f"note         {said}" in run("doctor").output
    monkeypatch.setattr("sticker_pipeline.cli.update.update", lambda *_, **__: Updated([], []))
    output = run("update", "good").output
    assert f"note: {said}" in output and "note: good: links may lead into" in output
    assert output.endswith(f"Profile embedded: {TOY}\n")


def test_links_out_of_a_given_folder_are_taken_when_asked_for(characters: Path, tmp_path: Path) -> None:
    draw_character(tmp_path / "originals" / "fox")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "fox").symlink_to(tmp_path / "originals" / "fox" / "stickers")
    result = run("new-character", "fox", str(tmp_path / "given"))
    assert result.exit_code == 1 and "left out: fox: a link that leaves the folder, to" in result.output
    assert "or give --follow-links" in result.output
    result = run("new-character", "fox", str(tmp_path / "given"), "--follow-links")
    assert result.exit_code == 0 and list((characters / "fox" / "fox").iterdir())
    (tmp_path / "given" / "fox").rename(tmp_path / "given" / "2_fox")
    result = run("import-kohya", "fox2", str(tmp_path / "given"), "--trigger", "yes", "--follow-links")
    assert result.exit_code == 0 and list((characters / "fox2" / "2_fox").iterdir())


def test_folders_named_with_brackets_are_shown_as_they_are(
    characters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("art [x]", "[/red]"):
        monkeypatch.setenv("STICKER_CHARACTERS", str(tmp_path / name))
        result = run("doctor")
        assert result.exit_code == 0, result.output
        assert f"characters   {tmp_path / name}\n" in result.output


def test_doctor_holds_fetched_models_against_their_lock(characters: Path) -> None:
    models = characters.parent / "models"
    (models / "my-tagger").mkdir(parents=True)
    (models / "my-tagger" / "model.onnx").write_bytes(b"\x08 right")
    locked = {"bytes": 7, "sha256": file_sha256(models / "my-tagger" / "model.onnx")}
    entry = {"repo": "a/my-tagger", "revision": "0" * 40, "files": {"model.onnx": locked}}
    (models / LOCK_FILE).write_text(json.dumps({"my-tagger": entry}))
    assert "my-tagger" not in run("doctor").output
    (models / "my-tagger" / "model.onnx").write_bytes(b"\x08 wrong")
    assert f"problem      {models / 'my-tagger' / 'model.onnx'} has sha256" in run("doctor").output
    (models / "my-tagger" / "model.onnx").unlink()
    assert "`sticker-pipeline fetch-models my-tagger` brings it back" in run("doctor").output


def test_fetch_models_answers_an_unknown_name_with_the_list(characters: Path) -> None:
    result = run("fetch-models", "wd-vit-tagger")
    assert result.exit_code == 1
    assert "no model 'wd-vit-tagger' to fetch. Known are wd-vit-tagger-v3, " in result.output
    result = run("fetch-models", "--profile", "sd16")
    assert result.exit_code == 1 and "There is no profile 'sd16'" in result.output
    result = run("fetch-models", "--profile", "embedded")
    assert result.exit_code == 0 and "No model of the profile embedded has to be fetched" in result.output


def test_names_between_colons_are_no_emoji(characters: Path) -> None:
    result = run("fetch-models", "civitai:abc")
    assert result.exit_code == 1 and "problem: civitai:abc: write civitai: and the number" in result.output


def test_update_says_what_is_left_out_before_any_work(characters: Path) -> None:
    result = run("update")
    assert result.exit_code == 1
    assert "left out" in result.output and "Did you mean 'blacklist'" in result.output
    assert "good: Profile 'embedded' needs" in result.output
    assert "base/model_index.json, which is missing" in result.output
    assert not (characters.parent / "artifacts" / "good").exists()


def test_update_goes_on_with_the_good_character_and_fails_in_the_end(
    characters: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STICKER_MODELS", str(REPOSITORY / "data" / "models"))
    (characters / "good" / "stickers" / "notes.png").write_text("This is no image.")
    (characters / "empty" / "gifs").mkdir(parents=True)
    (characters / "empty" / "character.yaml").write_text("trigger: skv_empty\n")
    (characters / "folder" / "character.yaml").mkdir(parents=True)
    result = run("update")
    shown = result.output + capfd.readouterr().out
    assert result.exit_code == 1
    assert "left out" in shown and "Did you mean 'blacklist'" in shown
    assert "empty: there is no file in gifs" in shown
    assert "folder/character.yaml cannot be read" in shown
    assert (
        "good dataset_line: raw_media" in shown
        and "raw_media failed" in shown
        and "holds no image that can be used" in shown
    )
    assert "Traceback" not in shown


def test_a_base_model_that_cannot_be_used_is_said_before_any_work(
    characters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STICKER_PROFILE", "sd15")
    base = characters.parent / "models" / "sd15" / "base.safetensors"
    base.parent.mkdir(parents=True)
    base.write_bytes(b"<html><title>Log in</title>")
    sentence = f"good: {base} is a web page, not a model: its address needs a login, or is not the file's own."
    result = run("update", "good")
    assert result.exit_code == 2
    assert f"left out: {sentence}" in result.output and "Traceback" not in result.output
    assert not (characters.parent / "artifacts" / "good").exists()
    assert f"problem      {sentence}" in run("doctor").output


def test_a_character_that_was_not_named_cannot_fail_the_command(characters: Path) -> None:
    result = run("update", "good")
    assert "good: Profile 'embedded' needs" in result.output  # its own fault
    assert "blaklist" not in result.output


def test_an_unknown_address_of_artifacts_is_refused_with_words(
    characters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STICKER_ARTIFACTS", "ftp://bucket/stickers")
    for command in ("update", "doctor"):
        result = run(command)
        assert result.exit_code == 1
        assert "ftp://bucket/stickers is no address of an object store." in result.output


def test_a_name_that_is_no_valid_character_is_named(characters: Path) -> None:
    result = run("update", "bad")
    assert result.exit_code == 1
    assert "Did you mean 'blacklist'?" in result.output
    assert result.output.endswith(f"Error: 'bad' is not a valid character of {characters}; see above.\n")


@pytest.mark.parametrize("command", [["update"], ["export-kohya", "NAME", "folder"]])
@pytest.mark.parametrize(("name", "hint"), [("goood", " Did you mean 'good'?"), ("zoe", "")])
def test_an_unknown_character_gets_the_nearest_known(
    characters: Path, command: list[str], name: str, hint: str
) -> None:
    arguments = [part.replace("NAME", name) for part in command]
    result = run(*(arguments if name in arguments else [*arguments, name]))
    assert result.exit_code == 1
    assert result.output == f"Error: There is no character '{name}' in {characters}.{hint}\n"


def test_an_unknown_profile_gets_the_nearest_known(characters: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    for command in (["fetch-models"], ["explain-kohya", str(tmp_path / "a.json")]):
        shown = run(*command, "--profile", "sd155").output
        assert "Profiles: embedded, sd15, sdxl. Did you mean 'sd15'?" in shown


def test_an_unknown_model_gets_the_nearest_known(characters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise FetchError("The hub cannot be reached.")

    monkeypatch.setattr("sticker_pipeline.models.fetch.fetch", unreachable)
    shown = run("fetch-models", "sd15/bse", "sd15/base").output
    assert shown.splitlines()[:2] == [
        "problem: The hub cannot be reached. Did you mean 'sd15/base'?",
        "problem: The hub cannot be reached.",
    ]


@pytest.mark.parametrize(
    ("updated", "status"),
    [
        (Updated([], []), 0),
        (Updated([], ["good"]), 3),
        (Updated(["good"], []), 1),
        (Updated(["bo"], ["good"]), 1),
    ],
)
def test_the_exit_status_tells_made_from_failed_from_refused(
    characters: Path, monkeypatch: pytest.MonkeyPatch, updated: Updated, status: int
) -> None:
    monkeypatch.setenv("STICKER_MODELS", str(REPOSITORY / "data" / "models"))
    shutil.rmtree(characters / "good")
    draw_character(characters / "good")
    monkeypatch.setattr("sticker_pipeline.cli.update.update", lambda *_, **__: updated)
    result = run("update", "good")
    assert result.exit_code == status
    assert work.run(["update", "good"]) == status, "the status of the process, not of click's runner alone"
    assert ("Not released, see above: good." in result.output) == bool(updated.refused)


def test_the_outcome_names_the_one_character_that_has_a_pack(
    characters: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ArtifactStore(characters.parent / "artifacts")
    made = [(ALL, "leaderboard"), ("good", "comfyui_workflow"), ("other", "comfyui_workflow"), ("good", "sticker_pack")]
    for scope, asset in made:
        with store.writing(scope, asset) as staging:
            write_rows(pd.DataFrame({"column": [1]}), staging)
            store.publish(staging, scope, asset, code_version="1", inputs={}, settings={})
    monkeypatch.setattr("sticker_pipeline.benchmark.tables.leaderboard_text", lambda table: "the leaderboard")
    work._print_outcome(store, ["good", "other"])
    assert capsys.readouterr().out.splitlines()[:4] == [
        "the leaderboard",
        "",
        f"ComfyUI:   {store.root}/<character>/comfyui_workflow/",
        f"Pack:      {store.root}/good/sticker_pack/sheet.png",
    ]


def test_help_is_whole() -> None:
    lines = " ".join(run("-h").output.partition("Commands:")[2].split())
    assert "..." not in lines
    for name, command in main.commands.items():
        first = (command.help or "").split("\n\n")[0].split(". ")[0].strip().removesuffix(".")
        assert f"{name} {' '.join(first.split())}" in lines.replace("sd- scripts", "sd-scripts"), name


def test_the_version_is_shown_with_those_of_what_it_stands_on() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert re.fullmatch(
        r"sticker-pipeline \d+\.\d+\.\d+ \(Python 3\.\d+\.\d+, dagster 1\.\S+, torch 2\.\S+, diffusers 0\.\S+\)\n",
        result.output,
    )


def test_without_characters_the_next_command_is_said(characters: Path) -> None:
    shutil.rmtree(characters)
    for command in ("update", "doctor"):
        assert "sticker-pipeline new-character NAME FOLDER" in run(command).output


def publish_small_set(characters: Path) -> None:
    """The artifacts of a small character `luma` that an export reads."""
    folder = draw_character(characters / "luma")
    small = made(folder, characters.parent / "work", captions_of(folder))
    store = ArtifactStore(characters.parent / "artifacts")
    for asset, table in (("frames", small.frames), ("training_set", small.rows)):
        with store.writing("luma", asset) as staging:
            write_rows(table, staging)
            if asset == "frames":
                shutil.copytree(small.images, staging, dirs_exist_ok=True)
            store.publish(staging, "luma", asset, code_version="1", inputs={}, settings={})


def test_a_training_set_goes_to_kohya_and_back(characters: Path, tmp_path: Path) -> None:
    publish_small_set(characters)
    target = tmp_path / "for [kohya]"
    result = run("export-kohya", "luma", str(target), "--max-error", "0")
    assert result.exit_code == 0, result.output
    for words in (f"{target} has 7 images, and 6 held out", "An epoch is 24 images", ": 0.0000 (",
                  "no repeats: 0.3214", f"--train_data_dir {target}"):  # fmt: skip
        assert words in result.output
    again = run("export-kohya", "luma", str(target))
    assert again.exit_code == 1
    assert "is not an empty folder; nothing was changed" in again.output
    result = run("import-kohya", "luma_again", str(target))
    assert result.exit_code == 0, result.output
    assert "13 files in 1_gifs, 3_art, 6_stickers, holdout_art" in result.output
    assert "the trigger is 'skv_luma'" in result.output
    assert "sticker-pipeline update luma_again" in result.output
    again = run("import-kohya", "luma_again", str(target))
    assert again.exit_code == 1
    assert "exists already" in again.output


def test_an_export_says_what_is_missing(characters: Path, tmp_path: Path) -> None:
    for name, words in {
        "good": "good has no training set yet: sticker-pipeline update good",
        "bad": "Did you mean 'blacklist'",
        "nobody": "There is no character 'nobody' in",
        "../x": "cannot be a character's name",
    }.items():
        result = run("export-kohya", name, str(tmp_path / "out"))
        assert result.exit_code == 1
        assert words in result.output
    assert not (tmp_path / "out").exists()


def test_an_import_without_a_trigger_asks_for_one(characters: Path, tmp_path: Path) -> None:
    folder = tmp_path / "img" / "10_luma"
    folder.mkdir(parents=True)
    shutil.copy(next((REPOSITORY / "data" / "characters" / "pip_comet" / "stickers").glob("*.png")), folder / "a.png")
    result = run("import-kohya", "luma", str(tmp_path / "img"))
    assert result.exit_code == 1
    assert "--trigger WORD" in result.output
    assert run("import-kohya", "luma", str(tmp_path / "img"), "--trigger", "skv_luma", "--link").exit_code == 0
    assert (characters / "luma" / "10_luma" / "a.png").is_symlink()


def test_a_kohya_ss_file_is_explained_key_by_key(characters: Path, tmp_path: Path) -> None:
    file = tmp_path / "kohya.json"
    file.write_text(json.dumps({"network_dim": 64, "max_grad_norm": 0, "conv_dim": 8, "output_name": "x", "vae": ""}))
    result = run("explain-kohya", str(file))
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    for words in (
        "network_dim 64 rank = 64",
        "output_name x where results go",
        "vae (empty) the base model's own VAE is used",
        "* training.rank 64",
        "* training.max_grad_norm 1.0",
        "training.caption_variants 16",
        "* training.kohya_json kohya.json",
        "* buckets.upscale False",
        "effective settings of the profile sd15 (*: the file's)",
    ):
        assert words in lines
    assert {"taken over", "ignored by sd-scripts", "same without it", "not about training"} <= set(lines)
    file.write_text(json.dumps({"sdxl": True, "netwrk_dim": 1}))
    result = run("explain-kohya", str(file), "--profile", "sd15")
    assert result.exit_code == 1
    assert "Did you mean 'network_dim'" in result.output and "Choose a profile of the same family" in result.output
    result = run("explain-kohya", str(file))  # the profile of its own family
    assert result.exit_code == 1 and "Choose a profile" not in result.output
    assert "effective settings of the profile sdxl (*: the file's), were it not for what is refused" in result.output
    result = run("explain-kohya", str(file), "--profile", "sd16")
    assert result.exit_code == 1 and "There is no profile 'sd16'" in result.output


def test_what_would_be_taken_over_is_shown_beside_refusals(tmp_path: Path) -> None:
    file = tmp_path / "kohya.json"
    file.write_text(json.dumps({"network_dim": 64, "network_dropout": 0.5, "LoRA_type": "LyCORIS/LoHa"}))
    result = run("explain-kohya", str(file))
    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert lines.index("taken over") < lines.index("refused") < lines.index("* training.rank 64")
    assert "network_dropout 0.5 adapters have no dropout here. Turn it off, or remove it" in lines
    assert [line for line in lines if line.startswith("Error: ")] == [lines[-1]]
    assert "'LoRA_type' = 'LyCORIS/LoHa': it is LoHa" in lines[-1]


def test_a_toml_file_and_a_folder_are_explained(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('network_module = "networks.lora"\nnetwork_dim = 64\n')
    result = run("explain-kohya", str(tmp_path / "a.toml"))
    assert result.exit_code == 0, result.output
    assert "* training.kohya_json                a.toml" in result.output
    (tmp_path / "b.json").write_text(json.dumps({"sdxl": True, "bucket_reso_steps": 1, "max_resolution": "1024,1024"}))
    (tmp_path / "c.json").write_text(json.dumps({"LoRA_type": "LyCORIS/iA3", "network_dropout": 0.5}))
    (tmp_path / "d.json").write_text("{")
    (tmp_path / "notes.txt").write_text("other")
    result = run("explain-kohya", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "2 of 4 files are taken over." in result.output
    assert "differs here: bucket_reso_steps: buckets.step = 32; the current sd-scripts stops at 1" in result.output
    assert f"{tmp_path / 'c.json'}: 'LoRA_type' = 'LyCORIS/iA3': it is (IA)³" in result.output
    assert "d.json is not valid JSON" in result.output and "notes.txt" not in result.output


def test_the_report_is_opened(characters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    result = run("report")
    assert result.exit_code == 1 and "There is no report yet" in result.output and not opened
    store = ArtifactStore(characters.parent / "artifacts")
    with store.writing(ALL, "report") as staging:
        (staging / "report.html").write_text("<!doctype html>")
        store.publish(staging, ALL, "report", code_version="1", inputs={}, settings={})
    page = store.folder(ALL, "report") / "report.html"
    assert run("report").output == f"{page}\n"
    assert opened == [page.as_uri()]


def test_releases_are_listed_and_rolled_back(characters: Path) -> None:
    folder = releases_folder(ArtifactStore(characters.parent / "artifacts"), "luma")
    for day, content in enumerate((b"one", b"two", b"three"), start=1):
        publish(folder, candidate(characters.parent / "made", content), datetime(2026, 3, day, 12, 30, tzinfo=UTC))
    result = run("releases", "luma")
    assert result.exit_code == 0, result.output
    assert [line.split() for line in result.output.splitlines()] == [
        ["1", "2026-03-01", "12:30", "epoch", "6", "similarity", "0.876", str(folder / "0001" / "luma.safetensors")],
        ["2", "2026-03-02", "12:30", "epoch", "6", "similarity", "0.876", str(folder / "0002" / "luma.safetensors")],
        [
            "*",
            "3",
            "2026-03-03",
            "12:30",
            "epoch",
            "6",
            "similarity",
            "0.876",
            str(folder / "0003" / "luma.safetensors"),
        ],
        ["*", "is", "the", "current", "one.", "The", "prompt", "begins", "with", "skv_luma"],
    ]
    result = run("roll-back", "luma", "1", "--reason", "the [eyes] were green")
    assert result.exit_code == 0, result.output
    assert f"Release 1 of luma is the current one: {folder / '0001' / 'luma.safetensors'}" in result.output
    assert "Its prompt begins with skv_luma" in result.output
    listed = run("releases", "luma").output.splitlines()
    assert [line[0] for line in listed[:3]] == ["*", " ", " "]
    assert listed[3].endswith("back from 3 to 1: the [eyes] were green")


def test_what_cannot_be_rolled_back_to_is_named(characters: Path) -> None:
    folder = releases_folder(ArtifactStore(characters.parent / "artifacts"), "luma")
    publish(folder, candidate(characters.parent / "made", b"one"), datetime(2026, 3, 1, tzinfo=UTC))
    for arguments, words in {
        ("roll-back", "luma", "2"): "There is no release 2 in",
        ("roll-back", "luma", "1"): "Release 1 is the current one already",
        ("roll-back", "good", "1"): "good has no release yet: sticker-pipeline update good",
        ("releases", "good"): "good has no release yet: sticker-pipeline update good",
        ("releases", "../x"): "cannot be a character's name",
    }.items():
        result = run(*arguments)
        assert result.exit_code == 1
        assert words in result.output
    (folder / "current.json").write_text("{")
    assert "current.json is damaged" in run("releases", "luma").output


def test_loras_are_merged_into_a_new_file(tmp_path: Path) -> None:
    import torch

    from sticker_pipeline.diffusion.lora.file import Adapter, LoraFile, read_lora, write_lora

    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    for name, value in (("one", 1.0), ("two", 10.0)):
        adapter = Adapter(torch.full((2, 3), value), torch.ones(4, 2), 2.0)
        write_lora(tmp_path / f"{name}.safetensors", LoraFile({key: adapter}), "float16")
    one, two, out = (str(tmp_path / f"{name}.safetensors") for name in ("one", "two", "out"))
    result = run("merge-loras", out, f"{one}:0.5", f"{two}:-1")
    assert result.exit_code == 0 and "1 module of rank 4 or less, nothing is lost" in result.output
    merged = read_lora(Path(out)).adapters[key]
    torch.testing.assert_close(merged.up @ merged.down * merged.alpha / merged.rank, torch.full((4, 3), -19.0))
    cut = run("merge-loras", str(tmp_path / "cut.safetensors"), f"{one}:0.5", f"{two}:-1", "--rank", "1")
    assert "1 module of rank 1 or less, 0.00 % of the change is lost" in cut.output  # both are of rank 1
    for arguments, sentence in (
        ([out, f"{one}:1"], "is there already"),
        ([str(tmp_path / "new.safetensors"), one], "write FILE:WEIGHT"),
        ([str(tmp_path / "new.safetensors"), f"{one}:x"], "write FILE:WEIGHT"),
        ([str(tmp_path / "new.safetensors"), f"{one}:0"], "one has the weight 0"),
        ([str(tmp_path / "new.safetensors"), f"{one}:2", f"{one}:-2"], "The sum of one (2), one (-2) changes nothing"),
        ([str(tmp_path / "new.ckpt"), f"{one}:1"], "ends in .safetensors"),
    ):
        refused = run("merge-loras", *arguments)
        assert refused.exit_code == 1 and sentence in refused.output
    assert not (tmp_path / "new.safetensors").exists()


def test_doctor_lists_what_killed_runs_left_and_mends_it(characters: Path) -> None:
    run("doctor")  # makes the history
    command = [sys.executable, "-m", "sticker_pipeline_tests.dagster_kit.killed_step"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    left = characters.parent / "artifacts" / "good" / ".lora.73c8f605"
    left.mkdir(parents=True)
    shown = run("doctor").output
    assert "is dead: its process" in shown and f"{left} was left behind by a killed run" in shown
    assert shown.count("`sticker-pipeline doctor --mend`") == 2
    assert ", killed waits" not in shown and "under way    the GPU: run " in shown  # the dead run has the place
    mended = run("doctor", "--mend").output
    assert "(assets) was ended, for its process" in mended and f"mended       removed {left}" in mended
    assert "--mend" not in mended and not left.exists()
    assert "under way" not in run("doctor").output
    alone = run("doctor", "--gone", "box")
    assert alone.exit_code == 2 and "--gone names the machine of the runs that --mend ends" in alone.output


def test_a_full_disk_is_said_before_and_in_the_middle(
    characters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of Dagster's history, which is SQLite."""
    with small_disk(tmp_path / "small", 20 * 2**20) as disk:
        monkeypatch.setenv("DAGSTER_HOME", str(disk / "home"))
        with with_free(disk, 2**20):
            result = run("doctor")
        assert result.exit_code == 1
        assert f"Error: {disk / 'home'}: the run history needs up to 16.8 MB, and its disk has " in result.output
        with with_free(disk, 2**15):
            assert f"Error: DAGSTER_HOME={disk / 'home'}: its disk is full, 32.8 kB are free." in run("doctor").output
        monkeypatch.setattr("sticker_pipeline.dagster_kit.instance.enough", lambda *_: None)
        monkeypatch.setattr("sticker_pipeline.core.files.places.LEAST", 0)
        with with_free(disk, 2**15):
            result = run("doctor")
        assert result.exit_code == 1
        assert f"Error: {disk / 'home'} cannot be written: its disk is full. What was written" in result.output


def test_a_roll_back_says_when_another_release_counts_by_now(characters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = releases_folder(ArtifactStore(characters.parent / "artifacts"), "luma")
    for day, content in enumerate((b"one", b"two"), start=1):
        publish(folder, candidate(characters.parent / "made", content), datetime(2026, 3, day, tzinfo=UTC))
    monkeypatch.setattr("sticker_pipeline.cli.update.follow_roll_back", lambda *_, **__: True)
    assert CliRunner().invoke(work.main, ["release", "luma", "2"]).exit_code == 0
    result = CliRunner().invoke(work.main, ["release", "luma", "1"])
    assert result.exit_code == 1
    assert "Another release of luma was published meanwhile and is current now" in result.output


@pytest.mark.parametrize(("text", "words"), [("[1, 2]", "is no mapping of settings"), ("a: [", "is no YAML")])
def test_settings_of_dagster_that_cannot_be_read_are_named(characters: Path, text: str, words: str) -> None:
    home = characters.parent / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(text)
    result = run("doctor")
    assert result.exit_code == 1 and f"{home / 'dagster.yaml'} {words}" in result.output


def test_without_a_command_there_is_the_help() -> None:
    done = subprocess.run([sys.executable, "-m", "sticker_pipeline"], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "new-character" in done.stdout + done.stderr
