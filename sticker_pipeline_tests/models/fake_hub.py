"""A hub on 127.0.0.1 with the part of the hub's API that huggingface_hub needs."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".onnx", ".safetensors")  # stored with Git LFS on the hub: their sha256 is stated


@dataclass
class FakeHub:
    """`commits`: repository -> commits (40 hex digits -> files), the newest last. `asked`: its requests."""

    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken_after: int | None = None  # bytes of a large file after which the connection is cut,
    breaks: int = 0  # this many times
    ranges: bool = True  # whether requests for the rest of a file are understood
    sent: dict[str, int] = field(default_factory=dict)  # file name -> bytes
    status: int | None = None  # answered instead of anything else
    served: dict[str, bytes] = field(default_factory=dict)  # file name -> what is sent in place of the true content
    endpoint: str = ""

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        """Add a commit with exactly these files; returns its name."""
        history = self.commits.setdefault(repo, {})
        revision = hashlib.sha1(f"{repo}{len(history)}".encode()).hexdigest()
        history[revision] = files
        return revision

    def gets(self) -> list[str]:
        """The files that were downloaded since `asked` was cleared."""
        return [line.rpartition("/")[2] for line in self.asked if line.startswith("GET") and "/resolve/" in line]


@contextmanager
def running(hub: FakeHub) -> Iterator[FakeHub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            if hub.status is not None:
                return self._send(hub.status, b"{}", body)
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                return self._info(match[1], match[2])
            if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                return self._file(match[1], match[2], match[3], body)
            return self._send(404, b"", body)

        def _revision(self, repo: str, name: str | None) -> str | None:
            history = hub.commits[repo]
            return list(history)[-1] if name in (None, "main") else next((r for r in history if r == name), None)

        def _info(self, repo: str, name: str | None) -> None:
            if repo not in hub.commits:
                return self._send(404, b"{}", True, {"X-Error-Code": "RepoNotFound"})
            revision = self._revision(repo, name)
            if revision is None:
                return self._send(404, b"{}", True, {"X-Error-Code": "RevisionNotFound"})
            siblings = [_sibling(file, data) for file, data in hub.commits[repo][revision].items()]
            answer = {"id": repo, "modelId": repo, "sha": revision, "siblings": siblings}
            return self._send(200, json.dumps(answer).encode(), True, {"Content-Type": "application/json"})

        def _file(self, repo: str, name: str, file: str, body: bool) -> None:
            revision = self._revision(repo, name)
            if revision is None or file not in hub.commits[repo][revision]:
                return self._send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
            data = hub.served.get(file, hub.commits[repo][revision][file])
            start = int((re.findall(r"bytes=(\d+)-", self.headers.get("Range", "") if hub.ranges else "") or ["0"])[0])
            headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": revision}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            cut = None
            if body and file.endswith(LARGE) and hub.breaks and hub.broken_after is not None:
                cut, hub.breaks = hub.broken_after, hub.breaks - 1
            if body:
                hub.sent[file] = hub.sent.get(file, 0) + len(data[start:][:cut])
            return self._send(206 if start else 200, data[start:], body, headers, cut)

        def _send(
            self, status: int, data: bytes, body: bool, headers: dict[str, str] | None = None, cut: int | None = None
        ) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data if cut is None else data[:cut])
            self.close_connection = cut is not None

    return Handler


def _sibling(file: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": file, "size": len(data)}
    if file.endswith(LARGE):
        return {**entry, "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}
    return {**entry, "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
