"""The forecast of a training set is what the gate finds unmeasured, and its remedies help."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sticker_pipeline.benchmark.evaluation import Embeddings, EvaluationContext, GeneratedImages, Requests
from sticker_pipeline.benchmark.forecast import (
    CHECKS,
    ENOUGH,
    can_be_released,
    forecast,
    forewarnings,
    has_validation,
    split_table,
)
from sticker_pipeline.benchmark.gate import NOTHING_HELD_OUT, Check
from sticker_pipeline.benchmark.gate_checks import checks_of
from sticker_pipeline.benchmark.side_by_side import comparisons
from sticker_pipeline.benchmark.tables import benchmark_table
from sticker_pipeline.core.character import Benchmark, Gate, load_character
from sticker_pipeline.core.profile import load_profile
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.dataset.manifest import DatasetError
from sticker_pipeline_tests.dataset.test_manifest import SHARES, frames_of, made
from sticker_pipeline_tests.some_table import write_rows

MEDIUMS = {"gifs": "sticker", "stickers": "sticker", "art": "art"}
IMAGES = {"art": 24, "sticker": 24}
assert MEDIUMS.keys() == SHARES.keys()


def rows_of(sources: Mapping[str, int], holdout: float | list[str], frames: int = 1, validation: float = 0.1) -> Any:
    """The training set's rows of groups with so many sources: group, source_id, medium, split of each frame."""
    table = frames_of({(group, file(group, n)): frames for group, count in sources.items() for n in range(count)})
    split = made(table, holdout, validation=validation)[["frame_id", "split"]]
    rows = table.merge(split, on="frame_id")
    return rows.assign(medium=rows["group"].map(MEDIUMS))


def file(group: str, number: int) -> str:
    return f"{group}/{number}.png"


def judged(
    rows: pd.DataFrame, images: Mapping[str, int], others: bool, tagged: bool, released: bool, seed: int
) -> list[Check]:
    """The gate's checks of random images, by the benchmark itself.

    `tagged`: the tagger knows one tag, of each medium's first prompt.
    """
    rng = np.random.default_rng(seed)

    def embeddings(count: int) -> np.ndarray:
        vectors = rng.standard_normal((count, 8))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def given_images(part: pd.DataFrame) -> Embeddings:
        return Embeddings(embeddings(len(part)), part["source_id"].tolist(), part["medium"].tolist())

    held, trained = (rows[rows["split"] == split] for split in ("holdout", "train"))
    context = EvaluationContext(
        references={str(medium): given_images(part) for medium, part in held.groupby("medium")},
        training=given_images(trained),
        others={"nova": {"sticker": Embeddings(embeddings(3), list("abc"))}} if others else {},
        requests={medium: Requests([f"{n // 2}" for n in range(count)]) for medium, count in images.items()},
        tag_names=["0" if tagged else "unprompted"],
    )
    models = ["base", "lora", *(["released"] if released else [])]

    def generated_images(count: int) -> GeneratedImages:
        return GeneratedImages(embeddings(count), tags=np.ones((count, 1), dtype=bool))

    generated = {model: {medium: generated_images(count) for medium, count in images.items()} for model in models}
    result = benchmark_table(generated, context, samples=100)
    return checks_of(result.table, comparisons(result), Gate())


def expected(
    held: Mapping[str, int], images: Mapping[str, int], others: bool, tagged: bool, released: bool
) -> set[str]:
    """The rules that nothing can be measured for, from their definitions."""
    known = [medium for medium in held if images.get(medium)]
    if not known:
        return {"better_than_base", "no_copies", "not_collapsed", "right_character", "follows_prompts"}
    paired = all(images[medium] > 1 for medium in known)  # an interval needs two images, in each medium
    spread = [medium for medium in known if images[medium] > 1]  # a distance needs two images, or two sources
    return {
        *(["better_than_base"] if not paired else []),
        *(["not_collapsed"] if not any(held[medium] > 1 for medium in spread) else []),
        *(["right_character"] if not others else []),
        *(["follows_prompts"] if not tagged else []),
        *(["no_less_similar"] if released and not paired else []),
        *(["no_less_diverse"] if released and not spread else []),
    }


COUNTS = st.dictionaries(st.sampled_from(list(MEDIUMS)), st.integers(1, 6), min_size=1)
SHARED = st.sampled_from([0.05, 0.15, 0.34, 0.5, 0.8])


@st.composite
def holdouts(draw: st.DrawFn, counts: Mapping[str, int]) -> float | list[str]:
    files = [file(group, number) for group, count in counts.items() for number in range(count)]
    return draw(SHARED | st.lists(st.sampled_from(files), min_size=1, max_size=3, unique=True))


@given(st.data(), COUNTS, st.booleans(), st.booleans(), st.booleans(), st.integers(1, 3), st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_the_forecast_is_what_the_gate_finds(
    data: st.DataObject, counts: dict[str, int], others: bool, tagged: bool, released: bool, frames: int, seed: int
) -> None:
    try:
        rows = rows_of(counts, data.draw(holdouts(counts)), frames)
    except DatasetError:  # nothing is left to train on
        assume(False)
    images = {medium: data.draw(st.integers(1, 5)) for medium in {MEDIUMS[group] for group in counts}}
    held = rows[rows["split"] == "holdout"].groupby("medium")["source_id"].nunique().to_dict()
    sizes = {medium: (count, held.get(medium, 0)) for medium, count in images.items()}
    found = forecast(sizes, others=others, tagged=tagged, released=released)
    real = judged(rows, images, others, tagged, released, seed)
    assert [(check.name, check.checked, check.unmeasured) for check in found] == [
        (check.name, check.checked, check.unmeasured) for check in real
    ]
    assert {check.name for check in found if check.unmeasured} == expected(held, images, others, tagged, released)
    refused = {check.name for check in real if check.unmeasured and not check.verdict.passed}
    assert can_be_released(rows, images, Benchmark()).passed == (not refused)
    assert can_be_released(rows, images, Benchmark(gate=Gate(unmeasured="release"))).passed


@given(st.data(), COUNTS)
@settings(max_examples=25, deadline=None)
def test_each_remedy_helps_and_no_smaller_one(data: st.DataObject, counts: dict[str, int]) -> None:
    share = data.draw(SHARED)
    rows = rows_of(counts, share)
    verdict = can_be_released(rows, IMAGES, Benchmark(holdout=share))
    if verdict.passed:
        return
    assert verdict.summary.endswith(", or set benchmark.gate.unmeasured: release.")
    if more := re.search(r"Add (\d+) images? or GIFs? to the group (\w+)", verdict.summary):
        count, group = int(more[1]), more[2]
        assert can_be_released(rows_of(counts | {group: counts[group] + count}, share), IMAGES, Benchmark()).passed
        less = rows_of(counts | {group: counts[group] + count - 1}, share)
        assert not can_be_released(less, IMAGES, Benchmark()).passed
    if named := re.search(r"benchmark\.holdout: (\[.+?\])", verdict.summary):
        files = yaml.safe_load(named[1])
        after = rows_of(counts, files)
        assert can_be_released(after, IMAGES, Benchmark(holdout=files)).passed
        assert after.loc[after["split"] == "train", "source_id"].nunique() >= 3
        assert set(rows.loc[rows["split"] == "holdout", "source_id"]) < set(files)


ONE = "sticker: diversity could not be measured, as fewer than two of its sources are held out"


def test_the_warning_names_the_fewest_images_and_the_files() -> None:
    """A share of .15 gives two of ten sources to the holdout, and one of nine."""
    rows = rows_of({"stickers": 6}, 0.15)
    verdict = can_be_released(rows, {"sticker": 24}, Benchmark())
    (held,) = rows.loc[rows["split"] == "holdout", "source_id"]
    named = re.escape(held) + r", stickers/\d\.png"
    assert re.fullmatch(
        rf"a LoRA would be refused: {ONE}\. Add 4 images or GIFs to the group stickers, or set "
        rf"benchmark\.holdout: \[{named}\], or set benchmark\.gate\.unmeasured: release\.",
        verdict.summary,
    )
    assert verdict.evidence.to_dict("records") == [
        {"group": "stickers", "medium": "sticker", "train": 5, "validation": 0, "holdout": 1}
    ]
    small = can_be_released(rows_of({"stickers": 4}, 0.15), {"sticker": 24}, Benchmark()).summary
    assert "Add 6 images" in small and "benchmark.holdout" not in small, "two trained sources would be too few"
    named_files = can_be_released(rows_of({"stickers": 6}, [held]), {"sticker": 24}, Benchmark(holdout=[held])).summary
    assert "Add " not in named_files and re.search(rf"Set benchmark\.holdout: \[{named}\]", named_files)


def test_one_source_in_each_of_two_groups_is_enough() -> None:
    rows = rows_of({"gifs": 3, "stickers": 3, "art": 2}, 0.15)
    verdict = can_be_released(rows, IMAGES, Benchmark())
    assert verdict.passed
    assert verdict.summary == (
        "the gate can measure all of its rules. No source of art is held out: art is not judged."
    )


def test_without_a_holdout_nothing_can_be_measured() -> None:
    rows = rows_of({"gifs": 2, "stickers": 2}, 0.15)
    refused = can_be_released(rows, {"sticker": 24}, Benchmark())
    assert not refused.passed
    assert refused.summary.startswith(f"a LoRA would be refused: {NOTHING_HELD_OUT}. Add ")
    released = can_be_released(rows, {"sticker": 24}, Benchmark(gate=Gate(unmeasured="release")))
    assert released.passed
    assert released.summary == f"a LoRA may be released unmeasured, as character.yaml says: {NOTHING_HELD_OUT}."


def test_a_group_that_is_gone_is_no_medium() -> None:
    rows = rows_of({"gifs": 6, "art": 6}, 0.5).replace({"medium": {"art": ""}})
    assert can_be_released(rows, {"sticker": 24}, Benchmark()).passed
    assert set(split_table(rows)["medium"]) == {"", "sticker"}


@pytest.mark.parametrize(
    ("counts", "share", "passed", "remedy"),
    [
        ({"stickers": 8}, 0.1, True, ""),
        ({"stickers": 7, "art": 5}, 0.1, False, "Add 1 image or GIF to the group stickers"),
        ({"gifs": 3, "art": 5}, 0.1, False, "Add 3 images or GIFs to the group art"),
        ({"stickers": 4}, 0.0, True, ""),
    ],
)
def test_nothing_for_validation_is_said_with_what_is_missing(
    counts: dict[str, int], share: float, passed: bool, remedy: str
) -> None:
    verdict = has_validation(rows_of(counts, 0.15, validation=share), Benchmark(validation=share))
    assert (verdict.passed, verdict.pointless) == (passed, False)
    assert remedy in verdict.summary
    assert passed or "benchmark.patience does nothing" in verdict.summary


def test_a_holdout_that_leaves_nothing_for_validation_is_the_reason() -> None:
    """Of eight sources seven are held out, so half of one would be for validation: none."""
    rows = rows_of({"stickers": 8}, 0.8)
    held = rows.loc[rows["split"] != "train", "source_id"].tolist()
    named = [*held, *rows.loc[rows["split"] == "train", "source_id"].tolist()][:7]
    verdict = has_validation(rows_of({"stickers": 8}, named), Benchmark(holdout=named))
    assert not verdict.passed and "Hold out fewer files" in verdict.summary


def test_more_than_enough_images_and_sources_change_nothing() -> None:
    for more in (1, 10):
        assert forecast({"art": (ENOUGH + more, ENOUGH + more)}) == forecast({"art": (ENOUGH, ENOUGH)})


def test_a_character_is_forewarned_of_its_training_set_of_now(tmp_path: Path, embedded_models: Path) -> None:
    store, folder = ArtifactStore(tmp_path / "artifacts"), tmp_path / "luma"
    (folder / "stickers").mkdir(parents=True)
    (folder / "character.yaml").write_text("trigger: skv_luma\n")
    character = load_character(folder)
    profile = load_profile("embedded", embedded_models.parent)

    def publish(asset: str, rows: pd.DataFrame) -> None:
        with store.writing("luma", asset) as staging:
            write_rows(rows, staging)
            store.publish(staging, "luma", asset, code_version="1", inputs={}, settings={})

    assert forewarnings(character, profile, store) == {}
    frames = frames_of({("stickers", file("stickers", n)): 2 for n in range(6)}).assign(frame_index=0)
    publish("frames", frames)
    publish("training_set", made(frames, 0.15, validation=0.1))
    found = forewarnings(character, profile, store)
    assert found.keys() == CHECKS.keys() and not any(verdict.passed for verdict in found.values())
    assert found["can_be_released"].summary.startswith(f"a LoRA would be refused: {ONE}. Add 4 images")
    publish("frames", frames.assign(frame_id="other " + frames["frame_id"]))
    assert forewarnings(character, profile, store) == {}, "its training set is of other frames"
