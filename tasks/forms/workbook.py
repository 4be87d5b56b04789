"""The form as an Excel workbook: a page a machine type, the sheet to fill in, examples and a checklist.

Every sheet prints on A4, each page of instructions on one. Nothing in the workbook calculates: no formulas, no macros,
no links. Sheets other than `metadata` begin with a title, so that ingest never takes one for the table.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Sequence
from typing import Any

from tasks.forms.content import Column, FormText, MachinePage

LAST_ROW = 5000
"""Down to here cells offer their choices; a table may be longer."""

_INK, _MUTED, _RULE, _SHADE, _MARK = "1B2530", "566270", "C9D1D8", "EEF1F3", "FFF4D6"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_MOMENTS = re.compile(rb"<dcterms:(created|modified)\b.*?</dcterms:\1>", re.DOTALL)
_MAX_INLINE_LIST = 255
"""Characters of a list of choices that a cell can carry by itself."""
_RULED_ROWS = 30
"""Empty rows of the table that have lines, so that they are on the paper where it is filled in by hand."""
_WIDTHS = {
    "relative_path": 27,
    "machine_type": 11,
    "section_id": 9,
    "confirmed_by": 17,
    "recorded_at": 16,
    "split": 12,
    "label": 9,
    "supp_type": 13,
    "sensor": 11,
    "speed_level": 9,
    "load_level": 9,
    "operating_mode": 13,
    "mic_position_id": 9,
    "mic_direction": 17,
    "installation": 15,
}
_USUAL_WIDTH = 12


def write_workbook(form: FormText) -> bytes:
    """The form as the bytes of an .xlsx file."""
    from openpyxl import Workbook

    book = Workbook()
    book.remove(book.worksheets[0])
    for page in form.pages():
        _add_page(book.create_sheet(_sheet_title(page.name)), page, form)
    _add_table(book.create_sheet(form.say("sheet.metadata")), form)
    _add_examples(book.create_sheet(form.say("sheet.examples")), form)
    _add_checklist(book.create_sheet(form.say("sheet.checklist")), form)
    book.properties.creator = "ALP"
    book.properties.title = ", ".join(page.title for page in form.pages())
    file = io.BytesIO()
    book.save(file)
    return _timeless(file.getvalue())


def _timeless(data: bytes) -> bytes:
    """The workbook without the moments at which it and its parts were written: the same form is the same bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as written, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as timeless:
        for name in written.namelist():
            part = written.read(name)
            if name == "docProps/core.xml":
                part = _MOMENTS.sub(b"", part)
            entry = zipfile.ZipInfo(name, date_time=_ZIP_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            timeless.writestr(entry, part)
    return file.getvalue()


def _sheet_title(name: str) -> str:
    return "".join(" " if character in r"[]:*?/\\" else character for character in name)[:31]


# --- the pages to read ----------------------------------------------------------------------------------------------


def _add_page(sheet: Any, page: MachinePage, form: FormText) -> None:
    """What to record of one machine type, on one page of A4."""
    _set_widths(sheet, (26, 32, 44))
    _write_title(sheet, page.title, form.say("tagline"), columns=3)
    _write_row(sheet, [form.say(f"heading.{part}") for part in ("what", "amount", "how")], kind="head")
    for step in page.steps:
        _write_row(sheet, [step.what, step.amount, step.how], kind="step")
    _write_list(sheet, form.say("heading.table"), page.table, mark="·", columns=3)
    _write_list(sheet, form.say("heading.check"), page.checks, mark="☐", columns=3)
    _write_across(sheet, "      ".join(f"{blank}: ____________" for blank in page.blanks), kind="section", columns=3)
    _set_print(sheet, landscape=False)


def _add_checklist(sheet: Any, form: FormText) -> None:
    _set_widths(sheet, (102,))
    _write_title(sheet, form.say("checklist.title"), "", columns=1)
    for line in form.checklist():
        _write_row(sheet, [f"☐  {line}"], kind="plain")
    _set_print(sheet, landscape=False)


def _write_title(sheet: Any, title: str, tagline: str, *, columns: int) -> None:
    _write_across(sheet, title, kind="title", columns=columns)
    if tagline:
        _write_across(sheet, tagline, kind="plain", columns=columns)


def _write_list(sheet: Any, title: str, lines: Sequence[str], *, mark: str, columns: int) -> None:
    _write_across(sheet, title, kind="section", columns=columns)
    for line in lines:
        _write_across(sheet, f"{mark}  {line}", kind="plain", columns=columns)


def _write_across(sheet: Any, text: str, *, kind: str, columns: int) -> None:
    """A line over all columns."""
    row = _next_row(sheet)
    if columns > 1:
        sheet.merge_cells(start_row=row, start_column=1, end_row=row, end_column=columns)
    width = sum(sheet.column_dimensions[_letter(n)].width for n in range(1, columns + 1))
    _fill(sheet, row, [text], kind, [width])


def _write_row(sheet: Any, texts: Sequence[str], *, kind: str) -> None:
    widths = [sheet.column_dimensions[_letter(n)].width for n in range(1, len(texts) + 1)]
    _fill(sheet, _next_row(sheet), texts, kind, widths)


def _fill(sheet: Any, row: int, texts: Sequence[str], kind: str, widths: Sequence[float]) -> None:
    """Write and dress one row, as high as its longest text needs: a spreadsheet does not fit merged cells itself."""
    for column, text in enumerate(texts, start=1):
        _dress(sheet.cell(row, column, text), kind, first=column == 1)
    lines = max(_lines(text, width) for text, width in zip(texts, widths, strict=True))
    size = _SIZES[kind]
    sheet.row_dimensions[row].height = lines * size * 1.45 + _PADDING[kind]


_HANGUL, _LATIN, _FULL = 1.75, 0.95, 0.95
_SIZES = {"title": 18, "section": 11, "head": 10, "step": 10, "plain": 10}
_PADDING = {"title": 6, "section": 14, "head": 5, "step": 8, "plain": 3}


def _dress(cell: Any, kind: str, *, first: bool) -> None:
    from openpyxl.styles import Alignment, Border, Font, PatternFill, Side

    bold = kind in ("title", "section", "head") or (kind == "step" and first)
    cell.font = Font(name="Malgun Gothic", size=_SIZES[kind], bold=bold, color=_MUTED if kind == "head" else _INK)
    cell.alignment = Alignment(wrap_text=True, vertical="bottom" if kind == "section" else "top")
    if kind in ("head", "step"):
        cell.border = Border(bottom=Side(style="thin", color=_RULE))
    if kind == "head":
        cell.fill = PatternFill("solid", fgColor=_SHADE)


def _lines(text: str, width: float) -> int:
    """Lines that a text takes in a column of so many digits of the default font, which is larger than the text's.

    A Latin letter is hardly as wide as a digit, Hangul less than two; words do not break, so a line is not always full.
    """
    wide = sum(_HANGUL if ord(character) >= 0x1100 else _LATIN for character in text)
    return max(1, math.ceil(wide / (width * _FULL)))


# --- the table to fill in -------------------------------------------------------------------------------------------


def _add_table(sheet: Any, form: FormText) -> None:
    """The header with a drop-down or a hint under each title, and nothing else: what is written here is data."""
    columns = form.columns()
    for number, column in enumerate(columns, start=1):
        letter = _letter(number)
        # Text keeps 007 from becoming 7.
        shown = "yyyy-mm-dd hh:mm" if column.name == "recorded_at" else "@"
        sheet.column_dimensions[letter].number_format = shown
        sheet.add_data_validation(_validation(column, form, f"{letter}2:{letter}{LAST_ROW}"))
        for row in range(2, 2 + _RULED_ROWS):
            _dress_row(sheet.cell(row, number)).number_format = shown
    _add_header(sheet, columns, row=1)
    sheet.sheet_format.defaultRowHeight, sheet.sheet_format.customHeight = 20, True
    sheet.freeze_panes = "B2"
    sheet.print_title_rows = "1:1"
    _set_print(sheet, landscape=True)


def _add_examples(sheet: Any, form: FormText) -> None:
    from openpyxl.styles import Alignment

    rows = form.examples()
    used = [column for column in form.columns() if any(row.get(column.name) for row in rows)]
    _dress(sheet.cell(1, 1, form.say("examples.title")), "section", first=True)
    sheet.cell(1, 1).alignment = Alignment(wrap_text=False)
    _add_header(sheet, used, row=3)
    for number, column in enumerate(used, start=1):
        for offset, row in enumerate(rows, start=4):
            _dress_row(sheet.cell(offset, number, row.get(column.name) or None))
    _set_print(sheet, landscape=True)


def _add_header(sheet: Any, columns: Sequence[Column], *, row: int) -> None:
    """Titles of two lines at most, so that the table fits a page's width in letters that can be read."""
    for number, column in enumerate(columns, start=1):
        _dress_header(sheet.cell(row, number, column.header), required=column.required)
        sheet.column_dimensions[_letter(number)].width = _WIDTHS.get(column.name, _USUAL_WIDTH)
    sheet.row_dimensions[row].height = 32


def _dress_header(cell: Any, *, required: bool) -> None:
    from openpyxl.styles import Alignment, PatternFill

    _dress_row(cell)
    cell.font = _font(bold=True)
    cell.fill = PatternFill("solid", fgColor=_MARK if required else _SHADE)
    cell.alignment = Alignment(vertical="center", wrap_text=True)


def _dress_row(cell: Any) -> Any:
    from openpyxl.styles import Border, Side

    line = Side(style="thin", color=_RULE)
    cell.font = _font()
    cell.border = Border(left=line, right=line, bottom=line)
    return cell


def _font(*, bold: bool = False) -> Any:
    from openpyxl.styles import Font

    return Font(name="Malgun Gothic", size=10, bold=bold, color=_INK)


def _validation(column: Column, form: FormText, cells: str) -> Any:
    """What a cell offers and says. Only lists that the table cannot do without refuse anything else."""
    from openpyxl.worksheet.datavalidation import DataValidation

    listed = ",".join(column.choices)
    if column.choices and len(listed) <= _MAX_INLINE_LIST:
        rule = DataValidation(type="list", formula1=f'"{listed}"', allow_blank=True)
        rule.error = form.say("error.choose")
        rule.showErrorMessage = column.strict
    elif column.name == "recorded_at":
        rule = DataValidation(type="date", operator="greaterThan", formula1="36526", allow_blank=True)
        rule.error, rule.errorStyle, rule.showErrorMessage = form.say("error.time"), "warning", True
    elif column.name == "relative_path":
        first = cells.partition(":")[0]
        rule = DataValidation(type="custom", formula1=f'LEFT({first},6)="audio/"', allow_blank=True)
        rule.error, rule.errorStyle, rule.showErrorMessage = form.say("error.path"), "warning", True
    else:
        rule = DataValidation(type="textLength", operator="lessThan", formula1="1000", allow_blank=True)
    rule.errorTitle = rule.promptTitle = column.title[:32]
    rule.prompt = column.hint[:255]
    rule.showInputMessage = True
    rule.add(cells)
    return rule


# --- the paper --------------------------------------------------------------------------------------------------------


def _set_print(sheet: Any, *, landscape: bool) -> None:
    sheet.page_setup.paperSize = sheet.PAPERSIZE_A4
    sheet.page_setup.orientation = "landscape" if landscape else "portrait"
    sheet.sheet_properties.pageSetUpPr.fitToPage = True
    sheet.page_setup.fitToWidth = 1
    sheet.page_setup.fitToHeight = 0 if landscape else 1
    sheet.page_margins.left = sheet.page_margins.right = 0.5
    sheet.page_margins.top, sheet.page_margins.bottom, sheet.page_margins.footer = 0.55, 0.75, 0.3
    sheet.sheet_view.showGridLines = landscape
    sheet.oddFooter.right.text = "&A"


def _set_widths(sheet: Any, widths: Sequence[float]) -> None:
    for number, width in enumerate(widths, start=1):
        sheet.column_dimensions[_letter(number)].width = width


def _next_row(sheet: Any) -> int:
    return 1 if sheet.max_row == 1 and sheet.cell(1, 1).value is None else int(sheet.max_row) + 1


def _letter(number: int) -> str:
    from openpyxl.utils import get_column_letter

    return str(get_column_letter(number))
