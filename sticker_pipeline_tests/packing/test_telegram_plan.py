"""Plans of changes of a set, against a simulation of Telegram's own rules."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.packing.bot_api import TelegramError
from sticker_pipeline.packing.pack_record import PackRecord, StickerRecord
from sticker_pipeline.packing.telegram_plan import SentSticker, SetState, Step, check_record, moves, plan, set_name


def sticker(
    number: int, slot: str = "", emoji: tuple[str, ...] = ("🙏",), keywords: tuple[str, ...] = ()
) -> StickerRecord:
    return StickerRecord(
        file=f"{number}.webp",
        slot=slot or f"slot_{number}",
        emoji=emoji,
        keywords=keywords,
        sha256=f"{number:064x}",
        generated=True,
    )


def record(stickers: Sequence[StickerRecord], title: str = "Bram", kind: str = "static") -> PackRecord:
    return PackRecord(platform="telegram", kind=kind, name="bram", title=title, stickers=tuple(stickers))


def held(stickers: Sequence[StickerRecord], title: str = "Bram") -> SetState:
    sent = [SentSticker(sha256=one.sha256, slot=one.slot, emoji=one.emoji, keywords=one.keywords) for one in stickers]
    return SetState(title, tuple((one.sha256, one) for one in sent))


def texts(steps: Sequence[Step]) -> list[str]:
    return [step.text for step in steps]


def test_a_new_set_is_created_with_fifty_stickers_and_grows() -> None:
    steps = plan(record([sticker(number) for number in range(53)]), None, "bram_by_bot")
    assert [step.method for step in steps] == ["createNewStickerSet", *["addStickerToSet"] * 3]
    assert len(steps[0].stickers) == 50
    assert steps[0].text == "create the set bram_by_bot, 'Bram', with 50 stickers"
    assert steps[1].text == "add slot_50 (50.webp, 🙏)"


def test_an_equal_set_needs_no_step() -> None:
    stickers = [sticker(1), sticker(2)]
    assert plan(record(stickers), held(stickers), "n") == []


def test_only_changed_stickers_are_replaced() -> None:
    before = [sticker(1, "a"), sticker(2, "b"), sticker(3, "c")]
    after = [sticker(1, "a"), sticker(9, "b"), sticker(3, "c")]
    assert texts(plan(record(after), held(before), "n")) == ["replace b by b (9.webp, 🙏)"]


def test_a_slot_that_changed_takes_the_place_of_one_that_went() -> None:
    before = [sticker(1, "a"), sticker(2, "b")]
    after = [sticker(1, "a"), sticker(3, "c")]
    assert texts(plan(record(after), held(before), "n")) == ["replace b by c (3.webp, 🙏)"]


def test_stickers_are_added_and_deleted() -> None:
    one, two = [sticker(1)], [sticker(1), sticker(2)]
    assert texts(plan(record(two), held(one), "n")) == ["add slot_2 (2.webp, 🙏)"]
    assert texts(plan(record(one), held(two), "n")) == ["delete slot_2"]


def test_title_emoji_and_keywords_are_changed_in_place() -> None:
    before, after = sticker(1, keywords=("a",)), sticker(1, emoji=("💖", "🙏"), keywords=())
    assert texts(plan(record([after], "New"), held([before]), "n")) == [
        "call the set 'New'",
        "set the emoji of slot_1: 💖 🙏",
        "set the keywords of slot_1: none",
    ]


def test_one_that_goes_to_the_end_is_one_move() -> None:
    before = [sticker(number) for number in range(5)]
    assert texts(plan(record([*before[1:], before[0]]), held(before), "n")) == ["move slot_0 to place 5"]


def test_stickers_of_others_stay_behind_ours() -> None:
    ours = held([sticker(1), sticker(2)])
    state = SetState("Bram", (("stranger", None), *ours.stickers))
    steps = plan(record([sticker(1), sticker(2)]), state, "n")
    assert [(step.method, step.key, step.value) for step in steps] == [("setStickerPositionInSet", "stranger", 2)]


def carried_out(state: SetState, steps: Sequence[Step]) -> SetState:
    """The set after the steps, as the Bot API describes its methods."""
    title, stickers = state.title, dict(state.stickers)
    for step in steps:
        if step.method == "setStickerSetTitle":
            title = str(step.value)
            continue
        keys = list(stickers)
        if step.method == "setStickerPositionInSet":
            keys.remove(step.key)
            keys.insert(int(step.value), step.key)
        elif step.method == "deleteStickerFromSet":
            keys.remove(step.key)
        elif step.method in ("setStickerEmojiList", "setStickerKeywords"):
            (new,) = step.stickers
            changed = {"emoji": new.emoji} if step.method == "setStickerEmojiList" else {"keywords": new.keywords}
            old = stickers[step.key]
            assert old is not None
            stickers[step.key] = old.model_copy(update=changed)
        else:
            (new,) = step.stickers
            sent = SentSticker(sha256=new.sha256, slot=new.slot, emoji=new.emoji, keywords=new.keywords)
            stickers[new.sha256] = sent
            keys = [new.sha256 if key == step.key else key for key in keys]
            keys += [] if step.key else [new.sha256]
        stickers = {key: stickers[key] for key in keys}
        assert 1 <= len(stickers) <= 120
    return SetState(title, tuple(stickers.items()))


numbers = st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=8)


@given(numbers, numbers, st.integers(0, 2), st.sampled_from([("🙏",), ("💖", "🙏")]), st.integers(1, 4))
def test_any_set_becomes_any_other(
    before: list[int], after: list[int], strangers: int, emoji: tuple[str, ...], slots: int
) -> None:
    old = [sticker(number, f"s{number % slots}-{place}") for place, number in enumerate(before)]
    new = [sticker(number, f"s{number % slots}-{place}", emoji) for place, number in enumerate(after)]
    state = held(old, "Old")
    others = tuple((f"x{number}", None) for number in range(strangers))
    state = SetState("Old", (*state.stickers[:1], *others, *state.stickers[1:]))
    found = carried_out(state, plan(record(new), state, "n"))
    keys = [key for key, _ in found.stickers]
    assert keys == [*(one.sha256 for one in new), *(key for key in keys if key.startswith("x"))]
    assert [sent.emoji for _, sent in found.stickers if sent] == [one.emoji for one in new]
    assert found.title == "Bram"
    kept = {one.sha256 for one in old} & {one.sha256 for one in new}
    steps = plan(record(new), state, "n")
    assert not kept & {one.sha256 for step in steps for one in step.stickers if step.method == "addStickerToSet"}
    assert sum(step.method == "replaceStickerInSet" for step in steps) == min(len(old), len(new)) - len(kept)


def test_a_file_that_is_there_twice_is_deleted_once() -> None:
    (first,) = held([sticker(1, "a")]).stickers
    steps = plan(record([sticker(1, "a")]), SetState("Bram", (first, ("second", first[1]))), "n")
    assert [(step.method, step.key) for step in steps] == [("deleteStickerFromSet", "second")]


@given(st.permutations(range(7)))
def test_moves_sort_with_as_few_as_possible(order: list[int]) -> None:
    now = [str(number) for number in order]
    wanted = [str(number) for number in range(7)]
    found = moves(now, wanted)
    for key, place in found:
        now.remove(key)
        now.insert(place, key)
    assert now == wanted
    assert len(found) == 7 - longest_increasing(order)


def longest_increasing(numbers: Sequence[int]) -> int:
    lengths: list[int] = []
    for place, number in enumerate(numbers):
        lengths.append(1 + max((lengths[at] for at in range(place) if numbers[at] < number), default=0))
    return max(lengths)


@pytest.mark.parametrize(
    ("name", "bot", "found"),
    [
        ("bram_thistle", "Some_bot", "bram_thistle_by_Some_bot"),
        ("bram-thistle", "bot", "bram_thistle_by_bot"),
        ("a__b_", "bot", "a_b_by_bot"),
        ("7up", "bot", "pack_7up_by_bot"),
        ("é", "bot", "pack_by_bot"),
        ("a" * 80, "bot", "a" * 57 + "_by_bot"),
        ("a" * 56 + "_b", "bot", "a" * 56 + "_by_bot"),
    ],
)
def test_names_of_sets(name: str, bot: str, found: str) -> None:
    assert set_name(name, bot) == found


@given(st.text(max_size=80), st.from_regex(r"[A-Za-z][A-Za-z0-9]{1,10}(_[A-Za-z0-9]{1,8}){0,2}bot", fullmatch=True))
def test_names_of_sets_keep_the_rules(name: str, bot: str) -> None:
    found = set_name(name, bot)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", found)
    assert "__" not in found
    assert len(found) <= 64
    assert found.endswith(f"_by_{bot}")


def test_a_bot_with_no_room_is_named() -> None:
    with pytest.raises(TelegramError, match="use a bot with a shorter name"):
        set_name("bram", "b" * 60)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (record([]), "there are 0 stickers, and a set has 1 to 120"),
        (record([sticker(number) for number in range(121)]), "there are 121 stickers, and a set has 1 to 120"),
        (record([sticker(1)], "x" * 65), "the title has more than 64 letters"),
        (record([sticker(1, emoji=())]), "slot_1 has 0 emoji, and must have 1 to 20"),
        (record([sticker(1, emoji=("🙏",) * 21)]), "slot_1 has 21 emoji, and must have 1 to 20"),
        (record([sticker(1, keywords=("x" * 65,))]), "the keywords of slot_1 are more than 20, or have more than 64"),
        (record([sticker(1, keywords=("x",) * 21)]), "the keywords of slot_1 are more than 20"),
        (
            record([sticker(1, "a"), sticker(1, "b").model_copy(update={"file": "b"})]),
            "a, b are the same file: keep one",
        ),
        (record([sticker(1)]).model_copy(update={"platform": "line"}), "is for line, not for Telegram"),
    ],
)
def test_a_set_that_telegram_would_refuse_is_not_sent(wrong: PackRecord, said: str) -> None:
    with pytest.raises(TelegramError, match=said):
        check_record(wrong)
