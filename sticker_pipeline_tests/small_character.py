"""A small character, with files of a demo character: its LoRA trains in seconds."""

import shutil
from pathlib import Path

from sticker_pipeline_tests.conftest import REPOSITORY

DEMO = REPOSITORY / "data" / "characters"


def add_small_character(folder: Path, demo: str, settings: str) -> None:
    """Add the smallest files of `demo`: three GIFs, four stickers, four images of art."""
    for group, most in (("gifs", 3), ("stickers", 4), ("art", 4)):
        (folder / group).mkdir(parents=True)
        files = [path for path in (DEMO / demo / group).iterdir() if path.is_file()]
        for path in sorted(files, key=lambda path: (path.stat().st_size, path.name))[:most]:
            shutil.copy(path, folder / group)
    (folder / "character.yaml").write_text(settings, encoding="utf-8")
