"""Look after backups: hold them against their checksums, and forget those that are not wanted any more."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import StoreError
from tasks.backup.catalogue import (
    LOCK,
    Backup,
    backup_key,
    backup_names,
    drop_hints,
    hash_file,
    object_key,
    read_backup,
    read_entries,
    table_key,
)
from tasks.backup.making import hashes_of, shelved
from tasks.object_store import ObjectStore
from tasks.parallel import ordered_map
from tasks.progress import track


@dataclass(frozen=True)
class Checked:
    """What was found of a backup whose every object was read."""

    backup: Backup
    objects: int
    """How many were read; of several keys that hold the same, one."""
    damaged: tuple[str, ...]
    """Keys, and names of files, whose object is not there or is not what it was."""
    discarded: int = 0
    """Damaged objects that were taken out."""


@dataclass(frozen=True)
class Forgotten:
    """What was taken away."""

    names: tuple[str, ...]
    kept: tuple[str, ...]
    objects: int
    bytes: int


def check_backup(shelf: ObjectStore, name: str, *, discard: bool = False) -> Checked:
    """Read every object of a backup and hold it against its hash.

    discard: take damaged objects out, so that the next backup writes them again where the store still has them.

    Raises
    ------
    StoreError
        What the backup says of itself cannot be read, or the shelf not be reached.
    """
    backup = read_backup(shelf, name)
    entries = read_entries(shelf, backup)
    needed, there = hashes_of([(backup, entries)]), shelved(shelf)
    present = [sha256 for sha256 in needed if sha256 in there]
    bad = set(needed) - set(present)
    with track("Checking", total=len(present)) as advance:
        for sha256, is_intact in zip(present, ordered_map(lambda each: _is_intact(shelf, each), present), strict=True):
            advance(1)
            if not is_intact:
                bad.add(sha256)
    discarded = _discard(shelf, bad & set(present)) if discard else 0
    names = [key for key, entry in entries.items() if entry.sha256 in bad]
    names += [file.name for file in backup.files if file.sha256 in bad]
    return Checked(backup, len(present), tuple(names), discarded)


def _is_intact(shelf: ObjectStore, sha256: str) -> bool:
    key = object_key(sha256)
    try:
        with shelf.local_file(key) as path:
            return hash_file(path) == sha256
    except StoreError:
        # One that a store of its own finds damaged is there, and cannot be read; else the shelf itself is away.
        if shelf.exists(key):
            return False
        raise


def _discard(shelf: ObjectStore, damaged: set[str]) -> int:
    with shelf.lock(LOCK):
        for sha256 in damaged:
            shelf.erase(object_key(sha256))
    return len(damaged)


def forget_backups(shelf: ObjectStore, *, keep: int) -> Forgotten:
    """Forget all backups but the newest `keep`, and for good whatever only they, or one that was cut off, needed.

    Raises
    ------
    StoreError
        What a backup that stays needs cannot be told; then nothing is taken away.
    """
    with shelf.lock(LOCK):
        names = backup_names(shelf)
        gone, kept = names[:-keep], names[-keep:]
        backups = [read_backup(shelf, name) for name in kept]
        needed = hashes_of((backup, read_entries(shelf, backup)) for backup in backups)
        for name in gone:
            # First what makes it a backup: whoever is killed in between leaves none that is not whole.
            shelf.erase(backup_key(name))
            shelf.erase(table_key(name))
        drop_hints(shelf)
        there = shelved(shelf)
        idle = [sha256 for sha256 in there if sha256 not in needed]
        with track("Clearing up", total=len(idle)) as advance:
            for _ in ordered_map(lambda sha256: shelf.erase(object_key(sha256)), idle):
                advance(1)
    return Forgotten(tuple(gone), tuple(kept), len(idle), sum(there[sha256] for sha256 in idle))
