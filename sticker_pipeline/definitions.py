"""The Dagster entry point. `defs/` has one module per stage."""

import os
from pathlib import Path

import dagster as dg

from sticker_pipeline.core.process.quiet import quiet
from sticker_pipeline.dagster_kit.owners import owned, owners


@dg.definitions
def defs() -> dg.Definitions:
    quiet()  # before the modules of the folder are loaded, in every process that runs a step
    return owned(dg.load_from_defs_folder(path_within_project=Path(__file__).parent), owners(os.environ))
