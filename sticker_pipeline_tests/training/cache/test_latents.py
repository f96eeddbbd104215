import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from sticker_pipeline.core.files.space import SpaceError
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.dataset import pixels
from sticker_pipeline.training.cache import latents as module
from sticker_pipeline.training.cache.latents import (
    LatentEntry,
    Latents,
    View,
    crop_offsets,
    encode,
    entry_path,
    prepare,
    prepared_ahead,
    read_entry,
    sample_posteriors,
    vae_hash,
    views_of,
)
from sticker_pipeline.training.data import read_holdout, read_training_set
from sticker_pipeline.training.models import load_models
from sticker_pipeline.training.spec import SpecError
from sticker_pipeline_tests.damage import damaged_files
from sticker_pipeline_tests.training.conftest import SpecMaker


@pytest.fixture(scope="module")
def vae(tiny_base: Path) -> Any:
    return load_models(tiny_base, "sd15", torch.float32, prediction="base", zero_terminal_snr=False).vae


def write_image(path: Path, width: int = 48, height: int = 32, seed: int = 0) -> Path:
    """Noise, of which the left half is transparent."""
    rgba = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    rgba[..., 3] = np.where(np.arange(width) < width // 2, 0, 255)
    Image.fromarray(rgba).save(path)
    return path


def view(path: Path, **changes: Any) -> View:
    values = {"width": 32, "height": 32, "shape": "aspect", "background": "white", **changes}
    return View(path, file_sha256(path), **values)


@pytest.fixture
def four(tmp_path: Path) -> list[list[View]]:
    """Three images, the first of which has two views."""
    paths = [write_image(tmp_path / f"{seed}.png", seed=seed) for seed in range(3)]
    return [[view(paths[0]), view(paths[0], mirrored=True)], [view(paths[1])], [view(paths[2])]]


def filled(views: list[list[View]], vae: Any, cache: Path) -> Latents:
    latents = Latents(views, "hash", cache)
    latents.encode(latents.missing(), vae)
    return latents


def same(a: LatentEntry, b: LatentEntry) -> bool:
    tensors = all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("mean", "std", "mask"))
    return tensors and (a.size, a.crop) == (b.size, b.crop)


def test_posterior_is_the_vaes(vae: Any) -> None:
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mean, std = encode(vae, image)
    with torch.no_grad():
        expected = vae.encode(torch.tensor(image.transpose(2, 0, 1)[None] / 255 * 2 - 1, dtype=torch.float32))
    torch.testing.assert_close(mean, expected.latent_dist.mean[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(std, expected.latent_dist.std[0], rtol=1e-4, atol=1e-5)
    assert mean.shape == (4, 8, 8) and (std > 0).all()


def test_a_vae_without_posterior_has_deviation_0() -> None:
    tiny = SimpleNamespace(
        device=torch.device("cpu"), dtype=torch.float32, encode=lambda x: SimpleNamespace(latents=x[..., ::8, ::8])
    )
    mean, std = encode(tiny, np.zeros((32, 32, 3), dtype=np.uint8))
    assert mean.shape == (3, 4, 4) and not std.any()


def test_an_entry_holds_what_the_view_shows(four: list[list[View]], vae: Any, tmp_path: Path) -> None:
    latents = filled(four, vae, tmp_path / "cache")
    assert [latents.variants(row) for row in range(3)] == [2, 1, 1]
    # 48×32 covers 32×32 and loses 8 pixels on each side: the transparent 24 become 16, half of the view
    for variant, visible in ((0, range(4, 8)), (1, range(4))):
        entry = latents.entry(0, variant)
        image = prepare(four[0][variant])
        mean, std = encode(vae, image.pixels)
        assert torch.equal(entry.mean, mean) and torch.equal(entry.std, std)
        assert entry.mask.tolist() == [[[float(column in visible) for column in range(8)]] * 8]
        assert (entry.size, entry.crop) == ((32, 48), (0, 8))
        assert entry.mean.dtype == entry.mask.dtype == torch.float32


def test_the_mask_is_the_mean_over_each_cell() -> None:
    alpha = np.random.default_rng(0).random((16, 24), dtype=np.float32)
    vae = SimpleNamespace(
        device=torch.device("cpu"), dtype=torch.float32, encode=lambda x: SimpleNamespace(latents=x[..., ::8, ::8])
    )
    image = pixels.Prepared(np.zeros((16, 24, 3), dtype=np.uint8), alpha, (1, 1), (0, 0))
    mask = module.make_entry(vae, image).mask
    expected = alpha.reshape(2, 8, 3, 8).mean(axis=(1, 3))
    np.testing.assert_allclose(mask.numpy()[0], expected, rtol=1e-5)


def test_only_what_is_missing_is_decoded_and_encoded(
    four: list[list[View]], vae: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = filled(four[:2], vae, tmp_path / "cache")
    prepared: list[View] = []
    monkeypatch.setattr(module, "prepare", lambda one: prepared.append(one) or prepare(one))
    counts: list[int] = []
    second = Latents(four, "hash", tmp_path / "cache")
    second.encode(second.missing(), vae, encoded=counts.append)
    assert (prepared, counts) == ([four[2][0]], [1])
    assert all(same(first.entry(*place), second.entry(*place)) for place in ((0, 0), (0, 1), (1, 0)))


def test_an_entry_does_not_depend_on_what_else_is_missing(four: list[list[View]], vae: Any, tmp_path: Path) -> None:
    together, alone = filled(four, vae, tmp_path / "a"), filled(four[2:], vae, tmp_path / "b")
    assert same(together.entry(2, 0), alone.entry(0, 0))


def test_a_damaged_entry_is_made_again(four: list[list[View]], vae: Any, tmp_path: Path) -> None:
    first = filled(four, vae, tmp_path / "cache")
    before = first.entry(1, 0)
    path = entry_path(tmp_path / "cache", "hash", torch.float32, four[1][0])
    whole = path.read_bytes()
    for damaged in (b"", b"half", whole[:100], whole[:-1], whole + b" "):
        path.write_bytes(damaged)
        again = Latents(four, "hash", tmp_path / "cache")
        assert list(again.missing()) == [path]
        with pytest.raises(OSError, match="gone or damaged: train again"):
            again.entry(1, 0)
        again.encode(again.missing(), vae)
        assert same(again.entry(1, 0), before)
    # an entry of before, without a checksum
    path.write_bytes(whole[15:])
    assert list(Latents(four, "hash", tmp_path / "cache").missing()) == [path]


def test_each_damage_of_an_entry_is_found(four: list[list[View]], vae: Any, tmp_path: Path) -> None:
    clean = filled(four, vae, tmp_path / "cache")
    before = [clean.entry(*place) for place in ((0, 0), (0, 1), (1, 0), (2, 0))]
    for damage in damaged_files(tmp_path / "cache", flips=40):
        again = Latents(four, "hash", tmp_path / "cache")
        failed = 0
        for expected, place in zip(before, ((0, 0), (0, 1), (1, 0), (2, 0)), strict=True):
            try:
                assert same(again.entry(*place), expected), damage
            except OSError as error:
                assert "gone or damaged: train again" in str(error)
                failed += 1
        missing = again.missing()
        assert failed == len(missing) == 1, damage
        again.encode(missing, vae)
        fresh = Latents(four, "hash", tmp_path / "cache")
        assert not fresh.missing()
        assert all(
            same(fresh.entry(*place), expected)
            for expected, place in zip(before, ((0, 0), (0, 1), (1, 0), (2, 0)), strict=True)
        )


CHANGES: dict[str, Callable[[View], View]] = {
    "bytes": lambda one: replace(one, sha256="0" * 64),
    "width": lambda one: replace(one, width=40),
    "height": lambda one: replace(one, height=40),
    "shape": lambda one: replace(one, shape="square"),
    "background": lambda one: replace(one, background="black"),
    "offset": lambda one: replace(one, offset=0.25),
    "mirrored": lambda one: replace(one, mirrored=True),
}


def test_entries_are_named_by_all_that_decides_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = view(write_image(tmp_path / "a.png"))

    def place(of: View = one, vae: str = "v1", dtype: torch.dtype = torch.float32) -> Path:
        return entry_path(tmp_path, vae, dtype, of)

    assert set(CHANGES) == (set(vars(one)) - {"path", "sha256"}) | {"bytes"}
    names = {
        place(),
        place(vae="v2"),
        place(dtype=torch.bfloat16),
        *(place(change(one)) for change in CHANGES.values()),
    }
    monkeypatch.setattr(pixels, "VERSION", -1)
    names.add(place())
    monkeypatch.setattr(module, "VERSION", -1)
    names.add(place())
    assert len(names) == 3 + len(CHANGES) + 2
    elsewhere = write_image(tmp_path / "b.png")  # the same image under another name
    assert place(view(elsewhere)) == place()


def test_another_image_under_the_same_name_is_noticed(make_spec: SpecMaker, vae: Any, tmp_path: Path) -> None:
    spec = make_spec()
    table = read_training_set(spec)
    first = filled(views_of(table, spec), vae, spec.cache)
    assert not Latents(views_of(table, spec), "hash", spec.cache).missing()
    write_image(spec.frames / "3.png", 40, 40, seed=9)
    again = Latents(views_of(table, spec), "hash", spec.cache)
    (changed,) = again.missing().values()
    assert changed.path == spec.frames / "3.png"
    again.encode(again.missing(), vae)
    assert not torch.equal(again.entry(3, 0).mean, first.entry(3, 0).mean)
    assert same(again.entry(2, 0), first.entry(2, 0))


def test_an_image_that_changes_meanwhile_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    one = view(write_image(tmp_path / "a.png"))
    write_image(tmp_path / "a.png", seed=5)
    with pytest.raises(SpecError, match=r"a\.png: the image cannot be read: it has changed"):
        prepare(one)
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(SpecError, match=r"a\.png: the image cannot be read"):
        prepare(view(tmp_path / "a.png"))
    (tmp_path / "a.png").unlink()
    with pytest.raises(SpecError, match=r"a\.png: the image cannot be read"):
        prepare(one)


def test_views_follow_the_settings(make_spec: SpecMaker) -> None:
    buckets = {"step": 8, "min_side": 8}
    spec = make_spec(settings={"flip": True, "crops": 3}, buckets=buckets)
    table = read_training_set(spec)
    table.loc[0, ["bucket_width", "bucket_height"]] = [32, 16]  # of an image of 40×40: 16 rows to choose from
    views = views_of(table, spec)
    assert [len(row) for row in views] == [6] + [2] * 7  # the others are squares: they have no free room
    assert len(set(views[0])) == 6 and {one.mirrored for one in views[0]} == {True, False}
    assert [one.offset for one in views[1]] == [0.5, 0.5]
    assert {(one.shape, one.background, one.width, one.height) for one in views[0]} == {("aspect", "white", 32, 16)}
    square = views_of(table, make_spec(settings={"crops": 3}))
    assert [len(row) for row in square] == [1] * 8 and square[0][0].shape == "square"
    (spec.frames / "5.png").unlink()
    with pytest.raises(SpecError, match=r"5\.png cannot be read any more"):
        views_of(table, spec)


def test_views_of_two_splits_remember_both(make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec()
    splits = [read_training_set(spec), read_holdout(spec)]
    for table in splits:
        views_of(table, spec)
    monkeypatch.setattr("sticker_pipeline.core.storage.file_sha256", lambda path: pytest.fail("hashed again"))
    for table in splits:
        views_of(table, spec)


@given(st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(1, 16), st.integers(0, 300))
def test_crops_are_spread_over_the_free_room(sha256: str, count: int, room: int) -> None:
    offsets = crop_offsets(sha256, count, room)
    places = [offset * room for offset in offsets]
    assert offsets == sorted(set(offsets)) == crop_offsets(sha256, count, room)
    if count == 1 or room == 0:
        assert offsets == [0.5]
        return
    parts = min(count, room + 1)
    assert len(offsets) == parts
    for number, place in enumerate(places):  # one whole place in each of the parts
        assert place == pytest.approx(round(place), abs=1e-9)
        assert number * (room + 1) // parts <= round(place) < (number + 1) * (room + 1) // parts


def test_crops_are_the_images_own() -> None:
    assert crop_offsets("a" * 64, 4, 100) != crop_offsets("b" * 64, 4, 100)


def test_processes_share_what_is_missing(four: list[list[View]], vae: Any, tmp_path: Path) -> None:
    latents = Latents(four, "hash", tmp_path / "cache")
    missing = latents.missing()
    counts = []
    for rank in range(3):
        before = len(latents.missing())
        latents.encode(missing, vae, rank=rank, ranks=3)
        counts.append(before - len(latents.missing()))
    assert sum(counts) == 4 and not latents.missing()


def test_a_stop_keeps_what_is_made(four: list[list[View]], vae: Any, tmp_path: Path) -> None:
    def stop_after_two(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    latents = Latents(four, "hash", tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        latents.encode(latents.missing(), vae, encoded=stop_after_two)
    assert len(latents.missing()) == 2


def test_a_full_disk_is_named_and_leaves_no_half_file(
    four: list[list[View]], vae: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = Latents(four, "hash", tmp_path / "cache")
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        write_bytes(path, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SpaceError, match=r"cache/hash/.*safetensors cannot be written: its disk is full\."):
        latents.encode(latents.missing(), vae)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_vae_of_another_dtype_is_refused(four: list[list[View]], tmp_path: Path) -> None:
    latents = Latents(four, "hash", tmp_path / "cache")
    with pytest.raises(ValueError, match=r"works in torch\.float16"):
        latents.encode(latents.missing(), SimpleNamespace(dtype=torch.float16))


def test_few_entries_are_read_once_and_memory_has_a_bound(
    four: list[list[View]], vae: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(four, vae, tmp_path / "cache")
    reads: list[Path] = []
    monkeypatch.setattr(module, "read_entry", lambda path: reads.append(path) or read_entry(path))
    places = [(0, 0), (0, 1), (1, 0), (2, 0)] * 3
    kept = Latents(four, "hash", tmp_path / "cache")
    assert all(same(kept.entry(*place), kept.entry(*place)) for place in places) and len(reads) == 4
    size = entry_path(tmp_path / "cache", "hash", torch.float32, four[0][0]).stat().st_size
    reads.clear()
    two = Latents(four, "hash", tmp_path / "cache", memory=2 * size)
    for place in places:
        two.entry(*place)
    assert len(reads) == len(places)  # in turn, each is forgotten before it comes again
    two.entry(2, 0)
    two.entry(1, 0)
    assert len(reads) == len(places)


def test_results_come_in_order_and_failures_where_they_belong() -> None:
    assert list(prepared_ahead(lambda number: number * 2, range(50))) == list(range(0, 100, 2))
    results = prepared_ahead(lambda number: 1 // (3 - number), range(50))
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_vae_hash_follows_the_weights(tiny_base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_base / "vae", tmp_path / "vae")).parent
    assert vae_hash(copy) == vae_hash(tiny_base)
    with next((tmp_path / "vae").glob("*.safetensors")).open("ab") as file:
        file.write(b" ")
    assert vae_hash(copy) != vae_hash(tiny_base)


def test_vae_hash_of_a_single_file_is_that_of_its_vae(tmp_path: Path) -> None:
    def checkpoint(name: str, vae: torch.Tensor, unet: float) -> Path:
        save_file({"first_stage_model.a": vae, "model.b": torch.full((3,), unet)}, tmp_path / name)
        return tmp_path / name

    weights = torch.arange(6, dtype=torch.bfloat16)
    first = vae_hash(checkpoint("1", weights, 1.0))
    assert vae_hash(checkpoint("2", weights, 2.0)) == first
    others = [weights + 1, weights.reshape(2, 3), weights.to(torch.float16), weights.to(torch.float32)]
    assert len({first, *(vae_hash(checkpoint("3", other, 1.0)) for other in others)}) == 5


def test_redraws_have_the_posteriors_moments() -> None:
    plane = torch.ones(1, 100, 100)
    entry = LatentEntry(3 * plane, 2 * plane, plane, (1, 1), (0, 0))
    drawn = sample_posteriors([entry, entry], scale=0.5, shift=1.0, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 1, 100, 100)
    assert drawn.mean().item() == pytest.approx((3 - 1) * 0.5, abs=0.02)
    assert drawn.std().item() == pytest.approx(2 * 0.5, abs=0.02)
    assert not torch.equal(drawn[0], drawn[1])
    again = sample_posteriors([entry, entry], scale=0.5, shift=1.0, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)


def test_transparent_images_are_flattened_over_the_background(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "a.png")
    prepared = prepare(view(tmp_path / "a.png", width=32, height=24, background="white"))
    assert prepared.pixels.shape == (24, 32, 3) and prepared.pixels.dtype == np.uint8
    assert (prepared.pixels == 255).all() and not prepared.alpha.any()
