"""A link opens the object that it was made for, for reading, until it ends; and nothing else."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit, urlunsplit

import pytest

from tasks.store import ObjectStore, open_store

MINE, THEIRS = "runs/acme/0011223344556677/report.html", "runs/acme-ulsan/0011223344556677/report.html"


@pytest.fixture
def store(s3_url: str) -> ObjectStore:
    store = open_store(s3_url)
    store.put(MINE, b"mine")
    store.put(THEIRS, b"theirs")
    return store


@pytest.fixture
def link(store: ObjectStore) -> str:
    return store.presigned_url(MINE, expires_s=60)


def status_of(url: str, method: str = "GET", data: bytes | None = None) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data, method=method), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_it_opens_its_object(link: str) -> None:
    with urllib.request.urlopen(link, timeout=20) as answer:
        assert answer.read() == b"mine"


def test_it_opens_no_object_of_another_customer(link: str) -> None:
    assert status_of(link.replace("/acme/", "/acme-ulsan/")) == 403


@pytest.mark.parametrize("path", ["", "../acme-ulsan/0011223344556677/report.html", "manifest.json"])
def test_it_opens_nothing_beside_its_object(link: str, path: str) -> None:
    parts = urlsplit(link)
    beside = f"{parts.path.rpartition('/')[0]}/{path}"
    assert status_of(urlunsplit(parts._replace(path=beside))) in (400, 403, 404)


def test_it_lists_no_bucket(link: str) -> None:
    parts = urlsplit(link)
    bucket = "/" + parts.path.split("/")[1]
    assert status_of(urlunsplit(parts._replace(path=bucket))) == 403
    assert status_of(urlunsplit(parts._replace(path=bucket, query=f"list-type=2&{parts.query}"))) == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_it_changes_nothing(store: ObjectStore, link: str, method: str) -> None:
    assert status_of(link, method, b"changed" if method != "DELETE" else None) in (403, 405)
    assert store.get(MINE) == b"mine"


def test_it_cannot_be_made_to_hold_longer(link: str) -> None:
    assert "X-Amz-Expires=60" in link
    assert status_of(link.replace("X-Amz-Expires=60", "X-Amz-Expires=604800")) == 403


def test_it_ends(store: ObjectStore) -> None:
    link = store.presigned_url(MINE, expires_s=1)
    time.sleep(2.1)
    assert status_of(link) == 403


def test_nobody_reads_without_a_link_or_a_key(link: str) -> None:
    parts = urlsplit(link)
    assert status_of(urlunsplit(parts._replace(query=""))) == 403
