"""A store in a bucket of any server that speaks S3: MinIO, SeaweedFS, RustFS, AWS.

- A write is whole or not at all: S3 shows an object once it is complete, one that is written in parts as well.
- Every object carries the SHA-256 of its bytes, and every read is held against it.
- Inside `lock(key)`, writing `key` is conditional on the version that lay there when the lock was taken: a lock that
  was lost unnoticed can lose no update (docs/decisions/0020).
- Nothing is asked of the server before it is needed; a bucket that is missing, a wrong key or a server that is away is
  a `StoreError` that names the endpoint and the remedy.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from minio.error import S3Error

from schemas.errors import StoreError
from tasks.object_store import ObjectStat, ObjectStore, check_expiry, check_key, check_prefix, conflict
from tasks.s3_address import S3Address
from tasks.s3_bucket import (
    SHA256_HEADER,
    Bucket,
    content_type,
    damaged_on_the_way,
    etag_of,
    open_bucket,
    stat_of,
)
from tasks.s3_erasing import erase_below
from tasks.s3_errors import absent, telling
from tasks.s3_lease import LOCKS, Lease

PART_BYTES = 16 << 20
"""Larger files are written in parts of so many bytes, three at once."""

_MOST_PARTS = 10_000
_TRIES = 3
"""To write what is damaged on the way."""


@dataclass
class _Held:
    """A lock that this thread holds, and the version of its object that lies there as far as this thread knows."""

    lease: Lease
    etag: str | None


class S3Store(ObjectStore):
    """A store in a bucket; safe to be used by many threads."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket, self.address = bucket, bucket.address
        self.url = bucket.address.url
        self._mine = threading.local()

    @classmethod
    def open(cls, url: str) -> Self:
        """The store at an `s3://` URL; raises as `tasks.store.open_store`."""
        return cls(open_bucket(S3Address.parse(url)))

    @property
    def _held(self) -> dict[str, _Held]:
        """Locks of this thread, by key."""
        held: dict[str, _Held] = self._mine.__dict__.setdefault("held", {})
        return held

    def get_with_stat(self, key: str, *, most: int | None = None) -> tuple[bytes, ObjectStat]:
        found = self.bucket.read(check_key(key), most=most)
        if found is None:
            raise absent(self.address, key)
        return found

    def download(self, key: str, path: Path) -> None:
        if self.bucket.download(check_key(key), path) is None:
            raise absent(self.address, key)

    def put(self, key: str, data: bytes) -> None:
        check_key(key)
        self._ensure_locks()
        if (held := self._held.get(key)) is not None:
            held.etag = self.replace(key, data, expected=held.etag)
            return
        for _ in range(_TRIES):
            answer = self._upload(key, io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())
            if self.bucket.holds(key, data, answer):
                return
        # Whoever finds it there would take it for what was sent.
        self.delete(key)
        raise damaged_on_the_way(self.address, key)

    def put_file(self, key: str, path: Path) -> None:
        size = path.stat().st_size
        if size <= PART_BYTES or key in self._held:
            self.put(key, path.read_bytes())
            return
        check_key(key)
        self._ensure_locks()
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            self._upload(key, cast(BinaryIO, _Unchanged(file, size, sha256, path)), size, sha256)

    def _upload(self, key: str, stream: BinaryIO, size: int, sha256: str) -> Mapping[str, str]:
        """What the server answers; nothing where its answer was lost."""
        self.bucket.check()
        part = max(PART_BYTES, -(-size // _MOST_PARTS))
        options: dict[str, Any] = {
            "content_type": content_type(key),
            "metadata": {SHA256_HEADER: sha256},
            "part_size": part,
        }
        with telling(self.address, f"writing {key}"):
            try:
                name = self.address.key(key)
                written = self.bucket.sdk.put_object(self.address.bucket, name, stream, size, **options)
            except S3Error as error:
                # The end of an upload whose answer was lost is told twice, and the second time there is none to end.
                if error.code != "NoSuchUpload" or self.bucket.sha256(key) != sha256:
                    raise
                return {}
            answer = {"ETag": written.etag or ""}
            etag_of(answer)
            return answer

    def replace(self, key: str, data: bytes, *, expected: str | None) -> str:
        check_key(key)
        self._ensure_locks()
        etag = self.bucket.write_where(key, data, expected=expected)
        if etag is None:
            raise conflict(self.uri(key), expected)
        if (held := self._held.get(key)) is not None:
            held.etag = etag
        return etag

    def exists(self, key: str) -> bool:
        return self.bucket.head(check_key(key)) is not None

    def stat(self, key: str) -> ObjectStat:
        found = self.bucket.head(check_key(key))
        if found is None:
            raise absent(self.address, key)
        return stat_of(found)

    def list_objects(self, prefix: str = "") -> Iterator[tuple[str, ObjectStat]]:
        # Servers differ in where a '/' stands in their order.
        found = {self._own(each.object_name): stat_of(each) for each in self.bucket.list(check_prefix(prefix))}
        return iter(sorted((key, stat) for key, stat in found.items() if _is_object(key)))

    def _own(self, name: str | None) -> str:
        return (name or "").removeprefix(self.address.prefix)

    def delete(self, key: str) -> None:
        check_key(key)
        self.bucket.check()
        self._ensure_locks()
        with telling(self.address, f"deleting {key}"):
            self.bucket.sdk.remove_object(self.address.bucket, self.address.key(key))
        if (held := self._held.get(key)) is not None:
            held.etag = None

    def erase(self, prefix: str) -> list[str]:
        self._ensure_locks()
        gone = erase_below(self.bucket, check_prefix(prefix), but=self.address.key(LOCKS))
        return sorted({key for name in gone if _is_object(key := self._own(name))})

    def location(self, key: str) -> str:
        return self.uri(check_key(key))

    def uri(self, key: str) -> str:
        return self.address.uri(key)

    def presigned_url(self, key: str, *, expires_s: int) -> str:
        expires = timedelta(seconds=check_expiry(expires_s))
        self.stat(key)
        with telling(self.address, f"making a link to {key}"):
            return self.bucket.sdk.presigned_get_object(self.address.bucket, self.address.key(key), expires=expires)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """A lease, which holds between machines; `tasks.s3_lease` says how long, and what its limits are."""
        lease = Lease.take(self.bucket, check_key(key))
        try:
            found = self.bucket.head(key)
            self._held[key] = _Held(lease, stat_of(found).etag if found else None)
            yield
            lease.ensure_held()
        finally:
            self._held.pop(key, None)
            lease.give_back()

    def _ensure_locks(self) -> None:
        """Nothing is written by whoever has lost a lock and does not know it yet."""
        for held in self._held.values():
            held.lease.ensure_held()


def _is_object(key: str) -> bool:
    """Whether it is one of ours: consoles write `folder/` for an empty folder."""
    return bool(key) and not key.endswith("/") and not key.startswith(LOCKS)


class _Unchanged:
    """A file that is read once more than hashed: where it has changed in between, its last bytes are not given out."""

    def __init__(self, file: BinaryIO, size: int, sha256: str, path: Path) -> None:
        self._file, self._left, self._expected, self._path = file, size, sha256, path
        self._sum = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._sum.update(data)
        self._left -= len(data)
        if (self._left <= 0 or not data) and self._sum.hexdigest() != self._expected:
            raise StoreError(f"{self._path} was changed while it was written to the store; try again once it is whole")
        return data
