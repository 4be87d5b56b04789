"""`alp` in processes forked from one that has imported what commands import: each begins at once.

What a person's `alp` does before it begins is imported again for each command, and takes longer than most of them. The
processes differ from a person's in that alone: they have arguments, a folder and outputs of their own, and end by
themselves.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deployments.logs import set_up_logs

ROOT = Path(__file__).resolve().parents[2]
_PRELOADED = (
    "deployments.cli", "deployments.onboarding", "flows.onboard", "flows.scheduled", "tasks.report.pages",
    "tasks.report.rule_page", "engines.banks", "engines.memory_banks", "engines.encoders.logmel", "great_expectations",
    "matplotlib.backends.backend_svg", "pyarrow.parquet", "safetensors.numpy", "scipy.stats", "torch",
    "prefect.flow_engine", "prefect.task_engine",
)  # fmt: skip


class Forks:
    """Runs commands one after the other."""

    def __init__(self, parent: subprocess.Popen[str]) -> None:
        self._parent = parent

    def run(self, *arguments: str, cwd: Path | None = None, timeout: float) -> subprocess.CompletedProcess[str]:
        """What a command printed and how it ended."""
        assert self._parent.stdin is not None
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            order = {"arguments": arguments, "cwd": str(cwd or Path.cwd()), "out": str(out), "err": str(err)}
            self._parent.stdin.write(json.dumps(order) + "\n")
            self._parent.stdin.flush()
            code = int(self._hear(timeout))
            return subprocess.CompletedProcess(list(arguments), code, out.read_text("utf-8"), err.read_text("utf-8"))

    def _hear(self, timeout: float) -> str:
        assert self._parent.stdout is not None
        ready, _, _ = select.select([self._parent.stdout], [], [], timeout)
        if not ready:
            # No order can follow: whoever is given one finds the parent gone.
            os.killpg(self._parent.pid, signal.SIGKILL)
            raise TimeoutError(f"a command did not end within {timeout:g} s")
        return self._parent.stdout.readline()


@contextmanager
def forks(environment: Mapping[str, str]) -> Iterator[Forks]:
    """Processes in an environment, none of which outlives the context."""
    command = [sys.executable, "-m", "tests.deployments.forks"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    parent = subprocess.Popen(command, cwd=ROOT, env=dict(environment), text=True, start_new_session=True, **pipes)
    try:
        yield Forks(parent)
    finally:
        if parent.poll() is None:
            os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()


# --- in the processes ---------------------------------------------------------------------------------------------


def _serve() -> None:
    """Fork for each order; return in the process that is to carry it out."""
    # As a command does before it imports Prefect.
    set_up_logs(os.environ)
    for name in _PRELOADED:
        importlib.import_module(name)
    # Of a process's threads a fork has the one that forked.
    assert threading.active_count() == 1, threading.enumerate()
    # Nor does a fork look through all that was imported for what may be forgotten.
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)


def _become(order: dict[str, object]) -> None:
    os.chdir(str(order["cwd"]))
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, order["out"], new), (2, order["err"], new)):
        handle = os.open(str(path), flags, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    arguments = order["arguments"]
    assert isinstance(arguments, list)
    sys.argv = ["alp", *arguments]


def _end(code: object) -> None:
    """End as Python does, but for taking every module apart."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _serve()
    from deployments.cli import main

    try:
        main()
    except SystemExit as end:
        _end(end.code)
    _end(0)
