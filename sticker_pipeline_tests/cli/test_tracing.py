"""`trace` and `releases --sources`: their words, and exit statuses."""

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from sticker_pipeline.benchmark.releases import publish, read, releases_folder
from sticker_pipeline.cli.commands import main
from sticker_pipeline.core.storage import ArtifactStore, file_sha256
from sticker_pipeline_tests.benchmark.retrained import DAY, Retrained, lora_file
from sticker_pipeline_tests.dataset.small_set import noise
from sticker_pipeline_tests.publishing.candidates import SOURCES, candidate, sources_file


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Retrained:
    """Two releases; gifs/a.gif, now `kept`, was in the first alone."""
    luma = Retrained.begin(tmp_path_factory.mktemp("history"))
    luma.release()
    shutil.move(luma.folder / "gifs" / "a.gif", luma.root / "kept")
    luma.release()
    return luma


@pytest.fixture
def luma(history: Retrained, monkeypatch: pytest.MonkeyPatch) -> Retrained:
    monkeypatch.setenv("STICKER_ARTIFACTS", str(history.store.root))
    return history


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    monkeypatch.setenv("STICKER_ARTIFACTS", str(tmp_path / "artifacts"))
    return ArtifactStore(tmp_path / "artifacts")


def run(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def cells(result: Result) -> list[list[str]]:
    """The words of each line."""
    return [line.split() for line in result.output.splitlines()]


def test_an_image_names_its_releases(luma: Retrained) -> None:
    assert run("trace", luma.root / "kept").output.splitlines() == [
        "kept: found by its bytes",
        "release  published         split  weight  frames  path then",
        "luma 1   2026-03-02 12:30  train  12.50%  3 of 3  gifs/a.gif",
    ]
    shown = cells(run("trace", luma.folder / "gifs" / "b.gif"))[2:]
    assert shown == [
        ["luma", "1", "2026-03-02", "12:30", "holdout", "4", "of", "4", "gifs/b.gif"],
        ["luma", "2", "(current)", "2026-03-03", "12:30", "holdout", "4", "of", "4", "gifs/b.gif"],
    ]


def test_a_lora_names_its_sources(luma: Retrained, tmp_path: Path) -> None:
    release = read(releases_folder(luma.store, "luma"), 1)
    shutil.copy(release.lora, tmp_path / "downloaded")
    lines = run("trace", tmp_path / "downloaded").output.splitlines()
    assert lines[:2] == [
        "downloaded is release 1 of luma (epoch 6, 2026-03-02 12:30)",
        "Files trained on: 5, with 7 frames; for validation: 0; held out: 3",
    ]
    assert lines[2].split() == ["split", "weight", "frames", "SHA-256", "path", "captions", "the", "first"]
    sha256 = file_sha256(luma.root / "kept")[:12]
    assert f"train    12.50%       3  {sha256}  gifs/a.gif             3  skv_luma, pose 0" in lines
    assert len(lines) == 3 + 8
    assert run("releases", "luma", "--sources", "1").output.splitlines() == lines[1:]


def test_it_is_said_how_a_lora_was_found(luma: Retrained, tmp_path: Path) -> None:
    second = read(releases_folder(luma.store, "luma"), 2).lora
    path, of = tmp_path / "x.safetensors", "release 2 of luma (epoch 6, 2026-03-03 12:30, the current one)"
    save_file(load_file(second), path)
    assert f"x.safetensors has the weights of {of}, behind another header" in run("trace", path).output
    save_file({"a": load_file(second)["lora_unet_some_module.alpha"]}, path, metadata_of(second))
    assert f"x.safetensors says in its metadata that it is {of}; its weights are others" in run("trace", path).output
    unreleased = luma.store.folder("luma", "lora") / "checkpoints" / "epoch_02.safetensors"
    assert "is epoch 2 of the last training of luma, not released" in run("trace", unreleased).output


def metadata_of(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    return dict(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"])


def test_all_of_it_is_json(luma: Retrained) -> None:
    image = json.loads(run("trace", luma.root / "kept", "--json").output)
    sha256 = file_sha256(luma.root / "kept")
    assert image == {
        "file": str(luma.root / "kept"),
        "kind": "image",
        "found_by": "bytes",
        "found": [
            {"character": "luma", "number": 1, "published": "2026-03-02T12:30:00+00:00", "is_current": False,
             "path": "gifs/a.gif", "group": "gifs", "sha256": sha256, "split": "train", "frames": 3, "alike": 3,
             "weight": 0.125, "caption": "skv_luma, pose 0", "captions": 3},
        ],
        "searched": {"releases": 2, "trainings": 0, "characters": ["luma"]},
        "not_recorded": [],
        "problems": [],
    }  # fmt: skip
    lora = json.loads(run("trace", read(releases_folder(luma.store, "luma"), 2).lora, "--json").output)
    assert (lora["kind"], lora["found"][0]["number"], len(lora["found"][0]["sources"])) == ("lora", 2, 7)
    assert lora["found"][0]["sources"][0]["sha256"] == file_sha256(luma.folder / "stickers" / "0.png")


def test_an_unknown_file_is_one_sentence(luma: Retrained, tmp_path: Path) -> None:
    noise(999).save(tmp_path / "other.png")
    sentence = f"{tmp_path / 'other.png'} is in none of 2 releases of 1 character in {luma.store.root}."
    assert run("trace", tmp_path / "other.png", status=1).output == f"Error: {sentence}\n"
    lora_file(tmp_path / "other.safetensors", 0.5)
    found = run("trace", tmp_path / "other.safetensors", "--json", status=1)
    assert json.loads(found.stdout)["found"] == []
    assert "is none of 2 releases and 1 training of 1 character in" in found.stderr


def test_what_cannot_be_read_has_status_2(luma: Retrained, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("no image")
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "notes": "cannot be traced: it is no image, and as a LoRA it is not a safetensors file.",
        "pipe": "cannot be traced: a named pipe, which is never opened",
        "none": "does not exist",
    }.items():
        assert words in run("trace", tmp_path / name, status=2).output


def test_without_a_release_nothing_is_found(store: ArtifactStore, tmp_path: Path) -> None:
    noise(1).save(tmp_path / "x.png")
    assert (
        f"is in none of 0 releases of 0 characters in {store.root}."
        in run("trace", tmp_path / "x.png", status=1).output
    )
    assert not store.root.exists()


def test_what_was_not_searched_is_said(store: ArtifactStore, tmp_path: Path) -> None:
    folder = releases_folder(store, "luma")
    old = publish(folder, candidate(tmp_path, b"old", sources=None), DAY).release
    publish(folder, candidate(tmp_path, b"new"), DAY)
    sentence = "release 1 of luma was made by an earlier version, which did not record its sources"
    noise(1).save(tmp_path / "x.png")
    output = run("trace", tmp_path / "x.png", status=1).output
    assert f"Not searched: {sentence}\n" in output
    assert f"is in none of 1 release of 1 character (1 more could not be searched) in {store.root}." in output
    assert run("releases", "luma", "--sources", "1", status=1).output == f"Error: {sentence}\n"
    (folder / "0002" / "sources.parquet").write_bytes(b"PAR1")
    assert "problem: " in run("trace", tmp_path / "x.png", status=1).output
    damaged = run("releases", "luma", "--sources", "2", status=1).output
    assert f"{folder / '0002' / 'sources.parquet'} is damaged: it is not what release.json says." in damaged
    assert (
        old.record.number == 1
        and "There is no release 7 in" in run("releases", "luma", "--sources", "7", status=1).output
    )


def test_long_tables_are_cut_and_foreign_text_is_escaped(store: ArtifactStore, tmp_path: Path) -> None:
    name = "gifs/\x1b[2J" + "狐" * 100 + ".gif"
    paths = [name, *(f"gifs/{number:02}.gif" for number in range(1, 45))]
    rows = [
        (path, "gifs", "a1" * 32, 0, str(number), "c0" * 32, "train", 1 / 45, "a\nb\x7f")
        for number, path in enumerate(paths)
    ]
    folder = releases_folder(store, "luma")
    release = publish(folder, candidate(tmp_path, b"one", sources=sources_file(rows)), DAY).release
    output = run("releases", "luma", "--sources", "1").output
    lines = output.splitlines()
    assert lines[-1] == f"and 5 more; all: sticker-pipeline trace --json {release.lora}"
    assert len(lines) == 2 + 40 + 1 and "\x1b" not in output and "\x7f" not in output
    assert "\\x1b[2J狐" in output and "more letters)" in output and "a\\nb\\x7f" in output


def test_json_is_valid_with_any_letters(store: ArtifactStore, tmp_path: Path) -> None:
    caption = "".join(map(chr, range(1, 256))) + "\u202e狐\U0001f98a"
    rows = [(*SOURCES[0][:6], "train", 1.0, caption)]
    noise(1).save(tmp_path / "x.png")
    rows[0] = (*rows[0][:2], file_sha256(tmp_path / "x.png"), *rows[0][3:])
    publish(releases_folder(store, "luma"), candidate(tmp_path, b"one", sources=sources_file(rows)), DAY)
    output = run("trace", tmp_path / "x.png", "--json").output
    assert output.isascii() and "\x7f" not in output and json.loads(output)["found"][0]["caption"] == caption
