"""What the terminal says of problems, in the language asked for."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from deployments.printing import print_error, print_problems
from schemas.errors import InputError, UsageError
from schemas.problems import Problem, shorten
from schemas.rules import report
from tasks.packages import open_package
from tasks.report.words import Words


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off", None])
def test_what_cannot_be_opened_is_told_in_korean(tmp_path: Path, console: Console, content: bytes | None) -> None:
    path = tmp_path / "3월; 울산.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        open_package(path)
    print_error(console, refused.value, Words("ko"))
    said = printed(console)
    assert path.name in said
    assert "주십시오." in said
    assert "file" not in said.replace(str(path), "")


def missing(row: int) -> Problem:
    return report("cell.missing", file="metadata.csv", row=row, column="section_id")


def test_a_fault_of_every_row_is_printed_with_a_count_and_its_rows(console: Console) -> None:
    print_problems(console, shorten(missing(row) for row in range(2, 50_002)), Words("ko"))
    lines = printed(console).splitlines()
    assert len(lines) == 42
    assert lines[0] == "고쳐야 함 metadata.csv, 2행, section_id 열: 칸이 비어 있습니다."
    assert lines[-2] == "    … 같은 문제가 49,960곳 더 있습니다. 해당 행: 42–50001."


def test_text_of_a_package_acts_on_no_terminal(console: Console) -> None:
    hostile = report("cell.missing", file="[bold]a\x1b[2J.wav", column="[link=x]", value="[red]")
    print_problems(console, [hostile], Words("en"))
    assert "[bold]a\\x1b[2J.wav, column [link=x] = '[red]'" in printed(console)


def test_an_error_without_problems_is_its_sentence(console: Console) -> None:
    print_error(console, UsageError("no such thing"), Words("ko"))
    assert printed(console) == "오류: no such thing\n"
