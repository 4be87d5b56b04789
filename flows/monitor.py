"""monitor: an asset's new recordings → scores, the alarm's state carried over runs, `alp.alarm` events.

One pass: started again, by hand, on a schedule or after a kill, it judges what has no row yet and nothing else.
`alp monitor --watch` does the same from one process that stays, without a flow run for each clip.
"""

from __future__ import annotations

from prefect import flow

from tasks.monitor_steps import judge_new_recordings, refresh_fleet_page, show_judged, tell_people
from tasks.showing import shown
from tasks.watch_news import Watched


@shown(customer="{customer}", machine="{asset}")
@flow(name="monitor", flow_run_name="monitor-{customer}-{asset}")
def monitor(customer: str, asset: str, store: str, folder: str | None = None) -> Watched:
    """Judge what is new, raise and clear alarms, bring the fleet page up to date, and tell people."""
    watched = judge_new_recordings(customer, asset, store, folder)
    show_judged(watched, store)
    refresh_fleet_page(watched, store)
    return tell_people(watched, store)
