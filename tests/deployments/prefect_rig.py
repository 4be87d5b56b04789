"""A Prefect server as a plant runs one: a process of its own with all services, for events and automations."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_LEVEL,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


def begin_server(home: Path, port: int, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a server as the local platform does, and do not wait for it; it is the first of its group of processes.

    settings: more of its environment.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # Else the pages of its UI ask a server on the usual port.
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "deployments.capped_prefect", "server", "start"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (home / "log.txt").open("ab") as log:
        return subprocess.Popen(
            command, env=kept | own | dict(settings), stdout=log, stderr=log, start_new_session=True
        )


@contextmanager
def run_server(home: Path, **settings: str) -> Iterator[str]:
    """URL of a server that keeps its data in `home` and runs until the context ends.

    settings: more of its environment.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    process = begin_server(home, port, settings)
    try:
        await_true(lambda: is_healthy(url), seconds=180, what=f"the server; see {home / 'log.txt'}")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def prefect_server(home: Path, **settings: str) -> Iterator[str]:
    """The same, and it is the one that is configured here until the context ends."""
    with run_server(home, **settings) as url:
        with temporary_settings(updates={PREFECT_API_URL: url, PREFECT_LOGGING_LEVEL: "ERROR"}):
            forget_servers()
            yield url
        forget_servers()


@contextmanager
def harness(*, log_level: str = "ERROR") -> Iterator[None]:
    """A server for tests of what asks one and needs none of its services; the one configured until the context ends.

    It is the whole process's: one that outlives its module would hear what the next module's runs say.
    """
    quick = {PREFECT_LOGGING_LEVEL: log_level, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with prefect_test_harness(server_startup_timeout=180), temporary_settings(updates=quick):
        forget_servers()
        yield
        forget_servers()


def forget_servers() -> None:
    """Let go of the threads that talk to a server: they would go on talking to one that is gone, with what comes next.

    So do those that a test harness leaves, whichever test it was of.
    """
    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=60, at_exit=False)


def is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def await_true(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.2)
