"""Names of time zones, checked before a schedule is made of them, and the zone that a schedule is kept in."""

from __future__ import annotations

import difflib
import zoneinfo
from datetime import UTC, datetime, timedelta

_PLACES = {
    **dict.fromkeys(("kst", "korea", "한국", "대한민국", "서울"), "Asia/Seoul"),
    **dict.fromkeys(("jst", "일본"), "Asia/Tokyo"),
    "ict": "Asia/Bangkok",
    "ist": "Asia/Kolkata",
    "cet": "Europe/Berlin",
}
"""What people call a time zone that goes by another name."""


def check_time_zone(name: str) -> str:
    """`name` itself, an IANA name such as Asia/Seoul.

    Raises
    ------
    ValueError
        There is no such time zone; the message names those that may be meant.
    """
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        is_there = False
    else:
        # `localtime` is another time on every machine, and of the others no server need know.
        is_there = name not in ("localtime", "posixrules", "Factory") and not name.startswith(("posix/", "right/"))
    if not is_there:
        near = _near(name)
        raise ValueError(f"there is no such time zone; {f'did you mean {near}?' if near else 'name a place'}")
    return name


def zone_of_schedule(cron: str, name: str) -> str:
    """The time zone in which a scheduler is to take a cron expression: `name`, or UTC where that is the same and safer.

    In autumn schedulers pass over the hour that a clock repeats, so that of what is to come every five minutes nothing
    comes for more than an hour. An expression that names no hour and no day means the same in UTC, wherever clocks are
    whole hours from it.
    """
    if cron.split()[1:] != ["*"] * 4:
        return name
    offsets = _offsets(name)
    is_whole = all(offset % timedelta(hours=1) == timedelta(0) for offset in offsets)
    return "UTC" if len(offsets) > 1 and is_whole else name


def _offsets(name: str) -> set[timedelta]:
    """How far a zone's clocks are from UTC in the months of this year and the next; more than one: they are changed."""
    zone, year = zoneinfo.ZoneInfo(name), datetime.now(UTC).year
    months = (datetime(y, month, 15, tzinfo=zone) for y in (year, year + 1) for month in range(1, 13))
    return {each.utcoffset() or timedelta(0) for each in months}


def _near(name: str) -> str | None:
    """Zones of places, never of offsets: `Etc/GMT+9` is nine hours behind Greenwich."""
    folded = name.strip().casefold().replace(" ", "_")
    if folded in _PLACES:
        return _PLACES[folded]
    zones = {zone.casefold(): zone for zone in zoneinfo.available_timezones() if "/" in zone and "Etc/" not in zone}
    if folded in zones:
        return zones[folded]
    if any(sign in folded for sign in "+-") and any(digit.isdecimal() for digit in folded):
        return None
    return " or ".join(zones[each] for each in difflib.get_close_matches(folded, sorted(zones), n=3)) or None
