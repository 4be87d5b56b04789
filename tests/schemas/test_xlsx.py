"""Workbooks as spreadsheets write them, and as nobody does."""

from __future__ import annotations

import io
import re
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime, time

import openpyxl
import pytest
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from schemas.errors import PackageError
from schemas.metadata import read_metadata
from schemas.problems import Problem
from schemas.settings import ArchiveLimits
from schemas.xlsx import show_number, shows_a_date

HEADER = ["relative_path", "machine_type", "section_id", "confirmed_normal", "confirmed_by", "recorded_at"]
GOOD = ["audio/a.wav", "fan", "00", True, "Kim", datetime(2026, 3, 2, 9, 30)]

Change = Callable[[dict[str, bytes]], None]


def workbook_of(*rows: Sequence[object], title: str = "Sheet1") -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = title
    for row in rows:
        sheet.append(list(row))
    return book


def saved(book: openpyxl.Workbook) -> bytes:
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def changed(data: bytes, change: Change, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The workbook with its parts, by name, changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def refused(data: bytes, limits: ArchiveLimits | None = None) -> Problem:
    with pytest.raises(PackageError) as caught:
        read_metadata(data, name="metadata.xlsx", limits=limits)
    (problem,) = caught.value.problems
    assert problem.file == "metadata.xlsx"
    return problem


SHEET = "xl/worksheets/sheet1.xml"
STRINGS = "xl/sharedStrings.xml"


def with_shared_strings(parts: dict[str, bytes]) -> None:
    """Keep texts in a part of their own, as Excel does and openpyxl does not."""
    strings: list[str] = []

    def share(cell: re.Match[str]) -> str:
        strings.append(cell[2])
        return f'{cell[1]} t="s"><v>{len(strings) - 1}</v></c>'

    inline = r'(<c r="[A-Z]+[0-9]+") t="inlineStr"><is>(.*?)</is></c>'
    parts[SHEET] = re.sub(inline, share, parts[SHEET].decode()).encode()
    items = "".join(f"<si>{text}</si>" for text in strings)
    namespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    parts[STRINGS] = f'<sst xmlns="{namespace}">{items}</sst>'.encode()
    relation = '<Relationship Id="s" Target="sharedStrings.xml" Type="http://x/sharedStrings"/></Relationships>'
    links = "xl/_rels/workbook.xml.rels"
    parts[links] = parts[links].replace(b"</Relationships>", relation.encode())


PLAIN = changed(saved(workbook_of(HEADER, GOOD)), with_shared_strings)


def sheet_with(body: str) -> bytes:
    """A workbook whose only sheet holds the header and, below it, rows as raw XML."""

    def change(parts: dict[str, bytes]) -> None:
        text = parts[SHEET].decode()
        parts[SHEET] = re.sub(r'<row r="2".*</row>', lambda _: body, text, flags=re.DOTALL).encode()

    return changed(PLAIN, change)


# --- what spreadsheets write ----------------------------------------------------------------------------------------


def test_a_workbook_gives_the_table_that_the_same_csv_gives() -> None:
    table, problems = read_metadata(PLAIN, name="metadata.xlsx")
    csv = ",".join(HEADER) + "\naudio/a.wav,fan,00,true,Kim,2026-03-02T09:30\n"
    expected, _ = read_metadata(csv.encode())

    assert problems == []
    assert table.equals(expected)


def test_numbers_booleans_and_dates_come_out_as_they_are_shown() -> None:
    header = [*HEADER, "snr_db", "speed_level"]
    rows = [
        ["audio/a.wav", "fan", 7, True, "Kim", date(2026, 3, 2), 3.5, 1500],
        ["audio/b.wav", "fan", 7.0, False, "Kim", datetime(2026, 3, 2, 9, 30, 5), 0.1 + 0.2, "빠르게"],
    ]
    table, _ = read_metadata(saved(workbook_of(header, *rows)))

    assert table["section_id"].tolist() == ["7", "7"]
    assert table["recorded_at"].tolist() == ["2026-03-02", "2026-03-02T09:30:05"]
    assert table["snr_db"].tolist() == [3.5, 0.3]
    assert table["speed_level"].tolist() == ["1500", "빠르게"]
    assert table["confirmed_normal"].tolist() == [True, False]


def test_dates_of_both_epochs_and_of_korean_formats_are_the_same_day() -> None:
    book = workbook_of(HEADER, GOOD)
    book.active["F2"].number_format = 'yyyy"년" m"월" d"일" h:mm'
    old = workbook_of(HEADER)
    old.epoch = CALENDAR_MAC_1904
    old.active.append(GOOD)

    for each in (book, old):
        table, problems = read_metadata(saved(each))
        assert problems == []
        assert table["recorded_at"].tolist() == ["2026-03-02T09:30"]


@pytest.mark.parametrize(
    ("serial", "shown"),
    [
        ("46083", "2026-03-02"),
        ("46083.395833333336", "2026-03-02T09:30"),
        ("1", "1900-01-01"),
        ("59", "1900-02-28"),
        ("61", "1900-03-01"),
        ("0.75", "18:00"),
        ("2958465", "9999-12-31"),
        ("2958466", "2958466"),
        ("-1", "-1"),
        ("1e400", "1e400"),
        ("nan", "nan"),
    ],
)
def test_serial_days_count_from_1900(serial: str, shown: str) -> None:
    assert show_number(serial, is_date=True) == shown


@pytest.mark.parametrize(
    ("code", "is_date"),
    [
        ("yyyy-mm-dd hh:mm", True),
        ('m"월" d"일"', True),
        ("[$-412]yyyy.m.d", True),
        ("hh:mm:ss", True),
        ("General", False),
        ("0.00", False),
        ("[h]:mm", False),
        ('0.0" dB"', False),
        ("#,##0;[Red]-#,##0", False),
        ("@", False),
    ],
)
def test_a_format_of_a_date_is_told_from_others(code: str, is_date: bool) -> None:
    assert shows_a_date(code) is is_date


def test_rich_text_is_read_whole() -> None:
    book = workbook_of(HEADER, GOOD)
    book.active["E2"] = CellRichText("Kim ", TextBlock(InlineFont(b=True), "Minji"))
    table, _ = read_metadata(saved(book))

    assert table["confirmed_by"].tolist() == ["Kim Minji"]


def test_readings_above_east_asian_text_are_no_part_of_it() -> None:
    cell = '<c r="E2" t="inlineStr"><is><t>金</t><rPh sb="0" eb="1"><t>김</t></rPh></is></c>'
    row = (
        '<c r="A2" t="inlineStr"><is><t>audio/a.wav</t></is></c><c r="B2" t="str"><v>fan</v></c><c r="C2"><v>1</v></c>'
    )
    table, _ = read_metadata(sheet_with(f'<row r="2">{row}<c r="D2" t="b"><v>1</v></c>{cell}</row>'))

    assert table["confirmed_by"].tolist() == ["金"]


def test_problems_name_the_file_and_the_row_of_the_spreadsheet() -> None:
    rows = [[], ["audio/a.wav", "toaster", "00", True, "Kim", "2026-03-02"]]
    _, problems = read_metadata(saved(workbook_of([], HEADER, *rows)), name="form.xlsx")

    assert [(problem.rule, problem.file, problem.row) for problem in problems] == [("row.machine_type", "form.xlsx", 4)]
    assert problems[0].place == "form.xlsx, row 4, column machine_type"


def test_a_formula_gives_the_value_that_was_saved_with_it_and_is_never_calculated() -> None:
    row = '<c r="A2" t="str"><f>CONCAT(1)</f><v>audio/a.wav</v></c><c r="B2" t="str"><v>fan</v></c>'
    table, problems = read_metadata(
        sheet_with(f'<row r="2">{row}<c r="C2"><f>1+1</f></c><c r="D2" t="e"><v>#N/A</v></c></row>')
    )

    assert table["relative_path"].tolist() == ["audio/a.wav"]
    found = [(problem.rule, problem.column, problem.value) for problem in problems if problem.row == 2]
    assert found == [
        ("cell.formula", "section_id", None),
        ("cell.formula", "confirmed_normal", "#N/A"),
    ]


@pytest.mark.parametrize(
    ("cell", "read"),
    [
        (46083, "2026-03-02"),
        (46083.395833333336, "2026-03-02T09:30"),
        ("46083.395833333336", "2026-03-02T09:30"),
        (30000, "1982-02-18"),
        (60000, "2064-04-08"),
    ],
)
def test_a_day_s_number_without_a_date_format_is_a_date_under_recorded_at_alone(cell: object, read: str) -> None:
    table, problems = read_metadata(saved(workbook_of(HEADER, [*GOOD[:2], "46083", True, "46083", cell])))

    assert problems == []
    assert table["recorded_at"].tolist() == [read]
    assert table["section_id"].tolist() == table["confirmed_by"].tolist() == ["46083"]


def test_a_day_s_number_counts_from_the_workbook_s_own_first_day() -> None:
    book = workbook_of(HEADER, [*GOOD[:5], 44621.5])
    book.epoch = CALENDAR_MAC_1904
    table, problems = read_metadata(saved(book))

    assert problems == []
    assert table["recorded_at"].tolist() == ["2026-03-02T12:00"]


@pytest.mark.parametrize("cell", [29_999, 60_001, 2026, 20_260_302, -46_083])
def test_other_numbers_are_no_dates(cell: int) -> None:
    _, problems = read_metadata(saved(workbook_of(HEADER, [*GOOD[:5], cell])))

    if cell != 20_260_302:  # ISO 8601 without dashes
        assert [problem.rule for problem in problems] == ["cell.time"]


# --- which sheet --------------------------------------------------------------------------------------------------


def test_the_sheet_with_the_table_is_found_among_others() -> None:
    book = workbook_of(["How to record"], ["file", "any"], title="Read me")
    book.create_sheet("Hidden").append(HEADER)
    book["Hidden"].sheet_state = "hidden"
    sheet = book.create_sheet("Data")
    sheet.append(HEADER)
    sheet.append(GOOD)
    table, problems = read_metadata(saved(book))

    assert problems == []
    assert len(table) == 1


def test_a_sheet_called_metadata_is_the_table_whatever_else_there_is() -> None:
    book = workbook_of(HEADER, GOOD, GOOD, title="draft")
    sheet = book.create_sheet("Metadata")
    sheet.append(HEADER)
    sheet.append(GOOD)
    table, problems = read_metadata(saved(book))

    assert problems == []
    assert len(table) == 1


def test_several_sheets_that_look_like_the_table_are_not_chosen_from_in_silence() -> None:
    book = workbook_of(HEADER, GOOD, title="line 1")
    book.create_sheet("line 2").append(HEADER)
    _, problems = read_metadata(saved(book))

    assert [problem.rule for problem in problems] == ["table.sheets"]
    assert "line 2 beside line 1" in problems[0].message


def test_the_strict_dialect_is_read_too() -> None:
    def change(parts: dict[str, bytes]) -> None:
        for name, content in parts.items():
            content = content.replace(
                b"http://schemas.openxmlformats.org/spreadsheetml/2006/main",
                b"http://purl.oclc.org/ooxml/spreadsheetml/main",
            )
            parts[name] = content.replace(
                b"http://schemas.openxmlformats.org/officeDocument/2006/relationships",
                b"http://purl.oclc.org/ooxml/officeDocument/relationships",
            )

    table, problems = read_metadata(changed(PLAIN, change))
    assert (len(table), problems) == (1, [])


# --- what no spreadsheet writes -------------------------------------------------------------------------------------


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize("part", ["xl/workbook.xml", "xl/styles.xml", "xl/sharedStrings.xml", SHEET, "_rels/.rels"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused_in_every_part_and_encoding(part: str, encoding: str) -> None:
    def change(parts: dict[str, bytes]) -> None:
        text = re.sub(r"<\?xml[^>]*\?>", "", parts[part].decode())
        parts[part] = (f'<?xml version="1.0" encoding="{encoding}"?>' + BOMB.decode() + text).encode(encoding)

    problem = refused(changed(PLAIN, change))
    assert (problem.rule, "document type" in problem.message) == ("table.unreadable", True)


def test_a_workbook_that_unpacks_beyond_the_limit_is_refused_before_it_fills_memory() -> None:
    data = changed(PLAIN, lambda parts: parts.update({SHEET: parts[SHEET].replace(b"<row", b" " * 2**26 + b"<row", 1)}))
    assert len(data) < 2**18
    tracemalloc.start()
    problem = refused(data, ArchiveLimits(max_table_bytes=2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert problem.rule == "table.bytes"
    assert peak < 2**23


def test_text_of_one_cell_is_kept_to_what_shows_it_is_too_long() -> None:
    book = workbook_of(HEADER, [*GOOD[:4], "x" * 30_000, GOOD[5]])
    table, problems = read_metadata(saved(book))

    assert [(problem.rule, problem.column) for problem in problems] == [("cell.length", "confirmed_by")]
    assert len(table.loc[2, "confirmed_by"]) == ArchiveLimits().max_cell_chars + 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('<row r="4000000000"><c><v>1</v></c></row>', "no whole number"),
        ('<row r="2000000"><c><v>1</v></c></row>', "follows row 1"),
        ('<row r="3"><c><v>1</v></c></row><row r="3"><c><v>1</v></c></row>', "row 3 follows row 3"),
        ('<row r="2"><c r="A2" t="s"><v>99</v></c></row>', "not among its strings"),
        ('<row r="2"><c r="A2" t="s"><v>-1</v></c></row>', "no whole number"),
        ('<row r="2"><c r="AAAA2"><v>1</v></c></row>', "no place of a cell"),
        ('<row r="2"><c r="A2"><v>1</c></row>', "damaged"),
    ],
)
def test_cells_that_contradict_the_format_are_refused(body: str, why: str) -> None:
    problem = refused(sheet_with(body))
    assert problem.rule == "table.unreadable"
    assert why in problem.message


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("<a>" * 100 + "</a>" * 100, "nested deeper"),
        ("<row " + " ".join(f'a{n}="1"' for n in range(200_000)) + "/>", "longer than any"),
        ("<row>" + "<c/>" * 1000 + "</row>", "more cells"),
    ],
)
def test_what_only_costs_time_and_memory_is_refused(body: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.xlsx._MAX_TAGS", 900)

    assert why in refused(sheet_with(body)).message


def test_cells_far_to_the_right_cost_nothing_and_are_named() -> None:
    row = '<c r="A2" t="str"><v>audio/a.wav</v></c><c r="XFD2" t="str"><v>stray</v></c>'
    _, problems = read_metadata(sheet_with(f'<row r="2">{row}</row>'))
    assert "table.row_width" in [problem.rule for problem in problems]
    assert refused(saved(workbook_of([f"c{n}" for n in range(600)], ["x"]))).rule == "table.columns"


@pytest.mark.parametrize("part", ["[Content_Types].xml", "xl/workbook.xml", SHEET, "_rels/.rels", STRINGS])
def test_a_workbook_without_a_part_is_refused_or_does_not_need_it(part: str) -> None:
    data = changed(PLAIN, lambda parts: parts.pop(part) and None)
    if part == "[Content_Types].xml":
        assert len(read_metadata(data)[0]) == 1
    else:
        assert refused(data).rule == "table.unreadable"


@pytest.mark.parametrize(
    "target", ["../../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "http://example.org/x"]
)
def test_a_part_is_looked_for_in_the_archive_alone(target: str) -> None:
    def change(parts: dict[str, bytes]) -> None:
        name = "xl/_rels/workbook.xml.rels"
        parts[name] = parts[name].replace(b"/xl/worksheets/sheet1.xml", target.encode())

    problem = refused(changed(PLAIN, change))
    assert problem.rule == "table.unreadable"
    assert "is missing" in problem.message


@pytest.mark.parametrize("cut", [10, 500, -30, -1])
def test_a_workbook_cut_off_is_refused(cut: int) -> None:
    assert refused(PLAIN[:cut]).rule == "table.unreadable"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packing_methods_of_no_spreadsheet_are_refused(method: int) -> None:
    assert "packed in a way" in refused(changed(PLAIN, lambda parts: None, method)).message


def test_an_archive_of_very_many_entries_is_refused_unread() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(12_000):
            archive.writestr(f"{number:04}" + "x" * 60, b"")

    assert "no Excel workbook" in refused(file.getvalue()).message


def test_a_zip_of_something_else_is_no_workbook() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")

    assert refused(file.getvalue()).rule == "table.unreadable"


def test_a_time_alone_is_no_date() -> None:
    _, problems = read_metadata(saved(workbook_of(HEADER, [*GOOD[:5], time(9, 30)])))

    assert [(problem.rule, problem.value) for problem in problems] == [("cell.time", "09:30")]
