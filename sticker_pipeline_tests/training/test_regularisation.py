"""Regularisation images from a folder: any format, captions beside them, broken files."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.core.settings import BucketSettings
from sticker_pipeline.dataset.buckets import assign_buckets
from sticker_pipeline.training import regularisation as module
from sticker_pipeline.training.cache.latents import prepare, views_of
from sticker_pipeline.training.data import read_training_set
from sticker_pipeline.training.regularisation import read_regularisation
from sticker_pipeline.training.spec import SpecError
from sticker_pipeline_tests.training.conftest import SpecMaker

ASPECT = BucketSettings(step=8, min_side=8)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A still in another folder, one that EXIF turns, a GIF, and files that are no images."""
    root = tmp_path / "others"
    (root / "1_girl").mkdir(parents=True)
    noise(60, 30, 1).save(root / "1_girl" / "wide.png")
    (root / "1_girl" / "wide.txt").write_text("1girl, smile\nan old line\n", encoding="utf-8")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    noise(60, 30, 2).save(root / "turned.jpg", exif=exif)
    (root / "turned.jpg.txt").write_text("\ufeff1boy", encoding="utf-8")
    (root / "turned.txt").write_text("of another image", encoding="utf-8")
    noise(40, 40, 3).save(root / "moving.gif", save_all=True, append_images=[noise(40, 40, 4)])
    (root / "LICENSE.txt").write_text("Free for all.", encoding="utf-8")
    return root


def test_rows_of_all_images(folder: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    table = read_regularisation(folder, tmp_path / "cache", 64, ASPECT, share=0.5, note=notes.append)
    assert table["file"].tolist() == ["1_girl/wide.png", "moving.gif", "turned.jpg"]
    assert table["caption"].tolist() == ["1girl, smile", "", "1boy"]
    assert table[["width", "height"]].to_numpy().tolist() == [[60, 30], [40, 40], [30, 60]]
    sizes = assign_buckets(table["width"].to_numpy(), table["height"].to_numpy(), 64, ASPECT)
    assert (table[["bucket_width", "bucket_height"]].to_numpy() == sizes).all()
    assert table["probability"].tolist() == pytest.approx([0.5 / 3] * 3)
    assert [Path(path) for path in table["path"]] == [folder / file for file in table["file"]]
    assert table["regularisation"].all() and table["frame_id"].is_unique
    assert notes == ["regularisation: 1 of 3 images without a caption, taken as empty"]


def test_they_stand_beside_the_training_set_and_are_prepared_like_it(
    folder: Path, make_spec: SpecMaker, tmp_path: Path
) -> None:
    spec = make_spec(regularisation=folder, buckets=ASPECT)
    table = read_training_set(spec)
    train = read_training_set(make_spec())
    assert list(table.columns) == list(train.columns)
    assert (table.dtypes == train.dtypes).all()
    assert table["probability"].sum() == pytest.approx(1)
    views = views_of(table, spec)
    turned = prepare(views[-1][0])
    assert turned.size == (60, 30)
    assert turned.pixels.shape[:2] == (table["bucket_height"].iloc[-1], table["bucket_width"].iloc[-1])


def test_broken_images_are_left_out_with_a_reason(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "1_girl" / "wide.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:-200])
    (folder / "page.png").write_text("<html>", encoding="utf-8")
    Image.new("RGB", (50, 50), "red").save(folder / "blank.png")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    notes: list[str] = []
    table = read_regularisation(folder, tmp_path / "cache", 64, ASPECT, share=0.5, note=notes.append)
    assert len(table) == 3
    left_out = [line for line in notes if "left out" in line]
    names = ["blank.png", "cut.png", "gone.png", "page.png", "pipe.png"]
    assert [line.split()[3].rstrip(":") for line in left_out] == names
    assert "blank: one single colour" in left_out[0] and "a web page" in left_out[3]
    assert left_out[2].endswith("gone.png: a link to a file that does not exist")
    assert left_out[4].endswith("pipe.png: a named pipe, which is never opened")


def test_many_broken_images_are_told_in_short(folder: Path, tmp_path: Path) -> None:
    for number in range(module.SHOWN + 3):
        (folder / f"{number:02}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    notes: list[str] = []
    read_regularisation(folder, tmp_path / "cache", 64, ASPECT, share=0.5, note=notes.append)
    assert len(notes) == module.SHOWN + 2 and notes[-2] == "regularisation: left out 3 more"


def test_good_images_are_decoded_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_regularisation(folder, tmp_path / "cache", 64, ASPECT, share=0.5)
    decoded: list[Path] = []
    judge = module._judge
    monkeypatch.setattr(module, "_judge", lambda path, roots: decoded.append(path) or judge(path, roots))
    assert read_regularisation(folder, tmp_path / "cache", 64, ASPECT, share=0.5).equals(first)
    assert all(path.suffix == ".txt" for path in decoded)
    noise(20, 50, 9).save(folder / "1_girl" / "wide.png")
    again = read_regularisation(folder, tmp_path / "cache", 64, ASPECT, share=0.5)
    assert again[["width", "height"]].to_numpy().tolist()[0] == [20, 50]
    for memo in (tmp_path / "cache").rglob("*.json"):
        memo.write_text("half of a memo", encoding="utf-8")
    assert read_regularisation(folder, tmp_path / "cache", 64, ASPECT, share=0.5).equals(again)


def test_folders_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"regularisation: there is no folder .*nowhere"):
        read_regularisation(tmp_path / "nowhere", tmp_path / "cache", 64, ASPECT, share=0.5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match=r"regularisation: .*empty has no usable image"):
        read_regularisation(tmp_path / "empty", tmp_path / "cache", 64, ASPECT, share=0.5)
    with pytest.raises(SpecError, match=r"regularisation: buckets\.step is 64"):
        read_regularisation(folder, tmp_path / "cache", 32, BucketSettings(), share=0.5)


def test_an_image_whose_caption_or_name_cannot_be_read_is_left_out_and_stops_nothing(
    folder: Path, tmp_path: Path
) -> None:
    whole = read_regularisation(folder, tmp_path / "cache", 64, ASPECT, share=0.5)
    (folder / "moving.txt").write_bytes("1girl, café".encode("cp1252"))
    noise(20, 50, 9).save(folder / os.fsdecode(b"\x83.png"))
    notes: list[str] = []
    table = read_regularisation(folder, tmp_path / "cache", 64, ASPECT, share=0.5, note=notes.append)
    left = set(whole["file"]) - set(table["file"])
    assert [Path(name).stem for name in left] == ["moving"]
    assert any("moving.txt cannot be read: byte 10 is not UTF-8: save it as UTF-8" in note for note in notes)
    assert any(r"\x83.png: its name is not UTF-8: rename it" in note or r"\udc83.png: its" in note for note in notes)
    assert table["probability"].sum() == pytest.approx(0.5)


def test_a_caption_without_a_word_gives_way_to_one_that_has_words(folder: Path, tmp_path: Path) -> None:
    (folder / "moving.txt").write_text("\n", encoding="utf-8")
    (folder / "moving.caption").write_text("1cat", encoding="utf-8")
    (folder / "1_girl" / "wide.png.txt").write_bytes("1girl, café".encode("cp1252"))
    notes: list[str] = []
    table = read_regularisation(folder, tmp_path / "cache", 64, ASPECT, share=0.5, note=notes.append)
    assert table["caption"].tolist() == ["1girl, smile", "1cat", "1boy"]
    assert notes == [
        "regularisation: passed over 1_girl/wide.png.txt: byte 10 is not UTF-8: save it as UTF-8: "
        "the caption of 1_girl/wide.png is 1_girl/wide.txt",
        "regularisation: passed over moving.txt: its first line is empty: the caption of moving.gif is moving.caption",
    ]
