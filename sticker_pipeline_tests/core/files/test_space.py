"""Needed and free disk space, and the message of a failed write."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

from sticker_pipeline.core.files import space
from sticker_pipeline.core.files.space import (
    SpaceError,
    by_disk,
    cgroup_rooms,
    enough,
    enough_memory,
    frame_bytes,
    image_bytes,
    in_words,
    refusal,
    training_bytes,
    writing,
)


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size))


def test_too_little_is_one_sentence_that_names_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 31_000_000)
    with pytest.raises(SpaceError) as failure:
        enough(tmp_path / "not" / "yet", 1_250_000_000, "frames of luma", print)
    assert str(failure.value) == (
        f"{tmp_path}/not/yet: frames of luma needs up to 1.25 GB, and its disk has 31.0 MB free. Make room there, or "
        "choose another folder, and run this again."
    )


def test_what_just_fits_is_said_and_plenty_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    free(monkeypatch, 1500)
    enough(tmp_path, 1000, "frames of luma", said.append)
    assert said == []
    enough(tmp_path, 1001, "frames of luma", said.append)
    assert said == [f"{tmp_path}: frames of luma needs up to 1.0 kB, and its disk has 1.5 kB free: it just fits."]
    enough(tmp_path, 1500, "frames of luma", said.append)
    assert len(said) == 2
    with pytest.raises(SpaceError):
        enough(tmp_path, 1501, "frames of luma", said.append)


def test_memory_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(space, "available_memory", lambda: 4 * 10**9)
    enough_memory(2 * 10**9, "the training of luma", "Lower rank", said.append)
    assert said == []
    enough_memory(3 * 10**9, "the training of luma", "Lower rank", said.append)
    assert said == ["the training of luma needs up to 3.00 GB of memory, and 4.00 GB are available: it just fits."]
    with pytest.raises(
        SpaceError, match=r"4\.00 GB are available\. Lower rank, or end other programs, and run this again"
    ):
        enough_memory(5 * 10**9, "the training of luma", "Lower rank", said.append)


def test_sizes_in_words() -> None:
    words = {0: "0 bytes", 999: "999 bytes", 4200: "4.2 kB", 310 * 10**6: "310.0 MB", 12_345_678_901: "12.35 GB"}
    assert {size: in_words(size) for size in words} == words


def test_needs_on_one_disk_add_up(tmp_path: Path) -> None:
    assert by_disk({tmp_path / "a": 3, tmp_path / "b" / "c": 4, tmp_path: -9}) == {tmp_path / "a": 7}


def test_the_least_of_all_cgroups_counts(tmp_path: Path) -> None:
    def group(folder: Path, limit: str, used: int, cached: int, names: tuple[str, str], key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\n{key} {cached}\n")

    second = ("memory.max", "memory.current")
    group(tmp_path / "two" / "pod" / "box", "max", 100, 0, second, "inactive_file")
    group(tmp_path / "two" / "pod", "1000", 700, 50, second, "inactive_file")
    (tmp_path / "membership").write_text("0::/pod/box\n")
    assert cgroup_rooms(tmp_path / "two", tmp_path / "membership") == [350]

    first = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    group(tmp_path / "one" / "memory" / "box", "400", 500, 20, first, "total_inactive_file")
    (tmp_path / "membership").write_text("3:cpu,cpuacct:/box\n7:memory:/box\n")
    assert cgroup_rooms(tmp_path / "one", tmp_path / "membership") == [0]
    assert cgroup_rooms(tmp_path, tmp_path / "no such file") == []


def test_what_is_no_failed_write_passes(tmp_path: Path) -> None:
    for error in (FileNotFoundError(errno.ENOENT, "none", "x"), ValueError("x"), SafetensorError("not a header")):
        with pytest.raises(type(error)) as failure, writing(tmp_path):
            raise error
        assert failure.value is error
    assert refusal(tmp_path, PermissionError(errno.EACCES, "Permission denied", "an image of yours")) is None


def test_a_folder_that_may_not_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    for number in (errno.EACCES, errno.EPERM):
        said = refusal(tmp_path / "new" / "file", OSError(number, "no"))
        assert said == (
            f"{tmp_path}/new/file cannot be written: writing there is not allowed. What was written before is whole. "
            "Allow it, or choose another folder, and run this again."
        )


def test_libraries_that_hide_the_number_are_understood(tmp_path: Path) -> None:
    """The sentence of safetensors 0.8 on a full disk."""
    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(SpaceError, match=rf"{tmp_path} cannot be written: its disk is full\."), writing(tmp_path):
        raise error


def test_the_innermost_name_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(SpaceError, match="outer/inner cannot be written"),
        writing(tmp_path / "outer"),
        writing(tmp_path / "outer" / "inner"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_the_disk_that_is_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system names a file that it cannot open, and none that it cannot write more of."""
    opened = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "other" / "file"))
    assert (refusal(tmp_path / "artifact", opened) or "").startswith(f"{tmp_path}/other/file cannot be written: ")
    written = OSError(errno.ENOSPC, "No space left on device")
    assert (refusal(tmp_path / "artifact", written) or "").startswith(f"{tmp_path}/artifact cannot be written: ")
    temporary = tmp_path / "temporary"
    monkeypatch.setattr(space.tempfile, "gettempdir", lambda: str(temporary))
    monkeypatch.setattr(space, "free_bytes", lambda path: 0 if path == temporary else 10**9)
    assert refusal(tmp_path / "artifact", written) == (
        f"{temporary} cannot be written: its disk is full. What was written before is whole. Make room there, and run "
        "this again."
    )


def test_estimates_by_hand() -> None:
    assert frame_bytes("GIF", 100, 50, 10) == 32 * 1024 + 10 * (7000 + 12 * 1024)
    assert frame_bytes("JPEG", 100, 50, 1) == 32 * 1024 + 15000 + 12 * 1024
    assert image_bytes(3, 10, 10, copies=2) == 3 * (2 * (310 + 1024) + 1024) + 64 * 1024
    header, state = 400 * 10 + 16 * 1024, 1000 * 8 + 7000 + 3 * (400 * 10 + 16 * 1024)
    assert training_bytes(1000, 10, 2, 5, 2, 7000, True) == 3 * (2000 + header) + 2 * state + 5 * 1200 + 256 * 1024
