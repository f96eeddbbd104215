"""The error on fixed pictures, noise and timesteps: curves that are smooth where those of single steps are noise.

Of pictures that are never trained on, and of as many that are: where the two part, the LoRA begins to learn by heart.
The split `held_out` has the benchmark's references, to look at and never to choose by; `validation` has others, by
which the epoch is chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from sticker_pipeline.storage import atomic_file
from sticker_pipeline.training import objective
from sticker_pipeline.training.backward import predict
from sticker_pipeline.training.conditions import conditions
from sticker_pipeline.training.latents import LatentEntry
from sticker_pipeline.training.log import BAND_COLUMNS, BANDS
from sticker_pipeline.training.step import Run

MOST_PICTURES = 16  # of each split
TIMESTEPS = [(low + high) // 2 for low, high in BANDS]
COLUMNS = ["epoch", "step", "split", "pictures", "loss", *BAND_COLUMNS]


@dataclass(frozen=True)
class Probe:
    """Pictures of one split that are looked at after each epoch: their captions and cache entries."""

    split: str
    captions: list[str]
    entries: list[LatentEntry]


def chosen_rows(table: pd.DataFrame) -> np.ndarray:
    """At most MOST_PICTURES row numbers of `table`, evenly spread; regularisation pictures are none of them."""
    rows = np.flatnonzero(~table["regularisation"].to_numpy())
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_PICTURES)).round().astype(int)] if len(rows) else rows


@torch.no_grad()
def probe_errors(run: Run, probe: Probe, at_once: int) -> np.ndarray:
    """The plain mean squared error of each of the probe's pictures at each of TIMESTEPS, float64 [pictures, bands].

    Noise is a function of the picture's place and the band; the posterior's mean is used, captions as they are written.
    The U-Net gets `at_once` of them at a time.
    """
    timesteps, device = torch.tensor(TIMESTEPS), run.accelerator.device
    config = run.models.vae.config
    found = []
    for place, (caption, entry) in enumerate(zip(probe.captions, probe.entries, strict=True)):
        latents = (entry.mean - (config.get("shift_factor") or 0.0)) * config.scaling_factor
        latents = latents.expand(len(TIMESTEPS), -1, -1, -1)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(place))
        target = run.models.target(latents, noise, timesteps)
        encoded = run.text([caption] * len(TIMESTEPS), None)()
        inputs = {
            "noisy": run.models.noise.add_noise(latents, noise, timesteps).to(device, run.models.dtype),
            "timesteps": timesteps.to(device),
            **conditions(run.models, encoded, [entry] * len(TIMESTEPS), device),
        }
        parts = [
            predict(run.models.unet, {name: tensor[start : start + at_once] for name, tensor in inputs.items()})
            for start in range(0, len(TIMESTEPS), at_once)
        ]
        predicted = torch.cat(parts)
        found.append(objective.picture_losses(predicted, target.to(device)).double().cpu().numpy())
    return np.array(found)


def held_out_rows(run: Run, probes: Sequence[Probe], epoch: int, at_once: int) -> list[dict[str, Any]]:
    """A row with COLUMNS for each probe after `epoch` whole epochs; `at_once`: see probe_errors."""
    rows = []
    for probe in probes:
        bands = probe_errors(run, probe, at_once).mean(axis=0)
        named = dict(zip(BAND_COLUMNS, bands.tolist(), strict=True))
        rows.append(
            {
                "epoch": epoch,
                "step": len(run.history.log),
                "split": probe.split,
                "pictures": len(probe.captions),
                "loss": float(bands.mean()),
                **named,
            }
        )
    return rows


def write_held_out(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write `rows` as Parquet with COLUMNS, whole or not at all."""
    with atomic_file(path) as staging:
        pd.DataFrame(list(rows), columns=COLUMNS).to_parquet(staging, index=False)
