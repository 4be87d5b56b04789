"""How a flow shows itself to whoever watches it in the Prefect UI.

Every flow stands under `shown`, which gives its run what no step has to think of:

- tags, `alp`, `customer:<name>` and `machine:<type>`, the same as a customer's deployments carry, so that runs below a
  scheduled one and runs by hand are found by the same filter;
- progress of long steps (`tasks.ui_progress`), and signs of life (`tasks.heartbeats`);
- a failure whose message is the remedy: what a step raised on purpose (`schemas.errors`) is the message of the state as
  it stands. Whoever called the flow meets the same error as before. So is that the machine lacks something, such as
  room on its disk. Anything else is left to Prefect.

Flow runs are tagged, task runs are not: for each tag of a task run Prefect asks the server for a concurrency slot.
"""

from __future__ import annotations

import errno
import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, get_client
from prefect.context import FlowRunContext
from prefect.states import Failed

from schemas.errors import AlpError, EnvironmentFault
from tasks.ends import in_a_message
from tasks.heartbeats import giving_signs
from tasks.logbook import note
from tasks.progress import listening
from tasks.ui_progress import progress_artifact

P = ParamSpec("P")
R = TypeVar("R")

_ROOM = "make room there"
_LACKS = {
    errno.ENOSPC: ("space on its disk", _ROOM),
    errno.EDQUOT: ("space in its share of the disk", _ROOM),
    errno.EROFS: ("a disk that can be written to", "look after the disk"),
    errno.EIO: ("a disk that works", "look after the disk"),
    errno.EMFILE: ("files that it may open", "let it open more"),
    errno.ENFILE: ("files that it may open", "let it open more"),
    errno.ENOMEM: ("memory", _ROOM),
}
"""What an error of the system means that no package is to blame for, and what is to be done."""


def shown(
    *, customer: str | None = None, machine: str | None = None, machines: str | None = None
) -> Callable[[Flow[P, R]], Flow[P, R]]:
    """Decorate a flow so that its runs are tagged, tell their progress, and fail with the remedy as their message.

    `customer` and `machine` say where in the flow's parameters these stand, as `flow_run_name` does:
    `"{run.customer}"`. A machine may be told by its type or by its asset's id. `machines` says where each of a list
    has its own: `"scores.model.asset.machine_type"` of the parameter `scores`.
    """
    places = {"customer": customer, "machine": machine}

    def show(flow: Flow[P, R]) -> Flow[P, R]:
        # Not below Prefect's decorator, which takes a run's version from the file that the function is written in.
        told = {name: place for name, place in places.items() if place is not None}
        flow.fn = _shown_body(flow.fn, told, machines)
        return flow

    return show


def _shown_body(body: Callable[P, R], places: dict[str, str], machines: str | None) -> Callable[P, Any]:
    signature = inspect.signature(body, eval_str=True)

    @functools.wraps(body)
    def run(*arguments: P.args, **options: P.kwargs) -> Any:
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        tags = {_tag(name, place.format(**bound.arguments)) for name, place in places.items()}
        tags |= {_tag("machine", each) for each in _each(machines, bound.arguments)}
        label_flow_run("alp", *tags)
        with giving_signs(), listening(progress_artifact):
            try:
                return body(*arguments, **options)
            except (AlpError, OSError, MemoryError) as error:
                fault = error if isinstance(error, AlpError) else _lack_of(error)
                message = in_a_message(str(fault))
                # A run's page opens with its log.
                note(message, level=logging.ERROR)
                return Failed(message=message, data=fault)

    # Prefect checks parameters against these types, and would look for them in this module.
    run.__signature__ = signature  # type: ignore[attr-defined]
    return run


def _lack_of(error: OSError | MemoryError) -> EnvironmentFault:
    """What the machine lacks that the run works on, as a fault of the environment; any other error is raised again."""
    if isinstance(error, MemoryError):
        number, where, why = errno.ENOMEM, None, str(error) or "there is none left"
    else:
        number, where, why = error.errno or 0, error.filename, error.strerror
    if number not in _LACKS:
        raise error
    lack, remedy = _LACKS[number]
    return EnvironmentFault(
        f"the machine that the run works on lacks {lack}: {where or 'it'} says {why}; {remedy}, then start the run"
        " again: it goes on where it stopped"
    )


def _each(place: str | None, arguments: Mapping[str, Any]) -> list[str]:
    if place is None:
        return []
    parameter, _, attributes = place.partition(".")
    return [str(attrgetter(attributes)(one)) for one in arguments[parameter]]


def _tag(name: str, value: str) -> str:
    # A machine type's name holds no hyphen, so that an asset's id begins with it.
    return f"{name}:{value.partition('-')[0] if name == 'machine' else value}"


def label_flow_run(*tags: str, name: str | None = None) -> None:
    """Add tags to the flow run that is under way, if there is one, and rename it."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run = context.flow_run
    wanted: dict[str, Any] = {}
    if not set(tags) <= set(run.tags):
        wanted["tags"] = run.tags = sorted({*run.tags, *tags})
    if name is not None and name != run.name:
        wanted["name"] = run.name = name
    if wanted:
        with get_client(sync_client=True) as client:
            client.update_flow_run(run.id, **wanted)
