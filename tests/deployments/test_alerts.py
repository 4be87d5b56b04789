"""The example alerts ring on a real Prefect server, put there by the commands that docs/observability.md names."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client

from tasks.events import Happening, asset_resource, tell_server
from tasks.onboarded import ONBOARDED_EVENT, customer_resource
from tests.deployments.prefect_rig import await_true, prefect_server

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deployments" / "examples" / "alerts.yaml"
PAGE = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
TOKEN = "al3rt-T0ken"
PATIENCE_S = 10
"""Of the customer's silence, in place of the example's days; Prefect takes no less than ten seconds."""


@pytest.fixture(scope="module")
def posts() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a webhook, and what it got."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/{TOKEN}", got
        http.shutdown()


@pytest.fixture(scope="module")
def rung(
    posts: tuple[str, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[dict[str, Any]]]:
    """What the webhook got, once the alerts were put onto a server by the page's own commands."""
    address, got = posts
    folder = tmp_path_factory.mktemp("alerts")
    quick = {
        "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "2",
        "PREFECT_SERVER_SERVICES_FOREMAN_INACTIVITY_HEARTBEAT_MULTIPLE": "12",
    }
    with prefect_server(folder, **quick) as url:
        (block,) = re.findall(r"^## Alerts$.*?^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        commands = block.replace("https://hooks.plant.example/T0ken", address).replace(
            "deployments/examples/alerts.yaml", str(_hurried(folder))
        )
        run_commands(commands, url, folder)
        yield got


def _hurried(folder: Path) -> Path:
    """The example with seconds in place of days."""
    text, changed = re.subn(r"within: 1209600\b", f"within: {PATIENCE_S}", ALERTS.read_text(encoding="utf-8"))
    assert changed == 1
    path = folder / "example.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def run_commands(commands: str, url: str, folder: Path) -> None:
    """Run shell commands as somebody does who has ALP and Prefect on the path."""
    environment = environment_of(url, folder) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-eu", "-c", commands], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr


def environment_of(url: str, folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own = {"PREFECT_API_URL": url, "PREFECT_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    return kept | own


def onboarded(customer: str, number: int, verdict: str = "accepted") -> Happening:
    return Happening(
        event=ONBOARDED_EVENT,
        key=f"{number}",
        resource=customer_resource(customer),
        resource_name=customer,
        labels={"alp.verdict": verdict},
        payload={"customer": customer},
    )


def await_alert(rung: list[dict[str, Any]], seconds: float, **wanted: str) -> dict[str, Any]:
    """The alert with these facts, once it has come."""

    def there() -> list[dict[str, Any]]:
        return [post for post in list(rung) if wanted.items() <= post.items()]

    await_true(lambda: bool(there()), seconds=seconds, what=f"the alert {wanted}")
    return there()[0]


def test_a_customer_that_onboards_no_more_is_told_of_once_and_others_are_not(rung: list[dict[str, Any]]) -> None:
    tell_server(onboarded("acme", 1))
    tell_server(onboarded("held-back", 1, "accepted_with_quarantine"))
    tell_server(onboarded("busy", 1))
    tell_server(onboarded("refused", 1, "rejected"))
    # Thrice as long as it takes to be told of: who is told of again and again is seen.
    for number in range(2, 3 * PATIENCE_S + 2):
        _wait(1)
        tell_server(onboarded("busy", number))
    for customer in ("acme", "held-back"):
        assert await_alert(rung, 60, alert="not-onboarded", customer=customer)["since"].startswith("20")
    silent = [post["customer"] for post in rung if post["alert"] == "not-onboarded"]
    assert sorted(silent) == ["acme", "held-back"]


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_a_machine_that_has_drifted_is_told_of(rung: list[dict[str, Any]]) -> None:
    drift = {"customer": "acme", "asset": "fan-00", "sentence": 'Record "new" normals.'}
    tell_server(
        Happening(
            event="alp.drift", key="1", resource=asset_resource("acme", "fan-00"), resource_name="fan 00", payload=drift
        )
    )
    assert await_alert(rung, 60, alert="drifted") == {"alert": "drifted"} | drift


def test_a_worker_that_is_gone_is_told_of_and_one_that_works_is_not(
    rung: list[dict[str, Any]], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    assert url is not None
    environment = environment_of(url, tmp_path) | {"PREFECT_WORKER_HEARTBEAT_SECONDS": "1"}
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "alp", "--type", "process"]
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        await_true(_is_ready, seconds=120, what=f"the worker: {tmp_path / 'log'}")
        _wait(16)
        assert [post for post in rung if post["alert"] == "worker-gone"] == []
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    assert await_alert(rung, 60, alert="worker-gone")["pool"] == "alp"


def _is_ready() -> bool:
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            return str(client.read_work_pool("alp").status) in ("READY", "WorkPoolStatus.READY")
        except ObjectNotFound:
            return False


def test_each_alert_is_an_example_of_one_thing() -> None:
    alerts = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    assert [alert["trigger"]["expect"] for alert in alerts] == [
        ["alp.onboarded"],
        ["alp.drift"],
        ["prefect.work-pool.not-ready"],
    ]
    assert {action["block_document_id"] for alert in alerts for action in alert["actions"]} == {"BLOCK_ID"}
