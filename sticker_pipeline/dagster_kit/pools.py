"""Pool of long steps that need the GPU, else all cores."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

GPU = "gpu"


def has_gpu(environment: Mapping[str, str] = os.environ, drivers: Path = Path("/proc/driver/nvidia")) -> bool:
    """Return True if processes may use an NVIDIA GPU here.

    Checks the driver, without PyTorch.
    """
    if environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return drivers.exists() or shutil.which("nvidia-smi", path=environment.get("PATH")) is not None


BRIEF = GPU if has_gpu() else None
"""Pool of a step that needs the GPU briefly.

None without a GPU: datasets are made beside another character's training.
"""
