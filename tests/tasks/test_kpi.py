"""A target is met or missed by evidence, not by a figure; and what would be evidence is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from engines.calibration import Threshold, calibrate
from engines.evidence import Labels
from engines.metrics import AssetMetrics, evaluate
from schemas.settings import AlarmPolicy, Kpi
from tasks.report.verdicts import KpiVerdict, judge_kpi


def measured(
    normals: int = 40, anomalies: int = 40, *, apart: float = 1.0, missed: int = 0, source: int = 0
) -> AssetMetrics:
    """Tests of which a share `apart` of the anomalies scores above every normal; the first `missed` do not alarm."""
    scores = np.concatenate([np.linspace(0, 1, normals), np.full(anomalies, 2.0)])
    scores[normals : normals + round((1 - apart) * anomalies)] = -1.0
    is_anomaly = np.arange(normals + anomalies) >= normals
    rang = is_anomaly & (np.arange(normals + anomalies) >= normals + missed)
    domain = np.where(np.arange(normals + anomalies) < source, "source", "target")
    return evaluate(scores, is_anomaly, domain, decisions=rang)


def promised(**how: Any) -> Threshold:
    """A threshold on 100 normals for 20 alarms a day."""
    policy = AlarmPolicy(false_alarms_per_day=20.0)
    return calibrate(np.linspace(0.2, 0.3, 100), policy, method=how.pop("method", "split"), **how)


def judge(kpi: Kpi, metrics: AssetMetrics | None = None, promise: Threshold | None = None) -> KpiVerdict:
    return judge_kpi(kpi, promise or promised(), metrics or measured(), synthetic=False)


AUC = Kpi(metric="auc", target=0.95)


def test_a_figure_beyond_the_target_is_not_enough() -> None:
    few = judge(AUC, measured(10, 10))
    assert (few.status, few.value) == ("unproven", 1.0)
    assert few.interval is not None
    assert few.interval.low < 0.95 < few.interval.high
    assert few.needed == Labels(normals=72, anomalies=72)
    assert judge(AUC, measured(72, 72)).status == "met"
    assert judge(AUC, measured(72, 71)).status == "unproven"
    assert judge(AUC, measured(1000, 71)).status == "unproven", "normals cannot stand in for faults"


def test_a_figure_below_the_target_is_a_miss_only_where_luck_cannot_explain_it() -> None:
    near = judge(AUC, measured(10, 10, apart=0.9))
    assert near.status == "unproven"
    assert near.needed is None, "more labels do not prove what is not so"
    assert judge(AUC, measured(200, 200, apart=0.8)).status == "not_met"


def test_the_bootstrap_s_interval_counts_where_it_is_the_wider_one() -> None:
    metrics = measured()
    wider = metrics.intervals["auc"].model_copy(update={"low": 0.5})
    doubtful = metrics.model_copy(update={"intervals": metrics.intervals | {"auc": wider}})
    found = judge(AUC, doubtful)
    assert found.status == "unproven"
    assert found.interval is not None
    assert found.interval.low == 0.5


@pytest.mark.parametrize("metric", ["pauc", "official"])
def test_a_partial_auc_takes_ten_times_the_normals(metric: Any) -> None:
    kpi = Kpi(metric=metric, target=0.9)
    few = judge(kpi, measured(60, 60, source=30))
    assert few.status == "unproven"
    assert few.needed is not None
    assert few.needed.normals == 10 * few.needed.anomalies
    assert judge(kpi, measured(few.needed.normals, few.needed.anomalies, source=30)).status == "met"


def test_official_without_source_normals_is_unproven() -> None:
    assert judge(Kpi(metric="official", target=0.5), measured(source=0)).value is None
    assert judge(Kpi(metric="official", target=0.5), measured(source=0)).status == "unproven"


def test_misses_are_judged_by_the_exact_interval() -> None:
    kpi = Kpi(metric="miss_rate", target=0.1)
    assert judge(kpi, measured(anomalies=36)).status == "met"
    short = judge(kpi, measured(anomalies=35))
    assert (short.status, short.value, short.needed) == ("unproven", 0.0, Labels(normals=0, anomalies=36))
    assert judge(kpi, measured(anomalies=40, missed=12)).status == "not_met"
    assert judge(kpi, measured(anomalies=40, missed=6)).status == "unproven"


@pytest.mark.parametrize("metric", ["auc", "miss_rate"])
def test_without_labels_it_is_said_how_many_a_perfect_result_would_take(metric: Any) -> None:
    nothing = evaluate([1.0, 2.0], [None, None], ["target", "target"], decisions=[True, False])
    found = judge(Kpi(metric=metric, target=0.95 if metric == "auc" else 0.1), nothing)
    assert (found.status, found.value, found.interval) == ("unproven", None, None)
    assert found.needed == (Labels(normals=72, anomalies=72) if metric == "auc" else Labels(normals=0, anomalies=36))


def test_alarms_a_day_are_met_where_they_are_certified_for_this_very_set() -> None:
    bound = promised().confidence_bound
    assert bound is not None
    expected = promised().alarms_per_day
    assert expected < bound
    for target, status in ((bound + 1, "met"), ((expected + bound) / 2, "unproven"), (expected / 2, "unproven")):
        found = judge(Kpi(metric="alarms_per_day", target=target))
        assert (found.status, found.bound) == (status, bound), "a bound beyond the target says nothing of the rate"
    estimated = promised(method="leave_one_out")
    assert judge(Kpi(metric="alarms_per_day", target=bound + 1), promise=estimated).status == "unproven"


def test_a_modelled_rate_misses_a_target_below_all_that_is_plausible() -> None:
    few = calibrate([0.24, 0.25, 0.27], AlarmPolicy(), method="leave_one_out")
    assert few.alarms_per_day_interval is not None
    low, high = few.alarms_per_day_interval
    assert low < few.alarms_per_day
    inside = (low + few.alarms_per_day) / 2
    for target, status in ((low * 0.9, "not_met"), (inside, "unproven"), (2 * high, "unproven")):
        assert judge(Kpi(metric="alarms_per_day", target=target), promise=few).status == status


@pytest.mark.parametrize("metric", ["auc", "pauc", "official", "miss_rate"])
def test_a_share_of_more_than_one_is_no_target(metric: Any) -> None:
    with pytest.raises(ValidationError, match="lies in 0-1"):
        Kpi(metric=metric, target=95)


@pytest.mark.parametrize("metric", ["auc", "pauc", "official", "alarms_per_day", "miss_rate"])
def test_synthetic_sound_proves_nothing_and_no_number_of_it_would(metric: Any) -> None:
    target = {"alarms_per_day": 1e9, "miss_rate": 1.0}.get(metric, 0.0)
    found = judge_kpi(Kpi(metric=metric, target=target), promised(), measured(source=20), synthetic=True)
    assert (found.status, found.needed) == ("synthetic", None)
    assert found.value is not None
