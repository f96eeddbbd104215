"""Changes of character.yaml by key."""

from pathlib import Path

import pytest
import yaml

from sticker_pipeline.core.character import load_character
from sticker_pipeline.desk.edits import Conflict, EditError
from sticker_pipeline.desk.settings_file import difference, edited
from sticker_pipeline_tests.desk.example import NAME, SETTINGS


def change(root: Path, *changes: dict) -> str:
    return (edited(root / "characters" / NAME, root / "models", changes).after or b"").decode()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"do": "add", "key": "curation.blacklist", "value": ["hat"]},
            {"curation": {"min_images": 1, "inherent": [], "blacklist": ["hat"]}},
        ),
        (
            {"do": "set", "key": "curation.weights", "value": {"smile": 1.2}},
            {"curation": {"min_images": 1, "inherent": [], "weights": {"smile": 1.2}}},
        ),
        ({"do": "add", "key": "media.exclude", "value": ["gifs/wave.gif"]}, {"media": {"exclude": ["gifs/wave.gif"]}}),
        (
            {"do": "set", "key": "groups.gifs.share", "value": 2},
            {"groups": {"stickers": {"learned": ["fox_sticker"]}, "gifs": {"share": 2}}},
        ),
        (
            {"do": "set", "key": "benchmark.prompts", "value": ["smile", "wave"]},
            {"benchmark": {"prompts": ["smile", "wave"]}},
        ),
    ],
)
def test_a_change_changes_its_key_alone(root: Path, changes: dict, expected: dict) -> None:
    text = change(root, changes)
    assert yaml.safe_load(text) == {**yaml.safe_load(SETTINGS), **expected}
    assert text.startswith("# The fox of the tests.\n")


def test_prompts_are_set_in_order(root: Path) -> None:
    path = root / "characters" / NAME / "character.yaml"
    path.write_text(SETTINGS + "benchmark:\n  prompts:\n  - a  # first\n  - b\n  - c\n")
    for wanted in (["a", "b", "c", "d"], ["a", "c"], ["a", "c", "x"], ["c", "a"], []):
        text = change(root, {"do": "set", "key": "benchmark.prompts", "value": wanted})
        assert yaml.safe_load(text)["benchmark"]["prompts"] == wanted
        assert ("# first" in text) == (wanted[:1] == ["a"])


def test_a_share_of_an_unstated_group_states_all(root: Path) -> None:
    path = root / "characters" / NAME / "character.yaml"
    path.write_text("trigger: skv_fox\n")
    path.write_text(change(root, {"do": "set", "key": "groups.gifs.share", "value": 0.5}))
    groups = load_character(path.parent).groups
    assert {name: group.share for name, group in groups.items()} == {"gifs": 0.5, "stickers": 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do": "set", "key": "trigger", "value": "x"}, "set trigger is no change"),
        ({"do": "set", "key": "curation.weights", "value": {"smile": 9}}, "curation.weights.smile"),
        ({"do": "set", "key": "groups.gifs.share", "value": 0}, "groups.gifs.share"),
        ({"do": "add", "key": "curation.blacklist", "value": ["a, b"]}, "curation.blacklist"),
        ({"do": "add", "key": "media.exclude", "value": [3]}, "exclude"),
        ({"do": "set", "key": "groups.nobody.share", "value": 1}, "no change"),
        ({"do": "add", "key": "curation.blacklist", "value": "hat"}, "no change"),
        ({}, "no value"),
        ({"do": "add", "key": "curation.blacklist", "value": [["hat"]]}, "no value"),
    ],
)
def test_a_change_that_is_not_valid_is_refused(root: Path, changes: dict, message: str) -> None:
    with pytest.raises(EditError, match=message):
        change(root, changes)


def test_line_ends_and_mark_stay(root: Path) -> None:
    path = root / "characters" / NAME / "character.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SETTINGS.replace("\n", "\r\n").encode())
    edit = edited(path.parent, root / "models", [{"do": "add", "key": "curation.blacklist", "value": ["hat"]}])
    assert edit.after is not None
    assert edit.after.startswith(b"\xef\xbb\xbf# The fox")
    assert edit.after.count(b"\r\n") == edit.after.count(b"\n")
    assert difference(edit)[2].startswith("@@")


def test_what_is_written_is_what_was_shown(root: Path, desk) -> None:
    changes = [{"do": "add", "key": "curation.blacklist", "value": ["hat"]}]
    shown = "\n".join(difference(desk.settings_edit(NAME, changes)))
    path = root / "characters" / NAME / "character.yaml"
    path.write_text(SETTINGS + "style: chibi\n")
    with pytest.raises(Conflict):
        desk.write_settings(NAME, desk.settings_edit(NAME, changes), shown)
    assert path.read_text() == SETTINGS + "style: chibi\n"
    edit = desk.settings_edit(NAME, changes)
    desk.write_settings(NAME, edit, "\n".join(difference(edit)))
    assert load_character(path.parent).settings.curation.blacklist == ["hat"]
    assert desk.undo(NAME) == (1, [])
    assert path.read_text() == SETTINGS + "style: chibi\n"


def test_a_file_too_large_to_be_read_is_not_written(root: Path) -> None:
    with pytest.raises(EditError, match="at most"):
        change(
            root, {"do": "add", "key": "media.exclude", "value": [f"gifs/{number:060}.gif" for number in range(6_000)]}
        )


@pytest.mark.parametrize(("before", "after"), [
    (SETTINGS.encode("utf-16"), "utf-16"),
    (SETTINGS.replace("gifs: {}\n", "gifs: {}\r\n").encode(), "utf-8"),  # of mixed line ends, each stays
])  # fmt: skip
def test_encoding_and_mixed_line_ends_stay(root: Path, before: bytes, after: str) -> None:
    path = root / "characters" / NAME / "character.yaml"
    path.write_bytes(before)
    edit = edited(path.parent, root / "models", [{"do": "add", "key": "media.exclude", "value": ["a"]}])
    assert edit.after == before + "media:\n  exclude: [a]\n".encode(after)[2 if after == "utf-16" else 0 :]
