"""The first screen of an asset's page: is this machine covered, how sure are we, and must I go when it rings?

Every sentence follows from figures of the page; what they amount to is concluded in `verdicts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.alarm import AlarmRule
from schemas.references import Selection
from schemas.settings import AlarmPolicy, Kpi
from tasks.report import verdicts, words
from tasks.report.conclusion import Conclusion, Target, Tone, name_found, name_kpi, name_ringing, name_verdict
from tasks.report.engine_view import name_members
from tasks.report.words import Words

if TYPE_CHECKING:
    from tasks.report.pages import AssetPage

SECONDS_A_MINUTE, MINUTES_AN_HOUR = 60.0, 60.0


@dataclass(frozen=True)
class Tile:
    """One of the facts of the first screen; `tone` is good, caution, bad or plain."""

    name: str
    value: str
    body: Sequence[str]
    tone: str = "plain"


@dataclass(frozen=True)
class Notice:
    """A warning that must not be missed."""

    title: str
    body: str
    tone: Tone


@dataclass(frozen=True)
class Answer:
    """The first screen of an asset's page."""

    headline: str
    tone: str
    ringing: str
    """What to do when it rings."""
    lead: str
    observed: str | None
    notices: Sequence[Notice]
    tiles: Sequence[Tile]


def answer(page: AssetPage, say: Words) -> Answer:
    """The first screen in words."""
    kpi = verdicts.judge_kpi(page.kpi, page.rule, page.metrics, synthetic=page.synthetic)
    against = verdicts.contradict(page.rule, page.policy, page.scores)
    blind = verdicts.is_blind(page.scores, page.rule)
    concluded = conclude(page)
    return Answer(
        headline=name_verdict(concluded, say),
        tone=concluded.tone,
        ringing=name_ringing(concluded, say),
        lead=_lead(page.rule, page.policy, page.longest_s, say),
        observed=_observed(page, say),
        notices=_notices(page, say, blind=blind, against=against),
        tiles=[
            _cover_tile(page, say),
            _rule_tile(page, say),
            _rate_tile(page, say, contradicted=against is not None, blind=blind),
            _sureness_tile(page, say),
            _kpi_tile(page, kpi, say),
            _state_tile(page, say),
        ],
    )


def conclude(page: AssetPage) -> Conclusion:
    """What the page answers, in keys and figures that every other page and the terminal repeat."""
    kpi = verdicts.judge_kpi(page.kpi, page.rule, page.metrics, synthetic=page.synthetic)
    blind = verdicts.is_blind(page.scores, page.rule)
    sure = page.rule.certified and verdicts.contradict(page.rule, page.policy, page.scores) is None
    found, labels = verdicts.interval_of(page.metrics, "auc"), verdicts.labels_of(page.metrics)
    verdict = _verdict(page.kpi, kpi, certified=sure, blind=blind)
    return Conclusion(
        verdict=verdict,
        tone=_tone(verdict),
        ringing="synthetic" if page.synthetic else verdicts.advise_on_ringing(page.rule, page.policy, page.scores),
        sureness=verdicts.how_sure(page.rule),
        target=_target(page.kpi, kpi),
        auc=page.metrics.auc,
        auc_interval=None if found is None else (found.low, found.high),
        normals=labels.normals,
        faults=labels.anomalies,
    )


def _target(kpi: Kpi, verdict: verdicts.KpiVerdict) -> Target:
    found = verdict.interval
    return Target(
        kpi=kpi,
        default=kpi == Kpi(),
        status=verdict.status,
        value=verdict.value,
        interval=None if found is None else (found.low, found.high),
        bound=verdict.bound,
        falls_short=verdicts.falls_short(kpi, verdict.value),
    )


def _verdict(kpi: Kpi, verdict: verdicts.KpiVerdict, *, certified: bool, blind: bool) -> str:
    status = verdict.status
    if status == "synthetic":
        return "synthetic"
    if blind:
        return "blind"
    if kpi.metric == "alarms_per_day":
        return f"alarms.{status if certified or status == 'not_met' else 'unproven'}"
    if status == "not_met":
        return "detect.not_met"
    about = f"detect.{status}"
    if status == "unproven" and verdict.value is not None:
        about = "measured.short" if verdicts.falls_short(kpi, verdict.value) else "measured.unproven"
    return f"{about}.{'certified' if certified else 'estimated'}"


def _tone(verdict: str) -> Tone:
    if verdict == "blind" or verdict.endswith("not_met"):
        return "bad"
    return "good" if verdict in ("detect.met.certified", "alarms.met") else "caution"


def name_cadence(policy: AlarmPolicy, longest_s: float | None, say: Words) -> str:
    """What every rate of false alarms stands on: `1,440 recordings a day of up to 10 seconds each`."""
    clips = f"{policy.clips_per_day:,.6g}"
    if longest_s is None:
        return say("cadence", clips=clips)
    return say("cadence.length", clips=clips, length=name_time(longest_s, say))


def _lead(rule: AlarmRule, policy: AlarmPolicy, longest_s: float | None, say: Words) -> str:
    """The claim of the rule's explanation, from its figures, so that it can be said in either language."""
    interval = rule.alarms_per_day_interval
    return say(
        f"lead.{verdicts.how_sure(rule)}",
        cadence=name_cadence(policy, longest_s, say),
        rate=words.rate(rule.alarms_per_day),
        high=words.rate(interval[1]) if interval else words.DASH,
        budget=words.rate(policy.false_alarms_per_day),
        n=rule.n_normals,
    )


def _observed(page: AssetPage, say: Words) -> str | None:
    """What became of the labelled test recordings; with an m-of-n rule a single one cannot ring."""
    seen = verdicts.observe(page.scores, page.rule)
    if not (seen.anomalies or seen.normals):
        return None
    return say("observed" if page.rule.window == 1 else "observed.window", **dataclasses.asdict(seen))


def _notices(page: AssetPage, say: Words, *, blind: bool, against: verdicts.Observed | None) -> list[Notice]:
    notices = []
    unheard = int((page.scores["state"] == "not comparable").sum())
    if unheard:
        body = say("unheard.body", n=unheard, all=len(page.scores))
        notices.append(Notice(say("unheard.title"), body, "caution"))
    longer = int(page.scores["notes"].str.contains("longer").sum()) if "notes" in page.scores else 0
    if longer:
        body = say("longer.body", n=longer, all=len(page.scores))
        notices.append(Notice(say("longer.title"), body, "caution"))
    leaked = int(verdicts.learnt_from(page.scores).sum())
    if leaked:
        body = say("leaked.body", n=leaked, all=len(page.scores))
        notices.append(Notice(say("leaked.title"), body, "caution"))
    if blind:
        seen = verdicts.observe(page.scores, page.rule)
        notices.insert(0, Notice(say("blind.title"), say("blind.body", n=seen.anomalies), "bad"))
    if against is not None:
        body = say("contradicted.body", false_alarms=against.false_alarms, normals=against.normals)
        notices.insert(0, Notice(say("contradicted.title"), body, "bad"))
    return notices


def _cover_tile(page: AssetPage, say: Words) -> Tile:
    selection = page.selection
    body = [say("tile.cover.body", n=selection.asset.target, encoder=selection.encoder), _source_line(selection, say)]
    if selection.engine == "ensemble":
        return Tile(say("tile.cover"), say("tile.cover.ensemble", members=name_members(selection)), body)
    return Tile(say("tile.cover"), say("tile.cover.value", engine=selection.engine.upper()), body)


def _source_line(selection: Selection, say: Words) -> str:
    """How many source normals there are and where they came from; other customers are counted, never named."""
    source, asset = selection.source, selection.asset
    if not source.recordings:
        return say("tile.cover.source.none")
    others = sum(customer != asset.customer for customer in source.customers)
    elsewhere = source.recordings - source.own
    origins = [say("origin.own", n=source.own)] if source.own else []
    if elsewhere:
        # The asset's own recordings name its customer too, so that alone does not tell whose the rest are.
        known = "machines" if not others else "both" if asset.customer in source.customers else "customers"
        origins.append(say(f"origin.{known}", n=elsewhere, customers=others))
    key = "tile.cover.source.unused" if selection.engine == "a" else "tile.cover.source"
    return say(key, n=source.recordings, origins=", ".join(origins))


def _rule_tile(page: AssetPage, say: Words) -> Tile:
    rule, policy = page.rule, page.policy
    limit = words.number(rule.clip_threshold)
    body = [say("tile.rule.delay", delay=name_time(rule.delay_s, say)), say("tile.rule.limit", value=limit)]
    body.append(say("tile.rule.rest", n=policy.rearm_clips, hold_off=name_time(policy.hold_off_s, say)))
    return Tile(say("tile.rule"), name_rule(rule, say), body)


def name_rule(rule: AlarmRule, say: Words) -> str:
    """The rule in a few words: `3 of 5 clips in a row are too high`."""
    return name_window(rule.m, rule.window, say)


def name_window(m: int, window: int, say: Words) -> str:
    """So many high clips, of how many, in a few words: `5 clips in a row are too high`."""
    if window == 1:
        return say("rule.clip")
    return say("rule.window.all" if m == window else "rule.window", m=m, window=window)


def name_time(seconds: float, say: Words) -> str:
    """A stretch of time in its largest unit: `40 s`, `5 minutes`, `1.5 hours`."""
    minutes = seconds / SECONDS_A_MINUTE
    if minutes < 1:
        return say("time.seconds", n=round(seconds), value=f"{seconds:.0f}")
    unit, value = ("hours", minutes / MINUTES_AN_HOUR) if minutes > 2 * MINUTES_AN_HOUR else ("minutes", minutes)
    return say(f"time.{unit}", n=1 if value == 1 else 2, value=f"{value:.3g}")


def _rate_tile(page: AssetPage, say: Words, *, contradicted: bool, blind: bool) -> Tile:
    rule, body = page.rule, []
    budget = words.rate(page.policy.false_alarms_per_day)
    if rule.alarms_per_day_interval is not None:
        low, high = (words.rate(value) for value in rule.alarms_per_day_interval)
        body.append(say("tile.rate.interval", low=low, high=high))
    elif rule.confidence_bound is not None:
        confidence = f"{rule.confidence:.0%}"
        body.append(say("tile.rate.bound", bound=words.rate(rule.confidence_bound), confidence=confidence))
    else:
        body.append(say("tile.rate.at_most" if rule.certified else "tile.rate.about"))
    body.append(say("tile.rate.cadence", cadence=name_cadence(page.policy, page.longest_s, say)))
    if contradicted:
        body.append(say("tile.rate.contradicted"))
    too_many = rule.alarms_per_day > verdicts.BUDGET_SLACK * page.policy.false_alarms_per_day
    body.append(say("tile.rate.over" if too_many else "tile.rate.budget", budget=budget))
    if too_many and blind:
        body.append(say("tile.rate.blind", n=rule.n_normals))
    elif rule.alarms_per_day_dependent is not None and rule.window > 1:
        body.append(say("tile.rate.dependent", bound=words.rate(rule.alarms_per_day_dependent)))
    value = say("tile.rate.value", rate=words.rate(rule.alarms_per_day))
    return Tile(say("tile.rate"), value, body, "bad" if contradicted else "caution" if too_many else "plain")


def _sureness_tile(page: AssetPage, say: Words) -> Tile:
    sure = verdicts.how_sure(page.rule)
    body = [say(f"tile.sure.{sure}.body", n=page.rule.n_normals)]
    return Tile(say("tile.sure.rate"), say(f"tile.sure.{sure}"), body, "good" if sure == "certified" else "caution")


def _kpi_tile(page: AssetPage, verdict: verdicts.KpiVerdict, say: Words) -> Tile:
    body = [say("kpi.synthetic")] if verdict.status == "synthetic" else []
    cadence = name_cadence(page.policy, page.longest_s, say)
    body += [*measured_kpi(page.kpi, verdict, say), say(f"kpi.{page.kpi.metric}.definition", cadence=cadence)]
    tone = {"met": "good", "not_met": "bad"}.get(verdict.status, "caution")
    return Tile(say("tile.kpi", goal=name_kpi(page.kpi, say)), say(f"kpi.status.{verdict.status}"), body, tone)


def measured_kpi(kpi: Kpi, verdict: verdicts.KpiVerdict, say: Words) -> list[str]:
    """What was measured of a target, and what would prove it where it is unproven."""
    found = name_found(_target(kpi, verdict), say)
    said = [found] if found else []
    if verdict.status == "unproven" and verdicts.falls_short(kpi, verdict.value):
        said.append(say("kpi.beyond"))
    if verdict.status == "unproven" and verdict.needed is not None:
        key = "kpi.needed.faults" if not verdict.needed.normals else "kpi.needed"
        said.append(say(key, normals=verdict.needed.normals, faults=verdict.needed.anomalies))
    return said


def _state_tile(page: AssetPage, say: Words) -> Tile:
    """Whether the machine's being off is told apart from its running."""
    states = page.scores["state"]
    off, assessed = int((states == "off").sum()), int((states != "not assessed").sum())
    if assessed:
        body = [say("tile.state.body", n=off, all=assessed), say("tile.state.meaning")]
        faults = int(((states == "off") & (page.scores["label"] == "anomaly")).sum())
        if faults:
            body.insert(1, say("tile.state.faults", n=faults))
        return Tile(say("tile.state"), say("tile.state.assessed"), body, "caution" if faults else "plain")
    body = [say("tile.state.noise" if page.noise_recordings else "tile.state.missing", n=page.noise_recordings)]
    if page.indistinct is not None:
        body.append(say.translate(page.indistinct).text)
    return Tile(say("tile.state"), say("tile.state.unknown"), body)
