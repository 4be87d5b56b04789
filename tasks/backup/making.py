"""Make a backup while runs go on: it holds what the store held at one moment, whole, or it is none.

The store is read in the order of `tasks.backup.order`; an object goes to the backup under the hash of what was read, so
that one that lies there already is not written again. Nothing counts before `backup.json` is written. One that is cut
off is started again and goes on: what it had read and written serves the next one, and no other.

An object is not read again where the store says that it is the very version that an earlier backup of this store read.
What vanishes while it is read (a purge, a model that was taken away) makes the order worthless: all is looked at again,
which costs a listing, until nothing does.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from schemas.errors import StoreError, UsageError
from tasks.backup.catalogue import (
    LOCK,
    OBJECTS,
    Backup,
    Entry,
    FiledFile,
    backup_key,
    backup_names,
    drop_hints,
    hash_file,
    new_name,
    object_key,
    read_backup,
    read_entries,
    read_hints,
    sha256_of,
    table_key,
    write_hints,
    write_table,
)
from tasks.backup.order import POINTERS, is_kept, may_be_named, points
from tasks.object_store import ObjectStat, ObjectStore, check_key, model_bytes
from tasks.parallel import ordered_map
from tasks.progress import track
from tasks.runs import code_version, versions
from tasks.store import FolderStore

IN_MEMORY = 16 << 20
"""Larger objects go through a file."""
_PASSES = 5
_NOTE_EVERY_S = 30.0


@dataclass(frozen=True)
class Made:
    """A backup that was made, and what that took."""

    backup: Backup
    read: int
    """Objects that were read, since they are new or changed."""
    written: int
    """Of those, what no earlier backup held."""
    written_bytes: int
    passed_over: tuple[str, ...]
    """Files that are no objects, by their names or as links; they are not in it."""


def make_backup(
    store: ObjectStore,
    shelf: ObjectStore,
    *,
    files: Mapping[str, Path] | None = None,
    settings: Mapping[str, str] | None = None,
    without: Collection[str] = (),
) -> Made:
    """Back up `store` to `shelf`, with files from beside it by the names that they are to be restored under.

    without: prefixes of keys to leave out.

    Raises
    ------
    StoreError
        One of them cannot be read or written; what was done until then serves the next try.
    UsageError
        One of them lies in the other, or the store's folder is not there.
    """
    refuse_nesting(store, shelf)
    _require_there(store)
    with shelf.lock(LOCK):
        copier = _Copier(store, shelf, without)
        name, began = _claim_name(shelf)
        filed = tuple(_file_away(copier, file, path) for file, path in (files or {}).items())
        entries = copier.copy_all()
        backup = Backup(
            name=name,
            made_at=began,
            store=store.url,
            code_version=code_version(),
            versions=versions(),
            settings=dict(settings or {}),
            without=tuple(sorted(without)),
            objects=len(entries),
            bytes=sum(entry.bytes for entry in entries.values()),
            table_sha256=write_table(shelf, table_key(name), entries.values()),
            files=filed,
        )
        shelf.put(backup_key(name), model_bytes(backup))
        drop_hints(shelf)
    return Made(backup, copier.read, copier.written, copier.written_bytes, tuple(sorted(copier.passed_over)))


def refuse_nesting(store: ObjectStore, shelf: ObjectStore) -> None:
    """Raise UsageError where a backup would lie in what it is a backup of, or the other way round."""
    places = [_place(each) for each in (store, shelf)]
    if places[0][0] == places[1][0] and _within(places[0][1], places[1][1]):
        raise UsageError(
            f"the backup {shelf.url} and the store {store.url} lie in each other: what destroys one takes the other"
            " with it. Name a place on another disk or server"
        )


def _require_there(store: ObjectStore) -> None:
    """A disk that is away, or a command in another folder, would make a backup of nothing, which pushes out the others.

    A bucket that is not there says so itself.
    """
    if isinstance(store, FolderStore) and not store.root.is_dir():
        raise UsageError(
            f"{store.root} is not there, so that nothing is backed up: look whether its disk is, type the command in"
            " the folder that holds alp-platform, or name the store with --store or ALP_STORE"
        )


def _place(store: ObjectStore) -> tuple[str, str]:
    """Which server or machine, and where there."""
    if isinstance(store, FolderStore):
        return "", f"{store.root}/"
    from tasks.s3_store import S3Store

    assert isinstance(store, S3Store)
    return f"{store.address.endpoint}/{store.address.bucket}", store.address.prefix


def _within(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _claim_name(shelf: ObjectStore) -> tuple[str, datetime]:
    while True:
        began = datetime.now(UTC)
        if (name := new_name(backup_names(shelf), began)) is not None:
            return name, began
        time.sleep(0.2)


def _file_away(copier: _Copier, name: str, path: Path) -> FiledFile:
    sha256, _ = copier.shelve(path)
    return FiledFile(name=name, sha256=sha256, bytes=path.stat().st_size)


class _Copied(NamedTuple):
    """An object that the shelf holds now."""

    entry: Entry
    was_read: bool = False
    was_written: bool = False


class _Copier:
    """Brings what a store holds to a shelf."""

    def __init__(self, store: ObjectStore, shelf: ObjectStore, without: Collection[str]) -> None:
        self._store, self._shelf, self._without = store, shelf, without
        self.read = self.written = self.written_bytes = 0
        self._there, self._claims = shelved(shelf), threading.Lock()
        self.passed_over: set[str] = set()
        # The newest backup of this very store knows what lies there, and one that was cut off knows it better.
        self._known = _newest_entries(shelf, store.url) | read_hints(shelf, store.url)

    def copy_all(self) -> dict[str, Entry]:
        """Every object of the store by key, once nothing vanishes that something may point to."""
        for _ in range(_PASSES):
            entries, is_whole = self._pass_over()
            if is_whole:
                return entries
        raise StoreError(
            f"objects of {self._store.url} vanish faster than they can be read: a customer is purged, or somebody"
            " clears up. Start the backup again when that is done: it goes on where it stopped"
        )

    def _pass_over(self) -> tuple[dict[str, Entry], bool]:
        """Copy the store once; what was found, and whether nothing vanished of it that something may point to."""
        before, entries = self._list(""), dict[str, Entry]()
        for group in POINTERS:
            listed = self._list(group.prefix)
            # One that is gone by now points to nothing.
            entries |= self._copy({key: stat for key, stat in listed.items() if group.pattern.fullmatch(key)})
        after = self._list("")
        entries |= self._copy({key: stat for key, stat in after.items() if not points(key)})
        vanished = (before.keys() | entries.keys()) - after.keys()
        vanished |= {key for key in after if key not in entries and not points(key)}
        return entries, not any(may_be_named(key, entries) for key in vanished)

    def _list(self, prefix: str) -> dict[str, ObjectStat]:
        found = {key: stat for key, stat in self._store.list_objects(prefix) if is_kept(key, without=self._without)}
        odd = {key for key in found if not self._is_ours(key)}
        self.passed_over |= odd
        return {key: stat for key, stat in found.items() if key not in odd}

    def _is_ours(self, key: str) -> bool:
        """Whether it is an object: what others drop may have names that none has, or lead out of the store."""
        try:
            check_key(key)
        except StoreError:
            return False
        return not (isinstance(self._store, FolderStore) and (self._store.root / key).is_symlink())

    def _copy(self, found: Mapping[str, ObjectStat]) -> dict[str, Entry]:
        """Copy objects, several at a time; by key those that were still there."""
        entries: dict[str, Entry] = {}
        changed = {key: stat for key, stat in found.items() if not self._is_shelved(key, stat)}
        entries |= {key: self._known[key] for key in found.keys() - changed.keys()}
        if not changed:
            return entries
        noted = time.monotonic()
        with track("Backing up", total=len(changed)) as advance:
            for copied in ordered_map(lambda key: self._copy_one(key, changed[key]), changed):
                advance(1)
                if copied is None:
                    continue
                entries[copied.entry.key] = self._known[copied.entry.key] = copied.entry
                self._count(copied)
                if time.monotonic() - noted > _NOTE_EVERY_S:
                    write_hints(self._shelf, self._store.url, self._known.values())
                    noted = time.monotonic()
        return entries

    def _is_shelved(self, key: str, stat: ObjectStat) -> bool:
        """Whether this very version was read before, and what was read is still there."""
        known = self._known.get(key)
        if known is None or (known.etag, known.bytes) != (stat.etag, stat.bytes):
            return False
        return not self._lacks(known.sha256, known.bytes)

    def _lacks(self, sha256: str, size: int) -> bool:
        """Whether the shelf does not hold such an object, or not all of it."""
        return self._there.get(sha256) != size

    def _copy_one(self, key: str, stat: ObjectStat) -> _Copied | None:
        """Bring one object to the shelf; None where it has vanished."""
        try:
            return self._copy_small(key) if stat.bytes <= IN_MEMORY else self._copy_large(key, stat)
        except StoreError:
            if self._store.exists(key):
                raise
            return None

    def _copy_small(self, key: str) -> _Copied:
        data, stat = self._store.get_with_stat(key)
        entry = Entry(key, sha256_of(data), len(data), stat.etag, stat.modified)
        lacking = self._claim(entry.sha256, entry.bytes)
        if lacking:
            self._shelf.put(object_key(entry.sha256), data)
        return _Copied(entry, was_read=True, was_written=lacking)

    def _copy_large(self, key: str, stat: ObjectStat) -> _Copied:
        """By way of a file of our own, which nobody replaces between being hashed and being written."""
        with tempfile.TemporaryDirectory(prefix="alp-") as folder:
            path = Path(folder) / "object"
            self._store.download(key, path)
            sha256, written = self.shelve(path)
            # Where it was replaced since it was listed, the next backup finds another etag and reads it again.
            entry = Entry(key, sha256, path.stat().st_size, stat.etag, stat.modified)
        return _Copied(entry, was_read=True, was_written=written)

    def shelve(self, path: Path) -> tuple[str, bool]:
        """Bring a file to the shelf; its hash, and whether it was not there before."""
        sha256, size = hash_file(path), path.stat().st_size
        lacking = self._claim(sha256, size)
        if lacking:
            self._shelf.put_file(object_key(sha256), path)
        return sha256, lacking

    def _claim(self, sha256: str, size: int) -> bool:
        """Whether an object is to be written, and by whoever asks first; where writing it fails, so does all."""
        with self._claims:
            lacking = self._lacks(sha256, size)
            self._there[sha256] = size
        return lacking

    def _count(self, copied: _Copied) -> None:
        self.read += copied.was_read
        self.written += copied.was_written
        self.written_bytes += copied.entry.bytes if copied.was_written else 0


def _newest_entries(shelf: ObjectStore, store: str) -> dict[str, Entry]:
    """What the newest backup of that store holds; one that is damaged keeps nobody from making another."""
    for name in reversed(backup_names(shelf)):
        with suppress(StoreError):
            if (backup := read_backup(shelf, name)).store == store:
                return read_entries(shelf, backup)
    return {}


def shelved(shelf: ObjectStore) -> dict[str, int]:
    """Bytes of every object that a shelf holds, by hash."""
    return {key.rpartition("/")[2]: stat.bytes for key, stat in shelf.list_objects(OBJECTS)}


def hashes_of(backups: Iterable[tuple[Backup, Mapping[str, Entry]]]) -> dict[str, int]:
    """Bytes of every object that backups need, by hash."""
    needed: dict[str, int] = {}
    for backup, entries in backups:
        needed |= {entry.sha256: entry.bytes for entry in entries.values()}
        needed |= {file.sha256: file.bytes for file in backup.files}
    return needed
