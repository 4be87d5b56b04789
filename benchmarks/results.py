"""From the scores of all jobs to the figures of quality.json.

A *record* is what one job left: the scores of every row on every draw of one asset (`benchmarks.quality.run_job`). A
figure is the macro mean over the machines of a set for one seed and redraw, and then mean ± standard deviation over
seeds and redraws. `official` over several machines is the harmonic mean over all their values (DCASE 2023).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.intervals import METRICS, Asset, Bootstrap, Scored
from benchmarks.methods import ABLATIONS
from engines.metrics import AssetMetrics, evaluate, macro

NAMES = ("auc", "auc_target", "auc_source", "pauc", "official")
"""Metrics of the tables, in their order."""

KNN = "log-mel kNN"
PEERS = (KNN, "PyOD kNN/{encoder}", "PyOD IForest/{encoder}", "autoencoder MSE", "autoencoder Mahalanobis")

Record = dict[str, Any]


@dataclass(frozen=True)
class Draws:
    """All draws of one set at one number of shots, and the metrics of each row on each: {row: {draw: metrics}}."""

    records: Sequence[Record]
    shots: int

    def of(self, record: Record) -> list[dict[str, Any]]:
        """A record's draws, in the order of redraws."""
        return [draw for draw in record["draws"] if draw["shots"] == self.shots]

    @property
    def rows(self) -> list[str]:
        """Every row, in the order of the tables."""
        return list(
            dict.fromkeys(row for record in self.records for draw in self.of(record) for row in draw["outcomes"])
        )

    def why_not(self, row: str) -> str | None:
        """The usual reason why a row has no scores on some draw; None where it has them on all."""
        outcomes = [draw["outcomes"][row] for record in self.records for draw in self.of(record)]
        reasons = Counter(outcome["why"] for outcome in outcomes if "why" in outcome)
        return reasons.most_common(1)[0][0] if reasons else None

    @property
    def scored(self) -> list[str]:
        """Rows that have scores on every draw."""
        return [row for row in self.rows if self.why_not(row) is None]

    def assets(self) -> list[Asset]:
        """Scores as the bootstrap takes them."""
        return [
            Asset(
                is_anomaly=np.array(record["is_anomaly"], dtype=bool),
                is_source=np.array(record["is_source"], dtype=bool),
                redraws={
                    row: [
                        Scored(np.array(draw["tests"]), np.array(draw["outcomes"][row]["scores"]))
                        for draw in self.of(record)
                    ]
                    for row in self.scored
                },
            )
            for record in self.records
        ]


def summarize(records: Sequence[Record], costs: Mapping[str, Any], *, auto: str) -> dict[str, Any]:
    """All figures of one set. `costs` are those of `benchmarks.quality.run_costs`, `auto` the encoder of `routed`."""
    counts = sorted({draw["shots"] for record in records for draw in record["draws"]})
    by_shots = {str(shots): _summarize_shots(Draws(records, shots), auto) for shots in counts}
    return {"clips": records[0]["counts"], "assets": len(records), "costs": costs, "shots": by_shots}


def _summarize_shots(draws: Draws, auto: str) -> dict[str, Any]:
    rows, machines = {}, {}
    for row in draws.rows:
        why = draws.why_not(row)
        rows[row] = {"why": why} if why else None
        if not why:
            rows[row], machines[row] = _summarize_row(draws, row)
    best = _best_single(rows)
    return {
        "rows": rows,
        "auc_by_machine": machines,
        "routed_to": _count_choices(draws),
        "best_single": best,
        "differences": list(_differences(draws, rows, best, auto)),
    }


def _summarize_row(draws: Draws, row: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Mean and deviation of each metric over seeds and redraws; mean AUC by machine."""
    runs: dict[tuple[int, int], list[AssetMetrics]] = defaultdict(list)
    aucs: dict[str, list[float]] = defaultdict(list)
    for record in draws.records:
        anomaly, domain = np.array(record["is_anomaly"]), np.where(record["is_source"], "source", "target")
        for draw in draws.of(record):
            tests = draw["tests"]
            found = evaluate(draw["outcomes"][row]["scores"], anomaly[tests], domain[tests], bootstrap=0)
            runs[record["seed"], draw["redraw"]].append(found)
            aucs[record["machine"]].append(found.auc if found.auc is not None else np.nan)
    packages = [macro(assets) for assets in runs.values()]
    values = {name: _spread([getattr(package, name) for package in packages]) for name in NAMES}
    return {**values, "runs": len(packages)}, {machine: float(np.mean(values)) for machine, values in aucs.items()}


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"mean": float(np.mean(known)), "sd": float(np.std(known, ddof=1)) if len(known) > 1 else 0.0}


def _best_single(rows: Mapping[str, Any]) -> str | None:
    """The engine, with whichever encoder, of the highest mean AUC: known only afterwards."""
    able = [row for row in rows if is_engine(row) and "why" not in rows[row]]
    return max(able, key=lambda row: float(rows[row]["auc"]["mean"])) if able else None


def is_engine(row: str) -> bool:
    """Whether a row is an engine at its own settings."""
    return row == "c" or (row.startswith(("a/", "b/")) and row.count("/") == 1)


def _count_choices(draws: Draws) -> dict[str, int]:
    chosen = [draw["outcomes"]["routed"]["chose"] for record in draws.records for draw in draws.of(record)]
    return dict(Counter(chosen).most_common())


def pairs(rows: Sequence[str], best: str | None, auto: str) -> Iterator[tuple[str, str, str]]:
    """(kind, first, second) of every difference that is reported, as far as both rows are there."""
    wanted: list[tuple[str, str, str]] = []
    for row in rows:
        engine, _, encoder = row.partition("/")
        if engine in ("a", "b") and is_engine(row):
            wanted += [("peer", row, peer.format(encoder=encoder)) for peer in PEERS]
    wanted += [("peer", "c", KNN)]
    wanted += [("ablation", f"b/{auto}", f"b/{auto}/{title}") for title in ABLATIONS]
    wanted += [("engines", f"b/{auto}", f"a/{auto}"), ("engines", "c", f"b/{auto}")]
    wanted += [("choice", "routed", best or ""), ("choice", "ensemble", "routed")]
    return (pair for pair in wanted if pair[1] in rows and pair[2] in rows)


def _differences(draws: Draws, rows: Mapping[str, Any], best: str | None, auto: str) -> Iterator[dict[str, Any]]:
    bootstrap = Bootstrap(draws.assets())
    resampled = {row: bootstrap.of(row) for row in draws.scored}
    for kind, first, second in pairs(draws.scored, best, auto):
        found = {metric: bootstrap.difference(resampled[first], resampled[second], metric) for metric in METRICS}
        yield {
            "kind": kind,
            "first": first,
            "second": second,
            **{metric: vars(difference) if difference else None for metric, difference in found.items()},
        }
