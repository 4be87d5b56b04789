"""What labels prove: intervals that hold for few of them, and how many would be enough."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from engines.evidence import (
    Labels,
    anomalies_to_prove_rate,
    auc_interval,
    labels_to_prove_ranking,
    ranking_interval,
)
from engines.metrics import clopper_pearson
from schemas.errors import InputError


def test_clopper_pearson_is_scipy_s() -> None:
    for hits, trials in ((0, 5), (3, 7), (7, 7), (49, 50)):
        expected = stats.binomtest(hits, trials).proportion_ci(method="exact")
        found = clopper_pearson(hits, trials)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("hits", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_a_rate_of_nothing_is_refused(hits: int, trials: int) -> None:
    with pytest.raises(InputError, match="is no rate"):
        clopper_pearson(hits, trials)


def test_the_interval_holds_the_value_and_narrows_with_clips() -> None:
    for value in (0.0, 0.3, 0.5, 0.9, 1.0):
        few, many = (auc_interval(value, normals=n, anomalies=n) for n in (5, 500))
        assert few.low <= many.low <= value <= many.high <= few.high
    assert auc_interval(0.3, normals=8, anomalies=9).low == pytest.approx(
        1 - auc_interval(0.7, normals=8, anomalies=9).high
    )


def test_each_end_is_hoeffding_s_bound() -> None:
    """By hand: twenty pairs show .9 or more at a true value θ with probability ((θ/.9)^.9 ((1-θ)/.1)^.1)^20 at most."""
    for anomalies, normals in ((20, 20), (20, 900), (900, 20)):
        low = auc_interval(0.9, normals=normals, anomalies=anomalies).low
        assert ((low / 0.9) ** 0.9 * ((1 - low) / 0.1) ** 0.1) ** 20 == pytest.approx(0.025)
    assert auc_interval(1.0, normals=7, anomalies=5).low == pytest.approx(0.025 ** (1 / 5))


def test_a_perfect_value_on_a_handful_of_clips_proves_little() -> None:
    found = auc_interval(1.0, normals=5, anomalies=5)
    assert found.low < 0.5
    assert found.high == 1.0


def test_without_clips_of_a_kind_nothing_is_known() -> None:
    assert ranking_interval("auc", 1.0, Labels(normals=0, anomalies=9)).low == 0.0
    assert ranking_interval("pauc", 1.0, Labels(normals=9, anomalies=9)).low == 0.0, "nine normals, one in ten counts"


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_value_that_is_no_auc_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="lies in 0-1"):
        auc_interval(value, normals=5, anomalies=5)


@pytest.mark.parametrize("truth", [0.8, 0.95])
@pytest.mark.parametrize("clips", [5, 20])
def test_the_lower_end_is_above_the_truth_in_at_most_one_test_set_of_forty(truth: float, clips: int) -> None:
    rng = np.random.default_rng(clips)
    distance = stats.norm.ppf(truth) * np.sqrt(2)
    normal, faulty = rng.normal(size=(1000, clips)), distance + rng.normal(size=(1000, clips))
    values, counts = np.unique((faulty[:, :, None] > normal[:, None]).mean(axis=(1, 2)), return_counts=True)
    above = [auc_interval(float(value), normals=clips, anomalies=clips).low > truth for value in values]
    assert counts[above].sum() <= stats.binom.ppf(0.999, 1000, 0.025)


@pytest.mark.parametrize(
    ("anomalies", "normals", "inaudible", "quieter", "target"),
    [(5, 1000, 0.42, False, 0.8), (5, 1000, 0.21, True, 0.8), (12, 200, 0.22, False, 0.9), (12, 200, 0.11, True, 0.9)],
)
def test_so_it_is_where_some_faults_cannot_be_heard_and_normals_are_many(
    anomalies: int, normals: int, inaudible: float, quieter: bool, target: float
) -> None:
    """Each target lies above the truth; Hanley and McNeil's interval proved the first in 29 of 100 test sets."""
    rng = np.random.default_rng(anomalies)
    sets = 1000
    heard = rng.random((sets, anomalies)) >= inaudible
    unheard = rng.normal(-8.0 if quieter else 0.0, 1.0, (sets, anomalies))
    faulty, normal = np.where(heard, 8.0, unheard), np.sort(rng.normal(size=(sets, normals)))
    values = [np.searchsorted(row, own).sum() / own.size / row.size for row, own in zip(normal, faulty, strict=True)]
    lows = {value: auc_interval(value, normals=normals, anomalies=anomalies).low for value in set(values)}
    proved = sum(lows[value] >= target for value in values)
    assert proved <= stats.binom.ppf(0.999, sets, 0.025)


def test_as_many_clips_as_asked_for_prove_and_one_fewer_does_not() -> None:
    for metric, share in (("auc", 1), ("pauc", 10), ("official", 10)):
        needed = labels_to_prove_ranking(metric, 0.99, 0.95)  # type: ignore[arg-type]
        assert needed is not None
        assert needed.normals == share * needed.anomalies
        assert ranking_interval(metric, 0.99, needed).low >= 0.95  # type: ignore[arg-type]
        fewer = Labels(normals=needed.normals - share, anomalies=needed.anomalies - 1)
        assert ranking_interval(metric, 0.99, fewer).low < 0.95  # type: ignore[arg-type]


def test_a_rate_is_proved_by_the_clips_asked_for() -> None:
    assert anomalies_to_prove_rate(0.0, 0.1) == Labels(normals=0, anomalies=36)
    needed = anomalies_to_prove_rate(0.05, 0.1)
    assert needed is not None
    misses = int(np.ceil(0.05 * needed.anomalies))
    assert clopper_pearson(misses, needed.anomalies).high <= 0.1


def test_no_number_of_labels_proves_what_is_not_so() -> None:
    assert labels_to_prove_ranking("auc", 0.95, 0.95) is None
    assert labels_to_prove_ranking("auc", 0.9, 0.95) is None
    assert labels_to_prove_ranking("auc", 0.9501, 0.95) is None, "nobody records millions"
    assert anomalies_to_prove_rate(0.1, 0.1) is None
