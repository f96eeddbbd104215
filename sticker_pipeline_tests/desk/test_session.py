"""Edits through the desk, and what it shows before and after an update."""

from pathlib import Path

from sticker_pipeline.desk import session as session_module
from sticker_pipeline.desk.captions import add, remove
from sticker_pipeline.desk.rows import matching
from sticker_pipeline.desk.session import Session
from sticker_pipeline_tests.desk.example import NAME, make_dataset, session


def edit(desk: Session, change, **query: str) -> tuple[int, list[str]]:
    planned, problems = desk.plan(NAME, matching(desk.rows(NAME), **query), change)
    made, more = desk.write(NAME, planned)
    return made, problems + more


def test_an_edit_is_shown_at_once_and_used_by_the_next_update(root: Path, desk: Session) -> None:
    assert edit(desk, add(["scarf"]), tags="smile") == (2, [])
    assert desk.pending(NAME) == ["gifs/wave.gif", "stickers/happy.png"]
    shown = desk.rows(NAME).table.set_index("path")["caption"]
    assert shown["stickers/happy.png"] == "skv_fox, fox_sticker, smile, hat, scarf"
    assert len(matching(desk.rows(NAME), "scarf")) == 3  # two frames of the GIF
    assert (root / "characters/fox/gifs/wave.txt").read_text() == "smile, waving, scarf\n"
    make_dataset(root)
    assert desk.rows(NAME).table.set_index("path")["caption"]["stickers/happy.png"] == shown["stickers/happy.png"]
    assert desk.pending(NAME) == []


def test_undo_goes_back_step_by_step(root: Path, desk: Session) -> None:
    before = desk.rows(NAME).table["caption"].tolist()
    edit(desk, add(["scarf"]), tags="smile")
    edit(desk, remove(["hat"]), tags="hat")
    assert desk.steps_back(NAME) == 2
    assert desk.undo(NAME) == (1, [])
    assert (root / "characters/fox/stickers/happy.txt").read_text() == "smile, hat, scarf\n"
    assert desk.undo(NAME) == (2, [])
    assert not list((root / "characters/fox").rglob("*.txt"))
    assert desk.rows(NAME).table["caption"].tolist() == before
    assert desk.undo(NAME) == (0, ["There is nothing to undo."])


def test_undo_leaves_what_an_editor_changed(root: Path, desk: Session) -> None:
    edit(desk, add(["scarf"]), tags="smile")
    (root / "characters/fox/stickers/happy.txt").write_text("by hand")
    made, problems = desk.undo(NAME)
    assert made == 1
    assert problems == ["stickers/happy.txt was changed meanwhile, and is left as it is: look at it again."]
    assert (root / "characters/fox/stickers/happy.txt").read_text() == "by hand"
    assert desk.steps_back(NAME) == 1
    (root / "characters/fox/stickers/happy.txt").write_text("smile, hat, scarf\n")
    assert desk.undo(NAME) == (1, [])  # what could not be undone is tried again


def test_a_text_that_becomes_unreadable_stops_nothing_else(root: Path, desk: Session) -> None:
    edit(desk, add(["scarf"]), tags="hat")
    (root / "characters/fox/stickers/happy.txt").write_bytes(b"\xff\xff")
    assert edit(desk, add(["scarf"]), source="sad") == (1, [])
    assert "scarf" in desk.rows(NAME).table.set_index("path")["caption"]["stickers/sad.png"]


def test_texts_newer_than_the_update_are_shown_after_a_restart(root: Path, desk: Session) -> None:
    desk.rows(NAME)
    (root / "characters/fox/stickers/happy.txt").write_text("by hand")
    later = session(root)
    assert later.pending(NAME) == ["stickers/happy.png"]
    assert later.rows(NAME).table.set_index("path")["caption"]["stickers/happy.png"] == "skv_fox, fox_sticker, by hand"


def test_a_bad_text_does_not_stop_the_others(root: Path, desk: Session) -> None:
    (root / "characters/fox/stickers/happy.txt").write_bytes(b"\xff\xff")
    made, problems = edit(desk, add(["scarf"]))
    assert made == 2
    assert [problem.partition(":")[0] for problem in problems] == ["stickers/happy.txt"]


def test_a_bounded_number_of_characters_is_in_memory(tmp_path: Path, monkeypatch) -> None:
    from sticker_pipeline_tests.desk.example import add_character

    monkeypatch.setattr(session_module, "IN_MEMORY", 2)
    for name in ("a", "b", "c"):
        add_character(tmp_path, name)
        make_dataset(tmp_path, name)
    desk = session(tmp_path)
    first = desk.rows("a")
    assert desk.rows("a") is first
    desk.rows("b"), desk.rows("c")
    assert desk.rows("a") is not first
