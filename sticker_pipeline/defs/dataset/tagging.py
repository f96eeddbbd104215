"""Assets of the stage `tagging`: tags of each frame, and captions."""

from functools import partial

import dagster as dg
import pandas as pd

from sticker_pipeline.core.files.space import tagged_bytes
from sticker_pipeline.core.images import bar_chart
from sticker_pipeline.core.storage import write_csv, write_table
from sticker_pipeline.core.texts import counted
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.pools import BRIEF, gpu_request
from sticker_pipeline.dagster_kit.progress import step_count
from sticker_pipeline.dagster_kit.room import check_room
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.automation import WHEN_STALE
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import made_from, of_character
from sticker_pipeline.media.sidecars import WRITTEN_CAPTIONS
from sticker_pipeline.tagging import charts, summary
from sticker_pipeline.tagging.curation import CAPTIONS, DROPPED, curate
from sticker_pipeline.tagging.scoring import WD14_TAGS, score_frames, tag_table
from sticker_pipeline.tagging.thresholds import described as thresholds_described
from sticker_pipeline.tagging.thresholds import per_frame, resolved
from sticker_pipeline.tagging.wd14 import category_columns, open_tagger
from sticker_pipeline.tagging.written import written_captions

RECIPES = "Others have about 8 tags per image for a style, about 30 for a plain character; here, as few as possible."


@dg.asset(
    **made_from("frames", uses=["tagging"]),
    partitions_def=CHARACTERS,
    code_version="1",
    automation_condition=WHEN_STALE,
    group_name="tagging",
    kinds={"onnx", "parquet"},
    metadata=columns(WD14_TAGS),
    pool=BRIEF,
    op_tags=gpu_request(BRIEF),
    description="The tags above the threshold that the WD14 tagger gives each kept frame, with their scores.",
)
@once
def wd14_tags(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        frames = work.inputs["frames"].table()
        frames = frames[frames["kept"]]
        folder = work.inputs["frames"].fetched()
        columns = (frames[name].tolist() for name in ("frame_id", "file", "pixel_sha256"))
        files = {frame: (folder / file, pixels) for frame, file, pixels in zip(*columns, strict=True)}
        settings = work.profile.tagging
        tagger = open_tagger(work.profile.tagger, settings.provider)
        if tagger.fallback:
            context.log.warning(f"The tagger runs on {tagger.provider}: {tagger.fallback}.")
        scored = score_frames(
            files,
            tagger,
            work.store.cache("wd14"),
            settings.batch_size,
            partial(step_count(context), "images tagged"),
            lambda new: check_room(work, tagged_bytes(new, len(tagger.labels))),
        )
        thresholds = resolved(work.profile)
        limits = per_frame(thresholds, scored.scores, category_columns(tagger.labels))
        tags = tag_table(list(files), scored.scores, tagger.labels, limits)
        write_table(tags, work.staging, WD14_TAGS)
        return work.publish(
            {
                SUMMARY: f"{counted(len(files), 'frame')}: {scored.computed} newly tagged, {scored.cached} from the "
                "cache",
                "computed": scored.computed,
                "from_cache": scored.cached,
                "tagger": work.profile.tagger.name,
                "thresholds": thresholds_described(thresholds, limits),
                "provider": f"{tagger.provider} ({tagger.fallback})" if tagger.fallback else tagger.provider,
                "most_frequent": inline_image(
                    bar_chart(summary.tag_counts(tags), title="what the tagger found", unit="frames"), "tags"
                ),
                "tags": table(tags),
                **described(tags, WD14_TAGS),
            }
        )


@dg.asset(
    **made_from(wd14_tags, "frames", "raw_media", uses=["curation"]),
    partitions_def=CHARACTERS,
    code_version="4",
    automation_condition=WHEN_STALE,
    group_name="tagging",
    kinds={"pandas", "parquet"},
    metadata=columns(CAPTIONS, DROPPED),
    description="Captions with as few tags as possible, so that what is inherent in the character binds to its "
    "trigger. Each dropped tag keeps its reason.",
)
@once
def curated_tags(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        every = work.inputs["frames"].table()
        frames = every[every["kept"]]
        tags = work.inputs["wd14_tags"].table()
        character = work.character
        settings = character.settings.curation
        beside = work.inputs["raw_media"].table(WRITTEN_CAPTIONS.file)
        written = written_captions(every, beside) if settings.written == "keep" else {}
        curated = curate(tags, frames, character.groups, character.trigger, settings, written)
        for line in (*curated.idle, *(f"the caption of {row.path}: {row.note}" for row in curated.notes.itertuples())):
            context.log.warning(line)
        write_table(curated.captions, work.staging, CAPTIONS)
        write_table(curated.dropped, work.staging, DROPPED)
        dropped = summary.dropped_tags(curated.dropped)
        write_csv(dropped, work.staging / "dropped_tags.csv")
        who = summary.character_tags(tags, curated.captions, curated.dropped, character.taught)
        images = charts.tag_images(tags, curated.captions, who, character.taught)
        for name, image in images.items():
            image.save(work.staging / f"{name}.png")
        before, after = summary.mean_tags(tags, curated.captions)
        return work.publish(
            {
                SUMMARY: f"{before:.1f} tags per image became {after:.1f}",
                "tags_before": before,
                "tags_after": after,
                "recipes": RECIPES,
                "written_captions": len(written),
                **({"how_captions_were_read": table(curated.notes)} if len(curated.notes) else {}),
                **({"without_effect": table(pd.DataFrame({"setting": curated.idle}))} if curated.idle else {}),
                "captions": table(summary.caption_sample(curated.captions)),
                "why_dropped": table(summary.drop_reasons(curated.dropped)),
                "dropped_tags": table(dropped),
                "who_it_is": table(who, most=40),
                **{name: inline_image(image, name.replace("_", " ")) for name, image in images.items()},
                **described(curated.captions, CAPTIONS),
            },
            content=lambda name: name.endswith(".parquet"),
        )
