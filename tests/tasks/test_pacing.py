"""A false-alarm budget is of a day at a cadence: recordings that come more often are named, copies are not."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engines.alarm import AlarmState, outruns_cadence
from schemas.settings import AlarmPolicy
from tasks import keys
from tasks.monitoring import Watch
from tasks.pacing import Pace, judge_pace, made_one_by_one, read_pace, window_size
from tasks.recordings import RecorderFolder
from tasks.store import FolderStore
from tasks.watch_log import Made, Row, WatchLog
from tasks.watch_news import News
from tasks.watching import Watcher
from tests.tasks.watching_rig import ASSET, AT_ONCE_S, CUSTOMER, START, make_watch, sound, with_policy, write

CLIP_S = 10.0


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def file_rows(store: FolderStore, times: Iterable[datetime], *, exceeded: bool | None = False) -> WatchLog:
    """Rows of recordings that were judged, as if they had been made then."""
    log = WatchLog(store, CUSTOMER, ASSET, "v1")
    rows = [
        Row(
            recording_id=f"{time:%d%H%M%S%f}-{number}",
            file_sha=f"{time:%d%H%M%S%f}-{number}",
            name=f"{number}.wav",
            bytes=1,
            modified=time,
            time=time,
            duration_s=CLIP_S,
            model_version="v1",
            engine="a",
            score=0.02,
            p_value=0.5,
            severity=10.0,
            grade="NORMAL",
            state="on",
            decision="normal",
            exceeded=exceeded,
            notes="",
            alarm_state=AlarmState().model_dump_json(),
        )
        for number, time in enumerate(times)
    ]
    with log.locked():
        log.file_rows(rows)
    return log


def paced(store: FolderStore, times: Iterable[datetime], **policy: Any) -> Pace | None:
    return judge_pace(store, watched(store, **policy), file_rows(store, times), None)


def watched(store: FolderStore, **policy: Any) -> Watch:
    return with_policy(make_watch(store), **policy)


def every(seconds: float, count: int, *, start: datetime = START) -> list[datetime]:
    return [start + timedelta(seconds=seconds * number) for number in range(count)]


@pytest.mark.parametrize(("seconds", "outrun"), [(60.0, False), (56.0, False), (30.0, True), (10.0, True)])
def test_who_records_more_often_than_stated_is_told_what_was_measured(
    store: FolderStore, seconds: float, outrun: bool
) -> None:
    found = paced(store, every(seconds, 1700))
    assert found is not None
    assert (found.outrun, round(found.measured)) == (outrun, round(86_400 / seconds))
    assert read_pace(store, CUSTOMER, ASSET) == found
    if outrun:
        assert "1,440" in found.sentence
        assert f"{found.measured:,.0f} recordings a day" in found.sentence
        assert "alp onboard --settings" in found.sentence
    else:
        assert (found.sentence, found.since) == ("", None)


def test_a_day_s_worth_is_awaited_before_anything_is_said(store: FolderStore) -> None:
    size = window_size(AlarmPolicy())
    assert size == 1585
    assert paced(store, every(30, size - 1)) is None
    assert read_pace(store, CUSTOMER, ASSET) is None


def test_the_sentence_is_in_the_language_of_the_asset(store: FolderStore) -> None:
    watch = watched(store)
    ear = replace(watch.ear, settings=watch.settings.model_copy(update={"language": "ko"}))
    found = judge_pace(store, replace(watch, ear=ear), file_rows(store, every(30, 1700)), None)
    assert found is not None
    assert "하루 녹음 1,440개" in found.sentence
    assert "2,880개" in found.sentence


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("a_day", [5, 7, 60, 90, 480, 1440])
def test_whoever_keeps_to_it_by_the_day_is_never_called_too_fast(a_day: int, seed: int) -> None:
    """By shifts, or all at once each morning: the budget is of the day."""
    rng = random.Random(seed)
    policy = AlarmPolicy(clips_per_day=a_day)
    size, step = window_size(policy), rng.choice([15, 25_000 / a_day])
    times = [START + timedelta(days=day, seconds=step * number) for day in range(45) for number in range(a_day)]
    for end in range(size, min(len(times), 4 * size), max(1, size // 97)):
        assert not outruns_cadence(times[end - size : end], policy)


@pytest.mark.parametrize("step_s", [0.0, 0.01, 1.0, 4.0])
def test_a_folder_that_was_unpacked_or_copied_says_nothing_of_how_often_it_was_recorded(
    store: FolderStore, step_s: float
) -> None:
    assert paced(store, every(step_s, 2000)) is None


def test_a_copied_folder_among_recordings_at_the_stated_pace_does_not_count(store: FolderStore) -> None:
    live = every(60, 1600)
    times = [*live[:1200], *every(0.02, 1000, start=live[1199] + timedelta(seconds=5)), *live[1200:]]
    found = paced(store, times)
    assert found is not None
    assert not found.outrun


def test_a_backlog_with_its_own_times_does_not_count_as_made_today(store: FolderStore) -> None:
    found = paced(store, [*every(60, 1600), *every(60, 1600, start=START - timedelta(days=30))])
    assert found is not None
    assert not found.outrun


def test_a_recorder_that_records_without_a_break_and_jitters_is_counted_whole() -> None:
    rng = random.Random(0)
    made = [Made(time + timedelta(seconds=rng.uniform(-1, 1)), CLIP_S) for time in every(CLIP_S, 500)]
    assert len(made_one_by_one(made)) == 500


def test_recordings_of_a_machine_that_is_off_cannot_ring_and_do_not_count(store: FolderStore) -> None:
    log = file_rows(store, every(30, 1700), exceeded=None)
    assert judge_pace(store, watched(store), log, None) is None


def test_another_cadence_forgets_what_was_found_by_the_one_before(store: FolderStore) -> None:
    found = paced(store, every(30, 1700))
    assert found is not None
    log = WatchLog(store, CUSTOMER, ASSET, "v1")
    assert judge_pace(store, watched(store, clips_per_day=2880), log, found) is None
    assert read_pace(store, CUSTOMER, ASSET) is None
    more = file_rows(store, every(30, 2000, start=START + timedelta(days=1)))
    now = judge_pace(store, watched(store, clips_per_day=2880), more, None)
    assert now is not None
    assert not now.outrun


def test_a_damaged_note_is_written_anew(store: FolderStore) -> None:
    store.put(keys.monitor(CUSTOMER, ASSET, "pace.json"), b"{")
    assert read_pace(store, CUSTOMER, ASSET) is None
    assert paced(store, every(30, 1700)) == read_pace(store, CUSTOMER, ASSET)


def test_a_watch_says_it_once_and_again_when_it_is_over(store: FolderStore, tmp_path: Path) -> None:
    folder, news = tmp_path / "recorder", list[News]()
    folder.mkdir()
    watch = watched(store, clips_per_day=1440)
    file_rows(store, every(30, 1700))

    def start() -> Watcher:
        place = RecorderFolder(folder)
        return Watcher(store, watch, place, patience=1, settle_s=AT_ONCE_S, tell=None, on_news=news.append)

    def said() -> list[str]:
        return [each.kind for each in news if each.kind in ("outrun", "in_pace")]

    watching = start()
    for number in range(3):
        write(folder, f"{number}.wav", sound(number), minute=850 + number / 2)
        watching.look()
    assert said() == ["outrun"]
    assert (watching.watched.outrun, len(watching.watched.notes)) == (True, 1)
    file_rows(store, every(60, 1700, start=START + timedelta(days=1)))
    write(folder, "later.wav", sound(9), minute=2 * 1700)
    watching.look()
    assert said() == ["outrun", "in_pace"]
    assert (watching.watched.outrun, watching.watched.notes) == (False, ())
