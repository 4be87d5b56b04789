"""The task runner of every flow: threads or processes here, or a Dask cluster, as `ALP_RUNNER` says.

One runner serves all flow runs of a process, from the first step that is spread to the end of the outermost flow run:
to start processes anew for each stage would cost seconds a stage. It is no setting of a run: which machine does a step
changes nothing of what comes out, so that it stands in the environment of whoever runs the flow and in no `run_id`.

A step that is carried to another process brings along where the Prefect server is and which version of the code it
belongs to; a worker of another version refuses it.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from prefect import Task
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from engines.workers import share_cores
from schemas.errors import EnvironmentFault
from schemas.settings import Environment
from tasks.progress import listening
from tasks.runs import code_version
from tasks.ui_progress import progress_artifact

if TYPE_CHECKING:
    from prefect.client.schemas.objects import RunInput

Future = PrefectFuture[Any]

DASK_PATIENCE_S = 60.0
"""How long a cluster may take until it has a worker."""

_on_a_worker: ContextVar[bool] = ContextVar("on_a_worker", default=False)


def is_on_a_worker() -> bool:
    """Whether what is under way is a step that was spread."""
    return _on_a_worker.get()


class ChosenRunner(TaskRunner[Future]):
    """What `@flow(task_runner=ChosenRunner)` names: the one runner of this process, whichever was chosen."""

    def duplicate(self) -> ChosenRunner:
        return type(self)()

    def __enter__(self) -> ChosenRunner:
        super().__enter__()
        _one.hold()
        return self

    def __exit__(self, *error: Any) -> None:
        _one.let_go()
        super().__exit__(*error)

    def submit(
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[Future] | None = None,
        dependencies: dict[str, set[RunInput]] | None = None,
    ) -> Future:
        return _one.submit(task, parameters, wait_for, dependencies)

    def start_anew(self) -> None:
        """Give up processes of which one was killed, or a cluster that is gone, so that what this flow spreads next,
        such as the steps of the inbox's next package, does not fail for it."""
        _one.end(though_held=True)

    def is_worth(self, steps: int) -> bool:
        """Whether so many steps are better off with the runner than one after the other here."""
        chosen = Environment()
        if chosen.runner == "dask" and chosen.dask_scheduler is not None:
            return steps > 0
        return steps > 1 and _workers(chosen) > 1

    @property
    def places(self) -> int:
        """Processes or machines that share the work, each with an interpreter of its own."""
        chosen = Environment()
        if chosen.runner == "threads":
            return 1
        if chosen.runner == "dask" and chosen.dask_scheduler is not None:
            return max(1, _one.dask_workers())
        return _workers(chosen)


def _workers(chosen: Environment) -> int:
    return chosen.workers or min(4, os.cpu_count() or 1)


class _One:
    """The runner of this process, from the first step to the end of the outermost flow run."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._holders = 0
        self._runner: TaskRunner[Any] | None = None

    def hold(self) -> None:
        with self._lock:
            if self._holders == 0:
                use_one_blas_thread()
            self._holders += 1

    def let_go(self) -> None:
        with self._lock:
            self._holders -= 1
        self.end(though_held=False)

    def end(self, *, though_held: bool) -> None:
        """End the runner, if there is one; the next step starts another."""
        with self._lock:
            if self._holders and not though_held:
                return
            ended, self._runner = self._runner, None
        # Not under the lock, which steps that are under way may wait for.
        if ended is not None:
            ended.__exit__(None, None, None)

    def submit(
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[Future] | None,
        dependencies: dict[str, set[RunInput]] | None,
    ) -> Future:
        runner = self.started()
        if isinstance(runner, ThreadPoolTaskRunner):
            return runner.submit(_on_a_thread(task), parameters, wait_for, dependencies)
        with _server_named():
            future: Future = runner.submit(_elsewhere(task), parameters, wait_for, dependencies)
        return future

    def started(self) -> TaskRunner[Any]:
        with self._lock:
            if self._runner is None:
                chosen = Environment()
                runner = _new_runner(chosen)
                runner.__enter__()
                if chosen.runner == "dask":
                    _await_dask_worker(runner, chosen)
                self._runner = runner
            return self._runner

    def dask_workers(self) -> int:
        """Workers that the Dask scheduler knows now."""
        return len(self.started().client.scheduler_info(n_workers=-1)["workers"])  # type: ignore[attr-defined]


_one = _One()


def _new_runner(chosen: Environment) -> TaskRunner[Any]:
    if chosen.runner == "threads":
        return ThreadPoolTaskRunner(max_workers=_workers(chosen))
    if chosen.runner == "processes":
        return _Processes(max_workers=_workers(chosen))
    return _dask(chosen)


class _Processes(ProcessPoolTaskRunner):
    """Prefect's, shared by several flow runs."""

    def submit(self, *arguments: Any, **options: Any) -> Any:
        # Prefect keeps the context of the first step it is given, whose flow run may have ended since.
        self._cached_context = None
        return super().submit(*arguments, **options)


def _dask(chosen: Environment) -> TaskRunner[Any]:
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise EnvironmentFault("the runner dask needs its packages: pip install 'alp[dask]'") from error
    if chosen.dask_scheduler is not None:
        return DaskTaskRunner(address=chosen.dask_scheduler)
    # A cluster that ends with the run says of each connection that it was closed.
    quiet = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    return DaskTaskRunner(cluster_kwargs={"n_workers": _workers(chosen), "threads_per_worker": 1, **quiet})


def _await_dask_worker(runner: TaskRunner[Any], chosen: Environment) -> None:
    try:
        runner.client.wait_for_workers(1, timeout=DASK_PATIENCE_S)  # type: ignore[attr-defined]
    except (OSError, ValueError) as error:
        runner.__exit__(None, None, None)
        raise EnvironmentFault(
            f"the Dask scheduler {chosen.dask_scheduler or 'of this run'} does not answer or has no worker"
            f" ({' '.join(str(error).split())}); start `dask scheduler` and on every machine that is to compute"
            " `dask worker`, or set ALP_RUNNER to threads"
        ) from error


def use_one_blas_thread() -> None:
    """Let numpy and scipy compute on one thread in this process from now on.

    Their BLAS splits a sum by the number of its threads, by default one a core, and with it changes the last bit: a run
    would file other bytes on another number of cores. Clips are worked on side by side anyway.
    """
    # Only what is loaded can be told.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")


# --- a step on its way --------------------------------------------------------------------------------------------


def _on_a_thread(task: Task[..., Any]) -> Task[..., Any]:
    return _with_body(task, functools.partial(_run_step, task.fn))


def _elsewhere(task: Task[..., Any]) -> Task[..., Any]:
    chosen = Environment()
    is_here = chosen.runner == "processes" or chosen.dask_scheduler is None
    threads = max(1, (os.cpu_count() or 1) // _workers(chosen)) if is_here else None
    return _with_body(task, functools.partial(_run_step_elsewhere, task.fn, code_version(), threads))


def _with_body(task: Task[..., Any], call: Callable[..., Any]) -> Task[..., Any]:
    """The task with another body of the same name and parameters."""

    @functools.wraps(task.fn)
    def body(*arguments: Any, **options: Any) -> Any:
        return call(arguments, options)

    carried = task.with_options()
    carried.fn = body
    return carried


def _run_step(body: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    token = _on_a_worker.set(True)
    try:
        return body(*arguments, **options)
    finally:
        _on_a_worker.reset(token)


def _run_step_elsewhere(
    body: Callable[..., Any], version: str, threads: int | None, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Run a step in a process that knows nothing but its own environment; `threads`: its share of the cores."""
    if code_version() != version:
        raise EnvironmentFault(
            f"this worker runs ALP {code_version()}, and the flow that sent the step {version}: install one version on"
            " all machines, and start the run again"
        )
    share_cores(Environment().threads or threads)
    use_one_blas_thread()
    with listening(progress_artifact):
        return _run_step(body, arguments, options)


@contextmanager
def _server_named() -> Iterator[None]:
    """Within, the settings name the server that the run is told to, also where this process started one of its own.

    A worker would otherwise start another.
    """
    context = FlowRunContext.get()
    missing = PREFECT_API_URL.value() is None and context is not None
    with temporary_settings(updates={PREFECT_API_URL: str(context.client.api_url)}) if missing else nullcontext():  # type: ignore[union-attr]
        yield
