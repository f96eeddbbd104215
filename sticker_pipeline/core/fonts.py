"""Fonts for text in any script: the drawing libraries' own have no Chinese, Japanese or Korean letters."""

import unicodedata
from collections.abc import Collection
from functools import cache
from pathlib import Path

from PIL import ImageFont

# Families with most of the letters of East Asia, as Linux, macOS and Windows bring them.
WIDE = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Source Han Sans", "Droid Sans Fallback"),
    *("IPAexGothic", "IPAGothic", "TakaoGothic", "VL Gothic", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Yu Gothic", "Meiryo", "MS Gothic", "Microsoft YaHei", "SimHei", "Malgun Gothic", "Unifont"),
)
LAST_LATIN = "\u024f"  # the last letter of those that the libraries' own fonts have


def wide_families(installed: Collection[str]) -> list[str]:
    """Those of WIDE that are `installed`, in their order."""
    return [family for family in WIDE if family in installed]


@cache
def installed_wide() -> list[str]:
    """The wide families of this machine."""
    from matplotlib.font_manager import fontManager

    return wide_families({font.name for font in fontManager.ttflist})


def is_wide(text: str) -> bool:
    """Tell whether `text` has letters behind the Latin ones, for which a wide font is needed."""
    return any(letter > LAST_LATIN and unicodedata.category(letter).startswith("L") for letter in text)


@cache
def wide_file() -> Path | None:
    """The file of this machine's first wide family; None where it has none."""
    from matplotlib.font_manager import FontProperties, findfont

    families = installed_wide()
    return Path(findfont(FontProperties(family=families[0]))) if families else None


def font_for(text: str, size: float = 10) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font of `size` pixels, or where `text` needs it, and there is one, a wide one."""
    return _font(wide_file() if is_wide(text) else None, size)


@cache
def _font(file: Path | None, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)
