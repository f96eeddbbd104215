"""The run launcher by the name that `dagster.yaml` of earlier versions gives it."""

from sticker_pipeline.dagster_kit.run_launcher import LocalRunLauncher

__all__ = ["LocalRunLauncher"]
