"""Results of a training."""

from pathlib import Path

import pandas as pd
from PIL import Image

from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.training.logs.results import checkpoints_of, collect, headline, is_checkpoint, sample_grid


def trained(folder: Path) -> None:
    for epoch in (1, 2):
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "samples").mkdir(exist_ok=True)
        (folder / "checkpoints" / f"epoch_{epoch:02d}.safetensors").write_bytes(bytes([epoch]))
        for prompt in range(3):
            image = Image.new("RGB", (4, 4), (100 * epoch, 50 * prompt, 0))
            image.save(folder / "samples" / f"epoch_{epoch:02d}_{prompt}.png")


def test_states_and_unfinished_checkpoints_stay_behind(tmp_path: Path) -> None:
    trained(tmp_path / "work")
    (tmp_path / "work" / "checkpoints" / "interrupted.safetensors").write_bytes(b"x")
    (tmp_path / "work" / "state").mkdir()
    (tmp_path / "work" / "state" / "state.pt").write_bytes(b"x")
    (tmp_path / "work" / "spec.json").write_text("{}")
    store = ArtifactStore(tmp_path / "artifacts")
    with store.writing("moth", "lora") as staging:
        collect(tmp_path / "work", staging)
        artifact = store.publish(
            staging, "moth", "lora", code_version="1", inputs={}, settings={}, content=is_checkpoint
        )
    samples = {f"samples/epoch_{epoch:02d}_{prompt}.png" for epoch in (1, 2) for prompt in range(3)}
    checkpoints = {f"checkpoints/epoch_{epoch:02d}.safetensors" for epoch in (1, 2)}
    assert set(artifact.files) == {"spec.json", *samples, *checkpoints}
    assert {epoch: path.read_bytes() for epoch, path in checkpoints_of(artifact).items()} == {1: b"\1", 2: b"\2"}
    assert {name for name in artifact.files if is_checkpoint(name)} == checkpoints


def test_samples_have_a_row_for_each_prompt_and_a_column_for_each_epoch(tmp_path: Path) -> None:
    trained(tmp_path)
    grid = sample_grid(tmp_path)
    left, top, side = 84, 4 + 12, 88
    assert grid.size == (left + 2 * side, top + 3 * side)
    assert grid.getpixel((left + side + 44, top + 2 * side + 42)) == (200, 100, 0)
    log = pd.DataFrame({"seconds": [1.0, 2.4], "loss": [0.5, 0.25]})
    assert headline(tmp_path, log) == "2 epochs, 2 steps, 3 s of steps, last loss 0.3750"
