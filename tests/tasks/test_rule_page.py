"""docs/quality.md says what the rule table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.problems import Severity
from schemas.rules import RULES, Rule, asked_for
from tasks.report.rule_page import limit_text, render_rules
from tasks.report.words import Words, fill

PAGE = Path(__file__).resolve().parents[2] / "docs" / "quality.md"


def test_the_page_in_docs_is_the_one_the_table_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_rules(), "the rules have changed: run `make docs`"


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_every_rule_stands_there_with_limit_reason_and_remedy_in_both_languages(rule: Rule) -> None:
    english, korean = [line for line in render_rules().splitlines() if line.startswith(f"| `{rule.id}` |")]
    cells = [cell.strip() for cell in english.strip("|").split(" | ")]
    assert len(cells) == 6
    assert cells[2] == limit_text(rule)
    assert cells[4] == rule.reason
    facts = (
        dict.fromkeys(
            ["why", "column", "choices", "missing", "recommended", "nyquist", "standard", "asked", "low", "high"], "…"
        )
        | asked_for()
    )
    assert cells[5] == rule.remedy or cells[5] == fill(rule.remedy, facts)
    assert Words("ko").rule_templates(rule.id)[1].partition("{")[0] in korean


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("clip.short", "1 s (`min_duration_s`)"),
        ("clip.quiet", "-60 dBFS (`warn_rms`)"),
        ("clip.silent", "90 % (`reject_silence_ratio`)"),
        ("archive.entries", "50,000 files (`max_entries`)"),
        ("archive.link", ""),
    ],
)
def test_a_limit_is_said_with_its_unit_and_its_setting(rule: str, text: str) -> None:
    assert limit_text(RULES[rule]) == text


def test_a_rule_without_measure_or_limit_has_neither() -> None:
    assert RULES["archive.link"].severity is Severity.ERROR
    assert RULES["archive.link"].measure is None
