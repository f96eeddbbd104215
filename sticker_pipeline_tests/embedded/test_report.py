"""The report's own small parts; its metrics are tested with their code."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.embedded import report
from sticker_pipeline.embedded.dataset import fresh_drawings
from sticker_pipeline.embedded.obedience import Share
from sticker_pipeline.embedded.vae import Fidelity

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "models" / "embedded"


def test_folder_bytes_counts_files_below(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"12345")
    (tmp_path / "c").write_bytes(b"123")
    assert report.folder_bytes(tmp_path) == 8


def test_grid_places_images_in_rows() -> None:
    images = [np.full((4, 4, 3), 10 * number, dtype=np.uint8) for number in range(5)]
    sheet = np.asarray(report.grid(images, 3))
    assert sheet.shape == (8, 12, 3)
    assert [int(sheet[0, column, 0]) for column in (0, 4, 8)] == [0, 10, 20]
    assert [int(sheet[4, column, 0]) for column in (0, 4, 8)] == [30, 40, 255]


def test_first_rows() -> None:
    drawings = fresh_drawings(4, seed=1)
    some = report.first_rows(drawings, 3)
    assert len(some) == 3
    assert some.tags == drawings.tags[:3]
    np.testing.assert_array_equal(some.pixels, drawings.pixels[:3])


def test_the_shipped_report_names_its_images_and_figures() -> None:
    text = (SHIPPED / "REPORT.md").read_text()
    for name in ("vae.webp", "base_sticker.webp", "base_art.webp"):
        assert f"report/{name}" in text
        assert (SHIPPED / "report" / name).is_file()
    for words in ("macro-F1", "AUC", "shuffled / right", "seconds", "python -m sticker_pipeline.embedded"):
        assert words in text


@pytest.mark.parametrize(("value", "passed"), [(0.69, False), (0.70, True), (math.nan, False)])
def test_a_gate_passes_at_its_limit(value: float, passed: bool) -> None:
    assert report.Gate("share", value, least=0.7).passed is passed
    assert report.verdict(report.Gate("share", value, least=0.7)).startswith("passed" if passed else "FAILED")


def test_base_gates_fail_one_by_one(tmp_path: Path) -> None:
    probe = {300: (0.2, 0.3), 600: (0.2, 0.4), 850: (0.2, 0.6)}
    good = {kind: Share(least, 256) for kind, least in report.OBEDIENCE.items()}
    found = {"full": good, "short": {kind: Share(share.found - 0.10, 64) for kind, share in good.items()}}

    def failed(**changed: object) -> list[str]:
        arguments = {"fidelity": Fidelity(27.0, 27.5, 5.0), "probe": probe, "found": found} | changed
        gates = report.base_gates(tmp_path, **arguments)  # type: ignore[arg-type]
        return [gate.name for gate in gates if not gate.passed]

    assert failed() == []
    assert failed(fidelity=Fidelity(27.0, 26.9, 5.0)) == ["autoencoder: PSNR of art, dB"]
    assert failed(probe={**probe, 850: (0.2, 0.39)}) == ["probe: shuffled / right at t = 850"]
    assert failed(found={**found, "full": {**good, "pose": Share(0.69, 256)}}) == ["full prompts: pose"]
    assert failed(found={**found, "short": {**found["short"], "expression": Share(0.54, 64)}}) == [
        "five tags: expression, share lost"
    ]


def test_lora_gates_look_at_the_worst_character_and_style() -> None:
    row = {
        "settings": "{}", "seed": 0, "medium": "art", "base": 0.1, "lora": 0.6, "references": 0.8,
        "share_of_ceiling": 0.75, "without_trigger": 0.2, "trigger_effect": 0.4, "free_base": 0.8, "free_lora": 0.75,
        "nearest_lora": 0.7, "nearest_holdout": 0.8, "diversity": 0.3, "train_seconds": 60.0,
    }  # fmt: skip
    good = [{**row, "character": name, "seed": seed} for name in "ab" for seed in range(3)]
    other = {**row, "character": "a", "settings": '{"rank": 1}', "share_of_ceiling": 0.1}
    assert all(gate.passed for gate in report.lora_gates(pd.DataFrame([*good, other])))
    bad = [{**entry, "share_of_ceiling": 0.6} if entry["character"] == "b" else entry for entry in good]
    failed = [gate for gate in report.lora_gates(pd.DataFrame(bad)) if not gate.passed]
    assert [gate.name for gate in failed] == ["LoRA: similarity, share of the ceiling"]
    assert failed[0].value == pytest.approx(0.6)


def test_the_section_on_loras_needs_a_training_sweep(tmp_path: Path) -> None:
    assert report.lora_section(tmp_path).text == ""


def test_the_shipped_report_has_its_training_sweep() -> None:
    rows = json.loads((SHIPPED / "report" / report.TRAINING_SWEEP).read_text())
    assert {row["character"] for row in rows} == {"bram_thistle", "pip_comet", "velvet_moth"}
    text = (SHIPPED / "REPORT.md").read_text()
    for gate in report.lora_gates(pd.DataFrame(rows)):
        assert f"| {gate.name} | {gate.value:.3f} |" in text
