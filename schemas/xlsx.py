"""Read one sheet of an Excel workbook (.xlsx) as rows of text, without believing anything that the file says.

A workbook is a zip of XML. Only the five kinds of part that hold the cells are opened, never by a path of the file
system; bytes and elements are counted while they unpack, nesting and the size of one element are bounded; a document
type (where entities are declared) is refused; nothing is calculated: of a formula the value is read that the
spreadsheet saved with it. Both dialects of the format are read, ECMA-376 transitional and strict, because only the
local names of elements matter.

Cells come out as a person sees them, as far as a table needs it: numbers with 15 significant digits, booleans as
`true` and `false`, cells in a date format as ISO 8601 (`2026-03-02`, `2026-03-02T09:30`), in the epoch that the
workbook names (1900 or 1904). Rows are numbered as in the spreadsheet.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple
from xml.parsers import expat

from schemas.errors import PackageError
from schemas.reasons import reason
from schemas.rules import report
from schemas.settings import ArchiveLimits
from schemas.unpacking import UNPACK_ERRORS

MAGIC = b"PK\x03\x04"
OLD_MAGIC = b"\xd0\xcf\x11\xe0"
"""Of .xls, and of a workbook with a password."""

_CHUNK_BYTES = 1 << 16
_MAX_DIRECTORY_BYTES = 1 << 20
"""zipfile reads an archive's directory at once, and keeps about a kilobyte for each of its entries."""
_MAX_TAGS = 6_000_000
"""Of all parts that are read: 50,000 rows of the form with every cell filled need five million. It bounds the time."""
_MAX_DEPTH = 32
_HEADER_WITHIN = 20
"""First filled rows of a sheet of which one may be the header."""
_MAX_TAG_BYTES = 1 << 20
_LAST_ROW = 1 << 20
_READ_ERRORS = (*UNPACK_ERRORS, KeyError)
"""Reading a member by name may also find none."""
_DATE_FORMATS = frozenset({*range(14, 23), *range(27, 37), *range(50, 59)})
"""Built-in number formats of dates and times (ECMA-376 part 1, 18.8.30), those of East Asian locales included."""


class Row(NamedTuple):
    """One row of a table.

    `number` as a person counts it; `cells` by place, those beyond the widest table allowed in one; `faults` say by
    place what stands in a cell without a value: an error such as `#REF!`, nothing of a formula never calculated.
    """

    number: int
    cells: list[str]
    faults: Mapping[int, str] = {}


@dataclass(frozen=True)
class Sheet:
    """The sheet that holds the table, and others that look like tables too."""

    title: str
    rows: Iterator[Row]
    epoch_1904: bool
    others: tuple[str, ...] = ()


def read_sheet(
    data: bytes, *, name: str, limits: ArchiveLimits, is_header: Callable[[Sequence[str]], bool], titles: frozenset[str]
) -> Sheet:
    """The rows of the table in a workbook.

    `titles` are names of sheets, in lower case, of which the first is the table, wherever it stands. Without one of
    them the table is the first visible sheet whose first filled row `is_header`, else one that has such a row below a
    title, else the first visible sheet.

    Raises PackageError, while the rows are read too, where the file is no workbook or is beyond a limit.
    """
    workbook = _Workbook(data, name, limits)
    sheets = workbook.sheets()
    named = [sheet for sheet in sheets if sheet.title.strip().casefold() in titles]
    if named:
        return Sheet(named[0].title, workbook.rows(named[0].path), workbook.epoch_1904)
    likely = [sheet for sheet in sheets if any(map(is_header, workbook.first_rows(sheet.path, 1)))]
    titled = (sheet for sheet in sheets if any(map(is_header, workbook.first_rows(sheet.path, _HEADER_WITHIN))))
    first, *others = likely or [next(titled, sheets[0])]
    return Sheet(first.title, workbook.rows(first.path), workbook.epoch_1904, tuple(sheet.title for sheet in others))


# --- the parts ----------------------------------------------------------------------------------------------------


class _SheetPlace(NamedTuple):
    title: str
    path: str


class _BoundedBytes(io.BytesIO):
    """A file in memory that refuses to hand out more than an honest directory at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is larger than any workbook's")
        return super().read(size)


class _Workbook:
    """The parts of a workbook, unpacked as far as the limit on a table allows, all of them together."""

    def __init__(self, data: bytes, name: str, limits: ArchiveLimits) -> None:
        self._name, self._limits = name, limits
        self._bytes_left, self._tags_left = limits.max_table_bytes, _MAX_TAGS
        self._strings: list[str] | None = None
        try:
            self._zip = zipfile.ZipFile(_BoundedBytes(data))
        except _READ_ERRORS as error:
            raise self._unreadable("book.other") from error
        self._parts = {entry.filename.casefold(): entry for entry in self._zip.infolist()}
        self._main = self._main_part()
        self._links = self._relations(self._main)
        self.epoch_1904 = False

    def sheets(self) -> list[_SheetPlace]:
        """Visible sheets of cells in their order."""
        reader = _SheetList()
        self._read(self._main, reader)
        self.epoch_1904 = reader.epoch_1904
        places = [
            _SheetPlace(title, path)
            for title, relation in reader.visible
            if (path := self._links.get(relation, ("", ""))[1]) and self._links[relation][0] == "worksheet"
        ]
        if not places:
            raise self._unreadable("book.no_sheet")
        return places

    def first_rows(self, path: str, count: int) -> Iterator[list[str]]:
        """Cells of the first rows with any text; none of an empty sheet."""
        filled = (row.cells for row in self.rows(path) if any(cell.strip() for cell in row.cells))
        return islice(filled, count)

    def rows(self, path: str) -> Iterator[Row]:
        """The rows of one sheet, those without cells left out."""
        if self._strings is None:
            self._strings = self._shared_strings()
            self._is_date = self._date_styles()
        cells = _Cells(self._strings, self._is_date, epoch_1904=self.epoch_1904, limits=self._limits)
        for _ in self._parse(path, cells):
            yield from cells.take()

    def _main_part(self) -> str:
        for kind, target in self._relations("").values():
            if kind == "officeDocument":
                return target
        raise self._unreadable("book.other")

    def _shared_strings(self) -> list[str]:
        path = next((target for kind, target in self._links.values() if kind == "sharedStrings"), None)
        reader = _SharedStrings(self._limits.max_cell_chars)
        if path is not None:
            self._read(path, reader)
        return reader.strings

    def _date_styles(self) -> list[bool]:
        path = next((target for kind, target in self._links.values() if kind == "styles"), None)
        reader = _Styles()
        if path is not None:
            self._read(path, reader)
        return reader.is_date

    def _relations(self, part: str) -> dict[str, tuple[str, str]]:
        """What a part refers to: kind and path in the archive by the relation's id."""
        folder, base = posixpath.split(part)
        path = posixpath.join(folder, "_rels", f"{base}.rels")
        reader = _Relations(folder)
        self._read(path, reader)
        return reader.targets

    def _read(self, path: str, reader: _Elements) -> None:
        for _ in self._parse(path, reader):
            pass

    def _parse(self, path: str, reader: _Elements) -> Iterator[None]:
        """Feed a part to a reader, piece by piece, so that one can stop early."""
        parser, fed = self._parser(reader), 0
        try:
            for chunk in self._chunks(path):
                fed += len(chunk)
                parser.Parse(chunk, False)
                if fed - parser.CurrentByteIndex > _MAX_TAG_BYTES:
                    raise _BrokenCell("book.tag")
                yield
            parser.Parse(b"", True)
            yield
        except (expat.ExpatError, ValueError, LookupError) as error:  # the last two of encodings that it does not know
            raise self._unreadable("book.part_damaged", part=posixpath.basename(path)) from error
        except _BrokenCell as error:
            raise self._unreadable(error.key, **error.facts) from error

    def _parser(self, reader: _Elements) -> expat.XMLParserType:
        depth = 0

        def start(name: str, attributes: dict[str, str]) -> None:
            nonlocal depth
            depth += 1
            if depth > _MAX_DEPTH:
                raise _BrokenCell("book.depth")
            reader.start(name.rpartition(":")[2], attributes)

        def end(name: str) -> None:
            nonlocal depth
            depth -= 1
            reader.end(name.rpartition(":")[2])

        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_document_type
        parser.StartElementHandler, parser.EndElementHandler = start, end
        parser.CharacterDataHandler = reader.text
        return parser

    def _refuse_document_type(self, *_: Any) -> None:
        raise self._unreadable("book.document_type")

    def _chunks(self, path: str) -> Iterator[bytes]:
        entry = self._parts.get(path.casefold())
        if entry is None:
            raise self._unreadable("book.part_missing", part=posixpath.basename(path))
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._unreadable("book.part_method", part=posixpath.basename(path))
        try:
            with self._zip.open(entry) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    self._bytes_left -= len(chunk)
                    self._tags_left -= chunk.count(b"<")
                    if self._tags_left < 0:
                        raise self._unreadable("book.cells")
                    if self._bytes_left < 0:
                        problem = report("table.bytes", file=self._name, limits=self._limits)
                        raise PackageError(str(problem), [problem])
                    yield chunk
        except _READ_ERRORS as error:
            raise self._unreadable("book.part_damaged", part=posixpath.basename(path)) from error

    def _unreadable(self, key: str, **facts: object) -> PackageError:
        problem = report("table.unreadable", file=self._name, why=reason(key, **facts))
        return PackageError(str(problem), [problem])


class _BrokenCell(Exception):
    """Cells that contradict the format, by the key of the reason and its facts; never leaves this module."""

    def __init__(self, key: str, **facts: object) -> None:
        super().__init__(key)
        self.key, self.facts = key, facts


# --- what is read of a part -------------------------------------------------------------------------------------------


class _Elements:
    """What takes the events of an XML part, names without their namespace; others overrule what they listen to."""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""

    def end(self, name: str) -> None:
        """An element ends."""

    def text(self, text: str) -> None:
        """Text inside the current element, maybe not all of it."""


class _Relations(_Elements):
    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.targets: dict[str, tuple[str, str]] = {}

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "Relationship" and attributes.get("TargetMode") != "External":
            target = posixpath.normpath(posixpath.join("/", self._folder, attributes.get("Target", "")))
            kind = attributes.get("Type", "").rpartition("/")[2]
            self.targets[attributes.get("Id", "")] = (kind, target.lstrip("/"))


class _SheetList(_Elements):
    def __init__(self) -> None:
        self.visible: list[tuple[str, str]] = []
        self.epoch_1904 = False

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "sheet" and attributes.get("state", "visible") == "visible":
            relation = next((value for key, value in attributes.items() if key.endswith(":id")), "")
            self.visible.append((attributes.get("name", ""), relation))
        elif name == "workbookPr":
            self.epoch_1904 = attributes.get("date1904", "0") in ("1", "true", "on")


class _Styles(_Elements):
    """Which cell styles show a number as a date or a time."""

    def __init__(self) -> None:
        self.is_date: list[bool] = []
        self._formats: dict[str, bool] = {str(number): True for number in _DATE_FORMATS}
        self._in_cells = False

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "numFmt":
            self._formats[attributes.get("numFmtId", "")] = shows_a_date(attributes.get("formatCode", ""))
        elif name == "cellXfs":
            self._in_cells = True
        elif name == "xf" and self._in_cells:
            self.is_date.append(self._formats.get(attributes.get("numFmtId", "0"), False))

    def end(self, name: str) -> None:
        if name == "cellXfs":
            self._in_cells = False


class _Text:
    """Text as it arrives, kept to one character more than a cell may hold, so that a longer one shows as too long."""

    def __init__(self, limit: int) -> None:
        self._pieces: list[str] = []
        self._room = limit + 1

    def add(self, text: str) -> None:
        if self._room > 0:
            self._pieces.append(text[: self._room])
            self._room -= len(text)

    def __str__(self) -> str:
        return "".join(self._pieces)


class _SharedStrings(_Elements):
    """Strings that cells refer to by number; readings printed above East Asian text (rPh) are no part of them."""

    def __init__(self, max_chars: int) -> None:
        self.strings: list[str] = []
        self._max_chars = max_chars
        self._current: _Text | None = None
        self._phonetic = self._hears = False

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "si":
            self._current = _Text(self._max_chars)
        elif name == "rPh":
            self._phonetic = True
        elif name == "t":
            self._hears = not self._phonetic

    def text(self, text: str) -> None:
        if self._hears and self._current is not None:
            self._current.add(text)

    def end(self, name: str) -> None:
        if name == "t":
            self._hears = False
        elif name == "rPh":
            self._phonetic = False
        elif name == "si":
            self.strings.append(str(self._current or ""))
            self._current = None


class _Cells(_Elements):
    """The rows of a sheet's data.

    A cell is kept in attributes of the reader, not in an object of its own: there may be millions.
    """

    def __init__(
        self, strings: Sequence[str], is_date: Sequence[bool], *, epoch_1904: bool, limits: ArchiveLimits
    ) -> None:
        self._strings, self._is_date, self._epoch_1904 = strings, is_date, epoch_1904
        self._last_place, self._max_chars = limits.max_table_columns, limits.max_cell_chars
        self._rows: list[Row] = []
        self._cells: dict[int, str] = {}
        self._faults: dict[int, str] = {}
        self._number = self._column = 0
        self._columns: dict[str, int] = {}
        self._kind = self._style = ""
        self._value = _Text(self._max_chars)
        self._in_data = self._in_cell = self._hears = self._phonetic = False
        self._has_value = self._has_formula = False

    def take(self) -> list[Row]:
        """The rows read since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if self._in_cell:
            self._start_in_cell(name)
        elif name == "c" and self._in_data:
            self._start_cell(attributes)
        elif name == "row" and self._in_data:
            self._start_row(attributes.get("r"))
        elif name == "sheetData":
            self._in_data = True

    def text(self, text: str) -> None:
        if self._hears:
            self._value.add(text)

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._hears = False
        elif name == "c":
            if self._in_cell:
                self._end_cell()
        elif name == "row":
            self._end_row()
        elif name == "rPh":
            self._phonetic = False
        elif name == "sheetData":
            self._in_data = False

    def _start_row(self, stated: str | None) -> None:
        number = self._number + 1 if stated is None else _whole(stated)
        if not self._number < number <= _LAST_ROW:
            raise _BrokenCell("book.row_order", number=number, last=self._number)
        self._number, self._column = number, 0

    def _start_cell(self, attributes: Mapping[str, str]) -> None:
        reference = attributes.get("r")
        self._column = self._column + 1 if reference is None else self._column_of(reference)
        self._kind, self._style = attributes.get("t", "n"), attributes.get("s", "0")
        self._in_cell, self._has_value, self._has_formula = True, False, False

    def _start_in_cell(self, name: str) -> None:
        if name == "v" or (name == "t" and not self._phonetic):
            if not self._has_value:
                self._value = _Text(self._max_chars)
            self._hears = self._has_value = True
        elif name == "f":
            self._has_formula = True
        elif name == "rPh":
            self._phonetic = True

    def _column_of(self, reference: str) -> int:
        """Counted from 1: of `AB7` 28."""
        letters = reference.rstrip("0123456789")
        number = self._columns.get(letters, 0)
        if number == 0 or letters == reference:
            number = self._columns[letters] = _column_number(letters, reference)
        return number

    def _end_cell(self) -> None:
        """Note the cell's value, or why it has none; all cells beyond the widest table lie in one place."""
        self._in_cell = self._hears = self._phonetic = False
        place = min(self._column - 1, self._last_place)
        if self._kind == "e":
            self._faults[place] = str(self._value) if self._has_value else ""
        elif self._has_formula and not self._has_value:
            self._faults[place] = ""
        elif self._has_value and (text := str(self._value)):
            self._cells[place] = self._shown(text)

    def _shown(self, text: str) -> str:
        if self._kind == "s":
            number = _whole(text)
            if number >= len(self._strings):
                raise _BrokenCell("book.string", number=number)
            return self._strings[number]
        if self._kind == "b":
            return "true" if text.strip() in ("1", "true") else "false"
        if self._kind != "n":
            return text
        style = _whole(self._style)
        dated = style < len(self._is_date) and self._is_date[style]
        return show_number(text, is_date=dated, epoch_1904=self._epoch_1904)

    def _end_row(self) -> None:
        if self._cells or self._faults:
            width = max((*self._cells, *self._faults)) + 1
            texts = [self._cells.get(place, "") for place in range(width)]
            self._rows.append(Row(self._number, texts, self._faults))
            self._cells, self._faults = {}, {}


def _column_number(letters: str, reference: str) -> int:
    if letters == reference or not re.fullmatch("[A-Z]{1,3}", letters):
        raise _BrokenCell("book.place", text=repr(reference[:20]))
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        raise _BrokenCell("book.number", text=repr(text[:20]))
    return int(text)


# --- numbers and dates --------------------------------------------------------------------------------------------


def shows_a_date(code: str) -> bool:
    """Whether a number format shows a date or a time: `yyyy-mm-dd`, `m"월" d"일"`, but not `0.00` or `[h]:mm`."""
    bare = re.sub(r'"[^"]*"|\\.|_.|\*.', "", code.split(";")[0])
    if re.search(r"\[(?:h+|m+|s+)\]", bare, re.IGNORECASE):
        return False  # a length of time
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    return "general" not in bare.casefold() and re.search(r"[ymdhs]", bare, re.IGNORECASE) is not None


def show_number(text: str, *, is_date: bool = False, epoch_1904: bool = False) -> str:
    """A stored number as text: whole ones without a fraction, dates as ISO 8601 to the second, times as `09:30`.

    What is no number, or no date of the years 1900 to 9999, stays as it is.
    """
    try:
        number = float(text)
        if is_date:
            return _show_date(number, epoch_1904)
    except (ValueError, OverflowError):
        return text.strip()
    return f"{number:.15g}"


def _show_date(serial: float, epoch_1904: bool) -> str:
    """A day's number, the time of day as its fraction.

    The 1900 epoch counts a 29 February 1900 that never was, so that days before it lie one later.
    """
    if not 0 <= serial < 2_958_466:
        raise OverflowError(serial)
    seconds = round(serial * 86_400)
    epoch = datetime(1904, 1, 1) if epoch_1904 else datetime(1899, 12, 30) + timedelta(days=serial < 60)
    moment = epoch + timedelta(seconds=seconds)
    precision = "minutes" if moment.second == 0 else "seconds"
    if seconds < 86_400 and not epoch_1904:
        return moment.time().isoformat(precision)
    return moment.date().isoformat() if seconds % 86_400 == 0 else moment.isoformat(timespec=precision)
