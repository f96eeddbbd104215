"""The run launcher under its name in earlier versions' `dagster.yaml`."""

from sticker_pipeline.dagster_kit.run_launcher import LocalRunLauncher

__all__ = ["LocalRunLauncher"]
