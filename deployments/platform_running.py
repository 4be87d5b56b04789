"""Start what does not run of a local platform, say how it stands, and stop it.

Nothing watches over a platform that runs: whatever died is named by `look`, and started again by `bring_up`, which
leaves alone what runs. Data, ports and credentials stay as they are through it all.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from deployments import platform_home, platform_processes
from deployments.platform_home import PlatformHome, Record, Wishes, is_free
from deployments.platform_processes import Process, flow_run_of
from deployments.platform_services import (
    PREFECT,
    S3,
    SERVICE,
    SERVICES,
    WORKS,
    Platform,
    Service,
    end_lost_runs,
    environment_of,
)
from deployments.seaweed import S3_PORT
from schemas.errors import EnvironmentFault

START_S = 180.0
"""How long a service may take until it can be used; a busy machine needs a minute for Prefect."""
_LOOK_AGAIN_S = 0.25
_TAIL_LINES, _TAIL_BYTES = 15, 262_144
_OF_WEED = re.compile(r"[IWEF]\d{4} ")

State = Literal["running", "at fault", "stopped"]


@dataclass(frozen=True)
class Health:
    """How a service stands."""

    name: str
    title: str
    state: State
    address: str
    pid: int | None = None
    since: datetime | None = None
    detail: str | None = None
    """Of one at fault, what is wrong."""

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        since = None if self.since is None else self.since.isoformat(timespec="seconds")
        return vars(self) | {"since": since}


@dataclass(frozen=True)
class Ended:
    """What `take_down` stopped."""

    services: tuple[str, ...]
    runs: int
    """Flow runs that were under way."""


def open_platform(home: PlatformHome) -> Platform:
    """The platform of a folder.

    Raises
    ------
    EnvironmentFault
        There is none, it is another user's, or its files cannot be read.
    """
    if not home.exists:
        raise EnvironmentFault(f"there is no platform in {home.folder}: `alp up` starts one")
    if not home.is_ours:
        raise EnvironmentFault(f"the platform in {home.folder} belongs to another user")
    return Platform(home, home.read(), home.credentials())


def look(platform: Platform) -> list[Health]:
    """How each service stands."""
    return [_look_at(service, platform) for service in SERVICES]


def runs_under_way(platform: Platform) -> int:
    """Flow runs that the worker, or one before it, has under way."""
    return len(_flow_runs(platform.record))


def bring_up(home: PlatformHome, wishes: Wishes, *, say: Callable[[str], None]) -> tuple[Platform, tuple[str, ...]]:
    """Start what does not run, and wait until all can be used; the platform, and names of what was started.

    Call it while the home is locked.

    Raises
    ------
    EnvironmentFault
        A service cannot be started, or not be used in time; the message ends with the last lines of its log.
    """
    platform_processes.require_linux()
    record = home.make(wishes)
    platform = Platform(home, record, home.credentials())
    missing = [service for service in SERVICES if record.process_of(service.name) is None]
    for service in missing:
        service.command(platform)
        _stop_strays(service, record)
        _require_port(service, record)
    started: list[str] = []
    # Server and S3 server start side by side; the worker needs the server.
    for together in ((S3, PREFECT), (WORKS,)):
        for service in together:
            if service in missing:
                if service is WORKS:
                    end_lost_runs(platform, alive=_flow_runs(platform.record))
                say(f"Starting the {service.title}")
                platform = _start(service, platform)
                started.append(service.name)
        for service in together:
            _await(service, platform)
    return platform, tuple(started)


def take_down(platform: Platform) -> Ended:
    """Stop all that runs of a platform: who writes before who keeps. Call it while the home is locked."""
    record = platform.record
    runs = _flow_runs(record)
    ended = []
    for service in reversed(SERVICES):
        process = record.process_of(service.name)
        # A worker that is asked to end waits for its runs: they are asked with it.
        along = [process for processes in runs.values() for process in processes] if service is WORKS else []
        if process is not None:
            ended.append(service.name)
        platform_processes.stop([*along, *filter(None, [process])], patience_s=service.leave_s)
    platform_processes.stop((process for process, _ in _marked(record)), patience_s=0)
    platform.home.write(record.model_copy(update={"services": {}}))
    return Ended(tuple(reversed(ended)), len(runs))


def renew_keys(home: PlatformHome) -> Ended:
    """Stop all that runs of a platform and give it new keys and a new login. Call it while the home is locked.

    Whoever is killed in between leaves a platform that `bring_up` starts.
    """
    ended = take_down(open_platform(home))
    home.renew_credentials()
    return ended


def _look_at(service: Service, platform: Platform) -> Health:
    address = service.address(platform)
    if platform.record.process_of(service.name) is None:
        return Health(service.name, service.title, "stopped", address)
    started = platform.record.services[service.name]
    fault = service.fault(platform)
    state: State = "running" if fault is None else "at fault"
    return Health(service.name, service.title, state, address, started.pid, started.since, fault)


def _start(service: Service, platform: Platform) -> Platform:
    """Start a service, and write down that it was."""
    record = platform.record
    if service is S3:
        record = platform_home.with_free_inner_ports(record)
        platform = Platform(platform.home, record, platform.credentials)
    process = platform_processes.start(
        service.command(platform),
        environment=environment_of(service, platform),
        folder=platform.home.data("s3" if service is S3 else "prefect"),
        log=platform.home.log(service.name),
    )
    services = record.services | {service.name: platform_home.started_now(process)}
    record = record.model_copy(update={"services": services})
    platform.home.write(record)
    return Platform(platform.home, record, platform.credentials)


def _stop_strays(service: Service, record: Record) -> None:
    """One that was started by somebody who was killed before it was written down would hold the ports."""
    strays = [
        process
        for process, environment in _marked(record)
        if environment.get(SERVICE) == service.name and flow_run_of(environment) is None
    ]
    platform_processes.stop(strays, patience_s=0)


def _require_port(service: Service, record: Record) -> None:
    """Whoever holds our port would be taken for us."""
    ports = {"s3": (record.s3_ports[S3_PORT], "--s3-port"), "prefect": (record.ui_port, "--ui-port")}
    if service.name not in ports:
        return
    port, option = ports[service.name]
    if not is_free(port):
        raise EnvironmentFault(
            f"another program listens on 127.0.0.1:{port}, the port of this platform's {service.title}; end that"
            f" program, or choose another port: alp up {option} PORT"
        )


def _await(service: Service, platform: Platform) -> None:
    """Wait until a service can be used."""
    deadline = time.monotonic() + START_S
    process = platform.record.process_of(service.name)
    fault: str | None = "it ended at once"
    while process is not None and process.is_alive:
        fault = service.fault(platform)
        if fault is None:
            return
        if time.monotonic() > deadline:
            raise EnvironmentFault(
                f"the {service.title} cannot be used after {START_S:.0f} s: {fault}. What runs stays; stop all with"
                f" `alp down`, then try again. {_tail(service, platform)}"
            )
        time.sleep(_LOOK_AGAIN_S)
    raise EnvironmentFault(f"the {service.title} ended while it started. {_tail(service, platform)}")


def _tail(service: Service, platform: Platform) -> str:
    """The last lines of a service's log, and where the rest stands."""
    log = platform.home.log(service.name)
    lines = _last_lines(log)
    if service is S3:
        own = platform.home.weed_logs / "weed.INFO"
        # Behind a fatal one stands what each of its hundred threads was at.
        if told := [line for line in _last_lines(own) if _OF_WEED.match(line)]:
            log, lines = own, told
    return f"The end of its log, {log}:\n" + "\n".join(lines[-_TAIL_LINES:] or ["(nothing)"])


def _last_lines(log: Path) -> Sequence[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return []


def _marked(record: Record) -> list[tuple[Process, Mapping[str, str]]]:
    return list(platform_processes.marked(record.mark))


def _flow_runs(record: Record) -> dict[str, list[Process]]:
    """Processes of flow runs that are under way, by the run's id."""
    found: dict[str, list[Process]] = {}
    for process, environment in _marked(record):
        if (run := flow_run_of(environment)) is not None:
            found.setdefault(run, []).append(process)
    return found
