"""Read a package, a zip or a folder, without believing or extracting anything of it.

Nothing is ever written by an entry's name: an entry is a stream that is counted while it is read. Whatever is
unsafe (names that leave the package, links, encrypted or colliding entries, bombs) becomes a problem, and the
entry is left out, so that one pass names all of them. Names are NFC-normalized POSIX paths relative to the
package's top; the folder that a plant zipped around its package is taken off.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
import unicodedata
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from schemas.errors import InputError, PackageError
from schemas.paths import AUDIO_FOLDER, is_clutter, unsafe_name
from schemas.problems import Problem
from schemas.reasons import reason, system_reason
from schemas.rules import printable, report
from schemas.settings import ArchiveLimits
from schemas.tables import find_tables
from schemas.unpacking import UNPACK_ERRORS, unpack_fault

_CHUNK_BYTES = 1 << 20
_UTF8_FLAG, _ENCRYPTED_FLAGS = 0x800, 0x41
_LOCAL_HEADER_BYTES = 30
_DIRECTORY_MARK = b"PK\x01\x02"
_MAX_DIRECTORY_BYTES_PER_ENTRY = 1024
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


@dataclass(frozen=True)
class _Entry:
    """One thing in a container, before anything about it is believed."""

    name: str
    """In the right encoding, NFC; a folder's ends with a slash."""
    is_folder: bool
    kind: str
    """`file`, `link` or `other`."""
    handle: object
    """What the container opens it by."""
    size: int
    packed: int


class _Container(ABC):
    """Where entries come from: a zip file or a folder."""

    path: Path

    @abstractmethod
    def entries(self) -> Iterator[_Entry]:
        """Every entry, folders included, in a fixed order."""

    @abstractmethod
    def objection(self, entry: _Entry) -> Problem | None:
        """What this kind of container has against a file entry, beside its name."""

    @abstractmethod
    def open(self, entry: _Entry) -> IO[bytes]:
        """The entry's bytes as a stream."""

    @property
    @abstractmethod
    def packed_bytes(self) -> int | None:
        """Size of the container where it is packed, else None."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the container."""


class _Reading:
    """What reading has found out so far, over all threads."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.failures: dict[str, Problem] = {}
        self._sizes: dict[str, int] = {}
        self._total = 0
        self._lock = threading.Lock()

    def count(self, name: str, size: int) -> int:
        """Total bytes over all entries, once `size` bytes of `name` are read; reading again counts once."""
        with self._lock:
            more = max(0, size - self._sizes.get(name, 0))
            self._sizes[name] = self._sizes.get(name, 0) + more
            self._total += more
            return self._total


class PackageArchive:
    """The files of one package, by safe name.

    `names` are those that may be read; `problems` is everything unsafe found so far. Reading can find more: an
    entry that cannot be unpacked raises when read by name, and is added to `problems` either way.
    Reading from several threads is safe.
    """

    def __init__(self, container: _Container, limits: ArchiveLimits) -> None:
        self._container = container
        self._limits = limits
        self._reading = _Reading()
        self._entries, self._listing_problems, self._left_out = _screen(container, limits)

    @property
    def path(self) -> Path:
        """The zip or folder that is read."""
        return self._container.path

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the readable files, sorted."""
        return tuple(name for name in self._entries if name not in self._reading.failures)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything unsafe or unreadable found so far, listing first, then reading by name."""
        failures = self._reading.failures
        return (*self._listing_problems, *(failures[name] for name in sorted(failures)))

    @property
    def refused(self) -> frozenset[str]:
        """Names that stand in the archive and are not read because of a problem."""
        return self._left_out.keys() | self._reading.failures.keys()

    def note_failure(self, name: str, problem: Problem) -> None:
        """Take over what reading `name` found out elsewhere, as if it had been read here."""
        self._reading.failures[name] = problem

    def failure(self, name: str) -> Problem | None:
        """Why a file that the archive lists could not be read to its end; None where it could, or nobody tried."""
        return self._reading.failures.get(name)

    def size(self, name: str) -> int:
        """Size in bytes that the archive states for `name`; reading counts for itself."""
        return self._entries[name].size

    def read(self, name: str) -> bytes:
        """The content of one file.

        Raises PackageError with one problem where the entry is damaged or beyond a limit, KeyError where the
        package has no such file.
        """
        # Unlike joining the pieces, this never holds the content twice.
        content = io.BytesIO()
        self.copy(name, content)
        return content.getvalue()

    def copy(self, name: str, target: IO[bytes]) -> None:
        """Write the content of one file to a stream, piece by piece; errors as in `read`."""
        for chunk in self._chunks(name):
            target.write(chunk)

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of the content of every readable file, by name, as 64 hex digits; reads what is not yet read."""
        for name in self.names:
            if name not in self._reading.digests:
                try:
                    for _ in self._chunks(name):
                        pass
                except PackageError:
                    continue  # recorded by _chunks: `problems` names it
        return {name: self._reading.digests[name] for name in self.names}

    @property
    def package_id(self) -> str:
        """Sixteen hex digits over every (path, content): the same for a zip and a folder of the same files.

        What was refused counts by its name, so that a tampered package never shares an id with a sound one.
        """
        digest = hashlib.sha256()
        for name, content in sorted(self.digests.items()):
            digest.update(f"{name}\0{content}\n".encode())
        for name in sorted(map(_writable, self.refused)):
            digest.update(f"{name}\0refused\n".encode())
        return digest.hexdigest()[:16]

    def write_zip(self, path: Path) -> None:
        """Write the readable files as a zip whose bytes depend on names and contents only (stored, no times).

        What was refused stands in it too, empty and under its kind and size, so that whoever opens the zip hears of
        the same problems and computes the same id.

        Raises PackageError where a file cannot be read.
        """
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
            for name in self.names:
                info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                info.create_system = 3
                # The size decides between zip and zip64 headers before the first byte is written.
                info.file_size = self._entries[name].size
                with target.open(info, "w") as stream:
                    for chunk in self._chunks(name):
                        stream.write(chunk)
            for name, entry in sorted(self._left_out.items()):
                _mark_refused(target, name, entry)

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _chunks(self, name: str) -> Iterator[bytes]:
        """Stream one entry, counting; a complete pass records its digest, a failed one its problem."""
        entry = self._entries[name]
        digest, size = hashlib.sha256(), 0
        try:
            with self._container.open(entry) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    size += len(chunk)
                    broken = _broken_limit(entry, size, self._limits)
                    if self._reading.count(name, size) > self._limits.max_total_bytes:
                        broken = "archive.total_bytes"
                    if broken:
                        raise self._fail(name, report(broken, file=name, limits=self._limits))
                    digest.update(chunk)
                    yield chunk
        except UNPACK_ERRORS as error:
            # zipfile ends with a bare EOFError, or with nothing at all, where the archive is cut off.
            short = isinstance(error, EOFError) and size < entry.size
            raise self._fail(name, _damage(name, _missing(size, entry) if short else unpack_fault(error))) from error
        if size < entry.size:
            raise self._fail(name, _damage(name, _missing(size, entry)))
        self._reading.digests[name] = digest.hexdigest()

    def _fail(self, name: str, problem: Problem) -> PackageError:
        self._reading.failures[name] = problem
        return PackageError(str(problem), [problem])


def _damage(name: str, why: str) -> Problem:
    return report("archive.damaged", file=name, why=why)


def _missing(size: int, entry: _Entry) -> str:
    return reason("entry.short", found=size, stated=entry.size)


_KIND_MODES = {"file": stat.S_IFREG, "link": stat.S_IFLNK, "other": stat.S_IFIFO}


def _mark_refused(target: zipfile.ZipFile, name: str, entry: _Entry) -> None:
    """Write an empty entry that is refused for the same reason."""
    info = zipfile.ZipInfo("x", date_time=(1980, 1, 1, 0, 0, 0))
    info.filename = _writable(name)
    info.external_attr = (_KIND_MODES[entry.kind] | 0o644) << 16
    info.create_system = 3
    target.writestr(info, b"")
    # Written into the directory when the zip is closed: what was too large is refused by its stated size.
    info.file_size = entry.size if entry.kind == "file" else 0


def _writable(name: str) -> str:
    """A name as UTF-8 can hold it: halves of characters as escapes, whose backslashes no plain name has."""
    return name.encode("utf-8", "backslashreplace").decode()


def open_package(path: Path, limits: ArchiveLimits | None = None) -> PackageArchive:
    """Open a zip file or a folder as a package.

    Raises InputError, naming file and remedy, where `path` is neither; PackageError where the whole is beyond a
    limit. Unsafe entries raise nothing: they are in `problems`.
    """
    limits = limits or ArchiveLimits()
    if path.is_dir():
        return PackageArchive(_Folder(path), limits)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file or folder. Check the path.")
    container = _Zip(path, limits)
    try:
        return PackageArchive(container, limits)
    except BaseException:
        container.close()
        raise


# --- what may be read -------------------------------------------------------------------------------------------


def _screen(
    container: _Container, limits: ArchiveLimits
) -> tuple[dict[str, _Entry], tuple[Problem, ...], dict[str, _Entry]]:
    """The readable entries by final name, the problems of the others, and the others by name."""
    safe: list[_Entry] = []
    folders: list[str] = []
    objections: list[tuple[_Entry, Problem]] = []
    for count, entry in enumerate(container.entries(), start=1):
        if count > limits.max_entries:
            raise _whole(container.path, "archive.entries", limits)
        problem = _objection(entry, container, limits)
        if problem:
            objections.append((entry, problem))
        elif entry.is_folder:
            folders.append(entry.name)
        elif not is_clutter(entry.name):
            safe.append(entry)
    _check_stated_total(container, safe, limits)
    top = _top_folder(safe)
    left_out = {entry.name.removeprefix(top): entry for entry, _ in objections}
    problems = _within(top, objections)
    kept, collisions = _without_collisions(
        [(entry.name.removeprefix(top), entry) for entry in safe], [name.removeprefix(top) for name in folders]
    )
    for name, entry, problem in collisions:
        problems.append(problem)
        left_out[name] = entry
    return dict(sorted(kept.items())), tuple(problems), left_out


def _within(top: str, objections: list[tuple[_Entry, Problem]]) -> list[Problem]:
    """The problems under the names that their files have within the package, by which the table names them too."""
    if not top:
        return [problem for _, problem in objections]
    return [
        problem.model_copy(update={"file": printable(entry.name.removeprefix(top))}) for entry, problem in objections
    ]


def _objection(entry: _Entry, container: _Container, limits: ArchiveLimits) -> Problem | None:
    why = unsafe_name(entry.name.removesuffix("/") if entry.is_folder else entry.name)
    if why:
        return report("archive.path", file=entry.name, why=why)
    if entry.kind == "link":
        return report("archive.link", file=entry.name)
    if entry.kind == "other":
        return report("archive.kind", file=entry.name)
    if entry.is_folder:
        return None
    # A stated size is believed where it condemns the entry; where it does not, reading counts.
    broken = _broken_limit(entry, entry.size, limits)
    if broken:
        return report(broken, file=entry.name, limits=limits)
    return container.objection(entry)


def _broken_limit(entry: _Entry, size: int, limits: ArchiveLimits) -> str | None:
    """The rule that `size` unpacked bytes of one entry break."""
    if size > limits.max_file_bytes:
        return "archive.file_bytes"
    if size > limits.ratio_from_bytes and size > limits.max_ratio * entry.packed:
        return "archive.ratio"
    return None


def _check_stated_total(container: _Container, entries: Iterable[_Entry], limits: ArchiveLimits) -> None:
    total = sum(entry.size for entry in entries)
    if total > limits.max_total_bytes:
        raise _whole(container.path, "archive.total_bytes", limits)
    packed = container.packed_bytes
    if packed is not None and total > limits.ratio_from_bytes and total > limits.max_ratio * packed:
        raise _whole(container.path, "archive.ratio", limits)


def _whole(path: Path, rule: str, limits: ArchiveLimits) -> PackageError:
    problem = report(rule, file=path.name, limits=limits)
    return PackageError(f"{path}: {problem.message} {problem.remedy}", [problem])


def _top_folder(entries: list[_Entry]) -> str:
    """The one folder that holds the whole package, with its slash; empty where there is no such folder."""
    tops = {entry.name.partition("/")[0] for entry in entries}
    if len(tops) != 1:
        return ""
    top = next(iter(tops)) + "/"
    inside = [entry.name.removeprefix(top) for entry in entries]
    # A table among the sounds is out of place; it does not make their folder the package's.
    is_package = top != AUDIO_FOLDER or any(name.startswith(AUDIO_FOLDER) for name in inside)
    return top if is_package and find_tables(inside) else ""


def _without_collisions(
    named: list[tuple[str, _Entry]], folders: Iterable[str]
) -> tuple[dict[str, _Entry], list[tuple[str, _Entry, Problem]]]:
    """One entry per name, upper and lower case taken as one, the first of each and none that is also a folder; and
    the others with their problems."""
    kept: dict[str, _Entry] = {}
    taken: dict[str, str] = {}
    problems: list[tuple[str, _Entry, Problem]] = []
    inner = {above.casefold() for name in (*folders, *(name for name, _ in named)) for above in _folders_above(name)}
    for name, entry in named:
        other = taken.setdefault(name.casefold(), name)
        if name.casefold() in inner:
            problems.append((name, entry, report("archive.folder", file=name)))
        elif name in kept:
            problems.append((name, entry, report("archive.duplicate", file=name)))
        elif other != name:
            problems.append((name, entry, report("archive.case", file=name, other=other)))
        else:
            kept[name] = entry
    return kept, problems


def _folders_above(name: str) -> Iterator[str]:
    """Every folder that the name passes through: of `a/b/c` `a` and `a/b`."""
    place = name.find("/")
    while place >= 0:
        yield name[:place]
        place = name.find("/", place + 1)


# --- the two containers -------------------------------------------------------------------------------------------


class _TooManyEntries(Exception):
    """The directory of a zip lists more entries than a package may have."""


class _BoundedFile(io.FileIO):
    """A file that refuses to hand over a directory of an archive that is beyond any package's.

    zipfile reads the whole directory at once, as long as the archive says it is, and makes an object of each entry
    in it, however many the archive says they are. So entries are counted here, in the bytes that it gets.
    """

    def __init__(self, path: Path, *, max_entries: int) -> None:
        super().__init__(path)
        self._max_entries = max_entries
        self._max_read = max(_MAX_DIRECTORY_BYTES_PER_ENTRY * max_entries, 2 * _CHUNK_BYTES)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._max_read:
            raise zipfile.BadZipFile("its directory is larger than any package's")
        data = super().read(size) or b""
        if data.startswith(_DIRECTORY_MARK) and data.count(_DIRECTORY_MARK) > self._max_entries:
            raise _TooManyEntries
        return data


class _Zip(_Container):
    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        self.path = path
        try:
            self._file = _BoundedFile(path, max_entries=limits.max_entries)
        except OSError as error:
            raise InputError(
                f"{path}: the file cannot be read ({system_reason(error)}). Check its permissions."
            ) from error
        try:
            self._zip = zipfile.ZipFile(self._file)
        except (_TooManyEntries, *UNPACK_ERRORS) as error:
            self._file.seek(0)
            start = self._file.read(4)
            self._file.close()
            many = isinstance(error, _TooManyEntries)
            raise _whole(path, "archive.entries" if many else _not_a_zip(path, start), limits) from error
        self._overlapping = _overlapping(self._zip.infolist(), self._zip.start_dir)

    @property
    def packed_bytes(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def entries(self) -> Iterator[_Entry]:
        for info in self._zip.infolist():
            name = unicodedata.normalize("NFC", _decoded_name(info))
            mode = stat.S_IFMT(info.external_attr >> 16)
            # Writers that do not come from Unix leave the type at 0.
            kind = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "file", stat.S_IFLNK: "link"}.get(mode, "other")
            if mode == stat.S_IFDIR and not name.endswith("/"):
                kind = "other"
            yield _Entry(
                name=name,
                is_folder=name.endswith("/"),
                kind=kind,
                handle=info,
                size=info.file_size,
                packed=info.compress_size,
            )

    def objection(self, entry: _Entry) -> Problem | None:
        info = entry.handle
        assert isinstance(info, zipfile.ZipInfo)
        if info.flag_bits & _ENCRYPTED_FLAGS:
            return report("archive.encrypted", file=entry.name)
        if info.compress_type not in _METHODS:
            return report("archive.method", file=entry.name, method=info.compress_type)
        if info.header_offset in self._overlapping:
            return report("archive.overlap", file=entry.name)
        return None

    def open(self, entry: _Entry) -> IO[bytes]:
        assert isinstance(entry.handle, zipfile.ZipInfo)
        return self._zip.open(entry.handle)

    def close(self) -> None:
        self._zip.close()
        self._file.close()


def _decoded_name(info: zipfile.ZipInfo) -> str:
    """The entry's name. Without the UTF-8 flag it is whatever the writer's system used: macOS writes UTF-8 all the
    same, a Korean Windows CP949; zipfile takes all of it for CP437."""
    if info.flag_bits & _UTF8_FLAG or info.orig_filename.isascii():
        return info.orig_filename
    raw = info.orig_filename.encode("cp437")
    for encoding in ("utf-8", "cp949"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return info.orig_filename


def _overlapping(infos: list[zipfile.ZipInfo], directory: int) -> frozenset[int]:
    """Header offsets of entries whose bytes reach into another entry or into the directory, which begins at that
    offset (a bomb that Fifield described in 2019)."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    overlapping: set[int] = set()
    for info, following in pairwise(ordered):
        if _end(info) > following.header_offset:
            overlapping |= {info.header_offset, following.header_offset}
    return frozenset(overlapping | {info.header_offset for info in ordered[-1:] if _end(info) > directory})


def _end(info: zipfile.ZipInfo) -> int:
    return info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size


def _not_a_zip(path: Path, start: bytes) -> str:
    """The rule that a file breaks which zipfile cannot open, by its first bytes, and by its name if it is a table."""
    if not start:
        return "archive.empty"
    if path.suffix.casefold() in (".csv", ".xls"):
        return "table.alone"
    return "archive.cut_off" if start.startswith(b"PK") else "archive.unreadable"


class _Folder(_Container):
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def packed_bytes(self) -> None:
        return None

    def close(self) -> None:
        """A folder holds nothing open."""

    def entries(self) -> Iterator[_Entry]:
        # os.walk of Python 3.11 descends by recursion, and ends in a deep tree with its stack.
        waiting = [self.path]
        while waiting:
            within = _listed(waiting.pop())
            for found in within:
                status = found.stat(follow_symlinks=False)
                is_folder = stat.S_ISDIR(status.st_mode)
                name = unicodedata.normalize("NFC", Path(found.path).relative_to(self.path).as_posix())
                yield _Entry(
                    name=f"{name}/" if is_folder else name,
                    is_folder=is_folder,
                    kind="file" if is_folder else _kind(status.st_mode),
                    handle=Path(found.path),
                    size=0 if is_folder else status.st_size,
                    packed=0 if is_folder else status.st_size,
                )
            waiting += [Path(found.path) for found in reversed(within) if found.is_dir(follow_symlinks=False)]

    def objection(self, entry: _Entry) -> Problem | None:
        return None

    def open(self, entry: _Entry) -> IO[bytes]:
        assert isinstance(entry.handle, Path)
        # The entry may have been swapped for a link since it was listed.
        return os.fdopen(os.open(entry.handle, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb")


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"{folder}: the folder cannot be read ({system_reason(error)}). Check its permissions."
        ) from error


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "link"
    return "file" if stat.S_ISREG(mode) else "other"
