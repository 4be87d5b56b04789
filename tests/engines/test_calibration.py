"""Calibration: certified rates hold in simulation, p-values and threshold agree, models are called models."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from engines.calibration import (
    FULL_CORRECTION,
    SKEW_RANGE,
    Method,
    Threshold,
    alarm_rank,
    calibrate,
    conformal_p_values,
    decide,
    fit_gamma_tail,
    normals_to_certify,
)
from schemas.errors import InputError
from schemas.settings import AlarmPolicy


def policy_for(alpha: float) -> AlarmPolicy:
    return AlarmPolicy(false_alarms_per_day=alpha * 1440, clips_per_day=1440)


def draw_normals(n: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(4.0, size=n)


# p-values


def test_p_value_counts_the_normals_at_least_as_high() -> None:
    p = conformal_p_values([0.0, 1.0, 2.0, 2.5, 9.0], [1.0, 2.0, 2.0, 3.0])
    np.testing.assert_array_equal(p, np.array([5, 5, 4, 2, 1]) / 5)


@pytest.mark.parametrize("n", [10, 50])
@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5])
def test_a_new_normal_has_a_low_p_value_no_more_often_than_stated(n: int, alpha: float) -> None:
    trials = 20_000
    draws = np.random.default_rng(n).lognormal(size=(trials, n + 1))
    low = sum(conformal_p_values(row[:1], row[1:])[0] <= alpha for row in draws)
    exact = math.floor(alpha * (n + 1) + 1e-9) / (n + 1)
    assert low / trials <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / trials)
    # Without ties the rate is known exactly, so that a rule that never alarms fails here.
    assert low / trials == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / trials))


def test_ties_only_make_p_values_larger() -> None:
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 4, size=(5000, 21)).astype(float)
    low = np.mean([conformal_p_values(row[:1], row[1:])[0] <= 0.2 for row in draws])
    assert low <= 0.2


@given(
    st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30),
    st.lists(st.floats(-5, 5), min_size=2, max_size=10),
)
def test_a_higher_score_never_has_a_higher_p_value(normals: list[float], scores: list[float]) -> None:
    p = conformal_p_values(np.sort(scores), normals)
    assert (np.diff(p) <= 0).all()
    assert p.min() >= 1 / (len(normals) + 1)
    assert p.max() <= 1


# Conformal thresholds


@given(
    st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e3, 1e3)), min_size=1, max_size=60),
    st.lists(st.one_of(st.integers(-4, 4).map(float), st.floats(-1e3, 1e3)), min_size=1, max_size=20),
    st.floats(0.02, 1.0),
)
@example(normals=[0.0], scores=[0.0, 1.0], alpha=1.0)
@example(normals=[1.0] * 19, scores=[1.0, 0.9, 1.1], alpha=0.05)
@settings(max_examples=300)
def test_threshold_and_p_value_decide_alike_ties_included(
    normals: list[float], scores: list[float], alpha: float
) -> None:
    policy = policy_for(alpha)
    if alarm_rank(len(normals), policy.alpha) == 0:
        return
    threshold = calibrate(normals, policy, method="split")
    assert threshold.p_limit is not None
    judged = [*scores, *normals]
    by_p_value = conformal_p_values(judged, normals) <= threshold.p_limit
    np.testing.assert_array_equal(decide(judged, normals, threshold), by_p_value)
    np.testing.assert_array_equal(np.asarray(judged) > threshold.value, by_p_value)


@given(st.integers(1, 5000), st.integers(1, 5000))
@example(n=48, clips=49)  # 1 / 49 * 49 is below 1 in floating point
def test_the_limit_is_the_largest_attainable_p_value_within_alpha(n: int, clips: int) -> None:
    rank = alarm_rank(n, 1 / clips)
    assert rank == min(n, (n + 1) // clips)


def test_threshold_is_the_order_statistic_of_the_definition() -> None:
    normals, alpha = draw_normals(99), 0.05
    threshold = calibrate(normals, policy_for(alpha), method="split")
    assert threshold.value == np.sort(normals)[math.ceil((1 - alpha) * 100) - 1]
    assert threshold.alarms_per_day == pytest.approx(0.05 * 1440)


@pytest.mark.parametrize("n", [20, 57])
def test_certified_rate_holds_on_average_over_calibration_sets(n: int) -> None:
    policy, trials = policy_for(0.06), 4000
    normals = np.random.default_rng(n).gamma(2.0, size=(trials, n))
    values = [calibrate(row, policy, method="split").value for row in normals]
    rates = stats.gamma(2.0).sf(values)
    error = rates.std() / math.sqrt(trials)
    assert rates.mean() <= policy.alpha + 4 * error
    assert rates.mean() == pytest.approx(alarm_rank(n, policy.alpha) / (n + 1), abs=4 * error)


def test_confidence_bound_is_exceeded_by_one_set_in_twenty() -> None:
    policy, trials = policy_for(0.06), 4000
    normals = np.random.default_rng(3).gamma(2.0, size=(trials, 50))
    thresholds = [calibrate(row, policy, method="split") for row in normals]
    bound = thresholds[0].confidence_bound
    assert bound is not None
    rates = stats.gamma(2.0).sf([threshold.value for threshold in thresholds]) * policy.clips_per_day
    assert np.mean(rates > bound) == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / trials))


def test_leave_one_out_nearest_neighbour_scores_are_conservative() -> None:
    """Distance to the nearest normal: a recording added can only lower it, as `monotone` claims."""
    rng = np.random.default_rng(0)
    n, policy, alarms, trials = 20, policy_for(0.1), 0, 3000
    for _ in range(trials):
        points = rng.normal(size=(n + 1, 2))
        distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(n + 1, np.inf))
        leave_one_out, new = distances[:n, :n].min(axis=1), distances[n].min()
        threshold = calibrate(leave_one_out, policy, method="leave_one_out", monotone=True)
        alarms += bool(decide([new], leave_one_out, threshold)[0])
    assert 0 < alarms / trials <= 0.1 + 4 * math.sqrt(0.09 / trials)


@pytest.mark.parametrize(
    ("method", "monotone", "certified", "bounded"),
    [("split", False, True, True), ("leave_one_out", True, True, False), ("leave_one_out", False, False, False)],
)
def test_only_what_the_method_proves_is_claimed(method: Method, monotone: bool, certified: bool, bounded: bool) -> None:
    threshold = calibrate(draw_normals(50), policy_for(0.05), method=method, monotone=monotone)
    assert threshold.certified is certified
    assert (threshold.bound is not None) is certified
    assert (threshold.confidence_bound is not None) is bounded
    assert "exchangeable recordings" in threshold.assumption
    assert ("not certified" in threshold.explanation) is not certified


def test_a_larger_budget_never_raises_the_threshold() -> None:
    normals = draw_normals(30)
    values = [calibrate(normals, policy_for(a), method="split").value for a in np.linspace(0.0005, 1, 60)]
    assert (np.diff(values) <= 0).all()


def test_a_budget_of_every_clip_still_gives_a_finite_threshold() -> None:
    normals = draw_normals(10)
    threshold = calibrate(normals, AlarmPolicy(clips_per_day=1), method="split")
    assert threshold.value == normals.min()


# What would certify


@pytest.mark.parametrize(("clips_per_day", "on_average", "at_confidence"), [(1440, 1439, 4313), (8640, 8639, 25882)])
def test_reference_numbers_of_one_false_alarm_a_day(clips_per_day: int, on_average: int, at_confidence: int) -> None:
    policy = AlarmPolicy(clips_per_day=clips_per_day)
    needed = calibrate(draw_normals(10), policy, method="split").needed
    assert (needed.on_average, needed.at_confidence) == (on_average, at_confidence)
    assert (needed.more_on_average, needed.more_at_confidence) == (on_average - 10, at_confidence - 10)
    assert needed.certifiable_alpha == pytest.approx(1 / 11)
    assert (1 - policy.alpha) ** at_confidence <= 0.05 < (1 - policy.alpha) ** (at_confidence - 1)


def test_the_number_said_to_be_needed_is_exactly_enough() -> None:
    policy = AlarmPolicy()
    kinds = [calibrate(draw_normals(n), policy, method="split").kind for n in (1438, 1439)]
    assert kinds == ["gamma_tail", "conformal"]


@given(st.floats(1e-4, 1.0))
def test_needed_agrees_with_what_calibration_accepts(alpha: float) -> None:
    needed = normals_to_certify(alpha)
    assert alarm_rank(needed, alpha) >= 1
    assert needed == 1 or alarm_rank(needed - 1, alpha) == 0


def test_needed_at_confidence_is_where_the_beta_bound_meets_the_budget() -> None:
    n = normals_to_certify(0.01, confidence=0.95)
    assert stats.beta.ppf(0.95, 1, n) <= 0.01 < stats.beta.ppf(0.95, 1, n - 1)


# Modelled thresholds


def test_too_few_normals_are_modelled_and_never_certified() -> None:
    threshold = calibrate(draw_normals(10), AlarmPolicy(), method="split")
    assert (threshold.kind, threshold.certified) == ("gamma_tail", False)
    assert threshold.bound is None
    assert threshold.confidence_bound is None
    assert threshold.p_limit is None
    assert threshold.tail is not None
    assert threshold.p_floor == pytest.approx(1 / 11)
    assert "10 normal recordings certify at best one false alarm in 11 clips" in threshold.explanation
    assert "1,429 more" in threshold.explanation


@pytest.mark.parametrize("n", [10, 30, 100])
def test_a_modelled_threshold_comes_near_the_budget_on_average_where_the_model_holds(n: int) -> None:
    """Gamma of shape 4: the tail's own family, with the skewness that is assumed before seeing data."""
    policy, truth = AlarmPolicy(), stats.gamma(4.0)
    rates, uncorrected, covered = [], [], []
    for seed in range(150):
        threshold = calibrate(draw_normals(n, seed=seed), policy, method="split")
        assert threshold.tail is not None
        rates.append(truth.sf(threshold.value) * policy.clips_per_day)
        uncorrected.append(truth.sf(threshold.tail.isf(policy.alpha)) * policy.clips_per_day)
        assert threshold.alarms_per_day == pytest.approx(1.0, rel=1e-6)
        assert threshold.alarms_per_day_interval is not None
        low, high = threshold.alarms_per_day_interval
        covered.append(low <= rates[-1] <= high)
    # Within a small factor, as the means of 150 heavy-tailed rates go; the plain α-quantile gives 9, 4 and 2.
    assert 0.3 < np.mean(rates) < 3
    assert np.mean(rates) < 0.75 * np.mean(uncorrected)
    assert np.mean(covered) > 0.85


def test_with_fewer_than_ten_normals_the_excess_over_the_budget_is_stated() -> None:
    few, enough = (calibrate(draw_normals(n), AlarmPolicy(), method="split") for n in (3, FULL_CORRECTION))
    assert few.alarms_per_day > 5
    assert enough.alarms_per_day == pytest.approx(1.0, rel=1e-6)
    assert few.tail is not None
    deviations = (few.value - few.tail.mean) / few.tail.sd
    assert 5 < deviations < 15


def test_tail_is_the_pearson_type_three_of_scipy() -> None:
    tail = fit_gamma_tail(draw_normals(40))
    reference = stats.pearson3(tail.skew, loc=tail.mean, scale=tail.sd)
    scores = np.linspace(-5, 30, 50)
    np.testing.assert_allclose(tail.sf(scores), reference.sf(scores), rtol=1e-9, atol=1e-15)
    assert tail.isf(1e-3) == pytest.approx(reference.isf(1e-3))


@given(st.floats(-50, 50), st.floats(0.01, 100))
@settings(max_examples=25)
def test_a_modelled_threshold_follows_shift_and_scale_of_the_scores(shift: float, scale: float) -> None:
    normals = draw_normals(12)
    plain = calibrate(normals, AlarmPolicy(), method="split")
    moved = calibrate(normals * scale + shift, AlarmPolicy(), method="split")
    # The floor of the spread is relative to the mean, so a shift far beyond the spread is left out here.
    if abs(moved.tail.mean) < 900 * scale:  # type: ignore[union-attr]
        assert moved.value == pytest.approx(plain.value * scale + shift, rel=1e-6, abs=1e-6)


def test_one_wild_normal_widens_the_tail_but_keeps_it_in_its_range() -> None:
    calm = draw_normals(10)
    wild = fit_gamma_tail([*calm, 100.0])
    assert wild.sd > fit_gamma_tail(calm).sd
    assert SKEW_RANGE[0] <= wild.skew <= SKEW_RANGE[1]


@pytest.mark.parametrize("value", [0.0, 0.3, -250.0])
def test_equal_normal_scores_still_give_a_threshold_above_them(value: float) -> None:
    threshold = calibrate([value] * 5, AlarmPolicy(), method="leave_one_out")
    assert threshold.value > value
    assert "all with the same score" in threshold.explanation


def test_three_normals_are_enough_for_a_model_and_two_are_not() -> None:
    assert calibrate([0.1, 0.2, 0.3], AlarmPolicy(), method="leave_one_out").value > 0.3
    with pytest.raises(InputError, match="holds 2 scores and needs at least 3"):
        calibrate([0.1, 0.2], AlarmPolicy(), method="leave_one_out")


def test_calibration_repeats_by_seed() -> None:
    first, again, other = (calibrate(draw_normals(10), AlarmPolicy(), method="split", seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.value != other.value
    assert first.value == pytest.approx(other.value, rel=0.05)


# Decisions, files, refusals


def test_a_modelled_threshold_decides_by_score_alone() -> None:
    normals = draw_normals(10)
    threshold = calibrate(normals, AlarmPolicy(), method="split")
    scores = [threshold.value, np.nextafter(threshold.value, np.inf)]
    np.testing.assert_array_equal(decide(scores, normals, threshold), [False, True])


@pytest.mark.parametrize("alpha", [1 / 1440, 0.1])
def test_a_threshold_refuses_the_scores_of_another_model(alpha: float) -> None:
    normals = draw_normals(20)
    threshold = calibrate(normals, policy_for(alpha), method="split")
    decide([1.0], normals[::-1], threshold)
    for other in (normals[:-1], normals + 0.01):
        with pytest.raises(InputError, match="calibrate again"):
            decide([1.0], other, threshold)


@pytest.mark.parametrize("n", [3, 10, 1439])
@pytest.mark.parametrize("method", ["split", "leave_one_out"])
def test_threshold_file_holds_no_nan_and_reads_back_exactly(n: int, method: Method) -> None:
    threshold = calibrate(draw_normals(n), AlarmPolicy(), method=method)
    text = json.dumps(threshold.model_dump(mode="json"), allow_nan=False)
    assert Threshold.model_validate_json(text) == threshold
    assert Threshold.model_validate_json(threshold.model_dump_json()) == threshold


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calibrate([0.1, math.nan, 0.2], AlarmPolicy(), method="split"), r"normal_scores\[1\] is nan"),
        (lambda: calibrate([], AlarmPolicy(), method="split"), "normal_scores holds 0 scores"),
        (lambda: conformal_p_values([math.inf], [1.0]), r"scores\[0\] is inf"),
        (lambda: conformal_p_values([1.0], [1.0, -math.inf]), r"calibration\[1\] is -inf"),
        (lambda: conformal_p_values([1.0], []), "calibration holds 0 scores"),
        (lambda: fit_gamma_tail([[1.0, 2.0, 3.0]]), r"shape \(1, 3\)"),
    ],
)
def test_bad_scores_are_refused_by_name(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_a_modelled_threshold_names_the_quickest_rule_that_its_normals_carry() -> None:
    told = calibrate(draw_normals(10), AlarmPolicy(), method="split").explanation
    assert "9 would by an alarm on 5 clips in a row" in told
    few = calibrate(draw_normals(3), AlarmPolicy(), method="split").explanation
    assert "5 would by an alarm on 9 clips in a row" in few
    alone = calibrate(draw_normals(3), AlarmPolicy(max_window=1), method="split")
    assert alone.needed.rules == ()
    assert "in a row" not in alone.explanation


def test_a_threshold_filed_before_rules_were_counted_still_reads() -> None:
    threshold = calibrate(draw_normals(10), AlarmPolicy(), method="leave_one_out")
    filed = threshold.model_dump(mode="json")
    del filed["needed"]["rules"]
    assert Threshold.model_validate(filed).needed.rules == ()


def test_only_a_certified_rate_is_called_an_upper_bound() -> None:
    normals, policy = draw_normals(50), policy_for(0.05)
    assert "at most" in calibrate(normals, policy, method="split").explanation
    estimated = calibrate(normals, policy, method="leave_one_out").explanation
    assert "about" in estimated
    assert "at most" not in estimated
