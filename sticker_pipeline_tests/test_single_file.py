"""The helper single_file.py against diffusers' own reader of single files."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sticker_pipeline.diffusion.base_model import check_base
from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline_tests.single_file import write_single_file
from sticker_pipeline_tests.tiny_models import build_tiny_pipeline, build_tiny_sdxl


@pytest.mark.parametrize(("family", "build"), [("sd15", build_tiny_pipeline), ("sdxl", build_tiny_sdxl)])
def test_diffusers_reads_the_same_weights(tmp_path: Path, family: str, build: Callable[[Path], Path]) -> None:
    import diffusers

    folder = build(tmp_path / "base")
    pipeline_class = getattr(diffusers, FAMILIES[family].pipeline)
    file = write_single_file(folder, family, tmp_path / "base.safetensors")
    check_base(file, family)
    expected = pipeline_class.from_pretrained(folder, local_files_only=True)
    found = pipeline_class.from_single_file(str(file), config=str(folder), local_files_only=True)
    for part in ("unet", "vae", *(encoder.folder for encoder in FAMILIES[family].text_encoders)):
        weights, right = getattr(found, part).state_dict(), getattr(expected, part).state_dict()
        assert weights.keys() == right.keys()
        assert all(torch.equal(weights[key], right[key]) for key in right), part
