"""Downloads over HTTP, with checked redirects."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from typing import Any, TypeVar
from urllib.error import URLError
from urllib.parse import SplitResult, quote, urljoin, urlsplit
from urllib.request import HTTPErrorProcessor, ProxyHandler, Request, build_opener

from sticker_pipeline.core.files.space import in_words
from sticker_pipeline.core.known_models import FetchError
from sticker_pipeline.models.arriving import PATIENCE, STATED, Answer, Broken, WrongRange, arrive, in_time
from sticker_pipeline.models.content import parse_json

MOST_REDIRECTS = 10
MOST_JSON = 10_000_000  # bytes
_BLOCK = 1 << 20
_SAFE = "%/:=&?~#+!$,;'@()*[]"  # allowed in addresses besides letters, digits and ._-
_LENGTH = re.compile(r"[0-9]{1,15}")
_BREAKS = (HTTPException, TimeoutError, ConnectionError, URLError, SSLError)
_Result = TypeVar("_Result")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Login:
    """A token and the only `origin` that receives it, such as https://civitai.com.

    `variable`: its environment variable.
    """

    origin: str
    variable: str
    token: str | None


class _AsItIs(HTTPErrorProcessor):
    """Pass every response through; `_opened` handles redirects and errors."""

    def http_response(self, request: Request, response: Any) -> Any:
        return response

    https_response = http_response


def get_json(url: str, login: Login) -> Any:
    """Request JSON from `url`. Raises FetchError, one sentence, for any failure."""

    def answer() -> bytes:
        with _opened(url, login) as response:
            return response.read(MOST_JSON + 1)

    text = _in_plain_words(url, answer)
    if len(text) > MOST_JSON:
        raise FetchError(f"{url} answers with more than {in_words(MOST_JSON)}. It was refused.")
    try:
        return parse_json(text)
    except ValueError as error:
        raise FetchError(f"{url} did not answer with JSON ({error}). Try again later.") from error


def size_of(url: str, login: Login) -> int:
    """Return the file's size in bytes, by the server.

    Raises FetchError, also where the server states none.
    """

    def answer() -> str:
        with _opened(url, login) as response:
            return str(response.headers.get("Content-Length", ""))

    length = _in_plain_words(url, answer)
    if not _LENGTH.fullmatch(length):
        raise FetchError(f"{url} does not say how large the file is. Download it yourself, and give its path instead.")
    return int(length)


def download(url: str, size: int, target: Path, login: Login, say: Callable[[str], None]) -> None:
    """Download `url`, of `size` bytes, to `target`, resuming (see `arrive`).

    Raises FetchError; the partial file is kept unless too large.
    """
    try:
        arrive(url, size, target, lambda done: _rest(url, done, login), say)
    except Broken as error:
        raise _unreachable(url, error) from error


@contextmanager
def _rest(url: str, done: int, login: Login) -> Iterator[Answer]:
    """Request `url` from byte `done` on, or all of it without ranges."""
    with ExitStack() as stack:
        try:
            headers = {"Range": f"bytes={done}-"} if done else {}
            response = in_time(lambda: stack.enter_context(_opened(url, login, headers)))
            if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
                raise WrongRange("another part of the file came than was asked for")
            blocks = iter(lambda: response.read1(_BLOCK), b"")
            length, encoding = (response.headers.get(name, "") for name in STATED)
            yield Answer(response.status == 206, length, encoding, blocks)
        except _BREAKS as error:
            raise Broken(_reason(error)) from error


def _in_plain_words(url: str, call: Callable[[], _Result]) -> _Result:
    try:
        return in_time(call)
    except (*_BREAKS, OSError, Broken) as error:
        raise _unreachable(url, error) from error


@contextmanager
def _opened(url: str, login: Login, headers: dict[str, str] | None = None) -> Iterator[HTTPResponse]:
    """GET `url`, following redirects. Raises FetchError for a response without the file."""
    for previous in _hops(quote(url, safe=_SAFE)):
        address = previous[-1]
        sent = {"User-Agent": "sticker_pipeline", "Accept-Encoding": "identity", **(headers or {})}
        if login.token and _origin(urlsplit(address)) == login.origin:
            sent["Authorization"] = f"Bearer {login.token}"
        local = (urlsplit(address).hostname or "") in _LOOPBACK
        opener = build_opener(_AsItIs, *([ProxyHandler({})] if local else []))
        with opener.open(Request(address, headers=sent), timeout=PATIENCE) as response:
            place = response.headers.get("Location")
            if response.status in (301, 302, 303, 307, 308) and place:
                split(place)
                previous.append(urljoin(address, quote(place, safe=_SAFE)))
                continue
            if response.status == 416:  # range not satisfiable
                raise WrongRange("the file is shorter than what has arrived of it")
            if response.status not in (200, 206):
                raise _refusal(response.status, url, login)
            if response.headers.get_content_type() == "text/html":
                raise FetchError(f"{url} answers with a web page, not with a file. {_log_in(login)}")
            yield response
        return
    raise FetchError(f"{url} is redirected more than {MOST_REDIRECTS} times. It was refused.")


def _hops(url: str) -> Iterator[list[str]]:
    """Yield the addresses so far; the caller appends redirects.

    Raises FetchError for one that is not followed.
    """
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
    """Split `url` into parts. Raises FetchError for a malformed one."""
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise FetchError(f"{url[:200]!r} is no address ({error}). Check it.") from error
    return parts


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
    return FetchError(
        f"{_origin(urlsplit(url))} cannot be reached ({_reason(error)}). Check the connection, and run this again; "
        "what has arrived so far is kept."
    )


def _reason(error: BaseException) -> str:
    """Return the text of `error`, escaped: a server may have written it."""
    return ascii(str(getattr(error, "reason", None) or error or type(error).__name__))[1:-1][:200]
