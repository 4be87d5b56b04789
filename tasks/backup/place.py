"""Where backups lie: a store by URL, in a folder or a bucket, which may be of another server than the store's own."""

from __future__ import annotations

from schemas.errors import UsageError
from tasks.object_store import ObjectStore
from tasks.store import OverlayStore, open_store


def open_shelf(url: str) -> ObjectStore:
    """The place at `url`; nothing is asked of a server yet.

    A bucket is opened with `ALP_BACKUP_ACCESS_KEY_ID` and `ALP_BACKUP_SECRET_ACCESS_KEY`, where they are set.

    Raises
    ------
    UsageError
        The URL names no kind of store that ALP knows.
    StoreError
        The environment holds no credentials for it.
    """
    if url.startswith("s3:"):
        from tasks.s3_address import Credentials, S3Address
        from tasks.s3_bucket import open_bucket
        from tasks.s3_store import S3Store

        address = S3Address.parse(url)
        return S3Store(open_bucket(address, Credentials.of_backup(address)))
    shelf = open_store(url)
    if isinstance(shelf, OverlayStore):
        raise UsageError("a backup cannot lie on a sheet of glass that is thrown away")
    return shelf
