"""What a source lists and reads, what it names instead, and when a file counts as written."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError
from tasks import keys
from tasks.hearing import read_regular
from tasks.recordings import RecorderFolder, Settling, Source, StoreRecordings
from tasks.store import FolderStore
from tasks.watch_log import SeenFile, read_rows
from tasks.watch_news import News
from tasks.watching import Watcher
from tests.tasks.watching_rig import ASSET, CUSTOMER, make_watch, sound, write

MOST = 2**20


class PassedOver:
    """What a source names instead of listing it."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def __call__(self, name: str, why: str) -> None:
        self.said[name] = why


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture(params=["folder", "store"])
def place(request: pytest.FixtureRequest, store: FolderStore, tmp_path: Path) -> tuple[Path, Source]:
    """A folder with a recording in it, and a source that looks there."""
    if request.param == "folder":
        folder = tmp_path / "recorder"
        write(folder, "good.wav", sound(1))
        return folder, RecorderFolder(folder)
    folder = store.root / keys.recordings(CUSTOMER, ASSET)
    write(folder, "good.wav", sound(1))
    return folder, StoreRecordings(store, CUSTOMER, ASSET)


def names(source: Source, passed_over: PassedOver | None = None) -> list[str]:
    return [file.name for file in source.list(passed_over or PassedOver())]


@pytest.fixture
def held_socket(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as one:
        yield one


def test_pipes_sockets_and_links_are_named_and_not_read(
    place: tuple[Path, Source], tmp_path: Path, held_socket: socket.socket
) -> None:
    folder, source = place
    os.mkfifo(folder / "pipe.wav")
    (tmp_path / "s").mkdir()
    held_socket.bind(str(tmp_path / "s" / "x"))
    (tmp_path / "s" / "x").rename(folder / "socket.wav")
    (folder / "link.wav").symlink_to(write(tmp_path, "outside.wav", sound(2)))
    (folder / "linked").symlink_to(tmp_path / "s")
    (folder / "dangling.wav").symlink_to(tmp_path / "none")
    passed_over = PassedOver()
    assert names(source, passed_over) == ["good.wav"]
    assert sorted(passed_over.said) == ["dangling.wav", "link.wav", "linked", "pipe.wav", "socket.wav"]
    assert all("recording itself" in why or "move the folder" in why for why in passed_over.said.values())


def test_a_pipe_keeps_nobody_waiting_and_is_named_once(store: FolderStore, tmp_path: Path) -> None:
    folder = tmp_path / "recorder"
    write(folder, "good.wav", sound(1))
    os.mkfifo(folder / "pipe.wav")
    os.utime(folder / "pipe.wav", (1e9, 1e9))
    news: list[News] = []
    watching = Watcher(store, make_watch(store), RecorderFolder(folder), patience=3, tell=None, on_news=news.append)
    looking = threading.Thread(target=lambda: [watching.look() for _ in range(3)], daemon=True)
    looking.start()
    looking.join(30)
    assert not looking.is_alive()
    assert read_rows(store, CUSTOMER, ASSET)["name"].tolist() == ["good.wav"]
    assert [each.text for each in news if each.kind == "passed_over"] == list(watching.tally.refused.values())
    assert "pipe.wav" in watching.tally.refused


def test_a_file_that_becomes_a_link_or_a_pipe_after_it_was_listed_is_not_read(
    place: tuple[Path, Source], tmp_path: Path
) -> None:
    folder, source = place
    (file,) = source.list()
    path = folder / file.name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="no plain file"):
        source.read(file, most=MOST)
    path.unlink()
    path.symlink_to(write(tmp_path, "outside.wav", sound(1)))
    with pytest.raises(OSError, match="links"):
        source.read(file, most=MOST)


def test_no_more_is_read_than_may_be(tmp_path: Path) -> None:
    path = write(tmp_path, "a.wav", bytes(5_000_000))
    data, stat = read_regular(path, most=1_000_000)
    assert (len(data), stat.st_size) == (1_000_001, 5_000_000)
    assert len(read_regular(path, most=5_000_000)[0]) == 5_000_000


def test_a_file_that_changed_since_it_was_listed_is_left_to_the_next_look(place: tuple[Path, Source]) -> None:
    folder, source = place
    (file,) = source.list()
    assert source.read(file, most=MOST) == sound(1)
    write(folder, "good.wav", sound(1) + b"more")
    assert source.read(file, most=MOST) is None


def test_names_that_no_key_may_have_are_named_with_what_to_do(store: FolderStore) -> None:
    folder = store.root / keys.recordings(CUSTOMER, ASSET)
    for number, name in enumerate(("2026\\03.wav", "tab\t.wav", "_fine.wav", "3번 라인.wav")):
        write(folder, name, sound(number), minute=number)
    news: list[News] = []
    source = StoreRecordings(store, CUSTOMER, ASSET)
    watching = Watcher(store, make_watch(store), source, patience=None, tell=None, on_news=news.append)
    for _ in range(2):
        watching.look()
    assert read_rows(store, CUSTOMER, ASSET)["name"].tolist() == ["_fine.wav", "3번 라인.wav"]
    said = [each.text for each in news if each.kind == "passed_over"]
    assert sorted(watching.tally.refused) == [r"2026\\03.wav", r"tab\x09.wav"]
    assert len(said) == 2
    assert all("rename it" in text for text in said)


def test_a_folder_of_recordings_that_leads_out_of_the_store_is_not_followed(store: FolderStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside, "a.wav", sound(1))
    place = store.root / keys.recordings(CUSTOMER, ASSET)
    place.parent.mkdir(parents=True)
    place.symlink_to(outside)
    with pytest.raises(InputError, match="--watch"):
        StoreRecordings(store, CUSTOMER, ASSET).list()


def test_nothing_recorded_yet_is_nothing_wrong(store: FolderStore) -> None:
    assert StoreRecordings(store, CUSTOMER, ASSET).list() == []


def test_a_folder_below_that_may_not_be_read_is_named(
    place: tuple[Path, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, source = place
    write(folder, "below/a.wav", sound(2))
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name in refused:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    refused, passed_over = {"below"}, PassedOver()
    monkeypatch.setattr(os, "scandir", refuse)
    assert names(source, passed_over) == ["good.wav"]
    assert "Permission denied" in passed_over.said["below"]
    refused.add(folder.name)
    with pytest.raises(InputError, match="Permission denied"):
        source.list()


@pytest.mark.parametrize("seconds", [-1.0, 4e11, 253402300700.0])
def test_times_that_no_calendar_has_are_no_trouble(place: tuple[Path, Source], seconds: float) -> None:
    folder, source = place
    os.utime(folder / "good.wav", (seconds, seconds))
    (file,) = source.list()
    assert 1970 <= file.modified.year <= 2100
    assert source.read(file, most=MOST) == sound(1)


# --- when a file is written ---------------------------------------------------------------------------------------

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)


class Clock:
    """Tells the seconds that a test says."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def grown(bytes_: int) -> SeenFile:
    return SeenFile("a.wav", bytes_, NOW - timedelta(hours=1))


@pytest.mark.parametrize("poll_s", [0.1, 1.0, 5.0])
def test_a_file_must_stand_still_for_so_long_however_often_it_is_looked_at(poll_s: float) -> None:
    clock = Clock()
    settling = Settling(patience=3, settle_s=10, clock=clock)
    assert settling.take_settled([], now=NOW) == []
    for size in (1, 2, 3):
        written = clock.seconds
        for _ in range(int(8 / poll_s)):
            assert settling.take_settled([grown(size)], now=NOW) == []
            clock.seconds += poll_s
    while clock.seconds < 200 and not settling.take_settled([grown(3)], now=NOW):
        clock.seconds += poll_s
    assert 10 <= clock.seconds - written < 10 + 2 * poll_s


def test_at_the_first_look_a_file_that_is_old_enough_is_written() -> None:
    settling = Settling(patience=3, settle_s=10, clock=Clock())
    fresh = SeenFile("b.wav", 1, NOW - timedelta(seconds=9))
    assert settling.take_settled([grown(1), fresh], now=NOW) == [grown(1)]


@pytest.mark.parametrize("settle_s", [1e-6, 0.1, 10.0])
def test_what_is_old_enough_is_settled_at_the_first_look_whatever_the_clock_reads(settle_s: float) -> None:
    """A clock that counts from long ago is coarser than what is taken from it."""
    now = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
    file = SeenFile("1.wav", 1, now - timedelta(hours=1))
    for step in range(200):
        settling = Settling(patience=None, settle_s=settle_s, clock=lambda step=step: 69_000.0 + step / 7)  # type: ignore[misc]
        assert settling.take_settled([file], now=now) == [file]
