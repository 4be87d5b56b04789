"""Where new recordings come from, and when a file is whole enough to be heard.

A source lists what lies there and reads one file of it. Recorders write where we read: a file counts as settled once
its size and time have stood still from one look to the next, and what cannot be decoded then may still be unfinished,
for a header can promise what comes later. Ordering is by the time a file was written, then by name.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.errors import InputError, StoreError
from tasks import keys
from tasks.hearing import is_sound_name
from tasks.store import ObjectStore
from tasks.watch_log import SeenFile

SETTLE = timedelta(seconds=10)
"""A file that was written longer ago than this when it is first looked at counts as settled."""

UNFINISHED = timedelta(minutes=1)
"""A file that cannot be decoded and was written longer ago than this is broken, where it is looked at only once."""

UNFINISHED_RULES = frozenset({"clip.undecodable", "clip.short"})
"""What a file breaks that is still being written."""


class Source(ABC):
    """Files that a recorder writes."""

    @abstractmethod
    def list(self) -> list[SeenFile]:
        """Every WAV or FLAC file, in the order they are to be heard.

        Raises
        ------
        InputError
            The place itself is not there; it may come back.
        """

    @abstractmethod
    def read(self, file: SeenFile) -> bytes | None:
        """Its bytes; None where it is gone."""


class StoreRecordings(Source):
    """`recordings/<customer>/<asset>/…` of a store."""

    def __init__(self, store: ObjectStore, customer: str, asset_id: str) -> None:
        self._store, self._prefix = store, keys.recordings(customer, asset_id)

    def list(self) -> list[SeenFile]:
        return _in_order(self._find())

    def _find(self) -> Iterator[SeenFile]:
        for key in self._store.list_keys(self._prefix):
            name = key.removeprefix(self._prefix)
            if is_sound_name(name):
                try:
                    stat = self._store.stat(key)
                except StoreError:
                    continue  # gone since it was listed
                yield SeenFile(name, stat.bytes, stat.modified)

    def read(self, file: SeenFile) -> bytes | None:
        key = f"{self._prefix}{file.name}"
        try:
            return self._store.get(key)
        except StoreError:
            if self._store.exists(key):
                raise
            return None


class RecorderFolder(Source):
    """A folder of this machine that a recorder writes to, folders below it too.

    Links are not followed, and hidden files are not looked at, which is what recorders call a file they are not done
    with. Names are relative to the folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder. Check the path.")
        self._folder = folder

    def list(self) -> list[SeenFile]:
        if not self._folder.is_dir():
            raise InputError(f"{self._folder} is not there any more; it is looked for until it comes back")
        return _in_order(self._find())

    def _find(self) -> Iterator[SeenFile]:
        for place, folders, names in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(place, name)
                relative = path.relative_to(self._folder).as_posix()
                if not is_sound_name(relative) or path.is_symlink():
                    continue
                try:
                    stat = path.stat()
                except OSError:
                    continue  # gone, or renamed, since it was listed
                modified = datetime.fromtimestamp(stat.st_mtime_ns // 1000 / 1e6, UTC)
                yield SeenFile(relative, stat.st_size, modified)

    def read(self, file: SeenFile) -> bytes | None:
        try:
            return (self._folder / file.name).read_bytes()
        except FileNotFoundError:
            return None


def _in_order(files: Iterable[SeenFile]) -> list[SeenFile]:
    return sorted(files, key=lambda file: (file.modified, file.name))


class Settling:
    """Tells settled files from those that are still being written, from one look to the next.

    `patience`: looks at an unchanged file that seems unfinished, before it is believed to be broken. None: there is
    only one look, and age alone can tell.
    """

    def __init__(self, *, patience: int | None) -> None:
        self._patience = patience
        self._before: set[SeenFile] | None = None
        self._unfinished: dict[SeenFile, int] = {}

    def take_settled(self, files: Iterable[SeenFile], *, now: datetime) -> list[SeenFile]:
        """Of the files that are there now, those to be read, in their order."""
        there = list(files)
        before, self._before = self._before, set(there)
        self._unfinished = {file: looks + 1 for file, looks in self._unfinished.items() if file in self._before}
        if before is None:
            # At the first look only age can tell; later a recorder whose clock is off must not seem to be done.
            settled = [file for file in there if abs(now - file.modified) >= SETTLE]
        else:
            settled = [file for file in there if file in before]
        return [file for file in settled if not self._is_to_wait(file)]

    def hold(self, file: SeenFile, *, now: datetime) -> bool:
        """Whether a file that seems unfinished is to be looked at again before it is called broken."""
        if self._patience is None:
            return abs(now - file.modified) < UNFINISHED
        self._unfinished.setdefault(file, 0)
        return self._is_to_wait(file)

    def _is_to_wait(self, file: SeenFile) -> bool:
        return self._patience is not None and self._unfinished.get(file, self._patience) < self._patience

    @property
    def waiting(self) -> int:
        """Files that seem unfinished."""
        return sum(map(self._is_to_wait, self._unfinished))
