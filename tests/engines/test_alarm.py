"""Alarm rules: exact rates, rules within the budget, and a state machine that never loses or repeats an alarm."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from engines.alarm import (
    AlarmRule,
    AlarmState,
    Transition,
    advance,
    beta_binomial_rate,
    choose_alarm_rule,
    forget_window,
    outruns_cadence,
    raise_rate,
)
from engines.base import ClipSet
from engines.calibration import Method, calibrate, conformal_p_values, normals_to_certify
from engines.comparability import Recorded
from schemas.errors import InputError
from schemas.settings import AlarmPolicy

START = datetime(2026, 11, 2, 6, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def draw_normals(n: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(4.0, size=n)


def choose(normals: Any, policy: AlarmPolicy, *, method: Method = "split", monotone: bool = False) -> AlarmRule:
    threshold = calibrate(normals, policy, method=method, monotone=monotone)
    return choose_alarm_rule(normals, policy, threshold, method=method, monotone=monotone)


def order_statistic(normals: np.ndarray, rule: AlarmRule) -> float:
    """The clip threshold that the rule would have on these normals; choosing it again takes long."""
    assert rule.rank is not None
    return float(np.sort(normals)[len(normals) - rule.rank])


SOME_RULE = choose(draw_normals(10), AlarmPolicy())


def rule_of(m: int, window: int) -> AlarmRule:
    """A rule of that shape; its rates play no part in the state machine."""
    return SOME_RULE.model_copy(update={"m": m, "window": window})


# Rates


def test_three_of_three_clips_above_ten_normals_is_the_designs_figure() -> None:
    rate = beta_binomial_rate(10, 1, m=3, window=3)
    assert rate == pytest.approx(1 / math.comb(13, 3), rel=1e-12)
    assert rate == pytest.approx(3.5e-3, rel=0.01)
    assert rate > 4 * (1 / 11) ** 3  # what independent clips would give: 7.5e-4


@pytest.mark.parametrize(("n", "rank", "m", "window"), [(3, 1, 2, 4), (10, 2, 3, 7), (200, 5, 2, 10), (7, 7, 3, 3)])
def test_rate_is_the_binomial_tail_averaged_over_the_beta_law(n: int, rank: int, m: int, window: int) -> None:
    law = stats.beta(rank, n + 1 - rank)
    ringing, _ = integrate.quad(lambda theta: stats.binom.sf(m - 1, window, theta) * law.pdf(theta), 0, 1)
    raised, _ = integrate.quad(lambda theta: theta * stats.binom.sf(m - 2, window - 1, theta) * law.pdf(theta), 0, 1)
    assert beta_binomial_rate(n, rank, m=m, window=window) == pytest.approx(ringing, rel=1e-6)
    assert raise_rate(n, rank, m=m, window=window) == pytest.approx(raised, rel=1e-6)


@pytest.mark.parametrize(("n", "rank", "m", "window"), [(3, 1, 2, 3), (10, 1, 2, 5), (30, 3, 3, 4)])
def test_simulated_windows_ring_at_the_stated_rate(n: int, rank: int, m: int, window: int) -> None:
    trials = 60_000
    draws = np.random.default_rng(n).lognormal(size=(trials, n + window))
    limits = np.sort(draws[:, :n], axis=1)[:, n - rank]
    exceeding = draws[:, n:] > limits[:, None]
    ringing = exceeding.sum(axis=1) >= m
    for observed, rate in (
        (ringing.mean(), beta_binomial_rate(n, rank, m=m, window=window)),
        ((ringing & exceeding[:, -1]).mean(), raise_rate(n, rank, m=m, window=window)),
    ):
        assert observed == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / trials))


def test_ties_only_make_a_window_ring_less() -> None:
    n, rank, m, window, trials = 10, 2, 2, 3, 40_000
    draws = np.random.default_rng(1).integers(0, 6, size=(trials, n + window))
    limits = np.sort(draws[:, :n], axis=1)[:, n - rank]
    ringing = ((draws[:, n:] > limits[:, None]).sum(axis=1) >= m).mean()
    assert ringing < 0.7 * beta_binomial_rate(n, rank, m=m, window=window)


@given(st.integers(1, 60), st.data())
@settings(max_examples=60)
def test_rates_keep_their_order(n: int, data: st.DataObject) -> None:
    rank, window = data.draw(st.integers(1, n)), data.draw(st.integers(1, 12))
    m = data.draw(st.integers(1, window))
    rate = beta_binomial_rate(n, rank, m=m, window=window)
    assert 0 < raise_rate(n, rank, m=m, window=window) <= rate * (1 + 1e-12) <= 1 + 1e-9
    assert beta_binomial_rate(n, rank, m=m, window=window + 1) >= rate * (1 - 1e-9)
    assert beta_binomial_rate(n, rank, m=1, window=1) == pytest.approx(rank / (n + 1))
    if rank < n:
        assert raise_rate(n, rank + 1, m=m, window=window) > raise_rate(n, rank, m=m, window=window)


@pytest.mark.parametrize(("n", "rank", "m", "window"), [(3, 0, 1, 1), (3, 4, 1, 1), (3, 1, 0, 2), (3, 1, 3, 2)])
def test_numbers_out_of_range_are_refused(n: int, rank: int, m: int, window: int) -> None:
    with pytest.raises(InputError):
        beta_binomial_rate(n, rank, m=m, window=window)


# The choice


@pytest.mark.parametrize(
    ("n", "m", "window", "rank"), [(5, 9, 9, 1), (10, 5, 5, 1), (30, 3, 4, 1), (100, 2, 2, 2), (1439, 1, 1, 1)]
)
def test_default_policy_chooses_the_quickest_rule_that_keeps_it(n: int, m: int, window: int, rank: int) -> None:
    rule = choose(draw_normals(n), AlarmPolicy())
    assert (rule.m, rule.window, rule.rank) == (m, window, rank)
    assert rule.kind == "conformal"
    assert rule.alarms_per_day <= 1 + 1e-9
    assert rule.delay_clips == m
    assert rule.delay_s == pytest.approx(60 * m)


@given(st.integers(3, 400), st.floats(1e-4, 0.2), st.integers(1, 12))
@settings(max_examples=30)
def test_the_choice_is_the_best_of_all_that_keep_the_budget(n: int, alpha: float, max_window: int) -> None:
    policy = AlarmPolicy(false_alarms_per_day=alpha * 1440, max_window=max_window, rule="m_of_n")
    rule = choose(draw_normals(n), policy)
    if rule.window == 1:
        assert all(raise_rate(n, 1, m=m, window=m) > policy.alpha for m in range(2, max_window + 1))
        return
    assert rule.rank is not None
    assert raise_rate(n, rule.rank, m=rule.m, window=rule.window) <= policy.alpha
    better = [(rule.rank, w) for w in range(rule.window + 1, max_window + 1)]
    better += [(rule.rank + 1, w) for w in range(rule.m, max_window + 1)] if rule.rank < n else []
    assert all(raise_rate(n, rank, m=rule.m, window=w) > policy.alpha for rank, w in better)
    assert all(raise_rate(n, 1, m=m, window=m) > policy.alpha for m in range(2, rule.m))


def test_a_clip_exceeds_exactly_when_its_p_value_is_within_the_limit() -> None:
    normals = np.round(draw_normals(100), 1)
    rule = choose(normals, AlarmPolicy())
    scores = np.concatenate([normals, normals + 0.05, [0.0, 50.0]])
    by_p_value = conformal_p_values(scores, normals) <= rule.p_limit
    np.testing.assert_array_equal(scores > rule.clip_threshold, by_p_value)


@pytest.mark.parametrize("n", [10, 100])
def test_alarms_of_exchangeable_clips_stay_within_the_stated_number(n: int) -> None:
    """The whole path, state machine included, and without hold-off, which would hide a wrong rate."""
    policy = AlarmPolicy(false_alarms_per_day=8, clips_per_day=120, hold_off_s=0, rule="m_of_n")
    rule, rng, alarms = choose(draw_normals(n), policy), np.random.default_rng(n), []
    assert rule.m > 1
    for _ in range(250):
        limit = order_statistic(rng.gamma(4.0, size=n), rule)
        _, transitions = run(rule, policy, [bool(x) for x in rng.gamma(4.0, size=120) > limit])
        alarms.append(sum(transition.kind == "raised" for transition in transitions))
    assert 0 < np.mean(alarms) <= rule.alarms_per_day + 4 * np.std(alarms) / math.sqrt(len(alarms))


def test_the_bound_of_one_set_is_exceeded_by_one_set_in_twenty() -> None:
    policy, trials, n = AlarmPolicy(), 4000, 30
    rule = choose(draw_normals(n), policy)
    assert rule.rank is not None
    assert rule.confidence_bound is not None
    theta = stats.beta(rule.rank, n + 1 - rule.rank).rvs(trials, random_state=np.random.default_rng(0))
    rates = theta * stats.binom.sf(rule.m - 2, rule.window - 1, theta) * policy.clips_per_day
    assert np.mean(rates > rule.confidence_bound) == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / trials))


def test_where_no_rule_keeps_the_budget_the_modelled_clip_rule_says_so() -> None:
    normals = draw_normals(3)
    rule = choose(normals, AlarmPolicy())
    threshold = calibrate(normals, AlarmPolicy(), method="split")
    assert (rule.m, rule.window, rule.kind, rule.certified) == (1, 1, "gamma_tail", False)
    assert (rule.clip_threshold, rule.alarms_per_day) == (threshold.value, threshold.alarms_per_day)
    assert rule.alarms_per_day_interval == threshold.alarms_per_day_interval
    assert rule.p_limit is None
    assert "No rule of up to 10 clips keeps the budget with 3 normal recordings" in rule.explanation


def test_policy_overrules_the_choice() -> None:
    normals = draw_normals(1439)
    assert choose(normals, AlarmPolicy(rule="clip")).m == 1
    forced = choose(normals, AlarmPolicy(rule="m_of_n"))
    assert forced.m == 2
    assert forced.clip_threshold < choose(normals, AlarmPolicy()).clip_threshold
    assert choose(draw_normals(10), AlarmPolicy(rule="clip")).kind == "gamma_tail"


@pytest.mark.parametrize(
    ("method", "monotone", "certified"),
    [("split", False, True), ("leave_one_out", False, False), ("leave_one_out", True, False)],
)
def test_only_split_certifies_an_m_of_n_rule(method: Method, monotone: bool, certified: bool) -> None:
    rule = choose(draw_normals(30), AlarmPolicy(), method=method, monotone=monotone)
    assert rule.m > 1
    assert rule.certified is certified
    assert (rule.bound is not None) is certified
    assert (rule.confidence_bound is not None) is certified
    assert ("estimated, not certified" in rule.explanation) is not certified
    assert "exchangeable, all taken together" in rule.assumption
    assert "resemble their neighbours" in rule.assumption


def test_leave_one_out_windows_ring_more_often_than_stated_though_single_clips_do_not() -> None:
    """Distance to the nearest normal, where one more normal can only lower a score: why no window is certified."""
    n, m, trials = 5, 5, 20_000
    draws = np.random.default_rng(0).normal(size=(trials, n + m, 2))
    distances = np.linalg.norm(draws[:, :, None] - draws[:, None], axis=3)
    distances[:, np.arange(n), np.arange(n)] = np.inf
    normals, clips = distances[:, :n, :n].min(axis=2), distances[:, n:, :n].min(axis=2)
    exceeding = clips > normals.max(axis=1)[:, None]
    single, window = exceeding[:, 0].mean(), exceeding.all(axis=1).mean()
    rate = beta_binomial_rate(n, 1, m=m, window=m)
    assert single <= 1 / (n + 1)
    assert window > rate + 4 * math.sqrt(rate * (1 - rate) / trials)


def test_clips_as_alike_as_can_be_stay_within_the_bound_for_dependent_clips() -> None:
    """Runs of one and the same clip, just long enough to alarm: the worst that dependence does to a window."""
    policy = AlarmPolicy(hold_off_s=0, rearm_clips=1)
    rule, rng, alarms = choose(draw_normals(30), policy), np.random.default_rng(0), []
    for _ in range(40):
        limit = order_statistic(rng.gamma(4.0, size=30), rule)
        clips = np.repeat(rng.gamma(4.0, size=1440), rule.m)[:1440] > limit
        _, transitions = run(rule, policy, [bool(exceeded) for exceeded in clips])
        alarms.append(sum(transition.kind == "raised" for transition in transitions))
    assert np.mean(alarms) > 3 * rule.alarms_per_day
    assert np.mean(alarms) <= rule.alarms_per_day_dependent + 4 * np.std(alarms) / math.sqrt(len(alarms))


def test_hold_off_and_re_arm_bound_the_alarms_whatever_happens() -> None:
    unheld = AlarmPolicy(hold_off_s=0)
    assert choose(draw_normals(10), unheld, method="leave_one_out").alarms_per_day_dependent == 1440 / (5 + 3)
    assert choose(draw_normals(10), AlarmPolicy(), method="leave_one_out").alarms_per_day_dependent == 24


@pytest.mark.parametrize("n", [3, 10, 1439])
def test_rule_file_reads_back_exactly(n: int) -> None:
    rule = choose(draw_normals(n), AlarmPolicy())
    text = json.dumps(rule.model_dump(mode="json"), allow_nan=False)
    assert AlarmRule.model_validate_json(text) == rule


def test_a_threshold_of_other_scores_or_another_policy_is_refused() -> None:
    normals, policy = draw_normals(10), AlarmPolicy()
    threshold = calibrate(normals, policy, method="split")
    for scores, asked, method in (
        (normals + 0.1, policy, "split"),
        (normals, AlarmPolicy(false_alarms_per_day=2), "split"),
        (normals, policy, "leave_one_out"),
    ):
        with pytest.raises(InputError, match="calibrate again"):
            choose_alarm_rule(scores, asked, threshold, method=method)


# What would certify, by rules


@pytest.mark.parametrize(("m", "on_average", "at_confidence"), [(2, 53, 113), (3, 19, 33), (5, 9, 12), (10, 5, 5)])
def test_normals_needed_by_clips_in_a_row(m: int, on_average: int, at_confidence: int) -> None:
    policy = AlarmPolicy()
    needed = {rule.m: rule for rule in calibrate(draw_normals(7), policy, method="split").needed.rules}[m]
    assert (needed.on_average, needed.at_confidence) == (on_average, at_confidence)
    assert needed.more_on_average == max(0, on_average - 7)
    assert beta_binomial_rate(on_average, 1, m=m, window=m) <= policy.alpha
    assert beta_binomial_rate(on_average - 1, 1, m=m, window=m) > policy.alpha
    assert stats.beta.ppf(0.95, 1, at_confidence) ** m <= policy.alpha < stats.beta.ppf(0.95, 1, at_confidence - 1) ** m


@pytest.mark.parametrize("confidence", [None, 0.95])
def test_a_budget_of_nearly_every_clip_needs_one_normal(confidence: float | None) -> None:
    for alpha in (1.0, float(np.nextafter(1.0, 0.0))):
        assert normals_to_certify(alpha, confidence=confidence, in_a_row=7) == 1


@given(st.floats(1e-5, 1.0), st.integers(1, 12))
@settings(max_examples=50)
def test_needed_by_rules_agrees_with_the_rules_rate(alpha: float, m: int) -> None:
    n = normals_to_certify(alpha, in_a_row=m)
    assert beta_binomial_rate(n, 1, m=m, window=m) <= alpha * (1 + 1e-9)
    assert n == 1 or beta_binomial_rate(n - 1, 1, m=m, window=m) > alpha * (1 - 1e-9)


# The state machine


def run(
    rule: AlarmRule, policy: AlarmPolicy, clips: list[bool | None], *, state: AlarmState | None = None
) -> tuple[AlarmState, list[Transition]]:
    """One clip a minute."""
    at, transitions = state or AlarmState(), []
    for i, exceeded in enumerate(clips):
        at, transition = advance(at, rule, policy, exceeded=exceeded, time=START + i * MINUTE, clip_id=f"clip {i}")
        transitions += [transition] if transition else []
    return at, transitions


def told(transitions: list[Transition]) -> list[tuple[str, str]]:
    return [(transition.kind, transition.clip_id) for transition in transitions]


def test_an_alarm_rises_on_the_clip_that_completes_the_window_and_ends_after_quiet_clips() -> None:
    clips: list[bool | None] = [True, False, True, True, True, False, False, False, False]
    state, transitions = run(rule_of(3, 4), AlarmPolicy(), clips)
    assert told(transitions) == [("raised", "clip 3"), ("cleared", "clip 7")]
    raised, cleared = transitions
    assert raised.clips == ("clip 0", "clip 2", "clip 3")
    assert (raised.number, cleared.number) == (1, 1)
    assert (state.raised_at, state.cleared_at) == (START + 3 * MINUTE, START + 7 * MINUTE)
    assert (state.phase, state.since) == ("hold_off", START + 7 * MINUTE)


def test_two_of_three_scattered_clips_do_not_alarm() -> None:
    _, transitions = run(rule_of(3, 4), AlarmPolicy(), [True, True, False, False, True, True, False, False])
    assert transitions == []


def test_clips_of_a_machine_that_is_off_neither_fill_nor_empty_the_window() -> None:
    policy, rule = AlarmPolicy(), rule_of(3, 3)
    _, transitions = run(rule, policy, [True, None, True, None, None, True])
    assert told(transitions) == [("raised", "clip 5")]
    state, transitions = run(rule, policy, [True, True, True, *[None] * 50])
    assert told(transitions) == [("raised", "clip 2")]
    assert state.phase == "alarm"
    assert (state.seen, state.judged) == (53, 3)


def test_an_alarm_that_is_over_has_used_its_clips_up() -> None:
    policy = AlarmPolicy(hold_off_s=0, rearm_clips=1)
    _, transitions = run(rule_of(3, 9), policy, [True, True, True, False, True, True, False, True])
    assert told(transitions) == [("raised", "clip 2"), ("cleared", "clip 3"), ("raised", "clip 7")]


def test_hold_off_keeps_the_next_alarm_back_until_it_has_passed() -> None:
    policy, rule = AlarmPolicy(hold_off_s=600, rearm_clips=1), rule_of(2, 2)
    clips: list[bool | None] = [True, True, False, *[True] * 9]
    state, transitions = run(rule, policy, clips)
    # Raised at minute 1; minute 11 is the first that is ten minutes later.
    assert told(transitions) == [("raised", "clip 1"), ("cleared", "clip 2"), ("raised", "clip 11")]
    assert state.suppressed == 7
    _, unheld = run(rule, policy.model_copy(update={"hold_off_s": 0}), clips)
    assert told(unheld)[-1] == ("raised", "clip 4")


def test_each_alarm_has_its_own_hold_off() -> None:
    policy, rule = AlarmPolicy(hold_off_s=600, rearm_clips=1), rule_of(1, 1)
    _, transitions = run(rule, policy, [True, False, *[True, False] * 14])
    assert [clip for kind, clip in told(transitions) if kind == "raised"] == ["clip 0", "clip 10", "clip 20"]


def test_a_window_left_over_from_hold_off_rings_only_on_a_clip_that_exceeds() -> None:
    """The rate of false alarms is counted over clips that exceed; another clip must raise none."""
    policy, rule = AlarmPolicy(hold_off_s=600, rearm_clips=2), rule_of(2, 6)
    clips: list[bool | None] = [True, True, False, False, *[None] * 4, True, True, False, None, False, True]
    _, transitions = run(rule, policy, clips)
    # Hold-off ends with clip 11; the window holds two that exceed, and clip 12 is none.
    assert told(transitions) == [("raised", "clip 1"), ("cleared", "clip 3"), ("raised", "clip 13")]


def test_a_clock_set_back_neither_ends_nor_prolongs_hold_off() -> None:
    policy, rule = AlarmPolicy(hold_off_s=600, rearm_clips=1), rule_of(1, 1)
    state, _ = run(rule, policy, [True, False])
    assert state.phase == "hold_off"
    years_back, kinds = START - timedelta(days=3650), []
    for minute in range(10):
        time = years_back + minute * MINUTE
        state, transition = advance(state, rule, policy, exceeded=True, time=time, clip_id=f"late {minute}")
        kinds.append(transition.kind if transition else None)
    # One minute had passed when the clock was set back, and nine more make the ten.
    assert kinds == [None] * 9 + ["raised"]


def test_a_time_without_a_zone_counts_as_utc_and_zones_are_one_clock() -> None:
    policy, rule = AlarmPolicy(hold_off_s=0), rule_of(1, 1)
    seoul = timezone(timedelta(hours=9))
    states = [
        advance(AlarmState(), rule, policy, exceeded=True, time=time, clip_id="a")[0]
        for time in (START, START.replace(tzinfo=None), START.astimezone(seoul))
    ]
    assert states[0] == states[1] == states[2]


def test_a_clip_that_comes_again_is_not_counted_again() -> None:
    rule, policy = rule_of(2, 3), AlarmPolicy()
    state, _ = advance(AlarmState(), rule, policy, exceeded=True, time=START, clip_id="a")
    again, transition = advance(state, rule, policy, exceeded=True, time=START, clip_id="a")
    assert (again, transition) == (state, None)
    state, _ = advance(state, rule, policy, exceeded=False, time=START, clip_id="b")
    assert advance(state, rule, policy, exceeded=True, time=START, clip_id="a") == (state, None)


def test_a_clip_that_comes_again_is_known_though_the_window_does_not_hold_it() -> None:
    rule, policy = rule_of(1, 1), AlarmPolicy(rearm_clips=1)
    for clips in ([None], [True, False]):  # a clip that says nothing, and one that ended an alarm
        state, _ = run(rule, policy, [*clips])
        again = advance(state, rule, policy, exceeded=True, time=START, clip_id=f"clip {len(clips) - 1}")
        assert again == (state, None)


def test_a_new_rule_starts_with_an_empty_window_but_keeps_the_alarm() -> None:
    policy = AlarmPolicy()
    state, _ = run(rule_of(2, 3), policy, [True, True])
    fresh = forget_window(state)
    assert fresh.recent == ()
    assert (fresh.phase, fresh.raised_at, fresh.raised) == ("alarm", state.raised_at, 1)


clip_streams = st.lists(
    st.tuples(st.sampled_from([True, True, False, None]), st.integers(-5000, 5000)), min_size=1, max_size=60
)
policies = st.builds(
    AlarmPolicy, hold_off_s=st.sampled_from([0.0, 60.0, 3600.0, 20_000.0]), rearm_clips=st.integers(1, 4)
)


@given(clip_streams, policies, st.integers(1, 4), st.integers(0, 4), st.integers(0, 60))
@settings(max_examples=200)
def test_the_state_machine_keeps_its_promises(
    clips: list[tuple[bool | None, int]], policy: AlarmPolicy, m: int, wider: int, cut: int
) -> None:
    """Any clips, clocks that jump both ways, and a restart through JSON at any clip."""
    rule = rule_of(m, m + wider)
    whole, restarted = AlarmState(), AlarmState()
    transitions, now, judged = [], START, 0
    passed, raised_at = 0.0, -math.inf
    for i, (exceeded, step) in enumerate(clips):
        now += timedelta(seconds=step)
        passed += max(step, 0) if i else 0
        if i == cut:
            restarted = AlarmState.model_validate_json(restarted.model_dump_json())
        arguments: dict[str, Any] = {"exceeded": exceeded, "time": now, "clip_id": f"{i}"}
        whole, transition = advance(whole, rule, policy, **arguments)
        restarted, same = advance(restarted, rule, policy, **arguments)
        assert (restarted, same) == (whole, transition)
        judged += exceeded is not None
        assert whole.judged == judged
        assert len(whole.recent) <= rule.window
        if transition is None:
            continue
        assert transition.clip_id == f"{i}"
        if transition.kind == "raised":
            assert exceeded is True
            assert len(transition.clips) >= m
            assert passed - raised_at >= policy.hold_off_s
            raised_at = passed
        else:
            assert exceeded is False
        transitions.append(transition.kind)
    assert transitions == ["raised", "cleared"] * (len(transitions) // 2) + ["raised"] * (len(transitions) % 2)
    assert (whole.phase == "alarm") == (len(transitions) % 2 == 1)


@given(clip_streams, policies, st.integers(1, 4))
@settings(max_examples=100)
def test_clips_that_say_nothing_change_no_alarm(
    clips: list[tuple[bool | None, int]], policy: AlarmPolicy, m: int
) -> None:
    rule, policy = rule_of(m, m + 2), policy.model_copy(update={"hold_off_s": 0.0})
    streams = clips, [clip for clip in clips if clip[0] is not None]
    kinds = []
    for stream in streams:
        _, transitions = run(rule, policy, [exceeded for exceeded, _ in stream])
        kinds.append([transition.kind for transition in transitions])
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize(("seconds", "outruns"), [(60, False), (55, False), (30, True), (600, False), (0, False)])
def test_recordings_that_come_too_often_are_known(seconds: float, outruns: bool) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = [start + timedelta(seconds=seconds * i) for i in range(20)]
    assert outruns_cadence(times, AlarmPolicy()) is outruns
    assert not outruns_cadence(times[:1], AlarmPolicy())


def test_longer_recordings_ring_more_often_than_is_certified_and_are_known_by_their_pieces() -> None:
    """A recording's score is its worst piece's: six pieces ring about six times as often as the one calibrated on."""
    policy, rng, sets = AlarmPolicy(false_alarms_per_day=14.4), np.random.default_rng(0), 300
    rates = []
    for _ in range(sets):
        normals = rng.normal(size=100)
        threshold = calibrate(normals, policy, method="split")
        assert threshold.certified
        rates.append(1 - stats.norm.cdf(threshold.value) ** 6)
    assert np.mean(rates) > 4 * threshold.alarms_per_day / policy.clips_per_day
    second = [rng.normal(size=100).astype(np.float32) for _ in range(6)]
    recorded = Recorded.measure(ClipSet.from_arrays(second))
    assert recorded.differences(ClipSet.from_arrays(second, recording_ids=["long"] * 6)) == [("longer",)]
    assert "no longer than the normal ones" in threshold.explanation
