"""Embeddings by which choice.py compares epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.choice import SELECTION_PURPOSE, evidence_curves, validation_frames
from sticker_pipeline.benchmark.embed import Embedder, embed
from sticker_pipeline.benchmark.features import by_medium, embedded, mediums_of, with_mediums
from sticker_pipeline.core.character import Character
from sticker_pipeline.core.images import line_chart
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import Artifact
from sticker_pipeline.dataset.manifest import TRAIN
from sticker_pipeline.generation.jobs import Generator, generated
from sticker_pipeline.generation.prompts import Request, benchmark_prompts, first_of_each_medium, requests_for

SELECTION_PROMPTS = 4  # per medium, one seed each: enough to compare epochs, cheap enough for each of them


def selection_requests(character: Character, profile: Profile) -> list[Request]:
    """Requests for every epoch: the first prompts of each medium."""
    prompts = benchmark_prompts(character, profile)
    mediums = dict.fromkeys(prompt.medium for prompt in prompts)
    chosen = first_of_each_medium(prompts, mediums, SELECTION_PROMPTS)
    return requests_for(chosen, seeds_per_prompt=1, purpose=SELECTION_PURPOSE)


def embeddings_of_epochs(
    generator: Generator, embedder: Embedder, requests: Sequence[Request], checkpoints: Mapping[int, Path]
) -> dict[int, dict[str, np.ndarray]]:
    """Epoch -> medium -> unit embeddings float32[n, d] of images for `requests`."""
    mediums = [request.medium for request in requests]
    found = {}
    for epoch, path in checkpoints.items():
        images = generated(generator, requests, [(path, 1.0)])
        found[epoch] = by_medium(embed(embedder, images), mediums)
    return found


def validation_embeddings(
    embedder: Embedder, character: Character, training_set: Artifact, frames: Artifact
) -> dict[str, np.ndarray]:
    """Medium -> unit embeddings float32[n, d] of `validation_frames`."""
    rows = with_mediums(character, training_set, frames)
    rows = rows[rows["split"] == TRAIN]
    chosen = validation_frames(rows, mediums_of(character))
    files = rows.set_index("frame_id")["file"].loc[chosen["frame_id"]].tolist()
    return by_medium(embedded(embedder, frames, files), chosen["medium"].tolist())


def evidence_chart(shown: pd.DataFrame) -> Image.Image:
    """Chart the table of `choice.evidence`."""
    return line_chart(
        evidence_curves(shown), title="by epoch (training sources, own seeds)", x="epoch", y="cosine, share"
    )
