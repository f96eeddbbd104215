from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sticker_pipeline.training.latents import (
    encode,
    entry_path,
    posteriors,
    prepared_pixels,
    redraw,
    vae_hash,
)
from sticker_pipeline.training.models import load_models


@pytest.fixture(scope="module")
def vae(tiny_base: Path):  # type: ignore[no-untyped-def]
    return load_models(tiny_base, torch.device("cpu"), torch.float32).vae


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(count)]


def test_posterior_is_the_vaes(vae) -> None:  # type: ignore[no-untyped-def]
    pixels = pictures(1)[0]
    mean, std = encode(vae, pixels)
    with torch.no_grad():
        expected = vae.encode(torch.tensor(pixels.transpose(2, 0, 1)[None] / 255 * 2 - 1, dtype=torch.float32))
    torch.testing.assert_close(mean, expected.latent_dist.mean[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(std, expected.latent_dist.std[0], rtol=1e-4, atol=1e-5)
    assert mean.shape == (4, 8, 8) and (std > 0).all()


def test_a_vae_without_posterior_has_deviation_0() -> None:
    tiny = SimpleNamespace(
        device=torch.device("cpu"), dtype=torch.float32, encode=lambda x: SimpleNamespace(latents=x[..., ::8, ::8])
    )
    mean, std = encode(tiny, pictures(1)[0])
    assert mean.shape == (3, 4, 4) and not std.any()


def test_only_what_is_missing_is_encoded(vae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    first = posteriors(pictures(3), vae, "hash", tmp_path)
    calls: list[np.ndarray] = []
    monkeypatch.setattr(
        "sticker_pipeline.training.latents.encode", lambda model, pixels: calls.append(pixels) or encode(model, pixels)
    )
    second = posteriors(pictures(4), vae, "hash", tmp_path)
    assert len(calls) == 1
    assert all(torch.equal(a, b) for x, y in zip(first, second[:3], strict=True) for a, b in zip(x, y, strict=True))


def test_a_damaged_entry_is_made_again(vae, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    first = posteriors(pictures(1), vae, "hash", tmp_path)
    (entry,) = tmp_path.rglob("*.safetensors")
    entry.write_bytes(b"half")
    second = posteriors(pictures(1), vae, "hash", tmp_path)
    assert torch.equal(first[0][0], second[0][0]) and entry.stat().st_size > 100


def test_entries_are_named_by_all_that_decides_them(tmp_path: Path) -> None:
    a, b = pictures(2)
    wide = a.reshape(16, 64, 3)
    paths = {entry_path(tmp_path, "v1", a), entry_path(tmp_path, "v2", a), entry_path(tmp_path, "v1", b)}
    assert len(paths | {entry_path(tmp_path, "v1", wide)}) == 4
    assert entry_path(tmp_path, "v1", a) == entry_path(tmp_path, "v1", a.copy())


def test_vae_hash_follows_the_weights(tiny_base: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(tiny_base / "vae", tmp_path / "vae")).parent
    assert vae_hash(copy) == vae_hash(tiny_base)
    with next((tmp_path / "vae").glob("*.safetensors")).open("ab") as file:
        file.write(b" ")
    assert vae_hash(copy) != vae_hash(tiny_base)


def test_redraws_have_the_posteriors_moments() -> None:
    posterior = (torch.full((1, 100, 100), 3.0), torch.full((1, 100, 100), 2.0))
    drawn = redraw([posterior, posterior], scale=0.5, shift=1.0, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 1, 100, 100)
    assert drawn.mean().item() == pytest.approx((3 - 1) * 0.5, abs=0.02)
    assert drawn.std().item() == pytest.approx(2 * 0.5, abs=0.02)
    assert not torch.equal(drawn[0], drawn[1])
    again = redraw([posterior, posterior], scale=0.5, shift=1.0, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)


def test_transparent_pictures_are_flattened_over_the_background(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "a.png")
    pixels = prepared_pixels(tmp_path / "a.png", 32, 24, "white")
    assert pixels.shape == (24, 32, 3) and pixels.dtype == np.uint8
    assert (pixels == 255).all()
