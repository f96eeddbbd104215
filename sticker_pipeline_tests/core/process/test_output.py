"""Output: a closed reader never stops the work, and silence is filled with the work under way."""

import ast
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from rich.console import Console

import sticker_pipeline
from sticker_pipeline.cli import commands as cli
from sticker_pipeline.core.process import output
from sticker_pipeline.core.process.output import Output, speak_when_quiet, tell, tell_error

TALKER = """
import sys, time
from pathlib import Path
from rich.console import Console
from sticker_pipeline.core.process.output import watch_over
watch_over()
console = Console()
for number in range(200):
    console.print("x" * 1000)
    print("y" * 1000, file=sys.stderr)
Path(sys.argv[1]).write_text("went on to the end")
"""


def test_a_reader_that_is_gone_does_not_end_the_work(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", TALKER, str(tmp_path / "end")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    assert process.wait(60) == 0
    assert (tmp_path / "end").read_text() == "went on to the end"


def test_a_silence_is_filled_with_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "QUIET_SECONDS", 0.2)
    target = io.StringIO()
    said = iter(["still at work: lora", None])
    speak_when_quiet(Output(target), lambda: next(said, None))
    deadline = time.monotonic() + 20
    while not target.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert target.getvalue() == "still at work: lora\n"


def test_lines_are_passed_on() -> None:
    target = io.StringIO()
    shown = Output(target)
    before = shown.written
    print("one", file=shown, flush=True)
    assert target.getvalue() == "one\n" and shown.written >= before and not shown.isatty()


def printed(*parts: str | tuple[str, str]) -> str:
    """Return a terminal's output of a line."""
    target = io.StringIO()
    tell(*parts, console=Console(file=target, force_terminal=True, width=400))
    return target.getvalue()


@pytest.mark.parametrize("text", ["[/x]", "[bold]a[/]", "[link=https://a.b]c[/link]", ":fox:", "a\\[b]"])
def test_nothing_is_markup(text: str) -> None:
    assert printed(text) == f"{text}\n"


def test_only_our_own_colours_reach_a_terminal() -> None:
    assert printed(("problem", "red"), " \x1b[2J\x1b]0;mine\a\u202egpj\rgone") == (
        "\x1b[31mproblem\x1b[0m \\x1b[2J\\x1b]0;mine\\x07\\u202egpj\\rgone\n"
    )


def test_a_quiet_time_is_filled_with_what_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "QUIET_SECONDS", 0.2)
    target = io.StringIO()
    said = iter(["still at work: \x1b[31m", None])
    speak_when_quiet(Output(target), lambda: next(said, None))
    deadline = time.monotonic() + 20
    while not target.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert target.getvalue() == "still at work: \\x1b[31m\n"


def test_an_error_of_the_command_line_shows_what_nobody_sees(capsys: pytest.CaptureFixture[str]) -> None:
    tell_error(click.ClickException("\x1b[31mred\u202e \udc9b"))
    assert capsys.readouterr().err == "Error: \\x1b[31mred\\u202e \\udc9b\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["\x1b[31mdo"],
        ["update-\u202e", "x"],
        ["check-base", "/\x1b[31m", "--family", "sd15"],
        ["check-base", "/", "--family", "\x1b[31m"],
        ["roll-back", "a", "\x1b[31m"],
        ["doctor", "--\x1b[31m"],
        ["merge-loras", "out.\x1b[31m", "a:1"],
        ["merge-loras", "out.safetensors", "\x1b[31m:x"],
        ["releases", "\x1b[31m"],
    ],
)
def test_what_is_given_to_a_command_is_shown_with_escapes(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sticker-pipeline", *arguments])
    with pytest.raises(SystemExit):
        cli.run()
    shown = capsys.readouterr()
    assert "\\x1b[31m" in shown.err or "\\u202e" in shown.err
    assert {letter for letter in shown.out + shown.err if not letter.isprintable()} == {"\n"}


# The trainer's process, whose lines the launcher makes visible.
PRINT_THEMSELVES = {"core/process/output.py", "training/process.py", "training/logs/progress.py"}


def prints(node: ast.AST) -> bool:
    """Return whether the node is `print`, or writes to a console past output.py."""
    called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
    by_itself = called in ("click.echo", "click.secho", "Console", "escape") or called.endswith("console.print")
    return by_itself or (isinstance(node, ast.Name) and node.id == "print")


def test_nothing_is_printed_past_the_one_console() -> None:
    package = Path(sticker_pipeline.__file__).parent
    paths = [path for path in package.rglob("*.py") if path.parent.name != "embedded"]  # draws a world of its own
    found = {path for path in paths if any(map(prints, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))}
    assert {path.relative_to(package).as_posix() for path in found} == PRINT_THEMSELVES


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no release yet: sticker-pipeline update fox", "no release yet: .venv/bin/sticker-pipeline update fox"),
        ("`sticker-pipeline releases fox` lists them", "`.venv/bin/sticker-pipeline releases fox` lists them"),
        ("see .venv/bin/sticker-pipeline ui", "see .venv/bin/sticker-pipeline ui"),
        ("STICKER-pipeline ui, my_sticker-pipeline ui", "STICKER-pipeline ui, my_sticker-pipeline ui"),
    ],
)
def test_a_command_in_a_message_can_be_copied(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(output.PROGRAM, ".venv/bin/sticker-pipeline")
    assert output.as_typed(text) == shown
    monkeypatch.delenv(output.PROGRAM)
    assert output.as_typed(text) == text


@pytest.mark.parametrize(("called", "on_path", "noted"), [
    (".venv/bin/sticker-pipeline", None, ".venv/bin/sticker-pipeline"),
    (".venv/bin/sticker-pipeline", "/usr/bin/sticker-pipeline", None),
    ("/x/__main__.py", None, None),
])  # fmt: skip
def test_the_program_is_noted_as_it_was_called(called, on_path, noted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output.shutil, "which", lambda name: on_path)
    monkeypatch.setenv(output.PROGRAM, "")
    output.note_program(called)
    assert (os.environ[output.PROGRAM] or None) == noted
