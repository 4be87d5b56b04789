"""A machine that nobody hears is not covered, and that is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tasks.covering
from schemas.settings import AlarmPolicy
from tasks.covering import read_coverage, silence_limit_s
from tasks.events import Happening
from tasks.recordings import RecorderFolder
from tasks.store import FolderStore
from tasks.watch_news import News
from tasks.watching import Watcher
from tests.tasks.watching_rig import ASSET, AT_ONCE_S, CUSTOMER, make_watch, sound, write


class Clock:
    """The time of day, as a test says it."""

    def __init__(self) -> None:
        self.now_is = datetime.now(UTC)

    def now(self, zone: object) -> datetime:
        return self.now_is


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tasks.covering, "datetime", clock)
    return clock


class Recorder:
    """A recorder's folder and who watches it."""

    def __init__(self, home: Path) -> None:
        self.folder, self.store = home / "recorder", FolderStore(home / "store")
        self.folder.mkdir()
        self.news: list[News] = []
        self.told: list[Happening] = []
        self.number = 0
        self.watching = self.start()

    def start(self, *, patience: int | None = 1) -> Watcher:
        self.watching = Watcher(
            self.store,
            make_watch(self.store),
            RecorderFolder(self.folder),
            patience=patience,
            settle_s=AT_ONCE_S,
            tell=self.told.append,
            on_news=self.news.append,
        )
        return self.watching

    def record(self, level: float, *, times: int = 1, same: bool = False) -> None:
        for _ in range(times):
            self.number += 1
            data = sound(0 if same else self.number, level)
            write(self.folder, f"{self.number}.wav", data, minute=self.number)
        self.look()

    def look(self) -> None:
        for _ in range(3):
            self.watching.look()
        self.watching.tell_people()

    @property
    def said(self) -> list[str]:
        return [each.kind for each in self.news if each.kind in ("uncovered", "covered")]


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


def broken(number: int) -> bytes:
    return b"RIFF" + bytes([number])


def test_a_sensor_of_which_every_recording_is_refused_is_told_once(recorder: Recorder) -> None:
    recorder.record(0.02)
    for number in range(3):
        write(recorder.folder, f"bad{number}.wav", broken(number), minute=10 + number)
    recorder.look()
    recorder.look()
    coverage = read_coverage(recorder.store, CUSTOMER, ASSET)
    assert coverage is not None
    assert (coverage.covered, coverage.why) == (False, "refused")
    assert coverage.last_good == datetime(2026, 3, 2, 10, 1, tzinfo=UTC)
    (told,) = recorder.told
    assert told.event == "alp.uncovered"
    assert "no good recording since 2026-03-02" in told.payload["sentence"]
    assert "cannot be decoded" in told.payload["sentence"]
    assert recorder.said == ["uncovered"]
    recorder.start()
    recorder.look()
    assert len(recorder.told) == 1, "not after a restart either"


def test_the_same_silence_again_and_again_is_a_dead_sensor_too(recorder: Recorder) -> None:
    recorder.record(0.0, times=3, same=True)
    assert recorder.said == ["uncovered"]
    assert "no good recording yet" in recorder.told[0].payload["sentence"]


def test_a_good_recording_covers_the_machine_again_and_the_next_outage_is_told_anew(
    recorder: Recorder, clock: Clock
) -> None:
    recorder.record(0.0, times=3, same=True)
    recorder.record(0.02)
    coverage = read_coverage(recorder.store, CUSTOMER, ASSET)
    assert coverage is not None
    assert coverage.covered
    clock.now_is += timedelta(minutes=1)
    recorder.record(0.0, times=3, same=True)
    assert recorder.said == ["uncovered", "covered", "uncovered"]
    assert len(recorder.told) == 2


def test_one_bad_recording_is_no_outage(recorder: Recorder) -> None:
    recorder.record(0.02)
    recorder.record(0.0)
    recorder.record(0.02)
    assert (recorder.said, recorder.told) == ([], [])


def test_silence_for_long_is_an_outage_for_who_stays(recorder: Recorder, clock: Clock) -> None:
    recorder.record(0.02)
    clock.now_is += timedelta(minutes=59)
    recorder.look()
    assert recorder.said == []
    clock.now_is += timedelta(minutes=2)
    recorder.look()
    assert recorder.said == ["uncovered"]
    assert "Nothing has come for 61 minutes" in recorder.told[0].payload["sentence"]


def test_silence_is_found_by_passes_that_come_and_go(recorder: Recorder, clock: Clock) -> None:
    recorder.start(patience=None).look()
    clock.now_is += timedelta(hours=3)
    assert recorder.start(patience=None).look() == 0
    assert recorder.said == ["uncovered"]


def test_how_long_silence_may_last_follows_the_cadence() -> None:
    assert silence_limit_s(AlarmPolicy()) == 3600
    assert silence_limit_s(AlarmPolicy(clips_per_day=24)) == 36_000
