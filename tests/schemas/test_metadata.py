"""The table's contract: lenient toward a plant, strict toward the platform, every fault named in one pass."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import AlpError, PackageError
from schemas.machine_types import MachineType, load_machine_types
from schemas.metadata import (
    METADATA_COLUMNS,
    CustomerForm,
    Metadata,
    empty_metadata,
    read_form,
    read_metadata,
    regions_fault,
    standardize_form,
    validate_metadata,
)
from schemas.problems import Problem, Severity
from schemas.settings import ArchiveLimits

GOOD = {
    "relative_path": "audio/a.wav",
    "machine_type": "fan",
    "section_id": "00",
    "confirmed_normal": "true",
    "confirmed_by": "Kim",
    "recorded_at": "2026-03-02T09:30",
}


def csv_of(*rows: dict[str, str]) -> bytes:
    """A metadata.csv of the given rows, each filled up from a good one with a path of its own."""
    full = [{**GOOD, "relative_path": f"audio/{i}.wav", **row} for i, row in enumerate(rows)]
    columns = list(dict.fromkeys(name for row in full for name in row))
    lines = [columns, *([f'"{row.get(c, "").replace(chr(34), chr(34) * 2)}"' for c in columns] for row in full)]
    return "\n".join(",".join(line) for line in lines).encode()


def faults(*rows: dict[str, str]) -> list[tuple[str, int | None, str | None]]:
    """(rule, row, column) of every error in such a table."""
    _, problems = read_metadata(csv_of(*rows))
    return [(p.rule, p.row, p.column) for p in problems if p.severity is Severity.ERROR]


def only(problems: list[Problem], rule: str) -> Problem:
    (found,) = [problem for problem in problems if problem.rule == rule]
    return found


# --- the lenient form ---------------------------------------------------------------------------------------------


def test_a_minimal_table_gets_every_default() -> None:
    table, problems = read_metadata(csv_of({}))
    row = table.loc[2]

    assert problems == []
    assert list(table.columns) == list(METADATA_COLUMNS)
    assert row[["split", "domain", "label"]].tolist() == ["train", "target", "normal"]
    assert row[["sensor", "clip_id"]].tolist() == ["microphone", "0"]
    assert not row["is_anomaly"]
    assert not row["synthetic"]
    assert pd.isna(row["supp_type"])


def test_korean_headers_and_values_are_understood() -> None:
    text = (
        "파일,기계 종류,설비,정상 확인,확인자,녹음 시각,구분,도메인,라벨,센서,보조 종류\n"
        "audio/가.wav,팬,3호기,예,김,2026-03-02,학습,대상,정상,마이크,\n"
        "audio/나.wav,압축기,3호기,아니오,김,2026-03-02,시험,원천,고장,가속도계,\n"
        "audio/다.wav,팬,3호기,,김,2026-03-02,보조,,,,소음\n"
    )
    table, problems = read_metadata(text.encode())

    assert problems == []
    assert table["machine_type"].tolist() == ["fan", "compressor", "fan"]
    assert table["split"].tolist() == ["train", "test", "supplemental"]
    assert table["domain"].tolist() == ["target", "source", "target"]
    assert table["label"].tolist() == ["normal", "anomaly", "normal"]
    assert table["sensor"].tolist() == ["microphone", "accelerometer", "microphone"]
    assert table["confirmed_normal"].tolist() == [True, False, pd.NA]
    assert table["clip_id"].tolist() == ["가", "나", "다"]


def test_asset_id_is_section_id_and_keeps_its_zeros() -> None:
    text = "relative_path,machine_type,Asset ID,confirmed_normal\naudio/a.wav,fan,007,yes\n"
    table, _ = read_metadata(text.encode())

    assert table["section_id"].tolist() == ["007"]


@pytest.mark.parametrize("mark", ["true", " TRUE ", "Yes", "y", "1", "예", "네", "O", "ㅇ", "○", "V", "✓"])
def test_yes_is_understood_in_any_form(mark: str) -> None:
    assert faults({"confirmed_normal": mark}) == []


@pytest.mark.parametrize("mark", ["false", "No", "아니오", "아니요", "X", "✕", "×"])
def test_no_is_understood_in_any_form(mark: str) -> None:
    assert faults({"confirmed_normal": mark, "split": "test"}) == []
    table, _ = read_metadata(csv_of({"confirmed_normal": mark}))
    assert table["confirmed_normal"].tolist() == [False]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_ends_and_byte_order_marks_make_no_difference(encoding: str, newline: str) -> None:
    text = csv_of({}, {"section_id": "둘"}).decode().replace("\n", newline)
    table, problems = read_metadata(text.encode(encoding))

    assert problems == []
    assert table["section_id"].tolist() == ["00", "둘"]


def test_derived_clip_ids_are_unique_and_do_not_take_a_given_one() -> None:
    table, problems = read_metadata(
        csv_of(
            {"relative_path": "audio/x/1.wav", "clip_id": ""},
            {"relative_path": "audio/x_1.wav", "clip_id": ""},
            {"relative_path": "audio/x_1.flac", "clip_id": ""},
            {"relative_path": "audio/other.wav", "clip_id": "x_1_2"},
        )
    )

    assert problems == []
    assert table["clip_id"].tolist() == ["x_1", "x_1_3", "x_1_4", "x_1_2"]


def test_rows_are_counted_as_lines_of_the_file() -> None:
    header = "relative_path,machine_type,section_id,confirmed_normal"
    text = f"{header}\n\naudio/a.wav,fan,0,true\n,,,\naudio/b.wav,fun,0,true\n"
    _, problems = read_metadata(text.encode())

    assert only(problems, "row.machine_type").row == 5


def test_names_typed_on_a_mac_are_the_names_typed_elsewhere() -> None:
    decomposed = unicodedata.normalize("NFD", "audio/송풍기.wav")
    table, _ = read_metadata(csv_of({"relative_path": decomposed}))

    assert table["relative_path"].tolist() == ["audio/송풍기.wav"]


def test_columns_we_do_not_know_are_named_once_and_ignored() -> None:
    table, problems = read_metadata(csv_of({"colour": "red"}, {"colour": "blue"}))

    assert [(p.rule, p.severity, p.column) for p in problems] == [("table.column_unknown", Severity.WARN, "colour")]
    assert "colour" not in table


def test_qa_columns_are_ours_to_fill() -> None:
    table, problems = read_metadata(csv_of({"qa_rms": "0.5"}))

    assert problems == []
    assert table["qa_rms"].isna().all()


def test_gaps_in_what_we_ask_for_warn_once_with_a_count() -> None:
    _, problems = read_metadata(csv_of({"recorded_at": ""}, {"recorded_at": "", "confirmed_by": ""}, {}))

    assert [(p.rule, p.severity, p.row) for p in problems] == [
        ("ask.recorded_at", Severity.WARN, None),
        ("ask.confirmed_by", Severity.WARN, None),
    ]
    assert problems[0].message.startswith("2 of 3 rows")
    assert problems[1].message.startswith("1 of 3 training rows")


def test_an_unlabelled_test_row_stays_unlabelled() -> None:
    table, problems = read_metadata(csv_of({"split": "test"}, {"split": "test", "is_anomaly": "yes"}))

    assert problems == []
    assert table["label"].tolist() == [pd.NA, "anomaly"]
    assert table["is_anomaly"].tolist() == [pd.NA, True]


# --- one fault each -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "rule", "column"),
    [
        ({"relative_path": ""}, "cell.missing", "relative_path"),
        ({"section_id": " "}, "cell.missing", "section_id"),
        ({"machine_type": ""}, "cell.missing", "machine_type"),
        ({"machine_type": "toaster"}, "row.machine_type", "machine_type"),
        ({"confirmed_normal": "maybe"}, "cell.boolean", "confirmed_normal"),
        ({"confirmed_normal": "no"}, "row.train_confirmed", "confirmed_normal"),
        ({"confirmed_normal": ""}, "row.train_confirmed", "confirmed_normal"),
        ({"label": "anomaly"}, "row.normal_only", "label"),
        ({"label": "anomaly", "confirmed_normal": "no"}, "row.normal_only", "label"),
        ({"is_anomaly": "yes"}, "row.normal_only", "label"),
        ({"split": "supplemental", "supp_type": "noise", "label": "anomaly"}, "row.normal_only", "label"),
        ({"label": "normal", "is_anomaly": "1"}, "row.is_anomaly", "is_anomaly"),
        ({"split": "validation"}, "cell.choice", "split"),
        ({"domain": "elsewhere"}, "cell.choice", "domain"),
        ({"split": "test", "label": "strange"}, "cell.choice", "label"),
        ({"sensor": "ear"}, "cell.choice", "sensor"),
        ({"split": "supplemental", "supp_type": "music"}, "cell.choice", "supp_type"),
        ({"split": "supplemental"}, "row.supp_type", "supp_type"),
        ({"supp_type": "noise"}, "row.supp_type", "supp_type"),
        ({"anomaly_type": "rattle"}, "row.anomaly_only", "anomaly_type"),
        ({"anomaly_regions": "[[0, 1]]"}, "row.anomaly_only", "anomaly_regions"),
        ({"split": "test", "label": "anomaly", "anomaly_regions": "[[2, 1]]"}, "row.regions", "anomaly_regions"),
        ({"clip_id": "a/b"}, "row.clip_id", "clip_id"),
        ({"clip_id": "a\\b"}, "row.clip_id", "clip_id"),
        ({"clip_id": ".."}, "row.clip_id", "clip_id"),
        ({"clip_id": "a\nb"}, "cell.control", "clip_id"),
        ({"section_id": "a\0b"}, "cell.control", "section_id"),
        ({"section_id": "x" * 1001}, "cell.length", "section_id"),
        ({"recorded_at": "02/03/2026"}, "cell.time", "recorded_at"),
        ({"recorded_at": "2026-02-30"}, "cell.time", "recorded_at"),
        ({"snr_db": "loud"}, "cell.number", "snr_db"),
        ({"snr_db": "inf"}, "cell.number", "snr_db"),
        ({"snr_db": "1_000"}, "cell.number", "snr_db"),
        ({"snr_db": "１２"}, "cell.number", "snr_db"),
        ({"snr_db": "١٢"}, "cell.number", "snr_db"),
        ({"recorded_at": "9999-12-31"}, "cell.time", "recorded_at"),
        ({"recorded_at": "1899-12-31"}, "cell.time", "recorded_at"),
        ({"confirmed_normal": "정상"}, "cell.boolean", "confirmed_normal"),
        ({"synthetic": "half"}, "cell.boolean", "synthetic"),
    ],
)
def test_each_fault_is_named_alone_at_its_cell(row: dict[str, str], rule: str, column: str) -> None:
    assert faults({}, row) == [(rule, 3, column)]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../etc/passwd",
        "audio/../metadata.csv",
        "audio\\a.wav",
        "C:/audio/a.wav",
        "audio//a.wav",
        "a.wav",
        "audio/",
        "Audio/a.wav",
    ],
)
def test_paths_that_leave_audio_are_refused(path: str) -> None:
    assert faults({"relative_path": path}) == [("row.path", 2, "relative_path")]


def test_the_value_and_the_remedy_stand_in_the_problem() -> None:
    _, problems = read_metadata(csv_of({"machine_type": "toaster"}))

    assert problems[0].value == "toaster"
    assert problems[0].file == "metadata.csv"
    assert "fan, pump, valve" in problems[0].remedy


def test_duplicates_name_every_row_that_shares_the_value() -> None:
    assert faults({"clip_id": "a"}, {}, {"clip_id": "a"}) == [
        ("row.clip_id_twice", 2, "clip_id"),
        ("row.clip_id_twice", 4, "clip_id"),
    ]
    assert faults({"relative_path": "audio/x.wav"}, {"relative_path": "audio/x.wav"}) == [
        ("row.path_twice", 2, "relative_path"),
        ("row.path_twice", 3, "relative_path"),
    ]


def test_all_faults_come_in_one_pass_in_the_order_of_rows() -> None:
    found = faults(
        {"machine_type": "toaster", "confirmed_normal": "maybe"},
        {"relative_path": "../x.wav", "supp_type": "noise"},
        {"snr_db": "loud", "split": "validation"},
    )

    assert found == [
        ("cell.boolean", 2, "confirmed_normal"),
        ("row.machine_type", 2, "machine_type"),
        ("row.path", 3, "relative_path"),
        ("row.supp_type", 3, "supp_type"),
        ("cell.number", 4, "snr_db"),
        ("cell.choice", 4, "split"),
    ]


def test_a_missing_column_is_named_once_and_not_for_every_row() -> None:
    text = "relative_path,section_id\n" + "".join(f"audio/{i}.wav,0\n" for i in range(5))
    _, problems = read_metadata(text.encode())

    assert [(p.rule, p.column) for p in problems if p.severity is Severity.ERROR] == [
        ("table.column_missing", "machine_type"),
        ("table.column_missing", "confirmed_normal"),
    ]


def test_a_table_without_training_rows_needs_no_confirmation() -> None:
    text = "relative_path,machine_type,section_id,split\naudio/a.wav,fan,0,Test\n"
    _, problems = read_metadata(text.encode())

    assert [p.rule for p in problems] == ["ask.recorded_at"]


def test_a_type_added_by_yaml_is_accepted() -> None:
    types = {**load_machine_types(), "mixer": MachineType(id="mixer", en="mixer")}
    table, problems = read_metadata(csv_of({"machine_type": "Mixer"}), machine_types=types)

    assert problems == []
    assert table["machine_type"].tolist() == ["mixer"]


def test_regions_in_order_are_accepted() -> None:
    row = {"split": "test", "label": "anomaly", "anomaly_type": "rattle", "anomaly_regions": "[[0, 0.5], [0.5, 2]]"}

    assert faults(row) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[1, 2]",
        "[[1]]",
        "[[0, 1], [0.5, 2]]",
        "[[-1, 1]]",
        "[[1, 1]]",
        "[[0, NaN]]",
        "[[0, 1e999]]",
        '[["0", "1"]]',
        "[[false, true]]",
        "[" * 100_000,
        "[[0, 1" + "0" * 500 + "]]",
    ],
)
def test_malformed_regions_are_refused(text: str) -> None:
    assert regions_fault(text) is not None


# --- files that are no table --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "table.empty"),
        (b"\n\n", "table.empty"),
        (b"relative_path,machine_type,section_id\n", "table.empty"),
        ("파일,설비\n김,café\n".encode("latin-1", "replace"), "table.encoding"),
        ("relative_path,machine_type\n".encode("utf-16"), "table.encoding"),
        (b"relative_path|machine_type|section_id\na|b|c\n", "table.delimiter"),
        (b"\xd0\xcf\x11\xe0" + bytes(500), "table.unreadable"),
        (b"PK\x03\x04" + bytes(500), "table.unreadable"),
        (b'relative_path,machine_type\n"audio/a.wav,fan\n', "table.unreadable"),
        (b"relative_path\n" + b"x" * 200_000, "table.unreadable"),
        (b",".join(b"c%d" % i for i in range(501)), "table.columns"),
        (b"relative_path\n" + b"x" * 2**20, "table.bytes"),
        (b"relative_path\n" + b"x\n" * 11, "table.rows"),
    ],
)
def test_what_is_no_table_is_refused_with_one_problem(data: bytes, rule: str) -> None:
    limits = ArchiveLimits(max_table_bytes=2**19, max_entries=10)

    with pytest.raises(PackageError) as caught:
        read_form(data, limits=limits)
    assert [problem.rule for problem in caught.value.problems] == [rule]


def test_rows_that_are_too_wide_and_columns_that_come_twice_are_named() -> None:
    text = "relative_path,machine_type,machine_type,section_id,confirmed_normal\naudio/a.wav,fan,pump,0,true,more\n"
    form, problems = read_form(text.encode())

    assert [(p.rule, p.row) for p in problems] == [("table.column_twice", 1), ("table.row_width", 2)]
    assert form["machine_type"].tolist() == ["fan"]


def test_short_rows_end_in_empty_cells() -> None:
    form, problems = read_form(b"relative_path,machine_type,section_id\naudio/a.wav,fan\n")

    assert problems == []
    assert form["section_id"].isna().all()


# --- the strict contract ------------------------------------------------------------------------------------------


def test_a_good_table_passes_the_strict_schema_as_it_is() -> None:
    table, _ = read_metadata(csv_of({}, {"split": "test", "label": "anomaly"}))

    pd.testing.assert_frame_equal(Metadata.validate(table, lazy=True), table)
    assert validate_metadata(table) == []


def test_the_empty_table_keeps_the_contract() -> None:
    assert validate_metadata(empty_metadata()) == []


def test_the_strict_table_survives_parquet(tmp_path: object) -> None:
    table, _ = read_metadata(csv_of({"snr_db": "3.5"}, {"split": "test"}))
    path = f"{tmp_path}/metadata.parquet"
    table.to_parquet(path)

    pd.testing.assert_frame_equal(pd.read_parquet(path), table)


def test_a_table_of_another_shape_is_a_fault_of_the_caller() -> None:
    table, _ = read_metadata(csv_of({}))

    with pytest.raises(AlpError, match="form"):
        validate_metadata(table.drop(columns="domain"))


def test_every_header_spelling_belongs_to_one_column() -> None:
    spellings = [name for column in CustomerForm.columns for name in (column.name, *column.aliases)]

    assert len(CustomerForm.header_index()) == len(spellings)


@settings(max_examples=25)
@given(st.binary(max_size=400))
def test_bytes_are_read_or_refused_with_a_problem_never_else(data: bytes) -> None:
    problems: Sequence[Problem] = ()
    try:
        table, _ = read_metadata(b"relative_path,machine_type,section_id,split,anomaly_regions,snr_db\n" + data)
    except PackageError as error:
        table, problems = empty_metadata(), error.problems

    assert len(table) or problems
    assert list(table.columns) == list(METADATA_COLUMNS)


@settings(max_examples=25)
@given(st.lists(st.lists(st.text(max_size=8), min_size=6, max_size=6), min_size=1, max_size=5))
def test_no_cells_break_the_contract(rows: list[list[str]]) -> None:
    columns = ["relative_path", "split", "label", "is_anomaly", "snr_db", "anomaly_regions"]
    form = pd.DataFrame(rows, columns=columns, dtype="string").replace("", pd.NA)
    form.index = pd.RangeIndex(2, 2 + len(rows), name="row").astype("int64")
    table, _ = standardize_form(form)

    validate_metadata(table)
    assert table["clip_id"].notna().all()
