"""Pool of long steps that need the GPU, else all cores."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sticker_pipeline.core.texts import UserError, quoted
from sticker_pipeline.dagster_kit.executors import VARIABLE as EXECUTOR

GPU = "gpu"
STEP_GPUS = "STICKER_STEP_GPUS"


class RequestError(UserError):
    """An invalid STICKER_STEP_GPUS; the message gives the remedy."""


def gpu_request(pool: str | None, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the op tags by which a step of `pool` requests GPUs.

    Ray and Kubernetes heed them, other executors do not. {} outside the pool `gpu`, and on a fleet
    without GPUs: STICKER_STEP_GPUS=0.
    """
    gpus = _step_gpus(environment)
    if pool != GPU or not gpus:
        return {}
    return {
        "dagster-ray/config": {"num_gpus": gpus},
        "dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": gpus}}}},
    }


def _step_gpus(environment: Mapping[str, str]) -> int:
    text = environment.get(STEP_GPUS, "").strip() or "1"
    if not text.isdecimal():
        raise RequestError(f"{STEP_GPUS}: {quoted(text)} is no number of GPUs. Write a whole number, or 0 for none.")
    return int(text)


def has_gpu(environment: Mapping[str, str] = os.environ, drivers: Path = Path("/proc/driver/nvidia")) -> bool:
    """Return True if processes may use an NVIDIA GPU here.

    Checks the driver, without PyTorch.
    """
    if environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return drivers.exists() or shutil.which("nvidia-smi", path=environment.get("PATH")) is not None


def brief_pool(environment: Mapping[str, str], here: bool) -> str | None:
    """Return the pool of a step that needs the GPU briefly.

    None without a GPU: datasets are made beside another character's training. `here`: this machine has one. On a fleet
    it does not matter: the steps run elsewhere.
    """
    on_a_fleet = environment.get(EXECUTOR, "").strip() not in ("", "local")
    return GPU if (_step_gpus(environment) if on_a_fleet else here) else None


BRIEF = brief_pool(os.environ, has_gpu())
