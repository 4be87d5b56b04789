"""Give a backup back into an empty store: everything is held against its hash, and what points to others comes last.

A store that holds something else is not written to. One that holds part of this very backup is gone on with, after what
lies there was read and compared: so a restore that was cut off is started again. Nothing is believed of it before: no
champion, no finished run and no filed package is there until what it names is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import StoreError, UsageError
from tasks.backup.catalogue import (
    Backup,
    Entry,
    FiledFile,
    hash_file,
    object_key,
    read_backup,
    read_entries,
    sha256_of,
)
from tasks.backup.making import IN_MEMORY, hashes_of, refuse_nesting, shelved
from tasks.backup.order import DROPPED, in_writing_order, is_kept
from tasks.object_store import ObjectStore
from tasks.parallel import ordered_map
from tasks.progress import Advance, track
from tasks.store import FolderStore

_NAMED = 3


@dataclass(frozen=True)
class Restored:
    """What was given back."""

    backup: Backup
    written: int
    """Objects that were written; the others lay there already."""
    files: tuple[Path, ...]
    """Files that lie where they belong now."""


def restore_backup(shelf: ObjectStore, name: str, store: ObjectStore, *, folder: Path | None) -> Restored:
    """Restore a backup into `store`, and its files below `folder`; None: they are left where they are.

    Raises
    ------
    UsageError
        The store, or a file's place, holds something else.
    StoreError
        The backup is damaged or not whole, or the store cannot be written.
    """
    refuse_nesting(store, shelf)
    backup = read_backup(shelf, name)
    entries = read_entries(shelf, backup)
    _require_whole(shelf, backup, entries)
    files = list(_places_of(backup, folder))
    there = _compare(store, entries)
    missing = {key: entry for key, entry in entries.items() if key not in there}
    with track("Restoring", total=len(missing)) as advance:
        for keys in in_writing_order(missing):
            _write(shelf, store, {key: missing[key] for key in keys}, advance)
    _confirm(store, entries)
    return Restored(backup, len(missing), tuple(_write_file(shelf, file, path) for file, path in files))


def _require_whole(shelf: ObjectStore, backup: Backup, entries: Mapping[str, Entry]) -> None:
    """Nothing is begun that cannot be ended."""
    there = shelved(shelf)
    lost = {sha256 for sha256, size in hashes_of([(backup, entries)]).items() if there.get(sha256) != size}
    if lost:
        keys = [entry.key for entry in entries.values() if entry.sha256 in lost]
        keys += [file.name for file in backup.files if file.sha256 in lost]
        raise StoreError(
            f"backup {backup.name} in {shelf.url} is not whole: {len(keys)} of its objects are not there, or cut off,"
            f" {_some(keys)} among them; take another backup (`alp backup check` says which are whole)"
        )


def _compare(store: ObjectStore, entries: Mapping[str, Entry]) -> set[str]:
    """Keys of what the store holds already, as the backup has it.

    Raises
    ------
    UsageError
        It holds something else.
    """
    found = {key: stat for key, stat in store.list_objects() if is_kept(key)}
    others = [key for key in found if key not in entries and not key.startswith(DROPPED)]
    alike = [key for key, stat in found.items() if key in entries and entries[key].bytes == stat.bytes]
    differing = {key for key in found if key in entries} - set(alike)
    checked = ordered_map(lambda key: (key, _hash_of(store, key)), alike)
    differing |= {key for key, sha256 in checked if sha256 != entries[key].sha256}
    if others or differing:
        raise UsageError(
            f"the store {store.url} holds what is not of this backup ({_some([*others, *sorted(differing)])}): a backup"
            " is restored into an empty store. Name another one, a new folder or bucket, with --store"
        )
    return set(alike)


def _hash_of(store: ObjectStore, key: str) -> str:
    with store.local_file(key) as path:
        return hash_file(path)


def _write(shelf: ObjectStore, store: ObjectStore, missing: Mapping[str, Entry], advance: Advance) -> None:
    for _ in ordered_map(lambda key: _write_one(shelf, store, missing[key]), missing):
        advance(1)


def _write_one(shelf: ObjectStore, store: ObjectStore, entry: Entry) -> None:
    if entry.bytes <= IN_MEMORY:
        store.put(entry.key, _intact(shelf, entry))
    else:
        with tempfile.TemporaryDirectory(prefix="alp-") as folder:
            path = Path(folder) / "object"
            _fetch(shelf, entry.sha256, path, what=entry.key)
            store.put_file(entry.key, path)
    if isinstance(store, FolderStore):
        # Recordings are heard in the order of their times. A bucket keeps its own.
        store.date(entry.key, entry.modified)


def _intact(shelf: ObjectStore, entry: Entry) -> bytes:
    data = shelf.get(object_key(entry.sha256))
    if sha256_of(data) != entry.sha256:
        raise _damaged(shelf, entry.sha256, entry.key)
    return data


def _fetch(shelf: ObjectStore, sha256: str, path: Path, *, what: str) -> None:
    shelf.download(object_key(sha256), path)
    if hash_file(path) != sha256:
        raise _damaged(shelf, sha256, what)


def _damaged(shelf: ObjectStore, sha256: str, key: str) -> StoreError:
    """An object of a backup is not what it was."""
    return StoreError(
        f"{shelf.uri(object_key(sha256))}, which is {key}, is damaged; take another backup, or mend this one where the"
        " store it was made of is still there: `alp backup check --discard-damaged`, then `alp backup make`"
    )


def _confirm(store: ObjectStore, entries: Mapping[str, Entry]) -> None:
    """A store that loses what it has taken is found out here."""
    found = {key: stat.bytes for key, stat in store.list_objects()}
    lost = [key for key, entry in entries.items() if found.get(key) != entry.bytes]
    if lost:
        raise StoreError(
            f"{store.url} does not hold all that was written to it: {len(lost)} objects are not there, or cut off,"
            f" {_some(lost)} among them; look at its disk and its log, then start the restore again"
        )


def _places_of(backup: Backup, folder: Path | None) -> Iterator[tuple[FiledFile, Path]]:
    """Where each file belongs.

    Raises
    ------
    UsageError
        Another file lies there.
    """
    if folder is None:
        return
    for file in backup.files:
        path = folder / file.name
        if path.is_symlink() or (path.exists() and not _is_file(path, file)):
            raise UsageError(f"{path} is another file than the backup's; move it away, or name a folder with --files")
        yield file, path


def _is_file(path: Path, file: FiledFile) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes and hash_file(path) == file.sha256


def _write_file(shelf: ObjectStore, file: FiledFile, path: Path) -> Path:
    """A file where it belongs, there whole or not at all; only its owner may read it, as it may hold secrets."""
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.restoring")
        _fetch(shelf, file.sha256, beside, what=file.name)
        beside.chmod(0o600)
        beside.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}); check the folder and the rights") from error
    return path


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:_NAMED]) + (" …" if len(keys) > _NAMED else "")
