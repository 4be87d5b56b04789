"""Whether an asset's normal sound has moved away from what its champion was calibrated on.

Judged are the clips that the champion found normal while no alarm was on, `AlarmPolicy.drift_window` at a time; windows
do not overlap. An asset that has drifted is marked "recalibrate" in `monitor/drift.json` until another champion judges
it, and people are told once, by an event `alp.drift`. Nothing is adapted: a machine that wears out slowly would teach
its alarm to be silent.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from engines.drift import DriftVerdict, judge_drift
from schemas.settings import Language
from tasks import keys
from tasks.events import Happening, asset_resource
from tasks.monitoring import Watch
from tasks.report.words import Words, probability
from tasks.store import ObjectStore
from tasks.telling import told_key
from tasks.watch_log import WatchLog

DRIFT_EVENT = "alp.drift"


class DriftState(BaseModel):
    """`monitor/drift.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    asset: str
    machine: str = Field(description="Machine type and section, as people call it.")
    language: Language = Field(description="Of its sentence: that in which the asset was onboarded.")
    model_version: str
    reign: str = Field(description="Since when that model judges: a champion that returns is compared anew.")
    mark: Literal["recalibrate"] | None = Field(description="Set with the first window that has drifted.")
    since: AwareDatetime | None = Field(description="Time of the last recording when the mark was set.")
    windows: int = Field(description="Windows judged.")
    verdict: DriftVerdict = Field(description="On the last window judged; the one that set the mark, once set.")
    sentence: str = Field(description="What to do; empty: nothing.")


def read_drift(store: ObjectStore, customer: str, asset_id: str) -> DriftState | None:
    """What was found last; None where no window was full yet."""
    return store.find_model(_key(customer, asset_id), DriftState)


def judge_windows(store: ObjectStore, watch: Watch, log: WatchLog, known: DriftState | None) -> DriftState | None:
    """Judge the windows that have filled up since the last time, and file what was found.

    known: what was found before, where that is at hand; else it is read from the store.
    """
    policy, presumed = watch.settings.alarm, log.presumed
    before = known or read_drift(store, watch.customer, watch.asset_id)
    state = before if before is not None and before.reign == log.reign else None
    # The newest clips may yet turn out to belong to an alarm: those wait until no window of its rule holds them.
    full = max(0, len(presumed) - watch.rule.window + 1) // policy.drift_window
    for number in range(state.windows if state else 0, full):
        window = presumed[number * policy.drift_window : (number + 1) * policy.drift_window]
        verdict = judge_drift(window, watch.normal_scores, policy)
        state = _after(state, verdict, number + 1, watch, log)
    if state is not None and state != before:
        store.put_model(_key(watch.customer, watch.asset_id), state)
    return state


def _after(before: DriftState | None, verdict: DriftVerdict, windows: int, watch: Watch, log: WatchLog) -> DriftState:
    """The state with one more window judged; the mark stays, once it is set."""
    if before is not None and before.mark is not None:
        return before.model_copy(update={"windows": windows})
    say = Words(watch.settings.language, watch.settings.known_machine_types)
    machine = watch.machine_in(say)
    facts = {"machine": machine, "customer": watch.customer, "p": probability(verdict.p_value), "n": verdict.n}
    return DriftState(
        customer=watch.customer,
        asset=watch.asset_id,
        machine=machine,
        language=watch.settings.language,
        model_version=log.version,
        reign=log.reign,
        mark="recalibrate" if verdict.drifted else None,
        since=log.state.last_time if verdict.drifted else None,
        windows=windows,
        verdict=verdict,
        sentence=say("watching.drift", **facts) if verdict.drifted else "",
    )


def untold_drift(store: ObjectStore, customer: str, asset_id: str) -> Happening | None:
    """The event `alp.drift` of an asset that was marked, unless people were told of it."""
    state = read_drift(store, customer, asset_id)
    if state is None or state.mark is None or store.exists(told_key(customer, asset_id, told_name(state))):
        return None
    return Happening(
        event=DRIFT_EVENT,
        key=told_name(state),
        resource=asset_resource(customer, asset_id),
        resource_name=f"{state.machine} of {customer}",
        payload={
            "event": DRIFT_EVENT,
            "subject": Words(state.language)("watching.drift_subject", machine=state.machine, customer=customer),
            "sentence": state.sentence,
            "customer": customer,
            "asset": asset_id,
            "machine": state.machine,
            "time": state.model_dump(mode="json")["since"],
            "mark": state.mark,
            "p_value": state.verdict.p_value,
            "level": state.verdict.level,
            "model_version": state.model_version,
        },
    )


def told_name(state: DriftState) -> str:
    """By which a drift is told once."""
    return f"drift-{state.reign}"


def _key(customer: str, asset_id: str) -> str:
    return keys.monitor(customer, asset_id, "drift.json")
