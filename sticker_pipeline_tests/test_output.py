"""What is printed reaches nobody, or somebody, and never ends the work."""

import io
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sticker_pipeline import output
from sticker_pipeline.output import Output, speak_when_quiet

TALKER = """
import sys, time
from pathlib import Path
from rich.console import Console
from sticker_pipeline.output import watch_over
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
