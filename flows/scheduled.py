"""What runs by itself for a customer: `onboard/<customer>` over the inbox, `monitor/<customer>` over all machines.

`alp deploy` registers both with their cron and gives them all they need as parameters, so that a worker on any machine
needs nothing but the store. Each package and each machine has a run of its own below; one that fails keeps no other
from its turn, and the whole ends failed, with the remedy as its message.
"""

from __future__ import annotations

from prefect import State, flow

from flows.monitor import monitor
from flows.onboard import onboard
from schemas.settings import OnboardSettings
from tasks.heartbeats import own_signs_only
from tasks.inbox import (
    SETTLE_S,
    Arrival,
    InboxReport,
    Line,
    conclude_inbox,
    look_into_inbox,
    note_begun,
    note_ended,
)
from tasks.rounds import RoundReport, conclude_round, expire_recordings, find_machines, judged_machines
from tasks.showing import shown
from tasks.task_runner import ChosenRunner


@shown(customer="{customer}")
@flow(name="onboard", flow_run_name="onboard-{customer}-inbox", task_runner=ChosenRunner)
def onboard_inbox(
    customer: str, inbox: str, store: str, settings: OnboardSettings, settle_s: float = SETTLE_S
) -> State[InboxReport]:
    """Onboard every package of the inbox that nobody has onboarded yet; what lies there stays there."""
    look = look_into_inbox(customer, inbox, store, settings, settle_s=settle_s)
    with own_signs_only():
        lines = [_onboard_one(arrival, customer, store, settings) for arrival in look.new]
    return conclude_inbox(look, lines)


def _onboard_one(arrival: Arrival, customer: str, store: str, settings: OnboardSettings) -> Line:
    note_begun(arrival, customer, store, settings)
    named = onboard.with_options(flow_run_name=f"onboard-{customer}-{arrival.short_id}")
    state = named(arrival.key, customer, store, settings, return_state=True)
    return note_ended(arrival, state, customer, store)


@shown(customer="{customer}")
@flow(name="monitor", flow_run_name="monitor-{customer}")
def monitor_machines(customer: str, store: str, recordings_days: int | None = None) -> State[RoundReport]:
    """Judge what is new of every machine, raise and clear alarms, and tell people."""
    beat = find_machines(customer, store)
    with own_signs_only():
        passes = [(asset, monitor(customer, asset, store, return_state=True)) for asset in beat.assets]
    # After all have been heard: whatever may go wrong here keeps no machine from its turn.
    old = judged_machines(passes) if recordings_days is not None else []
    tidied = [(asset, expire_recordings(customer, asset, store, recordings_days, return_state=True)) for asset in old]
    return conclude_round(beat, passes, tidied)
