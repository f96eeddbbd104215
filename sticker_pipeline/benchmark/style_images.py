"""Images of invented characters in a style, their features, references and charts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.embed import Embedder, embed
from sticker_pipeline.benchmark.evaluation import Embeddings
from sticker_pipeline.benchmark.features import embedded, tags_found_in
from sticker_pipeline.benchmark.measure import BASE, LORA
from sticker_pipeline.benchmark.style_choice import BASE_EPOCH, METRICS, GeneratedFeatures, StyleEvaluationContext, goal
from sticker_pipeline.core.images import interval_chart, labelled_grid, line_chart
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import Artifact, ArtifactStore
from sticker_pipeline.core.texts import UserError
from sticker_pipeline.dataset.manifest import HOLDOUT, TRAIN
from sticker_pipeline.dataset.style_set import IMAGES
from sticker_pipeline.generation.jobs import Generator, generated
from sticker_pipeline.generation.prompts import Prompt, requests_for
from sticker_pipeline.tagging.wd14 import Tagger

GOAL_SEEDS = 2


class NothingHeldOut(UserError):
    """A style without a held-out image to compare its LoRA with."""


@dataclass(frozen=True)
class StyleSample:
    """Images to generate of a style: `seeds` of each of `prompts`.

    purpose: decides their noise.
    """

    prompts: list[Prompt]
    seeds: int
    purpose: str

    @property
    def asked(self) -> list[str]:
        """The prompted attributes of each image, comma-separated."""
        return [prompt.attributes for prompt in self.prompts for _ in range(self.seeds)]


def selection(prompts: list[Prompt]) -> StyleSample:
    """Images that the epoch is chosen by."""
    return StyleSample(prompts, 1, "style selection")


def goal_sample(prompts: list[Prompt]) -> StyleSample:
    """Images that measure the chosen epoch."""
    return StyleSample(prompts, GOAL_SEEDS, "style goal")


def save_sample(
    generator: Generator, sample: StyleSample, staging: Path, folder: str, lora: Path | None
) -> list[Image.Image]:
    """Generate one model's images and save them in `folder` of `staging`."""
    requests = requests_for(sample.prompts, sample.seeds, sample.purpose)
    images = generated(generator, requests, [(lora, 1.0)] if lora else [])
    (staging / folder).mkdir(parents=True)
    for image, name in zip(images, _files(folder, len(images)), strict=True):
        image.save(staging / name)
    return images


@dataclass(frozen=True)
class Evaluator:
    """The CLIP and the profile's tagger that evaluate images of a style."""

    embedder: Embedder
    tagger: Tagger
    profile: Profile
    store: ArtifactStore

    def features_of(self, images: Sequence[Image.Image], staging: Path, folder: str) -> GeneratedFeatures:
        """Compute features of `images`, as saved by `save_sample`."""
        files = _files(folder, len(images))
        found = tags_found_in(self.tagger, self.profile, self.store, staging, files)
        return GeneratedFeatures(embed(self.embedder, images), found)


def style_evaluation_context(
    evaluator: Evaluator, style: str, training_set: Artifact, asked: Sequence[str]
) -> StyleEvaluationContext:
    """Evaluation context of a style. Raises NothingHeldOut."""
    holdout, trained = (_of_each_character(evaluator.embedder, training_set, split) for split in (HOLDOUT, TRAIN))
    if not holdout:
        raise NothingHeldOut(
            f"Style '{style}': none of its characters has a held-out image to compare with. Add "
            "images, or name files in benchmark.holdout of a character.yaml."
        )
    return StyleEvaluationContext(
        holdout=holdout,
        trained=trained,
        asked=asked,
        tag_names=[label.name for label in evaluator.tagger.labels],
        samples=evaluator.profile.benchmark.bootstrap_samples,
    )


def measured_goal(
    generator: Generator,
    evaluator: Evaluator,
    sample: StyleSample,
    context: StyleEvaluationContext,
    staging: Path,
    lora: Path,
) -> tuple[pd.DataFrame, Image.Image]:
    """Generate and measure the goal (`style_choice.goal`) of base model and `lora`.

    Also returns a grid of the first image of each prompt.
    """
    images = {
        model: save_sample(generator, sample, staging, f"goal/{model}", path)
        for model, path in ((BASE, None), (LORA, lora))
    }
    features = {model: evaluator.features_of(own, staging, f"goal/{model}") for model, own in images.items()}
    shown = [own[:: sample.seeds] for own in images.values()]
    labels = [prompt.attributes for prompt in sample.prompts]
    return goal(features, context), labelled_grid(list(images), labels, shown, cell=84)


def epoch_folder(epoch: int) -> str:
    """Name the folder of an epoch's images."""
    return f"selection/epoch_{epoch:02d}"


def epoch_grid(images: Mapping[int, Sequence[Image.Image]], prompts: Sequence[Prompt]) -> Image.Image:
    """Make a grid: one row per epoch, one for the base model."""
    rows = [f"epoch {epoch}" if epoch != BASE_EPOCH else BASE for epoch in images]
    return labelled_grid(rows, [prompt.attributes for prompt in prompts], list(images.values()), cell=84)


def epoch_chart(choice: pd.DataFrame) -> Image.Image:
    """Chart the metrics of each epoch of `choose_style_epoch`."""
    curves = {name: (choice["epoch"].to_numpy(), choice[name].to_numpy()) for name in METRICS}
    return line_chart(curves, title="by epoch (0: the base model), invented characters", x="epoch", y="cosine, share")


def goal_chart(reached: pd.DataFrame) -> Image.Image:
    """Chart the metrics of the goal, with intervals."""
    shown = reached[~reached["metric"].str.startswith("gain:")].sort_values("metric", kind="stable")
    return interval_chart(
        {
            f"{row['metric']} · {row['model']}": (float(row["mean"]), float(row["ci_low"]), float(row["ci_high"]))
            for row in shown.to_dict("records")
        },
        title="invented characters in the style; 95 % intervals",
        unit="cosine, share",
    )


def headline(reached: pd.DataFrame) -> str:
    """Summarise the goal's metrics in one line: LoRA and base model."""
    mean = reached.set_index(["model", "metric"])["mean"]
    return ", ".join(
        f"{metric.replace('_', ' ')} {mean[LORA, metric]:.3f} (base {mean[BASE, metric]:.3f})" for metric in METRICS
    )


def _files(folder: str, count: int) -> list[str]:
    return [f"{folder}/{number:03d}.png" for number in range(count)]


def _of_each_character(embedder: Embedder, training_set: Artifact, split: str) -> dict[str, Embeddings]:
    rows = training_set.table()
    return {
        str(who): Embeddings(
            embedded(embedder, training_set, [f"{IMAGES}/{name}" for name in part["file"]]), part["source_id"].tolist()
        )
        for who, part in rows[rows["split"] == split].groupby("character")
    }
