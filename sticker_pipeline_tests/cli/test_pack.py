"""`pack` and `send-pack` as a person types them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from sticker_pipeline.packing.pack_record import read_pack
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.packing.bot_api import TOKEN, USER, serving


def drawn(path: Path, colour: str, background: str = "white") -> None:
    image = Image.new("RGB", (200, 160), background)
    ImageDraw.Draw(image).ellipse((50, 30, 150, 130), fill=colour, outline="black", width=4)
    image.save(path)


@pytest.fixture
def workspace(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "characters").mkdir()
    images = tmp_path / "my fox"
    images.mkdir()
    drawn(images / "hello.png", "orange")
    drawn(images / "cry.png", "blue", "lightgrey")
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return {
        **os.environ,
        "STICKER_CHARACTERS": str(tmp_path / "characters"),
        "STICKER_ARTIFACTS": str(tmp_path / "artifacts"),
        "STICKER_MODELS": str(REPOSITORY / "data" / "models"),
        "DAGSTER_HOME": str(tmp_path / "dagster"),
        "TELEGRAM_BOT_TOKEN": TOKEN,
        "TELEGRAM_USER_ID": str(USER),
    }


def run(variables: dict[str, str], folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    code = "from sticker_pipeline.__main__ import run; run()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=variables, cwd=folder, capture_output=True, text=True, timeout=300
    )


def test_a_broken_image_is_named_and_the_others_are_packed(workspace: dict[str, str], tmp_path: Path) -> None:
    made = run(workspace, tmp_path, "pack", "my fox", "--platform", "telegram")
    assert made.returncode == 0, made.stdout + made.stderr
    folder = tmp_path / "my fox-pack"
    assert "broken.png: " in made.stdout and "2 stickers" in made.stdout and str(folder / "pack.html") in made.stdout
    (place,) = [path for path in (folder / "telegram").iterdir() if path.is_dir()]
    assert [one.slot for one in read_pack(place).stickers] == ["hello", "cry"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pack", "nobody"], "There is no folder of that name either."),
        (["pack", "my fox", "--platform", "telegam"], "is not one of 'telegram'"),
        (["pack", "my fox", "--out", "my fox/inside"], "lie in each other"),
        (["send-pack", "my fox", "telegram"], "has no set: sticker-pipeline pack my fox --platform telegram"),
        (["send-pack", "nobody", "telegram"], "neither a character nor a folder"),
    ],
)
def test_mistakes_are_named_before_work(
    workspace: dict[str, str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    found = run(workspace, tmp_path, *arguments)
    assert found.returncode in (1, 2) and said in " ".join((found.stdout + found.stderr).split())
    assert "Traceback" not in found.stderr


def test_an_edited_record_and_an_odd_folder_are_no_tracebacks(workspace: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "my fox").rename(tmp_path / "-fox")
    made = run(workspace, tmp_path, "pack", "--platform", "telegram", "--out", "made", "--", "-fox")
    assert made.returncode == 0, made.stdout + made.stderr
    (record,) = (tmp_path / "made" / "telegram").glob("*/pack.json")
    record.write_text(record.read_text().replace('"kind": "static"', '"kind": "statik"'))
    with serving() as server:
        found = run(workspace, tmp_path, "send-pack", "made", "telegram", "--yes", "--api-url", server.url)
    assert found.returncode == 1 and "Did you mean 'telegram static'?" in found.stdout + found.stderr
    assert "Traceback" not in found.stderr
