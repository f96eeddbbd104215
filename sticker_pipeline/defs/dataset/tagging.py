"""Assets of the stage `tagging`: what the tagger sees on each frame, and the captions made of it."""

import math
from collections.abc import Callable

import dagster as dg
import pandas as pd
from PIL import Image

from sticker_pipeline.character import Character
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, picture, table
from sticker_pipeline.dagster_kit.pools import BRIEF
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.automation import FOLLOW
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.room import scores_checked
from sticker_pipeline.defs.scopes import made_from, of_character
from sticker_pipeline.media.sidecars import WRITTEN_CAPTIONS
from sticker_pipeline.pictures import bar_chart, count_histogram, paired_bars, word_cloud
from sticker_pipeline.storage import write_csv, write_table
from sticker_pipeline.tagging import summary
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
    automation_condition=FOLLOW,
    group_name="tagging",
    kinds={"onnx", "parquet"},
    metadata=columns(WD14_TAGS),
    pool=BRIEF,
    description="The tags above the threshold that the WD14 tagger gives each kept frame, with their scores.",
)
@once
def wd14_tags(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        frames = work.inputs["frames"].table()
        frames = frames[frames["kept"]]
        folder = work.inputs["frames"].folder
        columns = (frames[name].tolist() for name in ("frame_id", "file", "pixel_sha256"))
        files = {frame: (folder / file, pixels) for frame, file, pixels in zip(*columns, strict=True)}
        settings = work.profile.tagging
        tagger = open_tagger(work.profile.tagger, settings.provider)
        if tagger.fallback:
            context.log.warning(f"The tagger runs on {tagger.provider}: {tagger.fallback}.")
        checked = scores_checked(work, len(tagger.labels))
        scored = score_frames(files, tagger, work.store.cache("wd14"), settings.batch_size, _progress(context), checked)
        thresholds = resolved(work.profile)
        limits = per_frame(thresholds, scored.scores, category_columns(tagger.labels))
        tags = tag_table(list(files), scored.scores, tagger.labels, limits)
        write_table(tags, work.staging, WD14_TAGS)
        return work.publish(
            {
                SUMMARY: f"{len(files)} frames: {scored.computed} newly tagged, {scored.cached} from the cache",
                "computed": scored.computed,
                "from_cache": scored.cached,
                "tagger": work.profile.tagger.name,
                "thresholds": thresholds_described(thresholds, limits),
                "provider": f"{tagger.provider} ({tagger.fallback})" if tagger.fallback else tagger.provider,
                "most_frequent": picture(
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
    automation_condition=FOLLOW,
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
        who = summary.character_tags(tags, curated.captions, curated.dropped, _taught(character))
        pictures = _pictures(tags, curated.captions, who, character)
        for name, image in pictures.items():
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
                **{name: picture(image, name.replace("_", " ")) for name, image in pictures.items()},
                **described(curated.captions, CAPTIONS),
            },
            content=lambda name: name.endswith(".parquet"),
        )


def _taught(character: Character) -> list[str]:
    """The trigger, and the learned tags of all groups, each once."""
    learned = (tag for group in character.groups.values() for tag in group.learned)
    return list(dict.fromkeys([character.trigger, *learned]))


def _pictures(
    tags: pd.DataFrame, captions: pd.DataFrame, who: pd.DataFrame, character: Character
) -> dict[str, Image.Image]:
    """Pictures of the tags, by name. `who`: from `summary.character_tags`. What every caption begins with is left out
    of the cloud: it would be all of it."""
    counts = summary.caption_tag_counts(captions)
    taught = _taught(character)
    before, after = summary.tags_per_image(tags, captions)
    return {
        "word_cloud": word_cloud({tag: count for tag, count in counts.items() if tag not in taught}),
        "tags_before_and_after": paired_bars(
            summary.before_and_after(tags, captions),
            title="tags before and after curation",
            unit="frames",
            names=("the tagger found it on", "captions that have it"),
        ),
        "character_tag_weight": paired_bars(
            {
                _weighed(tag, score, weight): (found, written)
                for tag, _, found, score, written, weight in who.itertuples(index=False)
            },
            title="what says who it is: after curation, what is taught alone",
            unit="share of frames",
            names=("the tagger found it on (mean score)", "captions that have it (× mean weight)"),
        ),
        "tags_per_image": count_histogram(
            {"before": before, "after": after}, title="tags per image", x="tags", y="images"
        ),
    }


def _weighed(tag: str, score: float, weight: float) -> str:
    """`tag` with the tagger's mean score (NaN: none), and its weight in captions where that is not 1."""
    believed = f" ({score:.2f})" if math.isfinite(score) else ""
    weighed = f" ×{weight:.2g}" if math.isfinite(weight) and weight != 1 else ""
    return f"{tag}{believed}{weighed}"


def _progress(context: dg.AssetExecutionContext) -> Callable[[int, int], None]:
    """Logs about ten times, however many batches there are."""

    def show(done: int, total: int) -> None:
        step = max(1, total // 10)
        if done == total or done // step > (done - 1) // step:
            context.log.info(f"{done} of {total} pictures tagged")

    return show
