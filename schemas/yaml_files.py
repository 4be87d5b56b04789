"""Our YAML files, read with errors that name the file and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from schemas.errors import UsageError


def read_mapping(path: Path, *, what: str, wanted: str) -> dict[Any, Any]:
    """The mapping that a YAML file holds. `what` names its content, `wanted` describes the mapping, for the errors.

    Raises
    ------
    UsageError
        The file cannot be read, is no YAML in UTF-8, or holds something else than a mapping.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {what} cannot be read ({error}). Write YAML in UTF-8.") from error
    if not isinstance(entries, dict):
        raise UsageError(f"{path}: {wanted}")
    return entries
