"""Draws a Scene: layers, frames and outlines a figure on its background.

Parts: `embedded/head.py`, `embedded/figure.py` and `embedded/surroundings.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import skia

from sticker_pipeline.embedded.brush import Brush
from sticker_pipeline.embedded.figure import (
    RAISED,
    Arm,
    arms,
    draw_arm,
    draw_body,
    draw_cape_back,
    draw_ground_shadow,
    draw_mantle,
    draw_scarf,
    draw_wings,
    held_at,
)
from sticker_pipeline.embedded.head import (
    draw_behind_head,
    draw_braids,
    draw_brows,
    draw_face,
    draw_hair_back,
    draw_hair_front,
    draw_on_head,
    head_offset,
)
from sticker_pipeline.embedded.palette import Palette, palette
from sticker_pipeline.embedded.scene import FLOATING_PROPS, HELD_PROPS, Scene
from sticker_pipeline.embedded.surroundings import SIDE, draw_background, draw_floating_prop, draw_held_prop

SUPERSAMPLING = 2
OUTLINE_WIDTH = 7.0
EDGE_WIDTH = 1.6
EDGE_COLOUR = 0xFFC9C4D2
STICKER_MARGIN = 9.0
FACE_CENTRE, FACE_RADIUS = 18.0, 46.0  # in head coordinates: brows to chin, cheek to cheek

# Height of the figure (canvas units) at the canvas' lower edge, and largest zoom, by view.
_VIEWS = {"full body": (251.0, 1.10), "upper body": (201.0, 1.32), "portrait": (172.0, 1.58)}
# Top of the figure, by accessory, mark or hair; flat hair is at _HAIR_TOP.
_TOPS = {
    "witch hat": 2.0,
    "rabbit ears": 2.0,
    "halo": 4.0,
    "crown": 6.0,
    "cat ears": 6.0,
    "ahoge": 8.0,
    "horns": 10.0,
    "hair bow": 12.0,
    "beret": 12.0,
    "spiky hair": 18.0,
    "headphones": 28.0,
    "double bun": 28.0,
}
_HAIR_TOP = 36.0


def draw(scene: Scene, size: int) -> np.ndarray:
    """Draw `scene` at `size` pixels, at least 16 (else raises ValueError).

    Returns uint8 [size, size, 4], RGBA, not premultiplied, R = G = B = 0 wherever A = 0. `art` is opaque; `sticker` is
    a white-outlined figure on transparency. The same scene gives the same bytes.
    """
    if size < 16:
        raise ValueError(f"size: {size} is too small to draw on; at least 16 pixels are needed")
    fine = size * SUPERSAMPLING
    surface = skia.Surface.MakeRasterN32Premul(fine, fine)
    canvas = surface.getCanvas()
    canvas.clear(skia.ColorTRANSPARENT)
    if scene.style == "sticker":
        _draw_sticker(canvas, scene, fine)
    else:
        canvas.scale(fine / SIDE, fine / SIDE)
        draw_background(Brush(canvas, "art"), scene)
        _draw_figure(Brush(canvas, "art"), scene)
    return _downsample(surface.toarray(colorType=skia.kRGBA_8888_ColorType), size, opaque=scene.style == "art")


def _downsample(fine: np.ndarray, size: int, opaque: bool) -> np.ndarray:
    """Average SUPERSAMPLING² blocks, colours weighted by alpha."""
    blocks = fine.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 4).astype(np.float32)
    if opaque:
        solid = (blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)
        solid[..., 3] = 255  # areas that meet within a pixel leave 254
        return solid
    alpha = blocks[..., 3:]
    total = alpha.sum(axis=(1, 3))
    out = np.zeros((size, size, 4), np.uint8)
    out[..., :3] = (blocks[..., :3] * alpha).sum(axis=(1, 3)) / np.maximum(total, 1) + 0.5
    out[..., 3:] = total / SUPERSAMPLING**2 + 0.5
    out[out[..., 3] == 0] = 0
    return out


def _draw_sticker(canvas: skia.Canvas, scene: Scene, fine: int) -> None:
    """Draw the figure within its margin: white outline, thin grey edge."""
    layer = skia.Surface.MakeRasterN32Premul(fine, fine)
    figure = layer.getCanvas()
    figure.scale(fine / SIDE, fine / SIDE)
    figure.clipRect(
        skia.Rect(STICKER_MARGIN, STICKER_MARGIN, SIDE - STICKER_MARGIN, SIDE - STICKER_MARGIN), doAntiAlias=True
    )
    _draw_figure(Brush(figure, "sticker"), scene)
    image = layer.makeImageSnapshot()
    for width, value in ((OUTLINE_WIDTH + EDGE_WIDTH, EDGE_COLOUR), (OUTLINE_WIDTH, 0xFFFFFFFF)):
        paint = skia.Paint(ImageFilter=_grown(width * fine / SIDE, value))
        canvas.drawImage(image, 0, 0, skia.SamplingOptions(), paint)
    canvas.drawImage(image, 0, 0)


def _grown(width: float, value: int) -> skia.ImageFilter:
    """A filter that grows shapes by about `width` pixels, in one colour.

    A Gaussian blur of sigma s falls to 2.5 % at 1.96·s outside the edge, where it is cut.
    """
    r, g, b = (value >> shift & 255 for shift in (16, 8, 0))
    cut = [0, 0, 0, 0, r / 255, 0, 0, 0, 0, g / 255, 0, 0, 0, 0, b / 255, 0, 0, 0, 40.0, -0.5]
    blur = skia.ImageFilters.Blur(width / 1.96, width / 1.96)
    return skia.ImageFilters.ColorFilter(skia.ColorFilters.Matrix(cut), blur)


def _framing(scene: Scene) -> tuple[float, float]:
    """Return the figure's height at the canvas' lower edge, and its zoom."""
    bottom, largest = _VIEWS[scene.view]
    worn = (*scene.identity.accessories, scene.identity.mark, scene.identity.hair_style)
    top = min(_TOPS.get(word, _HAIR_TOP) for word in worn)
    return bottom, min((SIDE - STICKER_MARGIN - 3) / (bottom - top), largest) * scene.scale


def face_circle(scene: Scene) -> tuple[float, float, float]:
    """Return the face's centre (x, y) and radius as canvas fractions.

    Ignores the figure's rotation, which moves it by 0.01 to 0.02.
    """
    bottom, zoom = _framing(scene)
    height = head_offset(scene)[1] + FACE_CENTRE
    return 0.5 + scene.x_offset, 1.0 + scene.y_offset + zoom * (height - bottom) / SIDE, zoom * FACE_RADIUS / SIDE


def _draw_figure(brush: Brush, scene: Scene) -> None:
    """Draw the figure and its prop, framed for the scene's view."""
    canvas = brush.canvas
    bottom, zoom = _framing(scene)
    canvas.save()
    canvas.translate(SIDE * (0.5 + scene.x_offset), SIDE * (1.0 + scene.y_offset))
    canvas.scale(zoom, zoom)
    canvas.translate(0, -bottom / 2)
    canvas.rotate(scene.rotation)
    canvas.translate(0, -bottom / 2)
    _draw_layers(brush, scene, palette(scene.identity))
    canvas.restore()
    if scene.prop in FLOATING_PROPS:
        draw_floating_prop(brush, scene)


def _draw_layers(brush: Brush, scene: Scene, colours: Palette) -> None:
    """Draw all parts from back to front, in figure coordinates."""
    if scene.style == "art":
        draw_ground_shadow(brush)
    draw_wings(brush, scene)
    draw_cape_back(brush, scene, colours)
    _on_head(brush, scene, colours, draw_hair_back)
    pair = arms(scene)
    raised = [arm for arm in pair if scene.pose in RAISED and (scene.pose == "arms up" or arm.side == 1)]
    if scene.pose == "arms behind back":
        _draw_arms(brush, scene, colours, pair)
    draw_body(brush, scene, colours)
    if scene.pose != "arms behind back":
        _draw_arms(
            brush, scene, colours, tuple(arm for arm in pair if arm not in raised and arm.hand != held_at(scene))
        )
    draw_mantle(brush, scene, colours)
    draw_scarf(brush, scene, colours)
    _on_head(brush, scene, colours, draw_behind_head, draw_face, draw_hair_front, draw_brows, draw_on_head, draw_braids)
    _draw_arms(brush, scene, colours, tuple(raised))
    if scene.prop in HELD_PROPS:
        draw_held_prop(brush, scene, colours, *held_at(scene))
        _draw_arms(brush, scene, colours, pair[1:])


def _draw_arms(brush: Brush, scene: Scene, colours: Palette, pair: Sequence[Arm]) -> None:
    for arm in pair:
        draw_arm(brush, scene, colours, arm)


def _on_head(brush: Brush, scene: Scene, colours: Palette, *parts: Callable[[Brush, Scene, Palette], None]) -> None:
    brush.canvas.save()
    brush.canvas.translate(*head_offset(scene))
    brush.canvas.translate(0, 44)
    brush.canvas.rotate(scene.tilt)
    brush.canvas.translate(0, -44)
    for part in parts:
        part(brush, scene, colours)
    brush.canvas.restore()
