"""Output set aside: ours in the terminal, everything else in a file that stays small."""

import subprocess
import sys
from pathlib import Path

from sticker_pipeline.core.process.aside import earlier, shorten

CODE = """
import subprocess, sys
from pathlib import Path
from sticker_pipeline.core.process.aside import set_aside
print("before")
with set_aside(Path(sys.argv[1])) as say:
    print("printed")
    print("warned", file=sys.stderr)
    child = "import sys; print('child'); print('its error', file=sys.stderr)"
    subprocess.run([sys.executable, "-c", child], check=True)
    say("ours")
    if sys.argv[2:]:
        raise ValueError("an error of the block")
print("after")
"""


def run(path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", CODE, str(path), *arguments], capture_output=True, text=True)


def test_the_terminal_has_our_lines_and_the_file_all_others(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "ui.log"
    done = run(log)
    assert (done.stdout, done.stderr) == ("before\nafter\n", "ours\n")
    assert sorted(log.read_text().splitlines()) == ["child", "its error", "printed", "warned"]
    assert log.stat().st_mode & 0o077 == 0, "it is nobody else's business"


def test_an_error_of_the_block_is_in_the_terminal(tmp_path: Path) -> None:
    done = run(tmp_path / "ui.log", "fail")
    assert done.returncode == 1 and done.stdout == "before\n"
    assert done.stderr.startswith("ours\nTraceback") and done.stderr.endswith("ValueError: an error of the block\n")


def test_the_file_of_the_process_before_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "ui.log"
    for number in range(3):
        log.write_text(f"process {number}")
        run(log)
    assert earlier(log).read_text() == "process 2"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_long_file_is_emptied_while_others_write_to_it(tmp_path: Path) -> None:
    log = tmp_path / "ui.log"
    with log.open("a") as writer:
        writer.write("x" * 10)
        writer.flush()
        shorten(log, most=10)
        assert log.read_text() == "x" * 10 and not earlier(log).exists()
        writer.write("y")
        writer.flush()
        shorten(log, most=10)
        writer.write("z")
    assert earlier(log).read_text() == "x" * 10 + "y"
    assert log.read_text() == "z"
