import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.diffusion.text import Encoded, TextModels, encode, tokenize
from sticker_pipeline.training.cache import text as text_cache
from sticker_pipeline.training.cache.text import Encodings, Reading, encode_captions, entry_path, text_hash
from sticker_pipeline_tests.damage import damaged_files
from sticker_pipeline_tests.diffusion.tiny_text import sd15_text, sdxl_text

LONG = "smile, " + ", ".join(["cat"] * 60)  # 121 tokens
VARIANTS = {
    "nova, cat": ["nova, cat", "nova", "nova, cat", "nova"],
    LONG: [LONG, "cat", LONG + ", (dog:1.5)"],
    "luna": ["luna"],
}
READING = Reading(family="sdxl", text_sha="a" * 64, clip_skip=1, max_tokens=225, dtype=torch.float32)


@pytest.fixture(scope="module")
def sd15() -> TextModels:
    return sd15_text()


@pytest.fixture(scope="module")
def sdxl() -> TextModels:
    return sdxl_text()


@pytest.fixture(params=["sd15", "sdxl"])
def models(request: pytest.FixtureRequest) -> TextModels:
    return request.getfixturevalue(request.param)


def encoded(
    models: TextModels,
    cache: Path,
    captions: Sequence[str] = tuple(VARIANTS),
    *,
    reading: Reading = READING,
    **more: Any,
) -> Encodings:
    return encode_captions(captions, VARIANTS.__getitem__, lambda: models, reading, cache, **more)


def no_models() -> TextModels:
    raise AssertionError("everything was cached")


def live(models: TextModels, texts: Sequence[str]) -> Encoded:
    return encode(models, tokenize(models.tokenizers, texts, 225))


def assert_same(found: Encoded, expected: Encoded) -> None:
    assert torch.equal(found.hidden, expected.hidden)
    assert (found.pooled is None) == (expected.pooled is None)
    if found.pooled is not None and expected.pooled is not None:
        assert torch.equal(found.pooled, expected.pooled)


def contents(cache: Path) -> dict[str, str]:
    return {path.relative_to(cache).as_posix(): file_sha256(path) for path in cache.rglob("*") if path.is_file()}


def test_a_batch_is_what_the_text_encoders_give(models: TextModels, tmp_path: Path) -> None:
    encodings = encoded(models, tmp_path)
    texts = ["nova", LONG, LONG + ", (dog:1.5)", "luna", ""]
    found = encodings.batch(["nova, cat", LONG, LONG, "luna", ""], [1, 0, 2, 0, 0])
    expected = live(models, texts)
    torch.testing.assert_close(found.hidden, expected.hidden)
    if models.family.pooled:
        torch.testing.assert_close(found.pooled, expected.pooled)
    assert (found.pooled is None) == (not models.family.pooled)


def test_a_batch_is_as_long_as_its_longest_caption(sdxl: TextModels, tmp_path: Path) -> None:
    encodings = encoded(sdxl, tmp_path)
    assert encodings.batch(["nova, cat", LONG], [0, 1]).hidden.shape == (2, 77, 48)
    assert encodings.batch(["nova, cat", LONG], [0, 0]).hidden.shape == (2, 154, 48)


def test_numbers_are_counted_round_and_round(sdxl: TextModels, tmp_path: Path) -> None:
    encodings = encoded(sdxl, tmp_path)
    assert [encodings.variants(caption) for caption in ["nova, cat", LONG, "luna", ""]] == [4, 3, 1, 1]
    assert_same(
        encodings.batch(["nova, cat", "luna", ""], [6, 5, 3]), encodings.batch(["nova, cat", "luna", ""], [2, 0, 0])
    )
    with pytest.raises(KeyError):
        encodings.batch(["never seen"], [0])


def test_equal_variants_are_stored_once(sdxl: TextModels, tmp_path: Path) -> None:
    encoded(sdxl, tmp_path, ["nova, cat"])
    entry = load_file(entry_path(tmp_path, READING, ["nova, cat", "nova"]))
    assert entry["hidden"].shape == (2, 77, 48) and entry["pooled"].shape == (2, 24)


def test_what_is_cached_needs_no_models(models: TextModels, tmp_path: Path) -> None:
    first = encoded(models, tmp_path)
    second = encode_captions(VARIANTS, VARIANTS.__getitem__, no_models, READING, tmp_path)
    captions, numbers = [*VARIANTS, LONG], [0, 1, 0, 2]
    assert_same(first.batch(captions, numbers), second.batch(captions, numbers))


def test_entries_do_not_depend_on_what_else_is_missing(models: TextModels, tmp_path: Path) -> None:
    encoded(models, tmp_path / "whole")
    for caption in reversed(VARIANTS):
        encoded(models, tmp_path / "parts", [caption])
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")
    assert len(contents(tmp_path / "whole")) == len(VARIANTS) + 1  # and the empty caption


def test_texts_are_encoded_at_most_16_together(
    sdxl: TextModels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    def counted(models: TextModels, tokens: Any, clip_skip: int) -> Encoded:
        sizes.append(len(tokens.chunks))
        return encode(models, tokens, clip_skip)

    monkeypatch.setattr(text_cache, "encode", counted)
    texts = [f"cat {number}" for number in range(35)]
    encodings = encode_captions(["cat"], lambda caption: texts, lambda: sdxl, READING, tmp_path)
    assert sizes == [1, 16, 16, 3]
    torch.testing.assert_close(encodings.batch(["cat"] * 2, [17, 34]).hidden, live(sdxl, [texts[17], texts[34]]).hidden)


@pytest.mark.parametrize(
    "changed",
    [
        {"family": "sd15"},
        {"text_sha": "a" * 63 + "b"},
        {"clip_skip": 2},
        {"max_tokens": 75},
        {"dtype": torch.float16},
    ],
)
def test_entries_are_named_by_how_captions_are_read(changed: dict[str, Any]) -> None:
    other = Reading(**{**vars(READING), **changed})
    assert entry_path(Path("c"), READING, ["cat"]) != entry_path(Path("c"), other, ["cat"])


def test_entries_are_named_by_their_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = (["a", "b"], ["b", "a"], ["a, b"], ["a"], ["a", ""])
    paths = {entry_path(Path("c"), READING, texts) for texts in lists}
    monkeypatch.setattr(text_cache, "VERSION", "next")
    assert len(paths | {entry_path(Path("c"), READING, ["a"])}) == 6


def test_another_reading_never_takes_an_old_entry(sd15: TextModels, tmp_path: Path) -> None:
    readings = [Reading("sd15", "a" * 64, clip_skip, 225, torch.float32) for clip_skip in (1, 2)]
    first, second = (encoded(sd15, tmp_path, ["luna"], reading=reading) for reading in readings)
    assert not torch.allclose(first.batch(["luna"], [0]).hidden, second.batch(["luna"], [0]).hidden)
    expected = encode(sd15, tokenize(sd15.tokenizers, ["luna"], 225), 2)
    torch.testing.assert_close(second.batch(["luna"], [0]).hidden, expected.hidden)


@pytest.mark.parametrize("damage", ["empty", "half", "text", "without hidden", "too short"])
def test_a_damaged_entry_is_made_again(sdxl: TextModels, tmp_path: Path, damage: str) -> None:
    whole = encoded(sdxl, tmp_path).batch([LONG], [0])
    before = contents(tmp_path)
    path = entry_path(tmp_path, READING, VARIANTS[LONG])
    tensors = load_file(path)
    if damage == "without hidden":
        save_file({"chunks": tensors["chunks"]}, path)
    elif damage == "too short":
        save_file({**tensors, "hidden": tensors["hidden"][:1].clone()}, path)
    else:
        path.write_bytes({"empty": b"", "half": path.read_bytes()[:-99], "text": b"no safetensors at all"}[damage])
    assert_same(encoded(sdxl, tmp_path).batch([LONG], [0]), whole)
    assert contents(tmp_path) == before


def _same_or_ended(running: Encodings, asked: list[tuple[str, int]], before: list[Encoded]) -> None:
    for expected, (caption, number) in zip(before, asked, strict=True):
        try:
            assert_same(running.batch([caption], [number]), expected)
        except OSError as error:
            assert "gone or damaged: train again" in str(error)


def test_each_damage_of_an_entry_is_found(models: TextModels, tmp_path: Path) -> None:
    """Before the training it is made again; in it, it ends the training with what to do."""
    clean = encoded(models, tmp_path)
    asked = [(caption, number) for caption, drawn in VARIANTS.items() for number in range(len(drawn))]
    before = [clean.batch([caption], [number]) for caption, number in asked]
    for _ in damaged_files(tmp_path, flips=40):
        try:
            running = Encodings(clean._entries, memory=0)
        except OSError as error:  # the empty text is read at once
            assert "gone or damaged: train again" in str(error)
        else:
            _same_or_ended(running, asked, before)
        again = encoded(models, tmp_path)
        for expected, (caption, number) in zip(before, asked, strict=True):
            assert_same(again.batch([caption], [number]), expected)


def test_progress_may_stop_it_and_what_is_done_stays(sdxl: TextModels, tmp_path: Path) -> None:
    seen = []

    def stop(count: int) -> None:
        seen.append(count)
        if count == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        encoded(sdxl, tmp_path, [*VARIANTS, *VARIANTS], encoded=stop)
    done = contents(tmp_path)
    assert seen == [0, 1, 2] and len(done) == 3
    seen.clear()
    encoded(sdxl, tmp_path, [*VARIANTS, *VARIANTS], encoded=lambda count: seen.append(count))
    assert seen == [0, 1, 2, 3] and contents(tmp_path).items() >= done.items()


def test_memory_stays_within_its_bound_and_keeps_what_was_asked_for_last(
    sdxl: TextModels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = (77 * 48 + 24) * 4
    encodings = encoded(sdxl, tmp_path, memory=3 * size)
    reads = []
    read = text_cache._read
    monkeypatch.setattr(text_cache, "_read", lambda entry, text: reads.append(text) or read(entry, text))

    def ask(*pairs: tuple[str, int]) -> int:
        reads.clear()
        encodings.batch([caption for caption, _ in pairs], [number for _, number in pairs])
        assert encodings._recent.bytes <= 3 * size
        return len(reads)

    assert ask(("nova, cat", 0), ("nova, cat", 1)) == 2
    assert ask(("nova, cat", 0), ("nova, cat", 2), ("", 0)) == 0  # 0 and 2 are the same text; "" was read at first
    assert ask(("luna", 0)) == 1  # forgets ("nova, cat", 1), which was asked for longest ago
    assert ask(("nova, cat", 0)) == 0
    assert ask(("nova, cat", 1)) == 1
    assert ask((LONG, 0)) == 1  # two chunks: only one other can stay
    assert ask((LONG, 0), ("nova, cat", 1)) == 0


def test_what_does_not_fit_at_all_is_read_each_time(sdxl: TextModels, tmp_path: Path) -> None:
    encodings = encoded(sdxl, tmp_path, memory=0)
    assert_same(encodings.batch(["luna"], [0]), encoded(sdxl, tmp_path).batch(["luna"], [0]))
    assert encodings._recent.bytes == 0


def test_half_precision_is_stored_as_it_is(sd15: TextModels, tmp_path: Path) -> None:
    half = TextModels(sd15.family, (copy.deepcopy(sd15.encoders[0]).to(torch.bfloat16),), sd15.tokenizers)
    reading = Reading("sd15", "a" * 64, 1, 225, torch.bfloat16)
    found = encoded(half, tmp_path, ["luna"], reading=reading).batch(["luna"], [0])
    assert found.hidden.dtype == torch.bfloat16
    torch.testing.assert_close(found.hidden, live(half, ["luna"]).hidden)
    with pytest.raises(ValueError, match=r"is torch\.float32, its encodings were to be torch\.bfloat16"):
        encoded(sd15, tmp_path / "other", ["luna"], reading=reading)


def test_the_hash_of_the_text_models_is_that_of_their_contents(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in files:
        file.write_text(file.name)
    before = text_hash(files)
    assert text_hash([file.rename(file.with_suffix(".moved")) for file in files]) == before
    moved = [file.with_suffix(".moved") for file in files]
    assert text_hash(reversed(moved)) != before
    moved[1].write_text("b.jsoN")
    assert text_hash(moved) != before


def test_a_cache_that_was_deleted_is_named(sdxl: TextModels, tmp_path: Path) -> None:
    encodings = encoded(sdxl, tmp_path)
    path = entry_path(tmp_path, READING, ["luna"])
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        encodings.batch(["luna"], [0])
