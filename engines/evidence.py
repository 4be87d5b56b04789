"""What labelled clips prove of a target: intervals that hold for few clips, and how many clips would be enough.

A figure meets a target by evidence when its 95 % interval lies on the right side of the target, not when the figure
does. Two things keep small test sets from proving too much:

- the area under the ROC curve gets, beside the bootstrap's, an interval that inverts its own variance (`auc_interval`).
  The bootstrap's has no width where normals and anomalies part completely, which five of each do by luck;
- rates are exact (Clopper-Pearson, `engines.metrics.clopper_pearson`).

Conventions: AUCs and rates are 0-1; intervals are 95 %, two-sided, for independent clips.

The variance of an AUC θ over n anomalies and m normals is that of Hanley and McNeil, for exponentially distributed
scores:

    Var(θ) = (θ (1 − θ) + (n − 1)(Q₁ − θ²) + (m − 1)(Q₂ − θ²)) / (n m),    Q₁ = θ / (2 − θ),  Q₂ = 2 θ² / (1 + θ)

The interval holds the θ that lie within 1.96 of their *own* standard deviations of the observed value, n − 1 and m − 1
replaced by their mean (Newcombe's method 5, a score interval as Wilson's is of a rate). In simulations with Gaussian
scores its lower end lies above the truth in fewer than 2.5 % of test sets of 5 + 5 clips and more
(tests/engines/test_evidence.py); it is wider than it need be.

A partial AUC rests on the normals that score highest: up to a false-positive rate f, about f of them. It and
`official`, which contains it, are judged as an AUC over so many fewer normals; no exact method is known for them.

Sources
-------
- J. A. Hanley and B. J. McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC)
  curve", Radiology 143, 1982.
- R. G. Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2:
  asymptotic methods and evaluation", Statistics in Medicine 25, 2006.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from scipy import optimize, stats

from engines.metrics import MAX_FPR, Interval, clopper_pearson
from schemas.errors import InputError

RankingMetric = Literal["auc", "pauc", "official"]

MOST_CLIPS = 1_000_000
"""More labelled clips of a kind than this nobody records: a target so near to the value counts as out of reach."""
_AWAY = 1e-9
_Z = float(stats.norm.isf(0.025))


class Labels(BaseModel):
    """Labelled clips of each kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    normals: int = Field(ge=0)
    anomalies: int = Field(ge=0)


def ranking_interval(metric: RankingMetric, value: float, labels: Labels) -> Interval:
    """95 % interval of `auc`, `pauc` or `official` seen as `value` on so many clips; the whole 0-1 on none.

    Raises
    ------
    InputError : the value is not in 0-1.
    """
    effective = math.floor(labels.normals * _share_of_normals(metric))
    return auc_interval(value, normals=effective, anomalies=labels.anomalies)


def auc_interval(value: float, *, normals: int, anomalies: int) -> Interval:
    """95 % score interval of an AUC seen as `value`: [0, 1] where a kind has no clip.

    Raises
    ------
    InputError : the value is not in 0-1.
    """
    if not 0 <= value <= 1:
        raise InputError(f"an AUC of {value} is none; it lies in 0-1.")
    if min(normals, anomalies) < 1:
        return Interval(low=0.0, high=1.0)

    def distance(theta: float) -> float:
        return abs(value - theta) - _Z * _standard_deviation(theta, normals, anomalies)

    # An AUC of 0 or 1 has no deviation, so that it lies at a distance of 0 from itself: that root is not meant.
    low = 0.0 if value == 0 else float(optimize.brentq(distance, 0.0, min(value, 1 - _AWAY), xtol=1e-12))
    high = 1.0 if value == 1 else float(optimize.brentq(distance, max(value, _AWAY), 1.0, xtol=1e-12))
    return Interval(low=low, high=high)


def labels_to_prove_ranking(metric: RankingMetric, value: float, target: float) -> Labels | None:
    """Fewest clips of each kind, as many normals as anomalies, whose interval is at least `target` at `value`.

    Of `pauc` and `official`, normals are a multiple of that. None where the value does not beat the target, or
    by so little that `MOST_CLIPS` would not prove it. The bootstrap's interval, which a verdict asks too, is as a rule
    the narrower one and then asks for fewer.
    """

    def proves(clips: int) -> bool:
        return auc_interval(value, normals=clips, anomalies=clips).low >= target

    if value <= target or (clips := _fewest(proves)) is None:
        return None
    return Labels(normals=math.ceil(clips / _share_of_normals(metric)), anomalies=clips)


def anomalies_to_prove_rate(rate: float, target: float) -> Labels | None:
    """About the fewest anomalies that prove a miss rate of at most `target` where a share of `rate` of them is missed.

    Misses are rounded up, as nobody sees half a miss; so one clip more may prove less. None as in
    `labels_to_prove_ranking`.
    """

    def proves(clips: int) -> bool:
        return clopper_pearson(math.ceil(rate * clips * (1 - 1e-12)), clips).high <= target

    if rate >= target or (clips := _fewest(proves)) is None:
        return None
    return Labels(normals=0, anomalies=clips)


def _share_of_normals(metric: RankingMetric) -> float:
    return 1.0 if metric == "auc" else MAX_FPR


def _standard_deviation(theta: float, normals: int, anomalies: int) -> float:
    """Of an AUC `theta` (Hanley and McNeil 1982), with both sizes set to their mean where they multiply deviations."""
    mean = (normals + anomalies) / 2 - 1
    first, second = theta / (2 - theta), 2 * theta**2 / (1 + theta)
    variance = theta * (1 - theta) + mean * (first - theta**2) + mean * (second - theta**2)
    return math.sqrt(max(variance, 0.0) / (normals * anomalies))


def _fewest(proves: Callable[[int], bool]) -> int | None:
    """Fewest clips that prove, by doubling and bisection; None beyond `MOST_CLIPS`."""
    enough = 1
    while not proves(enough):
        if enough >= MOST_CLIPS:
            return None
        enough *= 2
    short = enough // 2
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (short, middle) if proves(middle) else (middle, enough)
    return enough
