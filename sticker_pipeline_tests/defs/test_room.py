"""A step without enough room stops only its own character; a full disk damages nothing.

test_line compares the requested room with the used one.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from sticker_pipeline.cli.update import update
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.definitions import defs
from sticker_pipeline.defs.resources import workspace_from_environment
from sticker_pipeline_tests.defs.conftest import Bench
from sticker_pipeline_tests.full_disk import files_below, small_disk, with_free

DATASET = ("raw_media", "frames", "frame_weights", "wd14_tags", "curated_tags", "training_set")
MIB = 2**20


def made(bench: Bench, artifacts: Path, *names: str) -> list[str]:
    """Update the characters' datasets in the folder `artifacts`; returns those that failed."""
    characters = [bench.character(name) for name in names]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STICKER_ARTIFACTS", str(artifacts))
        workspace, definitions = workspace_from_environment(), defs()
        return update(
            definitions, bench.instance, workspace, characters, Console(quiet=True), jobs=["dataset_line"]
        ).failed


def versions(store: ArtifactStore, name: str) -> dict[str, str]:
    return {asset: store.read(name, asset).data_version for asset in DATASET}


@pytest.fixture(scope="module")
def small(bench: Bench) -> Bench:
    """A small character with its dataset, and one with an image that takes ten times as much."""
    bench.add_character("small", "pip_comet")
    big = bench.add_character("big", "pip_comet")
    pixels = np.random.default_rng(7).integers(0, 256, (1400, 1400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(big / "art" / "large.png")
    return bench


def test_a_character_that_does_not_fit_does_not_stop_another(
    small: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 64 * MIB) as disk:
        with with_free(disk, 5 * MIB):
            assert made(small, disk, "big", "small") == ["big"]
        said = [line.strip() for line in capsys.readouterr().out.splitlines() if "needs up to" in line]
        refused, fits = said
        assert refused.startswith(f"{disk / 'big' / 'frames'}: frames of big needs up to ")
        assert refused.endswith(" free. Make room there, or choose another folder, and run this again.")
        assert fits.startswith(f"{disk / 'small' / 'frames'}: frames of small needs up to ")
        assert fits.endswith(" free: it just fits.")
        store = ArtifactStore(disk)
        assert store.find("big", "raw_media") and not store.find("big", "frames")
        kept = versions(store, "small")
        assert made(small, disk, "big", "small") == []
        assert versions(store, "small") == kept and store.read("big", "training_set").files


def test_a_disk_that_fills_at_any_step_leaves_what_was_made(
    small: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sticker_pipeline.dagster_kit.room.enough", lambda *_: None)
    monkeypatch.setattr("sticker_pipeline.dagster_kit.step.check_places", lambda *_: None)
    elsewhere = tmp_path / "elsewhere"
    assert made(small, elsewhere, "small") == []
    with small_disk(tmp_path / "disk", 64 * MIB) as disk:
        failures = 0
        for free in (0, 700, 1100, 40, 120, 4000):  # kB beside what is there by then
            before = files_below(disk)
            with with_free(disk, free * 1024):
                failed = made(small, disk, "small")
            after = files_below(disk)
            artifacts = {name for name in before if not name.startswith("_cache/hashes")}
            assert {name: before[name] for name in artifacts} == {name: after.get(name) for name in artifacts}
            assert not [name for name in after if any(part.startswith(".") for part in Path(name).parts)]
            said = [line for line in capsys.readouterr().out.splitlines() if "cannot be written" in line]
            if not failed:
                break
            failures += 1
            assert len(said) == 1 and f"      {disk}" in said[0], said
            assert said[0].endswith(
                "its disk is full. What was written before is whole. Make room there, and run this again."
            )
        assert failures > 2 and failed == []
        assert versions(ArtifactStore(disk), "small") == versions(ArtifactStore(elsewhere), "small")
