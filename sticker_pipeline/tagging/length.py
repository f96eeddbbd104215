"""Caption length in tokens."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sticker_pipeline.tagging.captions import plain_text

MARKS = 2  # begin and end tokens of every text


@dataclass(frozen=True)
class TokenCounter:
    """A token counter without the two marks, and the encoder's limit."""

    count: Callable[[Sequence[str]], list[int]]
    most: int


def token_counter(tokenizer: Path) -> TokenCounter:
    """Load the counter of a CLIP tokenizer folder, as in diffusers models.

    Weights, `(tag:1.2)`, are not counted. Raises ValueError, naming the folder, without a tokenizer.
    """
    from transformers import CLIPTokenizer

    try:
        loaded = CLIPTokenizer.from_pretrained(str(tokenizer), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{tokenizer} has no CLIP tokenizer: {error}") from error

    most = int(loaded.model_max_length) - MARKS
    loaded.model_max_length = sys.maxsize  # else it warns of each longer caption

    def count(captions: Sequence[str]) -> list[int]:
        texts = list(map(plain_text, captions))
        return [len(ids) - MARKS for ids in loaded(texts, truncation=False, padding=False).input_ids] if texts else []

    return TokenCounter(count, most)
