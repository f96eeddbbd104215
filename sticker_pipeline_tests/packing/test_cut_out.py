"""Tests of cut-outs, on shapes of known alpha and on real characters."""

import io

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.packing.animation import animation, still
from sticker_pipeline.packing.cut_out import CutOutError, background_of, cut_out, halo, has_alpha
from sticker_pipeline_tests.packing.shapes import blob, disc, from_premultiplied, on, over

WHITE, GREY, BLUE = (255, 255, 255), (128, 128, 128), (0, 0, 255)
BACKGROUNDS = [WHITE, GREY, BLUE]


def cut_of(rgba):
    return cut_out(still(rgba)).animation.frames[0]


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("centre", [(64, 60), (63.3, 60.7)])
def test_halo_of_a_known_shape_is_under_one_level(background, centre):
    known = blob(centre=centre)
    found = halo(cut_of(on(known, background)), known, background)
    assert found.excess <= 1
    assert found.error <= 1


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_alpha_and_colour_of_a_plain_disc_return(background):
    known = from_premultiplied(over(np.zeros((64, 64, 4)), (200, 40, 40), disc(64, (31.7, 32.2), 20)))
    cut = cut_of(on(known, background))
    assert np.abs(cut[..., 3].astype(int) - known[..., 3]).max() <= 4
    solid = known[..., 3] > 64
    assert np.abs(cut[solid][:, :3].astype(int) - (200, 40, 40)).max() <= 6


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_thin_lines_keep_their_alpha(background):
    known = np.zeros((40, 40, 4), dtype=np.uint8)
    known[8:32, 10] = (20, 20, 20, 120)
    known[8:32, 11] = (20, 20, 20, 255)
    known[8:32, 12] = (20, 20, 20, 90)
    assert halo(cut_of(on(known, background)), known, background).error <= 1


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_composite_on_the_background_is_the_image(background):
    image = on(blob(), background)
    assert np.abs(on(cut_of(image), background).astype(int) - image).max() <= 2


def test_subject_on_the_edge_of_the_canvas_is_antialiased_there():
    known = blob(centre=(64.5, 60))[18:, 24:]
    assert known[:, 0, 3].max() > 0
    assert halo(cut_of(on(known, WHITE)), known, WHITE).excess <= 1


def test_flood_fill_has_a_halo():
    known = blob()
    image = on(known, WHITE)
    image[np.all(image[..., :3] == 255, axis=2)] = 0
    assert halo(image, known, WHITE).excess > 10
    assert halo(known, known, WHITE).excess == 0


def test_halo_on_grey_counts_light_on_black():
    known = np.zeros((9, 9, 4), dtype=np.uint8)
    known[3:6, 3:6] = (0, 0, 0, 255)
    lighter = known.copy()
    lighter[3:6, 3:6, :3] = 30
    # The outline is 25 pixels: those of the block, and the transparent ones around it.
    assert halo(lighter, known, GREY).excess == pytest.approx(30 * 9 / 25)


def test_eye_white_stays_on_white():
    cut = cut_out(still(on(blob(), WHITE)))
    assert tuple(cut.animation.frames[0][60, 51]) == (255, 255, 255, 255)
    assert cut.evidence[0].holes == 1


def ring():
    cover = disc(96, (48, 48), 40) - disc(96, (48, 48), 15)
    return from_premultiplied(over(np.zeros((96, 96, 4)), (200, 60, 60), cover))


def test_hole_is_kept_on_white_and_cleared_on_blue():
    for background, alpha in ((WHITE, 255), (BLUE, 0)):
        cut = cut_out(still(on(ring(), background)))
        assert cut.animation.frames[0][48, 48, 3] == alpha
        assert cut.evidence[0].holes == 1


def test_holes_follow_a_decision():
    assert cut_out(still(on(ring(), WHITE)), clear_holes=True).animation.frames[0][48, 48, 3] == 0
    assert cut_out(still(on(ring(), BLUE)), clear_holes=False).animation.frames[0][48, 48, 3] == 255


def test_alpha_of_the_image_is_kept():
    known = blob()
    assert has_alpha(still(known))
    cut = cut_out(still(known))
    assert np.array_equal(cut.animation.frames[0], known)
    assert cut.background is None


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_nearly_opaque_images_are_cut_out_too(background):
    image = on(blob(), background)
    image[..., 3] = np.random.default_rng(0).integers(252, 256, image.shape[:2])
    image[0, :9] = 0
    cut = cut_out(still(image))
    assert cut.background.colour == background
    assert halo(cut.animation.frames[0], blob(), background).excess <= 1
    assert cut.kept == pytest.approx((blob()[..., 3] >= 128).mean(), abs=1e-3)


def test_all_frames_have_one_background():
    first, second = on(blob(), BLUE), on(blob(centre=(60, 66)), BLUE)
    second[..., 2] = np.where(np.all(second[..., :3] == BLUE, axis=2), 254, second[..., 2])
    cut = cut_out(animation([first, second, first], [10, 20, 30]))
    assert cut.animation.durations == (10, 20, 30)
    assert cut.background.colour in {BLUE, (0, 0, 254)}
    assert np.array_equal(cut.animation.frames[0], cut.animation.frames[2])
    assert halo(cut.animation.frames[1], blob(centre=(60, 66)), BLUE).excess <= 1


def test_a_background_that_changes_is_cut_from_each_frame():
    known = blob()
    frames = [on(known, colour) for colour in BACKGROUNDS]
    found = cut_out(animation(frames, [100, 100, 100]))
    for frame, background in zip(found.animation.frames, BACKGROUNDS, strict=True):
        assert halo(frame, known, background).excess <= 1


def test_a_background_that_changes_in_part_is_refused():
    frames = np.full((3, 20, 20, 4), 255, np.uint8)
    frames[2, :, :14, :3] = 0
    with pytest.raises(CutOutError, match="changes: in frame 3"):
        cut_out(animation(frames, [100] * 3))


def test_a_subject_that_fills_the_canvas_after_a_transparent_frame_is_kept():
    frames = np.full((150, 20, 20, 4), (255, 136, 0, 255), np.uint8)
    frames[0, :6] = 0
    found = cut_out(animation(frames, [20] * 150))
    assert found.background is None
    assert (found.animation.frames == frames).all()


def test_frames_without_anything_visible_are_no_alpha_channel():
    frames = np.full((3, 20, 20, 4), 255, np.uint8)
    frames[:, 5:15, 5:15, :3] = 0
    frames[2] = 0
    found = cut_out(animation(frames, [100] * 3))
    assert found.background is not None
    assert found.animation.frames[:2, ..., 3].sum() == 2 * 100 * 255


def test_background_that_is_not_flat_is_refused():
    steps = np.linspace(0, 255, 64).astype(np.uint8)
    gradient = np.dstack([np.tile(steps, (64, 1))] * 3 + [np.full((64, 64), 255, dtype=np.uint8)])
    share = background_of(still(gradient)).flat_share
    assert share < 0.5
    with pytest.raises(CutOutError, match=f"the background is not flat: {share:.0%} of the border"):
        cut_out(still(gradient))


def test_bust_that_the_canvas_cuts_is_cut_out():
    image = on(blob(), GREY)[:60]
    cut = cut_out(still(image))
    assert cut.background.flat_share == pytest.approx(1 - cut.evidence[0].border, abs=0.03)
    assert cut_out(still(on(blob(), GREY))).evidence[0].border == 0 < cut.evidence[0].border


def test_specks_are_counted_and_removed():
    image = on(blob(), WHITE)
    image[5, 5] = image[120, 8] = (90, 90, 90, 255)
    cut = cut_out(still(image))
    assert cut.specks == 2
    assert cut.animation.frames[0][5, 5, 3] == 0
    assert cut.kept == pytest.approx((blob()[..., 3] >= 128).mean(), abs=1e-3)


def test_specks_of_an_own_alpha_are_counted_only():
    image = blob()
    image[5, 5] = (90, 90, 90, 255)
    cut = cut_out(still(image))
    assert cut.specks == 1
    assert cut.animation.frames[0][5, 5, 3] == 255


def test_noise_of_the_background_is_cut_too():
    rng = np.random.default_rng(0)
    known = blob()
    image = on(known, GREY)
    image[..., :3] = np.clip(image[..., :3] + rng.normal(0, 3, (128, 128, 3)), 0, 255)
    cut = cut_out(still(image))
    assert cut.background.tolerance > 2
    assert halo(cut.animation.frames[0], known, GREY).excess <= 2
    assert cut.animation.frames[0][:13, :, 3].max() == 0


def test_noise_on_the_edge_of_a_bin_is_one_colour():
    # 128 begins a bin of 16 levels: noise lies in eight of them, and a flat subject at the border in one.
    rng = np.random.default_rng(1)
    image = np.full((100, 100, 4), 255, dtype=np.uint8)
    image[..., :3] = np.clip(rng.normal(128, 3, (100, 100, 3)), 0, 255)
    image[60:] = (20, 200, 90, 255)
    background = background_of(still(image))
    assert np.abs(np.array(background.colour) - 128).max() <= 1
    assert background.flat_share == pytest.approx(218 / 396, abs=0.02)


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_jpeg_is_cut_out(background):
    known = blob()
    buffer = io.BytesIO()
    Image.fromarray(on(known, background)[..., :3]).save(buffer, "JPEG", quality=92, subsampling=0)
    image = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGBA"))
    cut = cut_of(image)
    assert halo(cut, known, background).excess <= 8
    assert (cut[known[..., 3] == 0][:, 3] > 32).mean() < 0.01


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2)])
def test_smallest_images(size):
    image = np.full((*size, 4), 255, dtype=np.uint8)
    cut = cut_out(still(image))
    assert cut.animation.frames.max() == 0
    assert cut.kept == 0


def test_empty_canvas_keeps_nothing():
    cut = cut_out(still(np.zeros((6, 6, 4), dtype=np.uint8)))
    assert cut.background is None
    assert (cut.kept, cut.specks, cut.evidence[0].border) == (0, 0, 0)


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("file", ["gopher/stickers/bye.png", "blobfox/stickers/blobfox.png"])
def test_halo_of_real_stickers_is_under_one_level(realdata, file, background):
    known = np.asarray(Image.open(realdata / file).convert("RGBA"))
    assert halo(cut_of(on(known, background)), known, background).excess <= 1
