"""The contract every object store keeps, in a folder, on S3 and seen through glass; and what the folder store adds.

The S3 side runs against a real server that the session starts, and against any that `ALP_TEST_S3_URL` names as well: a
store in a bucket that is there, such as `s3://test?endpoint=http://127.0.0.1:9000`, with its credentials in the
environment as for `alp`. Below that URL's prefix a folder a test is made and erased again.
"""

from __future__ import annotations

import os
import threading
import unicodedata
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from pydantic import BaseModel, ConfigDict

from schemas.errors import ConflictError, StoreError, UsageError
from tasks.store import FolderStore, ObjectStore, open_store, overlay_url, working_store

OTHER_SERVER = os.environ.get("ALP_TEST_S3_URL")
KINDS = ["folder", "overlay", "s3", *(["other s3"] if OTHER_SERVER else [])]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "folder":
        yield FolderStore(tmp_path / "store")
    elif request.param == "overlay":
        yield open_store(overlay_url(FolderStore(tmp_path / "below").url, tmp_path / "above"))
    elif request.param == "s3":
        yield open_store(request.getfixturevalue("s3_url"))
    else:
        yield from other_store()


def other_store() -> Iterator[ObjectStore]:
    """A store of its own below the one that `ALP_TEST_S3_URL` names, with the credentials the session began with."""
    from tasks.s3_erasing import erase_below
    from tasks.s3_store import S3Store
    from tests.conftest import CREDENTIALS

    place, _, query = str(OTHER_SERVER).partition("?")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        store = S3Store.open(f"{place.rstrip('/')}/alp-test-{uuid.uuid4().hex[:12]}?{query}")
        yield store
        # Leases as well, which a store keeps to itself.
        erase_below(store.bucket, "", but="/")


def test_an_object_comes_back_as_it_went(store: ObjectStore) -> None:
    store.put("runs/acme/a1/report.html", b"\x00\xff")
    assert store.get("runs/acme/a1/report.html") == b"\x00\xff"


def test_a_second_write_replaces_the_first(store: ObjectStore) -> None:
    store.put("a/b", b"first")
    store.put("a/b", b"second")
    assert store.get("a/b") == b"second"


def test_size_and_time_of_an_object_are_told_without_reading_it(store: ObjectStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    store.put("a/b", b"four")
    stat = store.stat("a/b")
    assert (stat.bytes, stat.modified.tzinfo) == (4, UTC)
    assert before < stat.modified < datetime.now(UTC) + timedelta(seconds=2)
    with pytest.raises(StoreError, match="a/none"):
        store.stat("a/none")


def test_the_start_of_an_object_is_read_without_the_rest(store: ObjectStore) -> None:
    store.put("a/b", b"0123456789")
    for most, start in ((4, b"0123"), (10, b"0123456789"), (11, b"0123456789"), (None, b"0123456789")):
        data, stat = store.get_with_stat("a/b", most=most)
        assert (data, stat) == (start, store.stat("a/b"))


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("a/empty", b"")
    assert store.exists("a/empty")
    assert (store.get("a/empty"), store.stat("a/empty").bytes) == (b"", 0)


def test_a_missing_object_is_an_error_that_names_it(store: ObjectStore) -> None:
    assert not store.exists("a/none")
    with pytest.raises(StoreError, match="a/none"):
        store.get("a/none")


@pytest.mark.parametrize("content", [b"{", b'{"low": "none"}', b'{"low": 1, "more": 2}', b"\xff"])
def test_what_this_version_did_not_write_is_a_store_error_with_a_remedy(store: ObjectStore, content: bytes) -> None:
    class Limits(BaseModel):
        model_config = ConfigDict(extra="forbid")

        low: int

    store.put("a/limits.json", content)
    with pytest.raises(StoreError, match=r"a/limits\.json .* onboard a package"):
        store.get_model("a/limits.json", Limits)
    store.put("a/table.parquet", content)
    with pytest.raises(StoreError, match=r"a/table\.parquet is damaged"):
        store.get_frame("a/table.parquet")


def test_keys_are_sorted_and_start_with_the_prefix(store: ObjectStore) -> None:
    for key in ("b/2", "b/10", "a/1", "bb/1"):
        store.put(key, b"")
    assert list(store.list_keys("b/")) == ["b/10", "b/2"]
    assert list(store.list_keys("b")) == ["b/10", "b/2", "bb/1"]
    assert list(store.list_keys()) == ["a/1", "b/10", "b/2", "bb/1"]


def test_a_listing_tells_what_each_object_s_own_stat_tells(store: ObjectStore) -> None:
    for key in ("b/2", "b/10/x", "b-1/x", "b/1"):
        store.put(key, key.encode())
    listed = list(store.list_objects("b"))
    assert listed == [(key, store.stat(key)) for key in ("b-1/x", "b/1", "b/10/x", "b/2")]


def test_a_listing_goes_on_beyond_a_thousand_keys(store: ObjectStore) -> None:
    names = [f"many/{number:04d}" for number in range(1_003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b""), names))
    assert list(store.list_keys("many/")) == names
    assert store.erase("many/") == names
    assert list(store.list_keys()) == []


def test_what_is_erased_is_gone_and_its_neighbours_are_not(store: ObjectStore) -> None:
    for key in ("runs/acme/1/a", "runs/acme/2", "runs/acme-2/a", "raw/acme/x"):
        store.put(key, b"first")
        store.put(key, b"second")
    assert store.erase("runs/acme/") == ["runs/acme/1/a", "runs/acme/2"]
    assert list(store.list_keys()) == ["raw/acme/x", "runs/acme-2/a"]
    assert store.erase("runs/acme/") == []


def test_a_version_is_replaced_where_it_still_lies(store: ObjectStore) -> None:
    first = store.replace("a/pointer", b"first", expected=None)
    assert store.get_with_etag("a/pointer") == (b"first", first) == (b"first", store.stat("a/pointer").etag)
    second = store.replace("a/pointer", b"second", expected=first)
    assert second != first
    for stale in (first, None, "none"):
        with pytest.raises(ConflictError, match=r"a/pointer was .* by somebody else"):
            store.replace("a/pointer", b"third", expected=stale)
    assert store.get_with_etag("a/pointer") == (b"second", second)


def test_what_was_removed_is_there_for_nobody_to_replace(store: ObjectStore) -> None:
    first = store.replace("a/pointer", b"first", expected=None)
    store.delete("a/pointer")
    with pytest.raises(ConflictError):
        store.replace("a/pointer", b"second", expected=first)
    store.replace("a/pointer", b"second", expected=None)
    assert store.get("a/pointer") == b"second"


def test_of_all_who_replace_one_version_at_once_one_succeeds(store: ObjectStore) -> None:
    etag: str | None = None
    for turn in range(3):
        barrier = threading.Barrier(4)

        def write(who: int, expected: str | None = etag, turn: int = turn, barrier: threading.Barrier = barrier) -> str:
            barrier.wait()
            try:
                return store.replace("a/pointer", f"{turn} {who}".encode(), expected=expected)
            except ConflictError:
                return ""

        with ThreadPoolExecutor(4) as pool:
            written = list(pool.map(write, range(4)))
        (winner,) = [who for who, result in enumerate(written) if result]
        etag = written[winner]
        assert store.get_with_etag("a/pointer") == (f"{turn} {winner}".encode(), etag)


def test_updates_under_a_lock_all_count(store: ObjectStore) -> None:
    store.put("a/count", b"0")

    def count(_: int) -> None:
        with store.lock("a/count"):
            store.put("a/count", str(int(store.get("a/count")) + 1).encode())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(12)))
    assert store.get("a/count") == b"12"


def test_a_lock_keeps_a_second_writer_waiting(store: ObjectStore) -> None:
    order: list[str] = []

    def second() -> None:
        with store.lock("assets/ledger"):
            order.append("second")

    other = threading.Thread(target=second)
    with store.lock("assets/ledger"):
        other.start()
        other.join(0.2)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_a_lock_is_given_back_by_who_fails_and_leaves_no_object(store: ObjectStore) -> None:
    with pytest.raises(ZeroDivisionError), store.lock("a/b"):
        raise ZeroDivisionError
    with store.lock("a/b"), store.lock("a/c"):
        assert list(store.list_keys()) == []


def test_a_link_opens_the_object_as_what_it_is(store: ObjectStore) -> None:
    store.put("runs/acme/report.html", "<p>소리</p>".encode())
    with urllib.request.urlopen(store.presigned_url("runs/acme/report.html", expires_s=60)) as page:
        assert page.read().decode() == "<p>소리</p>"
        assert page.headers.get_content_type() == "text/html"
    with pytest.raises(StoreError, match="runs/acme/none"):
        store.presigned_url("runs/acme/none", expires_s=60)
    with pytest.raises(UsageError, match="seven days"):
        store.presigned_url("runs/acme/report.html", expires_s=8 * 86_400)


def test_a_store_is_found_again_by_its_url(store: ObjectStore) -> None:
    store.put("a/b", b"x")
    assert open_store(store.url).url == store.url
    assert open_store(store.url).get("a/b") == b"x"


def test_removing_what_is_not_there_is_no_error(store: ObjectStore) -> None:
    store.put("a", b"x")
    store.delete("a")
    store.delete("a")
    assert not store.exists("a")


@pytest.mark.parametrize("key", ["../out", "/etc/passwd", "a//b", "a/../b", ".hidden", "a\\b", "a b", "", "a/", "소리"])
def test_a_key_that_could_leave_the_store_is_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(StoreError, match="no key"):
        store.put(key, b"x")


def test_tables_and_files_round_trip(store: ObjectStore, tmp_path: Path) -> None:
    frame = pd.DataFrame({"clip_id": ["a", "소리"], "score": [0.1, None]})
    store.put_frame("t.parquet", frame)
    pd.testing.assert_frame_equal(store.get_frame("t.parquet"), frame)
    source = tmp_path / "file.bin"
    source.write_bytes(b"data")
    store.put_file("f.bin", source)
    with store.local_file("f.bin") as path:
        assert path.read_bytes() == b"data"


def test_a_local_folder_holds_the_objects_below_and_their_folders(store: ObjectStore) -> None:
    for key in ("m/v1/engine.json", "m/v1/memory.safetensors", "m/v1/deep/er", "m/v10/engine.json"):
        store.put(key, key.encode())
    with store.local_folder("m/v1") as folder:
        found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == ["deep/er", "engine.json", "memory.safetensors"]


def test_a_write_that_fails_leaves_the_old_object_and_no_litter(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a/b", b"old")
    with pytest.raises(StoreError, match="cannot be written"):
        store.put_file("a/b", tmp_path / "absent")
    assert store.get("a/b") == b"old"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_what_a_killed_writer_left_is_no_object_and_goes_with_what_is_erased(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a/b", b"x")
    (tmp_path / "a" / ".writing-123").write_bytes(b"half")
    assert list(store.list_keys()) == ["a/b"]
    assert store.erase("a/") == ["a/b"]
    assert list(tmp_path.iterdir()) == []


def has_attributes(folder: Path) -> bool:
    probe = folder / "probe"
    probe.write_bytes(b"")
    try:
        os.setxattr(probe, "user.alp.probe", b"1")
    except (OSError, AttributeError):
        return False
    return True


def test_bits_that_flipped_on_the_disk_are_found_wherever_the_object_is_read_whole(tmp_path: Path) -> None:
    if not has_attributes(tmp_path):
        pytest.skip("the disk of this folder knows no extended attributes")
    store = FolderStore(tmp_path / "store")
    store.put("a/model.safetensors", b"weights " * 100)
    path = store.root / "a" / "model.safetensors"
    before, damaged = path.stat(), b"weighty " + b"weights " * 99
    path.write_bytes(damaged)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(StoreError, match=r"model\.safetensors is damaged: .* checksum .* put it back from a backup"):
        store.get("a/model.safetensors")
    with pytest.raises(StoreError, match="is damaged"), store.local_file("a/model.safetensors"):
        pass
    with pytest.raises(StoreError, match="is damaged"), store.local_folder("a"):
        pass
    store.put("a/model.safetensors", damaged)
    assert store.get("a/model.safetensors") == damaged


def test_bits_that_flip_after_an_object_was_dated_back_are_found(tmp_path: Path) -> None:
    if not has_attributes(tmp_path):
        pytest.skip("the disk of this folder knows no extended attributes")
    store = FolderStore(tmp_path / "store")
    store.put("a/b", b"weights")
    store.date("a/b", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert store.stat("a/b").modified == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    before = (store.root / "a" / "b").stat()
    (store.root / "a" / "b").write_bytes(b"weighty")
    os.utime(store.root / "a" / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(StoreError, match="is damaged"):
        store.get("a/b")


def test_a_file_that_somebody_edits_is_read_as_it_is_now(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a.json", b'{"a": 1}')
    path = tmp_path / "a.json"
    later = path.stat().st_mtime_ns + 10**9
    path.write_bytes(b'{"a": 2}')
    os.utime(path, ns=(later, later))
    assert store.get("a.json") == b'{"a": 2}'
    with store.local_file("a.json") as found:
        assert found.read_bytes() == b'{"a": 2}'


def test_a_disk_without_attributes_is_written_and_read_without_a_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    for name in ("setxattr", "getxattr"):
        monkeypatch.setattr(os, name, none, raising=False)
    store = FolderStore(tmp_path)
    store.put("a", b"x")
    assert store.get("a") == b"x"


def test_a_disk_that_refuses_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path)
    store.put("a/b", b"x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("open", "stat", "unlink", "mkdir"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    acts = (store.get, store.stat, store.exists, store.delete, store.list_keys, lambda key: store.lock(key).__enter__())
    for act in acts:
        with pytest.raises(StoreError, match=r"cannot be .*: Permission denied; check the disk and the rights"):
            act("a/b")


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_dry_run_sees_the_store_and_never_touches_it(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = FolderStore(tmp_path / "real").url if kind == "folder" else request.getfixturevalue("s3_url")
    below = open_store(place)
    below.put("a", b"below")
    etag = below.stat("a").etag
    with working_store(below.url, dry_run=True) as url:
        glass = open_store(url)
        assert glass.get("a") == b"below"
        with glass.local_file("a") as path:
            assert path.read_bytes() == b"below"
        with glass.lock("a"):
            glass.put("a", b"above")
        glass.put("b", b"new")
        assert list(glass.list_keys()) == ["a", "b"]
        assert glass.get("a") == b"above"
        for destroy in (glass.delete, glass.erase):
            with pytest.raises(StoreError, match="dry run"):
                destroy("a")
    assert list(below.list_keys()) == ["a"]
    assert below.get_with_etag("a") == (b"below", etag)


def test_an_overlay_url_leads_back_to_its_folder(tmp_path: Path) -> None:
    url = overlay_url(f"file://{tmp_path}/real", tmp_path / "glass")
    open_store(url).put("a", b"x")
    assert (tmp_path / "glass" / "a").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["a#b", "a%20b", "q?x", "소리 창고", "a+b"])
def test_any_folder_is_found_again_by_its_url(tmp_path: Path, name: str) -> None:
    store = FolderStore(tmp_path / name)
    store.put("k", b"x")
    assert (tmp_path / name / "k").is_file()
    assert open_store(store.url).get("k") == b"x"
    assert open_store(overlay_url(store.url, tmp_path / f"glass {name}")).get("k") == b"x"


@pytest.mark.parametrize(
    "key",
    [
        unicodedata.normalize("NFC", "inbox/acme/첫 번째.zip"),
        unicodedata.normalize("NFD", "inbox/acme/첫 번째.zip"),
        "recordings/acme/fan-1/a b (2).wav",
        "inbox/acme/50%+20 #1 & 2?=;,'\".zip",
        f"recordings/acme/fan-1/{'가' * 77} 😀.wav",
    ],
    ids=["composed", "decomposed", "spaces", "signs", "long"],
)
def test_what_a_plant_drops_may_have_any_name(store: ObjectStore, key: str) -> None:
    store.replace(key, b"x", expected=None)
    with store.lock(key):
        store.put(key, b"y")
    assert list(store.list_keys(key[:-6])) == [key]
    with store.local_file(key) as path, urllib.request.urlopen(store.presigned_url(key, expires_s=60)) as page:
        assert store.get(key) == path.read_bytes() == page.read() == b"y"
    assert store.erase(key) == [key]


@pytest.mark.parametrize("key", ["inbox/../x", "inbox/acme/.hidden", "inbox//x", "inbox/a\\b", "inbox/a\nb"])
def test_but_not_a_name_that_leads_out(store: ObjectStore, key: str) -> None:
    with pytest.raises(StoreError, match="no key"):
        store.get(key)


@pytest.mark.parametrize(
    "key",
    ["inbox/\udcff.zip", "inbox/\ufffe.zip", f"inbox/{'가' * 81}", f"inbox/{'/가' * 225}", f"{'a/' * 450}a"],
    ids=["not UTF-8", "not in XML", "long name", "long together", "long"],
)
def test_nor_one_that_some_store_could_not_hold(store: ObjectStore, key: str) -> None:
    for act in (store.exists, store.get, lambda name: store.put(name, b""), lambda name: store.lock(name).__enter__()):
        with pytest.raises(StoreError, match="no key"):
            act(key)


@pytest.mark.parametrize("prefix", ["../", "/etc/", "runs/../../", ".locks/", "runs//"])
def test_a_prefix_that_no_key_starts_with_is_refused(store: ObjectStore, prefix: str) -> None:
    for act in (lambda start: list(store.list_keys(start)), lambda start: list(store.list_objects(start)), store.erase):
        with pytest.raises(StoreError, match="no prefix"):
            act(prefix)


def test_a_folder_is_no_object(store: ObjectStore) -> None:
    store.put("a/b", b"x")
    store.delete("a")
    assert not store.exists("a")
    for act in (store.stat, store.get):
        with pytest.raises(StoreError):
            act("a")
    assert list(store.list_keys("a/b/")) == []
    assert store.get("a/b") == b"x"


@pytest.mark.parametrize("url", ["ftp://host/x", "file://", "alp-data", "", "file://etc/x", "file://[x", "file:///a#b"])
def test_a_url_of_no_known_kind_says_what_to_write(url: str) -> None:
    with pytest.raises(UsageError, match="file:///path"):
        open_store(url)


def test_a_relative_url_is_relative_to_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("file://./alp-data").put("a", b"x")
    assert (tmp_path / "alp-data" / "a").is_file()
