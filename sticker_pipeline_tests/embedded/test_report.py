"""The report's own small parts; its figures are tested where they are computed."""

from pathlib import Path

import numpy as np

from sticker_pipeline.embedded import report
from sticker_pipeline.embedded.dataset import fresh_drawings

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "models" / "embedded"


def test_folder_bytes_counts_files_below(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"12345")
    (tmp_path / "c").write_bytes(b"123")
    assert report.folder_bytes(tmp_path) == 8


def test_grid_places_pictures_in_rows() -> None:
    pictures = [np.full((4, 4, 3), 10 * number, dtype=np.uint8) for number in range(5)]
    sheet = np.asarray(report.grid(pictures, 3))
    assert sheet.shape == (8, 12, 3)
    assert [int(sheet[0, column, 0]) for column in (0, 4, 8)] == [0, 10, 20]
    assert [int(sheet[4, column, 0]) for column in (0, 4, 8)] == [30, 40, 255]


def test_first_rows() -> None:
    drawings = fresh_drawings(4, seed=1)
    some = report.first_rows(drawings, 3)
    assert len(some) == 3
    assert some.tags == drawings.tags[:3]
    np.testing.assert_array_equal(some.pixels, drawings.pixels[:3])


def test_the_shipped_report_names_its_pictures_and_figures() -> None:
    text = (SHIPPED / "REPORT.md").read_text()
    for name in ("vae.webp", "base_sticker.webp", "base_art.webp"):
        assert f"report/{name}" in text
        assert (SHIPPED / "report" / name).is_file()
    for words in ("macro-F1", "AUC", "shuffled / right", "seconds", "python -m sticker_pipeline.embedded"):
        assert words in text
