"""The chosen epoch of a training, an asset of the stage `benchmark`."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.choice import (
    CHOICE,
    SELECTION_PURPOSE,
    checkpoint_metrics,
    choice_table,
    choose_epoch,
    copies_allowed,
    evidence,
    evidence_curves,
    validation_frames,
    validation_losses,
)
from sticker_pipeline.benchmark.embed import Embedder, embed
from sticker_pipeline.benchmark.features import by_style, clip_of, embedded, styles_of, trained_pictures, with_styles
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, picture, table
from sticker_pipeline.dagster_kit.pools import GPU
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.automation import FOLLOW
from sticker_pipeline.defs.benchmark.samples import draw
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.room import check_images
from sticker_pipeline.defs.scopes import CharacterStep, made_from, of_character
from sticker_pipeline.defs.training.lora import checkpoints_of
from sticker_pipeline.generation.generate import open_pipeline
from sticker_pipeline.generation.prompts import Request, benchmark_prompts, requests_for
from sticker_pipeline.pictures import line_chart
from sticker_pipeline.storage import link_or_copy, write_table
from sticker_pipeline.training.tables import HELD_OUT

SELECTION_PROMPTS = (
    4  # per style, one seed each: enough to tell a good epoch from a bad one, cheap enough for every one
)


@dg.asset(
    **made_from("lora", "training_set", "frames", uses=["generation", "benchmark", "choice"]),
    partitions_def=CHARACTERS,
    code_version="3",
    automation_condition=FOLLOW,
    group_name="benchmark",
    kinds={"open-clip", "parquet"},
    metadata=columns(CHOICE),
    pool=GPU,
    description="The epoch to use, by a stated rule: none after the loss on validation pictures has stopped falling, "
    "none that copies, none clearly less like the character than the best; of these the one with the lowest loss.",
)
@once
def selected_lora(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        embedder = clip_of(work.profile, work.store)
        checkpoints = checkpoints_of(work.inputs["lora"])
        generated = _of_each_epoch(work, embedder, checkpoints)
        settings = work.character.settings.benchmark
        losses = validation_losses(work.inputs["lora"].table(HELD_OUT.file))
        trained = trained_pictures(embedder, work.character, work.inputs["training_set"], work.inputs["frames"])
        choice = choose_epoch(
            checkpoint_metrics(generated, _validation(work, embedder), trained),
            losses,
            patience=settings.patience,
            most_copies=copies_allowed(settings.gate.copies, trained),
        )
        epoch = int(choice.loc[choice["chosen"], "epoch"].iloc[0])
        link_or_copy(checkpoints[epoch], work.staging / "lora.safetensors")
        write_table(choice_table(choice), work.staging, CHOICE)
        shown = evidence(choice)
        return work.publish(
            {
                SUMMARY: f"epoch {epoch} of {len(checkpoints)}",
                "epoch": epoch,
                "why": str(shown.loc[shown["chosen"], "reason"].iloc[0]),
                "by_epoch": picture(_epoch_chart(shown), "similarity by epoch"),
                "evidence": table(shown),
                "file": dg.MetadataValue.path(work.store.folder(work.character.name, "selected_lora")),
                **described(choice, CHOICE),
            }
        )


def _selection_requests(work: CharacterStep) -> list[Request]:
    prompts = benchmark_prompts(work.character, work.profile)
    styles = dict.fromkeys(prompt.style for prompt in prompts)
    chosen = [
        prompt
        for style in styles
        for prompt in [prompt for prompt in prompts if prompt.style == style][:SELECTION_PROMPTS]
    ]
    return requests_for(chosen, seeds_per_prompt=1, purpose=SELECTION_PURPOSE)


def _of_each_epoch(
    work: CharacterStep, embedder: Embedder, checkpoints: Mapping[int, Path]
) -> dict[int, dict[str, np.ndarray]]:
    """Epoch -> style -> embeddings of what each of the `checkpoints` draws for the same requests."""
    requests, opened = _selection_requests(work), cache(lambda: open_pipeline(work.profile))
    check_images(work, len(requests) * len(checkpoints), copies=1)
    generated = {}
    for epoch, path in checkpoints.items():
        images = draw(work, f"epoch {epoch} of {len(checkpoints)}", requests, opened, [(path, 1.0)])
        generated[epoch] = by_style(embed(embedder, images), [request.style for request in requests])
    return generated


def _trained_rows(work: CharacterStep) -> pd.DataFrame:
    rows = with_styles(work.character, work.inputs["training_set"], work.inputs["frames"])
    return rows[rows["split"] == "train"]


def _validation(work: CharacterStep, embedder: Embedder) -> dict[str, np.ndarray]:
    rows = _trained_rows(work)
    chosen = validation_frames(rows, styles_of(work.character))
    files = rows.set_index("frame_id")["file"].loc[chosen["frame_id"]].tolist()
    return by_style(embedded(embedder, work.inputs["frames"], files), chosen["style"].tolist())


def _epoch_chart(shown: pd.DataFrame) -> Image.Image:
    return line_chart(
        evidence_curves(shown), title="by epoch (training clips, own seeds)", x="epoch", y="cosine, share"
    )
