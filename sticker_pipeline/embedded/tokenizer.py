"""Makes the embedded models' tokenizer: CLIP's byte-level BPE, trained on drawings' captions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
MAX_LENGTH = 77
MAX_MERGES = 1200
# Words common in prompts: they add common letter groups to the vocabulary, so triggers and free prompts take few
# tokens. Each counts as one occurrence.
EXTRA_WORDS = (
    "sticker character trigger style pack animated animation gif emote reaction cute happy laughing sitting "
    "standing running jumping sleeping eating drinking playing reading dancing singing waving walking lying "
    "kneeling gloves boots shoes socks pants skirt shorts sweater coat uniform necktie ribbon belt pocket sleeves "
    "collar hood sword staff gun phone camera laptop pillow blanket chair table window door bed tree leaf grass "
    "mountain river cloud rain snow night morning evening summer winter spring autumn forest city street beach "
    "school room kitchen garden multiple girls boys male female young adult small large big tiny tall animal dog "
    "bear fox wolf bird dragon fish monster robot ghost fairy demon angel knight wizard witch king queen prince "
    "princess maid nurse idol pirate ninja background foreground lighting shadow light dark bright colorful "
    "monochrome greyscale sketch lineart watercolor masterpiece quality best high detailed absurdres highres "
    "simple original drawing digital media official wallpaper from above below behind side front back close "
    "cowboy shot focus blurry depth field upper lower hands fingers legs feet head face nose ears teeth fang tail "
    "skin breath steam sparkle flame fire water ice lightning wind magic"
)


def learn_merges(words: dict[tuple[str, ...], int], limit: int) -> list[tuple[str, str]]:
    """Learn up to `limit` byte-pair merges, most frequent first, ties alphabetically.

    `words`: symbols of a word, the last ending in `</w>` -> occurrences. Pairs that occur once are not merged.
    (Sennrich et al., 2016.)
    """
    words = dict(words)
    merges: list[tuple[str, str]] = []
    while len(merges) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, count in words.items():
            for pair in pairwise(symbols):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < 2:
            break
        merges.append(best)
        merged: dict[tuple[str, ...], int] = {}
        for symbols, count in words.items():
            shorter = merge_pair(symbols, best)
            merged[shorter] = merged.get(shorter, 0) + count
        words = merged
    return merges


def merge_pair(symbols: Sequence[str], pair: tuple[str, str]) -> tuple[str, ...]:
    """Join each occurrence of `pair` in `symbols`, from left to right."""
    result: list[str] = []
    position = 0
    while position < len(symbols):
        if tuple(symbols[position : position + 2]) == pair:
            result.append(pair[0] + pair[1])
            position += 2
        else:
            result.append(symbols[position])
            position += 1
    return tuple(result)


def new_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """A CLIPTokenizer of `captions` and EXTRA_WORDS; other words split into pieces or bytes.

    `<|endoftext|>` has the last id: CLIP text encoders pool at the highest id.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    alphabet = [*letters, *(letter + WORD_END for letter in letters)]
    merges = learn_merges(_word_counts(captions, alphabet), MAX_MERGES)
    vocabulary = list(dict.fromkeys([*alphabet, *(left + right for left, right in merges)]))
    return _tokenizer([*vocabulary, START, END], merges)


def _tokenizer(vocabulary: list[str], merges: list[tuple[str, str]]) -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    ids = {token: number for number, token in enumerate(vocabulary)}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=MAX_LENGTH)


def _word_counts(captions: Iterable[str], alphabet: list[str]) -> dict[tuple[str, ...], int]:
    """Occurrences of words, split by CLIP's rules, as symbols.

    A tag of punctuation includes the comma behind it: `^_^,`.
    """
    splitter = _tokenizer([*alphabet, START, END], []).backend_tokenizer
    counts: Counter[str] = Counter(EXTRA_WORDS.split())
    for caption in captions:
        tidy = splitter.normalizer.normalize_str(caption)
        counts.update(word for word, _ in splitter.pre_tokenizer.pre_tokenize_str(tidy))
    return {(*word[:-1], word[-1] + WORD_END): count for word, count in counts.items()}


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write `tokenizer.json` and its config; `vocab.json`, `merges.txt` for older loaders."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    lines = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n")
