"""The project's definitions, and jobs for a fleet's tests: two real steps, and a training that must be stopped."""

import os
from pathlib import Path

import dagster as dg

from sticker_pipeline import definitions
from sticker_pipeline.dagster_kit.launcher import TrainerLauncher
from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline.defs.partitions import CHARACTERS

STEPS = ("raw_media", "frames")


@dg.asset(pool=GPU, op_tags=gpu_request(GPU), partitions_def=CHARACTERS)
def long_training(context: dg.AssetExecutionContext, launcher: TrainerLauncher) -> None:
    """Train until it is stopped, in the folder of the artifacts."""
    folder = Path(os.environ["STICKER_ARTIFACTS"]) / "long_training"
    folder.mkdir(parents=True)
    launcher.train(context, [str(folder)], lambda _: None, module="sticker_pipeline_tests.fleet.slow_trainer")


@dg.definitions
def defs() -> dg.Definitions:
    jobs = [
        dg.define_asset_job(
            "first_steps", selection=dg.AssetSelection.assets(*STEPS).without_checks(), partitions_def=CHARACTERS
        ),
        dg.define_asset_job("training", selection=[long_training], partitions_def=CHARACTERS),
    ]
    return dg.Definitions.merge(definitions.defs(), dg.Definitions(assets=[long_training], jobs=jobs))
