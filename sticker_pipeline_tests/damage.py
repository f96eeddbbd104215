"""Files damaged by a disk or a crash."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

GARBAGE = b"\xff"  # no UTF-8, and the beginning of nothing


def flip(path: Path, bit: int) -> None:
    """Change one bit of the file in place, as a disk does.

    Other names (hard links) of it change, too.
    """
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ (1 << bit % 8)]))


def damaged_files(folder: Path, flips: int, seed: int = 0) -> Iterator[str]:
    """Damage each file below `folder` in each way, and yield each damage.

    The file is restored before the next one. `flips` bits are flipped, one at a time. The file is emptied, cut at half,
    replaced by one byte and by a folder.
    """
    whole = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    assert whole
    numbers = random.Random(seed)
    for path, data in whole.items():
        bits = sorted(numbers.sample(range(8 * len(data)), min(flips, 8 * len(data))))
        for way in [*bits, "empty", "half", "garbage", "folder"]:
            _restore(folder, whole)
            if isinstance(way, int):
                flip(path, way)
            elif way == "folder":
                path.unlink()
                (path / "inside").mkdir(parents=True)
            else:
                path.write_bytes({"empty": b"", "half": data[: len(data) // 2], "garbage": GARBAGE}[way])
            yield f"{path.name}: {way}"
    _restore(folder, whole)


def _restore(folder: Path, whole: dict[Path, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for path, data in whole.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
