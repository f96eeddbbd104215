"""Release files for ComfyUI and A1111: images with workflows, workflows, LoRAs.

`publishing/comfyui.py` defines workflows, `publishing/png.py` embeds them.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.releases import Record
from sticker_pipeline.core.images import contact_sheet
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.core.storage import ArtifactStore, link_or_copy
from sticker_pipeline.diffusion.base_model import base_noise
from sticker_pipeline.diffusion.lora.file import read_tensors
from sticker_pipeline.generation.generate import how_trained
from sticker_pipeline.generation.jobs import Generator, generated
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.generation.sampling_config import SamplingConfig
from sticker_pipeline.publishing.base_name import BaseName, how_to_use
from sticker_pipeline.publishing.comfyui import Lora, Workflow, WorkflowError, api_format, ui_format
from sticker_pipeline.publishing.png import png_with_workflow
from sticker_pipeline.publishing.samplers import our_sampler
from sticker_pipeline.roots.hashes import file_hash

Row = tuple[str, str, str, str, int, str]  # of COLUMNS
COLUMNS = ["image", "setting", "medium", "prompt", "seed", "file"]
AS_RELEASED = "as released"  # the release alone with the profile's settings
LORAS = "loras"  # folder of the workflows' LoRAs
WORKFLOW = "workflow.json"
COMFYUI_LATENTS = 4  # latent channels of all SD1.5 and SDXL models in ComfyUI and A1111


def published_configs(
    lora: Path, strength: float, generation: GenerationSettings, others: Iterable[SamplingConfig]
) -> list[SamplingConfig]:
    """Return the published settings: as released first, then recommended ones."""
    return [SamplingConfig(AS_RELEASED, [(lora, strength)], generation), *others]


def folder_of(config: SamplingConfig) -> str:
    """Return a setting's folder; the release's own setting has the top folder."""
    return "" if config.name == AS_RELEASED else config.name.replace(" ", "_")


def write_config(
    generator: Generator,
    record: Record,
    config: SamplingConfig,
    requests: Sequence[Request],
    staging: Path,
    checkpoint_sha256: str | None,
    base: BaseName,
) -> tuple[list[Row], list[str]]:
    """Write a setting's images with workflows, its first workflow, and its LoRAs.

    All go below `staging`. Returns rows of COLUMNS, and a sentence per prompt that ComfyUI cannot take.
    `checkpoint_sha256`: see `checkpoint_hash`.
    """
    images = generated(generator, requests, config.loras, config.settings)
    workflow_of = _workflows(generator.profile, record, config, base)
    for path, _ in config.loras:
        if not (target := staging / LORAS / lora_name(record, path)).exists():
            link_or_copy(path, target)
    folder = staging / folder_of(config)
    folder.mkdir(exist_ok=True)
    rows: list[Row] = []
    problems = []
    for number, (request, image) in enumerate(zip(requests, images, strict=True)):
        path = folder / f"{request.medium}_{number:03d}.png"
        try:
            workflow = workflow_of(positive=request.prompt, seed=request.seed)
        except WorkflowError as error:
            problems.append(f"{request.prompt!r}: {error}")
            continue
        path.write_bytes(png_with_workflow(image, workflow, checkpoint_sha256))
        name = path.relative_to(staging).as_posix()
        rows.append((name, config.name, request.medium, request.prompt, request.seed, name))
        if len(rows) == 1:
            _write_workflow(folder, workflow)
    return rows, problems


def checkpoint_hash(profile: Profile, store: ArtifactStore) -> str | None:
    """Return the hash by which A1111 finds a single-file base model."""
    return file_hash(profile.base, store) if profile.base.is_file() else None


def configs_table(record: Record, configs: Sequence[SamplingConfig]) -> pd.DataFrame:
    """Return a row per setting: setting, loras, steps, cfg, sampler, workflow."""
    rows = [
        (
            config.name,
            ", ".join(f"{lora_name(record, path)} {strength:g}" for path, strength in config.loras),
            config.settings.steps,
            config.settings.guidance_scale,
            config.settings.scheduler,
            f"{folder_of(config)}/{WORKFLOW}".lstrip("/"),
        )
        for config in configs
    ]
    return pd.DataFrame(rows, columns=["setting", "loras", "steps", "cfg", "sampler", "workflow"])


def published_sheet(index: pd.DataFrame, folder: Path) -> Image.Image:
    """Return a sheet of all images of `index` (COLUMNS; files in `folder`).

    Labels: recommended setting, else medium.
    """
    images = [Image.open(folder / name) for name in index["file"]]
    labels = index["medium"].where(index["setting"] == AS_RELEASED, index["setting"])
    return contact_sheet(images, labels.tolist(), columns=8, cell=96)


def how_to_open(profile: Profile, record: Record, base: BaseName) -> str:
    """Return instructions for the files as markdown.

    They say so if no program opens the base model.
    """
    channels = _latent_channels(profile)
    if base.toy:
        return how_to_use(record, base)
    if channels != COMFYUI_LATENTS:
        return (
            f"Neither ComfyUI nor A1111 opens the base model: its latents have {channels} channels, and they read "
            f"{COMFYUI_LATENTS}. The LoRA fits no other."
        )
    return (
        "Drop `workflow.json` or an image into ComfyUI's window, or an image into A1111's PNG Info. "
        f"{how_to_use(record, base)} `{LORAS}/` has it, and every other LoRA that a workflow names. A setting "
        "that the sampling grid recommends has a folder `at_most_…_steps`."
    )


def lora_name(record: Record, path: Path) -> str:
    """Return a LoRA's file name: the release's, or scope and asset.

    So several characters can share a ComfyUI folder.
    """
    asset = path.parent
    return record.file if asset.name == "released_lora" else f"{asset.parent.name}.{asset.name}.safetensors"


def _workflows(profile: Profile, record: Record, config: SamplingConfig, base: BaseName) -> Callable[..., Workflow]:
    settings = config.settings
    trained = how_trained(profile, config.loras)
    noise = base_noise(profile.base)
    noise = replace(noise, zero_snr=noise.zero_snr or trained.zero_terminal_snr)
    sampler, scheduler = our_sampler(settings.scheduler, noise)
    return partial(
        Workflow,
        checkpoint=base.checkpoint,
        base=base.warning,
        loras=tuple(Lora(lora_name(record, path), strength, _lora_hash(path)) for path, strength in config.loras),
        trigger=record.trigger,
        negative=settings.negative_prompt,
        steps=settings.steps,
        cfg=settings.guidance_scale,
        sampler=sampler,
        scheduler=scheduler,
        width=profile.resolution,
        height=profile.resolution,
        family=profile.family,
        v_prediction=noise.v_prediction if trained.prediction is None else trained.prediction == "v_prediction",
        zero_snr=noise.zero_snr,
        clip_skip=trained.clip_skip,
        prefix=record.character,
    )


def _lora_hash(path: Path) -> str | None:
    _, metadata = read_tensors(path)
    return metadata.get("sshs_model_hash")


def _write_workflow(folder: Path, workflow: Workflow) -> None:
    for name, content in ((WORKFLOW, ui_format(workflow)), ("workflow_api.json", api_format(workflow))):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _latent_channels(profile: Profile) -> int:
    """Return the base model's latent channels, from its VAE's configuration.

    Single files have ComfyUI's format.
    """
    config = profile.base / "vae" / "config.json"
    return json.loads(config.read_text(encoding="utf-8"))["latent_channels"] if config.is_file() else COMFYUI_LATENTS
