"""Sizes for training: published tables, and the size of each image, against an exhaustive search."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.core.profile import load_profile
from sticker_pipeline.core.settings import BucketSettings
from sticker_pipeline.dataset.buckets import BucketError, assign_buckets, bucket_sizes, bucket_table

# sd-scripts' buckets (--min_bucket_reso, --max_bucket_reso) with the longer side second; the others are these turned.
TABLES = {
    (512, 256, 1024): "256×832 256×896 256×960 256×1024 320×704 320×768 384×640 448×576 512×512",
    (768, 256, 1024): "256×1024 320×1024 384×1024 448×1024 512×1024 576×960 576×1024 640×896 704×832 768×768",
    (1024, 512, 2048): "512×1856 512×1920 512×1984 512×2048 576×1664 576×1728 576×1792 640×1536 640×1600 704×1408 "
    "704×1472 768×1280 768×1344 832×1216 896×1152 960×1088 1024×1024",
}
# SDXL (Podell et al. 2023), appendix I, with the longer side second.
SDXL = (
    "512×2048 512×1984 512×1920 512×1856 576×1792 576×1728 576×1664 640×1600 640×1536 704×1472 704×1408 704×1344 "
    "768×1344 768×1280 832×1216 832×1152 896×1152 896×1088 960×1088 960×1024 1024×1024"
)


@pytest.mark.parametrize("limits", TABLES)
def test_sizes_are_those_of_sd_scripts(limits):
    resolution, shortest, longest = limits
    upright = {tuple(map(int, size.split("×"))) for size in TABLES[limits].split()}
    found = bucket_sizes(resolution, BucketSettings(min_side=shortest, max_side=longest))
    assert set(found) == upright | {(height, width) for width, height in upright}
    assert len(found) == len(set(found))


def test_sizes_at_1024_are_among_those_that_sdxl_was_trained_on():
    assert set(TABLES[1024, 512, 2048].split()) < set(SDXL.split())


resolutions, steps = st.integers(8, 160).map(lambda n: 8 * n), st.sampled_from([8, 16, 32, 64])


def possible(resolution: int, step: int, min_side: int, max_side: int) -> bool:
    return step <= resolution and max_side >= resolution // step * step


@settings(max_examples=60, deadline=None)
@given(resolution=resolutions, step=steps, min_side=st.integers(1, 700), max_side=st.integers(64, 2500))
def test_sizes_are_those_that_cannot_grow(resolution, step, min_side, max_side):
    chosen = BucketSettings(step=step, min_side=min_side, max_side=max_side)
    if not possible(resolution, step, min_side, max_side):
        with pytest.raises(BucketError, match=r"buckets\.(step|max_side)"):
            bucket_sizes(resolution, chosen)
        return
    square = resolution // step * step
    sides = [side for side in range(step, max_side + 1, step) if side >= min(min_side, square)]
    allowed = {(a, b) for a in sides for b in sides if a * b <= resolution**2}
    cannot_grow = {(a, b) for a, b in allowed if (a + step, b) not in allowed or (a, b + step) not in allowed}
    assert set(bucket_sizes(resolution, chosen)) == cannot_grow | {(square, square)}


def test_a_square_shape_has_one_size_whatever_the_other_settings():
    chosen = BucketSettings(shape="square", step=64, min_side=256)
    assert bucket_sizes(96, chosen) == [(96, 96)]
    assert assign_buckets(np.array([10, 900]), np.array([300, 20]), 96, chosen).tolist() == [[96, 96]] * 2


def test_small_resolutions_have_sizes_although_the_smallest_side_is_larger():
    assert set(bucket_sizes(96, BucketSettings(step=64))) == {(64, 64), (64, 128), (128, 64)}
    assert bucket_sizes(96, BucketSettings(step=32)) == [(96, 96)]


@pytest.mark.parametrize(
    ("width", "height", "bucket"),
    [
        (512, 512, [512, 512]),
        (4000, 3000, [576, 448]),  # 4:3 = 1.333; 576:448 = 1.286, 640:384 = 1.667
        (100, 140, [448, 576]),
        (1, 1000, [256, 1024]),
        (1920, 1080, [640, 384]),  # 16:9 = 1.778
    ],
)
def test_an_image_goes_to_the_nearest_shape(width, height, bucket):
    assert assign_buckets(np.array([width]), np.array([height]), 512, BucketSettings(max_side=1024)).tolist() == [
        bucket
    ]


@settings(max_examples=60, deadline=None)
@given(
    images=st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1, max_size=8),
    resolution=resolutions,
    step=steps,
    upscale=st.booleans(),
)
def test_assignments_against_a_search(images, resolution, step, upscale):
    chosen = BucketSettings(step=step, upscale=upscale)
    sizes = bucket_sizes(resolution, chosen)
    widths, heights = np.array(images).T
    found = assign_buckets(widths, heights, resolution, chosen)
    for (width, height), (bucket_width, bucket_height) in zip(images, found.tolist(), strict=True):
        distances = {size: abs(math.log(width / height) - math.log(size[0] / size[1])) for size in sizes}
        best = [size for size, distance in distances.items() if distance <= min(distances.values()) + 1e-12]
        assert bucket_width % step == bucket_height % step == 0
        assert bucket_width * bucket_height <= resolution**2
        if upscale:
            assert (bucket_width, bucket_height) in best
            continue
        enlarged = max(1.0, step / min(width, height))
        limits = [int(side * enlarged + 1e-9) // step * step for side in (width, height)]
        assert [bucket_width, bucket_height] in [[min(a, limits[0]), min(b, limits[1])] for a, b in best]


def test_without_upscaling_a_small_image_keeps_its_size_in_whole_steps():
    chosen = BucketSettings(upscale=False)
    images = np.array([[300, 200], [64, 64], [500, 530], [20, 300], [3000, 2000], [100, 4000]])
    found = assign_buckets(*images.T, 512, chosen)
    # 20×300 is scaled by 3.2 to 64×960; the last one is cut to the length of its bucket
    assert found.tolist() == [[256, 192], [64, 64], [448, 512], [64, 960], [640, 384], [64, 1024]]


def test_the_profile_of_sdxl_scales_no_image_up_and_cuts_large_ones_to_its_sizes():
    profile = load_profile("sdxl", Path("models"))
    images = {
        (2000, 1500): [1152, 896],
        (1500, 2000): [896, 1152],
        (1920, 1080): [1344, 768],
        (3000, 3000): [1024, 1024],
        (1024, 1024): [1024, 1024],
        (700, 500): [640, 448],  # of its bucket, 1216×832, as much as it fills
        (512, 512): [512, 512],
        (96, 96): [64, 64],
    }
    found = assign_buckets(*np.array(list(images)).T, profile.resolution, profile.buckets)
    assert found.tolist() == list(images.values())
    sizes = bucket_sizes(profile.resolution, profile.buckets)
    assert all(width % 64 == height % 64 == 0 and width * height <= 1024**2 for width, height in sizes)


def test_the_table_of_buckets_adds_up():
    rows = pd.DataFrame(
        {"bucket_width": [64, 128, 64], "bucket_height": [64, 32, 64], "probability": [0.125, 0.625, 0.25]}
    )
    expected = {"width": [128, 64], "height": [32, 64], "images": [1, 2], "share": [0.625, 0.375]}
    assert bucket_table(rows).to_dict(orient="list") == expected
