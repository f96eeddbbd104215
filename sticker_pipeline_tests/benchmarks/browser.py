"""A headless Chromium that evaluates JavaScript in a page, by the DevTools protocol."""

import base64
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

START_SECONDS, ANSWER_SECONDS = 60.0, 120.0


class Page:
    """One page, through its connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._sent = connection, 0

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, or what its promise resolves to. RuntimeError for what it throws."""
        answer = self._call("Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True})
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"].get("exception", answer["exceptionDetails"])))
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until the expression is true. Raises TimeoutError."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{condition} did not become true.")
            time.sleep(0.2)

    def screenshot(self) -> bytes:
        """A PNG of what is visible."""
        return base64.b64decode(self._call("Page.captureScreenshot", {"format": "png"})["data"])

    def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._sent += 1
        self._connection.send(json.dumps({"id": self._sent, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=ANSWER_SECONDS))
            if answer.get("id") == self._sent:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])


@contextmanager
def opened(chromium: str, url: str, size: tuple[int, int] = (1900, 1000)) -> Iterator[Page]:
    """The page at `url` in a browser of its own, which ends with the block. `size` in pixels."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        command += [f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", "--hide-scrollbars", url]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with connect(_address(Path(profile) / "DevToolsActivePort", url), max_size=None) as connection:
                yield Page(connection)
        finally:
            process.terminate()
            process.wait()


def _address(port_file: Path, url: str) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if port_file.is_file() and (text := port_file.read_text(encoding="utf-8").split()):
            with urlopen(f"http://127.0.0.1:{text[0]}/json") as answer:
                pages = [page for page in json.load(answer) if page["url"].startswith(url)]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.2)
    raise TimeoutError(f"The browser did not open {url} in {START_SECONDS:.0f} s.")
