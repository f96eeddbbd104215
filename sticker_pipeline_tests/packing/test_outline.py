"""Tests of outlines against exact distances."""

import numpy as np
import pytest

from sticker_pipeline.packing.animation import animation, still
from sticker_pipeline.packing.outline import (
    Shadow,
    outline_cover,
    outlined,
    rim_of,
    room_for,
    without_rim,
)
from sticker_pipeline_tests.packing.shapes import blob, disc, from_premultiplied, over


def disc_alpha(side, centre, radius):
    return np.rint(disc(side, centre, radius) * 255).astype(np.uint8)


@pytest.mark.parametrize("centre", [(48, 48), (47.3, 48.8)])
@pytest.mark.parametrize("width", [1, 4, 8.5])
def test_outline_of_a_disc_is_a_larger_disc(centre, width):
    cover = outline_cover(disc_alpha(96, centre, 25), width)
    assert np.abs(cover - disc(96, centre, 25 + width)).max() < 0.25
    assert cover.sum() == pytest.approx(np.pi * (25 + width) ** 2, rel=0.003)


@pytest.mark.parametrize("edge", [0, 64, 128, 200, 255])
def test_outline_of_a_straight_edge_is_exact(edge):
    alpha = np.zeros((64, 64), dtype=np.uint8)
    alpha[:, :20], alpha[:, 20] = 255, edge
    row = outline_cover(alpha, 8)[32]
    assert row.sum() == pytest.approx(20 + edge / 255 + 8, abs=1e-4)
    assert np.all(row[:28] == 1)
    assert np.all(row[29:] == 0)


def test_outline_is_the_same_in_all_directions():
    rgba = np.zeros((48, 48, 4), dtype=np.uint8)
    rgba[20:28, 20:28] = (10, 20, 30, 255)
    result = outlined(still(rgba), 6).frames[0]
    for turned in (result[::-1], result[:, ::-1], result.transpose(1, 0, 2)):
        assert np.array_equal(result, turned)
    # Round corners: Euclidean distance.
    assert result[14, 24, 3] == 255
    assert result[14, 14, 3] == 0


def test_subject_stays_on_top_of_its_outline():
    known = blob()
    result = outlined(still(known), 4, (255, 0, 255)).frames[0]
    solid = known[..., 3] == 255
    assert np.array_equal(result[solid], known[solid])
    edge = (known[..., 3] > 0) & ~solid
    assert np.all(result[edge][:, 3] == 255)
    expected = known[edge] / 255 * known[edge][:, 3:] + np.array([255, 0, 255, 0]) * (1 - known[edge][:, 3:] / 255)
    assert np.abs(result[edge][:, :3] - expected[:, :3]).max() <= 1


def test_isolated_faint_pixels_have_no_outline():
    alpha = np.zeros((32, 32), dtype=np.uint8)
    alpha[16, 16] = 30
    assert outline_cover(alpha, 5).max() == 0


def test_outline_needs_room():
    rgba = np.zeros((32, 32, 4), dtype=np.uint8)
    rgba[5:20, 8:20] = 255
    assert outlined(still(rgba), 5).frames[0][0, 10, 3] == 255
    with pytest.raises(ValueError, match="needs 6 pixels around the subject, and there are 5"):
        outlined(still(rgba), 6)


def test_room_counts_all_frames():
    near, far = np.zeros((2, 32, 32, 4), dtype=np.uint8)
    far[12:20, 12:20] = near[2:8, 12:20] = 255
    with pytest.raises(ValueError, match="there are 2"):
        outlined(animation([far, near], [10, 10]), 4)


def test_empty_frames_stay_empty():
    assert outlined(still(np.zeros((4, 4, 4), dtype=np.uint8)), 8).frames.max() == 0


def test_shadow_lies_below_and_fades():
    rgba = np.zeros((64, 64, 4), dtype=np.uint8)
    rgba[28:36, 28:36] = 255
    shadow = Shadow(offset=(0, 3), blur_px=2, opacity=0.5)
    assert room_for(4, shadow) == 12
    result = outlined(still(rgba), 4, shadow=shadow).frames[0]
    assert tuple(result[31, 31]) == (255, 255, 255, 255)
    below, above = result[42, 31, 3], result[23, 31, 3]
    assert 0 < above < below < 128
    assert np.all(result[42, 31, :3] == 0)
    assert result[:16].max() == 0


def test_our_outline_is_found_and_removed():
    known = blob(160, (80, 76), 45)
    rimmed = outlined(still(known), 7)
    rim = rim_of(rimmed)
    assert rim.colour == (255, 255, 255)
    assert rim.share > 0.95
    assert abs(rim.width_px - 7) <= 2
    stripped = without_rim(rimmed).frames[0].astype(int)
    premultiplied, expected = (image[..., :3] / 255 * image[..., 3:] for image in (stripped, known))
    assert np.abs(premultiplied - expected).mean() < 0.1
    assert np.abs(stripped[..., 3] - known[..., 3]).mean() < 0.1


@pytest.mark.parametrize("hairline", [0.7, 1.4])
def test_a_thin_line_around_a_rim_goes_with_it(hairline):
    """Many die-cut stickers have a grey line around their white outline."""
    side, centre = 128, (64, 64)
    line = over(np.zeros((side, side, 4)), (200, 198, 213), disc(side, centre, 40 + 7 + hairline))
    white = over(line, (255, 255, 255), disc(side, centre, 40 + 7))
    drawn = over(over(white, (60, 47, 65), disc(side, centre, 40)), (240, 90, 40), disc(side, centre, 36))
    known = disc(side, centre, 40)
    stripped = without_rim(still(from_premultiplied(drawn))).frames[0]
    assert np.abs(stripped[..., 3] / 255 - known).mean() < 0.002
    assert stripped[disc(side, centre, 43) == 0].max() == 0


@pytest.mark.parametrize(("rimmed", "found"), [(8, True), (2, True), (1, False)])
def test_a_quarter_of_the_frames_shows_a_rim(rimmed, found):
    plain = blob(160, (80, 76), 45)
    outline = outlined(still(plain), 7).frames[0]
    shown = animation([outline] * rimmed + [plain] * (8 - rimmed), [100] * 8)
    assert (rim_of(shown) is not None) == found


def test_dark_line_of_a_drawing_is_no_rim():
    assert rim_of(still(blob())) is None


def test_plain_body_is_no_rim():
    light = from_premultiplied(over(np.zeros((96, 96, 4)), (250, 230, 120), disc(96, (48, 48), 36)))
    assert rim_of(still(light)) is None


def test_half_a_rim_is_none():
    known = blob(160, (80, 76), 45)
    rimmed = outlined(still(known), 7).frames[0]
    rimmed[80:] = known[80:]
    assert rim_of(still(rimmed)) is None


def test_without_a_rim_nothing_changes():
    sticker = still(blob())
    assert without_rim(sticker) is sticker
    empty = still(np.zeros((3, 3, 4), dtype=np.uint8))
    assert without_rim(empty) is empty
