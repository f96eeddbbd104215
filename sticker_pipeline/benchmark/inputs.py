"""Generated images and evaluation context of a benchmark, from artifacts."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from sticker_pipeline.benchmark.embed import Embedder
from sticker_pipeline.benchmark.evaluation import Embeddings, EvaluationContext, GeneratedImages, Requests
from sticker_pipeline.benchmark.features import by_medium, embedded, holdout_references, tags_found, with_mediums
from sticker_pipeline.benchmark.measure import BASE
from sticker_pipeline.core.character import Character, CharacterError
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import Artifact, ArtifactStore, StorageError
from sticker_pipeline.dataset.manifest import TRAIN
from sticker_pipeline.tagging.wd14 import Tagger


def generated_images(
    samples: Artifact, plain: pd.DataFrame, embedder: Embedder, tagger: Tagger, profile: Profile, store: ArtifactStore
) -> dict[str, dict[str, GeneratedImages]]:
    """Model -> medium -> its images, with CLIP embeddings and tags.

    plain: rows without the trigger.
    """
    sampled = samples.table()
    found = tags_found(tagger, profile, store, samples, sampled["file"].tolist())
    generated = {}
    for model, rows in sampled.assign(row=range(len(sampled))).groupby("model", sort=False):
        files, mediums = rows["file"].tolist(), rows["medium"].tolist()
        embeddings, tags = (
            by_medium(embedded(embedder, samples, files), mediums),
            by_medium(found[rows["row"]], mediums),
        )
        without = plain[plain["model"] == model]
        bare = by_medium(embedded(embedder, samples, without["file"].tolist()), without["medium"].tolist())
        generated[str(model)] = {
            medium: GeneratedImages(images, bare.get(medium), tags[medium]) for medium, images in embeddings.items()
        }
    return generated


def evaluation_context(
    character: Character,
    training_set: Artifact,
    frames: Artifact,
    sampled: pd.DataFrame,
    others: Mapping[str, Mapping[str, Embeddings]],
    embedder: Embedder,
    tagger: Tagger,
) -> EvaluationContext:
    """The character's evaluation context; `others` as from `other_references`."""
    rows = with_mediums(character, training_set, frames)
    trained = rows[rows["split"] == TRAIN]
    asked = sampled[sampled["model"] == BASE].groupby("medium")["attributes"]
    return EvaluationContext(
        references=holdout_references(embedder, character, training_set, frames),
        training=Embeddings(
            embedded(embedder, frames, trained["file"].tolist()),
            trained["source_id"].tolist(),
            trained["medium"].tolist(),
        ),
        others=others,
        requests={str(medium): Requests(part.tolist(), part.tolist()) for medium, part in asked},
        tag_names=[label.name for label in tagger.labels],
    )


def other_references(
    names: Sequence[str], load: Callable[[str], Character], store: ArtifactStore, embedder: Embedder
) -> tuple[dict[str, dict[str, Embeddings]], dict[str, str], list[str]]:
    """Held-out images of every other character by medium.

    Also returns the data version of each one's training set, and a sentence about each unreadable one.
    """
    found, versions, problems = {}, {}, []
    for name in names:
        try:
            other = load(name)
            training_set, frames = (store.read(name, asset) for asset in ("training_set", "frames"))
            found[name] = holdout_references(embedder, other, training_set, frames)
        except (CharacterError, StorageError, OSError) as error:
            problems.append(f"The character '{name}' is left out of `identity`: {error}")
            continue
        versions[name] = training_set.data_version
    return found, versions, problems
