"""The loop around a watcher: silence, trouble, and an end that somebody asks for."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.watch_loop import keep_watching
from schemas.errors import StoreError
from tasks.recordings import RecorderFolder
from tasks.store import FolderStore
from tasks.watch_log import read_rows
from tasks.watching import Watcher
from tests.tasks.watching_rig import ASSET, AT_ONCE_S, CUSTOMER, make_watch, sound, write


class Listener:
    """Hears what the loop says, and may act on it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.troubles: list[str] = []

    def say(self, text: str, style: str | None = None) -> None:
        self.said.append(text)

    def say_once(self, text: str) -> None:
        self.troubles.append(text)


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    (tmp_path / "recorder").mkdir()
    return tmp_path / "recorder"


@pytest.fixture
def watcher(tmp_path: Path, recorder: Path) -> Watcher:
    store = FolderStore(tmp_path / "store")
    return Watcher(store, make_watch(store), RecorderFolder(recorder), patience=3, settle_s=AT_ONCE_S, tell=None)


def judged(watcher: Watcher, tmp_path: Path) -> list[str]:
    return read_rows(FolderStore(tmp_path / "store"), CUSTOMER, ASSET)["name"].tolist()


Step = tuple[Callable[[], object], Callable[[Listener], bool]]
"""What happens, and what the loop makes of it before the next thing happens."""


def run(watcher: Watcher, *steps: Step, by: signal.Signals = signal.SIGTERM) -> Listener:
    """Keep watching through the steps, and then until the signal that follows them."""
    heard, handlers = Listener(), [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def play() -> None:
        try:
            for act, has_happened in steps:
                act()
                deadline = time.monotonic() + 60
                while not has_happened(heard) and time.monotonic() < deadline:
                    time.sleep(0.02)
        finally:
            os.kill(os.getpid(), by)

    thread = threading.Thread(target=play)
    thread.start()
    keep_watching(watcher, poll_s=0.05, say=heard.say, say_once=heard.say_once, quiet_s=0.1)
    thread.join()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    return heard


def quiet_times(heard: Listener) -> int:
    return sum("still listening" in text for text in heard.said)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_it_judges_what_comes_until_it_is_stopped(
    watcher: Watcher, recorder: Path, tmp_path: Path, by: signal.Signals
) -> None:
    heard = run(
        watcher,
        (lambda: (recorder / "a.wav").write_bytes(sound(1)), lambda _: watcher.tally.judged == 1),
        (lambda: (recorder / "b.wav").write_bytes(sound(2)), lambda _: watcher.tally.judged == 2),
        by=by,
    )
    assert judged(watcher, tmp_path) == ["a.wav", "b.wav"]
    assert heard.said[-1] == "Stopped"


def test_silence_is_said_once_and_again_after_a_recording(watcher: Watcher, recorder: Path) -> None:
    heard = run(
        watcher,
        (lambda: None, lambda heard: quiet_times(heard) == 1),
        (lambda: time.sleep(0.5), lambda heard: quiet_times(heard) == 1),
        (lambda: write(recorder, "a.wav", sound(1)), lambda heard: quiet_times(heard) == 2),
    )
    assert quiet_times(heard) == 2


def test_a_store_that_fails_is_named_and_tried_again(
    watcher: Watcher, recorder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(recorder, "a.wav", sound(1))
    look, broken = watcher.look, [True]

    def fail_at_first(**options: Callable[[], bool]) -> int:
        if broken[0]:
            raise StoreError("the disk is full")
        return look(**options)

    monkeypatch.setattr(watcher, "look", fail_at_first)
    heard = run(
        watcher,
        (lambda: None, lambda heard: len(heard.troubles) > 1),
        (lambda: broken.__setitem__(0, False), lambda _: watcher.tally.judged == 1),
    )
    assert "the disk is full" in heard.troubles[0]
    assert judged(watcher, tmp_path) == ["a.wav"]


def test_what_follows_a_look_comes_after_each_and_also_after_one_that_failed(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def fail(**_: object) -> int:
        order.append("look")
        raise StoreError("the disk is full")

    def follow() -> None:
        order.append("after")
        if len(order) == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(watcher, "look", fail)
    keep_watching(watcher, poll_s=0.01, say=lambda *_: None, say_once=lambda _: None, after_look=follow)
    assert order == ["look", "after"] * 3


def test_it_stops_between_two_batches(watcher: Watcher, recorder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tasks.watching

    monkeypatch.setattr(tasks.watching, "BATCH", 1)
    for number in range(3):
        write(recorder, f"{number}.wav", sound(number), minute=number)
    stops = iter([False, True])
    watcher.look(should_stop=lambda: next(stops))
    assert watcher.tally.judged == 1
