"""Trains the embedded CLIP and writes it as an open_clip `local-dir` with tokenizer.

It learns from training identities and the tagger's known characters: images of one character lie close together, others
apart, and words near their images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sticker_pipeline.embedded import loop
from sticker_pipeline.embedded.dataset import PER_IDENTITY, Drawings, flatten

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTokenizer

IMAGE_SIZE = 64
PLAN: loop.Plan = loop.Plan(
    steps=1000, batch=96, matrix_rate=3e-3, warmup=100, decay_from=0.4, ema=0.998, weight_decay=0.05, seed=5
)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI CLIP's
TEMPERATURE = 0.07  # of the image-image loss
TEXT_SHARE = 0.3  # weight of the image-word loss


def model_config(vocabulary: int) -> dict[str, Any]:
    """open_clip's config: ModifiedResNet of four blocks, text tower of two layers."""
    return {
        "embed_dim": 128,
        "quick_gelu": True,
        "vision_cfg": {"image_size": IMAGE_SIZE, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": vocabulary,
            "hf_tokenizer_name": ".",
            "width": 96,
            "heads": 4,
            "layers": 2,
        },
    }


def new_source(vocabulary: int, seed: int) -> torch.nn.Module:
    """An untrained open_clip model of `model_config`."""
    import torch
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    config = model_config(vocabulary)
    text = {key: value for key, value in config["text_cfg"].items() if key != "hf_tokenizer_name"}
    return CLIP(config["embed_dim"], config["vision_cfg"], text, quick_gelu=config["quick_gelu"])


def normalised(images: np.ndarray) -> torch.Tensor:
    """Preprocess RGB 0–255 as the shipped model does.

    [N, 96, 96, 3] -> float32 [N, 3, 64, 64].
    """
    import torch
    import torch.nn.functional as F

    source = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)) / 255.0
    small = F.interpolate(source, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bicubic", antialias=True).clamp(0, 1)
    return (small - torch.tensor(MEAN)[None, :, None, None]) / torch.tensor(STD)[None, :, None, None]


def pair_rows(identity: np.ndarray, pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Sample rows int64 [2, pairs]: two drawings each of `pairs` identities."""
    starts = np.arange(0, len(identity), PER_IDENTITY)
    chosen: list[int] = []
    seen: set[int] = set()
    for start in rng.permutation(starts):
        if len(chosen) == pairs:
            break
        if int(identity[start]) not in seen:
            seen.add(int(identity[start]))
            chosen.append(int(start))
    two = np.stack([rng.choice(PER_IDENTITY, 2, replace=False) for _ in chosen])
    return (np.array(chosen)[:, None] + two).T


def view(drawings: Drawings, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return RGB 0–255 [n, 96, 96, 3], warped, relit, noisy, half mirrored."""
    from sticker_pipeline.embedded.tagger import warp

    images = warp(flatten(drawings.pixels[rows]), rng)
    mirrored = rng.random(len(rows)) < 0.5
    images[mirrored] = images[mirrored, :, ::-1]
    light = rng.uniform(0.93, 1.05, (len(rows), 1, 1, 1))
    return (images * light + rng.normal(0, 2.0, images.shape)).clip(0, 255)


def contrast(first: torch.Tensor, second: torch.Tensor, temperature: torch.Tensor | float) -> torch.Tensor:
    """Symmetric InfoNCE of normalised [n, d]; equal rows match."""
    import torch
    import torch.nn.functional as F

    logits = first @ second.T / temperature
    right = torch.arange(len(first), device=first.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def words_of(drawings: Drawings, row: int, rng: np.random.Generator) -> str:
    """Sample shuffled words: most identity tags, sometimes most of all tags."""
    tags = drawings.tags[row] if rng.random() < 0.3 else drawings.identity_words[row]
    kept = [tag for tag in tags if rng.random() < 0.85]
    return ", ".join(kept[index] for index in rng.permutation(len(kept)))


def train(
    drawings: Drawings,
    tokenizer: CLIPTokenizer,
    plan: loop.Plan,
    checkpoint: Path,
    save: Callable[[torch.nn.Module], None],
    say: Callable[[str], None],
) -> float:
    """Train or resume; `save` the averaged model; return seconds of training."""
    import torch

    from sticker_pipeline.embedded.base import token_ids

    model: Any = new_source(len(tokenizer), plan.seed)
    model.visual.to(memory_format=torch.channels_last)
    training = loop.Training({"clip": model}, {"clip": 1.0}, plan)
    pairs = plan.batch // 2

    def loss_at(step: int) -> torch.Tensor:
        rng = np.random.default_rng([plan.seed, step])
        rows = pair_rows(drawings.identity, pairs, rng)
        images = normalised(view(drawings, rows.ravel(), rng)).to(loop.device(), memory_format=torch.channels_last)
        ids = token_ids(tokenizer, [words_of(drawings, int(row), rng) for row in rows[0]]).to(loop.device())
        with loop.autocast():
            seen = model.encode_image(images, normalize=True).float()
            read = model.encode_text(ids, normalize=True).float()
        same = contrast(seen[:pairs], seen[pairs:], TEMPERATURE)
        warmth = 1.0 / model.logit_scale.exp().clamp(max=100.0)
        worded = (contrast(seen[:pairs], read, warmth) + contrast(seen[pairs:], read, warmth)) / 2
        return same + TEXT_SHARE * worded

    loop.run(training, loss_at, checkpoint, label="clip", say=say, snapshot=lambda: save(model))
    return training.seconds


def save_clip(folder: Path, model: torch.nn.Module, tokenizer: CLIPTokenizer) -> None:
    """Write open_clip's config and weights, and the tokenizer, into `folder`.

    Float tensors of two or more dimensions become float16, others keep their dtype.
    """
    import torch
    from safetensors.torch import save_file

    from sticker_pipeline.embedded.tokenizer import save_tokenizer

    save_tokenizer(tokenizer, folder)
    preprocess = {
        "size": IMAGE_SIZE,
        "mode": "RGB",
        "mean": MEAN,
        "std": STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": model_config(len(tokenizer)), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {}
    for key, value in model.state_dict().items():
        small = value.is_floating_point() and value.ndim > 1
        weights[key] = value.detach().cpu().to(torch.float16 if small else value.dtype).contiguous().clone()
    save_file(weights, folder / "open_clip_model.safetensors")


def embed(folder: Path, rgb: np.ndarray) -> np.ndarray:
    """Embed RGB 0–255 with the model in `folder`.

    [N, 96, 96, 3] -> normalised float32 [N, d].
    """
    import open_clip
    import torch
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(rgb), 64):
            part = [preprocess(Image.fromarray(image.astype(np.uint8))) for image in rgb[start : start + 64]]
            rows.append(model.encode_image(torch.stack(part), normalize=True).float().numpy())
    return np.concatenate(rows)


@dataclass(frozen=True)
class Separation:
    """Area under the ROC curve of `same character` by cosine.

    For all pairs of images, within each medium, and across mediums.
    """

    auc: float
    auc_sticker: float
    auc_art: float
    auc_across: float
    images: int
    identities: int


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive score exceeds a negative one; ties count half.

    Mann–Whitney U / n1 n2.
    """
    values = np.concatenate([positive, negative])
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.bincount(group, weights=ranks) / counts)[group]
    excess = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(excess / (len(positive) * len(negative)))


def separation(embeddings: np.ndarray, identity: Sequence[int] | np.ndarray, sticker: np.ndarray) -> Separation:
    """Measure how cosines of normalised `embeddings` [N, d] separate characters."""
    left, right = np.triu_indices(len(embeddings), k=1)
    cosine = (embeddings @ embeddings.T)[left, right]
    same = np.asarray(identity)[left] == np.asarray(identity)[right]
    stickers = sticker[left].astype(int) + sticker[right].astype(int)

    def among(chosen: np.ndarray) -> float:
        return auc(cosine[chosen & same], cosine[chosen & ~same])

    return Separation(
        auc=among(np.ones(len(cosine), dtype=bool)),
        auc_sticker=among(stickers == 2),
        auc_art=among(stickers == 0),
        auc_across=among(stickers == 1),
        images=len(embeddings),
        identities=len(set(np.asarray(identity).tolist())),
    )
