"""The error on fixed images, noise and timesteps: smoother than each step's.

Of images not trained on, and of as many trained ones: where the curves part, overfitting begins. `holdout` has the
benchmark's references and chooses nothing; `validation` has others, and chooses the epoch.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from sticker_pipeline.core.schemas import check, typed
from sticker_pipeline.core.storage import atomic_file
from sticker_pipeline.diffusion.streams import side_by_side
from sticker_pipeline.diffusion.text import Encoded
from sticker_pipeline.training import objective
from sticker_pipeline.training.backward import predict
from sticker_pipeline.training.cache.latents import LatentEntry
from sticker_pipeline.training.conditioning import conditions
from sticker_pipeline.training.logs.tables import BAND_COLUMNS, BANDS, VALIDATION_LOSS
from sticker_pipeline.training.step import Run

MOST_IMAGES = 16  # of each split
TIMESTEPS = [(low + high) // 2 for low, high in BANDS]


@dataclass(frozen=True)
class Probe:
    """Images of one split evaluated after each epoch: captions and cache entries."""

    split: str
    captions: list[str]
    entries: list[LatentEntry]


def chosen_rows(table: pd.DataFrame) -> np.ndarray:
    """At most MOST_IMAGES evenly spread rows, without regularisation images."""
    rows = np.flatnonzero(~table["regularisation"].to_numpy())
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_IMAGES)).round().astype(int)] if len(rows) else rows


def probe_errors(run: Run, probe: Probe, at_once: int) -> np.ndarray:
    """Mean squared error of each image at each of TIMESTEPS, float64[images, bands].

    Unweighted. Noise is a function of the image's place and the band; the posterior's mean and unvaried captions are
    used. The U-Net gets `at_once` at a time; on a CPU two batches run in parallel.
    """
    with torch.no_grad():  # one by one: together they would be filled up to the longest
        texts = [run.text([caption], None)() for caption in probe.captions]
    shapes = [(entry.mean.shape, text.hidden.shape) for entry, text in zip(probe.entries, texts, strict=True)]
    batches = batches_alike(shapes, max(1, at_once // len(TIMESTEPS)))
    device = run.accelerator.device
    errors = side_by_side(lambda places: _errors(run, probe, texts, places, at_once), batches, device)
    found = np.empty((len(texts), len(TIMESTEPS)))
    for places, of_batch in zip(batches, errors, strict=True):
        found[places] = of_batch
    return found


def batches_alike(shapes: Sequence[Hashable], most: int) -> list[list[int]]:
    """Places of `shapes` in batches of at most `most`, each of one shape."""
    alike: dict[Hashable, list[int]] = {}
    for place, shape in enumerate(shapes):
        alike.setdefault(shape, []).append(place)
    return [places[start : start + most] for places in alike.values() for start in range(0, len(places), most)]


def _errors(run: Run, probe: Probe, texts: Sequence[Encoded], places: Sequence[int], at_once: int) -> np.ndarray:
    """probe_errors of the images at `places`; latents and `texts` of one shape."""
    config, device, bands = run.models.vae.config, run.accelerator.device, len(TIMESTEPS)
    timesteps = torch.tensor(TIMESTEPS * len(places))
    entries = [probe.entries[place] for place in places for _ in TIMESTEPS]
    latents = torch.stack([entry.mean for entry in entries])
    latents = (latents - (config.get("shift_factor") or 0.0)) * config.scaling_factor
    shape = (bands, *latents.shape[1:])
    noise = torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(place)) for place in places])
    target = run.models.target(latents, noise, timesteps)
    inputs = {
        "noisy": run.models.noise.add_noise(latents, noise, timesteps).to(device, run.models.dtype),
        "timesteps": timesteps.to(device),
        **conditions(run.models, _repeated([texts[place] for place in places], bands), entries, device),
    }
    predicted = [
        predict(run.models.unet, {name: tensor[start : start + at_once] for name, tensor in inputs.items()})
        for start in range(0, len(entries), at_once)
    ]
    errors = objective.image_losses(torch.cat(predicted), target.to(device))
    return errors.double().cpu().numpy().reshape(len(places), bands)


def _repeated(texts: Sequence[Encoded], times: int) -> Encoded:
    pooled = [text.pooled for text in texts if text.pooled is not None]
    hidden = torch.cat([text.hidden for text in texts])
    return Encoded(
        hidden.repeat_interleave(times, 0), torch.cat(pooled).repeat_interleave(times, 0) if pooled else None
    )


def validation_rows(run: Run, probes: Sequence[Probe], epoch: int, at_once: int) -> list[dict[str, Any]]:
    """Rows of VALIDATION_LOSS for all probes after `epoch` whole epochs."""
    rows = []
    for probe in probes:
        bands = probe_errors(run, probe, at_once).mean(axis=0)
        named = dict(zip(BAND_COLUMNS, bands.tolist(), strict=True))
        rows.append(
            {
                "epoch": epoch,
                "step": len(run.history.log),
                "split": probe.split,
                "images": len(probe.captions),
                "loss": float(bands.mean()),
                **named,
            }
        )
    return rows


def write_validation_losses(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the table VALIDATION_LOSS, whole or not at all. Raises SchemaError."""
    table = typed(pd.DataFrame(list(rows), columns=VALIDATION_LOSS.names), VALIDATION_LOSS)
    check(table, VALIDATION_LOSS)
    with atomic_file(path) as staging:
        table.to_parquet(staging, index=False)
