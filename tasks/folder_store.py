"""A store in a folder of this machine, to open and look into.

An object is written beside its place, brought to the disk and renamed, so that a reader sees the old one or the new
one, never half, after a power cut too: without that a package could be sealed over clips that are empty files. It costs
1-6 ms an object by how busy the disk is: of the time that the gate takes for a clip a seventh with one thread, and
nothing that can be measured with two, since others work while one waits.

Beside its bytes an object carries their SHA-256, as an extended attribute of its file, and what is read whole is held
against it, since a disk may give back other bits than it was given and say nothing: a model that is a little different
would judge a little differently for ever. The attribute also says when the file was last changed, so that of one that
somebody edits, or copies without attributes, nothing is claimed. Where a disk knows no attributes there is no check.

`lock` and `replace` hold between the processes of this machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISDIR

from schemas.errors import StoreError
from tasks.object_store import ObjectStat, ObjectStore, check_expiry, check_key, check_prefix, conflict

_TEMPORARY = ".writing-"
"""How a file begins that is being written, or whose writer was killed: no object."""

_LOCK = f"{_TEMPORARY}lock-"

_SUM = "user.alp.sha256"
"""Attribute of a file: SHA-256 as hex digits, and its time of last change in ns."""


class FolderStore(ObjectStore):
    """A store in a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.url = self.root.as_uri()

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def get_with_stat(self, key: str, *, most: int | None = None) -> tuple[bytes, ObjectStat]:
        with self._telling(key, "read"), self._path(key).open("rb") as file:
            data, found = file.read(-1 if most is None else most), os.fstat(file.fileno())
            expected = _sum_of(file.fileno()) if len(data) == found.st_size else None
            if expected is not None and hashlib.sha256(data).hexdigest() != expected:
                file.seek(0)
                data = file.read()  # once more: what was damaged on the way may come well the second time
                if hashlib.sha256(data).hexdigest() != expected:
                    raise self._damaged(key)
            return data, _as_stat(found)

    def download(self, key: str, path: Path) -> None:
        with self.local_file(key) as found, self._telling(key, "read"):
            shutil.copyfile(found, path)

    def put(self, key: str, data: bytes) -> None:
        self._place(key, lambda temporary: temporary.write_bytes(data))

    def put_file(self, key: str, path: Path) -> None:
        self._place(key, lambda temporary: shutil.copyfile(path, temporary))

    def replace(self, key: str, data: bytes, *, expected: str | None) -> str:
        # Not the key's own lock, which the caller may hold.
        with self._hold(f"replace {check_key(key)}"):
            there = self.stat(key).etag if self.exists(key) else None
            if there != expected:
                raise conflict(self.uri(key), expected)
            self.put(key, data)
            return self.stat(key).etag

    def date(self, key: str, modified: datetime) -> None:
        """Let an object count as changed at that time, its checksum still holding."""
        path = self._path(key)
        with self._telling(key, "dated"), path.open("rb") as file:
            checksum, moment = _sum_of(file.fileno()), int(modified.timestamp() * 1e9)
            os.utime(path, ns=(moment, moment))
            if checksum is not None:
                _note_sum(file.fileno(), checksum)

    def _place(self, key: str, write: Callable[[Path], object]) -> None:
        """Write beside the place, bring it to the disk, rename: a reader sees the old object or the new one."""
        path = self._path(key)
        temporary: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
            os.close(handle)
            temporary = Path(name)
            write(temporary)
            _seal(temporary)
            temporary.chmod(0o644)
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise StoreError(
                f"{path} cannot be written: {error.strerror}; check the disk and the rights, or give another --store"
            ) from error

    def exists(self, key: str) -> bool:
        with self._telling(key, "looked at"):
            return self._path(key).is_file()

    def stat(self, key: str) -> ObjectStat:
        with self._telling(key, "looked at"):
            found = self._path(key).stat()
        if S_ISDIR(found.st_mode):
            raise self._absent(key)
        return _as_stat(found)

    def list_objects(self, prefix: str = "") -> Iterator[tuple[str, ObjectStat]]:
        for key in self.list_keys(prefix):
            with suppress(FileNotFoundError):  # gone since it was listed
                yield key, _as_stat((self.root / key).stat())

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        return (key for key in self._walk(prefix) if not _is_temporary(key))

    def _walk(self, prefix: str) -> list[str]:
        """Files whose path below the root starts with `prefix`, sorted, also those that are being written."""
        top = self.root / check_prefix(prefix).rpartition("/")[0]
        with self._telling(prefix, "listed"):
            folders = os.walk(top, onerror=_raise_unless_gone)
            files = (Path(folder, name) for folder, _, names in folders for name in names)
            found = [path.relative_to(self.root).as_posix() for path in files if path.is_file()]
        return sorted(path for path in found if path.startswith(prefix))

    def delete(self, key: str) -> None:
        with self._telling(key, "deleted"):
            path = self._path(key)
            if path.is_file():
                path.unlink(missing_ok=True)

    def erase(self, prefix: str) -> list[str]:
        gone = [path for path in self._walk(prefix) if not _is_lock(path)]
        with self._telling(prefix, "erased"):
            for path in gone:
                (self.root / path).unlink(missing_ok=True)
        for folder in sorted({(self.root / path).parent for path in gone}, reverse=True):
            self._remove_empty(folder)
        return [path for path in gone if not _is_temporary(path)]

    def _remove_empty(self, folder: Path) -> None:
        """A folder that an erased object was the last of, and those above it that hold nothing else."""
        with suppress(OSError):  # somebody writes there by now
            while folder != self.root:
                folder.rmdir()
                folder = folder.parent

    def location(self, key: str) -> str:
        return str(self._path(key))

    def presigned_url(self, key: str, *, expires_s: int) -> str:
        check_expiry(expires_s)
        self.stat(key)
        return self._path(key).as_uri()

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """An advisory lock between the processes of this machine; the system drops it with its holder."""
        with self._hold(check_key(key)):
            yield

    @contextmanager
    def _hold(self, what: str) -> Iterator[None]:
        path = self.root / f"{_LOCK}{hashlib.sha256(what.encode()).hexdigest()[:16]}"
        with self._telling(what, "locked"):
            self.root.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        if not self.exists(key):
            raise self._absent(key)
        with self._telling(key, "read"), self._path(key).open("rb") as file:
            expected = _sum_of(file.fileno())
            if expected is not None and hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise self._damaged(key)
        yield self._path(key)

    def _damaged(self, key: str) -> StoreError:
        return StoreError(
            f"{self.root / key} is damaged: what was read does not match the checksum that it was written with; put it"
            " back from a backup, or remove it and run again what made it, and look after the disk"
        )

    def _absent(self, key: str) -> StoreError:
        return StoreError(f"{self.url} holds no object {key!r}")

    @contextmanager
    def _telling(self, key: str, what: str) -> Iterator[None]:
        """Turn what the disk says into a `StoreError`."""
        try:
            yield
        except FileNotFoundError:
            raise self._absent(key) from None
        except OSError as error:
            raise StoreError(
                f"{self.root / key} cannot be {what}: {error.strerror}; check the disk and the rights"
            ) from error


def _is_temporary(path: str) -> bool:
    return path.rpartition("/")[2].startswith(_TEMPORARY)


def _is_lock(path: str) -> bool:
    return path.startswith(_LOCK)


def _raise_unless_gone(error: OSError) -> None:
    """A folder that cannot be listed is no empty one; one that is not there holds nothing."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _as_stat(found: os.stat_result) -> ObjectStat:
    # A file that is renamed into place is another file: its number and time say so without reading it.
    etag = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
    return ObjectStat(found.st_size, datetime.fromtimestamp(found.st_mtime, UTC), etag)


def _seal(path: Path) -> None:
    """Write the checksum of a file's bytes beside them."""
    with path.open("rb") as file:
        _note_sum(file.fileno(), hashlib.file_digest(file, "sha256").hexdigest())


def _note_sum(descriptor: int, checksum: str) -> None:
    # A system, or a disk, may know no attributes.
    with suppress(OSError, AttributeError):
        os.setxattr(descriptor, _SUM, f"{checksum} {os.fstat(descriptor).st_mtime_ns}".encode())


def _sum_of(descriptor: int) -> str | None:
    """The checksum that a file was written with; None where it has none, or was changed since."""
    try:
        said = os.getxattr(descriptor, _SUM).decode("ascii", "replace")
    except (OSError, AttributeError):
        return None
    checksum, _, changed = said.partition(" ")
    return checksum if changed == str(os.fstat(descriptor).st_mtime_ns) else None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
