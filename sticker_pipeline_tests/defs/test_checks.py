"""Checks of the dataset: each reports its finding; only a pointless training is stopped."""

import io
import shutil
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from rich.console import Console

from sticker_pipeline.benchmark.forecast import forewarnings
from sticker_pipeline.benchmark.gate import NOTHING_HELD_OUT
from sticker_pipeline.cli.update import update
from sticker_pipeline.core.process.stopping import Stopped
from sticker_pipeline_tests.defs.conftest import Bench
from sticker_pipeline_tests.small_character import DEMO
from sticker_pipeline_tests.test_definitions import LINE

DATASET = LINE[: LINE.index("training_set") + 1]
CHECKS = {
    "rejected_files": "raw_media",
    "different_enough": "frames",
    "same_character": "frames",
    "balanced": "frame_weights",
    "trigger_clash": "curated_tags",
    "universal_tags": "curated_tags",
    "caption_length": "curated_tags",
    "enough_images": "training_set",
    "can_be_released": "training_set",
    "has_validation": "training_set",
}
FEW = {"enough_images", "has_validation"}  # of the few images of a small character


def materialize(bench: Bench, name: str, assets: list[str]) -> dg.ExecuteInProcessResult:
    bench.instance.add_dynamic_partitions("characters", [name])
    return bench.definitions.resolve_job_def("character_line").execute_in_process(
        instance=bench.instance,
        partition_key=name,
        asset_selection=[dg.AssetKey(asset) for asset in assets],
        raise_on_error=False,
    )


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def art(folder: Path) -> list[Path]:
    """The images of the group art; not their captions."""
    return sorted(path for path in (folder / "art").iterdir() if path.suffix != ".txt")


@pytest.fixture(scope="module")
def checked(bench: Bench) -> Bench:
    """`good` is a demo character; `bad` is another, with a known word as trigger and several faults.

    The faults: another character's image, a text named .png, a caption of its own, and one that is far too long.
    """
    bench.add_character("good", "bram_thistle")
    folder = bench.add_character("bad", "velvet_moth", settings="trigger: smile\n")
    (folder / "stickers" / "notes.png").write_text("This is no image.")
    shutil.copy(DEMO / "pip_comet" / "stickers" / "hello.png", folder / "stickers" / "somebody_else.png")
    first, second, *_ = art(folder)
    first.with_suffix(".txt").write_text("a moth at night, (wings:1.2)")
    second.with_suffix(".txt").write_text(", ".join(f"mouth {number}" for number in range(60)))
    return bench


def test_a_good_character_gives_no_cause_but_its_few_images(checked: Bench) -> None:
    result = materialize(checked, "good", DATASET)
    assert result.success
    found = evaluations(result)
    assert {name: evaluation.asset_key.to_user_string() for name, evaluation in found.items()} == CHECKS
    assert {name for name, evaluation in found.items() if not evaluation.passed} == FEW
    assert {found[name].severity for name in FEW} == {dg.AssetCheckSeverity.WARN}
    assert all("evidence" in evaluation.metadata and evaluation.description for evaluation in found.values())


def test_each_fault_is_named_and_none_of_them_stops_the_line(checked: Bench) -> None:
    result = materialize(checked, "bad", DATASET)
    assert result.success
    found = evaluations(result)
    failed = {name: evaluation.description for name, evaluation in found.items() if not evaluation.passed}
    assert failed.keys() == {
        "rejected_files",
        "same_character",
        "trigger_clash",
        "caption_length",
    } | (FEW & failed.keys())
    assert "somebody_else.png" in failed["same_character"]
    assert "'smile' is a general tag of the tagger" in failed["trigger_clash"]
    assert "1 of" in failed["caption_length"]
    evidence = {name: evaluation.metadata["evidence"].value for name, evaluation in found.items()}
    assert [record.data["path"] for record in evidence["rejected_files"].records] == ["stickers/notes.png"]
    assert {evaluation.severity for evaluation in found.values()} == {dg.AssetCheckSeverity.WARN}


def test_a_broken_character_does_not_stop_the_checks_of_another(checked: Bench) -> None:
    settings = checked.folder("bad") / "character.yaml"
    before = settings.read_text()
    settings.write_text("trigger: smile\nprofile: nonsense\n")
    try:
        result = materialize(checked, "good", ["curated_tags"])
    finally:
        settings.write_text(before)
    assert result.success
    assert evaluations(result)["universal_tags"].description == "no other character shares its style."


def test_captions_written_beside_images_are_the_captions(checked: Bench) -> None:
    frames = checked.store.read("bad", "frames").table().set_index("path")
    captions = checked.store.read("bad", "curated_tags").table().set_index("frame_id")["caption"]
    first = art(checked.folder("bad"))[0]
    frame = frames.loc[first.relative_to(checked.folder("bad")).as_posix(), "frame_id"]
    assert captions[frame] == "smile, a moth at night, (wings:1.2)"
    inventory = checked.store.read("bad", "raw_media").table().set_index("path")
    name = first.with_suffix(".txt").relative_to(checked.folder("bad")).as_posix()
    assert inventory.loc[name, "reason"] == f"the caption of art/{first.name}"
    assert checked.metadata("curated_tags", "bad")["written_captions"] == 2


def test_an_edited_caption_touches_the_captions_and_no_frame(checked: Bench) -> None:
    def versions() -> dict[str, str]:
        return {asset: checked.store.read("bad", asset).data_version for asset in DATASET}

    before = versions()
    first = art(checked.folder("bad"))[0]
    first.with_suffix(".txt").write_text("a moth by day")
    result = materialize(checked, "bad", DATASET)
    after = versions()
    assert {asset for asset in DATASET if after[asset] != before[asset]} == {
        "raw_media",
        "curated_tags",
        "training_set",
    }
    assert checked.metadata("wd14_tags", "bad")["computed"] == 0
    assert result.success
    settings = checked.folder("bad") / "character.yaml"
    settings.write_text("trigger: smile\ncuration: {written: ignore}\n")
    assert "curated_tags" in checked.stale("bad")
    assert not {"raw_media", "frames", "wd14_tags"} & set(checked.stale("bad"))


def test_two_images_train_nothing(bench: Bench) -> None:
    folder = bench.folder("tiny")
    (folder / "stickers").mkdir(parents=True)
    (folder / "character.yaml").write_text("trigger: skv_tiny\n")
    for path in sorted((DEMO / "pip_comet" / "stickers").glob("*.png"))[:2]:
        shutil.copy(path, folder / "stickers")
    result = materialize(bench, "tiny", [*DATASET, "lora"])
    found, forecast = (evaluations(result)[name] for name in ("enough_images", "can_be_released"))
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert (forecast.passed, forecast.severity, forecast.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    assert str(forecast.description).startswith(f"a LoRA would be refused: {NOTHING_HELD_OUT}.")
    assert "2 sources to train on: too few" in str(found.description)
    assert not result.success
    assert bench.store.find("tiny", "training_set")
    assert bench.store.find("tiny", "lora") is None


def test_update_tells_before_training_what_will_keep_a_lora_from_release(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the dataset is older: the settings are those of now."""
    folder = bench.add_character("few", "pip_comet", settings="trigger: skv_few\nbenchmark: {validation: 0}\n")
    assert materialize(bench, "few", DATASET).success

    def told() -> list[str]:
        console = Console(file=io.StringIO(), width=1000)
        with pytest.raises(Stopped):
            update(bench.definitions, bench.instance, bench.workspace, [bench.character("few")], console)
        return [line for line in console.file.getvalue().splitlines() if line.startswith("note:")]

    def stop(*_: object, **__: object) -> None:
        raise Stopped(2)

    monkeypatch.setattr(dg.JobDefinition, "execute_in_process", stop)
    assert told() == []
    settings = f"trigger: skv_few\nbenchmark: {{holdout: [art/{art(folder)[0].name}], validation: 0}}\n"
    (folder / "character.yaml").write_text(settings)
    monkeypatch.undo()
    assert materialize(bench, "few", ["training_set"]).success
    monkeypatch.setattr(dg.JobDefinition, "execute_in_process", stop)
    (note,) = told()
    assert note.startswith("note: few: a LoRA would be refused: art: diversity could not be measured")
    (folder / "character.yaml").write_text(settings.replace("validation", "gate: {unmeasured: release}, validation"))
    assert forewarnings(*bench.character("few"), bench.store)["can_be_released"].passed


def test_cropping_is_a_setting_of_a_character(bench: Bench, tmp_path: Path) -> None:
    folder = bench.add_character("cropped", "pip_comet", settings="trigger: skv_c\n")
    assert materialize(bench, "cropped", ["raw_media", "frames"]).success
    whole = bench.store.read("cropped", "frames").table()
    (folder / "character.yaml").write_text("trigger: skv_c\nmedia: {crop: alpha, crop_margin: 0}\n")
    assert bench.stale("cropped")[0] == "frames"
    assert materialize(bench, "cropped", ["frames"]).success
    table = bench.store.read("cropped", "frames").table()
    both = pd.merge(whole[whole["kept"]], table[table["kept"]], on="frame_id")
    assert (both["width_y"] <= both["width_x"]).all()
    assert (both["width_y"] * both["height_y"]).sum() < 0.9 * (both["width_x"] * both["height_x"]).sum()
