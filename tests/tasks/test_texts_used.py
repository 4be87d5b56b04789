"""Every text of the pages and of the terminal is said somewhere: what nobody says, nobody keeps true."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tasks.report.words import _load

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("deployments", "flows", "tasks")
COMPOSED = r"""["']([\w\-]+\.[\w.\-]*)["']\s*~(?:[^()"']+~\s*["']([\w.\-]+)["'])?"""
"""A key that a template makes of a beginning, a value and perhaps an end."""
SENTENCES = ("headline.", "better.target.", "kpi.unproven.labels", "criteria.aside.")
"""Keys whose end is made of several words before it is said."""
TEMPLATES = ROOT / "tasks" / "report" / "templates"


def literals_and_patterns(tree: ast.AST) -> Iterator[str | re.Pattern[str]]:
    """Strings as they stand, and of an f-string what it can become: its fixed parts with anything between."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"[\w\-]*" for part in node.values
            ]
            # One that begins with a value could become any text.
            if isinstance(node.values[0], ast.Constant) and "." in str(node.values[0].value):
                yield re.compile("".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@cache
def said() -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    """All literals of code and templates, and all patterns of composed keys."""
    found: list[str | re.Pattern[str]] = []
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            found += literals_and_patterns(ast.parse(path.read_text(encoding="utf-8")))
    for path in TEMPLATES.glob("*.j2"):
        template = path.read_text(encoding="utf-8")
        found += re.findall(r"""["']([\w.\-]+)["']""", template)
        found += [
            re.compile(re.escape(start) + r"[\w\-]*" + re.escape(end)) for start, end in re.findall(COMPOSED, template)
        ]
    literals = frozenset(each for each in found if isinstance(each, str))
    return literals, tuple(each for each in found if isinstance(each, re.Pattern))


@pytest.mark.parametrize("key", _load()["texts"])
def test_every_text_is_said_somewhere(key: str) -> None:
    literals, patterns = said()
    composed = key.startswith(SENTENCES) or any(pattern.fullmatch(key) for pattern in patterns)
    assert key in literals or composed, f"nothing says {key}: remove it"


def test_a_text_that_nothing_says_would_be_found() -> None:
    literals, patterns = said()
    for key in ("better.certainly", "kpi.auc.few", "no.such.key"):
        assert key not in literals
        assert not any(pattern.fullmatch(key) for pattern in patterns)
