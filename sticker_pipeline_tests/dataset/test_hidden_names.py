"""Other people's training folders with hidden letters in names, or an endless record."""

from pathlib import Path

import pytest
from PIL import Image

from sticker_pipeline.core.character import CharacterError
from sticker_pipeline.dataset.kohya_import import import_kohya


def folder_with(source: Path, name: str) -> None:
    """A training folder of one image."""
    (source / name).mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(source / name / "one.png")


def test_a_training_folder_whose_name_hides_letters_is_named_and_stops_nothing(tmp_path: Path) -> None:
    folder_with(tmp_path / "source", "10_luma")
    folder_with(tmp_path / "source", "5_lu\u202ema")
    created = import_kohya("luma", tmp_path / "source", tmp_path / "characters", "skv_luma")
    assert created.groups == {"10_luma": 1}
    why = "the name of its folder holds invisible characters (\\u202e): rename it"
    assert f"left out: 5_lu\\u202ema: {why}" in created.notes


def test_a_record_that_is_nested_without_end_is_a_sentence(tmp_path: Path) -> None:
    folder_with(tmp_path / "source", "10_luma")
    (tmp_path / "source" / "sticker_pipeline.json").write_text("[" * 100_000)
    with pytest.raises(CharacterError, match=r"sticker_pipeline\.json cannot be read: .* Delete it to import"):
        import_kohya("luma", tmp_path / "source", tmp_path / "characters", "skv_luma")
