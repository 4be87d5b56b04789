"""The object store: one interface, opened by URL.

- `file:///path` (or `file://./relative`) is a folder to open and look into (`tasks.folder_store`);
- `s3://bucket[/prefix]?endpoint=http://host:9000[&region=…]` is a bucket of any server that speaks S3, and without an
  endpoint one of AWS (`tasks.s3_store`). Its credentials come from the environment, never from the URL.

Both keep one contract, `tasks.object_store.ObjectStore`; docs/storage.md draws the map of what lies there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from schemas.errors import UsageError
from tasks.folder_store import FolderStore
from tasks.object_store import ModelT, ObjectStat, ObjectStore, check_key, frame_bytes, model_bytes
from tasks.overlay_store import OverlayStore

__all__ = [
    "FolderStore",
    "ModelT",
    "ObjectStat",
    "ObjectStore",
    "OverlayStore",
    "check_key",
    "frame_bytes",
    "model_bytes",
    "open_store",
    "overlay_url",
    "working_store",
]

_OVERLAY = "overlay+"


def overlay_url(url: str, folder: Path) -> str:
    """URL of a store that reads from `url` and writes into `folder`."""
    return f"{_OVERLAY}{url}#{quote(str(folder.resolve()))}"


@contextmanager
def working_store(url: str, *, dry_run: bool) -> Iterator[str]:
    """`url` itself, or for a dry run a sheet of glass over it that is thrown away afterwards."""
    if not dry_run:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="alp-") as folder:
        yield overlay_url(url, Path(folder))


def open_store(url: str) -> ObjectStore:
    """The store at `url`; nothing is asked of a server yet.

    Raises
    ------
    UsageError
        The URL names no kind of store that ALP knows, or holds what may not stand in one.
    StoreError
        The environment holds no credentials for it.
    """
    if url.startswith(_OVERLAY):
        below, _, folder = url.removeprefix(_OVERLAY).rpartition("#")
        return OverlayStore(FolderStore(Path(unquote(folder))), open_store(below), url)
    if url.startswith("s3:"):
        from tasks.s3_store import S3Store

        return S3Store.open(url)
    return FolderStore(_folder_of(url))


def _folder_of(url: str) -> Path:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    plain = not parts.query and not parts.fragment and parts.netloc in ("", ".", "..", "localhost")
    if parts.scheme != "file" or not plain:
        # What stands before an @ may be a password, whatever kind of URL was meant.
        shown = repr(url) if "@" not in url else "given"
        raise UsageError(
            f"store {shown} is of no kind that ALP knows; write file:///path or file://./path (a '#', '?' or '%' in"
            " the path as %23, %3F or %25), or s3://bucket?endpoint=http://host:9000"
        )
    path = unquote(parts.netloc.removeprefix("localhost") + parts.path)
    if not path:
        raise UsageError(f"store {url!r} names no folder; write file:///path or file://./path")
    return Path(path)
