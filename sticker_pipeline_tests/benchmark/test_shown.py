"""Display of a benchmark: its line, its history, and its images."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from sticker_pipeline.benchmark.shown import headline, plotted, shown_images, spread, trigger_note_of

ROWS = pd.DataFrame(
    [
        ("base", "art", "clip_similarity", 0.1),
        ("lora", "art", "clip_similarity", 0.8),
        ("lora", "art", "identity", 1.0),
        ("base", "sticker", "clip_similarity", 0.25),
        ("lora", "sticker", "clip_similarity", 0.75),
    ],
    columns=["model", "medium", "metric", "mean"],
)


def test_the_line_has_base_and_lora_of_each_medium() -> None:
    assert headline(ROWS) == "similarity: art: base 0.100, LoRA 0.800; sticker: base 0.250, LoRA 0.750"
    assert headline(ROWS[ROWS["metric"] == "identity"]) == "no medium has held-out images"
    assert plotted(ROWS) == {"similarity_art": 0.8, "similarity_sticker": 0.75}


def test_the_trigger_is_that_of_the_lora_over_all_mediums() -> None:
    rows = [("base", "all", -1.0), ("lora", "art", -1.0), ("lora", "all", 0.1)]
    table = pd.DataFrame(rows, columns=["model", "medium", "ci_low"]).assign(metric="trigger_effect")
    assert trigger_note_of(table) == ""
    assert trigger_note_of(table.assign(ci_low=0.0)) == "The trigger adds nothing measurable."


@pytest.mark.parametrize(("count", "rows"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (20, list(range(10)))])
def test_rows_are_spread_evenly(count: int, rows: list[int]) -> None:
    assert spread(pd.DataFrame({"row": range(10)}), count)["row"].tolist() == rows


def test_holdout_images_stand_beside_those_of_the_models(tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        Image.new("RGB", (1, 1), (number, 0, 0)).save(tmp_path / name)
    sampled = pd.DataFrame({"medium": ["art"] * 2, "model": ["base", "lora"], "file": ["a.png", "b.png"]})
    holdout = pd.DataFrame({"medium": ["art"], "file": ["c.png"]})
    found = shown_images(sampled, tmp_path, holdout, tmp_path)
    pixels = {key: [image.getpixel((0, 0))[0] for image in images] for key, images in found.items()}
    assert pixels == {("art", "base"): [0], ("art", "lora"): [1], ("art", "reference"): [2]}
