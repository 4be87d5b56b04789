"""The folder of a local platform: its data, its logs, its credentials, and what runs of it.

    alp-platform/
        platform.json       ports, chosen once and kept, and which processes run
        credentials.json    generated once: keys of the S3 server, login of Prefect
        s3-keys/            by which the S3 server's parts know each other, and nobody else
        s3/  prefect/       what the S3 server and the Prefect server keep
        logs/

All of it belongs to whoever started the platform, and nobody else may read it.
"""

from __future__ import annotations

import fcntl
import os
import random
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_serializer

from deployments.platform_processes import Process
from deployments.private_files import write_private
from deployments.seaweed import PORTS, S3_PORT
from schemas.errors import EnvironmentFault
from schemas.settings import Environment

ServiceName = Literal["s3", "prefect", "worker"]

BUCKET = "alp"
POOL = "alp"
_PORT_RANGE = range(20_000, 32_000)
"""Below those that systems lend to outgoing connections, so that a port is still free at the next start."""
_AT_ONCE = (4, 16)
"""Fewer, and a package that takes an hour would keep machines from being heard; each takes a gigabyte of memory."""


class Started(BaseModel):
    """A process that serves the platform."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int = Field(gt=1)
    began: str
    since: AwareDatetime

    @property
    def process(self) -> Process:
        """It, as it is known again."""
        return Process(self.pid, self.began)


class Record(BaseModel):
    """`platform.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mark: str = Field(min_length=16, description="In the environment of every process of this platform.")
    s3_ports: tuple[int, ...] = Field(min_length=PORTS, max_length=PORTS)
    ui_port: int = Field(gt=0, lt=2**16)
    at_once: int = Field(ge=1, description="How many runs the worker has under way at most.")
    services: dict[ServiceName, Started] = Field(default_factory=dict)

    @property
    def s3_endpoint(self) -> str:
        """Where the S3 server answers."""
        return f"http://127.0.0.1:{self.s3_ports[S3_PORT]}"

    @property
    def store(self) -> str:
        """URL of the platform's store."""
        return f"s3://{BUCKET}?endpoint={self.s3_endpoint}"

    @property
    def ui(self) -> str:
        """Where the Prefect UI answers."""
        return f"http://127.0.0.1:{self.ui_port}"

    @property
    def api(self) -> str:
        """What PREFECT_API_URL is to be."""
        return f"{self.ui}/api"

    def process_of(self, name: ServiceName) -> Process | None:
        """The service's process, if it runs."""
        started = self.services.get(name)
        return started.process if started is not None and started.process.is_alive else None


class Credentials(BaseModel):
    """`credentials.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    s3_access_key: str
    s3_secret_key: SecretStr
    prefect_login: SecretStr = Field(description="As the UI asks for it, user:password.")

    @field_serializer("s3_secret_key", "prefect_login", when_used="json")
    def _reveal(self, secret: SecretStr) -> str:
        return secret.get_secret_value()

    @classmethod
    def generate(cls) -> Self:
        """New ones."""
        return cls(
            s3_access_key=f"alp{secrets.token_hex(8)}",
            s3_secret_key=SecretStr(secrets.token_urlsafe(30)),
            prefect_login=SecretStr(f"alp:{secrets.token_urlsafe(18)}"),
        )


_OURS = {".lock", "credentials.json", "s3-keys", "s3", "prefect", "logs"}
"""What may lie in a platform's folder whose record is lost."""

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Wishes:
    """What may be chosen of a platform; None: as it was, and at first whatever is free or sensible."""

    s3_port: int | None = None
    ui_port: int | None = None
    at_once: int | None = None


@dataclass(frozen=True)
class PlatformHome:
    """The folder, whether it is there or not."""

    folder: Path

    @classmethod
    def find(cls, folder: Path | None = None) -> Self | None:
        """The one that was asked for, else the one that `ALP_PLATFORM` names; None where that is empty."""
        if folder is not None:
            return cls(folder)
        named = Environment().platform
        return cls(Path(named)) if named else None

    @property
    def exists(self) -> bool:
        """Whether a platform was ever started here."""
        return self._record.is_file()

    @property
    def is_ours(self) -> bool:
        """Whether whoever asks made it. What another user put here could lead anywhere."""
        return self._record.stat().st_uid == os.getuid()

    @property
    def credentials_file(self) -> Path:
        """Where the credentials stand."""
        return self.folder / "credentials.json"

    def log(self, name: ServiceName) -> Path:
        """What a service's process wrote to its terminal."""
        return self.folder / "logs" / f"{name}.log"

    @property
    def weed_logs(self) -> Path:
        """Folder of the logs that SeaweedFS writes by itself."""
        return self.folder / "logs" / "weed"

    @property
    def s3_keys(self) -> Path:
        """Folder of the keys by which the S3 server's parts know each other (`deployments.seaweed_keys`)."""
        return self.folder / "s3-keys"

    def data(self, name: ServiceName) -> Path:
        """Folder of what a service keeps."""
        return self.folder / name

    def read(self) -> Record:
        """What the platform's record says.

        Raises
        ------
        EnvironmentFault
            There is none, or it cannot be read.
        """
        return self._read(self._record, Record)

    def credentials(self) -> Credentials:
        """The platform's credentials.

        Raises
        ------
        EnvironmentFault
            They are lost, or cannot be read.
        """
        return self._read(self.credentials_file, Credentials)

    def write(self, record: Record) -> None:
        """Replace the record, whole or not at all."""
        _write_model(self._record, record)

    def make(self, wishes: Wishes) -> Record:
        """The record and credentials of this platform, made now where there are none, with every port to be had."""
        if not self.exists:
            self._make_folders()
            if not self.credentials_file.is_file():
                _write_model(self.credentials_file, Credentials.generate())
            self.write(_first_record())
        elif not self.is_ours:
            raise EnvironmentFault(f"{self.folder} belongs to another user; name a folder of your own with --home")
        record = _changed(self.read(), wishes)
        self.write(record)
        return record

    def renew_credentials(self) -> None:
        """Generate new ones; what runs goes on with the old ones until it is started again."""
        _write_model(self.credentials_file, Credentials.generate())
        # Made anew at the next start.
        shutil.rmtree(self.s3_keys, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the platform, so that nobody else starts or stops it meanwhile.

        Raises
        ------
        EnvironmentFault
            Somebody does just now, or the folder cannot be made.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EnvironmentFault(
                f"{self.folder} cannot be the platform's folder ({error.strerror}); name another one with --home"
            ) from error
        try:
            _hold(descriptor, self.folder)
            yield
        finally:
            os.close(descriptor)

    @property
    def _record(self) -> Path:
        return self.folder / "platform.json"

    def _make_folders(self) -> None:
        if foreign := sorted({path.name for path in self.folder.iterdir()} - _OURS):
            raise EnvironmentFault(
                f"{self.folder} holds other things ({', '.join(foreign[:3])}); name a new folder with --home"
            )
        self.folder.chmod(0o700)
        for folder in (self.data("s3"), self.data("prefect"), self.weed_logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _read(self, path: Path, kind: type[ModelT]) -> ModelT:
        try:
            return kind.model_validate_json(path.read_bytes())
        except OSError as error:
            raise EnvironmentFault(f"{path} cannot be read ({error.strerror}); `alp up` starts a platform") from error
        except ValidationError as error:
            places = ", ".join(".".join(map(str, fault["loc"])) or "the whole" for fault in error.errors()[:3])
            # Not the values: they may be secrets.
            raise EnvironmentFault(
                f"{path} is not as ALP wrote it ({places}); put it back as it was, or start a platform in another"
                " folder with --home"
            ) from None


def _hold(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EnvironmentFault(
            f"somebody else starts or stops the platform in {folder} just now; try again when that is done"
        ) from None


def _first_record() -> Record:
    *s3_ports, ui_port = free_ports(PORTS + 1)
    return Record(
        mark=secrets.token_hex(12),
        s3_ports=tuple(s3_ports),
        ui_port=ui_port,
        at_once=min(max(os.cpu_count() or 1, _AT_ONCE[0]), _AT_ONCE[1]),
    )


def _changed(record: Record, wishes: Wishes) -> Record:
    """The record with what is wished for now."""
    changes: dict[str, object] = {}
    if wishes.s3_port is not None:
        changes["s3_ports"] = tuple(
            wishes.s3_port if place == S3_PORT else port for place, port in enumerate(record.s3_ports)
        )
    if wishes.ui_port is not None:
        changes["ui_port"] = wishes.ui_port
    if wishes.at_once is not None:
        changes["at_once"] = wishes.at_once
    changed = record.model_copy(update=changes)
    for name, before, after, option in (
        ("s3", record.s3_ports, changed.s3_ports, "--s3-port"),
        ("prefect", record.ui_port, changed.ui_port, "--ui-port"),
        ("worker", record.at_once, changed.at_once, "--at-once"),
    ):
        if before != after and record.process_of(name) is not None:  # type: ignore[arg-type]
            raise EnvironmentFault(f"the platform runs, and {option} counts from its start: `alp down` first")
    return changed


def with_free_inner_ports(record: Record) -> Record:
    """The record with other ports instead of those within the S3 server that somebody else took meanwhile."""
    kept = [port if place == S3_PORT or is_free(port) else None for place, port in enumerate(record.s3_ports)]
    new = iter(free_ports(kept.count(None)))
    return record.model_copy(update={"s3_ports": tuple(next(new) if port is None else port for port in kept)})


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of loopback."""
    with socket.socket() as probe:
        # What a connection that ended a minute ago left of it is in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """So many ports of loopback on which nobody listens now.

    Raises
    ------
    EnvironmentFault
        There are not so many.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORT_RANGE, len(_PORT_RANGE)):
        if len(found) == count:
            return found
        if is_free(port):
            found.append(port)
    raise EnvironmentFault(
        f"no {count} ports are free between {_PORT_RANGE.start} and {_PORT_RANGE.stop} on this machine"
    )


def started_now(process: Process) -> Started:
    """What the record says of a process that was started a moment ago."""
    return Started(pid=process.pid, began=process.began, since=datetime.now().astimezone())


def _write_model(path: Path, model: BaseModel) -> None:
    write_private(path, f"{model.model_dump_json(indent=2)}\n".encode())
