"""From normal scores to an alarm threshold that keeps a stated false-alarm budget.

Only scores of normal recordings are used, those of the target domain; higher is more anomalous. The budget α
is the probability of a false alarm that one clip may have (`AlarmPolicy.alpha`). Two kinds of threshold:

- **conformal**, where n normal scores carry α, that is where α ≥ 1 / (n + 1). With p the conformal p-value,
  P(p ≤ α) ≤ α for a new normal recording. Equal statement in scores: alarm above the ⌈(1 − α)(n + 1)⌉-th
  smallest normal score. No assumption on the distribution, only on exchangeability (and see `calibrate` on
  leave-one-out). This rate is an average over calibration sets: with another set of n normals the threshold,
  and its rate, would be another. For split conformal the rate of one set is itself known, Beta(m, n + 1 − m)
  distributed with m = ⌊α(n + 1)⌋, and `confidence_bound` is its upper quantile.
- **gamma_tail**, where n is too small for that: a shifted gamma distribution (Pearson III) continues the
  scores beyond the largest one. It is a model, never certified. From ten normals on it aims at the budget on
  average over calibration sets; where the model holds, simulation finds one to two times the budget, since
  the shape is estimated too, and where tails are heavier, more. It may lie below the largest normal score.

Units: scores are the engine's own; α and p-values are probabilities a clip; budgets and rates are false
alarms a day at the policy's cadence.

Sources
-------
- V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", 2005, ch. 2 (conformal
  p-values).
- R. Laxhammar, "Conformal Anomaly Detection", PhD thesis, University of Skövde, 2014.
- S. Bates et al., "Testing for outliers with conformal p-values", Annals of Statistics 51, 2023.
- V. Vovk, "Conditional validity of inductive conformal predictors", ACML 2012 (the Beta law of one set).
- R. F. Barber et al., "Predictive inference with the jackknife+", Annals of Statistics 49, 2021 (why plain
  leave-one-out has no guarantee without further assumption, and what comparison of scores would have one, 2α:
  each clip judged by n models, the i-th of which left out recording i, against that recording's own score).
- J. F. Lawless and M. Fredette, "Frequentist prediction intervals and predictive distributions", Biometrika
  92, 2005 (the level of a fitted tail corrected for the fitting).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from engines.metrics import BoolArray, FloatArray, validate_scores
from schemas.errors import InputError
from schemas.settings import AlarmPolicy

Method = Literal["leave_one_out", "leave_group_out", "split"]
_MomentArrays = tuple[FloatArray, FloatArray, FloatArray]

MIN_TAIL_NORMALS = 3
"""Fewest normal scores a tail is fitted to."""
SKEW_RANGE = (0.1, 2.0)
"""Skewness a tail may have: from nearly normal to exponential."""
SKEW_PRIOR, SKEW_PRIOR_WEIGHT = 1.0, 30.0
"""Skewness assumed before seeing data, and the number of scores it weighs as much as: the sample skewness of
ten scores is mostly noise, and biased towards zero, which would make the tail too light."""
FULL_CORRECTION = 10
"""Fewest scores for which a modelled threshold aims at the budget on average. With three, that would take some
forty standard deviations, an alarm that never rings; so fewer scores get the correction that ten have, and
the rate that this leaves is stated."""
RELATIVE_SD_FLOOR, ABSOLUTE_SD_FLOOR = 1e-3, 1e-6
"""Least spread of a tail: a thousandth of the mean's size, and what float32 engines resolve."""

_RESAMPLES = 2000
_MAX_CELLS = 2_000_000
_LOG_SMALLEST_LEVEL = math.log(1e-300)
_ROUNDING = 1e-12
"""Relative slack that lets a budget of 1/1440 be carried by 1439 normals whatever the rounding of 1/1440."""


class RuleNeeded(BaseModel):
    """What would certify the budget by an alarm on m clips in a row, each above every normal recording."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    m: int = Field(description="Clips that must exceed.")
    window: int = Field(description="Clips looked back on; m here, the rule that takes the fewest normals.")
    on_average: int = Field(description="Normal recordings, held out from the engine, that certify it on average.")
    at_confidence: int = Field(description="The same for one calibration set at the policy's confidence.")
    more_on_average: int = Field(description="Of `on_average`, how many are still to record.")
    more_at_confidence: int = Field(description="Of `at_confidence`, how many are still to record.")


class Needed(BaseModel):
    """What would certify the budget, and what the normals at hand certify already."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on_average: int = Field(description="Normal recordings that certify the budget on average.")
    at_confidence: int = Field(
        description="Normal recordings that certify it for one calibration set at the policy's confidence, "
        "by split conformal with the largest of them as threshold."
    )
    more_on_average: int = Field(description="Of `on_average`, how many are still to record.")
    more_at_confidence: int = Field(description="Of `at_confidence`, how many are still to record.")
    certifiable_alpha: FiniteFloat = Field(description="Smallest alpha that today's normals carry, 1/(n + 1).")
    certifiable_alarms_per_day: FiniteFloat = Field(description="The same as false alarms a day.")
    rules: tuple[RuleNeeded, ...] = Field(
        default=(), description="The same by m-of-n alarm rules that the policy allows, from the quickest."
    )


class GammaTail(BaseModel):
    """A shifted gamma distribution (Pearson III) by its moments, in units of the score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: FiniteFloat
    sd: FiniteFloat = Field(gt=0)
    skew: FiniteFloat = Field(gt=0)

    def sf(self, scores: npt.ArrayLike) -> FloatArray:
        """Probability that a normal score exceeds each of `scores`; float64 of their shape."""
        return _standard_sf((np.asarray(scores, dtype=np.float64) - self.mean) / self.sd, self.skew)

    def isf(self, probability: float) -> float:
        """Score that a normal one exceeds with `probability`."""
        return float(self.mean + self.sd * _standard_isf(probability, np.float64(self.skew)))


class Threshold(BaseModel):
    """An alarm threshold with all that is claimed for it; `threshold.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: FiniteFloat = Field(description="A clip alarms when its score is above this.")
    alpha: FiniteFloat = Field(description="Probability of a false alarm a clip that the budget allows.")
    kind: Literal["conformal", "gamma_tail"]
    certified: bool = Field(description="The budget is kept under `assumption` alone, in the sense of `bound`.")
    bound: str | None = Field(description="What sort of bound; None where nothing is certified.")
    assumption: str
    n_normals: int = Field(description="Normal recordings calibrated on.")
    method: Method = Field(description="How their scores were made honest.")
    p_floor: FiniteFloat = Field(description="No p-value can be lower: 1/(n + 1).")
    p_limit: FiniteFloat | None = Field(
        description="A conformal threshold alarms exactly when the p-value is at most this, the largest "
        "attainable p-value within alpha; None for gamma_tail."
    )
    alarms_per_day: FiniteFloat = Field(
        description="False alarms a day expected on average over calibration sets; certified: an upper bound."
    )
    alarms_per_day_interval: tuple[FiniteFloat, FiniteFloat] | None = Field(
        description="Where 95 % of thresholds made this way fall, if the model holds; gamma_tail only."
    )
    confidence_bound: FiniteFloat | None = Field(
        description="False alarms a day of this very threshold, exceeded with probability 1 - confidence at "
        "most; conformal by split only, for independent recordings of one distribution."
    )
    confidence: FiniteFloat = Field(description="Of `confidence_bound` and of `needed`.")
    tail: GammaTail | None = Field(description="The fitted model; gamma_tail only.")
    needed: Needed
    explanation: str = Field(description="One sentence for the operator.")


def conformal_p_values(scores: npt.ArrayLike, calibration: npt.ArrayLike) -> FloatArray:
    """p = (1 + #{calibration ≥ score}) / (n + 1), conservative under ties (Vovk et al. 2005).

    Parameters
    ----------
    scores : (m,) float, the clips to judge.
    calibration : (n,) float, n ≥ 1, scores of normal recordings.

    Returns
    -------
    float64 (m,) in [1/(n + 1), 1].

    Raises
    ------
    InputError : a score is not finite, or there is no calibration score.
    """
    judged = validate_scores(scores)
    normals = np.sort(_validate_normals(calibration, "calibration", at_least=1))
    at_least_as_high = normals.size - np.searchsorted(normals, judged, side="left")
    return np.asarray((1 + at_least_as_high) / (normals.size + 1))


def calibrate(
    normal_scores: npt.ArrayLike,
    policy: AlarmPolicy,
    *,
    method: Method,
    monotone: bool = False,
    seed: int = 0,
) -> Threshold:
    """Set the threshold that keeps the policy's false-alarm budget.

    What is certified where n carries α depends on how the scores were made:

    - "split": these recordings were not used to fit the model. Valid on average, and `confidence_bound`
      holds for this very set.
    - "leave_one_out" and `monotone`: one more recording in the model can only lower a score, so that scores
      against n − 1 recordings stand above those against n. Valid on average, and conservative.
    - "leave_one_out" otherwise, and "leave_group_out" (several recordings left out together): nothing is certified;
      the rate is as good as leaving them out is harmless.

    Where n does not carry α, the threshold is modelled and not certified, whatever the method.

    Parameters
    ----------
    normal_scores : (n,) float, one score a normal recording of the target domain; n ≥ 3 where α < 1/(n + 1).
    policy : budget, cadence and confidence.
    method : how `normal_scores` were made.
    monotone : the engine's claim that a recording added to the model can only lower a score.
    seed : of the resampling behind a modelled threshold.

    Raises
    ------
    InputError : a score is not finite, or there are too few.
    """
    normals = _validate_normals(normal_scores, "normal_scores", at_least=1)
    if alarm_rank(normals.size, policy.alpha) > 0:
        return _conformal_threshold(normals, policy, method=method, monotone=monotone)
    return _gamma_tail_threshold(normals, policy, method=method, seed=seed)


def decide(scores: npt.ArrayLike, calibration: npt.ArrayLike, threshold: Threshold) -> BoolArray:
    """Which clips alarm.

    The decision is score > `threshold.value`. For a conformal threshold that is the same as p-value ≤
    `threshold.p_limit`, ties included. For a modelled threshold p-values are too coarse to decide by.

    Parameters
    ----------
    scores : (m,) float.
    calibration : (n,) float, the normal scores that `threshold` was calibrated on: a threshold read from a
        file must not serve the scores of another model.
    threshold : from `calibrate`.

    Returns
    -------
    bool (m,)

    Raises
    ------
    InputError : a score is not finite, or `threshold` was not calibrated on `calibration`.
    """
    normals = _validate_normals(calibration, "calibration", at_least=1)
    if not is_calibrated_on(threshold, normals):
        raise InputError(
            f"the threshold {threshold.value:.6g} was calibrated on other scores than the {normals.size} "
            f"given (it knew {threshold.n_normals}); calibrate again on these."
        )
    return np.asarray(validate_scores(scores) > threshold.value)


def alarm_rank(n: int, alpha: float) -> int:
    """m = ⌊α(n + 1)⌋, at most n: a clip alarms when its p-value is at most m / (n + 1). 0: n can't carry α.

    The cap keeps the threshold finite: with α = 1 a score at or below every normal one does not alarm.
    """
    return min(n, math.floor(alpha * (n + 1) * (1 + _ROUNDING)))


def normals_to_certify(alpha: float, *, confidence: float | None = None, in_a_row: int = 1) -> int:
    """Fewest normal recordings that carry α, for an alarm on so many clips in a row above all of them.

    On average: the smallest n with 1 / C(n + m, m) ≤ α, m clips in a row; for one clip that is 1 / (n + 1). At a
    confidence: the largest of n scores is exceeded by more than θ of normals with probability (1 − θ)ⁿ (Beta(1, n);
    order statistics as non-parametric tolerance limits, Wilks 1941), and m clips in a row by θᵐ; so the smallest
    n with (1 − α^(1/m))ⁿ ≤ 1 − confidence.

    Parameters
    ----------
    alpha : in (0, 1].
    confidence : in (0, 1), or None for on average.
    in_a_row : m, 1 or more.
    """
    if alpha >= 1:
        return 1
    if confidence is not None:
        theta = alpha ** (1 / in_a_row)
        if theta >= 1:  # an α so near to 1 that its root rounds to it
            return 1
        return max(1, math.ceil(math.log1p(-confidence) / math.log1p(-theta) * (1 - _ROUNDING)))
    needed = 1 / alpha * (1 - _ROUNDING)
    if in_a_row == 1:
        return max(1, math.ceil(needed) - 1)
    low, high = 0, 1
    while math.comb(high + in_a_row, in_a_row) < needed:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if math.comb(middle + in_a_row, in_a_row) >= needed else (middle, high)
    return high


def fit_gamma_tail(normal_scores: npt.ArrayLike) -> GammaTail:
    """Fit a shifted gamma distribution to normal scores by moments.

    Moments, not likelihood: the likelihood of a shifted gamma is unbounded for many small samples. Location
    and scale follow the scores, so engines whose scores are negative or far from zero are fitted alike. The
    skewness is shrunk towards `SKEW_PRIOR` and kept in `SKEW_RANGE`; the standard deviation is at least 0.1 %
    of the mean's size and at least 1e-6, so that equal scores still have a tail.

    Parameters
    ----------
    normal_scores : (n,) float, n ≥ 3.

    Raises
    ------
    InputError : a score is not finite, or fewer than three.
    """
    normals = _validate_normals(normal_scores, "normal_scores", at_least=MIN_TAIL_NORMALS)
    mean, sd, skew = _moments(normals)
    floor = max(RELATIVE_SD_FLOOR * abs(float(mean)), ABSOLUTE_SD_FLOOR)
    return GammaTail(mean=float(mean), sd=max(float(sd), floor), skew=float(skew))


def _conformal_threshold(normals: FloatArray, policy: AlarmPolicy, *, method: Method, monotone: bool) -> Threshold:
    n, rank = normals.size, alarm_rank(normals.size, policy.alpha)
    rate = rank / (n + 1)
    certified = method == "split" or (method == "leave_one_out" and monotone)
    confidence_bound = None
    if method == "split":
        worst = float(scipy.stats.beta.ppf(policy.confidence, rank, n + 1 - rank))
        confidence_bound = worst * policy.clips_per_day
    return Threshold(
        value=float(np.sort(normals)[n - rank]),
        alpha=policy.alpha,
        kind="conformal",
        certified=certified,
        bound="marginal: on average over calibration sets" if certified else None,
        assumption=_name_assumption(method, monotone),
        n_normals=n,
        method=method,
        p_floor=1 / (n + 1),
        p_limit=rate,
        alarms_per_day=rate * policy.clips_per_day,
        alarms_per_day_interval=None,
        confidence_bound=confidence_bound,
        confidence=policy.confidence,
        tail=None,
        needed=_count_needed(n, policy),
        explanation=_explain_conformal(n, rate * policy.clips_per_day, confidence_bound, policy, certified=certified),
    )


def _gamma_tail_threshold(normals: FloatArray, policy: AlarmPolicy, *, method: Method, seed: int) -> Threshold:
    n = normals.size
    tail = fit_gamma_tail(normals)
    level, rates = _predictive_level(tail.skew, n, policy.alpha, seed=seed)
    low, high = (float(rate) * policy.clips_per_day for rate in np.percentile(rates, [2.5, 97.5]))
    expected = float(rates.mean()) * policy.clips_per_day
    needed = _count_needed(n, policy)
    return Threshold(
        value=tail.isf(level),
        alpha=policy.alpha,
        kind="gamma_tail",
        certified=False,
        bound=None,
        assumption="normal scores follow a shifted gamma distribution, also beyond the largest one seen",
        n_normals=n,
        method=method,
        p_floor=1 / (n + 1),
        p_limit=None,
        alarms_per_day=expected,
        alarms_per_day_interval=(low, high),
        confidence_bound=None,
        confidence=policy.confidence,
        tail=tail,
        needed=needed,
        explanation=_explain_gamma_tail(normals, expected, high, policy, needed),
    )


def _predictive_level(skew: float, n: int, alpha: float, *, seed: int) -> tuple[float, FloatArray]:
    """Level of a fitted tail to put the threshold at, and the rates that this gives.

    The α-quantile of a fitted tail is exceeded far more often than α, because the tail is fitted to few
    scores: at α = 1/1440 and n = 10 some ten times as often. So samples of n are drawn from the tail (its
    location and scale do not matter), each is fitted like the real one, and the level is lowered until the
    mean rate over samples is α (Lawless and Fredette 2005; for Gaussian scores this is Student's t prediction
    limit). So α means the same for a modelled threshold as for a conformal one. Below `FULL_CORRECTION`
    scores the level is that of `FULL_CORRECTION`, and the mean rate is above α.

    Returns the level and, float64 (b,), the rate of each sample's threshold at it.
    """
    samples = _resample_moments(skew, max(n, FULL_CORRECTION), seed=seed)

    def log_excess(log_level: float) -> float:
        return math.log(max(float(_rates_at(math.exp(log_level), samples, skew).mean()), 1e-300) / alpha)

    low, high = _LOG_SMALLEST_LEVEL, math.log(alpha)
    # Where even the smallest level alarms too often, or α itself too rarely, the end is the nearest there is.
    if log_excess(low) >= 0:
        level = math.exp(low)
    elif log_excess(high) <= 0:
        level = alpha
    else:
        level = math.exp(scipy.optimize.brentq(log_excess, low, high, xtol=1e-9))
    own_samples = samples if n >= FULL_CORRECTION else _resample_moments(skew, n, seed=seed)
    return level, _rates_at(level, own_samples, skew)


def _rates_at(level: float, samples: _MomentArrays, skew: float) -> FloatArray:
    """How often the Pearson III of `skew` exceeds the threshold of each fitted sample at `level`: (b,)."""
    mean, sd, fitted_skew = samples
    return _standard_sf(mean + sd * _standard_isf(level, fitted_skew), skew)


def _resample_moments(skew: float, n: int, *, seed: int) -> _MomentArrays:
    """Mean, sd and skewness, float64 (b,) each, of samples of n from the standard Pearson III of `skew`."""
    rng = np.random.default_rng(seed)
    shape = 4 / skew**2
    block = max(1, _MAX_CELLS // n)
    moments = []
    for start in range(0, _RESAMPLES, block):
        gammas = rng.standard_gamma(shape, size=(min(block, _RESAMPLES - start), n))
        moments.append(np.stack(_moments((gammas - shape) / math.sqrt(shape))))
    mean, sd, fitted_skew = np.concatenate(moments, axis=1)
    return mean, sd, fitted_skew


def _moments(scores: FloatArray) -> _MomentArrays:
    """Mean, standard deviation and shrunk skewness over the last axis."""
    n = scores.shape[-1]
    mean, sd = scores.mean(axis=-1), scores.std(axis=-1, ddof=1)
    spread = np.where(sd > 0, sd, 1.0)
    sample_skew = (((scores - mean[..., None]) / spread[..., None]) ** 3).mean(axis=-1)
    weight = n / (n + SKEW_PRIOR_WEIGHT)
    skew = np.clip(weight * sample_skew + (1 - weight) * SKEW_PRIOR, *SKEW_RANGE)
    return np.asarray(mean), np.asarray(sd), np.asarray(skew)


def _standard_sf(values: npt.ArrayLike, skew: float) -> FloatArray:
    """Upper tail of the Pearson III with mean 0, standard deviation 1 and `skew`."""
    shape = 4 / skew**2
    return np.asarray(scipy.special.gammaincc(shape, np.maximum(shape + np.sqrt(shape) * np.asarray(values), 0)))


def _standard_isf(probability: float, skew: npt.ArrayLike) -> FloatArray:
    """Value that the Pearson III with mean 0, standard deviation 1 and `skew` exceeds with `probability`."""
    shape = 4 / np.asarray(skew) ** 2
    return np.asarray((scipy.special.gammainccinv(shape, probability) - shape) / np.sqrt(shape))


def _validate_normals(scores: npt.ArrayLike, name: str, *, at_least: int) -> FloatArray:
    normals = validate_scores(scores, name)
    if normals.size < at_least:
        raise InputError(f"{name} holds {normals.size} scores and needs at least {at_least}; record more normal sound.")
    return normals


def is_calibrated_on(threshold: Threshold, normals: FloatArray) -> bool:
    n = normals.size
    if n != threshold.n_normals:
        return False
    if threshold.tail is not None:
        return bool(np.isclose(normals.mean(), threshold.tail.mean, rtol=1e-9, atol=1e-9 * threshold.tail.sd))
    return float(np.sort(normals)[n - alarm_rank(n, threshold.alpha)]) == threshold.value


def _name_assumption(method: Method, monotone: bool) -> str:
    if method == "split":
        return "exchangeable recordings, none of which the model was fitted to"
    if monotone and method == "leave_one_out":
        return "exchangeable recordings, and a recording added to the model can only lower a score"
    return "exchangeable recordings, and leaving one out of the model hardly changes the scores"


def _count_needed(n: int, policy: AlarmPolicy) -> Needed:
    on_average = normals_to_certify(policy.alpha)
    at_confidence = normals_to_certify(policy.alpha, confidence=policy.confidence)
    return Needed(
        on_average=on_average,
        at_confidence=at_confidence,
        more_on_average=max(0, on_average - n),
        more_at_confidence=max(0, at_confidence - n),
        certifiable_alpha=1 / (n + 1),
        certifiable_alarms_per_day=policy.clips_per_day / (n + 1),
        rules=tuple(_count_needed_in_a_row(n, m, policy) for m in range(2, policy.max_window + 1)),
    )


def _count_needed_in_a_row(n: int, m: int, policy: AlarmPolicy) -> RuleNeeded:
    on_average = normals_to_certify(policy.alpha, in_a_row=m)
    at_confidence = normals_to_certify(policy.alpha, confidence=policy.confidence, in_a_row=m)
    return RuleNeeded(
        m=m,
        window=m,
        on_average=on_average,
        at_confidence=at_confidence,
        more_on_average=max(0, on_average - n),
        more_at_confidence=max(0, at_confidence - n),
    )


def explain_cadence(policy: AlarmPolicy) -> str:
    """What every rate of false alarms stands on: a recording is judged by its worst piece, so its length counts."""
    return f"at {policy.clips_per_day:,.6g} recordings a day that are no longer than the normal ones"


def _explain_conformal(
    n: int, alarms_per_day: float, confidence_bound: float | None, policy: AlarmPolicy, *, certified: bool
) -> str:
    at_most, claim = ("at most", "certified by") if certified else ("about", "estimated, not certified, from")
    this_set = ""
    if confidence_bound is not None:
        this_set = f" (with {100 * policy.confidence:.3g} % confidence at most {confidence_bound:.3g})"
    return (
        f"False alarms a day: {at_most} {alarms_per_day:.3g} expected on average{this_set}, {claim} {n:,} normal "
        f"recordings, {explain_cadence(policy)} and as long as recording conditions stay as they were."
    )


def _explain_gamma_tail(normals: FloatArray, expected: float, high: float, policy: AlarmPolicy, needed: Needed) -> str:
    n = normals.size
    budget = policy.alpha * policy.clips_per_day
    equal = " (all with the same score, so their spread is assumed)" if np.ptp(normals) == 0 else ""
    return (
        f"False alarms a day, {explain_cadence(policy)}: about {expected:.3g} expected and up to {high:.3g} plausible"
        f" against a budget of {budget:.3g}, by a model and not certified, as {n:,} normal recordings{equal}"
        f" certify at best one false alarm in {n + 1:,} clips; {needed.more_on_average:,} more would certify the budget"
        f"{_explain_quickest_rule(needed)}, if the engine does not learn from them."
    )


def _explain_quickest_rule(needed: Needed) -> str:
    """The quickest rule that today's normals carry, or the one that needs the fewest more."""
    if not needed.rules:
        return ""
    rule = min(needed.rules, key=lambda rule: (rule.more_on_average, rule.m))
    return f", and {rule.on_average:,} would by an alarm on {rule.m} clips in a row"
