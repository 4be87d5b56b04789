"""The audit of dependencies says what it knows, and says so where it knows nothing."""

from __future__ import annotations

import importlib.util
import sys
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TODAY = date(2026, 11, 22)
UNSAFE = {
    "name": "jinja2",
    "version": "2.4.1",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.10.1"]}],
}
SAFE = {"name": "numpy", "version": "2.4.6", "vulns": []}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.13.0)"}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("alp_audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["alp_audit"] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


def answering(monkeypatch: pytest.MonkeyPatch, audit: ModuleType, **says: list[dict[str, Any]] | None) -> None:
    """Services that answer the probe so; what is pinned is safe."""

    def ask(service: str, requirements: Path) -> list[dict[str, Any]] | None:
        return [SAFE] if requirements == audit.PINS else says.get(service)

    monkeypatch.setattr(audit, "ask_pip_audit", ask)


@pytest.mark.parametrize("answer", [None, [], [UNKNOWN], [SAFE]])
def test_a_service_that_does_not_know_an_unsafe_version_is_not_believed(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: Any
) -> None:
    answering(monkeypatch, audit, pypi=answer, osv=answer)
    assert audit.main([]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("NOT AUDITED")
    assert "audited" not in told.out
    assert audit.main(["--strict"]) == 1


def test_the_second_service_serves_where_the_first_is_away(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, audit, pypi=None, osv=[UNSAFE])
    assert audit.believed_service(audit.ask_pip_audit) == "osv"
    assert audit.main([]) == 0
    assert capsys.readouterr().out == "1 packages audited, 0 advisories, 0 accepted\n"


def test_a_service_that_breaks_off_has_audited_nothing(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        audit, "ask_pip_audit", lambda _, requirements: None if requirements == audit.PINS else [UNSAFE]
    )
    assert audit.main([]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("NOT AUDITED")
    assert "audited" not in told.out


def test_a_service_that_never_answers_is_one_that_cannot_be_asked(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_PATIENCE_S", 0)
    assert audit.ask_pip_audit("osv", audit.PINS) is None


def test_an_advisory_is_named_with_its_remedy_and_stops_the_check(
    audit: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.judge([UNSAFE, SAFE, UNKNOWN], [], today=TODAY) == 1
    told = capsys.readouterr()
    assert told.err == "jinja2 2.4.1: PYSEC-1 CVE-1; fixed in 2.10.1\n"
    assert told.out == "2 packages audited, 1 advisories, 0 accepted; not known to the service: torch\n"


@pytest.mark.parametrize(("until", "code"), [("2026-11-22", 0), ("2026-11-21", 1)])
def test_what_was_accepted_holds_until_its_day(audit: ModuleType, until: str, code: int) -> None:
    accepted = audit.read_accepted(f"# why\n\nCVE-1 {until} its sandbox is not used\n")
    assert audit.judge([UNSAFE], accepted, today=TODAY) == code


@pytest.mark.parametrize(
    "line", ["CVE-1 2026-11-21", "CVE-1 its sandbox is not used", "CVE-1 31.1.2027 not used", "CVE-1"]
)
def test_an_acceptance_without_a_day_or_a_reason_is_refused_with_its_line(audit: ModuleType, line: str) -> None:
    with pytest.raises(ValueError, match="line 2: write an id, a date"):
        audit.read_accepted(f"# why\n{line}\n")


def test_what_was_accepted_can_be_read(audit: ModuleType) -> None:
    audit.read_accepted(audit.ACCEPTED.read_text(encoding="utf-8"))
