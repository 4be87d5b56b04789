"""A package with many different faults: all named in one pass, in Korean, on the terminal and on its page alike."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from deployments.cli import app
from schemas.problems import Problem
from tasks.report.words import Words
from tests.korean import english_in

Alp = Callable[..., "subprocess.CompletedProcess[str]"]

RATE = 16_000
COLUMNS = (
    "relative_path",
    "machine_type",
    "section_id",
    "confirmed_normal",
    "clip_id",
    "split",
    "label",
    "is_anomaly",
    "sensor",
    "snr_db",
    "supp_type",
    "recorded_at",
    "anomaly_type",
    "anomaly_regions",
    "메모",
)
HEADERS = {"machine_type": "기계 종류", "recorded_at": "녹음 시각"}
"""How this plant calls columns."""

FAULTY_ROWS: dict[str, dict[str, str]] = {
    "row.path": {"relative_path": "../../etc/passwd"},
    "row.path_twice": {"relative_path": "audio/n0.wav"},
    "row.clip_id": {"clip_id": "a/b"},
    "row.clip_id_twice": {"clip_id": "n1"},
    "row.machine_type": {"machine_type": "주전자"},
    "row.train_confirmed": {"confirmed_normal": "아니오"},
    "row.normal_only": {"label": "이상"},
    "row.supp_type": {"supp_type": "소음"},
    "row.anomaly_only": {"anomaly_type": "베어링 마모"},
    "row.regions": {"split": "test", "label": "anomaly", "anomaly_regions": "[[2.0, 1.0]]"},
    "row.is_anomaly": {"split": "test", "label": "normal", "is_anomaly": "예"},
    "cell.missing": {"section_id": ""},
    "cell.boolean": {"confirmed_normal": "아마도"},
    "cell.number": {"snr_db": "12 dB"},
    "cell.choice": {"sensor": "망원경"},
    "cell.time": {"recorded_at": "어제"},
    "file.missing": {},
}
"""By rule, the cells of a row that break it and nothing else."""

FAULTY_SOUNDS = ("clip.undecodable", "clip.format", "clip.short", "clip.dead", "clip.nan", "clip.clipped_lost")

FIRST_FAULTY_ROW = 5
"""Line of the table: the header and three good recordings stand before."""

ELSEWHERE = {
    "archive.path",
    "archive.case",
    "table.column_unknown",
    "file.unlisted",
    "ask.confirmed_by",
    "asset.short_clips",
}
"""Faults that are not one row's."""


def sound(samples: np.ndarray, kind: str = "WAV", subtype: str | None = "PCM_16") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format=kind, subtype=subtype)
    return stream.getvalue()


def noise(seed: int, seconds: float = 1.0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=int(seconds * RATE)).clip(-4, 4)


def faulty_sound(rule: str, seed: int) -> bytes:
    good = noise(seed)
    return {
        "clip.undecodable": lambda: sound(good)[:200],
        "clip.format": lambda: sound(good, "OGG", "VORBIS"),
        "clip.short": lambda: sound(noise(seed, 0.25)),
        "clip.dead": lambda: sound(np.zeros(RATE)),
        "clip.nan": lambda: sound(np.where(np.arange(RATE) == 9, np.nan, good), subtype="FLOAT"),
        "clip.clipped_lost": lambda: sound(np.sign(good)),
    }[rule]()


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One fault of each kind, and a few good recordings."""
    good = {"machine_type": "fan", "section_id": "00", "confirmed_normal": "예", "recorded_at": "2026-03-02"}
    table, sounds = [], {}
    for seed, name in enumerate(["n0", "n1", "n2", *FAULTY_ROWS, *FAULTY_SOUNDS]):
        row = {**good, "relative_path": f"audio/{name}.wav", "clip_id": name, **FAULTY_ROWS.get(name, {})}
        table.append(row)
        if row["relative_path"].startswith("audio/") and name != "file.missing":
            clean = sound(noise(seed))
            sounds[f"audio/{name}.wav"] = faulty_sound(name, seed) if name in FAULTY_SOUNDS else clean
    del sounds["audio/row.path_twice.wav"]
    sounds |= {"audio/잊은 파일.wav": sound(noise(99)), "../밖.wav": b"x", "audio/N2.wav": b"x"}
    path = tmp_path_factory.mktemp("faulty") / "울산 3월.zip"
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writerow({column: HEADERS.get(column, column) for column in COLUMNS})
    writer.writerows(table)
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("metadata.csv", text.getvalue())
        for name, content in sounds.items():
            archive.writestr(name, content)
    return path


def check_json(package: Path, *options: str) -> list[dict[str, Any]]:
    """The problems that `alp check` names."""
    done = CliRunner().invoke(app, ["check", str(package), "--json", *options])
    assert done.exit_code == 3, done.output
    return list(json.loads(done.stdout)["problems"])


@pytest.fixture(scope="module")
def checked(faulty: Path) -> list[Problem]:
    """What the gate says of it in English."""
    return [Problem.model_validate(problem) for problem in check_json(faulty)]


def test_every_fault_is_named_in_one_pass(checked: list[Problem]) -> None:
    assert {problem.rule for problem in checked} == {*FAULTY_ROWS, *FAULTY_SOUNDS, *ELSEWHERE}
    assert len({problem.rule for problem in checked}) >= 20


@pytest.mark.parametrize("rule", FAULTY_ROWS)
def test_a_fault_of_a_row_names_file_row_column_value_and_remedy(checked: list[Problem], rule: str) -> None:
    found = [problem for problem in checked if problem.rule == rule][-1]
    cells = FAULTY_ROWS[rule] or {"relative_path": "audio/file.missing.wav"}
    assert (found.file, found.row) == ("metadata.csv", list(FAULTY_ROWS).index(rule) + FIRST_FAULTY_ROW)
    assert found.column in cells or found.column in ("label", "is_anomaly")
    assert found.value == (cells.get(found.column or "", "") or None)
    assert found.remedy


@pytest.mark.parametrize("rule", FAULTY_SOUNDS)
def test_a_fault_of_a_sound_names_its_file_and_the_row_that_names_the_file(checked: list[Problem], rule: str) -> None:
    (found,) = [problem for problem in checked if problem.rule == rule]
    row = list(FAULTY_SOUNDS).index(rule) + FIRST_FAULTY_ROW + len(FAULTY_ROWS)
    assert (found.file, found.row, found.clip_id) == (f"audio/{rule}.wav", row, rule)
    assert found.remedy


def test_the_terminal_and_the_page_say_the_same_in_korean(
    alp: Alp, faulty: Path, checked: list[Problem], tmp_path: Path
) -> None:
    done = alp("onboard", str(faulty), "--lang", "ko", "--store", f"file://{tmp_path}/store")
    assert done.returncode == 3, done.stderr
    (page,) = (tmp_path / "store").glob("runs/local/*/report.html")
    seen = readable(page.read_text(encoding="utf-8"))
    say = Words("ko")
    for problem in checked:
        told, remedy = say.message(problem), say.remedy(problem)
        assert told.language == remedy.language == "ko"
        assert re.search("[가-힣]", told.text)
        for text in (told.text, remedy.text):
            assert text in done.stdout
            assert text in seen
        line = next(line for line in done.stdout.splitlines() if told.text in line and say.place(problem) in line)
        # What is counted over a machine stands in the sentence.
        if problem.value is not None and problem.file:
            assert (f"= '{problem.value}'" if problem.column else f"({problem.value})") in line
            assert problem.value in seen
        assert (problem.file or "") in seen
    assert "기계 종류 (machine_type) 열" in done.stdout
    assert "반려" in done.stdout
    sent = [text for problem in checked for text in (problem.file, problem.value)]
    for line in [*done.stdout.splitlines(), *done.stderr.splitlines()]:
        # Paths and the id of a run are no words.
        words = re.sub(rf"{re.escape(str(tmp_path))}\S*|\b[0-9a-f]{{16}}\b", "", line)
        assert english_in(words, *sent, "n0", "n1", "n2", "local") == [], line


def readable(page: str) -> str:
    """The page's text as a person reads it, without markup."""
    without_style = re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", without_style))


def test_json_speaks_korean_when_asked(faulty: Path, checked: list[Problem]) -> None:
    said = check_json(faulty, "--lang", "ko")
    assert [(problem["rule"], problem["row"]) for problem in said] == [(each.rule, each.row) for each in checked]
    assert [problem["message"] for problem in said] == [Words("ko").message(each).text for each in checked]
