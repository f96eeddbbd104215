"""The folder sensor: new characters, observed roots, removed characters."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from PIL import Image

from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.core.texts import MOST_NAMED
from sticker_pipeline.dagster_kit.compat import DATA_VERSION_TAG, kept_text
from sticker_pipeline.defs import sensors
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import CHARACTER_ROOTS, STYLE_ROOTS
from sticker_pipeline.roots.character import VALUES
from sticker_pipeline.roots.others import MOST_OTHERS, other_characters
from sticker_pipeline.roots.style import MADE_OF
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.defs.sensor_look import look

ALL_ROOTS = sorted(root.key.path[-1] for root in CHARACTER_ROOTS)
ROSTER, SHARED = "roster", "shared"


@dataclass
class Folders:
    """Characters of one image each, and the sensor that looks at them; its effects are applied as the daemon does."""

    workspace: Workspace
    instance: dg.DagsterInstance
    cursor: str | None = None
    told: str = ""

    @property
    def root(self) -> Path:
        return Path(self.workspace.characters)

    def add(self, name: str, settings: str = "trigger: skv_{name}\n") -> None:
        (self.root / name / "art").mkdir(parents=True)
        Image.new("RGB", (8, 8), "red").save(self.root / name / "art" / "one.png")
        (self.root / name / "character.yaml").write_text(settings.format(name=name))

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of each scope that the history keeps for the cursor."""
        return dict(json.loads(kept_text(self.instance, sensors.STATE))["hashes"])

    @property
    def partitions(self) -> list[str]:
        return sorted(self.instance.get_dynamic_partitions("characters"))

    @property
    def styles(self) -> list[str]:
        return sorted(self.instance.get_dynamic_partitions("styles"))

    def look(self) -> dict[str | None, list[str]]:
        """One look of the sensor: the sections observed of each character (None: of all characters)."""
        result, events = look(self.instance, self.workspace, self.cursor)
        self.told = result.skip_message if isinstance(result, dg.SkipReason) else result.skip_reason.skip_message
        observed: dict[str | None, list[str]] = {}
        if isinstance(result, dg.SensorResult):
            self.cursor = result.cursor
            for request in result.dynamic_partitions_requests or []:
                if isinstance(request, dg.AddDynamicPartitionsRequest):
                    self.instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
                else:
                    for name in request.partition_keys:
                        self.instance.delete_dynamic_partition(request.partitions_def_name, name)
        for event in events:
            observed.setdefault(event.partition, []).append(event.asset_key.path[-1])
        return {name: sorted(sections) for name, sections in observed.items()}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    monkeypatch.delenv("STICKER_PROFILE", raising=False)
    workspace = Workspace(
        characters=str(tmp_path / "characters"),
        artifacts=str(tmp_path / "artifacts"),
        models=str(REPOSITORY / "data" / "models"),
    )
    with dg.DagsterInstance.ephemeral() as instance:
        yield Folders(workspace, instance)


def test_new_changed_removed_and_back(folders: Folders) -> None:
    folders.add("ada")
    folders.add("bo")
    assert folders.look() == {"ada": ALL_ROOTS, "bo": ALL_ROOTS, None: [ROSTER, SHARED]}
    assert folders.partitions == ["ada", "bo"]
    assert folders.told == "New: ada, bo."
    assert folders.look() == {}
    assert folders.told == "No character changed."

    Image.new("RGB", (8, 8), "blue").save(folders.root / "bo" / "art" / "two.png")
    assert folders.look() == {"bo": ["media"]}
    assert folders.told == "bo: one new file."

    shutil.move(folders.root / "bo", folders.root.parent / "aside")
    assert folders.look() == {None: [ROSTER]}
    assert folders.told == "Removed: bo."
    assert folders.partitions == ["ada"]
    assert folders.look() == {}
    assert folders.hashes.keys() == {"ada", "all characters"}

    shutil.move(folders.root.parent / "aside", folders.root / "bo")
    assert folders.look() == {None: [ROSTER]}  # Dagster's history has the rest
    assert folders.partitions == ["ada", "bo"]


def test_a_tick_names_what_changed(folders: Folders) -> None:
    for name in ("ada", "bo"):
        folders.add(name)
    folders.look()
    art = folders.root / "ada" / "art"
    for number in range(3):
        Image.new("RGB", (8, 8), "blue").save(art / f"{number}.png")
    (folders.root / "bo" / "character.yaml").write_text("trigger: skv_other\ntraining: {epochs: 3}\n")
    folders.look()
    assert folders.told.splitlines() == ["ada: 3 new files.", "bo: curation, training changed."]
    (art / "0.png").unlink()
    folders.look()
    assert folders.told == "ada: one removed file."
    Image.new("RGB", (8, 8), "green").save(art / "1.png")
    folders.look()
    assert folders.told == "ada: files changed."
    (folders.root / "ada" / "character.yaml").write_text("trigger: skv_ada\nmedia: {crop_margin: 0.2}\n")
    Image.new("RGB", (8, 8), "green").save(art / "4.png")
    folders.look()
    assert folders.told == "ada: one new file; frames changed."


def test_a_tick_is_short_however_many_have_changed(folders: Folders) -> None:
    names = [f"c{number:02}" for number in range(MOST_NAMED + 12)]
    for name in names:
        folders.add(name)
    folders.look()
    assert folders.told == f"New: {', '.join(names[:MOST_NAMED])} and 12 more."
    for name in names:
        Image.new("RGB", (8, 8), "blue").save(folders.root / name / "art" / "two.png")
    folders.look()
    assert folders.told.splitlines() == [
        *(f"{name}: one new file." for name in names[:MOST_NAMED]),
        "And 12 more changed.",
    ]
    for name in names:
        (folders.root / name / "character.yaml").write_text("trigger: [\n")
    folders.look()
    problems = folders.told.splitlines()
    assert len(problems) == 1 + MOST_NAMED + 1
    assert problems[0] == "all characters: roster changed." and problems[-1] == "And 12 more: sticker-pipeline doctor"


def test_what_runs_have_made_changes_no_character(folders: Folders) -> None:
    folders.add("ada")
    folders.look()
    cursor = folders.cursor
    publish_dataset(folders, "ada")
    folders.look()
    assert folders.told == "ada: artifacts differ from the history: frames, curated_tags, training_set."
    manifest = folders.workspace.store.folder("ada", "frames") / "artifact.json"
    os.utime(manifest, ns=(1, 1))
    assert folders.look() == {} and folders.told == sensors.NOTHING
    assert folders.cursor != cursor


def test_the_roster_is_that_of_the_valid_characters(folders: Folders) -> None:
    folders.add("ada")
    folders.add("bo", "trigger: [\n")
    assert folders.look() == {"ada": ALL_ROOTS, None: [ROSTER, SHARED]}
    record = folders.instance.get_latest_data_version_record(dg.AssetKey(["character", ROSTER]))
    assert record is not None and record.asset_observation is not None
    assert record.asset_observation.tags[DATA_VERSION_TAG] == content_hash({"roster": ["ada"]})


def test_what_characters_share_is_observed_once_it_is_there(folders: Folders) -> None:
    folders.add("ada")
    folders.look()
    store = folders.workspace.store
    for profile in ("embedded", "sdxl"):  # which no character has
        with store.writing(f"_profiles/{profile}", "lcm_lora") as staging:
            (staging / "lora.safetensors").write_bytes(profile.encode())
            made = store.publish(staging, f"_profiles/{profile}", "lcm_lora", code_version="1", inputs={}, settings={})
        if profile == "embedded":
            versions = {"embedded/lcm_lora": made.data_version}
            assert folders.look()[None] == [SHARED]
    assert None not in folders.look()
    record = folders.instance.get_latest_data_version_record(dg.AssetKey(["character", SHARED]))
    assert record is not None and record.asset_observation is not None
    assert record.asset_observation.tags[DATA_VERSION_TAG] == content_hash({"shared": versions})


def test_a_damaged_artifact_stops_nobody_else(folders: Folders) -> None:
    folders.add("ada")
    folders.add("bo")
    manifest = folders.workspace.store.folder("ada", "selected_lora") / "artifact.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(b"")
    assert folders.look() == {"bo": ALL_ROOTS, None: [ROSTER, SHARED]}
    assert folders.partitions == ["ada", "bo"]
    assert f"ada: {manifest} is damaged: " in folders.told and "materialize that again" in folders.told
    shutil.rmtree(manifest.parent)
    assert folders.look() == {"ada": ALL_ROOTS}


def test_an_artifact_without_its_file_stops_nobody_else(folders: Folders) -> None:
    folders.add("ada")
    folders.add("bo")
    publish_dataset(folders, "ada")
    store = folders.workspace.store
    with store.writing("ada", "selected_lora") as staging:
        store.publish(staging, "ada", "selected_lora", code_version="1", inputs={}, settings={})
    assert folders.look().keys() == {"bo", None}
    assert "ada: " in folders.told and "has no lora.safetensors" in folders.told


def test_artifacts_that_come_and_go_are_noticed(folders: Folders) -> None:
    """Also where no file and no setting of the character has changed."""
    folders.add("ada")
    folders.look()
    publish_dataset(folders, "ada")
    assert folders.look()["ada"] == sorted(MADE_OF)
    assert folders.look() == {}
    folder = folders.workspace.store.folder("ada", "frames")
    folder.rename(folder.parent / ".aside")
    assert "frames" in folders.look()["ada"]
    (folder.parent / ".aside").rename(folder)
    assert "frames" in folders.look()["ada"]
    assert folders.look() == {}


def test_folders_that_cannot_be_worked_on_are_one_sentence(folders: Folders) -> None:
    folders.add("ada")
    folders.workspace = Workspace(
        characters=str(folders.root), artifacts=str(folders.root / "ada" / "out"), models=folders.workspace.models
    )
    assert folders.look() == {}
    assert folders.told.startswith(f"STICKER_ARTIFACTS={folders.root}/ada/out: it is inside STICKER_CHARACTERS=")
    assert not (folders.root / "ada" / "out").exists()


def test_a_mistake_in_the_settings_removes_nobody(folders: Folders) -> None:
    folders.add("ada")
    folders.add("bo")
    folders.look()
    cursor = folders.cursor
    (folders.root / "bo" / "character.yaml").write_text("tricker: skv_bo\n")
    assert folders.look() == {None: [ROSTER]}
    assert folders.partitions == ["ada", "bo"]
    assert "tricker" in folders.told
    (folders.root / "bo" / "character.yaml").write_text("trigger: skv_bo\n")
    assert folders.look() == {None: [ROSTER]}  # as it was before the mistake: nothing else is observed again
    assert folders.cursor == cursor


@pytest.mark.parametrize("missing", ["the folder", "all of its content", "a disk"])
def test_without_the_characters_folder_nobody_is_removed(folders: Folders, missing: str) -> None:
    folders.add("ada")
    folders.look()
    cursor = folders.cursor
    shutil.rmtree(folders.root)
    if missing == "all of its content":
        folders.root.mkdir()
    if missing == "a disk":
        folders.root.symlink_to("nowhere")
    assert folders.look() == {}
    assert folders.partitions == ["ada"]
    assert str(folders.root) in folders.told and "No character is removed." in folders.told
    assert folders.cursor == cursor


def test_a_folder_on_a_disk_that_is_not_there_is_not_gone(folders: Folders) -> None:
    folders.add("ada")
    folders.add("bo")
    folders.look()
    shutil.rmtree(folders.root / "bo")
    (folders.root / "bo").symlink_to("nowhere")
    folders.look()
    assert folders.partitions == ["ada", "bo"]


def test_a_folder_without_its_settings_is_no_character(folders: Folders) -> None:
    folders.add("ada")
    folders.add("bo")
    folders.look()
    (folders.root / "bo" / "character.yaml").unlink()
    folders.look()
    assert folders.partitions == ["ada"]
    assert (folders.root / "bo" / "art" / "one.png").is_file()


def test_a_character_that_cannot_be_observed_holds_no_other(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.add("ada")
    folders.add("bo")
    real = VALUES["media"]

    def broken(character, *rest):  # type: ignore[no-untyped-def]
        if character.name == "ada":
            raise OSError("Input/output error: 'one.png'")
        return real(character, *rest)

    monkeypatch.setitem(VALUES, "media", broken)
    assert folders.look() == {"bo": ALL_ROOTS, None: [ROSTER, SHARED]}
    assert "ada: Input/output error: 'one.png'" in folders.told
    monkeypatch.setitem(VALUES, "media", real)
    assert folders.look() == {"ada": ALL_ROOTS}


def test_a_first_look_at_many_is_spread_over_several(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "EVENTS_A_LOOK", 2 * len(CHARACTER_ROOTS))
    names = [f"c{number}" for number in range(5)]
    for name in names:
        folders.add(name)
    assert folders.look().keys() == {"c0", "c1"}
    assert folders.told.splitlines() == ["New: c0, c1.", "4 more are looked at next time."]
    assert folders.partitions == ["c0", "c1"]
    assert folders.look().keys() == {"c2", "c3"}
    Image.new("RGB", (8, 8), "blue").save(folders.root / "c0" / "art" / "two.png")
    assert folders.look() == {"c4": ALL_ROOTS, None: [ROSTER, SHARED], "c0": ["media"]}
    assert folders.look() == {}
    assert folders.partitions == names
    assert re.fullmatch("[0-9a-f]{16}", folders.cursor or "")


@pytest.mark.parametrize(
    "clock", [pytest.param((0, 6, 12, 18, 24), id="quick"), pytest.param((0, 20, 21, 26, 27), id="long to load")]
)
def test_a_look_ends_by_the_clock_and_the_next_goes_on(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, clock: tuple[int, ...]
) -> None:
    folders.add("ada")
    folders.add("bo")
    with monkeypatch.context() as slow:
        slow.setattr(sensors, "time", SimpleNamespace(monotonic=iter(clock).__next__))
        assert folders.look().keys() == {"ada"}
    assert folders.partitions == ["ada"]
    assert folders.look() == {"bo": ALL_ROOTS, None: [ROSTER, SHARED]}


@pytest.mark.parametrize("cursor", ["", "{", "\x00", "[" * 100_000, '{"hashes": {}, "go_on": ""}', "0123456789abcdef"])
def test_without_a_cursor_nothing_is_observed_twice(folders: Folders, cursor: str) -> None:
    folders.add("ada")
    folders.look()
    known, folders.cursor = folders.cursor, cursor
    assert folders.look() == {}
    assert folders.cursor == known


def test_a_new_character_changes_what_few_others_are_told_apart_from(folders: Folders) -> None:
    names = [f"c{number:03}" for number in range(3 * MOST_OTHERS)]
    for name in names:
        (folders.root / name / "art").mkdir(parents=True)
        (folders.root / name / "character.yaml").write_text(f"trigger: skv_{name}\n")
        for asset in ("training_set", "frames"):
            folder = folders.workspace.store.folder(name, asset)
            folder.mkdir(parents=True)
            (folder / "artifact.json").touch()

    def others() -> dict[str, list[str]]:
        store = folders.workspace.store.snapshot()
        return {name: other_characters(folders.workspace.character(name), store) for name in names}

    before = others()
    assert all(len(set(found)) == MOST_OTHERS and name not in found for name, found in before.items())
    (folders.workspace.store.folder(names[0], "frames") / "artifact.json").unlink()
    changed = {name for name, found in others().items() if found != before[name]}
    assert changed == {name for name, found in before.items() if names[0] in found}
    assert len(changed) == MOST_OTHERS


def publish_dataset(folders: Folders, name: str, content: str = "first") -> None:
    """Artifacts of the name that a style is made of, as far as their versions go."""
    store = folders.workspace.store
    for asset in MADE_OF:
        with store.writing(name, asset) as staging:
            (staging / "index.parquet").write_text(content)
            store.publish(staging, name, asset, code_version="1", inputs={}, settings={})


def test_a_style_is_one_once_two_characters_have_a_dataset(folders: Folders) -> None:
    styled = "trigger: skv_{name}\nstyle: chibi\n"
    for name in ("ada", "bo"):
        folders.add(name, styled)
    folders.add("eve")
    folders.look()
    publish_dataset(folders, "ada")
    publish_dataset(folders, "eve")
    assert "chibi" not in folders.look() and folders.styles == []
    publish_dataset(folders, "bo")
    assert folders.look()["chibi"] == sorted(root.key.path[-1] for root in STYLE_ROOTS)
    assert folders.styles == ["chibi"]
    assert folders.told == (
        "New style: chibi.\nada: others changed.\n"
        "bo: artifacts differ from the history: frames, curated_tags, training_set.\neve: others changed."
    )
    assert folders.look() == {}
    publish_dataset(folders, "eve", "second")
    assert "chibi" not in folders.look()
    publish_dataset(folders, "bo", "second")
    assert folders.look() == {"chibi": ["members"], "bo": sorted(MADE_OF)}


def test_a_style_that_nobody_names_is_removed_but_not_by_a_mistake(folders: Folders) -> None:
    styled = "trigger: skv_{name}\nstyle: chibi\n"
    for name in ("ada", "bo"):
        folders.add(name, styled)
        publish_dataset(folders, name)
    folders.look()
    for name in ("ada", "bo"):
        (folders.root / name / "character.yaml").write_text("trigger: [\n")
    folders.look()
    assert folders.styles == ["chibi"]
    (folders.root / "bo" / "character.yaml").write_text("trigger: skv_bo\n")
    (folders.root / "ada").rename(folders.root.parent / "ada")
    (folders.root / "ada").symlink_to("nowhere")  # a disk that is not there
    folders.look()
    assert folders.styles == ["chibi"]
    (folders.root / "ada").unlink()
    (folders.root.parent / "ada").rename(folders.root / "ada")
    (folders.root / "ada" / "character.yaml").write_text("trigger: skv_ada\nstyle: chibi\n")
    folders.look()
    assert folders.styles == ["chibi"]  # one still names it
    (folders.root / "ada" / "character.yaml").write_text("trigger: skv_ada\n")
    folders.look()
    assert folders.styles == []
    assert folders.told == "Removed style: chibi."
    assert "style chibi" not in folders.hashes
    for name in ("ada", "bo"):
        (folders.root / name / "character.yaml").write_text(styled.format(name=name))
    folders.look()
    assert folders.styles == ["chibi"]
    assert "style chibi" in folders.hashes


def test_a_style_needs_one_profile(folders: Folders) -> None:
    folders.add("ada", "trigger: skv_{name}\nstyle: chibi\n")
    folders.add("bo", "trigger: skv_{name}\nstyle: chibi\nprofile: sd15\n")
    for name in ("ada", "bo"):
        publish_dataset(folders, name)
    folders.look()
    assert folders.styles == []
    assert "Style 'chibi': its characters need one profile" in folders.told
    assert "ada has embedded, bo has sd15" in folders.told
