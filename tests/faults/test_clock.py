"""Clocks that are set forward and back: no day without its run, no package twice, none left out.

Times within ALP are UTC; a customer's cron is of its own time zone, whose days have 23 and 25 hours twice a year.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule

from deployments.deploying import wanted_of
from schemas.customers import Customer
from schemas.settings import OnboardSettings
from schemas.time_zones import zone_of_schedule
from tasks.inbox import look_into_inbox, note_begun
from tasks.inbox_log import changed_log
from tasks.store import FolderStore

SPRING, AUTUMN = datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)
"""Days on which clocks are changed in the European Union, at 01:00 UTC."""
BERLIN = "Europe/Berlin"


def runs(cron: str, zone: str, *, start: datetime, end: datetime) -> list[datetime]:
    """When Prefect's scheduler starts a customer's onboarding, UTC."""
    schedule: dict[str, Any] = {"onboard": cron, "monitor": None}
    customer = Customer.model_validate({"name": "acme", "time_zone": zone, "schedule": schedule})
    wanted, _ = wanted_of(customer, "file:///nowhere")
    assert wanted.cron is not None
    found = asyncio.run(
        CronSchedule(cron=wanted.cron, timezone=wanted.time_zone).get_dates(n=2000, start=start, end=end)
    )
    return [each.astimezone(UTC) for each in found]


@pytest.mark.parametrize("change", [SPRING, AUTUMN])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 2 * * *", "15 6 * * *", "30 3 * * *"])
def test_a_daily_run_comes_once_a_day_whatever_the_clock_does(cron: str, change: datetime) -> None:
    start = (change - timedelta(days=3)).replace(tzinfo=ZoneInfo(BERLIN))
    found = runs(cron, BERLIN, start=start, end=start + timedelta(days=7))
    days = Counter(each.astimezone(ZoneInfo(BERLIN)).date() for each in found)
    assert set(days.values()) == {1}
    assert len(days) == 7


@pytest.mark.parametrize("change", [SPRING, AUTUMN])
def test_a_run_every_quarter_of_an_hour_comes_every_quarter_of_an_hour(change: datetime) -> None:
    start = change - timedelta(hours=6)
    found = runs("*/15 * * * *", BERLIN, start=start, end=start + timedelta(hours=12))
    assert {(later - earlier).total_seconds() for earlier, later in itertools.pairwise(found)} == {900.0}
    assert len(found) in (48, 49)


def test_a_time_without_an_hour_is_kept_in_utc_only_where_that_is_the_same() -> None:
    assert zone_of_schedule("*/5 * * * *", BERLIN) == "UTC"
    assert zone_of_schedule("*/5 6-22 * * *", BERLIN) == BERLIN
    assert zone_of_schedule("*/5 * * * mon", BERLIN) == BERLIN
    assert zone_of_schedule("*/5 * * * *", "Asia/Seoul") == "Asia/Seoul", "no clock is changed there"
    assert zone_of_schedule("0 * * * *", "Australia/Adelaide") == "Australia/Adelaide", "half an hour from UTC"


def test_customers_of_two_zones_keep_their_own_hours() -> None:
    start = datetime(2026, 10, 24, tzinfo=UTC)
    for zone in (BERLIN, "Asia/Seoul", "America/New_York"):
        found = runs("0 6 * * *", zone, start=start, end=start + timedelta(days=3))
        assert {each.astimezone(ZoneInfo(zone)).hour for each in found} == {6}


class Clock:
    """Stands in for `datetime` where a module asks for the time."""

    def __init__(self) -> None:
        self.time = AUTUMN

    def now(self, zone: Any = None) -> datetime:
        return self.time.astimezone(zone)


@pytest.fixture
def machine_in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", BERLIN)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("machine_in_berlin")
@pytest.mark.parametrize("change", [SPRING, AUTUMN])
def test_what_is_dropped_while_the_clock_is_changed_is_taken_up_once_each(
    change: datetime, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clock, settings = FolderStore(tmp_path / "store"), Clock(), OnboardSettings()
    monkeypatch.setattr("tasks.inbox.datetime", clock)
    inbox = store.root / "inbox" / "acme"
    inbox.mkdir(parents=True)
    taken: list[str] = []
    for minute in range(0, 180, 10):
        clock.time = change + timedelta(minutes=minute)
        dropped = inbox / f"{minute:03d}.zip"
        dropped.write_bytes(f"a file of minute {minute}".encode())
        stamp = clock.time.timestamp()
        os.utime(dropped, (stamp, stamp))
        clock.time += timedelta(minutes=5)
        look = look_into_inbox.fn("acme", "inbox/acme", store.url, settings)
        assert look.unsettled == ()
        for arrival in look.new:
            taken.append(arrival.name)
            note_begun(arrival, "acme", store.url, settings)
            with changed_log(store, "acme") as log:
                seen = log.packages[arrival.package]
                log.packages[arrival.package] = seen.model_copy(update={"became": "onboarded"})
    assert taken == [f"{minute:03d}.zip" for minute in range(0, 180, 10)]


def test_a_machine_whose_clock_is_set_back_leaves_nothing_waiting_for_ever(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clock = FolderStore(tmp_path / "store"), Clock()
    monkeypatch.setattr("tasks.inbox.datetime", clock)
    dropped = store.root / "inbox" / "acme" / "early.zip"
    dropped.parent.mkdir(parents=True)
    dropped.write_bytes(b"of a recorder whose clock is ahead")
    ahead = (clock.time + timedelta(hours=1)).timestamp()
    os.utime(dropped, (ahead, ahead))
    look = look_into_inbox.fn("acme", "inbox/acme", store.url, OnboardSettings())
    assert [arrival.name for arrival in look.new] == ["early.zip"]
