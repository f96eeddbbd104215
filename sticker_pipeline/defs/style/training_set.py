"""Asset `style/training_set`: the training data of a style's LoRA."""

import dagster as dg

from sticker_pipeline.core.images import sheet_of_files
from sticker_pipeline.core.storage import link_or_copy, write_table
from sticker_pipeline.core.texts import counted
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.dataset.manifest import TRAIN
from sticker_pipeline.dataset.style_set import IMAGES, STYLE_DROPPED, STYLE_ROWS, STYLE_TAGS, reasons_table, style_set
from sticker_pipeline.defs.automation import WHEN_STALE
from sticker_pipeline.defs.partitions import STYLES
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import STYLE_TRAINING_SET, of_style, style_made_from
from sticker_pipeline.roots.style import members_of
from sticker_pipeline.tagging.captions import parse_caption

SHEET_CELLS = 24


@dg.asset(
    key=STYLE_TRAINING_SET,
    **style_made_from(uses=["members", "dataset"]),
    partitions_def=STYLES,
    code_version="1",
    automation_condition=WHEN_STALE,
    group_name="style",
    kinds={"pandas", "parquet"},
    metadata=columns(STYLE_ROWS, STYLE_TAGS, STYLE_DROPPED),
    description="The images of all characters that name the style, with equal weight per character. Unlike a "
    "character's captions, these name traits and clothes: the rest, the style, binds to the LoRA. The holdout of each "
    "character is held out here, too.",
)
@once
def style_training_set(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_style) as work:
        profile = work.profile
        made = style_set(members_of(work.subject, work.store), profile.style.tags, profile.resolution, profile.buckets)
        frames = {name: work.store.read(name, "frames").fetched() for name in made.rows["character"].unique()}
        for name in made.rows["file"]:  # copied: a character's own may be made again during the training
            who, _, file = name.partition("/")
            link_or_copy(frames[who] / file, work.staging / IMAGES / name)
        write_table(made.rows, work.staging, STYLE_ROWS)
        write_table(made.tags, work.staging, STYLE_TAGS)
        write_table(made.dropped, work.staging, STYLE_DROPPED)
        trained = made.rows[made.rows["split"] == TRAIN]
        per_image = trained["caption"].map(lambda caption: len(parse_caption(caption)))
        splits = made.rows.groupby(["character", "split"])["source_id"].nunique().unstack(fill_value=0).reset_index()
        shown = sheet_of_files(work.staging / IMAGES, trained["file"].tolist(), SHEET_CELLS)
        return work.publish(
            {
                SUMMARY: f"{counted(len(trained), 'frame')} of {counted(trained['source_id'].nunique(), 'source')} of "
                f"{counted(len(work.subject.members), 'character')}, {per_image.mean():.1f} tags per caption",
                "trained_on": inline_image(shown, "training images"),
                "tags_per_caption": float(per_image.mean()),
                "sources": table(splits),
                "what_is_said": table(made.tags, most=40),
                "why_dropped": table(reasons_table(made.dropped)),
                "captions": table(trained[["frame_id", "caption"]].iloc[:: max(1, len(trained) // 20)]),
                **described(made.rows, STYLE_ROWS),
            }
        )
