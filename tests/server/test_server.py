"""The whole server without containers: Prefect on PostgreSQL, S3 with keys, a worker that somebody watches over."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path

import pytest

from deployments.health import fault
from tasks.store import open_store
from tests.server.conftest import ROOT, SERVICES, Server

pytestmark = pytest.mark.timeout(900)


def status_of(url: str) -> int:
    """What the address answers to whoever shows no key."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_nobody_gets_in_without_a_key(server: Server) -> None:
    assert status_of(f"{server.api}/admin/version") == 401
    assert status_of(f"{server.s3}/alp/") == 403
    with pytest.raises(Exception, match="returned non-zero exit status"):
        server.postgres.ask("select 1", password="guessed")
    assert server.call("GET", "/admin/version")


def test_prefect_keeps_what_it_knows_in_postgres(server: Server) -> None:
    assert int(server.postgres.ask("select count(*) from deployment where name = 'acme'")) == 2
    assert not list(Path(server.settings["ALP_DATA"]).rglob("prefect.db"))


def test_each_service_gets_the_secrets_it_needs_and_no_command_line_shows_one(server: Server) -> None:
    kept_from = {
        "s3": {"ALP_DATABASE_PASSWORD", "ALP_PREFECT_LOGIN"},
        "prefect": {"ALP_S3_SECRET_KEY"},
        "worker": {"ALP_DATABASE_PASSWORD"},
    }
    for service in SERVICES:
        process = Path(f"/proc/{server.pid(service)}")
        environment, line = (process / "environ").read_text(), (process / "cmdline").read_text()
        got = {name for name, secret in server.secrets.items() if secret in environment}
        assert got == set(server.secrets) - kept_from[service], service
        assert not [name for name, secret in server.secrets.items() if secret in line], service


def test_the_settings_are_their_owner_s_alone(server: Server) -> None:
    assert (server.folder / ".env").stat().st_mode & 0o777 == 0o600
    assert all(server.settings[name] for name in ("ALP_S3_ACCESS_KEY", *server.secrets))


def test_no_log_holds_a_secret(server: Server) -> None:
    logs = [path for path in Path(server.settings["ALP_DATA"]).rglob("*.log") if path.is_file()]
    assert {f"{service}.log" for service in SERVICES} <= {path.name for path in logs}
    said = [(path.name, path.read_text(errors="replace")) for path in logs]
    assert [(name, secret) for name, text in said for secret, value in server.secrets.items() if value in text] == []


def test_a_package_is_onboarded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.command("alp toy plant.zip --machine-type pump --scale 0.001 && alp customer send acme plant.zip")
    run = server.run_now("onboard/acme")
    assert run["state_type"] == "COMPLETED", f"{run['state']['message']}\n{server.logs()}"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.settings["ALP_S3_ACCESS_KEY"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.settings["ALP_S3_SECRET_KEY"])
    keys = set(open_store(f"s3://alp?endpoint={server.s3}").list_keys())
    assert {key.rsplit("/", 1)[-1] for key in keys} >= {"champion.json", "manifest.json", "report.html"}


def test_what_is_killed_is_started_again(server: Server) -> None:
    before, killed = {service: server.pid(service) for service in SERVICES}, time.time()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    for service, pid in before.items():
        server.await_(lambda service=service, pid=pid: server.pid(service) not in (0, pid), f"another {service}")  # type: ignore[misc]
        server.await_(lambda service=service: server.fault(service) is None, service)  # type: ignore[misc]
    # Who says of itself that it is well is also heard by the others.
    workers = server.await_(
        lambda: [
            each
            for each in server.call("POST", "/work_pools/alp/workers/filter", {})
            if datetime.fromisoformat(each["last_heartbeat_time"]).timestamp() > killed
        ],
        "word of the worker",
    )
    assert len(workers) == 1


def test_after_all_that_work_goes_on(server: Server) -> None:
    server.postgres.stop()
    assert fault(f"{server.api}/ready") is not None, "ready means that the database answers"
    server.postgres.start()
    server.await_(lambda: server.fault("prefect") is None, "Prefect, its database being back")
    run = server.run_now("onboard/acme")
    assert run["state_type"] == "COMPLETED", f"{run['state']['message']}\n{server.logs()}"


def test_it_takes_the_template_for_kubernetes_and_deploys_to_it(server: Server) -> None:
    template = ROOT / "deployments" / "work_pools" / "kubernetes.json"
    server.command(
        f"prefect work-pool create plants --type kubernetes --base-job-template {template}\nalp deploy --pool plants"
    )
    assert server.call("GET", "/work_pools/plants")["base_job_template"] == json.loads(template.read_text())
    assert server.call("GET", "/deployments/name/onboard/acme")["work_pool_name"] == "plants"
