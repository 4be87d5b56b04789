"""Spread steps over machines: one step for each of many assets or portions of clips, side by side.

    models = spread(fit_machine, selections, run)

runs the task `fit_machine(selection, run)` for every selection by the task runner of the flow that is under way
(`tasks.task_runner`), on threads or processes of this machine or on the workers of a cluster, and gives the results in
the order of the selections. What a step gets and gives are references (`schemas.references`): a worker needs nothing
but the store, and this version of the code. Which runner it was changes no byte of what is filed.

Only the outermost spread spreads: what a step calls that spreads in turn is done where the step is. One item, and all
items where one worker is wanted, are worked on here. Portions are for what is one long loop in one process: a loop over
clips is cut into as many as there are processes or machines to share it, and never where threads share it already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, TypeVar

from prefect import Task
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture

from schemas.errors import EnvironmentFault
from schemas.references import Reference
from tasks.progress import track
from tasks.task_runner import ChosenRunner, is_on_a_worker

Item = TypeVar("Item")
Result = TypeVar("Result")

_here_only: ContextVar[bool] = ContextVar("here_only", default=False)


@contextmanager
def spreading(allowed: bool) -> Iterator[None]:
    """Whether steps within may be spread: not where a worker elsewhere could not reach what they work on, such as the
    sheet of a dry run."""
    token = _here_only.set(not allowed)
    try:
        yield
    finally:
        _here_only.reset(token)


def spread(step: Task[..., Any] | Callable[..., Result], items: Iterable[Item], *shared: Any) -> list[Result]:
    """`step(item, *shared)` for every item, side by side; results in the order of the items.

    Raises
    ------
    EnvironmentFault
        A worker's process was killed, or the Dask scheduler went away.
    Exception
        What the first step in that order raised, once all others have ended: what these did is in the store.
    """
    todo, runner = list(items), _runner()
    if runner is None or not isinstance(step, Task) or not runner.is_worth(len(todo)):
        return [step(item, *shared) for item in todo]
    futures = [step.submit(item, *shared) for item in todo]
    with track("Working on several at once", total=len(todo)) if runner.places > 1 else nullcontext() as advance:
        for future in futures:
            with suppress(Exception):  # told in its turn
                future.wait()
            if advance is not None:
                # What a step elsewhere tells of itself is heard there.
                advance(1)
    return [_result(future, runner) for future in futures]


def _runner() -> ChosenRunner | None:
    """The runner to spread by; None where a step is to be done here."""
    context = FlowRunContext.get()
    if context is None or _here_only.get() or is_on_a_worker():
        return None
    return context.task_runner if isinstance(context.task_runner, ChosenRunner) else None


def _result(future: PrefectFuture[Any], runner: ChosenRunner) -> Any:
    try:
        return future.result()
    except Exception as error:
        # Dask's by name: it need not be installed.
        kind = type(error).__name__
        if kind in ("BrokenProcessPool", "FutureCancelledError"):
            runner.start_anew()
        if kind in _REMEDIES:
            raise EnvironmentFault(
                f"{_REMEDIES[kind]}, and start the run again: it goes on where it stopped"
            ) from error
        raise


_KILLED = (
    "a worker's process was killed, mostly for want of memory; let fewer work on one machine (ALP_WORKERS, or the"
    " workers of a Dask cluster), or give it more memory"
)
_REMEDIES = {
    "BrokenProcessPool": _KILLED,
    "KilledWorker": _KILLED,
    "FutureCancelledError": "the Dask scheduler went away while steps were under way; start it",
}


class Portion(Reference):
    """Some of many things, by their places among them: from `start` up to and without `stop`."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def portions(count: int, *, least: int) -> list[Portion]:
    """`count` things cut into portions of about one size, none smaller than `least` if there are two; none of none.

    As many as there are processes or machines to share them: one where they are shared by threads, or not at all.
    """
    runner = _runner()
    parts = max(1, min(runner.places if runner is not None else 1, count // least))
    cuts = [count * part // parts for part in range(parts + 1)]
    return [Portion(start=start, stop=stop) for start, stop in pairwise(cuts) if start < stop]
