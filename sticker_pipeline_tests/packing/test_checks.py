"""Checks of a pack: each passes, and fails for its own reason."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.packing.animation import Animation, animation
from sticker_pipeline.packing.build import Sticker, is_cut_out
from sticker_pipeline.packing.checks import (
    CHECKS,
    alpha_survives,
    clean,
    first_frame_whole,
    fits_platforms,
    loop_closes,
    no_copies,
    no_gaps,
    nothing_left_out,
    policy_of_generated_art,
    quality,
    read_verdicts,
    readable,
    written,
)
from sticker_pipeline.packing.encode.formats import ENCODERS
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline.packing.finish import Look
from sticker_pipeline.packing.platforms import platform_kind
from sticker_pipeline.packing.verify import Fault
from sticker_pipeline_tests.packing.test_choose import rows


def disc(radius: int, centre: tuple[int, int] = (64, 64), colour: tuple[int, int, int] = (220, 40, 40)) -> np.ndarray:
    y, x = np.mgrid[:128, :128]
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2
    return np.where(inside[..., None], np.array([*colour, 255]), 0).astype(np.uint8)


def sticker(folder: Path, shown: Animation, slot: str = "hello", candidate: str = "c0") -> Sticker:
    data = ENCODERS["PNG" if shown.is_still else "APNG"](shown, Settings())
    file = folder / f"{slot}.png"
    file.write_bytes(data)
    return Sticker(slot, candidate, file, "0" * 64, not shown.is_still, ("👋",), (), "", True)


def moving(*frames: np.ndarray) -> Animation:
    return animation(frames, [100] * len(frames))


def test_rules_of_platforms() -> None:
    assert fits_platforms({"line": []}).passed
    kind = platform_kind("line", "static")
    fault = Fault("max_bytes", "2 MB", "1 MB", kind.source(kind.rules.max_bytes), "01.png")
    found = fits_platforms({"line": [fault], "signal": []})
    assert not found.passed and "01.png: max_bytes: 2 MB, and it must be 1 MB" in found.summary
    assert found.evidence["platform"].tolist() == ["line"]


def test_a_lost_alpha_channel() -> None:
    assert is_cut_out(moving(disc(40), disc(40, (70, 64))))
    opaque = disc(40)
    opaque[..., 3] = 255
    assert not is_cut_out(moving(disc(40), opaque))
    assert not is_cut_out(moving(disc(40) * np.array([1, 1, 1, 0], np.uint8), disc(0) * 0))  # nothing shows
    assert alpha_survives([]).passed
    assert alpha_survives(["telegram video: hello"]).summary == "the alpha channel is lost: telegram video: hello"


def test_the_first_frame_and_the_loop(tmp_path: Path) -> None:
    small, large = disc(15), disc(50)
    assert first_frame_whole([sticker(tmp_path, moving(large, large, large))]).passed
    found = first_frame_whole([sticker(tmp_path, moving(small, large, large))])
    assert not found.passed and found.summary.startswith("hello: the first frame covers less than")
    steps = [disc(30, (40 + 4 * step, 64)) for step in range(10)]
    there_and_back = [*steps, *steps[-2:0:-1]]
    assert loop_closes([sticker(tmp_path, moving(*there_and_back))]).passed
    assert not loop_closes([sticker(tmp_path, moving(*steps))]).passed
    assert loop_closes([sticker(tmp_path, animation([large], [0]))]).summary == "there is no animation"


def test_what_cannot_be_read_when_small(tmp_path: Path) -> None:
    assert readable([sticker(tmp_path, animation([disc(50)], [0]))], Look(0)).passed
    faint = sticker(tmp_path, animation([disc(4, colour=(250, 250, 250))], [0]), "faint")
    found = readable([faint], Look(0))
    # A disc of 8 pixels fills its canvas: on white, its near white shows no edge.
    assert not found.passed and found.summary.startswith("faint: ")


def test_copies_and_dirty_cut_outs_that_a_person_accepted(tmp_path: Path) -> None:
    shown = sticker(tmp_path, animation([disc(50)], [0]))
    fine, copied, dirty = rows({}), rows({"nearest": 0.95}), rows({"specks": 9})
    assert no_copies([shown], fine).passed and clean([shown], fine).passed
    assert no_copies([shown], copied).summary == "copies of training images: hello"
    assert clean([shown], dirty).summary == "cut off, or with specks: hello"
    assert no_copies([replace(shown, candidate="other")], copied).passed  # not chosen
    assert no_copies([shown], rows({"nearest": 0.95, "origin": "own"})).passed


@pytest.mark.parametrize(("lowest", "passes"), [(30.0, True), (29.9, False), (float("nan"), True)])
def test_quality(lowest: float, passes: bool) -> None:
    table = pd.DataFrame(
        {
            "platform": "telegram", "kind": "video", "slot": ["a", "b"], "error_db": [float("nan"), lowest],
            "bytes": 1, "settings": "{}",
        }
    )  # fmt: skip
    found = quality(table)
    assert found.passed == passes
    if not passes:
        assert found.summary == "1 file below 30 dB; the worst is b for telegram video, 29.9 dB"


def test_gaps_and_what_is_left_out() -> None:
    assert (
        no_gaps({}).passed and no_gaps({"thanks": "no candidate", "sorry": "a copy"}).summary == "no thanks, no sorry"
    )
    assert nothing_left_out({"line": []}).passed
    found = nothing_left_out({"line": ["bye: too many"], "signal": []})
    assert not found.passed and found.summary == "left out: line 1; bye: too many"


def test_generated_art() -> None:
    assert policy_of_generated_art(["kakao"], 0).passed
    found = policy_of_generated_art(["telegram", "kakao"], 3)
    assert not found.passed and found.summary.startswith("kakao: ")
    assert found.evidence["platform"].tolist() == ["telegram", "kakao"]


def test_verdicts_are_read_as_they_were_written() -> None:
    found = {"no_gaps": no_gaps({"thanks": "why; 'so'"}), "quality": fits_platforms({"line": []})}
    again = read_verdicts(written(found))
    assert {name: (one.passed, one.summary) for name, one in again.items()} == {
        name: (one.passed, one.summary) for name, one in found.items()
    }
    assert again["no_gaps"].evidence.to_dict("list") == found["no_gaps"].evidence.to_dict("list")
    assert len(CHECKS) == 11
