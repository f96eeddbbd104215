"""The vocabulary: merges by hand, ids in the right place, any text in pieces."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.embedded import tokenizer as words
from sticker_pipeline.embedded.scene import VOCABULARY

MODELS = Path(__file__).resolve().parents[2] / "data" / "models" / "embedded"


def test_merges_of_a_toy_corpus_by_hand() -> None:
    corpus = {("l", "o", "w</w>"): 5, ("l", "o", "t</w>"): 2, ("n", "o", "w</w>"): 2}
    # l+o: 7, o+w</w>: 7 -> alphabetical: (l, o); then lo+w</w>: 5; then (lo, t</w>), (n, o), (o, w</w>): 2 each
    assert words.learn_merges(corpus, 2) == [("l", "o"), ("lo", "w</w>")]
    assert words.learn_merges(corpus, 99) == [("l", "o"), ("lo", "w</w>"), ("lo", "t</w>"), ("n", "o"), ("no", "w</w>")]


def test_a_pair_of_a_single_use_is_not_merged() -> None:
    assert words.learn_merges({("a", "b</w>"): 1}, 9) == []


def test_merge_pair_goes_left_to_right() -> None:
    assert words.merge_pair(("a", "a", "a"), ("a", "a")) == ("aa", "a")


@pytest.fixture(scope="module")
def small():
    return words.new_tokenizer(["1girl, blue hair, smile"] * 3)


def test_end_of_text_has_the_last_id(small) -> None:
    assert small.eos_token_id == len(small) - 1
    assert small.bos_token_id == len(small) - 2
    assert small.model_max_length == 77


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_becomes_known_pieces(small, text: str) -> None:
    ids = small(text).input_ids
    assert ids[0] == small.bos_token_id
    assert ids[-1] == small.eos_token_id
    # the end token is also the "unknown" token: it must not appear for text that does not spell it
    if "<|endoftext|>" not in text:
        assert small.eos_token_id not in ids[1:-1]


@pytest.mark.parametrize("folder", ["base/tokenizer", "clip"])
def test_the_shipped_tokenizer_loads_and_knows_its_words(folder: str) -> None:
    from transformers import AutoTokenizer, CLIPTokenizer

    for kind in (CLIPTokenizer, AutoTokenizer):
        shipped = kind.from_pretrained(MODELS / folder, local_files_only=True)
        assert shipped.eos_token_id == len(shipped) - 1 == shipped.pad_token_id
        assert shipped.model_max_length == 77
        for tag in VOCABULARY:
            assert shipped.unk_token_id not in shipped(tag).input_ids[1:-1]
        pieces = shipped("hsr_aventurine").input_ids[1:-1]
        assert shipped.decode(pieces).replace(" ", "") == "hsr_aventurine"
        assert len(pieces) <= 12


def test_old_and_new_tokenizer_files_agree() -> None:
    from tokenizers.models import BPE

    folder = MODELS / "base" / "tokenizer"
    from transformers import CLIPTokenizer

    shipped = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    old = BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"), end_of_word_suffix="</w>")
    for word in ("hair", "aventurine", "twintails"):
        assert [token.id for token in old.tokenize(word)] == shipped(word).input_ids[1:-1]
