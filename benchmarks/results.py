"""From the scores of all jobs to the figures of quality.json.

A *job* is one asset: a set, a machine and, on toy, a seed. Its record holds the scores of every row on every draw
(`benchmarks.quality.run_job`). A figure is the macro mean over the machines of a set for one seed and redraw, and then
mean ± standard deviation over seeds and redraws. `official` over several machines is the harmonic mean over all their
values (DCASE 2023).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.intervals import METRICS, Asset, Bootstrap, Tested
from engines.metrics import AssetMetrics, evaluate, macro

NAMES = ("auc", "auc_target", "auc_source", "pauc", "official")
Record = dict[str, Any]

LOGMEL_PEER = "log-mel kNN"
PEERS = (LOGMEL_PEER, "PyOD kNN/{encoder}", "PyOD IForest/{encoder}", "autoencoder MSE", "autoencoder Mahalanobis")


def rows_of(records: Sequence[Record]) -> list[str]:
    """Every row that some record holds, in the order they were run."""
    return list(dict.fromkeys(row for record in records for draw in record["draws"] for row in draw["outcomes"]))


def summarize(records: Sequence[Record], encoders: Mapping[str, str]) -> dict[str, Any]:
    """All figures of one set: `rows`, `by_machine`, `routing`, `best_single` and `differences`."""
    metrics = _evaluate_all(records)
    shots = sorted({shots for _, shots in metrics})
    rows = {
        row: {str(count): _summarize_row(records, metrics, row, count) for count in shots} for row in rows_of(records)
    }
    singles = [row for row in rows if row == "c" or (row[:2] in ("a/", "b/") and row.count("/") == 1)]
    best = {str(count): _best(rows, singles, str(count)) for count in shots}
    return {
        "assets": [{key: record[key] for key in ("machine", "seed", "counts")} for record in records],
        "floor_mb": max((record["floor_mb"] or 0.0) for record in records),
        "rows": rows,
        "by_machine": _by_machine(metrics),
        "routing": _count_choices(records),
        "best_single": best,
        "differences": list(_differences(records, rows, best, encoders)),
    }


Key = tuple[str, int, int, int]
"""Machine, seed, shots and redraw."""


def _evaluate_all(records: Sequence[Record]) -> dict[tuple[str, int], dict[Key, AssetMetrics]]:
    """Metrics by (row, shots) and draw."""
    found: dict[tuple[str, int], dict[Key, AssetMetrics]] = defaultdict(dict)
    for record in records:
        anomaly, domain = np.array(record["is_anomaly"]), np.where(record["is_source"], "source", "target")
        for draw in record["draws"]:
            tests = draw["tests"]
            for row, outcome in draw["outcomes"].items():
                key = (record["machine"], record["seed"], draw["shots"], draw["redraw"])
                if "scores" in outcome:
                    found[row, draw["shots"]][key] = evaluate(
                        outcome["scores"], anomaly[tests], domain[tests], bootstrap=0
                    )
    return found


def _summarize_row(
    records: Sequence[Record], metrics: Mapping[tuple[str, int], Mapping[Key, AssetMetrics]], row: str, shots: int
) -> dict[str, Any]:
    """Mean and deviation of each metric, and what it cost; or `why` there are none."""
    outcomes = [
        (draw["outcomes"][row], len(draw["tests"]))
        for record in records
        for draw in record["draws"]
        if draw["shots"] == shots and row in draw["outcomes"]
    ]
    missing = [outcome["why"] for outcome, _ in outcomes if "why" in outcome]
    if missing:
        return {"why": Counter(missing).most_common(1)[0][0]}
    runs: dict[tuple[int, int], list[AssetMetrics]] = defaultdict(list)
    for (_, seed, _, redraw), values in metrics[row, shots].items():
        runs[seed, redraw].append(values)
    packages = [macro(assets) for assets in runs.values()]
    peaks = [outcome["peak_mb"] for outcome, _ in outcomes if outcome["peak_mb"] is not None]
    return {
        **{name: _spread([getattr(package, name) for package in packages]) for name in NAMES},
        "fit_s": float(np.mean([outcome["fit_s"] for outcome, _ in outcomes])),
        "score_ms": float(np.mean([1000 * outcome["score_s"] / tests for outcome, tests in outcomes])),
        "peak_mb": float(max(peaks)) if peaks else None,
        "runs": len(packages),
    }


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"mean": float(np.mean(known)), "sd": float(np.std(known, ddof=1)) if len(known) > 1 else 0.0}


def _best(rows: Mapping[str, Mapping[str, Any]], singles: Sequence[str], shots: str) -> str | None:
    able = [row for row in singles if "why" not in rows[row][shots]]
    return max(able, key=lambda row: rows[row][shots]["auc"]["mean"]) if able else None


def _by_machine(
    metrics: Mapping[tuple[str, int], Mapping[Key, AssetMetrics]],
) -> dict[str, dict[str, dict[str, float]]]:
    """Mean AUC by row, shots and machine."""
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (row, shots), values in metrics.items():
        by_machine: dict[str, list[float]] = defaultdict(list)
        for (machine, *_), asset in values.items():
            if asset.auc is not None:
                by_machine[machine].append(asset.auc)
        found[row][str(shots)] = {machine: round(float(np.mean(aucs)), 4) for machine, aucs in by_machine.items()}
    return found


def _count_choices(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """How often the router settled on which row, by shots."""
    chosen: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        for draw in record["draws"]:
            if "chose" in draw["outcomes"].get("routed", {}):
                chosen[str(draw["shots"])][draw["outcomes"]["routed"]["chose"]] += 1
    return {shots: dict(counts) for shots, counts in chosen.items()}


def pairs(rows: Sequence[str], encoders: Mapping[str, str], best: str | None) -> Iterator[tuple[str, str, str]]:
    """(kind, first, second) of every difference that is reported."""
    here = [name for name, why in encoders.items() if not why]
    for encoder in here:
        for kind in ("b", "a"):
            yield from ((f"{kind} − peer", f"{kind}/{encoder}", peer.format(encoder=encoder)) for peer in PEERS)
        yield "mixup", f"b/{encoder}", f"b/{encoder}/no mixup"
        yield "shrinkage", f"b/{encoder}", f"b/{encoder}/not shrunk"
        yield "engines", f"b/{encoder}", f"a/{encoder}"
        yield "engines", "c", f"b/{encoder}"
    if best is not None:
        yield "routed − best", "routed", best
    yield "ensemble − routed", "ensemble", "routed"


def _differences(
    records: Sequence[Record],
    rows: Mapping[str, Mapping[str, Any]],
    best: Mapping[str, str | None],
    encoders: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    for shots in best:
        scored = [row for row in rows if "why" not in rows[row][shots]]
        bootstrap = Bootstrap([_asset(record, int(shots), scored) for record in records])
        resampled = {row: bootstrap.of(row) for row in scored}
        for kind, first, second in pairs(scored, encoders, best[shots]):
            if first not in resampled or second not in resampled:
                continue
            found = {metric: bootstrap.difference(resampled[first], resampled[second], metric) for metric in METRICS}
            values = {metric: vars(difference) if difference else None for metric, difference in found.items()}
            yield {"kind": kind, "first": first, "second": second, "shots": int(shots), **values}


def _asset(record: Record, shots: int, rows: Sequence[str]) -> Asset:
    own = [draw for draw in record["draws"] if draw["shots"] == shots]
    return Asset(
        is_anomaly=np.array(record["is_anomaly"], dtype=bool),
        is_source=np.array(record["is_source"], dtype=bool),
        redraws={
            row: [Tested(np.array(draw["tests"]), np.array(draw["outcomes"][row]["scores"])) for draw in own]
            for row in rows
        },
    )
