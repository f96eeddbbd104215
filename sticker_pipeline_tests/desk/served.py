"""A desk in this process, behind its door."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from sticker_pipeline.cli.door import guarded
from sticker_pipeline.cli.ui import with_desk
from sticker_pipeline.desk.app import desk_app
from sticker_pipeline.desk.session import Session
from sticker_pipeline_tests.desk.example import session


@contextmanager
def served(root: Path, desk: Session | None = None) -> Iterator[str]:
    """Serve the desk of `root` without a Dagster UI; yield its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    host = f"127.0.0.1:{listening.getsockname()[1]}"
    app = guarded(with_desk(Starlette(), desk_app(desk or session(root))), [host])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://{host}"
    finally:
        server.should_exit = True
        thread.join()
