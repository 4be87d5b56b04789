"""The page of all machines follows what is judged, and never stands in its way."""

from __future__ import annotations

from pathlib import Path

import pytest

import tasks.fleet_upkeep
from schemas.errors import StoreError
from tasks.fleet_upkeep import REST_S, FleetPage
from tasks.recordings import RecorderFolder
from tasks.store import FolderStore
from tasks.watch_news import News
from tasks.watching import Watcher
from tests.tasks.watching_rig import AT_ONCE_S, CUSTOMER, LOUD, QUIET, make_watch, sound, write


class Page:
    """A page that is kept up, with a clock that a test turns, and how often it was written."""

    def __init__(self, store: FolderStore, patch: pytest.MonkeyPatch) -> None:
        self.written, self.now, self.takes_s = 0, 0.0, 0.0
        self.said: list[str] = []
        self.is_damaged = False
        patch.setattr(tasks.fleet_upkeep, "refresh_fleet_page", self._write)
        self.page = FleetPage(store, CUSTOMER, otherwise="en", say=self.said.append, clock=lambda: self.now)

    def _write(self, store: FolderStore, customer: str, *, otherwise: str) -> None:
        self.now += self.takes_s
        if self.is_damaged:
            raise StoreError("fan-07/ledger.parquet is damaged")
        self.written += 1

    def keep_up(self, *, after_s: float = 0.0) -> int:
        self.now += after_s
        self.page.keep_up()
        return self.written


class Recorder:
    """A recorder's folder, and who watches it and keeps a page."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.store, self.folder = FolderStore(home / "store"), home / "recorder"
        self.folder.mkdir()
        self.page = Page(self.store, patch)
        place = RecorderFolder(self.folder)
        self.watcher = Watcher(
            self.store,
            make_watch(self.store),
            place,
            patience=1,
            settle_s=AT_ONCE_S,
            tell=None,
            on_news=self.page.page.note,
        )
        self._number = 0

    def record(self, level: float = QUIET) -> None:
        self._number += 1
        write(self.folder, f"{self._number}.wav", sound(self._number, level), minute=self._number)
        self.look()

    def look(self) -> None:
        for _ in range(3):
            self.watcher.look()


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(tmp_path, monkeypatch)


def test_what_is_judged_is_on_the_page_once_a_minute(recorder: Recorder) -> None:
    page = recorder.page
    assert page.keep_up() == 1, "at the start: whoever watched before may have been killed"
    recorder.record()
    recorder.record()
    assert page.keep_up(after_s=REST_S / 2) == 1
    assert page.keep_up(after_s=REST_S / 2) == 2
    assert page.keep_up(after_s=10 * REST_S) == 2, "nothing new"


def test_an_alarm_and_its_end_and_an_outage_are_on_the_page_at_once(recorder: Recorder) -> None:
    page = recorder.page
    page.keep_up()
    recorder.record(LOUD)
    assert page.keep_up() == 2
    recorder.record()
    assert page.keep_up() == 2
    recorder.record()
    assert page.keep_up() == 3
    for number in range(3):
        write(recorder.folder, f"bad{number}.wav", b"RIFF" + bytes([number]), minute=10 + number)
    recorder.look()
    assert page.keep_up() == 4
    recorder.record()
    assert page.keep_up() == 5


def test_what_is_not_filed_changes_no_page(recorder: Recorder) -> None:
    recorder.page.keep_up()
    for kind in ("repeated", "passed_over", "told", "not_told", "away", "trouble"):
        recorder.page.page.note(News(kind, text="x"))
    assert recorder.page.keep_up(after_s=10 * REST_S) == 1


def test_a_page_that_takes_long_is_written_less_often(recorder: Recorder) -> None:
    page = recorder.page
    page.takes_s = 30.0
    page.keep_up()
    recorder.record()
    assert page.keep_up(after_s=REST_S) == 1
    assert page.keep_up(after_s=600.0) == 2


def test_a_page_that_cannot_be_written_is_said_and_tried_again_and_keeps_nothing_from_being_judged(
    recorder: Recorder,
) -> None:
    page = recorder.page
    page.is_damaged = True
    page.keep_up()
    recorder.record(LOUD)
    page.keep_up()
    assert recorder.watcher.tally.judged == 1
    assert len(page.said) == 2
    assert "fan-07/ledger.parquet is damaged" in page.said[0]
    page.is_damaged = False
    assert page.keep_up() == 0
    assert page.keep_up(after_s=REST_S) == 1


def test_when_watching_ends_the_page_is_written_if_it_is_behind(recorder: Recorder) -> None:
    page = recorder.page
    page.keep_up()
    page.page.keep_up(at_once=True)
    assert page.written == 1
    recorder.record()
    page.page.keep_up(at_once=True)
    assert page.written == 2
