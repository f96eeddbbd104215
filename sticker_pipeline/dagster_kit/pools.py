"""The pool of the steps that take the GPU, or, where there is none, all cores for long."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

GPU = "gpu"


def has_gpu(environment: Mapping[str, str] = os.environ, drivers: Path = Path("/proc/driver/nvidia")) -> bool:
    """Whether this machine has an NVIDIA GPU that its processes may use. Asked of the driver, without PyTorch."""
    if environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return drivers.exists() or shutil.which("nvidia-smi", path=environment.get("PATH")) is not None


BRIEF = GPU if has_gpu() else None
"""Of a step that needs the GPU for a short time: without one it takes turns with nobody, and a dataset goes on beside
another character's training."""
