"""A launch chooses assets, a partition, and values for three steps; other configuration is refused."""

from typing import Any

import dagster as dg
import pytest

from sticker_pipeline.core.character import Pack
from sticker_pipeline.core.profile import OVERRIDABLE
from sticker_pipeline.dagster_kit.fixed import NO_VALUES, NoValues
from sticker_pipeline.dagster_kit.one_off import OneOff
from sticker_pipeline.definitions import defs
from sticker_pipeline.defs.benchmark.sampling_grid import GridConfig
from sticker_pipeline.defs.pack.sticker_pack import PackConfig
from sticker_pipeline.defs.training.lora import LoraConfig

PRELOAD = {"start_method": {"forkserver": {"preload_modules": ["antigravity"]}}}
ATTACKS: dict[str, dict[str, Any]] = {
    "another workspace": {"resources": {"workspace": {"config": {"characters": "elsewhere/theirs"}}}},
    "a variable of the environment": {"resources": {"workspace": {"config": {"artifacts": {"env": "HOME"}}}}},
    "another launcher": {"resources": {"launcher": {"config": {"stop_grace_seconds": 0.001}}}},
    "values unpickled from elsewhere": {"resources": {"io_manager": {"config": {"base_dir": "elsewhere/theirs"}}}},
    "modules imported into each step": {"execution": {"config": PRELOAD}},
    "modules, as older launches name them": {"execution": {"config": {"multiprocess": PRELOAD}}},
    "steps in one process": {"execution": {"config": {"in_process": {}}}},
    "many steps at a time": {"execution": {"config": {"max_concurrent": 1000}}},
    "another logger": {"loggers": {"console": {"config": {"log_level": "DEBUG", "name": "root"}}}},
    "a logger's settings": {"loggers": {"terminal": {"config": {"log_level": "DEBUG"}}}},
    "inputs": {"inputs": {"frames": {"pickle": {"path": "elsewhere/theirs"}}}},
}
ONE_OFF: dict[str, type[OneOff]] = {"lora": LoraConfig, "sampling_grid": GridConfig, "sticker_pack": PackConfig}
DEFINITIONS = defs()
JOBS = {job.name: job for job in DEFINITIONS.resolve_all_job_defs()}


def test_every_job_is_tried() -> None:
    assert set(JOBS) >= {"__ASSET_JOB", "dataset_line", "character_line", "style_line", "compare_sampling_settings"}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("job", JOBS)
def test_a_launch_that_configures_anything_is_refused(job: str, attack: str) -> None:
    assert dg.validate_run_config(JOBS[job], {})
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.validate_run_config(JOBS[job], ATTACKS[attack])


@pytest.mark.parametrize("job", JOBS)
def test_no_step_takes_an_input_and_three_take_values_of_the_settings(job: str) -> None:
    for node in JOBS[job].graph.nodes:
        fields = getattr(node.definition.config_schema.config_type, "fields", {})
        assert set(fields) == set(ONE_OFF[node.name].model_fields if node.name in ONE_OFF else ())
        with pytest.raises(dg.DagsterInvalidConfigError):
            dg.validate_run_config(
                JOBS[job], {"ops": {node.name: {"inputs": {"frames": {"path": "elsewhere/theirs"}}}}}
            )


@pytest.mark.parametrize("config", ONE_OFF.values(), ids=ONE_OFF)
def test_a_launch_names_settings_each_explained_and_none_by_default(config: type[OneOff]) -> None:
    model = Pack if config.section == "pack" else OVERRIDABLE[config.section]
    assert set(config.model_fields) <= set(model.model_fields)
    assert all(field.default is None and field.description for field in config.model_fields.values())


def test_a_resource_that_nobody_has_fixed_is_found() -> None:
    """Later additions to the definitions are fixed too."""
    for name, resource in (DEFINITIONS.resources or {}).items():
        assert isinstance(resource, dg.ResourceDefinition), name
        assert not resource.config_schema.config_type.fields, name


def test_no_value_is_handed_on() -> None:
    @dg.asset
    def returns_a_value() -> int:
        return 1

    with pytest.raises(TypeError, match=r"^returns_a_value: steps hand on no values; publish files"):
        dg.materialize([returns_a_value], resources={"io_manager": NO_VALUES})
    assert isinstance(NoValues(), dg.IOManager)
