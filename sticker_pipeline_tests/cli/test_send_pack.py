"""The commands `pack FOLDER` and `send-pack`: a folder becomes a pack, and is sent to a Bot API on this machine."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageDraw

from sticker_pipeline.cli import commands, work
from sticker_pipeline.core.object_store import bucket
from sticker_pipeline.core.stores import open_store
from sticker_pipeline_tests.core.object_store.s3_server import s3_server
from sticker_pipeline_tests.packing.bot_api import TOKEN, USER, Server, serving

SET = "moth_static_by_Stickers_test_bot"


def drawing(path: Path, colour: str) -> None:
    """Save a disc with two eyes on white; antialiased."""
    image = Image.new("RGB", (384, 384), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((60, 60, 324, 324), colour, "black", 12)
    for left in (130, 220):
        draw.ellipse((left, 150, left + 34, 210), "black")
    image.resize((128, 128), Image.Resampling.LANCZOS).save(path)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "moth"
    folder.mkdir()
    drawing(folder / "hello.png", "gold")
    drawing(folder / "thank_you.png", "orchid")
    monkeypatch.setenv("STICKER_CHARACTERS", str(tmp_path / "characters"))
    monkeypatch.setenv("STICKER_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("STICKER_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", TOKEN)
    monkeypatch.setenv("TELEGRAM_USER_ID", str(USER))
    return folder


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def pack(folder: Path, *options: str) -> Result:
    """Run the code of the process that `pack FOLDER` starts."""
    return CliRunner().invoke(work.main, ["pack-folder", str(folder), "--platform", "telegram", *options])


def send(folder: Path, server: Server, *options: str) -> Result:
    return CliRunner().invoke(commands.main, ["send-pack", str(folder), "telegram", "--api-url", server.url, *options])


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_folder_becomes_a_pack_and_is_sent_once(images: Path, server: Server) -> None:
    before = hashes(images)
    made = pack(images)
    assert made.exit_code == 0, made.output
    target = images.with_name("moth-pack")
    assert f"Choose:     {target / 'pack.html'}" in made.output
    record = json.loads((target / "telegram" / "moth_static" / "pack.json").read_text())
    assert [one["slot"] for one in record["stickers"]] == ["hello", "thanks"]

    looked = send(target, server)
    assert looked.exit_code == 0, looked.output
    assert "Nothing was sent" in looked.output and server.sets == {}

    sent = send(target, server, "--yes")
    assert sent.exit_code == 0, sent.output
    assert f"https://t.me/addstickers/{SET}" in sent.output and TOKEN not in sent.output
    assert len(server.sets[SET].stickers) == 2
    kept, methods = list(server.sets[SET].stickers), server.methods()
    assert send(target, server, "--yes").exit_code == 0
    repeated = {*server.methods()[len(methods) :]}
    assert not {"createNewStickerSet", "addStickerToSet", "replaceStickerInSet"} & repeated

    drawing(images / "thank_you.png", "teal")
    assert pack(images).exit_code == 0
    assert send(target, server, "--yes").exit_code == 0
    now = server.sets[SET].stickers
    assert now[0] == kept[0] and now[1].file.data != kept[1].file.data and len(now) == 2
    assert hashes(images).keys() == before.keys()
    assert hashes(images)["hello.png"] == before["hello.png"]


def test_the_pack_of_a_character_in_an_object_store_is_sent_once_by_two_machines(
    images: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pack(images).exit_code == 0
    (tmp_path / "characters" / "moth").mkdir(parents=True)
    (tmp_path / "characters" / "moth" / "character.yaml").touch()
    with s3_server(tmp_path / "s3") as objects:
        for name, value in objects.environment.items():
            monkeypatch.setenv(name, value)
        bucket._opened.cache_clear()
        url = f"{objects.make_bucket('tests')}/artifacts"
        monkeypatch.setenv("STICKER_ARTIFACTS", url)
        here = open_store(url, tmp_path / "here")
        with here.writing("moth", "sticker_pack") as staging:
            shutil.copytree(images.with_name("moth-pack"), staging, dirs_exist_ok=True)
            here.publish(staging, "moth", "sticker_pack", code_version="1", inputs={}, settings={})
        for machine in ("a", "b"):
            monkeypatch.setenv("STICKER_SCRATCH", str(tmp_path / machine))
            sent = send(Path("moth"), server, "--yes")
            assert sent.exit_code == 0, sent.output
    assert len(server.sets[SET].stickers) == 2
    assert server.methods().count("createNewStickerSet") == 1


def test_picks_and_overrides_of_a_folder_are_read_and_not_written(images: Path, tmp_path: Path) -> None:
    (images / "pack" / "override").mkdir(parents=True)
    (images / "pack" / "picks.yaml").write_text("title: Moths\nemoji: {hello: [🦋]}\norder: [thanks]\n")
    drawing(images / "pack" / "override" / "sorry.png", "navy")
    before = hashes(images)
    assert pack(images, "--out", str(tmp_path / "out")).exit_code == 0
    assert hashes(images) == before
    record = json.loads((tmp_path / "out" / "telegram" / "moth_static" / "pack.json").read_text())
    assert record["title"] == "Moths"
    assert [(one["slot"], one["emoji"][0]) for one in record["stickers"]][:2] == [("thanks", "🙏"), ("hello", "🦋")]
    assert [one["slot"] for one in record["stickers"]][2:] == ["sorry"]


def test_a_changed_pack_is_not_replaced(images: Path) -> None:
    assert pack(images).exit_code == 0
    sheet = images.with_name("moth-pack") / "sheet.png"
    sheet.write_bytes(b"mine")
    result = pack(images)
    assert result.exit_code == 1 and f"{sheet} was changed by somebody" in result.output
    assert sheet.read_bytes() == b"mine"


def test_a_missing_token_is_explained(images: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pack(images).exit_code == 0
    monkeypatch.delenv("TELEGRAM_BOT_TOKEN")
    result = send(images.with_name("moth-pack"), server)
    assert result.exit_code == 1 and "TELEGRAM_BOT_TOKEN is not set" in result.output
