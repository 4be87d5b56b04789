"""How a flow shows itself to whoever watches it in the Prefect UI.

Every flow stands under `shown`, which gives its run what no step has to think of:

- tags, `alp`, `customer:<name>` and `machine:<type>`, the same as a customer's deployments carry, so that runs below a
  scheduled one and runs by hand are found by the same filter;
- progress of long steps (`tasks.ui_progress`);
- a failure whose message is the remedy: what a step raised on purpose (`schemas.errors`) is the message of the state as
  it stands. Whoever called the flow meets the same error as before. Anything else is left to Prefect.

Flow runs are tagged, task runs are not: for each tag of a task run Prefect asks the server for a concurrency slot.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, get_client
from prefect.context import FlowRunContext
from prefect.states import Failed

from schemas.errors import AlpError
from tasks.ends import in_a_message
from tasks.logbook import note
from tasks.progress import listening
from tasks.ui_progress import progress_artifact

P = ParamSpec("P")
R = TypeVar("R")


def shown(*, customer: str | None = None, machine: str | None = None) -> Callable[[Flow[P, R]], Flow[P, R]]:
    """Decorate a flow so that its runs are tagged, tell their progress, and fail with the remedy as their message.

    `customer` and `machine` say where in the flow's parameters these stand, as `flow_run_name` does:
    `"{run.customer}"`. A machine may be told by its type or by its asset's id.
    """
    places = {"customer": customer, "machine": machine}

    def show(flow: Flow[P, R]) -> Flow[P, R]:
        # Not below Prefect's decorator, which takes a run's version from the file that the function is written in.
        flow.fn = _shown_body(flow.fn, {name: place for name, place in places.items() if place is not None})
        return flow

    return show


def _shown_body(body: Callable[P, R], places: dict[str, str]) -> Callable[P, Any]:
    signature = inspect.signature(body, eval_str=True)

    @functools.wraps(body)
    def run(*arguments: P.args, **options: P.kwargs) -> Any:
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        label_flow_run("alp", *(_tag(name, place.format(**bound.arguments)) for name, place in places.items()))
        with listening(progress_artifact):
            try:
                return body(*arguments, **options)
            except AlpError as error:
                message = in_a_message(str(error))
                # A run's page opens with its log.
                note(message, level=logging.ERROR)
                return Failed(message=message, data=error)

    # Prefect checks parameters against these types, and would look for them in this module.
    run.__signature__ = signature  # type: ignore[attr-defined]
    return run


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
