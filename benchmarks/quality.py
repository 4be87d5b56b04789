"""How well engines, router and ensemble tell anomalies apart, beside peers on the same clips in the same run.

`make bench-quality` writes benchmarks/quality.md and quality.json. A job is one asset with all its draws and methods, in
a process of its own; its record is written to the cache when it is done, so that a run that was cut off goes on. The
records stand under a hash of the code and the settings that decide their numbers.

    python -m benchmarks.quality --quick           one toy seed, two machine types, two redraws; writes into the cache
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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
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
DECIDING = ("engines", "schemas", "benchmarks/sets.py", "benchmarks/peers.py", "benchmarks/methods.py")
"""Code that decides the numbers of a record."""


@dataclass(frozen=True)
class Job:
    """One asset: its set, machine type and seed (`toy`), or its package."""

    name: str
    machine: str
    seed: int
    package: str
    shots: tuple[int, ...]
    redraws: int
    encoders: tuple[str, ...]

    @property
    def title(self) -> str:
        """Name of its record."""
        return f"{self.name}-{self.machine}-{self.seed}" if self.name == "toy" else self.name

    def load(self) -> BenchSet:
        """The asset's clips."""
        return package_set(Path(self.package)) if self.package else toy_set(self.machine, self.seed)


def run_job(job: Job, encoders: Mapping[str, str]) -> Record:
    """All methods on all draws of one asset; runs in a process of its own."""
    import torch

    from benchmarks.choosing import ensemble, routed, weigh_conditions, weigh_criteria
    from benchmarks.methods import NO_PYOD, Shelf, methods, peak_mb, reset_peak, run_method

    torch.set_num_threads(1)
    start = time.perf_counter()
    bench = job.load()
    shelf = Shelf(bench)
    _warm_up(bench)
    reset_peak()
    floor = peak_mb()
    evidence = weigh_conditions(bench.source)
    engine_rows = _engine_rows(job.encoders)
    done = []
    for draw in draws(bench, shots=job.shots, redraws=job.redraws):
        outcomes: dict[str, Any] = {}
        for method in methods(job.encoders):
            if method.rows[0].startswith("PyOD") and not _is_installed("pyod"):
                outcomes |= {row: {"why": NO_PYOD} for row in method.rows}
            else:
                outcomes |= run_method(method, shelf, draw)
        criteria = weigh_criteria(bench, draw, evidence)
        outcomes["routed"] = routed(criteria, outcomes, engine_rows)
        outcomes["ensemble"] = ensemble(criteria, outcomes, engine_rows)
        outcomes |= {f"a/{name}": {"why": why} for name, why in encoders.items() if why}
        outcomes |= {f"b/{name}": {"why": why} for name, why in encoders.items() if why}
        done.append({"shots": draw.shots, "redraw": draw.redraw, "tests": list(draw.tests), "outcomes": outcomes})
    return {
        "set": bench.name,
        "machine": bench.machine,
        "seed": bench.seed,
        "floor_mb": floor,
        "seconds": time.perf_counter() - start,
        "counts": _count_clips(bench),
        "is_anomaly": [clip.is_anomaly for clip in bench.clips],
        "is_source": [clip.domain == "source" for clip in bench.clips],
        "draws": done,
    }


def _warm_up(bench: BenchSet) -> None:
    """Import and compile what every method uses, so that none pays for the others."""
    import sklearn.neighbors  # noqa: F401
    import torch

    from benchmarks.peers import hear

    hear(bench.clips[0].clip, bench.clip_set([0]).waveform(0))
    torch.optim.Adam([torch.zeros(1, requires_grad=True)]).zero_grad()
    if _is_installed("pyod"):
        import pyod.models.iforest
        import pyod.models.knn  # noqa: F401


def _is_installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _engine_rows(encoders: Sequence[str]) -> dict[str, str]:
    """The row of each engine with the encoder that `auto` takes."""
    return {"a": f"a/{encoders[0]}", "b": f"b/{encoders[0]}", "c": "c"}


def _count_clips(bench: BenchSet) -> dict[str, int]:
    tests = [bench.clips[i] for i in bench.indices("test")]
    return {
        "source": len(bench.indices("source")),
        "pool": len(bench.indices("pool")),
        "anomalies": sum(clip.is_anomaly for clip in tests),
        "source_tests": sum(not clip.is_anomaly for clip in tests),
    }


def code_digest() -> str:
    """Sixteen hex digits over the code that decides the numbers."""
    found = hashlib.sha256()
    for name in DECIDING:
        place = ROOT / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:16]


def run_all(jobs: Sequence[Job], encoders: Mapping[str, str], folder: Path, *, workers: int) -> list[Record]:
    """The records of all jobs, from the cache where they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {name: "1" for name in ONE_THREAD}
    missing = [job for job in jobs if not _record(folder, job).exists()]
    print(f"{len(jobs) - len(missing)} of {len(jobs)} jobs are in the cache", flush=True)
    # A process a job, so that one job's memory is not another's.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(run_job, job, encoders): job for job in missing}
        try:
            for number, future in enumerate(as_completed(running), start=1):
                _write_whole(_record(folder, running[future]), json.dumps(future.result()))
                print(
                    f"[{number}/{len(missing)}] {running[future].title} {future.result()['seconds']:.0f} s", flush=True
                )
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


def plan_jobs(options: argparse.Namespace, encoders: Mapping[str, str]) -> tuple[list[Job], dict[str, str]]:
    """The jobs, longest first, and why a set is not run, by its name."""
    here = tuple(name for name, why in encoders.items() if not why)
    common = (tuple(options.shots), options.redraws, here)
    jobs, absent = [], {}
    for name in options.sets:
        package = options.data / f"{name}.zip"
        if name == "toy":
            machines = check_machines(options.machines)
            jobs += [Job("toy", machine, seed, "", *common) for seed in options.toy_seeds for machine in machines]
        elif package.is_file():
            jobs.append(Job(name, "", 0, str(package), *common))
        else:
            absent[name] = f"not run: {package.name} is not here"
    return jobs, absent


def describe_run(options: argparse.Namespace, encoders: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """What was run, on what; no path and no name of a machine."""
    packages = ("numpy", "scipy", "scikit-learn", "torch", "pyod")
    return {
        "code": code_digest(),
        "python": platform.python_version(),
        "packages": {
            name: metadata.version(name) for name in packages if _is_installed(name.replace("scikit-learn", "sklearn"))
        },
        "cores": os.cpu_count(),
        "processes": options.workers,
        "shots": list(options.shots),
        "redraws": options.redraws,
        "toy_seeds": list(options.toy_seeds),
        "encoders": dict(encoders),
        "cpu_s": seconds,
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--toy-seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--machines", nargs="+", default=[], help="toy machine types; default: all")
    parser.add_argument("--shots", nargs="+", type=int, default=list(SHOTS))
    parser.add_argument("--redraws", type=int, default=REDRAWS)
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


def main(arguments: Sequence[str]) -> None:
    """Run what is missing, and write both files."""
    from benchmarks.methods import available_encoders
    from tasks.weights import cache_folder

    options = parse(arguments)
    encoders = available_encoders()
    cache = (options.cache or cache_folder()) / "quality"
    out = options.out or (cache if options.quick else ROOT / "benchmarks")
    jobs, absent = plan_jobs(options, encoders)
    here = "+".join(name for name, why in encoders.items() if not why)
    folder = cache / f"{code_digest()}-{here}-{'.'.join(map(str, options.shots))}x{options.redraws}"
    records = run_all(jobs, encoders, folder, workers=options.workers)
    summary = {
        "run": describe_run(options, encoders, sum(record["seconds"] for record in records)),
        "sets": dict(_summaries(records, encoders)) | {name: {"why": why} for name, why in absent.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    _write_whole(out / "quality.json", json.dumps(_rounded(summary), indent=1) + "\n")
    write_page(out / "quality.md", summary)
    print(f"wrote quality.md and quality.json into {out}")


def _summaries(records: Sequence[Record], encoders: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in dict.fromkeys(record["set"] for record in records):
        yield name, summarize([record for record in records if record["set"] == name], encoders)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    main(sys.argv[1:])
