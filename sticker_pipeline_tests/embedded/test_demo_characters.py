"""Folders of the demo characters: content, reproducibility by seed, and no overwritten files of others."""

import hashlib
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.core.character import load_character
from sticker_pipeline.embedded import demo_characters as demo
from sticker_pipeline.embedded.drawing import draw
from sticker_pipeline.embedded.gif_file import BACKGROUND, KEEP, PREVIOUS, quantise
from sticker_pipeline.embedded.roster import demo_characters
from sticker_pipeline.embedded.scene import identity_tags
from sticker_pipeline_tests.embedded.test_gif_file import Stored, composite, read_gif

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "characters"
NAMES = sorted(demo_characters())


def _gif(name: str, gif: str) -> tuple[int, int, list[Stored]]:
    return read_gif((SHIPPED / name / "gifs" / f"{gif}.gif").read_bytes())


# --- what is shipped -------------------------------------------------------------------------------------------------


def test_shipped_files_are_as_they_were_drawn() -> None:
    record = json.loads((SHIPPED / demo.RECORD).read_text())
    assert {path: hashlib.sha256((SHIPPED / path).read_bytes()).hexdigest() for path in record} == record


def test_shipped_files_are_small_together() -> None:
    record = json.loads((SHIPPED / demo.RECORD).read_text())
    assert sum((SHIPPED / path).stat().st_size for path in record) < 8_000_000


@pytest.mark.parametrize("name", NAMES)
def test_each_folder_is_a_character_with_enough_of_everything(name: str) -> None:
    character = load_character(SHIPPED / name)
    assert set(character.groups) == {"gifs", "stickers", "art"}
    assert character.groups["art"].medium == "art"
    assert character.groups["gifs"].learned == character.groups["stickers"].learned != []
    identity = demo_characters()[name]
    assert set(character.settings.curation.inherent) == {*identity_tags(identity)} - {identity.gender, "solo", "chibi"}
    assert character.settings.benchmark.holdout == 0.3
    assert len(character.settings.benchmark.prompts) == 8
    stickers = [path for path in (SHIPPED / name / "stickers").rglob("*") if path.is_file()]
    art = [path for path in (SHIPPED / name / "art").rglob("*") if path.is_file()]
    assert len(stickers) >= 12 + 1
    assert len(art) >= 8
    assert {path.suffix for path in stickers} == {".png", ".webp"}
    assert {path.suffix for path in art} == {".png", ".webp", ".jpg"}
    assert len({Image.open(path).size for path in art}) == 3
    assert sum(getattr(Image.open(path), "n_frames", 1) > 1 for path in stickers) == 1


def test_triggers_are_all_different() -> None:
    assert len({load_character(SHIPPED / name).trigger for name in NAMES}) == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_sticker_is_there_twice(name: str) -> None:
    hashes = [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (SHIPPED / name / "stickers").rglob("*")
        if path.is_file()
    ]
    assert len(hashes) - len(set(hashes)) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("gif", "n_frames", "disposals"),
    [
        ("talk", 8, {KEEP}),
        ("greet", 14, {BACKGROUND}),
        ("in_love", 30, {KEEP, PREVIOUS}),
        ("dance", 60, {KEEP, BACKGROUND}),
    ],
)
def test_gifs_are_stored_in_partial_frames(name: str, gif: str, n_frames: int, disposals: set[int]) -> None:
    width, height, frames = _gif(name, gif)
    assert len(frames) == n_frames
    assert {frame.disposal for frame in frames} <= disposals
    assert (gif == "dance") == all(frame.local_palette for frame in frames)
    partial = sum(frame.width * frame.height < width * height for frame in frames)
    assert partial >= n_frames - 1
    assert (frames[0].pixels[..., 3] == 0).any()


def test_delays_differ_between_and_within_files() -> None:
    delays = {gif: [frame.delay for frame in _gif("pip_comet", gif)[2]] for gif in ("talk", "greet", "in_love")}
    assert len({values[0] for values in delays.values()}) == 3
    assert len(set(delays["in_love"])) == 2


@pytest.mark.parametrize("number", [0, 1, 2])
def test_gifs_decode_to_what_was_drawn(number: int) -> None:
    animation = demo.GIFS[number]
    drawn = [draw(scene, animation.size) for scene in animation.scenes(demo_characters()["velvet_moth"])]
    wanted = quantise(drawn, animation.colours)
    shown = composite(*_gif("velvet_moth", animation.name))
    for image, target, original in zip(shown, wanted, drawn, strict=True):
        assert np.array_equal(image, target)
        opaque = target[..., 3] > 0
        assert np.abs(image[opaque][:, :3].astype(int) - original[opaque][:, :3]).mean() < 6


# --- drawing them ----------------------------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_stills() -> None:
    identity = demo_characters()["pip_comet"]
    first, again, other = (list(islice(demo._stickers(identity, np.random.default_rng(seed)), 3)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.fixture
def few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three characters of two tiny files each, the second of which depends on the seed."""

    def files(name: str, identity: object, index: int, rng: np.random.Generator):
        yield "character.yaml", demo.character_yaml(name, identity).encode()
        yield f"art/{rng.integers(10**6)}.png", b"image"

    monkeypatch.setattr(demo, "_character_files", files)


@pytest.mark.usefixtures("few_files")
def test_drawing_again_replaces_only_what_was_drawn(tmp_path: Path) -> None:
    first = demo.draw_demo_characters(tmp_path, seed=1)
    mine = tmp_path / "pip_comet" / "art" / "mine.png"
    mine.write_bytes(b"my own")
    second = demo.draw_demo_characters(tmp_path, seed=2)
    assert mine.read_bytes() == b"my own"
    assert len(second) == 6
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*second, mine, tmp_path / demo.RECORD}
    assert set(first) != set(second)


@pytest.mark.usefixtures("few_files")
def test_a_changed_file_is_not_overwritten_and_nothing_else_is_touched(tmp_path: Path) -> None:
    demo.draw_demo_characters(tmp_path, seed=1)
    settings = tmp_path / "velvet_moth" / "character.yaml"
    settings.write_text("trigger: my_moth\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match=r"velvet_moth/character\.yaml"):
        demo.draw_demo_characters(tmp_path, seed=2)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("few_files")
def test_a_strangers_file_of_the_same_name_is_not_overwritten(tmp_path: Path) -> None:
    stranger = tmp_path / "pip_comet" / "character.yaml"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("trigger: somebody_else\n")
    with pytest.raises(FileExistsError, match="not as the demo drawing left it"):
        demo.draw_demo_characters(tmp_path, seed=1)
    assert not (tmp_path / demo.RECORD).exists()
