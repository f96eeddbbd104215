"""Packs of bare folders of images, from drawn ones and from real characters."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sticker_pipeline.core.character import Pack
from sticker_pipeline.core.files.space import SpaceError
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.packing.compose import Composed
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.folder import FILES, FolderError, check_target, pack_folder, target_of
from sticker_pipeline.packing.pack import SHEET, VERDICTS, texts_of
from sticker_pipeline.packing.page import PAGE
from sticker_pipeline.packing.picks import Picks, PicksError
from sticker_pipeline.packing.verify_set import verify_folder
from sticker_pipeline_tests.packing.shapes import disc, from_premultiplied, over


def drawn(path: Path, colour: tuple[int, int, int] = (200, 40, 40), side: int = 48) -> Path:
    """Save a disc on a transparent canvas."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = over(np.zeros((side, side, 4)), colour, disc(side, (side / 2, side / 2), side / 3))
    Image.fromarray(from_premultiplied(shape), "RGBA").save(path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with three stickers, one of them in a folder of its own."""
    folder = tmp_path / "fox"
    drawn(folder / "fox_hello.png", (200, 40, 40))
    drawn(folder / "fox_zebra.png", (40, 160, 40))
    drawn(folder / "inner" / "fox_thanks.png", (40, 40, 200))
    return folder


def packed(source: Path, target: Path, *platforms: str, stop=lambda: None, count=lambda *_: None) -> Composed:
    pack = Pack.model_validate({"platforms": list(platforms or ("signal",))})
    return pack_folder(source, target, pack, MediaSettings(), target.parent / "cache", count, stop)


def interrupted() -> None:
    raise KeyboardInterrupt


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


def chosen(target: Path) -> dict[str, str]:
    choice = pd.read_parquet(target / "choice.parquet")
    choice = choice[choice["chosen"]].sort_values("position")
    return dict(zip(choice["slot"], choice["origin"], strict=True))


def test_a_folder_gives_sets_sheet_page_and_tables(source: Path, tmp_path: Path) -> None:
    before, target = hashes(source), tmp_path / "out"
    made = packed(source, target, "signal", "telegram")
    assert made.problems == []
    assert {one.slot for one in made.stickers} == {"hello", "thanks", "fox_zebra"}
    assert list(chosen(target)) == ["hello", "thanks", "fox_zebra"]
    there = {path.name for path in target.iterdir()}
    known = {SHEET, VERDICTS, PAGE, FILES, "masters", "page", "index.parquet", "choice.parquet"}
    assert there == known | {"signal", "telegram"}
    assert [file.name for file in sorted((target / "telegram" / "fox_static").glob("*.webp"))] == [
        "01_hello.webp",
        "02_thanks.webp",
        "03_fox_zebra.webp",
    ]
    assert json.loads((target / FILES).read_text()) == {
        name: sha256 for name, sha256 in hashes(target).items() if name != FILES
    }
    assert made.pack.faults == {"signal": [], "telegram": []}
    assert hashes(source) == before


def test_a_second_run_gives_equal_bytes(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    packed(source, target)
    first = hashes(target)
    packed(source, target)
    assert hashes(target) == first
    shutil.rmtree(tmp_path / "cache")
    packed(source, target)
    assert hashes(target) == first
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["cache", "fox", "out"]


def test_a_removed_sticker_leaves_the_pack(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    packed(source, target)
    (source / "fox_zebra.png").unlink()
    packed(source, target)
    assert list(chosen(target)) == ["hello", "thanks"]
    assert not (target / "masters" / "fox_zebra.png").exists()


def test_a_platform_without_a_cover_stops_no_other(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise PackError("no encoding fits")

    monkeypatch.setattr("sticker_pipeline.packing.parts.fit", fails)
    made = packed(source, tmp_path / "out", "whatsapp", "signal")
    why = "whatsapp has no set, since its tray cannot be made: no encoding fits"
    assert made.pack.left_out == {"whatsapp": [why], "signal": []}
    assert set(made.pack.index["platform"]) == {"signal"} and not (tmp_path / "out" / "whatsapp").exists()


def test_a_title_that_is_cut_is_said(source: Path, tmp_path: Path) -> None:
    (source / "pack").mkdir()
    (source / "pack" / "picks.yaml").write_text(f"title: {'A fox ' * 12}\nauthor: Ada\n")
    made = packed(source, tmp_path / "out", "telegram")
    assert made.problems == [f"telegram: the title is cut to '{'A fox ' * 10}A': at most 64 characters are taken."]


def test_every_image_is_in_the_pack(tmp_path: Path) -> None:
    for number in range(45):
        drawn(tmp_path / "many" / f"x{number:02}.png", (5 * number, 90, 200 - 4 * number), 16)
    assert len(packed(tmp_path / "many", tmp_path / "out", "slack").stickers) == 45


@pytest.mark.parametrize("name", [SHEET, "signal/fox_static/pack.json", "masters/hello.png"])
def test_a_changed_file_is_never_overwritten(source: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "out"
    packed(source, target)
    (target / name).write_bytes(b"mine")
    before = hashes(target)
    with pytest.raises(FolderError, match="was changed by somebody"):
        packed(source, target)
    assert hashes(target) == before


def test_a_file_beside_ours_is_never_removed(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    packed(source, target)
    (target / "notes.txt").write_text("mine")
    with pytest.raises(FolderError, match=r"notes\.txt was changed"):
        packed(source, target)
    assert (target / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("listing", [None, "[]", "{", '{"x.txt": 1}', "null"])
def test_a_foreign_folder_is_refused(source: Path, tmp_path: Path, listing: str | None) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "x.txt").write_text("mine")
    if listing is not None:
        (target / FILES).write_text(listing)
    with pytest.raises(FolderError, match="another folder with --out"):
        packed(source, target)
    assert (target / "x.txt").read_text() == "mine"


def test_a_target_that_is_a_file_or_a_link_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for name in ("file", "link", "nowhere"):
        with pytest.raises(FolderError, match="no folder"):
            check_target(source, tmp_path / name)


def test_a_target_in_the_source_or_around_it_is_refused(source: Path) -> None:
    for target in (source, source / "out", source.parent, source / ".." / "fox"):
        with pytest.raises(FolderError, match="lie in each other"):
            check_target(source, target)


def test_an_empty_target_is_taken(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    packed(source, tmp_path / "out")
    assert (tmp_path / "out" / SHEET).is_file()


def test_default_target_lies_beside_the_source(source: Path) -> None:
    assert target_of(source) == source.with_name("fox-pack")
    check_target(source, target_of(source))


def test_picks_and_overrides_win(source: Path, tmp_path: Path) -> None:
    drawn(source / "pack" / "override" / "hello.png", (250, 200, 0))
    (source / "pack" / "picks.yaml").write_text(
        "title: Ours\norder: [thanks]\nemoji: {thanks: ['🦊']}\ntext: {thanks: So kind}\n", encoding="utf-8"
    )
    before, target = hashes(source), tmp_path / "out"
    made = packed(source, target)
    assert made.problems == []
    assert chosen(target) == {"thanks": "own", "hello": "override", "fox_zebra": "own"}
    thanks = next(one for one in made.stickers if one.slot == "thanks")
    assert (thanks.emoji, thanks.text) == (("🦊",), "So kind")
    assert json.loads(next((target / "signal").rglob("pack.json")).read_text(encoding="utf-8"))["title"] == "Ours"
    middle = np.asarray(Image.open(target / "masters" / "hello.png").convert("RGB"))[24, 24]
    assert middle.tolist() == [250, 200, 0]
    assert hashes(source) == before


def test_overrides_alone_are_a_pack(tmp_path: Path) -> None:
    drawn(tmp_path / "fox" / "pack" / "override" / "hello.png")
    packed(tmp_path / "fox", tmp_path / "out")
    assert chosen(tmp_path / "out") == {"hello": "override"}


def test_a_rejected_candidate_stays_out(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    packed(source, target)
    choice = pd.read_parquet(target / "choice.parquet")
    name = choice[choice["slot"] == "hello"]["candidate"].iloc[0]
    (source / "pack").mkdir()
    (source / "pack" / "picks.yaml").write_text(f"reject: [{name}]\n")
    packed(source, target)
    assert "hello" not in chosen(target)


def test_unusable_picks_are_said_and_nothing_is_written(source: Path, tmp_path: Path) -> None:
    (source / "pack").mkdir()
    (source / "pack" / "picks.yaml").write_text("emoji: {hello: [word]}\n")
    with pytest.raises(PicksError, match="one emoji"):
        packed(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["fox"]


def test_unreadable_files_are_named_and_stop_nothing(source: Path, tmp_path: Path) -> None:
    good = drawn(tmp_path / "good.png").read_bytes()
    (source / "cut.png").write_bytes(good[: len(good) // 2])
    (source / "text.png").write_text("no image")
    (source / "empty.png").touch()
    Image.fromarray(np.zeros((8, 8, 4), np.uint8), "RGBA").save(source / "blank.png")
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(source / "noise.png")
    made = packed(source, tmp_path / "out")
    assert set(chosen(tmp_path / "out")) >= {"hello", "thanks", "fox_zebra"}
    assert {one.slot for one in made.stickers} == {"hello", "thanks", "fox_zebra"}
    for name in ("cut.png", "text.png", "empty.png", "blank.png", "noise.png"):
        assert any(name in problem for problem in made.problems), name


def test_equal_files_are_one_sticker(source: Path, tmp_path: Path) -> None:
    shutil.copy(source / "fox_zebra.png", source / "fox_apple.png")
    made = packed(source, tmp_path / "out")
    choice = pd.read_parquet(tmp_path / "out" / "choice.parquet")
    assert len(made.stickers) == 3
    twin = choice[~choice["chosen"]]
    assert twin["reason"].tolist() == ["it shows the same as fox_apple.png"]


def test_names_in_other_scripts(tmp_path: Path) -> None:
    for name, colour in (
        ("スタンプ", (200, 0, 0)),
        ("привет", (0, 0, 200)),
        ("🦊", (0, 120, 0)),
        ("e\u0301te\u0301", (90, 0, 90)),
    ):
        drawn(tmp_path / "Лиса" / f"{name}.png", colour)
    made = packed(tmp_path / "Лиса", tmp_path / "out", "telegram", "signal", "slack")
    assert len(made.stickers) == 4
    assert made.pack.faults == {"telegram": [], "signal": [], "slack": []}


def test_a_folder_without_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fox" / "inner").mkdir(parents=True)
    with pytest.raises(FolderError, match="no image that can be read"):
        packed(tmp_path / "fox", tmp_path / "out")
    (tmp_path / "fox" / "inner" / "a.png").write_text("x")
    with pytest.raises(FolderError, match=r"inner/a\.png"):
        packed(tmp_path / "fox", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["fox"]


def test_a_folder_without_anything_visible_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fox").mkdir()
    Image.fromarray(np.zeros((8, 8, 4), np.uint8), "RGBA").save(tmp_path / "fox" / "blank.png")
    with pytest.raises(FolderError, match=r"No sticker can be made of .*blank\.png"):
        packed(tmp_path / "fox", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["fox"]


def test_a_target_that_cannot_be_written_is_one_sentence(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpaceError, match="cannot be written"):
        packed(source, tmp_path / "file" / "out")


def test_a_stop_leaves_no_half_folder(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    packed(source, target)
    before = hashes(target)
    (source / "fox_zebra.png").unlink()
    for after in range(1, 5):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        left = iter([*[lambda: None] * (after - 1), interrupted])
        with pytest.raises(KeyboardInterrupt):
            packed(source, target, stop=lambda left=left: next(left)())
        assert hashes(target) == before
        assert {path.name for path in tmp_path.iterdir()} <= {"cache", "fox", "out"}


def test_progress_counts_images_and_files(source: Path, tmp_path: Path) -> None:
    counted: dict[str, list[tuple[int, int]]] = {}
    packed(source, tmp_path / "out", count=lambda what, at, of: counted.setdefault(what, []).append((at, of)))
    assert counted == {
        "images cut out": [(1, 3), (2, 3), (3, 3)],
        "files": [(1, 3), (2, 3), (3, 3)],
    }


REAL = (
    "anki_tan/stickers/Ankitan_00_smile.png",
    "blobfox/gifs/ablobfoxbongo.png",
    "blobfox/stickers/blobfoxwave.png",
    "gopher/art/hi.png",
    "gopher/gifs/looking-around.gif",
    "gopher/stickers/sorry.png",
)


def test_real_characters_keep_all_rules(realdata: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for name in REAL:
        found = realdata / name
        path = found if found.is_file() else next((realdata / name.split("/")[0]).rglob(Path(name).name))
        shutil.copyfile(path, tmp_path / "real" / f"{len(name)}_{path.name}")
    made = packed(tmp_path / "real", tmp_path / "out", "telegram", "signal")
    assert made.problems == []
    assert len(made.stickers) == len(REAL)
    sets = [path.parent for path in sorted((tmp_path / "out").rglob("pack.json"))]
    assert {path.parent.name for path in sets} == {"telegram", "signal"}
    texts = texts_of("real", Picks(), Pack())
    assert [fault for path in sets for fault in verify_folder(path, texts)] == []
    assert made.pack.index.groupby("platform").size().to_dict() == {"signal": len(REAL), "telegram": len(REAL)}
