"""`sticker-pipeline ui` with real processes: its messages, and a clean end in every case."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from sticker_pipeline.cli.commands import ui_command
from sticker_pipeline.cli.ui import PortTaken, listen
from sticker_pipeline_tests.conftest import REPOSITORY

UP_WITHIN, DOWN_WITHIN = 180.0, 90.0  # seconds, on a machine that is busy with other things


@dataclass(frozen=True)
class Command:
    """The command, started in a session of its own; what it and its children print is in `log`."""

    process: subprocess.Popen[bytes]
    home: Path
    log: Path
    port: int

    def family(self, having: str = "") -> list[psutil.Process]:
        """The processes of this deployment that run, and have the text `having` in their command line."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("DAGSTER_HOME") == str(self.home)
                alive = process.status() != psutil.STATUS_ZOMBIE
                if ours and alive and having in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue  # it has ended, or is somebody else's
        return found

    def wait_until(self, is_so: Callable[[], object], seconds: float = UP_WITHIN) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.1)

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return "The Dagster UI is at " in self.log.read_text()

    def is_at_work(self) -> bool:
        """Tell whether the daemon is up too."""
        return self.is_up() and "dagster.daemon.SensorDaemon" in self.frameworks.read_text()

    @property
    def frameworks(self) -> Path:
        """The log of what Dagster's processes print."""
        return self.home / "logs" / f"ui-{self.port}.log"

    def ends(self, after: float = 5) -> tuple[int, str]:
        """Wait until it has ended, and `after` it its children; returns its status, and what was printed."""
        status = self.process.wait(DOWN_WITHIN)
        self.wait_until(lambda: not self.family(), after)
        return status, self.log.read_text()

    def status(self, path: str, **headers: str) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def graphql(self, query: str) -> dict:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(root: Path, *arguments: str, port: int | None = None, **environment: str) -> Iterator[Command]:
    port, home, log = port or free_port(), root / "home", root / "log"
    listens = [] if "STICKER_UI" in environment else ["--port", str(port)]
    for folder in (home, root / "characters"):
        folder.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STICKER_")}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "sticker_pipeline", "ui", *listens, *arguments],
            cwd=REPOSITORY,
            env={
                **kept,
                "DAGSTER_HOME": str(home),
                "STICKER_CHARACTERS": str(root / "characters"),
                "STICKER_ARTIFACTS": str(root / "artifacts"),
                "PYTHONWARNINGS": "ignore",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=lambda: [signal.signal(one, signal.SIG_DFL) for one in (signal.SIGINT, signal.SIGHUP)],
        )
    command = Command(process, home, log, port)
    try:
        yield command
    finally:
        for one in command.family():
            one.kill()
        process.wait()


def test_what_is_taken_from_dagster_is_there() -> None:
    """Dagster's private modules that `ui.py` stands on; where one has changed, the command cannot start."""
    loaded = subprocess.run([sys.executable, "-c", "import sticker_pipeline.cli.ui"], capture_output=True, text=True)
    assert loaded.returncode == 0, f"Dagster has changed: mend sticker_pipeline/cli/ui.py.\n{loaded.stderr[-2000:]}"


def test_one_signal_ends_all_of_it(tmp_path: Path) -> None:
    """Ctrl-C; below, SIGHUP (the terminal was closed) and SIGTERM end others."""
    with started(tmp_path) as command:
        command.wait_until(command.is_at_work)
        assert command.family("dagster._daemon") and command.family("code-server")
        addresses = {one.environ()["STICKER_UI"] for one in command.family("code-server")}
        assert addresses == {f"http://127.0.0.1:{command.port}"}, "links of what its runs make"
        assert command.status("/server_info") == 200
        command.process.send_signal(signal.SIGINT)
        status, said = command.ends()
    assert status == 130
    address = f"http://127.0.0.1:{command.port}"
    assert said.splitlines() == [
        f"The Dagster UI is at {address}, the desk at {address}/desk. Ctrl-C ends them. "
        f"The log is {command.frameworks}.",
        "Stopping: what is under way is saved first. Once more ends it at once.",
        "The UI has ended, and all that it had started.",
    ], "the terminal has our lines alone"


def test_an_error_of_a_process_is_one_line(tmp_path: Path) -> None:
    with started(tmp_path, STICKER_RETRAIN="nightly") as command:
        command.wait_until(lambda: "error: " in command.log.read_text())
        said = command.log.read_text()
        assert "Traceback" in command.frameworks.read_text()
    (line,) = [line for line in said.splitlines() if "error: " in line]
    assert line[10:].startswith("error: STICKER_RETRAIN is 'nightly', which is no cron schedule. Write minute, hour,")


def test_it_ends_while_it_starts(tmp_path: Path) -> None:
    with started(tmp_path) as command:
        command.wait_until(lambda: command.family("code-server"))
        command.process.send_signal(signal.SIGINT)
        status, said = command.ends()
    assert status == 130
    assert "The Dagster UI is at" not in said


def test_a_dead_daemon_is_said_and_ends_it(tmp_path: Path) -> None:
    with started(tmp_path) as command:
        command.wait_until(command.is_up)
        (daemon,) = command.family("dagster._daemon")
        daemon.kill()
        status, said = command.ends()
    assert status == 1
    assert "Dagster's daemon has ended (killed by SIGKILL), and the UI with it: no sensor would look any more" in said


def test_a_killed_webserver_takes_the_rest_with_it(tmp_path: Path) -> None:
    with started(tmp_path) as command:
        command.wait_until(command.is_up)
        (web,) = command.family("sticker_pipeline.cli.ui")
        began = time.monotonic()
        web.kill()
        status, said = command.ends()
        assert time.monotonic() - began < 45, "it does not wait until Dagster misses a heartbeat"
    assert status == 137
    assert "The work was killed by SIGKILL" in said


def test_a_killed_guard_takes_the_rest_with_it(tmp_path: Path) -> None:
    with started(tmp_path) as command:
        command.wait_until(command.is_up)
        command.process.kill()
        assert command.ends(DOWN_WITHIN)[0] == -signal.SIGKILL


def test_a_port_that_is_taken_is_said_before_any_work(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with started(tmp_path, port=port) as command:
            status, said = command.ends()
    assert status == 1
    assert said == (
        f"Error: Port {port} of 127.0.0.1 cannot be opened: Address already in use. If the UI runs there already, open "
        f"it; else choose another port: make ui PORT={port + 1}, or sticker-pipeline ui --port {port + 1}.\n"
    )
    assert list(command.home.iterdir()) == []


def test_a_setting_that_is_no_address_is_said(tmp_path: Path) -> None:
    with started(tmp_path, STICKER_UI="3001") as command:
        status, said = command.ends()
    assert status == 1
    assert said.startswith("Error: STICKER_UI is '3001', which is no address of a UI: write one such as http://")


def test_an_address_that_is_none_is_said(tmp_path: Path) -> None:
    with started(tmp_path, "--host", "192.0.2.1") as command:
        status, said = command.ends()
    assert status == 1
    assert "of 192.0.2.1 cannot be opened: Cannot assign requested address." in said


def test_a_workspace_that_is_not_there_is_said(tmp_path: Path) -> None:
    with started(tmp_path, "--workspace", "no.yaml") as command:
        status, said = command.ends()
    assert (status, said) == (
        1,
        "Error: no.yaml is not there: start the UI in the project's folder, or name the file.\n",
    )


@pytest.mark.parametrize("name", ["https://ui.example.org", "ui.example.org/", "a b", "*", "", "[::1", "a:b"])
def test_an_address_that_is_written_wrongly_is_said(name: str) -> None:
    found = CliRunner().invoke(ui_command, ["--allow-host", name])
    assert found.exit_code == 2
    assert f"{name!r}: write NAME or NAME:PORT, as the address bar of the browser has it." in found.output


def test_other_addresses_are_allowed_by_name(tmp_path: Path) -> None:
    with started(tmp_path, STICKER_UI_HOSTS="ui.example.org gpu-box:8080") as command:
        command.wait_until(command.is_up)
        found = {
            host: command.status("/server_info", Host=host)
            for host in ("ui.example.org", "gpu-box:8080", f"localhost:{command.port}", "gpu-box", "evil.example")
        }
        command.process.send_signal(signal.SIGHUP)
        assert command.ends()[0] == 129
    assert list(found.values()) == [200, 200, 200, 421, 421]


def test_read_only_shows_and_does_nothing(tmp_path: Path) -> None:
    with started(tmp_path, "--read-only") as command:
        command.wait_until(command.is_up)
        assert command.family("dagster._daemon") == []
        assert command.graphql("{version}")["data"]["version"]
        added = command.graphql(
            'mutation {addDynamicPartition(partitionsDefName: "characters", partitionKey: "x", repositorySelector: '
            '{repositoryName: "__repository__", repositoryLocationName: "sticker_pipeline"}) {__typename}}'
        )
        assert added["data"]["addDynamicPartition"]["__typename"] == "UnauthorizedError"
        command.process.send_signal(signal.SIGTERM)
        assert command.ends()[0] == 143


def test_a_host_without_an_address_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(PortTaken, match=r"^--host nope\.example: this name has no address\. Choose 127\.0\.0\.1"):
        listen("nope.example", 3000)
