"""A deployment in its own folder, started like `make ui`, ended like Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline_tests.conftest import REPOSITORY

UP_WITHIN, DOWN_WITHIN = 240.0, 60.0  # seconds, on a machine that is busy with other things


@dataclass(frozen=True)
class Deployment:
    """Characters, artifacts and run history in `root`, and the address of their UI."""

    root: Path
    url: str

    @property
    def characters(self) -> Path:
        return self.root / "characters"

    @property
    def home(self) -> Path:
        return self.root / "dagster"

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.root / "artifacts"))

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STICKER_")}
        return {
            **kept,
            "DAGSTER_HOME": str(self.home),
            "STICKER_CHARACTERS": str(self.characters),
            "STICKER_ARTIFACTS": self.store.root.as_posix(),
            "STICKER_MODELS": str(REPOSITORY / "data" / "models"),
            "OMP_NUM_THREADS": "1",
        }

    def command(self, *arguments: str) -> None:
        """Run `sticker-pipeline` with `arguments` in this deployment."""
        script = Path(sys.executable).with_name("sticker-pipeline")
        subprocess.run([script, *arguments], cwd=REPOSITORY, env=self.environment, check=True)

    def stop_automation(self) -> None:
        """Stop the automation, so that only a person's actions in the UI start runs."""
        command = [sys.executable, "-m", "dagster", "sensor", "stop", "automation", "--workspace", "workspace.yaml"]
        subprocess.run(command, cwd=REPOSITORY, env=self.environment, check=True)

    def processes(self, having: str = "") -> list[psutil.Process]:
        """The deployment's processes, in whatever session, whose command line has the text `having`."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("DAGSTER_HOME") == str(self.home)
                if ours and having in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue  # it has ended, or is somebody else's
        return found


@contextmanager
def deployment(root: Path, *options: str) -> Iterator[Deployment]:
    """Run the UI of `root`/characters until the block ends; then end all its processes.

    Its log is `root`/ui.log. `options` are further ones of `sticker-pipeline ui`.

    Raises RuntimeError when the server does not come up, or when something outlives it.
    """
    port = str(_free_port())
    there = Deployment(root, f"http://127.0.0.1:{port}")
    there.home.mkdir(exist_ok=True)
    there.command("doctor")  # makes the tables of the run history, before the server's processes try at once
    there.stop_automation()
    with (root / "ui.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "sticker_pipeline", "ui", "--port", port, *options],  # as the Makefile has it
            cwd=REPOSITORY,
            env=there.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_listen_to_interrupts,
        )
    try:
        _wait_until_up(there, server)
        yield there
    finally:
        left = _end(there, server)
    if left:
        raise RuntimeError(f"Processes outlived the server, and were killed: {left}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listen_to_interrupts() -> None:
    """Restore SIGINT, which a shell's background job ignores.

    Tests may run in one, and the server would inherit it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _wait_until_up(there: Deployment, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + UP_WITHIN
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{there.url}/server_info", timeout=10).close()
            return
        except OSError:
            time.sleep(0.3)
    logs = [there.root / "ui.log", *(there.home / "logs").glob("*.log")]
    raise RuntimeError(f"The server is not up; the ends of its logs: {[log.read_text()[-2000:] for log in logs]}")


def _end(there: Deployment, server: subprocess.Popen[bytes]) -> list[str]:
    """Interrupt the server as Ctrl-C does; return the command lines of killed processes."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGINT)
    deadline = time.monotonic() + DOWN_WITHIN
    while (left := there.processes()) and time.monotonic() < deadline:
        server.poll()  # or it stays as a zombie
        time.sleep(0.3)
    killed = []
    for process in left:
        try:
            killed.append(" ".join(process.cmdline())[:200])
            process.kill()
        except psutil.Error:
            continue  # it has ended meanwhile
    server.wait()
    return killed
