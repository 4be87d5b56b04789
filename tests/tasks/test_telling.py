"""Who is told of what, when, in which words, and what a server that refuses one of them keeps back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from schemas.errors import EnvironmentFault
from tasks import keys
from tasks.alarms import Alarm, describe_happening, untold_alarms
from tasks.events import Happening, tell_server, without_credentials
from tasks.store import FolderStore
from tasks.untold import link_maker, tell_of_all
from tasks.watch_news import News
from tests.tasks.watching_rig import ASSET, CUSTOMER

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
HANGUL = ("경보", "주의")


def alarm(number: int = 0, **changes: object) -> Alarm:
    made = Alarm(
        alarm_id=f"20260302T100{number}00Z-abcdefff",
        customer=CUSTOMER,
        asset=ASSET,
        machine="fan 00",
        language="en",
        time=NOW - timedelta(minutes=1),
        judged_at=NOW,
        clip="a.wav",
        recording_id="r1",
        clips=("r1",),
        score=0.4,
        threshold=0.3,
        severity=45.0,
        grade="NORMAL",
        alarm_grade="WARNING",
        p_value=0.1,
        rule="3 of 5",
        certified=False,
        engine="a",
        model_version="v1",
        picture="assets/acme/fan-00/alarms/x.png",
        sound=None,
        page="runs/acme/r/fan-00/report.html",
        sentence="fan 00 (acme): alarm.",
    )
    return made.model_copy(update=changes)


def filed(store: FolderStore, *alarms: Alarm) -> FolderStore:
    for each in alarms:
        store.put_model(keys.alarm(CUSTOMER, ASSET, f"{each.alarm_id}.json"), each)
    return store


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def sentence(of: Alarm, *, now: datetime = NOW) -> str:
    return str(describe_happening(of, link=str, now=now).payload["sentence"])


def test_a_message_in_time_says_nothing_of_time() -> None:
    assert sentence(alarm()) == "fan 00 (acme): alarm."


@pytest.mark.parametrize(
    ("after", "said"),
    [(timedelta(minutes=30), "31 minutes"), (timedelta(hours=5), "5 hours"), (timedelta(days=3), "3 days")],
)
def test_a_late_message_says_how_late(after: timedelta, said: str) -> None:
    assert f"comes {said} after the recording" in sentence(alarm(), now=NOW + after)


def test_a_message_of_an_alarm_that_is_over_says_so() -> None:
    assert "has ended since" in sentence(alarm(cleared_at=NOW))
    assert "model v2 took over" in sentence(alarm(superseded_by="v2"))


def test_subject_and_caveats_are_in_the_asset_s_language() -> None:
    payload = describe_happening(alarm(language="ko", cleared_at=NOW), link=str, now=NOW + timedelta(days=1)).payload
    assert all(word in payload["subject"] for word in HANGUL)
    assert "종료되었습니다" in payload["sentence"]
    assert describe_happening(alarm(), link=str, now=NOW).payload["subject"] == "fan 00 (acme): alarm, warning"


def test_links_begin_with_what_the_plant_says(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "runs/acme/r/fan-00/report.html"
    monkeypatch.delenv("ALP_LINK_BASE", raising=False)
    assert link_maker(store)(key) == f"{store.url}/{key}"
    monkeypatch.setenv("ALP_LINK_BASE", "https://files.plant.example/alp/")
    payload = describe_happening(alarm(), link=link_maker(store), now=NOW).payload
    assert payload["page_link"] == f"https://files.plant.example/alp/{key}"
    assert payload["page"] == key


def test_without_a_server_an_alarm_stays_untold_and_is_told_later(store: FolderStore) -> None:
    filed(store, alarm(judged_at=datetime.now(UTC)))
    assert tell_of_all(store, CUSTOMER, ASSET, None).told == 0
    got: list[Happening] = []
    assert tell_of_all(store, CUSTOMER, ASSET, got.append).told == 1
    assert tell_of_all(store, CUSTOMER, ASSET, got.append).told == 0
    assert len(got) == 1


def test_an_alarm_that_nobody_could_be_told_for_a_week_is_given_up_and_that_is_said(store: FolderStore) -> None:
    filed(store, alarm(judged_at=datetime.now(UTC) - timedelta(days=8)))
    got: list[Happening] = []
    news: list[News] = []
    for _ in range(2):
        tell_of_all(store, CUSTOMER, ASSET, got.append, news.append)
    assert (got, [each.kind for each in news]) == ([], ["too_old"])


def test_one_event_that_the_server_refuses_keeps_no_other_back(store: FolderStore) -> None:
    now = datetime.now(UTC)
    filed(store, *(alarm(number, judged_at=now) for number in range(3)))
    got: list[str] = []

    def refuse_the_first(happening: Happening) -> str | None:
        if happening.key == alarm(0).alarm_id:
            return "status 422"
        got.append(happening.key)
        return None

    telling = tell_of_all(store, CUSTOMER, ASSET, refuse_the_first)
    assert (telling.told, len(telling.refused)) == (2, 1)
    assert "422" in telling.refused[0]
    assert got == [alarm(1).alarm_id, alarm(2).alarm_id]
    assert [each.alarm_id for each in untold_alarms(store, CUSTOMER, ASSET)] == [alarm(0).alarm_id], "it is tried again"


class Answering:
    """Stands for Prefect's client: the server answers every request with one status."""

    def __init__(self, status: int) -> None:
        self.status = status

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def request(self, method: str, path: str, **_: object) -> httpx.Response:
        request = httpx.Request(method, f"http://ops:s3cret@127.0.0.1:4200/api{path}")
        if path == "/events":
            return httpx.Response(self.status, request=request)
        return httpx.Response(200, json={"events": []}, request=request)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answering:
    answering = Answering(204)
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda **_: answering)
    monkeypatch.setattr("tasks.events.server_url", lambda: "http://ops:s3cret@127.0.0.1:4200/api")
    return answering


def happening() -> Happening:
    return describe_happening(alarm(), link=str, now=NOW)


def test_what_the_server_says_of_one_event_is_told_from_what_it_says_of_all(answer: Answering) -> None:
    assert tell_server(happening()) is None
    for answer.status in (413, 422):
        assert str(answer.status) in str(tell_server(happening()))
    for answer.status in (401, 404, 429, 500, 503):
        with pytest.raises(EnvironmentFault, match=str(answer.status)) as fault:
            tell_server(happening())
        assert "s3cret" not in str(fault.value)


def test_a_password_in_an_address_is_not_repeated() -> None:
    said = without_credentials("GET http://ops:s3cret@host:4200/api and https://host/x?mail=a@b")
    assert said == "GET http://host:4200/api and https://host/x?mail=a@b"
