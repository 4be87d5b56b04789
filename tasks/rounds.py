"""A round over a customer's machines: which of them are to be listened to, and how the round ended.

A machine is listened to once it has a champion and recordings below `recordings/<customer>/<asset>/`, or was watched
before: that nothing comes any more is then told as an outage (`tasks.covering`). A folder of recordings that belongs to
no machine, or to one without a champion, is named: nobody would hear of a fault there. A machine of which nothing is
new costs no model: it is loaded for the first recording that is to be judged (`tasks.monitoring`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from prefect import State, task
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict, Field

from tasks import keys
from tasks.champions import find_champion
from tasks.ends import why_failed
from tasks.ledger import asset_ids
from tasks.logbook import note
from tasks.plain_text import printable
from tasks.recordings import StoreRecordings
from tasks.store import ObjectStore, open_store
from tasks.watch_log import WatchLog
from tasks.watching import Watched

_NAMED = 3
"""So many faults of a kind a message tells."""


class Beat(BaseModel):
    """The machines of a round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    assets: tuple[str, ...] = Field(description="To be listened to.")
    not_heard: dict[str, str] = Field(description="Folders of recordings that nobody listens to, and why.")


class RoundReport(BaseModel):
    """What a round brought."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beat: Beat
    watched: tuple[Watched, ...]
    failed: dict[str, str] = Field(description="Machines whose pass failed, and why.")
    not_tidied: dict[str, str] = Field(
        default_factory=dict, description="Machines whose old recordings could not be deleted, and why."
    )


@task(name="Find the machines to listen to", task_run_name="Find the machines of {customer} to listen to")
def find_machines(customer: str, store: str) -> Beat:
    """Every machine that is to be listened to, and recordings that nobody listens to.

    Raises
    ------
    UsageError
        The customer's name cannot be used in the store.
    """
    shelf = open_store(store)
    known = asset_ids(shelf, keys.check_customer(customer))
    crowned = [name for name in known if shelf.exists(keys.asset(customer, name, "champion.json"))]
    recorded = sorted({key.split("/")[2] for key in shelf.list_keys(f"recordings/{customer}/") if key.count("/") > 2})
    assets = [name for name in crowned if name in recorded or _was_watched(shelf, customer, name)]
    not_heard = {printable(name): _why_not(name, known) for name in recorded if name not in crowned}
    note(f"{len(assets)} of {len(known)} machines to listen to")
    for name, why in not_heard.items():
        note(f"recordings/{customer}/{name}: {why}")
    return Beat(customer=customer, assets=tuple(assets), not_heard=not_heard)


def _was_watched(store: ObjectStore, customer: str, asset_id: str) -> bool:
    return next(iter(store.list_keys(keys.monitor(customer, asset_id, ""))), None) is not None


def _why_not(name: str, known: Sequence[str]) -> str:
    if name in known:
        return "the machine has no champion yet; onboard a package of it with three normals"
    return f"there is no such machine; call the folder after one of them: {', '.join(known[:10]) or 'none yet'}"


@task(name="Delete old recordings", task_run_name="Delete old recordings of {asset}")
def expire_recordings(customer: str, asset: str, store: str, days: int) -> int:
    """Delete what was judged and lies there for longer than so many days; how many files that were.

    Of a machine that has lost its champion since its pass nothing: which recordings were judged is told by champion.
    """
    shelf = open_store(store)
    champion = find_champion(shelf, customer, asset)
    if champion is None:
        note(f"{asset} has no champion any more: its old recordings stay until it has another")
        return 0
    log = WatchLog(shelf, customer, asset, champion.version)
    oldest = datetime.now(UTC) - timedelta(days=days)
    old = [
        file
        for file in StoreRecordings(shelf, customer, asset).list()
        if file.modified < oldest and log.knows_file(file)
    ]
    for file in old:
        shelf.delete(keys.recordings(customer, asset, file.name))
    if old:
        note(f"{len(old)} recordings of {asset} were judged and are older than {days} days: deleted")
    return len(old)


def judged_machines(passes: Sequence[tuple[str, State[Watched]]]) -> list[str]:
    """Machines whose pass came to its end."""
    return [asset for asset, state in passes if state.is_completed()]


def conclude_round(
    beat: Beat, passes: Sequence[tuple[str, State[Watched]]], tidied: Sequence[tuple[str, State[int]]] = ()
) -> State[RoundReport]:
    """How a round ends: completed, or failed with what is wrong with which machine; the others are judged anyway.

    tidied: by machine, how the deletion of its old recordings ended, where that is asked for.
    """
    watched = tuple(state.result() for _, state in passes if state.is_completed())
    failed = {asset: why_failed(state) for asset, state in passes if not state.is_completed()}
    not_tidied = {asset: why_failed(state) for asset, state in tidied if not state.is_completed()}
    report = RoundReport(beat=beat, watched=watched, failed=failed, not_tidied=not_tidied)
    judged, raised = sum(each.judged for each in watched), sum(len(each.raised) for each in watched)
    told = [
        f"{len(watched)} machines, {judged} recordings judged, {raised} alarms raised",
        _list_faults([f"{asset}: {why}" for asset, why in failed.items()]),
        _list_faults([f"{asset}, old recordings stay: {why}" for asset, why in not_tidied.items()]),
        _list_faults([f"recordings/{beat.customer}/{name}: {why}" for name, why in beat.not_heard.items()]),
    ]
    message = ". ".join(part.rstrip(". ") for part in told if part)
    ended = Failed if failed or not_tidied else Completed
    return ended(message=message, data=report)


def _list_faults(faults: Sequence[str]) -> str:
    more = [f"and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
    return "; ".join([*faults[:_NAMED], *more])
