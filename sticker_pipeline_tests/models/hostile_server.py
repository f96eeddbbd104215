"""A server on 127.0.0.1 that answers each request with bytes of a test's choice."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = Callable[[socket.socket, bytes], object]  # (where to write, the request)


@contextmanager
def hostile(answer: Answer) -> Iterator[str]:
    """The address of a server that does `answer` for each request."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, answer), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def bytes_of(body: bytes = b"", status: str = "200 OK", **headers: object) -> Answer:
    """An answer with this body and these headers (`Content_Length` is Content-Length), and nothing else."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return lambda to, _: to.sendall(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body)


def _serve(server: socket.socket, answer: Answer) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_one, args=(connection, answer), daemon=True).start()


def _one(connection: socket.socket, answer: Answer) -> None:
    request = b""
    with connection:
        try:
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536)
            answer(connection, request)
        except OSError:  # the client has gone
            return
