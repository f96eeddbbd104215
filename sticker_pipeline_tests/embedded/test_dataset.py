"""Planned drawings, and their flattening."""

from pathlib import Path

import numpy as np
import pytest

from sticker_pipeline.embedded import dataset, roster
from sticker_pipeline.embedded.scene import look


def test_flatten_by_hand() -> None:
    rgba = np.array([[[[100, 0, 200, 255], [100, 0, 200, 0], [100, 0, 200, 51]]]], dtype=np.uint8)
    flat = dataset.flatten(rgba)
    np.testing.assert_allclose(flat[0, 0], [[100, 0, 200], [255, 255, 255], [224, 204, 244]], atol=1e-4)
    assert dataset.on_white(rgba).shape == (1, 3, 1, 3)
    assert dataset.on_white(rgba)[0, :, 0, 1].tolist() == [1.0, 1.0, 1.0]


def test_rows_are_reproducible_and_never_a_demo_character() -> None:
    assert dataset.training_row(37) == dataset.training_row(37)
    demo = {look(identity) for identity in roster.demo_characters().values()}
    for index in range(0, 1200, 5):
        row = dataset.training_row(index)
        assert look(row.scene.identity) not in demo
        assert (row.scene.style == "sticker") == (index % 2 == 0)
        assert row.character == "" or roster.known_characters()[row.character] == row.scene.identity


def test_fresh_identities_are_not_training_identities() -> None:
    trained = {dataset.training_row(index).scene.identity for index in range(0, 3000, 6)}
    fresh = {dataset.fresh_row(index, seed=1, known=False).scene.identity for index in range(0, 600, 6)}
    assert len(fresh) == 100
    assert not trained & fresh


def test_drawings_resume_and_equal_their_rows(tmp_path: Path) -> None:
    drawings = dataset.training_drawings(tmp_path, 12, chunk=6, say=lambda line: None)
    assert drawings.pixels.shape == (12, 96, 96, 4)
    assert len(set(drawings.identity.tolist())) == 2
    from sticker_pipeline.embedded.drawing import draw

    np.testing.assert_array_equal(drawings.pixels[7], draw(dataset.training_row(7).scene, 96))
    ledger = next(tmp_path.glob("*.json"))
    ledger.write_text("[0]")
    again = dataset.training_drawings(tmp_path, 12, chunk=6, say=lambda line: None)
    np.testing.assert_array_equal(again.pixels, drawings.pixels)


def test_an_odd_number_of_drawings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple of 480"):
        dataset.training_drawings(tmp_path, 481)
