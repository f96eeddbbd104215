"""Releases are numbered and never change; the pointer moves whole or not at all, even after a crash."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.benchmark.gate import CHECKS
from sticker_pipeline.benchmark.releases import (
    Published,
    Release,
    ReleaseError,
    all_releases,
    current,
    events,
    lineage,
    place,
    publish,
    read,
    releases_folder,
    roll_back,
)
from sticker_pipeline.core.storage import ArtifactStore, file_sha256
from sticker_pipeline_tests.publishing.candidates import METRICS, SOURCES, candidate, check
from sticker_pipeline_tests.some_table import write_rows

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return releases_folder(ArtifactStore(tmp_path / "artifacts"), "luma")


def released(folder: Path, content: bytes, **changes: Any) -> Published:
    return publish(folder, candidate(folder.parent / "made", content, **changes), NOW)


def number_of(release: Release | None) -> int | None:
    return release.record.number if release else None


def record_of(release: Release) -> dict[str, Any]:
    return dict(json.loads((release.folder / "release.json").read_text()))


def test_nothing_is_released_at_first(folder: Path) -> None:
    assert current(folder) is None
    assert all_releases(folder) == [] and events(folder) == []
    with pytest.raises(ReleaseError, match=r"no release 1 in .*Releases: none yet"):
        read(folder, 1)


def test_a_release_holds_all_that_it_was_made_of(folder: Path) -> None:
    first, second = released(folder, b"one").release, released(folder, b"two").release
    assert current(folder) == second == read(folder, 2)
    files = ["luma.safetensors", "release.json", "sources.parquet", "spec.json"]
    assert sorted(path.name for path in second.folder.iterdir()) == files
    assert [tuple(row) for row in second.sources().to_numpy().tolist()] == SOURCES
    assert record_of(second)["sources_sha256"] == file_sha256(second.folder / "sources.parquet")
    assert second.lora.read_bytes() == b"two" and first.lora.read_bytes() == b"one"
    record = record_of(second)
    assert {name: record[name] for name in ("number", "previous", "character", "trigger", "file", "published")} == {
        "number": 2, "previous": 1, "character": "luma", "trigger": "skv_luma", "file": "luma.safetensors",
        "published": "2026-03-01T12:30:00Z",
    }  # fmt: skip
    assert (record["base_model"], record["profile"], record["epoch"]) == ("sd15/base", "sd15", 6)
    assert record["sha256"] == file_sha256(second.lora)
    assert record["inputs"] == {"training_set": "ab12", "character/training": "cd34"}
    assert second.spec()["settings"]["rank"] == 16
    stored = pd.DataFrame(record["metrics"]).fillna(math.nan)
    pd.testing.assert_frame_equal(stored, pd.DataFrame(METRICS, columns=list(stored)), check_dtype=False)
    assert record["checks"][2] == {
        "name": "no_less_similar", "passed": True, "checked": False,
        "summary": "not checked: there is no release to compare it with.",
    }  # fmt: skip
    assert first.record.previous is None


def test_the_file_that_was_released_may_change_afterwards(folder: Path) -> None:
    one = candidate(folder.parent / "made", b"one")
    release = publish(folder, one, NOW).release
    with one.lora.open("r+b") as file:
        file.write(b"ONE")
    assert release.lora.read_bytes() == b"one"


def test_a_release_of_before_a_rule_keeps_the_outcomes_that_it_had(folder: Path) -> None:
    seven = [name for name in CHECKS if name != "follows_prompts"]
    released(folder, b"one", checks=[check(name) for name in seven])
    assert [outcome.name for outcome in read(folder, 1).record.checks] == seven


def test_what_did_not_pass_the_gate_is_never_released(folder: Path) -> None:
    with pytest.raises(ReleaseError, match=r"luma is not released: refused\. no_copies: it holds"):
        released(folder, b"one", checks=[check("better_than_base"), check("no_copies", passed=False)])
    assert current(folder) is None and not folder.exists()


def test_equal_bytes_are_released_once(folder: Path) -> None:
    released(folder, b"one")
    assert released(folder, b"one", epoch=7).outcome == "already"
    released(folder, b"two")
    again = released(folder, b"one")
    assert (again.outcome, number_of(again.release), number_of(current(folder))) == ("again", 1, 1)
    assert [number_of(release) for release in all_releases(folder)] == [1, 2]
    assert released(folder, b"three").release.record.previous == 1


def test_rolling_back_keeps_the_later_ones_and_says_why(folder: Path) -> None:
    for content in (b"one", b"two", b"three"):
        released(folder, content)
    roll_back(folder, 1, "the eyes were green", NOW)
    assert number_of(current(folder)) == 1
    assert [number_of(release) for release in all_releases(folder)] == [1, 2, 3]
    assert [(event.action, event.before, event.number, event.reason) for event in events(folder)] == [
        ("publish", None, 1, ""),
        ("publish", 1, 2, ""),
        ("publish", 2, 3, ""),
        ("roll back", 3, 1, "the eyes were green"),
    ]
    assert [released(folder, content).outcome for content in (b"two", b"three")] == ["withdrawn", "withdrawn"]
    assert number_of(current(folder)) == 1
    assert released(folder, b"four").release.record.number == 4
    roll_back(folder, 3, "it was the monitor", NOW)
    assert released(folder, b"four").outcome == "withdrawn"
    assert released(folder, b"one").outcome == "withdrawn"  # earlier ones are no choice of that person either
    assert released(folder, b"three").outcome == "already"


def test_rolling_back_names_what_is_wrong(folder: Path) -> None:
    released(folder, b"one")
    released(folder, b"two")
    with pytest.raises(ReleaseError, match=r"no release 3 in .*Releases: 1, 2\."):
        roll_back(folder, 3, "", NOW)
    with pytest.raises(ReleaseError, match="Release 2 is the current one already"):
        roll_back(folder, 2, "", NOW)
    read(folder, 1).lora.write_bytes(b"eno")
    with pytest.raises(ReleaseError, match=r"luma\.safetensors is not the file that was released"):
        roll_back(folder, 1, "", NOW)
    assert number_of(current(folder)) == 2


def test_a_release_of_an_earlier_version_is_read(folder: Path) -> None:
    release = released(folder, b"one").release
    path = release.folder / "release.json"
    record = json.loads(path.read_text())
    now = record["data"]
    record["data"] = {
        "pictures": now["images"],
        "clips": now["sources"],
        "held_out_pictures": now["holdout_images"],
        "held_out_clips": now["holdout_sources"],
    }
    record["drawing"] = record.pop("sampling")
    del record["sources_sha256"]
    record["metrics"][0]["metric"] = "one_clip_share"
    path.write_text(json.dumps(record))
    again = read(folder, 1).record
    assert (again.data, again.sampling) == (release.record.data, release.record.sampling)
    assert again.metrics[0].metric == "one_source_share"


def test_damage_is_named(folder: Path) -> None:
    release = released(folder, b"one").release
    (release.folder / "release.json").write_text("{}")
    with pytest.raises(ReleaseError, match=r"0001/release.json is damaged"):
        current(folder)
    (folder / "current.json").write_text("{")
    with pytest.raises(ReleaseError, match=r"current.json is damaged"):
        current(folder)


def test_a_lost_pointer_is_brought_back_by_rolling_back(folder: Path) -> None:
    released(folder, b"one")
    released(folder, b"two")
    (folder / "current.json").unlink()
    assert current(folder) is None
    roll_back(folder, 2, "found again", NOW)
    assert number_of(current(folder)) == 2
    assert released(folder, b"three").release.record.number == 3


def test_placing_puts_the_files_where_an_artifact_is_made(folder: Path, tmp_path: Path) -> None:
    release = released(folder, b"one").release
    place(release, tmp_path / "staging")
    assert {path.name: path.read_bytes() for path in (tmp_path / "staging").iterdir()} == {
        path.name: path.read_bytes() for path in release.folder.iterdir()
    }


def test_the_lineage_follows_the_manifests_as_far_as_they_are_known(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)

    def made(asset: str, content: int, *upstream: str) -> str:
        inputs = {name: store.read("luma", name).data_version for name in upstream}
        with store.writing("luma", asset) as staging:
            write_rows(pd.DataFrame({"x": [content]}), staging)
            artifact = store.publish(
                staging, "luma", asset, code_version="1", inputs={**inputs, f"character/{asset}": "s"}, settings={}
            )
        return artifact.data_version

    versions = {"media": made("media", 1), "frames": made("frames", 1, "media"), "lora": made("lora", 1, "frames")}
    sections = {f"character/{asset}": "s" for asset in versions}
    assert lineage(store, "luma", ["lora"]) == versions | sections
    made("frames", 2, "media")  # what the old frames were made of is forgotten
    assert lineage(store, "luma", ["lora"]) == {
        "lora": versions["lora"], "frames": versions["frames"], "character/lora": "s",
    }  # fmt: skip


# --- killed at any moment ---------------------------------------------------------------------------------------------

STEPS = 20  # more than any publish or roll-back takes
DIED = 9


def killed_after(steps: int, act: Callable[[], object]) -> bool:
    """Run `act` in a process that is killed at its file operation number `steps`; return whether it was.

    As by SIGKILL; a write is stopped at half of the file.
    """
    child = os.fork()
    if child == 0:
        try:
            die_after(steps)
            act()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, DIED)
    return code == DIED


def die_after(steps: int) -> None:
    """From now on this process dies at its file operation number `steps`."""
    left = iter(range(steps))

    def step(halfway: Callable[[], object] = lambda: None) -> None:
        if next(left, None) is None:
            halfway()
            os._exit(DIED)

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        return lambda *args, **kwargs: (step(), real(*args, **kwargs))[1]

    write, copy = Path.write_text, shutil.copyfile

    def write_text(self: Path, text: str, **kwargs: Any) -> int:
        step(lambda: write(self, text[: len(text) // 2], **kwargs))
        return write(self, text, **kwargs)

    def copyfile(source: Path, target: Path) -> Path:
        step(lambda: target.write_bytes(source.read_bytes()[:1]))
        return copy(source, target)

    for name in ("rename", "replace", "mkdir", "rmdir", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    Path.write_text, shutil.copyfile = write_text, copyfile  # type: ignore[method-assign, assignment]


def test_a_publish_that_is_killed_at_any_step_leaves_a_whole_release(tmp_path: Path) -> None:
    outcomes = []
    for steps in range(STEPS):
        folder = tmp_path / str(steps) / "releases"
        released(folder, b"one")
        two = candidate(tmp_path / "two", b"two")
        died = killed_after(steps, lambda folder=folder, two=two: publish(folder, two, NOW))
        release = current(folder)
        assert release is not None
        assert file_sha256(release.lora) == release.record.sha256
        assert [one.lora.read_bytes() for one in all_releases(folder)][-1] == release.lora.read_bytes()
        for number in folders(folder):  # also one that the pointer does not know
            assert file_sha256(read(folder, number).lora) == read(folder, number).record.sha256
        outcomes.append((died, release.lora.read_bytes()))
        assert released(folder, b"three").outcome == "new"  # and life goes on
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".") and path.name != ".lock"]
    assert outcomes[0] == (True, b"one")
    assert (True, b"two") in outcomes  # after the pointer moved, before the end
    assert outcomes[-1] == (False, b"two")
    assert outcomes == sorted(outcomes, key=lambda outcome: (outcome[1], not outcome[0]))


ACTIONS = st.tuples(st.sampled_from(["publish", "roll back"]), st.integers(1, 5), st.none() | st.integers(0, STEPS))


class Expected:
    """Expected state: contents by number, the current number, and the withdrawn ones."""

    def __init__(self) -> None:
        self.contents: dict[int, bytes] = {}
        self.number: int | None = None
        self.withdrawn: set[int] = set()

    def publish(self, content: bytes, new_number: int) -> None:
        same = [number for number, known in self.contents.items() if known == content]
        if not same:
            self.contents[new_number] = content
            self.number = new_number
        elif max(same) not in self.withdrawn:
            self.number = max(same)

    def roll_back(self, number: int, content: bytes) -> None:
        self.withdrawn |= set(self.contents)
        self.withdrawn -= {number}
        self.contents[number] = content
        self.number = number


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=12))
def test_any_history_of_publishing_rolling_back_and_being_killed(actions: list[tuple[str, int, int | None]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "releases"
        expected, seen = Expected(), {}
        for action, argument, dies in actions:
            moves, before = len(events(folder)), folders(folder)
            if action == "roll back" and (argument not in before or argument == expected.number):
                with pytest.raises(ReleaseError):
                    roll_back(folder, argument, "why", NOW)
                continue
            made = candidate(Path(root) / "made", b"content %d" % argument)
            act = partial(publish, folder, made) if action == "publish" else partial(roll_back, folder, argument, "why")
            died = killed_after(STEPS if dies is None else dies, partial(act, NOW))
            if not died or len(events(folder)) > moves:
                if action == "publish":
                    expected.publish(made.lora.read_bytes(), max(folders(folder)))
                else:
                    expected.roll_back(argument, read(folder, argument).lora.read_bytes())
            assert number_of(current(folder)) == expected.number
            found = all_releases(folder)
            assert {release.record.number: release.lora.read_bytes() for release in found} == expected.contents
            assert before <= folders(folder)
            for release in found:
                whole = {path.name: path.read_bytes() for path in release.folder.iterdir()}
                assert seen.setdefault(release.record.number, whole) == whole


def folders(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.glob("[0-9]*")}
