"""Fonts for any script.

The libraries' own lack Chinese, Japanese and Korean letters.
"""

import unicodedata
from collections.abc import Collection
from functools import cache
from pathlib import Path

from PIL import ImageFont

# Families with most East Asian letters on Linux, macOS and Windows.
WIDE = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Source Han Sans", "Droid Sans Fallback"),
    *("IPAexGothic", "IPAGothic", "TakaoGothic", "VL Gothic", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Yu Gothic", "Meiryo", "MS Gothic", "Microsoft YaHei", "SimHei", "Malgun Gothic", "Unifont"),
)
LAST_LATIN = "\u024f"  # the last letter in the libraries' own fonts


def wide_families(installed: Collection[str]) -> list[str]:
    return [family for family in WIDE if family in installed]


@cache
def installed_wide() -> list[str]:
    from matplotlib.font_manager import fontManager

    return wide_families({font.name for font in fontManager.ttflist})


def is_wide(text: str) -> bool:
    """Tell whether `text` has letters beyond Latin."""
    return any(letter > LAST_LATIN and unicodedata.category(letter).startswith("L") for letter in text)


@cache
def wide_file() -> Path | None:
    """Return the file of the first wide family, or None."""
    from matplotlib.font_manager import FontProperties, findfont

    families = installed_wide()
    return Path(findfont(FontProperties(family=families[0]))) if families else None


def font_for(text: str, size: float = 10) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a font of `size` pixels, wide if `text` needs it and one exists."""
    return _font(wide_file() if is_wide(text) else None, size)


@cache
def _font(file: Path | None, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)
