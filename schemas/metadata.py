"""The data contract of metadata.csv: lenient where a plant fills it in, strict where the platform reads it.

Two steps, both total: each returns every problem it finds instead of stopping at the first.

1. `CustomerForm`: what a plant may send, as CSV or XLSX. All cells are text; headers may be English or Korean,
   booleans and choices may be written in either language and any case. `read_form` makes a table of it,
   `standardize_form` gives every column its name, type and default; a cell that cannot be understood becomes a
   problem, and null.
2. `Metadata`: what every later step reads, a strict pandera schema over `METADATA_COLUMNS`, and
   `validate_metadata`, which turns its failure cases into problems.

The index of every table here is named `row` and holds the line of metadata.csv on which the row starts, or the
row of the spreadsheet, the header being line 1. Types: text and choices `string`, yes/no `boolean`, numbers
`Float64`, all with `<NA>` for an empty cell. `recorded_at` stays text, as a plant may know the day, the minute or
the time zone, or not.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd
import pandera.pandas as pa

from schemas.condition_words import fold_condition
from schemas.errors import AlpError
from schemas.machine_types import MachineTypes, fold, load_machine_types, spelling_index
from schemas.paths import AUDIO_FOLDER, has_control, unsafe_clip_path
from schemas.problems import MAX_LISTED, Problem, shorten, stand_for
from schemas.reasons import reason
from schemas.rules import printable, report
from schemas.settings import ArchiveLimits
from schemas.tables import TABLE_NAMES, Table, header_key, read_table, refusal

FILE = TABLE_NAMES[0]

CONDITION_COLUMNS = (
    "speed_level",
    "load_level",
    "mic_position_id",
    "mic_direction",
    "noise_id",
    "operating_mode",
    "installation",
)
"""Operating conditions: free categories, nullable; `schemas.condition_words` makes one value of what it knows."""

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

_TRUE = frozenset({"true", "yes", "y", "1", "t", "예", "네", "참", "확인", *"oｏㅇ○◯〇⭕v✓✔☑"})
_FALSE = frozenset({"false", "no", "n", "0", "f", "아니오", "아니요", "거짓", "미확인", *"xｘ✕✗✘×╳❌"})
"""Circles, ticks and crosses are what people write by hand into such a column; Korean forms know no others."""

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
        FormColumn(
            "relative_path",
            ("path", "file", "filename", "파일", "파일명", "파일 이름", "파일 경로", "경로", "녹음 파일"),
            required=True,
        ),
        FormColumn(
            "machine_type", ("machine", "기계", "기계 종류", "소리 유형", "설비 종류", "설비 유형"), required=True
        ),
        FormColumn(
            "section_id",
            ("asset_id", "asset", "section", "machine_id", "설비", "설비 id", "설비 번호", "설비명", "호기", "개체 id"),
            required=True,
        ),
        FormColumn(
            "confirmed_normal", ("normal_confirmed", "정상 확인", "정상 확인 여부", "정상 여부"), dtype="boolean"
        ),
        FormColumn("confirmed_by", ("확인자", "정상 확인자", "담당자")),
        FormColumn("recorded_at", ("recording_time", "녹음 시각", "녹음 일시", "녹음 시간", "녹음일", "녹음 날짜")),
        FormColumn("clip_id", ("clip", "클립", "클립 id")),
        FormColumn("split", ("use", "구분", "데이터 구분", "용도"), default="train"),
        FormColumn("domain", ("도메인",), default="target"),
        FormColumn("label", ("라벨", "레이블", "상태")),
        FormColumn("is_anomaly", ("이상 여부",), dtype="boolean"),
        FormColumn("sensor", ("센서",), default="microphone"),
        FormColumn("speed_level", ("speed", "속도", "회전 속도", "속도 단계")),
        FormColumn("load_level", ("load", "부하", "부하 단계")),
        FormColumn("mic_position_id", ("mic_position", "마이크 위치")),
        FormColumn("mic_direction", ("마이크 방향",)),
        FormColumn("noise_id", ("소음 종류",)),
        FormColumn("operating_mode", ("mode", "운전 모드", "운전 상태")),
        FormColumn("installation", ("설치 조건", "설치 상태", "설치 방법")),
        FormColumn("snr_db", ("snr", "신호대잡음비"), dtype="Float64"),
        FormColumn("supp_type", ("supplemental_kind", "보조 종류", "보조 데이터 종류")),
        FormColumn("anomaly_type", ("이상 종류", "이상 유형")),
        FormColumn("anomaly_regions", ("이상 구간",)),
        FormColumn("synthetic", ("합성", "합성 여부"), dtype="boolean", default=False),
        *(FormColumn(name, dtype="Float64") for name in QA_COLUMNS),
    )

    @classmethod
    def header_index(cls) -> dict[str, str]:
        """From every header, as `schemas.tables.header_key` compares them, to the column's name."""
        return {header_key(spelling): c.name for c in cls.columns for spelling in (c.name, *c.aliases)}

    @staticmethod
    def choices(column: str) -> tuple[str, ...]:
        """What a choice column may hold; nothing for a column that is free."""
        return tuple(_CHOICES.get(column, ()))


METADATA_COLUMNS = tuple(column.name for column in CustomerForm.columns)
"""Columns of the strict table, in order."""

_PIECE_ROWS = 5000

_DTYPES = {column.name: column.dtype for column in CustomerForm.columns}

_NEVER_NULL = {column.name for column in CustomerForm.columns if column.required} | {
    "clip_id",
    "split",
    "domain",
    "sensor",
    "synthetic",
}


# --- reading the file -------------------------------------------------------------------------------------------


def read_form(
    data: bytes, *, name: str = FILE, limits: ArchiveLimits | None = None
) -> tuple[pd.DataFrame, list[Problem]]:
    """The table of a metadata.csv or metadata.xlsx, and what is wrong with its header and rows.

    data: the file, as `schemas.tables` reads it. name: what the problems call it.

    Returns a frame of text (`string`; empty cells null) with the columns of the form that the file has, under
    their own names, and the problems. Raises PackageError where no table can be made of the file at all.
    """
    limits = limits or ArchiveLimits()
    known = CustomerForm.header_index()
    table = read_table(data, name=name, limits=limits, is_known=lambda title: header_key(title) in known)
    problems = list(table.problems)
    places = _places(table, name, problems)
    frame = _frame(_rows(table, places, name, limits, problems), list(places))
    if frame is None:
        raise refusal("table.empty", name)
    frame.attrs["headers"] = {column: table.header[place].rstrip("* ") for column, place in places.items()}
    return frame, problems


def _places(table: Table, name: str, problems: list[Problem]) -> dict[str, int]:
    """Where each column of the form stands in the header."""
    known = CustomerForm.header_index()
    places: dict[str, int] = {}
    for place, title in enumerate(table.header):
        column, row = known.get(header_key(title)), table.header_row
        if column is None:
            if title:
                problems.append(report("table.column_unknown", file=name, row=row, column=_cut(title)))
        elif column in places:
            problems.append(report("table.column_twice", file=name, row=row, column=column, value=title))
        else:
            places[column] = place
    return places


def _frame(rows: Iterator[tuple[int, list[str | None]]], columns: list[str]) -> pd.DataFrame | None:
    """Rows as a frame of text, piece by piece: as objects, all cells at once take twice the room. None of no rows."""
    pieces = []
    while piece := list(islice(rows, _PIECE_ROWS)):
        index = pd.Index([number for number, _ in piece], name="row", dtype="int64")
        pieces.append(pd.DataFrame([cells for _, cells in piece], index=index, columns=columns, dtype="string"))
    return pd.concat(pieces) if pieces else None


def _rows(
    table: Table, places: Mapping[str, int], name: str, limits: ArchiveLimits, problems: list[Problem]
) -> Iterator[tuple[int, list[str | None]]]:
    """Each row's number and its cells of the form's columns; missing last cells are empty."""
    width = len(table.header)
    for done, row in enumerate(table.rows):
        if done == limits.max_entries:
            raise refusal("table.rows", name, row=row.number, limits=limits)
        if any(cell.strip() for cell in row.cells[width:]):
            count = len(row.cells)
            problems.append(report("table.row_width", file=name, row=row.number, count=count, expected=width))
        for column, place in places.items():
            if place in row.faults:
                fault = row.faults[place] or None
                problems.append(report("cell.formula", file=name, row=row.number, column=column, value=fault))
        cells = row.cells
        values = {column: _cell(cells[place]) if place < len(cells) else None for column, place in places.items()}
        values |= _dated(values.get("recorded_at"), table)
        yield row.number, list(values.values())


def _dated(time: str | None, table: Table) -> dict[str, str]:
    """The time of a row of a workbook whose cell is a bare day's number: pasting as values loses a cell's format.

    Of a CSV nobody knows from which day the number counts, nor that it counts days.
    """
    if time is None or table.show_serial is None or not _is_serial(time):
        return {}
    return {"recorded_at": table.show_serial(time)}


def _is_serial(text: str) -> bool:
    """Whether a text may be the number by which a spreadsheet counts a day of our time: 1982 to 2064, from 1900."""
    return re.fullmatch(r"[0-9]{5}(\.[0-9]+)?", text) is not None and 30_000 <= float(text) <= 60_000


def _cell(text: str) -> str | None:
    return unicodedata.normalize("NFC", text.strip()) or None


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
        problems += _listed("cell.control", name, cells[_each(cells, has_control)])
        problems += _listed("cell.length", name, cells[cells.str.len() > limits.max_cell_chars], limits=limits)
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
    if sent is not None and column.name == "anomaly_regions":
        return _regions(sent, problems)
    if sent is not None and parse is str:
        # Text stays as it is; as objects, 50,000 long cells would take a tenth of a gigabyte more.
        return sent.copy()
    filled = {} if sent is None else sent.dropna().to_dict()
    values = {row: parse(text) for row, text in filled.items()}
    unread = pd.Series({row: filled[row] for row, value in values.items() if value is None}, dtype="string")
    problems += _listed(rule, column.name, unread)
    return pd.Series([values.get(row, column.default) for row in index], index=index, dtype=column.dtype)


def _regions(sent: pd.Series, problems: list[Problem]) -> pd.Series:
    """The column without the cells that hold no stretches of a recording."""
    cells = sent.dropna()
    rows = cells.index[_each(cells, lambda text: regions_fault(text) is not None)]
    unread = cells.loc[rows[:MAX_LISTED]].reindex(rows)
    problems += _listed("row.regions", "anomaly_regions", unread, lambda row: {"why": regions_fault(unread[row])})
    return sent.mask(sent.index.isin(rows))


def _each(cells: pd.Series, holds: Callable[[str], bool]) -> pd.Series:
    """One boolean a cell; `Series.map` would make objects of all cells at once."""
    return pd.Series([holds(text) for text in cells], index=cells.index, dtype=bool)


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
    if column.name == "recorded_at":
        return _time_spelling, "cell.time"
    if column.name in CONDITION_COLUMNS:
        return partial(fold_condition, column.name), "cell.control"
    return str, "cell.control"


def _boolean(text: str) -> bool | None:
    folded = fold(text)
    return True if folded in _TRUE else False if folded in _FALSE else None


_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
"""Python itself also reads `1_000` and the digits of every script."""


def _number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


_TIME = re.compile(
    r"""(?P<year>[0-9]{4})\s*[-./년]\s*(?P<month>[0-9]{1,2})\s*[-./월]\s*(?P<day>[0-9]{1,2})\s*[.일]?
    (?:[\sT]\s*(?P<half>오전|오후|AM|PM)?\s*(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?
    \s*(?P<half_after>AM|PM)?)?""",
    re.VERBOSE | re.IGNORECASE,
)
"""Dates that begin with the year, as spreadsheets write them: `2026. 3. 2.`, `2026-03-02 오후 9:30`."""


def _time_spelling(text: str) -> str:
    """A date as ISO 8601 where it begins with the year; else as it was written, for `validate_metadata` to judge."""
    if _is_iso_8601(text) or not (found := _TIME.fullmatch(text)):
        return text
    day = f"{found['year']}-{int(found['month']):02d}-{int(found['day']):02d}"
    if found["hour"] is None:
        return day
    hour, half = int(found["hour"]), (found["half"] or found["half_after"] or "").upper()
    if half:
        if not 1 <= hour <= 12:
            return text
        hour = hour % 12 + (12 if half in ("오후", "PM") else 0)
    seconds = f":{found['second']}" if found["second"] else ""
    return f"{day}T{hour:02d}:{found['minute']}{seconds}"


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

    def breaches(self, table: pd.DataFrame) -> pd.Series:
        """The cells that break it, by row."""
        return table.loc[~self.holds(table), self.column]


class _CellCheck(NamedTuple):
    """A rule over the filled cells of one column."""

    rule: str
    column: str
    holds: Callable[[pd.Series], pd.Series]
    """One boolean a cell."""

    def breaches(self, table: pd.DataFrame) -> pd.Series:
        """The cells that break it, by row."""
        filled = table[self.column].dropna()
        return filled[~self.holds(filled).astype(bool)]


class _NullCheck(NamedTuple):
    """A column that must be filled in every row."""

    column: str
    rule: str = "cell.missing"

    def breaches(self, table: pd.DataFrame) -> pd.Series:
        """The empty cells, by row."""
        return table.loc[table[self.column].isna(), self.column]


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
    checks: dict[str, list[pa.Check]] = {name: [pa.Check.ge(0)] for name in QA_COLUMNS}
    for check in _cell_checks(machine_types or load_machine_types()):
        checks.setdefault(check.column, []).append(_column_check(check))
    return pa.DataFrameSchema(
        {
            name: pa.Column(_DTYPES[name], checks.get(name, []), nullable=name not in _NEVER_NULL)
            for name in METADATA_COLUMNS
        },
        checks=[_frame_check(check) for check in _ROW_CHECKS],
        index=pa.Index("int64", name="row", unique=True),
        strict=True,
        ordered=True,
        name="Metadata",
    )


def _cell_checks(machine_types: MachineTypes) -> list[_CellCheck]:
    kinds = list(machine_types)
    return [
        _CellCheck("row.path", "relative_path", lambda cells: cells.map(lambda path: unsafe_clip_path(path) is None)),
        _CellCheck("row.path_twice", "relative_path", lambda cells: ~cells.duplicated(keep=False)),
        _CellCheck("row.machine_type", "machine_type", lambda cells: cells.isin(kinds)),
        _CellCheck("row.clip_id", "clip_id", lambda cells: ~cells.str.contains(r"[/\\]|^\.+$", regex=True)),
        _CellCheck("row.clip_id_twice", "clip_id", lambda cells: ~cells.duplicated(keep=False)),
        _CellCheck("cell.serial", "recorded_at", lambda cells: ~cells.map(_is_serial).astype(bool)),
        _CellCheck(
            "cell.time", "recorded_at", lambda cells: cells.map(lambda text: _is_iso_8601(text) or _is_serial(text))
        ),
        _CellCheck("row.regions", "anomaly_regions", lambda cells: cells.map(lambda text: regions_fault(text) is None)),
        *(_CellCheck("cell.choice", name, _is_one_of(values)) for name, values in _CHOICES.items()),
    ]


def _is_one_of(values: Iterable[str]) -> Callable[[pd.Series], pd.Series]:
    return lambda cells: cells.isin(list(values))


def _column_check(check: _CellCheck) -> pa.Check:
    def holds(cells: pd.Series) -> pd.Series:
        return check.holds(cells.dropna()).astype(bool).reindex(cells.index, fill_value=True)

    # pandera tells that a check fails; where, the check itself tells, without a frame of 50,000 cases.
    return pa.Check(holds, name=check.rule, n_failure_cases=1)


def _frame_check(check: _RowCheck) -> pa.Check:
    # One answer for the frame: row by row, pandera would list a failed row under each of its columns.
    return pa.Check(lambda table: bool(check.holds(table).all()), name=check.name, ignore_na=False)


Metadata = metadata_schema()
"""The strict contract with the built-in machine types."""


def validate_metadata(
    table: pd.DataFrame,
    *,
    machine_types: MachineTypes | None = None,
    besides: Collection[tuple[int, str]] = (),
) -> list[Problem]:
    """Every breach of the strict contract, in the order of rows and columns; empty where the table keeps it.

    table: typed as `standardize_form` types it. besides: cells (row, column) that are known to be at fault.

    Of a rule that many rows break in one column the first are listed, and the last of these names the others.
    Raises AlpError where the columns themselves are not the contract's, which is a fault of the caller.
    """
    schema = metadata_schema(machine_types) if machine_types else Metadata
    try:
        schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        kinds = machine_types or load_machine_types()
        failed = errors.failure_cases[["check", "column"]].astype(str).drop_duplicates()
        checks = [_failed_check(name, column, kinds) for name, column in failed.to_numpy()]
        problems = [problem for check in checks for problem in _problems_of(check, table, kinds, besides)]
        return sorted(problems, key=lambda each: (each.row or 0, METADATA_COLUMNS.index(each.column or ""), each.rule))
    return []


_Check = _RowCheck | _CellCheck | _NullCheck


def _failed_check(name: str, column: str, machine_types: MachineTypes) -> _Check:
    """The check that pandera names. Of a row's check, pandera gives the schema for a column."""
    if name == "not_nullable":
        return _NullCheck(column)
    checks: dict[tuple[str, str], _Check] = {(check.name, "Metadata"): check for check in _ROW_CHECKS}
    checks |= {(check.rule, check.column): check for check in _cell_checks(machine_types)}
    if (name, column) not in checks:
        raise AlpError(f"the table does not have the contract's form: {name} fails on {column!r}")
    return checks[name, column]


def _problems_of(
    check: _Check, table: pd.DataFrame, machine_types: MachineTypes, besides: Collection[tuple[int, str]]
) -> list[Problem]:
    """The problems of one failed check, by row."""
    cells = check.breaches(table)
    if besides:
        cells = cells[[(row, check.column) not in besides for row in cells.index]]

    def facts(row: int) -> dict[str, Any]:
        return _facts(check.rule, table.loc[[row]].iloc[0], check.column, machine_types)

    return _listed(check.rule, check.column, cells, facts)


def _listed(
    rule: str,
    column: str,
    cells: pd.Series,
    facts: Callable[[int], Mapping[str, Any]] = lambda row: {},
    *,
    limits: ArchiveLimits | None = None,
) -> list[Problem]:
    """The problems of the first cells, the last of which stands for all the others."""
    rows = [int(row) for row in cells.index]
    shown = zip(rows[:MAX_LISTED], cells, strict=False)
    listed = [_at(rule, row, column, value, limits=limits, **facts(row)) for row, value in shown]
    if len(rows) > MAX_LISTED:
        listed[-1] = stand_for(listed[-1], rows[MAX_LISTED:], len(rows) - MAX_LISTED)
    return listed


def _facts(rule: str, cells: pd.Series, column: str, machine_types: MachineTypes) -> dict[str, Any]:
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
        case "cell.time":
            return {"first": YEARS[0], "last": YEARS[-1]}
        case "row.normal_only" | "row.supp_type":
            return {"split": cells["split"]}
    return {}


def _at(rule: str, row: Any, column: str, value: Any, **facts: Any) -> Problem:
    shown = None if pd.isna(value) else value
    return report(rule, file=FILE, row=int(row), column=column, value=shown, **facts)


YEARS = range(1970, 2100)
"""In which a recording may have been made: 9999 is what some forms hold for a day that is not known."""


def _is_iso_8601(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).year in YEARS
    except ValueError:
        return False


_BEYOND_S = 1e9
"""No recording is that long."""
_SECONDS = r"[ \t]*-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?[ \t]*"
_PAIR = rf"[ \t]*\[{_SECONDS},{_SECONDS}\][ \t]*"
_PAIRS = re.compile(rf"[ \t]*\[{_PAIR}(?:,{_PAIR})*\][ \t]*")
_DEEPER = re.compile(r"[\[{][^\]}]*[\[{][^\]}]*[\[{]")
"""Three brackets opened and none closed: more than pairs in a list need. A reader of JSON may follow them very far."""


def regions_fault(text: str) -> str | None:
    """Why `text` is not `[[start_s, end_s], …]` with 0 ≤ start < end, in order and apart; None where it is."""
    if not _PAIRS.fullmatch(text):
        return _why_no_pairs(text)
    return _order_fault(json.loads(text))


def _why_no_pairs(text: str) -> str:
    """What a text is that is no list of pairs of numbers."""
    if _DEEPER.search(text):
        return reason("regions.numbers")
    try:
        regions = json.loads(text)
    except (ValueError, RecursionError):
        return reason("regions.json")
    return reason("regions.numbers" if isinstance(regions, list) and regions else "regions.list")


def _order_fault(regions: list[list[float]]) -> str | None:
    """Why pairs of numbers are no stretches of a recording, None where they are."""
    last = 0.0
    for start, end in regions:
        if max(abs(start), abs(end)) >= _BEYOND_S:
            return reason("regions.numbers")
        if start < last or end <= start:
            return reason("regions.order", start=f"{start:g}", end=f"{end:g}")
        last = end
    return None


def empty_metadata() -> pd.DataFrame:
    """The strict table without rows."""
    empty = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in _DTYPES.items()})
    return empty.set_index(pd.Index([], dtype="int64", name="row"))


# --- both steps at once -----------------------------------------------------------------------------------------


def read_metadata(
    data: bytes, *, name: str = FILE, machine_types: MachineTypes | None = None, limits: ArchiveLimits | None = None
) -> tuple[pd.DataFrame, list[Problem]]:
    """From the bytes of a metadata.csv or metadata.xlsx to the table of the contract and every problem in it.

    name: what the problems call the file. Each is named once. Where no problem is an error, the table keeps the
    strict contract; its `attrs["headers"]` says what the file calls the columns. Raises PackageError where no table can
    be made of the file at all.
    """
    form, problems = read_form(data, name=name, limits=limits)
    del data  # The largest table weighs as much as all that is made of it.
    table, unclear = standardize_form(form, machine_types=machine_types, limits=limits)
    problems += unclear
    # A cell already named, or a column that is not there, has its own words; what follows from it needs none.
    cells = {(row, problem.column or "") for problem in problems for row in problem.rows()}
    columns = {problem.column for problem in unclear if problem.rule == "table.column_missing"}
    breaches = validate_metadata(table, machine_types=machine_types, besides=cells)
    problems += [_with_sent_value(problem, form) for problem in breaches if problem.column not in columns]
    problems.sort(key=lambda problem: problem.row or 0)
    table.attrs["headers"] = form.attrs["headers"]
    return table, [_as_sent(problem, name, form) for problem in shorten(problems + _questions(table))]


def _with_sent_value(problem: Problem, form: pd.DataFrame) -> Problem:
    """The problem of a cell with what the plant wrote there, `소음` and not `noise`."""
    if problem.column not in form or problem.row not in form.index:
        return problem
    sent: Any = form.at[problem.row, problem.column]
    return problem if pd.isna(sent) else problem.model_copy(update={"value": printable(sent)})


def _as_sent(problem: Problem, name: str, form: pd.DataFrame) -> Problem:
    """The problem with the file's own name and header; the checks of the contract know the table, not its file."""
    header = form.attrs.get("headers", {}).get(problem.column)
    header = None if header == problem.column else printable(header)
    return problem.model_copy(update={"file": name, "header": header})


def _questions(table: pd.DataFrame) -> list[Problem]:
    """What is asked for once a package, with a count."""
    training = table[_sure(table["split"].eq("train"))]
    asked = (("ask.recorded_at", "recorded_at", table), ("ask.confirmed_by", "confirmed_by", training))
    return [
        report(rule, file=FILE, column=column, count=int(rows[column].isna().sum()), total=len(rows))
        for rule, column, rows in asked
        if rows[column].isna().any()
    ]
