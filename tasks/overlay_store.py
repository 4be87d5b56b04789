"""A store seen through a sheet of glass, which a dry run writes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from schemas.errors import StoreError
from tasks.object_store import ObjectStat, ObjectStore, conflict


class OverlayStore(ObjectStore):
    """A store seen through a sheet of glass: reads fall through to `below`, writes stay on `above`.

    What a dry run stands on: the flow runs as it always does and the real store is never touched, nor locked.
    """

    def __init__(self, above: ObjectStore, below: ObjectStore, url: str) -> None:
        self.above, self.below, self.url = above, below, url

    def _holder(self, key: str) -> ObjectStore:
        return self.above if self.above.exists(key) else self.below

    def get_with_stat(self, key: str, *, most: int | None = None) -> tuple[bytes, ObjectStat]:
        return self._holder(key).get_with_stat(key, most=most)

    def download(self, key: str, path: Path) -> None:
        self._holder(key).download(key, path)

    def local_file(self, key: str) -> AbstractContextManager[Path]:
        return self._holder(key).local_file(key)

    def put(self, key: str, data: bytes) -> None:
        self.above.put(key, data)

    def put_file(self, key: str, path: Path) -> None:
        self.above.put_file(key, path)

    def replace(self, key: str, data: bytes, *, expected: str | None) -> str:
        # The sheet is one process's own, and what lies below cannot change by it.
        with self.above.lock("replace"):
            there = self.stat(key).etag if self.exists(key) else None
            if there != expected:
                raise conflict(self.uri(key), expected)
            self.above.put(key, data)
            return self.above.stat(key).etag

    def exists(self, key: str) -> bool:
        return self.above.exists(key) or self.below.exists(key)

    def stat(self, key: str) -> ObjectStat:
        return self._holder(key).stat(key)

    def list_objects(self, prefix: str = "") -> Iterator[tuple[str, ObjectStat]]:
        found = dict(self.below.list_objects(prefix)) | dict(self.above.list_objects(prefix))
        return iter(sorted(found.items()))

    def delete(self, key: str) -> None:
        if self.below.exists(key):
            raise self._untouchable(key)
        self.above.delete(key)

    def erase(self, prefix: str) -> list[str]:
        if (first := next(self.below.list_keys(prefix), None)) is not None:
            raise self._untouchable(first)
        return self.above.erase(prefix)

    def _untouchable(self, key: str) -> StoreError:
        return StoreError(f"{key!r} lies in {self.below.url}, which a dry run does not touch")

    def location(self, key: str) -> str:
        return self._holder(key).location(key)

    def uri(self, key: str) -> str:
        return self._holder(key).uri(key)

    def presigned_url(self, key: str, *, expires_s: int) -> str:
        return self._holder(key).presigned_url(key, expires_s=expires_s)

    def lock(self, key: str) -> AbstractContextManager[None]:
        return self.above.lock(key)
