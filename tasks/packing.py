"""Turn a bare folder of normal recordings into a package: the sounds, and the table that says what they are.

The table is read back by the contract before anything is written, so that what is packed here is never refused for
its table. Sounds are copied byte for byte. The same folder gives the same bytes.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import stat
import unicodedata
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import InputError, LabelsError, PackageError, UsageError
from schemas.metadata import FILE, read_metadata
from schemas.paths import AUDIO_FOLDER, is_clutter, unsafe_name
from schemas.problems import Severity
from schemas.reasons import system_reason
from schemas.tables import find_tables
from tasks.new_files import new_file, require_free
from tasks.progress import track

SOUNDS = (".wav", ".flac")
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Labels:
    """What is said of every recording in the folder: normals of one machine, on somebody's word."""

    machine_type: str
    section_id: str
    confirmed_by: str | None = None
    recorded_at: str | None = None
    sensor: str | None = None


@dataclass(frozen=True)
class Packed:
    """What was packed, and what lies in the folder and was not."""

    path: Path
    recordings: int
    left_out: tuple[str, ...]


def pack_folder(folder: Path, target: Path, labels: Labels, *, overwrite: bool = False) -> Packed:
    """Write the WAV and FLAC files of a folder, those in folders below it too, as a package of confirmed normals.

    Links are not followed, and hidden files are not looked at.

    Raises
    ------
    UsageError
        The folder is a package already, or something lies at `target` that may not be replaced.
    LabelsError
        The labels break the contract.
    InputError
        There is no such folder, no sound in it, or a name in it that no package may hold.
    EnvironmentFault
        The package cannot be written.
    """
    require_free(target, overwrite=overwrite)
    files, left_out = _find_sounds(folder)
    table = _table(files, labels)
    with new_file(target) as partial, zipfile.ZipFile(partial, "x") as archive:
        _add(archive, FILE, table)
        with track("Packing recordings", total=len(files)) as advance:
            for name, path in files.items():
                _copy(archive, name, path)
                advance(1)
    return Packed(target, len(files), tuple(left_out))


def _find_sounds(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Sounds by their name in the package, and what else there is, both in the order of names."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder. Check the path.")
    paths = {path.relative_to(folder).as_posix(): path for path in _walk(folder)}
    if tables := find_tables(paths):
        raise UsageError(f"{folder} holds {tables[0]}: it is a package already; give it to `alp check`")
    sounds = {name: path for name, path in paths.items() if path.suffix.lower() in SOUNDS and not path.is_symlink()}
    if not sounds:
        raise InputError(f"{folder}: there is no WAV or FLAC file in it. Check the path.")
    return _named(sounds), [name for name in paths if name not in sounds]


def _walk(folder: Path) -> Iterable[Path]:
    """Files below a folder by name, without hidden ones and what systems and office programs leave behind."""
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith(".") and not is_clutter(name))


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: the folder cannot be read ({system_reason(error)}). Check its permissions.")


def _named(sounds: dict[str, Path]) -> dict[str, Path]:
    """The sounds by the names they get in the package, under audio/."""
    named: dict[str, Path] = {}
    taken: dict[str, Path] = {}
    for relative, path in sounds.items():
        plain = unicodedata.normalize("NFC", relative)
        if why := unsafe_name(plain):
            raise InputError(f"{os.fsencode(path)!r}: no package may hold such a name ({why}). Rename the file.")
        name = plain if plain.startswith(AUDIO_FOLDER) else AUDIO_FOLDER + plain
        other = taken.setdefault(name.casefold(), path)
        if other != path:
            raise InputError(f"{path} and {other} get one name in the package ({name}). Rename one of them.")
        named[name] = path
    return named


def _table(names: Iterable[str], labels: Labels) -> bytes:
    """The package's metadata.csv, as the contract accepts it."""
    said = {
        "machine_type": labels.machine_type,
        "section_id": labels.section_id,
        "confirmed_normal": "true",
        "confirmed_by": labels.confirmed_by,
        "recorded_at": labels.recorded_at,
        "sensor": labels.sensor,
    }
    filled = {column: value for column, value in said.items() if value is not None}
    text = io.StringIO()
    writer = csv.DictWriter(text, ["relative_path", *filled], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"relative_path": name} | filled for name in names)
    data = text.getvalue().encode()
    _check(data)
    return data


def _check(table: bytes) -> None:
    """Raise LabelsError where the contract refuses what is said of the recordings, naming each fault once."""
    try:
        _, problems = read_metadata(table)
    except PackageError as error:
        problems = list(error.problems)
    # What is said is said of every row, and stands in no file yet.
    faults = {
        (problem.rule, problem.column): problem.model_copy(
            update={"file": None, "row": None, "more": 0, "more_rows": ()}
        )
        for problem in reversed(problems)
        if problem.severity is Severity.ERROR
    }
    if faults:
        told = list(reversed(faults.values()))
        raise LabelsError("; ".join(map(str, told)), told)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(_entry(name), content)


def _copy(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    entry = _entry(name)
    try:
        with path.open("rb") as source:
            # The size decides between zip and zip64 headers before the first byte is written.
            entry.file_size = os.fstat(source.fileno()).st_size
            with archive.open(entry, "w") as goal:
                shutil.copyfileobj(source, goal, 1 << 20)
    except PermissionError as error:
        raise InputError(f"{path}: the file cannot be read ({system_reason(error)}). Check its permissions.") from error


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_ZIP_TIME)
    entry.create_system = 3
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry
