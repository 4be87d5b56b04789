"""Whatever the bytes are: names, tables, workbooks, recordings and archives are read, or refused by an error of ours.

Beside noise the strategies spoil what is good at a few places, which gets deeper into a parser than noise does.
"""

from __future__ import annotations

import posixpath
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import PackageError
from schemas.metadata import METADATA_COLUMNS, Metadata, read_metadata
from schemas.paths import unsafe_clip_path, unsafe_name
from schemas.problems import Severity
from schemas.settings import QaLimits
from tasks.audio import DecodedAudio, decode
from tasks.packages import PackageArchive, open_package
from tests.hostile import sounds, tables, workbook_cases, zips
from tests.hostile.case import entries

EXAMPLES = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
TABLE = tables.table(tables.normals())
WORKBOOK = workbook_cases.workbook()
CLIP = sounds.encoded(sounds.running(0)[:8000])
RECORDINGS = [
    CLIP,
    sounds.encoded(sounds.running(0)[:8000], "FLAC"),
    sounds.encoded(sounds.running(0)[:8000], "RF64"),
    sounds.encoded(sounds.running(0)[:8000], endian="BIG"),
    sounds.extensible(sounds.PCM_GUID, data=CLIP[44:]),
]
ARCHIVE = zips.archive(
    [zips.Entry("metadata.csv", TABLE), zips.Entry("audio/a.wav", b"sound" * 99), zips.Entry("audio/")]
)

TRICKY = st.sampled_from(
    ["..", ".", "/", "\\", ":", "\0", "\n", "C", "con", "．", "／", "‥", " ", "audio", "가", "\ud800", "~"]
)
NAMES = st.lists(TRICKY | st.text(max_size=3), max_size=8).map("".join)
FRAGMENTS = (
    "", "audio/a.wav", "fan", "00", "true", "test", "anomaly", "[[0,1]]", "2026-03-02", '"', '""', "\n", "\r", ",", ";",
    "\t", "=1+1", "\0", "1e999", "-0", "[" * 50, "가", "x" * 1200, "sep=;", "\ufeff", "metadata",
)  # fmt: skip
CELLS = st.sampled_from(FRAGMENTS) | st.text(max_size=8)
HEADERS = st.lists(st.sampled_from([*METADATA_COLUMNS, "파일", "설비", "정상 확인"]) | CELLS, max_size=12)


@st.composite
def spoilt(draw: st.DrawFn, good: bytes) -> bytes:
    """The good bytes with a few replaced, left out or put in."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.sampled_from([0, 0, 1, 2, 4, 40]))
        number = st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x01\0\0\0", b"<", b"&", b'"', b","])
        data[place : place + length] = draw(number | st.binary(max_size=6))
    return bytes(data[: draw(st.sampled_from([len(data), len(data), len(data) // 2]))])


@st.composite
def tables_of_text(draw: st.DrawFn) -> bytes:
    """A table of columns that the form knows and cells that may hold anything."""
    header = draw(HEADERS)
    rows = draw(st.lists(st.lists(CELLS, max_size=14), max_size=6))
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = newline.join(separator.join(cells) for cells in [header, *rows])
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "cp949", "utf-16"])), "replace")


def read_or_refused(data: bytes, name: str = "metadata.csv") -> None:
    """A table of the contract where no problem is an error; problems that say where and what, in printable words."""
    try:
        table, problems = read_metadata(data, name=name)
    except PackageError as error:
        table, problems = None, list(error.problems)
    assert table is not None or problems
    for problem in problems:
        assert problem.message
        assert problem.remedy
        assert all(character.isprintable() for character in problem.value or "")
        assert problem.model_dump_json()
    if table is not None:
        assert tuple(table.columns) == METADATA_COLUMNS
        if not any(problem.severity is Severity.ERROR for problem in problems):
            Metadata.validate(table)
            assert all(unsafe_clip_path(path) is None for path in table["relative_path"])


@EXAMPLES
@given(NAMES | st.text(max_size=30))
def test_a_name_that_passes_leads_out_of_no_folder(name: str) -> None:
    if unsafe_name(name) is not None:
        return
    for form in (name, unicodedata.normalize("NFKC", name)):
        assert posixpath.normpath(posixpath.join("/package", form)).startswith("/package/")
        assert not PurePosixPath(form).is_absolute()
        windows = PureWindowsPath(form.replace("\\", "/"))
        assert ".." not in windows.parts
        assert not windows.root
    assert not PureWindowsPath(name).drive


@EXAMPLES
@given(st.binary(max_size=400) | spoilt(TABLE) | tables_of_text())
def test_any_bytes_are_read_as_a_table_or_refused(data: bytes) -> None:
    read_or_refused(data)


@EXAMPLES
@given(spoilt(WORKBOOK))
def test_a_spoilt_workbook_is_read_or_refused(data: bytes) -> None:
    read_or_refused(data, "metadata.xlsx")


@EXAMPLES
@given(st.sampled_from(["sheet1", "sharedStrings", "styles", "workbook"]), st.data())
def test_a_workbook_of_spoilt_parts_is_read_or_refused(part: str, data: st.DataObject) -> None:
    good = dict(workbook_cases.parts())
    name = next(name for name in good if part in name and not name.endswith(".rels"))
    read_or_refused(workbook_cases.workbook(**{name: data.draw(spoilt(good[name]))}), "metadata.xlsx")


@EXAMPLES
@given(st.binary(max_size=200) | st.sampled_from(RECORDINGS).flatmap(spoilt))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    limits = QaLimits()
    try:
        audio = decode(data, limits, name="audio/a.wav")
    except PackageError as error:
        refusal = error
    else:
        is_sound(audio, limits)
        return
    assert {problem.file for problem in refusal.problems} == {"audio/a.wav"}


def is_sound(audio: DecodedAudio, limits: QaLimits) -> None:
    frames, channels = audio.samples.shape
    assert audio.samples.dtype == np.float32
    assert frames > 0
    assert 0 < channels <= limits.max_channels
    assert 0 < audio.sample_rate <= limits.max_sample_rate


@EXAMPLES
@given(data=st.binary(max_size=300) | spoilt(ARCHIVE))
def test_any_bytes_are_read_as_an_archive_or_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    path.write_bytes(data)
    try:
        archive = open_package(path)
    except PackageError as error:
        refusal = error
    else:
        is_safe(archive)
        return
    assert len(refusal.problems) == 1


def is_safe(archive: PackageArchive) -> None:
    with archive:
        assert len(archive.package_id) == 16
        assert all(unsafe_name(name) is None for name in archive.names)
        assert not archive.refused & set(archive.names)
        assert {name: len(archive.read(name)) for name in archive.names}.keys() == set(archive.names)


@pytest.mark.parametrize("number", range(len(RECORDINGS)))
def test_what_is_spoilt_here_is_good_before(number: int) -> None:
    assert len(decode(RECORDINGS[number], QaLimits()).samples) == 8000


def test_what_is_spoilt_elsewhere_is_good_before(tmp_path: Path) -> None:
    for data, name in ((TABLE, "metadata.csv"), (WORKBOOK, "metadata.xlsx")):
        table, problems = read_metadata(data, name=name)
        assert len(table) == tables.NORMALS
        assert [problem for problem in problems if problem.severity is Severity.ERROR] == []
    archive = open_package(zips.write(tmp_path / "p.zip", entries()))
    assert archive.problems == ()
    assert len(archive.names) == 1 + tables.NORMALS
