"""What a page concludes from its figures: is the target met, how sure is the alarm rate, do the tests contradict it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd
import scipy

from engines.alarm import AlarmRule, beta_binomial_rate
from engines.calibration import Threshold
from engines.evidence import Labels, RankingMetric, anomalies_to_prove_rate, labels_to_prove_ranking, ranking_interval
from engines.metrics import AssetMetrics, Interval, clopper_pearson
from schemas.settings import AlarmPolicy, Kpi
from tasks.calibrating import LEAKED

KpiStatus = Literal["met", "not_met", "unproven", "synthetic"]
Sureness = Literal["certified", "estimated", "modelled"]
Advice = Literal["go", "listen", "blind"]

CONTRADICTION_LEVEL = 0.01
"""Probability of so many false alarms under the stated rate, below which the tests contradict it."""

BUDGET_SLACK = 1.05
"""Expected false alarms over the budget, beyond which the page says so; less is the model's rounding."""
GUESSING = 0.5
"""AUC of an engine to which faults sound like normals."""
LABELLED_TO_PROVE = 5
"""Labelled test recordings of each kind below which a figure proves nothing, however good it looks."""


@dataclass(frozen=True)
class KpiVerdict:
    """The customer's target and what was measured.

    `interval` is the 95 % interval that the verdict rests on, where labels give one; `needed` how many labelled test
    recordings of each kind would prove the target at the value seen, None where more labels cannot; `bound` of alarms a
    day what is certified.
    """

    status: KpiStatus
    value: float | None
    interval: Interval | None
    needed: Labels | None = None
    bound: float | None = None


@dataclass(frozen=True)
class Observed:
    """Labelled test recordings, and how many of them are too high."""

    anomalies: int
    hits: int
    normals: int
    false_alarms: int

    @property
    def misses(self) -> int:
        """Anomalies that are not too high."""
        return self.anomalies - self.hits


def judge_kpi(kpi: Kpi, promise: Threshold | AlarmRule, metrics: AssetMetrics, *, synthetic: bool) -> KpiVerdict:
    """Met or not met where the 95 % interval lies wholly on one side of the target, else unproven.

    Of the alarms a day: met where `promise` certifies them, and its bound at confidence where it has one; not met where
    the whole interval of a modelled rate lies beyond. A bound beyond the target says nothing of the rate. Synthetic
    sound proves nothing.
    """
    if kpi.metric == "alarms_per_day":
        verdict = _judge_alarms(kpi.target, promise)
    elif kpi.metric == "miss_rate":
        verdict = _judge_misses(kpi.target, metrics)
    else:
        verdict = _judge_ranking(kpi.metric, kpi.target, metrics)
    return replace(verdict, status="synthetic", needed=None) if synthetic else verdict


def _judge_alarms(target: float, promise: Threshold | AlarmRule) -> KpiVerdict:
    expected, bound, plausible = promise.alarms_per_day, promise.confidence_bound, promise.alarms_per_day_interval
    if plausible is not None and plausible[0] > target:
        return KpiVerdict("not_met", expected, None)
    certified = (expected if bound is None else bound) if promise.certified else None
    met = certified is not None and certified <= target
    return KpiVerdict("met" if met else "unproven", expected, None, bound=certified)


def _judge_misses(target: float, metrics: AssetMetrics) -> KpiVerdict:
    anomalies = labels_of(metrics).anomalies
    if metrics.recall is None:
        return KpiVerdict("unproven", None, None, anomalies_to_prove_rate(0.0, target))
    missed = round((1 - metrics.recall) * anomalies)
    found = clopper_pearson(missed, anomalies)
    if found.high <= target:
        return KpiVerdict("met", missed / anomalies, found)
    if found.low > target:
        return KpiVerdict("not_met", missed / anomalies, found)
    return KpiVerdict("unproven", missed / anomalies, found, anomalies_to_prove_rate(missed / anomalies, target))


def _judge_ranking(metric: RankingMetric, target: float, metrics: AssetMetrics) -> KpiVerdict:
    value, labels = getattr(metrics, metric), labels_of(metrics)
    found = interval_of(metrics, metric)
    if value is None or found is None:
        return KpiVerdict("unproven", None, None, labels_to_prove_ranking(metric, 1.0, target))
    if found.low >= target and min(labels.normals, labels.anomalies) >= LABELLED_TO_PROVE:
        return KpiVerdict("met", value, found)
    if found.high < target:
        return KpiVerdict("not_met", value, found)
    needed = labels_to_prove_ranking(metric, value, target)
    if needed is not None:
        needed = Labels(
            normals=max(needed.normals, LABELLED_TO_PROVE), anomalies=max(needed.anomalies, LABELLED_TO_PROVE)
        )
        if labels.normals >= needed.normals and labels.anomalies >= needed.anomalies:
            # Only the bootstrap leaves it open then, and how many would settle that nobody can say.
            needed = None
    return KpiVerdict("unproven", value, found, needed)


def falls_short(kpi: Kpi, value: float | None) -> bool:
    """Whether what was measured of labelled clips lies on the wrong side of the target, by however little."""
    if value is None or kpi.metric == "alarms_per_day":
        return False
    return value > kpi.target if kpi.metric == "miss_rate" else value < kpi.target


def interval_of(metrics: AssetMetrics, name: str) -> Interval | None:
    """The 95 % interval of a metric: the wider of the bootstrap's and of one that holds for few clips.

    The bootstrap's has no width where normals and anomalies part completely, or where no clip is wrong: by itself it
    tells nothing then, and of a metric that has no other (F1) there is none.
    """
    value, drawn = getattr(metrics, name), metrics.intervals.get(name)
    if value is None:
        return None
    exact = _ranking_bounds(metrics, name, value) or _rate_bounds(metrics, name, value)
    if exact is None:
        return drawn if drawn is not None and drawn.low < drawn.high else None
    if drawn is None:
        return exact
    return Interval(low=min(exact.low, drawn.low), high=max(exact.high, drawn.high))


def _ranking_bounds(metrics: AssetMetrics, name: str, value: float) -> Interval | None:
    """Of an AUC, whatever the scores' distributions; of a domain's, its normals against all faults."""
    labels, counts = labels_of(metrics), metrics.counts
    if name in ("auc", "pauc", "official"):
        return ranking_interval(name, value, labels)
    of_domain = {"auc_source": counts.normal_source, "auc_target": counts.normal_target}
    if name not in of_domain:
        return None
    return ranking_interval("auc", value, Labels(normals=of_domain[name], anomalies=labels.anomalies))


def _rate_bounds(metrics: AssetMetrics, name: str, value: float) -> Interval | None:
    """Of recall and precision by counts, exact; None of a precision of 0, which does not tell how many were high."""
    metric, _, domain = name.partition("_")
    faults = getattr(metrics.counts, f"anomaly_{domain}") if domain else labels_of(metrics).anomalies
    recall = getattr(metrics, f"recall_{domain}" if domain else "recall", None)
    hits = round((recall or 0.0) * faults)
    if metric == "recall" and faults:
        return clopper_pearson(hits, faults)
    return clopper_pearson(hits, round(hits / value)) if metric == "precision" and hits and value else None


def labels_of(metrics: AssetMetrics) -> Labels:
    """Labelled test recordings of each kind, both domains together."""
    counts = metrics.counts
    return Labels(
        normals=counts.normal_source + counts.normal_target, anomalies=counts.anomaly_source + counts.anomaly_target
    )


def how_sure(rule: AlarmRule) -> Sureness:
    """What the false-alarm rate of an alarm rule rests on."""
    if rule.certified:
        return "certified"
    return "modelled" if rule.kind == "gamma_tail" else "estimated"


def too_high(scores: pd.DataFrame, rule: AlarmRule) -> pd.Series:
    """Which rows of a score table count towards an alarm, none with the machine off; bool, indexed like `scores`."""
    return (scores["score"] > rule.clip_threshold) & (scores["state"] != "off")


def learnt_from(scores: pd.DataFrame) -> pd.Series:
    """Which rows are copies of what the asset learnt from, and say nothing; bool, indexed like `scores`."""
    if "notes" not in scores:
        return pd.Series(False, index=scores.index)
    return scores["notes"].fillna("").str.contains(LEAKED)


def observe(scores: pd.DataFrame, rule: AlarmRule) -> Observed:
    """Clips that are too high among the labelled rows of a score table; a fault with the machine off is missed."""
    high, anomaly, normal = too_high(scores, rule), scores["label"] == "anomaly", scores["label"] == "normal"
    return Observed(
        anomalies=int(anomaly.sum()),
        hits=int((anomaly & high).sum()),
        normals=int(normal.sum()),
        false_alarms=int((normal & high).sum()),
    )


def is_blind(scores: pd.DataFrame, rule: AlarmRule) -> bool:
    """Whether there are labelled faults and not one of them is too high."""
    seen = observe(scores, rule)
    return seen.anomalies > 0 and seen.hits == 0


def is_deaf(scores: pd.DataFrame, rule: AlarmRule, metrics: AssetMetrics) -> bool:
    """Whether the alarm is blind because faults sound normal, and not because the threshold stands above them all."""
    found = interval_of(metrics, "auc")
    return is_blind(scores, rule) and (found is None or found.low <= GUESSING)


def contradict(rule: AlarmRule, policy: AlarmPolicy, scores: pd.DataFrame) -> Observed | None:
    """The target's normal tests, where more of them are too high than what is stated makes believable."""
    seen = observe(scores[scores["domain"] == "target"], rule)
    if seen.false_alarms == 0:
        return None
    if rule.rank is not None:
        # Clips judged by one calibration set: the same law that the rule's rate comes from.
        believable = beta_binomial_rate(rule.n_normals, rule.rank, m=seen.false_alarms, window=seen.normals)
    else:
        a_day = max(rule.alarms_per_day, *(rule.alarms_per_day_interval or (0.0,)))
        believable = float(
            scipy.stats.binom.sf(seen.false_alarms - 1, seen.normals, min(1.0, a_day / policy.clips_per_day))
        )
    return seen if believable < CONTRADICTION_LEVEL else None


def advise_on_ringing(rule: AlarmRule, policy: AlarmPolicy, scores: pd.DataFrame) -> Advice:
    """What an operator does when it rings: go, listen to the clip first, or rely on other signs too."""
    if is_blind(scores, rule):
        return "blind"
    too_many = rule.alarms_per_day > BUDGET_SLACK * policy.false_alarms_per_day
    if too_many or how_sure(rule) == "modelled" or contradict(rule, policy, scores) is not None:
        return "listen"
    return "go"
