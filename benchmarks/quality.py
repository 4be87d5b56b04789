"""How well engines, router and ensemble tell anomalies apart, beside peers on the same clips in the same run.

`make bench-quality` writes benchmarks/quality.md and quality.json. A *job* is one asset with all its draws and methods,
in a process of its own; its record is written to the cache when it is done, so that a run that was cut off goes on.
Records stand under a hash of the code and the settings that decide their numbers. Costs are a job of each set, on its
first asset.

    python -m benchmarks.quality --quick           one toy seed, two machine types, two redraws; written into the cache
    python -m benchmarks.quality --sets motor      one set; the page then holds that one alone
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.page import write_page
from benchmarks.results import Record, summarize
from benchmarks.sets import REDRAWS, SHOTS, BenchSet, check_machines, draws, package_set, toy_set

ROOT = Path(__file__).resolve().parents[1]
SETS = ("toy", "compressor", "motor")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
DECIDING = (
    "engines",
    "schemas",
    "tasks",
    *(f"benchmarks/{name}.py" for name in ("sets", "peers", "methods", "choosing", "quality")),
)
"""Code that decides the numbers of a record."""


@dataclass(frozen=True)
class Job:
    """One asset, by its machine type and seed (toy) or by its package; all methods, or what each of them `costs`.

    `auto` is the encoder that `--encoder auto` takes; `auto_alone` where engine A has no rival.
    """

    name: str
    machine: str
    seed: int
    package: str
    shots: tuple[int, ...]
    redraws: int
    encoders: tuple[tuple[str, str], ...]
    auto: str
    auto_alone: str
    costs: bool = False

    @property
    def title(self) -> str:
        """Name of its record, which changes with the package's bytes."""
        asset = f"toy-{self.machine}-{self.seed}" if self.name == "toy" else f"{self.name}-{_digest_file(self.package)}"
        return f"{asset}-costs" if self.costs else asset

    def load(self) -> BenchSet:
        """The asset's clips."""
        return package_set(Path(self.package)) if self.package else toy_set(self.machine, self.seed)


def run_job(job: Job) -> Record:
    """All methods on all draws of one asset."""
    from benchmarks.choosing import choose, describe, true_columns, weigh_conditions
    from benchmarks.methods import Shelf, methods, run_method

    start, bench = time.perf_counter(), _get_ready(job)
    evidence = weigh_conditions(bench)
    shelf = Shelf(bench, true_columns(describe(len(bench.indices("pool")), bench.source, evidence)))
    rows = {"a": f"a/{job.auto}", "b": f"b/{job.auto}", "c": "c"}
    done = []
    for draw in draws(bench, shots=job.shots, redraws=job.redraws):
        outcomes = {
            row: outcome
            for method in methods(dict(job.encoders), auto=job.auto)
            for row, outcome in run_method(method, shelf, draw).items()
        }
        data = describe(draw.shots, bench.source, evidence)
        outcomes |= choose(data, outcomes, rows, alone=f"a/{job.auto_alone}")
        done.append({"shots": draw.shots, "redraw": draw.redraw, "tests": draw.tests, "outcomes": outcomes})
    return {
        "set": bench.name,
        "machine": bench.machine,
        "seed": bench.seed,
        "seconds": time.perf_counter() - start,
        "cpu_s": time.process_time(),
        "columns": shelf.columns,
        "counts": _count_clips(bench),
        "is_anomaly": [clip.is_anomaly for clip in bench.clips],
        "is_source": [clip.domain == "source" for clip in bench.clips],
        "draws": done,
    }


def run_costs(job: Job) -> Record:
    """What each method costs at each number of shots, each in a forked process that shares nothing it makes."""
    from benchmarks.choosing import choice_methods, describe, true_columns, weigh_conditions
    from benchmarks.methods import Shelf, measure, methods, peak_mb, reset_peak
    from tasks.engines import load_encoder

    start, bench = time.perf_counter(), _get_ready(job)
    for name, why in job.encoders:
        if not why:
            load_encoder(name)
    data = describe(min(job.shots), bench.source, weigh_conditions(bench))
    columns = true_columns(data)
    chosen = choice_methods(data, auto=job.auto, alone=job.auto_alone)
    floor = _in_fork(lambda: (reset_peak(), peak_mb())[1])
    rows = {}
    for method in [*methods(dict(job.encoders), auto=job.auto), *chosen]:
        if not method.why_not(Shelf(bench, columns)):
            first = draws(bench, shots=job.shots, redraws=1)
            costs = [
                _in_fork(lambda draw=draw, method=method: asdict(measure(method, bench, columns, draw)))
                for draw in first
            ]
            rows[" / ".join(method.rows)] = costs
    return {
        "set": bench.name,
        "asset": bench.title,
        "seconds": time.perf_counter() - start,
        "floor_mb": floor,
        "rows": rows,
    }


def _in_fork(work: Any) -> Any:
    """The result of `work`, done in a fork of this process."""
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(work()))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError("a method failed while its cost was measured; its error stands above") from None
    finally:
        child.join()


def _get_ready(job: Job) -> BenchSet:
    """The asset's clips, with all imported and compiled that every method uses, so that none pays for the others."""
    import sklearn.neighbors  # noqa: F401
    import torch

    from benchmarks.peers import hear

    torch.set_num_threads(1)
    bench = job.load()
    hear(bench.clips[0].clip, bench.samples[0])
    torch.optim.Adam([torch.zeros(1, requires_grad=True)]).zero_grad()
    if _is_installed("pyod"):
        import pyod.models.iforest
        import pyod.models.knn  # noqa: F401
    return bench


def _is_installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _count_clips(bench: BenchSet) -> dict[str, int]:
    tests = [bench.clips[i] for i in bench.indices("test")]
    return {
        "source": len(bench.indices("source")),
        "pool": len(bench.indices("pool")),
        "anomalies": sum(clip.is_anomaly for clip in tests),
        "source_tests": sum(not clip.is_anomaly for clip in tests),
    }


@cache
def _digest_file(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def code_digest() -> str:
    """Sixteen hex digits over the code that decides the numbers."""
    found = hashlib.sha256()
    for name in DECIDING:
        place = ROOT / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:16]


def run_all(jobs: Sequence[Job], folder: Path, *, workers: int) -> list[Record]:
    """The records of all jobs, from `folder` where they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= dict.fromkeys(ONE_THREAD, "1")
    missing = [job for job in jobs if not _record(folder, job).exists()]
    print(f"{len(jobs) - len(missing)} of {len(jobs)} jobs are in the cache", flush=True)
    # A process a job, so that one job's memory is not another's.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(run_costs if job.costs else run_job, job): job for job in missing}
        try:
            for number, future in enumerate(as_completed(running), start=1):
                record, job = future.result(), running[future]
                _write_whole(_record(folder, job), json.dumps(record))
                print(f"[{number}/{len(missing)}] {job.title}: {record['seconds']:.0f} s", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [json.loads(_record(folder, job).read_text(encoding="utf-8")) for job in jobs]


def _record(folder: Path, job: Job) -> Path:
    return folder / f"{job.title}.json"


def _write_whole(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def plan_jobs(
    options: argparse.Namespace, encoders: Mapping[str, str], autos: tuple[str, str]
) -> tuple[list[Job], dict[str, str]]:
    """The jobs of all sets, costs first, and why a set is not run, by its name."""
    common = (tuple(options.shots), options.redraws, tuple(encoders.items()), *autos)
    jobs: list[Job] = []
    absent = {}
    for name in options.sets:
        package = options.data / f"{name}.zip"
        if name != "toy" and not package.is_file():
            absent[name] = f"not run: {package.name} is not here"
            continue
        machines = check_machines(options.machines) if name == "toy" else ("",)
        seeds, where = (options.toy_seeds, "") if name == "toy" else ([0], str(package))
        own = [Job(name, machine, seed, where, *common) for seed in seeds for machine in machines]
        jobs += [Job(name, own[0].machine, own[0].seed, where, *common, costs=True), *own]
    return sorted(jobs, key=lambda job: not job.costs), absent


def describe_run(
    options: argparse.Namespace, encoders: Mapping[str, str], autos: tuple[str, str], seconds: float
) -> dict[str, Any]:
    """What was run, on what; no path and no name of a machine."""
    return {
        "code": code_digest(),
        "python": platform.python_version(),
        "packages": _find_versions(),
        "cores": os.cpu_count(),
        "processes": options.workers,
        "shots": options.shots,
        "redraws": options.redraws,
        "toy_seeds": options.toy_seeds,
        "encoders": encoders,
        "auto": autos[0],
        "auto_alone": autos[1],
        "job_seconds": seconds,
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--toy-seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--machines", nargs="+", default=[], help="toy machine types; default: all")
    parser.add_argument("--shots", nargs="+", type=int, default=list(SHOTS))
    parser.add_argument("--redraws", type=int, default=REDRAWS)
    parser.add_argument(
        "--encoders", nargs="+", default=[], help="default: all; what is left out reads as not asked for"
    )
    parser.add_argument("--quick", action="store_true", help="one seed, two machine types, two redraws")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="jobs side by side")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the packages")
    parser.add_argument("--cache", type=Path, help="folder of the records; default: ALP's cache")
    parser.add_argument("--out", type=Path, help="folder of quality.md and quality.json; default: benchmarks")
    options = parser.parse_args(arguments)
    if options.quick:
        options.toy_seeds, options.redraws = options.toy_seeds[:1], 2
        options.machines = options.machines or ["fan", "valve"]
    return options


def find_encoders(wanted: Sequence[str]) -> tuple[dict[str, str], tuple[str, str]]:
    """Why an encoder is not run, by its name (empty: it is); those that `auto` takes, and takes for engine A alone."""
    from benchmarks.methods import available_encoders
    from tasks.engines import choose_encoder

    found = available_encoders()
    encoders = {name: "not asked for" if wanted and name not in wanted else why for name, why in found.items()}
    autos = choose_encoder("auto", engine="b"), choose_encoder("auto", engine="a")
    if left_out := [name for name in autos if encoders[name]]:
        raise SystemExit(f"--encoder auto takes {', '.join(left_out)}, which is not run: add it to --encoders")
    return encoders, autos


def main(arguments: Sequence[str]) -> None:
    """Run what is missing, and write both files."""
    from tasks.weights import cache_folder

    options = parse(arguments)
    encoders, autos = find_encoders(options.encoders)
    cache = (options.cache or cache_folder()) / "quality"
    out = options.out or (cache if options.quick else ROOT / "benchmarks")
    jobs, absent = plan_jobs(options, encoders, autos)
    records = run_all(jobs, cache / _settings_name(options, encoders, autos), workers=options.workers)
    sets = {name: _summarize(name, jobs, records, autos[0]) for name in options.sets if name not in absent}
    seconds = sum(record["seconds"] for record in records)
    summary = {
        "run": describe_run(options, encoders, autos, seconds),
        "sets": sets | {name: {"why": why} for name, why in absent.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    _write_whole(out / "quality.json", json.dumps(_rounded(summary), indent=1) + "\n")
    write_page(out / "quality.md", summary)
    print(f"wrote quality.md and quality.json into {out}")


def _find_versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers, as far as they are installed."""
    modules = {"numpy": "numpy", "scipy": "scipy", "scikit-learn": "sklearn", "torch": "torch", "pyod": "pyod"}
    return {name: metadata.version(name) for name, module in modules.items() if _is_installed(module)}


def _settings_name(options: argparse.Namespace, encoders: Mapping[str, str], autos: tuple[str, str]) -> str:
    said = json.dumps([options.shots, options.redraws, list(encoders.items()), autos, _find_versions()])
    return f"{code_digest()}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def _summarize(name: str, jobs: Sequence[Job], records: Sequence[Record], auto: str) -> dict[str, Any]:
    own = [(job, record) for job, record in zip(jobs, records, strict=True) if job.name == name]
    (costs,) = (record for job, record in own if job.costs)
    return summarize([record for job, record in own if not job.costs], costs, auto=auto)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    main(sys.argv[1:])
