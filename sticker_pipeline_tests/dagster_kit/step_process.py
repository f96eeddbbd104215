"""A Dagster step that trains in its own process, for the launcher's tests to kill.

python -m sticker_pipeline_tests.dagster_kit.step_process TRAINER_MODULE GRACE_SECONDS [ARG ...]
"""

import sys
from collections.abc import Mapping
from typing import Any

import dagster as dg

from sticker_pipeline.dagster_kit.launcher import TrainerLauncher


def say(message: Mapping[str, Any]) -> None:
    """Print a message, but for counts before the first step."""
    if "counted" not in message:
        print("progress", message, flush=True)


@dg.asset
def training(context: dg.AssetExecutionContext, launcher: TrainerLauncher) -> dg.MaterializeResult:
    launcher.train(context, sys.argv[3:], say, module=sys.argv[1])
    return dg.MaterializeResult()


if __name__ == "__main__":
    result = dg.materialize(
        [training],
        resources={"launcher": TrainerLauncher(stop_grace_seconds=float(sys.argv[2]))},
        raise_on_error=False,
    )
    sys.exit(0 if result.success else 1)
