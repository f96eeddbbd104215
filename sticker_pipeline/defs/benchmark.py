"""Assets of the stage `benchmark`: the chosen epoch, a character's table, and the leaderboard of all characters."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark import tables
from sticker_pipeline.benchmark.choice import (
    SELECTION_PURPOSE,
    Trained,
    checkpoint_metrics,
    choose_epoch,
    copies_allowed,
    evidence,
    evidence_curves,
    validation_frames,
    validation_losses,
)
from sticker_pipeline.benchmark.embed import Embedder, embed, open_embedder
from sticker_pipeline.benchmark.measure import BASE, LORA, Pictures, References, Training, Yardstick
from sticker_pipeline.character import Gate
from sticker_pipeline.defs.automation import ACROSS_CHARACTERS, FOLLOW, NIGHT_IS_DONE
from sticker_pipeline.defs.generation import LEFT_OUT, draw
from sticker_pipeline.defs.loggers import SUMMARY
from sticker_pipeline.defs.making import (
    Making,
    characters_with,
    code_version,
    described,
    making,
    picture,
    reported,
    table,
)
from sticker_pipeline.defs.observed import PREFIX, ROSTER, key, roster
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.generation.generate import open_pipeline
from sticker_pipeline.generation.grid import sample_grid
from sticker_pipeline.generation.prompts import Request, benchmark_prompts, requests_for
from sticker_pipeline.pictures import interval_chart, line_chart
from sticker_pipeline.storage import ALL, content_hash, link_or_copy, write_table

SELECTION_PROMPTS = (
    4  # per style, one seed each: enough to tell a good epoch from a bad one, cheap enough for every one
)
SHOWN_REFERENCES = 8


@dg.asset(
    deps=["lora", "training_set", "frames", key("generation"), key("benchmark"), key("choice")],
    partitions_def=CHARACTERS,
    code_version="2",
    automation_condition=FOLLOW,
    group_name="benchmark",
    kinds={"open-clip", "parquet"},
    owners=["team:training"],
    pool="gpu",
    description="The epoch to use, by a stated rule: none after the loss on validation pictures has stopped falling, "
    "none that copies, none clearly less like the character than the best; of these the one with the lowest loss.",
)
def selected_lora(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with making(context, workspace) as work:
        embedder = _embedder(work)
        checkpoints = {
            int(path.stem.removeprefix("epoch_")): path
            for path in sorted((work.inputs["lora"].folder / "checkpoints").glob("epoch_*.safetensors"))
        }
        generated = _of_each_epoch(work, embedder, checkpoints)
        losses = validation_losses(work.inputs["lora"].table("held_out.parquet"))
        trained = _trained(work, embedder)
        choice = choose_epoch(
            checkpoint_metrics(generated, _validation(work, embedder), trained),
            losses,
            patience=work.character.settings.benchmark.patience,
            most_copies=copies_allowed(Gate().copies, trained),
        )
        epoch = int(choice.loc[choice["chosen"], "epoch"].iloc[0])
        link_or_copy(checkpoints[epoch], work.staging / "lora.safetensors")
        write_table(choice.assign(metrics=choice["metrics"].map(lambda entry: json.dumps(entry))), work.staging)
        shown = evidence(choice)
        return work.publish(
            {
                SUMMARY: f"epoch {epoch} of {len(checkpoints)}",
                "epoch": epoch,
                "why": str(shown.loc[shown["chosen"], "reason"].iloc[0]),
                "by_epoch": picture(_epoch_chart(shown), "similarity by epoch"),
                "evidence": table(shown),
                "file": dg.MetadataValue.path(work.store.folder(work.character.name, "selected_lora")),
                **described(choice),
            }
        )


@dg.asset(
    deps=["samples", "training_set", "frames", key("benchmark")],
    partitions_def=CHARACTERS,
    code_version="2",
    automation_condition=FOLLOW,
    group_name="benchmark",
    kinds={"open-clip", "parquet"},
    owners=["team:training"],
    pool="gpu",
    description="How like the character the pictures are: CLIP similarity to held-out references, of the base model "
    "and of the LoRA, with bootstrap intervals; diversity and nearest training picture beside it.",
)
def benchmark(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with making(context, workspace) as work:
        embedder = _embedder(work)
        rows = _pictures_with_style(work)
        held_out, trained = rows[rows["split"] == "holdout"], rows[rows["split"] == "train"]
        references = {
            str(style): References(_embedded(work, embedder, part), part["clip_id"].tolist())
            for style, part in held_out.groupby("style")
        }
        sampled = work.inputs["samples"].table()
        generated = {
            str(model): {
                style: Pictures(embeddings)
                for style, embeddings in _by_style(
                    embed(embedder, (Image.open(work.inputs["samples"].folder / name) for name in part["file"])),
                    part["style"].tolist(),
                ).items()
            }
            for model, part in sampled.groupby("model", sort=False)
        }
        training = Training(_embedded(work, embedder, trained), trained["clip_id"].tolist(), trained["style"].tolist())
        result = tables.benchmark_table(
            generated,
            Yardstick(references, training),
            samples=work.profile.benchmark.bootstrap_samples,
        )
        of_samples = json.loads((work.inputs["samples"].folder / LEFT_OUT).read_text(encoding="utf-8"))
        left_out = [*result.left_out, *of_samples]
        for sentence in left_out:
            context.log.warning(sentence)
        write_table(result.table, work.staging)
        return work.publish(
            {
                SUMMARY: _headline(result.table),
                "pictures": picture(_comparison(work, sampled, held_out), "references, base and LoRA"),
                "similarity": picture(_similarity_chart(result.table), "CLIP similarity"),
                "table": table(result.table, most=len(result.table)),
                "left_out": dg.MetadataValue.md("\n".join(f"- {sentence}" for sentence in left_out) or "nothing"),
                **_plotted(result.table),
                **described(result.table),
            }
        )


@dg.asset(
    deps=[benchmark, key(ROSTER)],
    code_version="1",
    automation_condition=ACROSS_CHARACTERS,
    freshness_policy=NIGHT_IS_DONE,
    group_name="benchmark",
    kinds={"parquet"},
    owners=["team:training"],
    description="The benchmark tables of all characters that have one, side by side.",
)
def leaderboard(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    store = workspace.store
    inputs = {name: store.read(name, "benchmark") for name in characters_with(workspace, "benchmark")}
    rows = tables.leaderboard({name: artifact.table() for name, artifact in inputs.items()})
    with store.writing(ALL, "leaderboard") as staging:
        write_table(rows, staging)
        (staging / "leaderboard.md").write_text(tables.leaderboard_markdown(rows) + "\n", encoding="utf-8")
        artifact = store.publish(
            staging,
            ALL,
            "leaderboard",
            code_version=code_version(context),
            inputs={
                f"{PREFIX}/{ROSTER}": content_hash(roster(workspace)),
                **{f"{name}/benchmark": entry.data_version for name, entry in inputs.items()},
            },
            settings={},
        )
    return reported(
        artifact,
        {
            SUMMARY: f"{len(inputs)} characters",
            "leaderboard": table(rows[rows["metric"] == "clip_similarity"], most=len(rows)),
            **described(rows),
        },
    )


def _embedder(work: Making) -> Embedder:
    return open_embedder(
        work.profile.clip,
        resolution=work.profile.resolution,
        background=work.profile.background,
        cache=work.store.cache("embeddings"),
    )


def _selection_requests(work: Making) -> list[Request]:
    prompts = benchmark_prompts(work.character, work.profile)
    styles = dict.fromkeys(prompt.style for prompt in prompts)
    chosen = [
        prompt
        for style in styles
        for prompt in [prompt for prompt in prompts if prompt.style == style][:SELECTION_PROMPTS]
    ]
    return requests_for(chosen, seeds_per_prompt=1, purpose=SELECTION_PURPOSE)


def _of_each_epoch(
    work: Making, embedder: Embedder, checkpoints: Mapping[int, Path]
) -> dict[int, dict[str, np.ndarray]]:
    """Epoch -> style -> embeddings of what each of the `checkpoints` draws for the same requests."""
    requests, opened = _selection_requests(work), cache(lambda: open_pipeline(work.profile))
    generated = {}
    for epoch, path in checkpoints.items():
        images = draw(work, f"epoch {epoch} of {len(checkpoints)}", requests, opened, path)
        generated[epoch] = _by_style(embed(embedder, images), [request.style for request in requests])
    return generated


def _trained(work: Making, embedder: Embedder) -> Trained:
    rows = _pictures_with_style(work)
    rows = rows[rows["split"] == "train"]
    return Trained(_embedded(work, embedder, rows), rows["clip_id"].tolist())


def _pictures_with_style(work: Making) -> pd.DataFrame:
    """The training set's rows with group, clip, frame number and style of each."""
    frames = work.inputs["frames"].table()[["frame_id", "group", "clip_id", "frame_index"]]
    rows = work.inputs["training_set"].table().merge(frames, on="frame_id", validate="one_to_one")
    styles = {name: group.style for name, group in work.character.groups.items()}
    return rows.assign(style=rows["group"].map(styles))


def _embedded(work: Making, embedder: Embedder, rows: pd.DataFrame) -> np.ndarray:
    return embed(embedder, (Image.open(work.inputs["frames"].folder / name) for name in rows["file"]))


def _validation(work: Making, embedder: Embedder) -> dict[str, np.ndarray]:
    rows = _pictures_with_style(work)
    styles = {name: group.style for name, group in work.character.groups.items()}
    chosen = validation_frames(rows[rows["split"] == "train"], styles)
    files = rows.set_index("frame_id")["file"]
    return {
        str(style): _embedded(work, embedder, part.assign(file=part["frame_id"].map(files)))
        for style, part in chosen.groupby("style")
    }


def _by_style(embeddings: np.ndarray, styles: list[str]) -> dict[str, np.ndarray]:
    names = np.asarray(styles)
    return {str(style): embeddings[names == style] for style in dict.fromkeys(styles)}


def _epoch_chart(shown: pd.DataFrame) -> Image.Image:
    return line_chart(
        evidence_curves(shown), title="by epoch (training clips, own seeds)", x="epoch", y="cosine, share"
    )


def _similarity_chart(rows: pd.DataFrame) -> Image.Image:
    chosen = rows[rows["metric"] == "clip_similarity"].to_dict("records")
    intervals = {
        f"{row['style']} · {row['model']}": (float(row["mean"]), float(row["ci_low"]), float(row["ci_high"]))
        for row in chosen
    }
    return interval_chart(intervals, title="CLIP similarity to held-out pictures, 95 % intervals", unit="mean cosine")


def _comparison(work: Making, sampled: pd.DataFrame, held_out: pd.DataFrame) -> Image.Image:
    """Held-out references above what the base model and the LoRA drew for the same prompts and seeds."""
    frames, samples = work.inputs["frames"].folder, work.inputs["samples"].folder
    rows: dict[str, list[Image.Image]] = {
        "held out": [Image.open(frames / name) for name in _spread(held_out, SHOWN_REFERENCES)["file"]]
    }
    for model, part in sampled.groupby("model", sort=False):
        rows[str(model)] = [Image.open(samples / name) for name in _spread(part, SHOWN_REFERENCES)["file"]]
    return sample_grid(rows, [""] * SHOWN_REFERENCES, most=SHOWN_REFERENCES)


def _spread(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rows spread evenly over the table (all where there are fewer)."""
    positions = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    return rows.iloc[positions]


def _headline(rows: pd.DataFrame) -> str:
    chosen = rows[rows["metric"] == "clip_similarity"].set_index(["style", "model"])["mean"]
    parts = [
        f"{style}: base {chosen[style, BASE]:.3f}, LoRA {chosen[style, LORA]:.3f}"
        for style in dict.fromkeys(chosen.index.get_level_values("style"))
        if (style, LORA) in chosen.index
    ]
    return "similarity: " + "; ".join(parts) if parts else "no style has held-out pictures"


def _plotted(rows: pd.DataFrame) -> Mapping[str, float]:
    """Numbers that the UI plots over time, higher is better: the LoRA's similarity in each style."""
    chosen = rows[(rows["metric"] == "clip_similarity") & (rows["model"] == LORA)]
    return {f"similarity_{row['style']}": float(row["mean"]) for row in chosen.to_dict("records")}
