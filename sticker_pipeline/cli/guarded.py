"""Processes under a guard; it ends them and all that they started."""

import sys

from sticker_pipeline.core.process import guard


def work(*arguments: str) -> None:
    """Run `cli/work.py`; exit with its status."""
    guarded("sticker_pipeline.cli.work", *arguments)


def guarded(module: str, *arguments: str) -> None:
    """Run a module under a guard; exit with its status."""
    warned = [f"-W{option}" for option in sys.warnoptions]
    sys.exit(guard.run([sys.executable, "-P", *warned, "-m", module, *arguments]))
