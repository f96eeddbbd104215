"""PNG images with generation settings for ComfyUI (workflow) and A1111 (text)."""

import io
import json
import re
from pathlib import PurePosixPath
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sticker_pipeline.publishing.comfyui import Workflow, WorkflowError, api_format, lora_tags, ui_format
from sticker_pipeline.publishing.samplers import a1111_names
from sticker_pipeline.tagging.captions import escaped_prompt

A1111_SPECIAL = "\\()[]"  # parentheses and brackets are emphasis, a backslash is an escape


def png_with_workflow(image: Image.Image, workflow: Workflow, checkpoint_sha256: str | None = None) -> bytes:
    """Return `workflow`'s image as a PNG file.

    Chunks: "prompt" and "workflow" as in ComfyUI, "parameters" as in A1111 (`a1111_parameters`). Raises WorkflowError
    for a batch other than one.
    """
    if workflow.batch != 1:
        raise WorkflowError(f"An image file has one image, and this workflow generates {workflow.batch}.")
    info = PngInfo()
    info.add_text("parameters", a1111_parameters(workflow, checkpoint_sha256))
    info.add_text("prompt", json.dumps(api_format(workflow)))
    info.add_text("workflow", json.dumps(ui_format(workflow)))
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=info)
    return file.getvalue()


def a1111_parameters(workflow: Workflow, checkpoint_sha256: str | None = None) -> str:
    """Return A1111's (1.10) settings text.

    "RNG: CPU", as ComfyUI samples noise. By `checkpoint_sha256`, of the whole file, and the LoRAs' hashes A1111 finds
    renamed files.
    """
    sampler, schedule = a1111_names(workflow.sampler, workflow.scheduler)
    hashes = ", ".join(f"{lora.name}: {lora.hash[:12]}" for lora in workflow.loras if lora.hash)
    settings: dict[str, Any] = {
        "Steps": workflow.steps,
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": f"{workflow.cfg:g}",
        "Seed": workflow.seed,
        "Size": f"{workflow.width}x{workflow.height}",
        "Model hash": checkpoint_sha256 and checkpoint_sha256[:10],
        "Model": PurePosixPath(workflow.checkpoint).stem,
        "Clip skip": workflow.clip_skip if workflow.clip_skip != 1 else None,
        "RNG": "CPU",
        "Noise Schedule": "Zero Terminal SNR" if workflow.zero_snr else None,
        "Lora hashes": hashes or None,
    }
    stated = ", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items() if value is not None)
    lines = [
        f"{escaped_prompt(workflow.positive, A1111_SPECIAL)} {lora_tags(workflow)}".strip(),
        f"Negative prompt: {escaped_prompt(workflow.negative, A1111_SPECIAL)}" if workflow.negative else "",
        stated,
    ]
    return "\n".join(line for line in lines if line)


def _quoted(value: Any) -> Any:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n]", text) else text
