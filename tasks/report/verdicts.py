"""What a page concludes from its figures: is the target met, how sure is the alarm rate, do the tests contradict it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd
from scipy.stats import binom

from engines.calibration import Threshold
from engines.metrics import AssetMetrics, Interval
from schemas.settings import Kpi

KpiStatus = Literal["met", "not_met", "unproven", "synthetic"]
Sureness = Literal["certified", "estimated", "modelled"]

CONTRADICTION_LEVEL = 0.01
"""Probability of so many false alarms under the stated rate, below which the tests contradict it."""


LABELLED_TO_PROVE = 5
"""Labelled test recordings of each kind below which a figure proves nothing, however good it looks."""


@dataclass(frozen=True)
class KpiVerdict:
    """The customer's target and what was measured; `interval` is the bootstrap's where there is one."""

    status: KpiStatus
    value: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Observed:
    """Alarms on labelled test recordings."""

    anomalies: int
    hits: int
    normals: int
    false_alarms: int

    @property
    def misses(self) -> int:
        """Anomalies that did not ring."""
        return self.anomalies - self.hits


def judge_kpi(kpi: Kpi, threshold: Threshold, metrics: AssetMetrics, *, synthetic: bool) -> KpiVerdict:
    """Met, not met, or unproven: without labels enough, or where the rate is not certified.

    Synthetic sound proves nothing.
    """
    interval: Interval | None = None
    value: float | None
    if kpi.metric == "alarms_per_day":
        value = threshold.alarms_per_day
        good, proven = value <= kpi.target, threshold.certified
    elif kpi.metric == "miss_rate":
        value = None if metrics.recall is None else 1 - metrics.recall
        recall = metrics.intervals.get("recall")
        interval = recall and Interval(low=1 - recall.high, high=1 - recall.low)
        good, proven = value is not None and value <= kpi.target, _enough_labels(metrics)
    else:
        value = getattr(metrics, kpi.metric)
        interval = metrics.intervals.get(kpi.metric)
        good, proven = value is not None and value >= kpi.target, _enough_labels(metrics)
    if synthetic:
        return KpiVerdict("synthetic", value, interval)
    if (good and not proven) or value is None:
        return KpiVerdict("unproven", value, interval)
    return KpiVerdict("met" if good else "not_met", value, interval)


def _enough_labels(metrics: AssetMetrics) -> bool:
    counts = metrics.counts
    normals, anomalies = counts.normal_source + counts.normal_target, counts.anomaly_source + counts.anomaly_target
    return min(normals, anomalies) >= LABELLED_TO_PROVE


def how_sure(threshold: Threshold) -> Sureness:
    """What the false-alarm rate of a threshold rests on."""
    if threshold.certified:
        return "certified"
    return "modelled" if threshold.kind == "gamma_tail" else "estimated"


def observe(scores: pd.DataFrame) -> Observed:
    """Alarms among the labelled rows of a score table."""
    rang = scores["decision"] == "alarm"
    anomaly, normal = scores["label"] == "anomaly", scores["label"] == "normal"
    return Observed(
        anomalies=int(anomaly.sum()),
        hits=int((anomaly & rang).sum()),
        normals=int(normal.sum()),
        false_alarms=int((normal & rang).sum()),
    )


def contradict(threshold: Threshold, scores: pd.DataFrame) -> Observed | None:
    """The target's normal tests, where more of them rang than the highest stated rate makes believable."""
    seen = observe(scores[scores["domain"] == "target"])
    if seen.false_alarms == 0:
        return None
    clips_per_day = budget_and_cadence(threshold)[1]
    a_day = max(
        threshold.alarms_per_day, *(threshold.alarms_per_day_interval or (0.0,)), threshold.confidence_bound or 0
    )
    believable = binom.sf(seen.false_alarms - 1, seen.normals, min(1.0, a_day / clips_per_day))
    return seen if believable < CONTRADICTION_LEVEL else None


def budget_and_cadence(threshold: Threshold) -> tuple[float, float]:
    """False alarms a day that the policy allows, and clips a day, as the threshold knows them."""
    clips_per_day = threshold.needed.certifiable_alarms_per_day / threshold.needed.certifiable_alpha
    return threshold.alpha * clips_per_day, clips_per_day
