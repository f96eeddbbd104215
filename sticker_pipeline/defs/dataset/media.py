"""Assets of the stage `media`: the inventory of a character's files, and their frames."""

import time
from pathlib import Path

import dagster as dg
import pandas as pd

from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, picture, table
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.automation import FOLLOW
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.room import check_frames
from sticker_pipeline.defs.scopes import CharacterStep, made_from, of_character
from sticker_pipeline.media import frames as media_frames
from sticker_pipeline.media import sheets
from sticker_pipeline.media.inventory import INVENTORY, scan
from sticker_pipeline.media.sidecars import WRITTEN_CAPTIONS, read_captions
from sticker_pipeline.storage import write_table
from sticker_pipeline.texts import UserError

SHEETS = "sheets"
SHEET_CELLS, DROPPED_CELLS, PAIR_CELLS = 60, 36, 36
LINES = 4  # of text below a dropped frame
SECONDS_BETWEEN_LINES = 5.0


class NoMedia(UserError):
    """A character without a single picture that can be used."""


@dg.asset(
    **made_from(uses=["media"]),
    partitions_def=CHARACTERS,
    code_version="3",
    automation_condition=FOLLOW,
    group_name="media",
    kinds={"file", "parquet"},
    metadata=columns(INVENTORY, WRITTEN_CAPTIONS),
    description="Every file in the character's folder: taken, refused or passed over, and why.",
)
@once
def raw_media(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        inventory = scan(work.character.folder, work.character.groups.keys(), work.profile.media, work.character.roots)
        counts = inventory["status"].value_counts()
        accepted = int(counts.get("accepted", 0))
        if not accepted:
            raise NoMedia(
                f"{work.character.folder} holds no picture that can be used "
                f"({len(inventory)} files looked at). Put GIFs and pictures into {', '.join(work.character.groups)}."
            )
        rejected = inventory[inventory["status"] == "rejected"]
        for row in rejected.itertuples():
            context.log.warning(f"{row.path}: {row.reason}")
        remarks = inventory[inventory["remark"] != ""]
        for row in remarks.itertuples():
            context.log.info(f"{row.path}: {row.remark}")
        captions = read_captions(work.character.folder, inventory, work.character.roots)
        write_table(inventory, work.staging, INVENTORY)
        write_table(captions, work.staging, WRITTEN_CAPTIONS)
        return work.publish(
            {
                SUMMARY: f"{accepted} files taken, {len(rejected)} refused, {counts.get('ignored', 0)} passed over",
                "accepted": accepted,
                "rejected": len(rejected),
                "written_captions": len(captions),
                "files": table(inventory[["path", "format", "width", "height", "n_frames", "status", "reason"]]),
                "refused": table(rejected[["path", "reason"]]),
                "remarks": table(remarks[["path", "remark"]]),
                **described(inventory, INVENTORY),
            }
        )


@dg.asset(
    **made_from(raw_media, uses=["frames"]),
    partitions_def=CHARACTERS,
    code_version="4",
    automation_condition=FOLLOW,
    group_name="media",
    kinds={"pillow", "parquet"},
    metadata=columns(media_frames.FRAMES),
    description="Every file decoded into full-canvas RGBA frames; equal and nearly equal ones merged, useless ones "
    "dropped with a reason.",
)
@once
def frames(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        inventory = work.inputs["raw_media"].table()
        cache = work.store.cache("media")
        check_frames(work, _to_decode(work, inventory, cache))
        decoded = _decode(work, inventory, cache)
        said = work.inputs["raw_media"].table(WRITTEN_CAPTIONS.file)
        captions = dict(zip(said["path"], said["caption"], strict=True))
        rows = media_frames.frame_table(inventory, decoded, cache, work.profile.media, captions)
        kept = rows[rows["kept"]]
        for line in media_frames.merging_warnings(rows):
            context.log.warning(line)
        if kept.empty:
            raise NoMedia(f"{work.character.folder}: not one frame can be used; the table of dropped frames says why.")
        media_frames.write_frame_files(rows, inventory, cache, work.profile.media, work.staging)
        write_table(rows, work.staging, media_frames.FRAMES)
        previews = sheets.previews_of(decoded)
        cells = {
            "kept": sheets.kept_cells(rows, previews),
            "dropped": sheets.dropped_cells(rows, previews),
            "near_duplicates": sheets.near_duplicate_cells(rows, previews),
        }
        for name, part in cells.items():
            _write_pages(part, work.staging / SHEETS, name)
        dropped = rows[~rows["kept"]]
        return work.publish(
            {
                SUMMARY: f"{len(kept)} of {len(rows)} frames kept, from {rows['clip_id'].nunique()} files",
                "kept_frames": picture(sheets.sheet(cells["kept"].spread(SHEET_CELLS)), "kept frames"),
                "kept": len(kept),
                "dropped": len(dropped),
                "why_dropped": table(_kinds(dropped["reason"])),
                **_dropped_pictures(cells["dropped"], cells["near_duplicates"]),
                "dropped_table": table(dropped[["path", "frame_index", "reason"]]),
                "sheets": dg.MetadataValue.path(work.store.folder(work.character.name, "frames") / SHEETS),
                **described(rows, media_frames.FRAMES),
            },
            content=lambda name: not name.startswith(SHEETS),
        )


def _dropped_pictures(dropped: sheets.Cells, near: sheets.Cells) -> dict[str, dg.MetadataValue]:
    """Sheets of some of the dropped frames, and of pairs of near duplicates, where there are any."""
    pictures = {}
    if dropped.previews:
        sheet = sheets.sheet(dropped.spread(DROPPED_CELLS), LINES)
        pictures["dropped_frames"] = picture(sheet, "dropped frames")
    if near.previews:
        sheet = sheets.sheet(near.spread(PAIR_CELLS, each=2))
        pictures["near_duplicates"] = picture(sheet, "merged frames, each with the one that stands for it")
    return pictures


def _write_pages(cells: sheets.Cells, folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    for number, page in enumerate(sheets.pages(cells, LINES if name == "dropped" else 1), start=1):
        page.save(folder / f"{name}_{number:03}.webp", quality=85)


def _to_decode(work: CharacterStep, inventory: pd.DataFrame, cache: Path) -> list[tuple[str, int, int, int]]:
    """(format, width, height, frames) of each accepted file that is not in the cache."""
    rows = inventory[inventory["status"] == "accepted"]
    new = rows[[not media_frames.cache_entry(cache, sha, work.profile.media).is_dir() for sha in rows["sha256"]]]
    return list(new[["format", "width", "height", "n_frames"]].itertuples(index=False, name=None))


def _decode(work: CharacterStep, inventory: pd.DataFrame, cache: Path) -> dict[str, pd.DataFrame]:
    """Every accepted file's frames; what was decoded before comes from the cache."""
    total = int((inventory["status"] == "accepted").sum())
    decoded = {}
    logged = time.monotonic()
    for path, part in media_frames.decode_all(
        work.character.folder, inventory, cache, work.profile.media, work.character.roots
    ):
        decoded[path] = part
        if time.monotonic() - logged > SECONDS_BETWEEN_LINES:
            work.context.log.info(f"{len(decoded)} of {total} files decoded")
            logged = time.monotonic()
    return decoded


def _kinds(reasons: pd.Series) -> pd.DataFrame:
    """How many frames each kind of reason dropped: what a reason says before it names another frame."""
    kinds = reasons.str.split(" as ").str[0]
    return kinds.value_counts().rename_axis("reason").reset_index(name="frames")
