"""The page of all machines: who is on it, what is most urgent, and where its links lead."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engines.alarm import AlarmState
from schemas.errors import InputError, UsageError
from tasks import keys
from tasks.fleet import STATUSES, AssetCard, Fleet, card_key, file_fleet_page, gather_fleet
from tasks.report import fleet_view
from tasks.report.pages import render_fleet_page
from tasks.report.words import Words
from tasks.store import FolderStore
from tasks.watch_log import Row, WatchLog

CUSTOMER = "acme-ulsan"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def judged(store: FolderStore, asset_id: str, state: AlarmState) -> None:
    """File a recording that the monitor judged, with the state after it."""
    row = Row(
        recording_id="r1",
        file_sha="s1",
        name="a.wav",
        bytes=1,
        modified=NOON,
        time=NOON,
        duration_s=10.0,
        model_version="v1",
        engine="a",
        score=0.3,
        p_value=0.1,
        severity=60.0,
        grade="WARNING",
        state="on",
        decision="alarm",
        exceeded=True,
        notes="",
        alarm_state=state.model_dump_json(),
    )
    log = WatchLog(store, CUSTOMER, asset_id, "v1")
    with log.locked():
        log.file_rows([row])


def statuses(store: FolderStore) -> dict[str, str]:
    return {machine.asset: machine.status for machine in gather_fleet(store, CUSTOMER).machines}


def test_the_most_urgent_machine_comes_first(store: FolderStore, make_asset_page: Any, onboard: Any) -> None:
    page = make_asset_page()
    onboard(store, page, "00")
    quiet = page.scores.assign(score=page.scores["score"].where(page.scores["label"] == "normal", 0.0))
    onboard(store, replace(page, scores=quiet), "01")
    onboard(store, replace(page, synthetic=True), "02")
    store.put_frame(keys.asset(CUSTOMER, "fan-03", "ledger.parquet"), onboard.ledger_of("03"))
    onboard(store, page, "04")
    judged(store, "fan-04", AlarmState(phase="alarm", since=NOON, raised_at=NOON, last_time=NOON, raised=1))
    found = statuses(store)
    assert found == {
        "fan-04": "ringing",
        "fan-01": "blind",
        "fan-03": "unset",
        "fan-02": "rehearsal",
        "fan-00": "unproven",
    }
    assert list(found.values()) == sorted(found.values(), key=STATUSES.index)


def test_a_synthetic_machine_never_counts_as_covered(store: FolderStore, make_asset_page: Any, onboard: Any) -> None:
    page = make_asset_page(kpi=make_asset_page().kpi.model_copy(update={"target": 0.1}))
    onboard(store, page)
    assert statuses(store) == {"fan-00": "covered"}
    onboard(store, replace(page, synthetic=True))
    assert statuses(store) == {"fan-00": "rehearsal"}


def test_a_ledger_that_grew_since_asks_for_onboarding_again(
    store: FolderStore, make_asset_page: Any, onboard: Any
) -> None:
    onboard(store, make_asset_page())
    store.put_frame(keys.asset(CUSTOMER, "fan-00", "ledger.parquet"), onboard.ledger_of("00", normals=13))
    assert statuses(store) == {"fan-00": "changed"}


def test_the_card_holds_what_the_page_concluded(store: FolderStore, make_asset_page: Any, onboard: Any) -> None:
    page = make_asset_page()
    onboard(store, page)
    card = store.get_model(card_key(CUSTOMER, "fan-00", "v1"), AssetCard)
    assert (card.found, card.faults, card.normals) == (8, 8, 8)
    assert card.rule == page.rule
    assert str(card.last_recorded) == "2026-03-03"


@pytest.mark.parametrize("language", ["en", "ko"])
def test_links_lead_to_the_machines_pages_from_where_the_page_lies(
    store: FolderStore, make_asset_page: Any, onboard: Any, language: Any
) -> None:
    onboard(store, make_asset_page())
    file_fleet_page(store, CUSTOMER, language=language)
    place = Path(store.location(keys.fleet(CUSTOMER)))
    html = place.read_text(encoding="utf-8")
    links = [link for link in re.findall(r'href="([^"]+)"', html) if not link.startswith("#")]
    assert len(links) == 1
    assert (place.parent / links[0]).resolve().read_bytes() == b"the page"
    assert f'<html lang="{language}">' in html
    assert "<script" not in html


def test_the_alarm_and_what_was_judged_are_said(store: FolderStore, make_asset_page: Any, onboard: Any) -> None:
    onboard(store, make_asset_page())
    assert "not watched yet" in render_fleet_page(gather_fleet(store, CUSTOMER), language="en")
    judged(store, "fan-00", AlarmState(phase="hold_off", since=NOON, raised_at=NOON, last_time=NOON, raised=2))
    html = render_fleet_page(gather_fleet(store, CUSTOMER), language="en")
    assert "last alarm 2026-03-02 12:00, 2 in all" in html
    assert "1 judged, the last of 2026-03-02 12:00" in html
    assert "drift: too few judged to say" in html


def test_every_status_has_words_a_tone_and_a_headline() -> None:
    for language in ("en", "ko"):
        say = Words(language)
        for status in STATUSES:
            assert say(f"fleet.status.{status}")
            assert say(f"fleet.advice.{status}")
            assert say(f"fleet.headline.{fleet_view._group(status)}", n=1, all=2)
    assert set(fleet_view._TONES) == set(STATUSES)


def test_the_same_store_gives_the_same_page(store: FolderStore, make_asset_page: Any, onboard: Any) -> None:
    onboard(store, make_asset_page())
    first = file_fleet_page(store, CUSTOMER, language="en")
    before = store.get(keys.fleet(CUSTOMER))
    assert file_fleet_page(store, CUSTOMER, language="en") == first
    assert store.get(keys.fleet(CUSTOMER)) == before
    assert Fleet.model_validate_json(first.model_dump_json()) == first


def test_a_customer_without_machines_is_refused_by_name(store: FolderStore) -> None:
    with pytest.raises(InputError, match="nobody has no assets"):
        gather_fleet(store, "nobody")
    with pytest.raises(UsageError):
        gather_fleet(store, "../nobody")
