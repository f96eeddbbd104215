"""A file that arrives from a server: kept where it breaks, never larger than it should be, and never for ever.

How the server is asked belongs to `web` and `hub`.
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

ATTEMPTS = 5  # in a row that bring nearly nothing, before a download gives up
PATIENCE = 60.0  # seconds for an answer, and for LEAST bytes of a file
LEAST = 1 << 16
STATED = ("Content-Length", "Content-Encoding")  # headers, in the order of an Answer

Say = Callable[[str], None]
Result = TypeVar("Result")


class Broken(Exception):
    """The connection broke, or is too slow; the download may go on."""


class WrongRange(Broken):
    """The server does not have the rest of what has arrived: the download may begin anew."""


@dataclass(frozen=True)
class Answer:
    """An answer of a server: the rest of a file, or all of it. `length` is its Content-Length, `encoding` its
    Content-Encoding, "" where it states none."""

    is_rest: bool
    length: str
    encoding: str
    blocks: Iterator[bytes]


Ask = Callable[[int], AbstractContextManager[Answer]]


def part_of(target: Path) -> Path:
    """Where what has arrived of the file `target` is kept."""
    return target.with_name(f"{target.name}.part")


def arrive(url: str, size: int, target: Path, ask: Ask, say: Say) -> None:
    """Make `target` the file at `url`, of `size` bytes, going on from what has arrived of it.

    `ask(done)` opens the file from byte `done` on, or anew; it raises Broken where another attempt may help.
    Raises Broken when ATTEMPTS bring nothing, and FetchError for more than `size` bytes. What has arrived is kept,
    except where it is too much.
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
    """Append what is missing to `part`, or write all of it anew."""
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
    """Raise FetchError, or WrongRange, where the server states that it sends something else than `coming` bytes."""
    if answer.encoding not in ("", "identity"):
        raise FetchError(f"{url} sends the file compressed ({answer.encoding[:40]!r}), not as it is. It was refused.")
    if answer.length.isdigit() and answer.length.lstrip("0") != str(coming).lstrip("0"):
        if answer.is_rest:
            raise WrongRange("the file has another size now")
        raise FetchError(f"{url} has {answer.length[:20]} bytes where {coming} were expected. It was refused.")


def in_time(call: Callable[[], Result]) -> Result:
    """`call()`, for which a server has PATIENCE seconds in all, however slowly it sends. Raises Broken after them."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is wanted
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if errors:
        raise errors[0]
    if not results:
        raise Broken(f"no whole answer within {PATIENCE:g} s")
    return results[0]
