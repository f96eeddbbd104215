import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.training.objective import (
    check_objective,
    image_losses,
    loss_weights,
    multires_noise,
    offset_noise,
    pixel_weights,
    sample_timesteps,
)
from sticker_pipeline.training.spec import SpecError

SCHEDULER = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
ALPHAS = SCHEDULER.alphas_cumprod
TIMESTEPS = torch.tensor([0, 500, 999])


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_noise_prediction_cannot_learn_from_pure_noise() -> None:
    settings = TrainingSettings(zero_terminal_snr=True)
    check_objective(settings, "v_prediction")
    check_objective(TrainingSettings(), "epsilon")
    with pytest.raises(SpecError, match=r"zero_terminal_snr: .*v_prediction"):
        check_objective(settings, "epsilon")


@pytest.mark.parametrize(
    ("weighting", "prediction_type", "snr", "expected"),
    [
        ("uniform", "epsilon", 20.0, 1.0),
        ("min_snr", "epsilon", 20.0, 0.25),
        ("min_snr", "epsilon", 2.0, 1.0),
        ("min_snr", "v_prediction", 19.0, 0.25),
        ("min_snr", "v_prediction", 3.0, 0.75),
        ("min_snr", "v_prediction", 0.0, 0.0),  # pure noise
        ("debiased", "epsilon", 16.0, 0.25),
        ("debiased", "epsilon", 1e9, 1000**-0.5),
        ("debiased", "epsilon", math.inf, 1000**-0.5),
        ("debiased", "v_prediction", 3.0, 0.25),
        ("debiased", "v_prediction", 1e9, 1 / 1001),
        ("debiased", "v_prediction", 0.0, 1.0),
    ],
)
def test_weights_of_noise_levels(weighting: Any, prediction_type: str, snr: float, expected: float) -> None:
    settings = TrainingSettings(loss_weighting=weighting, min_snr_gamma=5.0)
    assert loss_weights(settings, prediction_type, torch.tensor([snr])).tolist() == pytest.approx([expected])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weighs_the_same_error_alike_in_either_prediction(prediction_type: str) -> None:
    """An error e of the clean image is √snr·e of the noise and √(snr+1)·e of v.

    With the weights of Hang et al. each of them gives min(snr, γ)·e².
    """
    snr = torch.tensor([0.1, 4.0, 30.0])
    squared = snr if prediction_type == "epsilon" else snr + 1
    weights = loss_weights(TrainingSettings(loss_weighting="min_snr", min_snr_gamma=5.0), prediction_type, snr)
    assert (weights * squared).tolist() == pytest.approx([0.1, 4.0, 5.0])


def test_offset_moves_whole_channels() -> None:
    noise = drawn(2, 4, 3, 5)
    settings = TrainingSettings(noise_offset=0.1)
    moved = offset_noise(noise, drawn(2, 4, 3, 5), settings, torch.Generator().manual_seed(3)) - noise
    expected = 0.1 * torch.randn((2, 4), generator=torch.Generator().manual_seed(3))
    assert torch.allclose(moved, expected[:, :, None, None].expand_as(noise), atol=1e-6)


def test_no_offset_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    noise = drawn(1, 4, 2, 2)
    assert offset_noise(noise, noise, TrainingSettings(), generator) is noise
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("scale", [0.5, -0.3])
def test_an_adaptive_offset_follows_the_mean_of_each_channel(scale: float) -> None:
    latents = torch.tensor([[[[1.0, 3.0]], [[-1.0, 0.0]]]])  # means 2 and -0.5
    settings = TrainingSettings(noise_offset=0.2, adaptive_noise_scale=scale)
    moved = offset_noise(torch.zeros(1, 2, 1, 2), latents, settings, torch.Generator().manual_seed(3))
    draws = torch.randn((1, 2, 1, 1), generator=torch.Generator().manual_seed(3)).flatten().tolist()
    expected = [max(0.0, 0.2 + scale * mean) * draw for mean, draw in zip((2.0, 0.5), draws, strict=True)]
    assert moved.flatten().tolist() == pytest.approx([expected[0]] * 2 + [expected[1]] * 2)


def enlarged(coarse: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear: the middle of pixel i is at (i + ½)·size/new − ½ of the smaller image; its edges repeat."""

    def weights(new: int, size: int) -> np.ndarray:
        found = np.zeros((new, size))
        for pixel in range(new):
            at = min(max((pixel + 0.5) * size / new - 0.5, 0.0), size - 1.0)
            low = min(int(at), max(size - 2, 0))
            found[pixel, low] += 1.0 - (at - low)
            if size > 1:
                found[pixel, low + 1] += at - low
        return found

    rows, columns = weights(height, coarse.shape[2]), weights(width, coarse.shape[3])
    return np.einsum("yi,bcij,xj->bcyx", rows, coarse, columns)


@pytest.mark.parametrize(("iterations", "discount"), [(1, 0.3), (3, 0.5), (16, 0.8)])
def test_coarser_noises_are_added(iterations: int, discount: float) -> None:
    noise = drawn(2, 4, 8, 12)
    settings = TrainingSettings(multires_noise_iterations=iterations, multires_noise_discount=discount)
    found = multires_noise(noise, settings, torch.Generator().manual_seed(3))
    generator, expected = torch.Generator().manual_seed(3), noise.double().numpy()
    sizes = []
    for number in range(iterations):
        ratio = 2.0 + 2.0 * torch.rand((), generator=generator).item()
        sizes.append((max(1, int(8 / ratio**number)), max(1, int(12 / ratio**number))))
        coarse = torch.randn((2, 4, *sizes[-1]), generator=generator).double().numpy()
        expected = expected + discount**number * enlarged(coarse, 8, 12)
        if 1 in sizes[-1]:
            break
    assert sizes[0] == (8, 12) and all(one > other for one, other in pairwise(sizes))
    assert found.numpy() == pytest.approx(expected / expected.std(ddof=1), abs=1e-5)
    assert found.dtype == torch.float32 and float(found.std()) == pytest.approx(1.0)


def test_no_coarser_noise_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    before, noise = generator.get_state(), drawn(1, 4, 2, 2)
    assert multires_noise(noise, TrainingSettings(), generator) is noise
    assert torch.equal(generator.get_state(), before)


def test_timesteps_are_drawn_between_their_limits() -> None:
    settings = TrainingSettings(min_timestep=3, max_timestep=6)
    found = sample_timesteps(2000, 1000, settings, torch.Generator().manual_seed(0))
    assert found.dtype == torch.int64
    shares = torch.bincount(found, minlength=7)[:7] / 2000
    assert shares.tolist() == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 1 / 3, 0], abs=0.05)
    whole = sample_timesteps(50, 1000, TrainingSettings(), torch.Generator().manual_seed(0))
    assert torch.equal(whole, torch.randint(1000, (50,), generator=torch.Generator().manual_seed(0)))
    assert sample_timesteps(50, 10, TrainingSettings(), torch.Generator().manual_seed(0)).max() < 10


def test_no_timesteps_are_refused() -> None:
    with pytest.raises(ValueError, match="it must be above min_timestep"):
        TrainingSettings(min_timestep=500, max_timestep=500)


def test_losses_are_weighted_means_over_pixels() -> None:
    predicted = torch.zeros(2, 2, 1, 2)
    wanted = torch.tensor([[[[1.0, 3.0]], [[1.0, 5.0]]], [[[2.0, 0.0]], [[0.0, 2.0]]]])  # errors 1, 17 and 2, 2
    assert image_losses(predicted, wanted).tolist() == [9.0, 2.0]
    weights = pixel_weights(torch.tensor([[[[1.0, 0.0]]], [[[0.5, 1.0]]]]), background_weight=0.25)
    assert weights.tolist() == [[[[1.0, 0.25]]], [[[0.625, 1.0]]]]
    assert image_losses(predicted, wanted, weights).tolist() == pytest.approx([(1 + 0.25 * 17) / 1.25, 2.0])


def test_losses_of_half_precision_are_float32() -> None:
    loss = image_losses(torch.full((1, 1, 1, 1), 300.0, dtype=torch.float16), torch.zeros(1, 1, 1, 1))
    assert loss.dtype == torch.float32 and loss.tolist() == [90_000.0]  # float16 ends at 65,504


def test_an_image_of_nothing_teaches_nothing() -> None:
    predicted = drawn(2, 4, 3, 3).requires_grad_()
    weights = torch.stack([torch.zeros(1, 3, 3), torch.ones(1, 3, 3)])
    losses = image_losses(predicted, drawn(2, 4, 3, 4)[..., :3], weights)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert losses[0] == 0 and losses[1] > 0
    assert predicted.grad is not None
    assert bool((predicted.grad[0] == 0).all()) and bool((predicted.grad[1] != 0).any())


@given(st.floats(0.01, 1), st.integers(0, 2**31))
def test_even_weights_change_nothing(weight: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    predicted, wanted = (torch.randn(2, 3, 4, 4, generator=generator) for _ in range(2))
    weighted = image_losses(predicted, wanted, torch.full((2, 1, 4, 4), weight))
    assert torch.allclose(weighted, ((predicted - wanted) ** 2).mean(dim=(1, 2, 3)), rtol=1e-5)
