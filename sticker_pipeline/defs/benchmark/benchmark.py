"""Assets of the stage `benchmark`: a character's table, and the leaderboard of all characters."""

import json
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark import tables
from sticker_pipeline.benchmark.embed import Embedder
from sticker_pipeline.benchmark.evaluation import Embeddings, EvaluationContext, GeneratedImages, Requests
from sticker_pipeline.benchmark.features import (
    by_style,
    clip_of,
    embedded,
    held_out_references,
    tags_found,
    with_styles,
)
from sticker_pipeline.benchmark.measure import (
    BASE,
    LORA,
    REFERENCE,
)
from sticker_pipeline.benchmark.metrics import SIMILARITY, VERSION
from sticker_pipeline.benchmark.side_by_side import (
    COMPARISONS,
    by_character,
    comparisons,
    shown_characters,
    side_by_side,
    side_by_side_table,
    similarity_picture,
)
from sticker_pipeline.character import CharacterError, character_folders
from sticker_pipeline.dagster_kit.metadata import ROW_COUNT, SUMMARY, columns, described, picture, table
from sticker_pipeline.dagster_kit.pools import GPU
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.automation import ACROSS_CHARACTERS, FOLLOW, NIGHT_IS_DONE
from sticker_pipeline.defs.benchmark.samples import LEFT_OUT
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import CharacterStep, all_made_from, made_from, of_all, of_character
from sticker_pipeline.generation.samples import WITHOUT_TRIGGER
from sticker_pipeline.markdown import bullets
from sticker_pipeline.pictures import interval_chart
from sticker_pipeline.storage import StorageError, write_table
from sticker_pipeline.tagging.wd14 import Tagger, open_tagger

OTHERS = "others.json"  # the other characters that it was measured among -> data versions of their training sets
SHOWN_PICTURES = 4  # of each model in each style
MOST_ROWS, MOST_NAMES = 500, 50  # of the leaderboard in the event log


@dg.asset(
    # the gate is that of its checks, which Dagster runs only with their asset
    **made_from("samples", "training_set", "frames", uses=["tagging", "benchmark", "others", "gate"]),
    partitions_def=CHARACTERS,
    code_version=VERSION,
    automation_condition=FOLLOW,
    group_name="benchmark",
    kinds={"open-clip", "onnx", "parquet"},
    metadata=columns(tables.BENCHMARK, COMPARISONS),
    pool=GPU,
    description="How good the pictures are of the base model, the LoRA, the release that it may replace and each "
    "rival, in figures with intervals: likeness to held-out pictures, the right character among all, prompted tags "
    "found, copies, diversity, what the trigger does. Each figure says in its docstring how it can be fooled.",
)
@once
def benchmark(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        embedder = clip_of(work.profile, work.store)
        tagger = open_tagger(work.profile.tagger, work.profile.tagging.provider)
        sampled = work.inputs["samples"].table()
        others, problems = _others(work, workspace, embedder)
        result = tables.benchmark_table(
            _generated(work, embedder, tagger, sampled),
            _evaluation_context(work, embedder, sampled, others, [label.name for label in tagger.labels]),
            samples=work.profile.benchmark.bootstrap_samples,
        )
        of_samples = json.loads(work.inputs["samples"].content(LEFT_OUT))
        left_out = [*result.left_out, *of_samples, *problems]
        for sentence in left_out:
            context.log.warning(sentence)
        write_table(result.table, work.staging, tables.BENCHMARK)
        compared = comparisons(result)
        differences = side_by_side_table(result.table, compared)
        write_table(compared, work.staging, COMPARISONS)
        return work.publish(
            {
                SUMMARY: _headline(result.table),
                "side_by_side": picture(
                    side_by_side(result.table, compared, _shown(work, sampled)), "every model, style by style"
                ),
                "differences": table(differences, most=len(differences)),
                "similarity_chart": picture(_similarity_chart(result.table), "CLIP similarity"),
                "table": table(result.table, most=len(result.table)),
                "left_out": dg.MetadataValue.md(bullets(left_out)),
                **_plotted(result.table),
                **described(result.table, tables.BENCHMARK),
            },
            content=lambda name: name != OTHERS,  # what came of them is in the table
        )


@dg.asset(
    **all_made_from(benchmark, uses=["roster"]),
    code_version="2",
    automation_condition=ACROSS_CHARACTERS,
    freshness_policy=NIGHT_IS_DONE,
    group_name="benchmark",
    kinds={"parquet"},
    metadata=columns(tables.LEADERBOARD),
    description="The benchmark tables of all characters that have one, side by side.",
)
def leaderboard(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_all, also_current=True) as work:
        measured = {}
        for entry, found in list(work.inputs.items()):
            name = entry.partition("/")[0]
            try:
                measured[name] = found.table()
            except StorageError as error:
                context.log.warning(f"{name} is left out: {error}")
                del work.inputs[entry]
        rows = tables.leaderboard(measured)
        write_table(rows, work.staging, tables.LEADERBOARD)
        similarity = by_character(rows)
        shown = rows[rows["character"].isin(shown_characters(similarity))]
        left_out = _left_out(len(measured), shown["character"].nunique())
        text = "\n\n".join([tables.leaderboard_markdown(shown), *left_out])
        (work.staging / "leaderboard.md").write_text(text + "\n", encoding="utf-8")
        without = sorted({folder.name for folder in character_folders(Path(workspace.characters))} - measured.keys())
        return work.publish(
            {
                SUMMARY: f"{len(measured)} characters" + (f", {len(without)} not measured yet" if without else ""),
                "similarity": picture(similarity_picture(similarity), "similarity of all characters"),
                "not_measured_yet": _told_of(without),
                "leaderboard": table(shown[shown["metric"] == SIMILARITY], most=MOST_ROWS),
                "left_out": dg.MetadataValue.md(bullets(left_out)),
                **described(rows, tables.LEADERBOARD, ROW_COUNT),
            }
        )


def _told_of(without: list[str]) -> str:
    if not without:
        return "Every character has a benchmark."
    names = ", ".join(without[:MOST_NAMES]) + (f" and {len(without) - MOST_NAMES} more" * (len(without) > MOST_NAMES))
    return f"{len(without)} without a benchmark: {names}. Materialize `benchmark` of each to add it."


def _left_out(measured: int, shown: int) -> list[str]:
    """What a table of the `shown` ones of all `measured` characters has to say."""
    if shown == measured:
        return []
    return [
        f"The best and the worst {shown} of {measured} characters by the new LoRA's similarity. index.parquet has all, "
        "and so has the report."
    ]


def _generated(
    work: CharacterStep, embedder: Embedder, tagger: Tagger, sampled: pd.DataFrame
) -> dict[str, dict[str, GeneratedImages]]:
    """Model -> style -> what it drew, as seen by the CLIP and by the tagger."""
    samples = work.inputs["samples"]
    plain = samples.table(WITHOUT_TRIGGER.file)
    found = tags_found(tagger, work.profile, work.store, samples, sampled["file"].tolist())
    generated = {}
    for model, rows in sampled.assign(row=range(len(sampled))).groupby("model", sort=False):
        files, styles = rows["file"].tolist(), rows["style"].tolist()
        embeddings, tags = by_style(embedded(embedder, samples, files), styles), by_style(found[rows["row"]], styles)
        without = plain[plain["model"] == model]
        bare = by_style(embedded(embedder, samples, without["file"].tolist()), without["style"].tolist())
        generated[str(model)] = {
            style: GeneratedImages(images, bare.get(style), tags[style]) for style, images in embeddings.items()
        }
    return generated


def _evaluation_context(
    work: CharacterStep,
    embedder: Embedder,
    sampled: pd.DataFrame,
    others: dict[str, dict[str, Embeddings]],
    tag_names: list[str],
) -> EvaluationContext:
    training_set, frames = work.inputs["training_set"], work.inputs["frames"]
    rows = with_styles(work.character, training_set, frames)
    trained = rows[rows["split"] == "train"]
    asked = sampled[sampled["model"] == BASE].groupby("style")["attributes"]
    return EvaluationContext(
        references=held_out_references(embedder, work.character, training_set, frames),
        training=Embeddings(
            embedded(embedder, frames, trained["file"].tolist()), trained["clip_id"].tolist(), trained["style"].tolist()
        ),
        others=others,
        requests={str(style): Requests(part.tolist(), part.tolist()) for style, part in asked},
        tag_names=tag_names,
    )


def _others(
    work: CharacterStep, workspace: Workspace, embedder: Embedder
) -> tuple[dict[str, dict[str, Embeddings]], list[str]]:
    """The held-out pictures of every other character by style, and a sentence about each that cannot be read."""
    found, problems, versions = {}, [], {}
    for name in work.roots["others"]["characters"]:
        try:
            other = workspace.character(name)
            training_set, frames = (work.store.read(name, asset) for asset in ("training_set", "frames"))
            found[name] = held_out_references(embedder, other, training_set, frames)
        except (CharacterError, StorageError, OSError) as error:
            problems.append(f"The character '{name}' is left out of `identity`: {error}")
            continue
        versions[name] = training_set.data_version
    (work.staging / OTHERS).write_text(json.dumps(versions, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return found, problems


def _similarity_chart(rows: pd.DataFrame) -> Image.Image:
    chosen = rows[rows["metric"] == SIMILARITY].to_dict("records")
    intervals = {
        f"{row['style']} · {row['model']}": (float(row["mean"]), float(row["ci_low"]), float(row["ci_high"]))
        for row in chosen
    }
    return interval_chart(intervals, title="CLIP similarity to held-out pictures, 95 % intervals", unit="mean cosine")


def _shown(work: CharacterStep, sampled: pd.DataFrame) -> dict[tuple[str, str], list[Image.Image]]:
    """(style, model) -> some pictures: the same requests of every model, and held-out ones."""
    rows = with_styles(work.character, work.inputs["training_set"], work.inputs["frames"])
    held_out = rows[rows["split"] == "holdout"]
    frames, samples = work.inputs["frames"].folder, work.inputs["samples"].folder
    shown: dict[tuple[str, str], list[Image.Image]] = {
        (str(style), str(model)): [Image.open(samples / name) for name in _spread(part, SHOWN_PICTURES)["file"]]
        for (style, model), part in sampled.groupby(["style", "model"], sort=False)
    }
    return shown | {
        (str(style), REFERENCE): [Image.open(frames / name) for name in _spread(part, SHOWN_PICTURES)["file"]]
        for style, part in held_out.groupby("style")
    }


def _spread(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rows spread evenly over the table (all where there are fewer)."""
    positions = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    return rows.iloc[positions]


def _headline(rows: pd.DataFrame) -> str:
    chosen = rows[rows["metric"] == SIMILARITY].set_index(["style", "model"])["mean"]
    parts = [
        f"{style}: base {chosen[style, BASE]:.3f}, LoRA {chosen[style, LORA]:.3f}"
        for style in dict.fromkeys(chosen.index.get_level_values("style"))
        if (style, LORA) in chosen.index
    ]
    return "similarity: " + "; ".join(parts) if parts else "no style has held-out pictures"


def _plotted(rows: pd.DataFrame) -> Mapping[str, float]:
    """Numbers that the UI plots over time, higher is better: the LoRA's similarity in each style."""
    chosen = rows[(rows["metric"] == SIMILARITY) & (rows["model"] == LORA)]
    return {f"similarity_{row['style']}": float(row["mean"]) for row in chosen.to_dict("records")}
