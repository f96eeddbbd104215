"""Numbers in messages: each f-string of the package, read with 1 for every number."""

import ast
import re
from collections.abc import Iterator

import pytest

from sticker_pipeline.core.texts import are, counted
from sticker_pipeline_tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "sticker_pipeline"
NOUNS = [
    "adapter", "caption", "character", "epoch", "file", "folder", "frame", "image", "key", "letter", "link", "module",
    "other", "page", "prompt", "release", "run", "sample", "setting", "source", "step",
]  # fmt: skip
NAMES = "|".join(NOUNS)
VERBS = "has|gives|states|reads"  # no adjectives
FAULT = re.compile(
    rf"\b1 (?:(?!{VERBS})\w+ )?(?:{NAMES})s\b|\b1 (?:of 1 )?(?:more )?(?:{NAMES}) (?:are|have|count|hold)\b"
)
NUMBER = re.compile(r",?d?")  # format of a whole number
EXEMPT = {
    "publishing/model_card.py",  # a training set of one image is no LoRA's
    "defs/dataset/training_set.py",
    "core/texts.py",  # `counted` itself
    "generation/recommended.py",  # the name of a model, which stays
}
TEXTS = {"suffix", "own"}  # names of values that are no numbers


def read_with_one(node: ast.JoinedStr) -> str:
    """The text of an f-string with 1 for each value that may be a whole number."""
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else _value(part)
        for part in node.values
        if isinstance(part, ast.Constant | ast.FormattedValue)
    )


def _value(part: ast.FormattedValue) -> str:
    value, form = part.value, ast.unparse(part.format_spec)[2:-1] if part.format_spec else ""
    match value:
        case ast.Call(func=ast.Name(id="counted"), args=[_, ast.Constant(value=str(noun))]):
            return counted(1, noun)
        case ast.Call(func=ast.Name(id="are")):
            return are(1)
        case ast.IfExp(test=ast.Compare(comparators=[ast.Constant(value=1)]), body=ast.Constant(value=str(one))):
            return one
        case ast.Name(id=name) if name.isupper() or name in TEXTS:
            return "8"
    return "1" if NUMBER.fullmatch(form) else "?"


def f_strings() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name in EXEMPT or name.startswith("embedded/"):  # `make models`, for developers
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield f"{name}:{node.lineno}", read_with_one(node)


def test_no_message_says_one_files() -> None:
    found = [f"{where}: {text}" for where, text in f_strings() if FAULT.search(text)]
    assert found == [], "use `counted` and `are` of core/texts.py"


@pytest.mark.parametrize(
    ("source", "is_fault"),
    [
        ('f"{n} files"', True),
        ('f"{len(n):,} more links are refused"', True),
        ('f"{n} of {m} files"', True),
        ("f\"{counted(n, 'file')} are taken\"", True),
        ("f\"{counted(n, 'file')} {are(n)} taken\"", False),
        ("f\"{counted(n, 'file')} {'has' if n == 1 else 'have'} it\"", False),
        ('f"{n:.1f} files"', False),
        ('f"at most {MOST_FILES} files"', False),
        ('f"{n} times"', False),
    ],
)
def test_a_fault_is_found(source: str, is_fault: bool) -> None:
    node = ast.parse(source, mode="eval").body
    assert isinstance(node, ast.JoinedStr)
    assert bool(FAULT.search(read_with_one(node))) == is_fault


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1200, "1,200 files")])
def test_counted(number: int, text: str) -> None:
    assert counted(number, "file") == text
    assert are(number) == ("is" if number == 1 else "are")
