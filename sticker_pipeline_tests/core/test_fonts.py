"""Letters of other scripts: drawn with a font that has them, if any, without messages."""

import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageFont

import sticker_pipeline.core.fonts as module
from sticker_pipeline.core.fonts import WIDE, font_for, is_wide, wide_families
from sticker_pipeline.core.images import bar_chart, contact_sheet, line_chart, word_cloud

OTHER_FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSerif.ttf"


def test_families_are_taken_in_their_order() -> None:
    assert wide_families({"Meiryo", "Arial", "Noto Sans CJK JP"}) == ["Noto Sans CJK JP", "Meiryo"]
    assert wide_families({"Arial"}) == []
    assert len(set(WIDE)) == len(WIDE)


@pytest.mark.parametrize(
    ("text", "wide"), [("luma, café", False), ("Ωmega", True), ("笑顔", True), ("a — b … ♥ 😀", False), ("", False)]
)
def test_latin_needs_no_other_font(text: str, wide: bool) -> None:
    assert is_wide(text) == wide


def test_a_wide_font_is_taken_for_wide_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "wide_file", lambda: OTHER_FONT)
    wide, plain = font_for("笑顔", 14), font_for("smile", 14)
    assert isinstance(wide, ImageFont.FreeTypeFont) and wide.getname()[0] == "DejaVu Serif" and wide.size == 14
    assert isinstance(plain, ImageFont.FreeTypeFont) and plain.getname()[0] != "DejaVu Serif"
    monkeypatch.setattr(module, "wide_file", lambda: None)
    assert font_for("笑顔", 14).getname() == plain.getname()


def test_charts_of_any_script_are_drawn_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bar_chart({"笑顔": 3, "赤いマフラー": 2}, title="タグ", unit="枚")
        line_chart({"한국어": (np.arange(3), np.arange(3))}, title="中文", x="x", y="y")
        word_cloud({"笑顔": 3, "smile": 2})
        contact_sheet([Image.new("RGB", (8, 8))], ["ガール.png"])
