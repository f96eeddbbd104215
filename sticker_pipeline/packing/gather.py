"""Candidates of a character, gathered from artifacts: pixels, measures, reasons."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.embed import Embedder, embed
from sticker_pipeline.benchmark.evaluation import Embeddings
from sticker_pipeline.benchmark.features import embedded, tags_found_in, with_mediums
from sticker_pipeline.benchmark.similarity import source_means
from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import Artifact, ArtifactStore
from sticker_pipeline.dataset.manifest import HOLDOUT, TRAIN
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.frames import pixel_sha256, unchanged_bytes
from sticker_pipeline.packing.animation import still
from sticker_pipeline.packing.candidates import (
    CANDIDATES,
    GENERATED,
    OWN,
    CutEvidence,
    OwnImages,
    measured,
    with_reasons,
)
from sticker_pipeline.packing.evidence import cut_evidence
from sticker_pipeline.packing.generated import SlotRequest
from sticker_pipeline.packing.own import OwnFile
from sticker_pipeline.tagging.wd14 import Tagger

FOLDER = "candidates"  # of images in the artifact
UNMEASURED = {
    "fidelity": float("nan"),
    "likeness": float("nan"),
    "nearest": float("nan"),
    "copy_bound": float("nan"),
    "nearest_character": "",
}


@dataclass(frozen=True)
class Models:
    """Models that measure candidates."""

    embedder: Embedder
    tagger: Tagger
    profile: Profile
    store: ArtifactStore


def own_images(
    models: Models,
    character: Character,
    training_set: Artifact,
    frames: Artifact,
    others: dict[str, dict[str, Embeddings]],
) -> OwnImages:
    """Return the embeddings of the character's images, and other characters' sources."""
    rows = with_mediums(character, training_set, frames)
    vectors = embedded(models.embedder, frames, rows["file"].tolist())
    split, sources = rows["split"].to_numpy(), rows["source_id"].tolist()
    held = split == HOLDOUT
    return OwnImages(
        vectors=vectors,
        sources=sources,
        training=vectors[split == TRAIN],
        holdout=vectors[held],
        holdout_sources=rows["source_id"][held].tolist(),
        others={
            who: np.concatenate([source_means(each.vectors, each.sources) for each in mediums.values()])
            for who, mediums in others.items()
            if mediums
        },
    )


def generated_candidates(
    requests: Sequence[SlotRequest],
    images: Sequence[Image.Image],
    models: Models,
    own: OwnImages,
    name: str,
    release: int,
    staging: Path,
) -> pd.DataFrame:
    """Save generated images in `staging`; return their rows of CANDIDATES."""
    rows, kept = [], []
    for asked, image in zip(requests, images, strict=True):
        pixels = np.asarray(image.convert("RGBA"))
        row = {
            "candidate": candidate_name(asked.slot, pixels),
            "slot": asked.slot,
            "own_slot": "",
            "origin": GENERATED,
            "source": "",
            "prompt": asked.request.prompt,
            "attributes": asked.attributes,
            "seed": asked.request.seed,
            "release": release,
            "twin": "",
            "frames": 1,
        }
        rows.append(_saved(row, pixels, staging))
        kept.append(image)
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    found = tags_found_in(models.tagger, models.profile, models.store, staging, table["file"].tolist())
    names = [label.name for label in models.tagger.labels]
    # Another seed may give the same pixels: one of them is enough.
    vectors = embed(models.embedder, kept)
    once = ~table.duplicated("candidate")
    table, vectors, found = table[once].reset_index(drop=True), vectors[once], found[once]
    return with_reasons(measured(table, vectors, found, names, own, name), name)[CANDIDATES.names]


def own_candidates(
    files: Sequence[OwnFile], character: Character, profile: Profile, n_frames: dict[str, int], staging: Path
) -> Iterator[tuple[pd.DataFrame, list[str]]]:
    """Save the first frame of each own file in `staging`.

    Yields its row, or a problem.
    """
    for file in files:
        try:
            data = unchanged_bytes(character.folder / file.path, file.sha256, profile.media, character.roots)
            first = next(iter(decode_bytes(data, profile.media)))
        except (MediaError, StopIteration) as error:
            yield pd.DataFrame(columns=CANDIDATES.names), [f"{file.path} is no candidate: {error}"]
            continue
        row = {
            "candidate": f"{file.own_slot}-{file.sha256[:8]}",
            "slot": file.slot,
            "own_slot": file.own_slot,
            "origin": OWN,
            "source": file.path,
            "prompt": "",
            "attributes": "",
            "seed": 0,
            "release": 0,
            "twin": file.twin,
            "frames": n_frames[file.path],
            **UNMEASURED,
        }
        yield with_reasons(pd.DataFrame([_saved(row, first.rgba, staging)]), character.name)[CANDIDATES.names], []


def candidate_name(slot: str, pixels: np.ndarray) -> str:
    """Return a generated candidate's name: the same image keeps it."""
    return f"{slot}-{pixel_sha256(pixels)[:8]}"


def _saved(row: dict[str, object], pixels: np.ndarray, staging: Path) -> dict[str, object]:
    file = f"{FOLDER}/{row['candidate']}.png"
    (staging / FOLDER).mkdir(exist_ok=True)
    Image.fromarray(pixels, "RGBA").save(staging / file)
    return {**row, "file": file, **shown_evidence(cut_evidence(still(pixels)))}


def shown_evidence(evidence: CutEvidence) -> dict[str, object]:
    """Return the columns of a cut-out's evidence."""
    return {
        "flat": evidence.flat,
        "cut_out": evidence.is_possible,
        "specks": evidence.specks,
        "cut_off": evidence.cut_off,
    }


def vectors_of(images: Sequence[Path], embedder: Embedder) -> np.ndarray:
    """Return the embeddings of image files, unit rows float32[n, d]."""
    return embed(embedder, map(Image.open, images))
