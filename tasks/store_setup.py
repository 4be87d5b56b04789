"""Make a store ready, and try out whether it can do what ALP asks of one.

Both may be done as often as one likes: what is there already stays as it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

from schemas.errors import ConflictError, StoreError
from tasks.store import FolderStore, ObjectStore

Outcome = Literal["made", "there", "cannot"]


@dataclass(frozen=True)
class Step:
    """One thing that was seen to, and how it stands."""

    what: str
    outcome: Outcome
    detail: str


def init_store(store: ObjectStore) -> list[Step]:
    """Make a store ready: of a folder the folder, of a bucket all that `tasks.s3_setup` sees to.

    Raises
    ------
    StoreError
        The store cannot be made, or not be reached.
    """
    if isinstance(store, FolderStore):
        return [_make_folder(store)]
    from tasks.s3_setup import init_bucket
    from tasks.s3_store import S3Store

    assert isinstance(store, S3Store)
    return init_bucket(store)


def _make_folder(store: FolderStore) -> Step:
    outcome: Outcome = "there" if store.root.is_dir() else "made"
    try:
        store.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{store.root} cannot be made: {error.strerror}; check the rights, or give another URL"
        ) from error
    return Step("folder", outcome, str(store.root))


def check_store(store: ObjectStore) -> Iterator[str]:
    """Try out, on an object that is removed again, all that ALP asks of a store; what holds, one sentence each.

    Raises
    ------
    StoreError
        Something does not hold, and what that costs.
    """
    key = f"checks/{uuid.uuid4().hex}"
    try:
        for probe in (_reads_what_it_wrote, _lists, _keeps_conditions, _locks, _links):
            yield probe(store, key)
    finally:
        with suppress(StoreError):
            store.erase(key)


def _reads_what_it_wrote(store: ObjectStore, key: str) -> str:
    data = uuid.uuid4().bytes * 4096
    store.put(key, data)
    if store.get(key) != data:
        raise StoreError(f"{store.url} does not give back what was written to it")
    return "it can be written to, and gives back what was written"


def _lists(store: ObjectStore, key: str) -> str:
    if list(store.list_keys("checks/")).count(key) != 1:
        raise StoreError(f"{store.url} does not list what was written to it; ALP would not find its own objects")
    return "it lists what was written"


def _keeps_conditions(store: ObjectStore, key: str) -> str:
    _, etag = store.get_with_etag(key)
    newer = store.replace(key, b"second", expected=etag)
    refused = [_is_refused(partial(store.replace, key, b"third", expected=stale)) for stale in (etag, None)]
    if not all(refused) or store.get_with_etag(key) != (b"second", newer):
        raise StoreError(
            f"{store.url} writes whatever the condition (If-Match, If-None-Match): two runs at once could lose each"
            " other's work. Take a server that keeps conditions; docs/storage.md names some"
        )
    return "it keeps conditions: of two who write at once, one succeeds"


def _is_refused(write: Callable[[], object]) -> bool:
    try:
        write()
    except ConflictError:
        return True
    return False


def _locks(store: ObjectStore, key: str) -> str:
    with store.lock(key):
        store.put(key, b"locked")
    return "it can be locked"


def _links(store: ObjectStore, key: str) -> str:
    store.presigned_url(key, expires_s=60)
    return "it gives links that expire"
