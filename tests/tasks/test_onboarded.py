"""The server is told of each onboarding once, and no onboarding fails for want of it."""

from __future__ import annotations

import logging

import pytest

import tasks.onboarded
from schemas.errors import EnvironmentFault
from schemas.references import OnboardResult, Package, QualityReport, Run, Verdict
from schemas.settings import OnboardSettings
from tasks.events import Happening
from tasks.onboarded import describe_onboarding, tell_of_onboarding
from tasks.runs import Manifest


def manifest(verdict: Verdict = Verdict.ACCEPTED, run_id: str = "0123456789abcdef") -> Manifest:
    package = Package(customer="acme", package_id="fedcba9876543210", name="plant.zip", raw_key="raw", files=3, bytes=9)
    quality = QualityReport(
        package_id=package.package_id, verdict=verdict, bad_input=False, clips=3, ok=2, warned=0, quarantined=1,
        synthetic=False, assets=(), problems=(), metadata_key=None, quality_key="quality",
    )  # fmt: skip
    run = Run(
        run_id=run_id, customer="acme", package_id=package.package_id, store="file:///store",
        settings=OnboardSettings(), code_version="1",
    )  # fmt: skip
    result = OnboardResult(
        customer="acme", package=package.package_id, run_id=run_id, verdict=verdict, quarantined=("one",), reused=(),
        assets=(),
    )  # fmt: skip
    return Manifest(
        run=run, package=package, quality=quality, result=result, prefect_run_id=None, versions={}, objects={}
    )


@pytest.mark.parametrize("verdict", Verdict)
def test_the_event_says_whose_package_it_was_and_what_became_of_it(verdict: Verdict) -> None:
    told = describe_onboarding(manifest(verdict))
    assert (told.event, told.resource, told.resource_name) == ("alp.onboarded", "alp.customer.acme", "acme")
    assert told.labels == {"alp.verdict": str(verdict)}
    assert told.payload | {"event": ""} == {
        "event": "",
        "customer": "acme",
        "package": "fedcba9876543210",
        "run": "0123456789abcdef",
        "verdict": str(verdict),
        "machines": 0,
        "quarantined": 1,
    }


def test_a_run_that_is_repeated_is_the_same_onboarding_and_another_run_is_not() -> None:
    first, again, other = manifest(), manifest(), manifest(run_id="1111111111111111")
    assert describe_onboarding(first).event_id == describe_onboarding(again).event_id
    assert describe_onboarding(first).event_id != describe_onboarding(other).event_id


def test_without_a_server_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.onboarded, "configured_tell", lambda: None)
    tell_of_onboarding(manifest())


@pytest.mark.parametrize("away", [True, False])
def test_a_server_that_cannot_be_told_is_named_and_the_onboarding_stands(
    away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(_: Happening) -> str | None:
        if away:
            raise EnvironmentFault("the server is away")
        return "the server refuses it"

    notes: list[str] = []
    monkeypatch.setattr(tasks.onboarded, "configured_tell", lambda: tell)
    monkeypatch.setattr(tasks.onboarded, "note", lambda sentence, level=logging.INFO: notes.append(sentence))
    tell_of_onboarding(manifest())
    assert len(notes) == 1
    assert "package fedcba98" in notes[0]
    assert ("away" if away else "refuses") in notes[0]
