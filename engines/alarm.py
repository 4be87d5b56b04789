"""From judged clips to alarms: how many high clips make one, at what rate normal sound does, and when it ends.

An *alarm rule* is m of n: a clip *exceeds* when its score is above `AlarmRule.clip_threshold`, and an alarm is
raised on a clip that exceeds when at least m of the last `window` judged clips did, itself among them. One of
one is the clip rule of `engines.calibration`. m-of-n buys what few normals cannot give at once: ten normals
cannot say "one in 1,440", but five clips in a row above all of them are that rare.

Rates
-----
The clips of a window share one calibration set, so their exceedances are dependent: with θ the probability
that a clip exceeds the rank-th largest of n normal scores, θ ~ Beta(rank, n + 1 − rank) over calibration sets,
and the number J of `window` clips that exceed is Beta-binomial (`beta_binomial_rate`), not binomial with
rank / (n + 1). Needed: the n normals and the clips of a window are *jointly* exchangeable. Ties only lower it.

An alarm starts on a clip that exceeds and finds m − 1 others in its window. By exchangeability that has
probability E[J · 1(J ≥ m)] / window ≤ P(J ≥ m) for each clip (`raise_rate`), so by linearity of the expectation

    E[alarms a day] ≤ clips_per_day · E[J · 1(J ≥ m)] / window ≤ clips_per_day · P(J ≥ m),

however the windows overlap. Hold-off and re-arming only take alarms away.

By split calibration this is certified. Leave-one-out scores do not carry it even where they carry the clip rule
(`monotone`): each normal was judged by its own model and the clips of a window all by one, which makes them
more alike; for nearest-neighbour scores simulation finds up to 2.4 times the rate (docs/calibration.md).

Consecutive clips of one machine depend on each other beyond the shared calibration set, and a run of similar
clips rings more often than this. What holds then, for clips that are exchangeable with the normals one by one:
an alarm uses up m clips that exceed, as its end empties the window, so there are at most clips_per_day ·
rank / (n + 1) / m expected a day; and hold-off and re-arming allow only so many, whatever happens. The smallest
of these is `AlarmRule.alarms_per_day_dependent`.

A clip here is a recording, judged by the score of its worst piece. All of the above is of recordings that have no more
pieces than the normal ones, `clips_per_day` of them a day; longer or more frequent ones ring more often.

Units: scores are the engine's own; rates are probabilities; alarms are counted a day at the policy's cadence;
times are seconds.

Sources
-------
- S. S. Wilks, "Determination of sample sizes for setting tolerance limits", 1941 (the Beta law of θ).
- A. Marques F., "Universal distribution of the empirical coverage in split conformal prediction", 2023
  (arXiv:2303.02770: the Beta-binomial law of several clips judged by one calibration set).
- S. Bates et al., "Testing for outliers with conformal p-values", Annals of Statistics 51, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat

from engines.calibration import Method, Threshold, explain_cadence, is_calibrated_on
from engines.metrics import FloatArray, validate_scores
from schemas.errors import InputError
from schemas.settings import AlarmPolicy

Phase = Literal["armed", "alarm", "hold_off"]

SECONDS_A_DAY = 86_400.0
CADENCE_SLACK = 1.1
"""How much faster than stated recordings may come: clocks jitter."""


class AlarmRule(BaseModel):
    """How many high clips make an alarm, with all that is claimed for it; `alarm_rule.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    m: int = Field(ge=1, description="Clips of a window that must exceed.")
    window: int = Field(ge=1, description="Judged clips looked back on, the newest among them.")
    clip_threshold: FiniteFloat = Field(description="A clip exceeds when its score is above this.")
    rank: int | None = Field(description="`clip_threshold` is the rank-th largest normal score; None for gamma_tail.")
    p_limit: FiniteFloat | None = Field(
        description="A clip exceeds exactly when its p-value is at most this; None for gamma_tail."
    )
    kind: Literal["conformal", "gamma_tail"]
    rate: FiniteFloat = Field(description="Probability that a window of normal clips rings; certified: at most.")
    alarms_per_day: FiniteFloat = Field(
        description="False alarms a day expected at the cadence, on average over calibration sets and before hold-off;"
        " certified: at most."
    )
    alarms_per_day_interval: tuple[FiniteFloat, FiniteFloat] | None = Field(
        description="Where 95 % of thresholds made this way fall, if the model holds; gamma_tail only."
    )
    alarms_per_day_dependent: FiniteFloat = Field(
        description="False alarms a day at most in the long run, however much clips depend on their neighbours."
    )
    confidence_bound: FiniteFloat | None = Field(
        description="False alarms a day by this very set of normals, exceeded with probability 1 - confidence at"
        " most; conformal by split only, for independent clips of one distribution."
    )
    confidence: FiniteFloat = Field(description="Of `confidence_bound`.")
    certified: bool = Field(description="The budget is kept under `assumption` alone, in the sense of `bound`.")
    bound: str | None = Field(description="What sort of bound; None where nothing is certified.")
    assumption: str
    delay_clips: int = Field(description="Clips from the first that exceeds to the alarm, where all of them exceed.")
    delay_s: FiniteFloat = Field(description="The same at the cadence, in seconds.")
    n_normals: int = Field(description="Normal recordings calibrated on.")
    method: Method = Field(description="How their scores were made honest.")
    explanation: str = Field(description="One sentence for the operator.")


class RecentClip(BaseModel):
    """A judged clip of the window."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_id: str
    exceeded: bool


class AlarmState(BaseModel):
    """All that is carried from one clip of a machine to the next; goes through JSON unchanged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Phase = Field(default="armed", description="`hold_off`: the alarm is over, and no other may be raised yet.")
    since: AwareDatetime | None = Field(default=None, description="Time of the clip on which the phase began.")
    recent: tuple[RecentClip, ...] = Field(default=(), description="Judged clips, oldest first, one window at most.")
    quiet_clips: int = Field(default=0, ge=0, description="Judged clips in a row that did not exceed.")
    raised_at: AwareDatetime | None = Field(default=None, description="Time of the clip that raised the last alarm.")
    cleared_at: AwareDatetime | None = Field(default=None, description="Time of the clip that ended it.")
    held_s: FiniteFloat = Field(default=0.0, ge=0, description="Time that passed since the last alarm was raised.")
    last_time: AwareDatetime | None = Field(default=None, description="Time of the last clip seen.")
    last_clip_id: str | None = Field(default=None, description="The last clip seen.")
    seen: int = Field(default=0, ge=0, description="Clips seen.")
    judged: int = Field(default=0, ge=0, description="Of these, clips that entered the window.")
    raised: int = Field(default=0, ge=0, description="Alarms raised.")
    suppressed: int = Field(default=0, ge=0, description="Clips that hold-off kept from raising an alarm.")


class Transition(BaseModel):
    """An alarm that began or ended on a clip."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["raised", "cleared"]
    time: AwareDatetime
    clip_id: str
    number: int = Field(description="Which alarm of this state, from 1; the same for `raised` and `cleared`.")
    clips: tuple[str, ...] = Field(description="The window's clips that exceeded, oldest first.")


def beta_binomial_rate(n: int, rank: int, *, m: int, window: int) -> float:
    """Probability that at least m of `window` normal clips exceed the rank-th largest of n normal scores.

    Exact for jointly exchangeable clips and normals without ties; with ties the rate is lower. All of them of
    rank 1: 1 / C(n + m, m).

    Parameters
    ----------
    n : normal scores; 1 or more.
    rank : 1 to n; 1 is the largest normal score.
    m, window : 1 ≤ m ≤ window.

    Raises
    ------
    InputError : a number is out of its range.
    """
    return float(_exceedances(n, rank, m=m, window=window).sum())


def raise_rate(n: int, rank: int, *, m: int, window: int) -> float:
    """Probability that a normal clip exceeds and finds m − 1 others that do among the `window` − 1 before it.

    Parameters and errors as in `beta_binomial_rate`, which it never exceeds.
    """
    counts = np.arange(m, window + 1)
    return float((_exceedances(n, rank, m=m, window=window) * counts).sum() / window)


def _exceedances(n: int, rank: int, *, m: int, window: int) -> FloatArray:
    """P(J = j) for j = m … window, float64 (window − m + 1,)."""
    if not 1 <= rank <= n:
        raise InputError(f"rank {rank} is not one of 1 to {n}; the rank-th largest of {n} normal scores is asked for.")
    if not 1 <= m <= window:
        raise InputError(f"{m} of {window} is no alarm rule; m must be 1 to the window.")
    return np.asarray(scipy.stats.betabinom.pmf(np.arange(m, window + 1), window, rank, n + 1 - rank), dtype=np.float64)


def choose_alarm_rule(
    normal_scores: npt.ArrayLike,
    policy: AlarmPolicy,
    threshold: Threshold,
    *,
    method: Method,
    monotone: bool = False,
) -> AlarmRule:
    """Choose the rule that keeps the policy's false-alarm budget and detects soonest.

    The clip rule where the policy asks for it, or leaves the choice and n carries the budget by it. Else the m of
    n with `window` ≤ `policy.max_window` that keeps the budget with the smallest m (the delay), then the lowest
    clip threshold, then the largest window. Where none keeps it, the clip rule on the modelled threshold.

    Parameters
    ----------
    normal_scores : (n,) float, those that `threshold` was calibrated on.
    policy : budget, cadence, confidence and limits of the rule.
    threshold : from `engines.calibration.calibrate` on the same scores and policy.
    method : how `normal_scores` were made.
    monotone : as in `calibrate`; certifies the clip rule only.

    Raises
    ------
    InputError : a score is not finite, or `threshold` belongs to other scores, another budget or method.
    """
    normals = np.sort(validate_scores(normal_scores, "normal_scores"))
    _require_own_threshold(normals, policy, threshold, method)
    if policy.rule == "clip" or (policy.rule == "auto" and threshold.kind == "conformal"):
        return _clip_rule(threshold, policy)
    choice = _find_m_of_n(normals.size, policy)
    if choice is None:
        none = f"No rule of up to {policy.max_window} clips keeps the budget with {normals.size:,} normal recordings. "
        return _clip_rule(threshold, policy, preface=none)
    return _m_of_n_rule(normals, policy, choice, method=method, monotone=monotone)


def _require_own_threshold(normals: FloatArray, policy: AlarmPolicy, threshold: Threshold, method: Method) -> None:
    if not is_calibrated_on(threshold, normals):
        raise InputError(
            f"the threshold {threshold.value:.6g} was calibrated on other scores than the {normals.size} given (it"
            f" knew {threshold.n_normals}); calibrate again on these."
        )
    if not math.isclose(threshold.alpha, policy.alpha, rel_tol=1e-9) or threshold.method != method:
        raise InputError(
            f"the threshold was set for alpha {threshold.alpha:.6g} by {threshold.method}, the rule is asked for alpha"
            f" {policy.alpha:.6g} by {method}; calibrate again with this policy."
        )


def _find_m_of_n(n: int, policy: AlarmPolicy) -> tuple[int, int, int] | None:
    """(m, window, rank) that keeps the budget, or None."""
    for m in range(2, policy.max_window + 1):
        feasible = []
        for window in range(m, policy.max_window + 1):
            rank = _largest_rank(n, m, window, policy.alpha)
            if rank == 0:
                break
            feasible.append((rank, window))
        if feasible:
            rank, window = max(feasible)
            return m, window, rank
    return None


def _largest_rank(n: int, m: int, window: int, alpha: float) -> int:
    """Largest rank, so the lowest clip threshold, whose rate is within α; 0 where not even rank 1 is."""
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        if raise_rate(n, middle, m=m, window=window) <= alpha:
            low = middle
        else:
            high = middle - 1
    return low


def _clip_rule(threshold: Threshold, policy: AlarmPolicy, *, preface: str = "") -> AlarmRule:
    n, limit = threshold.n_normals, threshold.p_limit
    return AlarmRule(
        m=1,
        window=1,
        clip_threshold=threshold.value,
        rank=None if limit is None else round(limit * (n + 1)),
        p_limit=limit,
        kind=threshold.kind,
        rate=threshold.alarms_per_day / policy.clips_per_day,
        alarms_per_day=threshold.alarms_per_day,
        alarms_per_day_interval=threshold.alarms_per_day_interval,
        alarms_per_day_dependent=_bound_dependent(1, limit if threshold.certified else None, policy),
        confidence_bound=threshold.confidence_bound,
        confidence=threshold.confidence,
        certified=threshold.certified,
        bound=threshold.bound,
        assumption=threshold.assumption,
        delay_clips=1,
        delay_s=SECONDS_A_DAY / policy.clips_per_day,
        n_normals=n,
        method=threshold.method,
        explanation=preface + threshold.explanation,
    )


def _m_of_n_rule(
    normals: FloatArray, policy: AlarmPolicy, choice: tuple[int, int, int], *, method: Method, monotone: bool
) -> AlarmRule:
    n, (m, window, rank) = normals.size, choice
    # A claim of monotone scores makes each clip's own p-value valid, but not those of a window together.
    clips_are_valid = method == "split" or (method == "leave_one_out" and monotone)
    rule = AlarmRule(
        m=m,
        window=window,
        clip_threshold=float(normals[n - rank]),
        rank=rank,
        p_limit=rank / (n + 1),
        kind="conformal",
        rate=beta_binomial_rate(n, rank, m=m, window=window),
        alarms_per_day=raise_rate(n, rank, m=m, window=window) * policy.clips_per_day,
        alarms_per_day_interval=None,
        alarms_per_day_dependent=_bound_dependent(m, rank / (n + 1) if clips_are_valid else None, policy),
        confidence_bound=_bound_of_this_set(n, rank, m, window, policy) if method == "split" else None,
        confidence=policy.confidence,
        certified=method == "split",
        bound="marginal: on average over calibration sets" if method == "split" else None,
        assumption=_name_assumption(method),
        delay_clips=m,
        delay_s=m * SECONDS_A_DAY / policy.clips_per_day,
        n_normals=n,
        method=method,
        explanation="",
    )
    return rule.model_copy(update={"explanation": _explain_m_of_n(rule, policy)})


def _bound_of_this_set(n: int, rank: int, m: int, window: int, policy: AlarmPolicy) -> float:
    """False alarms a day that a set of n normals exceeds with probability 1 − confidence at most.

    The rate rises with θ, so θ's upper quantile gives the rate's; given θ the clips are binomial.
    """
    theta = float(scipy.stats.beta.ppf(policy.confidence, rank, n + 1 - rank))
    return theta * float(scipy.stats.binom.sf(m - 2, window - 1, theta)) * policy.clips_per_day


def _bound_dependent(m: int, p_limit: float | None, policy: AlarmPolicy) -> float:
    """False alarms a day whatever the dependence; `p_limit` where one clip alone exceeds no more often than that."""
    bounds = [policy.clips_per_day / (m + policy.rearm_clips)]
    if policy.hold_off_s > 0:
        bounds.append(SECONDS_A_DAY / policy.hold_off_s)
    if p_limit is not None:
        bounds.append(p_limit * policy.clips_per_day / m)
    return min(bounds)


def _name_assumption(method: Method) -> str:
    if method == "split":
        source = "none of which the model was fitted to"
    else:
        source = "and leaving one out of the model hardly changes the scores"
    return (
        f"normal recordings and the clips of a window are exchangeable, all taken together, {source}; clips that"
        " resemble their neighbours more than the recordings resemble each other ring more often"
    )


def _explain_m_of_n(rule: AlarmRule, policy: AlarmPolicy) -> str:
    of_window = f"{rule.m} clips in a row" if rule.m == rule.window else f"{rule.m} of the last {rule.window} clips"
    at_most, claim, this_set = "about", "estimated, not certified, from", ""
    if rule.confidence_bound is not None:
        at_most, claim = "at most", "certified by"
        this_set = f" (with {100 * rule.confidence:.3g} % confidence at most {rule.confidence_bound:.3g})"
    return (
        f"An alarm takes {of_window} above {rule.clip_threshold:.4g}, so {rule.delay_s:,.4g} s of a lasting fault at"
        f" least. False alarms a day: {at_most} {rule.alarms_per_day:.3g} expected on average{this_set}, {claim}"
        f" {rule.n_normals:,} normal recordings, {explain_cadence(policy)}, if clips differ from each"
        f" other as the recordings do; at most {rule.alarms_per_day_dependent:.3g} however alike they are."
    )


def advance(
    state: AlarmState,
    rule: AlarmRule,
    policy: AlarmPolicy,
    *,
    exceeded: bool | None,
    time: datetime,
    clip_id: str,
) -> tuple[AlarmState, Transition | None]:
    """The state after one more clip, and the alarm that it raised or cleared.

    Parameters
    ----------
    state : after the clips before this one; `AlarmState()` before the first.
    rule, policy : which clips make an alarm; hold-off and re-arm.
    exceeded : whether the clip's score is above `rule.clip_threshold`; None where it cannot say (machine off, bad
        clip): such a clip does not enter the window.
    time : when it was recorded; without a time zone it counts as UTC.
    clip_id : a clip that was just seen, or is in the window, is not counted again.

    Clips count in the order they come; their times serve hold-off alone, and steps back in time count as none.
    """
    if clip_id == state.last_clip_id or any(clip.clip_id == clip_id for clip in state.recent):
        return state, None
    now = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    state = _pass_time(state, policy, now, clip_id)
    if exceeded is None:
        return state, None
    state = _enter_window(state, rule, exceeded, clip_id)
    if state.phase == "alarm":
        return _clear_if_quiet(state, policy, now, clip_id)
    return _raise_if_ringing(state, rule, exceeded, now, clip_id)


def recordings_a_day(times: Sequence[datetime]) -> float | None:
    """How often recordings really come, from when they were made; None of fewer than two, or all of one moment."""
    if len(times) < 2:
        return None
    span_s = (max(times) - min(times)).total_seconds()
    return (len(times) - 1) * SECONDS_A_DAY / span_s if span_s > 0 else None


def outruns_cadence(times: Sequence[datetime], policy: AlarmPolicy) -> bool:
    """Whether recordings come more often than the stated rate of false alarms counts with.

    Parameters
    ----------
    times : of the last judged recordings, all with a time zone or all without; a hundred or so tell.
    """
    found = recordings_a_day(times)
    return found is not None and found > CADENCE_SLACK * policy.clips_per_day


def forget_window(state: AlarmState) -> AlarmState:
    """The state without its window, for a new rule: clips judged by another threshold say nothing about this one."""
    return state.model_copy(update={"recent": (), "quiet_clips": 0})


def _pass_time(state: AlarmState, policy: AlarmPolicy, now: datetime, clip_id: str) -> AlarmState:
    # Only steps forward add up: a clock set back by years must not hold alarms off for years.
    step = 0.0 if state.last_time is None else max(0.0, (now - state.last_time).total_seconds())
    changes: dict[str, object] = {"last_time": now, "last_clip_id": clip_id, "seen": state.seen + 1}
    if state.raised:
        changes["held_s"] = state.held_s + step
        if state.phase == "hold_off" and state.held_s + step >= policy.hold_off_s:
            changes |= {"phase": "armed", "since": now}
    return state.model_copy(update=changes)


def _enter_window(state: AlarmState, rule: AlarmRule, exceeded: bool, clip_id: str) -> AlarmState:
    recent = (*state.recent, RecentClip(clip_id=clip_id, exceeded=exceeded))[-rule.window :]
    quiet = 0 if exceeded else state.quiet_clips + 1
    return state.model_copy(update={"recent": recent, "quiet_clips": quiet, "judged": state.judged + 1})


def _clear_if_quiet(
    state: AlarmState, policy: AlarmPolicy, now: datetime, clip_id: str
) -> tuple[AlarmState, Transition | None]:
    if state.quiet_clips < policy.rearm_clips:
        return state, None
    phase = "hold_off" if state.held_s < policy.hold_off_s else "armed"
    # An alarm that is over has used its clips up: the next one needs m of its own.
    after = state.model_copy(update={"phase": phase, "since": now, "cleared_at": now, "recent": ()})
    return after, _transition("cleared", state, now, clip_id)


def _raise_if_ringing(
    state: AlarmState, rule: AlarmRule, exceeded: bool, now: datetime, clip_id: str
) -> tuple[AlarmState, Transition | None]:
    if not exceeded or sum(clip.exceeded for clip in state.recent) < rule.m:
        return state, None
    if state.phase == "hold_off":
        return state.model_copy(update={"suppressed": state.suppressed + 1}), None
    changes = {"phase": "alarm", "since": now, "raised_at": now, "cleared_at": None, "held_s": 0.0}
    after = state.model_copy(update=changes | {"raised": state.raised + 1})
    return after, _transition("raised", after, now, clip_id)


def _transition(kind: Literal["raised", "cleared"], state: AlarmState, now: datetime, clip_id: str) -> Transition:
    exceeding = tuple(clip.clip_id for clip in state.recent if clip.exceeded)
    return Transition(kind=kind, time=now, clip_id=clip_id, number=state.raised, clips=exceeding)
