"""The steps of flow `monitor`: judge what is new, tell people, and show it in the Prefect UI."""

from __future__ import annotations

import re
from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact

from schemas.errors import EnvironmentFault
from tasks.alarms import when
from tasks.fleet_upkeep import write_page
from tasks.logbook import note
from tasks.monitoring import find_watch
from tasks.recordings import RecorderFolder, StoreRecordings
from tasks.store import open_store
from tasks.telling import configured_tell
from tasks.untold import tell_of_all
from tasks.watch_log import read_rows
from tasks.watch_news import Watched
from tasks.watching import Watcher

_SHOWN_ROWS = 100


@task(name="Judge new recordings", task_run_name="Judge new recordings of {asset}")
def judge_new_recordings(customer: str, asset: str, store: str, folder: str | None) -> Watched:
    """Judge what lies in `recordings/<customer>/<asset>/`, or in a folder of this machine, and has no row yet."""
    shelf = open_store(store)
    watch = find_watch(shelf, customer, asset)
    source = RecorderFolder(Path(folder)) if folder else StoreRecordings(shelf, customer, watch.asset_id)
    watcher = Watcher(shelf, watch, source, patience=None, tell=configured_tell())
    watcher.look()
    watched = watcher.watched
    for name, why in watched.refused.items():
        note(f"Refused {name}: {why}")
    note(
        f"{watched.judged} recordings judged, {len(watched.refused)} refused, {watched.repeated} known,"
        f" {watched.waiting} not finished; {len(watched.raised)} alarms raised, {len(watched.cleared)} ended"
    )
    if watched.unfinished:
        note(watched.say_unfinished())
    for text in watched.notes:
        note(text)
    return watched


@task(name="Tell people", task_run_name="Tell people of {watched.asset}")
def tell_people(watched: Watched, store: str) -> Watched:
    """Emit `alp.alarm`, `alp.drift` and `alp.uncovered` for what nobody was told yet.

    Raises
    ------
    EnvironmentFault
        The configured Prefect server cannot be told, or takes some of it and not all; the next run tells it.
    """
    telling = tell_of_all(open_store(store), watched.customer, watched.asset, configured_tell())
    if telling.refused:
        raise EnvironmentFault("; ".join(telling.refused))
    return watched.model_copy(update={"told": telling.told})


@task(name="Show what was judged", task_run_name="Show what was judged of {watched.asset}")
def show_judged(watched: Watched, store: str) -> None:
    """A table in the Prefect UI, where there are new ones: the newest recordings judged, with their grades."""
    if not watched.changed:
        return
    rows = read_rows(open_store(store), watched.customer, watched.asset, watched.model_version).tail(_SHOWN_ROWS)
    if rows.empty:
        return
    shown = rows[["time", "name", "severity", "grade", "p_value", "score", "state", "decision", "alarm_id"]]
    shown = shown.assign(time=[when(time.to_pydatetime()) for time in shown["time"]])
    create_table_artifact(
        key=re.sub("[^a-z0-9-]", "-", f"monitor-{watched.customer}-{watched.asset}"),
        table=shown.astype(object).where(shown.notna(), None).to_dict("records"),
        description=f"The last {len(shown)} recordings of {watched.asset}, by model {watched.model_version}",
    )


@task(name="Write the fleet page", task_run_name="Write the fleet page of {watched.customer}")
def refresh_fleet_page(watched: Watched, store: str) -> None:
    """Write the page of all machines anew, in its language, where this pass brought anything; a failure is noted."""
    if not watched.changed:
        return
    write_page(open_store(store), watched.customer, otherwise=watched.language, say=note)
