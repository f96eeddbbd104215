"""Access control, request by request; ui/test_door.py tests it in a browser."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.cli.door import HEADERS, guarded, own_hosts

HOSTS = ["127.0.0.1:3000", "localhost:3000", "ui.example.org"]
JSON = ("content-type", "application/json")
OWN = [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")]
VISIT = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Says that the request came in, with headers that the door is to replace or to leave."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    headers = [(b"Referrer-Policy", b"unsafe-url"), (b"content-security-policy", b"base-uri 'none'"), (b"x-own", b"1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"in"})


def messages(scope: dict[str, Any], hosts: Iterable[str] = HOSTS) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": f"{scope['type']}.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guarded(application, hosts)(scope, receive, send))
    return sent


def scope_of(kind: str, headers: Iterable[tuple[str, str]], host: str | None = "127.0.0.1:3000") -> dict[str, Any]:
    named = [("host", host)] if host is not None else []
    return {"type": kind, "headers": [(name.encode(), value.encode("latin-1")) for name, value in [*named, *headers]]}


def asked(
    method: str, path: str, *headers: tuple[str, str], host: str | None = "127.0.0.1:3000"
) -> tuple[int, str, dict[str, list[str]]]:
    path, _, query = path.partition("?")
    scope = scope_of("http", headers, host) | {"method": method, "path": path, "query_string": query.encode()}
    start, body = messages(scope)
    found: dict[str, list[str]] = {}
    for name, value in start["headers"]:
        found.setdefault(name.decode().lower(), []).append(value.decode())
    return start["status"], body["body"].decode(), found


def opened(*headers: tuple[str, str], host: str | None = "127.0.0.1:3000") -> bool:
    (answer,) = messages(scope_of("websocket", headers, host))
    assert answer in ({"type": "websocket.accept"}, {"type": "websocket.close", "code": 1008})
    return answer["type"] == "websocket.accept"


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", []),
        ("HEAD", "/assets/lora", []),
        ("GET", "/graphql", []),  # the page on which a person writes queries
        ("GET", "/assets?view=lineage", OWN),
        ("GET", "/runs", VISIT),  # a link, or the way back from a login
        ("POST", "/graphql", [JSON]),  # a program, such as dagster_graphql's client
        ("POST", "/graphql", [("content-type", "application/json; charset=utf-8")]),
        ("POST", "/graphql?op=RunQuery", [JSON, *OWN, ("origin", "http://127.0.0.1:3000")]),
        ("POST", "/report_asset_materialization/lora", [JSON]),
    ],
)
def test_what_may_go_in(method: str, path: str, headers: list[tuple[str, str]]) -> None:
    assert asked(method, path, *headers)[:2] == (200, "in")


@pytest.mark.parametrize("host", ["LOCALHOST:3000", "ui.example.org", "127.0.0.1:3000"])
def test_an_address_that_is_served(host: str) -> None:
    assert asked("GET", "/", host=host)[0] == 200
    assert asked("POST", "/graphql", JSON, ("origin", f"https://{host}"), host=host)[0] == 200
    assert opened(("origin", f"http://{host}"), host=host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:3000",  # DNS that points a stranger's name at this machine
        "127.0.0.1", "127.0.0.1:3001", "127.0.0.1:3000.", "127.0.0.1:3000@evil.example", "evil.example, 127.0.0.1:3000",
        "127.0.0.2:3000", "0.0.0.0:3000", "2130706433:3000", "[::ffff:127.0.0.1]:3000", "localhost.:3000",
        "xlocalhost:3000",
        "ui.example.org.evil.example", "ui.example.org:80", "",
    ],
)  # fmt: skip
def test_an_address_that_is_not(host: str) -> None:
    status, sentence, _ = asked("GET", "/", host=host)
    assert (status, sentence) == (
        421,
        f"The address {host!a} is not served here: open http://127.0.0.1:3000/, or start the UI with --allow-host and "
        "that address.\n",
    )
    assert not opened(("origin", f"http://{host}"), host=host)


@pytest.mark.parametrize(("host", "more", "times"), [(None, [], 0), ("127.0.0.1:3000", [("Host", "evil.example")], 2)])
def test_an_address_is_named_once(host: str | None, more: list[tuple[str, str]], times: int) -> None:
    assert asked("GET", "/", *more, host=host)[:2] == (400, f"A request names its Host once, not {times} times.\n")
    assert not opened(*more, ("origin", "http://127.0.0.1:3000"), host=host)


@pytest.mark.parametrize(
    "origins",
    [
        ["http://evil.example"], ["null"], [""], ["http://127.0.0.1:3001"], ["http://localhost:3000"],
        ["127.0.0.1:3000"],
        ["http://127.0.0.1:3000.evil.example"], ["http://127.0.0.1:3000/"], ["file://"], ["chrome-extension://abc"],
        ["http://127.0.0.1:3000", "http://evil.example"], ["http://127.0.0.1:3000", "http://127.0.0.1:3000"],
    ],
)  # fmt: skip
def test_a_page_of_another_origin_does_nothing(origins: list[str]) -> None:
    named = [("origin", origin) for origin in origins]
    for method in ("GET", "POST"):
        status, sentence, headers = asked(method, "/graphql", JSON, *named)
        assert status == 403
        assert sentence == f"A page of {', '.join(origins)!a} asked for this: only pages of 127.0.0.1:3000 may.\n"
        assert not any(name.startswith("access-control") for name in headers), "and it may not read why"
    assert not opened(*named)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none, cross-site", "x"])
def test_what_another_page_loads_or_sends_is_refused(site: str) -> None:
    for method, mode, dest in [
        ("GET", "no-cors", "image"), ("GET", "cors", "empty"), ("GET", "navigate", "iframe"),
        ("POST", "navigate", "document"),
    ]:  # fmt: skip
        told = [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)]
        assert asked(method, "/logs/run/compute/out", *told, JSON)[0] == 403
        assert not opened(*told, ("origin", "http://127.0.0.1:3000"))


@pytest.mark.parametrize(
    "path", ["/graphql?query=mutation{x}", "/graphql/?query={version}", "/graphql?q", "/some/where/graphql?query={a}"]
)
@pytest.mark.parametrize("headers", [[], OWN, VISIT, [("accept", "text/html")]])
def test_no_graphql_is_taken_from_an_address(path: str, headers: list[tuple[str, str]]) -> None:
    for method in ("GET", "HEAD"):
        assert asked(method, path, *headers)[:2] == (
            405,
            "GraphQL is not taken from an address: send it by POST as application/json.\n",
        )
    assert asked("POST", path)[0] == 415, "with a body of JSON, its query is taken, and no other"


@pytest.mark.parametrize(
    "kinds",
    [
        [], ["text/plain"], ["application/x-www-form-urlencoded"], ["multipart/form-data; boundary=x"],
        ["text/plain; application/json"], ["text/plain;application/json"], ["application/graphql"],
        ["application/jsonx"],
        ["application/json, text/plain"], ["text/plain", "application/json"],
    ],
)  # fmt: skip
def test_what_a_form_could_send_is_not_taken(kinds: list[str]) -> None:
    for path in ("/graphql", "/report_asset_materialization/lora"):
        assert asked("POST", path, *[("content-type", kind) for kind in kinds])[0] == 415


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "PROPFIND"])
def test_other_methods_are_refused(method: str) -> None:
    status, _, headers = asked(method, "/graphql", JSON)
    assert status == 405
    assert not any(name.startswith("access-control") for name in headers)


def test_a_socket_is_opened_by_own_pages_alone() -> None:
    assert opened(("origin", "http://127.0.0.1:3000"))
    assert opened(("origin", "http://127.0.0.1:3000"), *OWN)
    assert not opened()
    assert not opened(*OWN)


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "evil.example"])
def test_every_answer_has_our_headers(host: str) -> None:
    _, _, headers = asked("GET", "/", host=host)
    for name, value in HEADERS.items():
        assert headers[name] == [value]
    policy = headers["content-security-policy"][-1]
    assert "frame-ancestors 'none'" in policy and "img-src 'self' data: blob:;" in policy
    assert ("ws://127.0.0.1:3000" in policy) == (host == "127.0.0.1:3000")
    assert "evil" not in policy


def test_what_the_application_says_stays_beside_it() -> None:
    _, _, headers = asked("GET", "/")
    assert headers["x-own"] == ["1"]
    assert headers["content-security-policy"][0] == "base-uri 'none'"


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_other_host_and_no_other_origin_ever_goes_in(host: str, origin: str) -> None:
    host, origin = (text.encode("latin-1", "ignore").decode("latin-1") for text in (host, origin))
    assert asked("GET", "/", host=host)[0] == (200 if host.strip().lower() in HOSTS else 421)
    assert asked("POST", "/graphql", JSON, ("origin", origin))[0] == 403


@pytest.mark.parametrize(
    ("host", "port", "more"),
    [
        ("127.0.0.1", 3000, []),
        ("0.0.0.0", 3000, []),
        ("::", 3000, []),
        ("::1", 3000, []),
        ("192.0.2.7", 3000, ["192.0.2.7:3000"]),
        ("2001:db8::1", 3000, ["[2001:db8::1]:3000"]),
    ],
)
def test_the_names_of_this_machine(host: str, port: int, more: list[str]) -> None:
    assert own_hosts(host, port) == ["127.0.0.1:3000", "localhost:3000", "[::1]:3000", *more]


def test_the_port_that_nobody_writes() -> None:
    assert own_hosts("127.0.0.1", 80) == ["127.0.0.1", "localhost", "[::1]"]


def test_what_is_no_request_goes_through() -> None:
    async def alive(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guarded(alive, HOSTS)({"type": "lifespan"}, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "lifespan.startup.complete"}]
