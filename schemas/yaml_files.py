"""Our YAML files, read with errors that name the file and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from schemas.errors import UsageError


class _OnceLoader(yaml.SafeLoader):
    """Reads plain YAML in which no key of a mapping stands twice: of two, the later would silently be the one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                message = f"{key.value} stands in line {lines[key.value]} and again in line {line}; keep one"
                raise yaml.constructor.ConstructorError(None, None, message)
            lines[str(key.value)] = line
        return super().construct_mapping(node, deep)


def read_mapping(path: Path, *, what: str, wanted: str) -> dict[Any, Any]:
    """The mapping that a YAML file holds. `what` names its content, `wanted` describes the mapping, for the errors.

    Raises
    ------
    UsageError
        The file cannot be read, is no YAML in UTF-8, or holds something else than a mapping.
    """
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {what} cannot be read ({error}). Write YAML in UTF-8.") from error
    if not isinstance(entries, dict):
        raise UsageError(f"{path}: {wanted}")
    return entries
