"""What breaks first on the way to many customers: what one look, one package, one deployment and one library cost.

    python -m benchmarks.scale                       all of it, 15 minutes; docs/scale.md holds what it found
    python -m benchmarks.scale --quick               a few of each: shows that it runs, not what it costs
    python -m benchmarks.scale --only library        one part: runs, deployments, library

*runs*: a package is onboarded and then, with nothing new, an inbox looked into and a round made over its machines, on a
Prefect server with SQLite and one with PostgreSQL. Given are seconds of processor, which say how many a core carries
whatever else the machine does, of the run's own process and of server and database together; how much the database
grows; and how many such runs in a row the server takes a second where nothing but the run itself waits for it.

*deployments*: so many customers are deployed, two deployments each at the usual crons. Given are the seconds that
takes, the seconds of a second `alp deploy` that finds nothing to do, how many runs the server plans ahead, and how much
of a core server and database need when nobody takes a run.

*library*: so many packages of other customers, a hundred normals each, that one machine may learn from. Given are the
seconds that an onboarding needs to see what there is (`snapshot`) and to read it (`library_rows`), in a folder and on
S3.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.overhead import environment, wait_until_healthy
from tests.postgres_server import Postgres, find_postgres, run_postgres
from tests.s3_server import ACCESS_KEY, SECRET_KEY, free_ports, run_server

PARTS = ("runs", "deployments", "library")
DATABASES = ("sqlite", "postgres")
_CUSTOMER, _INBOX = "bench", "inbox/bench"
_NORMALS = 100
"""Of a package in the library."""
_SETTLE_S = 8.0
"""Until the server has written down what it was sent last."""


# --- processor seconds ------------------------------------------------------------------------------------------------


def processor_s(pid: int) -> float:
    """Seconds of processor that a process and all below it have used, those that ended included."""
    ticks = os.sysconf("SC_CLK_TCK")
    below: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            below.setdefault(int(fields[1]), []).append(int(folder.name))
            used[int(folder.name)] = sum(map(int, fields[11:15])) / ticks
    waiting, total = [pid], 0.0
    while waiting:
        one = waiting.pop()
        total += used.get(one, 0.0)
        waiting += below.get(one, [])
    return total


@dataclass(frozen=True)
class PrefectServer:
    """A server on loopback with a database of its own."""

    url: str
    pid: int
    folder: Path
    postgres: Postgres | None

    def processor_s(self) -> float:
        """Of server and database."""
        if self.postgres is None:
            return processor_s(self.pid)
        main = int((self.postgres.folder / "postmaster.pid").read_text().split()[0])
        return processor_s(self.pid) + processor_s(main)

    def database_bytes(self) -> int:
        """What the database takes on the disk, what it might give back left out."""
        if self.postgres is not None:
            return int(self.postgres.ask("select pg_database_size(current_database())"))
        import sqlite3

        with sqlite3.connect(self.folder / "prefect" / "prefect.db", timeout=60) as database:
            database.execute("pragma wal_checkpoint(passive)")
            pages, free, size = (
                database.execute(f"pragma {what}").fetchone()[0]
                for what in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * size)

    def planned(self) -> int:
        """Runs that wait for their time."""
        return int(call(self.url, "/flow_runs/count", {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}))


def call(url: str, path: str, body: object) -> Any:
    """What the API answers."""
    import urllib.request

    request = urllib.request.Request(f"{url}{path}", data=json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=180) as answer:
        return json.loads(answer.read())


@contextmanager
def prefect_server(folder: Path, database: str) -> Iterator[PrefectServer]:
    """A server, all its services running."""
    folder.mkdir()
    with ExitStack() as stack:
        postgres = stack.enter_context(run_postgres()) if database == "postgres" else None
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}/api"
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        theirs = environment(folder, "server", "") | (postgres.environment if postgres is not None else {})
        with (folder / "server.log").open("ab") as log:
            process = subprocess.Popen(command, env=theirs, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until_healthy(url, process, folder / "server.log")
            time.sleep(5)
            yield PrefectServer(url, process.pid, folder, postgres)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# --- runs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Of one run, on average."""

    run_s: float
    """Seconds of processor of the run's process, its start included."""
    server_s: float
    """The same of server and database."""
    bytes: float
    """By which the database grew."""
    wall_s: float


def measure_runs(folder: Path, *, quick: bool) -> None:
    """Print what a package and a look that finds nothing cost."""
    from engines.toy.plan import ToyPlan
    from tasks.toy import write_toy_package

    package = folder / "plant.zip"
    written = write_toy_package(package, ToyPlan(machine_types=("pump",), scale=0.001 if quick else 0.01))
    looks, in_a_row = (1, 2) if quick else (3, 20)
    print(f"\n== runs: a package of {written.n_clips} clips, then looks with nothing new")
    for database in DATABASES:
        if database == "postgres" and find_postgres() is None:
            print("postgres: not installed, and cannot be")
            continue
        home = folder / database
        with prefect_server(home, database) as server:
            store = home / "store"
            inbox = store / _INBOX
            inbox.mkdir(parents=True)
            shutil.copy(package, inbox)
            costs = {"a package": average(server, home, "look", 1)}
            costs["a look into an inbox"] = average(server, home, "look", looks)
            costs["a round, nothing to hear"] = average(server, home, "round", looks)
            for name, cost in costs.items():
                print(
                    f"{database:9}{name:26} run {cost.run_s:6.1f} s, server {cost.server_s:5.2f} s of processor,"
                    f" database +{cost.bytes / 1024:7.0f} KiB, {cost.wall_s:6.1f} s"
                )
            for what in ("look", "round"):
                grown, used, seconds = in_one_process(server, home, what, in_a_row)
                print(
                    f"{database:9}{what + 's in a row':26} {in_a_row / seconds:.2f} a second, server"
                    f" {used / in_a_row:5.2f} s of processor, database +{grown / in_a_row / 1024:7.0f} KiB each"
                )
            sys.stdout.flush()
            if database == DATABASES[0]:
                count_objects(store, written.n_clips)


def average(server: PrefectServer, home: Path, what: str, times: int) -> Cost:
    """Run so often, each in a process of its own, as a worker does."""
    used, size = server.processor_s(), server.database_bytes()
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for _ in range(times):
        work_in_process(server, home, what, 1)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    time.sleep(_SETTLE_S)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    grown = server.database_bytes() - size
    return Cost(own / times, (server.processor_s() - used) / times, grown / times, seconds / times)


def in_one_process(server: PrefectServer, home: Path, what: str, times: int) -> tuple[int, float, float]:
    """The same flows one after the other in one process: bytes, processor seconds of the server, seconds."""
    used, size = server.processor_s(), server.database_bytes()
    seconds = work_in_process(server, home, what, times)
    time.sleep(_SETTLE_S)
    return server.database_bytes() - size, server.processor_s() - used, seconds


def work_in_process(server: PrefectServer, home: Path, what: str, times: int) -> float:
    """Start a process that makes so many runs; seconds that these took in it."""
    command = [sys.executable, "-m", "benchmarks.scale", "--work", what, "--times", str(times)]
    command += ["--store", (home / "store").as_uri()]
    theirs = environment(home, "prefect", server.url) | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=theirs, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{what} ended with {done.returncode}: {done.stderr[-3000:]}")
    return float(done.stdout.splitlines()[-1])


def work(what: str, store: str, times: int) -> None:
    """What such a process does; it prints the seconds."""
    from flows.scheduled import monitor_machines, onboard_inbox
    from schemas.settings import OnboardSettings

    began = time.monotonic()
    for _ in range(times):
        if what == "look":
            onboard_inbox(_CUSTOMER, _INBOX, store, OnboardSettings(), settle_s=0.0)
        else:
            monitor_machines(_CUSTOMER, store)
    print(time.monotonic() - began, flush=True)


def count_objects(store: Path, clips: int) -> None:
    """Print what a package leaves in the store."""
    files = [path for path in store.rglob("*") if path.is_file() and not path.name.startswith(".writing")]
    counts = Counter(path.relative_to(store).parts[0] for path in files)
    sizes = Counter[str]()
    for path in files:
        sizes[path.relative_to(store).parts[0]] += path.stat().st_size
    told = ", ".join(f"{name} {counts[name]} ({sizes[name] / 2**20:.1f} MiB)" for name in sorted(counts))
    print(f"objects of {clips} clips: {len(files)}, {sum(sizes.values()) / 2**20:.1f} MiB: {told}")


# --- deployments ------------------------------------------------------------------------------------------------------


def measure_deployments(folder: Path, *, quick: bool) -> None:
    """Print what so many customers cost a server on which nothing runs."""
    numbers, watched_s = ((3, 6), 15.0) if quick else ((50, 200), 70.0)
    print(f"\n== deployments: two of each customer, then {watched_s:.0f} s of nothing")
    for database in DATABASES:
        if database == "postgres" and find_postgres() is None:
            continue
        home = folder / f"deployed-{database}"
        with prefect_server(home, database) as server:
            for number in numbers:
                began = time.monotonic()
                deploy_in_process(server, home, number)
                first = time.monotonic() - began
                began = time.monotonic()
                deploy_in_process(server, home, number)
                again = time.monotonic() - began
                used, began = server.processor_s(), time.monotonic()
                time.sleep(watched_s)
                share = (server.processor_s() - used) / (time.monotonic() - began)
                print(
                    f"{database:9}{number:6} customers: deployed in {first:6.1f} s, again in {again:5.1f} s,"
                    f" {server.planned():6} runs planned, {100 * share:5.1f} % of a core,"
                    f" database {server.database_bytes() / 2**20:6.1f} MiB"
                )
                sys.stdout.flush()


def deploy_in_process(server: PrefectServer, home: Path, number: int) -> None:
    """`alp deploy` of so many customers; the process's start is part of it."""
    customers = home / "customers"
    customers.mkdir(exist_ok=True)
    for count in range(number):
        path = customers / f"plant-{count:05}.yaml"
        if not path.exists():
            path.write_text(f"name: plant-{count:05}\nmachine_types: {{pump: }}\n", encoding="utf-8")
    command = [sys.executable, "-m", "deployments.cli", "deploy", "--json", "--folder", str(customers)]
    command += ["--store", (home / "store").as_uri()]
    theirs = environment(home, "prefect", server.url) | {"ALP_PLATFORM": ""}
    done = subprocess.run(command, env=theirs, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"alp deploy ended with {done.returncode}: {done.stderr[-3000:]}")


# --- library ----------------------------------------------------------------------------------------------------------


def measure_library(folder: Path, *, quick: bool) -> None:
    """Print what a library of so many packages costs an onboarding that may learn from all of it."""
    from tasks.s3_setup import init_bucket
    from tasks.s3_store import S3Store
    from tasks.store import FolderStore, ObjectStore

    numbers = (3, 10) if quick else (10, 100, 1000)
    print(f"\n== library: packages of {_NORMALS} normals each, one customer each, all shared, one machine type")
    with run_server(folder / "s3") as s3:
        os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        bucket = S3Store.open(s3.url("bench"))
        init_bucket(bucket)
        stores: Mapping[str, ObjectStore] = {"folder": FolderStore(folder / "library"), "s3": bucket}
        for name, store in stores.items():
            filled = 0
            for number in numbers:
                fill_library(store, range(filled, number))
                filled = number
                print(f"{name:9}{number:6} packages: {describe_library(store)}")
                sys.stdout.flush()


def fill_library(store: Any, numbers: Sequence[int]) -> None:
    """Library rows and consents of so many customers, as onboardings leave them."""
    import pandas as pd

    from tasks import keys
    from tasks.library import LIBRARY_COLUMNS
    from tasks.sharing import Consent

    for number in numbers:
        customer, package = f"plant-{number:05}", f"{number:016x}"
        rows = pd.DataFrame({name: pd.Series([None] * _NORMALS, dtype="object") for name in LIBRARY_COLUMNS})
        known = {
            "segment": 0, "machine_type": "pump", "section_id": "00", "role": "target", "domain": "target",
            "sensor": "microphone", "synthetic": False, "start_s": 0.0, "duration_s": 10.0, "sample_rate": 16_000,
            "bandwidth_hz": 8000.0,
        }  # fmt: skip
        rows = rows.assign(
            **known,
            recording_id=[f"{number:08x}{clip:08x}" for clip in range(_NORMALS)],
            audio=[f"packages/{customer}/{package}/audio/{clip:012x}.flac" for clip in range(_NORMALS)],
        )
        store.put_frame(keys.library("pump", customer, package), rows)
        store.put_model(keys.consent(customer), Consent(share_source=True, changes=1))


def describe_library(store: Any) -> str:
    """Seconds and memory of what an onboarding does with it."""
    from tasks.library import library_rows
    from tasks.sharing import lenders, snapshot

    owners, lending_s = timed(lambda: lenders(store, "plant-00000"))
    _, snapshot_s = timed(lambda: snapshot(store, "plant-00000", besides="none"))
    rows, reading_s = timed(lambda: library_rows(store, owners, machine_type="pump"))
    size = rows.memory_usage(deep=True).sum() / 2**20
    return (
        f"who lends {lending_s:6.2f} s, what there is {snapshot_s:6.2f} s, reading {reading_s:6.2f} s,"
        f" {len(rows)} rows, {size:.1f} MiB of memory"
    )


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the seconds it took."""
    began = time.monotonic()
    return function(), time.monotonic() - began


# --- what is called ---------------------------------------------------------------------------------------------------


def main() -> None:
    """Print the parts that were asked for, or do one process's work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few of each")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--work", choices=("look", "round"), help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.store, arguments.times)
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    parts = {"runs": measure_runs, "deployments": measure_deployments, "library": measure_library}
    with tempfile.TemporaryDirectory(prefix="alp-scale-") as folder:
        for name in arguments.only:
            parts[name](Path(folder), quick=arguments.quick)


if __name__ == "__main__":
    main()
