"""A real S3 server for tests, SeaweedFS, and a way to stand between it and whoever asks it."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from deployments.seaweed import PORTS, S3_PORT, find_weed, weed_command
from tests.ports import free_ports

ACCESS_KEY, SECRET_KEY = "alp-test-key", "alp-test-secret-f3a1"
_START_S = 60.0

# A bucket takes seven volumes otherwise, and free disk has room for few: a session's last buckets could not be written.
_ONE_VOLUME_A_BUCKET = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}


@dataclass(frozen=True)
class S3Server:
    """A server that answers at `endpoint`."""

    endpoint: str

    def url(self, bucket: str, prefix: str = "") -> str:
        """URL of a store in it."""
        return f"s3://{bucket}{f'/{prefix}' if prefix else ''}?endpoint={self.endpoint}"


@contextmanager
def run_server(folder: Path, *, ports: list[int] | None = None) -> Iterator[S3Server]:
    """A server that keeps its data in `folder`, on loopback alone, until the context ends."""
    weed = find_weed()
    assert weed is not None
    folder.mkdir(parents=True, exist_ok=True)
    ports = ports or free_ports(PORTS)
    s3 = ports[S3_PORT]
    command = weed_command(weed, folder, ports)
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY} | _ONE_VOLUME_A_BUCKET
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=os.environ | keys, stdout=log, stderr=log)
    try:
        _wait_until_well(f"http://127.0.0.1:{s3}", process, folder / "server.log")
        yield S3Server(f"http://127.0.0.1:{s3}")
    finally:
        # What it was told to keep is kept without its leave; to take leave takes it twenty seconds.
        process.kill()
        process.wait()


def _wait_until_well(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(endpoint, timeout=2)
        except urllib.error.HTTPError:
            return  # it asks who we are
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"SeaweedFS did not start: {log.read_text(errors='replace')[-2000:]}")


Meddle = Callable[[bytes], bytes | None]
"""Gives what is passed on of what came; None cuts the connection."""


class Proxy:
    """Stands between a server and whoever asks it, and does to what passes what a test wants.

    `meddle_in` is called with each piece that goes to the server, `meddle_out` with each that comes from it. While
    `is_down`, nothing is passed and no connection is taken.
    """

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._target = (str(parts.hostname), int(parts.port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.meddle_in: Meddle = bytes
        self.meddle_out: Meddle = bytes
        self.is_down = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_down:
                client.close()
                continue
            server = socket.create_connection(self._target)
            for source, sink, name in ((client, server, "meddle_in"), (server, client, "meddle_out")):
                threading.Thread(target=self._pass, args=(source, sink, name), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                passed = None if self.is_down else getattr(self, name)(piece)
                if passed is None:
                    break
                sink.sendall(passed)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
