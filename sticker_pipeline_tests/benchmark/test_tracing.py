"""Images and LoRAs are traced by content, after datasets and names have changed."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from sticker_pipeline.benchmark.releases import (
    NotRecorded,
    ReleaseError,
    all_releases,
    read,
    releases_folder,
    roll_back,
)
from sticker_pipeline.benchmark.tracing import (
    Loras,
    Use,
    Uses,
    image_pixels,
    lora_with,
    releases_with,
    sources_of,
    stated_weights,
    traced,
    weights_sha256,
)
from sticker_pipeline.core.storage import ArtifactStore, file_sha256
from sticker_pipeline.core.texts import UserError
from sticker_pipeline.dataset.sources import SOURCES
from sticker_pipeline.media.frames import pixel_sha256
from sticker_pipeline_tests.benchmark.retrained import DAY, NAME, Retrained, lora_file
from sticker_pipeline_tests.damage import flip
from sticker_pipeline_tests.dataset.small_set import noise


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Retrained:
    """Three releases, each of another dataset, and a fourth training that is not released.

    Before the second, gifs/a.gif is removed; before the third, a sticker is renamed; before the fourth, one is added.
    The removed file lies in `kept`.
    """
    luma = Retrained.begin(tmp_path_factory.mktemp("history"))
    luma.release()
    (luma.root / "kept").mkdir()
    shutil.move(luma.folder / "gifs" / "a.gif", luma.root / "kept" / "some name")
    luma.release()
    for suffix in (".png", ".txt"):
        (luma.folder / "stickers" / f"0{suffix}").rename(luma.folder / "stickers" / f"hat{suffix}")
    luma.release()
    noise(300, alpha=True).save(luma.folder / "stickers" / "new.png")
    (luma.folder / "stickers" / "new.txt").write_text("skv_luma, luma_sticker, new")
    luma.train()
    return luma


@pytest.fixture
def luma(history: Retrained, tmp_path: Path) -> Retrained:
    """A copy of the history, to be damaged."""
    shutil.copytree(history.root, tmp_path / "copy")
    return Retrained(tmp_path / "copy", history.trainings)


def places(result: Uses) -> list[tuple[int | None, str, str, float, str]]:
    return [(use.number, use.path, use.split, use.weight, f"{use.alike}/{use.frames}") for use in result.found]


def uses(luma: Retrained, path: Path) -> Uses:
    result = traced(luma.store, path)
    assert isinstance(result, Uses)
    return result


def loras(luma: Retrained, path: Path) -> Loras:
    result = traced(luma.store, path)
    assert isinstance(result, Loras)
    return result


def test_a_release_of_three_datasets_ago_names_its_sources(history: Retrained) -> None:
    first, second, third = all_releases(releases_folder(history.store, NAME))
    table = sources_of(first)
    shown = ["path", "group", "split", "frames", "weight", "captions"]
    # shares: 1 for gifs and art, 2 for stickers; trained on: one GIF, three stickers, one of art
    assert [tuple(row) for row in table[shown].to_numpy().tolist()] == [
        ("stickers/0.png", "stickers", "train", 1, 0.25, 1),
        ("stickers/1.png", "stickers", "train", 1, 0.25, 1),
        ("stickers/2.png", "stickers", "train", 1, 0.25, 1),
        ("art/0.png", "art", "train", 1, 0.125, 1),
        ("gifs/a.gif", "gifs", "train", 3, 0.125, 3),
        ("art/1.png", "art", "holdout", 1, 0.0, 1),
        ("gifs/b.gif", "gifs", "holdout", 4, 0.0, 4),
        ("stickers/3.png", "stickers", "holdout", 1, 0.0, 1),
    ]
    by_path = table.set_index("path")
    assert by_path.loc["gifs/a.gif", "sha256"] == file_sha256(history.root / "kept" / "some name")
    assert by_path.loc["gifs/a.gif", "caption"] == "skv_luma, pose 0"
    assert by_path.loc["art/0.png", "sha256"] == file_sha256(history.folder / "art" / "0.png")
    assert "gifs/a.gif" not in set(sources_of(second)["path"])
    assert {"stickers/0.png", "stickers/hat.png"} & set(sources_of(third)["path"]) == {"stickers/hat.png"}


def test_an_image_is_found_by_its_bytes_under_any_name(history: Retrained) -> None:
    removed = uses(history, history.root / "kept" / "some name")
    assert (removed.how, places(removed)) == ("bytes", [(1, "gifs/a.gif", "train", 0.125, "3/3")])
    use = removed.found[0]
    assert (use.character, use.is_current, use.captions) == (NAME, False, 3)
    assert use.published == read(releases_folder(history.store, NAME), 1).record.published
    assert (removed.searched.releases, removed.searched.trainings, removed.searched.characters) == (3, 1, {NAME})
    renamed = uses(history, history.folder / "stickers" / "hat.png")
    assert places(renamed) == [
        (1, "stickers/0.png", "train", 0.25, "1/1"),
        (2, "stickers/0.png", "train", pytest.approx(2 / 7), "1/1"),
        (3, "stickers/hat.png", "train", pytest.approx(2 / 7), "1/1"),
        (None, "stickers/hat.png", "train", pytest.approx(2 / 9), "1/1"),
    ]
    assert [use.is_current for use in renamed.found] == [False, False, True, False]


def test_releases_alone_are_searched_by_a_hash(history: Retrained) -> None:
    held_out = releases_with(history.store, file_sha256(history.folder / "gifs" / "b.gif"))
    assert places(held_out) == [(number, "gifs/b.gif", "holdout", 0.0, "4/4") for number in (1, 2, 3)]
    new = file_sha256(history.folder / "stickers" / "new.png")
    assert releases_with(history.store, new).found == ()
    assert places(uses(history, history.folder / "stickers" / "new.png")) == [
        (None, "stickers/new.png", "train", pytest.approx(2 / 9), "1/1")
    ]


def test_an_image_that_was_saved_again_is_found_by_its_pixels(history: Retrained, tmp_path: Path) -> None:
    with Image.open(history.folder / "stickers" / "1.png") as image:
        image.save(tmp_path / "again.webp", lossless=True)
        bytes_of_png = file_sha256(history.folder / "stickers" / "1.png")
    again = uses(history, tmp_path / "again.webp")
    assert again.how == "pixels"
    assert [use.number for use in again.found] == [1, 2, 3, None]
    assert {use.sha256 for use in again.found} == {bytes_of_png} != {file_sha256(tmp_path / "again.webp")}
    with Image.open(history.root / "kept" / "some name") as animation:
        animation.seek(1)
        animation.convert("RGBA").save(tmp_path / "one frame.png")
    assert places(uses(history, tmp_path / "one frame.png")) == [(1, "gifs/a.gif", "train", 0.125, "1/3")]


def test_a_frame_of_the_artifacts_is_found(history: Retrained) -> None:
    rows = history.store.read(NAME, "frames").table().set_index("path")
    frame = history.store.folder(NAME, "frames") / rows.loc["stickers/2.png", "file"]
    assert [use.path for use in uses(history, frame).found] == ["stickers/2.png"] * 4


def test_pixels_are_those_of_each_frame_and_of_its_crops() -> None:
    image, data = Image.new("RGBA", (40, 40)), io.BytesIO()
    image.paste(noise(1), (8, 10))  # 24 × 20 opaque pixels
    image.save(data, "PNG")
    crop = image.crop((7, 9, 33, 31))  # with a margin of 5 % of 24 pixels
    assert image_pixels(data.getvalue()) == {pixel_sha256(np.asarray(part)) for part in (image, crop)}


def test_a_lora_is_found_by_its_bytes_under_any_name(history: Retrained, tmp_path: Path) -> None:
    release = read(releases_folder(history.store, NAME), 1)
    shutil.copy(release.lora, tmp_path / "no name")
    (found,) = loras(history, tmp_path / "no name").found
    assert (found.character, found.number, found.epoch, found.is_current) == (NAME, 1, 6, False)
    assert found.published == release.record.published and found.why_not == ""
    assert found.sources.equals(sources_of(release))
    assert lora_with(history.store, release.record.sha256).found[0].number == 1


def test_an_epoch_that_is_not_released_is_found_too(history: Retrained) -> None:
    training = history.store.read(NAME, "lora")
    for epoch in (1, 2):
        (found,) = loras(history, training.folder / "checkpoints" / f"epoch_0{epoch}.safetensors").found
        assert (found.number, found.epoch, found.published) == (None, epoch, None)
        assert "stickers/new.png" in set(found.sources["path"])


def test_a_training_of_which_an_epoch_is_released_is_no_other_use(tmp_path: Path) -> None:
    luma = Retrained.begin(tmp_path)
    luma.release()
    assert [use.number for use in uses(luma, luma.folder / "art" / "0.png").found] == [1]
    other = luma.store.folder(NAME, "lora") / "checkpoints" / "epoch_02.safetensors"
    (found,) = loras(luma, other).found
    assert (found.number, found.epoch) == (None, 2)


def test_weights_are_found_behind_another_header(history: Retrained, tmp_path: Path) -> None:
    release, path = read(releases_folder(history.store, NAME), 2), tmp_path / "edited.safetensors"
    save_file(load_file(release.lora), path, {"note": "edited"})
    result = loras(history, path)
    assert (result.how, [one.number for one in result.found]) == ("weights", [2])


def test_released_weights_are_brought_only_to_be_compared(
    history: Retrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be in an object store."""
    released = [one.lora for one in all_releases(releases_folder(history.store, NAME))]
    brought: list[Path] = []

    def bring(store: ArtifactStore, path: Path) -> Path:
        brought.append(path)
        return path

    monkeypatch.setattr(ArtifactStore, "bring", bring)
    assert loras(history, released[0]).how == "bytes"
    assert brought == []
    lora_file(tmp_path / "other.safetensors", 0.5)
    assert loras(history, tmp_path / "other.safetensors").found == ()
    assert set(brought) == set(released)


def test_other_weights_are_found_by_their_metadata(history: Retrained, tmp_path: Path) -> None:
    release, path = read(releases_folder(history.store, NAME), 2), tmp_path / "halved.safetensors"
    (stated,) = stated_weights(release.lora)
    assert stated == weights_sha256(release.lora)
    halved = {name: tensor / 2 for name, tensor in load_file(release.lora).items()}
    save_file(halved, path, {"modelspec.hash_sha256": f"0x{stated.upper()}"})
    result = loras(history, path)
    assert (result.how, [one.number for one in result.found]) == ("metadata", [2])
    save_file(halved, path)
    assert loras(history, path).found == ()


def test_what_is_unknown_is_in_nothing(history: Retrained, tmp_path: Path) -> None:
    noise(999).save(tmp_path / "other.png")
    assert uses(history, tmp_path / "other.png").found == ()
    lora_file(tmp_path / "other.safetensors", 0.5)
    assert loras(history, tmp_path / "other.safetensors").found == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"some words", "it is no image, and as a LoRA it is not a safetensors file"),
        (b"\x80\x02pickle", "it is no image, and as a LoRA it is a pickle checkpoint"),
        (b"\x09\0\0\0\0\0\0\0{}", "it is no image, and as a LoRA it is a safetensors file that was cut off"),
        (b"GIF89a", "GIF"),
    ],
)
def test_a_file_that_is_neither_is_refused(history: Retrained, tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        traced(history.store, tmp_path / "file")


# --- earlier versions, and damage -------------------------------------------------------------------------------------


def test_a_release_of_an_earlier_version_has_no_record(tmp_path: Path) -> None:
    luma = Retrained.begin(tmp_path)
    release = luma.release(recorded=False)
    sentence = "release 1 of luma was made by an earlier version, which did not record its sources"
    with pytest.raises(NotRecorded, match=sentence):
        sources_of(release)
    record = json.loads((release.folder / "release.json").read_text())
    assert record.pop("sources_sha256") is None and not (release.folder / SOURCES.file).exists()
    (release.folder / "release.json").write_text(json.dumps(record))
    luma.release()
    result = uses(luma, luma.folder / "art" / "0.png")
    assert [use.number for use in result.found] == [2]
    assert result.searched.not_recorded == [sentence]
    (found,) = loras(luma, release.lora).found
    assert (found.number, found.why_not, len(found.sources)) == (1, sentence, 0)


def test_a_training_of_an_earlier_version_has_no_record(tmp_path: Path) -> None:
    luma = Retrained.begin(tmp_path)
    luma.train(recorded=False)
    result = uses(luma, luma.folder / "art" / "0.png")
    sentence = "the last LoRA of luma was made by an earlier version, which did not record its sources"
    assert (result.found, result.searched.not_recorded) == ((), [sentence])


def test_a_damaged_table_stops_no_other(luma: Retrained) -> None:
    folder = releases_folder(luma.store, NAME)
    path = folder / "0002" / SOURCES.file
    flip(path, 100)
    sentence = (
        f"{path} is damaged: it is not what release.json says. Bring it back from a backup; release 2 of luma stays "
        "usable without it."
    )
    with pytest.raises(ReleaseError, match="is damaged") as raised:
        sources_of(read(folder, 2))
    assert str(raised.value) == sentence and not isinstance(raised.value, NotRecorded)
    result = uses(luma, luma.folder / "gifs" / "b.gif")
    assert [use.number for use in result.found] == [1, 3, None]
    assert result.searched.problems == [sentence]
    (found,) = loras(luma, folder / "0002" / f"{NAME}.safetensors").found
    assert (found.number, found.why_not) == (2, sentence)
    assert roll_back(folder, 2, "", DAY).record.number == 2


def test_a_missing_table_and_a_damaged_record_are_named(luma: Retrained) -> None:
    folder = releases_folder(luma.store, NAME)
    (folder / "0001" / SOURCES.file).unlink()
    (folder / "0002" / "release.json").write_text("{")
    result = uses(luma, luma.folder / "gifs" / "b.gif")
    assert [use.number for use in result.found] == [3]
    assert [problem.partition(": ")[0] for problem in result.searched.problems] == [
        f"{folder / '0001' / SOURCES.file} is damaged",
        f"{folder / '0002' / 'release.json'} is damaged",
    ]


def test_a_lost_lora_file_is_still_known_by_its_hash(luma: Retrained, tmp_path: Path) -> None:
    release = read(releases_folder(luma.store, NAME), 1)
    shutil.move(release.lora, tmp_path / "mine.safetensors")
    assert [one.number for one in loras(luma, tmp_path / "mine.safetensors").found] == [1]
    save_file(load_file(tmp_path / "mine.safetensors"), tmp_path / "edited.safetensors", {"note": "edited"})
    result = loras(luma, tmp_path / "edited.safetensors")
    assert result.found == () and result.searched.problems == [f"{release.lora}: No such file or directory"]


def test_characters_that_are_gone_are_searched(luma: Retrained) -> None:
    held_out = file_sha256(luma.folder / "gifs" / "b.gif")
    shutil.rmtree(luma.folder)
    (luma.store.root / "other" / "releases").mkdir(parents=True)
    (luma.store.root / "other" / "releases" / "current.json").write_text("{")
    result = releases_with(luma.store, held_out)
    assert [use.number for use in result.found] == [1, 2, 3]
    assert "other/releases/current.json is damaged" in result.searched.problems[0]


def test_a_use_has_plain_values(history: Retrained) -> None:
    """As JSON, and pages, need them."""
    use = uses(history, history.folder / "art" / "0.png").found[0]
    values = {name: value for name, value in vars(use).items() if name != "published"}
    assert Use(published=use.published, **json.loads(json.dumps(values))) == use
