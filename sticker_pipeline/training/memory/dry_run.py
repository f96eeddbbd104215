"""Dry run of a training: the GPU memory of each phase.

It runs a step of the real architecture on fake tensors (shapes without content) and counts live bytes.
plan.py chooses measures by these counts.

Attention slicing does not save memory: attention never holds its whole matrix; slices would, one by one, and keep all
for the gradient. For SD1.5 at 512 px: 5.1 GiB with slices of one head, 3.6 GiB without.
"""

import json
import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from sticker_pipeline.core.optimizer_table import OPTIMIZERS
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.diffusion.architectures import build
from sticker_pipeline.diffusion.families import FAMILIES

MIB = 2**20
GIB = 2**30
BLOCK = 512
"""PyTorch's CUDA allocator rounds up to this many bytes (kMinBlockSize in c10/cuda/CUDACachingAllocator)."""

CONTEXT = 900 * MIB
"""GPU memory of a process outside PyTorch's allocator: CUDA's context, kernels, recorded steps. On an H200 under CUDA
13, SD1.5 took 860 MiB (bench_gpu_memory.py)."""

WORKSPACES = 96 * MIB
"""Of cuBLAS and cuDNN, within PyTorch's allocator. Assumed: PyTorch's notes on CUDA state 8 MiB for cuBLAS, 32 MiB on
Hopper; the rest is for convolutions, which use less where the budget is short."""

RESERVE = CONTEXT + WORKSPACES

FRAGMENTATION = 0.05
"""Share of a step's memory beyond the weights that the allocator holds unused. Assumed, not measured."""


@dataclass(frozen=True)
class Parts:
    """Constructors of a base model's parts without weights, for the meta device."""

    unet: Callable[[], Any]
    vae: Callable[[], Any]
    text_encoders: tuple[Callable[[], Any], ...]


@dataclass(frozen=True)
class Workload:
    """Properties of a training that decide its memory.

    `adapt` puts adapters into (U-Net, text encoders), without reading weights. `dtype`: of the frozen base and the
    computation; the VAE is float32. `width`, `height`: largest bucket in pixels; `sample_batch`: samples generated at
    once.
    """

    parts: Parts
    family: str
    settings: TrainingSettings
    adapt: Callable[[Any, Sequence[Any]], object]
    width: int
    height: int
    dtype: torch.dtype
    sample_batch: int = 1
    guided: bool = True  # classifier-free guidance: two predictions for each sample


def true_parts(family: str) -> Parts:
    """Real architecture of `family`, as in every single file."""
    encoders = tuple(partial(build, family, encoder.folder) for encoder in FAMILIES[family].text_encoders)
    return Parts(partial(build, family, "unet"), partial(build, family, "vae"), encoders)


def folder_parts(base: Path, family: str) -> Parts:
    """Parts configured in the diffusers folder `base`, without weights."""
    import diffusers
    import transformers

    def diffusers_part(name: str) -> Any:
        config = json.loads((base / name / "config.json").read_text(encoding="utf-8"))
        return getattr(diffusers, config["_class_name"]).from_config(config)

    def text_encoder(folder: str, class_name: str) -> Any:
        config = transformers.CLIPTextConfig.from_pretrained(base / folder, local_files_only=True)
        return getattr(transformers, class_name)(config)

    encoders = tuple(partial(text_encoder, part.folder, part.class_name) for part in FAMILIES[family].text_encoders)
    return Parts(partial(diffusers_part, "unet"), partial(diffusers_part, "vae"), encoders)


def base_parts(base: Path, family: str) -> Parts:
    """Parts of `base`: a folder, or a file with or without configurations."""
    if base.is_dir():
        return folder_parts(base, family)
    beside = base.with_suffix("")
    return folder_parts(beside, family) if beside.is_dir() else true_parts(family)


def parts_hash(base: Path) -> str:
    """Hash of what base_parts builds: configurations, not weights."""
    folder = base if base.is_dir() else base.with_suffix("")
    return content_hash({path.parent.name: path.read_text(encoding="utf-8") for path in folder.glob("*/config.json")})


def tile_vae(vae: Any, width: int, height: int, tiles: int) -> None:
    """Let `vae` decode in tiles of 1/`tiles` of the image's longer side.

    diffusers' default tiles are as large as the VAE's training images.
    """
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.enable_tiling()
    vae.tile_latent_min_size = max(1, math.ceil(max(width, height) / scale / tiles))
    vae.tile_sample_min_size = vae.tile_latent_min_size * scale


class LiveBytes(TorchDispatchMode):
    """Counter of bytes of live tensors made inside it, fake or real.

    `peak`: the most so far. It does not count memory allocated and freed within one kernel operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: Any = WeakIdKeyDictionary()

    def add(self, tensor: Tensor) -> None:
        """Count the memory of `tensor`, once, while anything uses it."""
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = math.ceil(storage.nbytes() / BLOCK) * BLOCK
        self._known[storage] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self.add(value)
        return result


def peak_bytes(step: Callable[[], object], resident: Iterable[Tensor]) -> tuple[int, int]:
    """Bytes of the `resident` tensors, and the peak of `step` beyond."""
    live = LiveBytes()
    for tensor in resident:
        live.add(tensor)
    before = live.now
    with live:
        step()
    return before, live.peak - before


@dataclass(frozen=True)
class DryRun:
    """Fake models of a workload, and each phase's bytes, RESERVE included."""

    work: Workload
    fake: AbstractContextManager[Any]
    unet: Any
    vae: Any
    text_encoders: tuple[Any, ...]

    def encode(self) -> int:
        """Bytes of the VAE encoding one training image, without other models."""
        with self.fake, torch.no_grad():
            return _with_reserve(*peak_bytes(self.encoding_step, tensors_of(self.vae)))

    def train(self, checkpointing: bool) -> int:
        """Bytes of an optimizer step after the first: its state exists."""
        (self.unet.enable_gradient_checkpointing if checkpointing else self.unet.disable_gradient_checkpointing)()
        with self.fake:
            weights, beyond = peak_bytes(self.training_step, self._resident())
        return _with_reserve(weights + self._kept(), beyond)

    def sample(self, batch: int) -> int:
        """Bytes of one prediction for `batch` samples."""
        with self.fake, torch.no_grad():
            weights, beyond = peak_bytes(lambda: self.sampling_step(batch), self._resident())
        return _with_reserve(weights + self._kept() + self._replaced(), beyond)

    def decode(self, tiles: int) -> int:
        """Bytes of the VAE decoding one sample, beside the U-Net."""
        with self.fake, torch.no_grad():
            if tiles > 1:
                tile_vae(self.vae, self.work.width, self.work.height, tiles)
            weights, beyond = peak_bytes(self.decoding_step, [*tensors_of(self.vae), *self._resident()])
            self.vae.disable_tiling()
        return _with_reserve(weights + self._kept() + self._replaced(), beyond)

    def idle(self) -> dict[str, int]:
        """Bytes of each phase's idle models, where they are not moved away."""
        text = sum(tensor.nbytes for encoder in self.text_encoders for tensor in tensors_of(encoder))
        vae = sum(tensor.nbytes for tensor in tensors_of(self.vae))
        unet = sum(tensor.nbytes for tensor in tensors_of(self.unet))
        beside = 0 if self._trains_text else text
        return {"encode": unet + text, "train": vae + beside, "sample": vae + beside, "decode": beside}

    @property
    def _trains_text(self) -> bool:
        return self.work.settings.learning_rate_text_encoder > 0

    def _resident(self) -> list[Tensor]:
        models = (self.unet, *self.text_encoders) if self._trains_text else (self.unet,)
        return [tensor for model in models for tensor in tensors_of(model)]

    @property
    def trained(self) -> list[Tensor]:
        models = (self.unet, *self.text_encoders)
        return [parameter for model in models for parameter in model.parameters() if parameter.requires_grad]

    def encoding_step(self) -> None:
        self.vae.encode(torch.empty(1, 3, self.work.height, self.work.width))

    def training_step(self) -> None:
        """Run forward and backward on the default device."""
        settings = self.work.settings
        chunks = settings.max_tokens // 75
        if self._trains_text:
            hidden, pooled = self._encoded_captions(settings.batch_size, chunks)
        else:
            hidden, pooled = self._cached_captions(settings.batch_size, chunks)
        predicted = self._predict(settings.batch_size, hidden, pooled)
        loss = (predicted.float() - torch.empty(predicted.shape)).square().mean()
        torch.autograd.grad(loss, self.trained, allow_unused=True)

    def sampling_step(self, batch: int) -> None:
        images = 2 * batch if self.work.guided else batch
        self._predict(images, *self._cached_captions(images, chunks=1))

    def decoding_step(self) -> None:
        self.vae.decode(self._latents(1, torch.float32))

    def _encoded_captions(self, batch: int, chunks: int) -> tuple[Tensor, Tensor]:
        """Hidden states and pooled output of `chunks` · 77 tokens."""
        layer = -2 if FAMILIES[self.work.family].penultimate else -1
        states = []
        for encoder in self.text_encoders:
            output = encoder(torch.zeros(batch * chunks, 77, dtype=torch.int64), output_hidden_states=True)
            states.append(output.hidden_states[layer].reshape(batch, 77 * chunks, -1))
        pooled = output["text_embeds"] if "text_embeds" in output else output["pooler_output"]
        return torch.cat(states, dim=-1), pooled[:batch]

    def _cached_captions(self, batch: int, chunks: int) -> tuple[Tensor, Tensor]:
        hidden = torch.empty(batch, 77 * chunks, self.unet.config.cross_attention_dim, dtype=self.work.dtype)
        return hidden, torch.empty(batch, self.text_encoders[-1].config.projection_dim, dtype=self.work.dtype)

    def _predict(self, batch: int, hidden: Tensor, pooled: Tensor) -> Tensor:
        added = {"text_embeds": pooled, "time_ids": torch.empty(batch, 6, dtype=self.work.dtype)}
        predicted: Tensor = self.unet(
            self._latents(batch, self.work.dtype),
            torch.zeros(batch, dtype=torch.int64),
            encoder_hidden_states=hidden,
            added_cond_kwargs=added if FAMILIES[self.work.family].pooled else None,
            return_dict=False,
        )[0]
        return predicted

    def _latents(self, batch: int, dtype: torch.dtype) -> Tensor:
        scale = 2 ** (len(self.vae.config.block_out_channels) - 1)
        size = (self.work.height // scale, self.work.width // scale)
        return torch.empty(batch, self.unet.config.in_channels, *size, dtype=dtype)

    def _kept(self) -> int:
        """Bytes kept between steps beside the weights that compute.

        Learned originals of copies, gradients, states of optimizer and moving average.
        """
        learned = sum(4 * parameter.numel() for parameter in self.trained if parameter.dtype != torch.float32)
        averages = 0 if self.work.settings.ema_decay is None else self._adapter_bytes()
        optimizer = sum(state_bytes(self.work.settings.optimizer, parameter) for parameter in self.trained)
        return learned + self._adapter_bytes() + averages + optimizer

    def _replaced(self) -> int:
        """Bytes of the weights set aside while their average generates."""
        return 0 if self.work.settings.ema_decay is None else self._adapter_bytes()

    def _adapter_bytes(self) -> int:
        return sum(4 * parameter.numel() for parameter in self.trained)


def dry_run(work: Workload) -> DryRun:
    """Dry run of `work` with its models as fakes."""
    fake = FakeTensorMode()
    unet, vae, *text_encoders = models = meta_models(work)
    for model in models:
        _give_weights(model, fake)
    return DryRun(work, fake, unet, vae, tuple(text_encoders))


def meta_models(work: Workload) -> tuple[Any, ...]:
    """U-Net, VAE and text encoders on the meta device, frozen except adapters."""
    with torch.device("meta"):
        unet, vae = _frozen(work.parts.unet(), work.dtype), _frozen(work.parts.vae(), torch.float32)
        text_encoders = tuple(_frozen(make(), work.dtype) for make in work.parts.text_encoders)
        work.adapt(unet, text_encoders)
    for model in (unet, *text_encoders):
        _use_copies(model, work.dtype)
    return unet, vae, *text_encoders


def _use_copies(model: Any, dtype: torch.dtype) -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_magnitude_vector" not in name:
            parameter.data = parameter.data.to(dtype)


def _frozen(model: Any, dtype: torch.dtype) -> Any:
    model.requires_grad_(False)
    model.eval()
    return torch.nn.Module.to(model, dtype)  # diffusers' own warns


def _give_weights(model: Any, fake: FakeTensorMode) -> None:
    """Replace weights and buffers on the meta device by fake CPU tensors.

    Shared ones stay shared. On the meta device, attention would hold its whole matrix.
    """
    made: dict[int, Tensor] = {}
    with fake:
        for module in model.modules():
            for name, weight in module._parameters.items():
                if weight is not None and id(weight) not in made:
                    empty = torch.empty(weight.shape, dtype=weight.dtype)
                    made[id(weight)] = torch.nn.Parameter(empty, requires_grad=weight.requires_grad)
                module._parameters[name] = None if weight is None else made[id(weight)]
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else torch.empty(buffer.shape, dtype=buffer.dtype)


def tensors_of(model: Any) -> list[Tensor]:
    """Weights and buffers of `model`, each once."""
    return [*model.parameters(), *model.buffers()]


def state_bytes(optimizer: str, parameter: Tensor) -> int:
    """State bytes of `optimizer` for a float32 `parameter` (checked in test_dry_run.py)."""
    return OPTIMIZERS[optimizer].state_bytes(tuple(parameter.shape))


def _with_reserve(weights: int, beyond: int) -> int:
    return weights + math.ceil(beyond * (1 + FRAGMENTATION)) + RESERVE
