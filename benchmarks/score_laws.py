"""The calibration layer alone: scores drawn from known laws, so that the rate of a threshold is known, not counted.

Two questions that no engine's scores answer sharply: how often a threshold or rule really rings, as the law's own upper
tail says, and what clips that depend on their neighbours do to an m-of-n rule. For the second, scores are a stationary
Gaussian autoregression of order one with correlation ρ from clip to clip; at one clip a minute ρ = 0.9 forgets in ten
minutes, 0.99 in two hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

from benchmarks.calibration import ALPHAS, DEFAULT_ALPHA, RULE_ALPHAS, SEED, Floats, Row, policy_of, ringing
from engines.alarm import AlarmRule, AlarmState, advance, choose_alarm_rule
from engines.calibration import alarm_rank, calibrate
from schemas.settings import AlarmPolicy

LAWS: dict[str, Any] = {
    "normal": stats.norm(),
    "gamma, shape 2": stats.gamma(2),
    "lognormal, σ 1": stats.lognorm(1),
    "Student, 3 degrees": stats.t(3),
}
COUNTS = (3, 5, 10, 30, 100, 300, 1439, 4313)
"""The last two carry the default budget on average and at 95 % confidence."""
MODELLED_ALPHAS = (0.05, 0.01, DEFAULT_ALPHA)
CORRELATIONS = (0.0, 0.5, 0.9, 0.99)
RULE_COUNTS = (3, 5, 10, 30, 100, 300)
STREAM_COUNTS = (10, 30, 100)

SETS, MODELLED_SETS, RULE_SETS, STREAM_SETS = 250, 120, 10_000, 300
"""Calibration sets of each law for a conformal and for a modelled threshold, of a rule, and of dependent streams."""


def observe_laws(*, quick: bool = False) -> Iterator[Row]:
    """A row a calibration set, as `benchmarks.calibration.judge` gives them; in `asset` the law, in `engine` "-"."""
    less = 20 if quick else 1
    for number, law in enumerate(LAWS):
        for n in COUNTS:
            yield from _observe_thresholds(law, n, SETS // less, MODELLED_SETS // less, [SEED, number, n])
    for n in RULE_COUNTS:
        yield from _observe_rules(n, RULE_SETS // less)
    for n in STREAM_COUNTS:
        yield from _observe_streams(n, STREAM_SETS // less)


def _observe_thresholds(law: str, n: int, sets: int, modelled_sets: int, seed: list[int]) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    for number in range(sets):
        normals = LAWS[law].rvs(n, random_state=rng)
        for alpha in ALPHAS:
            carried = alarm_rank(n, alpha) > 0
            if not carried and (alpha not in MODELLED_ALPHAS or number >= modelled_sets):
                continue
            policy = policy_of(alpha)
            threshold = calibrate(normals, policy, method="split")
            rate, cadence = float(LAWS[law].sf(threshold.value)), policy.clips_per_day
            bound = threshold.confidence_bound
            yield {
                "part": "laws",
                "asset": law,
                "engine": "-" if carried else law,
                "method": "split",
                "n": n,
                "alpha": alpha,
                "rule": "clip",
                "kind": threshold.kind,
                "certified": threshold.certified,
                "claimed": threshold.alarms_per_day / cadence,
                "observed": rate,
                "clips": np.inf,
                "above": np.nan if bound is None else float(rate > bound / cadence),
                "above_expected": np.nan if bound is None else 1 - policy.confidence,
            }


def _observe_rules(n: int, sets: int) -> Iterator[Row]:
    """Rules of several clips on independent clips; the same for every law, so that of uniform scores is taken."""
    for alpha in RULE_ALPHAS:
        policy = policy_of(alpha)
        rule = _choose_rule(np.random.default_rng([SEED, n]).random(n), policy)
        if rule.rank is None or rule.m == 1:
            continue
        exceed = 1 - _ranked(np.random.default_rng([SEED, n, 1]).random((sets, n)), rule.rank)
        rates = exceed * stats.binom.sf(rule.m - 2, rule.window - 1, exceed)
        cadence = policy.clips_per_day
        bound = np.inf if rule.confidence_bound is None else rule.confidence_bound / cadence
        row = {"part": "laws", "asset": "-", "engine": "-", "method": "split", "n": n, "alpha": alpha, "rule": "m_of_n"}
        row |= {"kind": rule.kind, "certified": rule.certified, "title": f"{rule.m} of {rule.window}"}
        row |= {"claimed": rule.alarms_per_day / cadence, "above_expected": 1 - policy.confidence, "clips": np.inf}
        for rate in rates.tolist():
            yield row | {"observed": rate, "above": float(rate > bound)}


def _choose_rule(normals: Floats, policy: AlarmPolicy) -> AlarmRule:
    policy = policy.model_copy(update={"rule": "m_of_n"})
    return choose_alarm_rule(normals, policy, calibrate(normals, policy, method="split"), method="split")


def _ranked(scores: Floats, rank: int) -> Floats:
    """The rank-th largest score of each set, float64 (sets,), of float64 (sets, n)."""
    place = scores.shape[1] - rank
    return np.asarray(np.partition(scores, place, axis=1)[:, place])


def _observe_streams(n: int, sets: int) -> Iterator[Row]:
    """Default rule and budget on a day of dependent clips; rates are a day's, and so `clips` is 1 day.

    `observed`: clips on which the rule rings. `alarms`: what is left of them by hold-off and re-arming, and
    `alarms_in_a_row` the same where the normals, too, were recorded one after the other, just before the day. `claimed`
    is what the rule expects of independent clips at most, and `dependent` its bound for clips of any dependence.
    """
    policy = AlarmPolicy(rule="m_of_n")
    rule = _choose_rule(np.random.default_rng([SEED, n]).random(n), policy)
    if rule.rank is None:
        return
    clips = round(policy.clips_per_day)
    for correlation in CORRELATIONS:
        rng = np.random.default_rng([SEED, n, round(1000 * correlation)])
        stream = _autoregression(rng, (sets, n + clips), correlation)
        before, day = stream[:, :n], stream[:, n:]
        high = day > _ranked(rng.standard_normal((sets, n)), rule.rank)[:, None]
        in_a_row = day > _ranked(before, rule.rank)[:, None]
        row = {"part": "laws", "asset": "-", "engine": "-", "method": "split", "n": n, "alpha": policy.alpha}
        row |= {"rule": "stream", "kind": rule.kind, "certified": rule.certified, "correlation": correlation}
        row |= {"title": f"{rule.m} of {rule.window}", "claimed": rule.alarms_per_day}
        row |= {"dependent": rule.alarms_per_day_dependent, "clips": 1}
        for number in range(sets):
            rings = ringing(high[number : number + 1], rule.m, rule.window).sum()
            yield row | {
                "observed": float(rings),
                "alarms": _count_alarms(high[number], rule, policy),
                "alarms_in_a_row": _count_alarms(in_a_row[number], rule, policy),
            }


def _autoregression(rng: np.random.Generator, shape: tuple[int, int], correlation: float) -> Floats:
    """Streams with mean 0, variance 1 and `correlation` from clip to clip, along the last axis."""
    noise = rng.standard_normal(shape)
    noise[:, 1:] *= np.sqrt(1 - correlation**2)
    return np.asarray(signal.lfilter([1.0], [1.0, -correlation], noise, axis=1))


def _count_alarms(high: NDArray[np.bool_], rule: AlarmRule, policy: AlarmPolicy) -> float:
    """Alarms that the product raises on a day of clips."""
    if not ringing(high[None], rule.m, rule.window).any() and high[: rule.window].sum() < rule.m:
        return 0.0
    state, start, step = AlarmState(), datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1) / len(high)
    for number, exceeded in enumerate(high.tolist()):
        state, _ = advance(state, rule, policy, exceeded=exceeded, time=start + number * step, clip_id=f"{number}")
    return float(state.raised)
