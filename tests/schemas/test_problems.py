"""Problems: where they are, and how very many of one kind are told without listing them all."""

from __future__ import annotations

import pytest

from schemas.metadata import read_metadata
from schemas.problems import MAX_LISTED, Problem, as_runs, shorten
from schemas.rules import report

ROWS = 3 * MAX_LISTED
FAULTS = {"cell.boolean", "cell.number", "cell.time", "row.machine_type", "row.normal_only", "row.supp_type"}


def missing(row: int | None, *, file: str = "metadata.csv") -> Problem:
    return report("cell.missing", file=file, row=row, column="section_id")


@pytest.mark.parametrize(
    ("problem", "place"),
    [
        (missing(7), "metadata.csv, row 7, column section_id"),
        (missing(None), "metadata.csv, column section_id"),
        (missing(7, file="Metadata.XLSX"), "Metadata.XLSX, row 7, column section_id"),
        (missing(7, file="audio/a.wav"), "audio/a.wav, row 7 of the table, column section_id"),
        (missing(7).model_copy(update={"header": "설비"}), "metadata.csv, row 7, column 설비 (section_id)"),
        (report("archive.kind"), ""),
    ],
)
def test_a_place_names_file_row_and_column_as_the_plant_finds_them(problem: Problem, place: str) -> None:
    assert problem.place == place


def test_rows_become_runs_without_gaps() -> None:
    assert as_runs([9, 3, 4, 5, 5, 11, 10]) == ((3, 5), (9, 11))
    assert as_runs([]) == ()


def test_few_problems_stay_as_they_are() -> None:
    problems = [missing(row) for row in range(2, 2 + MAX_LISTED)]
    assert shorten(problems) == problems


def test_of_many_problems_the_last_listed_counts_the_others_and_names_their_rows() -> None:
    others = [report("archive.kind", file="dev/null")]
    listed = shorten([*(missing(row) for row in range(2, 2 + ROWS)), *others], most=3)
    assert [problem.row for problem in listed] == [2, 3, 4, None]
    assert (listed[2].count, listed[2].more_rows) == (ROWS - 2, ((5, ROWS + 1),))
    assert sum(problem.count for problem in listed) == ROWS + 1
    assert f"{ROWS - 3} more like this" in str(listed[2])


def test_shortening_twice_loses_nothing() -> None:
    once = shorten([missing(row) for row in range(2, 12)], most=8)
    twice = shorten(once, most=2)
    assert sum(problem.count for problem in twice) == 10
    assert [row for problem in twice for row in problem.rows()] == list(range(2, 12))


def test_problems_without_a_row_are_counted() -> None:
    (listed,) = shorten([report("archive.kind", file=f"dev/{i}") for i in range(5)], most=1)
    assert (listed.count, listed.more_rows) == (5, ())


def test_a_table_at_fault_in_every_row_lists_the_first_rows_of_each_rule_and_names_the_others() -> None:
    header = "relative_path,machine_type,section_id,confirmed_normal,recorded_at,label,supp_type,snr_db"
    lines = [f"audio/{i}.wav,teapot,00,perhaps,yesterday,anomaly,noise,loud" for i in range(ROWS)]
    table, problems = read_metadata("\n".join([header, *lines]).encode())
    by_rule = {rule: [problem for problem in problems if problem.rule == rule] for rule in FAULTS}
    assert len(table) == ROWS
    assert {problem.rule for problem in problems} == FAULTS | {"ask.confirmed_by"}
    for found in by_rule.values():
        assert [problem.row for problem in found] == list(range(2, MAX_LISTED + 2))
        assert [row for problem in found for row in problem.rows()] == list(range(2, ROWS + 2))


def test_a_cell_already_named_is_not_named_again_beyond_the_listed_rows() -> None:
    """An unreadable confirmation is not also an unconfirmed training row, in row 2 or in the last."""
    lines = [f"audio/{i}.wav,fan,00,perhaps" for i in range(ROWS)]
    _, problems = read_metadata("\n".join(["relative_path,machine_type,section_id,confirmed_normal", *lines]).encode())
    assert {problem.rule for problem in problems} == {"cell.boolean", "ask.recorded_at", "ask.confirmed_by"}


def test_a_problem_shows_what_the_plant_wrote_under_the_header_it_used() -> None:
    data = "파일,기계 종류,설비,정상 확인\naudio/a.wav,주전자,1,아니오\n".encode()
    problems = {problem.rule: problem for problem in read_metadata(data)[1]}
    unconfirmed, unknown = problems["row.train_confirmed"], problems["row.machine_type"]
    assert (unconfirmed.value, unconfirmed.column, unconfirmed.header) == ("아니오", "confirmed_normal", "정상 확인")
    assert (unknown.value, unknown.place) == ("주전자", "metadata.csv, row 2, column 기계 종류 (machine_type)")
