"""Flows that a command runs in its own process."""

from __future__ import annotations

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from deployments import onboarding


def test_no_flow_waits_for_prefect_s_heartbeats_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(onboarding, "check_server", asked.append)

    def look(*, return_state: bool) -> int | None:
        assert return_state
        return PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value()

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api", PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}):
        assert look(return_state=True) == 30
        assert onboarding.run_flow_here(look) is None
    assert asked == ["http://127.0.0.1:1/api"]
