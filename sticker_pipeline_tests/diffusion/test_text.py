from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.text import Encoded, TextModels, Tokens, encode, final_layer_norm, tokenize
from sticker_pipeline_tests.diffusion.tiny_text import sd15_text, sdxl_text, text_encoder

START, END, COMMA, CAT = 49406, 49407, 267, 2368
TEXTS = ["", "cat", "nova, long hair, star (symbol)", ", ".join(["cat"] * 38)]  # the last one has 75 tokens
LONG = "smile, " + ", ".join(["cat"] * 60)  # 121 tokens


@pytest.fixture(scope="module")
def sd15() -> TextModels:
    return sd15_text()


@pytest.fixture(scope="module")
def sdxl() -> TextModels:
    return sdxl_text()


@pytest.fixture(scope="module")
def tokenizers(sdxl: TextModels) -> tuple[Any, ...]:
    return sdxl.tokenizers


def read(models: TextModels, captions: Sequence[str], max_tokens: int = 225, clip_skip: int = 1) -> Encoded:
    return encode(models, tokenize(models.tokenizers, captions, max_tokens), clip_skip)


@pytest.mark.parametrize(
    ("count", "max_tokens", "parts"),
    [
        (0, 225, [0]),
        (1, 225, [1]),
        (74, 225, [74]),
        (75, 225, [75]),
        (76, 225, [75, 1]),
        (150, 225, [75, 75]),
        (151, 225, [75, 75, 1]),
        (225, 225, [75, 75, 75]),
        (226, 225, [75, 75, 75]),
        (226, 150, [75, 75]),
        (226, 75, [75]),
    ],
)
def test_chunks_of_75_tokens_between_marks(
    tokenizers: tuple[Any, ...], count: int, max_tokens: int, parts: list[int]
) -> None:
    tokens = tokenize(tokenizers, [" ".join(["cat"] * count)], max_tokens)
    for ids, pad in zip(tokens.ids, (END, 0), strict=True):
        assert ids.dtype == torch.int64
        assert ids.tolist() == [[[START, *[CAT] * part, END, *[pad] * (75 - part)] for part in parts]]
    assert tokens.chunks.tolist() == [len(parts)] and tokens.weights is None


def test_short_captions_are_filled_up_with_empty_chunks_and_rows_cut_them_again(tokenizers: tuple[Any, ...]) -> None:
    tokens = tokenize(tokenizers, ["cat", LONG, ""], 225)
    assert tokens.chunks.tolist() == [1, 2, 1]
    assert [ids.shape for ids in tokens.ids] == [(3, 2, 77)] * 2
    for ids, pad in zip(tokens.ids, (END, 0), strict=True):
        assert ids[0, 1].tolist() == ids[2, 0].tolist() == [START, END, *[pad] * 75]
    rows = tokens.rows([2, 0])
    alone = tokenize(tokenizers, ["", "cat"], 225)
    assert all(torch.equal(a, b) for a, b in zip(rows.ids, alone.ids, strict=True))
    assert rows.chunks.tolist() == [1, 1]
    assert tokens.rows([1, 1]).ids[0].shape == (2, 2, 77)


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["cat", "long hair", "star (symbol)", ":d", "éclair", "2girls"]), max_size=60))
def test_joined_chunks_are_what_the_tokenizer_says(tokenizers: tuple[Any, ...], tags: list[str]) -> None:
    tokenizer = tokenizers[0]
    expected = tokenizer([", ".join(tags)], truncation=True, max_length=152).input_ids[0][1:-1]
    tokens = tokenize([tokenizer], [", ".join(tags)], 150)
    content = [ids for chunk in tokens.ids[0][0].tolist() for ids in chunk if ids not in (START, END)]
    assert content == expected and len(expected) <= 150


def test_weights_belong_to_the_tokens_of_their_tag(tokenizers: tuple[Any, ...]) -> None:
    tokens = tokenize(tokenizers, [r"cat, (long hair:1.5), star \(symbol\)", "cat"], 75)
    plain = tokenize(tokenizers, ["cat, long hair, star (symbol)", "cat"], 75)
    assert all(torch.equal(a, b) for a, b in zip(tokens.ids, plain.ids, strict=True)) and plain.weights is None
    assert tokens.weights is not None
    for weights in tokens.weights:
        assert weights.dtype == torch.float32 and weights.shape == (2, 1, 77)
        #                                    start cat  ,   long hair ,  star
        assert weights[0, 0, :7].tolist() == [1.0, 1.0, 1.0, 1.5, 1.5, 1.0, 1.0]
        assert weights[0, 0, 7:].eq(1).all() and weights[1].eq(1).all()


def test_weights_reach_the_second_chunk(tokenizers: tuple[Any, ...]) -> None:
    tokens = tokenize(tokenizers[:1], [", ".join(["cat"] * 37) + ", (long hair:0.5), cat"], 225)
    assert tokens.weights is not None
    (weights,) = tokens.weights  # 74 tokens, then "long" is the 75th and "hair" the first of the next chunk
    assert torch.argwhere(weights != 1).tolist() == [[0, 0, 75], [0, 1, 1]]


def test_the_stock_pipeline_of_sd15_reads_the_same(tiny_base: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base)
    texts = ["sticker, long hair", "", "a word it does not know"]
    models = TextModels(FAMILIES["sd15"], (pipeline.text_encoder,), (pipeline.tokenizer,))
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt(texts, "cpu", 1, False)
        found = read(models, texts)
    torch.testing.assert_close(found.hidden, expected)
    assert found.pooled is None


@pytest.mark.parametrize("text", TEXTS)
def test_the_stock_pipeline_of_sdxl_reads_the_same(sdxl: TextModels, text: str) -> None:
    pipeline = StableDiffusionXLPipeline(
        vae=None,
        text_encoder=sdxl.encoders[0],
        text_encoder_2=sdxl.encoders[1],
        tokenizer=sdxl.tokenizers[0],
        tokenizer_2=sdxl.tokenizers[1],
        unet=None,
        scheduler=None,
    )
    expected, _, pooled, _ = pipeline.encode_prompt([text], device="cpu", do_classifier_free_guidance=False)
    found = read(sdxl, [text])
    assert found.hidden.shape == (1, 77, 16 + 32) and found.pooled is not None
    torch.testing.assert_close(found.hidden, expected)
    torch.testing.assert_close(found.pooled, pooled)


@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_clip_skip_reads_what_an_encoder_without_the_last_layers_gives(sd15: TextModels, clip_skip: int) -> None:
    (whole,) = sd15.encoders
    shorter = CLIPTextModel(CLIPTextConfig(**{**whole.config.to_dict(), "num_hidden_layers": 4 - clip_skip})).eval()
    shorter.load_state_dict(whole.state_dict(), strict=False)
    with torch.no_grad():
        expected = shorter(tokenize(sd15.tokenizers, TEXTS, 75).ids[0][:, 0]).last_hidden_state
    torch.testing.assert_close(read(sd15, TEXTS, clip_skip=clip_skip).hidden, expected)


def test_the_layers_differ_so_that_these_tests_can_fail(sd15: TextModels) -> None:
    first, second, third = (read(sd15, ["cat"], clip_skip=number).hidden for number in (1, 2, 3))
    assert min((first - second).abs().max(), (second - third).abs().max()) > 0.1


def test_a_clip_skip_that_there_is_not(sd15: TextModels, sdxl: TextModels) -> None:
    with pytest.raises(ValueError, match="clip_skip 4: the text encoder has 3 layers"):
        read(sd15, ["cat"], clip_skip=4)
    with pytest.raises(ValueError, match="clip_skip 2: sdxl always reads the layer before the last"):
        read(sdxl, ["cat"], clip_skip=2)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_long_caption_is_its_chunks_beside_each_other(family: str, sd15: TextModels, sdxl: TextModels) -> None:
    models = {"sd15": sd15, "sdxl": sdxl}[family]
    whole = tokenize(models.tokenizers, [LONG, "cat"], 225)
    ids = tuple(one.reshape(4, 1, 77) for one in whole.ids)  # 75 tokens, then 46; one, then none: each by itself
    found, parts = encode(models, whole), encode(models, Tokens(ids, None, torch.ones(4, dtype=torch.long)))
    torch.testing.assert_close(found.hidden[0], torch.cat([parts.hidden[0], parts.hidden[1]]))
    torch.testing.assert_close(found.hidden[1], torch.cat([parts.hidden[2], parts.hidden[3]]))
    if models.family.pooled:
        assert found.pooled is not None and parts.pooled is not None
        torch.testing.assert_close(found.pooled, parts.pooled[[0, 2]])


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_weights_move_states_from_those_of_an_empty_prompt_and_leave_the_pooled_output(
    family: str, sd15: TextModels, sdxl: TextModels
) -> None:
    models = {"sd15": sd15, "sdxl": sdxl}[family]
    plain, weighted = read(models, ["cat, long hair"]), read(models, ["(cat:0.5), (long hair:2.0)"])
    empty, weights = read(models, [""]).hidden[0], torch.ones(77)
    weights[[1, 3, 4]] = torch.tensor([0.5, 2.0, 2.0])
    torch.testing.assert_close(weighted.hidden[0], (plain.hidden[0] - empty) * weights[:, None] + empty)
    assert torch.equal(weighted.hidden[0, weights == 1], plain.hidden[0, weights == 1])
    assert plain.pooled is None or torch.equal(plain.pooled, weighted.pooled)


def test_half_precision_stays_half(tokenizers: tuple[Any, ...]) -> None:
    encoder = text_encoder(CLIPTextModelWithProjection, 32).to(torch.bfloat16)
    models = TextModels(FAMILIES["sdxl"], (encoder, encoder), tokenizers)
    found = read(models, ["(cat:1.5), dog"])
    assert found.hidden.dtype == torch.bfloat16 and found.pooled is not None and found.pooled.dtype == torch.bfloat16


def test_gradients_reach_the_text_encoders(tokenizers: tuple[Any, ...]) -> None:
    encoders = (text_encoder(CLIPTextModel, 16), text_encoder(CLIPTextModelWithProjection, 32))
    models = TextModels(FAMILIES["sdxl"], encoders, tokenizers)
    for encoder in encoders:
        encoder.requires_grad_(True)
    found = read(models, ["(cat:1.5), dog", LONG])
    assert found.pooled is not None
    (found.hidden.square().mean() + found.pooled.square().mean()).backward()
    assert encoders[0].encoder.layers[1].mlp.fc1.weight.grad.abs().sum() > 0
    assert encoders[0].encoder.layers[2].mlp.fc1.weight.grad is None  # nobody reads the last layer of the first one
    assert encoders[1].text_model.encoder.layers[2].mlp.fc1.weight.grad.abs().sum() > 0  # it decides the pooled output


def test_the_final_norm_is_found_wherever_it_stands(sd15: TextModels, sdxl: TextModels) -> None:
    assert final_layer_norm(sd15.encoders[0]) is sd15.encoders[0].final_layer_norm
    assert final_layer_norm(sdxl.encoders[1]) is sdxl.encoders[1].text_model.final_layer_norm
    wrapped = torch.nn.Sequential(sd15.encoders[0])
    assert final_layer_norm(wrapped) is sd15.encoders[0].final_layer_norm
