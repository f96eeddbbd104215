"""The parts of a fleet on this machine: Postgres, a Ray head with nodes, a code server, and runs on them.

The settings are those of deploy/ray/dagster.yaml. Everything started here carries MARK, and is gone after the block.
"""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest
import yaml

from sticker_pipeline_tests.conftest import REPOSITORY

MARK = "FLEET_TEST"
WAIT_SECONDS = 240.0
SETTINGS = REPOSITORY / "deploy" / "ray" / "dagster.yaml"
PASSWORD = "only for this test"


@dataclass(frozen=True)
class Fleet:
    """A running fleet. `environment`: that of all its processes; `nodes`: the raylets' starters."""

    home: Path
    environment: Mapping[str, str]
    nodes: Sequence[subprocess.Popen[bytes]]
    workspace: Path

    def launch(self, job: str, partition: str | None = None) -> str:
        """Submit a run of the job to the run launcher; returns its id."""
        run_id = str(uuid.uuid4())
        tags = json.dumps({"dagster/partition": partition} if partition else {})
        command = ["job", "launch", "--workspace", str(self.workspace), "--job", job, "--tags", tags]
        subprocess.run(
            [sys.executable, "-m", "dagster", *command, "--run-id", run_id],
            env=dict(self.environment),
            check=True,
            capture_output=True,
        )
        return run_id

    def processes(self) -> list[psutil.Process]:
        """All live processes of the fleet."""
        return marked(self.environment[MARK])


def require() -> None:
    """Skip, with the reason, where a part is not installed."""
    pytest.importorskip("dagster_ray", reason="needs pip install 'sticker_pipeline[fleet]'")
    pytest.importorskip("dagster_postgres", reason="needs pip install 'sticker_pipeline[fleet]'")
    _postgres_programs()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, found: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Return once `found()` is true; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def marked(mark: str) -> list[psutil.Process]:
    """Live processes with this mark in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], log: Path, ready: Callable[[], object]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server during the block, once it is ready; end it by SIGTERM, later SIGKILL."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=dict(environment), stdout=out, stderr=out, start_new_session=True)
        try:
            wait_for(log.stem, lambda: ready() or process.poll() is not None)
            assert process.poll() is None, log.read_text()[-2000:]
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def cleared(mark: str) -> Iterator[None]:
    """Kill after the block what still carries the mark."""
    try:
        yield
    finally:
        left = [process for process in marked(mark) if process.pid != os.getpid()]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=30)


def _postgres_programs() -> Path:
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")), shutil.which("initdb")]
    if found[0] is None:
        pytest.skip("Postgres is not installed: apt-get install postgresql")
    if os.geteuid() == 0 and not any(user.pw_name == "postgres" for user in pwd.getpwall()):
        pytest.skip("Postgres refuses root, and there is no user `postgres`")
    return Path(found[0]).parent


@dataclass
class Postgres:
    """A server with the empty database `dagster`, for connections with PASSWORD."""

    folder: Path
    port: int
    environment: Mapping[str, str]
    server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, as another user than root."""
        options = ["-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command = [str(_postgres_programs() / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        self.server = subprocess.Popen(
            [*command, *options], user=_postgres_user(), env=dict(self.environment), stderr=subprocess.DEVNULL
        )
        wait_for("Postgres", lambda: not self.run("pg_isready", check=False))

    def stop(self) -> None:
        """Stop the server at once: it waits for no connection."""
        assert self.server
        self.server.send_signal(signal.SIGINT)
        self.server.wait(30)

    def run(self, program: str, *arguments: str, check: bool = True) -> int:
        """Run one of Postgres's programs as its administrator."""
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "dagster"]
        command = [str(_postgres_programs() / program), *address, *arguments]
        environment = {**self.environment, "PGPASSWORD": PASSWORD}
        return subprocess.run(command, env=environment, check=check, capture_output=True).returncode


def _postgres_user() -> str | None:
    return "postgres" if os.geteuid() == 0 else None


@contextmanager
def postgres(mark: str) -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="fleet-pg-") as name:
        folder, user = Path(name), _postgres_user()
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", MARK: mark}
        (folder / "password").write_text(PASSWORD)
        if user:
            shutil.chown(folder, user)
            shutil.chown(folder / "password", user)
        initdb = [str(_postgres_programs() / "initdb"), "-D", str(folder / "data"), "-U", "dagster"]
        subprocess.run(
            [*initdb, "-A", "scram-sha-256", "--pwfile", str(folder / "password")],
            user=user,
            env=environment,
            check=True,
            capture_output=True,
        )
        found = Postgres(folder, free_port(), environment)
        found.start()
        try:
            found.run("createdb", "dagster")
            yield found
        finally:
            found.stop()


def of_postgres(database: Postgres) -> dict[str, str]:
    """Return the variables that the settings name."""
    return {
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": str(database.port),
        "POSTGRES_USER": "dagster",
        "POSTGRES_DB": "dagster",
        "POSTGRES_PASSWORD": PASSWORD,
    }


@contextmanager
def ray_head(environment: Mapping[str, str], logs: Path) -> Iterator[tuple[int, int]]:
    """A head that runs nothing itself; yields its port and that of its job server."""
    port, dashboard = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        command = ["--head", f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}"]
        agent = f"--ray-client-server-port={free_port()}"
        options = [*command, agent, "--num-cpus=0", "--num-gpus=0"]
        with started(_ray(*options), environment, logs / "head.log", lambda: answers(dashboard)):
            yield port, dashboard


@contextmanager
def ray_node(head: int, environment: Mapping[str, str], logs: Path, cpus: int) -> Iterator[subprocess.Popen[bytes]]:
    """A node of the cluster, begun: two raylets that start at once on one machine may choose the same ports."""
    log = logs / f"node-{uuid.uuid4().hex[:4]}.log"
    options = [f"--address=127.0.0.1:{head}", f"--num-cpus={cpus}"]
    with started(_ray(*options), environment, log, lambda: "Ray runtime started" in log.read_text()) as node:
        yield node


def _ray(*options: str) -> list[str]:
    agents = [f"--{name}-port={free_port()}" for name in ("dashboard-agent-listen", "metrics-export")]
    limits = ["--object-store-memory=80000000", "--disable-usage-stats", "--include-log-monitor=false"]
    start = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--node-ip-address=127.0.0.1"]
    return [*start, *options, *agents, *limits]


@contextmanager
def code_server(environment: Mapping[str, str], logs: Path, module: str) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "dagster", "api", "grpc", "--host", "127.0.0.1", "--port", str(port), "-m", module]
    with started(command, environment, logs / "code.log", lambda: answers(port)):
        yield port


def settings_here(home: Path) -> None:
    """Write the settings that ship; steps' output stays here, and runs begin without a daemon's queue."""
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    del settings["compute_logs"]
    del settings["concurrency"]["runs"]
    settings["run_coordinator"] = {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


@contextmanager
def fleet(root: Path, variables: Mapping[str, str], module: str, nodes: int = 2, cpus: int = 2) -> Iterator[Fleet]:
    """Start all parts, with the `variables` in their environment; `module` has the definitions."""
    mark, home = str(uuid.uuid4()), root / "home"
    home.mkdir(parents=True)
    settings_here(home)
    with cleared(mark):
        yield from _running(root, home, mark, variables, module, nodes, cpus)
        wait_for("the end of all its processes", lambda: not marked(mark), 60)


def _running(
    root: Path, home: Path, mark: str, variables: Mapping[str, str], module: str, nodes: int, cpus: int
) -> Iterator[Fleet]:
    with ExitStack() as parts:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("STICKER_", "PYTEST_"))},
            MARK: mark,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # jobs begin with `dagster`
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "ignore",
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "RAY_raylet_start_wait_time_s": "120",
            "RAY_memory_monitor_refresh_ms": "0",  # this machine's memory is not Ray's alone
            **of_postgres(parts.enter_context(postgres(mark))),
            **variables,
        }
        head, dashboard = parts.enter_context(ray_head(environment, root))
        environment["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
        raylets = [parts.enter_context(ray_node(head, environment, root, cpus)) for _ in range(nodes)]
        port = parts.enter_context(code_server(environment, root, module))
        server = {"host": "127.0.0.1", "port": port, "location_name": "sticker_pipeline"}
        workspace = root / "workspace.yaml"
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}), encoding="utf-8")
        yield Fleet(home, environment, raylets, workspace)


@contextmanager
def history(found: Fleet) -> Iterator[dg.DagsterInstance]:
    """Open the fleet's instance, with the fleet's environment in this process meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            if name != MARK:
                patch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(found.home)) as instance:
            yield instance


def ended(instance: dg.DagsterInstance, run_id: str, seconds: float = WAIT_SECONDS) -> dg.DagsterRun:
    """Wait for the run's end, and return it."""

    def finished() -> bool:
        run = instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    wait_for(f"the end of run {run_id}", finished, seconds)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run
