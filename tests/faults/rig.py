"""Processes that onboard, and what befalls them: killed from within at a chosen write, or from outside at any moment.

They are forked from one process that has everything imported already (`forkserver`), so that a kill costs as long as
the work it cuts off and no more. Each tells all it has to say to a log of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import pytest

from schemas.settings import OnboardSettings
from tests.bare_pages import make_pages_bare

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0
DONE, FAILED = 0, 7
SETTINGS = OnboardSettings(encoder="logmel")
_PRELOADED = (
    "tests.faults.rig", "flows.scheduled", "tasks.report.pages", "tasks.report.rule_page", "tasks.s3_store",
    "engines.banks", "engines.memory_banks", "engines.encoders.logmel", "torch", "safetensors.numpy", "pyarrow.parquet",
    "prefect.flow_engine", "prefect.task_engine",
)  # fmt: skip

Moment = Literal["before", "half", "after"]


@dataclass(frozen=True)
class Kill:
    """A signal at the nth write of an object whose key holds `key`: before it, half way through it, or after it."""

    key: str
    moment: Moment
    nth: int = 1
    signal: signal.Signals = signal.SIGKILL
    """SIGSTOP: the process stands still there until it is told to go on (`Hands.wait_until_stopped`)."""


@dataclass(frozen=True)
class Job:
    """What a process is to do."""

    store: str
    source: str = ""
    """What to onboard; empty: look into the customer's inbox."""
    customer: str = "acme"
    kill: Kill | None = None
    faults: tuple[Callable[[], None], ...] = ()
    """Called in the process before it begins."""
    environment: Mapping[str, str] = field(default_factory=dict)


class Hands:
    """Starts processes, and kills those that are left when it is done."""

    def __init__(self, api: str, folder: Path) -> None:
        self.api, self.folder = api, folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(_PRELOADED))
        self._started: list[BaseProcess] = []

    def start(self, job: Job) -> BaseProcess:
        """Begin a job and do not wait for its end."""
        return self.call(_do, job, environment=job.environment)

    def call(self, target: Callable[..., int], *arguments: Any, environment: Mapping[str, str] | None = None) -> Any:
        """Begin a function of a module's top level in a process of its own; what it gives is the exit code."""
        log = self.folder / f"{len(self._started):03d}.log"
        process = self._context.Process(target=_enter, args=(target, arguments, self.api, dict(environment or {}), log))
        process.start()
        self._started.append(process)
        return process

    def run(self, job: Job) -> int:
        """Do a job to its end: 0, `FAILED`, or minus the signal that ended it."""
        return self.wait(self.start(job))

    def wait(self, process: BaseProcess) -> int:
        """The same of a job that was begun."""
        process.join(PATIENCE_S)
        assert process.exitcode is not None, f"a process did not end within {PATIENCE_S:g} s:\n{self.said()}"
        return process.exitcode

    def finish(self, job: Job) -> None:
        """Do a job that must end well."""
        code = self.run(job)
        assert code == DONE, f"it ended with {code}:\n{self.said()}"

    def wait_until_stopped(self, process: BaseProcess) -> None:
        """Wait until a process stands still at the write that its job names."""
        assert self.stands_still(process), f"it ended before:\n{self.said()}"

    def stands_still(self, process: BaseProcess) -> bool:
        """Wait until a process stands still, or has ended; whether it stands still."""
        wait_for(lambda: _state(process) in "TZ", what=f"the write\n{self.said()}")
        return _state(process) == "T"

    def said(self) -> str:
        """The end of what the last process said."""
        logs = sorted(self.folder.glob("*.log"))
        return logs[-1].read_text(errors="replace")[-3000:] if logs else ""

    def kill_all(self) -> None:
        """Leave nobody behind."""
        for process in self._started:
            if process.is_alive():
                process.kill()
                process.join()


def _state(process: BaseProcess) -> str:
    try:
        text = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "Z"
    return text.rpartition(")")[2].split()[0]


def go_on(process: BaseProcess) -> None:
    """Let a process go on that stood still."""
    os.kill(int(process.pid or 0), signal.SIGCONT)


@contextmanager
def hands(api: str, folder: Path) -> Iterator[Hands]:
    """Hands that work against the Prefect server at `api`."""
    folder.mkdir(parents=True, exist_ok=True)
    both = Hands(api, folder)
    try:
        yield both
    finally:
        both.kill_all()


def wait_for(condition: Callable[[], bool], *, seconds: float = PATIENCE_S, what: str) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)


# --- in the process -----------------------------------------------------------------------------------------------


def _enter(
    target: Callable[..., int], arguments: Sequence[Any], api: str, environment: Mapping[str, str], log: Path
) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.environ.update({"PREFECT_API_URL": api, **environment})
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_LOGGING_LEVEL,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )

    quiet = {PREFECT_LOGGING_LEVEL: "ERROR", PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings(updates={PREFECT_API_URL: api, **quiet}):
        code = target(*arguments)
    # As a process that is killed leaves: nothing that waits for threads may decide how a test ends.
    os._exit(code)


def _do(job: Job) -> int:
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.onboard import onboard
    from flows.scheduled import onboard_inbox

    make_pages_bare(pytest.MonkeyPatch())
    if job.kill is not None:
        _arm(job.kill)
    for fault in job.faults:
        fault()
    with temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        if job.source:
            state = onboard(job.source, job.customer, job.store, SETTINGS, return_state=True)
        else:
            inbox = f"inbox/{job.customer}"
            state = onboard_inbox(job.customer, inbox, job.store, SETTINGS, settle_s=0, return_state=True)
    print(state, flush=True)
    return DONE if state.is_completed() else FAILED


def forget_at_once() -> None:
    """What a run that was cut off left is taken away without waiting: nobody else works for this customer."""
    import tasks.runs

    tasks.runs.STALE = timedelta(0)


def _arm(kill: Kill) -> None:
    from tasks.folder_store import FolderStore
    from tasks.s3_store import S3Store

    left = [kill.nth]

    def is_the_one(key: str) -> bool:
        if re.search(kill.key, key) is None:
            return False
        left[0] -= 1
        return left[0] == 0

    place = FolderStore._place

    def place_or_die(self: FolderStore, key: str, write: Callable[[Path], object]) -> None:
        if not is_the_one(key):
            return place(self, key, write)
        if kill.moment == "before":
            _meet(kill)
        place(self, key, _half(write, kill) if kill.moment == "half" else write)
        if kill.moment == "after":
            _meet(kill)

    FolderStore._place = place_or_die  # type: ignore[method-assign]
    for name in ("put", "put_file", "replace"):
        setattr(S3Store, name, _deadly(getattr(S3Store, name), is_the_one, kill))


def _half(write: Callable[[Path], object], kill: Kill) -> Callable[[Path], object]:
    def write_half(path: Path) -> None:
        write(path)
        if kill.signal is signal.SIGKILL:
            os.truncate(path, path.stat().st_size // 2)
        _meet(kill)

    return write_half


def _deadly(method: Callable[..., Any], is_the_one: Callable[[str], bool], kill: Kill) -> Callable[..., Any]:
    def put_or_die(self: Any, key: str, *arguments: Any, **options: Any) -> Any:
        hit = is_the_one(key)
        if hit and kill.moment != "after":
            _meet(kill)
        result = method(self, key, *arguments, **options)
        if hit and kill.moment == "after":
            _meet(kill)
        return result

    return put_or_die


def _meet(kill: Kill) -> None:
    os.kill(os.getpid(), kill.signal)
