from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from sticker_pipeline.training.captions import tokenize

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(tiny_base, subfolder="tokenizer", local_files_only=True)


def test_plain_captions_are_what_the_tokenizer_says(tokenizer: CLIPTokenizer) -> None:
    tokens = tokenize(tokenizer, ["sticker, long hair", ""], CPU)
    words = ["<|startoftext|>", "sticker</w>", ",</w>", "long</w>", "hair</w>", "<|endoftext|>", "<|endoftext|>"]
    assert tokenizer.convert_ids_to_tokens(tokens.ids[0, :7].tolist()) == words
    assert tokens.ids.shape == (2, 77)
    assert tokens.weights is None


def test_weights_belong_to_the_tokens_of_their_tag(tokenizer: CLIPTokenizer) -> None:
    tokens = tokenize(tokenizer, ["sticker, (long hair:1.5), dress", "smile"], CPU)
    plain = tokenize(tokenizer, ["sticker, long hair, dress", "smile"], CPU)
    assert torch.equal(tokens.ids, plain.ids)
    assert tokens.weights is not None
    #                                        start sticker , long hair  ,  dress
    assert tokens.weights[0, :8].tolist() == [1.0, 1.0, 1.0, 1.5, 1.5, 1.0, 1.0, 1.0]
    assert tokens.weights[1].eq(1).all()


def test_weights_scale_hidden_states(tokenizer: CLIPTokenizer) -> None:
    tokens = tokenize(tokenizer, ["(long:2.0), dress", "smile"], CPU)
    encoder = lambda ids: (torch.ones(*ids.shape, 3),)  # noqa: E731
    hidden = tokens.hidden_states(encoder, torch.tensor([1, 0]))
    assert hidden.shape == (2, 77, 3)
    assert hidden[0].eq(1).all()
    assert hidden[1, :4, 0].tolist() == [1.0, 2.0, 1.0, 1.0]


def test_captions_are_cut_to_the_encoders_length(tokenizer: CLIPTokenizer) -> None:
    assert tokenize(tokenizer, ["sticker, " * 60 + "smile"], CPU).ids.shape == (1, 77)
