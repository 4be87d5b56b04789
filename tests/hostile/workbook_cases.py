"""metadata.xlsx: workbooks written part by part, as no spreadsheet writes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

from tests.hostile import tables, zips
from tests.hostile.case import ACCEPTED, BAD_INPUT, Case, Make, entries, later, zipped

_TYPES = b'<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
_RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_SHEET, _STRINGS, _BOOK = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/workbook.xml"
_SERIAL = "46083.395833333336"
"""2 March 2026, 9:30, as Excel counts days."""

Rows = Sequence[Sequence[str]]


def cases() -> Iterator[Case]:
    """Every case of a workbook."""
    for what, make in _readable().items():
        yield Case(f"a workbook {what}", make, ACCEPTED)
    for what, (make, rules) in {**_broken(), **_large()}.items():
        yield Case(f"a workbook {what}", make, BAD_INPUT, rules)
    both = zips.Entry("metadata.xlsx", workbook())
    yield Case("a table and a workbook", zipped(entries(both)), rules=("table.several",))
    csv = zips.Entry("metadata.xlsx", tables.table(tables.normals()))
    yield Case("a table under a workbook's name", zipped([csv, *entries()[1:]]), ACCEPTED)


def workbook(sheet: bytes | None = None, **changed: bytes) -> bytes:
    """A workbook of one sheet, `changed` parts, by their path or the last word of it, added or put in their place."""
    return zips.archive([zips.Entry(name, data) for name, data in parts(sheet, changed).items()])


def parts(sheet: bytes | None = None, changed: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """The parts of the workbook by their path."""
    good = {
        "[Content_Types].xml": _TYPES,
        "_rels/.rels": _relations(("r1", "officeDocument", _BOOK)),
        _BOOK: f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATED}"><sheets><sheet name="metadata" sheetId="1"'
        ' r:id="r1"/></sheets></workbook>'.encode(),
        "xl/_rels/workbook.xml.rels": _relations(
            ("r1", "worksheet", "worksheets/sheet1.xml"), ("r2", "sharedStrings", "sharedStrings.xml"),
            ("r3", "styles", "styles.xml"),
        ),
        _STRINGS: f'<sst xmlns="{_MAIN}"/>'.encode(),
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><cellXfs><xf numFmtId="0"/><xf numFmtId="22"/></cellXfs>'
        "</styleSheet>".encode(),
        _SHEET: sheet or _sheet(_cells()),
    }  # fmt: skip
    places = {name.rpartition("/")[2].partition(".")[0]: name for name in good}
    return good | {places.get(name, name): data for name, data in (changed or {}).items()}


def _relations(*related: tuple[str, str, str]) -> bytes:
    lines = "".join(f'<Relationship Id="{i}" Type="{_RELATED}/{kind}" Target="{to}"/>' for i, kind, to in related)
    return f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{lines}'.encode() + (
        b"</Relationships>"
    )


def _cells() -> list[list[str]]:
    """The good table, its times as Excel's serial numbers."""
    rows = [[*map(_text, list(row.values())[:-1]), _dated()] for row in tables.normals()]
    return [[_text(title) for title in tables.HEADER], *rows]


def _text(value: str) -> str:
    return f'<c t="inlineStr"><is><t>{escape(value)}</t></is></c>'


def _dated() -> str:
    return f'<c s="1"><v>{_SERIAL}</v></c>'


def _sheet(rows: Rows, *, more: str = "", head: str = "") -> bytes:
    lines = "".join(f'<row r="{number}">{"".join(cells)}</row>' for number, cells in enumerate(rows, start=1))
    return f'{head}<worksheet xmlns="{_MAIN}"><sheetData>{lines}{more}</sheetData></worksheet>'.encode()


def _sent(data: bytes) -> Make:
    return zipped([zips.Entry("metadata.xlsx", data, method=zips.STORED), *entries()[1:]])


def _first_row(place: int, cell: str) -> bytes:
    """The good sheet, one cell of the first row changed."""
    rows = _cells()
    rows[1][place] = cell
    return workbook(_sheet(rows))


def _readable() -> dict[str, Make]:
    slip = {"../../../../escaped.xml": b"<x/>", "/escaped.xml": b"<x/>"}
    return {
        "with dates as serial numbers": _sent(workbook()),
        "with a day's number in no date format": _sent(_first_row(5, f"<c><v>{_SERIAL}</v></c>")),
        "with entries that lead out of it": _sent(workbook(**slip)),
        "with a formula and its value": _sent(_first_row(4, '<c t="str"><f>CONCAT("K","im")</f><v>Kim</v></c>')),
        "that says it is a million columns wide": _sent(
            workbook(_sheet(_cells()).replace(b"<sheetData>", b'<dimension ref="A1:XFD1048576"/><sheetData>'))
        ),
    }


def _broken() -> dict[str, tuple[Make, tuple[str, ...]]]:
    unreadable = ("table.unreadable",)
    good = workbook()
    laughs = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
    bomb = f'<!DOCTYPE x [<!ENTITY a0 "ha">{laughs}]>'
    outer = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    text = _cells()
    text[1][4] = '<c t="inlineStr"><is><t>&a;</t></is></c>'
    stolen = _relations(("r1", "worksheet", "../../../../etc/passwd"))
    remote = stolen.replace(b"../../../../etc/passwd", b"http://192.0.2.1/sheet.xml")
    return {
        "with a billion laughs": (_sent(workbook(_sheet(_cells(), head=bomb))), unreadable),
        "with an entity from outside": (_sent(workbook(_sheet(text, head=outer))), unreadable),
        "whose sheet lies outside": (_sent(workbook(**{"xl/_rels/workbook.xml.rels": stolen})), unreadable),
        "whose sheet lies on another machine": (_sent(workbook(**{"xl/_rels/workbook.xml.rels": remote})), unreadable),
        "with elements 100,000 deep": (_sent(workbook(_sheet([], more="<a>" * 100_000))), unreadable),
        "with a tag of 20 MB": (_sent(workbook(_sheet([], more=f'<a b="{"x" * 20_000_000}"/>'))), unreadable),
        "with a row beyond the last": (_sent(workbook(_sheet(_cells(), more='<row r="9999999"/>'))), unreadable),
        "with rows in disorder": (_sent(workbook(_sheet(_cells(), more='<row r="2"/>'))), unreadable),
        "with a cell far out": (
            _sent(workbook(_sheet(_cells(), more='<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'))),
            ("cell.missing", "row.train_confirmed", "table.row_width"),
        ),
        "with a string that is not there": (_sent(_first_row(4, '<c t="s"><v>7</v></c>')), unreadable),
        "with a formula without a value": (_sent(_first_row(4, "<c><f>1+1</f></c>")), ("cell.formula",)),
        "with an error for a value": (_sent(_first_row(5, '<c t="e"><v>#REF!</v></c>')), ("cell.formula",)),
        "with a date before all dates": (_sent(_first_row(5, '<c s="1"><v>-1e300</v></c>')), ("cell.time",)),
        "that is not XML": (_sent(workbook(os.urandom(5000))), unreadable),
        "in UTF-7": (_sent(workbook(_sheet(_cells(), head='<?xml version="1.0" encoding="UTF-7"?>'))), unreadable),
        "without a sheet": (_sent(workbook(workbook=b"<workbook/>")), unreadable),
        "cut off": (_sent(good[: len(good) // 2]), unreadable),
        "with a password": (_sent(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(9000)), unreadable),
        "that is a zip of something else": (_sent(zips.archive([zips.Entry("x", b"x")])), unreadable),
        "with entries by the hundred thousand": (
            later(lambda: _sent(zips.archive([zips.Entry(f"{n}", method=zips.STORED) for n in range(100_000)]))),
            unreadable,
        ),
    }


def _large() -> dict[str, tuple[Make, tuple[str, ...]]]:
    """Workbooks of some hundred kilobytes that unpack to hundreds of megabytes."""
    row = '<row><c t="inlineStr"><is><t>x</t></is></c></row>'

    def stuffed(make: Callable[[], bytes]) -> Make:
        return later(lambda: _sent(make()))

    return {
        "of a hundred million blanks": (
            stuffed(lambda: workbook(_sheet([], more=" " * 100_000_000))),
            ("table.bytes",),
        ),
        "of a million rows": (stuffed(lambda: workbook(_sheet(_cells(), more=row * 1_000_000))), ("table.rows",)),
        "of a row of a million cells": (
            stuffed(lambda: workbook(_sheet(_cells(), more=f"<row>{'<c><v>1</v></c>' * 1_000_000}</row>"))),
            ("cell.time", "row.machine_type", "row.path", "table.row_width"),
        ),
        "of millions of strings": (
            stuffed(lambda: workbook(sharedStrings=b"<sst>" + b"<si><t>x</t></si>" * 3_500_000 + b"</sst>")),
            ("table.unreadable",),
        ),
        "of millions of styles": (
            stuffed(lambda: workbook(styles=b"<s><cellXfs>" + b"<xf/>" * 9_000_000 + b"</cellXfs></s>")),
            ("table.unreadable",),
        ),
    }
