"""Whether an asset is being listened to at all: a dead microphone raises no alarm, so its silence must.

An asset is *covered* while good recordings come. It is not once `REFUSED_IN_A_ROW` files on end were none, refused or
the same refused sound again, or once none was judged for `silence_limit_s`. Then `monitor/coverage.json` says so, and
people are told once, by an event `alp.uncovered`; the next good recording covers it again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from engines.alarm import SECONDS_A_DAY
from schemas.settings import AlarmPolicy, Language
from tasks import keys
from tasks.alarms import spell_age, when
from tasks.events import Happening, asset_resource
from tasks.monitoring import Watch
from tasks.report.words import Words
from tasks.store import ObjectStore
from tasks.telling import told_key
from tasks.watch_log import WatchLog

Cause = Literal["refused", "silent"]

UNCOVERED_EVENT = "alp.uncovered"

REFUSED_IN_A_ROW = 3
"""A single bad recording happens; three on end are a sensor."""

_SILENT_S, _SILENT_CLIPS = 3600.0, 10
_NOTE_AGAIN = timedelta(minutes=5)
"""How old the time of the last good recording may get in the file: it need not be written at every clip."""


class Coverage(BaseModel):
    """`monitor/coverage.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    asset: str
    machine: str = Field(description="Machine type and section, as people call it.")
    language: Language = Field(description="Of its sentence: that in which the asset was onboarded.")
    covered: bool
    why: Cause | None = Field(description="Why it is not; None where it is.")
    since: AwareDatetime | None = Field(description="When that was found; None where it is covered.")
    last_good: AwareDatetime | None = Field(description="When the last good recording was made; None: there was none.")
    last_judged_at: AwareDatetime = Field(description="When one was last judged, or the watch began.")
    sentence: str = Field(description="What to do; empty: nothing.")


def silence_limit_s(policy: AlarmPolicy) -> float:
    """How long, in s, no good recording may come: an hour, or ten recordings at the cadence where those take longer."""
    return max(_SILENT_S, _SILENT_CLIPS * SECONDS_A_DAY / policy.clips_per_day)


def read_coverage(store: ObjectStore, customer: str, asset_id: str) -> Coverage | None:
    """Whether the asset is listened to; None where it was never watched, or the file is damaged."""
    return store.find_intact(_key(customer, asset_id), Coverage)


def judge_coverage(
    store: ObjectStore,
    watch: Watch,
    log: WatchLog,
    before: Coverage | None,
    *,
    refused: int,
    why: str,
    judged: bool,
    began: datetime | None,
) -> Coverage:
    """Find out whether the asset is covered, and file what has changed.

    before: what was found last. refused: files in a row that were not good. why: what was wrong with the last of them.
    judged: whether a good recording was judged since `before` was found. began: since when somebody looks on, so that
    a watch that was stopped on purpose does not begin with a complaint; None: nobody stays.
    """
    now = datetime.now(UTC)
    last = now if judged or before is None else max(before.last_judged_at, began or before.last_judged_at)
    cause = _cause(before, refused, now - last, watch.settings.alarm, judged=judged)
    if cause is not None and before is not None and not before.covered:
        return before
    found = Coverage(
        customer=watch.customer,
        asset=watch.asset_id,
        machine=watch.machine_in(Words(watch.settings.language, watch.settings.known_machine_types)),
        language=watch.settings.language,
        covered=cause is None,
        why=cause,
        since=None if cause is None else now,
        last_good=log.last_good,
        last_judged_at=last,
        sentence="" if cause is None else _sentence(cause, watch, log, refused=refused, why=why, silence=now - last),
    )
    if before is None or before.covered != found.covered or last - before.last_judged_at > _NOTE_AGAIN:
        store.put_model(_key(watch.customer, watch.asset_id), found)
        return found
    return before


def _cause(
    before: Coverage | None, refused: int, silence: timedelta, policy: AlarmPolicy, *, judged: bool
) -> Cause | None:
    if refused >= REFUSED_IN_A_ROW:
        return "refused"
    if silence.total_seconds() >= silence_limit_s(policy):
        return "silent"
    return None if before is None or judged else before.why


def _sentence(cause: Cause, watch: Watch, log: WatchLog, *, refused: int, why: str, silence: timedelta) -> str:
    say = Words(watch.settings.language, watch.settings.known_machine_types)
    since = say("watching.since", when=when(log.last_good)) if log.last_good else say("watching.never")
    facts = {"machine": watch.machine_in(say), "customer": watch.customer, "since": since}
    if cause == "refused":
        return say("watching.refused", n=refused, why=why, **facts)
    return say("watching.silent", age=spell_age(silence, say), **facts)


def untold_coverage(store: ObjectStore, customer: str, asset_id: str) -> Happening | None:
    """The event `alp.uncovered` of an asset that is not listened to, unless people were told of it."""
    state = read_coverage(store, customer, asset_id)
    if state is None or state.since is None or store.exists(told_key(customer, asset_id, _told_name(state.since))):
        return None
    said = state.model_dump(mode="json")
    return Happening(
        event=UNCOVERED_EVENT,
        key=_told_name(state.since),
        resource=asset_resource(customer, asset_id),
        resource_name=f"{state.machine} of {customer}",
        payload={
            "event": UNCOVERED_EVENT,
            "subject": Words(state.language)("watching.uncovered_subject", machine=state.machine, customer=customer),
            "sentence": state.sentence,
            "customer": customer,
            "asset": asset_id,
            "machine": state.machine,
            "time": said["since"],
            "why": state.why,
            "last_good": said["last_good"],
        },
    )


def _told_name(since: datetime) -> str:
    """By which an outage is told once."""
    return f"uncovered-{since.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _key(customer: str, asset_id: str) -> str:
    return keys.monitor(customer, asset_id, "coverage.json")
