"""A training set as kohya folders: all images, captions and repeats, and valid config files of sd-scripts."""

import json
import math
import tomllib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.core.settings import BucketSettings
from sticker_pipeline.dataset.kohya_export import export_kohya
from sticker_pipeline.dataset.manifest import DatasetError
from sticker_pipeline.media.frames import pixel_sha256
from sticker_pipeline_tests.dataset.small_set import SmallSet, captions_of, draw_character, made

# Options of a dataset of the DreamBooth kind and its subsets, by place, with their types: config_util.ConfigSanitizer
# of sd-scripts (DATASET_ASCENDABLE_SCHEMA, SUBSET_ASCENDABLE_SCHEMA, DB_SUBSET_ASCENDABLE_SCHEMA,
# DB_SUBSET_DISTINCT_SCHEMA), February 2026, and docs/config_README-en.md; options for other kinds are left out.
SUBSET_OPTIONS = {
    "caption_extension": str, "caption_prefix": str, "caption_separator": str, "caption_suffix": str,
    "class_tokens": str, "cache_info": bool, "color_aug": bool, "enable_wildcard": bool, "flip_aug": bool,
    "keep_tokens": int, "keep_tokens_separator": str, "num_repeats": int, "random_crop": bool,
    "secondary_separator": str, "shuffle_caption": bool, "token_warmup_min": int, "token_warmup_step": int,
}  # fmt: skip
DATASET_OPTIONS = SUBSET_OPTIONS | {
    "batch_size": int, "bucket_no_upscale": bool, "bucket_reso_steps": int, "enable_bucket": bool,
    "max_bucket_reso": int, "min_bucket_reso": int, "network_multiplier": float, "resolution": int,
}  # fmt: skip
ONLY_SUBSET_OPTIONS = {"image_dir": str, "is_reg": bool, "alpha_mask": bool}


@pytest.fixture
def luma(tmp_path: Path) -> SmallSet:
    folder = draw_character(tmp_path / "luma")
    return made(folder, tmp_path / "work", captions_of(folder))


SQUARE = BucketSettings(shape="square")


def export(one: SmallSet, target: Path, max_error: float = 0.0, resolution: int = 96, buckets: BucketSettings = SQUARE):
    options = {"batch_size": 8, "resolution": resolution, "buckets": buckets, "max_error": max_error}
    return export_kohya(one.rows, one.frames, one.images, one.character, target, **options)


def test_validation_images_are_kept_from_other_trainers_too(luma: SmallSet, tmp_path: Path):
    rows = luma.rows.copy()
    still = rows.index[(rows["split"] == "train") & rows["frame_id"].map(sources_of(luma)).str.startswith("stickers/")][
        0
    ]
    rows.loc[still, ["split", "probability"]] = ["validation", 0.0]
    rows["probability"] /= rows["probability"].sum()
    exported = export(replace(luma, rows=rows), tmp_path / "out", max_error=1.0)
    assert (exported.images, exported.holdout, exported.folders["holdout/stickers"]) == (6, 7, 2)
    assert (exported.folder / "holdout" / "stickers" / f"{rows.loc[still, 'frame_id']}.png").is_file()


def sources_of(one: SmallSet) -> dict[str, str]:
    return dict(zip(one.frames["frame_id"], one.frames["source_id"], strict=True))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_image_is_there_with_its_caption_and_repeats(luma: SmallSet, tmp_path: Path):
    exported = export(luma, tmp_path / "out")
    # Trained: one GIF of 3 frames, 3 stickers that count twice, one image of art: shares 1/24 × 3, 1/4 × 3, 1/8.
    assert exported.folders == {
        "1_gifs": 3, "3_art": 1, "6_stickers": 3, "holdout/art": 1, "holdout/gifs": 4, "holdout/stickers": 1,
    }  # fmt: skip
    assert (exported.images, exported.holdout, exported.images_per_epoch) == (7, 6, 3 * 1 + 3 + 3 * 6)
    assert exported.error < 1e-15
    # Without repeats: ½·(3·|1/7 − 1/24| + |1/7 − 1/8| + 3·|1/7 − 1/4|); per group nothing is lost.
    by_hand = (3 * abs(Fraction(1, 7) - Fraction(1, 24)) + Fraction(1, 56) + 3 * (Fraction(1, 4) - Fraction(1, 7))) / 2
    assert exported.uniform_error == pytest.approx(float(by_hand))
    assert exported.one_number_error < 1e-15
    folder_of = {name: path.parent for path in exported.folder.rglob("*.png") for name in [path.stem]}
    assert set(folder_of) == set(luma.rows["frame_id"])
    digest = luma.frames.set_index("frame_id")["pixel_sha256"]
    for row in luma.rows.itertuples():
        folder = folder_of[row.frame_id]
        image = folder / f"{row.frame_id}.png"
        assert image.read_bytes() == (luma.images / row.file).read_bytes()
        assert pixel_sha256(np.asarray(Image.open(image))) == digest[row.frame_id]
        assert image.with_suffix(".txt").read_text() == row.caption + "\n"
        repeats = folder.name.partition("_")[0]
        if row.split == "train":
            assert int(repeats) / 24 == pytest.approx(row.probability, abs=1e-15)
        else:
            assert folder.parent.name == "holdout"


def test_an_edited_export_cannot_change_an_artifact(luma: SmallSet, tmp_path: Path):
    exported = export(luma, tmp_path / "out")
    for path in exported.folder.rglob("*.png"):
        assert path.stat().st_nlink == 1
        assert not path.is_symlink()


def test_the_config_has_only_options_that_sd_scripts_knows(luma: SmallSet, tmp_path: Path):
    exported = export(luma, tmp_path / 'a "folder" [x] ü')
    config = tomllib.loads((exported.folder / "dataset.toml").read_text(encoding="utf-8"))
    assert set(config) == {"general", "datasets"}
    (dataset,) = config["datasets"]
    subsets = dataset.pop("subsets")
    for section, known in [
        (config["general"], DATASET_OPTIONS),
        (dataset, DATASET_OPTIONS),
        *((subset, SUBSET_OPTIONS | ONLY_SUBSET_OPTIONS) for subset in subsets),
    ]:
        for key, value in section.items():
            assert type(value) is known[key], key
    assert config["general"]["caption_extension"] == ".txt"
    assert (dataset["resolution"], dataset["batch_size"], dataset["enable_bucket"]) == (96, 8, True)
    # as train_util.adjust_min_max_bucket_reso_by_steps asserts
    assert dataset["min_bucket_reso"] <= 96 <= dataset["max_bucket_reso"]
    assert dataset["min_bucket_reso"] % dataset["bucket_reso_steps"] == 0
    assert 96 % dataset["bucket_reso_steps"] == 0
    shown = {Path(one["image_dir"]): (one["num_repeats"], one["keep_tokens"], one["class_tokens"]) for one in subsets}
    assert shown == {
        exported.folder / "1_gifs": (1, 2, "skv_luma"),
        exported.folder / "3_art": (3, 1, "skv_luma"),
        exported.folder / "6_stickers": (6, 2, "skv_luma"),
    }
    assert all(folder.is_dir() and folder.is_absolute() for folder in shown)


def test_buckets_become_the_options_of_sd_scripts(luma: SmallSet, tmp_path: Path):
    def options(name: str, resolution: int, **buckets) -> dict:
        exported = export(luma, tmp_path / name, resolution=resolution, buckets=BucketSettings(**buckets))
        (dataset,) = tomllib.loads((exported.folder / "dataset.toml").read_text(encoding="utf-8"))["datasets"]
        return {key: value for key, value in dataset.items() if "bucket" in key or key == "resolution"}

    expected = {"resolution": 512, "enable_bucket": True, "bucket_reso_steps": 64, "bucket_no_upscale": False}
    assert options("a", 512) == {**expected, "min_bucket_reso": 256, "max_bucket_reso": 2048}
    # a smallest side above the square, a resolution between two steps, no scaling up
    small = options("b", 100, min_side=256, max_side=96, step=32, upscale=False)
    assert small == {
        "resolution": 100, "enable_bucket": True, "bucket_reso_steps": 32, "bucket_no_upscale": True,
        "min_bucket_reso": 96, "max_bucket_reso": 128,
    }  # fmt: skip


def test_metadata_for_fine_tuning(luma: SmallSet, tmp_path: Path):
    exported = export(luma, tmp_path / "out")
    found = {}
    for path in exported.folder.rglob("metadata.json"):
        for key, entry in json.loads(path.read_text()).items():
            assert Image.open(path.parent / key).size == tuple(entry.pop("image_size"))
            found[Path(key).stem] = entry
    trained = luma.rows[luma.rows["split"] == "train"]
    assert found == {row.frame_id: {"caption": row.caption} for row in trained.itertuples()}


def test_the_record_says_where_each_image_comes_from(luma: SmallSet, tmp_path: Path):
    exported = export(luma, tmp_path / "out")
    record = json.loads((exported.folder / "sticker_pipeline.json").read_text())
    assert set(record["files"]) == {name for name in files(exported.folder) if name.endswith(".png")}
    lineage, rows = luma.frames.set_index("frame_id"), luma.rows.set_index("frame_id")
    for place, entry in record["files"].items():
        frame = lineage.loc[Path(place).stem]
        assert (entry["source"], entry["source_id"], entry["frame_index"]) == (
            frame.path,
            frame.source_id,
            frame.frame_index,
        )
        assert (entry["group"], entry["pixel_sha256"]) == (frame.group, frame.pixel_sha256)
        assert entry["probability"] == rows.loc[Path(place).stem, "probability"]
    assert math.fsum(entry["probability"] for entry in record["files"].values()) == pytest.approx(1, abs=1e-15)
    assert record["folders"]["3_art"] == {"repeats": 3, "groups": ["art"], "medium": "art", "learned": []}
    assert record["folders"]["holdout/gifs"]["learned"] == ["luma_sticker"]
    assert (record["trigger"], record["total_variation"]) == ("skv_luma", exported.error)


def test_one_weight_escapes_all_captions_and_is_said(luma: SmallSet, tmp_path: Path):
    folder = luma.character.folder
    special = {
        "a.gif#0": "skv_luma, luma_sticker, (smile:1.2)",
        "2.png#0": "skv_luma, luma_sticker, gawr gura (hololive)",
    }
    one = made(folder, tmp_path / "again", captions_of(folder, special))
    exported = export(one, tmp_path / "out")
    assert exported.weighted_captions
    assert "--weighted_captions" in (exported.folder / "dataset.toml").read_text()
    texts = {path.read_text() for path in exported.folder.rglob("*.txt")}
    assert {"skv_luma, luma_sticker, (smile:1.2)\n", "skv_luma, luma_sticker, gawr gura \\(hololive\\)\n"} < texts
    plain = export(luma, tmp_path / "plain")
    assert not plain.weighted_captions
    assert "--weighted_captions" not in (plain.folder / "dataset.toml").read_text()


def test_a_larger_error_gives_a_shorter_epoch(luma: SmallSet, tmp_path: Path):
    exact, rough = export(luma, tmp_path / "exact"), export(luma, tmp_path / "rough", 0.05)
    assert rough.images_per_epoch < exact.images_per_epoch
    assert 0 < rough.error <= 0.05


def test_nothing_that_exists_is_touched(luma: SmallSet, tmp_path: Path):
    target = tmp_path / "out"
    target.mkdir()
    export(luma, target)  # an empty folder is as good as none
    before = files(target)
    with pytest.raises(DatasetError, match="exists already and is not an empty folder; nothing was changed"):
        export(luma, target)
    assert files(target) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DatasetError, match="exists already"):
        export(luma, tmp_path / "file")


def test_a_failing_export_leaves_nothing_behind(luma: SmallSet, tmp_path: Path):
    (luma.images / luma.rows["file"].iloc[-1]).unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        export(luma, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_tables_of_different_ages_are_noticed(luma: SmallSet, tmp_path: Path):
    frames = luma.frames[luma.frames["frame_id"] != luma.rows["frame_id"].iloc[0]]
    with pytest.raises(DatasetError, match="older than its frames: sticker-pipeline update luma"):
        export(replace(luma, frames=frames), tmp_path / "o")
    frames = luma.frames.assign(group=luma.frames["group"].replace("art", "paintings"))
    with pytest.raises(DatasetError, match="no group 'paintings' any more: sticker-pipeline update luma"):
        export(replace(luma, frames=frames), tmp_path / "o")
    assert not (tmp_path / "o").exists()
