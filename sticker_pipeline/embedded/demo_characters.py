"""Writes the demo characters' folders: GIFs, stickers, art and character.yaml.

`embedded/roster.py` defines the characters, `embedded/drawing.py` draws them.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from sticker_pipeline.embedded.drawing import draw
from sticker_pipeline.embedded.gif_file import Patch, changes, encode_gif, over_first, quantise, whole_content
from sticker_pipeline.embedded.roster import demo_characters
from sticker_pipeline.embedded.scene import HELD_PROPS, VOCABULARY, Identity, Scene, identity_tags

RECORD = ".drawn.json"
"""Files drawn by this module (path -> sha256), which may be replaced."""

SEED = 7
"""Seed of the files under data/characters."""

N_STICKERS = 16
N_ART = 10


# --- contents of stills ----------------------------------------------------------------------------------------------

# name, expression, pose, view, gaze (True: to the side), prop
_STICKERS: tuple[tuple[str, str, str, str, bool, str], ...] = (
    ("hello", "open mouth", "waving", "upper body", False, "none"),
    ("hooray", "^_^", "arms up", "full body", False, "star (symbol)"),
    ("love", "^_^", "hand on own cheek", "upper body", False, "heart"),
    ("grumpy", "angry", "crossed arms", "upper body", False, "anger vein"),
    ("huh", "surprised", "arms at sides", "portrait", False, "?"),
    ("what", "surprised", "arms up", "upper body", False, "!"),
    ("sob", "crying", "arms at sides", "portrait", False, "none"),
    ("miss_you", "sad", "arms behind back", "full body", True, "none"),
    ("goodnight", "closed eyes", "hand on own cheek", "portrait", False, "zzz"),
    ("tea_time", "closed eyes", "holding", "upper body", False, "cup"),
    ("for_you", "blush", "holding", "upper body", False, "flower"),
    ("yummy", "tongue out", "holding", "portrait", False, "ice cream"),
    ("peace", "one eye closed", "v", "upper body", False, "none"),
    ("oops", "tongue out", "arms behind back", "full body", True, "sweatdrop"),
    ("la_la_la", "open mouth", "hands on own hips", "full body", True, "musical note"),
    ("haha", ">_<", "arms at sides", "portrait", False, "none"),
    ("ready", "smile", "hands on own hips", "full body", False, "none"),
    ("reading", "smile", "holding", "full body", True, "book"),
    ("party", "open mouth", "holding", "full body", False, "balloon"),
    ("um", "blush", "arms behind back", "upper body", True, "speech bubble"),
    ("no_way", "angry", "arms up", "full body", False, "none"),
    ("hmm", "sad", "hand on own cheek", "portrait", True, "speech bubble"),
)

# name, expression, pose, view, gaze, prop, background
_ART: tuple[tuple[str, str, str, str, bool, str, str], ...] = (
    ("by_the_sea", "smile", "arms behind back", "full body", True, "none", "ocean"),
    ("spring", "^_^", "holding", "upper body", False, "flower", "cherry blossoms"),
    ("first_snow", "surprised", "hands on own hips", "full body", False, "none", "snowing"),
    ("stargazing", "open mouth", "arms up", "full body", False, "none", "starry sky"),
    ("evening", "closed eyes", "crossed arms", "upper body", False, "none", "sunset"),
    ("meadow", "one eye closed", "waving", "full body", False, "none", "outdoors"),
    ("at_home", "blush", "holding", "upper body", False, "cup", "indoors"),
    ("in_blue", "smile", "v", "upper body", False, "none", "blue background"),
    ("in_pink", "tongue out", "hand on own cheek", "portrait", False, "heart", "pink background"),
    ("in_yellow", ">_<", "arms up", "upper body", False, "star (symbol)", "yellow background"),
    ("in_green", "angry", "crossed arms", "full body", False, "none", "green background"),
    ("in_violet", "sad", "arms at sides", "portrait", True, "none", "purple background"),
    ("model_sheet", "smile", "arms at sides", "full body", False, "none", "white background"),
    ("story_time", "open mouth", "holding", "upper body", False, "book", "indoors"),
)

_GROWN_ON = (256, 192, 224, 240)  # sticker sizes in pixels, in turn
_STILL_FORMATS = ("png", "webp", "png")
_ART_FORMATS = ("png", "jpg", "webp")
_ART_SIDES = (256, 320, 288)  # pixels, in turn

PROMPTS = (
    "smile, looking at viewer, arms up, full body",
    "open mouth, looking at viewer, waving, upper body",
    "angry, looking at viewer, crossed arms, upper body",
    "crying, looking at viewer, arms at sides, portrait",
    "closed eyes, hand on own cheek, portrait",
    "surprised, looking at viewer, full body, !",
    "one eye closed, looking at viewer, v, upper body",
    "blush, looking at viewer, holding, upper body, flower",
)
"""Free attributes of the benchmark's prompts; the trigger names the character."""

_STORIES = {
    "pip_comet": "Pip Comet delivers messages between the stars, and never takes the headphones off.",
    "bram_thistle": "Bram Thistle guards a hedge that nobody has ever attacked. He is ready all the same.",
    "velvet_moth": "Velvet Moth runs a tea room for things that come out at night.",
}


# --- the folders -----------------------------------------------------------------------------------------------------


def draw_demo_characters(folder: Path, seed: int = SEED) -> list[Path]:
    """Write the three demo characters' folders into `folder` (usually data/characters).

    The same seed and library versions give the same bytes. Other people's files stay; files of earlier calls are
    replaced, or removed if no longer drawn. Returns all files written, sorted. Raises FileExistsError if a file to
    write is not from here or was changed since; then nothing is written.
    """
    drawn = {
        f"{name}/{path}": content
        for index, (name, identity) in enumerate(demo_characters().items())
        for path, content in _character_files(name, identity, index, np.random.default_rng([seed, index]))
    }
    record_file = folder / RECORD
    record: dict[str, str] = json.loads(record_file.read_text(encoding="utf-8")) if record_file.exists() else {}
    _refuse_strangers(folder, drawn, record)
    for path in sorted(set(record) - set(drawn)):
        _remove_if_ours(folder / path, record[path])
    for path, content in drawn.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    hashes = {path: _sha256(content) for path, content in sorted(drawn.items())}
    record_file.write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")
    return [folder / path for path in sorted(drawn)]


def _refuse_strangers(folder: Path, drawn: dict[str, bytes], record: dict[str, str]) -> None:
    """Raise FileExistsError for existing files with neither recorded nor new content."""
    strangers = []
    for path, content in drawn.items():
        target = folder / path
        if target.exists() and _sha256(target.read_bytes()) not in (record.get(path), _sha256(content)):
            strangers.append(str(target))
    if strangers:
        raise FileExistsError(
            f"{', '.join(strangers)}: not as the demo drawing left it, so it is yours. Move it elsewhere or delete it, "
            "and draw again."
        )


def _remove_if_ours(path: Path, sha256: str) -> None:
    if path.exists() and _sha256(path.read_bytes()) == sha256:
        path.unlink()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _character_files(
    name: str, identity: Identity, index: int, rng: np.random.Generator
) -> Iterator[tuple[str, bytes]]:
    """Yield every file of a character: path inside its folder, content."""
    yield "character.yaml", character_yaml(name, identity).encode()
    for animation in GIFS:
        frames = quantise([draw(scene, animation.size) for scene in animation.scenes(identity)], animation.colours)
        yield (
            f"gifs/{animation.name}.gif",
            encode_gif(frames, animation.delays(len(frames)), animation.store, animation.local_palettes),
        )
    yield from _animated_sticker(identity, index)
    yield from _stickers(identity, rng)
    yield from _art(identity, rng)


PACKS = {
    "pip_comet": """
# A sticker pack, from the release and the stickers and GIFs here. `sticker-pipeline pack pip_comet` makes it alone.
pack:
  platforms: [telegram, whatsapp]
  slots: [hello, good_night, thanks, sorry, agree, refuse, laugh, cry, angry, kiss, surprised, cheer]
  seeds: 2              # images for each slot, to choose from
  size: 24              # stickers in all
"""
}  # one is enough for a demo


def character_yaml(name: str, identity: Identity) -> str:
    word = name.replace("_", "")
    inherent = ", ".join(tag for tag in identity_tags(identity) if VOCABULARY[tag] != "count")
    prompts = "\n".join(f"    - {json.dumps(prompt)}" for prompt in PROMPTS)
    return f"""\
# {_STORIES[name]}
# Drawn by this project: original, nobody else's. `make models` draws these files again.

# The word for this character. Made up, so that it has no meaning to the base model yet.
trigger: skv_{word}

# Each subfolder with media is a group. `learned` tags follow the trigger in each caption of the group.
groups:
  gifs:
    learned: [{word}_sticker]
  stickers:
    learned: [{word}_sticker]
    share: 1.0          # weight of a source here, relative to one of another group
  art:
    medium: art          # compared with art, never with stickers

# Inherent traits are left out of the captions, so that they bind to the trigger. `inherent: auto` finds hair, eyes
# and marks by their frequency. Clothes can change: list here those that never do.
curation:
  inherent: [{inherent}]
  min_images: 1         # tags of a single source are kept, too: tags left out bind to the trigger

benchmark:
  validation: 0         # few sources: all that are not held out are trained on
  holdout: 0.3          # share of each group's sources that are references, never trained on
  prompts:              # attributes of the images to generate
{prompts}
{PACKS.get(name, "")}"""


# --- animations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Animation:
    """GIF of each character: its scenes and the storage of its frames."""

    name: str
    size: int
    colours: int
    n_frames: int
    delay: int  # hundredths of a second
    hold: int  # of the last frame
    store: Callable[..., list[Patch]]
    local_palettes: bool
    scene_at: Callable[[Identity, float], Scene]

    def scenes(self, identity: Identity) -> list[Scene]:
        """Return each frame's scene; time goes from 0 to just below 1."""
        return [self.scene_at(identity, index / self.n_frames) for index in range(self.n_frames)]

    def delays(self, n_frames: int) -> list[int]:
        """Return each frame's delay in hundredths of a second."""
        return [self.delay] * (n_frames - 1) + [self.hold]


def _wave(time: float, beats: float = 1.0) -> float:
    return math.sin(2 * math.pi * beats * time)


def _pulse(time: float, middle: float, width: float) -> float:
    """A smooth bump in 0…1 of half-width `width` around `middle`."""
    away = abs(time - middle) / width
    return 0.0 if away >= 1 else 0.5 + 0.5 * math.cos(math.pi * away)


def _talk(identity: Identity, time: float) -> Scene:
    """Speech and a blink, so later frames hold only the moving face."""
    speech = max(0.0, _wave(time, 2))
    return Scene(identity, view="portrait", mouth_open=speech, blink=_pulse(time, 0.75, 0.2))


def _greet(identity: Identity, time: float) -> Scene:
    return Scene(
        identity,
        expression="open mouth",
        pose="waving",
        view="upper body",
        swing=1.6 * _wave(time, 2),
        sway=_wave(time),
        bob=0.6 * _wave(time, 2),
        tilt=4 * _wave(time),
        mouth_open=0.5 + 0.5 * _wave(time, 2),
    )


def _in_love(identity: Identity, time: float) -> Scene:
    """Stands still while a heart appears and disappears."""
    shown = 0.15 < time < 0.85
    return Scene(
        identity,
        expression="smile",
        pose="hands on own hips",
        prop="heart" if shown else "none",
        sway=0.0,
        blink=_pulse(time, 0.08, 0.07) + _pulse(time, 0.55, 0.07),
        mouth_open=0.6 * _pulse(time, 0.5, 0.3),
    )


def _dance(identity: Identity, time: float) -> Scene:
    """Dances, with an expression per quarter of the loop."""
    quarter = int(4 * time)
    return Scene(
        identity,
        expression=("smile", "^_^", "open mouth", ">_<")[quarter],
        pose=("hands on own hips", "arms up", "v", "arms up")[quarter],
        view="full body",
        bob=_wave(time, 8),
        swing=1.5 * _wave(time, 8),
        sway=_wave(time, 4),
        tilt=6 * _wave(time, 4),
        rotation=5 * _wave(time, 2),
        x_offset=0.05 * _wave(time, 2),
        y_offset=-0.02 * abs(_wave(time, 4)),
        scale=0.92,
        mouth_open=0.5 + 0.5 * _wave(time, 8),
    )


GIFS = (
    Animation("talk", 176, 95, 8, 12, 12, changes, False, _talk),
    Animation("greet", 192, 127, 14, 8, 8, whole_content, False, _greet),
    Animation("in_love", 160, 95, 30, 7, 80, over_first, False, _in_love),
    Animation("dance", 168, 95, 60, 4, 4, changes, True, _dance),
)


def _cheer(identity: Identity, time: float) -> Scene:
    return Scene(
        identity,
        expression="^_^",
        pose="arms up",
        view="full body",
        scale=0.9,
        y_offset=-0.07 * abs(_wave(time)),
        swing=2 * _wave(time, 2),
        sway=_wave(time, 2),
    )


def _animated_sticker(identity: Identity, index: int) -> Iterator[tuple[str, bytes]]:
    """Twelve soft-edged frames, unlike GIF: APNG, or WebP for every second character."""
    frames = [Image.fromarray(draw(_cheer(identity, step / 12), 192)) for step in range(12)]
    buffer = io.BytesIO()
    common = {"save_all": True, "append_images": frames[1:], "duration": 70, "loop": 0}
    if index % 2:
        frames[0].save(buffer, "WEBP", quality=80, method=4, minimize_size=True, **common)
        yield "stickers/cheer.webp", buffer.getvalue()
    else:
        frames[0].save(buffer, "PNG", **common)
        yield "stickers/cheer.png", buffer.getvalue()


# --- stills ----------------------------------------------------------------------------------------------------------


def _lively(rng: np.random.Generator, scene: Scene) -> Scene:
    """Return `scene` with random head, hair, arms and backdrop."""
    return replace(
        scene,
        tilt=float(rng.uniform(-7, 7)),
        swing=float(rng.uniform(-1, 1)),
        sway=float(rng.uniform(-1, 1)),
        rotation=float(rng.uniform(-3, 3)),
        backdrop=float(rng.random()),
    )


def _stickers(identity: Identity, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Stills on transparency, one also as a copy, one also resized."""
    chosen = sorted(rng.choice(len(_STICKERS), N_STICKERS, replace=False).tolist())
    for place, number in enumerate(chosen):
        name, expression, pose, view, aside, prop = _STICKERS[number]
        scene = _lively(rng, _still(identity, expression, pose, view, aside, prop))
        kind = _STILL_FORMATS[place % len(_STILL_FORMATS)]
        folder = "stickers/props" if prop in HELD_PROPS else "stickers"
        content = _encode_still(draw(scene, _GROWN_ON[place % len(_GROWN_ON)]), kind)
        yield f"{folder}/{name}.{kind}", content
        if place == 1:
            yield f"stickers/{name}_copy.{kind}", content
        if place == 2:
            again = draw(replace(scene, tilt=scene.tilt + 0.4), 208)
            yield f"stickers/{name}_resized.webp", _encode_still(again, "webp")


def _art(identity: Identity, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Images with backgrounds, in three sizes and formats."""
    chosen = sorted(rng.choice(len(_ART), N_ART, replace=False).tolist())
    for place, number in enumerate(chosen):
        name, expression, pose, view, aside, prop, background = _ART[number]
        still = _still(identity, expression, pose, view, aside, prop, background)
        kind = _ART_FORMATS[place % len(_ART_FORMATS)]
        side = _ART_SIDES[place % len(_ART_SIDES)]
        yield f"art/{name}.{kind}", _encode_still(draw(_lively(rng, still), side), kind)


def _still(
    identity: Identity, expression: str, pose: str, view: str, aside: bool, prop: str, background: str | None = None
) -> Scene:
    return Scene(
        identity,
        expression=expression,
        pose=pose,
        view=view,
        gaze="looking to the side" if aside else "looking at viewer",
        prop=prop,
        background=background or "transparent background",
        style="art" if background else "sticker",
    )


def _encode_still(rgba: np.ndarray, kind: str) -> bytes:
    """Encode `rgba`; `png` and `webp` keep transparency, `jpg` must be opaque."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(rgba))
    if kind == "png":
        image.save(buffer, "PNG", optimize=True)
    elif kind == "webp":
        image.save(buffer, "WEBP", quality=88, method=4)
    else:
        image.convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
