"""Seconds of generation, measured once for each set of settings that affects them."""

from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.generation import timing
from sticker_pipeline.generation.generate import open_pipeline, without_loras
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.generation.timing import kept_seconds, seconds_per_image


def test_the_fastest_batch_counts_after_an_image_to_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 19.0, 20.0, 26.0, 30.0, 37.5])
    drawn: list[int] = []

    def generate(pipeline: Any, requests: list[Request], *_: Any) -> list[Request]:
        drawn.append(len(requests))
        return requests

    monkeypatch.setattr(timing, "generate", generate)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    requests = [Request("art", "x", 1), Request("art", "y", 2)]
    assert seconds_per_image(None, requests, GenerationSettings(batch_size=3), 64) == 2.0  # 6 s for 3 images
    assert drawn == [1, 3, 3, 3]


def test_more_steps_take_longer(tiny_profile: Profile) -> None:
    model, requests = without_loras(open_pipeline(tiny_profile)), [Request("art", "x", 1)]
    few, many = (
        seconds_per_image(model, requests, GenerationSettings(steps=steps, batch_size=2), 32) for steps in (1, 20)
    )
    assert 0 < few < many


def test_what_decides_the_time_is_measured_once(tmp_path: Path) -> None:
    own = GenerationSettings(steps=4, guidance_scale=4.0)
    measured: list[float] = []

    def measure() -> float:
        measured.append(float(len(measured) + 1))
        return measured[-1]

    def seconds(settings: GenerationSettings = own, base: str = "b", resolution: int = 96) -> float:
        return kept_seconds(base, settings, resolution, tmp_path, measure)

    assert [seconds(), seconds(), seconds(own.model_copy(update={"guidance_scale": 7.0}))] == [1.0, 1.0, 1.0]
    others = [{"steps": 8}, {"guidance_scale": 1.0}, {"scheduler": "ddim"}, {"batch_size": 1}]
    assert [seconds(own.model_copy(update=change)) for change in others] == [2.0, 3.0, 4.0, 5.0]
    assert [seconds(base="c"), seconds(resolution=64), seconds()] == [6.0, 7.0, 1.0]
