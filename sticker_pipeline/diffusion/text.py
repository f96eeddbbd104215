"""Text encoding: token chunks, tag weights, states of the text encoders.

Precomputed encodings: `training/cache/text.py`. Words of a caption in training: `training/captions.py`.

A text encoder reads 77 tokens. Longer captions are cut into chunks of 75 tokens, each encoded alone between a start and
an end token; the states of all chunks, with their start and end tokens, are joined along the sequence, as in A1111 and
ComfyUI. (sd-scripts keeps only the first start and last end token: lengths 77, 152, 227, not 77, 154, 231.) Cuts fall
at token positions, as in sd-scripts and ComfyUI. A1111 moves up to 20 tokens after the last comma to the next chunk,
ComfyUI a weighted part of fewer than 8 tokens that would be split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sticker_pipeline.diffusion.families import Family
from sticker_pipeline.tagging.captions import SEPARATOR, parse_caption

CONTENT = 75  # tokens of a caption in one chunk; `max_tokens` is a multiple of it
LENGTH = CONTENT + 2  # with start and end token: the context of CLIP's text encoder


@dataclass(frozen=True)
class TextModels:
    """Text encoders and tokenizers of a base model, in the family's order."""

    family: Family
    encoders: tuple[Any, ...]
    tokenizers: tuple[Any, ...]


@dataclass(frozen=True)
class Tokens:
    """Tokens of n captions in chunks, on the CPU.

    One tensor per tokenizer: `ids` int64[n, c, 77]; `weights` float32[n, c, 77] where a tag has one. `chunks` int64[n]:
    the chunks that a caption fills, at least 1. The rest are empty.
    """

    ids: tuple[torch.Tensor, ...]
    weights: tuple[torch.Tensor, ...] | None
    chunks: torch.Tensor

    def rows(self, index: Sequence[int]) -> "Tokens":
        """Return the captions `index`, with as many chunks as the longest fills."""
        rows = torch.as_tensor(index, dtype=torch.int64)
        chunks = self.chunks[rows]
        longest = int(chunks.max())
        ids = tuple(tensor[rows, :longest] for tensor in self.ids)
        weights = self.weights and tuple(tensor[rows, :longest] for tensor in self.weights)
        return Tokens(ids, weights, chunks)


@dataclass(frozen=True)
class Encoded:
    """The U-Net's text input for b captions.

    `hidden` [b, length, width]: states of all text encoders side by side, length a multiple of 77. `pooled` [b, width]
    where the family has it.
    """

    hidden: torch.Tensor
    pooled: torch.Tensor | None

    def rows(self, rows: slice | list[int]) -> "Encoded":
        return Encoded(self.hidden[rows], None if self.pooled is None else self.pooled[rows])

    def on(self, device: torch.device | str) -> "Encoded":
        return Encoded(self.hidden.to(device), None if self.pooled is None else self.pooled.to(device))


def tokenize(tokenizers: Sequence[Any], captions: Sequence[str], max_tokens: int) -> Tokens:
    """Return `captions` (at least one) as read by each tokenizer.

    Cut after `max_tokens` (a multiple of 75). Padding is the end token, for SDXL's second tokenizer token 0, "!". Every
    "!" of its captions becomes token 0, as in diffusers; open_clip, that encoder's source, has another token (diffusers
    issue 4153).
    """
    parsed = [parse_caption(caption) for caption in captions]
    read = [_read(tokenizer, parsed, max_tokens) for tokenizer in tokenizers]
    lengths = torch.tensor([[len(ids) for ids in of_one.ids] for of_one in read])
    chunks = torch.ceil(lengths.amax(0) / CONTENT).long().clamp(min=1)
    count = int(chunks.max())
    ids = tuple(
        torch.tensor([_cut(row, count, *_marks(tokenizer)) for row in of_one.ids])
        for tokenizer, of_one in zip(tokenizers, read, strict=True)
    )
    if all(weight == 1.0 for tags in parsed for _, weight in tags):
        return Tokens(ids, None, chunks)
    weights = tuple(torch.tensor([_cut(row, count, 1.0, 1.0, 1.0) for row in of_one.weights()]) for of_one in read)
    return Tokens(ids, weights, chunks)


@dataclass(frozen=True)
class _Read:
    """Captions as one tokenizer reads them, uncut, with token offsets."""

    parsed: list[list[tuple[str, float]]]
    ids: list[list[int]]
    offsets: list[list[tuple[int, int]]]

    def weights(self) -> list[list[float]]:
        pairs = zip(self.parsed, self.offsets, strict=True)
        return [[_weight_at(tags, start) for start, _ in offsets] for tags, offsets in pairs]


def _read(tokenizer: Any, parsed: list[list[tuple[str, float]]], max_tokens: int) -> _Read:
    encoded = tokenizer(
        [SEPARATOR.join(tag for tag, _ in tags) for tags in parsed],
        add_special_tokens=False,
        truncation=True,
        max_length=max_tokens,
        return_offsets_mapping=True,
    )
    return _Read(parsed, encoded.input_ids, encoded.offset_mapping)


def _weight_at(tags: Sequence[tuple[str, float]], position: int) -> float:
    """Return the weight of the tag at character `position`, 1 between tags."""
    start = 0
    for tag, weight in tags:
        if start <= position < start + len(tag):
            return weight
        start += len(tag) + len(SEPARATOR)
    return 1.0


def _marks(tokenizer: Any) -> tuple[int, int, int]:
    return tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id


def _cut(content: list[Any], count: int, start: Any, end: Any, pad: Any) -> list[list[Any]]:
    """Return `content`, one item per token, as `count` chunks of 77 items."""
    parts = [content[number * CONTENT : (number + 1) * CONTENT] for number in range(count)]
    return [[start, *part, end, *[pad] * (CONTENT - len(part))] for part in parts]


def encode(models: TextModels, tokens: Tokens, clip_skip: int = 1) -> Encoded:
    """Encode `tokens` on the encoders' device and in their dtype, differentiably.

    Up to 75 tokens without weights equal the family's diffusers pipeline. SD1.5 uses the `clip_skip`-th last layer
    through the final norm; SDXL the second-to-last without it, and the first chunk's pooled output. A weight moves a
    token's state along the line from an empty prompt's, as in ComfyUI (comfy/sd1_clip.py); A1111 and sd-scripts
    multiply states and rescale all to their former mean. As in all three, pooled output is unweighted.

    Raises ValueError for a `clip_skip` that the family lacks or that exceeds the encoder's layers.
    """
    outputs = [
        _run(encoder, ids, models.family, clip_skip) for encoder, ids in zip(models.encoders, tokens.ids, strict=True)
    ]
    hidden = [states for states, _ in outputs]
    if tokens.weights is not None:
        empty = tokenize(models.tokenizers, [""], CONTENT)
        starts = [
            _run(encoder, ids, models.family, clip_skip)[0]
            for encoder, ids in zip(models.encoders, empty.ids, strict=True)
        ]
        hidden = [_weighted(*each) for each in zip(hidden, tokens.weights, starts, strict=True)]
    return Encoded(torch.cat(hidden, dim=-1).flatten(1, 2), outputs[-1][1])


def _run(encoder: Any, ids: torch.Tensor, family: Family, clip_skip: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return states `[b, c, 77, width]` and each first chunk's pooled output `[b, width]`.

    `ids`: int64 [b, c, 77].
    """
    if family.penultimate and clip_skip != 1:
        raise ValueError(f"clip_skip {clip_skip}: {family.name} always reads the layer before the last. Leave it at 1.")
    inner = family.penultimate or clip_skip > 1
    output = encoder(ids.flatten(0, 1).to(next(encoder.parameters()).device), output_hidden_states=inner)
    if family.penultimate:
        states = output.hidden_states[-2]
    elif clip_skip == 1:
        states = output.last_hidden_state
    else:
        states = final_layer_norm(encoder)(_layer(output.hidden_states, clip_skip))
    pooled = getattr(output, "text_embeds", None) if family.pooled else None
    shape = ids.shape[:2]
    return states.unflatten(0, shape), None if pooled is None else pooled.unflatten(0, shape)[:, 0]


def _layer(hidden_states: Sequence[torch.Tensor], clip_skip: int) -> torch.Tensor:
    layers = len(hidden_states) - 1  # the first are the embeddings
    if clip_skip > layers:
        raise ValueError(f"clip_skip {clip_skip}: the text encoder has {layers} layers. Choose 1 to {layers}.")
    return hidden_states[-clip_skip]


def final_layer_norm(encoder: Any) -> Any:
    """Return the norm behind the last layer of a text encoder.

    transformers 5 has it in CLIPTextModel; in CLIPTextModelWithProjection and before 5.6 it lies one level deeper.
    DistributedDataParallel adds a level.
    """
    (norm,) = [module for name, module in encoder.named_modules() if name.split(".")[-1] == "final_layer_norm"]
    return norm


def _weighted(states: torch.Tensor, weights: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
    """Move `states` [b, c, 77, width] from `empty` [1, 1, 77, width] by `weights`.

    `weights` [b, c, 77]: 1 leaves states exactly unchanged. `empty`: an empty prompt's states.
    """
    return torch.lerp(empty.expand_as(states), states, weights[..., None].to(states.device, states.dtype))
