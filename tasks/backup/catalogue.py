"""What a backup says of itself, and where it lies.

    objects/<2 digits>/<sha256>         every object once, under the hash of what it holds
    backups/<name>/objects.parquet      which object of the store is which of those
    backups/<name>/backup.json          what it is a backup of, and the hash of that table; written last
    unfinished/<store>.parquet          what one that was cut off had read: a hint for the next one, and no backup

A backup's name is the moment at which it began, in UTC. One without `backup.json` is none. Whatever is read here is
held against its hash before it is believed. Units: sizes in bytes.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from schemas.errors import InputError, StoreError, UsageError
from tasks.object_store import ObjectStore, check_key, frame_bytes

LOCK = "backups/lock"
"""What is locked by whoever makes or forgets backups; no object lies there."""
OBJECTS = "objects/"

_BACKUPS, _UNFINISHED = "backups/", "unfinished/"
_NAME_FORMAT = "%Y%m%dt%H%M%Sz"
_NAME = re.compile(r"[0-9]{8}t[0-9]{6}z")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"(?:customers/)?[A-Za-z0-9_][A-Za-z0-9._-]*")
_COLUMNS = {"key": "string", "sha256": "string", "bytes": "int64", "etag": "string", "modified": "datetime64[us, UTC]"}


class Entry(NamedTuple):
    """An object of the store, as it was when it was read."""

    key: str
    sha256: str
    bytes: int
    etag: str
    """By which the store names that version."""
    modified: datetime


class FiledFile(BaseModel):
    """A file from beside the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Where it belongs, below the folder that it is restored to.")
    sha256: str
    bytes: int = Field(ge=0)

    @field_validator("name")
    @classmethod
    def _leads_nowhere_else(cls, name: str) -> str:
        if not _FILE.fullmatch(name):
            raise ValueError("a name below customers/, or one without a folder, is wanted")
        return name

    @field_validator("sha256")
    @classmethod
    def _is_hash(cls, sha256: str) -> str:
        if not _SHA256.fullmatch(sha256):
            raise ValueError("64 hex digits are wanted")
        return sha256


class Backup(BaseModel):
    """`backup.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{_NAME.pattern}$")
    made_at: AwareDatetime = Field(description="When it began; what it holds is as of then, or a little later.")
    store: str = Field(description="URL of the store that it was made of.")
    code_version: str = Field(description="Of the ALP that made it.")
    versions: dict[str, str] = Field(description="Of the packages that results depend on.")
    settings: dict[str, str] = Field(description="Of `ALP_…` variables, those that are no secret.")
    without: tuple[str, ...] = Field(description="Prefixes that were asked to be left out.")
    objects: int = Field(ge=0)
    bytes: int = Field(ge=0)
    table_sha256: str
    files: tuple[FiledFile, ...]


def new_name(taken: Iterable[str], now: datetime) -> str | None:
    """The name of a backup that begins now; None where one has it already."""
    name = now.astimezone(UTC).strftime(_NAME_FORMAT)
    return None if name in taken else name


def sha256_of(data: bytes) -> str:
    """Under which an object lies in a backup."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """The same of a file, without holding it in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def object_key(sha256: str) -> str:
    """Where a backup keeps what hashes so."""
    return f"{OBJECTS}{sha256[:2]}/{sha256}"


def table_key(name: str) -> str:
    """Where the table of a backup lies."""
    return f"{_BACKUPS}{name}/objects.parquet"


def backup_key(name: str) -> str:
    """What makes a backup one."""
    return f"{_BACKUPS}{name}/backup.json"


def backup_names(shelf: ObjectStore) -> list[str]:
    """Names of whole backups, the oldest first."""
    found = (key.split("/") for key in shelf.list_keys(_BACKUPS) if key.endswith("/backup.json"))
    return sorted(parts[1] for parts in found if len(parts) == 3 and _NAME.fullmatch(parts[1]))


def pick_name(shelf: ObjectStore, name: str | None) -> str:
    """The backup of that name, or without one the newest.

    Raises
    ------
    InputError
        There is none, or none of that name.
    """
    known = backup_names(shelf)
    if not known:
        raise InputError(f"{shelf.url} holds no backup; `alp backup make` makes one, and `--from` names another place")
    if name is not None and name not in known:
        raise InputError(f"{shelf.url} holds no backup {name!r}; its backups are {', '.join(known[-5:])}")
    return known[-1] if name is None else name


def read_backup(shelf: ObjectStore, name: str) -> Backup:
    """What a backup says of itself.

    Raises
    ------
    StoreError
        It cannot be read, or is another's.
    """
    backup = shelf.find_intact(backup_key(name), Backup)
    if backup is None or backup.name != name:
        raise StoreError(
            f"{shelf.uri(backup_key(name))} cannot be read as what this version of alp writes of backup {name}: it is"
            " damaged, or a newer version wrote it; take another backup (`alp backup list` names them)"
        )
    return backup


def write_table(shelf: ObjectStore, key: str, entries: Iterable[Entry]) -> str:
    """File which object is which, sorted; the hash of that table."""
    rows = pd.DataFrame(sorted(entries), columns=list(_COLUMNS)).astype(_COLUMNS)
    data = frame_bytes(rows)
    shelf.put(key, data)
    return sha256_of(data)


def read_entries(shelf: ObjectStore, backup: Backup) -> dict[str, Entry]:
    """The objects of a backup by key, in the order of keys.

    Raises
    ------
    StoreError
        The table is not the one that was written, or says what no backup says.
    """
    key = table_key(backup.name)
    data = shelf.get(key)
    if sha256_of(data) != backup.table_sha256:
        raise StoreError(
            f"{shelf.uri(key)} is damaged: it is not what backup {backup.name} was written with; take another backup"
        )
    return {entry.key: entry for entry in _entries_in(data, shelf.uri(key))}


def write_hints(shelf: ObjectStore, store: str, entries: Iterable[Entry]) -> None:
    """Note down what was read of a store by a backup that is not finished."""
    write_table(shelf, _hints_key(store), entries)


def read_hints(shelf: ObjectStore, store: str) -> dict[str, Entry]:
    """What a backup of that store which was cut off had read; nothing where none was, or where that is damaged."""
    key = _hints_key(store)
    if not shelf.exists(key):
        return {}
    try:
        return {entry.key: entry for entry in _entries_in(shelf.get(key), key)}
    except StoreError:
        return {}


def drop_hints(shelf: ObjectStore) -> None:
    """Take away what backups that were cut off had noted; where a server forbids that, it stays and misleads nobody."""
    with suppress(StoreError):
        shelf.erase(_UNFINISHED)


def _hints_key(store: str) -> str:
    return f"{_UNFINISHED}{sha256_of(store.encode())[:16]}.parquet"


def _entries_in(data: bytes, where: str) -> list[Entry]:
    try:
        rows = pd.read_parquet(io.BytesIO(data))[list(_COLUMNS)].astype(_COLUMNS)
        entries = [
            Entry(str(key), str(sha256), int(size), str(etag), modified.to_pydatetime())
            for key, sha256, size, etag, modified in rows.itertuples(index=False)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{where} is damaged ({error}); take another backup") from error
    for entry in entries:
        check_key(entry.key)
        if not _SHA256.fullmatch(entry.sha256) or entry.bytes < 0:
            raise StoreError(f"{where} is damaged: what it says of {entry.key} cannot be; take another backup")
    return entries


def check_name(name: str) -> str:
    """`name` itself, if a backup can be called so.

    Raises
    ------
    UsageError
        It cannot.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no backup's name; `alp backup list` names them, such as 20261122t031700z")
    return name
