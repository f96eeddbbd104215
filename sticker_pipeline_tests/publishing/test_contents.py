"""The report's content equals the artifacts'; missing parts are left out, nothing is invented."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sticker_pipeline.core.storage import MANIFEST, ArtifactStore
from sticker_pipeline.publishing import contents
from sticker_pipeline.publishing.contents import (
    LINE,
    character_report,
    choice,
    differences,
    estimates,
    few_steps,
    lineage,
    own_tags,
    sources_of,
    style_report,
    tags,
    training,
    weights,
)
from sticker_pipeline.publishing.report import CharacterReport, Check, Release, TagCount, character_page, style_page
from sticker_pipeline.roots.across import profiles_of, styles_of
from sticker_pipeline_tests.publishing.example import demo_character, example_checks, fill, fill_style
from sticker_pipeline_tests.some_table import write_rows


def publish(store: ArtifactStore, asset: str, inputs: dict[str, str], **tables: pd.DataFrame) -> str:
    with store.writing("bram_thistle", asset) as staging:
        for name, table in tables.items():
            write_rows(table, staging, f"{name}.parquet")
        return store.publish(
            staging, "bram_thistle", asset, code_version="1", inputs=inputs, settings={}
        ).data_version  # fmt: skip


def bram_thistle(store: ArtifactStore, checks: Sequence[Check] = ()) -> CharacterReport:
    return character_report(sources_of(store, *demo_character("bram_thistle"), checks))


def test_what_a_person_says_of_a_character_is_there(example_characters: dict[str, CharacterReport]) -> None:
    character = example_characters["pip_comet"]
    assert (character.name, character.trigger) == ("pip_comet", "skv_pipcomet")
    assert (character.profile, character.style) == ("embedded", "chibi")


def test_a_character_without_artifacts_has_nothing(example_characters: dict[str, CharacterReport]) -> None:
    character = example_characters["velvet_moth"]
    assert (character.estimates, character.grids, character.checks, character.releases) == ((), (), (), ())
    assert (character.training, character.choice, character.tags, character.weights) == (None,) * 4
    assert [made.asset for made in character.lineage] == list(LINE)
    assert not any(made.version for made in character.lineage)


def test_a_character_in_the_making_has_what_there_is(example_characters: dict[str, CharacterReport]) -> None:
    character = example_characters["pip_comet"]
    assert character.tags is not None
    assert character.weights is not None
    assert (character.training, character.choice, character.estimates) == (None, None, ())
    assert [bool(made.version) for made in character.lineage] == [asset in LINE[:5] for asset in LINE]


@pytest.mark.parametrize("asset", LINE[: LINE.index("released_lora")])
def test_any_artifact_may_be_missing(asset: str, example_store: ArtifactStore, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    shutil.copytree(example_store.root / "bram_thistle", store.root / "bram_thistle")
    shutil.rmtree(store.folder("bram_thistle", asset))
    report = bram_thistle(store)
    (missing,) = (made for made in report.lineage if made.asset == asset)
    assert missing.version == ""
    assert character_page(report)


def test_an_earlier_version_without_a_table_is_read_without_it(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    log = pd.DataFrame({"step": [1, 2], "epoch": [1, 1], "loss": [0.2, 0.1], "lr_unet": [1e-4, 1e-4]})
    publish(store, "lora", {}, log=log)
    found = bram_thistle(store).training
    assert found is not None
    assert found.fixed == ()
    assert [curve.name for curve in found.learning_rate] == ["U-Net"]


def test_images_of_models_stand_under_what_all_were_asked_for(
    example_characters: dict[str, CharacterReport], example_store: ArtifactStore
) -> None:
    """The rival has its own trigger, so none of its prompts is equal to one of ours."""
    character = example_characters["bram_thistle"]
    samples = example_store.read("bram_thistle", "samples").table()
    assert [grid.medium for grid in character.grids] == ["art", "sticker"]
    for grid in character.grids:
        assert [row.model for row in grid.rows] == ["base", "lora", "released", "tensorart"]
        own = samples[samples["medium"] == grid.medium]
        assert own.loc[own["model"] == "tensorart", "prompt"].str.startswith("tensorart_bram_thistle, ").all()
        asked = own["attributes"].unique()
        for row in grid.rows:
            prompts = own[own["model"] == row.model].set_index("attributes").loc[asked, "prompt"]
            assert [image.alt if image else None for image in row.images] == [
                f"{row.model}: {prompt}" for prompt in prompts
            ]
        assert grid.prompts == tuple(own_tags(asked))
        assert all("skv_bramthistle" not in prompt for prompt in grid.prompts), "what all have is not said"


def test_references_are_holdout_one_for_each_source(
    example_characters: dict[str, CharacterReport], example_store: ArtifactStore
) -> None:
    frames = example_store.read("bram_thistle", "frames").table()
    split = example_store.read("bram_thistle", "training_set").table().set_index("frame_id")["split"]
    holdout = frames[frames["frame_id"].map(split) == "holdout"]
    mediums = holdout["group"].map({"art": "art", "gifs": "sticker", "stickers": "sticker"})
    for grid in example_characters["bram_thistle"].grids:
        sources = {image.alt.rpartition(": ")[2] for image in grid.references}
        assert sources == set(holdout.loc[mediums == grid.medium, "source_id"])
        assert len(sources) == len(grid.references)


def with_table(store: ArtifactStore, asset: str, table: pd.DataFrame) -> None:
    """Publish the artifact of bram_thistle anew, with another table."""
    before = store.read("bram_thistle", asset)
    with store.writing("bram_thistle", asset) as staging:
        shutil.copytree(before.folder, staging, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)
        write_rows(table, staging)
        store.publish(
            staging, "bram_thistle", asset,
            code_version=before.code_version, inputs=before.inputs, settings=before.settings,
        )  # fmt: skip


def test_a_model_that_was_not_drawn_for_a_prompt_leaves_a_gap(example_store: ArtifactStore, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    shutil.copytree(example_store.root / "bram_thistle", store.root / "bram_thistle")
    folder = store.folder("bram_thistle", "samples")
    table = pd.read_parquet(folder / "index.parquet")
    first = table.index[(table["model"] == "tensorart") & (table["medium"] == "art")][0]
    with_table(store, "samples", table.drop(index=first))
    grid = bram_thistle(store).grids[0]
    assert [image is None for image in grid.rows[-1].images] == [True, *[False] * (len(grid.prompts) - 1)]


def test_samples_of_an_earlier_version_are_paired_by_their_prompts(
    example_store: ArtifactStore, tmp_path: Path
) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    shutil.copytree(example_store.root / "bram_thistle", store.root / "bram_thistle")
    folder = store.folder("bram_thistle", "samples")
    table = pd.read_parquet(folder / "index.parquet").query("model != 'tensorart'")
    with_table(store, "samples", table.drop(columns="attributes"))
    for grid in bram_thistle(store).grids:
        assert len(grid.prompts) == 8
        assert all(image for row in grid.rows for image in row.images)


def test_differences_are_those_of_the_new_lora(
    example_characters: dict[str, CharacterReport], example_store: ArtifactStore
) -> None:
    found = example_characters["bram_thistle"].differences
    table = example_store.read("bram_thistle", "benchmark").table("compared.parquet")
    assert [vars(difference) for difference in found] == [
        {"model": row.other, "medium": row.medium, "metric": row.metric,
         "mean": row.difference, "low": row.ci_low, "high": row.ci_high, "n": row.n}
        for row in table.itertuples()
    ]  # fmt: skip
    other = table.assign(model="base", other="released")
    assert differences(pd.concat([table, other])) == found
    assert differences(None) == ()


@pytest.fixture
def refused(example_store: ArtifactStore, tmp_path: Path) -> ArtifactStore:
    """A store of one's own with the character of which two releases were made and a third was refused."""
    store = ArtifactStore(tmp_path / "artifacts")
    shutil.copytree(example_store.root / "bram_thistle", store.root / "bram_thistle")
    return store


def releases_in(store: ArtifactStore) -> list[Release]:
    report = bram_thistle(store, example_checks(refused=True))
    assert report.problems == ()
    return list(report.releases)


def test_the_refused_candidate_comes_first(refused: ArtifactStore) -> None:
    found = releases_in(refused)
    assert [release.name for release in found] == ["candidate", "release 2", "release 1"]
    candidate = found[0]
    assert (candidate.accepted, candidate.current, candidate.epoch) == (False, False, 6)
    assert candidate.reason.startswith("not collapsed: sticker: nearest to one source 0.830")
    files = refused.read("bram_thistle", "selected_lora").files
    assert candidate.version == files["lora.safetensors"]["sha256"]


def test_a_release_that_stays_since_the_new_lora_is_refused_is_not_outdated(refused: ArtifactStore) -> None:
    """It was made of the LoRA before, and nobody should make it again for that."""
    publish(refused, "released_lora", {"selected_lora": "an earlier one"}, index=pd.DataFrame({"a": [1]}))

    def outdated(checks: list[Check]) -> tuple[str, ...]:
        return next(made.outdated for made in bram_thistle(refused, checks).lineage if made.asset == "released_lora")

    assert outdated(example_checks(refused=True)) == ()
    assert outdated(example_checks()) == ("selected_lora",)


@pytest.mark.parametrize("asset", ["selected_lora", "samples"])
def test_a_lora_that_was_not_measured_yet_is_not_called_refused(refused: ArtifactStore, asset: str) -> None:
    """The verdict is about the one before."""
    folder = refused.folder("bram_thistle", asset)
    manifest = json.loads((folder / "artifact.json").read_text())
    (folder / "artifact.json").write_text(json.dumps(manifest | {"data_version": "another"}))
    assert [release.name for release in releases_in(refused)] == ["release 2", "release 1"]


def test_what_cannot_be_read_of_releases_is_said(refused: ArtifactStore) -> None:
    (refused.folder("bram_thistle", "releases") / "0002" / "release.json").write_text("{}")
    report = bram_thistle(refused)
    assert [release.name for release in report.releases] == ["release 1"]
    (problem,) = report.problems
    assert "release.json is damaged" in problem


def test_a_made_artifact_is_outdated_when_its_input_changed(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    old = publish(store, "frames", {"raw_media": "x"}, index=pd.DataFrame({"a": [1]}))
    publish(store, "wd14_tags", {"frames": old, "character/tagging": "y"}, index=pd.DataFrame({"a": [2]}))
    found = {asset: store.read("bram_thistle", asset) for asset in ("frames", "wd14_tags")}
    assert [made.outdated for made in lineage(found) if made.version] == [("raw_media",), ()]
    publish(store, "frames", {"raw_media": "x"}, index=pd.DataFrame({"a": [3]}))
    found["frames"] = store.read("bram_thistle", "frames")
    made = {made.asset: made for made in lineage(found)}
    assert made["wd14_tags"].outdated == ("frames",)
    assert made["wd14_tags"].inputs == (("character/tagging", "y"), ("frames", old))
    assert made["wd14_tags"].version == found["wd14_tags"].data_version


def test_figures_are_the_rows_of_the_benchmark() -> None:
    row = {"model": "lora", "medium": "art", "metric": "m", "mean": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 8}
    (estimate,) = estimates(pd.DataFrame([row]))
    assert vars(estimate) == {
        "model": "lora", "medium": "art", "metric": "m", "mean": 0.5, "low": 0.4, "high": 0.6, "n": 8
    }  # fmt: skip
    assert estimates(None) == ()


def test_the_curves_of_a_training() -> None:
    steps = np.arange(1, 41)
    log = pd.DataFrame(
        {"step": steps, "epoch": (steps - 1) // 20 + 1, "loss": np.where(steps % 2, 0.1, 0.3), "seconds": 3.0}
    ).assign(lr_unet=1e-4, lr_text_encoder=5e-5)
    fixed = pd.DataFrame({"epoch": [0, 0, 1, 1], "split": ["train", "holdout"] * 2, "loss": [4.0, 5.0, 2.0, 3.0]})
    found = training(log, fixed)
    assert found is not None
    assert found.summary == "2 epochs, 40 steps, 2.0 minutes of steps; loss at the end 0.2000."
    assert found.loss[0].y == pytest.approx([0.1, *[0.2] * 39]), "the mean of a twentieth: 2 steps"
    assert [(curve.name, curve.x, curve.y) for curve in found.fixed] == [
        ("trained on", (0.0, 1.0), (4.0, 2.0)),
        ("held out", (0.0, 1.0), (5.0, 3.0)),
    ]
    assert [(curve.name, set(curve.y)) for curve in found.learning_rate] == [
        ("U-Net", {1e-4}),
        ("text encoder", {5e-5}),
    ]
    assert training(log.iloc[:0], None) is None


def test_the_choice_says_its_reason() -> None:
    metrics = [json.dumps({"clip_similarity": 0.5, "clip_similarity_low": 0.4, "clip_similarity_high": 0.6})] * 2
    table = pd.DataFrame({"epoch": [1, 2], "metrics": metrics, "chosen": [False, True]})
    found = choice(table)
    assert found is not None
    assert (found.epoch, found.reason) == (2, contents.WHY)
    (curve,) = found.curves
    assert (curve.x, curve.y, curve.low, curve.high) == ((1.0, 2.0), (0.5, 0.5), (0.4, 0.4), (0.6, 0.6))
    told = choice(table.assign(reason=["not: it is less similar.", "chosen: it has the lowest loss."]))
    assert told is not None
    assert told.reason == "It has the lowest loss."
    assert told.others == ((1, "It is less similar."),)
    assert choice(table.assign(chosen=False)) is None


def test_tags_before_and_after() -> None:
    seen = pd.DataFrame(
        {"frame_id": ["a", "a", "b"], "tag": ["smile", "solo", "smile"], "category": "general", "score": 0.9}
    )
    captions = pd.DataFrame({"frame_id": ["a", "b"], "caption": ["hero, smile", "hero, smile"], "n_tags": [2, 2]})
    dropped = pd.DataFrame({"frame_id": ["a"], "tag": ["solo"], "reason": ["blacklisted"]})
    found = tags(seen, captions, dropped)
    assert found is not None
    assert found.counts == (TagCount("hero", 0, 2), TagCount("smile", 2, 2), TagCount("solo", 1, 0))
    assert (found.per_image_before, found.per_image_after) == (1.5, 2.0)
    assert [(drop.reason, drop.frames, drop.examples) for drop in found.dropped] == [("blacklisted", 1, "solo")]
    assert found.captions == ("hero, smile", "hero, smile")
    assert tags(seen, None, None) is None
    empty = tags(seen.iloc[:0], captions.iloc[:0], None)
    assert empty is not None
    assert math.isnan(empty.per_image_before)


def test_the_heaviest_source_comes_first() -> None:
    table = pd.DataFrame(
        {
            "frame_id": ["a", "b", "c"],
            "group": "gifs",
            "source_id": ["one", "two", "two"],
            "probability": [0.2, 0.4, 0.4],
        }
    ).assign(samples_per_epoch=1.0)
    found = weights(table)
    assert found is not None
    assert [(source.source, source.frames, source.share) for source in found.sources] == [
        ("two", 2, 0.8),
        ("one", 1, 0.2),
    ]
    assert found.effective == pytest.approx(1 / (0.04 + 0.16 + 0.16))


@pytest.mark.parametrize(
    ("prompts", "own"),
    [
        (["hero, smile", "hero, angry, arms up"], ["smile", "angry, arms up"]),
        (["hero", "hero, angry"], ["hero", "angry"]),
        (["hero, smile"], ["hero, smile"]),
        ([], []),
    ],
)
def test_what_prompts_share_is_not_repeated(prompts: list[str], own: list[str]) -> None:
    assert own_tags(prompts) == own


@given(st.integers(0, 200), st.integers(1, 12))
def test_a_few_of_many_are_spread_from_the_first_to_the_last(count: int, most: int) -> None:
    chosen = contents.spread(count, most)
    assert len(chosen) == min(count, most)
    assert chosen == sorted(set(chosen))
    if count and most > 1:
        assert (chosen[0], chosen[-1]) == (0, count - 1)


def test_a_style_says_who_it_is_of_why_this_epoch_and_what_it_reaches(example_store: ArtifactStore) -> None:
    style = style_report(example_store, "chibi")
    assert style is not None
    assert (style.name, style.characters) == ("chibi", ("bram_thistle", "pip_comet"))
    assert style.choice.epoch == 2
    assert style.choice.reason.startswith("The earliest that is as much in the style as any")
    assert [epoch for epoch, _ in style.choice.others] == [1, 3], "the base model cannot be chosen"
    assert [curve.x for curve in style.choice.curves] == [(0.0, 1.0, 2.0, 3.0)] * 4
    assert style.choice.curves[0].y == (0.31, 0.44, 0.50, 0.51)
    assert [(one.model, one.metric, one.mean) for one in style.estimates][:4] == [
        ("base", "style_similarity", 0.30),
        ("base", "fidelity", 0.61),
        ("base", "leaks", 0.0),
        ("lora", "style_similarity", 0.49),
    ]
    assert [(one.model, one.metric, one.low) for one in style.differences] == [
        ("lora", "style_similarity", 0.15),
        ("lora", "fidelity", -0.08),
        ("lora", "leaks", 0.02),
    ]
    assert len(style.image.data) <= contents.STYLE_BYTES and style.image.width >= 800


def test_characters_of_a_style_whose_images_have_changed_since_are_not_named(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert style_report(store, "chibi") is None
    fill_style(store, "chibi", ["bram_thistle", "pip_comet"])
    with store.writing("_styles/chibi", "style_training_set") as staging:
        write_rows(pd.DataFrame({"character": ["bram_thistle", "pip_comet", "velvet_moth"]}), staging)
        store.publish(staging, "_styles/chibi", "style_training_set", code_version="1", inputs={}, settings={})
    style = style_report(store, "chibi")
    assert style is not None and style.characters == ()
    assert "materialize style_lora" in style_page(style).replace("<code>", "").replace("\n", " ")


def test_styles_and_profiles_are_those_that_characters_name() -> None:
    assert styles_of([demo_character("bram_thistle")]) == []
    assert styles_of([demo_character("bram_thistle", "chibi"), demo_character("pip_comet", "chibi")]) == ["chibi"]
    assert profiles_of([demo_character("bram_thistle")]) == ["embedded"]


def test_few_steps_are_what_was_measured(example_store: ArtifactStore) -> None:
    few = few_steps(example_store, "embedded")
    assert few is not None
    assert (few.profile, few.guidance_scale) == ("embedded", 2.0)
    assert list(dict.fromkeys(one.model for one in few.estimates)) == [
        "base, steps: 25",
        "LCM-LoRA, steps: 4",
        "base, steps: 25, another seed",
    ]
    assert few_steps(example_store, "sdxl") is None


def test_images_that_compress_worst_leave_a_page_small(tmp_path: Path) -> None:
    """Images of noise: CHARACTER_BYTES of them are a third more in base64, and the first three are shown twice."""
    store, character = ArtifactStore(tmp_path), demo_character("bram_thistle")
    fill(store, *character, models=("base", "lora", "released", "tensorart", "civitai_v2"))
    for asset in ("samples", "frames"):
        for number, path in enumerate(sorted(store.folder("bram_thistle", asset).rglob("*.png"))):
            pixels = np.random.default_rng(number).integers(0, 256, (320, 320, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path, compress_level=0)
    report = bram_thistle(store, example_checks())
    assert sum(len(row.images) for grid in report.grids for row in grid.rows) == 80
    assert len(character_page(report).encode()) <= 4 / 3 * 1.2 * contents.CHARACTER_BYTES
