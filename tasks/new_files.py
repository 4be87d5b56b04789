"""Files for a person, which are written whole or not at all, and replace nothing by accident."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import EnvironmentFault, UsageError
from schemas.reasons import system_reason


def require_free(target: Path, *, overwrite: bool) -> None:
    """Raise UsageError where something lies at `target` that may not be replaced; a folder never may."""
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists already; choose another name, or overwrite it (--overwrite)")


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to, which is moved there at the end, or removed where something fails.

    Raises EnvironmentFault where it cannot be written.
    """
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write {target}: {system_reason(error)}; choose a place with room and write access"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
