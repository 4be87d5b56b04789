"""Our YAML files, read with errors that name the file and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import UsageError


class _RepeatedKey(yaml.YAMLError):
    """A key stands twice in one mapping."""


class _OnceLoader(yaml.SafeLoader):
    """Reads plain YAML in which no key of a mapping stands twice: of two, the later would silently be the one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                raise _RepeatedKey(f"{key.value} stands in line {lines[key.value]} and again in line {line}; keep one")
            lines[str(key.value)] = line
        return super().construct_mapping(node, deep)


def read_mapping(path: Path, *, what: str, wanted: str, hint: str = "") -> dict[Any, Any]:
    """The mapping that a YAML file holds.

    For the errors `what` names its content, `wanted` describes the mapping and `hint` says what else to look at.

    Raises
    ------
    UsageError
        The file cannot be read, is no YAML in UTF-8, or holds something else than a mapping.
    """
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except _RepeatedKey as error:
        raise UsageError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        why, remedy = _explain(error)
        raise UsageError(f"{path}: {what} cannot be read ({why}). {remedy} {hint}".rstrip()) from error
    if not isinstance(entries, dict):
        raise UsageError(f"{path}: {wanted}")
    return entries


def _explain(error: Exception) -> tuple[str, str]:
    """Why a file cannot be read, in a line, and what to do."""
    if isinstance(error, OSError):
        return error.strerror or str(error), "Check the path and the rights."
    if isinstance(error, UnicodeDecodeError):
        return "it is not in UTF-8", "Save it as UTF-8: an editor asks for the encoding when it saves under a name."
    if isinstance(error, RecursionError):
        return "tables and lists stand too deep in each other", "Write YAML in UTF-8."
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split()), "Write YAML in UTF-8."
    remedy = "Indent with spaces: YAML takes no tab." if "'\\t'" in problem else "Write YAML in UTF-8."
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}", remedy


def place_in(path: Path) -> Callable[[Sequence[str | int]], str]:
    """How a value in a file is named, by the keys that lead to it: file and line, or the file alone."""

    def place(keys: Sequence[str | int]) -> str:
        line = line_of(path, keys)
        return f"{path}, line {line}" if line else str(path)

    return place


def line_of(path: Path, keys: Sequence[str | int]) -> int | None:
    """Line, from 1, of the entry of a YAML file that the keys lead to, or of the last of them that is there.

    None where the file has no such entry at the top.
    """
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    line: int | None = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            pairs = [(name, value) for name, value in node.value if name.value == str(key)]
            if not pairs:
                break
            name, node = pairs[-1]
            line = name.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            break
    return line
