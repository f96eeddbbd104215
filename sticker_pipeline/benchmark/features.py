"""CLIP embeddings and tags of images in artifacts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.embed import Embedder, embed, open_embedder
from sticker_pipeline.benchmark.evaluation import Embeddings
from sticker_pipeline.benchmark.fidelity import found_tags
from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import Artifact, ArtifactStore
from sticker_pipeline.dataset.manifest import TRAIN
from sticker_pipeline.media.frames import pixel_sha256
from sticker_pipeline.tagging.scoring import score_frames
from sticker_pipeline.tagging.thresholds import per_frame, resolved
from sticker_pipeline.tagging.wd14 import Tagger, category_columns


def embedder_of(profile: Profile, store: ArtifactStore) -> Embedder:
    return open_embedder(
        profile.clip,
        resolution=profile.resolution,
        background=profile.background,
        cache=store.cache("embeddings"),
    )


def with_mediums(character: Character, training_set: Artifact, frames: Artifact) -> pd.DataFrame:
    """Add group, source, frame number and medium to the training set's rows."""
    lineage = frames.table()[["frame_id", "group", "source_id", "frame_index"]]
    rows = training_set.table().merge(lineage, on="frame_id", validate="one_to_one")
    return rows.assign(medium=rows["group"].map(mediums_of(character)))


def mediums_of(character: Character) -> dict[str, str]:
    return {name: group.medium for name, group in character.groups.items()}


def embedded(embedder: Embedder, artifact: Artifact, files: Sequence[str]) -> np.ndarray:
    """Unit embeddings float32[n, d] of the artifact's `files`."""
    folder = artifact.fetched(files)
    return embed(embedder, (Image.open(folder / name) for name in files))


def holdout_references(
    embedder: Embedder, character: Character, training_set: Artifact, frames: Artifact
) -> dict[str, Embeddings]:
    """Medium -> the character's held-out images."""
    rows = with_mediums(character, training_set, frames)
    return {
        str(medium): Embeddings(embedded(embedder, frames, part["file"].tolist()), part["source_id"].tolist())
        for medium, part in rows[rows["split"] == "holdout"].groupby("medium")
    }


def trained_images(embedder: Embedder, character: Character, training_set: Artifact, frames: Artifact) -> Embeddings:
    """All images that the character's LoRA was trained on."""
    rows = with_mediums(character, training_set, frames)
    rows = rows[rows["split"] == TRAIN]
    return Embeddings(embedded(embedder, frames, rows["file"].tolist()), rows["source_id"].tolist())


def by_medium(values: np.ndarray, mediums: Sequence[str]) -> dict[str, np.ndarray]:
    """Medium -> its rows of `values`, in order."""
    names = np.asarray(mediums)
    return {str(medium): values[names == medium] for medium in dict.fromkeys(mediums)}


def tags_found(
    tagger: Tagger, profile: Profile, store: ArtifactStore, artifact: Artifact, files: list[str]
) -> np.ndarray:
    """Find tags on the artifact's `files`: bool[n, tags]."""
    return tags_found_in(tagger, profile, store, artifact.fetched(files), files)


def tags_found_in(tagger: Tagger, profile: Profile, store: ArtifactStore, folder: Path, files: list[str]) -> np.ndarray:
    """Find tags on `files` in a folder: bool[n, tags]."""
    named = {name: (folder / name, _pixels(folder / name)) for name in files}
    scores = score_frames(named, tagger, store.cache("wd14"), profile.tagging.batch_size).scores
    columns = category_columns(tagger.labels)
    return found_tags(scores, per_frame(resolved(profile), scores, columns), columns)


def _pixels(path: Path) -> str:
    with Image.open(path) as image:
        return pixel_sha256(np.asarray(image.convert("RGBA")))
