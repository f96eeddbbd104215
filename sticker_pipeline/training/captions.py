"""Captions as the text encoder reads them: token ids, and the weight that a caption gives to some of its tags.

How a caption is written stands in tagging/captions.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sticker_pipeline.tagging.captions import SEPARATOR, parse_caption


@dataclass(frozen=True)
class Tokens:
    """Captions as token ids int64[n, length], and weights float32[n, length] where any of them has a weight."""

    ids: torch.Tensor
    weights: torch.Tensor | None

    def hidden_states(self, text_encoder: Any, rows: torch.Tensor) -> torch.Tensor:
        """What the text encoder makes of the captions `rows` (int64[b]): [b, length, width], the state of each token
        times its weight, which is how clients read `(tag:1.2)`."""
        hidden: torch.Tensor = text_encoder(self.ids[rows])[0]
        return hidden if self.weights is None else hidden * self.weights[rows][..., None].to(hidden.dtype)


def tokenize(tokenizer: Any, captions: Sequence[str], device: torch.device) -> Tokens:
    """Captions cut and padded to the length that the text encoder was made for."""
    parsed = [parse_caption(caption) for caption in captions]
    encoded = tokenizer(
        [SEPARATOR.join(tag for tag, _ in tags) for tags in parsed],
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
        return_offsets_mapping=True,
    )
    ids = encoded.input_ids.to(device)
    if all(weight == 1.0 for tags in parsed for _, weight in tags):
        return Tokens(ids, None)
    rows = [
        [_weight_at(tags, start) if end > start else 1.0 for start, end in offsets]
        for tags, offsets in zip(parsed, encoded.offset_mapping.tolist(), strict=True)
    ]
    return Tokens(ids, torch.tensor(rows, dtype=torch.float32, device=device))


def _weight_at(tags: Sequence[tuple[str, float]], position: int) -> float:
    """The weight of the tag that the character at `position` of the joined tags belongs to; 1 between two tags."""
    start = 0
    for tag, weight in tags:
        if start <= position < start + len(tag):
            return weight
        start += len(tag) + len(SEPARATOR)
    return 1.0
