"""A small character on the disk with the artifacts of its dataset, for tests of the desk."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.core.character import Pack, load_character
from sticker_pipeline.core.profile import character_profile
from sticker_pipeline.core.schemas import TableSchema, typed
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import ArtifactStore, write_table
from sticker_pipeline.dataset.manifest import TRAINING_SET
from sticker_pipeline.desk.session import Session
from sticker_pipeline.media import frames as media_frames
from sticker_pipeline.media.inventory import INVENTORY, scan
from sticker_pipeline.media.sidecars import WRITTEN_CAPTIONS, read_captions
from sticker_pipeline.packing.folder import pack_folder
from sticker_pipeline.tagging.curation import CAPTIONS, DROPPED, curate
from sticker_pipeline.tagging.scoring import WD14_TAGS
from sticker_pipeline.tagging.written import written_captions
from sticker_pipeline_tests.media.makers import GifImage, gif

NAME = "fox"
SETTINGS = """# The fox of the tests.
trigger: skv_fox
groups:
  stickers: {learned: [fox_sticker]}
  gifs: {}
curation: {min_images: 1, inherent: []}
"""
TAGS = {  # of each file's frames, as a tagger would give them
    "stickers/happy.png": ["smile", "hat"],
    "stickers/sad.png": ["crying"],
    "stickers/twin.png": ["smile"],
    "gifs/wave.gif": ["smile", "waving"],
}
STATES = {"stickers/sad.png": "holdout"}


class NoRuns:
    """Runs that are only noted."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def state(self, name: str) -> None:
        return None

    def update(self, name: str) -> None:
        self.asked.append(("update", name))

    def roll_back(self, name: str, number: int, reason: str) -> None:
        self.asked.append(("roll back", name, number, reason))

    def cancel(self, name: str) -> bool:
        self.asked.append(("cancel", name))
        return True

    def checks(self, name: str) -> list[object]:
        return []


def session(root: Path) -> Session:
    """Return a desk over `root`/characters and `root`/artifacts."""
    return Session(root / "characters", root / "models", ArtifactStore(root / "artifacts"), NoRuns())  # type: ignore[arg-type]


def add_character(root: Path, name: str = NAME) -> Path:
    """Write the character's files; return its folder."""
    folder = root / "characters" / name
    random = np.random.default_rng(7)
    for group in ("stickers", "gifs"):
        (folder / group).mkdir(parents=True)
    for file in ("happy", "sad"):
        pixels = random.integers(0, 255, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"stickers/{file}.png")
    Image.open(folder / "stickers/happy.png").save(folder / "stickers/twin.png", compress_level=0)
    pictures = [random.integers(0, 3, (16, 16)).tolist() for _ in range(2)]
    (folder / "gifs/wave.gif").write_bytes(gif(16, 16, [GifImage(picture) for picture in pictures]))
    (folder / "stickers/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (folder / "character.yaml").write_text(SETTINGS, encoding="utf-8")
    return folder


def make_dataset(root: Path, name: str = NAME, tags: Mapping[str, list[str]] = TAGS) -> None:
    """Publish the artifacts of the dataset, as an update does; `tags` stand for the tagger."""
    store, folder = ArtifactStore(root / "artifacts"), root / "characters" / name
    character = load_character(folder)
    media = character_profile(character, root / "models").media
    inventory = scan(folder, character.groups.keys(), media, character.roots)
    said = read_captions(folder, inventory, character.roots)
    publish(store, name, "raw_media", (inventory, INVENTORY), (said, WRITTEN_CAPTIONS))
    cache = store.cache("media")
    decoded = dict(media_frames.decode_all(folder, inventory, cache, media, character.roots))
    captions = dict(zip(said["path"], said["caption"], strict=True))
    frames = media_frames.frame_table(inventory, decoded, cache, media, captions)
    with store.writing(name, "frames") as staging:
        media_frames.write_frame_files(frames, inventory, cache, media, staging)
        write_table(frames, staging, media_frames.FRAMES)
        store.publish(staging, name, "frames", code_version="1", inputs={}, settings={})
    kept = frames[frames["kept"]]
    rows = [(frame, tag, "general", 0.9) for frame, path in kept[["frame_id", "path"]].values for tag in tags[path]]
    found = typed(pd.DataFrame(rows, columns=WD14_TAGS.names), WD14_TAGS)
    written = written_captions(frames, said)
    curated = curate(found, kept, character.groups, character.trigger, character.settings.curation, written)
    publish(store, name, "curated_tags", (curated.captions, CAPTIONS), (curated.dropped, DROPPED))
    publish(store, name, "training_set", (_training_set(kept, curated.captions), TRAINING_SET))


def _training_set(kept: pd.DataFrame, captions: pd.DataFrame) -> pd.DataFrame:
    split = kept["path"].map(STATES).fillna("train").to_numpy()
    train = split == "train"
    return typed(
        pd.DataFrame(
            {
                "frame_id": kept["frame_id"].to_numpy(),
                "file": kept["file"].to_numpy(),
                "caption": captions["caption"].to_numpy(),
                "probability": np.where(train, 1 / train.sum(), 0.0),
                "bucket_width": 64,
                "bucket_height": 64,
                "split": split,
            }
        ),
        TRAINING_SET,
    )


def publish(store: ArtifactStore, name: str, asset: str, *tables: tuple[pd.DataFrame, TableSchema]) -> None:
    with store.writing(name, asset) as staging:
        for table, schema in tables:
            write_table(table, staging, schema)
        store.publish(staging, name, asset, code_version="1", inputs={}, settings={})


def make_pack(root: Path, name: str = NAME) -> Path:
    """Publish a pack of three drawn files, one of which moves and one of which is a copy; return its folder."""
    store, source = ArtifactStore(root / "artifacts"), root / "drawn"
    source.mkdir()
    for file, count in (("hello", 1), ("thanks", 3)):
        frames = [np.zeros((96, 96, 4), np.uint8) for _ in range(count)]
        for number, frame in enumerate(frames):
            frame[16:80, 16 + 8 * number : 64 + 8 * number] = 40 * count, 90, 200, 255
        first, *others = map(Image.fromarray, frames)
        first.save(source / f"{file}.png", save_all=bool(others), append_images=others, duration=120)
    shutil.copy(source / "hello.png", source / "hello_2.png")
    target, pack = root / "packed", Pack(platforms=["signal", "slack"])
    pack_folder(source, target, pack, MediaSettings(), root / "cache", lambda *_: None, lambda: None)
    with store.writing(name, "sticker_pack") as staging:
        shutil.copytree(target, staging, dirs_exist_ok=True)
        return store.publish(staging, name, "sticker_pack", code_version="1", inputs={}, settings={}).folder
