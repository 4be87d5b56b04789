"""What labelled clips prove of a target: intervals that hold for few clips, and how many clips would be enough.

A figure meets a target by evidence when its 95 % interval lies on the right side of the target, not when the figure
does. Two things keep small test sets from proving too much:

- the area under the ROC curve gets, beside the bootstrap's, an interval that holds whatever the scores' distributions
  (`auc_interval`). The bootstrap's has no width where normals and anomalies part completely, which five of each do by
  luck; and intervals from a variance (DeLong; Hanley and McNeil) are too short where a few faults cannot be heard;
- rates are exact (Clopper-Pearson, `engines.metrics.clopper_pearson`).

Conventions: AUCs and rates are 0-1; intervals are 95 %, two-sided, for independent clips.

An AUC over n anomalies and m normals is a mean over pairs, that is a mean over all ways to draw k = min(n, m) disjoint
pairs of the mean over those, each of which is a mean of k independent numbers of 0-1. So Hoeffding's bound of such a
mean holds for it (Hoeffding 1963, section 5): the probability that a true AUC θ < v shows as v or more is at most

    exp(−k · KL(v, θ)),    KL(v, θ) = v log(v / θ) + (1 − v) log((1 − v) / (1 − θ)),

and alike for θ > v shown as v or less. The interval holds the θ for which that is more than 0.025. An AUC of 1 proves
0.025^(1/k): were a share of the faults inaudible, all k would still be heard with that probability, so none can do
better there. For scores of better-natured distributions the interval is wider than it need be: that is the price.

A partial AUC rests on the normals that score highest: up to a false-positive rate f, about f of them. It and
`official`, which contains it, are judged as an AUC over so many fewer normals; no exact method is known for them.

Sources
-------
- W. Hoeffding, "Probability inequalities for sums of bounded random variables", Journal of the American Statistical
  Association 58, 1963: theorem 1 and section 5a (two-sample U-statistics).
- J. A. Hanley and B. J. McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC)
  curve", Radiology 143, 1982 (a variance that assumes exponential scores, not used).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from scipy import optimize, special

from engines.metrics import MAX_FPR, Interval, clopper_pearson
from schemas.errors import InputError

RankingMetric = Literal["auc", "pauc", "official"]

MOST_CLIPS = 1_000_000
"""More labelled clips of a kind than this nobody records: a target so near to the value counts as out of reach."""
_AWAY = 1e-12
_TAIL = 0.025
"""Probability that an end of an interval lies on the wrong side of the truth, at most."""


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
    """95 % interval of an AUC seen as `value`, whatever the scores' distributions: [0, 1] where a kind has no clip.

    Raises
    ------
    InputError : the value is not in 0-1.
    """
    if not 0 <= value <= 1:
        raise InputError(f"an AUC of {value} is none; it lies in 0-1.")
    if min(normals, anomalies) < 1:
        return Interval(low=0.0, high=1.0)

    pairs = min(normals, anomalies)

    def excess(theta: float) -> float:
        return pairs * _divergence(value, theta) + math.log(_TAIL)

    low = 0.0 if value == 0 or excess(_AWAY) <= 0 else float(optimize.brentq(excess, _AWAY, value, xtol=1e-12))
    high = 1.0 if value == 1 or excess(1 - _AWAY) <= 0 else float(optimize.brentq(excess, value, 1 - _AWAY, xtol=1e-12))
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


def _divergence(value: float, theta: float) -> float:
    """Kullback-Leibler divergence of a coin of `theta`, inside 0-1, from one of `value`."""
    return float(special.rel_entr(value, theta) + special.rel_entr(1 - value, 1 - theta))


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
