"""Recordings that a recorder sends to a bucket."""

from __future__ import annotations

import io

import pytest

from tasks import keys
from tasks.recordings import StoreRecordings
from tasks.s3_store import S3Store
from tasks.watch_log import read_rows
from tasks.watching import News, Watcher
from tests.tasks.watching_rig import ASSET, AT_ONCE_S, CUSTOMER, make_watch, sound

HOME = keys.recordings(CUSTOMER, ASSET)


@pytest.fixture
def store(s3_url: str) -> S3Store:
    return S3Store.open(s3_url)


def send(store: S3Store, name: str, data: bytes) -> None:
    """As a recorder does, which knows nothing of us, under whatever name."""
    key = store.address.key(f"{HOME}{name}")
    store.bucket.sdk.put_object(store.address.bucket, key, io.BytesIO(data), len(data))


def test_sound_files_are_listed_and_read_as_they_were_sent(store: S3Store) -> None:
    for name in ("b.wav", "2026-03/3번 라인.wav", "notes.txt", ".hidden.wav", "folder/"):
        send(store, name, sound(1) if name.endswith(".wav") else b"")
    source = StoreRecordings(store, CUSTOMER, ASSET)
    files = source.list()
    assert sorted(file.name for file in files) == ["2026-03/3번 라인.wav", "b.wav"]
    assert [source.read(file, most=1 << 20) for file in files] == [sound(1)] * 2
    # Of what is larger than allowed so much is read as tells that it is.
    assert [source.read(file, most=10) for file in files] == [sound(1)[:11]] * 2


def test_what_is_gone_or_another_file_by_now_is_not_read(store: S3Store) -> None:
    send(store, "gone.wav", sound(1))
    send(store, "changed.wav", sound(1))
    source = StoreRecordings(store, CUSTOMER, ASSET)
    files = source.list()
    store.delete(f"{HOME}gone.wav")
    send(store, "changed.wav", sound(2) + b"more")
    assert [source.read(file, most=1 << 20) for file in files] == [None, None]


def test_new_recordings_are_judged_once_and_odd_names_are_named(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.wav", "tab\t.wav"):
        send(store, name, sound(len(name)))
    news: list[News] = []
    source = StoreRecordings(store, CUSTOMER, ASSET)
    watch = make_watch(store)
    for _ in range(2):
        watching = Watcher(store, watch, source, patience=None, settle_s=AT_ONCE_S, tell=None, on_news=news.append)
        watching.look()
    said = [each.text for each in news if each.kind == "passed_over"]
    assert len(said) == 2
    assert all("rename it" in text for text in said)
    assert read_rows(store, CUSTOMER, ASSET)["name"].tolist() == ["a.wav"]
