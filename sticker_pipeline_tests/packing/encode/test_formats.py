import numpy as np
import pytest

from sticker_pipeline.packing.animation import animation
from sticker_pipeline.packing.encode.formats import ENCODERS
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline_tests.packing.encode.examples import ours


@pytest.mark.parametrize("settings", [Settings(), Settings(colours=4), Settings(quality=30)])
@pytest.mark.parametrize("shape", [(1, 1), (17, 33), (3, 500)])
@pytest.mark.parametrize("format", ENCODERS)
def test_odd_sizes_and_empty_frames_are_encoded(format, shape, settings):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 4), dtype=np.uint8)
    for frames in ([noise, noise[::-1], noise], [np.zeros_like(noise)] * 3, [np.zeros_like(noise), noise]):
        shown, _ = ours(ENCODERS[format](animation(frames, [50] * len(frames)), settings))
        assert shown.shape[1:] == (*shape, 4)
        if not frames[0].any():
            assert shown[0][..., 3].max() <= 8
