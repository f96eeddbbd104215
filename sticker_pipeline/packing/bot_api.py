"""Requests to Telegram's Bot API over HTTP.

The token is a part of each address: no address appears in messages, and redirects are refused. Source of the protocol:
https://core.telegram.org/bots/api#making-requests.
"""

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from sticker_pipeline.core.files.limited_files import LimitedFileError, parse_json
from sticker_pipeline.core.process.output import tell
from sticker_pipeline.core.texts import TextError, UserError, counted, decoded, quoted, shortened

API_URL = "https://api.telegram.org"
TOKEN, USER = "TELEGRAM_BOT_TOKEN", "TELEGRAM_USER_ID"  # environment variables
TIMEOUT = 60.0  # seconds without a byte
MOST_ANSWER = 4_000_000  # bytes
TRIES = 4  # of a request that did not come through
MOST_PATIENCE = 300  # seconds that Telegram may ask to wait for
MOST_PAUSES = 20  # such waits for one request
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HIDDEN_TOKEN = "<token>"

_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{20,100}")
_UNKNOWN_TOKEN = f"Telegram does not know the bot of {TOKEN}: copy its token from @BotFather again, whole."
_REMEDIES = (  # part of a description -> remedy
    ("PEER_ID_INVALID", f"send the bot a message from the account of {USER}, so that it may make sets for it"),
    ("user not found", f"send the bot a message from the account of {USER}, and check that number"),
    ("USER_ID_INVALID", f"write the account's number into {USER}; @userinfobot tells it"),
    ("occupied", "another set has this name: change the pack's name"),
    ("STICKERSET_INVALID", "the set does not exist, or is not this bot's: use the bot that made it"),
    ("STICKERS_TOO_MUCH", "the set is full: make the pack smaller"),
    ("EMOJI", "change the sticker's emoji in pack/picks.yaml"),
)


class TelegramError(UserError):
    """A failed request.

    The message has the remedy, and never the token."""


class UnreachableError(TelegramError):
    """A request without an answer: nobody knows whether it was carried out."""


class RefusedError(TelegramError):
    """A request that Telegram refused, with `code` and `description`."""

    def __init__(self, code: int, description: str, message: str) -> None:
        super().__init__(message)
        self.code, self.description = code, description


@dataclass(frozen=True)
class Account:
    """A bot's token, and the number of the sets' owner."""

    token: str = field(repr=False)
    user: int


@dataclass(frozen=True)
class BotApi:
    """A Bot API to send requests to.

    `say`: shows a sentence. `wait`: sleeps for seconds.
    """

    account: Account
    url: str = API_URL
    say: Callable[[str], object] = tell
    wait: Callable[[float], object] = time.sleep

    def __post_init__(self) -> None:
        check_url(self.url)


def account(environment: Mapping[str, str]) -> Account:
    """Return the account of TELEGRAM_BOT_TOKEN and TELEGRAM_USER_ID.

    Raises TelegramError, which never holds the token.
    """
    token, user = environment.get(TOKEN, "").strip(), environment.get(USER, "").strip()
    if not token:
        raise TelegramError(f"{TOKEN} is not set: make a bot with @BotFather in Telegram, and put its token there.")
    if not _TOKEN.fullmatch(token):
        raise TelegramError(f"{TOKEN} is not a bot's token, such as 123456:ABC…: copy it from @BotFather again, whole.")
    if not user:
        raise TelegramError(f"{USER} is not set: put the number of your account there; @userinfobot tells it.")
    if not re.fullmatch(r"[1-9][0-9]{0,15}", user):
        raise TelegramError(f"{USER} is {quoted(user, 40)}, and must be a number; @userinfobot tells yours.")
    return Account(token, int(user))


def check_url(url: str) -> None:
    """Raise TelegramError for an address neither HTTPS nor on this machine."""
    try:
        found = urlsplit(url)
        is_plain = url.isascii() and url.isprintable() and " " not in url and found.port != 0
    except ValueError:
        is_plain = False
    if not is_plain or found.query or found.fragment or not found.hostname or found.username is not None:
        raise TelegramError(f"{quoted(url)} is no address of a Bot API, such as {API_URL}.")
    if found.scheme != "https" and not (found.scheme == "http" and found.hostname in LOOPBACK):
        raise TelegramError(
            f"{quoted(url)} would receive the token unencrypted: use https, or a server on this machine."
        )


def call(api: BotApi, method: str, values: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> Any:
    """Send one request and return its result.

    Lists and mappings are sent as JSON. Waits if Telegram asks for it. Raises UnreachableError without an answer, which
    is not tried again, and RefusedError.
    """
    for _ in range(MOST_PAUSES):
        code, answer = _answer(api, method, values, files or {})
        if answer.get("ok") is True:
            return answer.get("result")
        seconds = _pause(answer)
        if code != 429 or seconds is None:
            raise _refusal(api, method, code, answer)
        if seconds > MOST_PATIENCE:
            raise TelegramError(
                f"Telegram asks to wait for {counted(seconds, 'second')}: run this again then; it will go on from here."
            )
        api.say(f"Telegram asks to wait for {counted(seconds, 'second')}.")
        api.wait(seconds)
    raise TelegramError("Telegram asks to wait again and again: run this again later; it will go on from here.")


def ask(api: BotApi, method: str, values: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> Any:
    """Send a request that may be repeated without harm.

    TRIES times at most. Raises as `call`.
    """
    for attempt in range(TRIES - 1):
        try:
            return call(api, method, values, files)
        except UnreachableError as error:
            seconds = 2**attempt
            api.say(f"{error} Trying again in {counted(seconds, 'second')}.")
            api.wait(seconds)
    return call(api, method, values, files)


class _NoRedirects(HTTPRedirectHandler):
    """Refuses redirects, whose target would receive the token."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _answer(
    api: BotApi, method: str, values: Mapping[str, Any], files: Mapping[str, bytes]
) -> tuple[int, dict[str, Any]]:
    """Return status and answer of one request. Raises UnreachableError."""
    body, kind = _body(values, files)
    request = Request(
        f"{api.url.rstrip('/')}/bot{api.account.token}/{method}", body, {"Content-Type": kind}, method="POST"
    )
    code, data, why = 0, b"", ""
    try:
        with build_opener(_NoRedirects).open(request, timeout=TIMEOUT) as response:
            code, data = response.status, response.read(MOST_ANSWER + 1)
    except HTTPError as error:
        code, data, why = _of_error(error)
    except URLError as error:
        why = str(error.reason)
    except (HTTPException, OSError) as error:
        why = str(error) or type(error).__name__
    if why or code >= 500:  # raised outside of the handlers: their errors know the address
        raise UnreachableError(_unreachable(api, why or f"status {code}"))
    try:
        answer = parse_json(decoded(data))
    except (LimitedFileError, TextError):
        answer = None
    if not isinstance(answer, dict) or len(data) > MOST_ANSWER:
        raise UnreachableError(_unreachable(api, f"status {code}, not the JSON of a Bot API"))
    return code, answer


def _of_error(error: HTTPError) -> tuple[int, bytes, str]:
    try:
        with error:
            return error.code, error.read(MOST_ANSWER + 1), ""
    except (HTTPException, OSError) as broken:
        return error.code, b"", str(broken) or type(broken).__name__


def _unreachable(api: BotApi, why: str) -> str:
    host = urlsplit(api.url).netloc
    return f"{host} gave no answer ({_without_token(api, why)}): check the network, and run this again."


def _without_token(api: BotApi, text: str) -> str:
    return shortened(text.replace(api.account.token, HIDDEN_TOKEN), 300)


def _refusal(api: BotApi, method: str, code: int, answer: Mapping[str, Any]) -> TelegramError:
    said = _without_token(api, str(answer.get("description") or f"status {code}"))
    if code in (401, 404):  # an unknown token is a part of the address that is not found
        return RefusedError(code, said, _UNKNOWN_TOKEN)
    remedy = next((remedy for part, remedy in _REMEDIES if part.lower() in said.lower()), "")
    return RefusedError(code, said, f"Telegram refused {method}: {said}.{f' Remedy: {remedy}.' if remedy else ''}")


def _pause(answer: Mapping[str, Any]) -> int | None:
    """Return the seconds that Telegram asks to wait for."""
    about = answer.get("parameters")
    seconds = about.get("retry_after") if isinstance(about, dict) else None
    return max(1, seconds) if isinstance(seconds, int) else None


def _body(values: Mapping[str, Any], files: Mapping[str, bytes]) -> tuple[bytes, str]:
    """Return body and type: JSON, with files multipart/form-data (RFC 7578)."""
    if not files:
        return json.dumps(values).encode(), "application/json"
    boundary = uuid.uuid4().hex
    parts = [
        _part(boundary, f'name="{name}"', (value if isinstance(value, str) else json.dumps(value)).encode())
        for name, value in values.items()
    ]
    parts += [_part(boundary, f'name="{name}"; filename="{name}"', data) for name, data in files.items()]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def _part(boundary: str, about: str, data: bytes) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {about}\r\n\r\n".encode() + data + b"\r\n"
