"""Watching a folder: what is judged, in which order, once, and what a kill at any moment leaves."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

import tasks.alarm_picture
import tasks.monitor_steps
import tasks.raising
import tasks.watch_log
import tasks.watching
from schemas.errors import EnvironmentFault, WeightsError
from schemas.settings import AlarmPolicy
from tasks import keys
from tasks.alarms import describe_happening, read_alarms, read_standing
from tasks.drifting import read_drift
from tasks.events import Happening
from tasks.hearing import Ear, Heard
from tasks.monitor_steps import show_judged
from tasks.monitoring import Judgement, Watch
from tasks.recordings import RecorderFolder, Source, StoreRecordings
from tasks.store import FolderStore
from tasks.watch_log import is_left_open, part_keys, read_rows, read_state
from tasks.watch_news import News
from tasks.watching import Watcher
from tests.tasks.watching_rig import ASSET, AT_ONCE_S, CUSTOMER, LOUD, QUIET, make_watch, sound, with_policy, write

OF_THE_PLACE = ["alarm", "alarm_state"]
"""Columns that hold where a store lies, or how rows were batched."""


class Server:
    """Stands for the Prefect server: it keeps events by their id, and may be away."""

    def __init__(self) -> None:
        self.heard: dict[str, Happening] = {}
        self.is_away = False

    def __call__(self, happening: Happening) -> None:
        if self.is_away:
            raise EnvironmentFault("the server is away")
        self.heard[str(happening.event_id)] = happening

    def of(self, event: str) -> list[Happening]:
        return [each for each in self.heard.values() if each.event == event]


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


class DyingStore(FolderStore):
    """Dies at its n-th write, before it or right after it."""

    def __init__(self, root: Path, *, writes: int, after: bool) -> None:
        super().__init__(root)
        self._left, self._after = writes, after

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        yield
        if self._left == 0:
            raise Killed

    def put(self, key: str, data: bytes) -> None:
        with self._counted():
            super().put(key, data)


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    folder = tmp_path / "recorder"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.alarm_picture, "draw_alarm", lambda *_, **__: b"\x89PNG drawn")


def watcher(
    store: FolderStore,
    source: Path | Source,
    *,
    tell: Server | None = None,
    on_news: Callable[[News], None] = lambda news: None,
    patience: int | None = 3,
    settle_s: float = AT_ONCE_S,
    version: str = "v1",
    **policy: Any,
) -> Watcher:
    watch = make_watch(store, version=version)
    place = RecorderFolder(source) if isinstance(source, Path) else source
    watch = with_policy(watch, **policy) if policy else watch
    return Watcher(store, watch, place, patience=patience, settle_s=settle_s, tell=tell, on_news=on_news)


def judged(store: FolderStore) -> list[str]:
    return read_rows(store, CUSTOMER, ASSET)["name"].tolist()


def longer(data: bytes, *, seconds: float) -> bytes:
    """The sound again and again, so long, under a header that says so."""
    samples, rate = sf.read(io.BytesIO(data), dtype="int16")
    buffer = io.BytesIO()
    sf.write(buffer, np.resize(samples, int(seconds * rate)), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def as_now(path: Path) -> None:
    """A file that was written this moment, which age does not tell to be finished."""
    os.utime(path)


# --- what is judged -----------------------------------------------------------------------------------------------


def test_a_loud_clip_among_quiet_ones_raises_one_alarm_with_its_picture(store: FolderStore, recorder: Path) -> None:
    for minute in range(4):
        write(recorder, f"{minute}.wav", sound(minute), minute=minute)
    write(recorder, "4.wav", sound(4, LOUD), minute=4)
    server = Server()
    watching = watcher(store, recorder, tell=server)
    watching.look()
    watching.tell_people()
    rows = read_rows(store, CUSTOMER, ASSET)
    assert rows["decision"].tolist() == ["normal"] * 4 + ["alarm"]
    (alarm,) = read_alarms(store, CUSTOMER, ASSET)
    assert (alarm.clip, alarm.grade, alarm.model_version) == ("4.wav", "CRITICAL", "v1")
    assert alarm.time == datetime(2026, 3, 2, 10, 4, tzinfo=UTC)
    assert store.get(str(alarm.picture)).startswith(b"\x89PNG")
    assert "4.wav" in alarm.sentence
    (told,) = server.of("alp.alarm")
    assert told.resource == "alp.asset.acme.fan-00"
    for field in ("machine", "time", "severity", "grade", "p_value", "rule", "picture_link", "page_link", "alarm_id"):
        assert field in told.payload
    standing = read_standing(store, CUSTOMER, ASSET)
    assert standing is not None
    assert (standing.model_version, standing.alarm_id, standing.state.phase) == ("v1", alarm.alarm_id, "alarm")


@pytest.mark.usefixtures("no_pictures")
def test_quiet_clips_end_the_alarm(store: FolderStore, recorder: Path) -> None:
    levels = {0: LOUD}
    for minute in range(4):
        write(recorder, f"{minute}.wav", sound(minute, levels.get(minute, 0.02)), minute=minute)
    watching = watcher(store, recorder)
    watching.look()
    (alarm,) = read_alarms(store, CUSTOMER, ASSET)
    assert (alarm.cleared_by, watching.tally.cleared) == ("2.wav", [alarm.alarm_id])
    assert read_rows(store, CUSTOMER, ASSET)["alarm_id"].notna().tolist() == [True, True, True, False]


def test_recordings_are_judged_by_time_then_name(store: FolderStore, recorder: Path) -> None:
    for number, (name, minute) in enumerate((("b.wav", 1), ("a.wav", 1), ("late/c.wav", 0), ("d.FLAC", 2))):
        write(recorder, name, sound(number), minute=minute)
    watcher(store, recorder).look()
    assert judged(store) == ["late/c.wav", "a.wav", "b.wav", "d.FLAC"]


def test_hidden_files_links_and_other_files_are_not_looked_at(store: FolderStore, recorder: Path) -> None:
    write(recorder, ".being-written.wav", sound(1))
    write(recorder, ".cache/a.wav", sound(2))
    write(recorder, "rec.wav.part", sound(3))
    (recorder / "link.wav").symlink_to(write(recorder.parent, "elsewhere.wav", sound(4)))
    watcher(store, recorder).look()
    assert judged(store) == []


def test_a_restart_judges_nothing_twice(store: FolderStore, recorder: Path) -> None:
    for minute in range(3):
        write(recorder, f"{minute}.wav", sound(minute), minute=minute)
    watcher(store, recorder).look()
    again = watcher(store, recorder)
    assert again.look() == 0
    write(recorder, "3.wav", sound(3), minute=3)
    assert watcher(store, recorder).look() == 1
    assert judged(store) == ["0.wav", "1.wav", "2.wav", "3.wav"]


def test_a_file_under_another_name_is_judged_once_and_read_once(store: FolderStore, recorder: Path) -> None:
    path = write(recorder, "tmp_1.wav", sound(1))
    watching = watcher(store, recorder)
    watching.look()
    path.rename(recorder / "final.wav")
    assert watching.look() == 0, "a name that is new has to stand still for a look"
    assert watching.look() == 1
    assert (watching.tally.judged, watching.tally.repeated, watching.look()) == (1, 1, 0)
    assert watcher(store, recorder).look() == 0, "after a restart it is still known"
    assert judged(store) == ["tmp_1.wav"]


def test_the_same_sound_under_another_header_is_judged_once(store: FolderStore, recorder: Path) -> None:
    write(recorder, "a.wav", sound(1))
    samples, rate = sf.read(io.BytesIO(sound(1)), dtype="int16")
    flac = io.BytesIO()
    sf.write(flac, samples, rate, format="FLAC", subtype="PCM_16")
    write(recorder, "b.flac", flac.getvalue(), minute=1)
    watching = watcher(store, recorder)
    watching.look()
    assert (judged(store), watching.tally.repeated) == (["a.wav"], 1)


def test_recordings_dropped_in_the_store_are_judged(store: FolderStore) -> None:
    store.put(keys.recordings(CUSTOMER, ASSET, "2026-03/3번 라인.wav"), sound(1))
    path = Path(store.location(keys.recordings(CUSTOMER, ASSET, "2026-03/3번 라인.wav")))
    os.utime(path, (1e9, 1e9))
    watcher(store, StoreRecordings(store, CUSTOMER, ASSET)).look()
    assert judged(store) == ["2026-03/3번 라인.wav"]


# --- files that are not whole -------------------------------------------------------------------------------------


def test_a_growing_file_is_left_alone_until_it_stands_still(store: FolderStore, recorder: Path) -> None:
    data, path = sound(1), recorder / "a.wav"
    watching = watcher(store, recorder)
    watching.look()
    for size in (1000, 20_000, len(data)):
        path.write_bytes(data[:size])
        assert watching.look() == 0
    assert watching.look() == 1
    assert judged(store) == ["a.wav"]


def test_a_recorder_that_pauses_in_the_middle_of_a_file_loses_nothing(store: FolderStore, recorder: Path) -> None:
    data, path = sound(1), recorder / "a.wav"
    news: list[News] = []
    watching = watcher(store, recorder, on_news=news.append)
    watching.look()
    path.write_bytes(data[: len(data) // 2])
    for _ in range(3):
        watching.look()
    assert (news, watching.tally.waiting) == ([], ["a.wav"]), "its header promises more than is there"
    path.write_bytes(data)
    for _ in range(2):
        watching.look()
    assert (judged(store), watching.tally.waiting) == (["a.wav"], [])


def test_a_file_that_stays_broken_is_named_once_with_its_remedy_and_looked_at_when_it_changes(
    store: FolderStore, recorder: Path
) -> None:
    path = write(recorder, "bad.wav", b"RIFF nothing of a sound")
    write(recorder, "good.wav", sound(1), minute=1)
    news: list[News] = []
    watching = watcher(store, recorder, on_news=news.append)
    for _ in range(10):
        watching.look()
    refused = [each for each in news if each.kind == "refused"]
    assert len(refused) == 1
    assert refused[0].heard is not None
    assert "bad.wav" in str(refused[0].heard.refusal)
    assert refused[0].heard.refusal.remedy
    assert judged(store) == ["good.wav", "bad.wav"], "the broken file kept no other waiting"
    assert watcher(store, recorder).look() == 0, "it is not named again after a restart"
    path.write_bytes(sound(2))
    for _ in range(2):
        watching.look()
    assert judged(store) == ["good.wav", "bad.wav", "bad.wav"]


def test_a_refused_clip_does_not_enter_the_alarm_s_window(store: FolderStore, recorder: Path) -> None:
    write(recorder, "dead.wav", sound(1, 0.0))
    watcher(store, recorder, patience=1).look()
    standing = read_standing(store, CUSTOMER, ASSET)
    assert standing is not None
    assert (standing.state.seen, standing.state.judged, standing.last_severity) == (1, 0, None)


def test_a_file_that_goes_before_it_is_read_is_no_trouble(store: FolderStore, recorder: Path) -> None:
    class Fleeting(RecorderFolder):
        def read(self, file: Any, *, most: int) -> bytes | None:
            (recorder / file.name).unlink()
            return super().read(file, most=most)

    write(recorder, "a.wav", sound(1))
    watching = watcher(store, Fleeting(recorder))
    watching.look()
    assert (judged(store), watching.tally.refused) == ([], {})


def test_a_file_that_may_not_be_read_is_named_once_and_tried_again(store: FolderStore, recorder: Path) -> None:
    class Locked(RecorderFolder):
        locked = True

        def read(self, file: Any, *, most: int) -> bytes | None:
            if self.locked:
                raise PermissionError(13, "Permission denied")
            return super().read(file, most=most)

    write(recorder, "a.wav", sound(1))
    source, news = Locked(recorder), []
    watching = watcher(store, source, on_news=news.append)
    for _ in range(3):
        watching.look()
    assert [each.kind for each in news] == ["refused"]
    source.locked = False
    watching.look()
    assert judged(store) == ["a.wav"]


def test_a_folder_that_goes_away_is_waited_for(store: FolderStore, recorder: Path) -> None:
    write(recorder, "a.wav", sound(1))
    news: list[News] = []
    watching = watcher(store, recorder, on_news=news.append)
    watching.look()
    shutil.move(recorder, recorder.parent / "unmounted")
    watching.look()
    assert news[-1].kind == "away"
    shutil.move(recorder.parent / "unmounted", recorder)
    write(recorder, "b.wav", sound(2), minute=1)
    for _ in range(2):
        watching.look()
    assert judged(store) == ["a.wav", "b.wav"]


def test_one_look_leaves_what_was_just_written_to_the_next_run(store: FolderStore, recorder: Path) -> None:
    as_now(write(recorder, "new.wav", sound(1)))
    write(recorder, "old.wav", sound(2))
    half = write(recorder, "old-and-broken.wav", sound(3)[:5000], minute=1)
    watch = make_watch(store)
    watching = Watcher(store, watch, RecorderFolder(recorder), patience=None, tell=None)
    watching.look()
    assert judged(store) == ["old.wav", half.name]
    assert (watching.watched.waiting, watching.watched.unfinished) == (1, ("new.wav",))


def test_one_look_counts_and_names_a_file_that_may_still_be_written(store: FolderStore, recorder: Path) -> None:
    half = write(recorder, "half.wav", sound(1)[:5000])
    stamp = time.time() - 30
    os.utime(half, (stamp, stamp))
    watching = Watcher(store, make_watch(store), RecorderFolder(recorder), patience=None, tell=None)
    assert watching.look() == 1
    assert judged(store) == []
    assert (watching.watched.waiting, watching.watched.unfinished) == (1, ("half.wav",))
    assert watching.watched.say_unfinished().endswith("looked at again at the next pass: half.wav")
    os.utime(half, (stamp - 60, stamp - 60))
    watching = Watcher(store, make_watch(store), RecorderFolder(recorder), patience=None, tell=None)
    watching.look()
    assert (watching.watched.waiting, list(watching.watched.refused)) == (0, ["half.wav"])


def test_a_file_that_goes_on_where_it_was_judged_counts_once(store: FolderStore, recorder: Path) -> None:
    data = longer(sound(1, LOUD), seconds=8)
    news: list[News] = []
    watching = watcher(store, recorder, on_news=news.append)
    watching.look()
    for share in (2, 4, 8):
        (recorder / "one.wav").write_bytes(longer(sound(1, LOUD), seconds=share))
        for _ in range(2):
            watching.look()
    assert (recorder / "one.wav").read_bytes() == data
    rows = read_rows(store, CUSTOMER, ASSET)
    assert rows["decision"].tolist() == ["alarm"] * 3, "each is judged"
    assert rows["exceeded"].tolist() == [True, pd.NA, pd.NA], "and enters the window once"
    grown = [each.text for each in news if each.kind == "grown"]
    assert len(grown) == 2
    assert all("one.wav" in text and "--settle" in text for text in grown)


def test_a_name_that_is_used_again_for_another_sound_counts_again(store: FolderStore, recorder: Path) -> None:
    watching = watcher(store, recorder)
    for number in range(3):
        write(recorder, "latest.wav", sound(number), minute=number)
        for _ in range(2):
            watching.look()
    assert read_rows(store, CUSTOMER, ASSET)["exceeded"].tolist() == [False] * 3


def test_what_is_known_by_its_bytes_is_not_decoded_again(
    store: FolderStore, recorder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(recorder, "a.wav", sound(1))
    watching = watcher(store, recorder)
    watching.look()
    monkeypatch.setattr(tasks.watching, "hear", lambda *_: pytest.fail("decoded"))
    write(recorder, "copy.wav", sound(1), minute=1)
    for _ in range(2):
        watching.look()
    assert watching.tally.repeated == 1


def test_a_copy_of_a_refused_file_is_not_said_to_have_been_judged(store: FolderStore, recorder: Path) -> None:
    news: list[News] = []
    for name in ("a.wav", "b.wav"):
        write(recorder, name, sound(1, 0.0))
    watcher(store, recorder, on_news=news.append).look()
    (repeated,) = [each for each in news if each.kind == "repeated"]
    assert "a.wav" in repeated.text
    assert "refused" in repeated.text


# --- kills --------------------------------------------------------------------------------------------------------

FAULTS = (1, 4, 7)
"""Minutes: an alarm; a fault that hold-off suppresses; another alarm."""


def play(store: FolderStore, recorder: Path, server: Server) -> None:
    """Record in two goes and watch each, as a process does that may have been started anew before either of them."""
    for minutes in (range(3), range(3, 8)):
        for minute in minutes:
            write(recorder, f"{minute}.wav", sound(minute, LOUD if minute in FAULTS else 0.02), minute=minute)
        watching = watcher(store, recorder, tell=server, hold_off_s=300)
        watching.look()
        watching.tell_people()


def heard_before(hear: Callable[..., Heard]) -> Callable[..., Heard]:
    """Hears each sound once: the play is repeated for every write."""
    known: dict[bytes, Heard] = {}

    def recall(name: str, data: bytes, ear: Ear) -> Heard:
        if data not in known:
            known[data] = hear(name, data, ear)
        return known[data]

    return recall


def outcome(store: FolderStore, server: Server) -> tuple[Any, ...]:
    rows = read_rows(store, CUSTOMER, ASSET).drop(columns=OF_THE_PLACE)
    told = sorted(each.payload["alarm_id"] for each in server.of("alp.alarm"))
    alarms = list(read_alarms(store, CUSTOMER, ASSET))
    for alarm in alarms:
        assert store.exists(str(alarm.picture))
        assert store.exists(str(alarm.sound))
    return (
        rows.to_csv(),
        told,
        [alarm.model_dump(exclude={"judged_at"}) for alarm in alarms],
        read_standing(store, CUSTOMER, ASSET),
    )


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("after", [False, True], ids=["before-a-write", "after-a-write"])
def test_a_kill_at_any_write_loses_and_repeats_no_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    monkeypatch.setattr(tasks.watching, "BATCH", 3)
    monkeypatch.setattr(tasks.watching, "hear", heard_before(tasks.watching.hear))
    undisturbed, server = FolderStore(tmp_path / "undisturbed"), Server()
    play(undisturbed, tmp_path / "recorder", server)
    expected = outcome(undisturbed, server)
    assert len(expected[1]) == 2
    for writes in range(1, 200):
        home, server = tmp_path / f"killed-{writes}", Server()
        dying = DyingStore(home, writes=writes, after=after)
        try:
            play(dying, tmp_path / f"recorder-{writes}", server)
        except Killed:
            play(FolderStore(home), tmp_path / f"recorder-{writes}", server)
            assert outcome(FolderStore(home), server) == expected, f"killed at write {writes}"
            continue
        break
    else:
        pytest.fail("the play never ended")
    assert writes > 15


@pytest.mark.usefixtures("no_pictures")
def test_a_store_that_fails_for_a_moment_is_caught_up_with(
    store: FolderStore, recorder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(recorder, "0.wav", sound(0, LOUD))
    watching = watcher(store, recorder)

    def fail(*_: object) -> None:
        raise EnvironmentFault("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(tasks.watching, "write_alarms", fail)
        with pytest.raises(EnvironmentFault):
            watching.look()
    assert list(read_alarms(store, CUSTOMER, ASSET)) == []
    assert watching.look() == 0
    assert len(list(read_alarms(store, CUSTOMER, ASSET))) == 1


def test_two_who_watch_judge_each_recording_once(store: FolderStore, recorder: Path) -> None:
    one, two = watcher(store, recorder), watcher(store, recorder)
    for minute in range(3):
        write(recorder, f"{minute}.wav", sound(minute), minute=minute)
    for watching in (one, two, one):
        watching.look()
    assert judged(store) == ["0.wav", "1.wav", "2.wav"]
    write(recorder, "3.wav", sound(3), minute=3)
    for _ in range(2):
        two.look()
        one.look()
    standing = read_standing(store, CUSTOMER, ASSET)
    assert standing is not None
    assert (len(judged(store)), standing.state.seen) == (4, 4)


def test_rows_go_on_in_a_new_part_when_one_is_full(
    store: FolderStore, recorder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.watch_log, "PART_ROWS", 2)
    for minute in range(5):
        write(recorder, f"{minute}.wav", sound(minute), minute=minute)
        watcher(store, recorder).look()
    assert len(part_keys(store, CUSTOMER, ASSET)) == 3
    assert judged(store) == [f"{minute}.wav" for minute in range(5)]
    standing = read_standing(store, CUSTOMER, ASSET)
    assert standing is not None
    assert standing.state.seen == 5


# --- the champion, people, drift ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_pictures")
def test_another_champion_starts_with_an_empty_window(store: FolderStore, recorder: Path) -> None:
    write(recorder, "0.wav", sound(0, LOUD))
    watcher(store, recorder).look()
    successor = watcher(store, recorder, version="v2")
    standing = read_standing(store, CUSTOMER, ASSET)
    assert standing is not None
    assert (standing.model_version, standing.alarm_id, standing.state.seen) == ("v2", None, 0)
    assert successor.look() == 0
    (alarm,) = read_alarms(store, CUSTOMER, ASSET)
    assert (alarm.superseded_by, alarm.cleared_at) == ("v2", None)
    write(recorder, "1.wav", sound(1, LOUD), minute=1)
    for _ in range(2):
        successor.look()
    assert read_rows(store, CUSTOMER, ASSET)["model_version"].tolist() == ["v1", "v2"]
    assert len(list(read_alarms(store, CUSTOMER, ASSET))) == 1, "one fault rings once, whoever judges"
    write(recorder, "2.wav", sound(2, LOUD), minute=11)
    for _ in range(2):
        successor.look()
    assert [alarm.model_version for alarm in read_alarms(store, CUSTOMER, ASSET)] == ["v1", "v2"], "hold-off is over"


@pytest.mark.usefixtures("no_pictures")
def test_an_alarm_left_open_by_another_champion_is_over_after_its_low_clips(store: FolderStore, recorder: Path) -> None:
    def is_open() -> bool:
        return is_left_open(read_state(store, CUSTOMER, ASSET, "v2"), rearm_clips=2)

    write(recorder, "0.wav", sound(0, LOUD))
    watcher(store, recorder).look()
    successor = watcher(store, recorder, version="v2")
    assert is_open()
    for number, (level, stays) in enumerate([(LOUD, True), (QUIET, True), (QUIET, False), (LOUD, False)], start=1):
        write(recorder, f"{number}.wav", sound(number, level), minute=number)
        for _ in range(2):
            successor.look()
        assert is_open() is stays, "a loud clip after its end is no part of it"
    assert len(judged(store)) == 5


@pytest.mark.usefixtures("no_pictures")
def test_a_champion_that_returns_takes_up_nothing_of_its_first_reign(store: FolderStore, recorder: Path) -> None:
    write(recorder, "a.wav", sound(1, LOUD))
    watcher(store, recorder).look()
    for minute in range(2, 14):
        write(recorder, f"b{minute:02d}.wav", sound(minute), minute=minute)
    watcher(store, recorder, version="v2").look()
    week = 60 * 24 * 7
    for minute in range(10):
        write(recorder, f"c{minute}.wav", sound(100 + minute), minute=week + minute)
    write(recorder, "fault.wav", sound(200, LOUD), minute=week + 20)
    returned = watcher(store, recorder)
    returned.look()
    assert len(returned.tally.raised) == 1, "a new fault rings"
    first, second = read_alarms(store, CUSTOMER, ASSET)
    assert (first.superseded_by, second.model_version, second.clips) == ("v2", "v1", (second.recording_id,))
    drift = read_drift(store, CUSTOMER, ASSET)
    assert drift is not None
    assert (drift.model_version, drift.windows) == ("v1", 1), "the ten clips since it returned, and no others"
    again = watcher(store, recorder)
    standing = read_standing(store, CUSTOMER, ASSET)
    assert standing is not None
    assert (standing.alarm_id, again.look()) == (second.alarm_id, 0)


@pytest.mark.usefixtures("no_pictures")
def test_an_alarm_stays_on_where_another_champion_came_and_judged_nothing(store: FolderStore, recorder: Path) -> None:
    write(recorder, "a.wav", sound(1, LOUD))
    watcher(store, recorder).look()
    watcher(store, recorder, version="v2").look()
    watcher(store, recorder).look()
    (alarm,) = read_alarms(store, CUSTOMER, ASSET)
    standing = read_standing(store, CUSTOMER, ASSET)
    assert standing is not None
    assert (alarm.superseded_by, standing.alarm_id) == (None, alarm.alarm_id)


@pytest.mark.usefixtures("no_pictures")
def test_a_file_stamped_ahead_of_the_others_does_not_end_hold_off(store: FolderStore, recorder: Path) -> None:
    for minute, level in enumerate((LOUD, QUIET, QUIET)):
        write(recorder, f"a{minute}.wav", sound(minute, level), minute=minute)
    watching = watcher(store, recorder)
    watching.look()
    for name, level, minute in (("b.wav", QUIET, 63), ("c.wav", LOUD, 4)):
        write(recorder, name, sound(int(minute) + 50, level), minute=minute)
        for _ in range(2):
            watching.look()
    assert len(watching.tally.raised) == 1, "minute 4 lies within ten minutes of the alarm"
    write(recorder, "d.wav", sound(99, LOUD), minute=11)
    for _ in range(2):
        watching.look()
    assert len(watching.tally.raised) == 2


@pytest.mark.usefixtures("no_pictures")
def test_a_recorder_whose_clock_is_ahead_records_now_and_not_in_the_future(store: FolderStore, recorder: Path) -> None:
    path = write(recorder, "a.wav", sound(1, LOUD))
    for year in (2090, 9999):
        stamp = datetime(year, 1, 1, tzinfo=UTC).timestamp()
        os.utime(path, (stamp, stamp))
        home = FolderStore(store.root / str(year))
        watcher(home, recorder).look()
        (alarm,) = read_alarms(home, CUSTOMER, ASSET)
        assert abs((datetime.now(UTC) - alarm.time).total_seconds()) < 60


@pytest.mark.usefixtures("no_pictures")
def test_a_watcher_follows_the_champion(store: FolderStore, recorder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    news: list[News] = []
    watching = watcher(store, recorder, on_news=news.append)
    successor = make_watch(store, version="v2")
    monkeypatch.setattr(tasks.watching, "load_watch", lambda *_: successor)
    write(recorder, "0.wav", sound(0))
    watching.look()
    assert [each.kind for each in news] == ["champion", "judged"]
    assert read_rows(store, CUSTOMER, ASSET)["model_version"].tolist() == ["v2"]


@pytest.mark.usefixtures("no_pictures")
def test_a_server_that_is_away_is_told_when_it_is_back(
    store: FolderStore, recorder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.watching, "TELL_AGAIN_S", 0.0)
    write(recorder, "0.wav", sound(0, LOUD))
    server, news = Server(), []
    server.is_away = True
    watching = watcher(store, recorder, tell=server, on_news=news.append)
    watching.look()
    watching.tell_people()
    assert (server.heard, news[-1].kind) == ({}, "not_told")
    server.is_away = False
    watching.tell_people()
    watching.tell_people()
    assert len(server.heard) == 1


@pytest.mark.usefixtures("no_pictures")
def test_a_server_that_comes_later_is_told_and_the_message_says_how_late(store: FolderStore, recorder: Path) -> None:
    write(recorder, "0.wav", sound(0, LOUD))
    news: list[News] = []
    alone = watcher(store, recorder, on_news=news.append)
    alone.look()
    for _ in range(3):
        alone.tell_people()
    assert [each.kind for each in news].count("nobody_told") == 1
    server = Server()
    watcher(store, recorder, tell=server).tell_people()
    (told,) = server.of("alp.alarm")
    assert "days after the recording was made" in told.payload["sentence"]
    assert told.payload["late_s"] > 86_400


def test_an_alarm_rings_though_its_picture_cannot_be_drawn(
    store: FolderStore, recorder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise ValueError("no fonts")

    monkeypatch.setattr(tasks.alarm_picture, "draw_alarm", fail)
    write(recorder, "0.wav", sound(0, LOUD))
    watcher(store, recorder).look()
    (alarm,) = read_alarms(store, CUSTOMER, ASSET)
    assert alarm.picture is None


@pytest.mark.usefixtures("no_pictures")
def test_an_engine_that_fails_at_the_map_keeps_no_alarm_from_ringing(
    store: FolderStore, recorder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no map of this")

    monkeypatch.setattr(tasks.raising.Watch, "map_of", fail)
    write(recorder, "0.wav", sound(0, LOUD))
    watcher(store, recorder).look()
    (alarm,) = read_alarms(store, CUSTOMER, ASSET)
    assert store.exists(str(alarm.sound))


def test_a_sound_at_which_the_engine_fails_is_named_and_stops_no_other(
    store: FolderStore, recorder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write(recorder, f"{number}.wav", sound(number), minute=number)
    news: list[News] = []
    watching = watcher(store, recorder, on_news=news.append)
    judge = type(watching.watch).judge

    def fail_at_one(self: Watch, heard: list[Heard]) -> list[Judgement]:
        if any(each.name == "1.wav" for each in heard):
            raise ZeroDivisionError("nothing to divide by")
        return judge(self, heard)

    monkeypatch.setattr(type(watching.watch), "judge", fail_at_one)
    for _ in range(3):
        watching.look()
    assert judged(store) == ["0.wav", "2.wav"]
    (trouble,) = [each.text for each in news if each.kind == "trouble"]
    assert "1.wav" in trouble
    assert "nothing to divide by" in trouble


@pytest.mark.parametrize("broken", ["gone", "damaged"])
def test_a_champion_that_cannot_be_loaded_is_named_and_the_one_before_judges(
    store: FolderStore, recorder: Path, broken: str
) -> None:
    news: list[News] = []
    watching = watcher(store, recorder, on_news=news.append)
    key = keys.asset(CUSTOMER, ASSET, "champion.json")
    if broken == "gone":
        store.delete(key)
    else:
        store.put(key, b"{}")
    write(recorder, "0.wav", sound(0))
    watching.look()
    assert judged(store) == ["0.wav"]
    assert next(each.text for each in news if each.kind == "trouble")


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("damage", ["{", "{}", None])
def test_an_alarm_s_file_that_is_damaged_is_written_anew(
    store: FolderStore, recorder: Path, monkeypatch: pytest.MonkeyPatch, damage: str | None
) -> None:
    monkeypatch.setattr(tasks.watch_log, "PART_ROWS", 1)
    write(recorder, "0.wav", sound(0, LOUD))
    watcher(store, recorder).look()
    write(recorder, "1.wav", sound(1, LOUD), minute=1)
    watching = watcher(store, recorder)
    watching.look()
    (alarm,) = read_alarms(store, CUSTOMER, ASSET)
    key = keys.alarm(CUSTOMER, ASSET, f"{alarm.alarm_id}.json")
    if damage is None:
        store.delete(key)
    else:
        store.put(key, damage.encode())
    for minute in (2, 3):
        write(recorder, f"{minute}.wav", sound(minute), minute=minute)
    for _ in range(2):
        watching.look()
    (restored,) = read_alarms(store, CUSTOMER, ASSET)
    assert restored == alarm.model_copy(update={"cleared_at": restored.cleared_at, "cleared_by": "3.wav"})
    server = Server()
    watcher(store, recorder, tell=server).tell_people()
    assert len(server.of("alp.alarm")) == 1


@pytest.mark.usefixtures("no_pictures")
def test_row_alarm_and_message_grade_a_clip_alike_and_drift_leaves_the_alarm_s_clips_out(
    store: FolderStore, recorder: Path
) -> None:
    policy = AlarmPolicy(hold_off_s=600, rearm_clips=2, drift_window=10)
    watch = make_watch(store, policy)
    assert watch.rule.m > 1
    between = (watch.rule.clip_threshold + watch.threshold.value) / 2 * np.sqrt(2)
    for minute in range(6):
        write(recorder, f"{minute}.wav", sound(minute, between), minute=minute)
    watching = Watcher(store, watch, RecorderFolder(recorder), patience=3, tell=None)
    watching.look()
    rows = read_rows(store, CUSTOMER, ASSET)
    (alarm,) = read_alarms(store, CUSTOMER, ASSET)
    (row,) = rows[rows["transition"] == "raised"].to_dict("records")
    told = describe_happening(alarm, link=str, now=alarm.judged_at).payload
    assert (row["grade"], row["severity"]) == ("NORMAL", alarm.severity)
    assert (alarm.grade, alarm.alarm_grade) == (told["grade"], told["alarm_grade"]) == ("NORMAL", "WARNING")
    log = tasks.watch_log.WatchLog(store, CUSTOMER, ASSET, "v1")
    assert len(log.presumed) == (rows["alarm_id"].isna().sum() - alarm_clips_before(rows, alarm.clips))


def alarm_clips_before(rows: pd.DataFrame, clips: tuple[str, ...]) -> int:
    """High clips of an alarm's window before the one that rang."""
    return int((rows["recording_id"].isin(clips) & rows["alarm_id"].isna()).sum())


def test_an_asset_whose_normal_sound_has_moved_is_marked_and_people_are_told_once(
    store: FolderStore, recorder: Path
) -> None:
    threshold = make_watch(store).threshold.value
    normals = make_watch(store).normal_scores
    level = np.sqrt(2) * (normals.max() + threshold) / 2
    server, news = Server(), []
    for minute in range(25):
        write(recorder, f"{minute:02d}.wav", sound(minute, level), minute=minute)
        if minute in (9, 19, 24):
            watching = watcher(store, recorder, tell=server, on_news=news.append)
            watching.look()
            watching.tell_people()
    assert set(read_rows(store, CUSTOMER, ASSET)["decision"]) == {"normal"}
    drift = read_drift(store, CUSTOMER, ASSET)
    assert drift is not None
    assert (drift.mark, drift.windows, drift.model_version) == ("recalibrate", 2, "v1")
    (told,) = server.of("alp.drift")
    assert told.payload["mark"] == "recalibrate"
    assert make_watch(store).threshold.value == threshold


def test_steady_sound_is_no_drift(store: FolderStore, recorder: Path) -> None:
    for minute in range(20):
        write(recorder, f"{minute:02d}.wav", sound(minute), minute=minute)
    watcher(store, recorder).look()
    drift = read_drift(store, CUSTOMER, ASSET)
    assert drift is not None
    assert (drift.mark, drift.windows) == (None, 2)


def test_rows_read_back_as_they_were_filed(store: FolderStore, recorder: Path) -> None:
    write(recorder, "0.wav", sound(0))
    write(recorder, "1.wav", sound(1, 0.0), minute=1)
    watcher(store, recorder, patience=1).look()
    rows = read_rows(store, CUSTOMER, ASSET)
    assert isinstance(rows["time"].dtype, pd.DatetimeTZDtype)
    assert rows["score"].isna().tolist() == [False, True]
    assert rows["exceeded"].tolist() == [False, pd.NA]
    assert rows["alarm_state"].isna().tolist() == [True, False]


def test_a_pass_that_finds_nothing_new_loads_no_model(store: FolderStore, recorder: Path) -> None:
    watch = make_watch(store)
    opened: list[str] = []

    def open_engine() -> Any:
        opened.append("engine")
        return watch.engine

    def one_pass() -> Watcher:
        again = replace(watch, open_engine=open_engine)
        watching = Watcher(store, again, RecorderFolder(recorder), patience=None, settle_s=AT_ONCE_S, tell=None)
        watching.look()
        return watching

    one_pass()
    assert opened == []
    write(recorder, "1.wav", sound(1))
    assert (one_pass().tally.judged, opened) == (1, ["engine"])
    one_pass()
    assert opened == ["engine"]


def test_a_model_that_cannot_be_loaded_is_the_pass_s_fault_and_no_recording_s(
    store: FolderStore, recorder: Path
) -> None:
    def refuse() -> Any:
        raise WeightsError("its encoder's weights are not here; fetch them")

    broken = replace(make_watch(store), open_engine=refuse)
    write(recorder, "1.wav", sound(1))
    watching = Watcher(store, broken, RecorderFolder(recorder), patience=None, settle_s=AT_ONCE_S, tell=None)
    with pytest.raises(WeightsError, match="fetch them"):
        watching.look()
    assert read_rows(store, CUSTOMER, ASSET).empty
    mended = Watcher(store, make_watch(store), RecorderFolder(recorder), patience=None, settle_s=AT_ONCE_S, tell=None)
    mended.look()
    assert mended.tally.judged == 1


@pytest.mark.parametrize("changed", [True, False])
def test_a_table_is_shown_where_there_is_something_new_to_show(
    store: FolderStore, recorder: Path, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    tables: list[Any] = []
    monkeypatch.setattr(tasks.monitor_steps, "create_table_artifact", lambda **said: tables.append(said["table"]))
    write(recorder, "1.wav", sound(1))
    watching = watcher(store, recorder)
    watching.look()
    show_judged.fn(watching.watched.model_copy(update={"changed": changed}), store.url)
    assert [len(table) for table in tables] == ([1] if changed else [])
