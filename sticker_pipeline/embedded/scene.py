"""Image content as data: Identity, Scene, their random samples and their tags.

`embedded/drawing.py` draws a Scene.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

# --- the words -------------------------------------------------------------------------------------------------------
# All are danbooru tags as WD taggers spell them, with spaces for underscores.

GENDERS = ("1girl", "1boy")
HAIR_STYLES = (
    "short hair",
    "long hair",
    "twintails",
    "side ponytail",
    "bob cut",
    "double bun",
    "twin braids",
    "drill hair",
    "spiky hair",
)
HAIR_COLOURS = (
    "black hair",
    "brown hair",
    "blonde hair",
    "orange hair",
    "red hair",
    "pink hair",
    "purple hair",
    "blue hair",
    "aqua hair",
    "green hair",
    "white hair",
)
EYE_COLOURS = ("blue eyes", "green eyes", "red eyes", "purple eyes", "yellow eyes", "brown eyes")
OUTFITS = ("serafuku", "hoodie", "dress", "kimono", "jacket", "armor", "shirt", "overalls", "cape")
OUTFIT_COLOURS = ("red", "blue", "green", "yellow", "pink", "black")
ACCESSORY_SLOTS = {
    "witch hat": "top",
    "beret": "top",
    "crown": "top",
    "halo": "top",
    "hair bow": "top",
    "headphones": "top",
    "horns": "top",
    "cat ears": "top",
    "rabbit ears": "top",
    "hair flower": "side",
    "hairclip": "side",
    "glasses": "face",
    "scarf": "neck",
    "wings": "back",
}
ACCESSORIES = tuple(ACCESSORY_SLOTS)
MARKS = (
    "mole under eye",
    "scar on cheek",
    "facial mark",
    "freckles",
    "bandaid on face",
    "blush stickers",
    "eyepatch",
    "ahoge",
    "streaked hair",
    "none",
)
EXPRESSIONS = (
    "smile",
    "open mouth",
    "tongue out",
    "one eye closed",
    "closed eyes",
    "^_^",
    ">_<",
    "blush",
    "surprised",
    "sad",
    "crying",
    "angry",
)
POSES = (
    "arms at sides",
    "arms up",
    "waving",
    "v",
    "hand on own cheek",
    "hands on own hips",
    "arms behind back",
    "crossed arms",
    "holding",
)
VIEWS = ("full body", "upper body", "portrait")
GAZES = ("looking at viewer", "looking to the side")
HELD_PROPS = ("cup", "book", "flower", "ice cream", "balloon")
FLOATING_PROPS = (
    "heart",
    "star (symbol)",
    "speech bubble",
    "musical note",
    "?",
    "!",
    "sweatdrop",
    "anger vein",
    "zzz",
)
PROPS = (*HELD_PROPS, *FLOATING_PROPS, "none")
COLOUR_BACKGROUNDS = (
    "blue background",
    "pink background",
    "green background",
    "yellow background",
    "purple background",
)
SCENERIES = ("starry sky", "outdoors", "indoors", "sunset", "snowing", "cherry blossoms", "ocean")
BACKGROUNDS = ("transparent background", "white background", *COLOUR_BACKGROUNDS, *SCENERIES)
STYLES = ("sticker", "art")

BOY_HAIR_STYLES = ("short hair", "spiky hair")
GIRL_HAIR_STYLES = tuple(style for style in HAIR_STYLES if style != "spiky hair")
BOY_OUTFITS = ("hoodie", "kimono", "jacket", "armor", "shirt", "overalls", "cape")
PORTRAIT_POSES = ("arms at sides", "arms up", "waving", "v", "hand on own cheek", "holding")
EYES_HIDDEN = ("closed eyes", "^_^", ">_<")
# Blinks from here on hide the eye colour; a smile open wider is an open mouth.
BLINK_HIDES_EYES = 0.6
MOUTH_OPENS = 0.4

OUTFIT_COLOUR_TAGS = tuple(f"{colour} {outfit}" for outfit in OUTFITS for colour in OUTFIT_COLOURS)
STYLE_TAGS = {"sticker": ("outline", "flat color"), "art": ()}
BACKDROP_TAGS = ("simple background", "gradient background", "scenery")


def _vocabulary() -> dict[str, str]:
    """Tag -> kind, in the order of `scene_tags`."""
    kinds: dict[str, tuple[str, ...]] = {
        "count": (*GENDERS, "solo", "chibi"),
        "hair style": HAIR_STYLES,
        "hair colour": HAIR_COLOURS,
        "eye colour": EYE_COLOURS,
        "outfit": OUTFITS,
        "outfit colour": OUTFIT_COLOUR_TAGS,
        "accessory": ACCESSORIES,
        "mark": tuple(mark for mark in MARKS if mark != "none"),
        "expression": EXPRESSIONS,
        "gaze": GAZES,
        "pose": POSES,
        "view": VIEWS,
        "prop": tuple(prop for prop in PROPS if prop != "none"),
        "background": BACKGROUNDS,
        "backdrop": BACKDROP_TAGS,
        "style": STYLE_TAGS["sticker"],
    }
    return {tag: kind for kind, tags in kinds.items() for tag in tags}


VOCABULARY: dict[str, str] = _vocabulary()
"""Every general tag of drawings -> its kind.

`accessory`, `count` and `style` may occur several times in an image, other kinds at most once.
"""

# (hair style, hair colour, eye colour) of the demo characters. Sampled identities never have them: models are not
# trained on them. A test compares `demo_characters` in `embedded/roster.py`.
RESERVED_LOOKS = frozenset(
    {
        ("bob cut", "blue hair", "yellow eyes"),
        ("spiky hair", "orange hair", "green eyes"),
        ("drill hair", "purple hair", "red eyes"),
    }
)


# --- who -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Details:
    """Differences of identities with equal tags; floats lie in 0–1, average 0.5."""

    hair_hue: float = 0.5
    hair_light: float = 0.5
    hair_length: float = 0.5
    hair_volume: float = 0.5
    bangs: int = 0  # 0–5: blunt, swept, zigzag, curtain, pointed, side-parted
    eye_hue: float = 0.5
    eye_width: float = 0.5
    eye_height: float = 0.5
    eye_slant: float = 0.5
    face_width: float = 0.5
    skin: float = 0.3  # light to dark
    outfit_hue: float = 0.5
    outfit_light: float = 0.5
    trim: int = 0  # 0–7: colour of ribbons, obi, lining, emblem
    pattern: int = 0  # 0–3: plain, stripes, dots, band
    emblem: int = 0  # 0–3: star, heart, round, diamond
    accessory_hue: float = 0.5
    shoes: int = 0  # 0–2: dark, brown, light


@dataclass(frozen=True)
class Identity:
    """One character: the constants of all its images.

    Raises ValueError if a word is not in this module's lists, or if two accessories share a slot.
    """

    gender: str
    hair_style: str
    hair_colour: str
    eye_colour: str
    outfit: str
    outfit_colour: str
    accessories: tuple[str, ...] = ()
    mark: str = "none"
    details: Details = field(default_factory=Details)

    def __post_init__(self) -> None:
        _check("gender", self.gender, GENDERS)
        _check("hair_style", self.hair_style, BOY_HAIR_STYLES if self.gender == "1boy" else GIRL_HAIR_STYLES)
        _check("hair_colour", self.hair_colour, HAIR_COLOURS)
        _check("eye_colour", self.eye_colour, EYE_COLOURS)
        _check("outfit", self.outfit, BOY_OUTFITS if self.gender == "1boy" else OUTFITS)
        _check("outfit_colour", self.outfit_colour, OUTFIT_COLOURS)
        _check("mark", self.mark, MARKS)
        for accessory in self.accessories:
            _check("accessories", accessory, ACCESSORIES)
        slots = [ACCESSORY_SLOTS[accessory] for accessory in self.accessories]
        if len(set(slots)) != len(slots):
            raise ValueError(f"accessories: {self.accessories} would stand in the same place; choose one of each slot")


def look(identity: Identity) -> tuple[str, str, str]:
    """(hair style, hair colour, eye colour), as in `RESERVED_LOOKS`."""
    return identity.hair_style, identity.hair_colour, identity.eye_colour


def _random_details(rng: np.random.Generator) -> Details:
    values: dict[str, float | int] = {}
    sizes = {"bangs": 6, "trim": 8, "pattern": 4, "emblem": 4, "shoes": 3}
    for item in fields(Details):
        if item.name in sizes:
            values[item.name] = int(rng.integers(sizes[item.name]))
        else:
            values[item.name] = round(float(rng.random()), 3)
    return Details(**values)  # type: ignore[arg-type]


def _random_accessories(rng: np.random.Generator) -> tuple[str, ...]:
    """Sample none (15 %), one (50 %) or two, in vocabulary order.

    Two are in different slots.
    """
    count = int(rng.choice(3, p=[0.15, 0.5, 0.35]))
    chosen: list[str] = []
    for name in rng.permutation(np.array(ACCESSORIES)):
        if len(chosen) < count and ACCESSORY_SLOTS[name] not in {ACCESSORY_SLOTS[other] for other in chosen}:
            chosen.append(str(name))
    return tuple(sorted(chosen, key=ACCESSORIES.index))


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def random_identity(rng: np.random.Generator) -> Identity:
    """Sample an identity outside `RESERVED_LOOKS`; one in four is a boy."""
    while True:
        gender = "1boy" if rng.random() < 0.25 else "1girl"
        identity = Identity(
            gender=gender,
            hair_style=_pick(rng, BOY_HAIR_STYLES if gender == "1boy" else GIRL_HAIR_STYLES),
            hair_colour=_pick(rng, HAIR_COLOURS),
            eye_colour=_pick(rng, EYE_COLOURS),
            outfit=_pick(rng, BOY_OUTFITS if gender == "1boy" else OUTFITS),
            outfit_colour=_pick(rng, OUTFIT_COLOURS),
            accessories=_random_accessories(rng),
            mark=_pick(rng, MARKS),
            details=_random_details(rng),
        )
        if look(identity) not in RESERVED_LOOKS:
            return identity


# --- doing what, where -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """One image of one identity; numbers are continuous, for animation.

    `bob` (vertical bounce), `swing` (arms' phase) and `sway` (phase of hair, cloth and props) lie in -1…1, `blink` and
    `mouth_open` in 0…1; `tilt` (head) and `rotation` (figure) are degrees, `x_offset` and `y_offset` fractions of the
    canvas; `scale` multiplies the figure; `backdrop` (0…1) varies the background's layout.

    Raises ValueError if a word is not in this module's lists, if only one of `holding` and a held prop is set, or only
    one of `sticker` and a transparent background.
    """

    identity: Identity
    expression: str = "smile"
    pose: str = "arms at sides"
    view: str = "full body"
    gaze: str = "looking at viewer"
    prop: str = "none"
    background: str = "transparent background"
    style: str = "sticker"
    bob: float = 0.0
    swing: float = 0.0
    sway: float = 0.0
    blink: float = 0.0
    mouth_open: float = 0.0
    tilt: float = 0.0
    rotation: float = 0.0
    x_offset: float = 0.0
    y_offset: float = 0.0
    scale: float = 1.0
    backdrop: float = 0.5

    def __post_init__(self) -> None:
        _check("expression", self.expression, EXPRESSIONS)
        _check("pose", self.pose, POSES)
        _check("view", self.view, VIEWS)
        _check("gaze", self.gaze, GAZES)
        _check("prop", self.prop, PROPS)
        _check("background", self.background, BACKGROUNDS)
        _check("style", self.style, STYLES)
        if (self.prop in HELD_PROPS) != (self.pose == "holding"):
            raise ValueError(f"pose {self.pose!r} with prop {self.prop!r}: `holding` goes with {', '.join(HELD_PROPS)}")
        if (self.style == "sticker") != (self.background == "transparent background"):
            raise ValueError(
                f"style {self.style!r} with {self.background!r}: stickers, and they alone, are transparent"
            )


def random_scene(rng: np.random.Generator, identity: Identity, style: str) -> Scene:
    """Sample a scene of `identity` in `style` (`sticker` or `art`).

    Words are uniform, but 30 % have no prop and 30 % look to the side; numbers are near rest. Raises ValueError for an
    unknown style.
    """
    _check("style", style, STYLES)
    view = _pick(rng, VIEWS)
    prop = "none" if rng.random() < 0.3 else _pick(rng, PROPS[:-1])
    free_poses = tuple(p for p in (PORTRAIT_POSES if view == "portrait" else POSES) if p != "holding")
    pose = "holding" if prop in HELD_PROPS else _pick(rng, free_poses)
    background = "transparent background" if style == "sticker" else _pick(rng, BACKGROUNDS[1:])
    return Scene(
        identity=identity,
        expression=_pick(rng, EXPRESSIONS),
        pose=pose,
        view=view,
        gaze=GAZES[int(rng.random() < 0.3)],
        prop=prop,
        background=background,
        style=style,
        bob=float(rng.uniform(-0.5, 0.5)),
        swing=float(rng.uniform(-1, 1)),
        sway=float(rng.uniform(-1, 1)),
        tilt=float(rng.uniform(-7, 7)),
        rotation=float(rng.uniform(-3, 3)),
        x_offset=float(rng.uniform(-0.02, 0.02)),
        y_offset=float(rng.uniform(-0.01, 0.01)),
        scale=float(rng.uniform(0.95, 1.03)),
        backdrop=float(rng.random()),
    )


# --- its tags --------------------------------------------------------------------------------------------------------


def eyes_visible(scene: Scene) -> bool:
    """Return True if an iris shows: open eyes that no blink hides."""
    if scene.expression == "one eye closed" and scene.identity.mark == "eyepatch":
        return False
    return scene.expression not in EYES_HIDDEN and scene.blink < BLINK_HIDES_EYES


def identity_tags(identity: Identity) -> list[str]:
    """The character's own tags in order: count, hair, eyes, outfit, accessories, mark."""
    tags = [identity.gender, "solo", "chibi", identity.hair_style, identity.hair_colour, identity.eye_colour]
    tags += [identity.outfit, f"{identity.outfit_colour} {identity.outfit}", *identity.accessories]
    return tags if identity.mark == "none" else [*tags, identity.mark]


def scene_tags(scene: Scene) -> list[str]:
    """Danbooru tags of `scene`'s visible content, with spaces, in fixed order.

    Order: count, hair, eyes, outfit, accessories, mark, expression, gaze, pose, view, prop, background, backdrop,
    style. Hidden things have no tag: eye colour behind closed lids, arms below a portrait's edge.
    """
    tags = identity_tags(scene.identity)
    if not eyes_visible(scene):
        tags.remove(scene.identity.eye_colour)
    tags.append(_expression_tag(scene))
    if scene.gaze == "looking to the side" or eyes_visible(scene):
        tags.append(scene.gaze)
    if scene.view != "portrait" or scene.pose in PORTRAIT_POSES[1:]:
        tags.append(scene.pose)
    tags.append(scene.view)
    if scene.prop != "none":
        tags.append(scene.prop)
    tags.append(scene.background)
    tags += _backdrop_tags(scene.background)
    tags += STYLE_TAGS[scene.style]
    return tags


def full_prompt(scene: Scene) -> str:
    """All tags of `scene`, joined by `, `: the base model's training caption."""
    return ", ".join(scene_tags(scene))


def _expression_tag(scene: Scene) -> str:
    """The visible expression: a speaking smile is an open mouth."""
    return "open mouth" if scene.expression == "smile" and scene.mouth_open > MOUTH_OPENS else scene.expression


def _backdrop_tags(background: str) -> list[str]:
    if background in SCENERIES:
        return ["scenery"]
    if background in COLOUR_BACKGROUNDS:
        return ["gradient background"]
    return ["simple background"]


def _check(name: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise ValueError(f"{name}: {word!r} is unknown here; choose one of {', '.join(words)}")
