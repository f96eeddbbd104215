"""A style of two small characters, from their datasets to its LoRA: embedded models, and a training of seconds."""

import json

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sticker_pipeline.benchmark.style_choice import METRICS as STYLE_METRICS
from sticker_pipeline.cli import update
from sticker_pipeline.core.profile import PROFILES
from sticker_pipeline.dagster_kit.history import History
from sticker_pipeline.dagster_kit.restored import stale_now, versions_now
from sticker_pipeline.defs.scopes import of_style
from sticker_pipeline.diffusion.lora.file import read_tensors
from sticker_pipeline.publishing.contents import style_report
from sticker_pipeline.roots.style import ready_styles
from sticker_pipeline_tests.defs.conftest import SETTINGS, Bench
from sticker_pipeline_tests.test_definitions import STYLE_LINE

STYLED = SETTINGS + "style: chibi\n"
SHORT = {"training": {"epochs": 2, "samples_per_epoch": 64}, "attributes": ("smile", "angry, arms up")}
CHIBI = "_styles/chibi"


@pytest.fixture(scope="module")
def styled(bench: Bench) -> Bench:
    """Two characters that name the style, and one that does not, of which the datasets were made; then the style."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES, "embedded", {**PROFILES["embedded"], "style": SHORT})
        bench.add_character("bram", "bram_thistle", STYLED)
        bench.add_character("moth", "velvet_moth", STYLED.replace("skv_small", "skv_moth"))
        bench.add_character("pip", "pip_comet")
        names = ["bram", "moth", "pip"]
        bench.instance.add_dynamic_partitions("characters", names)
        dataset = bench.definitions.resolve_job_def("dataset_line")
        for name in names:
            assert dataset.execute_in_process(instance=bench.instance, partition_key=name).success
        bench.instance.add_dynamic_partitions("styles", ["chibi"])
        line = bench.definitions.resolve_job_def("style_line")
        assert line.execute_in_process(instance=bench.instance, partition_key="chibi").success
        yield bench


def stale(bench: Bench) -> list[str]:
    history = History(bench.instance, bench.definitions.resolve_asset_graph())
    line = [dg.AssetKey.from_user_string(name) for name in STYLE_LINE]
    return [key.to_user_string() for key in stale_now(history, line, of_style(bench.workspace, "chibi"), bench.store)]


def test_it_is_made_of_the_characters_that_name_it(styled: Bench) -> None:
    rows = styled.store.read(CHIBI, "style_training_set").table()
    assert set(rows["character"]) == {"bram", "moth"}
    trained = rows[rows["split"] == "train"]
    assert trained["probability"].sum() == pytest.approx(1, abs=1e-12)
    assert trained.groupby("character")["probability"].sum().tolist() == pytest.approx([0.5, 0.5], abs=1e-12)
    for name in ("bram", "moth"):
        own = styled.store.read(name, "training_set").table()
        of_style = rows[rows["character"] == name]
        assert (f"{name}/" + own["frame_id"]).tolist() == of_style["frame_id"].tolist()
        assert own["split"].tolist() == of_style["split"].tolist()
        sources = trained[trained["character"] == name].groupby("source_id")["probability"].sum()
        np.testing.assert_allclose(sources, 0.5 / len(sources), rtol=1e-12)


def test_its_captions_are_the_other_way_round(styled: Bench) -> None:
    artifact = styled.store.read(CHIBI, "style_training_set")
    rows = artifact.table().set_index("frame_id")
    words = {tag for caption in rows["caption"] for tag in caption.split(", ")}
    assert {"purple hair", "orange hair"} <= words
    assert not {"skv_small", "skv_moth", "small_sticker", "chibi", "outline", "flat color", "solo"} & words
    assert rows["caption"].str.split(", ").map(len).max() <= PROFILES["embedded"]["style"].get("tags", 8)
    assert (artifact.table("dropped.parquet")["reason"] == "a tag of drawing style").any()


@pytest.mark.parametrize("asset", STYLE_LINE)
def test_its_tables_are_as_declared(styled: Bench, asset: str) -> None:
    styled.check_tables(asset, CHIBI, "chibi")


def test_it_is_trained_as_a_character_is_and_bound_to_no_word(styled: Bench) -> None:
    lora = styled.store.read(CHIBI, "style_lora")
    spec = json.loads((lora.folder / "spec.json").read_text())
    assert spec["trigger"] is None and spec["name"] == "chibi"
    assert len(pd.read_parquet(lora.folder / "log.parquet")) == 2 * 64 // 8
    _, metadata = read_tensors(lora.folder / "checkpoints" / "epoch_02.safetensors")
    assert metadata["modelspec.usage_hint"] == "It has no trigger word." and "modelspec.trigger_phrase" not in metadata
    assert not list((styled.store.root / CHIBI / ".work" / "style_lora").rglob("*"))


def test_an_epoch_is_chosen_on_invented_characters_and_measured_on_others(styled: Bench) -> None:
    chosen = styled.store.read(CHIBI, "selected_style_lora")
    choice = chosen.table()
    assert choice["epoch"].tolist() == [0, 1, 2]
    assert choice["chosen"].sum() == 1 and not choice["chosen"].iloc[0]
    epoch = int(choice.loc[choice["chosen"], "epoch"].iloc[0])
    trained = styled.store.read(CHIBI, "style_lora")
    name = f"checkpoints/epoch_{epoch:02d}.safetensors"
    assert chosen.files["lora.safetensors"]["sha256"] == trained.files[name]["sha256"]
    goal = chosen.table("goal.parquet").set_index(["model", "metric"])
    assert np.isfinite(goal.loc[["base", "lora"], ["mean", "ci_low", "ci_high"]]).all(axis=None)
    assert goal.loc[("lora", "leaks"), "n"] == 4 * 2 * 2
    drawn = sorted((chosen.folder / "selection" / "epoch_01").iterdir())
    assert len(drawn) == 4 * 2
    assert Image.open(drawn[0]).size == (96, 96)
    shown = styled.metadata("style/selected_lora", "chibi")
    assert str(shown["images"]).startswith("![") and str(shown["why"]).startswith("chosen: ")


def test_the_report_reads_it(styled: Bench) -> None:
    shown = style_report(styled.store, "chibi")
    assert shown is not None and shown.characters == ("bram", "moth")
    choice = styled.store.read(CHIBI, "selected_style_lora").table().set_index("epoch")
    assert choice.loc[shown.choice.epoch, "chosen"] and len(shown.choice.curves) == 4
    models = {(one.model, one.metric) for one in shown.estimates}
    assert models == {(model, metric) for model in ("base", "lora") for metric in STYLE_METRICS} | {
        ("reference", "style_similarity")
    }
    assert {one.metric for one in shown.differences} == set(STYLE_METRICS)


def test_the_lineage_names_the_artifacts_of_each_character(styled: Bench) -> None:
    inputs = styled.store.read(CHIBI, "style_training_set").inputs
    for name in ("bram", "moth"):
        for asset in ("frames", "curated_tags", "training_set"):
            assert inputs[f"{name}/{asset}"] == styled.store.read(name, asset).data_version
    assert set(inputs) == {*(key for key in inputs if "/" in key and not key.startswith("pip/"))}
    assert stale(styled) == []


def test_a_change_of_one_of_its_characters_makes_it_stale_and_of_others_not(styled: Bench) -> None:
    job = styled.definitions.resolve_job_def("dataset_line")

    def edit(name: str, settings: str) -> None:
        (styled.folder(name) / "character.yaml").write_text(settings)
        keys = [dg.AssetKey(asset) for asset in ("curated_tags", "training_set")]
        assert job.execute_in_process(instance=styled.instance, partition_key=name, asset_selection=keys).success

    blacklist = "curation: {blacklist: [smile]}\n"
    edit("pip", SETTINGS + blacklist)
    assert stale(styled) == []
    edit("bram", STYLED + blacklist)
    assert stale(styled) == STYLE_LINE
    edit("bram", STYLED)
    assert stale(styled) == []


def test_update_makes_what_is_out_of_date_of_the_styles_that_it_is_asked_for(
    styled: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Character lines are left aside: they have tests of their own."""
    real = update.stale_assets
    monkeypatch.setattr(update, "stale_assets", lambda work, job, *at: real(work, job, *at) * (job == "style_line"))
    runs = styled.instance.get_runs_count()
    assert styled.update("pip") and styled.update("bram")
    assert styled.instance.get_runs_count() == runs
    monkeypatch.setitem(PROFILES["embedded"], "style", {**SHORT, "most_leaks": 1.0})
    assert stale(styled) == ["style/selected_lora"]
    assert styled.update("pip")
    assert styled.instance.get_runs_count() == runs
    assert styled.update("bram", "pip")
    assert styled.instance.get_runs_count() == runs + 1
    assert stale(styled) == []


def test_the_automation_makes_a_new_style_step_by_step(styled: Bench) -> None:
    """In an instance that has seen the style and made nothing of it."""
    (style,), problems = ready_styles(
        styled.workspace.valid_characters()[0], styled.store, styled.workspace.models_folder
    )
    assert not problems
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("styles", ["chibi"])
        result = dg.evaluate_automation_conditions(styled.definitions, instance)
        requested = {name: result.get_requested_partitions(dg.AssetKey.from_user_string(name)) for name in STYLE_LINE}
    assert requested == {"style/training_set": {"chibi"}, "style/lora": set(), "style/selected_lora": set()}
    lora = dg.AssetKey(["style", "lora"])
    spec = styled.definitions.resolve_assets_def(lora).get_asset_spec(lora)
    scope = of_style(styled.workspace, style.name)
    values = scope.values(styled.store)
    inputs = {name for dep in spec.deps for name in versions_now(spec, dep.asset_key, scope, styled.store, values)}
    assert inputs == {"style_training_set", "style/training"}
