"""From the bytes of a table file to its header and rows of text, whatever a spreadsheet made of it.

Read are CSV (UTF-8 with or without a byte order mark, or CP949, which Korean Windows writes; commas, semicolons or tabs
between the cells) and XLSX. What a file is, its content says, not its name. Rows are numbered as a person counts them:
lines of a CSV, rows of a spreadsheet.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Protocol

from schemas import xlsx
from schemas.errors import PackageError
from schemas.machine_types import fold
from schemas.problems import Problem
from schemas.reasons import reason
from schemas.rules import report
from schemas.settings import ArchiveLimits
from schemas.xlsx import Row

TABLE_NAMES = ("metadata.csv", "metadata.xlsx")
"""What the table of a package is called, the name that is meant where there is none first."""
SHEET_TITLES = frozenset({"metadata", "메타데이터"})
"""The sheet of the form that holds the table."""

_TABLE_NAME = re.compile(r"[^/]+\.(?:csv|xlsx)", re.IGNORECASE)
_LOST = (
    ("table.misplaced", re.compile(r"\.(?:csv|xlsx)$", re.IGNORECASE)),
    ("table.other_format", re.compile(r"\.(?:xls|xlsb|xlsm|xltx|ods|numbers|tsv|hcell|cell|et)$", re.IGNORECASE)),
    ("table.page", re.compile(r"\.html?$", re.IGNORECASE)),
)
WORKBOOK_PART = "xl/workbook.xml"
"""In every workbook, which is a zip itself, and in no package."""
_HEADER_WITHIN, _HEADER_MIN = 20, 3
"""First rows of a table of which one may be the header below a title, and the columns of the form by which it is known:
as many as every table needs."""
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_BAR = "|"
_PIECE_BYTES = 1 << 20
_MAX_ROW_CHARS = 1 << 20
"""Of one row as it stands in the file: more than every column of the widest table with its longest text."""
_LAST_LINE = 1 << 20
"""A spreadsheet has no more, and may write them all, though they are empty."""
_KNOWN_MIN = 2
"""Columns of the form that make the first row of a sheet a header."""

IsKnown = Callable[[str], bool]
"""Whether a header's cell names a column of the form."""


@dataclass(frozen=True)
class Table:
    """The header and what follows it; `rows` is read once, and skips rows without any text."""

    header: list[str]
    header_row: int
    rows: Iterator[Row]
    problems: tuple[Problem, ...] = ()
    show_serial: Callable[[str], str] | None = None
    """Of a workbook, which knows from which day it counts: a day's number as a date."""


class _Lines(Protocol):
    """A csv.reader: an iterator that knows how many lines it has read."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...
    def __next__(self) -> list[str]: ...


def find_tables(names: Iterable[str]) -> list[str]:
    """The tables of a package by the names of its files, the one to be read first.

    A table lies at the top. One that is called `metadata.csv` or `metadata.xlsx`, in upper or lower case, is the
    table; where there is none, any CSV or workbook is, such as the form under the name it was sent out by. More than
    one is for the caller to refuse.
    """
    tables = sorted(name for name in names if _TABLE_NAME.fullmatch(name))
    named = sorted(
        (name for name in tables if name.casefold() in TABLE_NAMES),
        key=lambda name: TABLE_NAMES.index(name.casefold()),
    )
    return named or tables


def find_lost_table(names: Iterable[str]) -> tuple[str, str | None]:
    """Of a package without a table at its top: the rule that says what it has instead, and the file in question.

    In this order: a table in a folder, a table in a format that is not read, the form as a page, nothing. A package
    that is itself a workbook is a table alone.
    """
    names = sorted(names, key=lambda name: (name.count("/"), name))
    if WORKBOOK_PART in names:
        return "table.alone", None
    for rule, pattern in _LOST:
        found = next(filter(pattern.search, names), None)
        if found is not None:
            return rule, found
    return "table.missing", None


def read_table(data: bytes, *, name: str, limits: ArchiveLimits, is_known: IsKnown) -> Table:
    """The table in a file.

    name: the file's, for the problems. is_known: tells the columns of the form, by which the separator of a CSV and
    the sheet of a workbook are recognized.

    Raises PackageError, while the rows are read too, where no table can be made of the file.
    """
    if len(data) > limits.max_table_bytes:
        raise refusal("table.bytes", name, limits=limits)
    if data.startswith(xlsx.OLD_MAGIC):
        raise refusal("table.unreadable", name, why=reason("book.old"))
    if data.startswith(xlsx.MAGIC):
        return _from_workbook(data, name, limits, is_known)
    return _from_text(data, name, limits, is_known)


def refusal(rule: str, name: str, **facts: Any) -> PackageError:
    """The error that says why a file cannot be read as a table at all."""
    problem = report(rule, file=name, **facts)
    return PackageError(str(problem), [problem])


def _table(
    rows: Iterator[Row], name: str, limits: ArchiveLimits, problems: Sequence[Problem], is_known: IsKnown
) -> Table:
    """Take the header off: the first row with any text, unless it is a title and the header stands below it."""
    filled = (row for row in rows if row.faults or any(cell.strip() for cell in row.cells))
    header = next(filled, None)
    if header is None:
        raise refusal("table.empty", name)
    if sum(map(is_known, header.cells)) < _KNOWN_MIN:
        above, header, below = _below_a_title([header, *islice(filled, _HEADER_WITHIN - 1)], is_known)
        if above:
            problems = [*problems, report("table.title_rows", file=name, row=header.number, found=header.number)]
        filled = (row for rows in (below, filled) for row in rows)
    if len(header.cells) > limits.max_table_columns:
        raise refusal("table.columns", name, row=header.number, limits=limits, count=len(header.cells))
    titles = [cell.strip() for cell in header.cells]
    return Table(titles, header.number, filled, tuple(problems))


def _below_a_title(rows: Sequence[Row], is_known: IsKnown) -> tuple[Sequence[Row], Row, Sequence[Row]]:
    """First rows as those above the header, the header, and those below it; the first row where none looks like one."""
    known = (place for place, row in enumerate(rows) if sum(map(is_known, row.cells)) >= _HEADER_MIN)
    place = next(known, 0)
    return rows[:place], rows[place], rows[place + 1 :]


def _from_workbook(data: bytes, name: str, limits: ArchiveLimits, is_known: IsKnown) -> Table:
    def is_header(cells: Sequence[str]) -> bool:
        return sum(map(is_known, cells)) >= _KNOWN_MIN

    sheet = xlsx.read_sheet(data, name=name, limits=limits, is_header=is_header, titles=SHEET_TITLES)
    several = [report("table.sheets", file=name, sheet=sheet.title, others=", ".join(sheet.others))]
    table = _table(sheet.rows, name, limits, several if sheet.others else [], is_known)
    return replace(table, show_serial=partial(xlsx.show_number, is_date=True, epoch_1904=sheet.epoch_1904))


# --- CSV ----------------------------------------------------------------------------------------------------------


def _from_text(data: bytes, name: str, limits: ArchiveLimits, is_known: IsKnown) -> Table:
    encoding, problems = _encoding(data, name)
    # Only the start of a table that may be one endless line.
    head = data[:_MAX_ROW_CHARS].decode(encoding, "ignore")
    stated = re.match(r"sep=([,;\t])\r?\n", head)  # Excel's own first line
    found = islice(re.finditer(r"[^\r\n]+", head[stated.end() :] if stated else head), _HEADER_WITHIN)
    # The header, or what stands first where no line looks like one.
    line = max((each[0] for each in found), key=lambda line: _most_known(line, is_known), default="")
    delimiter = stated[1] if stated else _delimiter(line, is_known)
    if _known(line, _BAR, is_known) > _known(line, delimiter, is_known):
        raise refusal("table.delimiter", name, row=1, delimiter=reason("csv.bars"))
    feed = _Feed(io.TextIOWrapper(io.BytesIO(data), encoding, newline=""))
    if stated:
        next(feed)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    return _table(_lines(reader, feed, name, limits, skipped=1 if stated else 0), name, limits, problems, is_known)


class _LongRow(csv.Error):
    """A row that goes on beyond any row of a table."""


class _Feed:
    """The lines of a text, one at a time; ends a row that goes on beyond any row of a table.

    The reader of CSV bounds a cell, but neither a line nor the lines that a row of quoted cells can run over.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self._of_row = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(_MAX_ROW_CHARS + 1)
        self._of_row += len(line)
        if self._of_row > _MAX_ROW_CHARS:
            raise _LongRow
        if not line:
            raise StopIteration
        return line

    def begin_row(self) -> None:
        """What comes next is another row."""
        self._of_row = 0


def _encoding(data: bytes, name: str) -> tuple[str, list[Problem]]:
    row = _undecodable_row(data, "utf-8-sig")
    if row is None:
        return "utf-8-sig", []
    if _undecodable_row(data, "cp949") is not None or not _reads_as_korean(data):
        raise refusal("table.encoding", name, row=row)
    return "cp949", [report("table.codepage", file=name)]


def _undecodable_row(data: bytes, encoding: str) -> int | None:
    """The line with the first bytes that the encoding does not know, None where it knows all; in pieces, as text of
    mixed scripts can take four times the room of its bytes."""
    position = 0
    try:
        for piece in _pieces(data, encoding):
            position = piece[0]
    except UnicodeDecodeError as error:
        return data.count(b"\n", 0, position + error.start) + 1
    return None


def _pieces(data: bytes, encoding: str) -> Iterator[tuple[int, str]]:
    """The text in pieces, each with the place in the data where the next one starts."""
    decoder = codecs.getincrementaldecoder(encoding)()
    yield 0, ""
    for start in range(0, len(data), _PIECE_BYTES):
        end = start + _PIECE_BYTES
        text = decoder.decode(data[start:end], final=end >= len(data))
        yield end - len(decoder.getstate()[0]), text


def _reads_as_korean(data: bytes) -> bool:
    """Whether what is beyond ASCII is mostly Hangul: other encodings, read as CP949, give rare Chinese characters."""
    beyond = hangul = 0
    for _, text in _pieces(data, "cp949"):
        beyond += sum(not character.isascii() for character in text)
        hangul += sum("가" <= character <= "힣" for character in text)
    return 2 * hangul > beyond and b"\0" not in data


def _delimiter(line: str, is_known: IsKnown) -> str:
    """What parts the header into the most columns of the form; a comma where nothing does."""
    return max(_DELIMITERS, key=lambda delimiter: _known(line, delimiter, is_known))


def _most_known(line: str, is_known: IsKnown) -> int:
    return max(_known(line, delimiter, is_known) for delimiter in (*_DELIMITERS, _BAR))


def _known(line: str, delimiter: str, is_known: IsKnown) -> int:
    try:
        return sum(map(is_known, next(csv.reader([line], delimiter=delimiter, strict=True), [])))
    except csv.Error:
        return 0


def _lines(reader: _Lines, feed: _Feed, name: str, limits: ArchiveLimits, *, skipped: int) -> Iterator[Row]:
    """The rows of a CSV, each with the line on which it starts."""
    line = 1 + skipped
    try:
        for cells in reader:
            if line > _LAST_LINE:
                raise refusal("table.rows", name, row=line, limits=limits)
            yield Row(line, cells)
            line = reader.line_num + 1 + skipped
            feed.begin_row()
    except csv.Error as error:
        raise refusal(
            "table.unreadable", name, row=max(line, reader.line_num + skipped), why=_csv_fault(error)
        ) from error


_TOLD_BY_CSV = {
    "unexpected end": "csv.open_quote",
    "field larger": "csv.cell",
    "new-line": "csv.line_break",
}
"""How the reader of CSV begins its sentences; the one about text after a quote begins with the delimiter."""


def _csv_fault(error: csv.Error) -> str:
    """Why a text is no CSV."""
    if isinstance(error, _LongRow):
        return reason("csv.row", limit=f"{_MAX_ROW_CHARS:,}")
    told = str(error)
    if "expected after" in told:
        return reason("csv.after_quote")
    key = next((key for start, key in _TOLD_BY_CSV.items() if told.startswith(start)), "csv.syntax")
    return reason(key, limit=f"{csv.field_size_limit():,}")


def header_key(title: str) -> str:
    """A header's cell as it is compared: without case, spaces, and the star that marks a required column."""
    return fold(unicodedata.normalize("NFC", title).strip().rstrip("*"))
