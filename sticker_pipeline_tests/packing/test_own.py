"""The character's own files as candidates: slots, names, and files that show the same."""

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.core.character import SLOT_PATTERN, Group
from sticker_pipeline.packing.own import name_of, own_files, sticker_files, tags_of_files
from sticker_pipeline.packing.slots import known_slots

SLOTS = list(known_slots().values())


def media(*paths: str) -> pd.DataFrame:
    return pd.DataFrame({"path": list(paths), "sha256": [f"{number:064x}" for number in range(len(paths))]})


def frames(*rows: tuple[str, str, bool, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["frame_id", "path", "kept", "duplicate_of"]).astype({"kept": bool})


def test_only_groups_of_stickers_count_if_there_are_any() -> None:
    table = pd.DataFrame(
        {
            "path": ["gifs/a.gif", "art/b.png", "gifs/c.gif"],
            "group": ["gifs", "art", "gifs"],
            "status": ["accepted", "accepted", "rejected"],
        }
    )
    groups = {"gifs": Group(), "art": Group(medium="art")}
    assert sticker_files(table, groups)["path"].tolist() == ["gifs/a.gif"]
    assert sticker_files(table, {"art": groups["art"]})["path"].tolist() == ["gifs/a.gif", "art/b.png"]


def test_a_name_decides_the_slot_and_else_the_tags() -> None:
    table = media("s/foxcry.png", "s/foxhappy.png", "s/fox_01.png", "s/foxzebra.png")
    tags = {"s/fox_01.png": {"closed eyes", "zzz"}, "s/foxcry.png": {"closed eyes", "zzz"}}
    found = {file.path: (file.slot, file.own_slot) for file in own_files(table, frames(), tags, SLOTS)}
    assert found == {
        "s/foxcry.png": ("cry", "foxcry"),
        "s/foxhappy.png": ("smile", "foxhappy"),
        "s/fox_01.png": ("good_night", "fox_01"),
        "s/foxzebra.png": ("foxzebra", "foxzebra"),
    }


def test_a_file_whose_frames_are_all_another_ones_is_its_twin() -> None:
    table = media("s/a.png", "s/b.png", "s/c.gif")
    known = frames(
        ("1", "s/a.png", True, ""),
        ("2", "s/b.png", False, "1"),
        ("3", "s/c.gif", True, ""),
        ("4", "s/c.gif", False, "1"),
    )
    found = {file.path: file.twin for file in own_files(table, known, {}, SLOTS)}
    assert found == {"s/a.png": "", "s/b.png": "s/a.png", "s/c.gif": ""}


def test_names_that_are_alike_or_without_letters_have_a_hash() -> None:
    files = own_files(media("s/x.png", "gifs/X.gif", "s/スタンプ.png", "s/🦊.png"), frames(), {}, SLOTS)
    names = {file.path: file.own_slot for file in files}
    assert len(set(names.values())) == 4
    assert names["s/x.png"].startswith("x_") and names["s/スタンプ.png"].startswith("sticker_")
    again = own_files(media("s/x.png", "gifs/X.gif", "s/🦊.png"), frames(), {}, SLOTS)
    assert all(names[file.path] == file.own_slot for file in again)  # another file changes no name


@given(st.text(max_size=80))
def test_names_are_slots(stem: str) -> None:
    name = name_of(stem)
    assert name == "" or pd.Series([name]).str.fullmatch(SLOT_PATTERN).all()


def test_tags_are_those_of_half_of_the_frames() -> None:
    known = frames(
        ("1", "a.gif", True, ""), ("2", "a.gif", True, ""), ("3", "a.gif", True, ""), ("4", "b.png", True, "")
    )
    tags = pd.DataFrame(
        {"frame_id": ["1", "2", "1", "4"], "tag": ["smile", "smile", "waving", "sad"], "score": [1.0, 1.0, 1.0, 1.0]}
    )
    assert tags_of_files(tags, known) == {"a.gif": {"smile"}, "b.png": {"sad"}}
