"""Settings of one encoding; each encoder reads those of its format."""

from dataclasses import dataclass

BEST_CRF = 63


@dataclass(frozen=True)
class Settings:
    """Loss that an encoder may cause.

    `colours`: at most so many in a PNG, APNG, GIF or lossless WEBP, 2–256; None keeps all (a GIF: 255). `quality`: of a
    WEBP, 0–100, and None is lossless; of a WEBM, 0–63, and None is 63. `level`: of zlib in a PNG or APNG, 0–9.
    """

    colours: int | None = None
    quality: int | None = None
    level: int = 9
