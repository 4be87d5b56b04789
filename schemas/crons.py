"""Cron expressions, checked before a server sees them: five fields, and a day that comes.

    minute hour day-of-month month day-of-week

A field is `*`, a number, a range `1-5` or a list of these by commas, each with a step behind it if need be (`*/15`).
Months and days of the week may be named (`jan`, `mon`); Sunday is 0 and 7.
"""

from __future__ import annotations

import re

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, start=1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
"""Days of the months that have fewer than 31."""
_SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""What other programs take for an expression, and the expression."""
_PART = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)


def check_cron(cron: str) -> str:
    """`cron` itself, its fields parted by single spaces.

    Raises
    ------
    ValueError
        It is no cron expression of five fields, or the day it names never comes.
    """
    words = cron.lower().split()
    if words and words[0].startswith("@"):
        meant = _SHORTHANDS.get(words[0], "*/15 * * * *")
        raise ValueError(f"{cron!r} is no cron expression of five fields; write {meant!r}")
    if len(words) != len(_FIELDS):
        seconds = "; seconds are none of them" if len(words) == len(_FIELDS) + 1 else ""
        raise ValueError(
            f"a cron expression has five fields, such as '*/15 * * * *', and {cron!r} has {len(words)}{seconds}"
        )
    fields = [_parse(word, *field) for word, field in zip(words, _FIELDS, strict=True)]
    _, _, days, months, _ = fields
    if words[4] == "*" and not any(min(days) <= _LONGEST.get(month, 31) for month in months):
        raise ValueError(f"the day that {cron!r} names never comes: no such month has {min(days)} days")
    return " ".join(words)


def _parse(word: str, name: str, lowest: int, highest: int, names: dict[str, int]) -> set[int]:
    """The numbers that a field stands for."""
    found: set[int] = set()
    for part in word.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{word!r} is no {name}: write *, a number, a range 1-5, a list 1,3 or a step */15")
        first, last = lowest, highest
        if match["first"] is not None:
            first = _number(match["first"], name, names)
            last = _number(match["last"], name, names) if match["last"] else first if not match["step"] else highest
        step = int(match["step"] or 1)
        if not (lowest <= first <= last <= highest) or not 1 <= step <= highest:
            raise ValueError(f"{part!r} is no {name}: it lies in {lowest}-{highest}, the smaller number first")
        found |= set(range(first, last + 1, step))
    return found


def _number(text: str, name: str, names: dict[str, int]) -> int:
    if text.isdecimal():
        return int(text)
    if text in names:
        return names[text]
    known = f", or one of {', '.join(names)}" if names else ""
    raise ValueError(f"{text!r} is no {name}: write a number{known}")
