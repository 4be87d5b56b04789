"""From scores to what a reader takes in at a glance: severity 0-100, and NORMAL, WARNING, CRITICAL or OFF.

The severity of a score is how improbable it is for a normal recording, measured against the threshold:

    severity(s) = 100 · (1 − 2^(−L(s) / L(t))),    L(s) = −log P(a normal score exceeds s),

with t the threshold and P the gamma tail fitted to the normal scores (`engines.calibration.GammaTail`). So the
threshold is 50 on every machine and twice its log-improbability 75: where the threshold stands at one normal clip in
1,440, 75 stands at one in two million. A conformal p-value could not serve, as it stops at 1 / (n + 1). Beyond the
largest normal score the tail is a model: a severity ranks what was heard, it proves nothing.

Conventions: higher = more anomalous; severities are float64 in [0, 100] and never fall as the score rises.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from engines.calibration import GammaTail, Threshold, fit_gamma_tail, is_calibrated_on
from engines.metrics import FloatArray, validate_scores
from schemas.errors import InputError

Grade = Literal["NORMAL", "WARNING", "CRITICAL", "OFF"]

THRESHOLD_SEVERITY = 50.0
CRITICAL_SEVERITY = 75.0
"""Severity of twice the threshold's log-improbability."""

_LEAST, _MOST = 1e-300, 700.0
"""Log-improbabilities told apart: at 700 doubles end, and a threshold below every normal has none at all."""


def severity(scores: npt.ArrayLike, normal_scores: npt.ArrayLike, threshold: Threshold) -> FloatArray:
    """Severity of each score, float64 (m,) in [0, 100]: above the threshold 50 or more, at it exactly 50.

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
    values = 100 * (1 - np.exp2(-ratio))
    # Which side of the threshold a score is on is decided by the score, not by the rounding of a logarithm.
    above, below = judged > threshold.value, judged < threshold.value
    return np.select(
        [above, below], [np.maximum(values, THRESHOLD_SEVERITY), np.minimum(values, THRESHOLD_SEVERITY)], 50.0
    )


def grade(severity: float, *, alarm: bool, off: bool = False) -> Grade:
    """The grade of one clip.

    Parameters
    ----------
    severity : from `severity`.
    alarm : whether the clip by itself is decided to be one: its score is above the threshold.
    off : whether the machine was off, which outranks everything.
    """
    if off:
        return "OFF"
    if severity >= CRITICAL_SEVERITY:
        return "CRITICAL"
    return "WARNING" if alarm else "NORMAL"


def _log_improbability(tail: GammaTail, scores: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.minimum(-np.log(tail.sf(scores)), _MOST)
