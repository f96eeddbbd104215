"""Draws a head: hair, face with expression, marks, and headwear.

Head coordinates: origin between the cheeks, y downwards, chin at 48, crown at about -62.
"""

from __future__ import annotations

import skia

from sticker_pipeline.embedded.brush import (
    INK,
    WHITE,
    Brush,
    Point,
    Segment,
    blend,
    box,
    colour,
    darker,
    faded,
    heart,
    lighter,
    line,
    mirrored,
    moved,
    oval,
    shape,
    star,
)
from sticker_pipeline.embedded.palette import Palette
from sticker_pipeline.embedded.scene import EYES_HIDDEN, Scene

EYE_X = 23.5
EYE_Y = 13.0
MOUTH_Y = 32.0
GAZE_SHIFT = 9.0

# --- hair behind the head --------------------------------------------------------------------------------------------


def draw_hair_back(brush: Brush, scene: Scene, colours: Palette) -> None:
    """Hair behind face and body."""
    {
        "short hair": _back_short,
        "long hair": _back_long,
        "twintails": _back_twintails,
        "side ponytail": _back_side_ponytail,
        "bob cut": _back_bob,
        "double bun": _back_double_bun,
        "twin braids": _back_short,
        "drill hair": _back_drills,
        "spiky hair": _back_spiky,
    }[scene.identity.hair_style](brush, scene, darker(colours.hair, 0.12))


def _volume(scene: Scene) -> float:
    return 0.94 + 0.12 * scene.identity.details.hair_volume


def _length(scene: Scene) -> float:
    return scene.identity.details.hair_length


def _back_short(brush: Brush, scene: Scene, hair: int) -> None:
    w = 57 * _volume(scene)
    edge = [(w * 0.85, 40, w * 0.62, 46), (w * 0.5, 40), (w * 0.3, 52), (0, 44)]
    brush.fill(mirrored((0, -60), (w, -60, w, 0), *edge), hair)


def _back_long(brush: Brush, scene: Scene, hair: int) -> None:
    w, end, sway = 60 * _volume(scene), 84 + 26 * _length(scene), 5 * scene.sway
    right = [(w, -64, w + 2, 0), (w + 4, 40, w + 14 + sway, end), (w * 0.7 + sway, end - 6, w * 0.5 + sway, end + 6)]
    left = [(-w * 0.5 + sway, end + 6), (-w * 0.7 + sway, end - 6, -w - 14 + sway, end), (-w - 4, 40, -w - 2, 0)]
    brush.fill(shape((0, -62), *right, (sway, end - 8, *left[0]), *left[1:], (-w, -64, 0, -62)), hair)


def _tail(sway: float, length: float, wide: float) -> list[Segment]:
    """Segments of a hair bunch from (0, 0) rightwards, without the start."""
    end = 62 + 34 * length
    return [
        (20 * wide, -26, 44 * wide, -4, 40 * wide + sway, end * 0.55),
        (38 * wide + sway, end * 0.8, 26 + sway * 1.6, end),
        (22 + sway, end * 0.86, 14 + sway, end * 0.9),
        (12 + sway, end * 0.5, -4, 22),
    ]


def _back_twintails(brush: Brush, scene: Scene, hair: int) -> None:
    _back_cap(brush, scene, hair)
    tail = shape((0, 0), *_tail(6 * scene.sway, _length(scene), _volume(scene)))
    mirror = shape((0, 0), *_tail(-6 * scene.sway, _length(scene), _volume(scene)))
    brush.fill(moved(tail, 46, -34), hair)
    brush.fill(moved(mirror, -46, -34, flip=True), hair)


def _back_side_ponytail(brush: Brush, scene: Scene, hair: int) -> None:
    _back_cap(brush, scene, hair)
    tail = shape((0, 0), *_tail(7 * scene.sway, _length(scene) + 0.25, 1.15 * _volume(scene)))
    brush.fill(moved(tail, 42, -42, scale=1.08), hair)


def _back_cap(brush: Brush, scene: Scene, hair: int) -> None:
    w = 56 * _volume(scene)
    brush.fill(mirrored((0, -60), (w, -60, w, -4), (w, 30, w * 0.7, 40), (0, 40)), hair)


def _back_bob(brush: Brush, scene: Scene, hair: int) -> None:
    w, end = 60 * _volume(scene), 46 + 8 * _length(scene)
    brush.fill(mirrored((0, -62), (w, -64, w + 3, 0), (w + 8, 34, w - 2, end), (w * 0.5, end + 5, 0, end)), hair)


def _back_double_bun(brush: Brush, scene: Scene, hair: int) -> None:
    _back_cap(brush, scene, hair)
    r = 19 * _volume(scene) + 3 * _length(scene)
    for side in (-1, 1):
        brush.fill(oval(side * 45, -52, r, r), hair)
        brush.stroke(line((side * 45 - 8, -58), (side * 45 + 8, -66, side * 45 + 9, -50)), brush.ink(hair))


def _back_drills(brush: Brush, scene: Scene, hair: int) -> None:
    _back_cap(brush, scene, hair)
    for side in (-1, 1):
        for index in range(5):
            wide = (20 - 2.6 * index) * _volume(scene)
            x = side * (62 + index * 1.5) + scene.sway * index * 1.2
            y = 6 + index * (14 + 3 * _length(scene))
            brush.fill(moved(oval(0, 0, wide, 11), x, y, degrees=side * -16), hair, shade=0.3)


def _back_spiky(brush: Brush, scene: Scene, hair: int) -> None:
    w = 58 * _volume(scene)
    tip = 8 + 10 * _length(scene)
    edge: list[Segment] = [
        (w * 0.25, -60 - tip), (w * 0.42, -58), (w * 0.82, -52 - tip * 0.8), (w * 0.85, -40), (w + tip, -26), (w, -14),
        (w + tip * 1.1, 8), (w * 0.92, 14), (w + tip * 0.5, 38), (w * 0.7, 34), (w * 0.5, 46), (0, 40),
    ]  # fmt: skip
    brush.fill(mirrored((0, -58), *edge), hair)


def draw_braids(brush: Brush, scene: Scene, colours: Palette) -> None:
    """Twin braids before the body, if that is the hair style."""
    if scene.identity.hair_style != "twin braids":
        return
    count = 4 + round(_length(scene))
    for side in (-1, 1):
        for index in reversed(range(count)):
            x = side * (51 - index * 1.5) + scene.sway * index
            knot = moved(
                oval(0, 0, 11.5 - index * 0.6, 10), x, 40 + index * 14, degrees=side * (28 if index % 2 else -28)
            )
            brush.fill(knot, colours.hair)
        x, y = side * (51 - count * 1.5) + scene.sway * count, 36 + count * 14
        brush.fill(shape((x - 4, y), (x + 4, y), (x + 8, y + 14), (x, y + 10), (x - 8, y + 14)), colours.hair)
        brush.fill(box(x - 7, y - 4, x + 7, y + 4, 3), colours.trim)


# --- the face --------------------------------------------------------------------------------------------------------


def draw_face(brush: Brush, scene: Scene, colours: Palette) -> None:
    """Ears, face, and everything on it below the hair."""
    wide = 50 + 4 * (scene.identity.details.face_width - 0.5)
    for side in (-1, 1):
        brush.fill(oval(side * (wide + 1), 14, 8, 11), colours.skin)
    face = mirrored((0, -52), (wide, -52, wide, 0), (wide, 34, 26, 45), (14, 50, 0, 50))
    brush.fill(face, colours.skin, shade=0.10)
    brush.within(face, moved(_cap(scene), 0, 6), darker(colours.skin, 0.17))
    brush.canvas.save()
    brush.canvas.clipPath(face, doAntiAlias=True)
    if scene.gaze == "looking to the side":
        brush.canvas.translate(GAZE_SHIFT, 0)
    _draw_cheeks(brush, scene, colours)
    brush.canvas.restore()
    brush.canvas.save()
    if scene.gaze == "looking to the side":
        brush.canvas.translate(GAZE_SHIFT, 0)
    _draw_skin_mark(brush, scene, colours)
    _draw_eyes(brush, scene, colours)
    _draw_mouth(brush, scene)
    _draw_tears(brush, scene)
    brush.canvas.restore()


def _draw_cheeks(brush: Brush, scene: Scene, colours: Palette) -> None:
    if scene.expression == "blush":
        red = colour(352, 0.90, 0.62)
        brush.flat(box(-44, 20, 44, 36, 8), faded(red, 0.55))
        for x in (-36, -29, -22, 22, 29, 36):
            brush.stroke(line((x + 3, 23), (x - 3, 34)), colour(350, 0.85, 0.45), 2.6)
    elif scene.identity.mark == "blush stickers":
        for side in (-1, 1):
            brush.flat(oval(side * 33, 33, 10, 9), colour(352, 0.95, 0.66))
            brush.flat(oval(side * 33 - 3, 30, 3, 2.5), lighter(colour(352, 0.95, 0.66), 0.7))
    else:
        for side in (-1, 1):
            brush.flat(oval(side * 34, 31, 8, 4.5), faded(colours.cheek, 0.6))


def _draw_skin_mark(brush: Brush, scene: Scene, colours: Palette) -> None:
    mark = scene.identity.mark
    if mark == "mole under eye":
        brush.flat(oval(-31, 34, 4.4, 4.4), INK)
    elif mark == "scar on cheek":
        scar = darker(colour(8, 0.62, 0.45), 0.1)
        brush.stroke(line((19, 26), (43, 41)), scar, 4.0)
        for x, y in ((25, 30), (31, 33.5), (37, 37)):
            brush.stroke(line((x + 4, y - 5), (x - 4, y + 5)), scar, 2.6)
    elif mark == "facial mark":
        brush.fill(star(-32, 33, 11, 0.5, -10), colour(280, 0.80, 0.52), shade=0)
    elif mark == "freckles":
        for x, y in ((-40, 30), (-33, 36), (-26, 30), (26, 30), (33, 36), (40, 30), (-9, 25), (0, 28), (9, 25)):
            brush.flat(oval(x, y, 2.5, 2.3), colour(16, 0.62, 0.40))
    elif mark == "bandaid on face":
        brush.fill(moved(box(-14, -5.5, 14, 5.5, 5), 32, 34, -18), colour(30, 0.75, 0.74), shade=0)
        brush.flat(moved(box(-4.5, -4, 4.5, 4, 1), 32, 34, -18), colour(30, 0.75, 0.90))


def _draw_eyes(brush: Brush, scene: Scene, colours: Palette) -> None:
    for side in (-1, 1):
        closed = scene.expression in EYES_HIDDEN or (scene.expression == "one eye closed" and side == 1)
        if scene.identity.mark == "eyepatch" and side == -1:
            continue
        if closed:
            _draw_closed_eye(brush, scene, side)
        elif scene.blink > 0.85:
            _draw_lid(brush, side * EYE_X, EYE_Y + 8, 12, 5)
        else:
            _draw_open_eye(brush, scene, colours, side)


def _draw_lid(brush: Brush, x: float, y: float, wide: float, bend: float) -> None:
    brush.stroke(line((x - wide, y - bend / 2), (x, y + bend * 1.5, x + wide, y - bend / 2)), INK, 4.2)


def _draw_closed_eye(brush: Brush, scene: Scene, side: int) -> None:
    x = side * EYE_X
    if scene.expression == ">_<":
        tip = x - side * 10
        brush.stroke(line((x + side * 10, EYE_Y - 8), (tip, EYE_Y + 2), (x + side * 10, EYE_Y + 11)), INK, 4.4)
    elif scene.expression in ("^_^", "one eye closed"):
        brush.stroke(line((x - 12, EYE_Y + 8), (x, EYE_Y - 16, x + 12, EYE_Y + 8)), INK, 4.4)
    else:
        _draw_lid(brush, x, EYE_Y + 4, 13, 8)
        brush.stroke(line((x + side * 9, EYE_Y + 6), (x + side * 14, EYE_Y + 11)), INK, 2.6)


def _draw_open_eye(brush: Brush, scene: Scene, colours: Palette, side: int) -> None:
    details, boy = scene.identity.details, scene.identity.gender == "1boy"
    rx = 11.0 + 1.6 * details.eye_width
    ry = (12.0 if boy else 14.0) + 2.4 * details.eye_height
    x, look = side * EYE_X, 3.4 if scene.gaze == "looking to the side" else 0.0
    droop = {"sad": 0.20, "angry": 0.12}.get(scene.expression, 0.0)
    top = EYE_Y - ry + 2 * ry * max(scene.blink, droop)
    mood = {"sad": 5.0, "angry": -6.0, "crying": 3.0}.get(scene.expression, 0.0)
    slant = side * (mood / 2 - (details.eye_slant - 0.5) * 5)
    white = oval(x, EYE_Y, rx, ry)
    brush.canvas.save()
    brush.canvas.clipPath(box(x - 20, top, x + 20, EYE_Y + 30), doAntiAlias=True)
    brush.flat(white, WHITE)
    brush.canvas.clipPath(white, doAntiAlias=True)
    small = scene.expression == "surprised"
    _draw_iris(brush, x + look, rx * (0.46 if small else 0.84), ry * (0.46 if small else 0.94), colours.eye)
    brush.canvas.restore()
    bend = (top - (EYE_Y - ry)) * 0.9
    lash = line(
        (x - rx - 1.5, EYE_Y - 3 - slant + bend * 0.7),
        (x, EYE_Y - ry * 1.62 + 2 * bend, x + rx + 1.5, EYE_Y - 3 + slant + bend * 0.7),
    )
    brush.stroke(lash, INK, 3.4 if boy else 4.4)
    if not boy:
        out = x + side * (rx + 1.5)
        y = EYE_Y - 3 + side * slant + bend * 0.7
        brush.stroke(line((out - side * 2, y), (out + side * 5, y - 5)), INK, 3.2)
    brush.stroke(line((x - rx * 0.55, EYE_Y + ry), (x, EYE_Y + ry + 2, x + rx * 0.55, EYE_Y + ry)), INK, 1.8)


def _draw_iris(brush: Brush, x: float, rx: float, ry: float, value: int) -> None:
    iris = oval(x, EYE_Y + 1, rx, ry)
    brush.gradient(iris, darker(value, 0.45), lighter(value, 0.12))
    brush.flat(oval(x, EYE_Y + 1, rx * 0.42, ry * 0.5), darker(value, 0.82))
    brush.flat(oval(x, EYE_Y + ry * 0.62, rx * 0.55, ry * 0.24), faded(lighter(value, 0.55), 0.85))
    brush.flat(oval(x - rx * 0.34, EYE_Y - ry * 0.42, rx * 0.40, ry * 0.30), WHITE)
    brush.flat(oval(x + rx * 0.42, EYE_Y + ry * 0.42, rx * 0.16, ry * 0.13), WHITE)


def draw_brows(brush: Brush, scene: Scene, colours: Palette) -> None:
    """Eyebrows, drawn over the hair."""
    inner, outer = {"angry": (0, -12), "sad": (-13, -3), "crying": (-12, -4), "surprised": (-14, -13)}.get(
        scene.expression, (-8, -8)
    )
    shift = GAZE_SHIFT if scene.gaze == "looking to the side" else 0.0
    strong = scene.expression in ("angry", "sad", "crying")
    wide = 5.0 if strong or scene.identity.gender == "1boy" else 2.6
    brow = darker(blend(colours.hair, INK, 0.25), 0.3)
    for side in (-1, 1):
        start, end = (side * 10 + shift, inner - 2), (side * 36 + shift, outer - 2)
        lift = min(inner, outer) - (1 if strong else 6)
        brush.stroke(line(start, (side * 24 + shift, lift, *end)), INK if strong else brow, wide)


def _draw_mouth(brush: Brush, scene: Scene) -> None:
    y, more = MOUTH_Y, scene.mouth_open
    expression = scene.expression
    if expression in ("open mouth", "^_^", ">_<"):
        _draw_open_mouth(brush, 11, 12 + 6 * more if expression == "open mouth" else 9 + 6 * more)
    elif expression == "crying":
        brush.fill(
            mirrored((0, y - 2), (10, y - 2, 12, y + 8 + 3 * more), (6, y + 12, 0, y + 10 + 3 * more)), _MOUTH, shade=0
        )
    elif expression == "surprised":
        brush.fill(oval(0, y + 4, 6, 8 + 2 * more), _MOUTH, shade=0)
    elif expression == "angry":
        brush.fill(mirrored((0, y - 1), (10, y - 1, 12, y + 9), (6, y + 7, 0, y + 7)), WHITE, shade=0, lined=False)
        _mouth_line(brush, mirrored((0, y - 1), (10, y - 1, 12, y + 9), (6, y + 7, 0, y + 7)))
        for x in (-5, 0, 5):
            brush.stroke(line((x, y), (x, y + 7)), INK, 1.8)
    elif expression == "sad":
        _mouth_line(brush, line((-10, y + 9), (0, y - 4, 10, y + 9)))
    elif expression == "blush":
        _mouth_line(brush, line((-10, y + 5), (-5, y - 2, 0, y + 4), (5, y + 10, 10, y + 3)))
    elif expression == "tongue out":
        brush.fill(shape((-2, y + 4), (10, y + 3), (11, y + 17, 4, y + 17), (-3, y + 17, -2, y + 4)), _TONGUE, shade=0)
        brush.stroke(line((4, y + 5), (4, y + 11)), darker(_TONGUE, 0.3), 1.8)
        _mouth_line(brush, line((-12, y - 1), (0, y + 9, 13, y - 1)))
    elif more > 0.12:
        _draw_open_mouth(brush, 9, 3 + 11 * more)
    else:
        _mouth_line(brush, line((-9, y), (0, y + 9, 9, y)))


_MOUTH = colour(350, 0.62, 0.36)
_TONGUE = colour(352, 0.90, 0.68)


def _mouth_line(brush: Brush, path: skia.Path) -> None:
    brush.stroke(path, INK, 3.0)


def _draw_open_mouth(brush: Brush, wide: float, tall: float) -> None:
    y = MOUTH_Y - 2
    mouth = mirrored((0, y + 1), (wide, y), (wide * 0.95, y + tall * 1.15, 0, y + tall + 2))
    brush.fill(mouth, _MOUTH, shade=0)
    brush.within(mouth, oval(0, y + tall + 1, wide * 0.7, tall * 0.42), _TONGUE)
    brush.stroke(mouth, INK, 2.4)


def _draw_tears(brush: Brush, scene: Scene) -> None:
    if scene.expression != "crying":
        return
    for side in (-1, 1):
        x = side * (EYE_X + 3)
        run = 3 * scene.sway
        tear = shape(
            (x - 5, 25),
            (x + 5, 25),
            (x + 8, 40, x + 5, 48 + run),
            (x, 52 + run, x - 5, 48 + run),
            (x - 8, 40, x - 5, 25),
        )
        brush.fill(tear, colour(200, 0.90, 0.76), shade=0)


# --- hair before the face --------------------------------------------------------------------------------------------

# Lower edges of bangs, right to left, x = 46 to -46: quadratic (control, end) and straight pieces.
_BANGS: tuple[tuple[Segment, ...], ...] = (
    ((36, -4, 30, -3), (29, -8), (20, -2, 10, -2), (9, -8), (0, -2, -10, -2), (-11, -8), (-20, -2, -30, -3), (-46, -4)),
    ((30, -8, 14, -30), (8, -10, -6, -4), (-4, -12), (-18, 2, -30, 1), (-27, -8), (-40, 2, -46, 2)),
    (
        (40, -2, 33, 2),
        (28, -14),
        (22, 0, 14, 3),
        (8, -14),
        (2, 2, -6, 4),
        (-10, -14),
        (-18, 0, -25, 2),
        (-28, -14),
        (-42, 0),
    ),
    ((42, -10, 26, -22), (14, -30, 1, -40), (-12, -30, -26, -22), (-42, -10, -46, 4)),
    ((36, -10, 30, -6), (22, -18), (10, -12, 1, 15), (-4, -8, -14, -18), (-24, -8, -32, -4), (-38, -14), (-46, 0)),
    ((42, 4, 30, 3), (31, -8), (18, 4, 4, 0), (6, -10), (-14, -12, -24, -32), (-36, -16, -46, 0)),
)


# Fine lines from the crown into the bangs.
_STRANDS: tuple[tuple[Point, Segment], ...] = (
    ((-34, -40), (-47, -24, -49, 0)),
    ((-13, -34), (-20, -26, -21, -13)),
    ((13, -34), (20, -26, 20, -14)),
    ((34, -40), (47, -24, 49, 0)),
)


def _cap(scene: Scene) -> skia.Path:
    """Path of the hair over the head, with bangs and side locks."""
    style, details = scene.identity.hair_style, scene.identity.details
    w = 56 * _volume(scene)
    lock = {"short hair": 16, "spiky hair": 10, "bob cut": 42, "double bun": 30}.get(
        style, 34 + 6 * details.hair_length
    )
    sway = 1.5 * scene.sway
    return shape(
        (-w - 1, 0),
        (-w - 1, -62, 0, -63),
        (w + 1, -62, w + 1, 0),
        (w + 2, lock * 0.6, w - 6 + sway, lock + 4),
        (43, lock * 0.5, 46, 0),
        *_BANGS[details.bangs],
        (-43, lock * 0.5, -w + 6 + sway, lock + 4),
        (-w - 2, lock * 0.6, -w - 1, 0),
    )


def draw_hair_front(brush: Brush, scene: Scene, colours: Palette) -> None:
    """Front hair with shine and the identity's streak, ties, spikes or ahoge."""
    style, cap = scene.identity.hair_style, _cap(scene)
    brush.fill(cap, colours.hair, shade=0.16)
    if scene.identity.mark == "streaked hair":
        _draw_streak(brush, cap, colours.streak)
    for strand in _STRANDS:
        brush.stroke(line(*strand), faded(brush.ink(colours.hair), 0.55), 1.6)
    _draw_shine(brush, cap, colours.hair)
    if style == "twintails" or style == "side ponytail":
        _draw_hair_ties(brush, style, colours)
    if style == "spiky hair":
        _draw_top_spikes(brush, scene, colours.hair)
    if scene.identity.mark == "ahoge":
        _draw_ahoge(brush, scene, colours.hair)


def _draw_streak(brush: Brush, cap: skia.Path, value: int) -> None:
    streak = shape((10, -66), (30, -66), (44, -40, 36, 8), (24, 8), (26, -34, 10, -66))
    brush.within(cap, streak, value)
    brush.canvas.save()
    brush.canvas.clipPath(cap, doAntiAlias=True)
    brush.stroke(streak, brush.ink(value), brush.width * 0.6)
    brush.canvas.restore()
    brush.stroke(cap, brush.ink(value))


def _draw_shine(brush: Brush, cap: skia.Path, hair: int) -> None:
    band = shape((-44, -26), (-26, -48, 0, -48), (26, -48, 44, -26), (26, -40, 0, -40), (-26, -40, -44, -26))
    brush.within(cap, band, faded(lighter(hair, 0.75), 0.55 if brush.style == "sticker" else 0.45))


def _draw_hair_ties(brush: Brush, style: str, colours: Palette) -> None:
    for side in (-1, 1) if style == "twintails" else (1,):
        brush.fill(moved(box(-5, -9, 5, 9, 4), side * 49, -33, side * -38), colours.trim)


def _draw_top_spikes(brush: Brush, scene: Scene, hair: int) -> None:
    tip = 6 + 8 * scene.identity.details.hair_length
    crest = shape(
        (-26, -50),
        (-30, -66 - tip),
        (-12, -60),
        (-4, -72 - tip),
        (8, -61),
        (24, -68 - tip),
        (26, -50),
        (0, -42, -26, -50),
    )
    brush.flat(crest, hair)
    brush.stroke(
        line((-26, -50), (-30, -66 - tip), (-12, -60), (-4, -72 - tip), (8, -61), (24, -68 - tip), (26, -50)),
        brush.ink(hair),
    )


def _draw_ahoge(brush: Brush, scene: Scene, hair: int) -> None:
    bend = 4 * scene.sway
    brush.fill(
        shape(
            (-7, -58),
            (-16, -86, 8 + bend, -94),
            (30 + bend, -96, 34 + bend, -76),
            (22 + bend, -88, 12 + bend, -82),
            (0, -76, 5, -58),
        ),
        hair,
    )


# --- marks and accessories over the hair -----------------------------------------------------------------------------


def draw_behind_head(brush: Brush, scene: Scene, colours: Palette) -> None:
    """Ears and horns, behind the head."""
    for accessory in scene.identity.accessories:
        if accessory == "cat ears":
            _draw_cat_ears(brush, scene, colours)
        elif accessory == "rabbit ears":
            _draw_rabbit_ears(brush, scene)
        elif accessory == "horns":
            _draw_horns(brush)


def draw_on_head(brush: Brush, scene: Scene, colours: Palette) -> None:
    """Eyepatch, and headwear and glasses before the head."""
    shift = GAZE_SHIFT if scene.gaze == "looking to the side" else 0.0
    if scene.identity.mark == "eyepatch":
        _draw_eyepatch(brush, shift)
    draws = {
        "witch hat": _draw_witch_hat,
        "beret": _draw_beret,
        "crown": _draw_crown,
        "halo": _draw_halo,
        "hair bow": _draw_hair_bow,
        "headphones": _draw_headphones,
        "hair flower": _draw_hair_flower,
        "hairclip": _draw_hairclip,
    }
    for accessory in scene.identity.accessories:
        if accessory in draws:
            draws[accessory](brush, colours)
        elif accessory == "glasses":
            _draw_glasses(brush, colours, shift)


def _draw_eyepatch(brush: Brush, shift: float) -> None:
    patch = colour(260, 0.10, 0.16)
    x = shift - EYE_X
    brush.stroke(line((x - 12, 4), (-54, -8)), patch, 4.0)
    brush.stroke(line((x + 8, 2), (10, -20, 52, -34)), patch, 4.0)
    brush.fill(shape((x - 15, 2), (x, -6, x + 15, 2), (x + 14, 26, x, 30), (x - 14, 26, x - 15, 2)), patch, shade=0)
    brush.stroke(line((x - 8, 6), (x, 2, x + 7, 5)), faded(WHITE, 0.5), 2.0)


def _draw_cat_ears(brush: Brush, scene: Scene, colours: Palette) -> None:
    for side in (-1, 1):
        lean = side * 2 * scene.sway
        brush.fill(
            shape((side * 14, -54), (side * 36 + lean, -98, side * 50 + lean, -92), (side * 58, -60, side * 54, -30)),
            colours.hair,
        )
        brush.flat(
            shape((side * 26, -58), (side * 42 + lean, -84, side * 46 + lean, -82), (side * 50, -60, side * 48, -44)),
            colour(345, 0.8, 0.78),
        )


def _draw_rabbit_ears(brush: Brush, scene: Scene) -> None:
    fur = colour(30, 0.35, 0.95)
    for side in (-1, 1):
        ear = shape((-10, 0), (-20, -36, -4, -50), (12, -56, 12, -20), (14, -6, 10, 0))
        pink = shape((-5, -4), (-12, -34, -2, -42), (7, -46, 6, -20), (8, -8, 5, -4))
        for path, value, lined in ((ear, fur, True), (pink, colour(345, 0.8, 0.80), False)):
            brush.fill(moved(path, side * 24, -50, 14 * side + 4 * scene.sway, flip=side < 0), value, 0.1, lined)


def _draw_horns(brush: Brush) -> None:
    horn = shape((-9, 2), (-4, -24, 20, -42), (26, -14, 12, 4))
    for side in (-1, 1):
        brush.fill(moved(horn, side * 34, -48, flip=side < 0), colour(352, 0.50, 0.34), shade=0.3)
        brush.stroke(line((side * 31, -58), (side * 38, -58, side * 47, -53)), colour(352, 0.4, 0.58), 2.4)


def _draw_witch_hat(brush: Brush, colours: Palette) -> None:
    cloth = darker(blend(colours.accessory, colour(270, 0.5, 0.28), 0.55), 0.3)
    brush.fill(
        shape((-34, -46), (-20, -80, -2, -94), (14, -102, 34, -90), (16, -84, 22, -70), (28, -60, 36, -46)), cloth
    )
    brush.fill(shape((-37, -44), (-33, -58), (0, -66, 32, -58), (38, -44)), colours.trim, shade=0.15)
    brush.fill(moved(oval(0, 0, 68, 13), 0, -41, -3), cloth, shade=0.25)
    brush.flat(moved(oval(0, 0, 40, 6), 1, -47, -3), darker(cloth, 0.3))
    brush.fill(shape((-37, -46), (0, -56, 37, -46), (34, -60), (0, -70, -33, -60)), colours.trim, shade=0.15)


def _draw_beret(brush: Brush, colours: Palette) -> None:
    brush.stroke(line((-12, -76), (-9, -86)), INK, 6)
    brush.fill(shape((-52, -46), (-66, -70, -20, -78), (30, -80, 40, -50), (-4, -62, -52, -46)), colours.accessory)
    brush.fill(
        shape((-50, -42), (-6, -60, 38, -48), (40, -52), (-4, -68, -53, -48)), darker(colours.accessory, 0.25), shade=0
    )


def _draw_crown(brush: Brush, colours: Palette) -> None:
    gold = colour(46, 0.95, 0.58)
    crown = shape((-28, -56), (-34, -84), (-17, -70), (0, -92), (17, -70), (34, -84), (28, -56), (0, -64, -28, -56))
    brush.fill(crown, gold, shade=0.25)
    for x, y in ((-17, -63), (0, -68), (17, -63)):
        brush.fill(oval(x, y, 3.6, 3.6), colours.accessory, shade=0)


def _draw_halo(brush: Brush, colours: Palette) -> None:
    ring = oval(0, -82, 34, 9)
    brush.stroke(ring, brush.ink(colour(46, 0.9, 0.5)), 7 + brush.width * 1.6)
    brush.stroke(ring, colour(50, 1.0, 0.66), 6.5)
    brush.stroke(line((-24, -87), (0, -93, 20, -88)), WHITE, 1.8)


def _draw_hair_bow(brush: Brush, colours: Palette) -> None:
    loop = shape((0, 0), (8, -22, 34, -20), (42, -4, 34, 14), (12, 14, 0, 0))
    ribbon = shape((2, 2), (20, 10, 18, 26), (10, 20), (4, 24), (6, 10, 2, 2))
    for flip in (False, True):
        brush.fill(moved(ribbon, 0, -64, flip=flip), colours.accessory, shade=0.3)
        brush.fill(moved(loop, 0, -64, flip=flip), colours.accessory)
    brush.fill(box(-8, -73, 8, -55, 5), darker(colours.accessory, 0.15))


def _draw_headphones(brush: Brush, colours: Palette) -> None:
    band = line((-61, 2), (-64, -70, 0, -71), (64, -70, 61, 2))
    brush.limb(band, colour(260, 0.08, 0.30), 6)
    for side in (-1, 1):
        brush.fill(oval(side * 60, 8, 12, 18), colour(260, 0.08, 0.30))
        brush.fill(oval(side * 62, 8, 8, 13), colours.accessory)


def _draw_hair_flower(brush: Brush, colours: Palette) -> None:
    petal = oval(0, -9.5, 7.5, 9)
    for index in range(5):
        brush.fill(moved(petal, 42, -34, 72 * index), lighter(colours.accessory, 0.35), shade=0.1)
    brush.fill(oval(42, -34, 5.5, 5.5), colour(46, 0.95, 0.6), shade=0)


def _draw_hairclip(brush: Brush, colours: Palette) -> None:
    for degrees in (40, -40):
        brush.fill(moved(box(-15, -4, 15, 4, 3), -35, -22, degrees), lighter(colours.accessory, 0.2), shade=0)


def _draw_glasses(brush: Brush, colours: Palette, shift: float) -> None:
    frame = darker(colours.accessory, 0.45)
    for side in (-1, 1):
        lens = oval(side * EYE_X + shift, EYE_Y + 1, 18, 17)
        brush.flat(lens, faded(WHITE, 0.22))
        brush.stroke(lens, frame, 4.2)
        brush.stroke(line((side * (EYE_X + 18) + shift, EYE_Y - 3), (side * 53, EYE_Y - 6)), frame, 4.0)
    brush.stroke(line((shift - 5, EYE_Y), (shift, EYE_Y - 4, shift + 5, EYE_Y)), frame, 4.0)


def draw_emblem(brush: Brush, kind: int, x: float, y: float, size: float, value: int) -> None:
    """Small sign at `(x, y)`: 0 star, 1 heart, 2 round, 3 diamond."""
    paths = (
        star(x, y, size * 1.15),
        heart(x, y, size),
        oval(x, y, size * 0.9, size * 0.9),
        shape((x, y - size * 1.1), (x + size * 0.9, y), (x, y + size * 1.1), (x - size * 0.9, y)),
    )
    brush.fill(paths[kind], value, shade=0, lined=False)


def head_offset(scene: Scene) -> Point:
    """Head origin in figure coordinates: x from middle, y from canvas top."""
    return 0.0, 102.0 + 4.0 * scene.bob
