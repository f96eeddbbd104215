"""The pool of steps that take the GPU, or without one all cores, for long."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

GPU = "gpu"


def has_gpu(environment: Mapping[str, str] = os.environ, drivers: Path = Path("/proc/driver/nvidia")) -> bool:
    """Return True if this machine has an NVIDIA GPU that processes may use.

    Checks the driver, without PyTorch.
    """
    if environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return drivers.exists() or shutil.which("nvidia-smi", path=environment.get("PATH")) is not None


BRIEF = GPU if has_gpu() else None
"""The pool of a step that needs the GPU briefly.

Without a GPU it has no pool: a dataset is made beside another character's training.
"""
