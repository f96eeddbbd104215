"""Draws a body: legs, outfit, arms with sleeves, wings and scarf.

x from the figure's middle, y from the top of the 256-unit canvas; neck at 146, soles at 242.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import skia

from sticker_pipeline.embedded.brush import (
    WHITE,
    Brush,
    Point,
    blend,
    box,
    colour,
    darker,
    faded,
    lighter,
    line,
    mirrored,
    moved,
    oval,
    shape,
)
from sticker_pipeline.embedded.head import draw_emblem
from sticker_pipeline.embedded.palette import Palette
from sticker_pipeline.embedded.scene import Scene

ARM_WIDTH = 12.0
HAND = 7.6
CREAM = colour(40, 0.45, 0.96)
TROUSERS = colour(250, 0.18, 0.28)
GOLD = colour(44, 0.85, 0.60)
STEEL = colour(215, 0.10, 0.70)


# --- behind the body -------------------------------------------------------------------------------------------------


def draw_wings(brush: Brush, scene: Scene) -> None:
    """White feathered wings, if the identity has them."""
    if "wings" not in scene.identity.accessories:
        return
    wing = shape(
        (0, 8),
        (20, -40, 62, -46),
        (84, -44, 82, -28),
        (84, -14, 70, -12),
        (74, 2, 58, 4),
        (58, 18, 40, 18),
        (16, 26, 0, 8),
    )
    for side in (-1, 1):
        turn = side * (-6 * scene.swing)
        brush.fill(moved(wing, side * 18, 168, turn, flip=side < 0), colour(215, 0.55, 0.95), shade=0.16)
        for points in (((30, -10), (50, -18, 70, -12)), ((26, 2), (42, -2, 58, 4))):
            brush.stroke(moved(line(*points), side * 18, 168, turn, flip=side < 0), colour(220, 0.35, 0.72), 2.2)


def draw_ground_shadow(brush: Brush) -> None:
    brush.flat(oval(0, 240, 34, 6), faded(colour(265, 0.5, 0.15), 0.22))


def draw_cape_back(brush: Brush, scene: Scene, colours: Palette) -> None:
    """The part of a cape behind the legs, if worn."""
    if scene.identity.outfit == "cape":
        sway = 4 * scene.sway
        back = shape(
            (-24, 152),
            (-46, 190, -48 + sway, 232),
            (-20, 226, sway, 234),
            (20, 226, 48 + sway, 232),
            (46, 190, 24, 152),
        )
        brush.fill(back, darker(colours.cloth, 0.3))


# --- legs and outfits ------------------------------------------------------------------------------------------------


def draw_body(brush: Brush, scene: Scene, colours: Palette) -> None:
    _draw_legs(brush, scene, colours)
    _OUTFITS[scene.identity.outfit].draw(brush, scene, colours)


def _draw_legs(brush: Brush, scene: Scene, colours: Palette) -> None:
    cover = _OUTFITS[scene.identity.outfit].legs(colours)
    step = 3 * scene.swing if scene.pose == "arms up" else 0.0
    for side in (-1, 1):
        x, lift = side * 12, max(0.0, side * step)
        brush.limb(line((x, 194), (x + side, 230 - lift)), colours.skin, 13)
        if cover is not None:
            brush.limb(line((x, 194), (x + side * 0.6, 218 - lift)), cover, 15)
        shoe = shape(
            (x - 9, 238 - lift),
            (x - 9, 226 - lift, x, 226 - lift),
            (x + 10, 226 - lift, x + 10, 238 - lift),
            (x, 243 - lift, x - 9, 238 - lift),
        )
        brush.fill(shoe, colours.shoes)


def _trunk(shoulder: float, hem: float, bottom: float) -> skia.Path:
    """A torso from the neck to `bottom`, `2·shoulder` wide above, `2·hem` below."""
    return mirrored(
        (0, 147),
        (shoulder * 0.6, 147),
        (shoulder, 149, shoulder + 2, 158),
        (hem, bottom - 3),
        (hem * 0.5, bottom + 2, 0, bottom + 2),
    )


def _skirt(hem: float, top: float, bottom: float, sway: float) -> skia.Path:
    return shape(
        (-19, top),
        (19, top),
        (hem * 0.75, bottom - 18, hem + sway, bottom - 3),
        (sway, bottom + 7, -hem + sway, bottom - 3),
        (-hem * 0.75, bottom - 18, -19, top),
    )


def _pattern(brush: Brush, scene: Scene, colours: Palette, area: skia.Path) -> None:
    kind = scene.identity.details.pattern
    if kind == 1:
        for y in (170, 180, 190, 200):
            brush.within(area, box(-40, y, 40, y + 3.4), faded(colours.trim, 0.85))
    elif kind == 2:
        for x, y in ((-14, 172), (0, 180), (14, 172), (-15, 190), (15, 190), (0, 198), (-25, 204), (25, 204)):
            brush.within(area, oval(x, y, 3.4, 3.4), faded(colours.trim, 0.9))
    elif kind == 3:
        brush.within(area, box(-50, 186, 50, 194), colours.trim)


def _serafuku(brush: Brush, scene: Scene, colours: Palette) -> None:
    skirt = _skirt(32, 184, 212, 2 * scene.sway)
    brush.fill(skirt, colours.cloth)
    for x in (-16, -5, 6, 17):
        brush.stroke(line((x * 0.7, 192), (x * 1.3 + scene.sway, 210)), brush.ink(colours.cloth), 1.8)
    brush.fill(_trunk(20, 19, 188), CREAM, shade=0.12)
    brush.fill(mirrored((0, 174), (12, 164, 24, 162), (27, 150), (14, 146), (8, 148, 0, 166)), colours.cloth)
    for side in (-1, 1):
        brush.stroke(line((side * 4, 168), (side * 12, 161, side * 22, 159)), WHITE, 1.8)
    tail = shape((0, 171), (11, 188), (5, 187), (2, 191), (-3, 174))
    loop = shape((0, 171), (10, 162, 14, 168), (15, 177, 0, 173))
    for flip in (False, True):
        brush.fill(moved(tail, 0, 0, flip=flip), colours.trim)
        brush.fill(moved(loop, 0, 0, flip=flip), colours.trim)


def _hoodie(brush: Brush, scene: Scene, colours: Palette) -> None:
    trunk = _trunk(23, 25, 204)
    brush.fill(oval(0, 150, 31, 11), darker(colours.cloth, 0.14))
    brush.fill(trunk, colours.cloth)
    _pattern(brush, scene, colours, _trunk(20, 21, 186))
    brush.fill(box(-23, 196, 23, 206, 4), darker(colours.cloth, 0.18), shade=0)
    brush.fill(shape((-13, 184), (13, 184), (17, 197), (-17, 197)), lighter(colours.cloth, 0.14), shade=0)
    brush.fill(mirrored((0, 164), (14, 160, 25, 149), (14, 147, 0, 153)), lighter(colours.cloth, 0.2), shade=0)
    for side in (-1, 1):
        brush.stroke(line((side * 7, 161), (side * 8 + scene.sway, 176)), WHITE, 2.6)


def _dress(brush: Brush, scene: Scene, colours: Palette) -> None:
    sway = 3 * scene.sway
    brush.fill(_skirt(41, 174, 221, sway), CREAM, shade=0.15)
    skirt = _skirt(40, 172, 214, sway)
    brush.fill(skirt, colours.cloth)
    _pattern(brush, scene, colours, skirt)
    brush.fill(oval(0, 151, 12, 8), colours.skin, shade=0.1)
    brush.fill(
        mirrored((0, 162), (8, 156), (11, 149), (18, 149), (19, 162), (16, 180), (8, 182, 0, 182)), colours.cloth
    )
    for side in (-1, 1):
        brush.fill(oval(side * 22, 157, 9.5, 8.5), colours.cloth)
    brush.fill(mirrored((0, 176), (9, 176, 17, 174), (18, 182), (9, 185, 0, 185)), colours.trim, shade=0.1)
    draw_emblem(brush, scene.identity.details.emblem, 0, 168, 4.5, colours.trim)


def _kimono(brush: Brush, scene: Scene, colours: Palette) -> None:
    robe = mirrored((0, 146), (20, 147), (26, 158), (23, 190), (29, 230), (12, 233, 0, 233))
    brush.fill(robe, colours.cloth)
    _pattern(brush, scene, colours, shape((-20, 198), (20, 198), (26, 228), (-26, 228)))
    brush.stroke(line((2, 200), (6, 232)), brush.ink(colours.cloth), 2.2)
    brush.fill(shape((-15, 146), (-9, 146), (13, 178), (3, 178)), WHITE, shade=0)
    brush.fill(shape((9, 146), (15, 146), (-3, 178), (-13, 178)), WHITE, shade=0)
    brush.fill(mirrored((0, 174), (22, 174), (23, 194), (12, 196, 0, 196)), colours.trim, shade=0.15)
    brush.fill(box(-23, 182, 23, 187, 1), darker(colours.trim, 0.45), shade=0, lined=False)


def _jacket(brush: Brush, scene: Scene, colours: Palette) -> None:
    shirt = _trunk(18, 18, 196)
    brush.fill(shirt, CREAM, shade=0.1)
    draw_emblem(brush, scene.identity.details.emblem, 0, 178, 6, colours.trim)
    brush.fill(box(-19, 190, 19, 199, 3), TROUSERS)
    for flip in (False, True):
        half = shape((13, 146), (25, 151, 27, 160), (27, 202), (13, 204), (10, 178), (8, 160, 6, 152))
        brush.fill(moved(half, 0, 0, flip=flip), colours.cloth)
        lapel = shape((13, 145), (22, 150), (17, 158), (20, 162), (11, 174), (5, 152))
        brush.fill(moved(lapel, 0, 0, flip=flip), darker(colours.cloth, 0.25), shade=0)
        brush.stroke(moved(line((18, 188), (25, 186)), 0, 0, flip=flip), colours.trim, 3.0)


def _armor(brush: Brush, scene: Scene, colours: Palette) -> None:
    brush.fill(_skirt(29, 188, 210, 0), STEEL, shade=0.3)
    brush.fill(
        mirrored((0, 147), (14, 147), (23, 152), (24, 176), (17, 194), (8, 198, 0, 200)), colours.cloth, shade=0.3
    )
    brush.stroke(line((0, 152), (0, 198)), brush.ink(colours.cloth), 2.2)
    brush.stroke(line((-22, 176), (0, 186, 22, 176)), brush.ink(colours.cloth), 2.2)
    brush.fill(box(-19, 192, 19, 199, 3), colour(22, 0.5, 0.32), shade=0)
    draw_emblem(brush, scene.identity.details.emblem, 0, 168, 7, colours.trim)
    for side in (-1, 1):
        brush.fill(oval(side * 26, 158, 13, 11.5), colours.cloth, shade=0.3)
        brush.stroke(line((side * 15, 166), (side * 26, 171, side * 37, 165)), GOLD, 3.0)
        brush.stroke(line((side * 21, 153), (side * 26, 149, side * 32, 153)), lighter(colours.cloth, 0.65), 2.6)


def _shirt(brush: Brush, scene: Scene, colours: Palette) -> None:
    brush.fill(box(-20, 190, 20, 206, 4), TROUSERS)
    trunk = _trunk(21, 20, 197)
    brush.fill(trunk, colours.cloth)
    if scene.identity.details.pattern == 1:
        _pattern(brush, scene, colours, _trunk(19, 18, 194))
    draw_emblem(brush, scene.identity.details.emblem, 0, 175, 9, colours.trim)
    brush.fill(mirrored((0, 156), (10, 154, 12, 146), (6, 145, 0, 145)), colours.skin, shade=0, lined=False)
    brush.stroke(line((-12, 147), (-9, 158, 0, 158), (9, 158, 12, 147)), darker(colours.cloth, 0.35), 3.0)


def _overalls(brush: Brush, scene: Scene, colours: Palette) -> None:
    trunk = _trunk(21, 20, 190)
    brush.fill(trunk, CREAM, shade=0.12)
    if scene.identity.details.pattern in (1, 2):
        for y in (152, 160, 168, 176):
            brush.within(trunk, box(-22, y, 22, y + 3), colours.trim)
    brush.fill(mirrored((0, 184), (21, 182), (23, 206), (10, 209, 0, 206)), colours.cloth)
    for side in (-1, 1):
        brush.limb(line((side * 14, 149), (side * 10, 170)), colours.cloth, 5)
    brush.fill(box(-14, 166, 14, 196, 4), colours.cloth, shade=0.1)
    brush.fill(box(-8, 178, 8, 189, 3), lighter(colours.cloth, 0.18), shade=0)
    for side in (-1, 1):
        brush.fill(oval(side * 10, 170, 3.4, 3.4), GOLD, shade=0)


def _cape(brush: Brush, scene: Scene, colours: Palette) -> None:
    brush.fill(_skirt(27, 180, 210, 2 * scene.sway), CREAM, shade=0.15)
    brush.fill(_trunk(19, 18, 192), CREAM, shade=0.12)
    brush.fill(box(-19, 186, 19, 192, 2), colour(22, 0.5, 0.36), shade=0)


def _no_cover(_: Palette) -> int | None:
    return None


def _cloth_cover(colours: Palette) -> int | None:
    return darker(colours.cloth, 0.06)


def _trouser_cover(_: Palette) -> int | None:
    return TROUSERS


def _cloth_sleeve(colours: Palette) -> int:
    return blend(colours.cloth, WHITE, 0.04)


def _cream_sleeve(_: Palette) -> int:
    return CREAM


def _steel_sleeve(_: Palette) -> int:
    return STEEL


@dataclass(frozen=True)
class Outfit:
    """Parts of an outfit: torso, leg colour (None: bare), sleeves.

    `sleeve_share`: 0–1 of the arm.
    """

    draw: Callable[[Brush, Scene, Palette], None]
    legs: Callable[[Palette], int | None]
    sleeve: Callable[[Palette], int]
    sleeve_share: float
    sleeve_width: float = 0.0


_OUTFITS = {
    "serafuku": Outfit(_serafuku, _no_cover, _cream_sleeve, 0.5, 2),
    "hoodie": Outfit(_hoodie, _trouser_cover, _cloth_sleeve, 0.92, 4),
    "dress": Outfit(_dress, _no_cover, _cloth_sleeve, 0.22, 2),
    "kimono": Outfit(_kimono, _no_cover, _cloth_sleeve, 0.74, 9),
    "jacket": Outfit(_jacket, _trouser_cover, _cloth_sleeve, 0.88, 3),
    "armor": Outfit(_armor, _trouser_cover, _steel_sleeve, 0.9, 1),
    "shirt": Outfit(_shirt, _trouser_cover, _cloth_sleeve, 0.42, 3),
    "overalls": Outfit(_overalls, _cloth_cover, _cream_sleeve, 0.6, 2),
    "cape": Outfit(_cape, _trouser_cover, _cream_sleeve, 0.85, 1),
}


# --- arms ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """An arm from the shoulder through `elbow` to `hand`; `sign`: the hand's gesture."""

    side: int
    elbow: Point
    hand: Point
    sign: str = "fist"


# Poses with arms before the head; in others they are below the chin.
RAISED = ("arms up", "waving", "v", "hand on own cheek")


def arms(scene: Scene) -> tuple[Arm, ...]:
    """Both arms in the scene's pose and phase `swing`, in figure coordinates."""
    s = scene.swing
    left_down = Arm(-1, (-33, 170 - s), (-35 - 2 * s, 194 - abs(s)))
    right_down = Arm(1, (33, 170 - s), (35 - 2 * s, 194 - abs(s)))
    return {
        "arms at sides": (left_down, right_down),
        "arms up": (
            Arm(-1, (-58, 156), (-67 - 3 * s, 108 + 5 * s), "open"),
            Arm(1, (58, 156), (67 + 3 * s, 108 - 5 * s), "open"),
        ),
        "waving": (left_down, Arm(1, (60, 160), (66 + 7 * s, 112 + 2 * abs(s)), "open")),
        "v": (left_down, Arm(1, (62, 172), (62 + 2 * s, 136 - s), "v")),
        "hand on own cheek": (left_down, Arm(1, (60, 172), (41, 134 + 1.5 * s))),
        "hands on own hips": (Arm(-1, (-56, 168 + s), (-22, 188)), Arm(1, (56, 168 + s), (22, 188))),
        "arms behind back": (Arm(-1, (-46, 172 + s), (-8, 192)), Arm(1, (46, 172 + s), (8, 192))),
        "crossed arms": (Arm(-1, (-42, 182 + s), (17, 172)), Arm(1, (42, 186 + s), (-19, 176))),
        "holding": (left_down, Arm(1, (46, 188), held_at(scene))),
    }[scene.pose]  # fmt: skip


def held_at(scene: Scene) -> Point:
    """The hand's position in the pose `holding`."""
    return 50.0 + scene.swing, 166.0 - 2 * scene.swing


def draw_arm(brush: Brush, scene: Scene, colours: Palette, arm: Arm) -> None:
    outfit = _OUTFITS[scene.identity.outfit]
    shoulder = (arm.side * 22.0, 159.0)
    brush.limb(line(shoulder, (*arm.elbow, *arm.hand)), colours.skin, ARM_WIDTH - 2)
    _draw_hand(brush, colours, arm)
    path = _part_of_arm(shoulder, arm.elbow, arm.hand, outfit.sleeve_share)
    brush.limb(path, outfit.sleeve(colours), ARM_WIDTH + outfit.sleeve_width)
    if scene.identity.outfit in ("serafuku", "cape", "armor"):
        end = _point_on_arm(shoulder, arm.elbow, arm.hand, outfit.sleeve_share)
        brush.fill(oval(*end, ARM_WIDTH * 0.62, ARM_WIDTH * 0.55), colours.cloth, shade=0)


def _point_on_arm(start: Point, elbow: Point, hand: Point, share: float) -> Point:
    """The point at `share` (0–1) of the quadratic curve."""
    a, b, c = (1 - share) ** 2, 2 * share * (1 - share), share**2
    return a * start[0] + b * elbow[0] + c * hand[0], a * start[1] + b * elbow[1] + c * hand[1]


def _part_of_arm(start: Point, elbow: Point, hand: Point, share: float) -> skia.Path:
    """The first `share` of the quadratic curve (de Casteljau)."""
    control = (start[0] + (elbow[0] - start[0]) * share, start[1] + (elbow[1] - start[1]) * share)
    return line(start, (*control, *_point_on_arm(start, elbow, hand, share)))


def _draw_hand(brush: Brush, colours: Palette, arm: Arm) -> None:
    x, y = arm.hand
    if arm.sign == "v":
        for lean in (-5.5, 5.5):
            brush.limb(line((x + lean * 0.4, y - 4), (x + lean * 1.3, y - 19)), colours.skin, 5.2)
    elif arm.sign == "open":
        for lean in (-6.5, -2.2, 2.2, 6.5):
            brush.limb(line((x + lean * 0.5, y), (x + lean, y - 10.5 + abs(lean) * 0.5)), colours.skin, 3.6)
        brush.limb(line((x, y + 2), (x - arm.side * 9, y - 1)), colours.skin, 3.6)
    brush.fill(oval(x, y, HAND, HAND), colours.skin, shade=0.1)
    if arm.sign == "open":
        brush.flat(oval(x, y - 3, HAND - 1.8, HAND - 1.5), colours.skin)


def draw_mantle(brush: Brush, scene: Scene, colours: Palette) -> None:
    """The part of a cape over shoulders and upper arms, if worn."""
    if scene.identity.outfit != "cape":
        return
    sway = 2 * scene.sway
    for flip in (False, True):
        turn = -sway if flip else sway
        fold = shape(
            (1, 148), (20, 142, 30, 156), (42, 170, 44 + turn, 186), (34 + turn, 184, 26 + turn, 189), (12, 178, 3, 164)
        )
        brush.fill(moved(fold, 0, 0, flip=flip), colours.cloth)
        brush.stroke(
            moved(line((5, 167), (14, 180, 26 + turn, 187), (35 + turn, 183, 43 + turn, 185)), 0, 0, flip=flip),
            colours.trim,
            2.6,
        )
    draw_emblem(brush, scene.identity.details.emblem, 0, 158, 7, colours.trim)


def draw_scarf(brush: Brush, scene: Scene, colours: Palette) -> None:
    """A thick scarf with one end hanging, if the identity has one."""
    if "scarf" not in scene.identity.accessories:
        return
    sway = 5 * scene.sway
    brush.fill(shape((10, 156), (24, 156), (27 + sway, 190), (12 + sway, 192)), colours.accessory)
    brush.fill(
        box(12.5 + sway * 0.9, 183, 26 + sway * 0.9, 188, 1), lighter(colours.accessory, 0.55), shade=0, lined=False
    )
    brush.fill(mirrored((0, 143), (30, 142), (34, 150, 28, 160), (14, 166, 0, 166)), colours.accessory)
    brush.stroke(line((-20, 156), (0, 162, 20, 156)), darker(colours.accessory, 0.4), 2.2)
