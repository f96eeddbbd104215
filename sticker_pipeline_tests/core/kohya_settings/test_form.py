"""The table of keys, and how values and additional flags are read."""

from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.core.kohya_settings.form import EXTRA, KohyaSettingsError, parse, read_form, read_object, rows
from sticker_pipeline.core.kohya_settings.rules import RULES
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline_tests.core.kohya_settings.files import SD15


def test_the_table_is_whole() -> None:
    assert len(rows()) > 300
    flags = [row.flag for row in rows().values() if row.flag]
    assert len(flags) == len(set(flags))
    assert {key for key, row in rows().items() if row.role == "rule"} == set(RULES)
    for key, row in rows().items():
        assert row.kind in ("", "text", "whole", "number", "numbers", "switch"), key
        assert not key.startswith("--") or row.flag == key[2:], key
        if row.role == "setting":
            assert row.note in TrainingSettings.model_fields, key
        elif row.role in ("off", "other", "elsewhere"):
            assert row.note and not row.note.endswith("."), key


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("whole", "", 0),
        ("whole", "8", 8),
        ("whole", 64.0, 64),
        ("number", "5e-05", 5e-5),
        ("number", 0, 0.0),
        ("numbers", "5e-05 1e-05", 5e-5),
        ("numbers", [5e-05, 1e-05], 5e-5),
        ("numbers", "", 0.0),
        ("numbers", [], 0.0),
        ("numbers", 1, 1.0),
        ("switch", True, True),
        ("switch", "False", False),
        ("switch", 1, True),
        ("text", " a b ", "a b"),
        ("text", ["weight_decay=0.1", "eps=1e-8"], "weight_decay=0.1 eps=1e-8"),
        ("text", 225, "225"),
    ],
)
def test_values_are_read_as_the_form_reads_them(kind: str, value: Any, expected: Any) -> None:
    parsed = parse(kind, value)
    assert parsed == expected and type(parsed) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        ("whole", "many", "a number"),
        ("whole", 1.5, "a whole number"),
        ("whole", True, "a number"),
        ("number", [1], "a number"),
        ("number", "nan", "a number"),
        ("numbers", "many", "a number"),
        ("switch", "maybe", "true or false"),
    ],
)
def test_other_values_are_refused(kind: str, value: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse(kind, value)


def test_flags_win_over_fields_and_a_zero_field_passes_no_flag() -> None:
    form, problems = read_form({"max_grad_norm": 0, "network_dim": 8, EXTRA: '--network_dim=16 "--seed" 7'}, SD15)
    assert problems == []
    assert (form["max_grad_norm"], form["network_dim"], form["seed"]) == (1.0, 16, 7)
    assert read_form({EXTRA: "--max_grad_norm 0"}, SD15)[0]["max_grad_norm"] == 0.0
    assert read_form({EXTRA: "--lr_scheduler_args a=1 b=2 --alpha_mask"}, SD15)[0].flags == {
        "lr_scheduler_args": "a=1 b=2",
        "--alpha_mask": True,
    }


def test_a_null_is_a_missing_key() -> None:
    form, problems = read_form({"network_dim": None}, SD15)
    assert problems == [] and form["network_dim"] == 8 and not form.stated


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"netwrk_dim": 8}, "unknown key 'netwrk_dim'. Did you mean 'network_dim'?"),
        ({"learning_rate_te1": 0}, "unknown key 'learning_rate_te1'."),
        ({"--alpha_mask": True}, "unknown key '--alpha_mask'."),
        ({"epoch": "ten"}, "'epoch' = 'ten': it must be a number."),
        ({EXTRA: "--max_grad_nrm 0"}, "unknown flag '--max_grad_nrm'. Did you mean 'max_grad_norm'?"),
        ({EXTRA: "--seed one"}, "--seed one: it must be a number."),
        ({EXTRA: "0.5 --seed 1"}, "'0.5' belongs to no flag"),
    ],
)
def test_what_nobody_knows_is_one_sentence(data: dict[str, Any], sentence: str) -> None:
    _, (found,) = read_form(data, SD15)
    assert sentence in found.sentence and found.sentence.endswith(".")
    assert found.line.verdict == "refused" and found.line.effect in found.sentence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is not valid JSON"),
        (b"\xff\x00", "is not valid JSON"),
        (b"[1]", "it holds a list"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(KohyaSettingsError, match=sentence) as error:
        read_object(path)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_byte_order_mark(tmp_path: Path) -> None:
    with pytest.raises(KohyaSettingsError, match="cannot be read: No such file"):
        read_object(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('\ufeff{"epoch": 1}', encoding="utf-8")
    assert read_object(tmp_path / "a.json") == {"epoch": 1}
