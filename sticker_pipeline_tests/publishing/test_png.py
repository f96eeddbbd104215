"""Images with a workflow: chunks read from the bytes, pixels by Pillow."""

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

from sticker_pipeline.publishing.comfyui import Lora, Workflow, WorkflowError, api_format, ui_format
from sticker_pipeline.publishing.png import a1111_parameters, png_with_workflow
from sticker_pipeline.tagging.captions import is_weighted, parse_caption
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


def test_prompts_in_any_script_survive_and_what_the_image_carried_before_does_not() -> None:
    image = Image.new("RGB", (8, 8))
    image.info["workflow"] = "old"
    workflow = replace(WORKFLOW, positive="日本, é")
    found = texts(png_with_workflow(image, workflow))
    assert json.loads(found["prompt"])["6"]["inputs"]["text"] == "日本, é"
    assert found["parameters"].startswith("日本, é <lora:")
    assert json.loads(found["workflow"])["version"] == 0.4


def test_an_image_of_several_is_refused() -> None:
    with pytest.raises(WorkflowError, match="generates 4"):
        png_with_workflow(Image.new("RGB", (8, 8)), replace(WORKFLOW, batch=4))


def test_settings_as_a1111_writes_them() -> None:
    loras = (Lora("velvet_moth.safetensors", 0.8, "fedcba9876543210" * 4),)
    workflow = replace(WORKFLOW, loras=loras, positive="moth_(insect), [x]", zero_snr=True, clip_skip=2)
    text = a1111_parameters(workflow, checkpoint_sha256="0123456789abcdef" * 4)
    assert text == (
        "moth_\\(insect\\), \\[x\\] <lora:velvet_moth:0.8>\n"
        "Negative prompt: lowres\n"
        "Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 7, Size: 512x768, "
        "Model hash: 0123456789, Model: anime, Clip skip: 2, RNG: CPU, Noise Schedule: Zero Terminal SNR, "
        'Lora hashes: "velvet_moth: fedcba987654"'
    )


def test_each_of_several_loras_is_named_and_those_with_a_hash_by_it() -> None:
    loras = (
        Lora("moth.safetensors", 0.8, "a" * 64),
        Lora("chibi.safetensors", 0.5),
        Lora("x/lcm.safetensors", 1, "b" * 64),
    )
    workflow = replace(WORKFLOW, loras=loras, sampler="lcm", scheduler="sgm_uniform", steps=4, cfg=1.0)
    first, _, last = a1111_parameters(workflow).split("\n")
    assert first == "zzq_moth, smile <lora:moth:0.8> <lora:chibi:0.5> <lora:lcm:1>"
    assert last.startswith("Steps: 4, Sampler: LCM, Schedule type: SGM Uniform, CFG scale: 1, ")
    assert last.endswith('Lora hashes: "moth: aaaaaaaaaaaa, lcm: bbbbbbbbbbbb"')


@given(workflows())
def test_settings_can_be_read_back(workflow: Workflow) -> None:
    """Lines and pairs as A1111 takes them apart: the last line has `Key: value` pairs, the others are prompts."""
    *prompts, last = a1111_parameters(workflow).split("\n")
    pairs = re.findall(r'([A-Z][\w ]+): ("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)', last)
    settings = {key: json.loads(value) if value.startswith('"') else value for key, value in pairs}
    assert (int(settings["Steps"]), int(settings["Seed"])) == (workflow.steps, workflow.seed)
    assert float(settings["CFG scale"]) == workflow.cfg
    assert settings["Size"] == f"{workflow.width}x{workflow.height}"
    assert int(settings.get("Clip skip", 1)) == workflow.clip_skip
    assert f"{settings['Model']}.safetensors" == workflow.checkpoint.rsplit("/", 1)[-1]
    names = [lora.file.rsplit("/", 1)[-1].removesuffix(".safetensors") for lora in workflow.loras]
    hashes = [f"{name}: {lora.hash[:12]}" for name, lora in zip(names, workflow.loras, strict=True) if lora.hash]
    assert settings.get("Lora hashes", "") == ", ".join(hashes)
    positive, *used = prompts[0].rsplit("<lora:", len(names))
    assert [text.strip().removesuffix(">").rpartition(":")[0] for text in used] == names
    assert [float(text.strip().removesuffix(">").rpartition(":")[2]) for text in used] == [
        lora.strength for lora in workflow.loras
    ]
    assert unescaped(positive.strip()) == literal(workflow.positive).strip()
    negative = prompts[1].removeprefix("Negative prompt: ") if len(prompts) > 1 else ""
    assert unescaped(negative) == literal(workflow.negative)


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def literal(prompt: str) -> str:
    """The words and weights of a prompt, as they stand where no bracket is escaped."""
    if not is_weighted(prompt):
        return prompt
    tags = ((tag, weight) for tag, weight in parse_caption(prompt))
    return ", ".join(tag if weight == 1 else f"({tag}:{weight!r})" for tag, weight in tags)
