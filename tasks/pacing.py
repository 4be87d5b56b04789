"""Whether recordings come more often than the stated rate of false alarms counts with.

The budget is of a day, at `AlarmPolicy.clips_per_day`: who records twice as often gets twice the false alarms. Looked
back on is a day's worth of recordings by the policy, or so many whole days' worth that it is a hundred
(`window_size`). A machine that is recorded by shifts, or by the dozen each morning, does not seem to outrun its day.
Counted are recordings that entered the alarm rule's window: of a machine that is off none can ring.

Times are those of files. A folder that was unpacked or copied has them all at once, which no recorder can have done:
a recording that would have begun before the one before it ended is left out (`made_one_by_one`). Where no file tells
when it was made, nothing is said.

It is a note to whoever looks after the machine, `monitor/pace.json`, and no event: nothing is wrong with the machine.

Units: recordings a day, times UTC.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from engines.alarm import CADENCE_SLACK, outruns_cadence, recordings_a_day
from schemas.settings import AlarmPolicy, Language
from tasks import keys
from tasks.monitoring import Watch
from tasks.report.words import Words, rate
from tasks.store import ObjectStore
from tasks.watch_log import PACED, Made, WatchLog

_LEAST, _MOST = 100, PACED // 2
_LEAST_STEP = 0.5
"""Share of its length by which a recording is later than the one before it: recorders jitter, copies come at once."""
_NOTE_AGAIN = 0.1
"""By how much the pace must have changed to be written again."""


class Pace(BaseModel):
    """`monitor/pace.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    asset: str
    machine: str = Field(description="Machine type and section, as people call it.")
    language: Language = Field(description="Of its sentence: that in which the asset was onboarded.")
    outrun: bool = Field(description="Whether recordings come more often than stated.")
    since: AwareDatetime | None = Field(description="When that was found; None where they do not.")
    stated: float = Field(description="Recordings a day by the policy.")
    measured: float = Field(description="Recordings a day as they come.")
    sentence: str = Field(description="What to do; empty: nothing.")


def window_size(policy: AlarmPolicy) -> int:
    """Recordings looked back on: whoever makes `clips_per_day` of them each day takes whole days for so many."""
    days = max(1, math.ceil(_LEAST / policy.clips_per_day))
    return min(math.floor(CADENCE_SLACK * policy.clips_per_day * days) + 1, _MOST)


def made_one_by_one(made: Iterable[Made]) -> list[datetime]:
    """Times, in their order, of recordings that one recorder can have made one after the other."""
    times: list[datetime] = []
    for time, duration_s in sorted(made):
        if not times or (time - times[-1]).total_seconds() >= _LEAST_STEP * duration_s:
            times.append(time)
    return times


def read_pace(store: ObjectStore, customer: str, asset_id: str) -> Pace | None:
    """How often the asset's recordings came; None where too few did to tell, or the file is damaged."""
    return store.find_intact(_key(customer, asset_id), Pace)


def judge_pace(store: ObjectStore, watch: Watch, log: WatchLog, before: Pace | None) -> Pace | None:
    """Find out how often recordings come, and file what has changed; None: too few came to tell.

    before: what was found last.
    """
    policy = watch.settings.alarm
    size = window_size(policy)
    # As they were filed, twice as many as are needed: a clock that was set back must not count for ever.
    times = made_one_by_one(list(log.made)[-2 * size :])[-size:]
    measured = recordings_a_day(times) if len(times) == size else None
    if measured is None:
        return _forget(store, watch, before)
    outrun = outruns_cadence(times, policy)
    since = before.since if before is not None and before.outrun else datetime.now(UTC)
    found = Pace(
        customer=watch.customer,
        asset=watch.asset_id,
        machine=watch.machine_in(_words(watch)),
        language=watch.settings.language,
        outrun=outrun,
        since=since if outrun else None,
        stated=policy.clips_per_day,
        measured=measured,
        sentence=_sentence(watch, measured) if outrun else "",
    )
    if before is not None and _is_much_the_same(found, before):
        return before
    store.put_model(_key(watch.customer, watch.asset_id), found)
    return found


def _forget(store: ObjectStore, watch: Watch, before: Pace | None) -> Pace | None:
    """What was found by another policy says nothing by this one."""
    if before is not None and before.stated != watch.settings.alarm.clips_per_day:
        store.delete(_key(watch.customer, watch.asset_id))
        return None
    return before


def _is_much_the_same(found: Pace, before: Pace) -> bool:
    return (found.outrun, found.stated) == (before.outrun, before.stated) and abs(
        found.measured - before.measured
    ) <= _NOTE_AGAIN * before.measured


def _sentence(watch: Watch, measured: float) -> str:
    say, stated = _words(watch), watch.settings.alarm.clips_per_day
    return say(
        "watching.outrun",
        machine=watch.machine_in(say),
        customer=watch.customer,
        measured=rate(measured),
        stated=rate(stated),
        expected=rate(watch.rule.alarms_per_day * measured / stated),
        claimed=rate(watch.rule.alarms_per_day),
        setting=f"{math.ceil(measured)}",
    )


def _words(watch: Watch) -> Words:
    return Words(watch.settings.language, watch.settings.known_machine_types)


def _key(customer: str, asset_id: str) -> str:
    return keys.monitor(customer, asset_id, "pace.json")
