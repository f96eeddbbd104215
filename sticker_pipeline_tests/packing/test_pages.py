"""Images of a pack's page: animations that were chosen move, thumbnails are still."""

from pathlib import Path

import numpy as np
from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.packing.animation import animation
from sticker_pipeline.packing.build import Sticker
from sticker_pipeline.packing.encode.apng import encode
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline.packing.finish import Look
from sticker_pipeline.packing.pages import SIDE, SMALL, write_images

DURATIONS = [100, 200, 70]


def moving(path: Path) -> Path:
    """A square that walks, on a transparent canvas of 120 pixels."""
    frames = np.zeros((3, 120, 120, 4), np.uint8)
    for number, frame in enumerate(frames):
        frame[30:80, 20 + 20 * number : 70 + 20 * number] = 200, 60, 20, 255
    path.write_bytes(encode(animation(frames, DURATIONS), Settings()))
    return path


def sticker(path: Path, animated: bool = True) -> Sticker:
    return Sticker("walk", "walk-1", path, "0" * 64, animated, ("🚶",), (), "walking", False)


def frames_of(path: Path) -> tuple[tuple[int, int], list[int]]:
    with Image.open(path) as image:
        times = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            times.append(int(image.info.get("duration", 0)))
        return image.size, times


def images(folder: Path, **made: Sticker) -> dict[str, tuple[str, str]]:
    files = {name: moving(folder / f"{name}.png") for name in ("one", "two")}
    return write_images(folder, files, made, Look(), MediaSettings())


def test_only_what_was_chosen_moves_and_no_thumbnail_does(tmp_path: Path) -> None:
    found = images(tmp_path, one=sticker(moving(tmp_path / "master.png")))
    assert list(found) == ["one", "two"]
    (moves, still_of_it), (stays, small) = ([tmp_path / file for file in found[name]] for name in ("one", "two"))
    assert frames_of(moves) == ((SIDE, SIDE), DURATIONS)
    assert frames_of(still_of_it) == ((SIDE, SIDE), [0])
    assert frames_of(stays) == ((SIDE, SIDE), [0])
    assert frames_of(small) == ((SMALL, SMALL), [0])
    alpha = np.asarray(Image.open(still_of_it).convert("RGBA"))[..., 3]
    assert np.array_equal(np.asarray(Image.open(moves).convert("RGBA"))[..., 3], alpha), "it shows the first frame"


def test_an_animation_that_was_chosen_as_a_still_stays(tmp_path: Path) -> None:
    found = images(tmp_path, one=sticker(moving(tmp_path / "master.png"), animated=False))
    assert frames_of(tmp_path / found["one"][0]) == ((SIDE, SIDE), [0])


def test_what_cannot_be_cut_out_is_shown_whole_and_what_cannot_be_read_not_at_all(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 255, (100, 50, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    files = {"noise": tmp_path / "noise.png", "broken": tmp_path / "broken.png"}
    found = write_images(tmp_path, files, {}, Look(), MediaSettings())
    assert list(found) == ["noise"]
    assert frames_of(tmp_path / found["noise"][0]) == ((50, 100), [0])
    assert frames_of(tmp_path / found["noise"][1]) == ((16, 32), [0])


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        images(tmp_path / name, one=sticker(moving(tmp_path / name / "master.png")))
    first, second = ([path.read_bytes() for path in sorted((tmp_path / name / "page").iterdir())] for name in "ab")
    assert first == second
