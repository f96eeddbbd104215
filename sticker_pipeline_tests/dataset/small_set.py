"""A character on disk, and its training set, made by the stages' functions.

Captions come from files.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.core.character import Character, load_character
from sticker_pipeline.core.profile import character_profile
from sticker_pipeline.dataset.manifest import training_set
from sticker_pipeline.media.frames import decode_all, frame_table, write_frame_files
from sticker_pipeline.media.inventory import scan
from sticker_pipeline.sampling.weights import frame_weights
from sticker_pipeline_tests.conftest import REPOSITORY

SETTINGS = """\
trigger: skv_luma
groups:
  gifs: {learned: [luma_sticker]}
  stickers: {learned: [luma_sticker], share: 2.0}
  art: {medium: art}
benchmark: {holdout: [stickers/3.png, gifs/b.gif, art/1.png]}
"""


@dataclass(frozen=True)
class SmallSet:
    character: Character
    inventory: pd.DataFrame
    frames: pd.DataFrame
    images: Path
    weights: pd.DataFrame
    rows: pd.DataFrame


def noise(number: int, alpha: bool = False) -> Image.Image:
    """A random image: 24 × 20 cells of colour; with `alpha`, some are transparent."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (20, 24, 4), dtype=np.uint8)
    pixels[..., 3] = np.where(rng.random((20, 24)) < 0.3, 0, 255) if alpha else 255
    pixels[pixels[..., 3] == 0] = 0
    return Image.fromarray(pixels)


def draw_character(folder: Path, settings: str = SETTINGS) -> Path:
    """Two animations of 3 and 4 frames, four stickers and two images of art."""
    for group in ("gifs", "stickers", "art"):
        (folder / group).mkdir(parents=True)
    for name, first, count in (("a", 10, 3), ("b", 20, 4)):
        images = [noise(first + number) for number in range(count)]
        images[0].save(folder / "gifs" / f"{name}.gif", save_all=True, append_images=images[1:], duration=50)
    for number in range(4):
        noise(100 + number, alpha=True).save(folder / "stickers" / f"{number}.png")
    for number in range(2):
        noise(200 + number).save(folder / "art" / f"{number}.png")
    (folder / "character.yaml").write_text(settings)
    return folder


def made(folder: Path, work: Path, captions: dict[str, str]) -> SmallSet:
    """Make the training set of the character `folder`.

    `captions` by file name and frame number (`a.gif#1`), else the text beside the image.
    """
    character = load_character(folder)
    profile = character_profile(character, REPOSITORY / "data" / "models")
    inventory = scan(folder, character.groups.keys(), profile.media)
    decoded = dict(decode_all(folder, inventory, work / "cache", profile.media))
    frames = frame_table(inventory, decoded, work / "cache", profile.media, {})
    write_frame_files(frames, inventory, work / "cache", profile.media, work / "frames")
    shares = {name: group.share for name, group in character.groups.items()}
    weights = frame_weights(frames, shares, profile.sampling.mode, None)
    kept = frames[frames["kept"]]
    texts = [
        captions.get(f"{Path(path).name}#{index}") or (folder / path).with_suffix(".txt").read_text().rstrip("\n")
        for path, index in zip(kept["path"], kept["frame_index"], strict=True)
    ]
    table = pd.DataFrame({"frame_id": kept["frame_id"], "caption": texts})
    split = character.settings.benchmark
    rows = training_set(
        frames, weights, table, split.holdout, profile.resolution, profile.buckets, validation=split.validation
    )
    return SmallSet(character, inventory, frames, work / "frames", weights, rows)


def captions_of(folder: Path, special: dict[str, str] | None = None) -> dict[str, str]:
    """A caption for each frame of the drawn character; `special` ones replace them.

    Captions begin as curation begins them.
    """
    texts = {
        **{f"{source}.gif#{index}": f"skv_luma, luma_sticker, pose {index}" for source in "ab" for index in range(4)},
        **{f"{number}.png#0": f"skv_luma, luma_sticker, smile {number}" for number in range(2, 4)},
    }
    for number in range(2):  # stickers and art have files of these names: captions are beside them
        (folder / "stickers" / f"{number}.txt").write_text(f"skv_luma, luma_sticker, smile {number}\n")
        (folder / "art" / f"{number}.txt").write_text(f"skv_luma, sitting, hat {number}\n")
    return texts | (special or {})
