"""Asset of the stage `benchmark`: a character's metrics with intervals."""

import json

import dagster as dg

from sticker_pipeline.benchmark import inputs, shown, tables
from sticker_pipeline.benchmark.features import embedder_of, with_mediums
from sticker_pipeline.benchmark.metrics import VERSION
from sticker_pipeline.benchmark.side_by_side import COMPARISONS, comparisons, side_by_side, side_by_side_table
from sticker_pipeline.core.markdown import bullets
from sticker_pipeline.core.storage import write_table
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, note, table
from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.dataset.manifest import HOLDOUT
from sticker_pipeline.defs.automation import WHEN_STALE
from sticker_pipeline.defs.benchmark.samples import LEFT_OUT
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import made_from, of_character
from sticker_pipeline.generation.samples import WITHOUT_TRIGGER
from sticker_pipeline.tagging.wd14 import open_tagger

OTHERS = "others.json"  # other characters -> data versions of their training sets


@dg.asset(
    # "gate" is for the checks, which Dagster runs only with their asset
    **made_from("samples", "training_set", "frames", uses=["tagging", "benchmark", "others", "gate"]),
    partitions_def=CHARACTERS,
    code_version=VERSION,
    automation_condition=WHEN_STALE,
    group_name="benchmark",
    kinds={"open-clip", "onnx", "parquet"},
    metadata=columns(tables.BENCHMARK, COMPARISONS),
    pool=GPU,
    op_tags=gpu_request(GPU),
    description="Metrics, with intervals, of the images of base model, LoRA, baseline release and each rival: likeness "
    "to held-out images, the right character among all, prompted tags found, copies, diversity, effect of the trigger. "
    "Each metric's docstring says how it can be fooled.",
)
@once
def benchmark(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        character, profile, store, staging = work.character, work.profile, work.store, work.staging
        training_set, frames, samples = (work.inputs[name] for name in ("training_set", "frames", "samples"))
        embedder = embedder_of(profile, store)
        tagger = open_tagger(profile.tagger, profile.tagging.provider)
        sampled = samples.table()
        names = work.roots["others"]["characters"]
        others, versions, problems = inputs.other_references(names, workspace.character, store, embedder)
        (staging / OTHERS).write_text(json.dumps(versions, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        result = tables.benchmark_table(
            inputs.generated_images(samples, samples.table(WITHOUT_TRIGGER.file), embedder, tagger, profile, store),
            inputs.evaluation_context(character, training_set, frames, sampled, others, embedder, tagger),
            samples=profile.benchmark.bootstrap_samples,
        )
        left_out = [*result.left_out, *json.loads(samples.content(LEFT_OUT)), *problems]
        for sentence in left_out:
            context.log.warning(sentence)
        write_table(result.table, staging, tables.BENCHMARK)
        compared = comparisons(result)
        differences = side_by_side_table(result.table, compared)
        write_table(compared, staging, COMPARISONS)
        rows = with_mediums(character, training_set, frames)
        images = shown.shown_images(sampled, samples.fetched(), rows[rows["split"] == HOLDOUT], frames.fetched())
        return work.publish(
            {
                SUMMARY: shown.headline(result.table),
                **note(shown.trigger_note_of(result.table)),
                "side_by_side": inline_image(
                    side_by_side(result.table, compared, images), "every model, medium by medium"
                ),
                "differences": table(differences, most=len(differences)),
                "similarity_chart": inline_image(shown.similarity_chart(result.table), "CLIP similarity"),
                "table": table(result.table, most=len(result.table)),
                "left_out": dg.MetadataValue.md(bullets(left_out)),
                **shown.plotted(result.table),
                **described(result.table, tables.BENCHMARK),
            },
            content=lambda name: name != OTHERS,  # their effect is in the table
        )
