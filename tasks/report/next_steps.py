"""What would make an asset's verdict better, in concrete numbers, most useful first: what the verdict lacks, then what
else there is to gain.

How many normals certify a budget follows from the law of `engines.alarm`: with n normals that were kept from the engine
and a rule of all of `max_window` clips above the largest of them, a false alarm has probability 1 / C(n + window,
window).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.alarm import SECONDS_A_DAY, raise_rate
from engines.calibration import MIN_TAIL_NORMALS, Threshold
from schemas.settings import AlarmPolicy
from tasks.report import verdicts, words
from tasks.report.first_screen import name_cadence, name_kpi, name_time
from tasks.report.words import Words

if TYPE_CHECKING:
    from tasks.report.pages import AssetPage

FEW_NORMALS = 10
"""Normals below which the page says that their number holds the threshold up."""
ALARMS_A_WEEK = 1 / 7
"""The other budget that the page names beside the customer's, false alarms a day."""


@dataclass(frozen=True)
class Certifying:
    """Fewest normals, kept from the engine, that certify a budget by m of m clips in a row."""

    normals: int
    m: int


def certify_by_window(policy: AlarmPolicy, *, alarms_per_day: float) -> Certifying | None:
    """Fewest normals for a budget by the longest window of the policy, then the shortest window they allow.

    None where the policy has single clips ring, or every number of normals would do.
    """
    alpha = alarms_per_day / policy.clips_per_day
    if policy.rule == "clip" or policy.max_window < 2 or alpha >= 1:
        return None
    normals = 1
    while raise_rate(normals, 1, m=policy.max_window, window=policy.max_window) > alpha:
        normals += 1
    m = next(m for m in range(1, policy.max_window + 1) if raise_rate(normals, 1, m=m, window=m) <= alpha)
    return Certifying(normals, m)


@dataclass(frozen=True)
class NextSteps:
    """Sentences, and what the rates in them are of."""

    steps: Sequence[str]
    note: str | None


def next_steps(page: AssetPage, say: Words) -> NextSteps:
    """What the page says under how to get better.

    A promise on the rate of an alarm that cannot hear faults is worth nothing, so that is left out then.
    """
    steps = [*_lacking(page, say), *_to_gain(page, say)]
    if verdicts.is_deaf(page.scores, page.rule, page.metrics):
        return NextSteps(steps, None)
    certifying = [*_certifying_by_window(page, say), *_certifying_by_clip(page.threshold, page.policy, say)]
    cadence = say("better.cadence", cadence=name_cadence(page.policy, page.longest_s, say))
    return NextSteps([*steps, *certifying], cadence if certifying else None)


def _lacking(page: AssetPage, say: Words) -> Iterator[str]:
    """What stands between the verdict and a better one."""
    if page.synthetic:
        yield say("better.synthetic")
    seen, auc = verdicts.observe(page.scores, page.rule), page.metrics.auc
    if verdicts.is_deaf(page.scores, page.rule, page.metrics):
        yield say("better.blind", n=seen.anomalies)
    elif verdicts.is_blind(page.scores, page.rule):
        yield say("better.blind.threshold", n=seen.anomalies, auc=words.number(auc))
    if not page.synthetic:
        yield from _towards_target(page, say)


def _towards_target(page: AssetPage, say: Words) -> Iterator[str]:
    """What the customer's target lacks; of the rate of false alarms, the steps that certify it tell."""
    verdict = verdicts.judge_kpi(page.kpi, page.rule, page.metrics, synthetic=False)
    if page.kpi.metric == "alarms_per_day":
        if not _is_labelled(page):
            yield say("better.labels")
        return
    goal, needed = name_kpi(page.kpi, say), verdict.needed
    if verdict.status == "unproven" and needed is not None:
        key = "better.target.labels" if needed.normals else "better.target.faults"
        have = verdicts.labels_of(page.metrics)
        counts = {"normals": needed.normals, "faults": needed.anomalies, "has": have.normals, "holds": have.anomalies}
        if verdict.value is None and page.kpi.metric == "official":
            yield say("better.target.official", goal=goal)
        else:
            yield say(key if verdict.value is not None else f"{key}.none", goal=goal, **counts)
    elif verdicts.falls_short(page.kpi, verdict.value):
        yield say("better.target.short", goal=goal, value=words.number(verdict.value))


def _is_labelled(page: AssetPage) -> bool:
    seen = verdicts.observe(page.scores, page.rule)
    return bool(seen.anomalies and seen.normals)


def _to_gain(page: AssetPage, say: Words) -> Iterator[str]:
    seen, few = verdicts.observe(page.scores, page.rule), page.threshold.n_normals
    if few < FEW_NORMALS:
        # A window's limit is among the normals themselves; only a fitted tail has to reach far beyond them.
        key = "better.few_normals" if page.rule.kind == "gamma_tail" else "better.few_normals.window"
        yield say(key, n=few, wanted=FEW_NORMALS)
    if seen.false_alarms:
        yield say("better.conditions")
    if seen.misses and not verdicts.is_blind(page.scores, page.rule):
        yield say("better.misses", n=seen.misses)
    if (page.scores["state"] == "not assessed").all() and not page.noise_recordings:
        yield say("better.noise")


def _certifying_by_window(page: AssetPage, say: Words) -> list[str]:
    """So many normals certify the budget, so many the customer's target of alarms, and so many one alarm a week."""
    policy, have = page.policy, page.selection.asset.target
    held_out = page.rule.n_normals if page.rule.method == "split" else 0
    targets = {page.kpi.target} if page.kpi.metric == "alarms_per_day" and page.kpi.target > 0 else set()
    steps = []
    for alarms_per_day in sorted({policy.false_alarms_per_day, ALARMS_A_WEEK} | targets, reverse=True):
        found = certify_by_window(policy, alarms_per_day=alarms_per_day)
        if found is None or (page.rule.certified and held_out >= found.normals):
            continue
        wanted = max(found.normals, MIN_TAIL_NORMALS)
        more = max(0, normals_to_divide(wanted, least=page.least_normals) - have)
        said = {
            "budget": name_budget(alarms_per_day, say),
            "m": found.m,
            "delay": name_time(found.m * SECONDS_A_DAY / policy.clips_per_day, say),
        }
        steps.append(say("better.window", n=more, **said) if more else say("better.window.now", n=have, **said))
    return steps


def normals_to_divide(held_out: int, *, least: int) -> int:
    """Fewest normals of which so many are held out: half of them, and at least `least` are learnt from."""
    return max(2 * held_out - 1, held_out + least)


def name_budget(alarms_per_day: float, say: Words) -> str:
    """`one false alarm a day`, `one false alarm a week`, `0.3 false alarms a day`."""
    named = {1.0: "budget.day", ALARMS_A_WEEK: "budget.week"}.get(alarms_per_day)
    return say(named) if named else say("budget.rate", rate=words.rate(alarms_per_day))


def _certifying_by_clip(threshold: Threshold, policy: AlarmPolicy, say: Words) -> list[str]:
    needed = threshold.needed
    # What the engine learnt from certifies nothing, so of leave-one-out every one is still to be kept apart.
    apart = threshold.n_normals if threshold.method == "split" or threshold.certified else 0
    if apart >= needed.on_average:
        return [say("better.enough")]
    days = needed.on_average / policy.clips_per_day
    length = say("days.days", value=f"{days:.0f}") if days >= 2 else say("days.hours", value=f"{days * 24:.0f}")
    return [
        say(
            "better.clip",
            n=needed.on_average,
            apart=apart,
            n_confidence=needed.at_confidence,
            confidence=f"{threshold.confidence:.0%}",
            budget=name_budget(policy.false_alarms_per_day, say),
            days=length,
        )
    ]
