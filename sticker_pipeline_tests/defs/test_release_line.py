"""Retrainings with known faults or merits, through the real assets.

The LoRA file is planted, and for two of them the images, as the cache of generated images. Everything from the choice
of the epoch on is real.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import dagster as dg
import pytest
import torch
from PIL import Image, ImageOps
from rich.console import Console
from safetensors.torch import load_file, save_file

from sticker_pipeline.benchmark.choice import SELECTION_PURPOSE
from sticker_pipeline.benchmark.features import with_mediums
from sticker_pipeline.benchmark.gate import may_be_released
from sticker_pipeline.benchmark.gate_checks import gate_checks
from sticker_pipeline.benchmark.releases import all_releases, current, events, releases_folder, roll_back
from sticker_pipeline.cli.update import follow_roll_back
from sticker_pipeline.core.profile import TOY
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.defs.release.report import check_specs, latest_verdicts
from sticker_pipeline.diffusion.lora.file import read_tensors
from sticker_pipeline.diffusion.lora.trained_for import TrainedFor
from sticker_pipeline.generation.image_cache import cached_images, decisive
from sticker_pipeline.generation.prompts import Request, benchmark_prompts, prompts_beginning, requests_for
from sticker_pipeline.roots.character import value as root_value
from sticker_pipeline_tests.damage import flip
from sticker_pipeline_tests.defs.conftest import Bench
from sticker_pipeline_tests.small_character import DEMO

NAME = "moth"
SETTINGS = """\
trigger: skv_moth
groups:
  gifs: {learned: [moth_sticker]}
  stickers: {learned: [moth_sticker]}
  art: {medium: art}
curation: {inherent: [drill hair, purple hair, red eyes, dress, black dress, witch hat, wings, mole under eye]}
training: {epochs: 3, samples_per_epoch: 96}
benchmark:
  holdout: 0.3
  validation: 0
  prompts: ["smile, arms up, full body", "angry, crossed arms, upper body", "crying, portrait", "surprised, full body"]
"""
EPOCHS = (2, 3)  # of the training: the weaker first release, and the better one
NOISE = 60.0  # times the size of its weights


@pytest.fixture(scope="module")
def trained(bench: Bench) -> Iterator[Path]:
    """A character with a LoRA of three epochs, and another one that it might be taken for; the checkpoints."""
    folder = bench.folder(NAME)
    shutil.copytree(DEMO / "velvet_moth", folder)
    (folder / "character.yaml").write_text(SETTINGS)
    bench.add_character("other", "bram_thistle")
    bench.instance.add_dynamic_partitions("characters", [NAME, "other"])
    dataset = bench.definitions.resolve_job_def("dataset_line")
    for name in (NAME, "other"):
        assert dataset.execute_in_process(instance=bench.instance, partition_key=name).success
    line = bench.definitions.resolve_job_def("character_line")
    assert line.execute_in_process(
        instance=bench.instance, partition_key=NAME, asset_selection=[dg.AssetKey("lora")]
    ).success
    kept = bench.folder(NAME).parent.parent / "trained"
    shutil.copytree(bench.store.folder(NAME, "lora"), kept)
    yield kept


@pytest.mark.timeout(1800)  # seven retrainings, on a machine that is busy with other things
def test_what_is_planted_is_released_or_refused_for_its_own_reason(bench: Bench, trained: Path, tmp_path: Path) -> None:
    folder = releases_folder(bench.store, NAME)
    first, second = (trained / "checkpoints" / f"epoch_{epoch:02d}.safetensors" for epoch in EPOCHS)

    # nothing is released yet: what beats the base model may be
    retrain(bench, trained, first)
    assert refused(bench) == set()
    assert [one.record.number for one in all_releases(folder)] == [1]
    assert released_bytes(bench) == first.read_bytes()

    # a better one replaces it, compared with it on the same prompts and seeds
    retrain(bench, trained, second)
    table = bench.store.read(NAME, "benchmark").table().set_index(["model", "medium", "metric"])["mean"]
    assert table["lora", "all", "clip_similarity"] > table["released", "all", "clip_similarity"]
    assert refused(bench) == set()
    release = current(folder)
    assert release is not None and release.record.number == 2 and release.record.previous == 1
    assert released_bytes(bench) == second.read_bytes()
    lineage = release.record.inputs
    assert lineage["training_set"] == bench.store.read(NAME, "training_set").data_version
    assert {"lora", "samples", "raw_media", "character/media", "character/training"} <= set(lineage)
    assert release.spec()["settings"]["epochs"] == 3
    assert str(bench.store.root) not in (release.folder / "spec.json").read_text()
    # its own release is no reason to look again
    assert bench.stale(NAME) == []

    plants: dict[str, tuple[Path, Sequence[Image.Image] | None, str]] = {
        "noise": (noise(second, tmp_path), None, "better_than_base"),
        "memorised": (renamed(second, tmp_path / "memorised.safetensors"), training_images(bench), "no_copies"),
        "collapsed": (renamed(second, tmp_path / "collapsed.safetensors"), one_gif(bench), "not_collapsed"),
    }
    for name, (file, images, reason) in plants.items():
        if images is not None:
            plant_images(bench, file, images)
        retrain(bench, trained, file)
        assert reason in refused(bench), name
        assert released_bytes(bench) == second.read_bytes()
        assert [one.record.number for one in all_releases(folder)] == [1, 2]
        # the verdict stands in the UI, and the run ended there
        verdicts = latest_verdicts(bench.instance, check_specs(), [NAME])[NAME]
        assert {check.name for check in verdicts if check.verdict is False and check.blocking} == refused(bench)
        assert bench.stale(NAME) == ["released_lora", "comfyui_workflow"]

    # a person takes the second back: it stays back, however often its LoRA comes again
    roll_back(folder, 1, "the eyes are wrong", datetime.now(UTC))
    assert follow_roll_back(bench.definitions, bench.instance, bench.store, NAME, Console(quiet=True))
    assert released_bytes(bench) == first.read_bytes()
    retrain(bench, trained, second)
    assert refused(bench) == set() and released_bytes(bench) == first.read_bytes()
    assert [(event.action, event.number) for event in events(folder)] == [
        ("publish", 1),
        ("publish", 2),
        ("roll back", 1),
    ]
    assert bench.stale(NAME) == []

    # and forward again, while the newest LoRA is the first one
    retrain(bench, trained, first)
    roll_back(folder, 2, "the eyes are fine", datetime.now(UTC))
    assert follow_roll_back(bench.definitions, bench.instance, bench.store, NAME, Console(quiet=True))
    assert released_bytes(bench) == second.read_bytes()


def test_the_release_is_what_comfyui_is_told(bench: Bench, trained: Path) -> None:
    retrain(bench, trained, trained / "checkpoints" / "epoch_02.safetensors")
    artifact = bench.store.read(NAME, "comfyui_workflow")
    rows = artifact.table()
    assert rows["medium"].tolist() == ["art"] * 4 + ["sticker"] * 4
    api = json.loads((artifact.folder / "workflow_api.json").read_text())
    inputs = {node["class_type"]: node["inputs"] for node in api.values()}
    assert inputs["LoraLoader"]["lora_name"] == "moth.safetensors"
    assert inputs["KSampler"]["seed"] == rows["seed"][0]
    texts = [node["inputs"]["text"] for node in api.values() if node["class_type"] == "CLIPTextEncode"]
    assert texts == [rows["prompt"][0], ""]
    ui = json.loads((artifact.folder / "workflow.json").read_text())
    with Image.open(artifact.folder / rows["file"][5]) as image:
        own = json.loads(image.info["prompt"])
        assert {node["class_type"] for node in own.values()} == set(inputs)
        assert json.loads(image.info["workflow"]).keys() == ui.keys()
        assert image.info["parameters"].startswith(f"{rows['prompt'][5]} <lora:moth:1>")
    (text,) = [node["widgets_values"][0] for node in ui["nodes"] if node["type"] == "Note"]
    assert TOY in text and "models/checkpoints" not in text
    card = (bench.store.read(NAME, "released_lora").folder / "README.md").read_text()
    assert TOY in card and "base_model" not in card and "Stable Diffusion 1.5" not in card
    for asset in ("samples", "released_lora"):
        assert bench.metadata(asset, NAME)["note"] == TOY
    for asset in ("released_lora", "comfyui_workflow"):
        assert "Neither ComfyUI nor A1111 opens" in str(bench.metadata(asset, NAME)["how_to_use"])
    assert "instance_prompt: skv_moth" in card and str(bench.store.root) not in card


def test_a_damaged_lora_is_not_released(bench: Bench, trained: Path) -> None:
    """One flipped bit between choosing it and releasing it."""
    lora = bench.store.folder(NAME, "selected_lora") / "lora.safetensors"
    retrain(bench, trained, trained / "checkpoints" / "epoch_02.safetensors")
    before = [one.record.number for one in all_releases(releases_folder(bench.store, NAME))]
    line = bench.definitions.resolve_job_def("character_line")
    flip(lora, 8 * (lora.stat().st_size - 100))
    result = line.execute_in_process(
        instance=bench.instance,
        partition_key=NAME,
        asset_selection=[dg.AssetKey("released_lora")],
        raise_on_error=False,
    )
    (failure,) = (event for event in result.all_node_events if event.is_step_failure)
    assert f"{lora} is damaged: it is not what artifact.json says. It belongs to 'selected_lora' of '{NAME}'" in str(
        failure.event_specific_data
    )
    assert [one.record.number for one in all_releases(releases_folder(bench.store, NAME))] == before


def retrain(bench: Bench, trained: Path, checkpoint: Path) -> None:
    """A new `lora` whose only epoch is `checkpoint`, and all that follows from it."""
    before = bench.store.read(NAME, "lora")
    with bench.store.writing(NAME, "lora") as staging:
        shutil.copytree(trained, staging, ignore=shutil.ignore_patterns("artifact.json", "epoch_*"), dirs_exist_ok=True)
        shutil.copy(checkpoint, staging / "checkpoints" / "epoch_01.safetensors")
        bench.store.publish(
            staging,
            NAME,
            "lora",
            code_version=before.code_version,
            inputs=before.inputs,
            settings=before.settings,
            content=lambda name: name.startswith("checkpoints/"),
        )
    assert bench.update(NAME)


def refused(bench: Bench) -> set[str]:
    character, _ = bench.character(NAME)
    checks = gate_checks(bench.store.read(NAME, "benchmark"), character)
    failed = {check.name for check in checks if not check.verdict.passed}
    assert may_be_released(checks) == (not failed)
    return failed


def released_bytes(bench: Bench) -> bytes:
    return (bench.store.read(NAME, "released_lora").folder / f"{NAME}.safetensors").read_bytes()


def noise(checkpoint: Path, folder: Path) -> Path:
    """The same file with weights of noise."""
    generator = torch.Generator().manual_seed(0)
    tensors, metadata = read_tensors(checkpoint)
    changed = {
        key: NOISE * value.std() * torch.randn(value.shape, generator=generator).to(value.dtype)
        if value.ndim > 1
        else value
        for key, value in tensors.items()
    }
    path = folder / "noise.safetensors"
    save_file(changed, path, metadata)
    return path


def renamed(checkpoint: Path, path: Path) -> Path:
    """The same weights with another hash: a file of which nothing has been drawn."""
    _, metadata = read_tensors(checkpoint)
    save_file(load_file(checkpoint), path, {**metadata, "ss_output_name": path.stem})
    return path


def plant_images(bench: Bench, lora: Path, images: Sequence[Image.Image]) -> None:
    """Plant `images`, each in turn, for all prompts of the LoRA, with its trigger or without."""
    character, profile = bench.character(NAME)
    asked = benchmark_prompts(character, profile)
    seeds = profile.benchmark.seeds_per_prompt
    requests = [
        *requests_for(asked, 1, SELECTION_PURPOSE),
        *requests_for(asked, seeds),
        *requests_for(prompts_beginning(character, profile, {}), seeds),
    ]
    source = cycle(images)

    def draw(missing: Sequence[Request]) -> Iterator[Image.Image]:
        return (next(source) for _ in missing)

    base = root_value("generation", character, profile, bench.store)["base"]
    decided = decisive(base, [(file_sha256(lora), 1.0)], profile.generation, profile.resolution, TrainedFor())
    cached_images(requests, decided, bench.store.cache("pictures"), draw, len(requests))


def training_images(bench: Bench) -> list[Image.Image]:
    """An image of each source that was trained on."""
    return _trained_frames(bench, lambda rows: rows.groupby("source_id", sort=False).head(1))


def one_gif(bench: Bench) -> list[Image.Image]:
    """The frames of one source, mirrored: nothing that was trained on, and nothing else."""

    def longest(rows):  # type: ignore[no-untyped-def]
        return rows[rows["source_id"] == rows["source_id"].value_counts().index[0]]

    return [ImageOps.mirror(image) for image in _trained_frames(bench, longest)]


def _trained_frames(bench: Bench, chosen: Callable) -> list[Image.Image]:  # type: ignore[type-arg]
    character, profile = bench.character(NAME)
    frames = bench.store.read(NAME, "frames")
    rows = with_mediums(character, bench.store.read(NAME, "training_set"), frames)
    found = []
    for name in chosen(rows[rows["split"] == "train"])["file"]:
        image = Image.open(frames.folder / name).convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image)
        found.append(page.convert("RGB").resize((profile.resolution, profile.resolution)))
    return found
