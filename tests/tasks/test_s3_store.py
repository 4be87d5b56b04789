"""What S3 adds to the contract: parts, checksums, a way that breaks, leases; on a real server."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tasks.s3_bucket
import tasks.s3_lease
import tasks.s3_store
from schemas.errors import ConflictError, StoreError
from tasks.s3_bucket import SHA256_HEADER
from tasks.s3_lease import Lease
from tasks.s3_store import S3Store
from tests.s3_server import SECRET_KEY, Proxy, S3Server

MEBIBYTE = 1 << 20


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that are away are not waited for."""
    monkeypatch.setattr(tasks.s3_bucket, "_BACKOFF_S", 0.01)


@pytest.fixture
def store(s3_url: str) -> S3Store:
    return S3Store.open(s3_url)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    proxy = Proxy(s3_server.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def through(s3_url: str, s3_server: S3Server, proxy: Proxy) -> S3Store:
    """The same store, by way of the proxy."""
    return S3Store.open(s3_url.replace(s3_server.endpoint, proxy.endpoint))


def put_by_hand(store: S3Store, key: str, data: bytes, **metadata: str) -> None:
    """As a tool that knows nothing of us."""
    address = store.address
    store.bucket.sdk.put_object(
        address.bucket,
        address.key(key),
        io.BytesIO(data),
        len(data),
        metadata={name.replace("_", "-"): value for name, value in metadata.items()},
    )


def noise(size: int, seed: bytes = b"seed") -> bytes:
    return hashlib.shake_256(seed).digest(size)


def once(first: Callable[[bytes], bytes | None], *, when: bytes = b"") -> Callable[[bytes], bytes | None]:
    """Does to the first piece that begins with `when` what `first` does, and to no other."""
    done = threading.Event()

    def meddle(piece: bytes) -> bytes | None:
        if done.is_set() or not piece.startswith(when):
            return piece
        done.set()
        return first(piece)

    return meddle


def cut(piece: bytes) -> None:
    """The connection breaks off."""


def garble(piece: bytes) -> bytes:
    return piece[:-4] + bytes(byte ^ 0xFF for byte in piece[-4:])


# Writing


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts as small as S3 takes them."""
    monkeypatch.setattr(tasks.s3_store, "PART_BYTES", 5 * MEBIBYTE)


@pytest.mark.parametrize(
    ("size", "end"),
    [(5 * MEBIBYTE, ""), (5 * MEBIBYTE + 1, "-2"), (10 * MEBIBYTE, "-2"), (15 * MEBIBYTE + 1, "-4")],
)
@pytest.mark.usefixtures("small_parts")
def test_a_large_file_goes_in_parts_and_comes_back(store: S3Store, tmp_path: Path, size: int, end: str) -> None:
    path = tmp_path / "large.zip"
    path.write_bytes(noise(size))
    store.put_file("raw/acme/large.zip", path)
    store.put("raw/acme/bytes.zip", path.read_bytes())
    for key in ("raw/acme/large.zip", "raw/acme/bytes.zip"):
        stat = store.stat(key)
        assert (stat.bytes, stat.etag[32:]) == (size, end)
        with store.local_file(key) as copy:
            assert copy.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("write", ["put", "replace"])
def test_what_is_damaged_on_the_way_to_the_server_is_written_again(
    store: S3Store, through: S3Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    # As over https, where the signature covers the heads alone.
    monkeypatch.setattr("minio.api.sha256_hash", lambda data: "UNSIGNED-PAYLOAD")
    through.exists("a/b")

    def put(data: bytes) -> None:
        if write == "put":
            through.put("a/b", data)
        else:
            through.replace("a/b", data, expected=store.stat("a/b").etag if store.exists("a/b") else None)

    def garble_the_body(piece: bytes) -> bytes:
        return piece.replace(b"sound", b"found", 1)

    proxy.meddle_in = once(garble_the_body, when=b"sound")
    put(b"sound" * 100)
    assert store.get("a/b") == b"sound" * 100
    proxy.meddle_in = garble_the_body
    with pytest.raises(StoreError, match=r"a/b was damaged on the way to http://\S+ time and again; look after"):
        put(b"sound" * 101)
    if store.exists("a/b"):
        with pytest.raises(StoreError, match="is damaged"):
            store.get("a/b")


def uploads_of(store: S3Store) -> list[str]:
    """Objects that were begun and not ended."""
    address = store.address
    listed = store.bucket.sdk._list_multipart_uploads(address.bucket, prefix=address.prefix)
    return [(each.object_name or "").removeprefix(address.prefix) for each in listed.uploads]


@pytest.mark.usefixtures("small_parts")
def test_a_large_upload_that_is_refused_leaves_nothing(
    store: S3Store, through: S3Store, proxy: Proxy, tmp_path: Path
) -> None:
    path = tmp_path / "large.zip"
    path.write_bytes(noise(12 * MEBIBYTE))
    # The signature holds for the number it was made with.
    proxy.meddle_in = lambda piece: piece.replace(b"partNumber=2", b"partNumber=7")
    with pytest.raises(StoreError, match=r"writing raw/acme/large\.zip failed"):
        through.put_file("raw/acme/large.zip", path)
    assert not store.exists("raw/acme/large.zip")
    assert uploads_of(store) == []


@pytest.mark.usefixtures("small_parts")
def test_the_end_of_a_large_upload_whose_answer_was_lost_is_known_as_done(
    store: S3Store, through: S3Store, proxy: Proxy, tmp_path: Path
) -> None:
    path = tmp_path / "large.zip"
    path.write_bytes(noise(6 * MEBIBYTE))
    ends = 0

    def lose_the_first_answer(piece: bytes) -> bytes:
        nonlocal ends
        if piece.startswith(b"POST") and b"uploadId" in piece.partition(b"\r\n")[0]:
            ends += 1
            proxy.meddle_out = cut if ends == 1 else bytes
        return piece

    proxy.meddle_in = lose_the_first_answer
    through.put_file("raw/acme/large.zip", path)
    assert ends == 2
    assert store.get("raw/acme/large.zip") == path.read_bytes()


@pytest.mark.usefixtures("small_parts")
def test_a_large_upload_that_breaks_off_leaves_what_was_there_and_goes_with_what_is_erased(
    store: S3Store, through: S3Store, proxy: Proxy, tmp_path: Path
) -> None:
    store.put("raw/acme/large.zip", b"before")
    path = tmp_path / "large.zip"
    path.write_bytes(noise(12 * MEBIBYTE))

    def go_down_at_the_second_part(piece: bytes) -> bytes:
        proxy.is_down = proxy.is_down or b"partNumber=2" in piece
        return piece

    proxy.meddle_in = go_down_at_the_second_part
    with pytest.raises(StoreError, match=proxy.endpoint):
        through.put_file("raw/acme/large.zip", path)
    assert store.get("raw/acme/large.zip") == b"before"
    assert uploads_of(store) == ["raw/acme/large.zip"]
    assert store.erase("raw/acme-2/") == []
    assert uploads_of(store) == ["raw/acme/large.zip"]
    assert store.erase("raw/acme/") == ["raw/acme/large.zip"]
    assert uploads_of(store) == []


@pytest.mark.parametrize("change", ["other bytes", "fewer bytes"])
@pytest.mark.usefixtures("small_parts")
def test_a_file_that_changes_while_it_is_sent_is_not_filed(
    store: S3Store, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.zip"
    path.write_bytes(noise(6 * MEBIBYTE))
    digest = hashlib.file_digest

    def change_once_hashed(file: io.BufferedReader, name: str) -> object:
        found = digest(file, name)
        path.write_bytes(noise(6 * MEBIBYTE if change == "other bytes" else 3 * MEBIBYTE, b"other"))
        return found

    monkeypatch.setattr(tasks.s3_store.hashlib, "file_digest", change_once_hashed)
    with pytest.raises(StoreError, match=r"large\.zip was changed while it was written"):
        store.put_file("raw/acme/large.zip", path)
    assert not store.exists("raw/acme/large.zip")
    assert uploads_of(store) == []


def test_two_stores_in_one_bucket_do_not_see_each_other(store: S3Store, s3_server: S3Server, s3_bucket: str) -> None:
    prefix = store.address.prefix.rstrip("/")
    below, beside = (
        S3Store.open(s3_server.url(s3_bucket, f"{prefix}/b")),
        S3Store.open(s3_server.url(s3_bucket, f"{prefix}2")),
    )
    store.put("a", b"x")
    below.put("a", b"y")
    assert list(beside.list_keys()) == []
    assert (below.get("a"), store.get("a")) == (b"y", b"x")
    assert below.erase("") == ["a"]
    assert list(store.list_keys()) == ["a"]


def test_a_folder_that_a_console_made_is_no_object(store: S3Store) -> None:
    put_by_hand(store, "recordings/acme/", b"")
    store.put("recordings/acme/fan-1/a.wav", b"x")
    assert list(store.list_keys()) == ["recordings/acme/fan-1/a.wav"]


def test_a_bucket_without_versions_serves_as_well(s3_server: S3Server) -> None:
    store = S3Store.open(s3_server.url("alp-plain"))
    store.bucket.sdk.make_bucket("alp-plain")
    names = ["a-b/x", "a/x", "a/y/z", "a0", "ab"]
    for name in reversed(names):
        store.put(name, b"first")
    # This server lists folders before what stands before them.
    assert list(store.list_keys("a")) == names
    with pytest.raises(ConflictError):
        store.replace("ab", b"second", expected=None)
    assert store.erase("a") == names
    assert list(store.list_keys()) == []


def test_erasing_takes_earlier_versions_and_deleted_objects_with_it(store: S3Store) -> None:
    store.put("a/b", b"first")
    store.put("a/b", b"second")
    store.delete("a/b")
    assert len(list(store.bucket.list_versions("a/"))) == 3
    assert store.erase("a/") == ["a/b"]
    assert list(store.bucket.list_versions("a/")) == []


def test_what_has_an_odd_name_is_erased_or_told(store: S3Store) -> None:
    put_by_hand(store, "recordings/acme/fan-1/\r\n.wav", b"x")
    store.put("recordings/acme/fan-1/a.wav", b"x")
    assert store.erase("recordings/acme/") == ["recordings/acme/fan-1/\r\n.wav", "recordings/acme/fan-1/a.wav"]
    # This server lists another name among its versions.
    put_by_hand(store, "recordings/acme/fan-1/\ufffe.wav", b"x")
    with pytest.raises(StoreError, match=r"1 objects below \S+ cannot be erased"):
        store.erase("recordings/acme/")


# Reading


def test_what_does_not_match_its_checksum_is_not_given_out(store: S3Store, tmp_path: Path) -> None:
    put_by_hand(store, "a/b", b"changed", **{SHA256_HEADER: "0" * 64})
    with pytest.raises(StoreError, match=r"a/b at http://\S+ is damaged: .*checksum"):
        store.get("a/b")
    with pytest.raises(StoreError, match="is damaged"):
        store.download("a/b", tmp_path / "b")


def test_what_another_tool_noted_beside_an_object_is_no_checksum_of_ours(store: S3Store) -> None:
    put_by_hand(store, "inbox/acme/a.zip", b"x", x_amz_meta_sha256="as that tool writes it")
    assert store.get("inbox/acme/a.zip") == b"x"


def test_what_comes_without_its_length_is_held_against_its_checksum(
    store: S3Store, through: S3Store, proxy: Proxy
) -> None:
    store.put("a/b", b"sound" * 100)
    through.exists("a/b")
    damage: Callable[[bytes], bytes] = bytes

    def pack_anew(piece: bytes) -> bytes:
        head, _, body = piece.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
        chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), damage(body))
        return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", chunk])

    proxy.meddle_out = pack_anew
    assert through.get_with_stat("a/b") == (b"sound" * 100, store.stat("a/b"))
    damage = garble
    with pytest.raises(StoreError, match="is damaged"):
        through.get("a/b")


@pytest.mark.parametrize("ours", [True, False], ids=["written by alp", "dropped by another tool"])
def test_what_was_damaged_on_the_way_is_read_again(store: S3Store, through: S3Store, proxy: Proxy, ours: bool) -> None:
    write = store.put if ours else lambda key, data: put_by_hand(store, key, data)
    write("recordings/acme/fan-1/a.wav", b"sound" * 100)
    through.exists("recordings/acme/fan-1/a.wav")
    proxy.meddle_out = once(garble)
    assert through.get("recordings/acme/fan-1/a.wav") == b"sound" * 100
    proxy.meddle_out = garble
    with pytest.raises(StoreError, match="is damaged"):
        through.get("recordings/acme/fan-1/a.wav")


def test_what_was_broken_off_is_read_again_from_its_beginning(
    store: S3Store, through: S3Store, proxy: Proxy, tmp_path: Path
) -> None:
    data = noise(3 * MEBIBYTE)
    store.put("a/b", data)
    through.exists("a/b")
    passed = 0

    def cut_halfway(piece: bytes) -> bytes | None:
        nonlocal passed
        before, passed = passed, passed + len(piece)
        return None if before < MEBIBYTE <= passed else piece

    proxy.meddle_out = cut_halfway
    through.download("a/b", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == data


def test_a_server_that_is_busy_is_asked_again(store: S3Store, through: S3Store, proxy: Proxy) -> None:
    store.put("a/b", b"x")
    through.exists("a/b")
    left = 2

    def busy(piece: bytes) -> bytes:
        nonlocal left
        left -= 1
        return piece if left < 0 else b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"

    proxy.meddle_out = busy
    assert through.get("a/b") == b"x"
    assert left < 0


# What is wrong with a server, and what to do


def said_of(action: Callable[[], object], *, endpoint: str) -> str:
    """What the error of an action says; with its endpoint, without its secret, and with exit code 5."""
    with pytest.raises(StoreError) as caught:
        action()
    error: BaseException | None = caught.value
    assert endpoint in str(error)
    assert caught.value.exit_code == 5
    while error is not None:
        assert SECRET_KEY not in f"{error} {error!r}"
        error = error.__cause__
    return str(caught.value)


def delete(store: S3Store) -> None:
    store.delete("a/b")


ACTIONS: list[Callable[[S3Store], object]] = [
    lambda store: store.get("a/b"),
    lambda store: store.put("a/b", b"x"),
    lambda store: store.exists("a/b"),
    lambda store: list(store.list_keys()),
    lambda store: store.replace("a/b", b"x", expected=None),
    lambda store: store.lock("a/b").__enter__(),
    delete,
    lambda store: store.erase("a/"),
]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_wrong_secret_a_wrong_key_and_a_missing_bucket_are_told_apart(
    s3_server: S3Server, s3_url: str, action: Callable[[S3Store], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    # With a region the SDK asks nothing of its own accord.
    s3_url = f"{s3_url}&region=us-east-1"
    nowhere = S3Store.open(f"{s3_server.url('no-such-bucket')}&region=us-east-1")
    assert "alp store init" in said_of(lambda: action(nowhere), endpoint=s3_server.endpoint)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET_KEY}-wrong")
    wrong_secret = S3Store.open(s3_url)
    assert "do not belong together" in said_of(lambda: action(wrong_secret), endpoint=s3_server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    wrong_key = S3Store.open(s3_url)
    assert "does not know the access key" in said_of(lambda: action(wrong_key), endpoint=s3_server.endpoint)


def test_a_typing_error_makes_no_bucket(s3_server: S3Server) -> None:
    with pytest.raises(StoreError, match="no such bucket"):
        S3Store.open(f"{s3_server.url('alp-tets')}&region=us-east-1").put("a/b", b"x")
    assert not S3Store.open(s3_server.url("alp-tests")).bucket.sdk.bucket_exists("alp-tets")


def test_a_server_that_is_not_there_is_told_with_what_to_do(s3_server: S3Server) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        store = S3Store.open(f"s3://alp-tests?endpoint={endpoint}")
        assert "does not answer; check that the server runs" in said_of(lambda: store.get("a/b"), endpoint=endpoint)


PAGES = {
    "no XML": b"<p>Hello</br>",
    "other XML": b"<html><body>Log in</body></html>",
    "no UTF-8": "<p>로그인하세요</p>".encode("euc-kr"),
    "nothing": b"",
}


def as_answer(page: bytes, *, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(page)) + page


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
@pytest.mark.parametrize("status", [b"200 OK", b"302 Found", b"403 Forbidden"])
def test_a_server_of_another_kind_is_told_as_such(
    s3_server: S3Server, proxy: Proxy, page: bytes, status: bytes
) -> None:
    proxy.meddle_out = lambda _: as_answer(page, status=status)
    for region in ("", "&region=us-east-1"):
        store = S3Store.open(f"s3://alp-tests?endpoint={proxy.endpoint}{region}")
        assert "is it an S3 server" in said_of(lambda store=store: store.get("a/b"), endpoint=proxy.endpoint)


@pytest.mark.parametrize("action", [action for action in ACTIONS if action is not delete])
def test_a_page_to_log_in_is_neither_an_object_nor_a_write_that_was_done(
    through: S3Store, proxy: Proxy, action: Callable[[S3Store], object]
) -> None:
    through.exists("a/b")
    proxy.meddle_out = lambda _: as_answer(PAGES["other XML"])
    assert "is it an S3 server" in said_of(lambda: action(through), endpoint=proxy.endpoint)


def test_a_server_that_takes_a_request_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.s3_bucket, "_ANSWER_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = S3Store.open(f"s3://alp-tests?endpoint={endpoint}")
        assert "does not answer in time" in said_of(lambda: store.get("a/b"), endpoint=endpoint)


def test_why_a_look_is_refused_is_told_though_the_server_does_not_say(
    store: S3Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a/b", b"x")
    now = datetime.now
    monkeypatch.setattr("minio.time.utcnow", lambda: now(UTC) + timedelta(hours=1))
    assert "this machine's clock and the server's differ" in said_of(
        lambda: store.exists("a/b"), endpoint=s3_server.endpoint
    )


# Two at once


def test_a_conditional_write_whose_answer_was_lost_is_known_as_one_s_own(
    store: S3Store, through: S3Store, proxy: Proxy
) -> None:
    through.exists("a/b")
    proxy.meddle_out = once(cut)
    etag = through.replace("a/b", b"mine", expected=None)
    assert store.get_with_etag("a/b") == (b"mine", etag)


def count_up(url: str, key: str, times: int, *, locked: bool) -> None:
    """Count in an object, `times` times; run in a process of its own."""
    store = S3Store.open(url)
    while times:
        if locked:
            with store.lock(key):
                store.put(key, str(int(store.get(key)) + 1).encode())
        else:
            data, etag = store.get_with_etag(key)
            try:
                store.replace(key, str(int(data) + 1).encode(), expected=etag)
            except ConflictError:
                continue
        times -= 1


@pytest.mark.parametrize("locked", [True, False], ids=["by lock", "by condition"])
def test_two_processes_lose_no_update_of_each_other(store: S3Store, s3_url: str, locked: bool) -> None:
    store.put("a/count", b"0")
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=count_up, args=(s3_url, "a/count", 10), kwargs={"locked": locked}) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert store.get("a/count") == b"20"


def test_a_lock_is_renewed_for_as_long_as_it_is_held(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.s3_lease, "LEASE_S", 3.0)
    monkeypatch.setattr(tasks.s3_lease, "_GRACE_S", 3.0)
    order: list[str] = []

    def second() -> None:
        with store.lock("a/b"):
            order.append("second")

    other = threading.Thread(target=second)
    with store.lock("a/b"):
        other.start()
        other.join(8.0)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def hold_and_die(url: str, key: str) -> None:
    """Take a lock and be killed with it; run in a process of its own."""
    Lease.take(S3Store.open(url).bucket, key, lease_s=1.0)
    os._exit(9)


def test_the_lock_of_whoever_was_killed_runs_out(store: S3Store, s3_url: str) -> None:
    killed = multiprocessing.get_context("spawn").Process(target=hold_and_die, args=(s3_url, "a/b"))
    killed.start()
    killed.join(60)
    assert killed.exitcode == 9
    with store.lock("a/b"):
        store.put("a/b", b"mine")


def test_a_lock_goes_by_nobody_s_clock(store: S3Store, through: S3Store, proxy: Proxy) -> None:
    """Of a server of several machines each states its own time."""
    order: list[str] = []

    def tell_another_time(piece: bytes) -> bytes:
        return re.sub(rb"(?i)\r\ndate: [^\r]*", b"\r\nDate: Sat, 01 Jan 2050 00:00:00 GMT", piece)

    def second() -> None:
        with through.lock("a/b"):
            order.append("second")

    proxy.meddle_out = tell_another_time
    other = threading.Thread(target=second)
    with store.lock("a/b"):
        other.start()
        other.join(1.0)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_whoever_slept_under_a_lock_finds_that_it_is_lost(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system's clocks go on while it sleeps")
    tell = time.clock_gettime

    def sleep_under_the_lock() -> None:
        with store.lock("a/b"):
            # As after a machine's sleep of a minute: the monotonic clock stood still.
            monkeypatch.setattr(time, "clock_gettime", lambda clock: tell(clock) + 60 * (clock == time.CLOCK_BOOTTIME))
            store.put("a/other", b"mine")

    with pytest.raises(StoreError, match=r"the lock on s3://\S+/a/b was lost"):
        sleep_under_the_lock()
    assert not store.exists("a/other")


def test_whoever_lost_a_lock_writes_nothing_more(
    store: S3Store, through: S3Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.s3_lease, "LEASE_S", 1.0)

    def sleep_under_the_lock() -> None:
        with through.lock("a/b"):
            proxy.is_down = True
            time.sleep(1.1)
            monkeypatch.setattr(tasks.s3_lease, "LEASE_S", 30.0)
            with store.lock("a/b"):
                store.put("a/b", b"theirs")
            proxy.is_down = False
            through.put("a/other", b"mine")

    with pytest.raises(StoreError, match=r"the lock on s3://\S+/a/b was lost"):
        sleep_under_the_lock()
    assert store.get("a/b") == b"theirs"
    assert not store.exists("a/other")


@pytest.mark.parametrize("before", [None, b"before"])
def test_the_locked_object_is_not_written_over_what_somebody_wrote_meanwhile(
    store: S3Store, s3_url: str, before: bytes | None
) -> None:
    if before is not None:
        store.put("a/b", before)

    def write_under_a_lock_that_does_not_hold() -> None:
        with store.lock("a/b"):
            S3Store.open(s3_url).put("a/b", b"theirs")
            store.put("a/b", b"mine")

    with pytest.raises(ConflictError, match="a/b was"):
        write_under_a_lock_that_does_not_hold()
    assert store.get("a/b") == b"theirs"


def test_the_locked_object_may_be_written_and_removed_as_often_as_one_likes(store: S3Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    with store.lock("a/b"):
        store.put("a/b", b"first")
        store.put_file("a/b", tmp_path / "file")
        store.delete("a/b")
        store.put("a/b", b"last")
    assert store.get("a/b") == b"last"
