"""Alarms as people meet them: a file and a picture each, the state they stand in, and the message that goes out.

All of it follows from the rows of `tasks.watch_log`, and is written after them; whatever a kill cut off is made up for
at the next look (`make_up`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from engines.alarm import AlarmState
from tasks import keys
from tasks.events import Happening, asset_resource
from tasks.runs import digest
from tasks.store import ObjectStore
from tasks.telling import told_key
from tasks.watch_log import WatchLog

ALARM_EVENT = "alp.alarm"
STATE_FILE = "state.json"


class Alarm(BaseModel):
    """`alarms/<id>.json`: one fault that the machine was heard with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alarm_id: str
    customer: str
    asset: str
    machine: str = Field(description="Machine type and section, as people call it.")
    time: AwareDatetime = Field(description="Of the recording that raised it.")
    clip: str = Field(description="Name of that recording.")
    recording_id: str
    clips: tuple[str, ...] = Field(description="Ids of the high recordings in the rule's window, oldest first.")
    score: float
    threshold: float = Field(description="Above which a clip is high for the rule.")
    severity: float = Field(description="0-100; the threshold is 50.")
    grade: str = Field(description="Of the clip that raised it, and WARNING at least.")
    p_value: float
    rule: str = Field(description="Which rule rang, and how often it does without a fault.")
    certified: bool
    engine: str
    model_version: str
    picture: str | None = Field(description="Key of the picture; None where it could not be drawn.")
    sound: str | None = Field(description="Key of the recording's standard form.")
    page: str | None = Field(description="Key of the page of the model that judged.")
    picture_link: str | None = Field(description="Where a person finds the picture.")
    page_link: str | None
    sentence: str = Field(description="The alarm in a line, in the language that the asset was onboarded in.")
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
    stamp = time.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{stamp}-{digest(version, recording_id)[:8]}"


def make_up(store: ObjectStore, customer: str, asset_id: str, log: WatchLog) -> None:
    """Write what follows from the last rows and is not there: alarms, their ends, and the state.

    Doing it twice is no more than doing it once.
    """
    last = None
    for rows in log.last_rows():
        write_alarms(store, customer, asset_id, rows)
        if rows["model_version"].iloc[-1] == log.version:
            last = rows.iloc[-1]
        else:
            _supersede(store, customer, asset_id, rows.iloc[-1], log.version)
    write_state(store, customer, asset_id, log, last)


def _supersede(store: ObjectStore, customer: str, asset_id: str, last: pd.Series, version: str) -> None:
    """Say of an alarm that was on when another model became champion that it has no end of its own."""
    if AlarmState.model_validate_json(last["alarm_state"]).phase != "alarm":
        return
    key = keys.alarm(customer, asset_id, f"{last['alarm_id']}.json")
    alarm = store.get_model(key, Alarm)
    if alarm.superseded_by is None:
        store.put_model(key, alarm.model_copy(update={"superseded_by": version}))


def write_alarms(store: ObjectStore, customer: str, asset_id: str, rows: pd.DataFrame) -> None:
    """The file of every alarm that begins or ends in these rows."""
    for row in rows[rows["transition"].notna()].to_dict("records"):
        key = keys.alarm(customer, asset_id, f"{row['alarm_id']}.json")
        if row["transition"] == "raised":
            if not store.exists(key):
                store.put_model(key, Alarm.model_validate_json(str(row["alarm"])))
        elif store.exists(key):
            alarm = store.get_model(key, Alarm)
            if alarm.cleared_at is None:
                end = {"cleared_at": row["time"].to_pydatetime(), "cleared_by": str(row["name"])}
                store.put_model(key, alarm.model_copy(update=end))


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
    if not store.exists(key) or store.get_model(key, StandingState) != standing:
        store.put_model(key, standing)
    return standing


def read_alarms(store: ObjectStore, customer: str, asset_id: str) -> Iterator[Alarm]:
    """Every alarm that the asset ever had, the oldest first."""
    for name in _alarm_ids(store, customer, asset_id):
        yield read_alarm(store, customer, asset_id, name)


def read_alarm(store: ObjectStore, customer: str, asset_id: str, name: str) -> Alarm:
    """One alarm by its id."""
    return store.get_model(keys.alarm(customer, asset_id, f"{name}.json"), Alarm)


def read_standing(store: ObjectStore, customer: str, asset_id: str) -> StandingState | None:
    """Where an asset's alarm stands; None where it was never watched."""
    key = keys.alarm(customer, asset_id, STATE_FILE)
    return store.get_model(key, StandingState) if store.exists(key) else None


def _alarm_ids(store: ObjectStore, customer: str, asset_id: str) -> list[str]:
    prefix = keys.alarm(customer, asset_id, "")
    names = [key.removeprefix(prefix) for key in store.list_keys(prefix)]
    return [name.removesuffix(".json") for name in names if name.endswith(".json") and name != STATE_FILE]


def describe_happening(alarm: Alarm) -> Happening:
    """The event `alp.alarm` of an alarm; its payload is what a webhook gets."""
    return Happening(
        event=ALARM_EVENT,
        key=alarm.alarm_id,
        resource=asset_resource(alarm.customer, alarm.asset),
        resource_name=f"{alarm.machine} of {alarm.customer}",
        payload={
            "event": ALARM_EVENT,
            **alarm.model_dump(mode="json", exclude={"cleared_at", "cleared_by", "superseded_by", "clips"}),
        },
    )


def untold_alarms(store: ObjectStore, customer: str, asset_id: str) -> list[Alarm]:
    """Alarms of which nobody has been told yet, the oldest first."""
    names = _alarm_ids(store, customer, asset_id)
    untold = [name for name in names if not store.exists(told_key(customer, asset_id, name))]
    return [read_alarm(store, customer, asset_id, name) for name in untold]
