"""What lies beside the store and belongs to it: customers' files, when to retrain, and databases.

A database of SQLite is copied as it stands at one moment, whoever writes to it meanwhile, and the copy is held to be
whole before it counts. Other files are taken as they are; a dump of PostgreSQL is such a file.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from schemas.errors import EnvironmentFault, UsageError

_SQLITE = b"SQLite format 3\0"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PATIENCE_S = 60.0


def files_beside(customers: Path, retraining: Path | None, others: Iterable[Path]) -> dict[str, Path]:
    """Files by the names under which they are restored: `customers/<name>.yaml`, `retraining.yaml`, others as called.

    Raises
    ------
    UsageError
        Another file is not there, two have one name, or a name cannot be kept.
    """
    found = {f"customers/{path.name}": path for path in sorted(customers.glob("*.yaml")) if path.is_file()}
    if retraining is not None and retraining.is_file():
        found["retraining.yaml"] = retraining
    for path in others:
        if not path.is_file():
            raise UsageError(f"{path}: there is no such file to back up")
        if path.name in found:
            raise UsageError(f"two files are called {path.name}; rename one")
        found[path.name] = path
    if odd := [path for path in found.values() if not _NAME.fullmatch(path.name)]:
        raise UsageError(f"{odd[0]} cannot be backed up under this name: use letters, digits, '.', '_' and '-'")
    return found


@contextmanager
def steady(files: dict[str, Path], folder: Path) -> Iterator[dict[str, Path]]:
    """The files as copies in `folder` that nobody writes to, for as long as the context lasts.

    Raises
    ------
    EnvironmentFault
        One cannot be read, or a database is not whole.
    """
    copies = {}
    for number, (name, path) in enumerate(files.items()):
        copies[name] = folder / str(number)
        try:
            copy_file(path, copies[name])
        except (OSError, sqlite3.Error) as error:
            raise EnvironmentFault(f"{path} cannot be backed up ({error}); look whether it is whole") from error
    yield copies


def copy_file(path: Path, copy: Path) -> None:
    """Copy a file; a database of SQLite with what is not in its file yet."""
    with path.open("rb") as file:
        is_database = file.read(len(_SQLITE)) == _SQLITE
    if not is_database:
        shutil.copyfile(path, copy)
        return
    address = f"{path.resolve().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE_S)) as there,
        closing(sqlite3.connect(copy)) as here,
    ):
        # All pages at once: whoever writes in between would make it begin again.
        there.backup(here, pages=-1)
        here.execute("PRAGMA journal_mode=DELETE")
        (verdict,) = here.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict))
