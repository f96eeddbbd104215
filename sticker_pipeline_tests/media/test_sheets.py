from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.frames import decode_all, decode_counting, frame_table, kinds_of, to_decode
from sticker_pipeline.media.inventory import scan
from sticker_pipeline.media.sheets import (
    PAGE_CELLS,
    Cells,
    cells_of,
    dropped_cells,
    dropped_sheets,
    kept_cells,
    near_duplicate_cells,
    pages,
    previews_of,
    sheet,
    write_pages,
)


def face(path: Path, colour: str) -> None:
    image = Image.new("RGB", (48, 48), "white")
    ImageDraw.Draw(image).ellipse((8, 4, 39, 39), fill=colour, outline="black")
    image.save(path)


@pytest.fixture
def made(tmp_path: Path):
    folder = tmp_path / "stickers"
    folder.mkdir()
    face(folder / "a.png", "red")
    face(folder / "b.png", "#fa0000")
    face(folder / "c.png", "blue")
    Image.new("RGB", (40, 40), "green").save(folder / "flat.png")
    settings = MediaSettings()
    inventory = scan(tmp_path, ["stickers"], settings)
    decoded = dict(decode_all(tmp_path, inventory, tmp_path / "cache", settings))
    return frame_table(inventory, decoded, tmp_path / "cache", settings, {}), previews_of(decoded)


def test_every_frame_is_on_one_sheet_and_near_duplicates_stand_beside_their_keeper(made) -> None:
    frames, previews = made
    assert list(kept_cells(frames, previews).captions) == ["a.png", "c.png"]
    assert list(dropped_cells(frames, previews).captions) == [
        "b.png\nnearly the same as a.png",
        "flat.png\nblank: one single colour",
    ]
    pairs = near_duplicate_cells(frames, previews)
    assert list(pairs.captions) == ["b.png", "= a.png"]
    assert pairs.previews[1] == kept_cells(frames, previews).previews[0]


def test_a_sheet_shows_the_frame_itself(made) -> None:
    cells = kept_cells(*made)
    image = sheet(cells)
    assert image.getpixel((2 + 42, 2 + 42))[0] > 200 > 100 > image.getpixel((2 + 42, 2 + 42))[2]
    assert image.getpixel((88 + 2 + 42, 2 + 42))[2] > 200


def test_pages_show_all_cells_and_a_spread_some_of_them() -> None:
    cells = Cells([b""] * (2 * PAGE_CELLS + 1), [str(number) for number in range(2 * PAGE_CELLS + 1)])
    assert len(list(pages(cells))) == 3
    pairs = Cells([b""] * 100, [str(number) for number in range(100)]).spread(12, each=2)
    assert len(pairs.captions) <= 12
    assert all(
        int(second) == int(first) + 1 for first, second in zip(pairs.captions[::2], pairs.captions[1::2], strict=True)
    )


def test_what_is_in_the_cache_is_not_to_be_decoded(tmp_path: Path) -> None:
    folder, cache, settings = tmp_path / "stickers", tmp_path / "cache", MediaSettings()
    folder.mkdir()
    face(folder / "a.png", "red")
    inventory = scan(tmp_path, ["stickers"], settings)
    assert to_decode(inventory, cache, settings) == [("PNG", 48, 48, 1)]
    decoded = decode_counting(tmp_path, inventory, cache, settings, [], lambda *count: None)
    assert list(decoded) == ["stickers/a.png"] and to_decode(inventory, cache, settings) == []
    face(folder / "b.png", "blue")
    inventory = scan(tmp_path, ["stickers"], settings)
    assert to_decode(inventory, cache, settings) == [("PNG", 48, 48, 1)]
    decoded = decode_counting(tmp_path, inventory, cache, settings, [], lambda *count: None)
    cells = cells_of(frame_table(inventory, decoded, cache, settings, {}), decoded)
    assert dropped_sheets(cells) == {}


def test_pages_are_files_of_their_kind(made, tmp_path: Path) -> None:
    frames, previews = made
    cells = {"kept": kept_cells(frames, previews), "dropped": dropped_cells(frames, previews)}
    write_pages(cells, tmp_path / "sheets")
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == ["dropped_001.webp", "kept_001.webp"]
    near = near_duplicate_cells(frames, previews)
    found = dropped_sheets({**cells, "near_duplicates": near})
    assert [alt for _, alt in found.values()] == [
        "dropped frames",
        "merged frames, each with its representative",
    ]
    assert kinds_of(frames.loc[~frames["kept"], "reason"])["frames"].sum() == 2
