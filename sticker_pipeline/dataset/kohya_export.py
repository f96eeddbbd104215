"""Export of a training set as folders for kohya's sd-scripts."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sticker_pipeline.core.character import Character, Group
from sticker_pipeline.core.files.claims import silent
from sticker_pipeline.core.files.space import Say, enough
from sticker_pipeline.core.settings import BucketSettings
from sticker_pipeline.core.storage import new_folder
from sticker_pipeline.dataset.buckets import bucket_sizes
from sticker_pipeline.dataset.kohya import (
    CONFIG,
    HOLDOUT,
    METADATA,
    RECORD,
    folder_repeats,
    folder_subject,
    shared_syntax,
)
from sticker_pipeline.dataset.manifest import TRAIN, DatasetError
from sticker_pipeline.dataset.repeats import choose_repeats, error_of, one_number_error
from sticker_pipeline.tagging.captions import parse_caption

LINEAGE = ["path", "group", "source_id", "frame_index", "pixel_sha256", "width", "height"]
BUCKET_STEPS = (64, 32, 16, 8)  # sd-scripts' default is 64; a tiny base needs finer ones
_EXPORTED_NAME = re.compile(r"[0-9a-f]{10}-\d{4}")  # from media.frames.frame_id

CONFIG_TEMPLATE = """\
# The training set of {name} for kohya's sd-scripts: --dataset_config {config}
# Or, without this file: --train_data_dir {folder}
# where the names of the folders hold the repeats.
# An epoch is {epoch} images. Each image has its probability in it to within a total variation of {error:g}.
{weights}# Folders are absolute, since sd-scripts resolves others from its working directory: export again after a move.
# sd-scripts drops transparency instead of putting a background behind it: alpha_mask keeps transparent pixels out of
# the loss (with --train_data_dir, give --alpha_mask).
# For a fine-tuning dataset, give each subset metadata_file = "<image_dir>/{metadata}", and drop caption_extension and
# class_tokens.

[general]
caption_extension = ".txt"
shuffle_caption = false # keep_tokens counts the trigger and learned tags, which stay in front when this is true

[[datasets]]
resolution = {resolution}
batch_size = {batch_size}
enable_bucket = true # images keep their shape
min_bucket_reso = {smallest}
max_bucket_reso = {largest}
bucket_reso_steps = {steps}
bucket_no_upscale = {no_upscale}
"""
WEIGHTED = "# Captions have weights: --weighted_captions is needed. Literal brackets are escaped.\n"
SUBSET_TEMPLATE = """
  [[datasets.subsets]]
  image_dir = {image_dir}
  num_repeats = {repeats}
  class_tokens = {trigger}
  keep_tokens = {keep_tokens}
  alpha_mask = true
"""


@dataclass(frozen=True)
class Exported:
    """The written export.

    `error`: total variation from the training set's probabilities. For comparison: `one_number_error`, with one number
    of repeats per group; `uniform_error`, without repeats.
    """

    folder: Path
    folders: dict[str, int]
    images: int
    holdout: int
    images_per_epoch: int
    error: float
    one_number_error: float
    uniform_error: float
    weighted_captions: bool


def export_kohya(
    rows: pd.DataFrame,
    frames: pd.DataFrame,
    images: Path,
    character: Character,
    target: Path,
    *,
    batch_size: int,
    resolution: int,
    buckets: BucketSettings,
    max_error: float,
    say: Say = silent,
) -> Exported:
    """Write the training set `rows` (see `manifest.training_set`) to the new folder `target`.

    `frames`: the frames' table; `images`: the folder of their `file`. Training images go to `<repeats>_<group>/`, with
    repeats from choose_repeats for `max_error`, others to `holdout/<group>/`, as `<frame_id>.png` and `.txt`.
    `resolution` and `buckets` become options that make sd-scripts cut to the same sizes; it cannot pad to squares, and
    keeps shapes instead. Images are copied, not linked: people edit such folders, and artifacts must not change.

    Raises DatasetError, before writing, for a `target` with content, tables that do not match, or an unreachable error;
    SpaceError where copies do not fit. `say` receives a warning where they just fit.
    """
    target = target.absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DatasetError(f"{target} exists already and is not an empty folder; nothing was changed. Choose another.")
    table = _with_lineage(rows, frames, character)
    trained = (table["split"] == TRAIN).to_numpy()
    probability = table.loc[trained, "probability"].to_numpy(dtype=np.float64)
    chosen, error = choose_repeats(probability, max_error)
    table["repeats"] = 0
    table.loc[trained, "repeats"] = chosen
    table["subject"] = table["group"].map(_subjects(table, character.groups))
    numbers = table["repeats"].astype(str)
    table["folder"] = np.where(trained, numbers + "_" + table["subject"], HOLDOUT + "/" + table["subject"])
    table["name"] = _names(table)
    table["text"], weighted = shared_syntax(table["caption"])
    exported = Exported(
        folder=target,
        folders={str(name): len(part) for name, part in table.groupby("folder", sort=True)},
        images=int(trained.sum()),
        holdout=int((~trained).sum()),
        images_per_epoch=int(chosen.sum()),
        error=error,
        one_number_error=one_number_error(probability, table.loc[trained, "group"].to_numpy(dtype=str)),
        uniform_error=error_of(np.ones(len(chosen)), probability),
        weighted_captions=weighted,
    )
    enough(target.parent, _bytes_of(table, images), f"the export of {character.name}", say)
    with new_folder(target) as staging:
        _write_images(table, images, staging)
        _write_metadata(table[trained], staging)
        head = _config_head(character, exported, batch_size, resolution, buckets)
        config = head + _subsets(table[trained], character, exported)
        (staging / CONFIG).write_text(config, encoding="utf-8")
        record = _record(table, character, exported, max_error)
        (staging / RECORD).write_text(_json(record), encoding="utf-8")
    return exported


def _bytes_of(table: pd.DataFrame, images: Path) -> int:
    """Return the bytes of the copies and their texts.

    Caption, metadata and record take 4 KiB each per image.
    """
    return sum((images / file).stat().st_size for file in table["file"]) + len(table) * 3 * 4096


def _with_lineage(rows: pd.DataFrame, frames: pd.DataFrame, character: Character) -> pd.DataFrame:
    lineage = frames.set_index("frame_id")
    again = f"sticker-pipeline update {character.name}"
    known = rows["frame_id"].isin(lineage.index)
    if not known.all() or (lineage.loc[rows["frame_id"], "file"].to_numpy() != rows["file"].to_numpy()).any():
        raise DatasetError(f"the training set of {character.name} is older than its frames: {again}")
    table = rows.reset_index(drop=True).join(lineage[LINEAGE], on="frame_id")
    gone = sorted(set(table["group"]) - set(character.groups))
    if gone:
        raise DatasetError(f"{character.folder} has no group {gone[0]!r} any more: {again}")
    return table


def _subjects(table: pd.DataFrame, groups: Mapping[str, Group]) -> dict[str, str]:
    """Map group names to folder subjects, without the prefix of an import.

    An import makes `10_foo` with share 10, and `holdout_foo`, wholly held out. If a subject would join groups of
    different medium or learned tags, all keep their full names.
    """
    trained = set(table.loc[table["split"] == TRAIN, "group"])
    subjects = {}
    for name in table["group"].unique():
        group, prefix = groups[name], f"{HOLDOUT}_"
        if folder_subject(name) and folder_repeats(name) == group.share:
            subjects[name] = folder_subject(name)
        elif name.startswith(prefix) and name != prefix and name not in trained:
            subjects[name] = name.removeprefix(prefix)
        else:
            subjects[name] = name
    kinds = {(subject, groups[name].medium, tuple(groups[name].learned)) for name, subject in subjects.items()}
    return subjects if len(kinds) == len(set(subjects.values())) else {name: name for name in subjects}


def _names(table: pd.DataFrame) -> list[str]:
    """Return a file name without suffix per row: its frame_id.

    If all are stills with names from an export, they keep them, so that import and export are inverse.
    """
    stems = [Path(path).stem for path in table["path"]]
    alone = table.groupby("source_id")["frame_id"].transform("size") == 1
    if alone.all() and len(set(stems)) == len(stems) and all(map(_EXPORTED_NAME.fullmatch, stems)):
        return stems
    return table["frame_id"].tolist()


def _write_images(table: pd.DataFrame, images: Path, staging: Path) -> None:
    for folder in table["folder"].unique():
        (staging / folder).mkdir(parents=True)
    for folder, name, file, text in zip(table["folder"], table["name"], table["file"], table["text"], strict=True):
        shutil.copyfile(images / file, staging / folder / f"{name}.png")
        (staging / folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")


def _write_metadata(trained: pd.DataFrame, staging: Path) -> None:
    """Write one metadata file per folder; sd-scripts repeats whole metadata files.

    An image's key is its path from image_dir; `image_size` is width, height (train_util.FineTuningDataset).
    """
    for folder, part in trained.sort_values("name").groupby("folder", sort=True):
        sizes = zip(part["width"].tolist(), part["height"].tolist(), strict=True)
        entries = {
            f"{name}.png": {"caption": text, "image_size": list(size)}
            for name, text, size in zip(part["name"], part["text"], sizes, strict=True)
        }
        (staging / str(folder) / METADATA).write_text(_json(entries), encoding="utf-8")


def _config_head(
    character: Character, exported: Exported, batch_size: int, resolution: int, buckets: BucketSettings
) -> str:
    return CONFIG_TEMPLATE.format(
        name=character.name,
        folder=exported.folder,
        config=exported.folder / CONFIG,
        metadata=METADATA,
        epoch=exported.images_per_epoch,
        error=round(exported.error, 9),
        weights=WEIGHTED if exported.weighted_captions else "",
        batch_size=batch_size,
        **_bucket_options(resolution, buckets),
    )


def _bucket_options(resolution: int, buckets: BucketSettings) -> dict[str, int | str]:
    """Return the bucket options of sd-scripts.

    Its limits must be multiples of the steps with the resolution between
    (train_util.adjust_min_max_bucket_reso_by_steps); its resolution need not be one.
    """
    if buckets.shape == "square":
        steps = next(step for step in BUCKET_STEPS if resolution % step == 0)
        smallest, largest, upscale = max(steps, resolution // 2 // steps * steps), 2 * resolution, True
    else:
        sides = [side for size in bucket_sizes(resolution, buckets) for side in size]
        steps, smallest, upscale = buckets.step, min(sides), buckets.upscale
        largest = max(buckets.max_side // steps, -(-resolution // steps)) * steps
    no_upscale = "false" if upscale else "true"
    return {
        "resolution": resolution,
        "smallest": smallest,
        "largest": largest,
        "steps": steps,
        "no_upscale": no_upscale,
    }


def _subsets(trained: pd.DataFrame, character: Character, exported: Exported) -> str:
    return "".join(
        SUBSET_TEMPLATE.format(
            image_dir=_toml_text(str(exported.folder / str(folder))),
            repeats=int(part["repeats"].iloc[0]),
            trigger=_toml_text(character.trigger),
            keep_tokens=_kept_in_front(part["caption"].tolist(), _first_tags(part, character)),
        )
        for folder, part in trained.groupby("folder", sort=True)
    )


def _first_tags(part: pd.DataFrame, character: Character) -> list[str]:
    return list(dict.fromkeys([character.trigger, *character.groups[part["group"].iloc[0]].learned]))


def _kept_in_front(captions: Sequence[str], first: Sequence[str]) -> int:
    begun = [[tag for tag, _ in parse_caption(caption)[: len(first)]] for caption in captions]
    return next(count for count in range(len(first), -1, -1) if all(tags[:count] == first[:count] for tags in begun))


def _record(table: pd.DataFrame, character: Character, exported: Exported, max_error: float) -> dict[str, Any]:
    folders = {
        str(folder): {
            "repeats": int(part["repeats"].iloc[0]),
            "groups": sorted(set(part["group"])),
            "medium": character.groups[part["group"].iloc[0]].medium,
            "learned": character.groups[part["group"].iloc[0]].learned,
        }
        for folder, part in table.groupby("folder", sort=True)
    }
    columns = {
        "path": "source",
        **{name: name for name in ("source_id", "frame_index", "group", "pixel_sha256")},
    }
    lineage = table.rename(columns=columns)[[*columns.values(), "probability"]].to_dict(orient="records")
    places = table["folder"] + "/" + table["name"] + ".png"
    return {
        "character": character.name,
        "trigger": character.trigger,
        "max_error": max_error,
        "total_variation": exported.error,
        "images_per_epoch": exported.images_per_epoch,
        "weighted_captions": exported.weighted_captions,
        "folders": folders,
        "files": dict(sorted(zip(places, lineage, strict=True))),
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _toml_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
