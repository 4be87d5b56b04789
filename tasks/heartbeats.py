"""Signs of life: by them the server tells a run that is long from one whose worker was killed.

Every `EVERY_S` each flow run of a process gives one, an event `ALIVE` about the run, and the outermost one as it
begins; one thread gives those of all. An automation that `alp deploy` makes marks a run crashed that gives none any
more (`deployments.zombies`). Prefect's own signs would do for the outermost run alone: of those below each would wait,
as it ends, for the thread that gives them. Where no server stays that could hear of it, there are none.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tasks.events import server_url

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

ALIVE = "alp.flow-run.alive"
"""The event; Prefect's own is also given by flows that are none of ours."""
EVERY_S = 30.0


@contextmanager
def own_signs_only() -> Iterator[None]:
    """Flow runs that begin within send no heartbeat of Prefect's own; they give signs of life all the same
    (`giving_signs`).

    Prefect's thread that sends them looks once a second whether it may end, and a run waits for that: half a second on
    average at the end of each, four in an onboarding.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@contextmanager
def giving_signs() -> Iterator[None]:
    """Give signs of life of the flow run that is under way, if there is one and a server that stays, until it ends."""
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or server_url() is None:
        yield
        return
    _PULSE.add(run)
    try:
        yield
    finally:
        _PULSE.drop(run.id)


class _Pulse:
    """The runs of this process, and the thread that gives their signs as long as there are any."""

    def __init__(self) -> None:
        self._runs: dict[UUID, FlowRun] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()

    def add(self, run: FlowRun) -> None:
        """Give the signs of a run: at once of the outermost, of those below from the next round of signs on.

        Most of these are over by then, and each sign, and each end of a run that gave one, is a write of the server's.
        """
        with self._lock:
            is_first = not self._runs
            self._runs[run.id] = run
            if is_first:
                self._over = threading.Event()
                # A thread begins with no context, and would not know the server.
                context, over = contextvars.copy_context(), self._over
                threading.Thread(target=context.run, args=(self._beat, over), name="alive", daemon=True).start()
        if run.parent_task_run_id is None:
            _tell_at_once(run)

    def drop(self, run_id: UUID) -> None:
        """Give no more signs of a run."""
        with self._lock:
            self._runs.pop(run_id, None)
            if not self._runs:
                self._over.set()

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(EVERY_S):
            with self._lock:
                runs = list(self._runs.values())
            for run in runs:
                _tell(run)


_PULSE = _Pulse()


def _tell(run: FlowRun) -> None:
    """Hand a sign to the thread that sends events, by and by."""
    from prefect.events import emit_event

    emit_event(**_sign(run))


def _tell_at_once(run: FlowRun) -> None:
    """Post a sign, and go on once the server has it.

    That a run ends, the server tells by itself. Of one that is over within a second the sign would be heard after that,
    and nothing more, which is what is heard of one that was killed.
    """
    import httpx
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.context import FlowRunContext
    from prefect.events import Event

    context = FlowRunContext.get()
    client = context.client if context is not None else None
    if isinstance(client, SyncPrefectClient):
        with suppress(OSError, RuntimeError, httpx.HTTPError):
            client.request("POST", "/events", json=[Event(**_sign(run)).model_dump(mode="json")]).raise_for_status()
            return
    _tell(run)


def _sign(run: FlowRun) -> dict[str, Any]:
    from prefect.events.related import tags_as_related_resources

    return {
        "event": ALIVE,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name},
        "related": tags_as_related_resources(set(run.tags)),
    }
