"""Pictures that carry their workflow: chunks read from the bytes, pixels by Pillow."""

import io
import json
import re
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from sticker_pipeline.publishing.comfyui import Workflow, WorkflowError, api_format, ui_format
from sticker_pipeline.publishing.png import a1111_parameters, png_with_workflow
from sticker_pipeline_tests.publishing.strategies import workflows
from sticker_pipeline_tests.publishing.test_comfyui import WORKFLOW


def texts(png: bytes) -> dict[str, str]:
    """Text chunks by keyword, as the PNG specification lays them out: tEXt is Latin-1, iTXt UTF-8."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, place = {}, 8
    while place < len(png):
        (size,), kind = struct.unpack(">I", png[place : place + 4]), png[place + 4 : place + 8]
        data = png[place + 8 : place + 8 + size]
        assert struct.unpack(">I", png[place + 8 + size : place + 12 + size])[0] == zlib.crc32(kind + data)
        if kind == b"tEXt":
            keyword, text = data.split(b"\0", 1)
            found[keyword.decode("latin-1")] = text.decode("latin-1")
        elif kind == b"iTXt":
            keyword, rest = data.split(b"\0", 1)
            assert rest[:4] == b"\0\0\0\0"  # not compressed, no language, no translated keyword
            found[keyword.decode("latin-1")] = rest[4:].decode("utf-8")
        place += 12 + size
    return found


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("RGBA", 4)])
def test_the_pixels_stay_and_both_formats_are_inside(mode: str, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, channels), dtype=np.uint8)
    png = png_with_workflow(Image.fromarray(pixels, mode), WORKFLOW)
    opened = Image.open(io.BytesIO(png))
    assert opened.mode == mode
    assert (np.asarray(opened) == pixels).all()
    found = texts(png)
    assert json.loads(found["prompt"]) == api_format(WORKFLOW)
    assert json.loads(found["workflow"]) == ui_format(WORKFLOW)
    assert found["parameters"] == a1111_parameters(WORKFLOW)
    assert set(found) == {"prompt", "workflow", "parameters"}


def test_prompts_in_any_script_survive_and_what_the_picture_carried_before_does_not() -> None:
    image = Image.new("RGB", (8, 8))
    image.info["workflow"] = "old"
    workflow = replace(WORKFLOW, positive="日本, é")
    found = texts(png_with_workflow(image, workflow))
    assert json.loads(found["prompt"])["6"]["inputs"]["text"] == "日本, é"
    assert found["parameters"].startswith("日本, é <lora:")
    assert json.loads(found["workflow"])["version"] == 0.4


def test_a_picture_of_several_is_refused() -> None:
    with pytest.raises(WorkflowError, match="draws 4"):
        png_with_workflow(Image.new("RGB", (8, 8)), replace(WORKFLOW, batch=4))


def test_settings_as_a1111_writes_them() -> None:
    workflow = replace(WORKFLOW, positive="moth_(insect), [x]", zero_snr=True, clip_skip=2)
    text = a1111_parameters(workflow, checkpoint_sha256="0123456789abcdef" * 4, lora_hash="fedcba9876543210" * 4)
    assert text == (
        "moth_\\(insect\\), \\[x\\] <lora:velvet_moth:0.8>\n"
        "Negative prompt: lowres\n"
        "Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 7, Size: 512x768, "
        "Model hash: 0123456789, Model: anime, Clip skip: 2, RNG: CPU, Noise Schedule: Zero Terminal SNR, "
        'Lora hashes: "velvet_moth: fedcba987654"'
    )


@given(workflows())
def test_settings_can_be_read_back(workflow: Workflow) -> None:
    """Lines and pairs as A1111 takes them apart: the last line has `Key: value` pairs, the others are prompts."""
    *prompts, last = a1111_parameters(workflow, lora_hash="ab" * 32).split("\n")
    pairs = re.findall(r'([A-Z][\w ]+): ("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)', last)
    settings = {key: json.loads(value) if value.startswith('"') else value for key, value in pairs}
    assert (int(settings["Steps"]), int(settings["Seed"])) == (workflow.steps, workflow.seed)
    assert float(settings["CFG scale"]) == workflow.cfg
    assert settings["Size"] == f"{workflow.width}x{workflow.height}"
    assert int(settings.get("Clip skip", 1)) == workflow.clip_skip
    assert f"{settings['Model']}.safetensors" == workflow.checkpoint.rsplit("/", 1)[-1]
    name = workflow.lora.rsplit("/", 1)[-1].removesuffix(".safetensors")
    assert settings["Lora hashes"] == f"{name}: {'ab' * 6}"
    positive, _, used = prompts[0].rpartition("<lora:")
    assert float(used.removeprefix(f"{name}:").removesuffix(">")) == workflow.strength
    assert re.sub(r"\\(.)", r"\1", positive.strip()) == workflow.positive.strip()
    negative = prompts[1].removeprefix("Negative prompt: ") if len(prompts) > 1 else ""
    assert re.sub(r"\\(.)", r"\1", negative) == workflow.negative
