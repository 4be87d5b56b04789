"""Whether a machine that counts as normal still sounds like what its alarm was calibrated on.

The scores of a window of clips presumed normal are compared with the calibration's normal scores by the
Wilcoxon-Mann-Whitney test. One-sided: scores that rise make false alarms, and scores that fall make none.

The null hypothesis is that the n normal scores and those of the window are exchangeable, all taken together. Then
every order of them is equally likely, and the p-value is valid whatever their distribution and however small n is;
`DriftVerdict.level` is the probability of a false verdict that a window may have. Windows do not overlap, so by
linearity of the expectation the false verdicts a year are at most (windows a year) · level, on average over
calibration sets: windows share theirs, so a machine with an unlucky calibration gets more of them and most get none.
Clips in close succession are alike, and then a window says less than its count suggests: see docs/calibration.md.

Ties are broken against drift: a new score counts as higher only where it is. A verdict never changes a threshold.

Units: scores are the engine's own, higher = more anomalous.

Sources
-------
- H. B. Mann and D. R. Whitney, "On a test of whether one of two random variables is stochastically larger than
  the other", Annals of Mathematical Statistics 18, 1947.
- A. Löffler, "Über eine Partition der nat. Zahlen und ihre Anwendung beim U-Test", 1982 (scipy's exact p-value).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from engines.metrics import FloatArray, validate_scores
from schemas.errors import InputError
from schemas.settings import AlarmPolicy

DAYS_A_YEAR = 365.25
MAX_LEVEL = 0.05
"""A seldom heard machine has few windows a year; yet a false verdict in more than one of twenty informs nobody."""

_EXACT_PAIRS = 20_000
"""Pairs of scores up to which the exact distribution takes less than 0.1 s. Beyond, the normal one stands in: its
p-values are up to 6 % too large at levels near 4e-4, 1 % at 0.01, and 0.1 % too small at 0.05."""


class DriftVerdict(BaseModel):
    """What one window of clips says about the calibration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    p_value: FiniteFloat = Field(description="Probability of so high a statistic where nothing has drifted.")
    statistic: FiniteFloat = Field(description="Share of pairs in which the new score is above the calibration's.")
    level: FiniteFloat = Field(description="The machine counts as drifted when the p-value is at most this.")
    n: int = Field(description="Clips compared.")
    n_calibration: int = Field(description="Normal scores they are compared with.")
    can_tell: bool = Field(description="Whether n and n_calibration allow a p-value as low as the level at all.")
    drifted: bool
    sentence: str = Field(description="For the operator.")


def drift_level(policy: AlarmPolicy) -> float:
    """Probability of a false verdict that a window may have, so that a year keeps the policy's budget."""
    windows_a_year = policy.clips_per_day * DAYS_A_YEAR / policy.drift_window
    return min(MAX_LEVEL, policy.drift_alarms_per_year / windows_a_year)


def judge_drift(scores: npt.ArrayLike, calibration: npt.ArrayLike, policy: AlarmPolicy) -> DriftVerdict:
    """Compare the scores of one window with the calibration's.

    Parameters
    ----------
    scores : (m,) float, m ≥ 1; `policy.drift_window` clips presumed normal, none of them in another window.
    calibration : (n,) float, n ≥ 1, the normal scores of the model.
    policy : budget of false verdicts, cadence and window.

    Raises
    ------
    InputError : a score is not finite, or there is none on one side.
    """
    new, normals = validate_scores(scores), validate_scores(calibration, "calibration")
    if not new.size or not normals.size:
        raise InputError(
            f"drift compares {new.size} scores with {normals.size} of the calibration; at least one each is needed."
        )
    ranks = _rank_against_drift(new, normals)
    pairs = new.size * normals.size
    how: Literal["exact", "asymptotic"] = "exact" if pairs <= _EXACT_PAIRS else "asymptotic"
    result = scipy.stats.mannwhitneyu(ranks[: new.size], ranks[new.size :], alternative="greater", method=how)
    level, p_value = drift_level(policy), float(result.pvalue)
    can_tell = 1 / math.comb(new.size + normals.size, normals.size) <= level
    return DriftVerdict(
        p_value=p_value,
        statistic=float(result.statistic) / pairs,
        level=level,
        n=new.size,
        n_calibration=normals.size,
        can_tell=can_tell,
        drifted=p_value <= level,
        sentence=_tell(float(result.statistic) / pairs, p_value, level, new.size, normals.size, can_tell=can_tell),
    )


def _rank_against_drift(new: FloatArray, normals: FloatArray) -> FloatArray:
    """Ranks without ties of both, new first, float64 (m + n,); of equal scores the calibration's rank higher."""
    scores = np.concatenate([new, normals])
    is_calibration = np.arange(scores.size) >= new.size
    ranks = np.empty(scores.size)
    ranks[np.lexsort((is_calibration, scores))] = np.arange(scores.size)
    return ranks


def _tell(statistic: float, p_value: float, level: float, m: int, n: int, *, can_tell: bool) -> str:
    if not can_tell:
        return f"{m:,} clips and {n:,} normal recordings are too few to tell drift at level {level:.2g}."
    compared = (
        f"{m:,} clips taken as normal score above the calibration's {n:,} normal recordings in {100 * statistic:.3g} %"
        f" of pairs (p = {p_value:.2g}, level {level:.2g})"
    )
    if p_value <= level:
        return f"{compared}: the machine or its surroundings have changed. Recalibrate on new normal recordings."
    return f"{compared}: no sign that the sound of normal running has moved."
