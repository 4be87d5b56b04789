"""Long steps have a bar in the Prefect UI, short ones none, and no step pays for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tasks import ui_progress
from tasks.progress import listening, track
from tasks.ui_progress import progress_artifact


class Server:
    """What it was told of bars: share and words, in order; or it fails, or it never answers."""

    def __init__(self) -> None:
        self.made: list[UUID] = []
        self.drawn: list[tuple[float, str]] = []
        self.fails = False
        self.answers = threading.Event()
        self.answers.set()

    def create(self, share: float, *, description: str) -> UUID:
        self.made.append(uuid4())
        return self.update(self.made[-1], share, description=description)

    def update(self, artifact: UUID, share: float, *, description: str) -> UUID:
        self.answers.wait(10)
        if self.fails:
            raise RuntimeError("http://key:secret@server refuses")
        self.drawn.append((share, description))
        return artifact


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, and a task run under way."""
    told = Server()
    monkeypatch.setattr(ui_progress, "create_progress_artifact", told.create)
    monkeypatch.setattr(ui_progress, "update_progress_artifact", told.update)
    monkeypatch.setattr(ui_progress, "server_url", lambda: "http://127.0.0.1:4200/api")
    monkeypatch.setattr(ui_progress.TaskRunContext, "get", lambda: object())
    monkeypatch.setattr(ui_progress, "_FIRST_S", 0.05)
    monkeypatch.setattr(ui_progress, "_EVERY_S", 0.05)
    with listening(progress_artifact):
        yield told
    told.answers.set()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_long_step_has_one_bar_that_fills(server: Server) -> None:
    with track("Judging recordings", total=1200) as advance:
        advance(300)
        until(lambda: server.drawn)
        for _ in range(300):
            advance(1)
        until(lambda: (50.0, "Judging recordings: 600 of 1,200") in server.drawn)
    assert len(server.made) == 1
    assert server.drawn[0] == (25.0, "Judging recordings: 300 of 1,200")
    assert server.drawn[-1] == (100.0, "Judging recordings: 1,200 of 1,200"), "what is over is full"


def test_a_short_step_has_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui_progress, "_FIRST_S", 60.0)
    began = time.monotonic()
    with track("Judging recordings", total=3) as advance:
        advance(3)
    assert server.made == []
    assert time.monotonic() - began < 30, "nobody waits for the first look"


def test_a_step_that_fails_leaves_its_bar_where_it_stood(server: Server) -> None:
    def fail() -> None:
        with track("Judging recordings", total=4) as advance:
            advance(1)
            until(lambda: server.drawn)
            raise ValueError("the step's own")

    with pytest.raises(ValueError, match="the step's own"):
        fail()
    assert server.drawn[-1] == (25.0, "Judging recordings: 1 of 4")


def test_a_server_that_refuses_fails_no_step_and_shows_no_secret(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.fails = True
    with track("Judging recordings", total=4) as advance:
        advance(1)
        until(lambda: server.made)
        advance(3)
    assert server.drawn == []
    assert "secret" not in caplog.text


def test_a_server_that_does_not_answer_keeps_no_step_waiting(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui_progress, "_PATIENCE_S", 0.1)
    server.answers.clear()
    with track("Judging recordings", total=4) as advance:
        until(lambda: server.made)
        advance(4)
        began = time.monotonic()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("missing", ["server", "task run"])
def test_without_a_server_or_a_run_nobody_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "server":
        monkeypatch.setattr(ui_progress, "server_url", lambda: None)
    else:
        monkeypatch.setattr(ui_progress.TaskRunContext, "get", lambda: None)
    threads = threading.active_count()
    with track("Judging recordings", total=4):
        assert threading.active_count() == threads
        time.sleep(0.2)
    assert server.made == []


def test_bars_of_the_terminal_and_of_the_ui_fill_together_and_once(server: Server) -> None:
    from contextlib import contextmanager

    seen: list[int] = []

    @contextmanager
    def terminal(description: str, total: int) -> Iterator[Any]:
        yield seen.append

    with listening(terminal), listening(progress_artifact), track("Judging recordings", total=2) as advance:
        advance(1)
        until(lambda: server.drawn)
    assert seen == [1]
    assert len(server.made) == 1, "a flow within a flow listens once"
