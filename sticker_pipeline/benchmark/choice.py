"""The choice of the epoch that becomes the LoRA.

The rule, in this order:

1. *Early stopping*: once the loss on validation images has not fallen below its lowest for `patience` epochs, later
   epochs are out: they overfit.
2. *Memorisation*: epochs are out if more than `most_copies` of their images are copies (see `copied`). If all are, the
   one with the fewest copies is chosen, and the gate decides.
3. *Similarity*: epochs are out whose similarity is below the lower end of the most similar one's interval: only
   differences beyond chance count.
4. *Loss*: the lowest on validation images wins; without one, the most similar; of equal ones the earliest, which had
   the least time to copy.

Held-out references and seeds of the benchmark are not used, or the chosen model would look better there than it is. So
the loss is that of the split `validation` (dataset/manifest.py), not of `holdout`. Similarity is that to training
images, which also define copies.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sticker_pipeline.benchmark.evaluation import Embeddings
from sticker_pipeline.benchmark.gate import copies_by_chance
from sticker_pipeline.benchmark.memorisation import COPY_PERCENTILE, nearest_training
from sticker_pipeline.benchmark.similarity import clip_similarity, cosines, diversity
from sticker_pipeline.core.schemas import Column, TableSchema, typed
from sticker_pipeline.core.texts import counted

SELECTION_PURPOSE = "selection"  # of generation.prompts.requests_for: seeds differ from the benchmark's
VALIDATION = "validation"  # the split in the training's table of losses on fixed images
CHOICE = TableSchema(
    "each epoch",
    (
        Column("epoch", "int64", "number of the epoch, from 1", low=1),
        Column("metrics", "str", "the evidence as a JSON object: the name of each metric and its value"),
        Column("chosen", "bool", "whether it is used: true in one row"),
        Column("reason", "str", "why it was chosen, or not"),
    ),
    key=("epoch",),
)


def validation_frames(frames: pd.DataFrame, mediums: Mapping[str, str], *, most: int = 16) -> pd.DataFrame:
    """Select the images that epochs are compared with.

    The middle frame of each training source, at most `most` sources per medium: those with the lowest SHA-256 of their
    id, so that a new source replaces at most one. frames: frame_id, group, source_id, frame_index of the training split
    only; mediums: group -> medium. Returns frame_id, medium, source_id, sorted by medium and source_id.

    Similarity to these trained images rewards copying, for all epochs alike. Read it beside `nearest_training` and
    `diversity`.
    """
    ordered = frames.sort_values(["source_id", "frame_index"], kind="stable")
    rank, size = ordered.groupby("source_id").cumcount(), ordered.groupby("source_id")["frame_id"].transform("size")
    middle = ordered[rank == (size - 1) // 2]
    middle = middle.assign(
        medium=middle["group"].map(dict(mediums)),
        key=[hashlib.sha256(source.encode()).hexdigest() for source in middle["source_id"]],
    )
    chosen = middle.sort_values("key").groupby("medium").head(most)
    return chosen.sort_values(["medium", "source_id"])[["frame_id", "medium", "source_id"]].reset_index(drop=True)


def checkpoint_metrics(
    generated: Mapping[int, Mapping[str, np.ndarray]],
    validation: Mapping[str, np.ndarray],
    trained: Embeddings | None = None,
    *,
    samples: int = 2_000,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per epoch: epoch, metrics (a dictionary of floats).

    generated: epoch -> medium -> unit embeddings float[n, d] on the same requests; validation: medium -> unit
    embeddings float[v, d].

    Metrics: `clip_similarity`, `diversity`, `nearest_training` (to the validation images), `clip_similarity_low` and
    `_high` (95 % bounds), each the plain mean over mediums; `n` images; with `trained`, `copies`: their share of all
    images. Raises ValueError for an epoch without images of a validation medium.
    """
    rows = []
    threshold = copy_threshold(trained) if trained else math.nan
    for epoch in sorted(generated):
        mediums = [medium for medium in sorted(generated[epoch]) if len(validation.get(medium, ()))]
        if not mediums:
            raise ValueError(f"Epoch {epoch} has no generated images of a medium that has validation images.")
        parts = [_style_metrics(generated[epoch][medium], validation[medium], samples, seed) for medium in mediums]
        metrics = _over_mediums(parts)
        if trained:
            images = np.concatenate([generated[epoch][medium] for medium in mediums])
            metrics["copies"] = copied(images, trained, threshold)
        rows.append({"epoch": epoch, "metrics": metrics})
    return pd.DataFrame(rows, columns=["epoch", "metrics"])


def copy_threshold(trained: Embeddings) -> float:
    """Cosine to a training image above which an image is a copy.

    The 95th percentile over sources of the cosine to the nearest image of another source: new images of the character
    rarely exceed it. A source counts once, by the median of its frames. NaN for fewer than two sources.
    """
    sources = np.asarray(trained.sources, dtype=str)
    between = cosines(trained.vectors, trained.vectors)
    between[sources[:, None] == sources[None, :]] = -np.inf
    nearest = between.max(axis=1)
    each = [float(np.median(nearest[sources == source])) for source in np.unique(sources)]
    return float(np.quantile(each, COPY_PERCENTILE)) if len(each) > 1 else math.nan


def copied(images: np.ndarray, trained: Embeddings, threshold: float) -> float:
    """Share of unit embeddings float[n, d] nearer to training than `threshold`.

    NaN if `threshold` is. It rewards any difference from training images: noise is never a copy.
    """
    nearest = cosines(images, trained.vectors).max(axis=1)
    return math.nan if math.isnan(threshold) else float((nearest > threshold).mean())


def copies_allowed(limit: float, trained: Embeddings) -> float:
    """`most_copies` of rule 2: `limit` (gate.copies) or more.

    It is at least what few sources give by chance (gate.copies_by_chance).
    """
    return max(limit, copies_by_chance(len(set(trained.sources))))


def validation_losses(fixed: pd.DataFrame) -> dict[int, float]:
    """Epoch (0: before the first step) -> loss on the split `validation`.

    fixed: a training's validation_loss.parquet. Empty without such images.
    """
    rows = fixed[fixed["split"] == VALIDATION]
    return {int(epoch): float(loss) for epoch, loss in zip(rows["epoch"], rows["loss"], strict=True)}


def choose_epoch(
    metrics: pd.DataFrame, losses: Mapping[int, float] | None = None, *, patience: int = 3, most_copies: float = 1.0
) -> pd.DataFrame:
    """Sort `metrics` (epoch, metrics) by epoch and add `chosen` and `reason`.

    chosen: true in one row. reason: a sentence. `losses` (see validation_losses) are added as `validation_loss`.
    Without `copies`, rule 2 is skipped; without `clip_similarity_low`, rule 3 uses the similarity itself. Raises
    ValueError for an empty table or where no similarity is a number.
    """
    table = metrics.sort_values("epoch", kind="stable").reset_index(drop=True)
    found = {int(epoch): dict(entry) for epoch, entry in zip(table["epoch"], table["metrics"], strict=True)}
    for epoch, loss in (losses or {}).items():
        if epoch in found:
            found[epoch]["validation_loss"] = loss
    left = [epoch for epoch, entry in found.items() if math.isfinite(entry["clip_similarity"])]
    if not left:
        raise ValueError("No epoch has a similarity: there is nothing to choose from.")
    reasons = {epoch: "not: no similarity was measured." for epoch in found if epoch not in left}
    steps = (
        lambda left: _stopped_early(losses or {}, left, patience),
        lambda left: _copying(found, left, most_copies),
        lambda left: _less_similar(found, left),
        lambda left: _beaten(found, left),
    )
    for step in steps:
        out = step(left)
        reasons |= out
        left = [epoch for epoch in left if epoch not in out]
    (chosen,) = left
    reasons[chosen] = _why(found, chosen, reasons, most_copies)
    return table.assign(
        metrics=pd.Series(list(found.values()), dtype=object),
        chosen=[epoch == chosen for epoch in found],
        reason=[reasons[epoch] for epoch in found],
    )


def choice_table(choice: pd.DataFrame) -> pd.DataFrame:
    """Convert the result of choose_epoch to the table CHOICE."""
    return typed(choice.assign(metrics=choice["metrics"].map(json.dumps)), CHOICE)


def evidence(choice: pd.DataFrame) -> pd.DataFrame:
    """Flatten the result of choose_epoch: epoch, chosen, reason, each metric."""
    flat = pd.json_normalize(choice["metrics"].tolist())
    return pd.concat([choice[["epoch", "chosen", "reason"]], flat], axis=1)


def evidence_curves(shown: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> (epochs, values) of the result of `evidence`, for one plot.

    The loss is divided by that of the first epoch, to fit the scale of the others.
    """
    epochs = shown["epoch"].to_numpy()
    names = ("clip_similarity", "diversity", "nearest_training", "copies")
    curves = {name: (epochs, shown[name].to_numpy()) for name in names if name in shown}
    if "validation_loss" in shown:
        losses = shown["validation_loss"].to_numpy()
        curves["validation loss / first"] = (epochs, losses / losses[0])
    return curves


Found = Mapping[int, Mapping[str, float]]  # epoch -> its metrics


def _stopped_early(losses: Mapping[int, float], left: Sequence[int], patience: int) -> dict[int, str]:
    lowest, last = None, None
    for epoch in sorted(losses):
        if lowest is None or losses[epoch] < losses[lowest]:
            lowest = epoch
        elif epoch - lowest >= patience:
            last = epoch
            break
    if last is None:
        return {}
    sentence = f"not: trained on after the loss on validation images had not fallen for {counted(patience, 'epoch')}"
    late = {epoch: f"{sentence} (lowest at epoch {lowest})." for epoch in left if epoch > last}
    return late if len(late) < len(left) else {}


def _copying(found: Found, left: Sequence[int], most: float) -> dict[int, str]:
    copies = {epoch: found[epoch].get("copies", math.nan) for epoch in left}
    out = {
        epoch: f"not: {share:.0%} of its images are copies of training images; the limit is {most:.0%}."
        for epoch, share in copies.items()
        if share > most
    }
    if len(out) == len(left):
        del out[min(left, key=lambda epoch: copies[epoch])]
    return out


def _less_similar(found: Found, left: Sequence[int]) -> dict[int, str]:
    best = _most_similar(found, left)
    low = found[best].get("clip_similarity_low", math.nan)
    bound = low if math.isfinite(low) else found[best]["clip_similarity"]
    return {
        epoch: f"not: its similarity {found[epoch]['clip_similarity']:.3f} is below {bound:.3f}, the lower end of the "
        f"interval of epoch {best}."
        for epoch in left
        if found[epoch]["clip_similarity"] < bound
    }


def _beaten(found: Found, left: Sequence[int]) -> dict[int, str]:
    if all(_has_loss(found[epoch]) for epoch in left):
        best = min(left, key=lambda epoch: found[epoch]["validation_loss"])
        name, words = "validation_loss", "its loss on validation images"
    else:
        best = _most_similar(found, left)
        name, words = "clip_similarity", "its similarity"
    return {
        epoch: f"not: {words} is {found[epoch][name]:.4f}, that of epoch {best} {found[best][name]:.4f}."
        for epoch in left
        if epoch != best
    }


def _why(found: Found, chosen: int, others: Mapping[int, str], most: float) -> str:
    entry = found[chosen]
    if entry.get("copies", math.nan) > most:
        return f"chosen: {entry['copies']:.0%} of its images are copies of training images, and it copies least."
    if not others:
        return "chosen: it is the only epoch."
    if _has_loss(entry):
        return (
            f"chosen: the lowest loss on validation images ({entry['validation_loss']:.4f}) of the epochs that do "
            f"not copy and are as like the character as the best (its similarity is {entry['clip_similarity']:.3f})."
        )
    return (
        f"chosen: the most similar of the epochs that do not copy ({entry['clip_similarity']:.3f}); there are no "
        "validation images."
    )


def _most_similar(found: Found, left: Sequence[int]) -> int:
    return max(left, key=lambda epoch: found[epoch]["clip_similarity"])  # of equal ones the first


def _has_loss(entry: Mapping[str, float]) -> bool:
    return math.isfinite(entry.get("validation_loss", math.nan))


def _style_metrics(images: np.ndarray, validation: np.ndarray, samples: int, seed: int) -> dict[str, float]:
    similarity = clip_similarity(images, validation, samples=samples, seed=seed)
    spread = diversity(images, samples=samples, seed=seed)
    return {
        "clip_similarity": similarity.mean,
        "clip_similarity_low": similarity.ci_low,
        "clip_similarity_high": similarity.ci_high,
        "diversity": spread.mean if spread else float("nan"),
        "nearest_training": nearest_training(images, validation, samples=samples, seed=seed).mean,
        "n": float(similarity.n),
    }


def _over_mediums(parts: list[dict[str, float]]) -> dict[str, float]:
    means = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
    return {**means, "n": float(sum(part["n"] for part in parts))}
