"""Backups of a store: whole, of one moment, in a folder and on S3; given back exactly, or not at all."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import tasks.backup.making
import tasks.backup.restoring
from schemas.errors import InputError, StoreError, UsageError
from tasks.backup.catalogue import (
    Backup,
    backup_key,
    backup_names,
    object_key,
    pick_name,
    read_backup,
    read_entries,
    sha256_of,
    table_key,
)
from tasks.backup.files import copy_file, files_beside, steady
from tasks.backup.keeping import check_backup, forget_backups
from tasks.backup.making import IN_MEMORY, Made, make_backup, shelved
from tasks.backup.order import POINTERS, in_writing_order, points
from tasks.backup.place import open_shelf
from tasks.backup.restoring import Restored, restore_backup
from tasks.object_store import ObjectStat
from tasks.store import FolderStore, ObjectStore, open_store
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

CHAMPION = "assets/acme/fan-00/champion.json"
MANIFEST = "runs/acme/r1/manifest.json"
HELD = {
    "raw/acme/p1.zip": b"the upload",
    "inbox/acme/3월.zip": b"the upload",
    "packages/acme/p1/audio/0123456789ab.flac": b"sound",
    "packages/acme/p1/quality.json": b"{}",
    "assets/acme/fan-00/models/v1/engine.json": b"engine 1",
    "assets/acme/fan-00/models/v1/memory.safetensors": b"memory 1",
    "assets/acme/fan-00/ledger.parquet": b"ledger",
    "assets/acme/fan-00/monitor/v1/000000.parquet": b"rows",
    CHAMPION: b"v1",
    MANIFEST: b"r1",
    "runs/acme/r1/report.html": b"<p>",
    "recordings/acme/fan-00/a.wav": b"RIFF",
    "customers/acme/inbox.json": b"{}",
    "customers/acme/consent.json": b"{}",
    "embeddings/logmel-1/p1.safetensors": b"computed again",
}
KEPT = {key: data for key, data in HELD.items() if not key.startswith("embeddings/")}


@pytest.fixture(params=["folder", "s3"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Below it stores lie side by side."""
    return tmp_path.as_uri() if kind == "folder" else str(request.getfixturevalue("s3_url"))


def at(place: str, name: str) -> ObjectStore:
    url, _, query = place.partition("?")
    return open_store(f"{url}/{name}?{query}" if query else f"{url}/{name}")


@pytest.fixture
def store(place: str) -> ObjectStore:
    store = at(place, "store")
    for key, data in HELD.items():
        store.put(key, data)
    return store


@pytest.fixture
def shelf(place: str) -> ObjectStore:
    return at(place, "shelf")


@pytest.fixture
def empty(place: str) -> ObjectStore:
    return at(place, "other")


def contents(store: ObjectStore) -> dict[str, bytes]:
    return {key: store.get(key) for key in store.list_keys()}


def restored(shelf: ObjectStore, made: Made, store: ObjectStore, folder: Path | None = None) -> Restored:
    return restore_backup(shelf, made.backup.name, store, folder=folder)


def test_what_was_backed_up_comes_back_and_caches_do_not(
    store: ObjectStore, shelf: ObjectStore, empty: ObjectStore
) -> None:
    made = make_backup(store, shelf)
    assert (made.backup.objects, made.read) == (len(KEPT), len(KEPT))
    assert made.backup.bytes == sum(map(len, KEPT.values()))
    assert restored(shelf, made, empty).written == len(KEPT)
    assert contents(empty) == KEPT


def test_the_same_bytes_lie_there_once(store: ObjectStore, shelf: ObjectStore) -> None:
    made = make_backup(store, shelf)
    assert made.written == len(set(KEPT.values())) == len(shelved(shelf))


def test_a_second_backup_reads_what_changed_alone_and_each_gives_back_its_own(
    store: ObjectStore, shelf: ObjectStore, place: str
) -> None:
    first = make_backup(store, shelf)
    store.put(CHAMPION, b"v2")
    store.put("assets/acme/fan-00/models/v2/engine.json", b"engine 2")
    store.delete("recordings/acme/fan-00/a.wav")
    second = make_backup(store, shelf)
    assert (second.read, second.written) == (2, 2)
    assert backup_names(shelf) == [first.backup.name, second.backup.name]
    for made, champion in ((first, b"v1"), (second, b"v2")):
        into = at(place, made.backup.name)
        restored(shelf, made, into)
        assert into.get(CHAMPION) == champion
        assert into.exists("recordings/acme/fan-00/a.wav") == (made is first)


def test_a_store_that_is_not_there_is_told_and_makes_no_backup(place: str, shelf: ObjectStore) -> None:
    nowhere = at(place.replace("s3://", "s3://no-"), "nowhere")
    with pytest.raises((UsageError, StoreError), match=r"is not there|there is no such bucket"):
        make_backup(nowhere, shelf)
    assert backup_names(shelf) == []


def test_a_large_object_goes_through_a_file(
    store: ObjectStore, shelf: ObjectStore, empty: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = os.urandom(1000)
    store.put("raw/acme/p2.zip", large)
    for module in (tasks.backup.making, tasks.backup.restoring):
        monkeypatch.setattr(module, "IN_MEMORY", 100)
    restored(shelf, make_backup(store, shelf), empty)
    assert empty.get("raw/acme/p2.zip") == large
    assert IN_MEMORY > 100


def test_recordings_are_left_out_where_that_is_asked(
    store: ObjectStore, shelf: ObjectStore, empty: ObjectStore
) -> None:
    made = make_backup(store, shelf, without=("recordings/",))
    restored(shelf, made, empty)
    assert sorted(KEPT.keys() - contents(empty).keys()) == ["recordings/acme/fan-00/a.wav"]
    assert made.backup.without == ("recordings/",)


def test_files_beside_the_store_come_back_where_they_belong(
    store: ObjectStore, shelf: ObjectStore, empty: ObjectStore, tmp_path: Path
) -> None:
    beside = tmp_path / "customers"
    beside.mkdir()
    (beside / "acme.yaml").write_text("name: acme\n")
    (tmp_path / "retraining.yaml").write_text("rest_minutes: 1\n")
    files = files_beside(beside, tmp_path / "retraining.yaml", [])
    made = make_backup(store, shelf, files=files)
    found = restored(shelf, made, empty, tmp_path / "new").files
    assert [path.relative_to(tmp_path / "new").as_posix() for path in found] == [
        "customers/acme.yaml",
        "retraining.yaml",
    ]
    assert found[0].read_text() == "name: acme\n"
    assert found[0].stat().st_mode & 0o077 == 0


class Meanwhile(FolderStore):
    """A store in which something happens the first time that a key is read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.events: dict[str, object] = {}
        self.asked: list[str] = []

    def get_with_stat(self, key: str, *, most: int | None = None) -> tuple[bytes, ObjectStat]:
        found = super().get_with_stat(key, most=most)
        self._happens(key)
        return found

    def _happens(self, key: str) -> None:
        self.asked.append(key)
        event = self.events.pop(key, None)
        if callable(event):
            event()


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    for module in (tasks.backup.making, tasks.backup.restoring):
        monkeypatch.setattr(module, "ordered_map", map)  # one after the other, so that a moment is a moment
    store = Meanwhile(tmp_path / "busy")
    for key, data in HELD.items():
        store.put(key, data)
    return store


def crown(store: ObjectStore, version: str) -> None:
    """As a run does: the model, who judges, and last that the run is done."""
    store.put(f"assets/acme/fan-00/models/{version}/memory.safetensors", version.encode())
    store.put(f"assets/acme/fan-00/models/{version}/engine.json", version.encode())
    store.put(CHAMPION, version.encode())
    store.put("runs/acme/r2/manifest.json", version.encode())


def is_whole(held: dict[str, bytes]) -> bool:
    """Whether what the pointers of `crown` name is there."""
    version = held[CHAMPION].decode()
    finished = held.get("runs/acme/r2/manifest.json")
    return f"assets/acme/fan-00/models/{version}/engine.json" in held and finished in (None, held[CHAMPION])


@pytest.mark.parametrize("moment", sorted(KEPT))
@pytest.mark.parametrize("again", [False, True], ids=["first", "second"])
def test_whatever_a_run_writes_meanwhile_a_backup_is_of_one_moment(
    busy: Meanwhile, tmp_path: Path, moment: str, again: bool
) -> None:
    shelf, into = FolderStore(tmp_path / "shelf"), FolderStore(tmp_path / "into")
    if again:  # unchanged objects are not read: the run comes in at another one
        make_backup(busy, shelf)
        busy.put(moment, b"v1" if moment == CHAMPION else b"changed")
    busy.events[moment] = lambda: crown(busy, "v2")
    made = make_backup(busy, shelf)
    assert busy.events == {}
    restored(shelf, made, into)
    assert is_whole(contents(into))


@pytest.mark.parametrize("moment", [CHAMPION, MANIFEST, "packages/acme/p1/quality.json"])
def test_what_vanishes_meanwhile_is_not_half_there(busy: Meanwhile, tmp_path: Path, moment: str) -> None:
    shelf, into = FolderStore(tmp_path / "shelf"), FolderStore(tmp_path / "into")
    busy.events[moment] = lambda: [busy.erase(f"{top}/acme/") for top in ("assets", "runs", "packages", "raw")]
    restored(shelf, make_backup(busy, shelf), into)
    left = contents(into)
    assert {key.split("/")[0] for key in left} == {"inbox", "recordings", "customers"}


def test_what_vanishes_without_end_is_told(tmp_path: Path) -> None:
    class Leaking(FolderStore):
        def get_with_stat(self, key: str, *, most: int | None = None) -> tuple[bytes, ObjectStat]:
            if key.startswith("raw/"):
                self.delete(key)
                self.put(f"raw/acme/{len(key)}{key[9:]}", b"x")
            return super().get_with_stat(key, most=most)

    store = Leaking(tmp_path / "store")
    store.put("raw/acme/p.zip", b"x")
    with pytest.raises(StoreError, match="vanish faster"):
        make_backup(store, FolderStore(tmp_path / "shelf"))
    assert backup_names(FolderStore(tmp_path / "shelf")) == []


def test_what_is_no_object_is_named_and_keeps_nothing_from_being_backed_up(busy: Meanwhile, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of somebody else")
    (busy.root / "inbox" / "acme" / "link.zip").symlink_to(tmp_path / "secret")
    (busy.root / "inbox" / "acme" / ".hidden.zip").write_bytes(b"hidden")
    shelf, into = FolderStore(tmp_path / "shelf"), FolderStore(tmp_path / "into")
    made = make_backup(busy, shelf)
    assert made.passed_over == ("inbox/acme/.hidden.zip", "inbox/acme/link.zip")
    restored(shelf, made, into)
    assert contents(into) == KEPT


def test_several_stores_share_a_place_and_know_their_own(busy: Meanwhile, tmp_path: Path) -> None:
    shelf, other = FolderStore(tmp_path / "shelf"), FolderStore(tmp_path / "other")
    other.put("raw/bolt/p.zip", b"the upload")
    assert [make_backup(each, shelf).read for each in (busy, other, busy)] == [len(KEPT), 1, 0]


def test_pointers_are_known_for_what_they_are() -> None:
    assert {key for key in KEPT if points(key)} == {
        "packages/acme/p1/quality.json",
        "assets/acme/fan-00/models/v1/engine.json",
        "assets/acme/fan-00/ledger.parquet",
        "assets/acme/fan-00/monitor/v1/000000.parquet",
        CHAMPION,
        MANIFEST,
        "customers/acme/inbox.json",
    }
    order = [key for group in in_writing_order(KEPT) for key in group]
    assert sorted(order) == sorted(KEPT)
    assert order.index("runs/acme/r1/report.html") < order.index("packages/acme/p1/quality.json")
    assert order.index("assets/acme/fan-00/models/v1/engine.json") < order.index(CHAMPION) < order.index(MANIFEST)
    assert order[-1] == "customers/acme/inbox.json"
    assert len(POINTERS) == 9


class CutOff(Exception):
    """The machine stopped."""


class Failing(FolderStore):
    """Takes so many objects and then none."""

    def __init__(self, root: Path, left: int) -> None:
        super().__init__(root)
        self.left, self._lock = left, threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self.left -= 1
            if self.left < 0:
                raise CutOff
        super().put(key, data)


@pytest.mark.parametrize("left", [0, 3, 8])
def test_a_backup_that_was_cut_off_is_none_and_the_next_one_writes_the_rest(
    busy: Meanwhile, tmp_path: Path, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.backup.making, "_NOTE_EVERY_S", 0.0)
    with pytest.raises(CutOff):
        make_backup(busy, Failing(tmp_path / "shelf", left))
    shelf = FolderStore(tmp_path / "shelf")
    assert backup_names(shelf) == []
    before, busy.asked = shelved(shelf), []
    made = make_backup(busy, shelf)
    assert made.written == len(set(KEPT.values())) - len(before)
    if left == 8:
        assert made.read < len(KEPT)
    assert list(shelf.list_keys("unfinished/")) == []
    into = FolderStore(tmp_path / "into")
    restored(shelf, made, into)
    assert contents(into) == KEPT


def test_where_nothing_may_be_deleted_backups_are_made_all_the_same(
    busy: Meanwhile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Guarded(FolderStore):
        def erase(self, prefix: str) -> list[str]:
            raise StoreError(f"{prefix}: access denied")

    monkeypatch.setattr(tasks.backup.making, "_NOTE_EVERY_S", 0.0)
    shelf, into = Guarded(tmp_path / "shelf"), FolderStore(tmp_path / "into")
    make_backup(busy, shelf)
    assert list(shelf.list_keys("unfinished/")) != []
    busy.put(CHAMPION, b"v2")
    made = make_backup(busy, shelf)
    assert made.read == 1
    restored(shelf, made, into)
    assert contents(into) == KEPT | {CHAMPION: b"v2"}
    with pytest.raises(StoreError, match="access denied"):
        forget_backups(shelf, keep=1)


@pytest.mark.parametrize("left", range(len(KEPT)))
def test_a_restore_that_was_cut_off_holds_no_pointer_to_what_is_not_there_and_goes_on(
    busy: Meanwhile, tmp_path: Path, left: int
) -> None:
    shelf, into = FolderStore(tmp_path / "shelf"), FolderStore(tmp_path / "into")
    made = make_backup(busy, shelf)
    with pytest.raises(CutOff):
        restored(shelf, made, Failing(tmp_path / "into", left))
    there = set(into.list_keys())
    assert len(there) == left
    assert CHAMPION not in there or {"assets/acme/fan-00/models/v1/memory.safetensors"} <= there
    assert MANIFEST not in there or {"runs/acme/r1/report.html", CHAMPION} <= there
    again = restored(shelf, made, into)
    assert again.written == len(KEPT) - left
    assert contents(into) == KEPT


@pytest.mark.parametrize("key", ["raw/acme/stranger.zip", CHAMPION, "raw/acme/p1.zip"])
def test_a_store_that_holds_something_else_is_not_written_to(
    store: ObjectStore, shelf: ObjectStore, empty: ObjectStore, key: str
) -> None:
    made = make_backup(store, shelf)
    empty.put(key, b"v9")
    with pytest.raises(UsageError, match=key):
        restored(shelf, made, empty)
    assert list(empty.list_keys()) == [key]


def test_what_plants_drop_meanwhile_is_in_nobody_s_way(
    store: ObjectStore, shelf: ObjectStore, empty: ObjectStore
) -> None:
    made = make_backup(store, shelf)
    empty.put("inbox/acme/new.zip", b"new")
    restored(shelf, made, empty)
    assert contents(empty) == KEPT | {"inbox/acme/new.zip": b"new"}


def shelved_file(shelf: FolderStore, key: str) -> Path:
    return shelf.root / object_key(sha256_of(KEPT[key]))


@pytest.fixture
def made(busy: Meanwhile, tmp_path: Path) -> tuple[FolderStore, Made]:
    shelf = FolderStore(tmp_path / "shelf")
    return shelf, make_backup(busy, shelf)


def test_a_flipped_bit_is_found_and_never_restored(
    made: tuple[FolderStore, Made], busy: Meanwhile, tmp_path: Path
) -> None:
    shelf, backup = made[0], made[1]
    name, path = backup.backup.name, shelved_file(shelf, CHAMPION)
    path.write_bytes(b"w1")
    assert check_backup(shelf, name).damaged == (CHAMPION,)
    into = FolderStore(tmp_path / "into")
    with pytest.raises(StoreError, match=rf"{CHAMPION}, is damaged"):
        restored(shelf, backup, into)
    assert not into.exists(CHAMPION)
    assert not into.exists(MANIFEST)
    assert check_backup(shelf, name, discard=True).discarded == 1
    make_backup(busy, shelf)
    assert check_backup(shelf, name).damaged == ()
    restored(shelf, backup, into)
    assert contents(into) == KEPT


def test_a_flipped_bit_on_s3_is_found(s3_url: str, tmp_path: Path, busy: Meanwhile) -> None:
    shelf = open_store(s3_url)
    backup = make_backup(busy, shelf)
    shelf.put(object_key(sha256_of(b"v1")), b"w1")
    assert check_backup(shelf, backup.backup.name).damaged == (CHAMPION,)


@pytest.mark.parametrize("cut", [True, False], ids=["cut off", "gone"])
def test_a_backup_that_is_not_whole_is_refused_before_anything_is_written(
    made: tuple[FolderStore, Made], tmp_path: Path, cut: bool
) -> None:
    shelf, backup = made
    path = shelved_file(shelf, "assets/acme/fan-00/ledger.parquet")
    path.write_bytes(b"led") if cut else path.unlink()
    into = FolderStore(tmp_path / "into")
    with pytest.raises(StoreError, match=r"not whole: 1 of its objects .*assets/acme/fan-00/ledger\.parquet"):
        restored(shelf, backup, into)
    assert list(into.list_keys()) == []
    assert check_backup(shelf, backup.backup.name).damaged == ("assets/acme/fan-00/ledger.parquet",)


def test_a_table_that_was_changed_is_not_believed(made: tuple[FolderStore, Made], tmp_path: Path) -> None:
    shelf, backup = made
    shelf.put(table_key(backup.backup.name), shelf.get(table_key(backup.backup.name)) + b" ")
    for read in (check_backup, lambda *_: forget_backups(shelf, keep=1)):
        with pytest.raises(StoreError, match="not what backup"):
            read(shelf, backup.backup.name)
    with pytest.raises(StoreError, match="not what backup"):
        restored(shelf, backup, FolderStore(tmp_path / "into"))


@pytest.mark.parametrize("key_of", [table_key, backup_key])
def test_a_backup_that_is_damaged_keeps_nobody_from_making_another(
    made: tuple[FolderStore, Made], busy: Meanwhile, tmp_path: Path, key_of: Callable[[str], str]
) -> None:
    shelf, into = made[0], FolderStore(tmp_path / "into")
    shelf.put(key_of(made[1].backup.name), b"{}")
    again = make_backup(busy, shelf)
    assert (again.read, again.written) == (len(KEPT), 0)
    restored(shelf, again, into)
    assert contents(into) == KEPT


@pytest.mark.parametrize("name", ["../acme.yaml", "/etc/passwd", "customers/../x", ".ssh", "a/b"])
def test_a_file_that_leads_elsewhere_is_refused(made: tuple[FolderStore, Made], name: str) -> None:
    shelf, backup = made
    document = backup.backup.model_dump(mode="json")
    document["files"] = [{"name": name, "sha256": sha256_of(b"v1"), "bytes": 2}]
    import json

    shelf.put(backup_key(backup.backup.name), json.dumps(document).encode())
    with pytest.raises(StoreError, match="cannot be read"):
        read_backup(shelf, backup.backup.name)


def test_another_file_is_never_replaced(busy: Meanwhile, tmp_path: Path) -> None:
    shelf, into = FolderStore(tmp_path / "shelf"), FolderStore(tmp_path / "into")
    (tmp_path / "retraining.yaml").write_text("rest_minutes: 1\n")
    made = make_backup(busy, shelf, files={"retraining.yaml": tmp_path / "retraining.yaml"})
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "retraining.yaml").write_text("rest_minutes: 2\n")
    with pytest.raises(UsageError, match="another file"):
        restored(shelf, made, into, tmp_path / "new")
    assert list(into.list_keys()) == []
    restored(shelf, made, into, tmp_path)


def test_older_backups_are_forgotten_with_what_only_they_held(busy: Meanwhile, tmp_path: Path) -> None:
    shelf, into = FolderStore(tmp_path / "shelf"), FolderStore(tmp_path / "into")
    names = []
    for version in (b"v1", b"v2", b"v3"):
        busy.put(CHAMPION, version)
        names.append(make_backup(busy, shelf).backup.name)
    gone = forget_backups(shelf, keep=2)
    assert (gone.names, gone.kept) == ((names[0],), tuple(names[1:]))
    assert gone.objects == 1
    assert check_backup(shelf, names[1]).damaged == ()
    assert not shelf.exists(object_key(sha256_of(b"v1")))
    restore_backup(shelf, names[1], into, folder=None)
    assert into.get(CHAMPION) == b"v2"
    assert forget_backups(shelf, keep=5).names == ()


def test_a_backup_is_found_by_name_or_as_the_newest(made: tuple[FolderStore, Made], tmp_path: Path) -> None:
    shelf, backup = made
    assert pick_name(shelf, None) == pick_name(shelf, backup.backup.name) == backup.backup.name
    with pytest.raises(InputError, match=backup.backup.name):
        pick_name(shelf, "20010101t000000z")
    with pytest.raises(InputError, match="holds no backup"):
        pick_name(FolderStore(tmp_path / "none"), None)
    assert read_backup(shelf, backup.backup.name) == backup.backup
    assert isinstance(backup.backup, Backup)
    assert read_entries(shelf, backup.backup).keys() == KEPT.keys()


@pytest.mark.parametrize(("one", "other"), [("a", "a/b"), ("a/b", "a"), ("a", "a")])
def test_a_backup_in_its_own_store_is_refused(place: str, one: str, other: str) -> None:
    with pytest.raises(UsageError, match="lie in each other"):
        make_backup(at(place, one), at(place, other))
    with pytest.raises(UsageError, match="lie in each other"):
        restore_backup(at(place, one), "20010101t000000z", at(place, other), folder=None)


def test_a_backup_may_lie_on_a_server_with_keys_of_its_own(
    s3_server: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-another-server")
    monkeypatch.setenv("ALP_BACKUP_ACCESS_KEY_ID", ACCESS_KEY)
    with pytest.raises(StoreError, match="one alone is set"):
        open_shelf(s3_url)
    monkeypatch.setenv("ALP_BACKUP_SECRET_ACCESS_KEY", SECRET_KEY)
    open_shelf(s3_url).put("objects/aa/x", b"x")
    with pytest.raises(StoreError, match="do not belong together"):
        open_store(s3_url).get("objects/aa/x")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """A database whose last change is not in its file yet, and somebody who has it open."""
    path = tmp_path / "prefect.db"
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE run (name TEXT)")
        writer.execute("INSERT INTO run VALUES ('first')")
        writer.commit()
        yield path, writer


def test_a_database_is_copied_as_it_stands_while_it_is_written_to(
    database: tuple[Path, sqlite3.Connection], tmp_path: Path
) -> None:
    path, writer = database
    writer.execute("INSERT INTO run VALUES ('not committed')")
    copy_file(path, tmp_path / "copy")
    writer.commit()
    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert copy.execute("SELECT name FROM run").fetchall() == [("first",)]
    assert not (tmp_path / "copy-wal").exists()


def test_a_damaged_database_is_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "prefect.db"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(Exception, match="cannot be backed up"), steady({"prefect.db": path}, tmp_path):
        pass


def test_files_beside_are_named_once_and_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "prefect.dump").write_bytes(b"x")
    others = [tmp_path / "prefect.dump"]
    assert files_beside(tmp_path / "none", None, others) == {"prefect.dump": others[0]}
    with pytest.raises(UsageError, match="two files"):
        files_beside(tmp_path, None, others * 2)
    with pytest.raises(UsageError, match="no such file"):
        files_beside(tmp_path, None, [tmp_path / "gone"])
    (tmp_path / "my dump").write_bytes(b"x")
    with pytest.raises(UsageError, match="under this name"):
        files_beside(tmp_path, None, [tmp_path / "my dump"])
