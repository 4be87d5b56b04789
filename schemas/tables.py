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
from dataclasses import dataclass
from typing import Any, Protocol

from schemas import xlsx
from schemas.errors import PackageError
from schemas.machine_types import fold
from schemas.problems import Problem
from schemas.rules import report
from schemas.settings import ArchiveLimits
from schemas.xlsx import Row

TABLE_NAMES = ("metadata.csv", "metadata.xlsx")
"""What the table of a package is called, the name that is meant where there is none first."""
SHEET_TITLES = frozenset({"metadata", "메타데이터"})
"""The sheet of the form that holds the table."""

_TABLE_NAME = re.compile(r"[^/]+\.(?:csv|xlsx)", re.IGNORECASE)
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


def read_table(data: bytes, *, name: str, limits: ArchiveLimits, is_known: IsKnown) -> Table:
    """The table in a file.

    name: the file's, for the problems. is_known: tells the columns of the form, by which the separator of a CSV and
    the sheet of a workbook are recognized.

    Raises PackageError, while the rows are read too, where no table can be made of the file.
    """
    if len(data) > limits.max_table_bytes:
        raise refusal("table.bytes", name, limits=limits)
    if data.startswith(xlsx.OLD_MAGIC):
        raise refusal("table.unreadable", name, why="it is an old .xls workbook, or one with a password")
    if data.startswith(xlsx.MAGIC):
        return _from_workbook(data, name, limits, is_known)
    return _from_text(data, name, limits, is_known)


def refusal(rule: str, name: str, **facts: Any) -> PackageError:
    """The error that says why a file cannot be read as a table at all."""
    problem = report(rule, file=name, **facts)
    return PackageError(str(problem), [problem])


def _table(rows: Iterator[Row], name: str, limits: ArchiveLimits, problems: Sequence[Problem]) -> Table:
    """Take the header off: the first row with any text."""
    filled = (row for row in rows if row.faults or any(cell.strip() for cell in row.cells))
    header = next(filled, None)
    if header is None:
        raise refusal("table.empty", name)
    if len(header.cells) > limits.max_table_columns:
        raise refusal("table.columns", name, row=header.number, limits=limits, count=len(header.cells))
    titles = [cell.strip() for cell in header.cells]
    return Table(titles, header.number, filled, tuple(problems))


def _from_workbook(data: bytes, name: str, limits: ArchiveLimits, is_known: IsKnown) -> Table:
    def is_header(cells: Sequence[str]) -> bool:
        return sum(map(is_known, cells)) >= _KNOWN_MIN

    sheet = xlsx.read_sheet(data, name=name, limits=limits, is_header=is_header, titles=SHEET_TITLES)
    several = [report("table.sheets", file=name, sheet=sheet.title, others=", ".join(sheet.others))]
    return _table(sheet.rows, name, limits, several if sheet.others else [])


# --- CSV ----------------------------------------------------------------------------------------------------------


def _from_text(data: bytes, name: str, limits: ArchiveLimits, is_known: IsKnown) -> Table:
    encoding, problems = _encoding(data, name)
    # Only the start of a table that may be one endless line.
    head = data[:_MAX_ROW_CHARS].decode(encoding, "ignore")
    stated = re.match(r"sep=([,;\t])\r?\n", head)  # Excel's own first line
    first = re.search(r"[^\r\n]+", head[stated.end() :] if stated else head)
    line = first[0] if first else ""
    delimiter = stated[1] if stated else _delimiter(line, is_known)
    if _known(line, _BAR, is_known) > _known(line, delimiter, is_known):
        raise refusal("table.delimiter", name, row=1, delimiter="vertical bars")
    feed = _Feed(io.TextIOWrapper(io.BytesIO(data), encoding, newline=""))
    if stated:
        next(feed)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    return _table(_lines(reader, feed, name, limits, skipped=1 if stated else 0), name, limits, problems)


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
            raise csv.Error(f"a row is longer than {_MAX_ROW_CHARS:,} characters")
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
        raise refusal("table.unreadable", name, row=max(line, reader.line_num + skipped), why=error) from error


def header_key(title: str) -> str:
    """A header's cell as it is compared: without case, spaces, and the star that marks a required column."""
    return fold(unicodedata.normalize("NFC", title).strip().rstrip("*"))
