"""The autoencoder's loss, shapes and metrics."""

import numpy as np
import pytest
import torch

from sticker_pipeline.embedded import dataset, vae


def test_image_loss_by_hand() -> None:
    flat = torch.zeros(1, 3, 8, 8)
    assert float(vae.image_loss(flat, flat)) == 0.0
    # a constant offset of 0.5: 4 times its square; no differences between neighbours; 0.5 at full, 0.5/2 at half, 0.5/3
    # at quarter size
    assert float(vae.image_loss(flat + 0.5, flat)) == pytest.approx(1.0 + 0.5 + 0.25 + 0.5 / 3, rel=1e-6)


def test_latents_are_an_eighth_wide_and_normalised_without_changing_images() -> None:
    model = vae.new_vae().eval()
    drawings = dataset.fresh_drawings(6, seed=3)
    _, before = vae.measure(model, drawings)
    vae.normalise_latents(model, drawings)
    latents = vae.encode(model, drawings.pixels)
    assert latents.shape == (6, 16, 12, 12)
    np.testing.assert_allclose(latents.mean(axis=(0, 2, 3)), 0.0, atol=0.05)
    np.testing.assert_allclose(latents.std(axis=(0, 2, 3)), 1.0, atol=0.05)
    fidelity, after = vae.measure(model, drawings)
    assert after.shape == (6, 96, 96, 3)
    assert after.dtype == np.uint8
    assert np.abs(after.astype(int) - before.astype(int)).max() <= 4  # bfloat16 rounding of other numbers
    assert 0 < fidelity.psnr_sticker < 30


def test_normalising_keeps_the_posterior() -> None:
    model = vae.new_vae().eval()
    drawings = dataset.fresh_drawings(2, seed=3)
    images = torch.from_numpy(dataset.on_white(drawings.pixels))
    with torch.no_grad():
        before = model.encode(images).latent_dist
        means = torch.from_numpy(vae.encode(model, drawings.pixels)).std(dim=(0, 2, 3))
        vae.normalise_latents(model, drawings)
        after = model.encode(images).latent_dist
    torch.testing.assert_close(after.std * means[None, :, None, None], before.std, rtol=0.05, atol=1e-4)
