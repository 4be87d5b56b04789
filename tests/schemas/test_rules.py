"""The rule table holds together: ids, limits that exist, templates that can be filled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from engines.quality import SignalMeasures
from schemas.problems import Severity
from schemas.rules import MAX_VALUE_CHARS, RULES, Rule, report
from schemas.settings import ArchiveLimits, QaLimits
from tasks.clips import SoundMeasures

ROOT = Path(__file__).resolve().parents[2]
CHECKS = (
    "schemas/metadata.py",
    "schemas/tables.py",
    "schemas/xlsx.py",
    "tasks/packages.py",
    "tasks/audio.py",
    "tasks/quality.py",
    "tasks/advice.py",
    "tasks/signals.py",
    "tasks/comparisons.py",
)
LIMITS = {
    **dict.fromkeys(ArchiveLimits.model_fields, ArchiveLimits()),
    **dict.fromkeys(QaLimits.model_fields, QaLimits()),
}


def test_every_id_stands_once_and_names_part_and_fault() -> None:
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", rule_id) for rule_id in RULES)
    assert [rule.id for rule in RULES.values()] == list(RULES)


def test_every_rule_is_used_by_a_check_and_every_check_has_its_rule() -> None:
    code = "".join((ROOT / path).read_text(encoding="utf-8") for path in CHECKS)
    used = set(re.findall(r'"((?:archive|table|cell|row|ask|file|clip|asset)\.[a-z_]+)"', code))

    assert used == set(RULES)


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_every_rule_says_why_it_is_there(rule: Rule) -> None:
    assert rule.reason.endswith(".")
    assert not re.search(r"[{}]", rule.reason)


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if rule.measure], ids=lambda rule: rule.id)
def test_a_measure_is_a_column_of_the_gate_s_table_and_bounded_by_a_limit(rule: Rule) -> None:
    assert rule.measure in {*SignalMeasures.__dataclass_fields__, *SoundMeasures.__dataclass_fields__}
    assert rule.limit in QaLimits.model_fields
    assert rule.bound is not None


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if rule.limit], ids=lambda rule: rule.id)
def test_a_limit_is_a_setting_and_appears_in_the_words(rule: Rule) -> None:
    assert rule.limit in LIMITS
    assert "{limit" in rule.what


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_what_and_remedy_are_sentences(rule: Rule) -> None:
    for sentence in (rule.what, rule.remedy):
        assert sentence[0].isupper() or sentence[0] == "{" or sentence.startswith(("supp_type", "is_anomaly"))
        assert sentence.endswith((".", "}"))


def test_a_problem_carries_place_severity_and_the_limit_of_the_settings() -> None:
    problem = report(
        "clip.short", limits=QaLimits(min_duration_s=2.5), file="audio/a.wav", clip_id="a", value=0.5, measured=0.5
    )

    assert problem.severity is Severity.REJECT
    assert problem.message == "The clip lasts 0.5 s, less than 2.5 s."
    assert (problem.file, problem.clip_id, problem.value) == ("audio/a.wav", "a", "0.5")


@pytest.mark.parametrize(
    ("rule", "facts", "value"),
    [
        ("clip.short", {"measured": 0.25}, "0.25 s"),
        ("clip.rate_low", {"measured": 400}, "400 Hz"),
        ("clip.dropouts", {"measured": 0.254}, "25.4 %"),
        ("clip.quiet", {"measured_db": -63.2, "limit_db": -60}, "-63 dBFS"),
        ("clip.channels", {"measured": 65_535}, "65,535"),
        ("clip.copy", {"other": "a"}, None),
    ],
)
def test_what_was_measured_is_the_value_with_its_unit(rule: str, facts: dict[str, Any], value: str | None) -> None:
    assert report(rule, limits=QaLimits(), **facts).value == value


def test_text_of_a_package_is_never_a_template() -> None:
    problem = report("clip.copy", file="metadata.csv", value="{limit.__class__}", other="{0}")

    assert problem.value == "{limit.__class__}"
    assert problem.message.endswith("{0}.")


def test_what_a_terminal_would_act_on_is_escaped_and_long_values_are_cut() -> None:
    problem = report("table.column_missing", file="audio/\x1b[31m\u202e.wav", column="a\x1b[2J", value="x" * 5000)

    assert problem.file == "audio/\\x1b[31m\\u202e.wav"
    assert problem.column == "a\\x1b[2J"
    assert "\x1b" not in problem.remedy
    assert problem.value is not None
    assert len(problem.value) == MAX_VALUE_CHARS
