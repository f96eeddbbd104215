"""Shapes of exact alpha, for tests of cut-outs, outlines and places."""

import numpy as np

SAMPLES = 8  # a side, in a pixel


def blob(side: int = 128, centre: tuple[float, float] = (64, 60), radius: float = 40) -> np.ndarray:
    """Return a disc with an ear and a dark outline, antialiased; uint8 [side, side, 4]."""
    rgba = np.zeros((side, side, 4))
    for colour, mask in (
        ((40, 30, 60), disc(side, centre, radius)),
        ((40, 30, 60), disc(side, (centre[0] + radius * 0.8, centre[1] - radius * 0.8), radius * 0.35)),
        ((240, 140, 30), disc(side, centre, radius - 5)),
        ((255, 255, 255), disc(side, (centre[0] - radius / 3, centre[1]), radius * 0.2)),
    ):
        rgba = over(rgba, colour, mask)
    return from_premultiplied(rgba)


def disc(side: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    """Return the share of each pixel that a disc covers; float64 [side, side].

    `centre`: x and y, where 0.5 is the middle of the first pixel.
    """
    at = (np.arange(side * SAMPLES) + 0.5) / SAMPLES
    inside = (at[None] - centre[0]) ** 2 + (at[:, None] - centre[1]) ** 2 <= radius**2
    covered: np.ndarray = inside.reshape(side, SAMPLES, side, SAMPLES).mean(axis=(1, 3))
    return covered


def over(below: np.ndarray, colour: tuple[int, int, int], cover: np.ndarray) -> np.ndarray:
    """Composite a colour on premultiplied `below`; float64 [h, w, 4], 0..255."""
    layer = np.array([*colour, 255]) * cover[..., None]
    return layer + below * (1 - cover[..., None])


def from_premultiplied(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:]
    colours = np.where(alpha > 0, rgba[..., :3] * 255 / np.maximum(alpha, 1e-9), 0)
    result = np.rint(np.concatenate([colours, alpha], axis=2)).astype(np.uint8)
    result[result[..., 3] == 0] = 0
    return result


def on(rgba: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Composite on an opaque background; uint8 [h, w, 4]."""
    alpha = rgba[..., 3:] / 255
    result = np.full(rgba.shape, 255, dtype=np.uint8)
    result[..., :3] = np.rint(rgba[..., :3] * alpha + (1 - alpha) * np.array(colour))
    return result
