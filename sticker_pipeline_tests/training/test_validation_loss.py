import numpy as np
import pytest
import torch

from sticker_pipeline.training.backward import predict
from sticker_pipeline.training.conditioning import conditions
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.setup import set_up
from sticker_pipeline.training.step import Run
from sticker_pipeline.training.validation_loss import TIMESTEPS, Probe, batches_alike, probe_errors
from sticker_pipeline_tests.training.conftest import SpecMaker


def test_batches_have_one_shape_and_no_more_than_asked() -> None:
    assert batches_alike(["a", "b", "a", "a", "b", "a"], 3) == [[0, 2, 3], [5], [1, 4]]
    assert batches_alike([], 3) == []


@torch.no_grad()
def one_error(run: Run, probe: Probe, place: int, band: int) -> float:
    """The error of one image at one of TIMESTEPS, of all that is looked at, by itself."""
    entry, config = probe.entries[place], run.models.vae.config
    latents = (entry.mean[None] - (config.get("shift_factor") or 0.0)) * config.scaling_factor
    shape = (len(TIMESTEPS), *latents.shape[1:])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(place))[band : band + 1]
    timesteps = torch.tensor([TIMESTEPS[band]])
    told = conditions(run.models, run.text([probe.captions[place]], None)(), [entry], torch.device("cpu"))
    noisy = run.models.noise.add_noise(latents, noise, timesteps)
    predicted = predict(run.models.unet, {"noisy": noisy, "timesteps": timesteps, **told})
    return float(((predicted - run.models.target(latents, noise, timesteps)) ** 2).mean())


@pytest.mark.parametrize("at_once", [1, 8, 100])
def test_errors_are_those_of_each_image_by_itself(make_spec: SpecMaker, at_once: int) -> None:
    prepared = set_up(make_spec(), Progress(lambda line: None), lambda: None)
    first = prepared.probes[0]
    longer = [
        "nova_tag, " + "smile, " * 60,
        *first.captions[1:],
    ]  # two chunks of tokens, in the middle of others of one
    probe = Probe(first.split, longer, first.entries)
    expected = [
        [one_error(prepared.run, probe, place, band) for band in range(len(TIMESTEPS))] for place in range(len(longer))
    ]
    assert np.allclose(probe_errors(prepared.run, probe, at_once), expected, rtol=1e-4)
    assert len(longer) == 8
