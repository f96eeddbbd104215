"""A disk that fills at any write leaves earlier files whole; work resumes once there is room."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sticker_pipeline.benchmark.embed import Embedder, embed
from sticker_pipeline.benchmark.releases import all_releases, current, publish, roll_back
from sticker_pipeline.core.caching import file_hashes
from sticker_pipeline.core.files.space import SpaceError
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import ArtifactStore, atomic_file, new_folder
from sticker_pipeline.dataset.new_character import create
from sticker_pipeline.generation.image_cache import cached_images
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.media.frames import decode_all
from sticker_pipeline.media.inventory import scan
from sticker_pipeline.tagging import scoring
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.full_disk import (
    PAGE,
    fails_until_there_is_room,
    files_below,
    small_disk,
    with_file_limit,
    with_free,
)
from sticker_pipeline_tests.publishing.candidates import candidate
from sticker_pipeline_tests.some_table import write_rows

NOW = datetime(2026, 3, 1, tzinfo=UTC)
Squeezed = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(params=["disk", "limit"])
def squeeze(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Squeezed]]:
    """A folder, and what gives it so many bytes: of a whole disk, and of each file."""
    if request.param == "limit":
        (tmp_path / "small").mkdir()
        yield tmp_path / "small", partial(with_file_limit, tmp_path / "small")
        return
    with small_disk(tmp_path / "small", 4 * 2**20) as disk:
        yield disk, partial(with_free, disk)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def made(store: ArtifactStore, seed: int) -> None:
    table = pd.DataFrame({"value": np.random.default_rng(seed).random(2000)})
    with store.writing("luma", "frames") as staging:
        write_rows(table, staging)
        table.to_csv(staging / "table.csv", index=False)
        Image.fromarray(noise(40, 40, 3)).save(staging / "image.png")
        store.publish(staging, "luma", "frames", code_version="1", inputs={}, settings={})


def test_an_artifact(squeeze: tuple[Path, Squeezed]) -> None:
    folder, squeezed = squeeze
    store = ArtifactStore(folder)
    made(store, 1)
    version = store.read("luma", "frames").data_version
    failures = fails_until_there_is_room(folder, lambda: made(store, 2), squeezed)
    assert all(sentence.startswith(f"{folder / 'luma' / 'frames'} cannot be written: ") for sentence in failures)
    assert store.read("luma", "frames").data_version != version


def test_a_file_in_a_cache_and_a_new_folder(squeeze: tuple[Path, Squeezed]) -> None:
    folder, squeezed = squeeze

    def file() -> None:
        with atomic_file(folder / "cache" / "entry") as staging:
            staging.write_bytes(bytes(5 * PAGE))

    def whole() -> None:
        if not (folder / "made").exists():
            with new_folder(folder / "made") as staging:
                for number in range(3):
                    (staging / str(number)).write_bytes(bytes(2 * PAGE + number))

    fails_until_there_is_room(folder, file, squeezed)
    fails_until_there_is_room(folder, whole, squeezed)


def test_a_release_and_a_roll_back(squeeze: tuple[Path, Squeezed]) -> None:
    folder, squeezed = squeeze
    releases, made_at = folder / "releases", folder.parent / "made"
    first = publish(releases, candidate(made_at / "1", bytes(3 * PAGE)), NOW).release
    second = candidate(made_at / "2", b"2" * 3 * PAGE)

    def released() -> None:
        found = current(releases)
        assert found is not None and found.record.number in (1, 2)
        publish(releases, second, NOW)

    fails_until_there_is_room(folder, released, squeezed)
    assert [one.record.number for one in all_releases(releases)] == [1, 2]
    assert sorted(path.name for path in releases.iterdir() if path.is_dir()) == ["0001", "0002"]
    with pytest.raises(SpaceError, match=r"current\.json cannot be written"), squeezed(0):
        roll_back(releases, 1, "the eyes", NOW)
    found = current(releases)
    assert found is not None and found.record.number == 2
    assert roll_back(releases, 1, "the eyes", NOW).folder == first.folder


def test_decoded_frames(squeeze: tuple[Path, Squeezed]) -> None:
    """Frames decoded before the disk was full are not decoded again."""
    folder, squeezed = squeeze
    character = REPOSITORY / "data" / "characters" / "pip_comet"
    inventory = scan(character, ["stickers"], MediaSettings())
    inventory = inventory[inventory["status"] == "accepted"].head(3)
    failures = fails_until_there_is_room(
        folder,
        lambda: dict(decode_all(character, inventory, folder / "media", MediaSettings())),
        squeezed,
        step=2 * PAGE,
    )
    assert all("/media/" in sentence for sentence in failures)
    assert len(list(folder.glob("media/*/*/frames.parquet"))) == 3


def test_scores_of_the_tagger(squeeze: tuple[Path, Squeezed]) -> None:
    folder, squeezed = squeeze
    scores = np.random.default_rng(1).random((16, 300), dtype=np.float32)
    names = [f"{number:064}" for number in range(16)]
    fails_until_there_is_room(folder, lambda: scoring._write_shard(folder / "wd14", names, scores), squeezed)


def test_embeddings(squeeze: tuple[Path, Squeezed], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, squeezed = squeeze
    embedder = Embedder(None, None, "cpu", "key", 32, "white", folder / "embeddings")
    monkeypatch.setattr(
        "sticker_pipeline.benchmark.embed._run", lambda _, squares: np.ones((len(squares), 1500), np.float32)
    )
    images = [Image.fromarray(noise(32, 32, 3) // (number + 1)) for number in range(4)]
    fails_until_there_is_room(folder, lambda: embed(embedder, images), squeezed)


def test_generated_images(squeeze: tuple[Path, Squeezed]) -> None:
    folder, squeezed = squeeze
    requests = [Request("sticker", "smile", seed) for seed in range(3)]
    drawing: list[int] = []

    def draw(missing: list[Request]) -> Iterator[Image.Image]:
        drawing.append(len(missing))
        for request in missing:
            yield Image.fromarray(noise(64, 64, 3) // (request.seed + 1))

    fails_until_there_is_room(folder, lambda: cached_images(requests, {}, folder / "images", draw, 1), squeezed)
    assert drawing == sorted(drawing, reverse=True)  # what was drawn stays


def test_a_memo_of_hashes_is_done_without(squeeze: tuple[Path, Squeezed]) -> None:
    folder, squeezed = squeeze
    for number in range(50):
        (folder.parent / f"file{number}").write_bytes(bytes(number))
    files = sorted(folder.parent.glob("file*"))
    whole = file_hashes(files[:1], folder / "memo.json")
    with squeezed(0):
        assert len(file_hashes(files, folder / "memo.json")) == 50
    assert file_hashes(files[:1], folder / "memo.json") == whole
    assert files_below(folder).keys() == {"memo.json"}


def test_a_new_character(tmp_path: Path) -> None:
    """The size of the copy is compared with the free space before the first file is copied."""
    source = tmp_path / "media"
    (source / "stickers").mkdir(parents=True)
    for number in range(4):
        Image.fromarray(noise(60, 60, 3) // (number + 1)).save(source / "stickers" / f"{number}.png")
    with small_disk(tmp_path / "small", 2**20) as disk:
        with (
            with_free(disk, 6 * PAGE),
            pytest.raises(SpaceError, match=r"the new character luma needs up to .* Make room"),
        ):
            create("luma", source, disk, "skv_luma")
        assert files_below(disk) == {} and not (disk / "luma").exists()
        with with_free(disk, 10 * PAGE):
            assert create("linked", source, disk, "skv_luma", link=True).files == 4
        assert create("luma", source, disk, "skv_luma").files == 4


@pytest.mark.parametrize(
    "number, why",
    [
        (errno.ENOSPC, "its disk is full"),
        (errno.EDQUOT, "the quota of its disk is used up"),
        (errno.EROFS, "its file system is read-only"),
        (errno.EFBIG, "a file would be larger"),
    ],
)
def test_every_sort_of_refusal_is_said(tmp_path: Path, number: int, why: str) -> None:
    with (
        pytest.raises(SpaceError, match=rf"{tmp_path / 'entry'} cannot be written: {why}"),
        atomic_file(tmp_path / "entry"),
    ):
        raise OSError(number, os.strerror(number))


def test_a_read_only_disk_is_said(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 2**20) as disk:
        made(ArtifactStore(disk), 1)
        kept = files_below(disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(
            SpaceError, match=r"luma/\.claims/frames\.lock cannot be written: its file system is read-only\."
        ):
            made(ArtifactStore(disk), 2)
        with pytest.raises(SpaceError, match=r"_cache(/media)? cannot be written: its file system is read-only\."):
            ArtifactStore(disk).cache("media")
        assert files_below(disk) == kept
        assert ArtifactStore(disk).read("luma", "frames").table().shape == (2000, 1)
