"""A real PostgreSQL for tests and measurements: Debian's, in a folder of its own, on loopback, with passwords on."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.ports import free_port

USER = DATABASE = "prefect"
_SYSTEM_USER = "postgres"
_START_S = 60


@dataclass(frozen=True)
class Postgres:
    """A server on loopback that has one user with one database, both called prefect."""

    programs: Path
    folder: Path
    port: int
    password: str

    @property
    def environment(self) -> dict[str, str]:
        """By which a Prefect server uses it."""
        return {
            "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
            "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
            "PREFECT_SERVER_DATABASE_PORT": str(self.port),
            "PREFECT_SERVER_DATABASE_USER": USER,
            "PREFECT_SERVER_DATABASE_NAME": DATABASE,
            "PREFECT_SERVER_DATABASE_PASSWORD": self.password,
        }

    def ask(self, sql: str, *, password: str | None = None) -> str:
        """What one query answers, a row a line; CalledProcessError where it is refused."""
        command = [self.programs / "psql", "--no-psqlrc", "--no-password", "--tuples-only", "--no-align"]
        command += ["--host=127.0.0.1", f"--port={self.port}", f"--username={USER}", "--command", sql, DATABASE]
        environment = os.environ | {"PGPASSWORD": self.password if password is None else password}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def stop(self) -> None:
        """As a power cut does, for what waits for nothing."""
        _run(self.programs, "pg_ctl", "stop", f"--pgdata={self.folder}", "--mode=immediate")

    def start(self) -> None:
        """Let it listen; RuntimeError with its log where it does not."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        _run(
            self.programs, "pg_ctl", "start", f"--pgdata={self.folder}", f"--log={self.folder / 'log'}",
            f"--options={options}", "--wait", f"--timeout={_START_S}",
        )  # fmt: skip


@cache
def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs, installed now where root may; None where it is not to be had."""
    found = _installed()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (("update",), ("install", "--yes", "--no-install-recommends", "postgresql")):
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(["apt-get", "-qq", *command], env=environment, capture_output=True, check=False, timeout=240)
        found = _installed()
    return found


@contextmanager
def run_postgres(*, durable: bool = True) -> Iterator[Postgres]:
    """A server in a new folder until the context ends. PostgreSQL refuses to run as root: then it runs as postgres.

    durable: as it is set up by itself; otherwise it waits for no disk, for tests.
    """
    programs = find_postgres()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="alp-postgres-"))
    password = secrets.token_hex(16)
    server = Postgres(programs, folder / "data", free_port(), password)
    try:
        (folder / "password").write_text(password, encoding="ascii")
        if os.geteuid() == 0:
            account = pwd.getpwnam(_SYSTEM_USER)
            for path in (folder, folder / "password"):
                os.chown(path, account.pw_uid, account.pw_gid)
        _run(
            programs, "initdb", f"--pgdata={server.folder}", f"--username={USER}", f"--pwfile={folder / 'password'}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", *([] if durable else ["--no-sync"]),
        )  # fmt: skip
        if not durable:
            with (server.folder / "postgresql.auto.conf").open("a", encoding="ascii") as settings:
                settings.write("fsync = off\nsynchronous_commit = off\n")
        server.start()
        _run(
            programs, "createdb", "--host=127.0.0.1", f"--port={server.port}", f"--username={USER}", DATABASE,
            PGPASSWORD=password,
        )  # fmt: skip
        yield server
    finally:
        if (server.folder / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _installed() -> Path | None:
    """The newest of those that Debian's packages brought, else those on the path."""
    homes = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    if homes:
        return max(homes, key=lambda home: float(home.parent.name))
    return Path(on_path).parent if on_path else None


def _run(programs: Path, program: str, *arguments: str, **environment: str) -> None:
    as_whom: Mapping[str, str | list[str]] = (
        {"user": _SYSTEM_USER, "group": _SYSTEM_USER, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    # Its output to a file: a server that goes on would hold a pipe open.
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(
            [programs / program, *arguments], env=os.environ | environment, cwd="/", stdin=subprocess.DEVNULL,
            stdout=said, stderr=said, check=False, timeout=120, **as_whom,  # type: ignore[call-overload]
        )  # fmt: skip
        said.seek(0)
        if done.returncode:
            raise RuntimeError(f"{program} ended with {done.returncode}: {said.read()[-2000:]}")
