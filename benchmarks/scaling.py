"""What a second worker brings: the same onboarding by one worker and by two, on every runner.

`make bench` prints a table. All laps onboard the same toy package into a folder store of their own, each in a new
process that has imported everything before the clock starts, beside one Prefect server on loopback. A *worker* of the
first and the last rows has one thread, as if each had one core to itself: the speed-up is that of two such workers over
one. The rows between share all cores among the threads of one process, which is how ALP runs unless told otherwise.

    python -m benchmarks.scaling --quick        a small package, each lap once: shows that it runs, not the speed-up
    python -m benchmarks.scaling --repeats 5    for a machine that is not quiet

Times are the fastest of the laps, in seconds, from the call of the flow to its end; those of a stage likewise. What it
costs to start workers counts in, but of a Dask cluster that stands already. Every lap files the same bytes, or the
benchmark fails. Peak memory is that of all processes of a lap together, in MB, sampled ten times a second.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.overhead import MACHINES, environment, running_server, warm_up

SCALE, QUICK_SCALE = 0.1, 0.02
"""Of the toy package: about 530 clips of 10 s, and the quick one."""
ENCODER = "lite0"
REPEATS = 2
STAGES = ("ingest", "qa", "standardize", "select", "score", "calibrate", "report")
_SCHEDULER_START_S = 60.0


@dataclass(frozen=True)
class Setup:
    """How the steps are done; `threads` of each worker, None for all cores."""

    name: str
    runner: str
    workers: int
    threads: int | None = None
    cluster: bool = False
    """Whether a Dask cluster stands already, as on machines of a plant."""


SETUPS = (
    Setup("one worker, one thread", "threads", 1, threads=1),
    Setup("one process, all cores, one step at a time", "threads", 1),
    Setup("threads, two steps at a time", "threads", 2),
    Setup("processes, two workers", "processes", 2, threads=1),
    Setup("dask, two workers started for the run", "dask", 2, threads=1),
    Setup("dask, two workers that stand already", "dask", 2, threads=1, cluster=True),
)


# --- one process --------------------------------------------------------------------------------------------------


def work(setup: Setup, package: Path, store: Path) -> None:
    """Onboard once, and print how long that and its stages took, and what it filed."""
    import flows.onboard
    from engines.workers import share_cores
    from schemas.settings import OnboardSettings

    warm_up()
    if setup.runner == "threads":
        share_cores(setup.threads)
    seconds: Counter[str] = Counter()
    for stage in STAGES:
        setattr(flows.onboard, stage, _timed(stage, getattr(flows.onboard, stage), seconds))
    began = time.monotonic()
    flows.onboard.onboard(str(package), "bench", store.as_uri(), OnboardSettings(encoder=ENCODER))
    whole = time.monotonic() - began
    print(json.dumps({"whole": whole, "stages": seconds, "filed": fingerprint(store)}), flush=True)


def _timed(name: str, stage: Callable[..., Any], seconds: Counter[str]) -> Callable[..., Any]:
    def run(*arguments: Any, **options: Any) -> Any:
        began = time.monotonic()
        try:
            return stage(*arguments, **options)
        finally:
            seconds[name] += time.monotonic() - began

    return run


def fingerprint(store: Path) -> str:
    """A hash of all that was filed, but what tells times and runs."""
    digest = hashlib.sha256()
    for path in sorted(store.rglob("*")):
        if path.is_file() and path.name not in ("manifest.json", "succession.json"):
            digest.update(path.relative_to(store).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


# --- all of them --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lap:
    """One onboarding, in seconds and MB."""

    whole: float
    stages: Mapping[str, float]
    filed: str
    peak_mb: float


def run_lap(setup: Setup, package: Path, folder: Path, server: str, scheduler: str | None) -> Lap:
    """Onboard the package into a new store, in a process of its own."""
    store = folder / "store"
    chosen = {"ALP_RUNNER": setup.runner, "ALP_WORKERS": str(setup.workers)}
    chosen |= {} if setup.threads is None else {"ALP_THREADS": str(setup.threads)}
    chosen |= {"ALP_DASK_SCHEDULER": scheduler} if scheduler is not None else {}
    command = [sys.executable, "-m", "benchmarks.scaling", "--work", setup.name]
    command += ["--package", str(package), "--store", str(store)]
    surroundings = environment(folder, "prefect", server) | chosen
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=surroundings)
    with process, _peak_memory(process.pid) as peak:
        out, errors = process.communicate()
    shutil.rmtree(store, ignore_errors=True)
    if process.returncode:
        raise RuntimeError(f"{setup.name} ended with {process.returncode}: {errors.decode()[-2000:]}")
    return Lap(**json.loads(out.splitlines()[-1]), peak_mb=peak[0])


@contextmanager
def _peak_memory(process: int) -> Iterator[list[float]]:
    """The most that a process and all below it held in memory at once, shared pages shared out, MB."""
    most, over = [0.0], threading.Event()

    def sample() -> None:
        while not over.wait(0.1):
            most[0] = max(most[0], sum(map(_proportional_mb, _family(process))))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def _family(process: int) -> list[int]:
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [process, *(each for child in children for each in _family(int(child)))]


def _proportional_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


@contextmanager
def dask_cluster(folder: Path, *, workers: int) -> Iterator[str]:
    """A scheduler and so many workers of one thread, each a process of its own; the scheduler's address."""
    file = folder / "scheduler.json"
    surroundings = environment(folder, "dask", "") | {"ALP_THREADS": "1"}
    scheduler = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = ["-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nthreads", "1"]
    worker += ["--no-dashboard", "--local-directory", str(folder), "--memory-limit", "0"]
    with (folder / "dask.log").open("ab") as log:
        started = [
            subprocess.Popen([sys.executable, *command], env=surroundings, stdout=log, stderr=log)
            for command in ([*scheduler, "--scheduler-file", str(file)], *[worker] * workers)
        ]
    try:
        deadline = time.monotonic() + _SCHEDULER_START_S
        while not file.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield str(json.loads(file.read_text())["address"])
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(20)


def show(setups: Sequence[Setup], laps: Mapping[str, Sequence[Lap]]) -> None:
    """Print the table."""
    best = {name: min(lap.whole for lap in found) for name, found in laps.items()}
    first = best[setups[0].name]
    shown = [stage for stage in STAGES if stage not in ("ingest", "standardize")]
    print(f"\n{'':45}{'seconds':>9}{'speed-up':>10}{'peak MB':>9}" + "".join(f"{stage:>11}" for stage in shown))
    for setup in setups:
        found = laps[setup.name]
        stages = "".join(f"{min(lap.stages[stage] for lap in found):11.1f}" for stage in shown)
        whole, peak = best[setup.name], max(lap.peak_mb for lap in found)
        print(f"{setup.name:45}{whole:9.1f}{first / whole:10.2f}{peak:9.0f}{stages}")
    sys.stdout.flush()


def compare(folder: Path, *, scale: float, repeats: int) -> None:
    """Measure every runner that is installed, and print the table."""
    from engines.toy.plan import ToyPlan
    from tasks.toy import write_toy_package

    package, setups = folder / "package.zip", [each for each in SETUPS if each.runner != "dask" or find_spec("dask")]
    written = write_toy_package(package, ToyPlan(machine_types=MACHINES, scale=scale))
    print(
        f"{written.n_clips} toy clips of {len(MACHINES)} machines, encoder {ENCODER}, {os.cpu_count()} cores",
        flush=True,
    )
    laps: dict[str, list[Lap]] = {setup.name: [] for setup in setups}
    with running_server(folder) as server:
        for _ in range(repeats):
            for setup in setups:
                with ExitStack() as stack:
                    cluster = dask_cluster(folder, workers=setup.workers) if setup.cluster else None
                    scheduler = stack.enter_context(cluster) if cluster is not None else None
                    lap = run_lap(setup, package, folder, server, scheduler)
                laps[setup.name].append(lap)
                print(f"  {setup.name}: {lap.whole:.1f} s", file=sys.stderr, flush=True)
    if len({lap.filed for found in laps.values() for lap in found}) > 1:
        raise RuntimeError(f"the runners filed different bytes: {laps}")
    show(setups, laps)


def main() -> None:
    """Print the table, or do one process's work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small package, each lap once")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--work", choices=[setup.name for setup in SETUPS], help=argparse.SUPPRESS)
    parser.add_argument("--package", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(next(setup for setup in SETUPS if setup.name == arguments.work), arguments.package, arguments.store)
        return
    scale, repeats = (QUICK_SCALE, 1) if arguments.quick else (SCALE, arguments.repeats)
    with tempfile.TemporaryDirectory(prefix="alp-bench-") as folder:
        compare(Path(folder), scale=scale, repeats=repeats)


if __name__ == "__main__":
    main()
