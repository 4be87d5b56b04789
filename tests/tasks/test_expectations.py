"""Statements over a package: made from the rule table, as the gate judged, in a page that is safe to open."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from schemas.references import QualityReport, Run, Verdict
from schemas.rules import RULES
from schemas.settings import OnboardSettings, QaLimits
from tasks.expectations import PAGE, state_quality, write_statements
from tasks.store import FolderStore

HOSTILE = "<img src=x onerror=alert(1)>"
LIMITS = QaLimits()
MEASURED = [rule for rule in RULES.values() if rule.measure]


def quality(clips: int = 10, **columns: Any) -> pd.DataFrame:
    """The gate's table of good clips; every measure far on the good side of its limit."""
    good = {rule.measure: 1e9 if rule.bound == "least" else 0.0 for rule in MEASURED}
    index = pd.RangeIndex(2, clips + 2, name="row")
    frame = pd.DataFrame({"clip_id": HOSTILE, "relative_path": HOSTILE, **good}, index=index)
    frame["reasons"] = [[] for _ in range(clips)]
    return frame.assign(**columns)


def with_reason(rule: str, count: int) -> pd.DataFrame:
    return quality(reasons=[[rule] if i < count else [] for i in range(10)])


def stated(frame: pd.DataFrame, rule: str) -> Any:
    (statement,) = [each for each in state_quality(frame, LIMITS).outcomes if each.rule == rule]
    return statement


def test_of_good_recordings_everything_holds() -> None:
    outcomes = state_quality(quality(), LIMITS).outcomes
    assert all(statement.holds and statement.kept == 1 for statement in outcomes)
    assert {statement.rule for statement in outcomes} == {rule for rule in RULES if rule.startswith("clip.")}


@pytest.mark.parametrize("rule", MEASURED, ids=lambda rule: rule.id)
def test_a_measured_rule_is_kept_at_its_limit_and_broken_beyond_it(rule: Any) -> None:
    limit = float(getattr(LIMITS, rule.limit))
    beyond = limit * (0.99 if rule.bound == "least" else 1.01)
    at_limit, over = quality(**{rule.measure: limit}), quality(**{rule.measure: [limit] * 6 + [beyond] * 4})
    assert stated(at_limit, rule.id).kept == 1
    assert stated(over, rule.id).kept == pytest.approx(0.6)


@pytest.mark.parametrize(("broken", "holds"), [(1, True), (2, False)])
def test_one_clip_in_ten_may_break_a_rule_of_sound(broken: int, holds: bool) -> None:
    statement = stated(with_reason("clip.copy", broken), "clip.copy")
    assert (statement.needed, statement.holds) == (0.9, holds)
    assert statement.kept == pytest.approx(1 - broken / 10)


def test_the_contract_must_be_kept_by_every_clip() -> None:
    statement = stated(with_reason("row.machine_type", 1), "row.machine_type")
    assert (statement.needed, statement.holds) == (1.0, False)


def test_a_clip_that_could_not_be_measured_is_told_of_by_the_rule_that_says_why() -> None:
    frame = quality(duration_s=[10.0] * 9 + [None], reasons=[[]] * 9 + [["clip.undecodable"]])
    assert stated(frame, "clip.short").kept == 1
    assert stated(frame, "clip.undecodable").kept == pytest.approx(0.9)


def test_the_page_loads_nothing_and_holds_no_text_of_the_package() -> None:
    page = state_quality(with_reason("clip.copy", 2), LIMITS).page
    assert HOSTILE not in page
    assert "clip.copy" in page
    assert "<script" not in page
    assert re.findall(r"(?:src|href)\s*=\s*[\"']?(?!#)", page) == []
    assert "@import" not in page
    assert "url(" not in page


def test_the_same_table_gives_the_same_page() -> None:
    assert state_quality(quality(), LIMITS).page == state_quality(quality(), LIMITS).page


def test_nothing_is_sent_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError(f"a connection was tried: {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "true")
    assert state_quality(quality(), LIMITS).outcomes
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"


def filed(folder: Path, table: pd.DataFrame) -> tuple[QualityReport, Run]:
    store = FolderStore(folder)
    store.put_frame("quality.parquet", table)
    facts = dict.fromkeys(("clips", "ok", "warned", "quarantined"), 0)
    report = QualityReport(
        package_id="p", verdict=Verdict.ACCEPTED, bad_input=False, synthetic=False, assets=(), problems=(),
        metadata_key=None, quality_key="quality.parquet", **facts,
    )  # fmt: skip
    run = Run(
        run_id="r", customer="acme", package_id="p", store=store.url, settings=OnboardSettings(), code_version="0"
    )
    return report, run


def test_the_page_is_filed_beside_the_run(tmp_path: Path) -> None:
    statements = write_statements.fn(*filed(tmp_path, quality()))
    assert len(statements) == len(state_quality(quality(), LIMITS).outcomes)
    assert b"hold" in FolderStore(tmp_path).get(f"runs/acme/r/{PAGE}")


def test_a_package_without_a_readable_table_has_no_statements(tmp_path: Path) -> None:
    assert write_statements.fn(*filed(tmp_path, quality(0))) == []
    assert not FolderStore(tmp_path).exists(f"runs/acme/r/{PAGE}")
