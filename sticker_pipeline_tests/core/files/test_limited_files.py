"""Users' files are read within limits; each refusal is one sentence."""

from pathlib import Path

import pytest

from sticker_pipeline.core.files.limited_files import (
    LimitedFileError,
    parse_json,
    parse_toml,
    parse_yaml,
)
from sticker_pipeline.core.kohya_settings.form import MOST_KEYS, KohyaSettingsError, Target
from sticker_pipeline.core.kohya_settings.read import read_kohya_settings

TARGET = Target("sd15", "sd15", 512, 10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "more than 32 deep"),
        ('{"a":' * 900 + "1" + "}" * 900, "more than 32 deep"),
        ("[" + "1," * 30_000 + "1]", "more than 20,000 values"),
        ("9" * 5_000, "a number of more than 100 digits"),
        ("1e999", "1e999 is no finite number"),
        ("NaN", "NaN is no number of JSON"),
        ('{"a": }', "line 1 column 7"),
    ],
)
def test_json_beyond_the_limits_is_a_sentence(text: str, words: str) -> None:
    with pytest.raises(LimitedFileError, match=words):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 100_000, "more than 32 deep"),
        ("a = " + "[" * 40 + "]" * 40, "more than 32 deep"),
        ("a" + ".a" * 100_000 + " = 1", "more than 200 dots"),  # tomllib keeps every beginning: gigabytes
        ("[a" + ".a" * 100_000 + "]", "more than 200 dots"),
        ("a = [" + "1," * 30_000 + "]", "more than 20,000 values"),
        ("a = " + "9" * 5_000, "digits"),
        ("a = 0x" + "f" * 5_000, "more than 100 digits"),
        ("a = [-1" + "0" * 100 + "]", "more than 100 digits"),
        ("a = 1e999", "1e999 is no finite number"),
        ("a = nan", "nan is no finite number"),
        ("a = 2024-31-12", "line 1"),
        ("a = 1\na = 2", "Cannot overwrite a value"),
    ],
)
def test_toml_beyond_the_limits_is_a_sentence(text: str, words: str) -> None:
    with pytest.raises(LimitedFileError, match=words):
        parse_toml(text)


def test_files_of_a_usual_size_are_read_as_before() -> None:
    assert parse_yaml("a: [1, 2.5, yes, ~, text, 2024-12-31]\n")["a"][:5] == [1, 2.5, True, None, "text"]
    assert parse_json('{"a": [1, 2.5, true, null, "text"]}') == {"a": [1, 2.5, True, None, "text"]}
    assert parse_toml("a = [1, 2.5, true, 'text']\n[b]\nc.d = 1") == {
        "a": [1, 2.5, True, "text"],
        "b": {"c": {"d": 1}},
    }


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "[" * 100_000, "is not valid JSON: lists and mappings lie more than 32 deep"),
        ("a.toml", "a = " + "[" * 100_000, "is not valid TOML: lists and mappings lie more than 32 deep"),
        ("a.json", '{"epoch": ' + "9" * 5_000 + "}", "is not valid JSON: 9"),
        ("a.json", " " * 300_000, "cannot be read: 300000 bytes: more than 262144"),
        ("a.json", "{" + ",".join(f'"k{i}": 1' for i in range(MOST_KEYS + 1)) + "}", "has more than 1,000 keys"),
        ("a.json", "{" + ",".join(f'"k{i}": 1' for i in range(500)) + "}", "480 more keys are refused"),
        ("a.json", '{"additional_parameters": "' + "--a " * 30_000 + '"}', "it has more than 1,000 words"),
        ("a.toml", "network_args = [" + "'a=1'," * 5_000 + "]", "it has more than 1,000 entries"),
        ("a.json", '{"\\u001b[31mred": "\\u202e"}', "unknown key '\\\\x1b\\[31mred'"),
        ("a.json", '{"epoch": "' + "x" * 100_000 + '"}', "more letters\\): it must be a"),
    ],
)
def test_a_strangers_kohya_file_is_a_sentence(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(KohyaSettingsError, match=words) as error:
        read_kohya_settings(tmp_path / name, TARGET)
    assert len(str(error.value)) < 8_000
    assert all(letter.isprintable() or letter == "\n" for letter in str(error.value))
