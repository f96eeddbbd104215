"""Assets of the stage `media`: a character's file inventory, and frames."""

import dagster as dg

from sticker_pipeline.core.files.space import frame_bytes
from sticker_pipeline.core.storage import write_table
from sticker_pipeline.core.texts import UserError, counted
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.progress import step_count
from sticker_pipeline.dagster_kit.room import check_room
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.automation import WHEN_STALE
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import made_from, of_character
from sticker_pipeline.media import frames as media_frames
from sticker_pipeline.media import sheets
from sticker_pipeline.media.inventory import INVENTORY, idle_exclusions, scan
from sticker_pipeline.media.sidecars import WRITTEN_CAPTIONS, read_captions


class NoMedia(UserError):
    """A character without a usable image."""


@dg.asset(
    **made_from(uses=["media"]),
    partitions_def=CHARACTERS,
    code_version="3",
    automation_condition=WHEN_STALE,
    group_name="media",
    kinds={"file", "parquet"},
    metadata=columns(INVENTORY, WRITTEN_CAPTIONS),
    description="Every file in the character's folder: accepted, rejected or ignored, and why.",
)
@once
def raw_media(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        inventory = scan(work.character.folder, work.character.groups.keys(), work.profile.media, work.character.roots)
        counts = inventory["status"].value_counts()
        accepted = int(counts.get("accepted", 0))
        if not accepted:
            raise NoMedia(
                f"{work.character.folder} holds no image that can be used ({counted(len(inventory), 'file')} looked "
                f"at). Put GIFs and images into {', '.join(work.character.groups)}."
            )
        rejected = inventory[inventory["status"] == "rejected"]
        for row in rejected.itertuples():
            context.log.warning(f"{row.path}: {row.reason}")
        for sentence in idle_exclusions(inventory, work.profile.media):
            context.log.warning(sentence)
        remarks = inventory[inventory["remark"] != ""]
        for row in remarks.itertuples():
            context.log.info(f"{row.path}: {row.remark}")
        captions = read_captions(work.character.folder, inventory, work.character.roots)
        write_table(inventory, work.staging, INVENTORY)
        write_table(captions, work.staging, WRITTEN_CAPTIONS)
        return work.publish(
            {
                SUMMARY: f"{counted(accepted, 'file')} accepted, {len(rejected)} rejected, "
                f"{counts.get('ignored', 0)} ignored",
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
    automation_condition=WHEN_STALE,
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
        cache, limits = work.store.cache("media"), work.profile.media
        check_room(work, sum(frame_bytes(*file) for file in media_frames.to_decode(inventory, cache, limits)))
        decoded = media_frames.decode_counting(
            work.character.folder, inventory, cache, limits, work.character.roots, step_count(context)
        )
        said = work.inputs["raw_media"].table(WRITTEN_CAPTIONS.file)
        captions = dict(zip(said["path"], said["caption"], strict=True))
        rows = media_frames.frame_table(inventory, decoded, cache, limits, captions)
        kept = rows[rows["kept"]]
        for line in media_frames.merging_warnings(rows):
            context.log.warning(line)
        if kept.empty:
            raise NoMedia(f"{work.character.folder}: not one frame can be used; the table of dropped frames says why.")
        media_frames.write_frame_files(rows, inventory, cache, limits, work.staging)
        write_table(rows, work.staging, media_frames.FRAMES)
        cells = sheets.cells_of(rows, decoded)
        sheets.write_pages(cells, work.staging / sheets.FOLDER)
        dropped = rows[~rows["kept"]]
        return work.publish(
            {
                SUMMARY: f"{len(kept)} of {counted(len(rows), 'frame')} kept, from "
                f"{counted(rows['source_id'].nunique(), 'file')}",
                "kept_frames": inline_image(sheets.kept_sheet(cells), "kept frames"),
                "kept": len(kept),
                "dropped": len(dropped),
                "why_dropped": table(media_frames.kinds_of(dropped["reason"])),
                **{name: inline_image(sheet, alt) for name, (sheet, alt) in sheets.dropped_sheets(cells).items()},
                "dropped_table": table(dropped[["path", "frame_index", "reason"]]),
                "sheets": dg.MetadataValue.path(f"{work.store.uri(work.character.name, 'frames')}/{sheets.FOLDER}"),
                **described(rows, media_frames.FRAMES),
            },
            content=lambda name: not name.startswith(sheets.FOLDER),
        )
