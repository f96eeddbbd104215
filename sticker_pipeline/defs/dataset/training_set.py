"""Asset of the stage `dataset`: the trainer's input."""

import dagster as dg

from sticker_pipeline.core.images import sheet_of_files
from sticker_pipeline.core.storage import write_table
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.dataset.buckets import bucket_table
from sticker_pipeline.dataset.manifest import TRAINING_SET
from sticker_pipeline.dataset.manifest import training_set as make_training_set
from sticker_pipeline.defs.automation import WHEN_STALE
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import made_from, of_character

SHEET_CELLS = 20


@dg.asset(
    **made_from("frames", "frame_weights", "curated_tags", uses=["dataset"]),
    partitions_def=CHARACTERS,
    code_version="3",
    automation_condition=WHEN_STALE,
    group_name="dataset",
    kinds={"pandas", "parquet"},
    metadata=columns(TRAINING_SET),
    description="Each kept frame with its caption, the probability with which it is sampled and the size to which it "
    "is cut; whole sources are held out as references that are never trained on.",
)
@once
def training_set(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        frames = work.inputs["frames"].table()
        rows = make_training_set(
            frames,
            work.inputs["frame_weights"].table(),
            work.inputs["curated_tags"].table(),
            work.character.settings.benchmark.holdout,
            work.profile.resolution,
            work.profile.buckets,
            validation=work.character.settings.benchmark.validation,
        )
        write_table(rows, work.staging, TRAINING_SET)
        sources = rows["frame_id"].map(frames.set_index("frame_id")["source_id"]).groupby(rows["split"]).nunique()
        trained, references = rows[rows["split"] == "train"], rows[rows["split"] == "holdout"]
        buckets = bucket_table(trained)
        shown = [
            sheet_of_files(work.inputs["frames"].fetched(part["file"]), part["file"].tolist(), SHEET_CELLS)
            for part in (trained, references)
        ]
        return work.publish(
            {
                SUMMARY: f"{len(trained)} frames of {sources['train']} sources to train on, in {len(buckets)} "
                f"{'size' if len(buckets) == 1 else 'sizes'}; {len(references)} of {sources.get('holdout', 0)} held out"
                f", {(rows['split'] == 'validation').sum()} of {sources.get('validation', 0)} for validation",
                "trained_on": inline_image(shown[0], "training images"),
                "holdout": inline_image(shown[1], "held-out images"),
                "train_frames": len(trained),
                "holdout_frames": len(references),
                "buckets": table(buckets),
                "most_drawn": table(trained.sort_values("probability", ascending=False, kind="stable")),
                **described(rows, TRAINING_SET),
            }
        )
