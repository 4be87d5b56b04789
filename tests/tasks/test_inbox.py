"""What a look into the inbox takes up, by content, and what it leaves alone."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger
from prefect.states import Completed, Failed

import tasks.inbox
from schemas.errors import EnvironmentFault, InputError, StoreError
from schemas.references import Package
from schemas.settings import ArchiveLimits, OnboardSettings
from tasks import keys
from tasks.inbox import (
    MOST_ATTEMPTS,
    Arrival,
    Line,
    Look,
    conclude_inbox,
    look_into_inbox,
    note_begun,
    note_ended,
)
from tasks.inbox_log import InboxLog
from tasks.runs import REJECTED, Manifest, code_version
from tasks.s3_store import S3Store
from tasks.store import FolderStore, ObjectStore

SETTINGS = OnboardSettings()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with disable_run_logger():
        yield


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def drop(store: FolderStore, name: str, content: str, *, stored: bool = False) -> Path:
    """A zip of one file below acme's inbox."""
    path = store.root / "inbox" / "acme" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.csv", content)
    return path


def look(store: ObjectStore, settings: OnboardSettings = SETTINGS, *, settle_s: float = 0) -> Look:
    return look_into_inbox.fn("acme", "inbox/acme", store.url, settings, settle_s=settle_s)


def names(found: Look) -> list[str]:
    return [arrival.name for arrival in found.new]


def try_out(store: ObjectStore, arrival: Arrival, state: object, settings: OnboardSettings = SETTINGS) -> str:
    """Begin a package and let its run end in a state; what became of it."""
    note_begun(arrival, "acme", store.url, settings)
    return note_ended(arrival, state, "acme", store.url).became  # type: ignore[arg-type]


def test_a_package_is_known_by_its_content_whatever_it_is_called(store: FolderStore) -> None:
    drop(store, "first.zip", "a")
    drop(store, "later/other.zip", "b")
    drop(store, "again.zip", "a", stored=True)
    (store.root / "inbox" / "acme" / "same.zip").write_bytes((store.root / "inbox" / "acme" / "first.zip").read_bytes())
    found = look(store)
    assert len(found.new) == 2
    assert found.known == 2
    for arrival in found.new:
        assert try_out(store, arrival, Completed()) == "onboarded"
    assert (names(look(store)), look(store).known) == ([], 4)
    drop(store, "third.zip", "c")
    assert names(look(store)) == ["third.zip"]


def test_nothing_in_the_inbox_is_touched(store: FolderStore) -> None:
    path = drop(store, "first.zip", "a")
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    try_out(store, look(store).new[0], Completed())
    look(store)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert list(store.list_keys("inbox/")) == ["inbox/acme/first.zip"]


def test_a_file_that_was_read_is_not_read_again(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(store, "first.zip", "a")
    first = look(store)
    monkeypatch.setattr(tasks.inbox, "_identify", lambda *_: pytest.fail("read again"))
    assert look(store) == first
    monkeypatch.undo()
    drop(store, "first.zip", "another content")
    assert look(store).new[0].package != first.new[0].package


def test_a_file_that_may_still_be_written_to_waits(store: FolderStore) -> None:
    path = drop(store, "first.zip", "a")
    assert look(store, settle_s=60).unsettled == ("first.zip",)
    old = time.time() - 61
    os.utime(path, (old, old))
    assert names(look(store, settle_s=60)) == ["first.zip"]
    ahead = time.time() + 3600
    os.utime(path, (ahead, ahead))
    assert names(look(store, settle_s=60)) == ["first.zip"], "a clock that is ahead keeps nobody waiting"


def test_what_is_no_package_is_named_and_stops_nothing(store: FolderStore, tmp_path: Path) -> None:
    drop(store, "good.zip", "a")
    drop(store, ".hidden.zip", "b")
    inbox = store.root / "inbox" / "acme"
    (inbox / "readme.txt").write_text("hello", encoding="utf-8")
    (inbox / "broken.zip").write_bytes(b"no zip")
    secret = tmp_path / "secret.zip"
    secret.write_bytes((inbox / "good.zip").read_bytes() + b" ")
    (inbox / "link.zip").symlink_to(secret)
    found = look(store)
    assert set(names(found)) == {"good.zip", "broken.zip"}, "what is broken gets a run that says so"
    assert found.left_alone.keys() == {".hidden.zip", "readme.txt", "link.zip"}
    assert "send recordings and table as one zip" in found.left_alone["readme.txt"]
    assert "rename it" in found.left_alone[".hidden.zip"]
    assert "put the file itself there" in found.left_alone["link.zip"]


def test_another_customer_s_inbox_is_not_looked_into(store: FolderStore) -> None:
    path = drop(store, "first.zip", "a")
    other = store.root / "inbox" / "acme-2" / "theirs.zip"
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    assert names(look(store)) == ["first.zip"]


def test_a_refused_package_is_taken_up_again_once_the_settings_changed(store: FolderStore) -> None:
    drop(store, "first.zip", "a")
    assert try_out(store, look(store).new[0], Failed(name=REJECTED, message="row 2: mend it")) == "refused"
    assert (names(look(store)), look(store).refused) == ([], {"first.zip": "row 2: mend it"})
    changed = OnboardSettings(seed=1)
    assert names(look(store, changed)) == ["first.zip"]
    assert try_out(store, look(store, changed).new[0], Completed(), changed) == "onboarded"
    assert names(look(store, OnboardSettings(seed=2))) == [], "what was onboarded is not onboarded again"


def test_a_package_that_kills_its_worker_is_given_up_and_goes_last(store: FolderStore) -> None:
    drop(store, "killer.zip", "a")
    for attempt in range(MOST_ATTEMPTS):
        assert names(look(store)) == ["killer.zip"], attempt
        note_begun(look(store).new[0], "acme", store.url, SETTINGS)
        if attempt == 0:
            drop(store, "z-after.zip", "b")
            assert names(look(store)) == ["z-after.zip", "killer.zip"]
            try_out(store, look(store).new[0], Completed())
    assert (names(look(store)), look(store).given_up) == ([], ("killer.zip",))
    assert names(look(store, OnboardSettings(seed=1))) == ["killer.zip"]


def test_a_package_whose_worker_dies_is_not_given_up_as_long_as_it_gets_further(store: FolderStore) -> None:
    drop(store, "first.zip", "a")
    package = look(store).new[0].package
    for attempt in range(3 * MOST_ATTEMPTS):
        assert names(look(store)) == ["first.zip"], attempt
        note_begun(look(store).new[0], "acme", store.url, SETTINGS)
        store.put(keys.clip_audio("acme", package, f"{attempt:012x}"), b"one clip more before the power failed")
    for _ in range(MOST_ATTEMPTS):
        note_begun(look(store).new[0], "acme", store.url, SETTINGS)
    assert (names(look(store)), look(store).given_up) == ([], ("first.zip",)), "from here on it got nowhere"


def test_a_damaged_page_of_a_run_that_was_cut_off_keeps_nobody_from_his_turn(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(store, "first.zip", "a")
    note_begun(look(store).new[0], "acme", store.url, SETTINGS)
    store.put("runs/acme/0123456789abcdef/quality.json", b"{}")
    whole = FolderStore.get

    def get(self: FolderStore, key: str) -> bytes:
        if key.startswith("runs/"):
            raise StoreError(f"{key} is damaged")
        return whole(self, key)

    monkeypatch.setattr(FolderStore, "get", get)
    assert names(look(store)) == ["first.zip"]


@pytest.mark.parametrize(
    ("fault", "became", "tries"),
    [
        (InputError("no such column; add it"), "refused", 1),
        (ZeroDivisionError("a fault of ours"), "failed", MOST_ATTEMPTS),
        (EnvironmentFault("the store is away"), "failed", None),
        (StoreError("the store is away"), "failed", None),
    ],
)
def test_whose_fault_it_is_decides_how_often_a_package_is_tried(
    store: FolderStore, fault: Exception, became: str, tries: int | None
) -> None:
    drop(store, "first.zip", "a")
    for attempt in range(MOST_ATTEMPTS + 2):
        found = look(store)
        if tries is not None and attempt == tries:
            assert names(found) == []
            return
        assert names(found) == ["first.zip"]
        note_begun(found.new[0], "acme", store.url, SETTINGS)
        line = note_ended(found.new[0], Failed(message="it failed", data=fault), "acme", store.url)
        assert (line.became, line.message) == (became, str(fault))
    assert tries is None


def test_a_look_goes_on_where_a_store_that_went_away_stopped_it(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(store, "first.zip", "a")

    def refuse(*_: object) -> str:
        raise StoreError("the store is away")

    monkeypatch.setattr(tasks.inbox, "_identify", refuse)
    monkeypatch.setattr(FolderStore, "exists", refuse)
    with pytest.raises(StoreError):
        look(store)
    monkeypatch.undo()
    assert names(look(store)) == ["first.zip"]


def read_log(store: ObjectStore) -> InboxLog:
    return store.get_model(keys.inbox_log("acme"), InboxLog)


def file_run(store: ObjectStore, package: str, verdict: str, settings: OnboardSettings = SETTINGS) -> None:
    """What `alp onboard` leaves of a package, as far as a look asks."""
    run = {"settings": settings.model_dump(mode="json"), "code_version": code_version()}
    manifest = {"package": {"package_id": package, "name": "by hand"}, "result": {"verdict": verdict}, "run": run}
    store.put(keys.raw("acme", package), b"zip")
    store.put(keys.run("acme", package, "manifest.json"), json.dumps(manifest).encode())


def test_the_log_forgets_what_the_plant_took_away(store: FolderStore) -> None:
    paths = [drop(store, f"{number}.zip", str(number)) for number in range(3)]
    for arrival in look(store).new:
        try_out(store, arrival, Completed())
    assert (len(read_log(store).uploads), len(read_log(store).packages)) == (3, 3)
    paths[0].unlink()
    paths[1].unlink()
    look(store)
    assert (list(read_log(store).uploads), len(read_log(store).packages)) == (["inbox/acme/2.zip"], 1)


def test_a_package_that_comes_back_is_known_by_its_runs(store: FolderStore) -> None:
    path = drop(store, "first.zip", "a")
    (arrival,) = look(store).new
    try_out(store, arrival, Completed())
    file_run(store, arrival.package, "accepted")
    path.unlink()
    look(store)
    assert read_log(store).packages == {}
    drop(store, "again.zip", "a")
    assert (names(look(store)), look(store).known) == ([], 1)


def test_what_was_refused_by_hand_is_taken_up_once_the_settings_changed(store: FolderStore) -> None:
    drop(store, "first.zip", "a")
    (arrival,) = look(store).new
    file_run(store, arrival.package, "rejected")
    assert (names(look(store)), look(store).refused) == ([], {"first.zip": ""})
    assert names(look(store, OnboardSettings(seed=1))) == ["first.zip"]


def test_runs_are_read_once_for_packages_that_were_onboarded_by_hand(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        drop(store, f"{number}.zip", str(number))
    for arrival in look(store).new:
        file_run(store, arrival.package, "accepted")
    asked: list[str] = []
    get = FolderStore.get

    def count(self: FolderStore, key: str) -> bytes:
        asked.append(key)
        return get(self, key)

    monkeypatch.setattr(FolderStore, "get", count)
    assert look(store).known == 5
    assert sum(key.endswith("manifest.json") for key in asked) == 5, "of five packages, not five times five"
    asked.clear()
    assert look(store).known == 5
    assert asked == [keys.inbox_log("acme")] * len(asked)


def test_a_log_that_cannot_be_read_is_made_anew(store: FolderStore) -> None:
    drop(store, "first.zip", "a")
    store.put(keys.inbox_log("acme"), b'{"of": "another version"}')
    assert names(look(store)) == ["first.zip"]


def test_a_file_that_cannot_be_read_keeps_no_other_from_its_turn(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(store, "a-bad.zip", "a")
    drop(store, "b-good.zip", "b")
    identify = tasks.inbox._identify

    def fail(path: Path, limits: ArchiveLimits) -> str:
        if path.name == "a-bad.zip":
            raise StoreError("it does not match its checksum")
        return identify(path, limits)

    monkeypatch.setattr(tasks.inbox, "_identify", fail)
    found = look(store)
    assert names(found) == ["b-good.zip"]
    assert found.left_alone == {"a-bad.zip": "it cannot be read (it does not match its checksum); drop it again"}


def test_a_file_beyond_all_limits_is_not_even_read(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(store, "huge.zip", "a" * 1000, stored=True)
    monkeypatch.setattr(tasks.inbox, "_identify", lambda *_: pytest.fail("read"))
    found = look(store, OnboardSettings(archive=ArchiveLimits(max_total_bytes=500)))
    assert "a package at most 500; send it in parts" in found.left_alone["huge.zip"]


def test_a_folder_that_was_never_zipped_is_named_once_and_clutter_not_at_all(store: FolderStore) -> None:
    drop(store, "good.zip", "a")
    inbox = store.root / "inbox" / "acme"
    (inbox / "펌프 1호기" / "audio").mkdir(parents=True)
    for number in range(9):
        (inbox / "펌프 1호기" / "audio" / f"{number}.wav").write_bytes(b"RIFF")
    (inbox / "Thumbs.db").write_bytes(b"")
    assert look(store).left_alone.keys() == {"펌프 1호기/"}


@pytest.mark.parametrize(
    "end", ["another", Failed(message="no such file", data=InputError("no such file")), Failed(name=REJECTED)]
)
def test_what_is_replaced_while_it_is_onboarded_is_held_against_nothing(store: FolderStore, end: object) -> None:
    """Whichever lay there when the run read it, the look cannot have found out for the other."""
    path = drop(store, "first.zip", "a")
    (arrival,) = look(store).new
    note_begun(arrival, "acme", store.url, SETTINGS)
    drop(store, "first.zip", "another")
    manifest = Manifest.model_construct(package=Package.model_construct(package_id="0" * 16))
    state = Completed(data=manifest) if end == "another" else end
    line = note_ended(arrival, state, "acme", store.url)  # type: ignore[arg-type]
    assert (line.became, "takes up what lies there now" in line.message) == ("gone", True)
    assert names(look(store)) == ["first.zip"]
    path.unlink()
    drop(store, "second.zip", "a")
    assert names(look(store)) == ["second.zip"], "what lay there first was never onboarded"


def test_what_is_taken_away_before_its_turn_is_taken_up_when_it_comes_back(store: FolderStore) -> None:
    path = drop(store, "first.zip", "a")
    (arrival,) = look(store).new
    note_begun(arrival, "acme", store.url, SETTINGS)
    path.unlink()
    gone = Failed(message="there is no such file", data=InputError("there is no such file"))
    line = note_ended(arrival, gone, "acme", store.url)
    assert (line.became, "drop it again" in line.message) == ("gone", True)
    drop(store, "first.zip", "a")
    assert names(look(store)) == ["first.zip"]


def test_a_look_that_is_killed_while_it_reads_does_not_read_all_again(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        drop(store, f"{number}.zip", str(number))
    read: list[str] = []
    identify = tasks.inbox._identify

    def kill(path: Path, limits: ArchiveLimits) -> str:
        read.append(path.name)
        if len(read) == 3:
            raise KeyboardInterrupt
        return identify(path, limits)

    monkeypatch.setattr(tasks.inbox, "_NOTE_EVERY_S", 0.0)
    monkeypatch.setattr(tasks.inbox, "_identify", kill)
    with pytest.raises(KeyboardInterrupt):
        look(store)
    assert len(look(store).new) == 4
    assert read == ["0.zip", "1.zip", "2.zip", "2.zip", "3.zip"]


@pytest.mark.parametrize("bad", [True, False])
def test_the_end_of_a_look_tells_of_every_file_that_is_not_onboarded(
    bad: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: list[list[dict[str, str]]] = []
    monkeypatch.setattr(tasks.inbox, "create_table_artifact", lambda *, table, **_: tables.append(table))
    found = Look(
        customer="acme",
        new=(),
        known=2,
        refused={"old.zip": "row 3: name the machine"},
        unsettled=(),
        left_alone={"readme.txt": "it is no zip"},
        given_up=("killer.zip",),
    )
    lines = [Line(name="new.zip", package="0" * 16, became="refused", message="row 2: mend it")] if bad else []
    state = conclude_inbox(found, lines)
    assert (state.is_failed(), state.name == REJECTED) == (bad, bad)
    message = str(state.message)
    assert ("new.zip refused: row 2: mend it" in message) == bad
    for told in (
        "2 known already",
        "old.zip was refused before: row 3: name the machine",
        "killer.zip failed 3 times",
        "readme.txt is left alone",
    ):
        assert told in message
    assert [[row["name"] for row in table] for table in tables] == (
        [["new.zip", "old.zip", "killer.zip", "readme.txt"]] if bad else []
    )


def send(store: S3Store, name: str, content: str, *, stored: bool = False) -> None:
    """A zip of one file, sent to acme's inbox by somebody who knows nothing of us."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.csv", content)
    key = store.address.key(f"inbox/acme/{name}")
    store.bucket.sdk.put_object(store.address.bucket, key, io.BytesIO(buffer.getvalue()), len(buffer.getvalue()))


def test_in_a_bucket_too_a_package_is_known_by_its_content(s3_url: str) -> None:
    store = S3Store.open(s3_url)
    send(store, "펌프 1호기.zip", "a")
    send(store, "again.zip", "a", stored=True)
    send(store, ".hidden.zip", "b")
    send(store, "탭\t.zip", "b")
    found = look(store)
    assert (len(found.new), found.known, len(found.left_alone)) == (1, 1, 2)
    assert try_out(store, found.new[0], Completed()) == "onboarded"
    assert (names(look(store)), look(store).known) == ([], 2)
    send(store, "again.zip", "b")
    assert names(look(store)) == ["again.zip"], "within the same second, and of the same length"
    store.delete("inbox/acme/again.zip")
    assert (names(look(store)), list(read_log(store).uploads)) == ([], ["inbox/acme/펌프 1호기.zip"])


def test_a_look_into_a_bucket_of_which_all_is_known_reads_the_log_and_no_package(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = S3Store.open(s3_url)
    for number in range(20):
        send(store, f"{number}.zip", str(number))
    for arrival in look(store).new:
        try_out(store, arrival, Completed())
    asked: list[str] = []
    for name in ("get_with_stat", "download", "exists", "stat", "put", "replace", "lock"):
        monkeypatch.setattr(S3Store, name, _counting(getattr(S3Store, name), asked))
    assert look(store).known == 20
    assert set(asked) == {keys.inbox_log("acme")}
    assert len(asked) == 2


def _counting(act: Callable[..., Any], asked: list[str]) -> Callable[..., Any]:
    def count(self: S3Store, key: str, *arguments: Any, **options: Any) -> Any:
        asked.append(key)
        return act(self, key, *arguments, **options)

    return count
