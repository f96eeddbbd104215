"""Small disks and file limits that make a write fail midway."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from sticker_pipeline.core.files.space import SpaceError
from sticker_pipeline.core.storage import file_sha256

PAGE = 4096  # what a tmpfs gives at a time


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of `size` bytes mounted at the new `folder`. Skips where none can be mounted."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a tmpfs")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def with_free(disk: Path, size: int) -> Iterator[None]:
    """Inside the block the small `disk` has `size` bytes free, in whole pages."""
    filler = disk / "filler"
    filler.write_bytes(b"\0" * max(0, shutil.disk_usage(disk).free - size))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def with_file_limit(_: Path, size: int) -> Iterator[None]:
    """Inside the block no file of this process may grow beyond `size` bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files_below(folder: Path) -> dict[str, str]:
    """Path below `folder` -> hash, of all files; locks, which are empty, are not counted."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".lock"))
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def fails_until_there_is_room(
    folder: Path,
    action: Callable[[], object],
    squeezed: Callable[[int], AbstractContextManager[None]],
    *,
    step: int = PAGE,
    steps: int = 400,
) -> list[str]:
    """Run `action`, which writes into `folder`, with more and more room until it succeeds.

    Room is 0, 1, 2 … times `step` bytes; then it runs once more. Each failure must be a SpaceError of ours, leave every
    earlier file as it was, and nothing half-written beside them: what it adds must be whole files that stay. Returns
    the failures' messages; there must be one at least.
    """
    said: list[str] = []
    for number in range(steps):
        before = files_below(folder)
        try:
            with squeezed(number * step):
                action()
        except SpaceError as error:
            said.append(str(error))
            after = files_below(folder)
            assert before.items() <= after.items(), f"changed: {before.items() - after.items()}"
            assert not [name for name in after if any(part.startswith(".") for part in Path(name).parts)]
        else:
            action()  # what was made is whole: nothing is in the way of making it again
            break
    assert said, "it never failed"
    assert number < steps - 1, f"it never succeeded: {said[-1]}"
    for sentence in said:
        assert "What was written before is whole. " in sentence and sentence.endswith(", and run this again."), sentence
        assert str(folder) in sentence, sentence
    return said
