"""What an asset's page says, put into words, tiles, figures and sounds for its template."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import roc_curve

from engines.base import AnomalyMap
from engines.calibration import Threshold
from engines.metrics import METRIC_NAMES, RANKING_NAMES, AssetMetrics
from schemas.metadata import CONDITION_COLUMNS
from schemas.references import Criterion, Selection
from schemas.settings import Kpi
from tasks.report import plots, sound, verdicts, words
from tasks.report.words import Said, Words

if TYPE_CHECKING:
    from tasks.report.pages import AssetPage, WorstClip

MAX_SCORE_ROWS = 300
"""Rows of a page's score table; the highest scores are kept."""
BUDGET_SLACK = 1.05
"""Expected false alarms over the budget, beyond which the first screen says so; less is the model's rounding."""
FEW_NORMALS = 10
"""Normals below which the page says that their number holds the threshold up."""

_MAIN_METRICS = (*RANKING_NAMES, "precision", "recall", "f1")


def describe(page: AssetPage, say: Words) -> dict[str, Any]:
    """What the template shows beside the page's own fields."""
    asset = page.selection.asset
    return {
        "asset": asset,
        "machine": say.machine(asset.machine_type, asset.section_id),
        "answer": _answer(page, say),
        "engine": _engine_section(page.selection, say),
        "reason": say.translate(page.selection.reason),
        "caveats": [say.translate(caveat) for caveat in page.caveats],
        "scores": _scores_section(page, say),
        "metrics": _metrics_section(page, say),
        "clips": _clips_section(page, say),
        "better": _next_steps(page, say),
        "table": page.scores.sort_values(["score", "clip_id"], ascending=[False, True]).head(MAX_SCORE_ROWS),
        "normals": sorted(zip(page.normal_ids, page.normal_scores, strict=True), key=lambda pair: (-pair[1], pair[0])),
        "facts": [
            (say("about.customer"), page.customer),
            (say("about.package"), page.package_name),
            (say("about.run"), page.run_id),
        ],
    }


@dataclass(frozen=True)
class Tile:
    """One of the facts of the first screen; `tone` is good, caution, bad or plain."""

    name: str
    value: str
    body: Sequence[str]
    tone: str = "plain"


@dataclass(frozen=True)
class Answer:
    """The first screen of an asset's page."""

    headline: str
    tone: str
    lead: str
    observed: str | None
    contradicted: str | None
    tiles: Sequence[Tile]


def _answer(page: AssetPage, say: Words) -> Answer:
    kpi = verdicts.judge_kpi(page.kpi, page.threshold, page.metrics, synthetic=page.synthetic)
    seen = verdicts.observe(page.scores)
    against = verdicts.contradict(page.threshold, page.scores)
    contradicted = None
    if against is not None:
        contradicted = say("contradicted.body", false_alarms=against.false_alarms, normals=against.normals)
    observed = None
    if seen.anomalies or seen.normals:
        counts = dataclasses.asdict(seen)
        observed = say("observed", **counts)
    sure = page.threshold.certified and against is None
    return Answer(
        headline=say(_headline_key(page.kpi, kpi.status, certified=sure)),
        tone={"met": "good" if sure else "caution", "not_met": "bad"}.get(kpi.status, "caution"),
        lead=_lead(page.threshold, say),
        observed=observed,
        contradicted=contradicted,
        tiles=[
            _cover_tile(page, say),
            _kpi_tile(page, kpi, say),
            _rate_tile(page, say, contradicted=against is not None),
            _sureness_tile(page, say),
        ],
    )


def _lead(threshold: Threshold, say: Words) -> str:
    """The claim of `Threshold.explanation`, from its figures, so that it can be said in either language."""
    interval = threshold.alarms_per_day_interval
    return say(
        f"lead.{verdicts.how_sure(threshold)}",
        rate=words.rate(threshold.alarms_per_day),
        high=words.rate(interval[1]) if interval else words.DASH,
        budget=words.rate(verdicts.budget_and_cadence(threshold)[0]),
        n=threshold.n_normals,
    )


def _headline_key(kpi: Kpi, status: verdicts.KpiStatus, *, certified: bool) -> str:
    if status == "synthetic":
        return "headline.synthetic"
    if kpi.metric == "alarms_per_day":
        return f"headline.alarms.{status if certified or status == 'not_met' else 'unproven'}"
    return f"headline.detect.{status}" + ("" if status == "not_met" else ".certified" if certified else ".estimated")


def _cover_tile(page: AssetPage, say: Words) -> Tile:
    selection = page.selection
    body = [say("tile.cover.body", n=selection.asset.target, encoder=selection.encoder), _source_line(selection, say)]
    if selection.engine == "ensemble":
        return Tile(say("tile.cover"), say("tile.cover.ensemble", members=_members(selection)), body)
    return Tile(say("tile.cover"), say("tile.cover.value", engine=selection.engine.upper()), body)


def _members(selection: Selection) -> str:
    return ", ".join(member.upper() for member in selection.members)


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


@dataclass(frozen=True)
class CriteriaGroup:
    """The criteria of one engine: those that decide, and those told besides (`aside`), under their summary."""

    engine: str
    verdict: str
    tone: str
    decisive: Sequence[CriterionRow]
    aside: Sequence[CriterionRow]
    summary: str


@dataclass(frozen=True)
class CriterionRow:
    """One criterion as the page shows it."""

    name: str
    value: str
    limit: str
    verdict: str
    tone: str
    sentence: Said


def _engine_section(selection: Selection, say: Words) -> dict[str, Any]:
    if selection.engine == "ensemble":
        name = say("engine.name.ensemble", members=_members(selection), encoder=selection.encoder)
    else:
        name = say("engine.name", engine=selection.engine.upper(), encoder=selection.encoder)
    engines = dict.fromkeys(criterion.engine for criterion in selection.criteria)
    return {
        "name": name,
        "description": say(f"engine.{selection.engine}"),
        "source": selection.source.recordings,
        "groups": [_criteria_group(selection, engine, say) for engine in engines],
    }


def _criteria_group(selection: Selection, engine: str, say: Words) -> CriteriaGroup:
    mine = [criterion for criterion in selection.criteria if criterion.engine == engine]
    decisive = [criterion for criterion in mine if criterion.decisive]
    used = engine in (selection.engine, *selection.members)
    verdict = "used" if used else "able" if all(criterion.met for criterion in decisive) else "unable"
    columns = [criterion.met for criterion in mine if criterion.name in CONDITION_COLUMNS]
    return CriteriaGroup(
        engine=engine.upper(),
        verdict=say(f"criteria.group.{verdict}"),
        tone={"used": "good", "able": "plain", "unable": "caution"}[verdict],
        decisive=[_criterion_row(criterion, say) for criterion in decisive],
        aside=[_criterion_row(criterion, say) for criterion in mine if not criterion.decisive],
        summary=say("criteria.aside.open", met=sum(columns), all=len(columns))
        if columns
        else say("criteria.aside.notes"),
    )


def _criterion_row(criterion: Criterion, say: Words) -> CriterionRow:
    key = f"criterion.{criterion.name}"
    if criterion.decisive:
        verdict, tone = ("met", "good") if criterion.met else ("unmet", "bad")
    elif criterion.name in CONDITION_COLUMNS:
        verdict, tone = ("aside.met", "good") if criterion.met else ("aside.unmet", "plain")
    else:
        verdict, tone = "aside.warning", "caution"
    return CriterionRow(
        name=say(key) if say.knows(key) else criterion.name,
        value=f"{criterion.value:g}",
        limit=f"≤ {criterion.limit:g}" if criterion.name == "false_alarms" else f"{criterion.limit:g}",
        verdict=say(f"criteria.{verdict}"),
        tone=tone,
        sentence=say.translate(criterion.sentence),
    )


def _kpi_tile(page: AssetPage, verdict: verdicts.KpiVerdict, say: Words) -> Tile:
    is_rate = page.kpi.metric == "alarms_per_day"

    def show(value: float) -> str:
        return words.rate(value) if is_rate else words.number(value)

    goal = say(f"kpi.{page.kpi.metric}", target=f"{page.kpi.target:g}")
    body = []
    if verdict.status == "synthetic":
        body.append(say("kpi.synthetic"))
    if verdict.value is None:
        body.append(say("kpi.unproven.labels"))
    elif is_rate and verdict.status == "unproven":
        body.append(say("kpi.unproven.rate", value=show(verdict.value)))
    elif verdict.status == "unproven":
        body.append(say("kpi.unproven.few", value=show(verdict.value), n=verdicts.LABELLED_TO_PROVE))
    elif verdict.interval is not None:
        low, high = show(verdict.interval.low), show(verdict.interval.high)
        body.append(say("kpi.measured.interval", value=show(verdict.value), low=low, high=high))
    else:
        body.append(say("kpi.measured", value=show(verdict.value)))
    tone = {"met": "good", "not_met": "bad"}.get(verdict.status, "caution")
    return Tile(say("tile.kpi", goal=goal), say(f"kpi.status.{verdict.status}"), body, tone)


def _rate_tile(page: AssetPage, say: Words, *, contradicted: bool) -> Tile:
    threshold, body = page.threshold, []
    if threshold.alarms_per_day_interval is not None:
        low, high = (words.rate(value) for value in threshold.alarms_per_day_interval)
        body.append(say("tile.rate.interval", low=low, high=high))
    elif threshold.confidence_bound is not None:
        confidence = f"{threshold.confidence:.3g}"
        body.append(say("tile.rate.bound", bound=words.rate(threshold.confidence_bound), confidence=confidence))
    else:
        body.append(say("tile.rate.at_most"))
    if contradicted:
        body.append(say("tile.rate.contradicted"))
    budget = verdicts.budget_and_cadence(threshold)[0]
    too_many = threshold.alarms_per_day > BUDGET_SLACK * budget
    if too_many:
        body.append(say("tile.rate.over", budget=words.rate(budget)))
    value = say("tile.rate.value", rate=words.rate(threshold.alarms_per_day))
    return Tile(say("tile.rate"), value, body, "bad" if contradicted else "caution" if too_many else "plain")


def _sureness_tile(page: AssetPage, say: Words) -> Tile:
    sure = verdicts.how_sure(page.threshold)
    body = say("tile.sure.body", value=words.number(page.threshold.value))
    return Tile(say("tile.sure"), say(f"tile.sure.{sure}"), [body], "good" if sure == "certified" else "caution")


@dataclass(frozen=True)
class ScoresSection:
    """Histogram, also for narrow screens, and the ROC curve where both classes are labelled: data URIs and their
    alternative texts."""

    histogram: str
    narrow_histogram: str
    histogram_alt: str
    roc: str | None
    roc_alt: str


def _scores_section(page: AssetPage, say: Words) -> ScoresSection:
    groups = _score_groups(page, say)
    limit = page.threshold.value
    value = words.number(limit)
    described = ", ".join(
        say("scores.alt.group", label=group.label, above=int((group.scores > limit).sum())) for group in groups
    )
    labels = {"score": say("scores.axis"), "threshold": say("scores.threshold", value=value)}
    roc, roc_alt = _roc(page, say)
    return ScoresSection(
        histogram=plots.draw_scores(groups, threshold=limit, width=680, labels=labels),
        narrow_histogram=plots.draw_scores(groups, threshold=limit, width=370, labels=labels),
        histogram_alt=say("scores.alt", threshold=value, groups=described),
        roc=roc,
        roc_alt=roc_alt,
    )


def _score_groups(page: AssetPage, say: Words) -> list[plots.ScoreGroup]:
    values, label = page.scores["score"].to_numpy(dtype=np.float64), page.scores["label"]
    parts = {
        "normal": np.asarray(page.normal_scores, dtype=np.float64),
        "test-normal": values[(label == "normal").to_numpy()],
        "anomaly": values[(label == "anomaly").to_numpy()],
        "unlabelled": values[label.isna().to_numpy()],
    }
    return [
        plots.ScoreGroup(kind, say(f"scores.group.{kind}", n=len(scores)), scores)
        for kind, scores in parts.items()
        if len(scores)
    ]


def _roc(page: AssetPage, say: Words) -> tuple[str | None, str]:
    labelled = page.scores[page.scores["label"].notna()]
    anomaly = (labelled["label"] == "anomaly").to_numpy()
    if not anomaly.any() or anomaly.all():
        return None, ""
    values = labelled["score"].to_numpy(dtype=np.float64)
    false_alarms, hits, _ = roc_curve(anomaly, values)
    rang = values > page.threshold.value
    point = float(rang[~anomaly].mean()), float(rang[anomaly].mean())
    labels = {"false_alarms": say("roc.false_alarms"), "hits": say("roc.hits")}
    alt = say("roc.alt", false_alarms=f"{point[0]:.0%}", hits=f"{point[1]:.0%}")
    return plots.draw_roc(false_alarms, hits, operating_point=point, labels=labels), alt


@dataclass(frozen=True)
class MetricRow:
    """A metric, or why it is not defined."""

    name: str
    value: float | None
    interval: tuple[float, float] | None
    why: Said | None


def _metrics_section(page: AssetPage, say: Words) -> dict[str, Any]:
    metrics, counts = page.metrics, page.metrics.counts
    rows = {name: _metric_row(metrics, name, say) for name in METRIC_NAMES}
    by_domain = [row for name, row in rows.items() if name not in _MAIN_METRICS]
    caveat = metrics.notes.get("intervals")
    return {
        "labelled": counts.normal_source + counts.normal_target + counts.anomaly_source + counts.anomaly_target > 0,
        "caption": say(
            "metrics.caption",
            normals=counts.normal_source + counts.normal_target,
            anomalies=counts.anomaly_source + counts.anomaly_target,
            unlabelled=counts.unlabelled,
        ),
        "main": [rows[name] for name in _MAIN_METRICS],
        "by_domain": by_domain if any(row.value is not None for row in by_domain) else [],
        "caveat": say.translate(caveat) if caveat else None,
    }


def _metric_row(metrics: AssetMetrics, name: str, say: Words) -> MetricRow:
    value, interval = getattr(metrics, name), metrics.intervals.get(name)
    why = say.translate(metrics.notes.get(name, words.DASH)) if value is None else None
    return MetricRow(name, value, (interval.low, interval.high) if interval else None, why)


@dataclass(frozen=True)
class ClipCard:
    """A clip as the page shows it; data URIs of figures and sound."""

    clip: WorstClip
    outcome: str
    tone: str
    duration_s: float
    found: Sequence[str]
    spectrogram: str
    spectrogram_alt: str
    map: str | None
    map_alt: str
    audio: str


def _clips_section(page: AssetPage, say: Words) -> dict[str, Any]:
    levels = [plots.measure_level(clip.waveform, clip.sample_rate, clip.bandwidth_hz) for clip in page.worst]
    gain = sound.common_gain(clip.waveform for clip in page.worst)
    cards = [
        _clip_card(clip, level, page.threshold.value, say, gain=gain)
        for clip, level in zip(page.worst, levels, strict=True)
    ]
    gain_db = 20 * math.log10(gain)
    key = "clips.gain" if gain_db >= 0 else "clips.gain.down"
    return {
        "title": say("clips.title.test" if len(page.scores) else "clips.title.normal"),
        "lead": say("clips.lead" if any(card.map for card in cards) else "clips.lead.no_map"),
        "gain": say(key, gain=f"{abs(gain_db):.0f} dB"),
        "cards": cards,
    }


def _clip_card(clip: WorstClip, level: plots.Level, threshold: float, say: Words, *, gain: float) -> ClipCard:
    labels = {name: say(f"figure.{name}") for name in ("time", "frequency", "level", "anomaly")}
    found, drawn, map_alt = [], None, ""
    if clip.map is not None:
        drawn = plots.draw_map(clip.map, level, threshold=threshold, labels=labels)
        peak, time_s, frequency_hz = find_peak(clip.map)
        where = {"time": f"{time_s:.1f}", "frequency": words.hertz(frequency_hz)}
        map_alt = say(
            "clip.map.alt",
            clip=clip.clip_id,
            peak=words.number(peak, 2),
            threshold=words.number(threshold),
            **where,
        )
        found.append(say("clip.peak", **where))
        found += _stretches_above(clip.map, threshold, level.duration_s, say)
    if clip.regions:
        found.append(say("clip.regions", stretches=_name_stretches(clip.regions, say)))
    outcome, tone = _outcome(clip)
    return ClipCard(
        clip=clip,
        outcome=say(f"clip.{outcome}"),
        tone=tone,
        duration_s=level.duration_s,
        found=found,
        spectrogram=plots.draw_spectrogram(level, regions=clip.regions, labels=labels),
        spectrogram_alt=say(
            "clip.spectrogram.alt",
            clip=clip.clip_id,
            duration=f"{level.duration_s:.1f}",
            bandwidth=words.hertz(clip.bandwidth_hz),
        ),
        map=drawn,
        map_alt=map_alt,
        audio=sound.flac_uri(clip.waveform, clip.sample_rate, gain=gain),
    )


def _outcome(clip: WorstClip) -> tuple[str, str]:
    """The key of what the alarm did on this clip, and its tone."""
    if clip.label == "anomaly":
        return ("hit", "good") if clip.alarm else ("miss", "bad")
    if clip.label == "normal":
        return ("false", "bad") if clip.alarm else ("quiet", "good")
    return ("alarm", "caution") if clip.alarm else ("no_alarm", "plain")


def find_peak(found: AnomalyMap) -> tuple[float, float, float]:
    """The highest cell of a map: its value, time s and frequency Hz."""
    row, column = np.unravel_index(int(np.nanargmax(found.values)), found.values.shape)
    return float(found.values[row, column]), float(found.times_s[column]), float(found.frequencies_hz[row])


def find_stretches(found: AnomalyMap, threshold: float, duration_s: float) -> list[tuple[float, float]]:
    """Stretches (start_s, end_s) whose highest cell lies above the threshold, at the map's resolution in time."""
    heard = np.asarray(~np.isnan(found.values).all(axis=0))
    above = np.zeros(len(heard), dtype=bool)
    above[heard] = np.nanmax(found.values[:, heard], axis=0) > threshold
    edges = plots.cell_edges(found.times_s, 0.0, duration_s)
    borders = np.flatnonzero(np.diff(np.concatenate([[False], above, [False]])))
    return [(float(edges[start]), float(edges[stop])) for start, stop in borders.reshape(-1, 2)]


def _stretches_above(found: AnomalyMap, threshold: float, duration_s: float, say: Words) -> list[str]:
    stretches = find_stretches(found, threshold, duration_s)
    if not stretches:
        return []
    if stretches[0][0] <= 0 and stretches[0][1] >= duration_s:
        return [say("clip.throughout")]
    return [say("clip.stretches", stretches=_name_stretches(stretches, say))]


def _name_stretches(stretches: Sequence[tuple[float, float]], say: Words) -> str:
    return ", ".join(say("clip.stretch", start=f"{start:.1f}", stop=f"{stop:.1f}") for start, stop in stretches)


def _next_steps(page: AssetPage, say: Words) -> list[str]:
    """What would make the verdict better, most useful first."""
    seen = verdicts.observe(page.scores)
    steps = []
    if page.threshold.n_normals < FEW_NORMALS:
        steps.append(say("better.few_normals", n=page.threshold.n_normals, wanted=FEW_NORMALS))
    if seen.false_alarms:
        steps.append(say("better.conditions"))
    if not (seen.anomalies and seen.normals):
        steps.append(say("better.labels"))
    if seen.misses:
        steps.append(say("better.misses", n=seen.misses))
    return [*steps, *_certifying_steps(page.threshold, say)]


def _certifying_steps(threshold: Threshold, say: Words) -> list[str]:
    needed = threshold.needed
    if needed.more_on_average == 0:
        return [say("better.enough")]
    budget, clips_per_day = verdicts.budget_and_cadence(threshold)
    days = needed.more_on_average / clips_per_day
    length = say("days.days", value=f"{days:.0f}") if days >= 2 else say("days.hours", value=f"{days * 24:.0f}")
    more = say(
        "better.certify",
        n=needed.more_on_average,
        n_confidence=needed.more_at_confidence,
        confidence=f"{threshold.confidence:.0%}",
        budget=words.rate(budget),
        days=length,
    )
    today = say("better.today", n=threshold.n_normals, rate=words.rate(needed.certifiable_alarms_per_day))
    return [f"{more} {today}"]
