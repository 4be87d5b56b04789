"""Prefect's command line, as a service whose log stays small: `python -m deployments.capped_prefect server start …`.

A service that runs for months writes to one file. Beyond `MOST_BYTES` the file is copied beside itself, to `.1`, and
emptied; it is appended to, so that the next line stands at its beginning.

A server on SQLite lets its transactions wait for their turn (`deployments.sqlite_locks`).

A worker tells its metrics on the port of loopback that `ALP_METRICS_PORT` names, where it names one. Prefect's own
setting for that, `PREFECT_CLIENT_METRICS_ENABLED`, is not used: it listens on every address of the machine, and every
run that the worker starts takes it over, cannot have the same port, and crashes.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import threading
from pathlib import Path

from deployments.sqlite_locks import lock_at_begin

MOST_BYTES = 8 * 2**20
_LOOK_S = 60.0
_STDOUT = 1


def main() -> None:
    """Run Prefect's command line here, and look after what it writes."""
    threading.Thread(target=_cap_for_ever, name="log-cap", daemon=True).start()
    match sys.argv[1:2]:
        case ["worker"]:
            _tell_metrics()
        case ["server"]:
            lock_at_begin()
    from prefect.cli import app

    app()


def _tell_metrics() -> None:
    from schemas.settings import Environment

    port = Environment().metrics_port
    if port is None:
        return
    from prometheus_client import start_http_server

    try:
        start_http_server(port, addr="127.0.0.1")
    except OSError as error:
        sys.exit(
            f"the worker's metrics cannot be told on 127.0.0.1:{port} ({error.strerror}); set ALP_METRICS_PORT to a"
            " free port, or unset it"
        )


def _cap_for_ever() -> None:
    rest = threading.Event()
    while not rest.wait(_LOOK_S):
        cap(_STDOUT)


def cap(descriptor: int, most_bytes: int = MOST_BYTES) -> bool:
    """Move what a file holds to `.1` where it is too much; whether it was. What is no file is left alone."""
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode) or state.st_size <= most_bytes:
        return False
    path = Path(f"/proc/self/fd/{descriptor}").resolve()
    older = path.with_name(f"{path.name}.1")
    with path.open("rb") as full, older.open("wb") as copy:
        shutil.copyfileobj(full, copy)
    older.chmod(stat.S_IMODE(state.st_mode))
    os.ftruncate(descriptor, 0)
    return True


if __name__ == "__main__":
    sys.argv[0] = "prefect"
    main()
