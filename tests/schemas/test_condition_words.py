"""A condition is one value in either language, and what is not known is left alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.condition_words import _ANSWERS, CONDITION_WORDS, fold_condition
from schemas.machine_types import fold
from schemas.metadata import CONDITION_COLUMNS, read_metadata

PAGE = Path(__file__).resolve().parents[2] / "docs" / "package.md"


@pytest.mark.parametrize(
    ("column", "spellings"),
    [
        ("speed_level", ["low", "LOW", "저속", "Low Speed", "낮음"]),
        ("speed_level", ["medium", "mid", "중속", "중간"]),
        ("speed_level", ["high", "고속", "high-speed"]),
        ("load_level", ["low", "저부하", "저 부하"]),
        ("load_level", ["unloaded", "무부하", "No load"]),
        ("operating_mode", ["automatic", "자동", "Auto"]),
        ("noise_id", ["yes", "예", "네", "있음"]),
        ("installation", ["no", "아니오", "아니요", "없음"]),
    ],
)
def test_spellings_of_one_condition_are_one_value(column: str, spellings: list[str]) -> None:
    assert {fold_condition(column, spelling) for spelling in spellings} == {fold(spellings[0])}


@pytest.mark.parametrize(
    ("column", "written"),
    [
        ("speed_level", "1450 rpm"),
        ("load_level", "저속"),
        ("mic_position_id", "P1"),
        ("mic_direction", "y"),
        ("mic_direction", "저속"),
        ("operating_mode", "Rezept 7"),
        ("installation", "콘크리트 기초"),
    ],
)
def test_what_is_not_known_stays_as_it_was_written(column: str, written: str) -> None:
    assert fold_condition(column, written) == written


@pytest.mark.parametrize("column", CONDITION_WORDS)
def test_no_spelling_means_two_values_and_folding_twice_changes_nothing(column: str) -> None:
    words = {**_ANSWERS, **CONDITION_WORDS[column]}
    spellings = [fold(spelling) for value, more in words.items() for spelling in {value, *more}]
    assert column in CONDITION_COLUMNS
    assert len(spellings) == len(set(spellings))
    assert all(fold_condition(column, value) == value for value in words)


def test_words_that_may_stand_side_by_side_stay_apart() -> None:
    for column, words in {
        "speed_level": ("low", "slow", "high", "fast", "top"),
        "load_level": ("high", "heavy"),
    }.items():
        assert len({fold_condition(column, word) for word in words}) == len(words)


def test_a_table_in_two_languages_has_one_level() -> None:
    lines = [
        "audio/a.wav,fan,00,true,저속,예",
        "audio/b.wav,fan,00,true,low,yes",
        "audio/c.wav,fan,00,true,1450 rpm,9번",
    ]
    header = "relative_path,machine_type,section_id,confirmed_normal,speed_level,noise_id"
    table, _ = read_metadata("\n".join([header, *lines]).encode())

    assert table["speed_level"].tolist() == ["low", "low", "1450 rpm"]
    assert table["noise_id"].tolist() == ["yes", "yes", "9번"]


def test_the_guide_lists_every_spelling() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("### Operating conditions")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\S.*?) \| `([^`]+)` \| (.*) \|$", section, re.MULTILINE)
    told = {(column.strip("`"), value): tuple(more.split(", ")) for column, value, more in rows}
    listed = {(column, value): more for column, words in CONDITION_WORDS.items() for value, more in words.items()}
    assert told == listed | {("any of the seven", value): more for value, more in _ANSWERS.items()}
