import math

import numpy as np
import pytest

from sticker_pipeline.packing.animation import Animation, animation, still
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.fit import fit, rotated
from sticker_pipeline.packing.limits import FileLimits
from sticker_pipeline.packing.place import scaled
from sticker_pipeline.packing.quality import chat_error_db
from sticker_pipeline_tests.packing.encode.examples import disc_animation, ours


def noisy(n_frames: int = 4, side: int = 64) -> Animation:
    """A moving disc under noise, which compresses badly."""
    plain = disc_animation(n_frames, side)
    noise = np.random.default_rng(0).integers(-40, 41, plain.frames.shape)
    noise[..., 3] = 0
    frames = np.clip(plain.frames + noise, 0, 255).astype(np.uint8)
    return animation(frames, plain.durations)


def renders(source: Animation):
    return lambda side: scaled(source, (side, side))


def test_what_fits_is_lossless_at_the_largest_size():
    source = disc_animation(4, 96)
    found = fit(renders(source), [96, 48], FileLimits("APNG", 10**6))
    assert found.error_db == math.inf
    assert np.array_equal(found.animation.frames, source.frames)
    assert found.animation.durations == source.durations
    assert found.settings == {"size": 96, "frames": 4, "loops": 0, "fps": 20.0, "colours": None}


@pytest.mark.parametrize(
    ("format", "share"), [("APNG", 0.35), ("GIF", 0.5), ("WEBP", 0.4), ("WEBM", 0.3), ("PNG", 0.5)]
)
def test_bytes_are_within_the_limit_and_well_used(format, share):
    source = noisy() if format != "PNG" else still(noisy().frames[0])
    most = int(share * len(fit(renders(source), [64], FileLimits(format, 10**7)).data))
    found = fit(renders(source), [64], FileLimits(format, most))
    assert 0.6 * most < len(found.data) <= most
    assert found.error_db == pytest.approx(chat_error_db(source, found.animation), abs=0.01)
    assert 16 < found.error_db < 60
    decoded, _ = ours(found.data)
    assert np.array_equal(decoded, found.animation.frames)


def test_the_choice_is_better_than_the_largest_size_with_few_colours():
    """Error at chat size: 10 colours at 400 px are worse than all colours at 200 px."""
    source = noisy(2, 200)
    found = fit(renders(scaled(source, (400, 400))), [400, 200], FileLimits("APNG", 80_000))
    assert found.settings["size"] < 400
    exact = fit(renders(scaled(source, (400, 400))), [400], FileLimits("APNG", 80_000))
    assert len(exact.data) <= 80_000
    assert found.error_db > exact.error_db + 1


def test_the_size_of_the_original_needs_no_scaling():
    source = disc_animation(3, 60)
    found = fit(renders(source), [512, 100, 60, 40], FileLimits("APNG", 9000), original=source)
    assert found.settings["size"] == 60
    assert found.error_db == math.inf


def test_too_few_bytes_name_the_limit_and_a_remedy():
    with pytest.raises(PackError, match=r"no encoding as APNG has at most 200 bytes, even with 48 px: use fewer"):
        fit(renders(noisy()), [64, 48], FileLimits("APNG", 200))


def test_frames_are_dropped_before_the_sticker_is_refused():
    source = noisy(8, 40)
    found = fit(renders(source), [40], FileLimits("APNG", 1200))
    assert found.settings["frames"] < 8
    assert len(found.data) <= 1200
    assert found.animation.total_ms == source.total_ms


def test_all_limits_of_line_are_kept():
    source = disc_animation(30, 64)
    limits = FileLimits("APNG", 300_000, 4000, min_frames=5, max_frames=20, max_loops=4, whole_seconds=True)
    found = fit(renders(source), [64], limits)
    assert 5 <= len(found.animation.frames) <= 20
    assert found.animation.loops * found.animation.total_ms in (1000, 2000, 3000, 4000)


def test_a_video_has_steps_of_a_thirtieth():
    source = Animation(disc_animation(12, 64).frames, (20,) * 12)
    found = fit(renders(source), [64], FileLimits("WEBM", 256_000, 3000, min_frame_ms=33))
    assert set(found.animation.durations) <= {34, 35}
    assert found.animation.total_ms == 2 * source.total_ms


def test_a_png_shows_frame_one():
    source = noisy()
    found = fit(renders(source), [64], FileLimits("PNG", 10**6))
    assert np.array_equal(found.animation.frames, source.frames[:1])
    assert found.animation.durations == (0,)
    assert found.error_db == math.inf


def test_progress_is_counted():
    counted = []
    fit(renders(noisy()), [64], FileLimits("APNG", 9_000), lambda *given: counted.append(given))
    assert sorted({done for _, done, _ in counted}) == list(range(1, counted[-1][1] + 1))
    assert all(done <= total and text == "encodings tried" for text, done, total in counted)


def test_the_same_animation_gives_the_same_file():
    limits = FileLimits("APNG", 9_000)
    assert fit(renders(noisy()), [64, 48], limits).data == fit(renders(noisy()), [64, 48], limits).data


def squares(places: list[int], durations: list[int]) -> Animation:
    frames = np.zeros((len(places), 40, 40, 4), np.uint8)
    for frame, place in zip(frames, places, strict=True):
        frame[10:30, place : place + 20] = 200, 100, 50, 255
    return Animation(frames, tuple(durations))


def test_the_pose_that_is_held_becomes_frame_one():
    found = rotated(squares([2, 6, 10, 14, 10, 6], [50, 50, 50, 900, 50, 50]))
    assert found.durations == (900, 50, 50, 50, 50, 50)
    assert found.frames[0, 20, 14:34, 3].all()
    assert not found.frames[0, 20, :14, 3].any()


def test_a_loop_that_does_not_close_is_not_rotated():
    shown = squares([0, 1, 2, 3, 4, 5, 20], [50, 50, 50, 50, 50, 900, 50])
    assert rotated(shown) is shown


def test_a_best_first_frame_and_stills_stay():
    shown = squares([14, 10, 6, 2, 6, 10], [900, 50, 50, 50, 50, 50])
    assert rotated(shown) is shown
    one = still(shown.frames[0])
    assert rotated(one) is one
