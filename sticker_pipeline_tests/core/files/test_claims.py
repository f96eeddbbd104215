"""Claims between processes: one at a time, with a message while waiting, freed with their process."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sticker_pipeline.core.files.claims import claimed, holder, is_claimed, now_and_then

HOLDER = """
import sys, time
from pathlib import Path
from sticker_pipeline.core.files.claims import claimed
with claimed(Path(sys.argv[1]), "frames of luma", print, run="cea1f37c-0000"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_holder_lets_go_and_is_named_until_then(tmp_path: Path) -> None:
    claim = tmp_path / "deep" / "frames.lock"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(claim)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    assert is_claimed(claim)
    assert holder(claim).startswith(f"frames of luma: run cea1f37c, process {process.pid}, since ")
    said: list[str] = []
    held = threading.Event()

    def wait() -> None:
        with claimed(claim, "mine", said.append):
            held.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not said:
        assert not held.wait(0.01)
    process.kill()
    process.wait()
    assert held.wait(10)
    waiting.join()
    assert said[0].startswith(f"waiting for {holder_words(process.pid)}") and said[0].endswith(" s so far")
    assert not is_claimed(claim)


def holder_words(pid: int) -> str:
    return f"frames of luma: run cea1f37c, process {pid}, since "


def test_a_claim_leaves_no_note_and_names_another_machine(tmp_path: Path) -> None:
    claim = tmp_path / "frames.lock"
    with pytest.raises(RuntimeError), claimed(claim, "frames of luma", print):
        told = json.loads(claim.with_suffix(".json").read_text())
        claim.with_suffix(".json").write_text(json.dumps({**told, "host": "elsewhere"}))
        assert " on elsewhere, since " in holder(claim)
        raise RuntimeError
    assert not claim.with_suffix(".json").exists() and not is_claimed(claim)
    assert holder(claim) == f"whoever holds {claim}"


@pytest.mark.parametrize("note", [b"", b"{}", b"null", b"[]", b"\xff", b'{"since": "x"}', b'{"since": 1e300}'])
def test_a_damaged_note_stops_nobody(tmp_path: Path, note: bytes) -> None:
    claim = tmp_path / "frames.lock"
    claim.with_suffix(".json").write_bytes(note)
    assert holder(claim) == f"whoever holds {claim}"


def test_a_wait_can_be_ended(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    claim = tmp_path / "frames.lock"
    with claimed(claim, "one", print), pytest.raises(KeyboardInterrupt), claimed(claim, "another", print, stop):
        raise AssertionError("it is held already")
    assert not is_claimed(claim)


def test_a_note_that_cannot_be_written_holds_nobody_up(tmp_path: Path) -> None:
    claim = tmp_path / "frames.lock"
    claim.with_suffix(".json").mkdir()
    with pytest.raises(OSError), claimed(claim, "one", print):
        assert is_claimed(claim)
    assert not is_claimed(claim)


def test_words_come_now_and_then() -> None:
    said: list[str] = []
    time = 0.0
    say = now_and_then(said.append, seconds=30.0, clock=lambda: time)
    for time in (0.0, 29.9, 30.0, 31.0, 59.9, 60.1):
        say(str(time))
    assert said == ["0.0", "30.0", "60.1"]
