"""Do false-alarm rates come out as they were claimed? Nominal against observed, for each engine and each method.

`make bench-calibration` writes benchmarks/calibration.md and its picture. Many *calibration sets* of n normals are
drawn from one asset's target normals; each sets a threshold and an alarm rule as an onboarding does, and the rate is
read off other normals of the same asset. Only normals are ever used, and those of a package's tests only to read the
rate off. Clips are drawn without replacement, so that calibration set and held-out clips are exchangeable, and a claim
of an average over calibration sets can be tested on a finite pool of clips.

    python -m benchmarks.calibration --quick       a few sets of each; written into the cache
    python -m benchmarks.calibration --parts motor

Rates are probabilities of an alarm a clip, alarms of an m-of-n rule counted where they begin. A *part* of the page is
the toy assets together, one package, or scores drawn from known laws (`benchmarks.score_laws`).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from engines.alarm import AlarmRule, choose_alarm_rule
from engines.base import Clip, ClipSet, Engine
from engines.calibration import Method, alarm_rank, calibrate, decide
from schemas.settings import AlarmPolicy

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PARTS = ("laws", "toy", "compressor", "motor")
MACHINES = ("bearing", "fan", "valve")
ENGINES = ("a", "b", "c", "ensemble")
TOY_SEED, TOY_SECONDS, TOY_SOURCE = 0, 2.0, 60
"""Only the beginning of a toy clip is taken, and few source normals: that changes the cost of an engine, and how well
it detects, but not whether a rate is kept."""
SEED = 1440

DEFAULT_ALPHA = AlarmPolicy().alpha
ALPHAS = (0.2, 0.1, 0.05, 0.02, 0.01, DEFAULT_ALPHA)
RULE_ALPHAS = (0.05, 0.01, DEFAULT_ALPHA)
"""Budgets that an m-of-n rule is chosen for."""
FEWEST_HELD_OUT = 10
"""Normals that must be left to read a rate off."""

Floats = NDArray[np.float64]
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much is drawn of one asset.

    `sets` are calibration sets by n, each with its own fit, for leave-one-out; 0 of them where n is for split alone. By
    split an engine learns from `learnt` normals, and each of `fits` engines is calibrated `draws` times on n others;
    where n carries no α, which costs a model's fit, `modelled_draws` times. `blocks` are calibration sets of
    consecutive recordings.
    """

    sets: Mapping[int, int]
    held_out: int = 200
    learnt: int = 10
    fits: int = 6
    draws: int = 25
    modelled_draws: int = 6
    blocks: int = 0


TOY = Plan({3: 10, 5: 10, 10: 10, 30: 8, 100: 5, 300: 4}, fits=5, draws=30)
TOY_ENSEMBLE = replace(TOY, sets={3: 5, 5: 5, 10: 5, 30: 0, 100: 0, 300: 0}, fits=3, draws=50, modelled_draws=10)
"""An ensemble fits all of its members anew for each of ten groups left out."""
PACKAGE = Plan({3: 40, 5: 40, 10: 40, 30: 40}, fits=10, draws=40, modelled_draws=6, blocks=10)
PACKAGE_ENSEMBLE = replace(PACKAGE, sets={3: 12, 5: 12, 10: 12, 30: 12}, fits=6, draws=50, modelled_draws=10, blocks=0)


@dataclass(frozen=True, eq=False)
class Asset:
    """One machine's target normals in the order of recording, and what else there is to learn from."""

    part: str
    name: str
    normals: ClipSet
    source: ClipSet | None


def toy_asset(machine: str, *, normals: int = 600, source: int = TOY_SOURCE, seconds: float = TOY_SECONDS) -> Asset:
    """Synthetic recordings of one machine, the first `seconds` of each; at most 600 normals."""
    from engines.toy.plan import ToyPlan

    full_size = 60
    wanted = ToyPlan(machine_types=(machine,), scale=normals / full_size, seed=TOY_SEED).clips()
    normal = [clip for clip in wanted if clip.label == "normal" and clip.supp_type is None]
    target = [clip for clip in normal if clip.domain == "target"][:normals]
    others = [clip for clip in normal if clip.domain == "source" and clip.split == "train"][:source]
    return Asset("toy", machine, _render(target, seconds), _render(others, seconds))


def _render(clips: Sequence[Any], seconds: float) -> ClipSet:
    from engines.toy import SAMPLE_RATE, render_clip
    from schemas.metadata import CONDITION_COLUMNS

    full_scale, kept = np.float32(32_768), round(seconds * SAMPLE_RATE)
    samples = [np.asarray(render_clip(clip)[:kept] / full_scale, dtype=np.float32) for clip in clips]
    told = [{name: str(v) for name in CONDITION_COLUMNS if (v := getattr(clip, name)) is not None} for clip in clips]
    who = [
        Clip(clip.clip_id, clip.clip_id, SAMPLE_RATE, SAMPLE_RATE / 2, conditions)
        for clip, conditions in zip(clips, told, strict=True)
    ]
    return ClipSet(who, samples.__getitem__)


def package_asset(path: Path) -> Asset:
    """The target normals of a package, of train and test alike, in the order of its table."""
    from benchmarks.sets import package_set

    bench = package_set(path)
    return Asset(bench.name, bench.name, bench.clip_set(bench.indices("pool")), bench.source)


def engine_makers(source: ClipSet | None) -> dict[str, Callable[[], Engine]]:
    """How each engine that the asset can carry is made anew, all with encoder logmel and sharing what they heard."""
    from benchmarks.methods import Remembering
    from engines.encoders.logmel import LogMelEncoder
    from engines.ensemble import Ensemble
    from engines.fitting import MIN_RECORDINGS
    from engines.memory_banks import MemoryBanks
    from engines.patch_memory import PatchMemory
    from engines.prototypes import Lessons, Prototypes, plan_tasks
    from schemas.engine_settings import PrototypeSettings
    from schemas.errors import InputError

    heard = {name: Remembering(LogMelEncoder(), patches=name == "b") for name in "ab"}
    settings, lessons = PrototypeSettings(device="cpu"), Lessons()
    members: dict[str, Callable[[int], Engine]] = {"a": lambda least: PatchMemory(heard["a"], workers=1, least=least)}
    if source is not None:
        members["b"] = lambda least: MemoryBanks(heard["b"], workers=1, least=least)
        try:
            plan_tasks(source, settings)
            members["c"] = lambda least: Prototypes(settings, workers=1, least=least, lessons=lessons)
        except InputError:
            pass  # no condition column to learn from
    makers: dict[str, Callable[[], Engine]] = {name: partial(make, MIN_RECORDINGS) for name, make in members.items()}
    if len(members) > 1:
        makers["ensemble"] = lambda: Ensemble(tuple(members), lambda name, least: members[name](least))
    return makers


def observe(asset: Asset, name: str, make: Callable[[], Engine], plan: Plan) -> Iterator[Row]:
    """Every outcome of one engine on one asset: a row a calibration set, budget and rule."""
    who = {"part": asset.part, "asset": asset.name, "engine": name}
    for row in (*_leave_one_out(asset, make, plan), *_split(asset, make, plan), *_blocks(asset, make, plan)):
        yield who | row


def _leave_one_out(asset: Asset, make: Callable[[], Engine], plan: Plan) -> Iterator[Row]:
    for n, sets in plan.sets.items():
        if n + FEWEST_HELD_OUT > len(asset.normals):
            continue
        for number in range(sets):
            order = _order(asset, number, n)
            held_out = sorted(order[n:][: plan.held_out])
            yield from _judge_fit(asset, make, sorted(order[:n]), held_out, "leave one out")


def _blocks(asset: Asset, make: Callable[[], Engine], plan: Plan) -> Iterator[Row]:
    """Calibration sets as a plant records them: one after the other. All other normals are held out."""
    every = range(len(asset.normals))
    for n in (10, 30) if plan.blocks else ():
        starts = np.unique(np.linspace(0, len(every) - n, plan.blocks).round().astype(int)).tolist()
        for start in starts:
            block = every[start : start + n]
            yield from _judge_fit(asset, make, block, sorted(set(every) - set(block)), "leave one out, in a row")


def _judge_fit(
    asset: Asset, make: Callable[[], Engine], support: Sequence[int], held_out: Sequence[int], title: str
) -> Iterator[Row]:
    engine = make().fit(asset.normals.subset(support), asset.source)
    method: Method = "leave_one_out" if engine.normal_scores_method == "leave_one_out" else "leave_group_out"
    scores = engine.decision_function(asset.normals.subset(held_out))
    for row in judge(engine.normal_scores(), scores, method=method):
        yield {"method": title} | row


def _split(asset: Asset, make: Callable[[], Engine], plan: Plan) -> Iterator[Row]:
    for fit in range(plan.fits):
        order = _order(asset, fit, 0)
        engine = make().fit(asset.normals.subset(sorted(order[: plan.learnt])), asset.source)
        others = sorted(order[plan.learnt :])
        scores = engine.decision_function(asset.normals.subset(others))
        rng = np.random.default_rng([SEED, fit, len(others)])
        for n in plan.sets:
            for draw in range(plan.draws if n + FEWEST_HELD_OUT <= len(others) else 0):
                drawn = rng.permutation(len(others))
                alphas = [alpha for alpha in ALPHAS if draw < plan.modelled_draws or alarm_rank(n, alpha) > 0]
                for row in judge(scores[drawn[:n]], scores[np.sort(drawn[n:])], method="split", alphas=alphas):
                    yield {"method": "split"} | row


def _order(asset: Asset, number: int, n: int) -> list[int]:
    """The asset's normals in the order of one draw, which is the same for every engine."""
    rng = np.random.default_rng([SEED, zlib.crc32(asset.name.encode()), n, number])
    return [int(i) for i in rng.permutation(len(asset.normals))]


def judge(normals: Floats, held_out: Floats, *, method: Method, alphas: Sequence[float] = ALPHAS) -> Iterator[Row]:
    """What one calibration set claims and what `held_out` scores, in the order of recording, do: a row a rule.

    A row has `n`, `alpha`, `rule`, `kind`, `certified`, `claimed` and `observed` rates on so many `clips`; of a rule of
    several clips `observed` is the rate on clips in random order, `in_order` as they were recorded. Where a bound at
    the policy's confidence is claimed, `above` says whether the observed rate exceeds it, and `above_expected` how
    likely that is on so many held-out clips if the scores are exchangeable.
    """
    for alpha in alphas:
        policy = policy_of(alpha)
        threshold = calibrate(normals, policy, method=method)
        high = decide(held_out, normals, threshold)
        row: Row = {"n": len(normals), "alpha": alpha, "certified": threshold.certified, "kind": threshold.kind}
        claimed = threshold.alarms_per_day / policy.clips_per_day
        row |= {"rule": "clip", "claimed": claimed, "observed": float(high.mean()), "clips": high.size}
        if threshold.confidence_bound is not None:
            row |= _exceed_bound(high, len(normals), alpha, threshold.confidence_bound / policy.clips_per_day)
        yield row
        if alpha in RULE_ALPHAS:
            rule = choose_alarm_rule(normals, policy.model_copy(update={"rule": "m_of_n"}), threshold, method=method)
            if rule.m > 1:
                yield row | {"above": np.nan, "above_expected": np.nan} | judge_rule(rule, held_out, policy)


def policy_of(alpha: float) -> AlarmPolicy:
    """The alarm policy of that budget a clip, by the clip rule."""
    cadence = AlarmPolicy().clips_per_day
    return AlarmPolicy(false_alarms_per_day=alpha * cadence, clips_per_day=cadence, rule="clip")


def _exceed_bound(high: NDArray[np.bool_], n: int, alpha: float, bound: float) -> Row:
    rank, count = alarm_rank(n, alpha), high.size
    expected = _chance_above(int(np.floor(bound * count)), count, rank, n)
    return {"above": float(high.mean() > bound), "above_expected": expected}


@cache
def _chance_above(most: int, count: int, rank: int, n: int) -> float:
    return float(stats.betabinom.sf(most, count, rank, n + 1 - rank))


def judge_rule(rule: AlarmRule, held_out: Floats, policy: AlarmPolicy) -> Row:
    """A row's part for a rule of several clips: `observed` over all orders of the held-out clips, and `in_order`."""
    high = held_out > rule.clip_threshold
    return {
        "rule": "m_of_n",
        "kind": rule.kind,
        "certified": rule.certified,
        "title": f"{rule.m} of {rule.window}",
        "claimed": rule.alarms_per_day / policy.clips_per_day,
        "observed": rate_in_random_order(int(high.sum()), high.size, rule.m, rule.window),
        "in_order": float(ringing(high[None], rule.m, rule.window).mean()),
    }


@cache
def rate_in_random_order(high: int, count: int, m: int, window: int) -> float:
    """How often a clip exceeds and finds m − 1 others that do among the window − 1 before it, over all orders."""
    numbers = np.arange(m, window + 1)
    return float((stats.hypergeom.pmf(numbers, count, high, window) * numbers).sum() / window)


def ringing(high: NDArray[np.bool_], m: int, window: int) -> NDArray[np.bool_]:
    """Whether each clip that has a whole window behind it exceeds as one of m: bool (streams, clips − window + 1)."""
    total = np.cumsum(np.pad(high, ((0, 0), (1, 0))), axis=1)
    return np.asarray(high[:, window - 1 :] & (total[:, window:] - total[:, :-window] >= m))


@dataclass(frozen=True)
class Job:
    """One asset with all engines, or the known laws."""

    part: str
    name: str
    path: str = ""
    quick: bool = False


def run_job(job: Job) -> tuple[list[Row], float]:
    """The rows of a job, and its seconds."""
    import torch

    from benchmarks.score_laws import observe_laws

    torch.set_num_threads(1)
    start = time.perf_counter()
    if job.part == "laws":
        return list(observe_laws(quick=job.quick)), time.perf_counter() - start
    asset = package_asset(Path(job.path)) if job.path else toy_asset(job.name, normals=120 if job.quick else 600)
    rows = []
    for name, make in engine_makers(asset.source).items():
        rows += list(observe(asset, name, make, _plan(job, name)))
    return rows, time.perf_counter() - start


def _plan(job: Job, engine: str) -> Plan:
    plans = (PACKAGE, PACKAGE_ENSEMBLE) if job.path else (TOY, TOY_ENSEMBLE)
    plan = plans[engine == "ensemble"]
    if not job.quick:
        return plan
    sets = {n: 2 for n in plan.sets if n <= 30}
    return replace(plan, sets=sets, held_out=60, fits=1, draws=6, modelled_draws=2, blocks=min(plan.blocks, 2))


def run_all(jobs: Sequence[Job], *, workers: int) -> pd.DataFrame:
    """The rows of all jobs, in their order."""
    import pandas as pd

    os.environ |= dict.fromkeys(ONE_THREAD, "1")
    rows: list[Row] = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for job, (found, seconds) in zip(jobs, pool.map(run_job, jobs), strict=True):
            print(f"{job.part} {job.name}: {len(found)} outcomes, {seconds:.0f} s", flush=True)
            rows += found
    return pd.DataFrame(rows)


def plan_jobs(options: argparse.Namespace) -> tuple[list[Job], dict[str, str]]:
    """The jobs, longest first, and why a part is not run."""
    jobs, absent = [], {}
    for part in ("toy", "laws", "compressor", "motor"):
        path = options.data / f"{part}.zip"
        if part not in options.parts:
            continue
        if part == "toy":
            jobs += [Job(part, machine, quick=options.quick) for machine in options.machines]
        elif part == "laws":
            jobs.append(Job(part, part, quick=options.quick))
        elif path.is_file():
            jobs.append(Job(part, part, str(path), quick=options.quick))
        else:
            absent[part] = f"not run: {path.name} is not here"
    return jobs, absent


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calibration", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--machines", nargs="+", choices=MACHINES, default=list(MACHINES), help="of toy")
    parser.add_argument("--quick", action="store_true", help="two machine types, a few calibration sets, n up to 30")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="jobs side by side")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the packages")
    parser.add_argument("--out", type=Path, help="folder of calibration.md and calibration.svg; default: benchmarks")
    options = parser.parse_args(arguments)
    if options.quick:
        options.machines = options.machines[:2]
    return options


def main(arguments: Sequence[str]) -> None:
    """Run all, and write the page and its picture."""
    from benchmarks.calibration_page import write_page
    from tasks.weights import cache_folder

    options, start = parse(arguments), time.perf_counter()
    out = options.out or (cache_folder() / "calibration" if options.quick else ROOT / "benchmarks")
    jobs, absent = plan_jobs(options)
    rows = run_all(jobs, workers=options.workers)
    out.mkdir(parents=True, exist_ok=True)
    run = {"workers": options.workers, "cores": os.cpu_count(), "seconds": time.perf_counter() - start}
    write_page(out, rows, run, absent)
    print(f"wrote calibration.md and calibration.svg into {out}, {run['seconds'] / 60:.1f} minutes")


if __name__ == "__main__":
    main(sys.argv[1:])
