"""Pool of long steps that need the GPU, else all cores."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sticker_pipeline.core.texts import UserError, quoted

GPU = "gpu"
STEP_GPUS = "STICKER_STEP_GPUS"


class RequestError(UserError):
    """An invalid STICKER_STEP_GPUS; the message gives the remedy."""


def gpu_request(pool: str | None, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the op tags by which a step of `pool` requests GPUs.

    Ray and Kubernetes heed them, other executors do not. {} outside the pool `gpu`, and on a fleet
    without GPUs: STICKER_STEP_GPUS=0.
    """
    text = environment.get(STEP_GPUS, "").strip() or "1"
    if not text.isdecimal():
        raise RequestError(f"{STEP_GPUS}: {quoted(text)} is no number of GPUs. Write a whole number, or 0 for none.")
    gpus = int(text)
    if pool != GPU or not gpus:
        return {}
    return {
        "dagster-ray/config": {"num_gpus": gpus},
        "dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": gpus}}}},
    }


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
