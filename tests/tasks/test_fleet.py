"""The page of all machines: who is on it, what is most urgent, and where its links lead."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import tasks.watch_log
from engines.alarm import AlarmState, RecentClip
from schemas.errors import InputError, StoreError, UsageError
from schemas.machine_types import MachineType, with_own_types
from tasks import keys
from tasks.alarms import alarm_stamp
from tasks.covering import Cause, Coverage
from tasks.fleet import STATUSES, AssetCard, Fleet, card_key, file_fleet_page, gather_fleet, refresh_fleet_page
from tasks.pacing import Pace
from tasks.report import fleet_view
from tasks.report.pages import render_fleet_page
from tasks.report.words import Words
from tasks.store import FolderStore
from tasks.watch_log import Row, WatchLog, part_keys, read_state

CUSTOMER = "acme-ulsan"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def judged(
    store: FolderStore,
    asset_id: str,
    state: AlarmState,
    *,
    number: int = 1,
    refused: bool = False,
    version: str = "v1",
) -> None:
    """File a recording that the monitor judged, with the state after it."""
    row = Row(
        recording_id=f"r{number}",
        file_sha=f"s{number}",
        name="a.wav",
        bytes=1,
        modified=NOON,
        time=NOON,
        duration_s=10.0,
        model_version=version,
        engine="a",
        score=0.3,
        p_value=0.1,
        severity=60.0,
        grade="WARNING",
        state="on",
        decision="refused" if refused else "alarm",
        exceeded=True,
        notes="",
        alarm_state=state.model_dump_json(),
    )
    log = WatchLog(store, CUSTOMER, asset_id, version)
    with log.locked():
        log.file_rows([row])


def uncovered(store: FolderStore, asset_id: str, why: Cause = "refused", *, language: Any = "en") -> Coverage:
    """File that the monitor gets no good recording of a machine."""
    found = Coverage(
        customer=CUSTOMER,
        asset=asset_id,
        machine="fan",
        language=language,
        covered=False,
        why=why,
        since=NOON,
        last_good=NOON,
        last_judged_at=NOON,
        sentence="<fan>: not covered, a fault would not be heard",
    )
    store.put_model(keys.monitor(CUSTOMER, asset_id, "coverage.json"), found)
    return found


def outrun(store: FolderStore, asset_id: str, *, stated: float) -> None:
    """File that the monitor gets twice as many recordings of a machine as were stated."""
    found = Pace(
        customer=CUSTOMER,
        asset=asset_id,
        machine="fan",
        language="en",
        outrun=True,
        since=NOON,
        stated=stated,
        measured=2 * stated,
        sentence="too many",
    )
    store.put_model(keys.monitor(CUSTOMER, asset_id, "pace.json"), found)


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
    uncovered(store, "fan-04")
    onboard(store, page, "05")
    uncovered(store, "fan-05")
    onboard(store, page, "06")
    outrun(store, "fan-06", stated=page.policy.clips_per_day)
    found = statuses(store)
    assert found == {
        "fan-04": "ringing",
        "fan-05": "uncovered",
        "fan-01": "blind",
        "fan-03": "unset",
        "fan-06": "outrun",
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
    state = AlarmState(phase="hold_off", since=NOON, raised_at=NOON, cleared_at=NOON, last_time=NOON, raised=2)
    judged(store, "fan-00", state)
    html = render_fleet_page(gather_fleet(store, CUSTOMER), language="en")
    assert "last alarm 2026-03-02 12:00, 2 in all" in html
    assert "1 judged, the last of 2026-03-02 12:00" in html
    assert "drift: too few judged to say" in html
    assert "quiet; no new alarm for a while" in html
    assert re.search(r"<dd>measured [0-9.]*[0-9]</dd>", html), "a figure in a cell is no sentence"


RINGING = AlarmState(phase="alarm", since=NOON, raised_at=NOON, last_time=NOON, raised=1)
LEFT_OPEN = AlarmState(phase="hold_off", since=NOON, raised_at=NOON, last_time=NOON, raised=1, held_s=600)
LOUD_CLIP = (RecentClip(clip_id="a", exceeded=True),)
LOW_CLIP = (RecentClip(clip_id="a", exceeded=False),)


@pytest.mark.parametrize(
    ("language", "since", "said"),
    [
        ("en", None, ("ringing", "raised 2026-03-02 12:00, left open by the former model", "not heard by the present")),
        ("en", {"recent": LOUD_CLIP}, ("left open by the former model", "no second message until 2026-03-02 12:50")),
        ("en", {"recent": LOUD_CLIP, "phase": "armed"}, ("left open by the former model", "<dd>still loud</dd>")),
        ("en", {"recent": LOW_CLIP, "quiet_clips": 2}, ("left open by the former model", "2 clips in a row")),
        ("ko", None, ("경보 중", "2026-03-02 12:00 발생, 이전 모델에서 해제되지 않음", "판정한 녹음 없음")),
        ("ko", {"recent": LOUD_CLIP}, ("해제되지 않음", "2026-03-02 12:50까지 다시 알리지 않음")),
        ("ko", {"recent": LOW_CLIP, "quiet_clips": 2}, ("해제되지 않음", "연속 2개")),
    ],
)
def test_an_alarm_that_the_former_model_left_open_rings_until_its_low_clips_are_heard(
    store: FolderStore, make_asset_page: Any, onboard: Any, language: Any, since: Any, said: tuple[str, ...]
) -> None:
    onboard(store, make_asset_page())
    judged(store, "fan-00", RINGING, version="v0")
    if since is not None:
        judged(store, "fan-00", LEFT_OPEN.model_copy(update=since))
    assert statuses(store) == {"fan-00": "ringing"}
    html = render_fleet_page(gather_fleet(store, CUSTOMER), language=language)
    for text in said:
        assert text in html
    for false in ("quiet", "not watched yet", "경보 해제"):
        assert false not in html


@pytest.mark.parametrize("over", [{"quiet_clips": 3}, {"cleared_at": NOON}])
def test_an_alarm_left_open_is_over_when_its_low_clips_were_heard(
    store: FolderStore, make_asset_page: Any, onboard: Any, over: dict[str, Any]
) -> None:
    onboard(store, make_asset_page())
    judged(store, "fan-00", RINGING, version="v0")
    judged(store, "fan-00", LEFT_OPEN.model_copy(update=over))
    assert statuses(store) == {"fan-00": "unproven"}


def test_a_machine_that_is_loud_again_in_hold_off_is_not_called_quiet(
    store: FolderStore, make_asset_page: Any, onboard: Any
) -> None:
    onboard(store, make_asset_page())
    judged(store, "fan-00", LEFT_OPEN.model_copy(update={"cleared_at": NOON, "recent": LOUD_CLIP}))
    html = render_fleet_page(gather_fleet(store, CUSTOMER), language="en")
    assert "still loud; no second message until 2026-03-02 12:50" in html
    assert "quiet" not in html
    assert statuses(store) == {"fan-00": "ringing"}


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_a_ringing_machine_leads_to_the_picture_and_the_sound_of_its_alarm(
    store: FolderStore, make_asset_page: Any, onboard: Any, version: str
) -> None:
    onboard(store, make_asset_page())
    for time, name in ((NOON - timedelta(days=1), "old"), (NOON, "new")):
        for end in ("json", "png", "flac"):
            store.put(keys.alarm(CUSTOMER, "fan-00", f"{alarm_stamp(time)}-{name}.{end}"), name.encode())
    judged(store, "fan-00", RINGING, version=version)
    file_fleet_page(store, CUSTOMER, language="en")
    place = Path(store.location(keys.fleet(CUSTOMER)))
    links = re.findall(r'href="([^"]+/alarms/[^"]+)"', place.read_text(encoding="utf-8"))
    assert [link.rpartition(".")[2] for link in links] == ["png", "flac"]
    assert [(place.parent / link).resolve().read_bytes() for link in links] == [b"new", b"new"]


@pytest.mark.parametrize(
    ("language", "why", "said"),
    [
        ("en", "refused", ("Not heard", "since 2026-03-02 12:00", "were refused")),
        ("en", "silent", ("Not heard", "since 2026-03-02 12:00", "none comes at all")),
        ("ko", "refused", ("감시 중단", "2026-03-02 12:00 이후", "제외됨")),
        ("ko", "silent", ("감시 중단", "2026-03-02 12:00 이후", "들어오지 않음")),
    ],
)
@pytest.mark.parametrize("has_been_judged", [False, True])
def test_a_machine_that_nobody_hears_says_so_and_what_the_monitor_said(
    store: FolderStore,
    make_asset_page: Any,
    onboard: Any,
    language: Any,
    why: Cause,
    said: tuple[str, ...],
    has_been_judged: bool,
) -> None:
    onboard(store, make_asset_page())
    if has_been_judged:
        judged(store, "fan-00", AlarmState())
    uncovered(store, "fan-00", why, language=language)
    html = render_fleet_page(gather_fleet(store, CUSTOMER), language=language)
    for text in said:
        assert text in html
    assert "<p>&lt;fan&gt;: not covered, a fault would not be heard</p>" in html
    assert Words(language)("fleet.advice.uncovered") not in html, "the monitor's sentence says it already"
    elsewhere = "ko" if language == "en" else "en"
    other = render_fleet_page(gather_fleet(store, CUSTOMER), language=elsewhere)
    assert Words(elsewhere)("fleet.advice.uncovered") in other
    assert f'<span lang="{language}">&lt;fan&gt;' in other, "what was said in another language is marked as such"


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", ("Recorded too often", "2,880 recordings a day come")), ("ko", ("녹음 횟수 초과", "하루 녹음 2,880개"))],
)
def test_a_machine_that_is_recorded_too_often_says_what_that_makes_of_its_rate(
    store: FolderStore, make_asset_page: Any, onboard: Any, language: Any, said: tuple[str, ...]
) -> None:
    onboard(store, make_asset_page())
    outrun(store, "fan-00", stated=1440)
    html = render_fleet_page(gather_fleet(store, CUSTOMER), language=language)
    for text in said:
        assert text in html


def test_how_often_it_was_recorded_by_another_cadence_says_nothing(
    store: FolderStore, make_asset_page: Any, onboard: Any
) -> None:
    onboard(store, make_asset_page())
    outrun(store, "fan-00", stated=24)
    assert statuses(store) == {"fan-00": "unproven"}


@pytest.mark.parametrize("before", ["en", "ko", None])
def test_a_page_that_is_refreshed_keeps_its_language(
    store: FolderStore, make_asset_page: Any, onboard: Any, before: Any
) -> None:
    onboard(store, make_asset_page())
    if before is not None:
        file_fleet_page(store, CUSTOMER, language=before)
    for _ in range(2):
        refresh_fleet_page(store, CUSTOMER, otherwise="ko")
    assert f'<html lang="{before or "ko"}">'.encode() in store.get(keys.fleet(CUSTOMER))


def test_a_machine_of_the_customer_s_own_type_is_called_as_the_customer_calls_it(
    store: FolderStore, make_asset_page: Any, onboard: Any
) -> None:
    mixer = MachineType(id="fan", en="mixer", ko="믹서")
    onboard(store, make_asset_page(types=with_own_types([mixer])))
    fleet = file_fleet_page(store, CUSTOMER, language="ko")
    assert fleet.machines[0].machine_type == "fan"
    assert "믹서 00" in store.get(keys.fleet(CUSTOMER)).decode()
    onboard(store, make_asset_page())
    assert "믹서" not in str(file_fleet_page(store, CUSTOMER, language="ko")), (
        "a built-in type needs no name of its own"
    )


def test_a_champion_that_takes_over_an_alarm_is_shown_as_the_monitor_takes_it(
    store: FolderStore, make_asset_page: Any, onboard: Any
) -> None:
    onboard(store, make_asset_page())
    for phase in ("alarm", "armed"):
        judged(store, "fan-00", AlarmState(phase=phase, since=NOON, raised_at=NOON, last_time=NOON, raised=1))
        for version in ("v1", "v2"):
            log = WatchLog(store, CUSTOMER, "fan-00", version)
            assert read_state(store, CUSTOMER, "fan-00", version) == log.state
    assert read_state(store, CUSTOMER, "fan-01", "v1") == AlarmState()


def test_what_was_judged_is_counted_over_all_parts_as_they_grow(
    store: FolderStore, make_asset_page: Any, onboard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.watch_log, "PART_ROWS", 2)
    onboard(store, make_asset_page())
    for number in range(1, 6):
        judged(store, "fan-00", AlarmState(), number=number, refused=number % 2 == 0)
        watched = gather_fleet(store, CUSTOMER).machines[0].watched
        assert watched is not None
        assert (watched.judged, watched.refused, watched.last) == (number - number // 2, number // 2, NOON)
    assert len(part_keys(store, CUSTOMER, "fan-00")) == 3
    html = render_fleet_page(gather_fleet(store, CUSTOMER), language="en")
    assert "3 judged" in html
    assert "2 refused" in html
    last = part_keys(store, CUSTOMER, "fan-00")[-1]
    store.put(last, b"PAR1")
    with pytest.raises(StoreError, match=f"{last} is damaged"):
        gather_fleet(store, CUSTOMER)


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
