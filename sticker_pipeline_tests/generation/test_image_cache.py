"""Cached images: never generated again, and never mistaken for others."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.diffusion.lora.trained_for import TrainedFor
from sticker_pipeline.generation.image_cache import VERSION, cached_images, decisive
from sticker_pipeline.generation.prompts import Request

REQUESTS = [Request("art", f"prompt {number}", seed) for number in range(2) for seed in (1, 2)]


class Painter:
    """Draws a plain colour for each request, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def __call__(self, requests: Sequence[Request]) -> Iterator[Image.Image]:
        for request in requests:
            self.asked.append(request)
            yield Image.new("RGB", (2, 2), (request.seed, len(request.prompt), int(request.prompt[-1])))


def decided(**changes: Any) -> dict[str, Any]:
    values = {
        "base": "b",
        "loras": [("l", 1.0)],
        "settings": GenerationSettings(),
        "resolution": 64,
        "trained": TrainedFor(),
    }
    return decisive(**{**values, **changes})


def test_only_what_is_missing_is_drawn(tmp_path: Path) -> None:
    painter = Painter()
    first = cached_images(REQUESTS[1:3], decided(), tmp_path, painter, 2)
    again = cached_images([*REQUESTS, REQUESTS[0]], decided(), tmp_path, painter, 2)
    assert painter.asked == [*REQUESTS[1:3], REQUESTS[0], REQUESTS[3]]  # once each, also where it is asked for twice
    assert [image.getpixel((0, 0)) for image in again] == [(1, 8, 0), (2, 8, 0), (1, 8, 1), (2, 8, 1), (1, 8, 0)]
    assert [image.tobytes() for image in first] == [image.tobytes() for image in again[1:3]]


def test_an_interrupted_batch_is_drawn_again_as_a_whole(tmp_path: Path) -> None:
    """Together with others an image is rounded otherwise."""

    def interrupted(requests: Sequence[Request]) -> Iterator[Image.Image]:
        yield from islice(Painter()(requests), 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_images(REQUESTS, decided(), tmp_path, interrupted, 2)
    painter = Painter()
    cached_images(REQUESTS, decided(), tmp_path, painter, 2)
    assert painter.asked == REQUESTS[2:]
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize(
    "change",
    [
        {"base": "other"},
        {"loras": [("other", 1.0)]},
        {"loras": []},
        {"loras": [("l", 0.5)]},
        {"loras": [("l", 1.0), ("m", 1.0)]},
        {"settings": GenerationSettings(guidance_scale=3.0)},
        {"resolution": 128},
        {"trained": TrainedFor(clip_skip=2)},
        {"trained": TrainedFor(prediction="epsilon")},
        {"trained": TrainedFor(zero_terminal_snr=True)},
    ],
)
def test_whatever_decides_an_image_makes_another(tmp_path: Path, change: dict[str, Any]) -> None:
    painter = Painter()
    cached_images(REQUESTS, decided(), tmp_path, painter, 2)
    cached_images(REQUESTS, decided(**change), tmp_path, painter, 2)
    assert painter.asked == [*REQUESTS, *REQUESTS]


def test_each_of_several_loras_decides() -> None:
    both = [("l", 1.0), ("m", 0.5)]
    others = [both, both[::-1], both[:1], [("l", 1.0), ("m", 1.0)], [("l", 1.0), ("n", 0.5)], [*both, ("o", 1.0)]]
    assert len({content_hash(decided(loras=loras)) for loras in others}) == len(others)


def test_what_one_lora_drew_keeps_its_name() -> None:
    """As it was when an image could have one LoRA only, but for the version."""
    of_settings = GenerationSettings().model_dump(mode="json", exclude={"batch_size"})
    before = {"version": VERSION, "base": "b", "lora": "l", "strength": 1.0, "settings": of_settings, "resolution": 64}
    assert decided() == before
    assert decided(loras=[]) == {**before, "lora": None, "strength": None}


def test_the_batch_size_decides_nothing() -> None:
    assert decided() == decided(settings=GenerationSettings(batch_size=3))


def test_what_was_drawn_before_a_failure_is_kept(tmp_path: Path) -> None:
    def failing(requests: Sequence[Request]) -> Iterator[Image.Image]:
        yield from list(Painter()(requests))[:2]
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        cached_images(REQUESTS, decided(), tmp_path, failing, 2)
    painter = Painter()
    cached_images(REQUESTS, decided(), tmp_path, painter, 2)
    assert painter.asked == REQUESTS[2:]
