"""Where new recordings come from, and when a file is whole enough to be heard.

A source lists what lies there and reads one file of it. Recorders write where we read: a file counts as settled once
its size and time have stood still for `SETTLE_S` seconds, however often it is looked at, and what cannot be decoded
then may still be unfinished, for a header can promise what comes later. Ordering is by the time a file was written,
then by name.

Only plain files are read, and only below the source's own folder: a pipe would keep the watcher waiting, and a link
may lead anywhere. What is passed over for such a reason is named with a remedy, never left out in silence.
"""

from __future__ import annotations

import math
import os
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.errors import InputError, StoreError
from tasks import keys
from tasks.hearing import is_sound_name, read_regular
from tasks.store import FolderStore, ObjectStore, check_key
from tasks.watch_log import SeenFile

SETTLE_S = 10.0
"""A file that has stood still for so long counts as settled; at the first look, one that was written before that."""

UNFINISHED = timedelta(minutes=1)
"""A file that cannot be decoded and was written longer ago than this is broken, where it is looked at only once."""

UNFINISHED_RULES = frozenset({"clip.undecodable", "clip.short"})
"""What a file breaks that is still being written."""

_LAST_TIME_S = 4_102_444_800
"""The year 2100: a file system may hold times that no calendar does."""

PassOver = Callable[[str, str], None]
"""Is called with the name of what is not looked at, and why and what to do."""


def pass_over_nothing(name: str, why: str) -> None:
    """Forget what is passed over."""


class Source(ABC):
    """Files that a recorder writes."""

    @abstractmethod
    def list(self, pass_over: PassOver = pass_over_nothing) -> list[SeenFile]:
        """Every WAV or FLAC file, in the order they are to be heard.

        Raises
        ------
        InputError
            The place itself is not there; it may come back.
        """

    @abstractmethod
    def read(self, file: SeenFile, *, most: int) -> bytes | None:
        """Its bytes, of a larger file the first `most` + 1; None where it is gone, or not what it was when listed.

        Raises
        ------
        OSError
            It may not be read.
        """


class RecorderFolder(Source):
    """A folder of this machine that a recorder writes to, folders below it too.

    Hidden files are not looked at, which is what recorders call a file they are not done with. Names are relative to
    the folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder. Check the path.")
        self._folder = folder

    def list(self, pass_over: PassOver = pass_over_nothing) -> list[SeenFile]:
        if not self._folder.is_dir():
            raise InputError(f"{self._folder} is not there any more; it is looked for until it comes back")
        return _in_order(_walk(self._folder, pass_over))

    def read(self, file: SeenFile, *, most: int) -> bytes | None:
        return _read_listed(self._folder, file, most=most)


class StoreRecordings(Source):
    """`recordings/<customer>/<asset>/…` of a store. Of a store in a folder no link is followed out of it.

    In a bucket a file appears once it is whole, and its time is when it was sent there.
    """

    def __init__(self, store: ObjectStore, customer: str, asset_id: str) -> None:
        self._store, self._prefix = store, keys.recordings(customer, asset_id)

    @property
    def _folder(self) -> Path | None:
        """Where a store in a folder keeps them."""
        return self._store.root / self._prefix if isinstance(self._store, FolderStore) else None

    def list(self, pass_over: PassOver = pass_over_nothing) -> list[SeenFile]:
        folder = self._folder
        if folder is None:
            found = self._find()
        elif folder.resolve() != folder:
            raise InputError(f"{folder} is a link, which is not followed; watch the folder itself with --watch")
        else:
            found = _walk(folder, pass_over) if folder.is_dir() else iter(())
        return _in_order(file for file in found if self._has_key(file, pass_over))

    def _has_key(self, file: SeenFile, pass_over: PassOver) -> bool:
        try:
            check_key(f"{self._prefix}{file.name}")
        except StoreError:
            may_not = "in the store a name may hold no backslash, tab or other control character, nor 800 characters"
            pass_over(file.name, f"{may_not}; rename it")
            return False
        return True

    def _find(self) -> Iterator[SeenFile]:
        for key, found in self._store.list_objects(self._prefix):
            name = key.removeprefix(self._prefix)
            if is_sound_name(name):
                yield SeenFile(name, found.bytes, found.modified)

    def read(self, file: SeenFile, *, most: int) -> bytes | None:
        if self._folder is not None:
            return _read_listed(self._folder, file, most=most)
        key = f"{self._prefix}{file.name}"
        try:
            data, found = self._store.get_with_stat(key, most=most + 1)
        except StoreError:
            if self._store.exists(key):
                raise
            return None
        return data if (found.bytes, found.modified) == (file.bytes, file.modified) else None


def _walk(folder: Path, pass_over: PassOver) -> Iterator[SeenFile]:
    """The plain sound files of a folder and those below it; whatever else is called like one is passed over."""

    def name_unreadable(error: OSError) -> None:
        place = Path(str(error.filename))
        if place == folder:
            raise InputError(f"{folder} cannot be read ({error.strerror}); it is tried again until it can") from error
        if not isinstance(error, FileNotFoundError):
            why = f"the folder cannot be read ({error.strerror}); let the user who runs alp read it"
            pass_over(place.relative_to(folder).as_posix(), why)

    for place, folders, names in os.walk(folder, onerror=name_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (path := Path(place, name)).is_symlink():
                pass_over(
                    path.relative_to(folder).as_posix(), "it is a link, which is not followed; move the folder here"
                )
        for name in names:
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            if is_sound_name(relative) and (found := _look_at(path, relative, pass_over)) is not None:
                yield found


def _look_at(path: Path, name: str, pass_over: PassOver) -> SeenFile | None:
    try:
        found = path.lstat()
    except OSError:
        return None  # gone, or renamed, since it was listed
    if stat.S_ISREG(found.st_mode):
        return _as_seen(name, found)
    what = "a link, which is not followed" if stat.S_ISLNK(found.st_mode) else "no plain file"
    pass_over(name, f"it is {what}; put the recording itself here")
    return None


def _read_listed(folder: Path, file: SeenFile, *, most: int) -> bytes | None:
    try:
        data, found = read_regular(folder / file.name, most=most)
    except FileNotFoundError:
        return None
    return data if _as_seen(file.name, found) == file else None


def _as_seen(name: str, found: os.stat_result) -> SeenFile:
    seconds = min(max(found.st_mtime_ns // 1000 / 1e6, 0.0), _LAST_TIME_S)
    return SeenFile(name, found.st_size, datetime.fromtimestamp(seconds, UTC))


def _in_order(files: Iterable[SeenFile]) -> list[SeenFile]:
    return sorted(files, key=lambda file: (file.modified, file.name))


class Settling:
    """Tells settled files from those that are still being written, from one look to the next.

    `patience`: looks at an unchanged file that seems unfinished, before it is believed to be broken. None: there is
    only one look, and age alone can tell. `settle_s`: how long a file must stand still. `clock`: seconds that only
    ever go forward.
    """

    def __init__(
        self, *, patience: int | None, settle_s: float = SETTLE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience, self._settle_s, self._clock = patience, settle_s, clock
        self._first_seen: dict[SeenFile, float] | None = None
        self._unfinished: dict[SeenFile, int] = {}
        self._held: list[SeenFile] = []

    def take_settled(self, files: Iterable[SeenFile], *, now: datetime) -> list[SeenFile]:
        """Of the files that are there now, those to be read, in their order."""
        there, time_now = list(files), self._clock()
        self._held.clear()
        if self._first_seen is None:
            # At the first look only age can tell; later a recorder whose clock is off must not seem to be done.
            old = timedelta(seconds=self._settle_s)
            self._first_seen = {file: -math.inf if abs(now - file.modified) >= old else time_now for file in there}
        else:
            self._first_seen = {file: self._first_seen.get(file, time_now) for file in there}
        seen = self._first_seen
        self._unfinished = {file: looks + 1 for file, looks in self._unfinished.items() if file in seen}
        if self._patience is None:
            self._held += [file for file in there if time_now - seen[file] < self._settle_s]
        return [file for file in there if time_now - seen[file] >= self._settle_s and not self._is_to_wait(file)]

    def hold(self, file: SeenFile, *, now: datetime) -> bool:
        """Whether a file that seems unfinished is to be looked at again before it is called broken."""
        if self._patience is None:
            is_young = abs(now - file.modified) < UNFINISHED
            self._held += [file] if is_young else []
            return is_young
        self._unfinished.setdefault(file, 0)
        return self._is_to_wait(file)

    def _is_to_wait(self, file: SeenFile) -> bool:
        return self._patience is not None and self._unfinished.get(file, self._patience) < self._patience

    @property
    def waiting(self) -> list[SeenFile]:
        """Files that seem unfinished; where there is only one look, also those that were just written."""
        return [*self._held, *filter(self._is_to_wait, self._unfinished)]
