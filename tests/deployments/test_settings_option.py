"""`alp onboard --settings FILE`: the customer's file, and over it what is written on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import deployments.cli
from schemas.errors import UsageError
from schemas.settings import OnboardSettings

FILE = "engine: a\nlanguage: ko\nkpi: {metric: miss_rate, target: 0.2}\nalarm: {clips_per_day: 288}\n"


@pytest.fixture
def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings that an onboarding would get."""
    (tmp_path / "acme.yaml").write_text(FILE, encoding="utf-8")
    asked: list[OnboardSettings] = []

    def onboard(source: str, customer: str, store: Any, settings: OnboardSettings, **_: Any) -> int:
        asked.append(settings)
        return 0

    monkeypatch.setattr(deployments.cli, "_onboard", onboard)

    def run(*options: str) -> OnboardSettings:
        done = CliRunner().invoke(deployments.cli.app, ["onboard", "p.zip", *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return asked.pop()

    run.file = str(tmp_path / "acme.yaml")  # type: ignore[attr-defined]
    return run


def test_the_file_says_what_the_options_do_not(settings_of: Any) -> None:
    found = settings_of("--settings", settings_of.file)
    assert (found.engine, found.language, found.kpi.target) == ("a", "ko", 0.2)
    assert found.alarm.clips_per_day == 288
    over = settings_of("--settings", settings_of.file, "--lang", "en", "--engine", "auto")
    assert (over.engine, over.language, over.kpi.target) == ("auto", "en", 0.2)


def test_without_a_file_the_options_alone_count(settings_of: Any) -> None:
    assert settings_of("--engine", "b", "--lang", "ko") == OnboardSettings(engine="b", language="ko")
    assert settings_of() == OnboardSettings()


def test_a_faulty_file_starts_nothing(settings_of: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("alarm: {clips_per_day: 0}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"alarm\.clips_per_day is 0"):
        settings_of("--settings", str(tmp_path / "bad.yaml"))
