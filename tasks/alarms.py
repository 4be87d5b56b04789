"""Alarms as people meet them: a file and a picture each, the state they stand in, and the message that goes out.

All of it follows from the rows of `tasks.watch_log`, and is written after them; whatever a kill cut off is made up for
at the next look (`make_up`), and a file that is damaged is written anew from the rows. Messages are made when they are
told: only then is known how late they are, and whether the alarm is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from engines.alarm import AlarmState
from schemas.settings import Language
from tasks import keys
from tasks.events import Happening, asset_resource
from tasks.logbook import note
from tasks.report.words import Words
from tasks.runs import digest
from tasks.store import ModelT, ObjectStore
from tasks.telling import told_key
from tasks.watch_log import WatchLog, read_rows

ALARM_EVENT = "alp.alarm"
STATE_FILE = "state.json"
LATE = timedelta(minutes=10)
"""A message that goes out longer than this after the recording says so."""


class Alarm(BaseModel):
    """`alarms/<id>.json`: one fault that the machine was heard with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alarm_id: str
    customer: str
    asset: str
    machine: str = Field(description="Machine type and section, as people call it.")
    language: Language = Field(description="Of its sentences: that in which the asset was onboarded.")
    time: AwareDatetime = Field(description="Of the recording that raised it.")
    judged_at: AwareDatetime = Field(description="When that was judged.")
    clip: str = Field(description="Name of that recording.")
    recording_id: str
    clips: tuple[str, ...] = Field(description="Ids of the high recordings in the rule's window, oldest first.")
    score: float
    threshold: float = Field(description="Above which a clip is high for the rule.")
    severity: float = Field(description="Of that recording, 0-100; the threshold of a single clip is 50.")
    grade: str = Field(description="Of that recording alone.")
    alarm_grade: str = Field(
        description="Of the alarm: the recording's grade, and WARNING at least, for clips that are each below the"
        " threshold of a single clip can ring together."
    )
    p_value: float
    rule: str = Field(description="Which rule rang, and how often it does without a fault.")
    certified: bool
    engine: str
    model_version: str
    picture: str | None = Field(description="Key of the picture; None where it could not be drawn.")
    sound: str | None = Field(description="Key of the recording's standard form; None where it could not be filed.")
    page: str | None = Field(description="Key of the page of the model that judged.")
    sentence: str = Field(description="The alarm in a line.")
    cleared_at: AwareDatetime | None = None
    cleared_by: str | None = Field(default=None, description="Name of the recording that ended it.")
    superseded_by: str | None = Field(
        default=None, description="The model that judges since; it was on when that became champion, and has no end."
    )


class StandingState(BaseModel):
    """`alarms/state.json`: where an asset's alarm stands, and on which model that rests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_version: str
    alarm_id: str | None = Field(description="The alarm that is on.")
    state: AlarmState
    last_clip: str | None = Field(description="Name of the last recording.")
    last_time: AwareDatetime | None
    last_severity: float | None = Field(description="None where it was refused.")
    last_grade: str | None


def alarm_id(version: str, recording_id: str, time: datetime) -> str:
    """When and what, the same for the same recording and model: `20260302T101500Z-3f2a9c1b`."""
    return f"{alarm_stamp(time)}-{digest(version, recording_id)[:8]}"


def alarm_stamp(time: datetime) -> str:
    """What the id of an alarm of that time begins with."""
    return time.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def when(time: datetime) -> str:
    """A time as every message and listing gives it: by the clock of this machine, with its distance from UTC."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def make_up(store: ObjectStore, customer: str, asset_id: str, log: WatchLog) -> None:
    """Write what follows from the last rows and is not there: alarms, their ends, and the state.

    Doing it twice is no more than doing it once.
    """
    rows = log.last_rows()
    write_alarms(store, customer, asset_id, rows)
    if log.has_reigned:
        if log.alarm_id is not None:
            _name_successor(store, customer, asset_id, log.alarm_id, None)
        write_state(store, customer, asset_id, log, rows.iloc[-1])
        return
    if not rows.empty and AlarmState.model_validate_json(rows["alarm_state"].iloc[-1]).phase == "alarm":
        _name_successor(store, customer, asset_id, str(rows["alarm_id"].iloc[-1]), log.version)
    write_state(store, customer, asset_id, log, None)


def _name_successor(store: ObjectStore, customer: str, asset_id: str, name: str, version: str | None) -> None:
    """Say of an alarm that was on when another model became champion that it has no end of its own; None: it is on."""
    alarm = _find(store, customer, asset_id, name)
    if alarm is not None and alarm.superseded_by != version:
        store.put_model(_key(customer, asset_id, name), alarm.model_copy(update={"superseded_by": version}))


def write_alarms(store: ObjectStore, customer: str, asset_id: str, rows: pd.DataFrame) -> None:
    """The file of every alarm that begins or ends in these rows."""
    for row in rows[rows["transition"].notna()].to_dict("records"):
        name = str(row["alarm_id"])
        alarm = _intact(store, _key(customer, asset_id, name), Alarm)
        if alarm is None:
            alarm = _restore(store, customer, asset_id, name, rows if row["transition"] == "raised" else None)
        if alarm is not None and row["transition"] == "cleared" and alarm.cleared_at is None:
            end = {"cleared_at": row["time"].to_pydatetime(), "cleared_by": str(row["name"])}
            store.put_model(_key(customer, asset_id, name), alarm.model_copy(update=end))


def _find(store: ObjectStore, customer: str, asset_id: str, name: str) -> Alarm | None:
    """An alarm by its id, from its file, or from the rows where that is not there or damaged; None: from neither."""
    alarm = _intact(store, _key(customer, asset_id, name), Alarm)
    return alarm or _restore(store, customer, asset_id, name)


def _restore(
    store: ObjectStore, customer: str, asset_id: str, name: str, rows: pd.DataFrame | None = None
) -> Alarm | None:
    """Write an alarm's file as the rows tell of it; None: all there are."""
    rows = read_rows(store, customer, asset_id) if rows is None else rows
    of_it = rows[(rows["alarm_id"] == name) & rows["transition"].notna()]
    for row in of_it[of_it["transition"] == "raised"].to_dict("records"):
        try:
            alarm = Alarm.model_validate_json(str(row["alarm"]))
        except ValidationError:
            break
        for end in of_it[of_it["transition"] == "cleared"].to_dict("records"):
            is_over = {"cleared_at": end["time"].to_pydatetime(), "cleared_by": str(end["name"])}
            alarm = alarm.model_copy(update=is_over)
        store.put_model(_key(customer, asset_id, name), alarm)
        return alarm
    note(f"Alarm {name} of {asset_id} cannot be read, and no row that this version reads tells of it: it is left out")
    return None


def _intact(store: ObjectStore, key: str, model: type[ModelT]) -> ModelT | None:
    """What is derived and lies there; None where it is not there, or not as it was written."""
    if not store.exists(key):
        return None
    try:
        return model.model_validate_json(store.get(key))
    except ValidationError:
        return None


def write_state(
    store: ObjectStore, customer: str, asset_id: str, log: WatchLog, last: pd.Series | None
) -> StandingState:
    """Write where the alarm stands, unless it says so already."""
    standing = StandingState(
        model_version=log.version,
        alarm_id=log.alarm_id,
        state=log.state,
        last_clip=None if last is None else str(last["name"]),
        last_time=None if last is None else last["time"].to_pydatetime(),
        last_severity=None if last is None or pd.isna(last["severity"]) else float(last["severity"]),
        last_grade=None if last is None or pd.isna(last["grade"]) else str(last["grade"]),
    )
    key = keys.alarm(customer, asset_id, STATE_FILE)
    if _intact(store, key, StandingState) != standing:
        store.put_model(key, standing)
    return standing


def read_alarms(store: ObjectStore, customer: str, asset_id: str) -> Iterator[Alarm]:
    """Every alarm that the asset ever had, the oldest first; one that cannot be read is named in the log."""
    for name in _alarm_ids(store, customer, asset_id):
        if (alarm := _find(store, customer, asset_id, name)) is not None:
            yield alarm


def read_alarm(store: ObjectStore, customer: str, asset_id: str, name: str) -> Alarm:
    """One alarm by its id.

    Raises
    ------
    StoreError
        There is none, or it is damaged.
    """
    return store.get_model(_key(customer, asset_id, name), Alarm)


def read_standing(store: ObjectStore, customer: str, asset_id: str) -> StandingState | None:
    """Where an asset's alarm stands; None where it was never watched."""
    return store.find_model(keys.alarm(customer, asset_id, STATE_FILE), StandingState)


def _key(customer: str, asset_id: str, name: str) -> str:
    return keys.alarm(customer, asset_id, f"{name}.json")


def _alarm_ids(store: ObjectStore, customer: str, asset_id: str) -> list[str]:
    prefix = keys.alarm(customer, asset_id, "")
    names = [key.removeprefix(prefix) for key in store.list_keys(prefix)]
    return [name.removesuffix(".json") for name in names if name.endswith(".json") and name != STATE_FILE]


def describe_happening(alarm: Alarm, *, link: Callable[[str], str], now: datetime) -> Happening:
    """The event `alp.alarm` of an alarm, told `now`; its payload is what a webhook gets.

    link: gives the address at which a person finds the object of a key.
    """
    say = Words(alarm.language)
    subject = say(
        "watching.alarm_subject",
        machine=alarm.machine,
        customer=alarm.customer,
        grade=say(f"grade.{alarm.alarm_grade}"),
    )
    return Happening(
        event=ALARM_EVENT,
        key=alarm.alarm_id,
        resource=asset_resource(alarm.customer, alarm.asset),
        resource_name=f"{alarm.machine} of {alarm.customer}",
        payload={
            "event": ALARM_EVENT,
            **alarm.model_dump(mode="json", exclude={"cleared_by", "superseded_by", "clips"}),
            "subject": subject,
            "sentence": " ".join([alarm.sentence, *_caveats(alarm, say, now)]),
            "late_s": round((now - alarm.time).total_seconds()),
            "picture_link": link(alarm.picture) if alarm.picture else None,
            "page_link": link(alarm.page) if alarm.page else None,
        },
    )


def _caveats(alarm: Alarm, say: Words, now: datetime) -> Iterator[str]:
    """What somebody should know who is told `now`: that it is old news, or over."""
    if now - alarm.time > LATE:
        yield say("watching.late", age=spell_age(now - alarm.time, say))
    if alarm.cleared_at is not None:
        yield say("watching.ended", when=when(alarm.cleared_at))
    elif alarm.superseded_by is not None:
        yield say("watching.superseded", model=alarm.superseded_by)


def spell_age(age: timedelta, say: Words) -> str:
    """A span of time as one says it: in minutes, from two hours on in hours, from two days on in days."""
    minutes = round(age.total_seconds() / 60)
    if minutes < 120:
        return say("watching.minutes", n=minutes)
    return say("watching.hours", n=minutes // 60) if minutes < 48 * 60 else say("watching.days", n=minutes // 1440)


def untold_alarms(store: ObjectStore, customer: str, asset_id: str) -> list[Alarm]:
    """Alarms of which nobody has been told yet, the oldest first."""
    names = _alarm_ids(store, customer, asset_id)
    untold = [name for name in names if not store.exists(told_key(customer, asset_id, name))]
    found = (_find(store, customer, asset_id, name) for name in untold)
    return [alarm for alarm in found if alarm is not None]
