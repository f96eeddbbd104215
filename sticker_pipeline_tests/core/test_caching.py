"""Checksums detect changes; a damaged file counts as missing, is named and removed."""

import errno
import io
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.core import caching
from sticker_pipeline.core.caching import (
    SEALS,
    check_png,
    file_hashes,
    folder_hashes,
    intact_folder,
    read_cached,
    read_memo,
    read_png,
    seal_folder,
    sealed,
    unsealed,
    write_cached,
    write_memo,
)
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline_tests.damage import damaged_files, flip


def test_no_flipped_bit_and_no_cut_passes() -> None:
    data = sealed(b"some content")
    assert data == b"crc32 %08x\nsome content" % caching.checksum(b"some content")
    assert unsealed(data) == b"some content"
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="checksum"):
            unsealed(bytes(damaged))
    for damaged in (b"", data[:-1], data + b"x", bytes(len(data)), b"some content"):
        with pytest.raises(ValueError, match="checksum"):
            unsealed(damaged)
    assert unsealed(sealed(b"")) == b""


def test_a_damaged_entry_is_named_once_and_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a" / "entry"
    assert read_cached(path) is None and not caplog.records
    write_cached(path, b"content")
    assert read_cached(path) == b"content" and not caplog.records
    flip(path, 150)
    with caplog.at_level(logging.WARNING):
        assert read_cached(path) is None and read_cached(path) is None
    assert caplog.messages == [
        f"{path} is damaged (its checksum does not fit): it is treated as missing and made again."
    ]
    assert not path.exists()


def test_each_damage_of_a_memo_is_none(tmp_path: Path) -> None:
    value = {"seconds": 1.5, "name": "é\udcff"}
    path = tmp_path / "memos" / "memo.json"
    write_memo(path, value)
    assert read_memo(path) == value
    for damage in damaged_files(tmp_path / "memos", flips=60):
        assert read_memo(path) is None, damage
        write_memo(path, value)
        assert read_memo(path) == value, damage


def test_a_memo_that_may_not_be_read_or_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    write_memo(tmp_path / "memo.json", {"a": 1})
    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    assert read_memo(tmp_path / "memo.json") is None


def test_too_many_open_files_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    write_memo(tmp_path / "memo.json", {"a": 1})
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            read_memo(tmp_path / "memo.json")
    assert read_memo(tmp_path / "memo.json") == {"a": 1}


def test_a_sealed_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "entry"
    assert not intact_folder(folder) and not caplog.records
    folder.mkdir()
    (folder / "one").write_bytes(os.urandom(3 * 2**20 // 2))
    (folder / "two").write_bytes(b"two")
    seal_folder(folder)
    assert intact_folder(folder) and not caplog.records
    for damage in damaged_files(folder, flips=10):
        assert not intact_folder(folder), damage
        assert not folder.exists()
    assert intact_folder(folder)
    (folder / SEALS).unlink()
    assert not intact_folder(folder) and not folder.exists()
    assert caplog.messages[-1] == f"{folder} is damaged (it has no checksums): it is treated as missing and made again."
    folder.mkdir()
    seal_folder(folder)
    (folder / "three").write_bytes(b"")
    assert not intact_folder(folder) and not folder.exists()


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L", "P"])
def test_no_flipped_bit_of_a_png_passes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.png"
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 4), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    data = path.read_bytes()
    assert np.array_equal(np.asarray(read_png(path)), np.asarray(Image.open(path)))
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises((OSError, ValueError, SyntaxError)):
            read_png(path)
    for size in range(len(data)):
        with pytest.raises(ValueError, match=r"cut off|checksum|no PNG"):
            check_png(data[:size])


def test_an_image_of_another_kind_is_no_png(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "BMP")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="no PNG"):
        read_png(tmp_path / "a.png")


def test_file_hashes_read_a_file_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.write_text(file.name)
    memo = tmp_path / "memo.json"
    expected = {file: file_sha256(file) for file in files}
    assert file_hashes([*files, tmp_path / "gone"], memo) == expected
    read: list[Path] = []
    monkeypatch.setattr(caching, "file_sha256", lambda path: read.append(path) or file_sha256(path))
    assert file_hashes(files, memo) == expected
    assert read == []
    files[1].write_text("B")  # the same size: time tells
    os.utime(files[1], ns=(1, 1))
    assert file_hashes(files, memo)[files[1]] != expected[files[1]]
    assert read == [files[1]]
    memo.write_text("not JSON")
    assert file_hashes(files[:1], memo) == {files[0]: expected[files[0]]}


def test_the_hashes_of_a_folder_go_by_the_path_inside_it(tmp_path: Path) -> None:
    (tmp_path / "model" / "unet").mkdir(parents=True)
    (tmp_path / "model" / "unet" / "config.json").write_text("{}")
    (tmp_path / "model" / "a").write_text("a")
    expected = {"a": file_sha256(tmp_path / "model" / "a")}
    expected["unet/config.json"] = file_sha256(tmp_path / "model" / "unet" / "config.json")
    assert folder_hashes(tmp_path / "model", tmp_path / "memos") == expected
    assert len(list((tmp_path / "memos").iterdir())) == 1
