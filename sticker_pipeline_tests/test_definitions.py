"""Loading of the definitions: cheap, and as designed."""

import itertools
import subprocess
import sys
from collections import Counter

import dagster as dg
import pytest

from sticker_pipeline.dagster_kit.metadata import COLUMN_SCHEMA
from sticker_pipeline.dagster_kit.on_request import GROUP
from sticker_pipeline.definitions import defs
from sticker_pipeline.defs.scopes import ON_REQUEST
from sticker_pipeline_tests.tables_page import tables_of

LINE = [
    "raw_media", "frames", "frame_weights", "wd14_tags", "curated_tags", "training_set", "lora", "selected_lora",
    "samples", "benchmark", "released_lora", "comfyui_workflow",
]  # fmt: skip
PACK_LINE = ["released_lora", "pack_candidates", "sticker_pack"]
STYLE_LINE = ["style/training_set", "style/lora", "style/selected_lora"]
ASKED_FOR = ["character_lcm_lora", "profile/lcm_lora", "sampling_grid"]
TABLES = {
    "raw_media": ["index", "captions"],
    "frames": ["index"],
    "frame_weights": ["index"],
    "wd14_tags": ["index"],
    "curated_tags": ["index", "dropped"],
    "training_set": ["index"],
    "lora": ["log", "validation_loss", "sources"],
    "selected_lora": ["index"],
    "samples": ["index", "without_trigger"],
    "benchmark": ["index", "compared"],
    "released_lora": ["sources"],
    "comfyui_workflow": ["index"],
    "pack_candidates": ["index"],
    "sticker_pack": ["index", "choice", "accepted"],
    "leaderboard": ["index"],
    "sampling_grid": ["index"],
    "style/training_set": ["index", "tags", "dropped"],
    "style/lora": ["log", "validation_loss"],
    "style/selected_lora": ["index", "goal"],
    "profile/lcm_lora": ["index", "log"],
    "character_lcm_lora": ["index", "log"],
}  # what the artifacts really have is looked at where they are made: Bench.check_tables
HEAVY = ["torch", "diffusers", "transformers", "open_clip", "onnxruntime", "peft", "accelerate", "matplotlib", "skia"]


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return defs()


def test_loading_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sticker_pipeline.definitions import defs; defs();"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_the_line_of_assets(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.resolve_asset_graph()
    made = [key.to_user_string() for key in graph.toposorted_asset_keys if key in graph.materializable_asset_keys]
    assert set(made) == {*LINE, *PACK_LINE, *STYLE_LINE, *ASKED_FOR, "leaderboard", "report"}
    for line in (LINE, PACK_LINE, STYLE_LINE):
        for before, after in itertools.pairwise(line):
            assert made.index(before) < made.index(after)


def test_every_asset_is_presented(definitions: dg.Definitions) -> None:
    made = definitions.resolve_asset_graph().materializable_asset_keys
    for spec in definitions.resolve_all_asset_specs():
        assert spec.description and spec.kinds and spec.group_name != "default", spec.key
        if spec.key in made:
            assert spec.code_version, spec.key
        is_across = spec.key.path in (["leaderboard"], ["report"], ["character", "roster"], ["character", "shared"])
        assert (spec.partitions_def is None) == is_across, spec.key


def test_the_columns_of_every_table_are_shown_before_any_run(definitions: dg.Definitions) -> None:
    found = {spec.key.to_user_string(): list(tables_of(spec)) for spec in definitions.resolve_all_asset_specs()}
    assert {asset: [file for file, _, _ in tables] for asset, tables in found.items() if tables} == {
        asset: [f"{name}.parquet" for name in names] for asset, names in TABLES.items()
    }
    for asset, tables in found.items():
        for file, rows, schema in tables:
            assert rows.startswith("one for each "), (asset, file)
            assert all(column.description and column.type for column in schema.columns), (asset, file)
    for spec in definitions.resolve_all_asset_specs():
        tables = found[spec.key.to_user_string()]
        assert spec.metadata.get(COLUMN_SCHEMA) == (tables[0][2] if tables else None)


def test_the_line_makes_nothing_that_has_to_be_asked_for(definitions: dg.Definitions) -> None:
    made = definitions.resolve_job_def("character_line").asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in made} == set(LINE)


def test_what_has_to_be_asked_for_is_a_group(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    assert sorted(key.to_user_string() for key in graph.asset_keys_for_group(GROUP)) == ASKED_FOR
    assert sorted(key.to_user_string() for key in ON_REQUEST) == ASKED_FOR


def test_no_name_is_used_thrice(definitions: dg.Definitions) -> None:
    """Of groups, assets and roots (as the lineage shows them), jobs, sensors and checks."""
    specs = definitions.resolve_all_asset_specs()
    names = [
        *{spec.group_name for spec in specs},
        *(spec.key.path[-1] for spec in specs),
        *(job.name for job in definitions.resolve_all_job_defs()),
        *(sensor.name for sensor in definitions.sensors or []),
        *(key.name for key in definitions.resolve_asset_graph().asset_check_keys),
    ]
    assert {name: number for name, number in Counter(names).items() if number > 2} == {}


def test_everything_else_is_made_by_itself(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    alone = [asset for asset in graph.materializable_asset_keys if graph.get(asset).automation_condition is None]
    assert sorted(asset.to_user_string() for asset in alone) == ASKED_FOR
    sensors = {sensor.name: sensor.default_status for sensor in definitions.sensors or []}
    assert sensors == dict.fromkeys(["automation", "character_folders"], dg.DefaultSensorStatus.RUNNING)
