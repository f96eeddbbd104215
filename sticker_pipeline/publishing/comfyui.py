"""ComfyUI workflows with LoRAs, in both formats: browser and `POST /prompt`.

Both are made from one graph. `publishing/samplers.py` has sampler names; `publishing/png.py` embeds workflows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sticker_pipeline.core.profile import Family
from sticker_pipeline.core.schemas import Column, TableSchema
from sticker_pipeline.core.texts import UserError
from sticker_pipeline.publishing.samplers import a1111_names
from sticker_pipeline.tagging.captions import escaped_prompt

WORKFLOWS = TableSchema(
    "each image that carries its workflow",
    (
        Column("image", "str", "name of the image: its file"),
        Column("setting", "str", "as released, or the setting recommended for a number of steps"),
        Column("medium", "str", "the requested medium, such as art or sticker"),
        Column("prompt", "str", "the whole prompt"),
        Column("seed", "int64", "of the noise", low=0),
        Column("file", "str", "its PNG file in this artifact"),
    ),
    key=("file",),
)
FAMILY_NAMES: dict[Family, str] = {"sd15": "SD1.5", "sdxl": "SDXL"}
MAX_SEED = 2**53 - 1  # ComfyUI takes more, but its browser part uses JavaScript numbers
_RANGES = {"strength": (-100, 100), "cfg": (0, 100), "steps": (1, 10_000), "batch": (1, 4_096), "clip_skip": (1, 24)}
_SIDES = (16, 16_384)  # pixels

# ComfyUI's text boxes change such text, and have no escape for it: they remove // and /* */ as comments, and change a
# backslash before { or | or at the end.
_UNWRITABLE = re.compile(r"//|/\*.*\*/|\\\||(?<!\\)\\(\\\\)*(\{|$)|[\x00-\x1f]")
_MODEL_FILE = re.compile(r"[^\\/:*?\"<>|,\x00-\x1f]+(/[^\\/:*?\"<>|,\x00-\x1f]+)*\.safetensors")
_PREFIX = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")  # ComfyUI replaces text between two %


class WorkflowError(UserError):
    """A value that ComfyUI would refuse or change; the message names it."""


@dataclass(frozen=True)
class Lora:
    """A LoRA file below ComfyUI's models/loras.

    `hash`: the file's `sshs_model_hash`, by which A1111 finds a renamed file. Raises WorkflowError for an invalid name
    or strength.
    """

    file: str
    strength: float = 1.0
    hash: str | None = None

    def __post_init__(self) -> None:
        _check_file("lora", self.file)
        _check_range("strength", self.strength)

    @property
    def name(self) -> str:
        """The LoRA's name in A1111."""
        return PurePosixPath(self.file).stem


@dataclass(frozen=True)
class Workflow:
    """Settings of one generation; prompts are written like captions (`tagging/captions.py`).

    - `checkpoint`: file name below ComfyUI's models/checkpoints.
    - `loras`: in order of application; changes add up.
    - `sampler`, `scheduler`: ComfyUI's names (`publishing/samplers.py`).
    - `v_prediction`, `zero_snr`: of the base model.
    - `clip_skip`: as in training; 2 is the layer before the last.
    - `width`, `height`: pixels, multiples of 8.
    - `prefix`: beginning of saved images' names.
    - `base`: the note's sentence about the base model; empty: where its file belongs.

    Raises WorkflowError, and SamplerError for unknown samplers.
    """

    checkpoint: str
    loras: tuple[Lora, ...]
    trigger: str
    positive: str
    negative: str
    seed: int
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    width: int
    height: int
    family: Family
    batch: int = 1
    v_prediction: bool = False
    zero_snr: bool = False
    clip_skip: int = 1
    prefix: str = "sticker"
    base: str = ""

    def __post_init__(self) -> None:
        a1111_names(self.sampler, self.scheduler)
        _check_file("checkpoint", self.checkpoint)
        for name in ("cfg", "steps", "batch", "clip_skip"):
            _check_range(name, getattr(self, name))
        for name in ("width", "height"):
            side = getattr(self, name)
            if side % 8 or not _SIDES[0] <= side <= _SIDES[1]:
                raise WorkflowError(f"{name} {side} is no multiple of 8 from {_SIDES[0]} to {_SIDES[1]}.")
        for name in ("positive", "negative"):
            if found := _UNWRITABLE.search(escaped_prompt(getattr(self, name))):
                raise WorkflowError(f"The {name} prompt has {found[0]!r}, which ComfyUI's text boxes change.")
        if not 0 <= self.seed <= MAX_SEED:
            raise WorkflowError(f"seed {self.seed} is not from 0 to {MAX_SEED}.")
        if not _PREFIX.fullmatch(self.prefix):
            raise WorkflowError(f"prefix {self.prefix!r} has other characters than letters, digits and _ - . /")
        if self.family == "sdxl" and self.clip_skip != 1:
            raise WorkflowError("clip_skip is for SD1.5: SDXL always reads the layer before the last.")


def _check_file(name: str, file: str) -> None:
    if not _MODEL_FILE.fullmatch(file):
        raise WorkflowError(f"{name} {file!r} is no name of a .safetensors file.")


def _check_range(name: str, value: float) -> None:
    low, high = _RANGES[name]
    if not low <= value <= high:
        raise WorkflowError(f"{name} {value} is not from {low} to {high}.")


@dataclass(frozen=True)
class _From:
    node: int
    slot: int


@dataclass(frozen=True)
class _Node:
    """A node; `inputs`: name -> value, or another node's output."""

    id: int
    type: str
    title: str
    inputs: dict[str, Any]


@dataclass(frozen=True)
class _Type:
    """Node type: sockets, widgets (top to bottom), outputs, size in canvas pixels.

    Only the browser's format has the widget _CONTROL.
    """

    sockets: tuple[tuple[str, str], ...]
    widgets: tuple[str, ...]
    outputs: tuple[str, ...]
    size: tuple[int, int]


_CONTROL = "control_after_generate"
_AFTER_GENERATE = "randomize"  # only the first image has the workflow's seed
_TYPES = {
    "Note": _Type((), ("text",), (), (400, 190)),
    "CheckpointLoaderSimple": _Type((), ("ckpt_name",), ("MODEL", "CLIP", "VAE"), (400, 98)),
    "LoraLoader": _Type(
        (("model", "MODEL"), ("clip", "CLIP")),
        ("lora_name", "strength_model", "strength_clip"),
        ("MODEL", "CLIP"),
        (400, 126),
    ),
    "ModelSamplingDiscrete": _Type((("model", "MODEL"),), ("sampling", "zsnr"), ("MODEL",), (400, 82)),
    "CLIPSetLastLayer": _Type((("clip", "CLIP"),), ("stop_at_clip_layer",), ("CLIP",), (400, 58)),
    "CLIPTextEncode": _Type((("clip", "CLIP"),), ("text",), ("CONDITIONING",), (420, 180)),
    "EmptyLatentImage": _Type((), ("width", "height", "batch_size"), ("LATENT",), (420, 106)),
    "KSampler": _Type(
        (("model", "MODEL"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent_image", "LATENT")),
        ("seed", _CONTROL, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
        ("LATENT",),
        (320, 262),
    ),
    "VAEDecode": _Type((("samples", "LATENT"), ("vae", "VAE")), (), ("IMAGE",), (320, 46)),
    "SaveImage": _Type((("images", "IMAGE"),), ("filename_prefix",), (), (420, 480)),
}
# Node ids: fixed by role, with or without optional nodes. LoRAs after the first have ids after the last.
_NOTE, _CHECKPOINT, _LORA, _SAMPLING, _LAST_LAYER, _POSITIVE, _NEGATIVE, _LATENT, _SAMPLER, _DECODE, _SAVE = range(
    1, 12
)
_COLUMNS = {
    "Model and LoRA": ("Note", "CheckpointLoaderSimple", "LoraLoader", "ModelSamplingDiscrete", "CLIPSetLastLayer"),
    "Prompts and size": ("CLIPTextEncode", "EmptyLatentImage"),
    "Sampling": ("KSampler", "VAEDecode"),
    "Images": ("SaveImage",),
}
_TITLE, _GAP, _MARGIN, _BETWEEN = 30, 30, 20, 70  # canvas pixels; a node's title is above its position


def api_format(workflow: Workflow) -> dict[str, Any]:
    """Return the "prompt" of `POST /prompt`: {id: {class_type, inputs}}."""
    return {
        str(node.id): {"class_type": node.type, "inputs": {name: _sent(value) for name, value in node.inputs.items()}}
        for node in _graph(workflow)
        if node.type != "Note"  # only in the browser
    }


def ui_format(workflow: Workflow) -> dict[str, Any]:
    """Return the browser's format: nodes in columns, with a note."""
    nodes = _graph(workflow)
    links = _links(nodes)
    places, groups = _layout(nodes)
    return {
        "last_node_id": max(node.id for node in nodes),
        "last_link_id": len(links),
        "nodes": [_shown(node, order, places[node.id], links) for order, node in enumerate(nodes)],
        "links": links,
        "groups": groups,
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _graph(workflow: Workflow) -> list[_Node]:
    """Return the nodes in an executable order."""
    return [
        _Node(_NOTE, "Note", "Read me", {"text": _note(workflow)}),
        _Node(_CHECKPOINT, "CheckpointLoaderSimple", "Base model", {"ckpt_name": workflow.checkpoint}),
        *_model_nodes(workflow),
        *_drawing_nodes(workflow),
    ]


def _model_nodes(workflow: Workflow) -> Iterator[_Node]:
    numbers, loaded = _lora_numbers(workflow), _loaded(workflow)
    for source, number, lora in zip([_CHECKPOINT, *numbers], numbers, workflow.loras, strict=False):
        sources = {"model": _From(source, 0), "clip": _From(source, 1)}
        strengths = {"strength_model": lora.strength, "strength_clip": lora.strength}
        yield _Node(number, "LoraLoader", "LoRA", {**sources, "lora_name": lora.file, **strengths})
    if workflow.v_prediction or workflow.zero_snr:
        prediction = "v_prediction" if workflow.v_prediction else "eps"
        inputs = {"model": _From(loaded, 0), "sampling": prediction, "zsnr": workflow.zero_snr}
        yield _Node(_SAMPLING, "ModelSamplingDiscrete", "Prediction type of the base model", inputs)
    if workflow.clip_skip != 1:
        inputs = {"clip": _From(loaded, 1), "stop_at_clip_layer": -workflow.clip_skip}
        yield _Node(_LAST_LAYER, "CLIPSetLastLayer", f"Clip skip {workflow.clip_skip}", inputs)


def _lora_numbers(workflow: Workflow) -> list[int]:
    return [_LORA, *range(_SAVE + 1, _SAVE + len(workflow.loras))][: len(workflow.loras)]


def _loaded(workflow: Workflow) -> int:
    """Return the id of the last LoRA loader, or of the checkpoint.

    Both have the same outputs for model and text encoder.
    """
    return [_CHECKPOINT, *_lora_numbers(workflow)][-1]


def _drawing_nodes(workflow: Workflow) -> Iterator[_Node]:
    model = _From(_SAMPLING if workflow.v_prediction or workflow.zero_snr else _loaded(workflow), 0)
    clip = _From(_LAST_LAYER, 0) if workflow.clip_skip != 1 else _From(_loaded(workflow), 1)
    for number, title, text in (
        (_POSITIVE, "Prompt", workflow.positive),
        (_NEGATIVE, "Negative prompt", workflow.negative),
    ):
        yield _Node(number, "CLIPTextEncode", title, {"text": escaped_prompt(text), "clip": clip})
    size = {"width": workflow.width, "height": workflow.height, "batch_size": workflow.batch}
    yield _Node(_LATENT, "EmptyLatentImage", "Size", size)
    settings = {
        "model": model,
        "positive": _From(_POSITIVE, 0),
        "negative": _From(_NEGATIVE, 0),
        "latent_image": _From(_LATENT, 0),
        "seed": workflow.seed,
        "steps": workflow.steps,
        "cfg": workflow.cfg,
        "sampler_name": workflow.sampler,
        "scheduler": workflow.scheduler,
        "denoise": 1.0,
    }
    yield _Node(_SAMPLER, "KSampler", "Sampler", settings)
    yield _Node(_DECODE, "VAEDecode", "Decode", {"samples": _From(_SAMPLER, 0), "vae": _From(_CHECKPOINT, 2)})
    yield _Node(_SAVE, "SaveImage", "Save", {"images": _From(_DECODE, 0), "filename_prefix": workflow.prefix})


def _note(workflow: Workflow) -> str:
    return "\n".join(
        [
            f"Begin the prompt with the trigger: {workflow.trigger}",
            "",
            workflow.base or f"Base model ({FAMILY_NAMES[workflow.family]}): models/checkpoints/{workflow.checkpoint}",
            *(f"LoRA: models/loras/{lora.file}" for lora in workflow.loras),
            "",
            "Other names? Choose your files in the boxes of base model and LoRA. The first image has the seed that "
            "the sampler shows; later ones have random seeds.",
            "",
            f"In A1111, write {lora_tags(workflow)} into the prompt.",
        ]
    )


def lora_tags(workflow: Workflow) -> str:
    """Return the LoRAs as tags in A1111's prompt."""
    return " ".join(f"<lora:{lora.name}:{lora.strength:g}>" for lora in workflow.loras)


def _sent(value: Any) -> Any:
    return [str(value.node), value.slot] if isinstance(value, _From) else value


def _links(nodes: list[_Node]) -> list[list[Any]]:
    ends = [
        (node.inputs[name].node, node.inputs[name].slot, node.id, socket, kind)
        for node in nodes
        for socket, (name, kind) in enumerate(_TYPES[node.type].sockets)
    ]
    return [[number, *end] for number, end in enumerate(ends, start=1)]


def _shown(node: _Node, order: int, place: tuple[int, int], links: list[list[Any]]) -> dict[str, Any]:
    kind = _TYPES[node.type]
    into = {socket: number for number, _, _, target, socket, _ in links if target == node.id}
    return {
        "id": node.id,
        "type": node.type,
        "title": node.title,
        "pos": list(place),
        "size": list(kind.size),
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": [
            {"name": name, "type": socket, "link": into[number]} for number, (name, socket) in enumerate(kind.sockets)
        ],
        "outputs": [
            {"name": name, "type": name, "links": _leaving(node.id, slot, links), "slot_index": slot}
            for slot, name in enumerate(kind.outputs)
        ],
        "properties": {} if node.type == "Note" else {"Node name for S&R": node.type},
        "widgets_values": [_widget(node, name) for name in kind.widgets],
    }


def _leaving(node: int, slot: int, links: list[list[Any]]) -> list[int]:
    return [number for number, source, output, *_ in links if (source, output) == (node, slot)]


def _widget(node: _Node, name: str) -> Any:
    if name == _CONTROL:
        return _AFTER_GENERATE
    value = node.inputs[name]
    if node.type == "CLIPTextEncode":  # the browser picks randomly from {this|that}
        return re.sub(r"[{}]", r"\\\g<0>", value)
    return value


def _layout(nodes: list[_Node]) -> tuple[dict[int, tuple[int, int]], list[dict[str, Any]]]:
    places: dict[int, tuple[int, int]] = {}
    groups: list[dict[str, Any]] = []
    x = 0
    for title, types in _COLUMNS.items():
        column = [node for node in nodes if node.type in types]
        width, y = max(_TYPES[node.type].size[0] for node in column), 2 * _TITLE + _MARGIN
        for node in column:
            places[node.id] = (x + _MARGIN, y)
            y += _TYPES[node.type].size[1] + _TITLE + _GAP
        box = [x, 0, width + 2 * _MARGIN, y - _TITLE - _GAP + _MARGIN]
        groups.append(
            {"id": len(groups) + 1, "title": title, "bounding": box, "color": "#3f789e", "font_size": 24, "flags": {}}
        )
        x += box[2] + _BETWEEN
    return places, groups
