"""From captions to what the U-Net reads: token ids in chunks, weights of tags, the states of the text encoders.

Encodings made before the training stand in training/cache/text.py; which words a caption has at a draw, in captions.py.

A text encoder reads 77 tokens. A longer caption is cut into chunks of 75 tokens, each between a start and an end token
and read on its own, and the states of all of its chunks, start and end tokens too, are joined along the sequence. This
is what A1111 and ComfyUI do with long prompts (sd-scripts keeps the first start and the last end token only, so its
sequences are 77, 152, 227 long where those clients' are 77, 154, 231). Chunks are cut at plain token positions, as in
sd-scripts and ComfyUI; A1111 moves up to 20 tokens behind the last comma to the next chunk, and ComfyUI a weighted part
of fewer than 8 tokens that would be split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sticker_pipeline.diffusion.families import Family
from sticker_pipeline.tagging.captions import SEPARATOR, parse_caption

CONTENT = 75  # tokens of a caption in one chunk; `max_tokens` is a multiple of it
LENGTH = CONTENT + 2  # with the start and the end token: the context of CLIP's text encoder


@dataclass(frozen=True)
class TextModels:
    """The text encoders of a base model and their tokenizers, in the family's order."""

    family: Family
    encoders: tuple[Any, ...]
    tokenizers: tuple[Any, ...]


@dataclass(frozen=True)
class Tokens:
    """n captions as chunks of tokens, on the CPU, one tensor for each tokenizer.

    `ids` int64[n, c, 77] and, where any tag has a weight, `weights` float32[n, c, 77]; `chunks` int64[n]: how many of
    the c chunks each caption fills, at least 1. Those behind are empty ones.
    """

    ids: tuple[torch.Tensor, ...]
    weights: tuple[torch.Tensor, ...] | None
    chunks: torch.Tensor

    def rows(self, index: Sequence[int]) -> "Tokens":
        """The captions `index` alone, with as many chunks as the longest of them fills."""
        rows = torch.as_tensor(index, dtype=torch.int64)
        chunks = self.chunks[rows]
        longest = int(chunks.max())
        ids = tuple(tensor[rows, :longest] for tensor in self.ids)
        weights = self.weights and tuple(tensor[rows, :longest] for tensor in self.weights)
        return Tokens(ids, weights, chunks)


@dataclass(frozen=True)
class Encoded:
    """What the U-Net reads of b captions: `hidden` [b, length, width], the states of all text encoders beside each
    other, length a multiple of 77; `pooled` [b, width] where the family has it."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None

    def rows(self, rows: slice | list[int]) -> "Encoded":
        """These captions alone."""
        return Encoded(self.hidden[rows], None if self.pooled is None else self.pooled[rows])

    def on(self, device: torch.device | str) -> "Encoded":
        """The same on `device`."""
        return Encoded(self.hidden.to(device), None if self.pooled is None else self.pooled.to(device))


def tokenize(tokenizers: Sequence[Any], captions: Sequence[str], max_tokens: int) -> Tokens:
    """`captions`, one at least, as each of the tokenizers reads them, cut after `max_tokens` (a multiple of 75) tokens.

    A caption is padded as its tokenizer says: SD1.5's and SDXL's first repeat the end token, SDXL's second has token 0.
    That is "!" there, and every "!" of a caption is read as it, as in diffusers; open_clip, where that encoder is from,
    reads another token (diffusers issue 4153).
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
    """Captions as one tokenizer reads them, not yet in chunks, and where in the joined tags each token stands."""

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
    """The weight of the tag that the character at `position` of the joined tags belongs to; 1 between two tags."""
    start = 0
    for tag, weight in tags:
        if start <= position < start + len(tag):
            return weight
        start += len(tag) + len(SEPARATOR)
    return 1.0


def _marks(tokenizer: Any) -> tuple[int, int, int]:
    return tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id


def _cut(content: list[Any], count: int, start: Any, end: Any, pad: Any) -> list[list[Any]]:
    """`content`, one item for each token, as `count` chunks of 77 items."""
    parts = [content[number * CONTENT : (number + 1) * CONTENT] for number in range(count)]
    return [[start, *part, end, *[pad] * (CONTENT - len(part))] for part in parts]


def encode(models: TextModels, tokens: Tokens, clip_skip: int = 1) -> Encoded:
    """What the text encoders make of `tokens`, on their device and in their dtype, differentiable.

    Up to 75 tokens without weights it is what diffusers' pipeline of the family gives to the U-Net. SD1.5 reads the
    `clip_skip`-th last layer through the final norm, SDXL the layer before the last without it; there the pooled output
    is the one of the first chunk. A weight moves the state of its token along the line from the state that an empty
    prompt has there, as in ComfyUI (comfy/sd1_clip.py); A1111 and sd-scripts multiply states instead, and scale all of
    them back to their mean before. As in all of them, weights do not touch the pooled output.

    Raises ValueError for a `clip_skip` that the family does not have or that exceeds the encoder's layers.
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
    """The states [b, c, 77, width] of `ids` int64[b, c, 77], and the pooled output [b, width] of each first chunk."""
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
    """The norm behind the last layer of a text encoder, wherever it stands: transformers 5 has it in CLIPTextModel
    itself, in CLIPTextModelWithProjection and before version 5.6 one level deeper; DistributedDataParallel adds one."""
    (norm,) = [module for name, module in encoder.named_modules() if name.split(".")[-1] == "final_layer_norm"]
    return norm


def _weighted(states: torch.Tensor, weights: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
    """`states` [b, c, 77, width] by `weights` [b, c, 77] from those of an `empty` prompt [1, 1, 77, width]; exactly
    themselves where the weight is 1."""
    return torch.lerp(empty.expand_as(states), states, weights[..., None].to(states.device, states.dtype))
