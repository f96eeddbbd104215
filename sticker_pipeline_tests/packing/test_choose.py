"""The choice of a pack: wishes first, then the best that is unlike the others."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.core.schemas import check, typed
from sticker_pipeline.packing.candidates import CANDIDATES
from sticker_pipeline.packing.choose import CHOICE, Bounds, Wishes, alike_bound, choose, gaps

NOTHING = Wishes({}, (), (), ())
BOUNDS = Bounds(size=40, alike=0.95, own="first")


def rows(*candidates: dict[str, object]) -> pd.DataFrame:
    usual = {
        "slot": "hello", "own_slot": "", "origin": "generated", "source": "", "prompt": "p", "attributes": "a",
        "seed": 1, "release": 1, "twin": "", "frames": 1, "file": "f", "fidelity": 1.0, "likeness": 0.5, "nearest": 0.1,
        "copy_bound": 0.9, "nearest_character": "", "flat": 1.0, "cut_out": True, "specks": 0, "cut_off": False,
        "reason": "",
    }  # fmt: skip
    return typed(
        pd.DataFrame([{"candidate": f"c{at}", **usual, **one} for at, one in enumerate(candidates)]), CANDIDATES
    )


def apart(number: int) -> np.ndarray:
    return np.eye(max(number, 1), dtype=np.float32)[:number]


def chosen(choice: pd.DataFrame) -> dict[str, str]:
    found = choice[choice["chosen"]].sort_values("position")
    assert found["position"].tolist() == list(range(1, len(found) + 1))
    return dict(zip(found["slot"], found["candidate"], strict=True))


def reasons(choice: pd.DataFrame) -> dict[str, str]:
    return dict(zip(choice["candidate"], choice["reason"], strict=True))


def test_a_file_named_as_its_slot_comes_before_an_animation_that_mentions_it() -> None:
    own = {"origin": "own", "slot": "good_morning"}
    table = rows(
        {**own, "own_slot": "buy_morning_coffee", "frames": 24},
        {**own, "own_slot": "good_morning"},
    )
    found = chosen(choose(table, apart(2), ["good_morning"], NOTHING, BOUNDS))
    assert found == {"good_morning": "c1", "buy_morning_coffee": "c0"}


def test_the_best_of_each_slot_in_the_order_of_slots() -> None:
    table = rows(
        {"slot": "thanks"},
        {"fidelity": 0.5},
        {"fidelity": 1.0, "likeness": 0.9},
        {"fidelity": 1.0, "reason": "a copy"},
    )
    choice = choose(table, apart(4), ["hello", "thanks", "sorry"], NOTHING, BOUNDS)
    check(choice, CHOICE)
    assert chosen(choice) == {"hello": "c2", "thanks": "c0"}
    assert reasons(choice) == {
        "c0": "the best of its slot",
        "c1": "c2 is preferred",
        "c2": "the best of its slot",
        "c3": "a copy",
    }
    assert gaps(choice, ["hello", "thanks", "sorry"]) == {"sorry": "no candidate"}


def test_stickers_that_show_the_same_are_not_both_taken() -> None:
    vectors = np.array([[1, 0], [0.96, 0.28], [0, 1]], np.float32)
    table = rows({}, {"slot": "thanks", "likeness": 0.9}, {"slot": "thanks", "fidelity": 0.6})
    choice = choose(table, vectors, ["hello", "thanks"], NOTHING, BOUNDS)
    assert chosen(choice) == {"hello": "c0", "thanks": "c2"}
    assert reasons(choice)["c1"] == "it shows the same as c0: 0.960 alike, above 0.950"


def test_a_gap_names_the_best_candidate() -> None:
    table = rows({"reason": "a copy", "fidelity": 0.2}, {"reason": "cut off", "fidelity": 0.8})
    choice = choose(table, apart(2), ["hello"], NOTHING, BOUNDS)
    assert gaps(choice, ["hello"]) == {"hello": "2 candidates; of the best, c1: cut off"}


def test_wishes_win() -> None:
    table = rows({"reason": "a copy"}, {"likeness": 0.9}, {"slot": "thanks"}, {"slot": "sorry"})
    wishes = Wishes({"hello": "c0"}, ["c2"], ["sorry", "hello"], ["thanks"])
    choice = choose(table, apart(4), ["hello", "thanks", "sorry"], wishes, BOUNDS)
    assert chosen(choice) == {"sorry": "c3", "hello": "c0", "thanks": "thanks"}
    assert reasons(choice)["c0"] == "accepted in picks.yaml"
    assert reasons(choice)["c2"] == "rejected in picks.yaml"
    assert choice[choice["origin"] == "override"][["candidate", "slot", "position"]].values.tolist() == [
        ["thanks", "thanks", 3]
    ]


def test_a_candidate_accepted_for_two_slots_is_there_once() -> None:
    choice = choose(rows({}), apart(1), ["hello", "ok"], Wishes({"hello": "c0", "ok": "c0"}, (), (), ()), BOUNDS)
    assert chosen(choice) == {"hello": "c0"}
    assert reasons(choice) == {"c0": "accepted in picks.yaml, not for ok too: it is in the pack once"}
    elsewhere = Wishes({"hello": "c0", "ok": "c0"}, (), (), ("ok",))
    assert reasons(choose(rows({}), apart(1), ["hello", "ok"], elsewhere, BOUNDS))["c0"] == "accepted in picks.yaml"


@pytest.mark.parametrize(("own", "expected"), [("first", "c0"), ("last", "c1"), ("none", "c1")])
def test_own_files_and_generated_ones(own: str, expected: str) -> None:
    table = rows({"origin": "own", "own_slot": "wave"}, {})
    choice = choose(table, apart(2), ["hello"], NOTHING, Bounds(40, 0.95, own))  # type: ignore[arg-type]
    assert chosen(choice)["hello"] == expected
    if own == "none":
        assert reasons(choice)["c0"] == "own files are left out: pack.own is none"


def test_a_second_own_file_of_a_slot_has_its_own() -> None:
    own = {"origin": "own"}
    table = rows({**own, "own_slot": "wave_1", "frames": 4}, {**own, "own_slot": "wave_2"}, {**own, "own_slot": "x"})
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], np.float32)
    choice = choose(table, vectors, ["hello"], NOTHING, BOUNDS)
    assert chosen(choice) == {"hello": "c0", "wave_2": "c1"}  # the animation is preferred
    assert reasons(choice)["c2"] == "it shows the same as c1: 1.000 alike, above 0.950"
    small = choose(table, apart(3), ["hello"], NOTHING, Bounds(1, 0.95, "first"))
    assert chosen(small) == {"hello": "c0"} and reasons(small)["c1"] == "the pack is full"


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 1)), max_size=12), st.integers(1, 4))
def test_each_slot_once_and_never_more_than_the_size(found: list[tuple[str, bool, float]], size: int) -> None:
    table = rows(
        *({"slot": slot, "reason": "" if good else "bad", "fidelity": share} for slot, good, share in found)
    ) if found else rows({})[:0]  # fmt: skip
    choice = choose(table, apart(len(found)), list("abc"), NOTHING, Bounds(size, 0.95, "first"))
    taken = choice[choice["chosen"]]
    assert len(taken) <= size and not taken["slot"].duplicated().any()
    assert (table.set_index("candidate")["reason"].reindex(taken["candidate"]) == "").all()
    assert (choice["reason"] != "").all()
    usable = {slot for slot, good, _ in found if good}
    assert len(taken) == min(size, len(usable))


def test_two_of_its_own_sources_say_what_is_alike() -> None:
    vectors = np.array([[1, 0], [1, 0], [0.6, 0.8], [0, 1]], np.float32)
    assert alike_bound(vectors, ["a", "a", "b", "c"]) == pytest.approx(0.8)
    assert alike_bound(vectors[:2], ["a", "a"]) == 0.98
    assert alike_bound(np.array([[1, 0], [1, 0]], np.float32), ["a", "b"]) == 0.98


@pytest.mark.parametrize("alike", [0.95, 2.0])
@pytest.mark.parametrize("slots", [["hello", "thanks"], ["thanks", "hello"]])
def test_a_candidate_accepted_for_another_slot_is_there_and_nowhere_else(slots: list[str], alike: float) -> None:
    wishes = Wishes({"thanks": "c0"}, (), (), ())
    choice = choose(rows({}, {"fidelity": 0.5}), apart(2), slots, wishes, Bounds(40, alike, "first"))
    assert chosen(choice) == {"thanks": "c0", "hello": "c1"}
    alone = choose(rows({}), apart(1), slots, wishes, Bounds(40, alike, "first"))
    assert chosen(alone) == {"thanks": "c0"}


def test_an_own_file_is_accepted_for_the_slot_of_its_name() -> None:
    table = rows({"origin": "own", "own_slot": "wave_big", "reason": "it is cut off"})
    choice = choose(table, apart(1), ["hello"], Wishes({"wave_big": "c0"}, (), (), ()), BOUNDS)
    assert chosen(choice) == {"wave_big": "c0"}


@pytest.mark.parametrize("slot", ["../../x", "/etc/x", "nobodys"])
def test_slots_that_nobody_has_are_not_made(slot: str) -> None:
    choice = choose(rows({}), apart(1), ["hello"], Wishes({slot: "c0"}, (), (slot,), ()), BOUNDS)
    assert chosen(choice) == {"hello": "c0"}
