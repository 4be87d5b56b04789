"""The data contract of metadata.csv: lenient where a plant fills it in, strict where the platform reads it.

Two steps, both total: each returns every problem it finds instead of stopping at the first.

1. `CustomerForm`: what a plant may send. All cells are text; headers may be English or Korean, booleans and
   choices may be written in either language and any case. `read_form` makes a table of it, `standardize_form`
   gives every column its name, type and default; a cell that cannot be understood becomes a problem, and null.
2. `Metadata`: what every later step reads, a strict pandera schema over `METADATA_COLUMNS`, and
   `validate_metadata`, which turns its failure cases into problems.

The index of every table here is named `row` and holds the line of metadata.csv on which the row starts, the
header being line 1. Types: text and choices `string`, yes/no `boolean`, numbers `Float64`, all with `<NA>` for
an empty cell. `recorded_at` stays text, as a plant may know the day, the minute or the time zone, or not.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import pandas as pd
import pandera.pandas as pa

from schemas.errors import AlpError, PackageError
from schemas.machine_types import MachineTypes, fold, load_machine_types, spelling_index
from schemas.paths import AUDIO_FOLDER, has_control, unsafe_clip_path
from schemas.problems import Problem
from schemas.rules import RULES, report
from schemas.settings import ArchiveLimits

FILE = "metadata.csv"

CONDITION_COLUMNS = (
    "speed_level",
    "load_level",
    "mic_position_id",
    "mic_direction",
    "noise_id",
    "operating_mode",
    "installation",
)
"""Operating conditions: free categories, nullable."""

QA_COLUMNS = ("qa_rms", "qa_peak", "qa_clipping_ratio", "qa_silence_ratio")
"""Written by the signal checks; what a plant sends in them is replaced."""

_CHOICES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "split": {
            "train": ("training", "학습", "훈련"),
            "test": ("testing", "시험", "테스트", "평가"),
            "supplemental": ("supplement", "supplementary", "보조", "보충"),
        },
        "domain": {"source": ("소스", "원천"), "target": ("타깃", "타겟", "대상")},
        "label": {
            "normal": ("ok", "good", "정상", "양호"),
            "anomaly": ("abnormal", "anomalous", "ng", "faulty", "이상", "비정상", "고장", "불량"),
        },
        "sensor": {
            "microphone": ("mic", "마이크", "마이크로폰"),
            "accelerometer": ("accel", "accelerometers", "가속도계", "가속도 센서", "진동 센서"),
        },
        "supp_type": {
            "noise": ("noise only", "소음", "배경 소음", "배경소음"),
            "machine": ("clean machine", "기계", "기계음"),
        },
    }
)
"""Allowed values of each choice column, each with the further spellings that the form understands."""

_TRUE = frozenset({"true", "yes", "y", "1", "t", "o", "예", "네", "참", "확인"})
_FALSE = frozenset({"false", "no", "n", "0", "f", "x", "아니오", "아니요", "거짓", "미확인"})

Parser = Callable[[str], str | float | bool | None]
"""From a cell's text to its value; None where it has none."""


@dataclass(frozen=True)
class FormColumn:
    """One column of the form."""

    name: str
    aliases: tuple[str, ...] = ()
    dtype: str = "string"
    required: bool = False
    default: str | bool | None = None


class CustomerForm:
    """What a plant may send: the columns, how their headers may be spelt, and the defaults of empty cells."""

    columns: tuple[FormColumn, ...] = (
        FormColumn("relative_path", ("path", "file", "filename", "파일", "파일명", "파일 경로", "경로"), required=True),
        FormColumn("machine_type", ("machine", "기계", "기계 종류", "소리 유형", "설비 종류"), required=True),
        FormColumn(
            "section_id", ("asset_id", "asset", "section", "설비", "설비 id", "설비 번호", "개체 id"), required=True
        ),
        FormColumn("confirmed_normal", ("정상 확인", "정상 확인 여부"), dtype="boolean"),
        FormColumn("confirmed_by", ("확인자", "정상 확인자")),
        FormColumn("recorded_at", ("recording_time", "녹음 시각", "녹음 일시", "녹음 시간")),
        FormColumn("clip_id", ("clip", "클립", "클립 id")),
        FormColumn("split", ("구분", "데이터 구분"), default="train"),
        FormColumn("domain", ("도메인",), default="target"),
        FormColumn("label", ("라벨", "레이블", "상태")),
        FormColumn("is_anomaly", ("이상 여부",), dtype="boolean"),
        FormColumn("sensor", ("센서",), default="microphone"),
        FormColumn("speed_level", ("speed", "속도", "회전 속도")),
        FormColumn("load_level", ("load", "부하")),
        FormColumn("mic_position_id", ("mic_position", "마이크 위치")),
        FormColumn("mic_direction", ("마이크 방향",)),
        FormColumn("noise_id", ("소음 종류",)),
        FormColumn("operating_mode", ("mode", "운전 모드")),
        FormColumn("installation", ("설치 조건", "설치 상태")),
        FormColumn("snr_db", ("snr", "신호대잡음비"), dtype="Float64"),
        FormColumn("supp_type", ("보조 종류", "보조 데이터 종류")),
        FormColumn("anomaly_type", ("이상 종류", "이상 유형")),
        FormColumn("anomaly_regions", ("이상 구간",)),
        FormColumn("synthetic", ("합성", "합성 여부"), dtype="boolean", default=False),
        *(FormColumn(name, dtype="Float64") for name in QA_COLUMNS),
    )

    @classmethod
    def header_index(cls) -> dict[str, str]:
        """From every header, folded, to the column's name."""
        return {fold(spelling): c.name for c in cls.columns for spelling in (c.name, *c.aliases)}


METADATA_COLUMNS = tuple(column.name for column in CustomerForm.columns)
"""Columns of the strict table, in order."""

_DTYPES = {column.name: column.dtype for column in CustomerForm.columns}


class _Lines(Protocol):
    """A csv.reader: an iterator that knows how many lines it has read."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...
    def __next__(self) -> list[str]: ...


# --- reading the file -------------------------------------------------------------------------------------------


def read_form(data: bytes, *, limits: ArchiveLimits | None = None) -> tuple[pd.DataFrame, list[Problem]]:
    """The table of a metadata.csv, and what is wrong with its header and rows.

    data: the file, UTF-8 with or without a byte order mark.

    Returns a frame of text (`string`; empty cells null) with the columns of the form that the file has, under
    their own names, and the problems. Raises PackageError where no table can be made of the file at all.
    """
    limits = limits or ArchiveLimits()
    reader = csv.reader(io.StringIO(_text(data, limits), newline=""), strict=True)
    problems: list[Problem] = []
    try:
        header = _header(reader, limits)
        places = _places(header, problems)
        rows = _rows(reader, header, places, limits, problems)
    except csv.Error as error:
        raise _no_table(report("table.unreadable", file=FILE, row=reader.line_num, why=error)) from error
    if not rows:
        raise _no_table(report("table.empty", file=FILE))
    index = pd.Index(list(rows), name="row", dtype="int64")
    frame = pd.DataFrame(list(rows.values()), index=index, columns=list(places), dtype="string")
    return frame, problems


def _text(data: bytes, limits: ArchiveLimits) -> str:
    if len(data) > limits.max_table_bytes:
        raise _no_table(report("table.bytes", file=FILE, limits=limits))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_table(report("table.encoding", file=FILE, row=data.count(b"\n", 0, error.start) + 1)) from error


def _header(reader: _Lines, limits: ArchiveLimits) -> list[str]:
    header = next((cells for cells in reader if any(cell.strip() for cell in cells)), None)
    if header is None:
        raise _no_table(report("table.empty", file=FILE))
    if len(header) > limits.max_table_columns:
        raise _no_table(report("table.columns", file=FILE, row=1, limits=limits, count=len(header)))
    for delimiter, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and header[0].count(delimiter) >= 2:
            raise _no_table(report("table.delimiter", file=FILE, row=1, delimiter=name))
    return [cell.strip() for cell in header]


def _places(header: list[str], problems: list[Problem]) -> dict[str, int]:
    """Where each column of the form stands in the header."""
    known = CustomerForm.header_index()
    places: dict[str, int] = {}
    for place, title in enumerate(header):
        name = known.get(fold(unicodedata.normalize("NFC", title)))
        if name is None:
            if title:
                problems.append(report("table.column_unknown", file=FILE, row=1, column=_cut(title)))
        elif name in places:
            problems.append(report("table.column_twice", file=FILE, row=1, column=name, value=title))
        else:
            places[name] = place
    return places


def _rows(
    reader: _Lines,
    header: list[str],
    places: Mapping[str, int],
    limits: ArchiveLimits,
    problems: list[Problem],
) -> dict[int, list[str | None]]:
    """The cells of the form's columns by line; lines without any text are skipped, missing last cells are empty."""
    rows: dict[int, list[str | None]] = {}
    line = reader.line_num + 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            if len(rows) == limits.max_entries:
                raise _no_table(report("table.rows", file=FILE, row=line, limits=limits))
            if any(cell.strip() for cell in cells[len(header) :]):
                width = report("table.row_width", file=FILE, row=line, count=len(cells), expected=len(header))
                problems.append(width)
            rows[line] = [_cell(cells[place]) if place < len(cells) else None for place in places.values()]
        line = reader.line_num + 1
    return rows


def _cell(text: str) -> str | None:
    return unicodedata.normalize("NFC", text.strip()) or None


def _no_table(problem: Problem) -> PackageError:
    return PackageError(str(problem), [problem])


def _cut(text: str) -> str:
    return text[:80]


# --- from the form to the contract -----------------------------------------------------------------------------


def standardize_form(
    form: pd.DataFrame, *, machine_types: MachineTypes | None = None, limits: ArchiveLimits | None = None
) -> tuple[pd.DataFrame, list[Problem]]:
    """The table with the contract's columns, types, spellings and defaults, and what could not be understood.

    form: text columns of the form, as `read_form` gives them.

    A choice or machine type that is not known stays as it was written, for `validate_metadata` to name; a cell
    that is no boolean or number at all is named here and becomes null. Raises nothing.
    """
    machine_types = machine_types or load_machine_types()
    limits = limits or ArchiveLimits()
    problems = _text_problems(form, limits)
    problems += _missing_columns(form)
    table = pd.DataFrame(index=form.index)
    for column in CustomerForm.columns:
        sent = form[column.name] if column.name in form and column.name not in QA_COLUMNS else None
        table[column.name] = _typed(column, sent, form.index, machine_types, problems)
    _derive_label(table)
    _derive_clip_id(table)
    return table, problems


def _text_problems(form: pd.DataFrame, limits: ArchiveLimits) -> list[Problem]:
    problems = []
    for name in form.columns:
        cells = form[name].dropna()
        for row, text in cells[cells.map(has_control).astype(bool)].items():
            problems.append(_at("cell.control", row, name, text))
        for row, text in cells[cells.str.len() > limits.max_cell_chars].items():
            problems.append(_at("cell.length", row, name, text, limits=limits))
    return problems


def _missing_columns(form: pd.DataFrame) -> list[Problem]:
    missing = [c.name for c in CustomerForm.columns if c.required and c.name not in form]
    if "confirmed_normal" not in form and _has_training(form):
        missing.append("confirmed_normal")
    return [report("table.column_missing", file=FILE, row=1, column=name) for name in missing]


def _has_training(form: pd.DataFrame) -> bool:
    if "split" not in form or form["split"].hasnans:
        return True
    return bool((form["split"].map(_choice_spelling("split")) == "train").any())


def _typed(
    column: FormColumn,
    sent: pd.Series | None,
    index: pd.Index,
    machine_types: MachineTypes,
    problems: list[Problem],
) -> pd.Series:
    """One column of the strict table from its text cells."""
    parse, rule = _parser(column, machine_types)
    filled = {} if sent is None else sent.dropna().to_dict()
    values = {row: parse(text) for row, text in filled.items()}
    problems += [_at(rule, row, column.name, filled[row]) for row, value in values.items() if value is None]
    return pd.Series([values.get(row, column.default) for row in index], index=index, dtype=column.dtype)


def _parser(column: FormColumn, machine_types: MachineTypes) -> tuple[Parser, str]:
    """How the cells of a column are read, and the rule that an unreadable one breaks."""
    if column.dtype == "boolean":
        return _boolean, "cell.boolean"
    if column.dtype == "Float64":
        return _number, "cell.number"
    if column.name == "machine_type":
        spellings = spelling_index(machine_types)
        return lambda text: spellings.get(fold(text), text), "row.machine_type"
    if column.name in _CHOICES:
        return _choice_spelling(column.name), "cell.choice"
    return str, "cell.control"


def _boolean(text: str) -> bool | None:
    folded = fold(text)
    return True if folded in _TRUE else False if folded in _FALSE else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _choice_spelling(column: str) -> Callable[[str], str]:
    spellings = {fold(s): value for value, more in _CHOICES[column].items() for s in (value, *more)}
    return lambda text: spellings.get(fold(text), text)


def _derive_label(table: pd.DataFrame) -> None:
    """Fill label and is_anomaly from each other; training and supplemental rows are normal unless they say else."""
    label, told = table["label"], table["is_anomaly"]
    label = label.mask(label.isna() & told.eq(True).fillna(False), "anomaly")
    label = label.mask(label.isna() & told.eq(False).fillna(False), "normal")
    label = label.mask(label.isna() & table["split"].isin(["train", "supplemental"]), "normal")
    table["label"] = label
    derived = label.eq("anomaly").where(label.isin(list(_CHOICES["label"])))
    table["is_anomaly"] = told.fillna(derived).astype("boolean")


def _derive_clip_id(table: pd.DataFrame) -> None:
    """Name rows without a clip_id after their file: the path below audio/ without its ending, made unique."""
    taken = set(table["clip_id"].dropna())
    ids = table["clip_id"].to_dict()
    numbers: dict[str, int] = {}
    unnamed = table.loc[table["clip_id"].isna(), "relative_path"].fillna("")
    for row, path in unnamed.to_dict().items():
        name = _name_after(path) or f"row {row}"
        unique = name
        while unique in taken:
            # Counting on from the last number keeps 50,000 equal names from taking forever.
            numbers[name] = numbers.get(name, 1) + 1
            unique = f"{name}_{numbers[name]}"
        taken.add(unique)
        ids[row] = unique
    table["clip_id"] = pd.Series(ids, index=table.index, dtype="string")


def _name_after(path: str) -> str:
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", path.removeprefix(AUDIO_FOLDER))
    return re.sub(r"[/\\\x00-\x1f\x7f]+", "_", stem).strip("._ ")


# --- the strict contract ----------------------------------------------------------------------------------------


class _RowCheck(NamedTuple):
    """A rule over several columns of a row, and the column on which its breach is shown."""

    rule: str
    column: str
    holds: Callable[[pd.DataFrame], pd.Series]
    """One boolean a row."""

    @property
    def name(self) -> str:
        return f"{self.rule}@{self.column}"


def _training_is_confirmed(table: pd.DataFrame) -> pd.Series:
    # An anomaly among the training rows is named as that, not as an unconfirmed normal.
    asked = table["split"].eq("train") & table["label"].ne("anomaly")
    return ~_sure(asked) | _sure(table["confirmed_normal"])


def _only_tests_hold_anomalies(table: pd.DataFrame) -> pd.Series:
    return ~_sure(table["split"].isin(["train", "supplemental"]) & table["label"].eq("anomaly"))


def _supp_type_is_placed(table: pd.DataFrame) -> pd.Series:
    known = table["split"].isin(list(_CHOICES["split"]))
    return ~_sure(known) | (table["supp_type"].notna() == _sure(table["split"].eq("supplemental")))


def _describes_an_anomaly(column: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda table: table[column].isna() | _sure(table["label"].eq("anomaly"))


def _is_anomaly_agrees(table: pd.DataFrame) -> pd.Series:
    comparable = table["is_anomaly"].notna() & table["label"].isin(list(_CHOICES["label"]))
    return ~_sure(comparable) | _sure(table["is_anomaly"].eq(table["label"].eq("anomaly")))


def _sure(mask: pd.Series) -> pd.Series:
    """A mask without nulls: unknown is not true."""
    return mask.fillna(False).astype(bool)


_ROW_CHECKS = (
    _RowCheck("row.train_confirmed", "confirmed_normal", _training_is_confirmed),
    _RowCheck("row.normal_only", "label", _only_tests_hold_anomalies),
    _RowCheck("row.supp_type", "supp_type", _supp_type_is_placed),
    _RowCheck("row.anomaly_only", "anomaly_type", _describes_an_anomaly("anomaly_type")),
    _RowCheck("row.anomaly_only", "anomaly_regions", _describes_an_anomaly("anomaly_regions")),
    _RowCheck("row.is_anomaly", "is_anomaly", _is_anomaly_agrees),
)


def metadata_schema(machine_types: MachineTypes | None = None) -> pa.DataFrameSchema:
    """The strict contract for the given machine types (default: the built-in ones).

    Every check bears the id of its rule, so that a failure case finds its words in the rule table.
    """
    kinds = list(machine_types or load_machine_types())
    checks: dict[str, list[pa.Check]] = {
        "relative_path": [
            _cell_check("row.path", lambda cells: cells.map(lambda path: unsafe_clip_path(path) is None)),
            _cell_check("row.path_twice", lambda cells: ~cells.duplicated(keep=False)),
        ],
        "machine_type": [_cell_check("row.machine_type", lambda cells: cells.isin(kinds))],
        "clip_id": [
            _cell_check("row.clip_id", lambda cells: ~cells.str.contains(r"[/\\]|^\.+$", regex=True)),
            _cell_check("row.clip_id_twice", lambda cells: ~cells.duplicated(keep=False)),
        ],
        "recorded_at": [_cell_check("cell.time", lambda cells: cells.map(_is_iso_8601))],
        "anomaly_regions": [
            _cell_check("row.regions", lambda cells: cells.map(lambda text: regions_fault(text) is None))
        ],
        **{name: [_choice_check(list(values))] for name, values in _CHOICES.items()},
        **{name: [pa.Check.ge(0)] for name in QA_COLUMNS},
    }
    required = {column.name for column in CustomerForm.columns if column.required}
    never_null = required | {"clip_id", "split", "domain", "sensor", "synthetic"}
    return pa.DataFrameSchema(
        {
            name: pa.Column(_DTYPES[name], checks.get(name, []), nullable=name not in never_null)
            for name in METADATA_COLUMNS
        },
        # By default pandera passes every row that has a null anywhere.
        checks=[pa.Check(check.holds, name=check.name, ignore_na=False) for check in _ROW_CHECKS],
        index=pa.Index("int64", name="row", unique=True),
        strict=True,
        ordered=True,
        name="Metadata",
    )


def _cell_check(rule: str, holds: Callable[[pd.Series], pd.Series]) -> pa.Check:
    """A check on the cells of one column that are filled; `holds` gives one boolean for each."""

    def check(cells: pd.Series) -> pd.Series:
        filled = cells.dropna()
        return holds(filled).astype(bool).reindex(cells.index, fill_value=True)

    return pa.Check(check, name=rule)


def _choice_check(values: list[str]) -> pa.Check:
    return _cell_check("cell.choice", lambda cells: cells.isin(values))


Metadata = metadata_schema()
"""The strict contract with the built-in machine types."""


def validate_metadata(table: pd.DataFrame, *, machine_types: MachineTypes | None = None) -> list[Problem]:
    """Every breach of the strict contract, in the order of rows and columns; empty where the table keeps it.

    table: typed as `standardize_form` types it. Raises AlpError where the columns themselves are not the
    contract's, which is a fault of the caller.
    """
    schema = metadata_schema(machine_types) if machine_types else Metadata
    try:
        schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        return _problems_of(errors.failure_cases, table, machine_types or load_machine_types())
    return []


_PANDERA_RULES = {"not_nullable": "cell.missing"}
"""Checks that pandera names itself."""


def _problems_of(cases: pd.DataFrame, table: pd.DataFrame, machine_types: MachineTypes) -> list[Problem]:
    """One problem for each failed rule at a cell. A failed row check is listed by pandera under every column."""
    shown = {check.name: check for check in _ROW_CHECKS}
    failed = cases["index"].dropna().unique()
    rows = table.loc[table.index.isin(failed)].to_dict(orient="index")
    problems: dict[tuple[int, int, str], Problem] = {}
    for case in cases.to_dict(orient="records"):
        check = shown.get(str(case["check"]))
        column = str(case["column"])
        if check and check.column != column:
            continue
        rule = check.rule if check else _PANDERA_RULES.get(str(case["check"]), str(case["check"]))
        if rule not in RULES or case["index"] is None:
            raise AlpError(f"the table does not have the contract's form: {case['check']} fails on {column!r}")
        row = int(case["index"])
        cells = rows[row]
        place = (row, METADATA_COLUMNS.index(column), rule)
        facts = _facts(rule, cells, column, machine_types)
        problems[place] = _at(rule, row, column, cells[column], **facts)
    return [problems[place] for place in sorted(problems)]


def _facts(rule: str, cells: Mapping[Any, Any], column: str, machine_types: MachineTypes) -> dict[str, Any]:
    """What the words of a rule need to know about the row."""
    match rule:
        case "row.path":
            return {"why": unsafe_clip_path(str(cells[column]))}
        case "row.regions":
            return {"why": regions_fault(str(cells[column]))}
        case "row.machine_type":
            return {"choices": ", ".join(machine_types)}
        case "cell.choice":
            return {"choices": ", ".join(_CHOICES[column])}
        case "row.normal_only" | "row.supp_type":
            return {"split": cells["split"]}
    return {}


def _at(rule: str, row: Any, column: str, value: Any, **facts: Any) -> Problem:
    shown = None if pd.isna(value) else value
    return report(rule, file=FILE, row=int(row), column=column, value=shown, **facts)


def _is_iso_8601(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def regions_fault(text: str) -> str | None:
    """Why `text` is not `[[start_s, end_s], …]` with 0 ≤ start < end, in order and apart; None where it is."""
    try:
        regions = json.loads(text)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(regions, list) or not regions:
        return "not a list of pairs"
    last = 0.0
    for region in regions:
        if not isinstance(region, list) or len(region) != 2 or not all(map(_is_second, region)):
            return "not pairs of numbers"
        start, end = region
        if start < last or end <= start:
            return f"{start:g} to {end:g} is out of order"
        last = end
    return None


def _is_second(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def empty_metadata() -> pd.DataFrame:
    """The strict table without rows."""
    empty = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in _DTYPES.items()})
    return empty.set_index(pd.Index([], dtype="int64", name="row"))


# --- both steps at once -----------------------------------------------------------------------------------------


def read_metadata(
    data: bytes, *, machine_types: MachineTypes | None = None, limits: ArchiveLimits | None = None
) -> tuple[pd.DataFrame, list[Problem]]:
    """From the bytes of a metadata.csv to the table of the contract and every problem in it, each named once.

    Where no problem is an error, the table keeps the strict contract. Raises PackageError where no table can be
    made of the file at all.
    """
    form, problems = read_form(data, limits=limits)
    table, unclear = standardize_form(form, machine_types=machine_types, limits=limits)
    problems += unclear
    # A cell already named, or a column that is not there, has its own words; what follows from it needs none.
    cells = {(problem.row, problem.column) for problem in unclear}
    columns = {problem.column for problem in unclear if problem.rule == "table.column_missing"}
    problems += [
        problem
        for problem in validate_metadata(table, machine_types=machine_types)
        if (problem.row, problem.column) not in cells and problem.column not in columns
    ]
    problems.sort(key=lambda problem: problem.row or 0)
    return table, problems + _questions(table)


def _questions(table: pd.DataFrame) -> list[Problem]:
    """What is asked for once a package, with a count."""
    training = table[_sure(table["split"].eq("train"))]
    asked = (("ask.recorded_at", "recorded_at", table), ("ask.confirmed_by", "confirmed_by", training))
    return [
        report(rule, file=FILE, column=column, count=int(rows[column].isna().sum()), total=len(rows))
        for rule, column, rows in asked
        if rows[column].isna().any()
    ]
