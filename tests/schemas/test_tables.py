"""What spreadsheets make of a table: encodings, separators, headers, dates; each is read, or refused by name."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import PackageError
from schemas.metadata import CustomerForm, read_metadata
from schemas.settings import ArchiveLimits
from schemas.tables import find_tables, header_key, read_table

COLUMNS = ("파일", "기계 종류", "설비 번호", "정상 확인", "확인자", "녹음 시각")
CELLS = ("audio/가.wav", "팬", "3호기", "예", "김", "2026-03-02 09:30")


def text_of(delimiter: str = ",", newline: str = "\r\n") -> str:
    return newline.join(delimiter.join(line) for line in (COLUMNS, CELLS)) + newline


def rules(data: bytes) -> list[str]:
    """The rules that a table breaks, whether it can be read or not."""
    try:
        _, problems = read_metadata(data)
    except PackageError as error:
        return [problem.rule for problem in error.problems]
    return [problem.rule for problem in problems]


@pytest.mark.parametrize(("encoding", "delimiter"), list(product(["utf-8", "utf-8-sig", "cp949"], [",", ";", "\t"])))
def test_every_encoding_and_separator_gives_the_same_table(encoding: str, delimiter: str) -> None:
    expected, _ = read_metadata(text_of().encode())
    table, problems = read_metadata(text_of(delimiter).encode(encoding))

    assert table.equals(expected)
    assert table.loc[2, ["relative_path", "section_id", "confirmed_by"]].tolist() == ["audio/가.wav", "3호기", "김"]
    assert [problem.rule for problem in problems] == (["table.codepage"] if encoding == "cp949" else [])


def test_excel_s_own_first_line_names_the_separator_and_is_counted() -> None:
    table, problems = read_metadata(("sep=;\r\n" + text_of(";")).encode())

    assert problems == []
    assert list(table.index) == [3]


def test_a_comma_inside_a_quoted_cell_of_a_semicolon_table_is_text() -> None:
    table, _ = read_metadata(text_of(";").replace("3호기", "3호기, 옥상").encode())

    assert table.loc[2, "section_id"] == "3호기, 옥상"


@pytest.mark.parametrize("text", ["Größe,größer\n", "£100\n", "æøå\n", "café\n"])
def test_western_text_is_not_read_as_korean(text: str) -> None:
    assert rules((text_of() + text).replace("파일", "file").encode("latin-1", "ignore")) == ["table.encoding"]


def test_a_table_in_two_encodings_is_refused_at_its_first_odd_line() -> None:
    data = text_of().encode() + ",".join(CELLS).encode("cp949")
    with pytest.raises(PackageError) as caught:
        read_metadata(data)

    assert [(problem.rule, problem.row) for problem in caught.value.problems] == [("table.encoding", 3)]


@pytest.mark.parametrize(
    "title", ["relative_path", "Relative path", " RELATIVE-PATH ", "relative_path *", "파일*", "파 일"]
)
def test_a_header_is_known_in_any_spelling(title: str) -> None:
    assert CustomerForm.header_index()[header_key(title)] == "relative_path"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-03-02 9:30", "2026-03-02T09:30"),
        ("2026-3-2", "2026-03-02"),
        ("2026. 3. 2.", "2026-03-02"),
        ("2026.03.02 14:05:09", "2026-03-02T14:05:09"),
        ("2026/03/02", "2026-03-02"),
        ("2026년 3월 2일 오후 2:05", "2026-03-02T14:05"),
        ("2026-03-02 오전 12:05", "2026-03-02T00:05"),
        ("2026-03-02 12:05 PM", "2026-03-02T12:05"),
        ("2026-03-02T09:30+09:00", "2026-03-02T09:30+09:00"),
    ],
)
def test_dates_that_begin_with_the_year_become_iso_8601(written: str, read: str) -> None:
    table, problems = read_metadata(text_of("\t").replace(CELLS[5], written).encode())

    assert problems == []
    assert table.loc[2, "recorded_at"] == read


@pytest.mark.parametrize(
    "written", ["02/03/2026", "2.3.2026", "2026-13-02", "2026-03-02 오후 13:05", "29999", "60001", "어제"]
)
def test_dates_that_may_mean_two_days_or_none_are_asked_about(written: str) -> None:
    assert rules(text_of("\t").replace(CELLS[5], written).encode()) == ["cell.time"]


@pytest.mark.parametrize("written", ["46083", "46083.395833", "30000", "60000"])
def test_a_day_s_number_in_a_csv_is_refused_with_what_to_do(written: str) -> None:
    _, problems = read_metadata(text_of("\t").replace(CELLS[5], written).encode())
    (problem,) = problems

    assert (problem.rule, problem.value) == ("cell.serial", written)
    assert "yyyy-mm-dd hh:mm" in problem.remedy


@pytest.mark.parametrize(
    ("names", "tables"),
    [
        (["audio/a.wav", "metadata.csv"], ["metadata.csv"]),
        (["Metadata.XLSX", "notes.csv"], ["Metadata.XLSX"]),
        (["metadata.xlsx", "metadata.csv"], ["metadata.csv", "metadata.xlsx"]),
        (["form.xlsx", "audio/list.csv"], ["form.xlsx"]),
        (["b.csv", "a.xlsx"], ["a.xlsx", "b.csv"]),
        (["audio/metadata.csv", "readme.txt"], []),
    ],
)
def test_the_table_of_a_package_is_found_by_its_name(names: list[str], tables: list[str]) -> None:
    assert find_tables(names) == tables


@settings(max_examples=50)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_a_table_or_refused(data: bytes) -> None:
    try:
        table = read_table(data, name="t.csv", limits=ArchiveLimits(), is_known=lambda title: title == "file")
        rows = [row.number for row in table.rows]
    except PackageError:
        return
    assert rows == sorted(set(rows))
    assert any(table.header)
