"""What a hostile case is, and the sound package that each of them spoils at one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.hostile import sounds, tables, zips

Make = Callable[[Path], Path]
"""Writes an upload into an empty folder and says where it lies."""

ACCEPTED, BAD_INPUT, REFUSED = 0, 3, 4
"""Exit codes of `alp`."""

NAME = "upload.zip"


@dataclass(frozen=True)
class Case:
    """One upload and how it must end."""

    name: str
    make: Make
    exit_code: int = BAD_INPUT
    rules: tuple[str, ...] = ()
    """Every rule that holds something back, sorted; no others may."""
    notes: tuple[str, ...] = ()
    """Rules that must be among those that only warn."""
    filed_raw: bool = True
    """Whether the upload itself is kept under raw/: byte for byte, unless it is a folder."""


def entries(*extra: zips.Entry, rows: Iterable[Mapping[str, str]] = (), table: bytes | None = None) -> list[zips.Entry]:
    """The sound package with further files and rows, or another table."""
    written = tables.table([*tables.normals(), *rows]) if table is None else table
    clips = [
        zips.Entry(tables.normal_path(number), sounds.recording(number), method=zips.STORED)
        for number in range(tables.NORMALS)
    ]
    return [zips.Entry("metadata.csv", written), *clips, *extra]


def zipped(listed: Iterable[zips.Entry], **lies: int | bytes) -> Make:
    """A zip of the entries."""
    listed = list(listed)
    return lambda folder: zips.write(folder / NAME, listed, **lies)


def later(make: Callable[[], Make]) -> Make:
    """An upload too large to be made before it is wanted."""
    return lambda folder: make()(folder)


def file_of(data: bytes) -> Make:
    """A file of these bytes under a zip's name."""

    def make(folder: Path) -> Path:
        (folder / NAME).write_bytes(data)
        return folder / NAME

    return make


def folder_of(
    change: Callable[[Path], None], *, files: Mapping[str, bytes] | None = None, name: str = "upload"
) -> Make:
    """The sound package (or `files`) as a folder, after `change` was let loose on it."""

    def make(folder: Path) -> Path:
        home = folder / name
        for inside, data in (files or {str(entry.name): entry.data for entry in entries()}).items():
            (home / inside).parent.mkdir(parents=True, exist_ok=True)
            (home / inside).write_bytes(data)
        change(home)
        return home

    return make
