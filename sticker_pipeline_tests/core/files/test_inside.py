"""Allowed targets of links, and links made between the check of a folder and the reading."""

import hashlib
import os
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from sticker_pipeline.core import character as character_module
from sticker_pipeline.core.caching import file_hashes
from sticker_pipeline.core.character import CharacterError, folders_of_nobody, load_character, rights
from sticker_pipeline.core.files import inside
from sticker_pipeline.core.files.inside import (
    ANYWHERE,
    DEEPEST,
    OutsideError,
    SpecialFileError,
    TooLargeError,
    copy_file,
    list_folder,
    opened,
    read_bytes,
    real_path,
)
from sticker_pipeline.core.profile import ProfileError, character_profile, load_profile
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.dataset.kohya_import import import_kohya
from sticker_pipeline.dataset.new_character import create
from sticker_pipeline.generation.rivals import usable_rivals
from sticker_pipeline.media import inventory
from sticker_pipeline.media.frames import decode_all, frame_table
from sticker_pipeline.media.inventory import media_files, refused_links, scan
from sticker_pipeline.media.sidecars import captions_of, read_captions
from sticker_pipeline.tagging.curation import curate
from sticker_pipeline.tagging.written import written_captions
from sticker_pipeline.training.regularisation import read_regularisation

LIMITS = MediaSettings()
SECRET = "my bank's password is swordfish"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one image and its caption, beside private files."""
    for group in ("given/stickers", "private"):
        (tmp_path / group).mkdir(parents=True)
    (tmp_path / "private" / "note.txt").write_text(SECRET)
    image(tmp_path / "private" / "me.png", "red")
    image(tmp_path / "given" / "stickers" / "cheer.png", "green")
    return tmp_path / "given"


def image(path: Path, colour: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (40, 40), colour)
    image.putpixel((3, 3), (255, 255, 255))
    image.save(path)


def private(folder: Path) -> Path:
    return folder.parent / "private"


def swap(path: Path, target: Path) -> None:
    """Put a link to `target` in the place of `path`."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(target)


# --- one file


def test_a_file_and_links_inside_are_read(folder: Path) -> None:
    (folder / "stickers" / "a.txt").write_text("hello")
    (folder / "near.txt").symlink_to("stickers/a.txt")
    (folder / "far.txt").symlink_to(folder / "near.txt")
    (folder / "again").symlink_to("stickers")
    (folder / "stickers" / "up.txt").symlink_to("../again/../stickers/a.txt")
    for name in ("stickers/a.txt", "near.txt", "far.txt", "again/a.txt", "stickers/up.txt", "again/up.txt"):
        assert read_bytes(folder / name, [folder]) == b"hello", name


def test_the_root_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").symlink_to(folder)
    (folder / "own.png").symlink_to(folder / "stickers" / "cheer.png")
    assert read_bytes(tmp_path / "disk" / "own.png", [tmp_path / "disk"]).startswith(b"\x89PNG")


@pytest.mark.parametrize("target", ["absolute", "relative", "chain", "folder"])
def test_a_link_that_leaves_is_refused_with_its_target(folder: Path, target: str) -> None:
    secret = private(folder) / "note.txt"
    link = folder / "stickers" / "cheer.txt"
    match target:
        case "absolute":
            link.symlink_to(secret)
        case "relative":
            link.symlink_to("../../private/note.txt")
        case "chain":
            (folder / "step").symlink_to(private(folder))
            link.symlink_to("../step/note.txt")
        case "folder":
            (folder / "step").symlink_to(private(folder))
            link = folder / "step" / "note.txt"
    with pytest.raises(OutsideError) as caught:
        read_bytes(link, [folder])
    assert caught.value.strerror == f"a link that leaves the folder, to {secret}"
    assert caught.value.filename2 == str(secret)
    assert read_bytes(link, [folder, private(folder)]) == read_bytes(link, ANYWHERE) == SECRET.encode()


def test_a_path_with_dots_is_judged_by_where_it_leads(folder: Path) -> None:
    with pytest.raises(OutsideError):
        read_bytes(folder / "stickers" / ".." / ".." / "private" / "note.txt", [folder])
    assert read_bytes(folder / "stickers" / ".." / "stickers" / "cheer.png", [folder])


def test_a_folder_called_alike_is_another(folder: Path) -> None:
    other = folder.with_name("given2")
    other.mkdir()
    (other / "a.txt").write_text(SECRET)
    (folder / "a.txt").symlink_to("../given2/a.txt")
    with pytest.raises(OutsideError):
        read_bytes(folder / "a.txt", [folder])


def test_loops_and_links_to_nothing_are_errors(folder: Path) -> None:
    (folder / "self").symlink_to("self")
    (folder / "gone").symlink_to("nowhere")
    with pytest.raises(OSError, match="Too many levels"):
        read_bytes(folder / "self", [folder])
    with pytest.raises(FileNotFoundError):
        read_bytes(folder / "gone", [folder])


@pytest.mark.timeout(20)
def test_only_regular_files_are_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "zero").symlink_to("/dev/zero")
    monkeypatch.chdir(folder)  # the address of a socket has to be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        for name, kind in (("pipe", "pipe"), ("zero", "device"), ("socket", "socket"), ("stickers", "folder")):
            with pytest.raises(SpecialFileError, match=f"a.*{kind}, which is never opened"):
                read_bytes(folder / name, [folder, Path("/dev")])


@pytest.mark.timeout(20)
def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "stickers" / "cheer.png"
    stat = inside._status_at

    def swapped(parent: int | None, name: str) -> os.stat_result:
        found = stat(parent, name)
        path.unlink()
        os.mkfifo(path)
        return found

    monkeypatch.setattr(inside, "_status_at", swapped)
    with pytest.raises(SpecialFileError, match="a named pipe"):
        read_bytes(path, [folder])


def test_no_more_is_read_than_asked_for_whatever_the_size_is_said_to_be(folder: Path) -> None:
    (folder / "a").write_bytes(b"0123456789")
    assert read_bytes(folder / "a", [folder]) == read_bytes(folder / "a", [folder], 10) == b"0123456789"
    with pytest.raises(TooLargeError, match="10 bytes: more than 4"):
        read_bytes(folder / "a", [folder], 4)
    with opened(Path("/proc/self/mountinfo"), ANYWHERE) as descriptor:
        assert os.fstat(descriptor).st_size == 0
    with pytest.raises(TooLargeError, match="bytes: more than 20"):
        read_bytes(Path("/proc/self/mountinfo"), ANYWHERE, 20)
    assert read_bytes(Path("/proc/self/cmdline"), ANYWHERE) == Path("/proc/self/cmdline").read_bytes()
    with pytest.raises(TooLargeError, match="10 bytes: more than 4"):
        copy_file(folder / "a", folder / "copy", [folder], 4)


def test_a_copy_has_the_bytes_and_the_time(folder: Path) -> None:
    path, copy = folder / "stickers" / "cheer.png", folder / "copy.png"
    os.utime(path, ns=(1, 2_000_000_003))
    copy_file(path, copy, [folder])
    assert copy.read_bytes() == path.read_bytes() and copy.stat().st_mtime_ns == 2_000_000_003
    with pytest.raises(FileExistsError):
        copy_file(path, copy, [folder])


def test_folders_are_listed_below_the_roots_alone(folder: Path) -> None:
    (folder / "step").symlink_to(private(folder))
    with pytest.raises(OutsideError):
        list_folder(folder / "step", [folder])
    found, entries = list_folder(folder, [folder])
    status = folder.stat()
    assert found == (status.st_dev, status.st_ino)
    assert [(entry.name, entry.is_folder, entry.is_link) for entry in entries] == [
        ("step", False, True), ("stickers", True, False),
    ]  # fmt: skip
    assert [entry.name for entry in list_folder(folder / "step", [folder, private(folder)])[1]] == [
        "me.png",
        "note.txt",
    ]


def test_without_descriptors_links_are_refused_by_where_they_lead(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    (folder / "stickers" / "cheer.txt").symlink_to(private(folder) / "note.txt")
    (folder / "step").symlink_to(private(folder))
    (folder / "near.png").symlink_to("stickers/cheer.png")
    monkeypatch.setattr(inside, "_BY_DESCRIPTOR", False)
    for path in (folder / "stickers" / "cheer.txt", folder / "step" / "note.txt"):
        with pytest.raises(OutsideError):
            read_bytes(path, [folder])
    assert read_bytes(folder / "near.png", [folder]) == (folder / "stickers" / "cheer.png").read_bytes()
    assert [entry.name for entry in list_folder(folder / "stickers", [folder])[1]] == ["cheer.png", "cheer.txt"]


# --- swapped between the look and the reading


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_made_while_a_file_is_opened_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The swap happens right before the system's open, after every look."""
    image(private(folder) / "cheer.png", "red")
    path = folder / "stickers" / "cheer.png"
    real_open = os.open
    swapped = []

    def late(name: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if not swapped and name == ("cheer.png" if what == "file" else "stickers"):
            swapped.append(name)
            if what == "file":
                swap(path, private(folder) / "cheer.png")
            else:
                swap(path.parent, private(folder))
        return real_open(name, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(OutsideError):
        read_bytes(path, [folder])
    assert swapped


def test_a_link_made_after_a_link_was_resolved_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link's target is inside when resolved, and a link out of the folder when opened."""
    (folder / "near.png").symlink_to("stickers/cheer.png")
    followed = inside._followed

    def late(path: Path) -> Path:
        found = followed(path)
        if found.name == "cheer.png" and not (folder / "stickers" / "cheer.png").is_symlink():
            swap(folder / "stickers" / "cheer.png", private(folder) / "me.png")
        return found

    monkeypatch.setattr(inside, "_followed", late)
    with pytest.raises(OSError, match="Too many levels"):
        read_bytes(folder / "near.png", [folder])


@pytest.mark.parametrize("part", ["cheer.png", "cheer.txt", "folder"])
def test_what_is_swapped_after_the_inventory_is_refused(folder: Path, tmp_path: Path, part: str) -> None:
    stickers = folder / "stickers"
    (stickers / "cheer.txt").write_text("smile")
    shutil.copy(stickers / "cheer.png", private(folder) / "cheer.png")  # even with the same bytes
    shutil.copy(stickers / "cheer.txt", private(folder) / "cheer.txt")
    inventory = scan(folder, ["stickers"], LIMITS)
    assert captions_of(inventory) == {"stickers/cheer.png": "stickers/cheer.txt"}
    swap(stickers, private(folder)) if part == "folder" else swap(stickers / part, private(folder) / part)
    if part != "cheer.txt":
        (_, table), *_ = decode_all(folder, inventory, tmp_path / "cache", LIMITS)
        assert "a link that leaves the folder" in table["problem"].iloc[0] and not table["pixel_sha256"].any()
    if part != "cheer.png":
        with pytest.raises(ValueError, match="a link that leaves the folder"):
            read_captions(folder, inventory)
    files = media_files(folder)
    hashes = file_hashes([stickers / "cheer.png"], tmp_path / "memo.json", lambda path: inside.sha256(path, [folder]))
    assert len(hashes) == (part == "cheer.txt") and len(files) == (0 if part == "folder" else 1)


@pytest.mark.parametrize("link", [False, True])
def test_what_is_swapped_while_a_character_is_made_stops_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    from sticker_pipeline.dataset import new_character

    plan = new_character._plan

    def late(*arguments: object) -> object:
        found = plan(*arguments)  # type: ignore[arg-type]
        swap(folder / "stickers" / "cheer.png", private(folder) / "me.png")
        return found

    monkeypatch.setattr(new_character, "_plan", late)
    with pytest.raises(CharacterError, match=r"cheer\.png changed while it was taken"):
        create("luma", folder, tmp_path / "characters", "luma_x", link=link)
    assert not list((tmp_path / "characters").rglob("*"))


# --- a folder that becomes a character


def attacked(folder: Path) -> None:
    """Add links to everything private, and a caption that is one."""
    (folder / "stickers" / "etc").symlink_to("/etc")
    (folder / "stickers" / "cheer.txt").symlink_to(private(folder) / "note.txt")
    (folder / "stickers" / "me.png").symlink_to("../../private/me.png")
    (folder / "home").symlink_to(private(folder))


def everything_in(folder: Path) -> str:
    """All bytes of all files, as letters."""
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


def test_a_linked_private_text_is_nowhere_in_what_is_made(folder: Path, tmp_path: Path) -> None:
    attacked(folder)
    created = create("luma", folder, tmp_path / "characters", "luma_x")
    assert sorted(path.name for path in created.folder.rglob("*")) == ["character.yaml", "cheer.png", "stickers"]
    for name, target in {
        "home": private(folder),
        "stickers/etc": "/etc",
        "stickers/cheer.txt: the caption of stickers/cheer.png cannot be read": private(folder) / "note.txt",
        "stickers/me.png": private(folder) / "me.png",
    }.items():
        note = f"left out: {name}: a link that leaves the folder, to {target}: copy the files, or give --follow-links"
        assert note in created.notes
    assert SECRET not in everything_in(created.folder)
    attacked(created.folder)  # and in the character's own folder
    inventory, beside, curated = made(created.folder, tmp_path)
    assert list(inventory.loc[inventory["status"] == "accepted", "path"]) == ["stickers/cheer.png"]
    assert beside.empty and curated["caption"].tolist() == ["luma_x"]
    assert SECRET not in inventory.to_csv()


def made(folder: Path, tmp_path: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The inventory, the captions beside images and the curated ones, as the assets make them."""
    character = load_character(folder)
    inventory = scan(folder, character.groups.keys(), LIMITS, character.roots)
    captions = read_captions(folder, inventory, character.roots)
    cache = tmp_path / "cache"
    decoded = dict(decode_all(folder, inventory, cache, LIMITS, character.roots))
    said = dict(zip(captions["path"], captions["caption"], strict=True))
    frames = frame_table(inventory, decoded, cache, LIMITS, said)
    tags = pd.DataFrame(columns=["frame_id", "tag", "category", "score"])
    settings, written = character.settings.curation, written_captions(frames, captions)
    curated = curate(tags, frames[frames["kept"]], character.groups, character.trigger, settings, written)
    return inventory, captions, curated.captions


def test_with_follow_links_what_they_lead_to_is_copied(folder: Path, tmp_path: Path) -> None:
    (folder / "stickers" / "cheer.txt").symlink_to(private(folder) / "note.txt")
    (folder / "home").symlink_to(private(folder))
    created = create("luma", folder, tmp_path / "characters", "luma_x", links=ANYWHERE)
    assert (created.folder / "stickers" / "cheer.txt").read_text() == SECRET
    assert created.groups == {"home": 1, "stickers": 1}
    assert not any(path.is_symlink() for path in created.folder.rglob("*"))
    assert not (tmp_path / "characters" / "luma.links").exists()


def test_links_of_a_character_that_is_linked_are_written_beside_it(folder: Path, tmp_path: Path) -> None:
    (folder / "home").symlink_to(private(folder))
    characters = tmp_path / "characters"
    create("luma", folder, characters, "luma_x", link=True)
    create("both", folder, characters, "luma_x", link=True, links=ANYWHERE)
    lines = [(characters / f"{name}.links").read_text().splitlines()[1:] for name in ("luma", "both")]
    assert lines == [[str(folder)], [str(folder), str(private(folder))]]
    luma, both = load_character(characters / "luma"), load_character(characters / "both")
    assert [path.name for path in media_files(luma.folder, luma.roots)] == ["cheer.png"]
    assert [path.name for path in media_files(both.folder, both.roots)] == ["me.png", "cheer.png"]
    assert rights(luma) == [f"luma: links may lead into {folder}."]


def test_what_an_earlier_character_was_allowed_is_not_inherited(folder: Path, tmp_path: Path) -> None:
    characters = tmp_path / "characters"
    create("luma", folder, characters, "luma_x", link=True)
    shutil.rmtree(characters / "luma")
    with pytest.raises(CharacterError, match=r"luma\.links says where links of an earlier character"):
        create("luma", folder, characters, "luma_x")


def test_a_folder_of_kohyas_is_read_without_leaving_it(folder: Path, tmp_path: Path) -> None:
    inside_it = folder / "2_luma"
    shutil.move(folder / "stickers", inside_it)
    (inside_it / "cheer.txt").symlink_to(private(folder) / "note.txt")
    (inside_it / "me.png").symlink_to(private(folder) / "me.png")
    (folder / "3_me").symlink_to(private(folder))
    (folder / "sticker_pipeline.json").symlink_to(private(folder) / "note.txt")
    created = import_kohya("luma", folder, tmp_path / "characters", "luma_x")
    assert created.groups == {"2_luma": 1} and SECRET not in everything_in(created.folder)
    for name, target in {
        "2_luma/cheer.txt": private(folder) / "note.txt",
        "2_luma/me.png": private(folder) / "me.png",
        "3_me": private(folder),
        "sticker_pipeline.json": private(folder) / "note.txt",
    }.items():
        note = f"left out: {name}: a link that leaves the folder, to {target}: copy the files, or give --follow-links"
        assert note in created.notes
    (folder / "sticker_pipeline.json").unlink()
    followed = import_kohya("again", folder, tmp_path / "characters", "luma_x", links=[private(folder)])
    assert followed.groups == {"2_luma": 2, "3_me": 1}
    assert (followed.folder / "2_luma" / "cheer.txt").read_text() == SECRET + "\n"


def test_a_project_of_kohyas_is_not_looked_for_behind_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "private" / "1_holiday").mkdir()
    (folder / "img").symlink_to(private(folder))
    assert create("luma", folder, tmp_path / "characters", "luma_x").groups == {"stickers": 1}


def test_a_folder_may_be_given_as_a_dot_or_by_a_relative_path(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacked(folder)
    (folder / "stickers" / "again.txt").symlink_to("../../given/stickers/cheer.txt")
    for number, (place, source) in enumerate([(folder, "."), (tmp_path, "given"), (folder / "stickers", "..")]):
        monkeypatch.chdir(place)
        created = create(f"luma{number}", Path(source), tmp_path / "characters", "luma_x")
        assert created.groups == {"stickers": 1} and SECRET not in everything_in(created.folder)
        assert len([note for note in created.notes if "a link that leaves the folder" in note]) == 5


def test_files_that_git_annex_keeps_in_the_given_folder_are_taken(folder: Path, tmp_path: Path) -> None:
    kept = folder / ".git" / "annex" / "objects" / "x" / "key.png"
    image(kept, "blue")
    (folder / "stickers" / "fox.png").symlink_to("../.git/annex/objects/x/key.png")
    created = create("luma", folder, tmp_path / "characters", "luma_x")
    assert (created.folder / "stickers" / "fox.png").read_bytes() == kept.read_bytes()
    assert not (created.folder / "stickers" / "fox.png").is_symlink()


# --- a character's folder


@pytest.fixture
def character(folder: Path, tmp_path: Path) -> Path:
    return create("luma", folder, tmp_path / "characters", "luma_x").folder


def test_a_folder_gives_itself_no_rights(character: Path, folder: Path) -> None:
    attacked_by = {"luma.links": str(private(folder)), "_all.links": "/", "links": "/"}
    for name, text in attacked_by.items():
        (character / name).write_text(text)
    (character / "stickers" / "me.png").symlink_to(private(folder) / "me.png")
    luma = load_character(character)
    assert luma.links == () and rights(luma) == []
    place = "copy the files, or write the folder that holds them into luma.links, beside luma"
    why = f"a link that leaves the folder, to {private(folder) / 'me.png'}: {place}"
    assert refused_links(character, luma.roots) == {"stickers/me.png": why}
    row = scan(character, ["stickers"], LIMITS, luma.roots).set_index("path").loc["stickers/me.png"]
    assert (row["status"], row["reason"]) == ("rejected", why)
    (character / "character.yaml").write_text("trigger: luma_x\nlinks: [/]\n")
    with pytest.raises(CharacterError, match="unknown key 'links'"):
        load_character(character)


@pytest.mark.parametrize("name", ["luma.links", "_all.links"])
def test_a_person_says_beside_the_folder_where_links_may_lead(character: Path, folder: Path, name: str) -> None:
    (character / "stickers" / "me.png").symlink_to(private(folder) / "me.png")
    (character.parent / name).write_text("# my images\n\n  ../private \n")
    luma = load_character(character)
    assert refused_links(character, luma.roots) == {}
    assert [path.name for path in media_files(character, luma.roots)] == ["cheer.png", "me.png"]


def test_a_file_of_links_that_cannot_be_read_is_named(character: Path) -> None:
    path = character.parent / "luma.links"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(CharacterError, match=r"luma\.links cannot be read"):
        load_character(character)
    path.write_text("~nobody_at_all/images")
    with pytest.raises(CharacterError, match=r"luma\.links cannot be read"):
        load_character(character)


def test_settings_that_are_a_link_are_not_quoted(character: Path, folder: Path) -> None:
    swap(character / "character.yaml", private(folder) / "note.txt")
    with pytest.raises(CharacterError) as caught:
        load_character(character)
    target = private(folder) / "note.txt"
    assert str(caught.value) == (
        f"{character / 'character.yaml'} is a link that leaves the folder, to {target}: put the file itself there."
    )


def test_a_group_that_is_a_link_elsewhere_is_none(character: Path, folder: Path) -> None:
    (character / "character.yaml").write_text("trigger: luma_x\n")
    (character / "home").symlink_to(private(folder))
    assert list(load_character(character).groups) == ["stickers"]


def stated(character: Path, settings: dict[str, object]) -> Path:
    (character / "character.yaml").write_text(yaml.safe_dump({"trigger": "luma_x", **settings}))
    return character


@pytest.mark.parametrize("path", ["absolute", "relative", "link"])
def test_regularisation_images_lie_where_a_person_allows_it(character: Path, folder: Path, path: str) -> None:
    """One shared folder for all characters is one line in _all.links."""
    if path == "link":
        (character / "regularisation").symlink_to(private(folder))
    name = {"absolute": str(private(folder)), "relative": "../../private", "link": "regularisation"}[path]
    stated(character, {"training": {"regularisation": name}})
    with pytest.raises(ProfileError) as caught:
        character_profile(load_character(character), character)
    assert str(caught.value) == (
        f"{character / 'character.yaml'}: training.regularisation leads out of the character's folder, to "
        f"{private(folder)}: copy it into the folder, or write its folder into luma.links beside {character}, for all "
        "into _all.links."
    )
    (character.parent / "_all.links").write_text(str(private(folder)))
    assert character_profile(load_character(character), character).training.regularisation == name


def test_links_in_a_folder_of_regularisation_images_obey_the_same_rule(folder: Path, tmp_path: Path) -> None:
    others = folder / "regularisation"
    image(others / "one.png", "blue")
    (others / "me.png").symlink_to(private(folder) / "me.png")
    (others / "one.txt").symlink_to(private(folder) / "note.txt")
    notes: list[str] = []
    read: Callable[..., pd.DataFrame] = read_regularisation
    buckets = load_profile("embedded", tmp_path).buckets
    table = read(others, tmp_path / "cache", 64, buckets, share=0.5, note=notes.append)
    assert table["file"].tolist() == ["one.png"] and table["caption"].tolist() == [""]
    assert any(note.startswith("regularisation: left out me.png: a link that leaves the folder") for note in notes)
    table = read(others, tmp_path / "cache", 64, buckets, share=0.5, roots=[folder, private(folder)])
    assert table["file"].tolist() == ["me.png", "one.png"] and table["caption"].tolist() == ["", SECRET]


@pytest.mark.parametrize("name", ["kohya.json", "kohya.toml"])
def test_settings_of_kohya_are_not_read_behind_a_link(character: Path, folder: Path, name: str) -> None:
    (character / name).symlink_to(private(folder) / "note.txt")
    stated(character, {"training": {"preset": "kohya_import", "kohya_json": name}})
    with pytest.raises(ProfileError) as caught:
        character_profile(load_character(character), character)
    assert "cannot be read: a link that leaves the folder" in str(caught.value) and SECRET not in str(caught.value)


@pytest.mark.parametrize("lora", ["../../private/me.png", "rivals/linked.safetensors"])
def test_a_rival_elsewhere_is_left_out(character: Path, folder: Path, embedded_models: Path, lora: str) -> None:
    (character / "rivals").mkdir()
    (character / "rivals" / "linked.safetensors").symlink_to(private(folder) / "me.png")
    stated(character, {"benchmark": {"rivals": [{"name": "other", "lora": lora, "trigger": "x"}]}})
    luma = load_character(character)
    usable, left_out = usable_rivals(luma, character_profile(luma, embedded_models.parent))
    assert not usable and left_out == [
        f"Rival 'other' is left out: its file leads out of the character's folder, to {private(folder) / 'me.png'}: "
        f"copy it into the folder, or write its folder into luma.links beside {character}, for all into _all.links."
    ]


def test_a_hard_link_cannot_be_told_from_a_file(folder: Path) -> None:
    os.link(private(folder) / "note.txt", folder / "note.txt")
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    assert inside.sha256(folder / "note.txt", [folder]) == digest


# --- a character.yaml that comes along


LAX = "trigger: x\nbenchmark: {gate: {copies: 1, unmeasured: release, gain: 0.3}}\n"
UNMEASURED = "benchmark.gate.unmeasured is release, laxer than the default refuse: refuse or release a LoRA when a rule"


@pytest.mark.parametrize("way", ["new-character", "import-kohya"])
def test_a_gate_that_a_given_folder_would_loosen_is_said(folder: Path, tmp_path: Path, way: str) -> None:
    (folder / "character.yaml").write_text(LAX)
    if way == "new-character":
        created = create("luma", folder, tmp_path / "characters", "luma_x")
    else:
        shutil.move(folder / "stickers", folder / "2_luma")
        created = import_kohya("luma", folder, tmp_path / "characters", "luma_x")
    notes = [note for note in created.notes if "gate" in note]
    begin = "character.yaml in the given folder would let more LoRAs through, and is not taken: "
    assert len(notes) == 2 and all(note.startswith(begin) for note in notes)
    assert "benchmark.gate.copies is 1.0, laxer than the default 0.2: at most this share of its images" in notes[0]
    assert UNMEASURED in notes[1]
    assert rights(load_character(created.folder)) == []


@pytest.mark.parametrize("text", ["trigger: [", "trigger: x\nfoo: 1\n", "link"])
def test_a_given_character_yaml_that_cannot_be_used_stops_nothing(folder: Path, tmp_path: Path, text: str) -> None:
    path = folder / "character.yaml"
    path.symlink_to(private(folder) / "note.txt") if text == "link" else path.write_text(text)
    created = create("luma", folder, tmp_path / "characters", "luma_x")
    (note,) = [note for note in created.notes if "could not be used" in note]
    assert note.startswith("character.yaml in the given folder is not taken, and could not be used: ")
    assert SECRET not in "".join(created.notes)


def test_a_loosened_gate_of_a_character_is_said(character: Path) -> None:
    (character / "character.yaml").write_text(LAX.replace("trigger: x", "trigger: luma_x"))
    copies, unmeasured = rights(load_character(character))
    assert copies.startswith(f"{character / 'character.yaml'}: benchmark.gate.copies is 1.0, laxer than the default")
    assert UNMEASURED in unmeasured


# --- folders that would take for ever


@contextmanager
def deep(folder: Path, levels: int) -> Iterator[None]:
    """Folders called d in each other, more than a program that removes them by recursion could remove."""
    here = Path.cwd()
    os.chdir(folder)
    for _ in range(levels):
        Path("d").mkdir()
        os.chdir("d")
    os.chdir(here)
    try:
        yield
    finally:
        os.chdir(folder)
        for _ in range(levels):
            os.chdir("d")
        for _ in range(levels):
            os.chdir(os.pardir)
            Path("d").rmdir()
        os.chdir(here)


def test_folders_are_looked_into_to_a_depth(folder: Path, tmp_path: Path) -> None:
    image(folder.joinpath("stickers", *["d"] * (DEEPEST - 1), "in.png"), "blue")
    image(folder.joinpath("stickers", *["d"] * (DEEPEST + 1), "out.png"), "red")
    assert [path.name for path in media_files(folder)] == ["cheer.png", "in.png"]
    table = scan(folder, ["stickers"], LIMITS).set_index("path")
    below = "stickers" + "/d" * DEEPEST
    assert table.loc[below, "status"] == "rejected"
    assert table.loc[below, "reason"] == "folders lie more than 32 deep in each other: move it up"
    assert len(table) == 3
    created = create("deep", folder, tmp_path / "characters", "luma_x")
    assert created.groups == {"stickers": 2}
    assert created.notes == [f"left out: {below}: folders lie more than 32 deep in each other: move it up"]
    buckets = load_profile("embedded", tmp_path).buckets
    notes: list[str] = []
    read_regularisation(folder, tmp_path / "cache", 64, buckets, share=0.5, note=notes.append)
    assert f"regularisation: left out {below}: folders lie more than 32 deep in each other: move it up" in notes


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """The calls of the system that look for files in the block, by name."""
    calls: Counter[str] = Counter()

    def counting(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            calls[name] += 1
            return real(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "stat", "lstat", "readlink", "scandir"):
            patch.setattr(os, name, counting(name))
        yield calls


def test_folders_without_an_end_cost_nothing(folder: Path) -> None:
    """1,900 of them and 100 links took half a minute at each look, which the sensor has every half minute."""
    for number in range(500):
        (folder / "stickers" / f"{number}.png").symlink_to("d/" * 1_900 + "x.png" if number % 2 else "d/" * 1_900)
    with deep(folder / "stickers", 1_900):
        with counted_calls() as calls:
            assert [path.name for path in media_files(folder)] == ["cheer.png"]
            assert len(refused_links(folder)) == 0
        assert calls.total() < 2 * 500 * 2 * DEEPEST, calls


def test_a_thousand_links_cost_little(folder: Path) -> None:
    end = folder.joinpath("stickers", *["d"] * (DEEPEST - 1))
    end.mkdir(parents=True)
    for number in range(1_000):
        (end / f"{number}.png").symlink_to(private(folder) / "me.png")
    with counted_calls() as calls:
        assert len(refused_links(folder)) == 1_000
    assert calls.total() < 2 * 1_000 * DEEPEST, calls


@pytest.mark.parametrize("at_once", [True, False])
def test_a_chain_of_links_has_an_end(folder: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    """Python's own look along 2,000 links is a recursion too deep."""
    if not at_once:
        monkeypatch.delattr(os, "O_PATH", raising=False)
    for number in range(2_000):
        (folder / "stickers" / f"{number}.png").symlink_to(f"{number + 1}.png")
    (folder / "stickers" / "2000.png").symlink_to("cheer.png")
    assert folder / "stickers" / "0.png" not in media_files(folder)
    table = scan(folder, ["stickers"], LIMITS).set_index("path")
    assert table.loc["stickers/0.png", "reason"] == "cannot be read: Too many levels of symbolic links"
    with pytest.raises(OSError, match="too many links"):
        real_path(folder / "stickers" / "0.png", [folder])


def test_many_links_to_one_folder_read_it_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def counted(path: Path, roots: list[Path]) -> object:
        nonlocal count
        count += 1
        return list_folder(path, roots)

    monkeypatch.setattr(inventory, "list_folder", counted)
    for number in range(100):
        (folder / f"again_{number}").symlink_to("stickers")
    assert [path.name for path in media_files(folder)] == ["cheer.png"]
    assert count == 2


def test_links_to_everything_are_one_sentence(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "MOST_BEHIND_LINKS", 50)
    for number in range(60):
        (private(folder) / f"{number}.txt").write_text("")
    (folder / "stickers" / "all").symlink_to(private(folder))
    why = "links to folders lead to more than 100,000 files: copy those that are meant"
    with pytest.raises(CharacterError) as caught:
        create("luma", folder, tmp_path / "characters", "luma_x", links=ANYWHERE)
    assert str(caught.value) == f"{folder}: {why}."
    assert not (tmp_path / "characters" / "luma").exists()
    # A character's own files go on.
    table = scan(folder, ["stickers"], LIMITS, [folder, private(folder)]).set_index("path")
    assert table["reason"].to_dict() == {"stickers/cheer.png": "", "stickers/all": why}


def test_deep_folders_of_nobody_are_looked_for_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "files" / "inner").mkdir(parents=True)
    (tmp_path / "files" / "inner" / "a.png").touch()
    with deep(tmp_path / "empty", 1_900):
        assert folders_of_nobody(tmp_path) == [tmp_path / "files"]


# --- what the files of links say


@pytest.mark.parametrize(
    "name",
    ["pics\n/etc", "pics\x1b/etc", "pics\udcff/etc", "etc ", "etc\t", "etc\r", "etc\n"],
)
def test_a_name_that_reads_as_another_folder_is_not_written(tmp_path: Path, name: str) -> None:
    """`pics⏎/etc`, in two lines, would let links lead into /etc."""
    image(tmp_path / name / "gifs" / "a.png", "green")
    characters = tmp_path / "characters"
    with pytest.raises(CharacterError) as caught:
        create("nl", tmp_path / name, characters, "luma_x", link=True)
    assert "cannot stand in nl.links, one a line" in str(caught.value)
    assert str(caught.value).endswith("rename the folder, or copy instead of --link.")
    assert not characters.exists()
    assert create("nl", tmp_path / name, characters, "luma_x").files == 1


@pytest.mark.parametrize("name", ["pics\x85/etc", "pics\u2028/etc", "pics\x1c/etc", "pics /etc", "pics\t/etc", "#/~"])
def test_a_name_that_reads_as_itself_is_written(tmp_path: Path, name: str) -> None:
    image(tmp_path / name / "gifs" / "a.png", "green")
    created = create("nl", tmp_path / name, tmp_path / "characters", "luma_x", link=True)
    assert load_character(created.folder).links == (tmp_path / name,)


def test_folders_elsewhere_are_written_once_and_not_too_many(folder: Path, tmp_path: Path) -> None:
    for number in range(3):
        image(private(folder) / "more" / str(number) / "a.png", "green")
        (folder / "stickers" / f"{number}.png").symlink_to(private(folder) / "more" / str(number) / "a.png")
    created = create("three", folder, tmp_path / "characters", "luma_x", link=True, links=ANYWHERE)
    more = private(folder) / "more"
    assert load_character(created.folder).links == (folder, more / "0", more / "1", more / "2")
    (folder / "stickers" / "me.png").symlink_to(private(folder) / "me.png")
    created = create("one", folder, tmp_path / "characters", "luma_x", link=True, links=ANYWHERE)
    assert load_character(created.folder).links == (folder, private(folder))


def test_too_many_folders_elsewhere_are_one_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "stickers" / "me.png").symlink_to(private(folder) / "me.png")
    monkeypatch.setattr(character_module, "MOST_PLACES", 2)
    with pytest.raises(CharacterError, match="the files lie in 2 folders elsewhere, too many for luma"):
        create("luma", folder, tmp_path / "characters", "luma_x", link=True, links=ANYWHERE)
    assert not (tmp_path / "characters").exists()


def test_lines_of_links_end_at_line_feeds_alone(character: Path) -> None:
    place = character.parent / "luma.links"
    place.write_bytes("/pics\x85/etc\n/one\x1c/two\u2028/three\r\n \t/four five \n".encode())
    assert [str(path) for path in load_character(character).links] == [
        "/pics\x85/etc",
        "/one\x1c/two\u2028/three",
        "/four five",
    ]


def test_many_and_long_places_are_told_in_short(character: Path) -> None:
    place = character.parent / "luma.links"
    place.write_text("".join(f"/{number}/{'x' * 5_000}\n" for number in range(40)))
    (note,) = rights(load_character(character))
    assert note.startswith("luma: links may lead into /0/xxx") and note.endswith(" and 32 more.")
    assert len(note) < 5_000
    place.write_text("/a\n" * 1_001)
    with pytest.raises(CharacterError) as caught:
        load_character(character)
    assert str(caught.value) == (
        f"{place} cannot be read: it has more than 1,000 lines: name a folder that holds the others."
    )


@pytest.mark.parametrize("groups", ["groups: {stickers: {}}\n", "groups: {Stickers: {}}\n", ""])
def test_a_group_that_is_a_link_out_says_so_with_the_remedy(character: Path, folder: Path, groups: str) -> None:
    swap(character / "stickers", private(folder))
    path = character / "character.yaml"
    path.write_text(f"trigger: luma_x\n{groups}")
    with pytest.raises(CharacterError) as caught:
        load_character(character)
    name = groups[9:17]
    beginning = (
        f"{path}: groups.{name}: {character / 'stickers'}"
        if groups
        else (f"{character}: no media folder that can be used: stickers")
    )
    assert str(caught.value) == (
        f"{beginning} is a link that leaves the folder, to {private(folder)}: copy it into the folder, or write its "
        f"folder into luma.links beside {character}, for all into _all.links."
    )
    (character.parent / "luma.links").write_text(str(private(folder)))
    assert list(load_character(character).groups) == ["stickers"]


def test_links_and_deep_folders_cost_little_in_an_import(folder: Path, tmp_path: Path) -> None:
    kohya = folder / "3_fox"
    image(kohya / "a.png", "green")
    with deep(kohya, 1_900):
        for number in range(300):
            (kohya / f"{number}.png").symlink_to("d/" * 1_900 + "x.png" if number % 2 else private(folder) / "me.png")
            (folder / f"1_{number}").symlink_to("3_fox/" + "d/" * 1_900)
        with counted_calls() as calls:
            created = import_kohya("fox", folder, tmp_path / "characters", "fox_x")
        assert calls.total() < 600 * 3 * DEEPEST, calls
    assert created.groups == {"3_fox": 1}
    assert any("3_fox/d: sd-scripts does not look into folders" in note for note in created.notes)
