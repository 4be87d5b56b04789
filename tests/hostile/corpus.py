"""Every hostile case, by name."""

from __future__ import annotations

from functools import cache

from tests.hostile import archive_cases, sound_cases, table_cases, workbook_cases
from tests.hostile.case import Case


@cache
def corpus() -> dict[str, Case]:
    """All cases; no two have one name."""
    listed = [*archive_cases.cases(), *sound_cases.cases(), *table_cases.cases(), *workbook_cases.cases()]
    named = {case.name: case for case in listed}
    assert len(named) == len(listed)
    return named
