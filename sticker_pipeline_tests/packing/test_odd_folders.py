"""Packs of folders: odd images and names, and what a person decides."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sticker_pipeline.core.character import Pack
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.packing.animation import read_animation
from sticker_pipeline.packing.compose import Composed
from sticker_pipeline.packing.folder import FolderError, pack_folder


def drawn(number: int = 0, side: int = 64) -> Image.Image:
    image = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(image)
    draw.ellipse((8, 8, side - 8, side - 8), fill=(200, 20 * number % 256, 40, 255))
    draw.rectangle((16, 16, 20 + number, 24), fill=(0, 0, 0, 255))
    return image


def packed(source: Path, **settings: object) -> Composed:
    pack = Pack.model_validate({"platforms": ["discord"], **settings})
    return pack_folder(
        source,
        source.with_name("made"),
        pack,
        MediaSettings(),
        source.with_name("cache"),
        lambda *_: None,
        lambda: None,
    )


def slots(made: Composed) -> list[str]:
    return [one.slot for one in made.stickers]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "my fox"
    (folder / "pack" / "override").mkdir(parents=True)
    drawn().save(folder / "hello.png")
    return folder


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (64, 64)),
        Image.new("RGB", (64, 64), "red"),
        Image.new("RGB", (1, 1), "red"),
        Image.new("RGB", (4000, 3), "red"),
    ],
    ids=["transparent", "one colour", "one pixel", "a line"],
)
@pytest.mark.parametrize("place", ["thanks.png", "pack/override/thanks.png"])
def test_an_image_that_shows_nothing_is_named_and_the_others_are_packed(
    source: Path, image: Image.Image, place: str
) -> None:
    image.save(source / place)
    made = packed(source)
    assert slots(made) == ["hello"]
    assert any("thanks.png" in problem and "nothing is visible" in problem for problem in made.problems)
    (source / "hello.png").unlink()
    with pytest.raises(FolderError, match=r"No sticker can be made.*thanks\.png"):
        packed(source)


def test_an_animation_that_begins_empty_begins_with_its_subject(source: Path) -> None:
    frames = [Image.new("RGBA", (64, 64)), drawn(1), drawn(5)]
    frames[0].save(source / "laugh.gif", save_all=True, append_images=frames[1:], duration=100, disposal=2)
    assert sorted(slots(packed(source))) == ["hello", "laugh"]
    master = read_animation(source.with_name("made") / "masters" / "laugh.png", MediaSettings())
    black = ((master.frames[..., 3] == 255) & (master.frames[..., :3] == 0).all(axis=-1)).sum(axis=(1, 2))
    assert np.argsort(np.argsort(black)).tolist() in ([1, 2, 0], [2, 0, 1])  # the loop's order, and never empty first


def test_a_sticker_of_the_same_pixels_is_there_once(source: Path) -> None:
    drawn().save(source / "thanks.png", compress_level=0)
    made = packed(source)
    assert slots(made) == ["hello"]
    assert any("thanks.png shows the same as the sticker of hello" in problem for problem in made.problems)


@pytest.mark.parametrize("name", ["日本語.png", "😀.png", "x" * 200 + ".png", "a／..／b.png", "A b.png"])
def test_masters_have_plain_names(source: Path, name: str) -> None:
    drawn(3).save(source / "pack" / "override" / name)
    made = packed(source)
    assert len(made.stickers) == 2
    files = [one.file.name for one in made.stickers]
    assert all(file.isascii() and len(file) < 60 and not file.startswith(".") for file in files)


def test_a_stated_slot_is_no_path(source: Path, tmp_path: Path) -> None:
    drawn(3).save(source / "thanks.png")
    packed(source)
    names = {row[1]: row[0] for row in _candidates(source)}
    target = str(tmp_path / "outside")
    choice = {"order": [target, "../../up"], "accept": {target: names["thanks"], "../../up": names["hello"]}}
    (source / "pack" / "picks.yaml").write_text(json.dumps(choice))
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    made = packed(source)
    assert sorted(slots(made)) == ["hello", "thanks"] and len(made.problems) == 4
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "made", "my fox"]


@pytest.mark.parametrize("files", [{"files.json": "[1]"}, {"files.json": '{"a": "b"}'}, {"files.json": "[1]", "x": ""}])
def test_a_folder_of_somebody_elses_is_left_alone(source: Path, files: dict[str, str]) -> None:
    target = source.with_name("made")
    target.mkdir()
    for name, text in files.items():
        (target / name).write_text(text)
    with pytest.raises(FolderError, match="choose another folder with --out"):
        packed(source)
    assert {path.name: path.read_text() for path in target.iterdir()} == files


def _candidates(source: Path) -> list[tuple[str, str]]:
    import pandas as pd

    table = pd.read_parquet(source.with_name("made") / "choice.parquet")
    return list(zip(table["candidate"], table["slot"], strict=True))
