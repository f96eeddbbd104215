"""Colours of an identity: its colour words' tones, shifted by its details."""

from __future__ import annotations

from dataclasses import dataclass

from sticker_pipeline.embedded.brush import blend, colour
from sticker_pipeline.embedded.scene import Identity

Tone = tuple[float, float, float]
"""Hue in degrees, saturation and lightness in 0–1."""

HAIR_TONES: dict[str, Tone] = {
    "black hair": (265, 0.16, 0.19),
    "brown hair": (20, 0.46, 0.33),
    "blonde hair": (47, 0.88, 0.70),
    "orange hair": (25, 0.95, 0.57),
    "red hair": (355, 0.72, 0.44),
    "pink hair": (336, 0.86, 0.79),
    "purple hair": (272, 0.48, 0.53),
    "blue hair": (221, 0.70, 0.52),
    "aqua hair": (181, 0.62, 0.62),
    "green hair": (128, 0.45, 0.46),
    "white hair": (228, 0.26, 0.92),
}
EYE_TONES: dict[str, Tone] = {
    "blue eyes": (210, 0.90, 0.55),
    "green eyes": (142, 0.70, 0.44),
    "red eyes": (354, 0.88, 0.50),
    "purple eyes": (274, 0.72, 0.58),
    "yellow eyes": (46, 1.00, 0.53),
    "brown eyes": (20, 0.58, 0.34),
}
CLOTH_TONES: dict[str, Tone] = {
    "red": (356, 0.74, 0.50),
    "blue": (219, 0.64, 0.50),
    "green": (146, 0.46, 0.43),
    "yellow": (46, 0.93, 0.62),
    "pink": (336, 0.78, 0.79),
    "black": (255, 0.14, 0.22),
}
TRIM_TONES: tuple[Tone, ...] = (
    (44, 0.85, 0.60),
    (40, 0.60, 0.94),
    (232, 0.40, 0.30),
    (352, 0.75, 0.56),
    (175, 0.55, 0.52),
    (282, 0.50, 0.62),
    (22, 0.88, 0.60),
    (205, 0.80, 0.74),
)
SHOE_TONES: tuple[Tone, ...] = ((265, 0.12, 0.24), (20, 0.45, 0.34), (30, 0.30, 0.85))


@dataclass(frozen=True)
class Palette:
    """Colours as 0xAARRGGBB."""

    hair: int
    streak: int
    eye: int
    skin: int
    cheek: int
    cloth: int
    trim: int
    accessory: int
    shoes: int


def palette(identity: Identity) -> Palette:
    """Return the colours of `identity`."""
    details = identity.details
    hair = _shifted(
        HAIR_TONES[identity.hair_colour], 7 * (details.hair_hue - 0.5) * 2, 0.09 * (details.hair_light - 0.5)
    )
    skin = blend(colour(24, 0.95, 0.91), colour(20, 0.42, 0.52), details.skin**1.6)
    return Palette(
        hair=hair,
        streak=_streak(identity),
        eye=_shifted(EYE_TONES[identity.eye_colour], 8 * (details.eye_hue - 0.5) * 2, 0.0),
        skin=skin,
        cheek=blend(skin, colour(350, 0.85, 0.62), 0.55),
        cloth=_shifted(
            CLOTH_TONES[identity.outfit_colour],
            7 * (details.outfit_hue - 0.5) * 2,
            0.09 * (details.outfit_light - 0.5),
        ),
        trim=colour(*TRIM_TONES[details.trim]),
        accessory=colour(360 * details.accessory_hue, 0.62, 0.56),
        shoes=colour(*SHOE_TONES[details.shoes]),
    )


def _shifted(tone: Tone, hue: float, lightness: float) -> int:
    return colour(tone[0] + hue, tone[1], tone[2] + lightness)


def _streak(identity: Identity) -> int:
    """Colour of a strand: other hue, dark on light hair, else light."""
    hue, saturation, lightness = HAIR_TONES[identity.hair_colour]
    return colour(hue + 150, max(saturation, 0.75), 0.82 if lightness < 0.55 else 0.38)
