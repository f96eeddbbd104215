"""Serves the Dagster UI behind `cli/door.py`, with daemon and code server.

Run as `python -m sticker_pipeline.cli.ui` under a guard: `dagster dev` with access control. All parts end together: on
request, when the guard is gone, or when webserver or daemon has ended.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, cast

import click
import dagster as dg
import psutil
import uvicorn
import yaml

from sticker_pipeline.cli.desk import DagsterRuns
from sticker_pipeline.cli.door import DESK, App, Receive, Scope, Send, guarded, own_hosts
from sticker_pipeline.core.address import LOOPBACK, VARIABLE, address_of
from sticker_pipeline.core.process import guard
from sticker_pipeline.core.process.aside import set_aside, shorten
from sticker_pipeline.core.process.output import watch_over
from sticker_pipeline.core.process.quiet import quiet
from sticker_pipeline.core.process.stopping import Stopping, obey_the_guard
from sticker_pipeline.dagster_kit import compat
from sticker_pipeline.dagster_kit.dead_runs import UNDER_WAY, end_dead_runs, own_process
from sticker_pipeline.dagster_kit.history import remember_members
from sticker_pipeline.dagster_kit.instance import make_home, open_instance
from sticker_pipeline.dagster_kit.log_errors import errors
from sticker_pipeline.dagster_kit.run_news import run_news
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import workspace_from_environment
from sticker_pipeline.desk.app import desk_app
from sticker_pipeline.desk.session import Session

POLL_SECONDS = 0.2
NEWS_SECONDS = 5.0  # between looks at ended runs and new errors
POLL_RATE = 2000  # milliseconds between requests of an open page, as in `dagster dev`
DATABASE = {"statement_timeout": 15_000, "pool_recycle": 3600, "max_overflow": 20}  # as in `dagster-webserver`
CLOSING_SECONDS = 3  # for connections of open pages


class PortTaken(Exception):
    """A port in use; the message gives the remedy."""


class PartEnded(Exception):
    """The end of webserver or daemon; the message names it."""


@click.command()
@click.option("--host", default="127.0.0.1")
@click.option("--port", type=int, default=3000)
@click.option("--allow-host", "allowed", multiple=True)
@click.option("--read-only", is_flag=True)
@click.option("--workspace", default="workspace.yaml")
@click.option("--open", "page", default="")
def main(host: str, port: int, allowed: Sequence[str], read_only: bool, workspace: str, page: str) -> None:
    """Serve the UI until stopped."""
    quiet()
    for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        signal.signal(number, signal.default_int_handler)
    watch_over()
    stopping = Stopping()
    obey_the_guard(stopping)
    try:
        hosts = [*own_hosts(host, port), *allowed]
        serve(host, port, hosts, workspace, read_only=read_only, page=page)
    except PortTaken as error:
        raise click.ClickException(str(error)) from error
    except PartEnded as error:
        end_the_rest(guard.say)
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        end_the_rest(guard.say)
        guard.say("The UI has ended, and all that it had started.")
        sys.exit(128 + (stopping.number or signal.SIGINT))


def serve(host: str, port: int, hosts: Sequence[str], workspace: str, *, read_only: bool, page: str = "") -> None:
    """Serve UI and desk to `hosts` until KeyboardInterrupt, with a daemon unless `read_only`.

    `page`: an address, opened in the browser once it is served. What Dagster's processes print is in a log. Raises
    PortTaken before any work, PartEnded once webserver or daemon has ended.
    """
    listening = listen(host, port)
    address = address_of(os.environ, hosts[0])
    os.environ |= {"DAGSTER_IS_DEV_CLI": "1", "DAGSTER_DISABLE_TELEMETRY": "1", VARIABLE: address}
    log = make_home() / "logs" / f"ui-{port}.log"
    with set_aside(log) as say, open_instance() as instance:
        if host not in LOOPBACK:
            say(f"Others can reach the UI at {host}. It has no login: docs/guide/ui.md says how to put one before it.")
        for sentence in end_dead_runs(instance) if not read_only else []:
            say(sentence)
        with ExitStack() as parts:
            try:
                news = run_news(instance, address) if not read_only else repeat(list[str]())
                web, daemon = _start(parts, instance, listening, hosts, workspace, read_only)
                say(f"The Dagster UI is at {address}, the desk at {address}{DESK}. Ctrl-C ends them. The log is {log}.")
                if page:
                    webbrowser.open(page)
                _follow(web, daemon, log, news, say)
            finally:  # before the parts are closed, also if not all have started
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                _cancel_runs(instance)
                _interrupt_group()


def _start(
    parts: ExitStack,
    instance: dg.DagsterInstance,
    listening: socket.socket,
    hosts: Sequence[str],
    workspace: str,
    read_only: bool,
) -> "tuple[threading.Thread, subprocess.Popen[bytes] | None]":
    """Start code server, webserver and daemon, each closed with `parts`."""
    code_servers = parts.enter_context(compat.code_servers(instance, Path(workspace).absolute()))
    served = parts.enter_context(_workspace_of(code_servers))
    web = parts.enter_context(_webserver(instance, served, listening, hosts, read_only))
    return web, None if read_only else parts.enter_context(_daemon(served))


def _follow(
    web: threading.Thread,
    daemon: "subprocess.Popen[bytes] | None",
    log: Path,
    news: Iterator[list[str]],
    say: Callable[[str], None],
) -> None:
    """Tell `news` and errors; raise PartEnded once webserver or daemon has ended."""
    found, due = errors(log), time.monotonic()
    while True:
        time.sleep(POLL_SECONDS)
        if not web.is_alive():
            raise PartEnded(f"The webserver has ended, and the UI with it; {log} says why. Start it again.")
        if daemon is not None and (code := daemon.poll()) is not None:
            raise PartEnded(
                f"Dagster's daemon has ended ({_ending(code)}), and the UI with it: no sensor would look any more, and "
                f"no run would begin. {log} may say why. Start it again."
            )
        if time.monotonic() >= due:
            due = time.monotonic() + NEWS_SECONDS
            for line in [*next(news), *(f"error: {message}" for message in next(found))]:
                say(f"{datetime.now():%H:%M:%S}  {line}")
            shorten(log)


def listen(host: str, port: int) -> socket.socket:
    """Open the port, or raise PortTaken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise PortTaken(
            f"--host {host}: this name has no address. Choose 127.0.0.1, or an address of yours."
        ) from error
    try:
        listening = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere two programs could listen at once
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        why, other = error.strerror or str(error), port + 1 if port < 65535 else 3000
        raise PortTaken(
            f"Port {port} of {host} cannot be opened: {why}. If the UI runs there already, open it; else choose "
            f"another port: make ui PORT={other}, or sticker-pipeline ui --port {other}."
        ) from error
    return listening


@contextmanager
def _workspace_of(code_servers: list[dict[str, Any]]) -> Iterator[Path]:
    """Write the code servers' workspace file, shared by webserver and daemon."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "workspace.yaml"
        path.write_text(yaml.safe_dump({"load_from": code_servers}), encoding="utf-8")
        yield path


@contextmanager
def _webserver(
    instance: dg.DagsterInstance, workspace: Path, listening: socket.socket, hosts: Sequence[str], read_only: bool
) -> Iterator[threading.Thread]:
    instance.optimize_for_webserver(**DATABASE)
    remember_members(instance)
    with compat.webserver_context(instance, workspace, read_only=read_only) as context:
        app = with_desk(compat.webserver_app(context, POLL_RATE), _desk(instance, context, read_only))
        server = uvicorn.Server(
            uvicorn.Config(
                guarded(app, hosts),
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=CLOSING_SECONDS,
            )
        )
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True, name="webserver")
        thread.start()
        try:
            while thread.is_alive() and not server.started:
                time.sleep(POLL_SECONDS / 10)
            yield thread
        finally:
            server.should_exit = True
            thread.join(2 * CLOSING_SECONDS)


def _desk(instance: dg.DagsterInstance, context: Any, read_only: bool) -> App:
    folders = workspace_from_environment()
    runs = DagsterRuns(instance, folders.store, partial(compat.check_specs, context, str(CHARACTERS.name)))
    session = Session(folders.characters_folder, folders.models_folder, folders.store, runs)
    return cast(App, desk_app(session, read_only=read_only))


def with_desk(app: App, desk: App) -> App:
    """Return `app` with the desk at DESK."""

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and f"{scope['path']}/".startswith(f"{DESK}/"):
            await desk({**scope, "root_path": DESK}, receive, send)
        else:
            await app(scope, receive, send)

    return either


@contextmanager
def _daemon(workspace: Path) -> "Iterator[subprocess.Popen[bytes]]":
    command = [sys.executable, "-m", compat.DAEMON, "run", "--log-level", "info", "--workspace", str(workspace)]
    daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield daemon
    finally:
        try:
            daemon.wait(guard.ORPHAN_SECONDS)
        except subprocess.TimeoutExpired:
            daemon.kill()


def _cancel_runs(instance: dg.DagsterInstance) -> None:
    """Mark the runs started here as being cancelled, not failed."""
    mark = os.environ.get(guard.MARK)
    ours = {process.pid for process in _others(mark)} if mark else set()
    for run in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY)):
        process = own_process(run)
        if process is not None and process.pid in ours:
            instance.report_run_canceling(run, "The UI that started this run was asked to stop.")


def _interrupt_group() -> None:
    """Interrupt all started processes, like Ctrl-C; this one ignores it."""
    if os.environ.get(guard.MARK) and hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGINT)


def end_the_rest(say: Callable[[str], None]) -> None:
    """Wait for all started processes, also runs and trainings; kill the rest."""
    mark = os.environ.get(guard.MARK)
    if mark is None:
        return
    deadline = time.monotonic() + guard.ORPHAN_SECONDS
    while (left := _others(mark)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for process in left:
        try:
            say(f"Killed, for it did not end: {' '.join(process.cmdline())[:120]}")
            process.kill()
        except psutil.Error:
            continue  # just ended


def _others(mark: str) -> list[psutil.Process]:
    return [process for process in guard.marked(mark) if process.pid != os.getpid()]


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


if __name__ == "__main__":
    main()
