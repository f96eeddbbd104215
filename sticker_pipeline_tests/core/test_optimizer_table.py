"""The rows of the optimizers agree with settings, kohya's files and the constructors."""

import importlib
import inspect
import math
import subprocess
import sys

import pytest

from sticker_pipeline.core.optimizer_table import (
    BY_KOHYA_NAME,
    LEAN,
    OPTIMIZERS,
    OWN_SETTINGS,
    Optimizer,
    float32_copies,
    needed_by,
)
from sticker_pipeline.core.settings import TrainingSettings

ROWS = [pytest.param(row, id=row.name) for row in OPTIMIZERS.values()]


def constructor(row: Optimizer) -> inspect.Signature:
    pytest.importorskip(row.package)
    module, _, name = row.constructor.rpartition(".")
    return inspect.signature(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("row", ROWS)
def test_settings_are_fields_and_arguments_those_of_the_constructor(row: Optimizer) -> None:
    assert row.arguments.keys() <= TrainingSettings.model_fields.keys()
    names = {argument.name for argument in row.arguments.values()}
    assert names.isdisjoint(row.fixed) and names.isdisjoint(row.passed)
    assert names | row.fixed.keys() | row.passed.keys() <= constructor(row).parameters.keys()


@pytest.mark.parametrize("row", ROWS)
def test_defaults_are_those_of_the_constructor(row: Optimizer) -> None:
    """None stands for what the constructor has."""
    parameters = constructor(row).parameters
    stated = {argument.name: argument.default for argument in row.arguments.values()}
    stated |= {name: default for name, (default, _) in row.fixed.items()}
    for name, default in stated.items():
        if default is not None:
            assert parameters[name].default == pytest.approx(default), name


@pytest.mark.parametrize("row", ROWS)
def test_the_registry_is_what_settings_allow(row: Optimizer) -> None:
    assert TrainingSettings(optimizer=row.name).optimizer == row.name
    assert row.note in (TrainingSettings.model_fields["optimizer"].description or "")
    assert row.kohya and all(BY_KOHYA_NAME[name.lower()] is row for name in row.kohya)


def test_another_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="'adamw', 'adamw8bit', 'prodigy', 'dadaptadam'"):
        TrainingSettings(optimizer="lion")


def test_who_reads_a_setting() -> None:
    assert needed_by("betas") == "another optimizer than adafactor"
    assert needed_by("prodigy_d0") == "`optimizer: prodigy`"
    assert OWN_SETTINGS[0] == "betas", "all read weight_decay"


def test_bytes_by_hand() -> None:
    """Of 100 × 50 float32; a vector of 100; 8 bits hold small tensors whole."""
    state = {name: row.state_bytes for name, row in OPTIMIZERS.items()}
    assert state["adamw"]((100, 50)) == 2 * 4 * 5000
    assert state["prodigy"]((100, 50)) == 4 * 4 * 5000
    assert state["dadaptadam"]((100, 50)) == 3 * 4 * 5000
    assert state["adafactor"]((100, 50)) == 4 * (100 + 50) and state["adafactor"]((100,)) == 400
    assert state["adamw8bit"]((100, 50)) == 2 * (5000 + 4 * math.ceil(5000 / 256))
    assert state["adamw8bit"]((100,)) == 800
    assert float32_copies(1)((2, 3, 4)) == 96
    assert LEAN == ("adamw8bit", "adafactor")


def test_settings_and_definitions_of_optimizers_load_no_constructor() -> None:
    imported = "sys, sticker_pipeline.core.settings, sticker_pipeline.core.kohya_settings.rules as _"
    code = f"import {imported}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "sticker_pipeline.core.optimizer_table" in loaded
    assert {row.package for row in OPTIMIZERS.values()}.isdisjoint(loaded)
