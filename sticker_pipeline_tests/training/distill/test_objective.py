"""Distillation's objective, against diffusers' own schedulers and the definitions."""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler

from sticker_pipeline.training.distill.objective import (
    GRID,
    clean_and_noise,
    consistent,
    grid,
    guided,
    huber,
    next_timesteps,
    scalings,
    solver_step,
)

NOISE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.016, "beta_schedule": "scaled_linear"}
PREDICTIONS = ["epsilon", "v_prediction"]


def latents(count: int, seed: int) -> torch.Tensor:
    return torch.randn((count, 4, 3, 3), generator=torch.Generator().manual_seed(seed))


def test_levels_are_those_of_the_lcm_sampler() -> None:
    scheduler = LCMScheduler(**NOISE)
    scheduler.set_timesteps(GRID)
    assert grid(1000).tolist() == scheduler.timesteps.tolist()[::-1]
    for steps in (1, 2, 4, 8):
        scheduler.set_timesteps(steps)
        assert set(scheduler.timesteps.tolist()) <= set(grid(1000).tolist())


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_nothing_is_done_at_timestep_0(prediction: str) -> None:
    noisy, said = latents(2, 0), latents(2, 1)
    at = torch.zeros(2, dtype=torch.int64)
    assert torch.equal(consistent(said, noisy, at, torch.full((2,), 0.999), prediction), noisy)


def test_scalings_are_those_of_the_lcm_sampler() -> None:
    scheduler, timesteps = LCMScheduler(**NOISE), torch.tensor([0, 1, 19, 499, 999])
    for t, skip, out in zip(timesteps.tolist(), *scalings(timesteps), strict=True):
        wanted = scheduler.get_scalings_for_boundary_condition_discrete(t)
        assert (float(skip), float(out)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_function_is_what_the_lcm_sampler_takes_for_clean(prediction: str) -> None:
    scheduler = LCMScheduler(**NOISE, prediction_type=prediction)
    noisy, said = latents(4, 0), latents(4, 1)
    scheduler.set_timesteps(4)
    for number, t in enumerate(scheduler.timesteps):
        wanted = scheduler.step(said[number : number + 1], t, noisy[number : number + 1]).denoised
        alphas = scheduler.alphas_cumprod[t][None]
        found = consistent(said[number : number + 1], noisy[number : number + 1], t[None], alphas, prediction)
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_step_of_the_solver_is_one_of_ddim(prediction: str) -> None:
    scheduler = DDIMScheduler(**NOISE, prediction_type=prediction, set_alpha_to_one=False, clip_sample=False)
    scheduler.set_timesteps(GRID)  # steps of 20 levels
    timesteps = torch.tensor([19, 39, 519, 999])
    noisy, said, alphas = latents(4, 0), latents(4, 1), scheduler.alphas_cumprod
    arrives = next_timesteps(timesteps, 20)
    assert arrives.tolist() == [0, 19, 499, 979]
    found = solver_step(*clean_and_noise(said, noisy, alphas[timesteps], prediction), alphas[arrives])
    for number, t in enumerate(timesteps.tolist()):
        wanted = scheduler.step(said[number : number + 1], t, noisy[number : number + 1]).prev_sample
        torch.testing.assert_close(found[number : number + 1], wanted)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_u_net_gives_back_what_was_mixed(prediction: str) -> None:
    scheduler = DDIMScheduler(**NOISE)
    clean, noise, timesteps = latents(3, 0), latents(3, 1), torch.tensor([19, 499, 979])
    noisy = scheduler.add_noise(clean, noise, timesteps)
    said = noise if prediction == "epsilon" else scheduler.get_velocity(clean, noise, timesteps)
    found = clean_and_noise(said, noisy, scheduler.alphas_cumprod[timesteps], prediction)
    torch.testing.assert_close(found[0], clean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[1], noise, atol=1e-4, rtol=1e-4)


def test_guidance_and_loss_of_known_numbers() -> None:
    said, unprompted = torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1), 1.0)
    assert guided(said, unprompted, 1.0).item() == 3.0
    assert guided(said, unprompted, 4.0).item() == 9.0
    predicted = torch.tensor([0.0, 0.0, 3.0, 0.0]).reshape(2, 2, 1, 1)
    assert huber(predicted, torch.zeros_like(predicted), 4.0).tolist() == [0.0, 0.5]  # √(3² + 4²) − 4 = 1 in one of two
