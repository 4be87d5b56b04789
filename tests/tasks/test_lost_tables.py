"""A table or a recording that is not where it should be: what lies where, and what to do, in one sentence each."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import openpyxl
import pytest

from schemas.errors import PackageError
from schemas.problems import Problem, Severity
from tasks.packages import open_package
from tasks.quality import Judgement, judge
from tests.tasks.test_table_files import CSV, sounds, workbook_of

FORM = workbook_of(CSV)


def judged(folder: Path, files: Mapping[str, bytes], *, name: str = "package.zip") -> Judgement:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for inside, content in files.items():
            archive.writestr(inside, content)
    with open_package(folder / name) as package:
        return judge(package)


def faults(judgement: Judgement) -> list[Problem]:
    return [problem for problem in judgement.problems if problem.severity is Severity.ERROR]


# --- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("plant/form.xlsx", "table.misplaced"),
        ("audio/form.xlsx", "table.misplaced"),
        ("목록.xls", "table.other_format"),
        ("list.ods", "table.other_format"),
        ("form_ko.html", "table.page"),
    ],
)
def test_what_is_there_instead_of_a_table_is_named(tmp_path: Path, name: str, rule: str) -> None:
    (fault,) = faults(judged(tmp_path, sounds() | {name: b"x"}))
    assert (fault.rule, fault.file) == (rule, name)
    assert name in fault.message


def test_a_package_without_anything_like_a_table_is_told_so(tmp_path: Path) -> None:
    assert [fault.rule for fault in faults(judged(tmp_path, sounds() | {"notes.txt": b"x"}))] == ["table.missing"]


def test_the_form_itself_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "form.xlsx").write_bytes(FORM)
    with open_package(tmp_path / "form.xlsx") as package:
        (fault,) = faults(judge(package))
    assert (fault.rule, fault.file) == ("table.alone", "form.xlsx")


def test_a_csv_is_no_package_either(tmp_path: Path) -> None:
    (tmp_path / "list.CSV").write_text(CSV)
    with pytest.raises(PackageError) as refused:
        open_package(tmp_path / "list.CSV")
    assert [problem.rule for problem in refused.value.problems] == ["table.alone"]


@pytest.mark.parametrize("lines", ["Recordings of plant 1\n\n", "Recordings;;;\nof plant 1\n"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_rows_above_the_header_are_one_fault_and_the_rest_is_read(tmp_path: Path, lines: str, separator: str) -> None:
    text = (lines + CSV).replace(",", separator)
    result = judged(tmp_path, sounds() | {"metadata.csv": text.encode()})
    (fault,) = faults(result)
    assert (fault.rule, fault.row) == ("table.title_rows", 3)
    assert fault.message == "The header stands in row 3, below other rows."
    assert result.assets[0].target == 4


def test_rows_above_the_header_of_a_workbook_are_one_fault_too(tmp_path: Path) -> None:
    book = openpyxl.load_workbook(io.BytesIO(FORM))
    sheet = book.worksheets[0]
    sheet.insert_rows(1, 2)
    sheet["A1"] = "1공장 녹음 목록"
    saved = io.BytesIO()
    book.create_sheet("notes", 0)
    book.save(saved)
    (fault,) = faults(judged(tmp_path, sounds() | {"form.xlsx": saved.getvalue()}))
    assert (fault.rule, fault.row) == ("table.title_rows", 3)


def test_of_several_tables_the_one_that_was_read_and_the_others_are_named(tmp_path: Path) -> None:
    (fault,) = faults(judged(tmp_path, sounds() | {"b.csv": CSV.encode(), "a.xlsx": FORM}))
    assert fault.message == "The package holds more than one table: a.xlsx, which was read, and b.csv."


# --- the recordings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        ("audio/0302/{}", "file.elsewhere"),
        ("{}", "file.outside"),
        ("Audio/{}", "file.outside"),
        ("녹음/{}", "file.outside"),
    ],
)
def test_recordings_in_another_folder_are_found_by_their_name(tmp_path: Path, place: str, rule: str) -> None:
    moved = {place.format(name.removeprefix("audio/")): content for name, content in sounds().items()}
    result = judged(tmp_path, moved | {"metadata.csv": CSV.encode()})
    found = faults(result)
    assert [fault.rule for fault in found] == [rule] * 4
    assert place.format("0.wav") in found[0].message
    assert "file.unlisted" not in {problem.rule for problem in result.problems}


def test_a_path_in_another_case_is_told_the_right_one(tmp_path: Path) -> None:
    loud = {name.replace(".wav", ".WAV"): content for name, content in sounds().items()}
    found = faults(judged(tmp_path, loud | {"metadata.csv": CSV.encode()}))
    assert [(fault.rule, "audio/0.WAV" in fault.message) for fault in found[:1]] == [("file.elsewhere", True)]


def test_of_several_files_of_one_name_none_is_guessed_at(tmp_path: Path) -> None:
    files = sounds() | {"audio/a/9.wav": b"x", "audio/b/9.wav": b"y"}
    table = CSV + "audio/9.wav,fan,1,true,Kim,2026-03-02\n"
    assert [fault.rule for fault in faults(judged(tmp_path, files | {"metadata.csv": table.encode()}))] == [
        "file.missing"
    ]


def test_the_column_of_a_missing_file_is_called_as_in_the_table(tmp_path: Path) -> None:
    table = CSV.replace("relative_path", "파일 경로 *") + "audio/9.wav,fan,1,true,Kim,2026-03-02\n"
    (fault,) = faults(judged(tmp_path, sounds() | {"metadata.csv": table.encode()}))
    assert (fault.rule, fault.header) == ("file.missing", "파일 경로")


def test_thousands_of_missing_files_are_listed_to_a_limit_and_held_back_all(tmp_path: Path) -> None:
    table = CSV + "".join(f"audio/x{number}.wav,fan,1,true,Kim,2026-03-02\n" for number in range(1000))
    result = judged(tmp_path, sounds() | {"metadata.csv": table.encode()})
    found = faults(result)
    assert (len(found), found[-1].more) == (200, 800)
    assert result.report("x", quality_key="", metadata_key=None).broken == 1000


# --- what becomes of a refused package ----------------------------------------------------------------------------


def test_of_a_refused_package_no_machine_is_taken_on_and_sound_and_table_are_counted_apart(tmp_path: Path) -> None:
    table = CSV + "audio/9.wav,fan,1,true,Kim,2026-03-02\naudio/dead.wav,fan,1,true,Kim,2026-03-02\n"
    files = sounds() | {"metadata.csv": table.encode(), "audio/dead.wav": b"MAC at all"}
    result = judged(tmp_path, files)
    report = result.report("x", quality_key="", metadata_key=None)

    assert result.bad_input
    assert [asset.accepted for asset in result.assets] == [False]
    assert (report.ok, report.warned, report.quarantined, report.broken) == (4, 0, 1, 1)
