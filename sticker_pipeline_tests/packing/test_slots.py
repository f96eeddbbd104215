"""Slots: data, prompts by the tagger's words, and what a file's name says."""

import pytest

from sticker_pipeline.benchmark.fidelity import asked_tags
from sticker_pipeline.core.character import Pack
from sticker_pipeline.embedded.scene import VOCABULARY
from sticker_pipeline.packing.emoji import is_emoji
from sticker_pipeline.packing.slots import (
    Slot,
    SlotError,
    common_prefix,
    known_slots,
    prompt_for,
    slot_of_name,
    slot_of_tags,
    slots_of,
    words_in,
)

SLOTS = list(known_slots().values())


def test_there_are_about_forty_and_each_is_whole() -> None:
    assert 38 <= len(SLOTS) <= 45
    for slot in SLOTS:
        assert slot.text and slot.keywords and slot.prompts and slot.words, slot.name
        assert 1 <= len(slot.emoji) <= 3 and all(map(is_emoji, slot.emoji)), slot.name
        assert sum(map(len, slot.keywords)) <= 64, slot.name  # Telegram's limit
    first = [slot.name for slot in SLOTS]
    assert {"hello", "thanks", "ok", "laugh", "cry", "angry", "sorry", "good_night"} <= set(first)


def test_the_embedded_models_know_a_prompt_of_each_slot() -> None:
    for slot in SLOTS:
        assert set(asked_tags(prompt_for(slot, VOCABULARY))) <= set(VOCABULARY), slot.name


def test_prompts_for_the_embedded_models_differ() -> None:
    prompts = [frozenset(asked_tags(prompt_for(slot, VOCABULARY))) for slot in SLOTS]
    twice = [slot.name for slot, prompt in zip(SLOTS, prompts, strict=True) if prompts.count(prompt) > 1]
    assert twice == []


def test_a_prompt_counts_only_if_the_tagger_knows_all_of_it() -> None:
    slot = Slot("hi", "hi", (), (), ("wave, smile", "waving"), ())
    assert prompt_for(slot, {"wave", "smile", "waving"}) == "wave, smile"
    assert prompt_for(slot, {"wave", "waving"}) == "waving"
    assert prompt_for(slot, {"wave"}) == "waving"  # nothing is known wholly: the last


def test_slots_of_a_person() -> None:
    pack = Pack(slots=["thanks", "yum"], prompts={"yum": "eating, smile", "thanks": "bowing"})
    thanks, yum = slots_of(pack)
    assert (thanks.prompts, thanks.emoji) == (("bowing",), known_slots()["thanks"].emoji)
    assert (yum.name, yum.prompts, yum.text) == ("yum", ("eating, smile",), "yum")
    assert [slot.name for slot in slots_of(Pack(prompts={"yum": "eating"}))] == [*known_slots(), "yum"]
    with pytest.raises(SlotError, match=r"no slot 'helo'\. Did you mean 'hello'\?.*needs tags in pack\.prompts"):
        slots_of(Pack(slots=["helo"]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Ankitan_02_cryLoud", ["ankitan", "cry", "loud"]),
        ("good-night (2)", ["good", "night"]),
        ("OK", ["ok"]),
        ("スタンプ 🦊 (1)", ["スタンプ"]),
        ("123", []),
        ("GoodHTMLPage", ["good", "html", "page"]),
    ],
)
def test_words_of_a_name(name: str, words: list[str]) -> None:
    assert words_in(name) == words


@pytest.mark.parametrize(
    ("name", "prefix", "slot"),
    [
        ("blobfoxcry", "blobfox", "cry"),
        ("blobfoxnotlikethis", "blobfox", None),
        ("blobfoxsweating", "blobfox", None),  # `eat` is too short to be looked for inside a word
        ("hide_away", "", None),  # `idea` begins at no word
        ("Ankitan_04_rolling_laugh", "ankitan", "laugh"),
        ("Ankitan_01_heart_wink", "ankitan", "wink"),  # the longest word counts
        ("good_morning", "", "good_morning"),
        ("ok", "", "ok"),
        ("book", "", "study"),  # not `ok`
        ("no", "", "refuse"),
        ("nose", "", None),
        ("what", "", "surprised"),
        ("스티커", "", None),
        ("", "", None),
    ],
)
def test_the_slot_of_a_name(name: str, prefix: str, slot: str | None) -> None:
    found = slot_of_name(name, SLOTS, prefix)
    assert (found.name if found else None) == slot


def test_letters_that_most_names_begin_with() -> None:
    assert common_prefix(["foxcry", "foxhappy", "foxsad", "other"]) == "fox"
    assert common_prefix(["cry", "happy", "sad"]) == ""
    assert common_prefix(["fox_a", "fox_b"]) == ""  # two names say nothing


def test_the_slot_of_tags() -> None:
    assert slot_of_tags({"closed eyes", "zzz", "solo"}, SLOTS) == known_slots()["good_night"]
    assert slot_of_tags({"smile"}, SLOTS) is None  # one tag says too little
    assert slot_of_tags((), SLOTS) is None
