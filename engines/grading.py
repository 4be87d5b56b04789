"""From scores to what a reader takes in at a glance: severity 0-100, and NORMAL, WARNING, CRITICAL or OFF.

The severity of a score is how improbable it is for a normal recording, measured against the threshold:

    severity(s) = 100 · (1 − 2^(−L(s) / L(t))),    L(s) = −log P(a normal score exceeds s),

rounded down to a tenth, so that every place that shows it shows the same number: from 50 on exactly where the score is
above the threshold, and 49.9 at most where it is not. Here t is the threshold and P the gamma tail fitted to the normal
scores (`engines.calibration.GammaTail`). So the threshold is at 50 on every machine and twice its log-improbability at
75: where the threshold stands at one normal clip in 1,440, 75 stands at one in two million. A conformal p-value could
not serve, as it stops at 1 / (n + 1). Beyond the largest normal score the tail is a model: a severity ranks what was
heard, it proves nothing.

Conventions: higher = more anomalous; severities are float64 in [0, 100] and never fall as the score rises.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from engines.calibration import GammaTail, Threshold, fit_gamma_tail, is_calibrated_on
from engines.metrics import FloatArray, validate_scores
from schemas.errors import InputError

Grade = Literal["NORMAL", "WARNING", "CRITICAL", "OFF", "UNKNOWN"]
"""UNKNOWN: nothing high was heard, by a recorder that cannot be compared with the one that was calibrated on."""
State = Literal["on", "off", "not assessed", "not comparable"]
"""Of the machine in a recording; `not comparable`: of the recorder (`engines.comparability`)."""
Decision = Literal["alarm", "normal", "off", "not comparable"]

THRESHOLD_SEVERITY = 50.0
CRITICAL_SEVERITY = 75.0
"""Severity of twice the threshold's log-improbability."""
STEPS = 10
"""Severities told apart between one number and the next."""

_ROUNDING = 1e-12
"""Relative slack that lets an exact tenth stay one."""
_LEAST, _MOST = 1e-300, 700.0
"""Log-improbabilities told apart: at 700 doubles end, and a threshold below every normal has none at all."""


def severity(scores: npt.ArrayLike, normal_scores: npt.ArrayLike, threshold: Threshold) -> FloatArray:
    """Severity of each score, float64 (m,), tenths in [0, 100]: 50 or more exactly where it is above the threshold.

    Parameters
    ----------
    scores : (m,) float.
    normal_scores : (n,) float, n ≥ 3, those that `threshold` was calibrated on.
    threshold : from `engines.calibration.calibrate`, of either kind.

    Raises
    ------
    InputError : a score is not finite, there are fewer than three normal ones (no tail is fitted to those), or
        `threshold` was calibrated on others.
    """
    judged = validate_scores(scores)
    tail = fit_gamma_tail(normal_scores)
    if not is_calibrated_on(threshold, validate_scores(normal_scores, "normal_scores")):
        raise InputError(
            f"the threshold {threshold.value:.6g} was calibrated on other scores than those given (it knew"
            f" {threshold.n_normals}); calibrate again on these."
        )
    at_threshold = _log_improbability(tail, np.array([threshold.value]))[0]
    ratio = _log_improbability(tail, judged) / max(at_threshold, _LEAST)
    values = np.floor(STEPS * 100 * (1 - np.exp2(-ratio)) * (1 + _ROUNDING)) / STEPS
    # Which side of the threshold a score is on is decided by the score, not by the rounding of a logarithm.
    least_above, most_below = THRESHOLD_SEVERITY, THRESHOLD_SEVERITY - 1 / STEPS
    above = judged > threshold.value
    return np.asarray(np.where(above, np.maximum(values, least_above), np.minimum(values, most_below)))


def grade(severity: float, *, alarm: bool, off: bool = False, comparable: bool = True) -> Grade:
    """The grade of one clip.

    Parameters
    ----------
    severity : from `severity`.
    alarm : whether the clip by itself is decided to be one: its score is above the threshold.
    off : whether the machine was off, which outranks everything.
    comparable : whether a low score says that the machine sounds normal; without that, nothing is NORMAL.
    """
    if off:
        return "OFF"
    if severity >= CRITICAL_SEVERITY:
        return "CRITICAL"
    if alarm:
        return "WARNING"
    return "NORMAL" if comparable else "UNKNOWN"


class ClipVerdict(NamedTuple):
    """What one clip by itself amounts to; `exceeded` is what `engines.alarm.advance` takes."""

    decision: Decision
    grade: Grade
    exceeded: bool | None


def judge_clip(score: float, severity: float, *, state: State, threshold: float, clip_threshold: float) -> ClipVerdict:
    """Decision, grade and what the alarm rule makes of one clip.

    A clip of an incomparable recorder alarms like any other where its score is high: a fault may be what makes it
    louder. Where the score is low it is neither normal nor enters the window of the rule.

    Parameters
    ----------
    score, severity : of the clip; its severity by `severity`.
    state : of the machine in it.
    threshold : above it the clip by itself is an alarm (`Threshold.value`).
    clip_threshold : above it the clip counts for the rule (`AlarmRule.clip_threshold`).
    """
    if state == "off":
        return ClipVerdict("off", "OFF", None)
    comparable, high = state != "not comparable", score > threshold
    exceeds = score > clip_threshold
    return ClipVerdict(
        "alarm" if high else "normal" if comparable else "not comparable",
        grade(severity, alarm=high, comparable=comparable),
        exceeds if exceeds or comparable else None,
    )


def _log_improbability(tail: GammaTail, scores: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.minimum(-np.log(tail.sf(scores)), _MOST)
