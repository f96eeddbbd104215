"""An invalid character gives one sentence; every other character continues."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner

from sticker_pipeline.cli import update, work
from sticker_pipeline.cli.commands import main
from sticker_pipeline.core.character import CharacterError, character_folders, folders_of_nobody, load_character
from sticker_pipeline.core.files import limited_files
from sticker_pipeline.core.files.limited_files import MOST_VALUES, LimitedFileError, parse_yaml
from sticker_pipeline.core.storage import StorageError
from sticker_pipeline.definitions import defs
from sticker_pipeline.defs import sensors
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace, workspace_from_environment
from sticker_pipeline.roots.character import VALUES
from sticker_pipeline_tests.bad_characters import BOMB, RIVALS, SETTINGS, T, add_character, bad_files, with_rival
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.defs.sensor_look import look

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="named pipes")

MOST_LETTERS = 500  # of a sentence, beside the name of the folder
RIVAL_NAMES = [f"rival-{number}" for number in range(len(RIVALS))]
FILES = ("pipe", "folder", "itself", "to-nothing", "to-zero", "hidden-group", "Upper\\u202e")


@dataclass
class Told:
    """Messages of doctor and update for a workspace of many bad characters, and the sensor's observations."""

    root: Path
    words: dict[str, str]
    doctor: str
    update: str
    chosen: list[str]
    observed: set[str | None]
    partitions: list[str]
    sensor: str

    def lines(self, text: str, label: str, name: str) -> list[str]:
        """The lines about the character after a label, and those that go on about it."""
        about = (f"{self.root / name}/", f"{self.root / name}:", f"{self.root / name} ", f"'{name}'", f"{name}: ")
        lines = [line.removeprefix(label).strip() for line in text.splitlines() if line.startswith(label)]
        return [line for line in lines if line.startswith(about)]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("strangers")
    root = folder / "characters"
    root.mkdir()
    words = bad_files(root) | {name: words for name, (_, words) in SETTINGS.items()}
    for name, (settings, _) in SETTINGS.items():
        if not (root / name).exists():
            add_character(root / name, settings)
    for name, lora in zip(RIVAL_NAMES, RIVALS, strict=True):
        add_character(root / name, with_rival(lora))
    add_character(root / "zzz-good", "trigger: skv_good\n")
    chosen: list[str] = []

    def fake(definitions, instance, workspace, characters, console, stopping):  # type: ignore[no-untyped-def]
        chosen.extend(character.name for character, _ in characters)
        return update.Updated([], [])

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(folder / "dagster"))
        patch.setenv("STICKER_CHARACTERS", str(root))
        patch.setenv("STICKER_ARTIFACTS", str(folder / "artifacts"))
        patch.setenv("STICKER_MODELS", str(REPOSITORY / "data" / "models"))
        patch.delenv("STICKER_PROFILE", raising=False)
        patch.setattr(update, "update", fake)
        patch.setattr(sensors, "MOST_NAMED", 1000)  # else a tick has the first ones, and its log all
        doctor, updated = CliRunner().invoke(main, ["doctor"]), CliRunner().invoke(work.main, ["update"])
        assert doctor.exit_code == 0, doctor.output
        with dg.DagsterInstance.ephemeral() as instance:
            result, reported = look(instance, workspace_from_environment())
    assert isinstance(result, dg.SensorResult)
    (request,) = result.dynamic_partitions_requests or []
    said = result.skip_reason.skip_message
    observed = {event.partition for event in reported}
    yield Told(root, words, doctor.output, updated.output, chosen, observed, sorted(request.partition_keys), said or "")


@pytest.mark.parametrize("name", [*SETTINGS, *FILES])
def test_a_bad_character_is_one_sentence(told: Told, name: str) -> None:
    for text, label in ((told.doctor, "problem "), (told.update, "left out:")):
        (line,) = told.lines(text, label, name)
        assert len(line.replace(str(told.root), "")) <= MOST_LETTERS
        assert told.words[name] in text
    assert told.words[name] in told.sensor
    assert name not in told.chosen and name not in told.observed and name not in told.partitions


def test_the_others_go_on(told: Told) -> None:
    valid = sorted(["zzz-good", *RIVAL_NAMES])
    assert told.chosen == told.partitions == valid
    assert told.observed == {None, *valid}
    assert "ok           zzz-good (profile embedded)" in told.doctor


@pytest.mark.parametrize(("name", "lora"), list(zip(RIVAL_NAMES, RIVALS, strict=True)), ids=lambda value: value[:20])
def test_a_bad_rival_is_one_sentence_and_its_character_goes_on(told: Told, name: str, lora: str) -> None:
    (line,) = told.lines(told.doctor, "problem ", name)
    assert line.startswith(f"{name}: Rival 'other' is left out: ") and RIVALS[lora] in line
    assert len(line.replace(str(told.root), "")) <= MOST_LETTERS
    assert f"ok           {name} (profile embedded)" in told.doctor


def test_nothing_of_a_stranger_moves_the_cursor(told: Told) -> None:
    for text in (told.doctor, told.update, told.sensor):
        assert {letter for letter in text if not letter.isprintable()} == {"\n"}


def test_a_bomb_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    monkeypatch.setattr(yaml.SafeLoader, "construct_document", lambda self, node: built.append(node))
    for text in (BOMB, "[" + "1," * 100_000 + "]", "[" * 100_000):
        with pytest.raises(LimitedFileError):
            parse_yaml(text)
    assert not built
    counted = []
    count = limited_files._Loader._count

    def counting(self, values, depth, mark):  # type: ignore[no-untyped-def]
        counted.append(values)
        count(self, values, depth, mark)

    monkeypatch.setattr(limited_files._Loader, "_count", counting)
    with pytest.raises(LimitedFileError):
        parse_yaml(BOMB)
    assert sum(counted) <= MOST_VALUES + max(counted)
    assert len(counted) < 100


def test_aliases_and_merges_of_a_usual_size_are_read(tmp_path: Path) -> None:
    text = T + "groups:\n  gifs: &a {learned: [one], share: 2}\n  art: {<<: *a, medium: art}\n"
    (add_character(tmp_path / "luma", text) / "art").mkdir()
    groups = load_character(tmp_path / "luma").groups
    assert groups["art"].learned == groups["gifs"].learned == ["one"]
    assert groups["art"].share == 2 and groups["art"].medium == "art"


def test_joiners_inside_words_and_emoji_are_no_hidden_letters(tmp_path: Path) -> None:
    tags = [
        "GIF\u200cها",
        "20\u200cساله",
        "T\u200cشرت",
        "അവന\u0d4d\u200d",
        "می\u200cخواهم",
        "👩\u200d🎨",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    ]
    text = T + "curation:\n  blacklist:\n" + "".join(f"  - {tag}\n" for tag in tags)
    assert load_character(add_character(tmp_path / "luma", text)).settings.curation.blacklist == tags


def test_a_prompt_of_several_lines_is_read(tmp_path: Path) -> None:
    text = T + "benchmark:\n  prompts:\n    - |\n      smile,\n      arms up\n"
    character = load_character(add_character(tmp_path / "luma", text))
    assert character.settings.benchmark.prompts == ["smile,\narms up\n"]


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder in which this process has no more rights than any other."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        if not os.access(folder, os.W_OK, effective_ids=True):
            pytest.skip("temporary folders are root's alone")
        yield folder
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)


def test_what_may_not_be_read_is_said(nobody: Path) -> None:
    for name in ("entered", "file", "group", "listed"):
        add_character(nobody / name, T)
    (nobody / "file" / "character.yaml").chmod(0)
    (nobody / "group" / "gifs").chmod(0)
    (nobody / "listed").chmod(0o444)
    (nobody / "entered").chmod(0)
    try:
        assert [folder.name for folder in character_folders(nobody)] == ["entered", "file", "group", "listed"]
        assert folders_of_nobody(nobody) == []
        workspace = Workspace(characters=str(nobody), artifacts=str(nobody / "artifacts"), models=str(nobody))
        valid, problems = workspace.valid_characters()
        assert [character.name for character, _ in valid] == ["group"]
        for name, problem in zip(("entered", "file", "listed"), problems, strict=True):
            assert problem == f"{nobody / name / 'character.yaml'} cannot be read: Permission denied."
    finally:
        for name in ("entered", "listed"):
            (nobody / name).chmod(0o777)


def test_a_folder_of_nobody_is_not_followed_out(tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "all").symlink_to("/")
    assert folders_of_nobody(tmp_path) == []


def test_a_mistake_that_no_sentence_foresees_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sticker_pipeline.defs import resources

    add_character(tmp_path / "bad", T)
    add_character(tmp_path / "good", T)
    real = resources.load_character

    def broken(folder: Path):  # type: ignore[no-untyped-def]
        if folder.name == "bad":
            raise RecursionError("too \x1b[31mdeep")
        return real(folder)

    monkeypatch.setattr(resources, "load_character", broken)
    workspace = Workspace(
        characters=str(tmp_path), artifacts=str(tmp_path / "artifacts"), models=str(REPOSITORY / "data" / "models")
    )
    valid, problems = workspace.valid_characters()
    assert [character.name for character, _ in valid] == ["good"]
    assert problems == [f"{tmp_path / 'bad'}: too \\x1b[31mdeep"]


def test_a_damaged_artifact_of_one_character_stops_no_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_character(tmp_path / "characters" / "bad", T)
    add_character(tmp_path / "characters" / "good", T)
    workspace = Workspace(
        characters=str(tmp_path / "characters"),
        artifacts=str(tmp_path / "artifacts"),
        models=str(REPOSITORY / "data" / "models"),
    )
    made: list[str] = []
    real = VALUES["release"]

    def value(character, *rest):  # type: ignore[no-untyped-def]
        if character.name == "bad":
            raise StorageError("artifact.json is \x1b[31mcut off.")
        return real(character, *rest)

    def make(work, job, scope, partition, look):  # type: ignore[no-untyped-def]
        made.append(scope)
        return "made"

    monkeypatch.setitem(VALUES, "release", value)
    monkeypatch.setattr(update, "_make_stale", make)
    from sticker_pipeline.core.process.output import CONSOLE

    with dg.DagsterInstance.ephemeral() as instance, CONSOLE.capture() as shown:
        result = update.update(defs(), instance, workspace, workspace.valid_characters()[0], CONSOLE)
        assert set(instance.get_dynamic_partitions(str(CHARACTERS.name))) == {"bad", "good"}
    assert result.failed == ["bad"] and set(made) == {"good"}
    assert "left out: bad: artifact.json is \\x1b[31mcut off." in shown.get()


def test_a_character_error_shows_what_nobody_sees() -> None:
    assert str(CharacterError("a\x1b[31mb\u202ec\nd")) == "a\\x1b[31mb\\u202ec\nd"


@pytest.mark.parametrize("name", ["../good", "good/../good", "/etc", ".", "..", ""])
def test_no_name_of_a_partition_leads_elsewhere(tmp_path: Path, name: str) -> None:
    """Whoever may launch a run can name any partition."""
    add_character(tmp_path / "characters" / "good", T)
    places = {part: str(tmp_path / part) for part in ("characters", "artifacts", "models")}
    with pytest.raises(CharacterError, match="cannot be a character's name"):
        Workspace(**places).character(name)
