"""What Prefect costs: `onboard` through a running server beside the same functions called without it.

`make bench` prints a table for each encoder. Both sides onboard the same toy package into a folder store of their own,
each time in a new process that has imported everything before the clock starts, and in alternating order, so that what
else the machine does falls on both. *With Prefect*: the flow as `alp onboard` runs it, by a real `prefect server start`
on loopback with an SQLite file of its own and the settings that `alp up` gives it. *Without*: the same code, where
every flow and every task is the plain function behind it, nothing is logged to a run, and artifacts, events and names
of runs go nowhere.

    python -m benchmarks.overhead --quick       a small package, one pair a table: shows that it runs, not the ratio
    python -m benchmarks.overhead --pairs 5     more pairs, for a machine that is not quiet

A time is that from the call to the end of the process, in seconds: what Prefect sends last, logs and events, is sent as
the process ends. The ratio is that of the two medians; its spread is that of the pairs, each two runs one after the
other. Where the difference goes is measured inside: for each flow and each task, how much longer the call took than the
function in it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from deployments.platform_home import free_ports
from deployments.prefect_settings import FEWER_WRITES

LIMIT = 1.15
MACHINES = ("fan", "bearing", "compressor", "valve")
SCALE, QUICK_SCALE = 0.19, 0.02
"""Of the toy package: 250 clips of 10 s a machine, 1,000 in all; and the quick one."""
ENCODERS = ("lite0", "logmel")
"""The one that `auto` takes where nothing was fetched, and the cheapest, beside which Prefect weighs most."""
PAIRS = 3
_START_S, _STOP_S = 120.0, 20.0

FLOWS, TASKS, TOLD = "flows", "tasks", "told"
"""What a stopwatch tells apart: Prefect's part of flows and of tasks, and telling the server by calls of our own."""


# --- one process --------------------------------------------------------------------------------------------------


class Stopwatch:
    """Seconds by what they went to, and how often, in the thread that runs the flow.

    What is timed `within` is taken off what was timed `around` it.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.times: Counter[str] = Counter()

    def around(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added to `what`."""
        return self._timed(what, function, +1)

    def within(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time taken off `what`, which is measured around it."""
        return self._timed(what, function, -1)

    def _timed(self, what: str, function: Callable[..., Any], sign: int) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return function(*arguments, **options)
            began = time.monotonic()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[what] += sign * (time.monotonic() - began)
                self.times[what] += sign > 0

        return timed


def our_modules() -> list[Any]:
    """Every module of flows and tasks, imported: late imports find what is put into them."""
    import flows
    import tasks

    found = [
        importlib.import_module(each.name)
        for package in (flows, tasks)
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    return [flows, tasks, *found]


def bindings(modules: Sequence[Any]) -> Iterator[tuple[Any, str, Any]]:
    """Module, name and value of everything that the modules hold by a name."""
    for module in modules:
        for name, value in list(vars(module).items()):
            yield module, name, value


def is_telling(value: Any) -> bool:
    """Whether it is a function of Prefect's that makes an artifact or an event."""
    return callable(value) and str(getattr(value, "__module__", "")).startswith(("prefect.artifacts", "prefect.events"))


def without_prefect(modules: Sequence[Any]) -> None:
    """Put the plain function in the place of every flow and task, and nothing in that of what tells the server."""
    from prefect import Flow, Task

    for module, name, value in bindings(modules):
        if isinstance(value, Flow | Task):
            setattr(module, name, value.fn)
        elif is_telling(value) or name in ("get_run_context", "tell_server"):
            setattr(module, name, lambda *arguments, **options: None)


def with_stopwatch(modules: Sequence[Any], watch: Stopwatch) -> None:
    """Time every flow and task from outside and the function in it from inside, and what tells the server."""
    from prefect import Flow, Task, flow_engine, task_engine

    # Where the engines call the function itself, its arguments checked and its result not yet reported.
    flow_engine.call_with_parameters = watch.within(FLOWS, flow_engine.call_with_parameters)
    task_engine.call_with_parameters = watch.within(TASKS, task_engine.call_with_parameters)
    for module, name, value in bindings(modules):
        if isinstance(value, Flow | Task):
            setattr(module, name, watch.around(FLOWS if isinstance(value, Flow) else TASKS, value))
        elif is_telling(value) or name in ("label_flow_run", "tell_server"):
            setattr(module, name, watch.around(TOLD, value))


def work(side: str, package: Path, store: Path, encoder: str) -> None:
    """Onboard once, and print when it began, when the flow had ended, and where the time went."""
    from prefect.logging import disable_run_logger

    from schemas.settings import OnboardSettings
    from tasks.heartbeats import own_signs_only

    settings, watch, modules = OnboardSettings(encoder=encoder), Stopwatch(), our_modules()
    warm_up()
    with ExitStack() as stack:
        stack.enter_context(own_signs_only())
        if side == "plain":
            without_prefect(modules)
            stack.enter_context(disable_run_logger())
        else:
            with_stopwatch(modules, watch)
        onboard = importlib.import_module("flows.onboard").onboard
        began = time.monotonic()
        manifest = onboard(str(package), "bench", store.as_uri(), settings)
        ended = time.monotonic()
    engines = "".join(sorted({asset.engine for asset in manifest.result.assets}))
    found = {"began": began, "ended": ended, "seconds": watch.seconds, "times": watch.times, "engines": engines}
    print(json.dumps(found), flush=True)


def warm_up() -> None:
    """Import what steps import late: both sides would pay it within the clock."""
    for name in ("torch", "librosa", "matplotlib.figure", "great_expectations", "sklearn.neighbors", "scipy.stats"):
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        importlib.import_module(name)


# --- both sides ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lap:
    """One onboarding: `call` seconds until the flow returned, `whole` until its process had ended."""

    call: float
    whole: float
    seconds: Mapping[str, float]
    times: Mapping[str, int]
    engines: str


@dataclass(frozen=True)
class Pair:
    """The two sides, one after the other."""

    prefect: Lap
    plain: Lap

    @property
    def ratio(self) -> float:
        """How many times as long it took with Prefect."""
        return self.prefect.whole / self.plain.whole


def run_lap(side: str, package: Path, folder: Path, encoder: str, server: str) -> Lap:
    """Onboard the package into a new store, in a process of its own."""
    store = folder / "store"
    command = [sys.executable, "-m", "benchmarks.overhead", "--work", side]
    command += ["--package", str(package), "--store", str(store), "--encoders", encoder]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(folder, side, server))
    ended = time.monotonic()
    shutil.rmtree(store, ignore_errors=True)
    if done.returncode:
        raise RuntimeError(f"the onboarding {side} ended with {done.returncode}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    call, whole = found["ended"] - found["began"], ended - found["began"]
    return Lap(call, whole, found["seconds"], found["times"], found["engines"])


def environment(folder: Path, side: str, server: str) -> dict[str, str]:
    """What `alp` asks of Prefect on either side, and the server on one: the other must reach none."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    quiet = {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_API_REQUEST_TIMEOUT": "180",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        # One step after the other on both sides: the difference is to be Prefect's alone.
        "ALP_RUNNER": "threads",
        "ALP_WORKERS": "1",
    }
    return kept | quiet | ({"PREFECT_API_URL": server} if side == "prefect" else {})


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """A Prefect server as `alp up` starts its own, on a free port, its database in `folder`; the URL of its API."""
    (port,) = free_ports(1)
    start = [sys.executable, "-m", "deployments.capped_prefect", "server", "start"]
    command = [*start, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=environment(folder, "server", "") | FEWER_WRITES, stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}/api"
        wait_until_healthy(url, process, folder / "server.log")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the server answers; RuntimeError with the end of its log where it ends or takes too long."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2)
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the Prefect server did not start: {log.read_text(errors='replace')[-2000:]}")


def measure(package: Path, folder: Path, encoder: str, server: str, *, pairs: int) -> list[Pair]:
    """So many pairs, the side that goes first taking turns."""
    found = []
    for number in range(pairs):
        order = ("prefect", "plain") if number % 2 == 0 else ("plain", "prefect")
        laps = {side: run_lap(side, package, folder, encoder, server) for side in order}
        found.append(Pair(**laps))
        print(f"  {encoder}, pair {number + 1} of {pairs}: {found[-1].ratio:.3f}", file=sys.stderr, flush=True)
    return found


# --- what comes of it ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What the pairs of one encoder say, in seconds."""

    prefect: float
    plain: float
    lowest: float
    highest: float
    parts: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return self.prefect / self.plain

    @property
    def within_limit(self) -> bool:
        return self.ratio <= LIMIT


def conclude(pairs: Sequence[Pair]) -> Result:
    """Medians, the lowest and highest ratio of a pair, and the parts of the difference.

    The parts are means over the laps and add up to the difference of the means: what Prefect does around flows and
    around tasks, what ours tell it, what it does after the flow has returned, and the rest: the work itself, which goes
    slower beside a server that wants the same cores, or differs by chance.
    """
    prefect, plain = [pair.prefect for pair in pairs], [pair.plain for pair in pairs]
    known = {
        f"starting and ending {_times(prefect, FLOWS)} flows": _mean(lap.seconds.get(FLOWS, 0.0) for lap in prefect),
        f"starting and ending {_times(prefect, TASKS)} tasks": _mean(lap.seconds.get(TASKS, 0.0) for lap in prefect),
        "artifacts, events and names of runs": _mean(lap.seconds.get(TOLD, 0.0) for lap in prefect),
        "sending the last logs and events": _mean(_after(lap) for lap in prefect) - _mean(_after(lap) for lap in plain),
    }
    difference = _mean(lap.whole for lap in prefect) - _mean(lap.whole for lap in plain)
    ratios = [pair.ratio for pair in pairs]
    return Result(
        prefect=median(lap.whole for lap in prefect),
        plain=median(lap.whole for lap in plain),
        lowest=min(ratios),
        highest=max(ratios),
        parts=known | {"the work itself, slower or by chance": difference - sum(known.values())},
    )


def _after(lap: Lap) -> float:
    return lap.whole - lap.call


def _mean(values: Iterator[float] | Any) -> float:
    found = list(values)
    return sum(found) / len(found)


def _times(laps: Sequence[Lap], what: str) -> int:
    return laps[0].times.get(what, 0)


def show(encoder: str, engines: str, pairs: int, result: Result) -> None:
    """Print one encoder's table."""
    verdict = "within" if result.within_limit else "OVER"
    print(f"\nencoder {encoder}, engine {engines.upper()}, {pairs} pairs")
    print(f"  {'with Prefect':42}{result.prefect:8.1f} s")
    print(f"  {'without':42}{result.plain:8.1f} s")
    print(f"  {'ratio':42}{result.ratio:8.3f}   pairs {result.lowest:.3f} to {result.highest:.3f}")
    print(f"  {verdict} the limit of {LIMIT}")
    print("  where the difference goes, on average:")
    for what, seconds in result.parts.items():
        print(f"    {what:40}{seconds:8.2f} s")
    sys.stdout.flush()


def compare(folder: Path, *, scale: float, pairs: int, encoders: Sequence[str]) -> None:
    """Print a table for every encoder."""
    from engines.toy.plan import ToyPlan
    from tasks.toy import write_toy_package

    package, small = folder / "package.zip", folder / "small.zip"
    written = write_toy_package(package, ToyPlan(machine_types=MACHINES, scale=scale))
    write_toy_package(small, ToyPlan(machine_types=MACHINES[:1], scale=0.001))
    print(f"{written.n_clips} toy clips of {len(MACHINES)} machines, {os.cpu_count()} cores", flush=True)
    with running_server(folder) as server:
        for encoder in encoders:
            for side in ("prefect", "plain"):
                run_lap(side, small, folder, encoder, server)
            found = measure(package, folder, encoder, server, pairs=pairs)
            show(encoder, found[0].plain.engines, pairs, conclude(found))


def main() -> None:
    """Print the tables, or do one process's work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small package, one pair a table")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="onboardings of each side")
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=ENCODERS)
    parser.add_argument("--work", choices=("prefect", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--package", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.package, arguments.store, arguments.encoders[0])
        return
    scale, pairs = (QUICK_SCALE, 1) if arguments.quick else (SCALE, arguments.pairs)
    with tempfile.TemporaryDirectory(prefix="alp-bench-") as folder:
        compare(Path(folder), scale=scale, pairs=pairs, encoders=arguments.encoders)


if __name__ == "__main__":
    main()
