"""Zip files written byte by byte, so that every field may lie: zipfile itself refuses to write such things.

Field names and layouts are those of PKWARE's APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

STORED, DEFLATED, LZMA, AES = 0, 8, 14, 99
UTF8, ENCRYPTED, STRONG_ENCRYPTION = 0x800, 0x1, 0x40
REGULAR, LINK, FOLDER = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755
CHARACTER_DEVICE, PIPE = stat.S_IFCHR | 0o666, stat.S_IFIFO | 0o644

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_END_64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR_64 = struct.Struct("<4sIQI")
_DOS_DATE = 33  # 1 January 1980


@dataclass(frozen=True)
class Entry:
    """One file of an archive, and what its headers say of it where that is not the truth."""

    name: str | bytes
    data: bytes = b""
    method: int = DEFLATED
    flags: int = UTF8
    mode: int = REGULAR
    packed: bytes | None = None
    """The bytes as they stand in the archive; default: `data` packed by `method`."""
    local: Mapping[str, int | bytes] = field(default_factory=dict)
    """What the header before the bytes says instead: `name`, `size`, `packed_size`, `crc`."""
    central: Mapping[str, int | bytes] = field(default_factory=dict)
    """What the directory says instead: the same, and `offset`, `extra`."""

    @property
    def raw_name(self) -> bytes:
        return self.name if isinstance(self.name, bytes) else self.name.encode("utf-8", "surrogatepass")

    @property
    def body(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflate(self.data) if self.method == DEFLATED else self.data

    def facts(self, lies: Mapping[str, int | bytes]) -> dict[str, int | bytes]:
        """What one of the two headers says."""
        truth: dict[str, int | bytes] = {
            "name": self.raw_name,
            "crc": zlib.crc32(self.data),
            "packed_size": len(self.body),
            "size": len(self.data),
            "extra": b"",
        }
        return truth | dict(lies)


def deflate(data: bytes) -> bytes:
    """Raw deflate, as a zip holds it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def deflated_zeros(mebibytes: int) -> bytes:
    """Raw deflate of that many MiB of zeros, about 1 KiB each, made without packing them all."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packer.compress(b"")
    one = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return one * mebibytes + deflate(b"")


def write(path: Path, entries: Iterable[Entry], **lies: int | bytes) -> Path:
    """Write `archive(entries, **lies)`."""
    path.write_bytes(archive(entries, **lies))
    return path


def archive(
    entries: Iterable[Entry],
    *,
    prefix: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
    directory_size: int | None = None,
    directory_offset: int | None = None,
    zip64: bool = False,
) -> bytes:
    """The bytes of a zip; `count`, `directory_size` and `directory_offset` are what its end record says instead."""
    pieces, directory = [prefix], []
    position = len(prefix)
    for entry in entries:
        directory.append(_central_header(entry, position))
        piece = _local_header(entry) + entry.body
        pieces.append(piece)
        position += len(piece)
    whole = b"".join(directory)
    said = (
        len(directory) if count is None else count,
        len(whole) if directory_size is None else directory_size,
        position if directory_offset is None else directory_offset,
    )
    end = _end_64(*said, at=position + len(whole)) if zip64 else b""
    shown = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF) if zip64 else (min(said[0], 0xFFFF), *said[1:])
    end += _END.pack(b"PK\x05\x06", 0, 0, shown[0], *shown, len(comment)) + comment
    return b"".join([*pieces, whole, end])


def _local_header(entry: Entry) -> bytes:
    said = entry.facts(entry.local)
    name = bytes(said["name"])  # type: ignore[arg-type]
    fixed = _LOCAL.pack(
        b"PK\x03\x04", 20, entry.flags, entry.method, 0, _DOS_DATE, said["crc"], said["packed_size"], said["size"],
        len(name), 0,
    )  # fmt: skip
    return fixed + name


def _central_header(entry: Entry, position: int) -> bytes:
    said = {"offset": position} | entry.facts(entry.central)
    name, extra = bytes(said["name"]), bytes(said["extra"])  # type: ignore[arg-type]
    fixed = _CENTRAL.pack(
        b"PK\x01\x02", 20 | 3 << 8, 20, entry.flags, entry.method, 0, _DOS_DATE, said["crc"], said["packed_size"],
        said["size"], len(name), len(extra), 0, 0, 0, entry.mode << 16, said["offset"],
    )  # fmt: skip
    return fixed + name + extra


def _end_64(count: int, size: int, offset: int, *, at: int) -> bytes:
    record = _END_64.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
    return record + _LOCATOR_64.pack(b"PK\x06\x07", 0, at, 1)


def zip64_extra(*, size: int, packed_size: int) -> bytes:
    """The extra field that holds 64-bit sizes; the 32-bit ones must be all ones for it to count."""
    return struct.pack("<HHQQ", 1, 16, size, packed_size)
