"""Valid values of character.yaml, and the messages for invalid ones."""

import unicodedata
from pathlib import Path

import pytest
from pydantic import ValidationError

from sticker_pipeline.benchmark.measure import BASE, CHANCE, LORA, REFERENCE, RELEASED
from sticker_pipeline.core.character import (
    OUR_MODELS,
    CharacterError,
    Curation,
    Gate,
    Group,
    Settings,
    character_folders,
    laxer_than_default,
    load_character,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for group in ("gifs", "stickers", "art", "rivals", ".hidden"):
        (tmp_path / "luma" / group).mkdir(parents=True)
    return tmp_path / "luma"


def write(folder: Path, text: str) -> Path:
    (folder / "character.yaml").write_text(text)
    return folder


def test_only_the_trigger_is_required(folder: Path) -> None:
    character = load_character(write(folder, "trigger: luma_char\n"))
    assert character.trigger == "luma_char"
    assert character.groups == {"art": Group(medium="art"), "gifs": Group(), "stickers": Group()}
    assert character.settings.benchmark.holdout == 0.15


def test_every_key_of_the_design(folder: Path) -> None:
    text = """
trigger: hsr_luma
profile: embedded
style: chibi
groups:
  gifs: {learned: [hsr_sticker]}
  stickers: {learned: [hsr_sticker], share: 2.0}
  art: {medium: art}
curation: {blacklist: [a], inherent: auto, aliases: {serafuku: school uniform}, weights: {smile: 1.2}, min_images: 2}
training: {preset: default, rank: 8}
benchmark:
  holdout: [stickers/a.png]
  prompts: [smile]
  rivals: [{name: tensorart, lora: rivals/other.safetensors, trigger: luma}]
"""
    settings = load_character(write(folder, text)).settings
    assert settings.style == "chibi"
    assert settings.groups["stickers"].share == 2.0
    assert settings.curation.aliases == {"serafuku": "school uniform"}
    assert settings.benchmark.holdout == ["stickers/a.png"]
    assert settings.benchmark.rivals[0].strength == 1.0


def test_sections_whose_lines_are_all_commented_out_are_defaults(folder: Path) -> None:
    character = load_character(write(folder, "trigger: a\ngroups:\n  gifs:\ncuration:\nbenchmark:\n"))
    assert character.groups == {"gifs": Group()}
    assert character.settings.curation.inherent == "auto"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("profile: embedded\n", ["character.yaml", "'trigger' is missing", "trigger: my_made_up_word"]),
        ("triger: a\n", ["unknown key 'triger'", "Did you mean 'trigger'"]),
        ("trigger: a\ncuration: {blaklist: [x]}\n", ["'curation.blaklist'", "Did you mean 'blacklist'"]),
        ("trigger: a\ngroups: {gifs: {lerned: [x]}}\n", ["'groups.gifs.lerned'", "Did you mean 'learned'"]),
        ("trigger: a\ngroups: {gfis: {}}\n", ["groups.gfis", "no folder", "Did you mean 'gifs'"]),
        ("trigger: two words\n", ["'trigger' = 'two words'"]),
        ("trigger: a\ngroups: {gifs: {share: -1}}\n", ["groups.gifs.share", "greater than 0"]),
        ("trigger: a\nstyle: Chibi\n", ["'style' = 'Chibi'"]),
        ("trigger: a\nstyle: ../b\n", ["'style' = '../b'"]),
        ("trigger: [\n", ["not valid YAML"]),
        ("", ["must hold keys"]),
    ],
)
def test_a_fault_is_named_with_its_file_and_key(folder: Path, text: str, sentences: list[str]) -> None:
    with pytest.raises(CharacterError) as error:
        load_character(write(folder, text))
    for sentence in ["character.yaml", *sentences]:
        assert sentence in str(error.value)


def test_a_folder_without_settings_or_media_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "luma").mkdir()
    with pytest.raises(CharacterError, match="is missing"):
        load_character(tmp_path / "luma")
    with pytest.raises(CharacterError, match="no media folder"):
        load_character(write(tmp_path / "luma", "trigger: a\n"))


@pytest.mark.parametrize("name", ["Luma", "-luma", "lu ma", "lumä", ".luma"])
def test_names_that_could_leave_their_folder_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "gifs").mkdir(parents=True)
    with pytest.raises(CharacterError, match="cannot be a character's name"):
        load_character(write(tmp_path / name, "trigger: a\n"))


def test_character_folders_are_those_with_a_character_yaml(folder: Path) -> None:
    (folder.parent / "not_a_character").mkdir()
    assert list(character_folders(folder.parent)) == []
    write(folder, "trigger: a\n")
    assert list(character_folders(folder.parent)) == [folder]
    assert list(character_folders(folder.parent / "missing")) == []


def test_no_rival_takes_the_name_of_a_row_of_the_tables() -> None:
    assert set(OUR_MODELS) == {BASE, LORA, RELEASED, REFERENCE, CHANCE}


@pytest.mark.parametrize("names", [["base"], ["a", "a"], ["released", "b"]])
def test_rivals_have_names_of_their_own(names: list[str]) -> None:
    rivals = [{"name": name, "lora": "rivals/x.safetensors", "trigger": "x"} for name in names]
    with pytest.raises(ValidationError, match=f"these are taken: {names[0]}"):
        Settings.model_validate({"trigger": "luma", "benchmark": {"rivals": rivals}})


def test_a_group_may_be_spelled_otherwise_than_its_folder(tmp_path):
    folder = tmp_path / "luma"
    (folder / unicodedata.normalize("NFD", "ガール")).mkdir(parents=True)
    (folder / "Art").mkdir()
    text = "trigger: skv_luma\ngroups: {ガール: {share: 2}, art: {medium: art}}\n"
    (folder / "character.yaml").write_text(text, encoding="utf-8")
    shares = {name: group.share for name, group in load_character(folder).groups.items()}
    assert shares == {
        unicodedata.normalize("NFD", "ガール"): 2,
        "Art": 1,
    }
    (folder / "ART").mkdir()
    with pytest.raises(CharacterError, match=r"groups\.art: there is no folder"):
        load_character(folder)


def test_brackets_copied_from_other_uis_are_plain_in_every_list():
    curation = Curation(blacklist=[r"star \(symbol\)"], aliases={r"a \(b\)": r"c \(d\)"}, weights={r"e \(f\)": 1.1})
    assert curation.blacklist == ["star (symbol)"]
    assert curation.aliases == {"a (b)": "c (d)"}
    assert curation.weights == {"e (f)": 1.1}


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "__MACOSX", ".git"])
def test_folders_of_systems_are_no_groups(tmp_path, name):
    for folder in ("gifs", name):
        (tmp_path / "luma" / folder).mkdir(parents=True)
    (tmp_path / "luma" / "character.yaml").write_text("trigger: skv_luma")
    assert list(load_character(tmp_path / "luma").groups) == ["gifs"]


def test_two_spellings_of_one_folder_are_an_error(folder: Path) -> None:
    write(folder, "trigger: skv\ngroups: {Gifs: {share: 2}, gifs: {share: 3}}")
    with pytest.raises(CharacterError, match="groups: Gifs, gifs are the same folder"):
        load_character(folder)


def test_a_file_of_settings_in_another_encoding_is_read_or_named(folder: Path) -> None:
    (folder / "character.yaml").write_bytes("trigger: skv_ü".encode("utf-16"))
    assert load_character(folder).trigger == "skv_ü"
    (folder / "character.yaml").write_bytes("trigger: skv_ü".encode("cp1252"))
    with pytest.raises(CharacterError, match="cannot be read: byte 13 is not UTF-8: save it as UTF-8"):
        load_character(folder)


@pytest.mark.parametrize("value", ["9" * 5000, "2024-13-45", "[" * 2000])
def test_values_that_yaml_makes_nothing_of_are_refused(folder: Path, value: str) -> None:
    (folder / "character.yaml").write_text(f"trigger: nova_tag\nstyle: {value}\n")
    with pytest.raises(CharacterError, match=r"character\.yaml is not valid YAML"):
        load_character(folder)


LAXER = {
    "gain": 0.1, "copies": 0.3, "copies_beyond_references": 0.2, "diversity": 0.4, "one_source": 0.6, "identity": 0.7,
    "fidelity": 0.4, "loss_of_gain": 0.2, "more_copies": 0.2, "less_diversity": 0.3, "unmeasured": "release",
}  # fmt: skip
STRICTER = {
    "gain": 0.3, "copies": 0.1, "copies_beyond_references": 0.1, "diversity": 0.6, "one_source": 0.4, "identity": 0.9,
    "fidelity": 0.6, "loss_of_gain": 0.0, "more_copies": 0.0, "less_diversity": 0.1,
}  # fmt: skip


def test_each_limit_of_the_gate_is_laxer_on_one_side() -> None:
    assert set(LAXER) == set(Gate.model_fields)  # a new limit needs a side
    assert laxer_than_default(Gate()) == laxer_than_default(Gate.model_validate(STRICTER)) == []
    sentences = laxer_than_default(Gate.model_validate(LAXER))
    assert [sentence.split()[0] for sentence in sentences] == [f"benchmark.gate.{name}" for name in LAXER]
    assert sentences[0].startswith("benchmark.gate.gain is 0.1, laxer than the default 0.2: the LoRA's similarity must")


def test_an_unknown_key_is_a_short_sentence(tmp_path: Path) -> None:
    (tmp_path / "luma" / "gifs").mkdir(parents=True)
    path = tmp_path / "luma" / "character.yaml"
    for line, said in (
        ("benchmark: {gate: {one_clip: 0.4}}", "'benchmark.gate.one_clip' is called 'one_source' now."),
        ("benchmark: {holdot: 0.1}", "unknown key 'benchmark.holdot'. Did you mean 'holdout'?"),
        ("trigger: 1999", "'trigger': 1999 is read as a number, or yes or no: put it into quotes if it is text."),
        ("style: 2024-01-02", "'style': 2024-01-02 is read as a date: put it into quotes if it is text."),
    ):
        path.write_text(line + ("" if line.startswith("trigger") else "\ntrigger: luma_x") + "\n")
        with pytest.raises(CharacterError) as caught:
            load_character(tmp_path / "luma")
        assert str(caught.value) == f"{path}: {said}"
