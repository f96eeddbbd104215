"""A Dagster step that trains in its own process, for the launcher's tests to kill.

python -m sticker_pipeline_tests.dagster_kit.step_process TRAINER_MODULE GRACE_SECONDS [ARG ...]
"""

import sys

import dagster as dg

from sticker_pipeline.dagster_kit.launcher import TrainerLauncher


@dg.asset
def training(context: dg.AssetExecutionContext, launcher: TrainerLauncher) -> dg.MaterializeResult:
    launcher.train(context, sys.argv[3:], lambda message: print("progress", message, flush=True), module=sys.argv[1])
    return dg.MaterializeResult()


if __name__ == "__main__":
    result = dg.materialize(
        [training],
        resources={"launcher": TrainerLauncher(stop_grace_seconds=float(sys.argv[2]))},
        raise_on_error=False,
    )
    sys.exit(0 if result.success else 1)
