"""The frames table and its cache: lineage, merging, reasons, and repeated decoding."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media import frames as module
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.frames import (
    FRAMES,
    cache_entry,
    decode_all,
    decode_to_cache,
    frame_id,
    frame_table,
    merging_warnings,
    pixel_sha256,
    useless_because,
    write_frame_files,
)
from sticker_pipeline.media.inventory import scan
from sticker_pipeline_tests.media.makers import BLUE, RED, WHITE, GifImage, gif, solid

LIMITS = MediaSettings()
GROUPS = ["gifs", "stickers"]


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "somebody"
    for group in GROUPS:
        (root / group).mkdir(parents=True)
    return root


def image(*, colour=RED, at: int = 4, size: int = 48) -> Image.Image:
    """A disc on transparency: different `at` gives different perceptual hashes."""
    image = Image.new("RGBA", (size, size))
    ImageDraw.Draw(image).ellipse([at, size // 4, at + size // 3, size * 3 // 4], fill=(*colour, 255))
    return image


def table_of(
    folder: Path, tmp_path: Path, settings: MediaSettings = LIMITS, captions: Mapping[str, str] | None = None
) -> pd.DataFrame:
    inventory = scan(folder, GROUPS, settings)
    decoded = dict(decode_all(folder, inventory, tmp_path / "cache", settings))
    return frame_table(inventory, decoded, tmp_path / "cache", settings, captions or {})


def stripes(number: int) -> GifImage:
    """A 16×16 image with a bar whose place depends on `number`."""
    return GifImage([[1 if 3 * number <= x < 3 * number + 3 else 3 for x in range(16)] for _ in range(16)], delay=5)


def test_the_hash_of_pixels_ignores_hidden_colour():
    rgba = solid((9, 8, 7, 0), 2, 1)
    rgba[0, 1] = (1, 2, 3, 255)
    assert pixel_sha256(rgba) == hashlib.sha256(bytes([0, 0, 0, 0, 1, 2, 3, 255])).hexdigest()
    assert rgba[0, 0].tolist() == [9, 8, 7, 0]


def test_lineage_of_every_frame(folder, tmp_path):
    (folder / "gifs/a.gif").write_bytes(gif(16, 16, [stripes(0), stripes(2), stripes(4)]))
    image().save(folder / "stickers/b.png")
    table = table_of(folder, tmp_path)
    assert list(table.columns) == FRAMES.names
    assert table["path"].tolist() == table["source_id"].tolist() == ["gifs/a.gif"] * 3 + ["stickers/b.png"]
    assert table["group"].tolist() == ["gifs"] * 3 + ["stickers"]
    assert table["frame_index"].tolist() == [0, 1, 2, 0]
    assert table["start_ms"].tolist() == [0, 50, 100, 0]
    assert table["duration_ms"].tolist() == [50, 50, 50, 0]
    assert table["frame_id"].tolist() == [
        frame_id(p, i) for p, i in zip(table["path"], table["frame_index"], strict=True)
    ]
    assert frame_id("gifs/a.gif", 2) == hashlib.sha256(b"gifs/a.gif").hexdigest()[:10] + "-0002"
    assert table["kept"].all()
    assert (table["file"] == "files/" + table["pixel_sha256"] + ".png").all()


def test_written_files_are_the_pixels_of_the_table(folder, tmp_path):
    (folder / "gifs/a.gif").write_bytes(gif(16, 16, [stripes(0), stripes(0), stripes(3)]))
    inventory = scan(folder, GROUPS, LIMITS)
    cache, staging = tmp_path / "cache", tmp_path / "staging"
    table = frame_table(inventory, dict(decode_all(folder, inventory, cache, LIMITS)), cache, LIMITS, {})
    write_frame_files(table, inventory, cache, LIMITS, staging)
    kept = table[table["kept"]]
    assert sorted(path.relative_to(staging).as_posix() for path in staging.rglob("*.png")) == sorted(kept["file"])
    for row in kept.itertuples():
        with Image.open(staging / row.file) as image:
            assert image.mode == "RGBA"
            assert pixel_sha256(np.asarray(image)) == row.pixel_sha256
    assert (table.loc[~table["kept"], "file"] == "").all()


def test_images_that_are_there_twice_can_both_be_kept(folder, tmp_path):
    for name in ("one.png", "two.png"):
        image().save(folder / "stickers" / name)
    settings = MediaSettings(merge="none")
    table = table_of(folder, tmp_path, settings)
    write_frame_files(table, scan(folder, GROUPS, settings), tmp_path / "cache", settings, tmp_path / "out")
    assert table["kept"].tolist() == [True, True]
    assert [(tmp_path / "out" / file).is_file() for file in table["file"]] == [True, True]


def test_the_same_image_is_kept_once_and_a_still_before_an_animation(folder, tmp_path):
    (folder / "gifs/a.gif").write_bytes(gif(16, 16, [stripes(0), stripes(3)]))
    still = gif(16, 16, [stripes(3)])
    (folder / "stickers/still.gif").write_bytes(still)
    (folder / "stickers/still copy.gif").write_bytes(still)
    table = table_of(folder, tmp_path, MediaSettings(merge="exact")).set_index("path")
    keeper = frame_id("stickers/still copy.gif", 0)
    assert table.loc["stickers/still copy.gif", "kept"]
    assert table.loc["stickers/still.gif", "duplicate_of"] == keeper
    assert table.loc["gifs/a.gif", "duplicate_of"].tolist() == ["", keeper]
    assert table.loc["stickers/still.gif", "reason"] == "the same image as stickers/still copy.gif (frame 0)"


def test_of_an_image_and_its_thumbnail_the_larger_is_kept_also_where_the_thumbnail_alone_is_a_still(folder, tmp_path):
    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)) for _ in range(2)]
    large = [image.resize((96, 96), Image.Resampling.BICUBIC) for image in small]
    large[0].save(folder / "gifs/anim.webp", save_all=True, append_images=large[1:], lossless=True)
    large[0].reduce(2).save(folder / "stickers/a thumb.png")
    table = table_of(folder, tmp_path).set_index("path")
    assert table.loc["gifs/anim.webp", "kept"].tolist() == [True, True]
    assert table.loc["stickers/a thumb.png", "reason"] == "nearly the same image as gifs/anim.webp (frame 0)"


def test_images_that_a_person_captioned_differently_are_never_merged(folder, tmp_path):
    for name in "abcd":
        image().save(folder / f"stickers/{name}.png")
    captions = {"stickers/a.png": "open eyes", "stickers/b.png": "closed eyes", "stickers/c.png": "open eyes"}
    table = table_of(folder, tmp_path, captions=captions).set_index("path")
    assert table["kept"].tolist() == [True, True, False, False]
    assert (
        table.loc["stickers/b.png", "reason"]
        == "kept for its own caption, though it looks like stickers/a.png (frame 0)"
    )
    assert table.loc["stickers/c.png", "duplicate_of"] == table.loc["stickers/a.png", "frame_id"]
    assert merging_warnings(table.reset_index()) == [
        "Frames that look like another and are kept, since their captions differ: 1."
    ]


def test_a_still_that_merging_took_although_it_differs_is_told(folder, tmp_path):
    image().save(folder / "stickers/a.png")
    image().save(folder / "stickers/copy.png")
    changed = np.array(image())
    changed[20, 15, 0] -= 5
    Image.fromarray(changed).save(folder / "stickers/near.png")
    (sentence,) = merging_warnings(table_of(folder, tmp_path))
    assert sentence.startswith("Images that are nearly the same as another, and are not used: 1.")
    assert merging_warnings(table_of(folder, tmp_path, MediaSettings(merge="exact"))) == []


def test_near_duplicates_need_the_same_colours_and_alpha(folder, tmp_path):
    base = image()
    base.save(folder / "stickers/a.png")
    resaved = np.array(base)
    resaved[20, 15, 0] -= 5
    Image.fromarray(resaved).save(folder / "stickers/b near.png")
    image(colour=(255, 60, 60)).save(folder / "stickers/c colour.png")
    Image.alpha_composite(Image.new("RGBA", base.size, "white"), base).save(folder / "stickers/d opaque.png")
    image(at=24).save(folder / "stickers/e moved.png")
    table = table_of(folder, tmp_path).set_index("path")
    assert table["phash"].nunique() == 2
    assert table["kept"].tolist() == [True, False, True, True, True]
    assert table.loc["stickers/b near.png", "duplicate_of"] == table.loc["stickers/a.png", "frame_id"]
    assert table.loc["stickers/b near.png", "reason"] == "nearly the same image as stickers/a.png (frame 0)"
    assert table_of(folder, tmp_path, MediaSettings(merge="exact"))["kept"].all()


def test_of_near_duplicates_the_larger_and_the_finer_is_kept(folder, tmp_path):
    small, large = image(size=48), image(size=48).resize((96, 96), Image.Resampling.NEAREST)
    small.save(folder / "stickers/a small.png")
    large.save(folder / "stickers/b large.gif")
    noisy = np.array(large)
    noisy[40, 30, 0] -= 5
    Image.fromarray(noisy).save(folder / "stickers/c large.png")
    table = table_of(folder, tmp_path).set_index("path")
    assert table["kept"].tolist() == [False, False, True]
    assert set(table["duplicate_of"].iloc[:2]) == {table["frame_id"].iloc[2]}


@pytest.mark.parametrize(
    ("rgba", "reason"),
    [
        (solid(RED, 1, 1), "too small: 1×1 pixels (a side below 8)"),
        (solid(RED, 200, 20), "aspect ratio: 200×20 pixels is beyond 8:1"),
        (solid((255, 0, 0, 0), 20, 20), "empty: nothing is visible"),
        (solid((255, 0, 0, 8), 20, 20), "empty: nothing is visible"),
        (solid(RED, 20, 20), "blank: one single colour"),
        (np.asarray(image()), ""),
        (np.vstack([solid(RED, 80, 5), solid(BLUE, 80, 5)]), ""),
    ],
)
def test_useless_images(rgba, reason):
    assert useless_because(rgba) == reason


def test_useless_frames_are_rows_with_a_reason(folder, tmp_path):
    blank = GifImage([[3] * 16] * 16, delay=5)
    (folder / "gifs/a.gif").write_bytes(gif(16, 16, [stripes(0), blank, blank]))
    table = table_of(folder, tmp_path)
    assert table["kept"].tolist() == [True, False, False]
    assert table["reason"].tolist() == ["", "blank: one single colour", "blank: one single colour"]
    assert table["duplicate_of"].tolist() == ["", "", ""]


def count_decoded(monkeypatch) -> list[bytes]:
    decoded: list[bytes] = []
    original = module.decode_bytes
    monkeypatch.setattr(module, "decode_bytes", lambda data, limits: decoded.append(data) or original(data, limits))
    return decoded


def test_what_was_decoded_is_not_decoded_again(folder, tmp_path, monkeypatch):
    decoded = count_decoded(monkeypatch)
    (folder / "gifs/a.gif").write_bytes(gif(16, 16, [stripes(0), stripes(2)]))
    image().save(folder / "stickers/b.png")
    first = table_of(folder, tmp_path)
    assert len(decoded) == 2
    pd.testing.assert_frame_equal(table_of(folder, tmp_path), first)
    assert len(decoded) == 2
    image(at=20).save(folder / "stickers/new.png")
    (folder / "gifs/a.gif").rename(folder / "gifs/renamed.gif")
    second = table_of(folder, tmp_path)
    assert decoded[2:] == [(folder / "stickers/new.png").read_bytes()]
    assert set(first[first["path"] == "stickers/b.png"]["frame_id"]) <= set(second["frame_id"])


def test_a_half_written_entry_is_not_used(folder, tmp_path, monkeypatch):
    path = folder / "stickers/a.png"
    image().save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    cache = tmp_path / "cache"
    cache_entry(cache, digest, LIMITS).mkdir(parents=True)
    (cache_entry(cache, digest, LIMITS) / "half.png").write_bytes(b"half")
    table = decode_to_cache(path, digest, cache, LIMITS)
    assert table["problem"].tolist() == [""]
    files = {file.name for file in cache_entry(cache, digest, LIMITS).iterdir()}
    assert files == {"frames.parquet", "checksums.json", table["pixel_sha256"][0] + ".png"}


def test_an_interrupted_decoding_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    path = folder / "gifs/a.gif"
    path.write_bytes(gif(16, 16, [stripes(0), stripes(2)]))
    monkeypatch.setattr(module, "perceptual_hash", lambda image: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        decode_to_cache(path, hashlib.sha256(path.read_bytes()).hexdigest(), tmp_path / "cache", LIMITS)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_that_breaks_in_the_middle_keeps_its_frames_and_tells_its_fault(folder, tmp_path):
    data = gif(16, 16, [stripes(0), stripes(2), GifImage([[1] * 16])])
    at = data.rindex(b"\x2c")
    (folder / "gifs/broken.gif").write_bytes(data[: at + 7] + b"\x10\x00" + data[at + 9 :])
    table = table_of(folder, tmp_path)
    assert table["kept"].tolist() == [True, True, False]
    fault = table.iloc[2]
    assert fault["reason"].startswith("cannot be decoded from frame 2 on: the pixels of frame 2 are damaged")
    assert (fault["frame_index"], fault["pixel_sha256"], fault["file"]) == (2, "", "")
    write_frame_files(table, scan(folder, GROUPS, LIMITS), tmp_path / "cache", LIMITS, tmp_path / "staging")
    assert len(list((tmp_path / "staging/files").iterdir())) == 2


def test_a_file_that_changed_after_the_inventory_is_not_cached_under_the_wrong_name(folder, tmp_path):
    path = folder / "stickers/a.png"
    image().save(path)
    inventory = scan(folder, GROUPS, LIMITS)
    image(colour=BLUE).save(path)
    table = frame_table(
        inventory, dict(decode_all(folder, inventory, tmp_path / "cache", LIMITS)), tmp_path / "cache", LIMITS, {}
    )
    assert table["kept"].tolist() == [False]
    assert "has changed since the inventory" in table["reason"][0]
    path.unlink()
    (_, gone), *_ = decode_all(folder, inventory, tmp_path / "cache", LIMITS)
    assert "can no longer be read" in gone["problem"][0]
    assert list((tmp_path / "cache").iterdir()) == []


def test_nothing_accepted_gives_an_empty_table_of_the_right_types(folder, tmp_path):
    table = table_of(folder, tmp_path)
    assert list(table.columns) == FRAMES.names
    assert table.empty
    assert table["kept"].dtype == bool
    assert table["width"].dtype == np.int64


def test_expressions_saved_as_stills_are_all_kept_and_a_copy_of_one_goes(folder, tmp_path):
    for number, mouth in enumerate(("smile", "frown", "line")):
        sprite(mouth).save(folder / f"stickers/{number}.png")
    sprite("frown").convert("RGB").resize((400, 800)).save(folder / "stickers/copy.jpg", quality=80)
    table = table_of(folder, tmp_path).set_index("path")
    assert table["kept"].tolist() == [True, True, True, False]
    assert table.index[-1] == "stickers/copy.jpg"
    assert table["reason"].iloc[-1] == "nearly the same image as stickers/1.png (frame 0)"


def sprite(mouth: str) -> Image.Image:
    """A standing figure of 800×1600, told from others by its small mouth alone."""
    image = Image.new("RGB", (800, 1600), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse([250, 100, 550, 400], fill="#ffe0c0", outline="black", width=6)
    draw.polygon([(400, 400), (200, 1500), (600, 1500)], fill="#4060c0", outline="black")
    if mouth == "line":
        draw.line([360, 320, 440, 320], fill="black", width=3)
    else:
        draw.arc([360, 300, 440, 340], *((0, 180) if mouth == "smile" else (180, 360)), fill="black", width=3)
    return image


def test_a_file_that_was_not_decoded_is_named(folder):
    Image.new("RGB", (9, 9), WHITE).save(folder / "stickers/a.png")
    with pytest.raises(MediaError, match=r"stickers/a\.png"):
        frame_table(scan(folder, GROUPS, LIMITS), {}, folder, LIMITS, {})


def test_awkward_folder_gives_the_same_frames_twice(realdata, tmp_path):
    entries = json.loads((realdata / "hostile/manifest.json").read_text(encoding="utf-8"))["files"]
    inventory = scan(realdata / "hostile", ["files"], LIMITS)
    tables = []
    for cache in ("one", "two"):
        decoded = dict(decode_all(realdata / "hostile", inventory, tmp_path / cache, LIMITS))
        tables.append(frame_table(inventory, decoded, tmp_path / cache, LIMITS, {}))
    pd.testing.assert_frame_equal(*tables)
    by_path = dict(list(tables[0].groupby("path")))
    for name, entry in entries.items():
        if entry["expect"] != "decode":
            continue
        table = by_path[f"files/{name}"]
        assert len(table) == entry["frames"], name
        if "frame_sha256" in entry:
            assert table["pixel_sha256"].tolist() == entry["frame_sha256"], name
        if "useless" in entry:
            assert table["reason"].iloc[0].startswith(entry["useless"]), name
        if "distinct_frames" in entry:
            assert table["pixel_sha256"].nunique() == entry["distinct_frames"], name
    assert by_path["files/gif_duplicate_frames.gif"]["kept"].sum() <= 3


def test_real_frames_equal_the_files(realdata, tmp_path):
    entries = json.loads((realdata / "INDEX.json").read_text(encoding="utf-8"))["anki_tan"]
    inventory = scan(realdata / "anki_tan", ["gifs"], LIMITS)
    decoded = dict(decode_all(realdata / "anki_tan", inventory, tmp_path / "cache", LIMITS))
    table = frame_table(inventory, decoded, tmp_path / "cache", LIMITS, {})
    for path, source in table.groupby("path"):
        assert len(source) == entries[path]["frames"]
        assert source["pixel_sha256"].nunique() == entries[path]["distinct_frames"]
        assert source["duration_ms"].sum() == entries[path]["duration_ms"]
    # The three GIFs of 40 frames were made of the APNGs: one frame's hash is 4 bits from its origin, the others merge.
    derived = table[table["path"].str.startswith("gifs/derived/")]
    assert (len(derived), derived["kept"].sum()) == (40, 1)
