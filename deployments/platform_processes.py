"""Processes that outlive the command that started them: start one, know it again, stop it.

A process is known by its number and by when it began, so that a number given to another process later is never taken
for it. All processes of a platform, also those that its worker starts, carry a mark in their environment, by which none
is left behind. Linux alone: both are read from /proc.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import EnvironmentFault

MARK = "ALP_PLATFORM_MARK"
_PROC = Path("/proc")
_FLOW_RUN = "PREFECT__FLOW_RUN_ID"
_STATE, _START_TICKS = 0, 19
"""Fields of /proc/<pid>/stat, counted from the one behind the name."""
_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True)
class Process:
    """One that was started."""

    pid: int
    began: str
    """This boot of the machine, and ticks since then."""

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return began_of(self.pid) == self.began


def require_linux() -> None:
    """Raise EnvironmentFault on a system whose processes cannot be looked at."""
    if not (sys.platform == "linux" and (_PROC / "self" / "stat").is_file()):
        raise EnvironmentFault(
            "the local platform needs Linux (WSL counts): it knows its processes by /proc. Elsewhere start an S3"
            " server, `prefect server start` and `prefect worker start --pool alp` by hand: docs/platform.md says how"
        )


def began_of(pid: int) -> str | None:
    """When the process of that number began; None where there is none, or only its exit code is left."""
    folder = _PROC / str(pid)
    try:
        text = (folder / "stat").read_text(encoding="ascii", errors="replace")
        # One that was killed holds its ports until the last of its threads has ended, which may be after the first.
        threads = sum(1 for _ in (folder / "task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return None
    # What the process is called stands in brackets, and may hold any.
    fields = text.rpartition(")")[2].split()
    return None if fields[_STATE] in "ZX" and threads <= 1 else f"{_boot()}:{fields[_START_TICKS]}"


def start(command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path) -> Process:
    """Start a process in a session of its own, so that it outlives the terminal; what it says goes to the end of `log`.

    What it writes nobody else may read.
    """
    with log.open("ab") as stream:
        child = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            umask=0o077,
        )
    # Of one that has ended by now the record is of nobody, which is what it should be.
    return Process(child.pid, began_of(child.pid) or "")


def marked(mark: str) -> Iterator[tuple[Process, Mapping[str, str]]]:
    """Every process of this user that carries the mark, with the environment that it was started with."""
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        pid = int(folder.name)
        began = began_of(pid)
        environment = _environment_of(folder)
        if began is not None and environment.get(MARK) == mark:
            yield Process(pid, began), environment


def flow_run_of(environment: Mapping[str, str]) -> str | None:
    """Id of the flow run that a worker started a process for; children of the process have it too."""
    return environment.get(_FLOW_RUN)


def stop(processes: Iterable[Process], *, patience_s: float) -> None:
    """Ask processes to end, and end those that have not within `patience_s`; without patience at once."""
    there = [process for process in processes if process.is_alive]
    if patience_s > 0:
        _signal(there, signal.SIGTERM)
        _wait(there, patience_s)
    there = [process for process in there if process.is_alive]
    _signal(there, signal.SIGKILL)
    _wait(there, 10.0)


def _signal(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            # The descriptor holds on to the process, whose number cannot become another's between look and signal.
            descriptor = os.pidfd_open(process.pid)
            try:
                if process.is_alive:
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


def _wait(processes: Sequence[Process], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and any(process.is_alive for process in processes):
        time.sleep(_LOOK_AGAIN_S)


def _environment_of(folder: Path) -> dict[str, str]:
    """Empty for a process of another user, or one that has gone."""
    try:
        data = (folder / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (os.fsdecode(entry).partition("=") for entry in data.split(b"\0") if b"=" in entry)
    return {name: value for name, _, value in pairs}


def _boot() -> str:
    return (_PROC / "sys" / "kernel" / "random" / "boot_id").read_text(encoding="ascii").strip()[:8]
