"""All assets on the embedded models: each table against an independent computation, and the effects of edits."""

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sticker_pipeline.benchmark.gate import CHECKS
from sticker_pipeline.benchmark.metrics import GAIN, METRICS
from sticker_pipeline.benchmark.releases import current, releases_folder
from sticker_pipeline.benchmark.side_by_side import COMPARISONS
from sticker_pipeline.benchmark.tracing import lora_with, sources_of
from sticker_pipeline.core.files.space import Say, enough
from sticker_pipeline.core.markdown import letters
from sticker_pipeline.core.storage import ALL, file_sha256
from sticker_pipeline.dataset.kohya_export import export_kohya
from sticker_pipeline.dataset.kohya_import import import_kohya
from sticker_pipeline.generation.generate import Model, with_loras
from sticker_pipeline.generation.rivals import usable_rivals
from sticker_pipeline.roots.character import value as root_value
from sticker_pipeline_tests.dagster_kit.resolver import statuses
from sticker_pipeline_tests.defs.conftest import SETTINGS, Bench
from sticker_pipeline_tests.defs.sensor_look import look
from sticker_pipeline_tests.small_character import DEMO
from sticker_pipeline_tests.test_definitions import LINE


@pytest.fixture(scope="module")
def asked() -> Iterator[dict[str, int]]:
    """Return the bytes that each step of the module requested before its work."""
    needs: dict[str, int] = {}

    def note(path: Path, need: int, what: str, say: Say) -> None:
        needs[what] = need
        enough(path, need, what, say)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sticker_pipeline.dagster_kit.room.enough", note)
        yield needs


@pytest.fixture(scope="module")
def line(bench: Bench, asked: dict[str, int]) -> Bench:
    """The character `small`, brought up to date, and `other`, of which only the dataset was made."""
    folder = bench.add_character("small", "bram_thistle")
    (folder / "stickers" / "notes.png").write_text("This is no image.")
    bench.add_character("other", "velvet_moth")
    bench.instance.add_dynamic_partitions("characters", ["other"])
    dataset = bench.definitions.resolve_job_def("dataset_line")
    assert dataset.execute_in_process(instance=bench.instance, partition_key="other").success
    assert bench.update("small")
    return bench


def test_steps_ask_for_little_more_room_than_they_take(line: Bench, asked: dict[str, int]) -> None:
    def size(*paths: Path) -> int:
        return sum(path.stat().st_size for path in paths if path.is_file())

    def dataset(asset: str, cache: str) -> int:
        """Kept files of both characters; files of frames are hard links to the cache."""
        folders = [line.store.cache(cache), *(line.store.folder(name, asset) for name in ("small", "other"))]
        return size(*(path for folder in folders for path in folder.rglob("*") if path.parent.name != "files"))

    for asset, cache in (("frames", "media"), ("wd14_tags", "wd14")):
        taken = dataset(asset, cache)
        assert taken <= asked[f"{asset} of small"] + asked[f"{asset} of other"] <= 4 * taken
    small = line.store.folder("small", "samples").parent
    drawn = size(*(small / "samples").rglob("*.png"))
    assert 2 * drawn <= asked["samples of small"] <= 4 * 2 * drawn  # one copy in the cache, one in the artifact
    drawn = size(*(small / "comfyui_workflow").glob("*.png"))
    assert 2 * drawn <= asked["comfyui_workflow of small"] <= 8 * drawn + 64 * 1024
    epochs, requests = 2, 2  # one image of each style, at every epoch
    assert epochs * requests * 1000 < asked["selected_lora of small"] < epochs * requests * 64 * 1024
    released = size(*(small / "releases" / "0001").iterdir())
    assert released <= asked["released_lora of small"] <= released + 2**20


def test_every_artifact_has_the_layout_of_the_design(line: Bench) -> None:
    for asset in LINE:
        artifact = line.store.read("small", asset)
        manifest = json.loads((artifact.folder / "artifact.json").read_text())
        files = {path.relative_to(artifact.folder).as_posix() for path in artifact.folder.rglob("*") if path.is_file()}
        assert files == {*manifest["files"], "artifact.json"}
        line.check_tables(asset, "small", "small")
    line.check_tables("leaderboard", ALL, None)
    lora = line.store.read("small", "lora")
    assert {"spec.json", "log.parquet", "checkpoints/epoch_01.safetensors", "checkpoints/epoch_02.safetensors"} <= set(
        lora.files
    )
    assert line.store.read(ALL, "leaderboard").table()["character"].unique().tolist() == ["small"]
    report = line.store.read(ALL, "report").folder
    index = (report / "report.html").read_text(encoding="utf-8")
    assert "skv_small" in index and "characters/other.html" in index  # of which only the dataset is there
    assert '<span class="verdict passed">' in (report / "characters" / "small.html").read_text(encoding="utf-8")
    measured = line.metadata("benchmark", "small")
    assert str(measured["side_by_side"]).startswith("![") and "differences" in measured
    assert "1 without a benchmark: other." in str(line.metadata("leaderboard", None)["not_measured_yet"])


def test_a_text_file_named_png_is_a_row_with_a_reason(line: Bench) -> None:
    rows = line.store.read("small", "raw_media").table().set_index("path")
    assert rows.loc["stickers/notes.png", ["status", "reason"]].tolist() == [
        "rejected",
        "not an image: text",
    ]
    assert (rows.drop("stickers/notes.png")["status"] == "accepted").all()


def test_weights_follow_the_formula(line: Bench) -> None:
    frames = line.store.read("small", "frames").table()
    kept = frames[frames["kept"]]
    lengths = kept.groupby("source_id").size()
    group_of = kept.groupby("source_id")["group"].first()
    share = {"gifs": 1, "stickers": 2, "art": 1}
    total = sum(share[group] for group in group_of)
    weights = line.store.read("small", "frame_weights").table().set_index("frame_id")
    assert len(weights) == len(kept)
    for row in kept.itertuples():
        expected = Fraction(share[row.group], total) / int(lengths[row.source_id])
        assert weights.loc[row.frame_id, "probability"] == pytest.approx(float(expected), abs=1e-12)
        assert weights.loc[row.frame_id, "samples_per_epoch"] == pytest.approx(float(96 * expected), abs=1e-10)
    assert math.fsum(weights["probability"]) == pytest.approx(1, abs=1e-12)


def test_captions_begin_with_what_is_to_be_learned(line: Bench) -> None:
    captions = line.store.read("small", "curated_tags").table().set_index("frame_id")["caption"]
    frames = line.store.read("small", "frames").table().set_index("frame_id")
    learned = {"gifs": "skv_small, small_sticker", "stickers": "skv_small, small_sticker", "art": "skv_small"}
    for frame, caption in captions.items():
        assert f"{caption}, ".startswith(f"{learned[frames.loc[frame, 'group']]}, ")
    tags = line.store.read("small", "wd14_tags").table()
    dropped = pd.read_parquet(line.store.read("small", "curated_tags").folder / "dropped.parquet")
    assert len(dropped) + sum(
        len(caption.split(", ")) - len(learned[frames.loc[frame, "group"]].split(", "))
        for frame, caption in captions.items()
    ) == len(tags)
    assert dropped["reason"].str.len().min() > 0


def test_holdout_sources_are_never_trained_on(line: Bench) -> None:
    rows = line.store.read("small", "training_set").table()
    sources = line.store.read("small", "frames").table().set_index("frame_id")["source_id"]
    split = rows.set_index("frame_id")["split"]
    by_source = split.groupby(sources.loc[split.index].to_numpy()).nunique()
    assert (by_source == 1).all()
    assert set(split) == {"train", "holdout"}
    assert (rows.loc[rows["split"] == "holdout", "probability"] == 0).all()
    assert math.fsum(rows["probability"]) == pytest.approx(1, abs=1e-12)


def test_the_training_followed_the_recipe(line: Bench) -> None:
    log = pd.read_parquet(line.store.read("small", "lora").folder / "log.parquet")
    steps = len(log)
    assert steps == 2 * 96 // 8
    cycle, warmup = 6, 1  # 24 steps in 4 cycles; a tenth of one is rounded up to a step
    places = [step % cycle for step in range(steps)]
    expected = [
        1e-3 * (u / warmup if u < warmup else (1 + math.cos(math.pi * (u - warmup) / (cycle - warmup))) / 2)
        for u in places
    ]
    np.testing.assert_allclose(log["lr_unet"], expected, rtol=1e-12, atol=0)
    assert np.isfinite(log["loss"]).all()


def test_base_and_lora_draw_the_same_seeds(line: Bench) -> None:
    samples = line.store.read("small", "samples")
    rows = samples.table()
    base, lora = (rows[rows["model"] == model].reset_index(drop=True) for model in ("base", "lora"))
    assert base[["medium", "prompt", "seed"]].equals(lora[["medium", "prompt", "seed"]])
    assert base.groupby("medium").size().to_dict() == {"art": 4, "sticker": 4}
    assert rows["prompt"].str.startswith("skv_small").all()
    for name in rows["file"]:
        assert Image.open(samples.folder / name).size == (96, 96)


def test_the_similarity_is_that_of_the_clip_model(line: Bench) -> None:
    """Recomputed with open_clip alone: mean cosine over all pairs, each held-out source being the mean of its
    frames."""
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(
        f"local-dir:{Path(line.workspace.models).absolute() / 'embedded' / 'clip'}"
    )

    def embedding(path: Path) -> np.ndarray:
        image = Image.open(path).convert("RGBA")
        side = max(image.size)
        square = Image.new("RGBA", (side, side), "white")
        square.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
        with torch.no_grad():
            features = model.eval().encode_image(preprocess(square.convert("RGB"))[None])[0].numpy()
        return features / np.linalg.norm(features)

    frames = line.store.read("small", "frames")
    holdout = line.store.read("small", "training_set").table().query("split == 'holdout'")
    lineage = frames.table().set_index("frame_id")
    samples = line.store.read("small", "samples")
    table = line.store.read("small", "benchmark").table().set_index(["model", "medium", "metric"])
    for medium, groups in {"art": ["art"], "sticker": ["gifs", "stickers"]}.items():
        chosen = holdout[holdout["frame_id"].map(lineage["group"]).isin(groups)]
        sources = chosen.groupby(chosen["frame_id"].map(lineage["source_id"]))["file"]
        references = np.stack(
            [np.mean([embedding(frames.folder / name) for name in files], axis=0) for _, files in sources]
        )
        rows = samples.table().query("model == 'lora' and medium == @medium")
        images = np.stack([embedding(samples.folder / name) for name in rows["file"]])
        row = table.loc[("lora", medium, "clip_similarity")]
        # images are prepared at the profile's 96 px first: two resizings instead of one move it a little
        assert row["mean"] == pytest.approx(float((images @ references.T).mean()), abs=0.02)
        assert row["ci_low"] < row["mean"] < row["ci_high"]
        assert row["n"] == len(rows)


def test_every_metric_is_measured_among_all_characters(line: Bench) -> None:
    artifact = line.store.read("small", "benchmark")
    measured = artifact.table().groupby("model")["metric"].agg(set)
    assert measured["lora"] == set(METRICS)
    assert measured["base"] == set(METRICS) - {GAIN, "trigger_effect"}  # it was taught no trigger
    others = json.loads((artifact.folder / "others.json").read_text())
    assert others == {"other": line.store.read("other", "training_set").data_version}
    chance = artifact.table().query("model == 'chance' and metric == 'identity' and medium == 'sticker'")
    assert chance["mean"].tolist() == [0.5]
    plain = pd.read_parquet(line.store.read("small", "samples").folder / "without_trigger.parquet")
    assert plain["model"].unique().tolist() == ["lora"]
    assert not plain["prompt"].str.contains("small").any()
    compared = artifact.table("compared.parquet")
    assert compared["other"].unique().tolist() == ["base"]


def test_the_lora_is_released_with_all_that_it_is_made_of(line: Bench) -> None:
    released = line.store.read("small", "released_lora")
    assert {"small.safetensors", "sources.parquet", "release.json", "spec.json", "README.md"} == set(released.files)
    chosen = line.store.read("small", "selected_lora")
    assert released.files["small.safetensors"]["sha256"] == chosen.files["lora.safetensors"]["sha256"]
    record = json.loads((released.folder / "release.json").read_text())
    assert record["beginnings"] == {"art": ["skv_small"], "sticker": ["skv_small", "small_sticker"]}
    assert record["inputs"]["benchmark"] == line.store.read("small", "benchmark").data_version
    rows = line.store.read("small", "training_set").table()
    assert record["data"]["images"] == (rows["split"] == "train").sum()
    assert [check["name"] for check in record["checks"]] == list(CHECKS)


def test_a_release_holds_every_source_as_it_was_trained_on(line: Bench) -> None:
    release = current(releases_folder(line.store, "small"))
    assert release is not None
    rows, dataset = release.sources(), line.store.read("small", "training_set").table()
    for column in ("frame_id", "split", "probability", "caption"):
        assert rows[column].tolist() == dataset[column].tolist()
    assert math.fsum(rows.loc[rows["split"] == "train", "probability"]) == pytest.approx(1, abs=1e-12)
    assert rows["sha256"].tolist() == [file_sha256(line.folder("small") / path) for path in rows["path"]]
    assert [f"files/{pixels}.png" for pixels in rows["pixel_sha256"]] == dataset["file"].tolist()
    shown = line.metadata("released_lora", "small")["sources"]
    assert isinstance(shown, dg.TableMetadataValue)
    columns = ["path", "split", "frames"]
    assert [[row.data[name] for name in columns] for row in shown.records] == (
        sources_of(release)[columns].to_numpy().tolist()
    )
    # the exports have the same bytes
    for asset, file in (("released_lora", "small.safetensors"), ("comfyui_workflow", "loras/small.safetensors")):
        (lora,) = lora_with(line.store, file_sha256(line.store.folder("small", asset) / file)).found
        assert (lora.character, lora.number) == ("small", 1) and lora.sources.equals(sources_of(release))


def test_again_there_is_nothing_to_do(line: Bench) -> None:
    assert line.stale("small") == []
    runs = line.instance.get_runs_count()
    assert line.update("small")
    assert line.instance.get_runs_count() == runs


def test_a_dataset_that_comes_out_as_it_was_trains_nothing(line: Bench) -> None:
    lora, runs = line.store.read("small", "lora").folder.stat().st_ino, line.instance.get_runs_count()
    notes = line.folder("small") / "gifs" / "more_notes.gif"
    notes.write_text("no image either")
    assert line.stale("small") == LINE
    assert line.update("small")
    assert line.store.read("small", "raw_media").table()["path"].eq("gifs/more_notes.gif").sum() == 1
    notes.unlink()
    assert line.update("small")
    assert line.store.read("small", "lora").folder.stat().st_ino == lora
    assert line.instance.get_runs_count() == runs + 2


def test_an_edit_makes_stale_what_depends_on_it_and_nothing_else(line: Bench) -> None:
    settings = line.folder("small") / "character.yaml"
    after = {
        "curation: {blacklist: [smile]}\n": LINE[LINE.index("curated_tags") :],
        "# a comment\n": [],
    }
    for text, expected in after.items():
        settings.write_text(SETTINGS + text)
        assert line.stale("small") == expected
    settings.write_text(SETTINGS.replace("epochs: 2", "epochs: 3"))
    assert line.stale("small") == LINE[LINE.index("lora") :]
    _, profile = line.character("small")
    before = root_value("benchmark", line.character("small")[0], profile, line.store)
    settings.write_text(SETTINGS.replace("medium: art", "medium: sticker"))
    assert root_value("benchmark", line.character("small")[0], profile, line.store) != before
    settings.write_text(SETTINGS.replace("angry", "crying"))
    assert line.stale("small") == LINE[LINE.index("selected_lora") :]
    settings.write_text(SETTINGS.replace("gain: 0.0", "gain: 0.1"))
    assert line.stale("small") == LINE[LINE.index("benchmark") :]
    settings.write_text(SETTINGS)
    assert line.stale("small") == []


def test_an_edit_that_no_sensor_has_seen_is_not_stale_afterwards(line: Bench) -> None:
    _run_sensor(line)
    settings = line.folder("small") / "character.yaml"
    settings.write_text(SETTINGS + "curation: {blacklist: [smile]}\n")
    job = line.definitions.resolve_job_def("character_line")
    keys = [dg.AssetKey("curated_tags")]
    for text in (SETTINGS + "curation: {blacklist: [smile]}\n", SETTINGS):
        settings.write_text(text)
        assert job.execute_in_process(instance=line.instance, partition_key="small", asset_selection=keys).success
        _run_sensor(line)
        assert "curated_tags" not in _stale_in_dagster(line, "small")


def test_a_new_gif_costs_one_gif_and_one_character(line: Bench) -> None:
    """In Dagster's own eyes, after the sensor has looked; then only the new file is decoded and tagged."""
    before = line.store.read("small", "frames").table()
    _run_sensor(line)
    assert _stale_in_dagster(line, "small") == set()
    used = set(line.store.read("small", "raw_media").table()["path"].str.rpartition("/")[2])
    new = next(path for path in sorted((DEMO / "bram_thistle" / "gifs").iterdir()) if path.name not in used)
    shutil.copy(new, line.folder("small") / "gifs")
    _run_sensor(line)
    assert "raw_media" in _stale_in_dagster(line, "small")
    assert _stale_in_dagster(line, "other") == set()
    assert line.store.find("other", "training_set")
    decoded = _decoded_files(line)
    job = line.definitions.resolve_job_def("character_line")
    keys = [dg.AssetKey(asset) for asset in LINE[: LINE.index("training_set") + 1]]
    assert job.execute_in_process(instance=line.instance, partition_key="small", asset_selection=keys).success
    assert _decoded_files(line) - decoded == 1
    frames = line.store.read("small", "frames").table()
    fresh = set(frames.loc[frames["kept"], "pixel_sha256"]) - set(before.loc[before["kept"], "pixel_sha256"])
    metadata = line.metadata("wd14_tags", "small")
    assert metadata["computed"] == len(fresh) > 0
    assert metadata["from_cache"] == frames["kept"].sum() - len(fresh)


WHY_LEFT_OUT = {
    "pickle": r"pickle\.safetensors is a pickle checkpoint",
    "nowhere": r"nowhere\.safetensors: there is no such file",
    "root": "its file leads out of the character's folder, to /: copy it into the folder, or write",
    "folder": r"rivals is a folder",
    "endless": "its file cannot be read .*too long.* Make it readable, or name another one",
    "long": "with its trigger a prompt has .* tokens, and 225 are read: shorten the trigger",
    "nan": "1 of 3 keys holds values that are not finite .* Name an earlier file",
    "overflow": "values that are not finite .* Use a lower strength",
    "memory": r"there was not enough memory to generate with it \(CUDA out of memory.*batch_size",
    "other-base": r"is for a module of \(7, 7\)",
}


def bad_rivals(folder: Path, lora: Path) -> list[dict[str, object]]:
    """A rival for each key of WHY_LEFT_OUT; `lora` is a file that can be drawn."""
    matrices = load_file(lora)
    key = next(name for name in matrices if name.startswith("lora_unet") and name.endswith("alpha")).partition(".")[0]
    parts = {part: matrices[f"{key}.{part}"].float() for part in ("lora_down.weight", "lora_up.weight", "alpha")}
    written = {
        "nan": {**parts, "lora_up.weight": parts["lora_up.weight"] * torch.nan},
        "overflow": {**parts, "lora_up.weight": torch.full_like(parts["lora_up.weight"], 1e30)},
        "memory": parts,
        "other-base": {"lora_down.weight": torch.ones(1, 7), "lora_up.weight": torch.ones(7, 1)},
    }
    for rival, tensors in written.items():
        named = {f"{key}.{part}": value.contiguous() for part, value in tensors.items()}
        save_file(named, folder / f"{rival}.safetensors")
    (folder / "pickle.safetensors").write_bytes(b"PK\x03\x04 a pickle")
    files = {"root": "/", "folder": "rivals", "endless": "x" * 300, "long": f"rivals/{lora.name}"}
    shutil.copy(lora, folder / lora.name)
    return [
        {
            "name": rival,
            "lora": files.get(rival, f"rivals/{rival}.safetensors"),
            "trigger": "x " * 230 if rival == "long" else "x",
        }
        for rival in WHY_LEFT_OUT
    ]


def without_memory_for(name: str) -> Callable[..., AbstractContextManager[Model]]:
    """`with_loras` on a machine that has no memory for the LoRA file `name`."""

    @contextmanager
    def applied(pipeline: object, loras: Sequence[tuple[Path, float]]) -> Iterator[Model]:
        with with_loras(pipeline, loras) as model:
            if any(path.name == name for path, _ in loras):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore about the GPU")
            yield model

    return applied


def test_a_rival_is_measured_and_bad_ones_are_left_out(line: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the rivals are drawn: images of base and LoRA are there already."""
    assert line.update("small")
    folder = line.folder("small")
    (folder / "rivals").mkdir()
    early = line.store.read("small", "lora").folder / "checkpoints" / "epoch_01.safetensors"
    shutil.copy(early, folder / "rivals" / "one.safetensors")
    rivals = [{"name": "one", "lora": "rivals/one.safetensors", "trigger": "skv_small", "strength": 0.5}]
    rivals += bad_rivals(folder / "rivals", early)
    monkeypatch.setattr("sticker_pipeline.generation.jobs.with_loras", without_memory_for("memory.safetensors"))
    settings = (folder / "character.yaml").read_text()
    with_rivals = settings.replace("benchmark: {", f"benchmark: {{rivals: {json.dumps(rivals)}, ")
    (folder / "character.yaml").write_text(with_rivals)
    before = line.store.read("small", "samples").table()
    drawn = len(list(line.store.cache("pictures").rglob("*.png")))
    assert line.stale("small") == LINE[LINE.index("samples") :]
    assert line.update("small")
    rows = line.store.read("small", "samples").table()
    models = before["model"].unique().tolist()
    assert rows["model"].unique().tolist() == [*models, "one"]
    ours = rows[rows["model"] != "one"].reset_index(drop=True)
    pd.testing.assert_frame_equal(ours, before.reset_index(drop=True))
    # with its trigger and without
    assert len(list(line.store.cache("pictures").rglob("*.png"))) - drawn == 2 * len(before) // len(models)
    assert rows.loc[rows["model"] == "one", "seed"].tolist() == before.loc[before["model"] == "lora", "seed"].tolist()
    table = line.store.read("small", "benchmark").table()
    assert "one" in set(table["model"])
    compared = line.store.read("small", "benchmark").table(COMPARISONS.file)
    assert set(compared["other"]) == {"one", *models} - {"lora"}
    left_out = letters(str(line.metadata("benchmark", "small")["left_out"])).splitlines()
    for name, reason in WHY_LEFT_OUT.items():
        assert [line for line in left_out if re.search(f"Rival '{name}' is left out: .*{reason}", line)], left_out
    assert not {path.name for path in line.store.read("small", "samples").folder.iterdir()} & set(WHY_LEFT_OUT)
    usable, before_drawing = usable_rivals(*line.character("small"))
    assert [rival.name for rival in usable] == ["one", "overflow", "memory", "other-base"]
    assert len(before_drawing) == len(rivals) - len(usable)
    (folder / "character.yaml").write_text(settings)
    assert line.update("small")


def test_a_kohya_export_comes_back_through_the_whole_line(line: Bench, tmp_path: Path) -> None:
    def exported(name: str, target: Path) -> Path:
        character, profile = line.character(name)
        frames = line.store.read(name, "frames")
        rows = line.store.read(name, "training_set").table()
        return export_kohya(
            rows,
            frames.table(),
            frames.folder,
            character,
            target,
            batch_size=profile.training.batch_size,
            resolution=profile.resolution,
            buckets=profile.buckets,
            max_error=0,
        ).folder

    def by_frame(name: str, named: Callable[[str, str], str]) -> pd.DataFrame:
        rows = line.store.read(name, "training_set").table()
        lineage = line.store.read(name, "frames").table()[["frame_id", "path", "pixel_sha256"]]
        rows = rows.merge(lineage, on="frame_id")
        rows.index = pd.Index([named(*pair) for pair in zip(rows["frame_id"], rows["path"], strict=True)])
        return rows.sort_index()

    first = exported("small", tmp_path / "first")
    import_kohya("back", first, Path(line.workspace.characters))
    line.instance.add_dynamic_partitions("characters", ["back"])
    job = line.definitions.resolve_job_def("dataset_line")
    assert job.execute_in_process(instance=line.instance, partition_key="back").success
    old, new = by_frame("small", lambda frame, path: frame), by_frame("back", lambda frame, path: Path(path).stem)
    assert old[["pixel_sha256", "caption", "split"]].equals(new[["pixel_sha256", "caption", "split"]])
    np.testing.assert_allclose(new["probability"], old["probability"], rtol=1e-14, atol=0)
    second = exported("back", tmp_path / "second")
    inside = [
        {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.parent != root}
        for root in (first, second)
    ]
    assert inside[0] == inside[1]


def test_what_cannot_work_says_so_before_any_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bench.folder("empty")
    (folder / "gifs").mkdir(parents=True)
    (folder / "character.yaml").write_text("trigger: skv_empty\n")
    with pytest.raises(ValueError, match="holds no image that can be used"):
        _materialize_first(bench, "empty")
    (folder / "character.yaml").write_text("trigger: skv_empty\nprofile: sd15\n")
    with pytest.raises(ValueError, match=r"sd15/base/model_index.json, which is missing"):
        _materialize_first(bench, "empty")
    (folder / "character.yaml").write_text("triger: skv_empty\n")
    with pytest.raises(ValueError, match="Did you mean 'trigger'"):
        _materialize_first(bench, "empty")
    valid, problems = bench.workspace.valid_characters()
    assert "empty" not in [character.name for character, _ in valid]
    assert any("'trigger' is missing" in problem for problem in problems)
    shutil.rmtree(folder)


def _materialize_first(bench: Bench, name: str) -> None:
    bench.instance.add_dynamic_partitions("characters", [name])
    job = bench.definitions.resolve_job_def("character_line")
    job.execute_in_process(
        instance=bench.instance, partition_key=name, asset_selection=[dg.AssetKey("raw_media")], raise_on_error=True
    )


def _run_sensor(bench: Bench) -> None:
    """One tick of the folder sensor, its effects applied as the daemon applies them."""
    result, _ = look(bench.instance, bench.workspace)
    assert isinstance(result, dg.SensorResult)
    for request in result.dynamic_partitions_requests or []:
        bench.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))


def _stale_in_dagster(bench: Bench, partition: str) -> set[str]:
    graph = bench.definitions.resolve_asset_graph()
    found = statuses(bench.instance, graph, [dg.AssetKey(asset) for asset in LINE], partition)
    return {asset for asset, status in found.items() if status == "STALE"}


def _decoded_files(bench: Bench) -> int:
    return len(list(bench.store.cache("media").glob("??/*")))
