"""One bucket of one S3 server: the requests that a store is made of, each tried again where that can help.

A request is repeated, with growing pauses, where the server does not answer, says that it is busy (429, 5xx) or breaks
off; never where it refuses. An answer without an ETag is none of an S3 server: a proxy's page is neither read as an
object nor taken for a write that was done.

All go through the `minio` SDK's public functions but one, `write_where`: the SDK cannot put a condition on a write.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import certifi
import urllib3
from minio import Minio
from minio.datatypes import Object
from minio.error import S3Error
from urllib3.exceptions import HTTPError, MaxRetryError

from schemas.errors import StoreError, UsageError
from tasks.object_store import ObjectStat
from tasks.s3_address import Credentials, S3Address
from tasks.s3_errors import ABSENT, REFUSED_CONDITION, telling

SHA256_HEADER = "x-amz-meta-alp-sha256"
"""Under which an object carries the SHA-256 of what was written, as hex digits."""

_MARK_HEADER = "x-amz-meta-alp-write"
"""Under which a conditional write carries a mark of its own, by which an answer that was lost is known."""

_READ_BYTES = 1 << 20
_PAUSES_S = (0.2, 0.8, 3.2)
"""Between tries of what was broken off halfway."""

_BACKOFF_S = 0.2
"""Before the second repetition of a request; each later one waits twice as long, and all a bit at random."""

_ANSWER_S = 30.0
"""How long a server that took a request may be silent; asked six times, it is given up after three minutes."""

_BUSY = (429, 500, 502, 503, 504)
_TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".flac": "audio/flac",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".wav": "audio/wav",
    ".zip": "application/zip",
}
"""By the end of a key, so that a browser shows what a link leads to."""


class Bucket:
    """One bucket, for all threads of this process."""

    def __init__(self, address: S3Address, credentials: Credentials) -> None:
        self.address = address
        token = credentials.session_token
        try:
            self.sdk = Minio(
                address.host,
                access_key=credentials.access_key,
                secret_key=credentials.secret_key.get_secret_value(),
                session_token=token.get_secret_value() if token else None,
                secure=address.secure,
                region=address.region,
                http_client=_patient_pool(),
            )
        except ValueError as error:
            raise UsageError(f"the store's URL names an endpoint that cannot be: {error}") from error
        self._checked = False

    def check(self) -> None:
        """Ask once a process whether the bucket is there and may be read: some servers make one of a typing error.

        Raises
        ------
        StoreError
            It is not, or the server is not.
        """
        if not self._checked:
            with telling(self.address, "opening the store"):
                # A listing, since what a HEAD refuses it refuses without a word.
                next(self._list(self.address.prefix, extra_query_params={"max-keys": "1"}), None)
            self._checked = True

    def head(self, key: str) -> Object | None:
        """What the server says of an object; None where there is none."""
        self.check()
        with telling(self.address, f"looking at {key}"):
            try:
                found = self.sdk.stat_object(self.address.bucket, self.address.key(key))
            except S3Error as error:
                if error.code in ABSENT:
                    return None
                if error.code == "AccessDenied":
                    # A HEAD is refused without a word; a listing is told why.
                    self._checked = False
                    self.check()
                raise
            etag_of(found.metadata)
            return found

    def sha256(self, key: str) -> str | None:
        """The checksum that an object was written with; None where there is no object, or none of ours."""
        found = self.head(key)
        return _header(found.metadata, SHA256_HEADER) if found is not None else None

    def list(self, prefix: str) -> Iterator[Object]:
        """Every object whose key starts with `prefix`, in the server's order; names are those in the bucket."""
        self.check()
        with telling(self.address, f"listing {prefix or 'the store'}"):
            yield from self._list(self.address.key(prefix))

    def list_versions(self, prefix: str) -> Iterator[Object]:
        """The same, every version and every mark of a deletion."""
        self.check()
        with telling(self.address, f"listing {prefix or 'the store'}"):
            yield from self._list(self.address.key(prefix), include_version=True)

    def _list(self, name: str, **options: Any) -> Iterator[Object]:
        return iter(self.sdk.list_objects(self.address.bucket, prefix=name, recursive=True, **options))

    def read(self, key: str, *, most: int | None = None) -> tuple[bytes, ObjectStat] | None:
        """An object's bytes, of a larger one the first `most`; None where there is none.

        Raises
        ------
        StoreError
            It cannot be read, or what was read is not what was written.
        """
        buffer = io.BytesIO()

        def read_once() -> ObjectStat | None:
            buffer.seek(0)
            buffer.truncate()
            return self._fetch(key, buffer.write, most=most)

        stat = self._read_patiently(key, read_once)
        return (buffer.getvalue(), stat) if stat is not None else None

    def download(self, key: str, path: Path) -> ObjectStat | None:
        """Write an object to a local file, as `read` reads it."""

        def read_once() -> ObjectStat | None:
            with path.open("wb") as file:
                return self._fetch(key, file.write, most=None)

        return self._read_patiently(key, read_once)

    def _read_patiently(self, key: str, read_once: Callable[[], ObjectStat | None]) -> ObjectStat | None:
        """Read to the end, again where it is broken off, and once where it comes damaged."""
        self.check()
        damaged = False
        with telling(self.address, f"reading {key}"):
            for pause in _PAUSES_S:
                try:
                    return read_once()
                except MaxRetryError:
                    raise  # it was tried again and again already
                except DamagedError:
                    if damaged:
                        raise
                    damaged = True
                except HTTPError:
                    time.sleep(pause)
            return read_once()

    def _fetch(self, key: str, write: Callable[[bytes], object], *, most: int | None) -> ObjectStat | None:
        """Read an object from its beginning and hold it, where that is all of it, against its checksum."""
        response = self._open(key)
        if response is None:
            return None
        sums, size = (hashlib.sha256(), hashlib.md5(usedforsecurity=False)), 0
        try:
            told = _stat_of(response.headers)
            while chunk := response.read(_next_bytes(size, most), decode_content=False):
                for each in sums:
                    each.update(chunk)
                write(chunk)
                size += len(chunk)
        finally:
            # What was read to its end has gone back to the pool by itself; of the rest the connection is of no use.
            response.close()
        if most is None or size < most or size == told.bytes:
            sha256, md5 = (each.hexdigest() for each in sums)
            _compare(self.address, key, response.headers, sha256=sha256, md5=md5)
        # A proxy that packs anew tells no length.
        return told if "Content-Length" in response.headers else replace(told, bytes=size)

    def _open(self, key: str) -> urllib3.BaseHTTPResponse | None:
        try:
            return self.sdk.get_object(self.address.bucket, self.address.key(key))
        except S3Error as error:
            if error.code in ABSENT:
                return None
            raise

    def holds(self, key: str, data: bytes, answer: Mapping[str, str]) -> bool:
        """Whether what was written arrived as it was sent: by the ETag of the answer, and in doubt by reading it."""
        etag = (_header(answer, "etag") or "").strip('"').lower()
        if len(etag) != 32 or etag == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return True
        # Of an object that the server encrypts an ETag is no MD5.
        try:
            return self.read(key) is not None
        except DamagedError:
            return False

    def write_where(self, key: str, data: bytes, *, expected: str | None) -> str | None:
        """Write where the version `expected` lies, or none for None: the etag, or None where that is not so.

        The one request that goes through the SDK's private `_execute`.

        Raises
        ------
        StoreError
            The server is not there, or refuses; or what arrives there is damaged, time and again.
        """
        self.check()
        mark = uuid.uuid4().hex
        condition = {"If-None-Match": "*"} if expected is None else {"If-Match": f'"{expected}"'}
        headers = object_headers(key, data) | condition | {_MARK_HEADER: mark}
        name = self.address.key(key)
        with telling(self.address, f"writing {key}"):
            for pause in (*_PAUSES_S, None):
                try:
                    answer = self.sdk._execute("PUT", self.address.bucket, name, body=data, headers=dict(headers))
                    etag = etag_of(answer.headers)
                    if self.holds(key, data, answer.headers):
                        return etag
                    if pause is None:
                        raise damaged_on_the_way(self.address, key)
                    # Over what was damaged on the way, which is ours.
                    headers = object_headers(key, data) | {"If-Match": f'"{etag}"', _MARK_HEADER: mark}
                except S3Error as error:
                    if error.code in REFUSED_CONDITION:
                        break
                    # AWS, where two conditional writes meet: the one that is told so is to ask again.
                    if error.code != "ConditionalRequestConflict" or pause is None:
                        raise
                    time.sleep(pause)
        # Refused may be the repetition of what the server did, and could not say that it had done.
        found = self.head(key)
        return found.etag if found is not None and _header(found.metadata, _MARK_HEADER) == mark else None


@lru_cache(maxsize=8)
def _shared_bucket(address: S3Address, credentials: Credentials, process: int) -> Bucket:
    return Bucket(address, credentials)


def open_bucket(address: S3Address, credentials: Credentials | None = None) -> Bucket:
    """The bucket, as all stores of this process share it: its connections stay open.

    credentials: by default those of the environment.
    """
    return _shared_bucket(address, credentials or Credentials.of_environment(address), os.getpid())


def object_headers(key: str, data: bytes) -> dict[str, str]:
    """What is stored beside an object's bytes."""
    return {"Content-Type": content_type(key), SHA256_HEADER: hashlib.sha256(data).hexdigest()}


def _next_bytes(size: int, most: int | None) -> int:
    return _READ_BYTES if most is None else min(most - size, _READ_BYTES)


def content_type(key: str) -> str:
    """How a browser takes an object."""
    return _TYPES.get(PurePosixPath(key).suffix.lower(), "application/octet-stream")


def damaged_on_the_way(address: S3Address, key: str) -> StoreError:
    """What was written arrives as something else, however often."""
    return StoreError(
        f"{address.uri(key)} was damaged on the way to {address.endpoint} time and again; look after the network and"
        " what stands between, then start the command again"
    )


class DamagedError(StoreError):
    """What was read does not match its checksum."""


def stat_of(found: Object) -> ObjectStat:
    """What a listing or a HEAD says; to the second, since a HEAD says no more, and a listing may."""
    modified = found.last_modified or datetime.fromtimestamp(0, UTC)
    return ObjectStat(found.size or 0, modified.astimezone(UTC).replace(microsecond=0), (found.etag or "").strip('"'))


def _stat_of(headers: Mapping[str, str]) -> ObjectStat:
    modified = parsedate_to_datetime(headers.get("Last-Modified", "")).astimezone(UTC)
    return ObjectStat(int(headers.get("Content-Length", 0)), modified, etag_of(headers))


def etag_of(headers: Mapping[str, str] | None) -> str:
    """The version that an answer tells of; a ValueError, which `telling` tells, where it tells of none."""
    etag = (_header(headers, "etag") or "").strip('"')
    if not etag:
        raise ValueError("an answer without an ETag is none of an S3 server")
    return etag


def _header(headers: Mapping[str, str] | None, name: str) -> str | None:
    return next((value for key, value in (headers or {}).items() if key.lower() == name), None)


def _compare(address: S3Address, key: str, headers: Mapping[str, str], *, sha256: str, md5: str) -> None:
    """Hold what was read against the checksum it was written with.

    What others dropped carries none of ours: its ETag serves where it is an MD5, which it is not of an object written
    in parts, or encrypted under a key of its own.
    """
    stored = headers.get(SHA256_HEADER)
    etag = etag_of(headers)
    encryption = headers.get("x-amz-server-side-encryption", "")
    keyed = encryption.startswith("aws:kms") or "x-amz-server-side-encryption-customer-algorithm" in headers
    is_md5 = len(etag) == 32 and not keyed
    if (sha256 != stored) if stored else (is_md5 and md5 != etag.lower()):
        raise DamagedError(
            f"{address.uri(key)} at {address.endpoint} is damaged: what was read does not match the checksum that it"
            f" was written with (expected {stored or etag}, read {sha256 if stored else md5}); put it back from an"
            " earlier version or a backup, or remove it and run again what made it"
        )


def _patient_pool() -> urllib3.PoolManager:
    """Connections that try again what can be tried again, some six seconds long, and three minutes a silent server.

    Every kind of request is: writes are whole, deletions repeat themselves, and of a conditional write or the end of an
    upload in parts whose answer was lost it is looked up whether it was carried out.
    """
    retry = urllib3.Retry(
        total=5,
        redirect=False,
        allowed_methods=None,
        backoff_factor=_BACKOFF_S,
        backoff_jitter=_BACKOFF_S,
        status_forcelist=_BUSY,
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    return urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=5.0, read=_ANSWER_S),
        maxsize=10,
        retries=retry,
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
    )
