from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.text import Encoded
from sticker_pipeline.training.cache.latents import LatentEntry
from sticker_pipeline.training.conditioning import cached_text, conditions, time_ids, variants_to_encode

ENTRY = LatentEntry(torch.zeros(4, 8, 16), torch.zeros(4, 8, 16), torch.ones(1, 8, 16), size=(300, 500), crop=(0, 12))


def test_time_ids_are_sizes_and_crops_in_pixels() -> None:
    assert time_ids(ENTRY, 8) == [300, 500, 0, 12, 64, 128]


def test_sdxl_is_told_more_than_sd15() -> None:
    encoded = Encoded(torch.zeros(1, 77, 6), torch.ones(1, 5))
    for name, further in (("sd15", set()), ("sdxl", {"text_embeds", "time_ids"})):
        vae = SimpleNamespace(config=SimpleNamespace(block_out_channels=[1, 1, 1, 1]))
        models = SimpleNamespace(family=FAMILIES[name], dtype=torch.float16, vae=vae)
        found = conditions(models, encoded, [ENTRY], torch.device("cpu"))  # type: ignore[arg-type]
        assert found.keys() == {"encoder_hidden_states"} | further
        assert {tensor.dtype for tensor in found.values()} == {torch.float16}
    assert found["time_ids"].tolist() == [[300, 500, 0, 12, 64, 128]]
    assert torch.equal(found["text_embeds"], torch.ones(1, 5, dtype=torch.float16))


def test_a_caption_is_encoded_as_written_and_then_as_it_is_drawn() -> None:
    assert variants_to_encode(TrainingSettings())("a, b") == ["a, b"]
    found = variants_to_encode(TrainingSettings(shuffle_tags=True, caption_variants=5))("a, b, c")
    assert found[0] == "a, b, c" and len(found) == 6
    assert all(text.startswith("a, ") and sorted(text.split(", ")) == ["a", "b", "c"] for text in found)


class Kept:
    """Encodings that record their requests: "plain" has one variant, the others have 1 to 4 beside the text itself."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def variants(self, text: str) -> int:
        return 1 if text in ("plain", "") else 5

    def batch(self, texts: list[str], numbers: list[int]) -> Encoded:
        self.asked += zip(texts, numbers, strict=True)
        return Encoded(torch.zeros(len(texts), 77, 1), None)


def test_drawn_variants_are_all_but_the_text_itself() -> None:
    kept = Kept()
    text = cached_text(kept, TrainingSettings(caption_dropout=0.25))  # type: ignore[arg-type]
    text(["plain", "varied"] * 2000, np.random.default_rng(0))()
    numbers = [number for caption, number in kept.asked if caption == "varied"]
    assert set(numbers) == {1, 2, 3, 4}
    assert np.bincount(numbers)[1:] / len(numbers) == pytest.approx([0.25] * 4, abs=0.05)
    assert {number for caption, number in kept.asked if caption in ("plain", "")} == {0}
    assert sum(caption == "" for caption, _ in kept.asked) / 4000 == pytest.approx(0.25, abs=0.03)
    kept.asked.clear()
    text(["varied"], None)()
    assert kept.asked == [("varied", 0)]
