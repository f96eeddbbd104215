"""One file over HTTP: redirects that are followed with care, and a download that goes on where it broke.

What is asked for stands in `single`; the hub has a client of its own (`hub`).
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from typing import Any
from urllib.error import URLError
from urllib.parse import SplitResult, quote, urljoin, urlsplit
from urllib.request import HTTPErrorProcessor, ProxyHandler, Request, build_opener

from sticker_pipeline.models.hub import part_of
from sticker_pipeline.models.known import FetchError
from sticker_pipeline.space import in_words, writing

MOST_REDIRECTS = 10
MOST_JSON = 10_000_000  # bytes of an answer that is read as a whole
ATTEMPTS = 5  # in a row that bring nothing, before a download gives up
TIMEOUT = 60.0  # seconds without a byte
_BLOCK = 1 << 20
_SAFE = "%/:=&?~#+!$,;'@()*[]"  # what an address may hold besides letters, digits and ._-
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Login:
    """A token, and the one place that it is sent to: `origin`, such as https://civitai.com. `variable` holds it."""

    origin: str
    variable: str
    token: str | None


class _AsItIs(HTTPErrorProcessor):
    """Gives every answer as it is: `_opened` decides what goes where."""

    def http_response(self, request: Request, response: Any) -> Any:
        return response

    https_response = http_response


class _Broken(Exception):
    """The connection broke; the download may go on."""


class _WrongRange(_Broken):
    """The server does not have the rest of what has arrived: the download may begin anew."""


def get_json(url: str, login: Login) -> Any:
    """The JSON that `url` answers with. Raises FetchError, one sentence, for whatever else happens."""
    try:
        with _opened(url, login) as response:
            text = response.read(MOST_JSON)
    except (OSError, HTTPException, _Broken) as error:
        raise _unreachable(url, error) from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise FetchError(f"{url} did not answer with JSON ({error}). Try again later.") from error


def size_of(url: str, login: Login) -> int:
    """Bytes of the file at `url`, as the server states them. Raises FetchError, also where it states none."""
    try:
        with _opened(url, login) as response:
            length = response.headers.get("Content-Length", "")
    except (OSError, HTTPException, _Broken) as error:
        raise _unreachable(url, error) from error
    if not length.isdigit():
        raise FetchError(f"{url} does not say how large the file is. Download it yourself, and give its path instead.")
    return int(length)


def download(url: str, size: int, target: Path, login: Login, say: Callable[[str], None]) -> None:
    """Make `target` the file at `url`, of `size` bytes, going on from what has arrived of it (`part_of`).

    Raises FetchError; what has arrived is kept, except where more arrives than the file has.
    """
    part, failures = part_of(target), 0
    with writing(target):
        part.parent.mkdir(parents=True, exist_ok=True)
        if not part.exists() or part.stat().st_size > size:
            part.write_bytes(b"")
        while (before := part.stat().st_size) < size:
            try:
                _go_on(url, size, part, login, say)
            except (_Broken, HTTPException, TimeoutError, ConnectionError, URLError, SSLError) as error:
                if isinstance(error, _WrongRange):
                    part.write_bytes(b"")
                failures = 0 if part.stat().st_size > before else failures + 1
                if failures == ATTEMPTS:
                    raise _unreachable(url, error) from error
                time.sleep(2**failures / 2)
        part.replace(target)


def _go_on(url: str, size: int, part: Path, login: Login, say: Callable[[str], None]) -> None:
    """Append what is missing to `part`, or all of it anew where the server does not know ranges."""
    done = part.stat().st_size
    with _opened(url, login, {"Range": f"bytes={done}-"} if done else {}) as response, part.open("ab") as file:
        if response.status != 206:
            done = file.truncate(0)
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            raise _WrongRange("another part of the file came than was asked for")
        while block := response.read(_BLOCK):
            file.write(block)
            before, done = done, done + len(block)
            if done > size:
                file.truncate(0)
                raise FetchError(f"{url} sends more than the {size} bytes that the file should have. It was refused.")
            if 10 * done // size > 10 * before // size:
                say(f"{part.stem}: {in_words(done)} of {in_words(size)}")
    if done < size:
        raise _Broken(f"{done} of {size} bytes arrived")


@contextmanager
def _opened(url: str, login: Login, headers: dict[str, str] | None = None) -> Iterator[HTTPResponse]:
    """The answer to GET `url`, behind its redirects. Raises FetchError for an answer that is none of the file."""
    for previous in _hops(quote(url, safe=_SAFE)):
        address = previous[-1]
        sent = {"User-Agent": "sticker_pipeline", "Accept-Encoding": "identity", **(headers or {})}
        if login.token and _origin(urlsplit(address)) == login.origin:
            sent["Authorization"] = f"Bearer {login.token}"
        local = (urlsplit(address).hostname or "") in _LOOPBACK
        opener = build_opener(_AsItIs, *([ProxyHandler({})] if local else []))
        with opener.open(Request(address, headers=sent), timeout=TIMEOUT) as response:
            place = response.headers.get("Location")
            if response.status in (301, 302, 303, 307, 308) and place:
                split(place)
                previous.append(urljoin(address, quote(place, safe=_SAFE)))
                continue
            if response.status == 416:  # range not satisfiable
                raise _WrongRange("the file is shorter than what has arrived of it")
            if response.status not in (200, 206):
                raise _refusal(response.status, url, login)
            if response.headers.get_content_type() == "text/html":
                raise FetchError(f"{url} answers with a web page, not with a file. {_log_in(login)}")
            yield response
        return
    raise FetchError(f"{url} is redirected more than {MOST_REDIRECTS} times. It was refused.")


def _hops(url: str) -> Iterator[list[str]]:
    """The addresses so far, to which a redirect is appended; raises FetchError for one that is not followed."""
    addresses: list[str] = [url]
    for number in range(MOST_REDIRECTS + 1):
        here = split(addresses[-1])
        encrypted_before = number > 0 and split(addresses[-2]).scheme == "https"
        local = here.scheme == "http" and here.hostname in _LOOPBACK and not encrypted_before
        if not here.hostname or not (here.scheme == "https" or local):
            to = f"is redirected to {here.scheme}://{here.hostname}" if number else "is no https address"
            raise FetchError(f"{url} {to}: anybody on the way could exchange the file. It was refused.")
        yield addresses


def split(url: str) -> SplitResult:
    """The parts of `url`. Raises FetchError for what is no address."""
    try:
        return urlsplit(url)
    except ValueError as error:
        raise FetchError(f"{url!r} is no address ({error}). Check it.") from error


def _origin(address: SplitResult) -> str:
    return f"{address.scheme}://{address.netloc}"


def _refusal(status: int, url: str, login: Login) -> FetchError:
    if status in (401, 403):
        return FetchError(f"{url} answered {status}: it needs a login. {_log_in(login)}")
    if status in (404, 410):
        return FetchError(f"{url} answered {status}: there is no such file (any more). Check the address.")
    return FetchError(f"{url} answered {status}. Try again later; what has arrived so far is kept.")


def _log_in(login: Login) -> str:
    if login.token:
        return f"{login.variable} is set: check that it is valid, and that its account may download this."
    return f"For {login.origin}, set {login.variable} to an API key of your account."


def _unreachable(url: str, error: BaseException) -> FetchError:
    why = getattr(error, "reason", None) or error or type(error).__name__
    return FetchError(
        f"{_origin(urlsplit(url))} cannot be reached ({why}). Check the connection, and run this again; what has "
        "arrived so far is kept."
    )
