"""How long a caption is to the text encoder, in tokens."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sticker_pipeline.tagging.captions import plain_text

MARKS = 2  # beginning and end, which every text has


@dataclass(frozen=True)
class TokenCounter:
    """`count` gives the tokens of each caption without the two marks; `most` is how many the text encoder reads."""

    count: Callable[[Sequence[str]], list[int]]
    most: int


def token_counter(tokenizer: Path) -> TokenCounter:
    """The counter of a CLIP tokenizer's folder, as diffusers models have it. Weights of a caption, `(tag:1.2)`, are not
    text. Raises ValueError, naming the folder, when there is no tokenizer."""
    from transformers import CLIPTokenizer

    try:
        loaded = CLIPTokenizer.from_pretrained(str(tokenizer), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{tokenizer} has no CLIP tokenizer: {error}") from error

    most = int(loaded.model_max_length) - MARKS
    loaded.model_max_length = sys.maxsize  # else it warns of each caption that is longer, which is what we ask for

    def count(captions: Sequence[str]) -> list[int]:
        texts = list(map(plain_text, captions))
        return [len(ids) - MARKS for ids in loaded(texts, truncation=False, padding=False).input_ids] if texts else []

    return TokenCounter(count, most)
