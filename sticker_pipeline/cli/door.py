"""Access control of a web application; refuses other pages and host names.

Dagster's webserver has no login, executes GraphQL by GET and takes requests from any page in the browser. Browsers
report a request's origin: `guarded` admits the application's own pages, a person who types its address or follows a
link, and programs other than browsers. Standard library only.
"""

import urllib.request
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
READING = ("GET", "HEAD")
ANSWER_SECONDS = 5.0
POLICY_VIOLATION = 1008  # of a WebSocket
SHOWN = 80  # characters of a header shown in a refusal

# They replace the application's of the same name, except for its content security policy: a browser obeys both.
HEADERS = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-dns-prefetch-control": "off",  # else names in links are looked up before a click
    "x-frame-options": "DENY",
}


DESK = "/desk"  # path of the desk


@dataclass(frozen=True)
class Refusal:
    """HTTP status and sentence of a refusal."""

    status: int
    sentence: str


def own_hosts(host: str, port: int) -> list[str]:
    """Return the names of an application on its own machine."""
    wildcard = host in ("", "0.0.0.0", "::", "[::]")
    named = [] if wildcard else [f"[{host}]" if ":" in host and not host.startswith("[") else host]
    end = "" if port == 80 else f":{port}"  # browsers omit the scheme's default port
    return [f"{name.lower()}{end}" for name in dict.fromkeys([*LOOPBACK, *named])]


def desk_address(host: str, name: str = "") -> str:
    """Return the desk's address, or that of a character's page."""
    return f"http://{host}{DESK}/" + (f"c/{name}" if name else "")


def is_our_desk(address: str) -> bool:
    """Tell whether a desk answers at `address`."""
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_SECONDS) as answer:
            return str(answer.headers.get("content-security-policy", "")).startswith("default-src 'none'")
    except OSError:
        return False


def guarded(app: App, hosts: Iterable[str]) -> App:
    """Return `app`, serving only `hosts` (name, or name:port) to their own pages."""
    allowed = [host.lower() for host in hosts]

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = refused(scope["method"], scope["path"], scope["query_string"], scope["headers"], allowed)
            answer = _with_headers(send, _policy(scope["headers"], allowed))
            await (app(scope, receive, answer) if refusal is None else _refuse(refusal, answer))
        elif scope["type"] == "websocket":
            if refused_socket(scope["headers"], allowed) is None:
                await app(scope, receive, send)
            else:
                await receive()
                await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        elif scope["type"] == "lifespan":
            await app(scope, receive, send)

    return door


def refused(
    method: str, path: str, query: bytes, headers: Sequence[tuple[bytes, bytes]], hosts: Sequence[str]
) -> Refusal | None:
    """Return a request's refusal, or None."""
    if refusal := _bad_host(headers, hosts):
        return refusal
    if method not in (*READING, "POST"):
        return Refusal(405, f"{method[:SHOWN]} is not allowed here: GET, HEAD and POST are.")
    if refusal := _bad_origin(headers):
        return refusal
    if _from_elsewhere(headers) and not (method in READING and _is_visit(headers)):
        return Refusal(403, "Another page asked for this: open the address yourself.")
    if method in READING and path.rstrip("/").endswith("/graphql") and query:
        return Refusal(405, "GraphQL is not taken from an address: send it by POST as application/json.")
    if method == "POST" and _media_type(headers) != "application/json":
        return Refusal(415, "Send it as application/json: forms and plain text are not taken.")
    return None


def refused_socket(headers: Sequence[tuple[bytes, bytes]], hosts: Sequence[str]) -> Refusal | None:
    """Return a WebSocket's refusal, or None."""
    if refusal := _bad_host(headers, hosts) or _bad_origin(headers):
        return refusal
    if not _values(headers, b"origin") or _from_elsewhere(headers):
        return Refusal(403, "A WebSocket is opened by the application's own pages alone.")
    return None


def _values(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in headers if key.lower() == name]


def _bad_host(headers: Sequence[tuple[bytes, bytes]], hosts: Sequence[str]) -> Refusal | None:
    """Refuse a Host outside `hosts`: other names may point here (DNS rebinding)."""
    found = _values(headers, b"host")
    if len(found) != 1:
        return Refusal(400, f"A request names its Host once, not {len(found)} times.")
    if found[0].lower() in hosts:
        return None
    return Refusal(
        421,
        f"The address {found[0][:SHOWN]!a} is not served here: open http://{hosts[0]}/, or start the UI with "
        "--allow-host and that address.",
    )


def _bad_origin(headers: Sequence[tuple[bytes, bytes]]) -> Refusal | None:
    """Refuse an Origin other than the host, if the browser names one."""
    found, (host,) = _values(headers, b"origin"), _values(headers, b"host")
    if not found or (len(found) == 1 and found[0].lower() in (f"http://{host.lower()}", f"https://{host.lower()}")):
        return None
    return Refusal(403, f"A page of {', '.join(found)[:SHOWN]!a} asked for this: only pages of {host} may.")


def _from_elsewhere(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return True if the browser reports another site's or port's page."""
    return any(value not in ("same-origin", "none") for value in _values(headers, b"sec-fetch-site"))


def _is_visit(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return True if someone opens the page by link or after login.

    No other page can read it.
    """
    return _values(headers, b"sec-fetch-mode") == ["navigate"] and _values(headers, b"sec-fetch-dest") == ["document"]


def _media_type(headers: Sequence[tuple[bytes, bytes]]) -> str:
    found = _values(headers, b"content-type")
    return found[0].partition(";")[0].strip().lower() if len(found) == 1 else ""


def _policy(headers: Sequence[tuple[bytes, bytes]], hosts: Sequence[str]) -> str:
    """Return the content security policy: own resources only, no frames.

    So an image in a text requests no other host.
    """
    host = (_values(headers, b"host") or [""])[0].lower()
    sockets = f" ws://{host} wss://{host}" if host in hosts else ""  # not 'self' in some browsers
    return "; ".join(
        [
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            f"connect-src 'self' data: blob:{sockets}",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )


def _with_headers(send: Send, policy: str) -> Send:
    ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message.get("headers", []) if name.decode().lower() not in HEADERS]
            message = {**message, "headers": [*kept, *ours, (b"content-security-policy", policy.encode())]}
        await send(message)

    return answer


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = f"{refusal.sentence}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # an unread body would be parsed as the next request
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
