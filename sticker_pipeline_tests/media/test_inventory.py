"""Inventory rows of every kind of file in people's folders."""

import gzip
import io
import json
import os
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.media import limits as limits_module
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.inventory import INVENTORY, idle_exclusions, media_files, scan
from sticker_pipeline.media.sidecars import EXCLUDED
from sticker_pipeline_tests.media.makers import BLUE, RED, ApngImage, GifImage, apng, gif, noise, solid, video

LIMITS = MediaSettings()
GROUPS = ["gifs", "stickers"]


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "somebody"
    for group in GROUPS:
        (root / group).mkdir(parents=True)
    return root


def reasons(folder: Path, limits: MediaSettings = LIMITS) -> dict[str, tuple[str, str]]:
    table = scan(folder, GROUPS, limits)
    return {row.path: (row.status, row.reason) for row in table.itertuples()}


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, "x")
    return buffer.getvalue()


def write_png(path: Path, size: tuple[int, int] = (9, 7)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, RED).save(path, "PNG")


def test_accepted_files_have_their_facts(folder):
    (folder / "gifs/b.gif").write_bytes(gif(4, 3, [GifImage([[0]]), GifImage([[1]])]))
    hidden = apng(5, 6, [ApngImage(solid(RED, 5, 6))] * 3, default=solid(BLUE, 5, 6))
    (folder / "gifs/deeper/down").mkdir(parents=True)
    (folder / "gifs/deeper/down/a.png").write_bytes(hidden)
    write_png(folder / "stickers/really a png.gif")
    table = scan(folder, GROUPS, LIMITS)
    assert list(table.columns) == INVENTORY.names
    assert table["path"].tolist() == ["gifs/b.gif", "gifs/deeper/down/a.png", "stickers/really a png.gif"]
    assert table["group"].tolist() == ["gifs", "gifs", "stickers"]
    assert table["format"].tolist() == ["GIF", "APNG", "PNG"]
    assert table[["width", "height", "n_frames"]].values.tolist() == [[4, 3, 2], [5, 6, 3], [9, 7, 1]]
    assert table["sha256"].tolist() == [file_sha256(folder / path) for path in table["path"]]
    assert table["bytes"].tolist() == [(folder / path).stat().st_size for path in table["path"]]
    assert set(table["status"]) == {"accepted"}
    assert set(table["reason"]) == {""}


def test_video_is_known_by_its_content(folder):
    images = noise(3, 16, 12)
    (folder / "gifs/a.gif").write_bytes(video("mp4", images, "-c:v", "libx264rgb"))
    (folder / "gifs/b").write_bytes(video("webm", images, "-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p"))
    table = scan(folder, GROUPS, LIMITS)
    assert table["format"].tolist() == ["MP4", "WEBM"]
    assert table[["width", "height", "n_frames"]].values.tolist() == [[16, 12, 3]] * 2
    assert set(table["status"]) == {"accepted"}
    assert reasons(folder, MediaSettings(max_seconds=0.2))["gifs/a.gif"] == (
        "rejected",
        "0.3 seconds: more than 0.2 (the limit max_seconds of the profile)",
    )


def test_refused_by_content_with_the_cause(folder):
    contents = {
        "text.png": (b"hello there, I am no image", "not an image: text"),
        "page.gif": (b"<!DOCTYPE html><html><body>404", "a web page: download the image itself"),
        "lfs.png": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        "empty.png": (b"", "empty"),
        "noise.png": (bytes(range(256)), "unknown content"),
        "model.gif": (pickle.dumps({"a": 1}), "pickle"),
        "film.gif": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "the video is cut off: its index"),
        "film2.gif": (b"\x1aE\xdf\xa3 webm", "the video is damaged or cut off"),
        "film3.gif": (b"RIFF\xff\xff\0\0AVI LIST", "AVI is not read: convert it to MP4, GIF or APNG"),
        "photo.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        "half.jpg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG is cut off"),
    }
    for name, (content, _) in contents.items():
        (folder / "gifs" / name).write_bytes(content)
    with zipfile.ZipFile(folder / "gifs/archive.gif", "w") as archive:
        archive.writestr("a.txt", "a")
    found = reasons(folder)
    assert found.pop("gifs/archive.gif") == ("rejected", "a ZIP archive: unpack it")
    for name, (_, cause) in contents.items():
        status, reason = found[f"gifs/{name}"]
        assert status == "rejected"
        assert cause in reason


def test_what_other_tools_write_is_called_what_it_is(folder):
    lottie = json.dumps({"v": "5.5.2", "fr": 60, "ip": 0, "op": 60, "w": 512, "h": 512, "layers": []}).encode()
    contents = {
        "a.tgs": (
            gzip.compress(json.dumps({"tgs": 1, "layers": []}).encode()),
            "an animated sticker of Telegram (.tgs)",
        ),
        "b.gz": (gzip.compress(b"something"), "a gzip archive: unpack it"),
        "c.gz": (gzip.compress(b"something")[:4], "a gzip archive that is damaged or cut off"),
        "d.json": (lottie, "a Lottie animation"),
        "e.wastickers": (archive("title.txt", "author.txt", "1.webp"), "a sticker pack of WhatsApp (.wastickers)"),
        "f.zip": (archive("one/a.png"), "a ZIP archive: unpack it"),
        "g.kra": (archive("mimetype", "maindoc.xml"), "a Krita drawing: export it as PNG"),
        "h.docx": (archive("word/document.xml"), "a Word document"),
        "j.zip": (archive("a.png")[:30], "a ZIP archive that is damaged or cut off"),
        "k.png": (b"/annex/objects/SHA256E-s1--0.png", "git annex get"),
        "l.clip": (b"CSFCHUNK" + bytes(9), "a Clip Studio drawing"),
        "n.svgz": (gzip.compress(b"<svg xmlns='x'/>"), "an SVG drawing"),
        "o.lottie": (archive("manifest.json", "animations/a.json"), "an animation of vectors in an archive"),
        "p.ppm": (b"P6\n1 1\n255\nabc", "PPM and PGM are not read"),
        "q.jp2": (b"\0\0\0\x0cjP  \r\n", "JPEG 2000 is not read"),
        "r.swf": (b"CWS\x0a", "a Flash animation"),
        "s.tar": (bytes(257) + b"ustar", "a tar archive: unpack it"),
        "m.lnk": (bytes.fromhex("4c0000000114020000000000c000000000000046"), "a shortcut of Windows"),
    }
    for name, (content, _) in contents.items():
        (folder / "gifs" / name).write_bytes(content)
    for name, (status, reason) in reasons(folder).items():
        assert (status, contents[name.removeprefix("gifs/")][1] in reason) == ("rejected", True), (name, reason)


def test_what_trainers_keep_beside_images_is_passed_over(folder):
    arrays = io.BytesIO()
    np.savez(arrays, latents=np.zeros(3))
    (folder / "gifs/a_0512x0512_sd.npz").write_bytes(arrays.getvalue())
    np.save(folder / "gifs/a.npy", np.zeros(3))
    save_file({"latents": np.zeros(3)}, folder / "gifs/a_te.safetensors")
    (folder / "gifs/data.json").write_text(json.dumps({"layers": 3}))
    (folder / "gifs/a.pt").write_bytes(archive("x/data.pkl"))
    (folder / "gifs/a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(9))
    (folder / "gifs/a.png:Zone.Identifier").write_text("[ZoneTransfer]\r\nZoneId=3")
    (folder / "gifs/from.url").write_text("[InternetShortcut]\r\nURL=https://example.org/")
    assert reasons(folder) == {
        "gifs/a.h5": ("ignored", "a trainer's cache (HDF5)"),
        "gifs/a.pt": ("ignored", "tensors (PyTorch), such as a trainer's cache, which are never opened"),
        "gifs/a.png:Zone.Identifier": ("ignored", "text, such as notes"),
        "gifs/a.npy": ("ignored", "a trainer's cache (a NumPy array)"),
        "gifs/a_0512x0512_sd.npz": ("ignored", "a trainer's cache (NumPy arrays)"),
        "gifs/a_te.safetensors": ("ignored", "tensors (safetensors), such as a trainer's cache"),
        "gifs/data.json": ("ignored", "text, such as notes"),
        "gifs/from.url": ("ignored", "text, such as notes"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir",
        "#recycle",
        "$RECYCLE.BIN",
        "System Volume Information",
        "__MACOSX",
        "lost+found",
        ".thumbnails",
        "@Recycle",
    ],
)
def test_folders_of_systems_are_passed_over_wherever_they_are(folder, name):
    for place in (folder / name, folder / "gifs" / name, folder / "gifs/deeper" / name):
        write_png(place / "a.png" / "thumb.png")
    write_png(folder / "gifs/deeper/a.png")
    found = reasons(folder)
    assert found.pop("gifs/deeper/a.png")[0] == "accepted"
    assert {status for status, _ in found.values()} == {"ignored"}
    assert sorted(found) == sorted([name, f"gifs/{name}", f"gifs/deeper/{name}"])
    assert [path.name for path in media_files(folder)] == ["a.png"]


def test_thumbnails_beside_their_images_are_passed_over_and_others_are_taken(folder):
    for name in ("a.webp", "b.png", "lonely.webp_thumb.jpg", "c.png", "thumb.png"):
        write_png(folder / "stickers" / name, (40, 40))
    for name in ("a.webp_thumb.jpg", "b_thumb.png", "anim.tgs_thumb.jpg"):
        write_png(folder / "stickers" / name, (20, 20))
    write_png(folder / "stickers/c-thumbnail.png", (80, 80))  # larger than what it would be of
    (folder / "stickers/anim.tgs").write_bytes(gzip.compress(b'{"tgs": 1}'))
    found = {path.removeprefix("stickers/"): row for path, row in reasons(folder).items() if row[0] != "accepted"}
    assert found.pop("anim.tgs")[0] == "rejected"
    assert found == {
        "a.webp_thumb.jpg": ("ignored", "the thumbnail of stickers/a.webp"),
        "b_thumb.png": ("ignored", "the thumbnail of stickers/b.png"),
    }


@pytest.mark.parametrize("page", ["messages.html", "export_results.html"])
def test_the_icons_of_telegrams_page_are_passed_over_and_what_was_sent_is_taken(folder, page):
    for name in ("images/back.png", "photos/photo_1.jpg", "stickers/sticker.webp"):
        write_png(folder / "gifs/ChatExport" / name)
    write_png(folder / "stickers/images/mine.png")
    (folder / "gifs/ChatExport" / page).write_text("<!DOCTYPE html><html>")
    found = reasons(folder)
    assert found.pop(f"gifs/ChatExport/{page}") == ("rejected", "a web page: download the image itself")
    icons = "icons of Telegram's page: what was sent is in photos, stickers and video_files"
    assert found.pop("gifs/ChatExport/images") == ("ignored", icons)
    assert {status for status, _ in found.values()} == {"accepted"} and len(found) == 3
    assert [path.name for path in media_files(folder)].count("back.png") == 0
    table = scan(folder / "gifs/ChatExport", None, LIMITS).set_index("path")
    assert table.loc["images", "reason"] == icons


def test_passed_over(folder):
    write_png(folder / "gifs/.hidden.png")
    write_png(folder / "gifs/.cache/a.png")
    write_png(folder / "top.png")
    write_png(folder / "unlisted/a.png")
    write_png(folder / "rivals/a.png")
    (folder / "character.yaml").write_text("trigger: x")
    (folder / "gifs/Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "gifs/a.txt").write_text("smile, うれしい", encoding="utf-8")
    (folder / "gifs/empty.txt").write_text("")
    assert reasons(folder) == {
        "gifs/.cache": ("ignored", "a hidden folder"),
        "gifs/.hidden.png": ("ignored", "a file of the operating system or hidden"),
        "gifs/Thumbs.db": ("ignored", "a file of the operating system or hidden"),
        "gifs/a.txt": ("ignored", "text that is no image's caption: no such name, or another is taken"),
        "gifs/empty.txt": ("ignored", "text that is no image's caption: no such name, or another is taken"),
        "top.png": ("ignored", "not in a group's folder"),
        "unlisted/a.png": ("ignored", "the folder unlisted is not a group"),
    }


def test_excluded_files_are_ignored_and_never_opened(folder):
    write_png(folder / "gifs/blurry.png")
    (folder / "gifs/blurry.txt").write_text("smile")
    write_png(folder / "gifs/caf\u00e9.png")
    write_png(folder / "stickers/blurry.png")
    limits = MediaSettings(exclude=["gifs/blurry.png", "gifs/cafe\u0301.png", "gifs/blury.png"])  # the second: NFD
    found = reasons(folder, limits)
    assert found["gifs/blurry.png"] == found["gifs/caf\u00e9.png"] == ("ignored", EXCLUDED)
    assert found["stickers/blurry.png"] == ("accepted", "")
    assert found["gifs/blurry.txt"] == ("ignored", "the caption of gifs/blurry.png, which is excluded")
    assert idle_exclusions(scan(folder, GROUPS, limits), limits) == [
        "media.exclude: there is no file 'gifs/blury.png'. Did you mean 'gifs/blurry.png'?"
    ]


def test_special_files_are_never_opened(folder):
    os.mkfifo(folder / "gifs/pipe.gif")
    (folder / "gifs/zero.png").symlink_to("/dev/zero")
    (folder / "gifs/gone.png").symlink_to(folder / "nowhere.png")
    (folder / "gifs/self.png").symlink_to(folder / "gifs/self.png")
    found = reasons(folder)
    assert found["gifs/pipe.gif"] == ("rejected", "a named pipe, which is never opened")
    assert found["gifs/zero.png"][1].startswith("a link that leaves the folder, to /dev/zero: copy the files, or write")
    table = scan(folder, GROUPS, LIMITS, [folder, Path("/dev")]).set_index("path")
    assert table.loc["gifs/zero.png", "reason"] == "a device, which is never opened"
    assert found["gifs/gone.png"] == ("rejected", "a link to a file that does not exist")
    assert found["gifs/self.png"][0] == "rejected"


def test_what_is_kept_elsewhere_is_called_so_with_what_to_do(folder):
    """git-annex links to files that may not be here; macOS leaves a placeholder for what it moved to iCloud."""
    target = "../.git/annex/objects/Zx/9Q/SHA256E-s4--0f.png/SHA256E-s4--0f.png"
    (folder / "gifs/fox.png").symlink_to(target)
    write_png(folder / "gifs/here.png")
    (folder / "gifs/here.txt").symlink_to(target)
    (folder / "gifs/.cat.png.icloud").write_bytes(b"bplist00")
    (folder / ".cat.png.icloud").write_bytes(b"bplist00")
    annex = "kept in git-annex: fetch it with `git annex get`"
    assert reasons(folder) == {
        ".cat.png.icloud": ("ignored", "not in a group's folder"),
        "gifs/.cat.png.icloud": ("rejected", "kept in iCloud: download it"),
        "gifs/fox.png": ("rejected", annex),
        "gifs/here.png": ("accepted", ""),
        "gifs/here.txt": ("rejected", f"the caption of gifs/here.png cannot be read: {annex}"),
    }


def test_links_to_folders_are_followed_once(folder, tmp_path):
    write_png(tmp_path / "elsewhere/linked.png")
    write_png(folder / "gifs/own.png")
    (folder / "gifs/a_link").symlink_to(tmp_path / "elsewhere")
    (folder / "gifs/loop").symlink_to(folder / "gifs")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "elsewhere")
    table = scan(folder, GROUPS, LIMITS, [folder, tmp_path / "elsewhere"])
    found = {row.path: (row.status, row.reason) for row in table.itertuples()}
    assert found["gifs/own.png"][0] == found["gifs/a_link/linked.png"][0] == "accepted"
    again = ("ignored", "a link to a folder that is read already")
    assert found["gifs/loop"] == found["gifs/a_link/back"] == again
    assert len(found) == 4


def test_names_that_are_not_utf8(folder):
    write_png(folder / "gifs/fine.png")
    (folder / "gifs/fine.png").rename(os.fsdecode(os.fsencode(folder / "gifs") + b"/\xff.png"))
    assert reasons(folder) == {"gifs/\\xff.png": ("rejected", "its name is not UTF-8: rename it")}


def test_unreadable_files_are_rows(folder, monkeypatch):
    write_png(folder / "gifs/a.png")
    write_png(folder / "gifs/b.png")
    read = limits_module.read_bytes

    def refuse(path: Path, roots: Sequence[Path], most: int) -> bytes:
        if path.name == "a.png":
            raise PermissionError(13, "Permission denied")
        return read(path, roots, most)

    monkeypatch.setattr(limits_module, "read_bytes", refuse)
    found = reasons(folder)
    assert found["gifs/a.png"] == ("rejected", "cannot be read: Permission denied")
    assert found["gifs/b.png"][0] == "accepted"


def test_limits_are_checked_before_anything_is_read_or_unpacked(folder, monkeypatch):
    write_png(folder / "gifs/large.png", size=(30, 30))
    size = (folder / "gifs/large.png").stat().st_size
    assert "900" not in reasons(folder)["gifs/large.png"][1]
    assert reasons(folder, MediaSettings(max_pixels=899))["gifs/large.png"] == (
        "rejected",
        "30×30 pixels: more than 899 (the limit max_pixels of the profile)",
    )
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("read"))
    assert reasons(folder, MediaSettings(max_bytes=size - 1))["gifs/large.png"][0] == "rejected"


def test_a_file_of_which_a_part_can_be_used_is_accepted_with_a_note(folder):
    data = gif(2, 2, [GifImage([[0]]), GifImage([[1]])])
    (folder / "gifs/cut.gif").write_bytes(data[:-3])
    row = scan(folder, GROUPS, LIMITS).iloc[0]
    assert (row["status"], row["n_frames"]) == ("accepted", 1)
    assert row["reason"] == "the GIF is cut off: only what comes before, 1 whole frame, is kept"


def test_the_same_table_twice_and_through_parquet(folder, tmp_path):
    write_png(folder / "gifs/comma,tab\t.png")
    write_png(folder / "stickers/スタンプ 🦊 (1).png")
    first, second = scan(folder, GROUPS, LIMITS), scan(folder, GROUPS, LIMITS)
    pd.testing.assert_frame_equal(first, second)
    first.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), first)


def test_an_empty_folder_gives_an_empty_table(folder, tmp_path):
    table = scan(folder, GROUPS, LIMITS)
    assert list(table.columns) == INVENTORY.names
    assert table.empty
    with pytest.raises(MediaError, match="is not a folder"):
        scan(tmp_path / "nowhere", GROUPS, LIMITS)


def test_awkward_folder(realdata):
    entries = json.loads((realdata / "hostile/manifest.json").read_text(encoding="utf-8"))["files"]
    table = scan(realdata / "hostile", ["files"], LIMITS).set_index("path")
    expected = {"decode": "accepted", "decode_or_reject": "accepted", "reject": "rejected", "ignore": "ignored"}
    for name, entry in entries.items():
        row = table.loc[f"files/{name}"]
        assert row["status"] == expected[entry["expect"]], name
        assert row["reason"] or row["status"] == "accepted"
        if row["status"] == "accepted":
            assert [row["width"], row["height"]] == entry["size"], name
            assert row["n_frames"] == entry.get("frames", entry.get("frames_complete")), name


@pytest.mark.parametrize("name", ["anki_tan", "gopher", "blobfox"])
def test_real_characters(realdata, name):
    entries = json.loads((realdata / "INDEX.json").read_text(encoding="utf-8"))[name]
    table = scan(realdata / name, ["gifs", "stickers", "art"], LIMITS)
    accepted = table[table["status"] == "accepted"].set_index("path")
    media = {path: entry for path, entry in entries.items() if not path.startswith("other_character/")}
    assert sorted(accepted.index) == sorted(media)
    for path, entry in media.items():
        row = accepted.loc[path]
        assert (row["n_frames"], row["width"], row["height"]) == (entry["frames"], entry["width"], entry["height"]), (
            path
        )
        assert row["sha256"] == entry["sha256"]
