"""The card of a release, word for word."""

from datetime import UTC, datetime
from pathlib import Path

import yaml

from sticker_pipeline.publishing.model_card import model_card
from sticker_pipeline.publishing.release import Data, Release, publish
from sticker_pipeline_tests.publishing.candidates import candidate

EXPECTED = Path(__file__).with_name("expected_card.md")


def released(tmp_path: Path, content: bytes = b"one", **changes: object) -> Release:
    made = candidate(tmp_path / "made", content, **changes)
    return publish(tmp_path / "releases", made, datetime(2026, 3, 1, 12, 30, tzinfo=UTC)).release


def test_the_card_word_for_word(tmp_path: Path) -> None:
    assert model_card(released(tmp_path)) == EXPECTED.read_text(encoding="utf-8")


def test_what_differs_is_said(tmp_path: Path) -> None:
    released(tmp_path)
    metrics = candidate(tmp_path / "made", b"").metrics.assign(model=["rival_x", "released", *["lora"] * 8])
    card = model_card(
        released(tmp_path, b"two", family="sdxl", data=Data(pictures=4, clips=4, held_out_pictures=7, held_out_clips=3),
                 base_model="some/base: v1", metrics=metrics)
    )  # fmt: skip
    assert "A LoRA of one character for Stable Diffusion XL: release 2" in card
    assert "- It replaced release 1\n" in card
    assert "- Only 3 clips are held out: the intervals are narrower than they should be." in card
    assert "|  | style | this LoRA | release before | rival_x |" in card
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["base_model"], front["tags"][2]) == ("some/base: v1", "stable-diffusion-xl")
    assert str(tmp_path) not in card
