"""Asset of the stage `sampling`: the probability of sampling each frame."""

import dagster as dg

from sticker_pipeline.core.images import bar_chart
from sticker_pipeline.core.storage import write_table
from sticker_pipeline.core.texts import counted
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.automation import WHEN_STALE
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import made_from, of_character
from sticker_pipeline.sampling import weights


@dg.asset(
    **made_from("frames", uses=["sampling"]),
    partitions_def=CHARACTERS,
    code_version="1",
    automation_condition=WHEN_STALE,
    group_name="sampling",
    kinds={"pandas", "parquet"},
    metadata=columns(weights.FRAME_WEIGHTS),
    description="The probability with which each frame is sampled. By default a GIF counts as much as a still, however "
    "long it is: its frames are nearly the same image.",
)
@once
def frame_weights(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        shares = {name: group.share for name, group in work.character.groups.items()}
        rows = weights.frame_weights(
            work.inputs["frames"].table(),
            shares,
            work.profile.sampling.mode,
            work.profile.training.samples_per_epoch,
        )
        write_table(rows, work.staging, weights.FRAME_WEIGHTS)
        groups, sources = weights.group_shares(rows), weights.source_shares(rows)
        by_source = sources.sort_values("share", ascending=False, kind="stable")
        effective = weights.effective_images(rows["probability"].to_numpy())
        bars = dict(zip(by_source["source_id"], by_source["share"], strict=True))
        return work.publish(
            {
                SUMMARY: f"{counted(len(rows), 'frame')} of {counted(len(sources), 'source')}: as many as "
                f"{effective:.1f} equal images",
                "effective_images": effective,
                "groups": table(groups),
                "group_shares": inline_image(weights.group_chart(groups), "group shares"),
                "shares": inline_image(
                    bar_chart(bars, title="share of each source", unit="probability"), "shares of sources"
                ),
                "sources": table(by_source),
                **described(rows, weights.FRAME_WEIGHTS),
            }
        )
