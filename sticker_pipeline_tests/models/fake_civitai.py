"""A server on 127.0.0.1 with the API of Civitai, and another for its files."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class FakeCivitai:
    """Answers and faults of the servers.

    `versions`: number -> what the API answers; `data`: number -> the file's bytes. The rest is what goes wrong.
    """

    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)
    token: str | None = None  # that the site asks for
    broken_after: int | None = None  # bytes after which the connection is cut,
    breaks: int = 0  # this many times
    ranges: bool = True  # whether requests for the rest of a file are understood
    redirect: str | None = None  # where a download leads to instead
    statuses: dict[str, int] = field(default_factory=dict)  # path -> answered instead of anything else
    page: bool = False  # a web page is answered instead of the file
    asked: list[str] = field(default_factory=list)  # "site /path" and "store /path"
    tokens: list[tuple[str, str | None]] = field(default_factory=list)  # (who was asked, what it was told)
    sent: int = 0  # bytes of files
    site: str = ""
    store: str = ""

    def add(self, number: str, data: bytes, name: str = "my Model (v1).safetensors", **changes: Any) -> dict[str, Any]:
        """Add a model version with one file, behind a pickle; return the file's entry."""
        entry = {
            "name": name,
            "type": "Model",
            "sizeKB": len(data) / 1024,
            "metadata": {"format": "SafeTensor", "size": "pruned", "fp": "fp16"},
            "hashes": {"AutoV2": "A5F58EB1C3", "SHA256": hashlib.sha256(data).hexdigest().upper()},
            "downloadUrl": f"{self.site}/api/download/models/{number}",
            "primary": True,
        }
        pickle = {**entry, "name": "other.ckpt", "primary": False, "metadata": {"format": "PickleTensor"}}
        self.versions[number] = {
            "id": int(number),
            "baseModel": "SD 1.5",
            "model": {"name": "My Model", "type": "Checkpoint"},
            "files": [pickle, entry],
            **changes,
        }
        self.data[number] = data
        return entry


@contextmanager
def running(fake: FakeCivitai) -> Iterator[FakeCivitai]:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake, who)) for who in ("site", "store")]
    fake.site, fake.store = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield fake
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _handler(fake: FakeCivitai, who: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            fake.asked.append(f"{who} {path}")
            fake.tokens.append((who, self.headers.get("Authorization")))
            if path in fake.statuses:
                return self._send(fake.statuses[path], b"{}")
            if who == "store":
                return self._file(fake.data[path.rpartition("/")[2]])
            if fake.token and self.headers.get("Authorization") != f"Bearer {fake.token}":
                return self._send(401, b'{"error": "Unauthorized"}')
            if match := re.fullmatch(r"/api/v1/model-versions/(\d+)", path):
                if match[1] not in fake.versions:
                    return self._send(404, b'{"error": "No version"}')
                return self._send(200, json.dumps(fake.versions[match[1]]).encode())
            if path == "/loop":
                return self._send(302, b"", {"Location": "/loop"})
            if fake.page:
                return self._send(200, b"<html>Log in</html>", {"Content-Type": "text/html; charset=utf-8"})
            number = path.rpartition("/")[2]
            return self._send(307, b"", {"Location": fake.redirect or f"{fake.store}/{number}"})

        def _file(self, data: bytes) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if fake.ranges else None
            start = int(asked[1]) if asked else 0
            if start >= len(data):
                return self._send(416, b"")
            rest, headers = data[start:], {"Content-Type": "binary/octet-stream"}
            if asked:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            if fake.breaks and fake.broken_after is not None:
                fake.breaks -= 1
                return self._send(206 if asked else 200, rest, headers, fake.broken_after)
            return self._send(206 if asked else 200, rest, headers)

        def _send(
            self, status: int, data: bytes, headers: dict[str, str] | None = None, cut: int | None = None
        ) -> None:
            self.send_response(status)
            defaults = {"Content-Type": "application/json", "Content-Length": str(len(data))}
            for key, value in (defaults | (headers or {})).items():
                self.send_header(key, value)
            self.end_headers()
            if who == "store":
                fake.sent += len(data[:cut])
            try:
                self.wfile.write(data[:cut])
            except (BrokenPipeError, ConnectionResetError):  # only the headers were wanted
                self.close_connection = True
            self.close_connection = self.close_connection or cut is not None

    return Handler
