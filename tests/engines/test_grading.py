"""Severity and grade: 50 is above the threshold, nothing falls as scores rise, and bad input is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.calibration import calibrate
from engines.grading import State, grade, judge_clip, severity
from schemas.errors import InputError
from schemas.settings import AlarmPolicy


def policy_for(alpha: float) -> AlarmPolicy:
    return AlarmPolicy(false_alarms_per_day=alpha * 1440)


def draw_normals(n: int) -> np.ndarray:
    return np.random.default_rng(n).gamma(4.0, size=n)


BELOW_ITS_OWN_TAIL = np.append(-3.0, np.random.default_rng(0).exponential(size=500))
"""The lowest of these lies where the tail fitted to them has nothing left to tell apart."""


@pytest.mark.parametrize(
    "normals", [draw_normals(3), draw_normals(10), draw_normals(2000), np.full(5, -0.3), BELOW_ITS_OWN_TAIL]
)
@pytest.mark.parametrize("alpha", [1 / 1440, 0.3, 0.9, 1.0])
def test_from_fifty_on_a_score_is_above_the_threshold_for_every_kind_of_threshold(
    normals: np.ndarray, alpha: float
) -> None:
    threshold = calibrate(normals, policy_for(alpha), method="split")
    at, above, below = severity(
        [threshold.value, np.nextafter(threshold.value, np.inf), np.nextafter(threshold.value, -np.inf)],
        normals,
        threshold,
    )
    assert above >= 50 > 49.9 >= at >= below


def test_a_severity_is_the_number_that_a_page_shows() -> None:
    """49.7 read 50 beside NORMAL once: tenths are rounded down, here and nowhere else."""
    normals = draw_normals(10)
    threshold = calibrate(normals, AlarmPolicy(), method="leave_one_out")
    scores = np.linspace(0, 2 * threshold.value, 5001)
    values = severity(scores, normals, threshold)
    assert [f"{value:.1f}" for value in values] == [repr(float(value)) for value in values]
    assert ((values >= 50) == (scores > threshold.value)).all()


@pytest.mark.parametrize("n", [3, 10, 100])
def test_twice_the_log_improbability_is_critical(n: int) -> None:
    normals = draw_normals(n)
    threshold = calibrate(normals, AlarmPolicy(), method="leave_one_out")
    assert threshold.tail is not None
    twice = threshold.tail.isf(float(threshold.tail.sf(threshold.value)) ** 2)
    assert severity([twice], normals, threshold)[0] in (74.9, 75.0)
    assert severity([np.nextafter(twice, np.inf) * 1.001], normals, threshold)[0] == 75.0


@given(
    st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e3, 1e3)), min_size=3, max_size=40),
    st.lists(st.one_of(st.integers(-4, 4).map(float), st.floats(-1e4, 1e4)), min_size=2, max_size=20),
    st.floats(1e-4, 1.0),
)
@settings(max_examples=150)
def test_severity_never_falls_as_the_score_rises(normals: list[float], scores: list[float], alpha: float) -> None:
    threshold = calibrate(normals, policy_for(alpha), method="split")
    judged = np.sort([*scores, *normals, threshold.value])
    values = severity(judged, normals, threshold)
    assert (np.diff(values) >= -1e-9).all()
    assert values.min() >= 0
    assert values.max() <= 100
    assert (values[judged > threshold.value] >= 50).all()
    assert (values[judged <= threshold.value] < 50).all()


def test_severity_tells_apart_how_far_a_score_is_from_normal() -> None:
    normals = draw_normals(10)
    threshold = calibrate(normals, AlarmPolicy(), method="leave_one_out")
    values = severity(threshold.value * np.array([0.4, 0.7, 1.0, 1.5, 3.0, 1e6]), normals, threshold)
    assert (np.diff(values) > 1).all()
    assert values[-1] == pytest.approx(100)


def test_a_score_far_beyond_what_doubles_resolve_is_a_hundred() -> None:
    outlying = np.append(np.zeros(700_000), 1e9)
    threshold = calibrate(outlying, policy_for(2e-6), method="split")
    assert threshold.value == 1e9
    np.testing.assert_array_equal(severity([1e9], outlying, threshold), [49.9])
    assert np.isfinite(severity([0.0, 1e15], outlying, threshold)).all()


@pytest.mark.parametrize(
    ("value", "alarm", "off", "expected"),
    [
        (10.0, False, False, "NORMAL"),
        (50.0, False, False, "NORMAL"),
        (50.1, True, False, "WARNING"),
        (74.99, True, False, "WARNING"),
        (75.0, True, False, "CRITICAL"),
        (99.0, True, True, "OFF"),
        (40.0, True, False, "WARNING"),
    ],
)
def test_grades(value: float, alarm: bool, off: bool, expected: str) -> None:
    assert grade(value, alarm=alarm, off=off) == expected


@pytest.mark.parametrize(
    ("score", "state", "expected"),
    [
        (0.5, "on", ("normal", "NORMAL", False)),
        (1.5, "not assessed", ("normal", "NORMAL", True)),
        (2.5, "on", ("alarm", "WARNING", True)),
        (2.5, "off", ("off", "OFF", None)),
        (0.5, "not comparable", ("not comparable", "UNKNOWN", None)),
        (1.5, "not comparable", ("not comparable", "UNKNOWN", True)),
        (2.5, "not comparable", ("alarm", "WARNING", True)),
    ],
)
def test_a_low_score_of_another_recorder_is_never_normal_and_a_high_one_still_alarms(
    score: float, state: State, expected: tuple[str, str, bool | None]
) -> None:
    how_severe = 60.0 if score > 2 else 40.0
    assert judge_clip(score, how_severe, state=state, threshold=2.0, clip_threshold=1.0) == expected


@pytest.mark.parametrize(
    ("scores", "normals", "message"),
    [
        ([math.nan], draw_normals(10), r"scores\[0\] is nan"),
        ([1.0], [1.0, 2.0], "holds 2 scores and needs at least 3"),
        ([1.0], [1.0], "holds 1 scores and needs at least 3"),
        ([1.0], draw_normals(11), "calibrate again"),
    ],
)
def test_bad_scores_are_refused_by_name(scores: Any, normals: Any, message: str) -> None:
    threshold = calibrate(draw_normals(10), AlarmPolicy(), method="split")
    with pytest.raises(InputError, match=message):
        severity(scores, normals, threshold)
