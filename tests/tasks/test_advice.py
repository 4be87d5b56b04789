"""Notes on a machine or a package as a whole: rate and length, ids that look alike, noise that did not come."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from schemas.forms import form_of, shared_quantity
from schemas.problems import Problem
from tasks.advice import plain_id
from tasks.packages import open_package
from tasks.quality import AssetKey, judge

CLIP_S = int(shared_quantity("clip_s"))
LOWEST = form_of("fan").sample_rate[0]
NOISE = {"split": "supplemental", "supp_type": "noise"}


def row(name: str, **cells: str) -> dict[str, str]:
    common = {"machine_type": "fan", "section_id": "00", "confirmed_normal": "yes", "recorded_at": "2026-03-02"}
    return {"relative_path": f"audio/{name}.wav", "confirmed_by": "Kim", **common, **cells}


def notes(
    folder: Path,
    rows: Iterable[Mapping[str, str]],
    *,
    seconds: float = CLIP_S,
    rate: int = LOWEST,
    known: Iterable[AssetKey] = (),
) -> dict[str, Problem]:
    """Judge a package of noise of this length and rate: what is said of it, by rule."""
    rows = list(rows)
    with zipfile.ZipFile(folder / "package.zip", "w") as archive:
        archive.writestr("metadata.csv", pd.DataFrame(rows).to_csv(index=False))
        for seed, cells in enumerate(rows):
            file = io.BytesIO()
            samples = 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate)).clip(-4, 4)
            soundfile.write(file, samples, rate, format="WAV")
            archive.writestr(cells["relative_path"], file.getvalue())
    with open_package(folder / "package.zip") as package:
        judged = judge(package, known_normals={key: frozenset({"a", "b", "c"}) for key in known})
    assert (judged.quality["verdict"] == "ok").all()
    return {problem.rule: problem for problem in judged.problems}


def test_a_package_as_the_form_asks_for_is_told_of_nothing_but_its_count(tmp_path: Path) -> None:
    assert set(notes(tmp_path, [*(row(f"n{i}") for i in range(3)), row("off", **NOISE)])) == {"asset.few_normals"}


def test_a_machine_recorded_slower_and_shorter_than_the_form_asks_gets_one_note_of_each(tmp_path: Path) -> None:
    told = notes(tmp_path, [row(f"n{i}") for i in range(3)], seconds=2, rate=LOWEST // 2)

    assert told["asset.low_rate"].message == (
        f"3 of 3 recordings of fan 00 are made at less than {LOWEST} Hz, which the form asks for; the lowest rate is"
        f" {LOWEST // 2} Hz."
    )
    assert told["asset.short_clips"].message.startswith(f"3 of 3 recordings of fan 00 are shorter than the {CLIP_S} s")
    assert all(told[rule].more == 0 for rule in ("asset.low_rate", "asset.short_clips"))


def test_a_recording_stopped_by_hand_is_as_long_as_asked(tmp_path: Path) -> None:
    assert "asset.short_clips" not in notes(tmp_path, [row(f"n{i}") for i in range(3)], seconds=CLIP_S - 0.3)


def test_missing_noise_is_told_once_a_package_with_what_the_form_recommends(tmp_path: Path) -> None:
    rows = [row(f"{section}{i}", section_id=section) for section in ("00", "01x") for i in range(3)]
    low, high = form_of("fan").noise_s
    assert f"{low:g} to {high:g} s" in notes(tmp_path, rows, seconds=1)["ask.noise"].remedy


def test_a_package_of_tests_is_not_asked_for_noise(tmp_path: Path) -> None:
    rows = [row("t", split="test")]
    assert "ask.noise" not in notes(tmp_path, rows, seconds=1, known=[("fan", "00"), ("pump", "00")])


@pytest.mark.parametrize(
    ("one", "other"), [("01", "1"), ("FAN-1", "fan-1"), ("1호기", "1 호기"), ("Line_03", "line 3")]
)
def test_ids_that_differ_in_spelling_alone_are_named_together(tmp_path: Path, one: str, other: str) -> None:
    rows = [row(f"{place}{i}", section_id=section) for place, section in enumerate((one, other)) for i in range(3)]
    told = notes(tmp_path, rows, seconds=1)["asset.alike"]
    assert told.message.startswith(f"fan {one} and {other} differ only in ")
    assert told.more == 0


def test_an_id_is_held_against_those_of_earlier_packages(tmp_path: Path) -> None:
    told = notes(tmp_path, [row(f"n{i}", section_id="1") for i in range(3)], seconds=1, known=[("fan", "001")])
    assert told["asset.alike"].message.startswith("fan 1 and 001 ")


def test_ids_of_other_types_and_other_numbers_are_not_alike(tmp_path: Path) -> None:
    rows = [row(f"{section}{i}", section_id=section) for section in ("1", "10", "100") for i in range(3)]
    assert "asset.alike" not in notes(tmp_path, rows, seconds=1, known=[("pump", "01")])


@pytest.mark.parametrize(("written", "plain"), [("00", "0"), ("A-01", "a1"), ("10", "10"), ("라인 03", "라인3")])
def test_a_plain_id_keeps_what_tells_machines_apart(written: str, plain: str) -> None:
    assert plain_id(written) == plain
