"""Decisions of a person, and the messages about wrong ones."""

import unicodedata
from pathlib import Path

import pytest
import yaml

from sticker_pipeline.packing.picks import Picks, PicksError, load_picks, overrides, stated_in_vain

WHOLE = """
title: Bram's stickers
author: somebody
accept: {thanks: g-12, hello: "own:stickers/happy.png"}
reject: [g-3, g-4]
order: [hello, thanks]
emoji: {thanks: [🙏, ❤️], hello: [👋🏽]}
text: {thanks: "Thank you!", hello: ""}
keywords: {thanks: [thank you, cheers]}
motion: {hello: bounce, thanks: none}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bram" / "pack" / "override").mkdir(parents=True)
    return tmp_path / "bram"


def write(folder: Path, text: str) -> Path:
    path = folder / "pack" / "picks.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def put(folder: Path, name: str) -> Path:
    path = folder / "pack" / "override" / name
    path.write_bytes(b"image")
    return path


def test_every_key_is_read(folder: Path) -> None:
    write(folder, WHOLE)
    assert load_picks(folder).model_dump() == yaml.safe_load(WHOLE)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "accept:\nreject:\norder:\ntitle:\n"])
def test_nothing_stated_is_no_decision(folder: Path, text: str) -> None:
    write(folder, text)
    assert load_picks(folder) == Picks()


def test_without_a_file_there_is_no_decision(tmp_path: Path) -> None:
    assert load_picks(tmp_path) == Picks()
    assert overrides(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("acept: {}", "unknown key 'acept'. Did you mean 'accept'?"),
        ("emoji: {thanks: [smile]}", "'emoji.thanks.0' = 'smile': it is not one emoji."),
        ("emoji: {thanks: 🙏}", "'emoji.thanks' = '🙏'"),
        ("emoji: {thanks: []}", "'emoji.thanks' = []"),
        ("motion: {thanks: jump}", "'motion.thanks' = 'jump'"),
        ("order: [a, b, a]", "a occurs twice: keep one."),
        ("accept: {a: g-1}\nreject: [g-1]", "'reject' = ['g-1']: g-1 is in `accept` too: keep one."),
        ("accept: {no: g-1}", "False is read as a number, or yes or no: put it into quotes if it is text."),
        ("accept: {a: 12}", "'accept.a': 12 is read as a number"),
        ("accept: {a: g-1, a: g-2}", "the key 'a' occurs twice: keep one"),
        ("- a", "must hold keys such as `title: My stickers`; it holds ['a']."),
        ("title: [", "is not valid YAML: line 1"),
        (f"title: {'a' * 129}", "'title' ="),
    ],
)
def test_a_wrong_line_is_named_with_its_file_and_key(folder: Path, text: str, said: str) -> None:
    path = write(folder, text)
    with pytest.raises(PicksError) as error:
        load_picks(folder)
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)


def test_texts_lose_invisible_letters_and_line_breaks(folder: Path) -> None:
    write(folder, 'text: {a: "Thank\\u200b  you\\nall"}\ntitle: " Cafe\\u0301 "')
    picks = load_picks(folder)
    assert picks.text == {"a": "Thank you all"}
    assert picks.title == unicodedata.normalize("NFC", "Cafe\u0301")


def test_a_file_that_is_no_text_is_named(folder: Path) -> None:
    path = write(folder, "")
    path.write_bytes(b"title: \xff")
    with pytest.raises(PicksError, match=r"byte 7 is not UTF-8: save it as UTF-8"):
        load_picks(folder)


def test_a_link_leads_only_into_the_roots(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "picks.yaml").write_text("title: theirs")
    (folder / "pack" / "picks.yaml").symlink_to(other / "picks.yaml")
    with pytest.raises(PicksError, match=r"a link that leaves the folder.*copy it into the folder"):
        load_picks(folder, [folder])
    assert load_picks(folder, [folder, other]).title == "theirs"


def test_overrides_are_found_by_slot_in_any_case(folder: Path) -> None:
    files = [put(folder, name) for name in ("Thanks.PNG", "hello.gif", "CAFE\u0301.webp")]
    for other in (".DS_Store", "Thumbs.db", "README.md"):
        put(folder, other)
    assert overrides(folder) == {"thanks": files[0], "hello": files[1], "caf\u00e9": files[2]}


def test_two_files_of_one_slot_are_both_named(folder: Path) -> None:
    put(folder, "thanks.png")
    put(folder, "Thanks.webp")
    with pytest.raises(PicksError, match=r"Thanks\.webp and thanks\.png are for one slot: keep one"):
        overrides(folder)


def test_what_is_no_image_is_named(folder: Path) -> None:
    put(folder, "thanks.psd")
    with pytest.raises(PicksError, match=r"thanks\.psd is no image by its name; known are \.apng"):
        overrides(folder)


def test_a_folder_is_no_override(folder: Path) -> None:
    (folder / "pack" / "override" / "thanks.png").mkdir()
    with pytest.raises(PicksError, match="is no file"):
        overrides(folder)


def test_an_override_behind_a_link_lies_in_the_roots(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "art").mkdir()
    (tmp_path / "art" / "a.png").write_bytes(b"image")
    link = folder / "pack" / "override" / "thanks.png"
    link.symlink_to(tmp_path / "art" / "a.png")
    with pytest.raises(PicksError, match="a link that leaves the folder"):
        overrides(folder, [folder])
    assert overrides(folder, [folder, tmp_path / "art"]) == {"thanks": link}


def test_names_that_do_not_exist_get_the_nearest_one(folder: Path) -> None:
    picks = Picks(accept={"thanx": "g-1"}, reject=["g-9"], order=["hello"])
    put(folder, "helo.png")
    said = stated_in_vain(folder, picks, overrides(folder), ["thanks", "hello"], ["g-1"])
    assert [sentence.removeprefix(str(folder)) for sentence in said] == [
        "/pack/picks.yaml: accept: there is no slot 'thanx'. Did you mean 'thanks'?",
        "/pack/picks.yaml: reject: there is no candidate 'g-9' any more. Did you mean 'g-1'?",
        "/pack/override/helo.png: there is no slot 'helo'. Did you mean 'hello'?",
    ]


def test_a_candidate_accepted_for_two_slots_is_named(folder: Path) -> None:
    picks = Picks(accept={"hello": "g-1", "thanks": "g-1", "cry": "g-2", "ok": "g-2"})
    put(folder, "ok.png")
    said = stated_in_vain(folder, picks, overrides(folder), ["hello", "thanks", "cry", "ok"], ["g-1", "g-2"])
    assert [sentence.removeprefix(str(folder)) for sentence in said] == [
        "/pack/picks.yaml: accept: g-1 is accepted for hello, thanks, and is in the pack once: keep one of these slots."
    ]
