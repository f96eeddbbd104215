"""Downloads that resume, with limits on size and time.

Requests are in `models/web.py` and `models/hub.py`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sticker_pipeline.core.files.space import in_words, writing
from sticker_pipeline.core.known_models import FetchError

ATTEMPTS = 5  # in a row with fewer than LEAST bytes, before a download fails
PATIENCE = 60.0  # seconds for an answer, or for LEAST bytes
LEAST = 1 << 16
STATED = ("Content-Length", "Content-Encoding")  # headers, in the order of an Answer

Say = Callable[[str], None]
Result = TypeVar("Result")


class Broken(Exception):
    """A broken or slow connection; the download may resume."""


class WrongRange(Broken):
    """A range that the server lacks; the download may restart."""


@dataclass(frozen=True)
class Answer:
    """A response with the rest of a file, or all of it.

    `length` is its Content-Length, `encoding` its Content-Encoding, "" if absent.
    """

    is_rest: bool
    length: str
    encoding: str
    blocks: Iterator[bytes]


Ask = Callable[[int], AbstractContextManager[Answer]]


def part_of(target: Path) -> Path:
    """Return the path of the partial download of `target`."""
    return target.with_name(f"{target.name}.part")


def arrive(url: str, size: int, target: Path, ask: Ask, say: Say) -> None:
    """Download `url`, of `size` bytes, to `target`, resuming a partial file.

    `ask(done)` opens the file from byte `done` on, or anew; it raises Broken where a retry may help. Raises Broken
    after ATTEMPTS in a row with fewer than LEAST bytes each, and FetchError for more than `size` bytes. The partial
    file is kept unless too large.
    """
    part, failures = part_of(target), 0
    with writing(target):
        part.parent.mkdir(parents=True, exist_ok=True)
        if not part.exists() or part.stat().st_size > size:
            part.write_bytes(b"")
        while (before := part.stat().st_size) < size:
            try:
                _go_on(url, size, part, ask, say)
            except Broken as error:
                if isinstance(error, WrongRange):
                    part.write_bytes(b"")
                failures = 0 if part.stat().st_size >= before + LEAST else failures + 1
                if failures == ATTEMPTS:
                    raise
                time.sleep(2**failures / 2)
        part.replace(target)


def _go_on(url: str, size: int, part: Path, ask: Ask, say: Say) -> None:
    done = part.stat().st_size
    with ask(done) as answer, part.open("ab") as file:
        _check_headers(url, size - done if answer.is_rest else size, answer)
        if not answer.is_rest:
            done = file.truncate(0)
        since, arrived = time.monotonic(), 0
        for block in answer.blocks:
            before, done, arrived = done, done + len(block), arrived + len(block)
            if done > size:
                file.truncate(0)
                raise FetchError(f"{url} sends more than the {size} bytes that the file should have. It was refused.")
            file.write(block)
            if 10 * done // size > 10 * before // size:
                say(f"{part.stem}: {in_words(done)} of {in_words(size)}")
            now = time.monotonic()
            if arrived >= LEAST:
                since, arrived = now, 0
            elif now - since > PATIENCE:
                raise Broken(f"only {in_words(arrived)} arrived in {PATIENCE:g} s")
    if done < size:
        raise Broken(f"{done} of {size} bytes arrived")


def _check_headers(url: str, coming: int, answer: Answer) -> None:
    """Raise FetchError or WrongRange for headers that contradict `coming` bytes."""
    if answer.encoding not in ("", "identity"):
        raise FetchError(f"{url} sends the file compressed ({answer.encoding[:40]!r}), not as it is. It was refused.")
    if answer.length.isdigit() and answer.length.lstrip("0") != str(coming).lstrip("0"):
        if answer.is_rest:
            raise WrongRange("the file has another size now")
        raise FetchError(f"{url} has {answer.length[:20]} bytes where {coming} were expected. It was refused.")


def in_time(call: Callable[[], Result]) -> Result:
    """Return `call()`. Raises Broken after PATIENCE seconds in all."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised in the calling thread
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if errors:
        raise errors[0]
    if not results:
        raise Broken(f"no whole answer within {PATIENCE:g} s")
    return results[0]
