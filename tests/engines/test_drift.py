"""Drift: its own false verdicts keep their level at every n, rising scores are found, and nothing else is."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from engines.drift import MAX_LEVEL, DriftVerdict, drift_level, judge_drift
from schemas.errors import InputError
from schemas.settings import AlarmPolicy

WINDOW = 200


def policy_at(level: float) -> AlarmPolicy:
    """A policy whose windows may be falsely judged with probability `level`."""
    return AlarmPolicy(drift_alarms_per_year=level * 1440 * 365.25 / WINDOW)


def count_wins(n: int, m: int) -> np.ndarray:
    """Probability of each number of pairs won by m new scores over n others, all orders equally likely: (nm + 1,)."""
    chances = np.zeros(n * m + 1)
    chances[0] = 1.0
    for i in range(1, n + 1):  # the Gaussian binomial coefficient, one factor (1 - q^(m + i)) / (1 - q^i) at a time
        product = chances.copy()
        product[m + i :] -= chances[: -(m + i)]
        for residue in range(i):
            product[residue::i] = np.cumsum(product[residue::i])
        chances = product * i / (m + i)
    return chances


def scores_that_win(pairs: int, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """m new scores and n others, of which the new win exactly so many pairs."""
    wins = np.full(m, pairs // m) + (np.arange(m) < pairs % m)
    return wins - 0.5, np.arange(n, dtype=float)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30, 100])
def test_false_verdicts_under_exchangeability_are_exactly_within_the_level(n: int) -> None:
    """Against the distribution of all orders, counted apart from scipy; no simulation reaches a level of 4e-4."""
    policy, chances = AlarmPolicy(), count_wins(n, WINDOW)
    tail = np.cumsum(chances[::-1])[::-1]
    first = int(np.argmax(tail <= drift_level(policy)))
    assert judge_drift(*scores_that_win(first, n, WINDOW), policy).drifted
    assert not judge_drift(*scores_that_win(first - 1, n, WINDOW), policy).drifted
    assert judge_drift(*scores_that_win(first, n, WINDOW), policy).p_value == pytest.approx(tail[first], rel=1e-6)


@pytest.mark.parametrize("n", [3, 5, 10, 30, 300])
def test_simulated_windows_are_falsely_judged_no_more_often_than_stated(n: int) -> None:
    level, trials, rng = 0.05, 400, np.random.default_rng(n)
    found = sum(
        judge_drift(rng.lognormal(size=WINDOW), rng.lognormal(size=n), policy_at(level)).drifted for _ in range(trials)
    )
    assert 0 < found / trials <= level + 4 * math.sqrt(level * (1 - level) / trials)


def test_ties_only_make_a_verdict_rarer() -> None:
    level, trials, rng = 0.05, 300, np.random.default_rng(0)
    draws = [rng.integers(0, 5, size=WINDOW + 10) for _ in range(trials)]
    found = [judge_drift(row[10:], row[:10], policy_at(level)).drifted for row in draws]
    assert np.mean(found) <= level
    equal = judge_drift(np.zeros(WINDOW), np.zeros(10), AlarmPolicy())
    assert (equal.p_value, equal.statistic, equal.drifted) == (pytest.approx(1.0), 0.0, False)


@pytest.mark.parametrize(("n", "shift", "found"), [(10, 1.0, 0.31), (10, 2.0, 0.99), (30, 1.0, 0.94), (100, 0.5, 0.72)])
def test_power_is_what_the_documentation_says(n: int, shift: float, found: float) -> None:
    trials, rng = 150, np.random.default_rng(n)
    drifted = [
        judge_drift(rng.normal(shift, size=WINDOW), rng.normal(size=n), AlarmPolicy()).drifted for _ in range(trials)
    ]
    assert np.mean(drifted) == pytest.approx(found, abs=4 * math.sqrt(found * (1 - found) / trials) + 0.01)


def test_scores_that_fall_are_no_drift() -> None:
    rng = np.random.default_rng(0)
    verdict = judge_drift(rng.normal(-3, size=WINDOW), rng.normal(size=30), AlarmPolicy())
    assert not verdict.drifted
    assert verdict.p_value > 0.99
    assert verdict.statistic < 0.05


def test_level_spends_the_years_budget_over_the_years_windows() -> None:
    policy = AlarmPolicy()
    assert drift_level(policy) * 1440 * 365.25 / WINDOW == pytest.approx(1.0)
    assert drift_level(AlarmPolicy(drift_alarms_per_year=0.5)) == pytest.approx(drift_level(policy) / 2)
    assert drift_level(AlarmPolicy(clips_per_day=1)) == MAX_LEVEL


def test_one_normal_can_tell_no_drift_and_says_so() -> None:
    verdict = judge_drift(np.full(WINDOW, 99.0), [0.0], AlarmPolicy())
    assert (verdict.can_tell, verdict.drifted) == (False, False)
    assert "too few" in verdict.sentence
    assert judge_drift(np.full(WINDOW, 99.0), [0.0, 0.1], AlarmPolicy()).drifted


def test_a_drifted_machine_is_told_to_recalibrate_with_its_figures() -> None:
    rng = np.random.default_rng(0)
    verdict = judge_drift(rng.normal(3, size=WINDOW), rng.normal(size=30), AlarmPolicy())
    assert verdict.drifted
    assert "Recalibrate" in verdict.sentence
    assert "200 clips" in verdict.sentence
    assert "30 normal recordings" in verdict.sentence
    assert verdict.statistic == pytest.approx(stats.norm.cdf(3 / math.sqrt(2)), abs=0.05)
    text = json.dumps(verdict.model_dump(mode="json"), allow_nan=False)
    assert DriftVerdict.model_validate_json(text) == verdict


def test_order_of_the_clips_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    new, normals = rng.integers(0, 9, size=WINDOW).astype(float), rng.integers(0, 9, size=30).astype(float)
    assert judge_drift(new, normals, AlarmPolicy()) == judge_drift(new[::-1], rng.permutation(normals), AlarmPolicy())


@pytest.mark.parametrize(
    ("scores", "normals", "message"),
    [
        ([], [1.0], "drift compares 0 scores"),
        ([1.0], [], "with 0 of the calibration"),
        ([math.nan], [1.0], r"scores\[0\] is nan"),
        ([1.0], [math.inf], r"calibration\[0\] is inf"),
    ],
)
def test_bad_scores_are_refused_by_name(scores: Any, normals: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        judge_drift(scores, normals, AlarmPolicy())
