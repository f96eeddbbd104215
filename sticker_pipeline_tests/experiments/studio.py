"""Parts of every experiment: drawings of invented characters, a LoRA trained on them, its metrics.

Each experiment chooses its images, captions and settings (`questions`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.embed import embed, open_embedder
from sticker_pipeline.core.profile import Profile, load_profile
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.core.storage import content_hash, file_sha256
from sticker_pipeline.dataset.manifest import TRAINING_SET
from sticker_pipeline.dataset.pixels import fit_image
from sticker_pipeline.embedded import roster
from sticker_pipeline.embedded.drawing import draw
from sticker_pipeline.embedded.obedience import shares
from sticker_pipeline.embedded.scene import VOCABULARY, Identity, Scene, identity_tags, random_scene, scene_tags
from sticker_pipeline.generation.generate import generate, open_pipeline, with_lora, without_loras
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.media.frames import perceptual_hash
from sticker_pipeline.sampling.weights import frame_weights
from sticker_pipeline.training.spec import TrainingSpec

MODELS = Path(__file__).resolve().parents[2] / "data" / "models"
CHARACTERS = 9000  # number of the first held-out identity used here: none of them is in any report
DRAWS = 640  # images that each training draws, whatever the size of its set
SEEDS_PER_PROMPT = 4
STYLE = "solo, chibi, outline, flat color, transparent background, simple background"
ATTRIBUTES = (
    ("smile", "looking at viewer", "arms up", "full body"),
    ("open mouth", "looking at viewer", "waving", "upper body"),
    ("angry", "looking at viewer", "crossed arms", "upper body"),
    ("crying", "looking at viewer", "arms at sides", "full body"),
    ("closed eyes", "hand on own cheek", "upper body"),
    ("surprised", "looking at viewer", "hands on own hips", "full body"),
)
"""What generated images are asked to show beside the character."""


@dataclass(frozen=True)
class InlineImage:
    """One training image: what is drawn, the caption it gets, and the source that it is a frame of."""

    scene: Scene
    caption: str
    source: str


def invented(number: int) -> Identity:
    """Invented character `number` (>= 0): no model here has seen it, and it is in no other measurement."""
    return roster.heldout_identity(CHARACTERS + number)


def scenes(identity: Identity, count: int, seed: int) -> list[Scene]:
    """`count` random sticker scenes of `identity`."""
    rng = np.random.default_rng([seed, 5])
    return [random_scene(rng, identity, "sticker") for _ in range(count)]


def free_tags(scene: Scene) -> list[str]:
    """The tags of `scene` that are not inherent in who is drawn: expression, gaze, pose, view, prop, background."""
    inherent = {tag for tag in identity_tags(scene.identity) if VOCABULARY[tag] != "count"}
    return [tag for tag in scene_tags(scene) if tag not in inherent]


def curated(*learned: str) -> Callable[[Scene], str]:
    """Return a function that writes a curated caption: learned tags, then tags that are not inherent."""
    return lambda scene: ", ".join([*learned, *free_tags(scene)])


def images(chosen: Sequence[Scene], caption: Callable[[Scene], str], name: str = "still") -> list[InlineImage]:
    """Stills: each scene is a source of its own."""
    return [InlineImage(scene, caption(scene), f"{name}_{number:03d}") for number, scene in enumerate(chosen)]


@functools.cache
def profile() -> Profile:
    """The embedded profile as it ships."""
    return load_profile("embedded", MODELS)


def models_key(*more: Any) -> str:
    """Eight hex digits of the embedded models, the profile's settings and `more`: they tell kept results apart."""
    weights = sorted(path for path in (MODELS / "embedded").rglob("*.*") if path.suffix in (".safetensors", ".onnx"))
    used = profile().model_dump(mode="json", exclude={"base", "tagger", "clip"})
    return content_hash([used, *(file_sha256(path) for path in weights), *more])[:8]


def pixels(scene: Scene) -> Image.Image:
    """The drawing as every model sees it: RGB on white."""
    side = profile().resolution
    return Image.fromarray(fit_image(draw(scene, side), side, side, profile().background))


# --- training ---------------------------------------------------------------------------------------------------------


def train(
    work: Path,
    shown: Sequence[InlineImage],
    trigger: str,
    seed: int,
    *,
    mode: str = "inverse_length",
    draws: int | None = None,
    **settings: Any,
) -> list[Path]:
    """Train a LoRA on `shown` in the folder `work`, with the embedded profile's settings but for `settings`.

    `draws`: images over the whole training, however many the set has; by default DRAWS. Returns the checkpoint of
    each epoch.
    """
    write_training_set(work, shown, mode)
    chosen = TrainingSettings.model_validate({**profile().training.model_dump(), **settings, "seed": seed})
    per_epoch = max(1, (draws or DRAWS) // chosen.epochs)
    chosen = chosen.model_copy(update={"samples_per_epoch": per_epoch})
    return train_on(work, work, trigger, chosen, work / "lora", work / "latents")


def train_on(
    training_set: Path, frames: Path, trigger: str, settings: TrainingSettings, output: Path, cache: Path
) -> list[Path]:
    """Train into `output` on a training set in the asset's form; return the checkpoint of each epoch.

    Latents are cached in `cache`.
    """
    from sticker_pipeline.training.logs.progress import Progress
    from sticker_pipeline.training.train import train as train_lora

    spec = TrainingSpec(
        name=trigger,
        trigger=trigger,
        base=profile().base,
        base_sha=file_sha256(profile().base / "unet" / "diffusion_pytorch_model.safetensors"),
        training_set=training_set,
        frames=frames,
        output=output,
        cache=cache,
        resolution=profile().resolution,
        background=profile().background,
        settings=settings,
        generation=profile().generation,
    )
    train_lora(spec, Progress(lambda line: None))
    return sorted((spec.output / "checkpoints").glob("epoch_*.safetensors"))


def write_training_set(work: Path, shown: Sequence[InlineImage], mode: str) -> None:
    """Images and `index.parquet` as the asset `training_set` has them, weighted by `mode` of sampling."""
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, drawing in enumerate(shown):
        image, file = pixels(drawing.scene), f"{number:03d}.png"
        image.save(work / file)
        rows.append(
            {"frame_id": f"{number:03d}", "file": file, "caption": drawing.caption, "source_id": drawing.source}
        )
        rows[-1]["phash"] = perceptual_hash(image)
    frames = pd.DataFrame(rows).assign(group="images", kept=True)
    weights = frame_weights(frames, {"images": 1.0}, mode, None)
    side = profile().resolution
    table = frames.assign(probability=weights["probability"], bucket_width=side, bucket_height=side, split="train")
    table[TRAINING_SET.names].to_parquet(work / "index.parquet")


# --- judging ----------------------------------------------------------------------------------------------------------


@functools.cache
def _pipeline() -> Any:
    return open_pipeline(profile())


@functools.cache
def _embedder() -> Any:
    return open_embedder(profile().clip, resolution=profile().resolution, background=profile().background)


def generated(
    lora: Path | None, prompts: Sequence[str], seeds: int | None = None, first_seed: int = 1000
) -> list[Image.Image]:
    """Return `seeds` images (default: SEEDS_PER_PROMPT) of each prompt, prompt by prompt.

    They are generated by the base model with the LoRA file, if any.
    """
    seeds = seeds or SEEDS_PER_PROMPT
    requests = [
        Request("sticker", prompt, first_seed + seeds * number + seed)
        for number, prompt in enumerate(prompts)
        for seed in range(seeds)
    ]
    settings = profile().generation
    if lora is None:
        return list(generate(without_loras(_pipeline()), requests, settings, profile().resolution))
    with with_lora(_pipeline(), lora) as model:
        return list(generate(model, requests, settings, profile().resolution))


def embedded(images: Sequence[Image.Image]) -> np.ndarray:
    """Unit CLIP embeddings float32 [n, d]."""
    return embed(_embedder(), images)


def drawn(chosen: Sequence[Scene]) -> np.ndarray:
    """Unit CLIP embeddings of drawings."""
    return embedded([pixels(scene) for scene in chosen])


def found(images: Sequence[Image.Image], asked: Sequence[Sequence[str]]) -> float:
    """Share of the tags `asked` of each image that the tagger finds in it; NaN where nothing is asked."""
    kinds = shares(profile().tagger.parent, np.stack([np.asarray(image) for image in images]), asked).values()
    count = sum(kind.asked for kind in kinds)
    return sum(kind.found * kind.asked for kind in kinds) / count if count else math.nan


def prompts(*learned: str) -> list[str]:
    """The learned tags with each of ATTRIBUTES, in the sticker style."""
    return [", ".join([*learned, STYLE, *attributes]) for attributes in ATTRIBUTES]


def asked() -> list[Sequence[str]]:
    """Return the requested tags of each image of `generated(…, prompts(…))`."""
    return [attributes for attributes in ATTRIBUTES for _ in range(SEEDS_PER_PROMPT)]
