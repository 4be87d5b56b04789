"""The object store: one interface, opened by URL.

`file:///path` (or `file://./relative`) is a folder to open and look into. An object appears whole or not at
all: it is written beside its place and renamed. Keys are relative POSIX paths of `[A-Za-z0-9._-]` segments, and
below `inbox/` and `recordings/` whatever a plant calls its files; anything else is refused before it reaches a disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, ValidationError

from schemas.errors import StoreError, UsageError

if TYPE_CHECKING:
    import pandas as pd

_INBOX_KEY = re.compile(r"(inbox|recordings)(/[^/\\\x00-\x1f\x7f.][^/\\\x00-\x1f\x7f]*)+")
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_TEMPORARY = ".writing-"

ModelT = TypeVar("ModelT", bound=BaseModel)


def check_key(key: str) -> str:
    """`key` itself, if it can be no path out of the store; what plants drop may be named in any script."""
    if not (_KEY.fullmatch(key) or _INBOX_KEY.fullmatch(key)) or len(key) > 900:
        raise StoreError(f"{key!r} is no key of a store: use segments of letters, digits, '.', '_' and '-'")
    return key


@dataclass(frozen=True)
class ObjectStat:
    """What a store says of an object without reading it."""

    bytes: int
    modified: datetime
    """When it was written, with time zone."""


class ObjectStore(ABC):
    """Objects by key. Every write is whole or not at all; a missing key is a `StoreError`."""

    url: str

    @abstractmethod
    def get(self, key: str) -> bytes:
        """The object's bytes.

        Raises
        ------
        StoreError
            There is no such object, or the store cannot be read.
        """

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write an object, replacing one that was there."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether there is such an object."""

    @abstractmethod
    def stat(self, key: str) -> ObjectStat:
        """Size and time of an object; a `StoreError` where there is none."""

    @abstractmethod
    def list_keys(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, sorted."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is no error."""

    @abstractmethod
    def location(self, key: str) -> str:
        """Where a person finds the object: a path or a URL."""

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Keep others from changing an object between reading and writing it, where the store can."""
        yield

    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        """The object as a file on this machine, read-only, for as long as the context lasts."""
        with tempfile.TemporaryDirectory(prefix="alp-") as folder:
            path = Path(folder) / key.rsplit("/", 1)[-1]
            path.write_bytes(self.get(key))
            yield path

    def put_file(self, key: str, path: Path) -> None:
        """Write a local file as an object."""
        self.put(key, path.read_bytes())

    @contextmanager
    def local_folder(self, prefix: str) -> Iterator[Path]:
        """The objects under `prefix` as a folder on this machine, for as long as the context lasts."""
        with tempfile.TemporaryDirectory(prefix="alp-") as name:
            folder = Path(name)
            for key in self.list_keys(f"{prefix}/"):
                path = folder / key[len(prefix) + 1 :]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.get(key))
            yield folder

    def get_model(self, key: str, model: type[ModelT]) -> ModelT:
        """A pydantic model from JSON.

        Raises
        ------
        StoreError
            There is none, or not as this version writes it.
        """
        try:
            return model.model_validate_json(self.get(key))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise StoreError(
                f"{key} cannot be read as this version of alp writes it ({where}: {first['msg']}); it is damaged, or of"
                " another version: put it back from a backup, or onboard a package of the asset again, which makes what"
                " belongs to a model anew"
            ) from error

    def find_model(self, key: str, model: type[ModelT]) -> ModelT | None:
        """As `get_model`; None where there is no such object."""
        return self.get_model(key, model) if self.exists(key) else None

    def find_intact(self, key: str, model: type[ModelT]) -> ModelT | None:
        """As `find_model`; None where it is damaged too, for what is found out anew."""
        try:
            return model.model_validate_json(self.get(key)) if self.exists(key) else None
        except ValidationError:
            return None

    def put_model(self, key: str, value: BaseModel) -> None:
        """A pydantic model as JSON."""
        self.put(key, (value.model_dump_json(indent=2) + "\n").encode())

    def get_frame(self, key: str) -> pd.DataFrame:
        """A table from Parquet.

        Raises
        ------
        StoreError
            There is none, or it is damaged.
        """
        import pandas as pd

        data = self.get(key)
        try:
            return pd.read_parquet(io.BytesIO(data))
        except (OSError, ValueError) as error:
            raise StoreError(f"{key} is damaged ({error}); put it back from a backup") from error

    def put_frame(self, key: str, frame: pd.DataFrame) -> None:
        """A table as Parquet."""
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        self.put(key, buffer.getvalue())


class FolderStore(ObjectStore):
    """A store in a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.url = self.root.as_uri()

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise StoreError(f"{self.url} holds no object {key!r}") from None
        except OSError as error:
            raise StoreError(f"{self._path(key)} cannot be read: {error.strerror}") from error

    def put(self, key: str, data: bytes) -> None:
        self._place(key, lambda temporary: temporary.write_bytes(data))

    def put_file(self, key: str, path: Path) -> None:
        self._place(key, lambda temporary: shutil.copyfile(path, temporary))

    def _place(self, key: str, write: Callable[[Path], object]) -> None:
        """Write beside the place, then rename: a reader sees the old object or the new one, never half."""
        path = self._path(key)
        temporary: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
            os.close(handle)
            temporary = Path(name)
            write(temporary)
            temporary.chmod(0o644)
            temporary.replace(path)
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise StoreError(
                f"{path} cannot be written: {error.strerror}; check the disk and the rights, or give another --store"
            ) from error

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def stat(self, key: str) -> ObjectStat:
        try:
            found = self._path(key).stat()
        except FileNotFoundError:
            raise StoreError(f"{self.url} holds no object {key!r}") from None
        except OSError as error:
            raise StoreError(f"{self._path(key)} cannot be looked at: {error.strerror}") from error
        return ObjectStat(found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        folder = self.root / prefix.rpartition("/")[0]
        found = (path.relative_to(self.root).as_posix() for path in folder.rglob("*") if path.is_file())
        return iter(sorted(key for key in found if key.startswith(prefix) and _TEMPORARY not in key.rsplit("/", 1)[-1]))

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def location(self, key: str) -> str:
        return str(self._path(key))

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """An advisory lock between the processes of this machine; the system drops it with its holder."""
        self.root.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(check_key(key).encode()).hexdigest()[:16]
        with (self.root / f"{_TEMPORARY}lock-{name}").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        if not self.exists(key):
            raise StoreError(f"{self.url} holds no object {key!r}")
        yield self._path(key)


class OverlayStore(ObjectStore):
    """A store seen through a sheet of glass: reads fall through to `below`, writes stay on `above`.

    What a dry run stands on: the flow runs as it always does and the real store is never touched.
    """

    def __init__(self, above: ObjectStore, below: ObjectStore, url: str) -> None:
        self.above, self.below, self.url = above, below, url

    def _holder(self, key: str) -> ObjectStore:
        return self.above if self.above.exists(key) else self.below

    def get(self, key: str) -> bytes:
        return self._holder(key).get(key)

    def put(self, key: str, data: bytes) -> None:
        self.above.put(key, data)

    def exists(self, key: str) -> bool:
        return self.above.exists(key) or self.below.exists(key)

    def stat(self, key: str) -> ObjectStat:
        return self._holder(key).stat(key)

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        return iter(sorted({*self.above.list_keys(prefix), *self.below.list_keys(prefix)}))

    def delete(self, key: str) -> None:
        if self.below.exists(key):
            raise StoreError(f"{key!r} lies in {self.below.url}, which a dry run does not touch")
        self.above.delete(key)

    def location(self, key: str) -> str:
        return self._holder(key).location(key)


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
    """The store at `url`.

    Raises
    ------
    UsageError
        The URL names no kind of store that ALP knows.
    """
    if url.startswith(_OVERLAY):
        below, _, folder = url.removeprefix(_OVERLAY).rpartition("#")
        return OverlayStore(FolderStore(Path(unquote(folder))), open_store(below), url)
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    plain = not parts.query and not parts.fragment and parts.netloc in ("", ".", "..", "localhost")
    if parts.scheme != "file" or not plain:
        raise UsageError(
            f"store {url!r} is of no kind that ALP knows; write file:///path or file://./path"
            " (a '#', '?' or '%' in the path as %23, %3F or %25)"
        )
    path = unquote(parts.netloc.removeprefix("localhost") + parts.path)
    if not path:
        raise UsageError(f"store {url!r} names no folder; write file:///path or file://./path")
    return FolderStore(Path(path))
