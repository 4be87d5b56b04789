"""What every object store keeps to: objects by key, each write whole or not at all.

Keys are relative POSIX paths of `[A-Za-z0-9._-]` segments, and below `inbox/` and `recordings/` whatever a plant calls
its files; anything else is refused before it reaches a disk or a server. No key is another's folder (`a` beside `a/b`):
a disk cannot hold both.

Who changes an object by what it held before has two means, which both kinds of store honour:

- `lock(key)` keeps others waiting while one reads, computes and writes;
- `replace(key, data, expected=etag)` writes only where the version that was read still lies there, and is otherwise a
  `ConflictError`. It holds where a lock may not: on S3 a lock is a lease, which a machine that sleeps can outlive.

Units: sizes in bytes, times in UTC.
"""

from __future__ import annotations

import io
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.errors import ConflictError, StoreError, UsageError

if TYPE_CHECKING:
    import pandas as pd

_UNFIT = r"/\\\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff"
"""Slashes, and what a server's XML cannot hold."""

_INBOX_KEY = re.compile(f"(inbox|recordings)(/[^.{_UNFIT}][^{_UNFIT}]*)+")
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_KEY_BYTES, _NAME_BYTES = 900, 240
"""In UTF-8, together and a segment. S3 takes 1,024 with the store's own prefix; a disk takes 255 a segment, and
SeaweedFS keeps versions of an object in a folder whose name is nine longer."""

_LONGEST_LINK_S = 7 * 86_400
"""Seven days, the most that a signed request of S3 may hold (AWS, Signature Version 4)."""

ModelT = TypeVar("ModelT", bound=BaseModel)


def check_key(key: str) -> str:
    """`key` itself, if it can be no path out of the store; what plants drop may be named in any script."""
    if not _is_key(key):
        raise StoreError(
            f"{key!r} is no key of a store: use segments of letters, digits, '.', '_' and '-', of at most {_NAME_BYTES}"
            f" bytes each and {_KEY_BYTES} together"
        )
    return key


def check_prefix(prefix: str) -> str:
    """`prefix` itself, if a key may start with it."""
    if prefix and not _has_shape(f"{prefix}-"):
        raise StoreError(f"{prefix!r} is no prefix of a store: no key starts with it")
    return prefix


def _has_shape(key: str) -> bool:
    return bool(_KEY.fullmatch(key) or _INBOX_KEY.fullmatch(key))


def _is_key(key: str) -> bool:
    if not _has_shape(key):
        return False
    segments = [len(segment) for segment in key.encode().split(b"/")]
    return max(segments) <= _NAME_BYTES and sum(segments) + len(segments) - 1 <= _KEY_BYTES


def check_expiry(expires_s: int) -> int:
    """`expires_s` itself, if a link may hold so long."""
    if not 1 <= expires_s <= _LONGEST_LINK_S:
        raise UsageError(f"a link holds 1 to {_LONGEST_LINK_S} seconds (seven days), not {expires_s}")
    return expires_s


@dataclass(frozen=True)
class ObjectStat:
    """What a store says of an object without reading it."""

    bytes: int
    modified: datetime
    """When it was written, with time zone."""
    etag: str
    """Names the version that lies there, as `replace` takes it; of no meaning elsewhere. On S3 the same bytes have the
    same etag: who replaces a version by its own bytes keeps nobody else from replacing it too."""


class ObjectStore(ABC):
    """Objects by key. Every write is whole or not at all; a missing key is a `StoreError`."""

    url: str

    @abstractmethod
    def get_with_stat(self, key: str, *, most: int | None = None) -> tuple[bytes, ObjectStat]:
        """The object's bytes, of a larger one the first `most`, and what the store says of that very version.

        Raises
        ------
        StoreError
            There is no such object, the store cannot be read, or what was read is not what was written.
        """

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write an object, replacing one that was there."""

    @abstractmethod
    def replace(self, key: str, data: bytes, *, expected: str | None) -> str:
        """Write an object where the version `expected` lies, or none for None; the new version's etag.

        Of any number who replace one version at once, one succeeds.

        Raises
        ------
        ConflictError
            Another version lies there, or one where there was to be none.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether there is such an object."""

    @abstractmethod
    def stat(self, key: str) -> ObjectStat:
        """Size, time and version of an object; a `StoreError` where there is none."""

    @abstractmethod
    def list_objects(self, prefix: str = "") -> Iterator[tuple[str, ObjectStat]]:
        """Keys that start with `prefix`, sorted, and what lies there."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is no error. A store with versions keeps the old ones."""

    @abstractmethod
    def erase(self, prefix: str) -> list[str]:
        """Remove whatever starts with `prefix` and every earlier version of it, for good; the keys, sorted."""

    @abstractmethod
    def location(self, key: str) -> str:
        """Where a person finds the object: a path or an address."""

    @abstractmethod
    def presigned_url(self, key: str, *, expires_s: int) -> str:
        """A link that opens the object in a browser, for whoever holds it, until it expires.

        Of a store in a folder it is the file's own, and does not expire.

        Raises
        ------
        StoreError
            There is no such object.
        UsageError
            It is to hold for less than a second or more than seven days.
        """

    @abstractmethod
    def lock(self, key: str) -> AbstractContextManager[None]:
        """Keep others who lock `key` waiting; not to be taken twice by one thread."""

    def uri(self, key: str) -> str:
        """The object's address, to be read by people and machines: `file:///…` or `s3://…`."""
        return f"{self.url}/{key}"

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, sorted."""
        return (key for key, _ in self.list_objects(prefix))

    def get(self, key: str) -> bytes:
        """The object's bytes; raises as `get_with_stat`."""
        return self.get_with_stat(key)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """The object's bytes, and what `replace` takes as `expected`; raises as `get_with_stat`."""
        data, stat = self.get_with_stat(key)
        return data, stat.etag

    def download(self, key: str, path: Path) -> None:
        """Write the object to a local file; raises as `get_with_stat`."""
        path.write_bytes(self.get(key))

    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        """The object as a file on this machine, read-only, for as long as the context lasts."""
        with tempfile.TemporaryDirectory(prefix="alp-") as folder:
            path = Path(folder) / check_key(key).rsplit("/", 1)[-1]
            self.download(key, path)
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
                path = folder / check_key(key)[len(prefix) + 1 :]
                path.parent.mkdir(parents=True, exist_ok=True)
                self.download(key, path)
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
        self.put(key, model_bytes(value))

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
        self.put(key, frame_bytes(frame))


def conflict(uri: str, expected: str | None) -> ConflictError:
    """What `replace` raises."""
    if expected is None:
        return ConflictError(
            f"{uri} was written by somebody else; start the command again: it goes on from what lies there now"
        )
    return ConflictError(
        f"{uri} was changed by somebody else since it was read; start the command again: it goes on from what lies"
        " there now"
    )


def model_bytes(value: BaseModel) -> bytes:
    """A pydantic model as a store holds it."""
    return (value.model_dump_json(indent=2) + "\n").encode()


def frame_bytes(frame: pd.DataFrame) -> bytes:
    """A table as a store holds it."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
