"""Is a challenger not worse than the champion it would replace? Named criteria, each with value, limit and sentence.

A champion was chosen before and is trusted; a challenger has to show that nothing is lost by it. Asked is

1. **false alarms**: on normals that neither model learnt from, the challenger rings no more often than the champion
   (`engines.routing.count_false_alarms`, each model on its own scores of the same recordings);
2. **stated rate**: what its alarm rule states of false alarms a day keeps the budget, or what the champion's states;
3. **ranking**, where labelled clips allow it: its AUC over the same labelled clips is not lower by more than
   `AUC_MARGIN`, nor lower at all by more than chance explains (paired DeLong test);
4. **faults found**, where labelled faults allow it: its alarm rule counts no fewer of the same faults, but for
   `FOUND_MARGIN` of them, nor fewer at all by more than chance explains (sign test), nor none where the champion's
   counts some.

The hypothesis under test in 3 and 4 is that the challenger is as good as the champion; it is rejected at
`SIGNIFICANCE`, one-sided. That alone would let a bad challenger pass wherever clips are few, since then nothing is
significant: there the margin decides, on what was seen. So few clips cost a good challenger its turn now and then,
which is the cheaper mistake, as the champion stays (docs/decisions/0022). Fewer than `LEAST_LABELLED` clips of a kind
decide nothing.

Conventions: a higher score is more anomalous, scores of different models are never compared with each other, only what
each makes of the same recordings; AUCs and shares are 0-1; clips count as independent.

Sources
-------
- E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
  characteristic curves: a nonparametric approach", Biometrics 44, 1988, equations 5 to 8.
- Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
  Psychometrika 12, 1947; exactly, as a sign test over the faults that one of two finds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from engines.metrics import FloatArray, validate_scores
from engines.routing import MIN_TARGET_NORMALS, count_false_alarms
from schemas.errors import InputError
from schemas.references import Criterion

AUC_MARGIN = 0.02
"""By how much a challenger's AUC may lie below the champion's on the labelled clips at hand."""
FOUND_MARGIN = 0.1
"""Share of the labelled faults that a challenger may miss of those that the champion finds; one fault at least."""
SIGNIFICANCE = 0.05
"""How often a challenger as good as the champion may be called significantly worse, for each question asked."""
LEAST_LABELLED = 5
"""Labelled clips of each kind below which labels decide nothing."""
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Record:
    """What one model makes of the recordings that both are asked about.

    `normal_scores` float64 (n,) of normals, each by the model without it; `test_scores` float64 (m,) of the test clips;
    `found` bool (m,), which of them its alarm rule counts towards an alarm; `alarms_per_day` what that rule states.
    """

    engine: str
    normal_scores: npt.NDArray[np.float64]
    test_scores: npt.NDArray[np.float64]
    found: npt.NDArray[np.bool_]
    alarms_per_day: float


@dataclass(frozen=True)
class PairedAuc:
    """The areas under two ROC curves over the same clips, and what their difference is worth."""

    first: float
    second: float
    standard_error: float
    """Of `difference`."""

    @property
    def difference(self) -> float:
        """Second less first; positive: the second ranks better."""
        return self.second - self.first

    @property
    def p_worse(self) -> float:
        """Probability of a difference as low as this were both as good: one-sided, normal approximation."""
        if self.standard_error <= _ROUNDING:
            return 1.0 if self.difference >= -_ROUNDING else 0.0
        return float(scipy.stats.norm.cdf(self.difference / self.standard_error))


def compare_records(
    champion: Record, challenger: Record, is_anomaly: npt.ArrayLike, *, budget: float
) -> tuple[Criterion, ...]:
    """Every criterion, met or not; those that too few recordings leave open are told and decide nothing.

    Parameters
    ----------
    champion, challenger : what each makes of the same recordings, in the same order.
    is_anomaly : (m,) bool, None or NaN where unlabelled, of the test clips.
    budget : false alarms a day that the alarm policy allows.

    Raises
    ------
    InputError : the two were not asked about the same recordings, or a score is not finite.
    """
    labels = _validate(champion, challenger, is_anomaly)
    return (
        _false_alarms(champion, challenger),
        _stated_rate(champion, challenger, budget),
        _ranking(champion, challenger, labels),
        _faults_found(champion, challenger, labels),
    )


def is_not_worse(criteria: Sequence[Criterion]) -> bool:
    """Whether every criterion that decides is met."""
    return all(criterion.met for criterion in criteria if criterion.decisive)


def explain(criteria: Sequence[Criterion]) -> str:
    """Why a challenger may follow, or why not: what decided."""
    against = [criterion.sentence for criterion in criteria if criterion.decisive and not criterion.met]
    return "; ".join(against or [criterion.sentence for criterion in criteria if criterion.decisive])


def compare_auc(first: npt.ArrayLike, second: npt.ArrayLike, is_anomaly: npt.ArrayLike) -> PairedAuc:
    """AUC of two models over the same clips, with DeLong's standard error of the difference.

    With V10 the share of normals that an anomaly scores above (ties half), V01 the share of anomalies that score above
    a normal, each for both models, the covariance matrix of the two areas is S10 / m + S01 / n, of the sample
    covariances S10 over the m anomalies and S01 over the n normals (DeLong 1988, equations 5 to 8). With one clip of a
    kind its part is taken as zero.

    Parameters
    ----------
    first, second : (n,) float.
    is_anomaly : (n,) bool.

    Raises
    ------
    InputError : lengths differ, a score is not finite, or a class is missing.
    """
    scores = [validate_scores(first, "first"), validate_scores(second, "second")]
    anomaly = np.asarray(is_anomaly, dtype=bool)
    if not scores[0].shape == scores[1].shape == anomaly.shape:
        raise InputError(f"{scores[0].size} and {scores[1].size} scores of {anomaly.size} labels; give as many of each")
    if anomaly.all() or not anomaly.any():
        raise InputError("an AUC needs labelled normals and labelled anomalies")
    above = [_shares_above(values[anomaly], values[~anomaly]) for values in scores]
    of_anomalies, of_normals = (np.stack([each[kind] for each in above]) for kind in (0, 1))
    variance = _variance_of_difference(of_anomalies) + _variance_of_difference(of_normals)
    areas = of_anomalies.mean(axis=1)
    return PairedAuc(float(areas[0]), float(areas[1]), math.sqrt(variance))


def _shares_above(anomalies: FloatArray, normals: FloatArray) -> tuple[FloatArray, FloatArray]:
    """For each anomaly the share of normals below it, for each normal the share of anomalies above it; ties half."""
    low, high = np.sort(normals), np.sort(anomalies)
    below = np.searchsorted(low, anomalies, side="left") + np.searchsorted(low, anomalies, side="right")
    not_above = np.searchsorted(high, normals, side="left") + np.searchsorted(high, normals, side="right")
    return below / (2 * low.size), 1 - not_above / (2 * high.size)


def _variance_of_difference(shares: FloatArray) -> float:
    """Of the mean over clips of two models' shares (2, clips), the variance of the difference."""
    clips = shares.shape[1]
    return float(np.var(shares[1] - shares[0], ddof=1)) / clips if clips > 1 else 0.0


def _validate(champion: Record, challenger: Record, is_anomaly: npt.ArrayLike) -> FloatArray:
    """Labels as float64 (m,): 1 anomaly, 0 normal, NaN unlabelled."""
    raw = np.asarray(is_anomaly, dtype=object)
    labels = np.array([np.nan if label is None or label != label else float(bool(label)) for label in raw.ravel()])
    for record in (champion, challenger):
        validate_scores(record.test_scores, "test_scores")
        validate_scores(record.normal_scores, "normal_scores")
        if not record.test_scores.size == record.found.size == labels.size:
            raise InputError(
                f"{record.test_scores.size} scores and {record.found.size} verdicts of {labels.size} labels; give as"
                " many of each"
            )
    if champion.normal_scores.size != challenger.normal_scores.size:
        raise InputError(
            f"{champion.normal_scores.size} and {challenger.normal_scores.size} normal scores; ask both models about"
            " the same recordings"
        )
    return labels


def _criterion(
    record: Record, name: str, value: float, limit: float, *, met: bool, found: str, decisive: bool = True
) -> Criterion:
    said = f"{'yes' if met else 'no'}: " if decisive else "note: "
    sentence = f"{record.engine.upper()}: {said}{found}"
    return Criterion(
        engine=record.engine, name=name, value=value, limit=limit, met=met, sentence=sentence, decisive=decisive
    )


def _false_alarms(champion: Record, challenger: Record) -> Criterion:
    normals = champion.normal_scores.size
    if normals < MIN_TARGET_NORMALS:
        found = f"{normals} normals that neither model learnt from, {MIN_TARGET_NORMALS} needed"
        return _criterion(challenger, "false_alarms", normals, MIN_TARGET_NORMALS, met=False, found=found)
    before, after = (count_false_alarms(record.normal_scores).rang for record in (champion, challenger))
    found = f"rings on {after} of {normals} normals held out, the champion on {before}"
    return _criterion(challenger, "false_alarms", after, before, met=after <= before, found=found)


def _stated_rate(champion: Record, challenger: Record, budget: float) -> Criterion:
    before, after = champion.alarms_per_day, challenger.alarms_per_day
    limit = max(before, budget)
    met = after <= limit * (1 + _ROUNDING)
    found = f"its rule states {after:.2g} false alarms a day, the champion's {before:.2g}, the budget is {budget:g}"
    return _criterion(challenger, "stated_rate", after, limit, met=met, found=found)


def _ranking(champion: Record, challenger: Record, labels: FloatArray) -> Criterion:
    labelled = ~np.isnan(labels)
    normals, anomalies = int((labels == 0).sum()), int((labels == 1).sum())
    if min(normals, anomalies) < LEAST_LABELLED:
        found = (
            f"{normals} normal and {anomalies} faulty labelled clips say too little of the ranking, {LEAST_LABELLED} of"
            " each needed"
        )
        least = min(normals, anomalies)
        return _criterion(challenger, "auc", least, LEAST_LABELLED, met=False, found=found, decisive=False)
    pair = compare_auc(champion.test_scores[labelled], challenger.test_scores[labelled], labels[labelled] == 1)
    within, by_chance = pair.difference >= -AUC_MARGIN - _ROUNDING, pair.p_worse >= SIGNIFICANCE
    found = (
        f"AUC {pair.second:.3f} on {normals} normal and {anomalies} faulty clips, the champion's {pair.first:.3f}:"
        f" {_difference(pair.difference)}, p {pair.p_worse:.2g}"
    )
    met = within and (by_chance or pair.difference >= 0)
    return _criterion(challenger, "auc", pair.difference, -AUC_MARGIN, met=met, found=found)


def _difference(value: float) -> str:
    rounded = f"{abs(value):.3f}"
    if float(rounded) == 0:
        return "no difference"
    return f"{rounded} {'more' if value > 0 else 'less'}"


def _faults_found(champion: Record, challenger: Record, labels: FloatArray) -> Criterion:
    faulty = labels == 1
    faults = int(faulty.sum())
    before, after = champion.found[faulty], challenger.found[faulty]
    found = f"its rule counts {after.sum()} of {faults} labelled faults, the champion's {before.sum()}"
    if faults < LEAST_LABELLED:
        found += f"; {LEAST_LABELLED} needed to decide by"
        return _criterion(challenger, "found", faults, LEAST_LABELLED, met=False, found=found, decisive=False)
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    allowed = max(1, math.floor(FOUND_MARGIN * faults))
    by_chance = lost == 0 or float(scipy.stats.binom.sf(lost - 1, lost + won, 0.5)) >= SIGNIFICANCE
    deaf = bool(before.any()) and not after.any()
    met = lost - won <= allowed and by_chance and not deaf
    return _criterion(challenger, "found", float(won - lost), -float(allowed), met=met, found=found)
