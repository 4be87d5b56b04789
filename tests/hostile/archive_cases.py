"""Archives: names that leave the package, entries that are no files, headers that lie, bombs."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from schemas.settings import ArchiveLimits
from tests.hostile import sounds, tables, zips
from tests.hostile.case import ACCEPTED, Case, Make, entries, file_of, folder_of, later, zipped
from tests.hostile.zips import Entry

LIMITS = ArchiveLimits()
MEBIBYTE = 2**20

_SLIPS = {
    "an absolute path": "/escaped.wav",
    "a parent folder": "../../escaped.wav",
    "a parent folder further in": "audio/../../escaped.wav",
    "a parent folder at the end": "audio/..",
    "a parent folder with backslashes": "audio\\..\\..\\escaped.wav",
    "a drive letter": "C:/escaped.wav",
    "a drive letter without a root": "c:escaped.wav",
    "a network share": "//server/share/escaped.wav",
    "a network share with backslashes": "\\\\server\\share\\escaped.wav",
    "a NUL": "audio/escaped\0.wav",
    "a line break": "audio/escaped\n.wav",
    "an escape sequence of a terminal": "audio/\x1b[2Jescaped.wav",
    "a direction override": "audio/escaped\u202evaw.exe",
    "dots and slashes of full width": "．．／．．／escaped.wav",
    "a one-dot leader for a dot": "\u2024\u2024/escaped.wav",
    "a two-dot leader for two dots": "\u2025/escaped.wav",
    "a division slash": "..\u2215..\u2215escaped.wav",
    "a fraction slash at the start": "\u2044tmp\u2044escaped.wav",
    "a backslash of full width": "audio＼..＼..＼escaped.wav",
    "a part of one dot": "audio/./escaped.wav",
    "an empty part": "audio//escaped.wav",
    "a device of Windows": "audio/CON",
    "a device of Windows with an ending": "audio/com1.wav",
    "a dot at the end, which Windows drops": "audio/escaped.wav.",
    "a blank at the end, which Windows drops": "audio/escaped.wav ",
}


def cases() -> Iterator[Case]:
    """Every case of an archive."""
    for what, name in _SLIPS.items():
        yield Case(f"a name with {what}", _with(Entry(name, b"x")), rules=("archive.path",))
    yield Case("an empty name", _with(Entry("", b"x")), rules=("archive.path",))
    yield Case("a name of 60,000 characters", _with(Entry(f"audio/{'x' * 60_000}.wav", b"x")), rules=("archive.path",))
    yield from _kinds()
    yield from _collisions()
    yield from _lies()
    yield from _bombs()
    yield from _wholes()
    yield from _oddities()
    yield from _folders()


def _with(*extra: Entry, **lies: int | bytes) -> Make:
    return zipped(entries(*extra), **lies)


def _listed(entry: Entry) -> Make:
    """The package with one more recording, which its table names."""
    return zipped(entries(entry, rows=[tables.row(str(entry.name))]))


def _kinds() -> Iterator[Case]:
    for what, target in {"out of the package": "/etc/passwd", "into the package": "normal_0.wav"}.items():
        link = Entry("audio/link.wav", target.encode(), mode=zips.LINK)
        yield Case(f"a link {what}", _with(link), rules=("archive.link",))
    yield Case("a link as the audio folder", _with(Entry("audio", b"/etc", mode=zips.LINK)), rules=("archive.link",))
    table = Entry("metadata.csv", b"/etc/passwd", mode=zips.LINK)
    yield Case("a link as the table", zipped([table, *entries()[1:]]), rules=("archive.link", "table.missing"))
    yield Case("a device", _with(Entry("audio/tty.wav", mode=zips.CHARACTER_DEVICE)), rules=("archive.kind",))
    yield Case("a pipe", _with(Entry("audio/pipe.wav", mode=zips.PIPE)), rules=("archive.kind",))
    yield Case("a folder under a file's name", _with(Entry("audio/x.wav", mode=zips.FOLDER)), rules=("archive.kind",))
    folder = Entry("audio/normal_9.wav/")
    missing = [tables.row("audio/normal_9.wav")]
    yield Case("a folder where a file is listed", zipped(entries(folder, rows=missing)), rules=("file.missing",))
    yield Case(
        "a folder instead of the table", zipped([Entry("metadata.csv/"), *entries()[1:]]), rules=("table.missing",)
    )
    encrypted = {
        "with a password": Entry("audio/x.wav", b"x" * 99, flags=zips.UTF8 | zips.ENCRYPTED),
        "strongly": Entry("audio/x.wav", b"x" * 99, flags=zips.UTF8 | zips.ENCRYPTED | zips.STRONG_ENCRYPTION),
        "by AES": Entry("audio/x.wav", b"x" * 99, flags=zips.UTF8 | zips.ENCRYPTED, method=zips.AES),
    }
    for how, entry in encrypted.items():
        yield Case(f"an entry encrypted {how}", _with(entry), rules=("archive.encrypted",))
    yield Case(
        "a packing method without a bound",
        _with(Entry("audio/x.wav", b"x", method=zips.LZMA)),
        rules=("archive.method",),
    )
    yield Case(
        "a packing method nobody knows", _with(Entry("audio/x.wav", b"x", method=4711)), rules=("archive.method",)
    )


def _collisions() -> Iterator[Case]:
    again = Entry(tables.normal_path(0), sounds.recording(80))
    yield Case("one name twice", _with(again), rules=("archive.duplicate",))
    yield Case(
        "two tables", _with(Entry("metadata.csv", b"relative_path\naudio/x.wav\n")), rules=("archive.duplicate",)
    )
    yield Case("names that differ in case", _with(Entry("audio/NORMAL_0.WAV", b"x")), rules=("archive.case",))
    yield Case("tables that differ in case", _with(Entry("Metadata.CSV", b"x")), rules=("archive.case",))
    composed, decomposed = Entry("audio/송.wav", b"x"), Entry("audio/\u1109\u1169\u11bc.wav", b"y")
    yield Case("one name in two Unicode forms", _with(composed, decomposed), rules=("archive.duplicate",))
    inside = Entry(f"{tables.normal_path(0)}/inside.wav", b"x")
    yield Case("a file that is also a folder", _with(inside), rules=("archive.folder",))
    yield Case(
        "a folder that is also a file", _with(Entry("audio/x/"), Entry("audio/x", b"x")), rules=("archive.folder",)
    )
    yield Case("a file and its folder in another case", _with(Entry("AUDIO", b"x")), rules=("archive.folder",))


def _lies() -> Iterator[Case]:
    data = sounds.recording(81)
    damaged = {
        "a size smaller than the content": {"central": {"size": 99}, "local": {"size": 99}},
        "a size larger than the content": {"central": {"size": len(data) + 99}, "local": {"size": len(data) + 99}},
        "a packed size of nothing": {"central": {"packed_size": 0}},
        "a wrong checksum": {"central": {"crc": 1}},
        "another name before the bytes": {"local": {"name": b"../escaped.wav"}},
        "packed bytes that are noise": {"packed": os.urandom(1000)},
        "packed bytes that stop early": {"packed": zips.deflate(data)[:500]},
    }
    for what, lies in damaged.items():
        yield Case(f"an entry with {what}", _listed(Entry("audio/x.wav", data, **lies)), rules=("archive.damaged",))
    beyond = Entry("audio/x.wav", data, central={"offset": 2**31})
    yield Case("an entry with an offset beyond the file", _listed(beyond), rules=("archive.overlap",))
    inside = Entry("audio/x.wav", data, central={"offset": 99})
    yield Case(
        "an entry with an offset into another's bytes", _with(inside), rules=("archive.overlap", "table.missing")
    )
    huge = Entry("audio/x.wav", data, central={"size": 2**32 - 2})
    yield Case("a size of 4 GiB", _with(huge), rules=("archive.file_bytes",))
    extra = zips.zip64_extra(size=2**62, packed_size=len(data))
    ones = {"size": 2**32 - 1, "packed_size": 2**32 - 1, "extra": extra}
    yield Case("a 64-bit size of 4 EiB", _with(Entry("audio/x.wav", data, central=ones)), rules=("archive.file_bytes",))
    small = {"size": 4096}
    hidden = later(lambda: _listed(Entry("audio/x.wav", packed=zips.deflated_zeros(2000), central=small, local=small)))
    yield Case("2 GiB behind a size of 4 KiB", hidden, rules=("archive.damaged",))
    shared = [Entry(f"audio/{n}.wav", data, central={"offset": 0}) for n in range(2)]
    yield Case(
        "entries that share their bytes", zipped([*entries(), *shared]), rules=("archive.overlap", "table.missing")
    )
    yield Case("a bomb of quoted headers", _quoted_overlap(), rules=("archive.overlap", "table.missing"))
    reaching = Entry("audio/x.wav", data, method=zips.STORED, central={"packed_size": len(data) + 150})
    yield Case("an entry that reaches into the directory", _with(reaching), rules=("archive.overlap",))


def _quoted_overlap() -> Make:
    """Fifield's better zip bomb (2019): stored blocks quote the headers of the files that follow."""
    return later(lambda: zipped(_quoting(zips.deflated_zeros(15))))


def _quoting(kernel: bytes) -> list[Entry]:
    count = 50
    header = 30 + len("audio/00.wav")
    return [
        Entry(f"audio/{n:02d}.wav", packed=kernel if n == count - 1 else b"", central={
            "size": 15 * MEBIBYTE, "packed_size": len(kernel) + (count - 1 - n) * header, "crc": 0,
        }, local={"size": 15 * MEBIBYTE, "packed_size": len(kernel)})
        for n in range(count)
    ]  # fmt: skip


def _bombs() -> Iterator[Case]:
    zeros = later(lambda: _with(Entry("audio/x.wav", bytes(32 * MEBIBYTE))))
    yield Case("an entry that packs a thousand to one", zeros, rules=("archive.ratio",))
    lines = later(lambda: zipped(entries(table=b"\n" * (32 * MEBIBYTE))))
    yield Case("a table that packs a thousand to one", lines, rules=("archive.ratio", "table.missing"))
    yield Case("a bomb of many small entries", later(lambda: _with(*_small_bombs())), rules=("archive.ratio",))
    nested = zips.archive([Entry("inner.zip", zips.archive([Entry("x.wav", bytes(MEBIBYTE))] * 9))] * 9)
    row = [tables.row("audio/x.wav")]
    yield Case(
        "a zip in a zip as a recording",
        zipped(entries(Entry("audio/x.wav", nested), rows=row)),
        ACCEPTED,
        ("clip.undecodable",),
    )
    yield Case(
        "a zip in a zip beside the recordings", _with(Entry("audio/x.zip", nested)), ACCEPTED, notes=("file.unlisted",)
    )


def _small_bombs() -> list[Entry]:
    packed = zips.deflated_zeros(15)
    return [Entry(f"audio/{n}.wav", packed=packed, central={"size": 15 * MEBIBYTE}) for n in range(40)]


def _wholes() -> Iterator[Case]:
    sound = zips.archive(entries())
    yield Case("an empty file", file_of(b""), rules=("archive.empty",))
    yield Case(
        "an archive of another kind", file_of(b"Rar!\x1a\x07\x01\x00" + bytes(5000)), rules=("archive.unreadable",)
    )
    yield Case("noise", file_of(os.urandom(100_000)), rules=("archive.unreadable",))
    yield Case("a web page", file_of(b"<!DOCTYPE html><html>Sign in to download</html>"), rules=("archive.unreadable",))
    for share in (0.1, 0.5, 0.99):
        yield Case(
            f"a zip cut off at {share:.0%}", file_of(sound[: int(len(sound) * share)]), rules=("archive.cut_off",)
        )
    yield Case("a zip without its start", file_of(sound[2000:]), rules=("archive.damaged",))
    yield Case("a zip without entries", zipped([]), rules=("table.missing",))
    yield Case("a zip of one folder", zipped([Entry("audio/")]), rules=("table.missing",))
    yield Case("a zip of recordings without a table", zipped(entries()[1:]), rules=("table.missing",))
    yield Case("a directory that says it is 3 GB long", _with(directory_size=3_000_000_000), rules=("archive.cut_off",))
    yield Case("a directory that lies before the file", _with(directory_offset=2**32 - 2), rules=("archive.damaged",))
    yield Case("a 64-bit directory of 8 EiB", _with(zip64=True, directory_size=2**63), rules=("archive.cut_off",))
    yield Case("100,000 entries", later(lambda: zipped(_many(100_000))), rules=("archive.entries",))
    lying = later(lambda: zipped(_many(100_000), count=1))
    yield Case("100,000 entries under a count of one", lying, rules=("archive.entries",))
    yield Case("a million entries", _million(), rules=("archive.entries",))
    links = later(lambda: _with(*_many(49_990, mode=zips.LINK)))
    yield Case("49,990 links", links, rules=("archive.link",))


def _many(count: int, *, mode: int = zips.REGULAR) -> list[Entry]:
    return [Entry(f"a/{n}", method=zips.STORED, mode=mode) for n in range(count)]


def _million() -> Make:
    """As many entries as fit into the largest directory that is read at all, without their bytes."""

    def make(folder: Path) -> Path:
        one = zips.archive([Entry("a", method=zips.STORED)])
        header = one[31 : 31 + 47]
        count = LIMITS.max_entries * 1024 // len(header)
        end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, count * len(header), 31, 0)
        (folder / "upload.zip").write_bytes(one[:31] + header * count + end)
        return folder / "upload.zip"

    return make


def _oddities() -> Iterator[Case]:
    """What looks odd and is honest."""
    wrapped = [Entry(f"3호기 데이터/{entry.name}", entry.data) for entry in entries()]
    yield Case("a folder zipped around the package", zipped(wrapped), ACCEPTED)
    yield Case("a zip behind a program", _with(prefix=b"MZ" + os.urandom(5000)), ACCEPTED)
    yield Case("a zip behind another zip", _with(prefix=zips.archive([Entry("other.txt", b"x")])), ACCEPTED)
    yield Case("a zip with a long comment", _with(comment=b"PK\x01\x02" * 16_000), ACCEPTED)
    yield Case("a zip64 of a small package", _with(zip64=True), ACCEPTED)
    windows = Entry("audio/송풍기.wav".encode("cp949"), sounds.recording(82), flags=0)
    row = [tables.row("audio/송풍기.wav")]
    yield Case("a Korean name as Windows writes it", zipped(entries(windows, rows=row)), ACCEPTED)
    yield Case(
        "a slash of full width within a name",
        zipped(entries(Entry("audio/1／2.wav", sounds.recording(82)), rows=[tables.row("audio/1／2.wav")])),
        ACCEPTED,
    )
    clutter = [Entry("__MACOSX/audio/._x.wav", b"x"), Entry(".DS_Store", b"x"), Entry("audio/Thumbs.db", b"x")]
    yield Case("what systems leave behind", _with(*clutter), ACCEPTED)
    yield Case("a folder with bytes of its own", _with(Entry("audio/x/", b"x" * 99)), ACCEPTED)
    outside = Entry("evil.sh", b"#!/bin/sh\nrm -rf /\n", mode=0o104755)
    yield Case("a program beside the table", _with(outside), ACCEPTED)


_CODES = "\x1b]0;pwn\x07\x1b[31mRED<script>alert(9)<"


def _folders() -> Iterator[Case]:
    changes = {
        "a link to a file outside": (lambda home: (home / "audio/x.wav").symlink_to("/etc/passwd"), "archive.link"),
        "a link to a folder outside": (lambda home: (home / "audio/more").symlink_to("/etc"), "archive.link"),
        "a link in a circle": (lambda home: (home / "audio/more").symlink_to(home), "archive.link"),
        "a pipe that nobody writes to": (lambda home: os.mkfifo(home / "audio/x.wav"), "archive.kind"),
        "a socket": (_leave_socket, "archive.kind"),
        "a name that is no UTF-8": (lambda home: _write_raw_name(home), "archive.path"),
        "a file of 600 MB that holds nothing": (_leave_sparse, "archive.file_bytes"),
    }
    for what, (change, rule) in changes.items():
        yield Case(f"a folder with {what}", folder_of(change), rules=(rule,))
    yield Case("a folder with folders 1,500 deep", folder_of(_dig), rules=("archive.path",))
    yield Case("a folder named like codes of a terminal", folder_of(lambda home: None, name=_CODES), ACCEPTED)
    yield Case(
        "an empty folder", folder_of(lambda home: (home / "x").unlink(), files={"x": b""}), rules=("table.missing",)
    )


def _leave_socket(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(home / "audio")  # the name of a socket may have 108 bytes
        server.bind("x.wav")
        os.chdir(here)


def _write_raw_name(home: Path) -> None:
    Path(os.fsdecode(os.fsencode(home / "audio") + b"/\xff\xfe.wav")).write_bytes(b"x")


def _leave_sparse(home: Path) -> None:
    with (home / "audio/x.wav").open("wb") as stream:
        stream.truncate(600_000_000)


def _dig(home: Path) -> None:
    here = Path.cwd()
    os.chdir(home)
    for _ in range(1500):
        Path("d").mkdir()
        os.chdir("d")
    os.chdir(here)
