"""Servers that can be killed and come back as they were: at the same address, with what they had on their disk."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from deployments.seaweed import PORTS
from tests.deployments.prefect_rig import await_true, begin_server, is_healthy
from tests.ports import free_port, free_ports
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, run_server

BUCKET = "alp-faults"


class MortalS3:
    """An S3 server that can be killed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._ports = folder, free_ports(PORTS)
        self._life = ExitStack()
        self._server: S3Server | None = None

    def start(self) -> S3Server:
        """Start it, or start it again, unless it runs."""
        if self._server is None:
            self._server = self._life.enter_context(run_server(self._folder, ports=self._ports))
        return self._server

    def kill(self) -> None:
        """SIGKILL."""
        self._server = None
        self._life.close()

    @property
    def environment(self) -> dict[str, str]:
        """What opens it."""
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


class MortalPrefect:
    """A Prefect server with all services that can be killed."""

    def __init__(self, home: Path, settings: Mapping[str, str]) -> None:
        self.home, self._settings, self._port = home, settings, free_port()
        self.url = f"http://127.0.0.1:{self._port}/api"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again, unless it runs, and wait until it answers."""
        if self._process is None:
            self.home.mkdir(parents=True, exist_ok=True)
            self._process = begin_server(self.home, self._port, self._settings)
        await_true(lambda: is_healthy(self.url), seconds=180, what=f"the server; see {self.home / 'log.txt'}")

    def kill(self) -> None:
        """SIGKILL, to it and all its processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
