from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sticker_pipeline.diffusion.denoise import PIXELS_AT_ONCE, decoded


class Config(SimpleNamespace):
    """As diffusers' has it: by name, and with a default."""

    def get(self, name: str) -> Any:
        return getattr(self, name, None)


class Decoder(nn.Module):
    """Stand-in for a VAE with activations `largest` times as large as its latents.

    They are on their way to 16 times as many pixels. It reports the batch sizes and dtypes of its inputs.
    """

    def __init__(self, largest: float, **config: float) -> None:
        super().__init__()
        self.config = Config(block_out_channels=(1, 1, 1), scaling_factor=0.5, **config)
        self.weight = nn.Parameter(torch.tensor(largest))
        self.seen: list[tuple[int, torch.dtype]] = []

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    def decode(self, latents: Tensor) -> SimpleNamespace:
        self.seen.append((len(latents), latents.dtype))
        activations = latents * self.weight
        pixels = (activations / self.weight)[:, :3]
        return SimpleNamespace(sample=pixels.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3))


def test_half_precision_that_suffices_stays() -> None:
    vae = Decoder(8.0).half()
    (pixels,) = decoded(vae, torch.ones(2, 4, 4, 4))
    assert pixels.shape == (2, 3, 16, 16) and pixels.eq(2).all()
    assert vae.seen == [(2, torch.float16)]


def test_half_precision_that_overflows_gives_way_for_good() -> None:
    vae = Decoder(60_000.0).half()
    latents = torch.full((2, 4, 256, 256), 1.5, dtype=torch.float16)  # 1024 pixels a side: one image at a time
    found = list(decoded(vae, latents))
    assert all(pixels.shape == (1, 3, 1024, 1024) and pixels.eq(3).all() for pixels in found)
    assert vae.seen == [(1, torch.float16), (1, torch.float32), (1, torch.float32)]


def test_as_many_at_once_as_have_so_many_pixels() -> None:
    vae, side = Decoder(1.0), 128
    fit = PIXELS_AT_ONCE // side**2
    parts = list(decoded(vae, torch.zeros(fit + 1, 4, side // 4, side // 4)))
    assert [len(pixels) for pixels in parts] == [fit, 1]


def test_a_shift_is_put_back() -> None:
    (pixels,) = decoded(Decoder(1.0, shift_factor=0.25), torch.ones(1, 4, 4, 4))
    assert pixels.eq(2.25).all()
