"""Damaged files give frames that keep the contract, or a refusal with a reason, within limits.

Limits are of time and memory. benchmarks/bench_fuzz.py is the long run, in its own processes.
"""

import resource
import sys
import tempfile
from datetime import timedelta

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sticker_pipeline_tests.media.fuzz import KINDS, LIMITS, MAKERS, Damage, check, damaged, outcome, seeds

MOST_GROWTH = 200_000_000  # bytes of memory
IMAGES = [name for name in MAKERS if not name.startswith(("MP4", "WEBM"))]
VIDEOS = [name for name in MAKERS if name.startswith(("MP4", "WEBM"))]
DAMAGES = st.lists(
    st.builds(
        Damage,
        kind=st.sampled_from(KINDS),
        where=st.floats(0, 1, allow_nan=False),
        size=st.integers(1, 64),
        value=st.integers(0, (1 << 32) - 1),
    ),
    min_size=1,
    max_size=4,
)
CASE = {"damages": DAMAGES, "other": st.sampled_from(IMAGES), "repair": st.booleans()}


def steady(cases: int) -> settings:
    """The same cases each time, each within ten seconds."""
    return settings(
        max_examples=cases,
        deadline=timedelta(seconds=10),
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_or_grows(tmp_path_factory):
    seeds()
    tempfile.tempdir = str(tmp_path_factory.mktemp("temporary"))
    before, children = peak_bytes(), set(psutil.Process().children())
    yield
    left, tempfile.tempdir = list(tmp_path_factory.getbasetemp().glob("temporary*/*")), None
    assert left == []
    assert set(psutil.Process().children()) == children
    assert peak_bytes() - before < MOST_GROWTH


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("name", MAKERS)
def test_the_seeds_are_whole(name):
    assert check(seeds()[name], LIMITS) == frames_of(name)


def frames_of(name: str) -> int:
    if name in VIDEOS:
        return 5
    return 4 if name.startswith(("GIF", "APNG")) or name in ("WEBP animated", "AVIF sequence") else 1


@pytest.mark.filterwarnings("ignore")  # Pillow's own, about damaged EXIF
@pytest.mark.parametrize("name", IMAGES)
@steady(150)
@given(**CASE)
def test_damaged_images(name, damages, other, repair):
    assert outcome(damaged(seeds()[name], damages, seeds()[other], repair=repair), LIMITS)


@pytest.mark.parametrize("name", VIDEOS)
@steady(50)
@given(**CASE)
def test_damaged_videos(name, damages, other, repair):
    assert outcome(damaged(seeds()[name], damages, seeds()[other], repair=repair), LIMITS)


@pytest.mark.parametrize("name", MAKERS)
def test_cut_off_anywhere(name):
    """Every length near the beginning, where the headers are, and some of the others."""
    data = seeds()[name]
    step = 1 if name in IMAGES else 16
    lengths = [*range(0, min(64, len(data)), step), *range(64, len(data), max(1, len(data) // (64 // step)))]
    for length in lengths:
        assert outcome(data[:length], LIMITS)
