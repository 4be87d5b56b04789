"""The scores of an asset: histogram, timeline, ROC curve, metrics and what each condition shows, for its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from engines.metrics import METRIC_NAMES, RANKING_NAMES, AssetMetrics
from schemas.metadata import CONDITION_COLUMNS
from tasks.report import charts, words
from tasks.report.first_screen import name_rule
from tasks.report.verdicts import interval_of, learnt_from, too_high
from tasks.report.words import Said, Words

if TYPE_CHECKING:
    from tasks.report.pages import AssetPage

WIDE, NARROW = 680, 370
"""Widths of a chart on a desk and on a phone, CSS pixels."""
MAX_VALUES = 12
"""Values of one condition that a page lists, those with most recordings first."""

_MAIN_METRICS = (*RANKING_NAMES, "precision", "recall", "f1")
_GROUPED = ("domain", *CONDITION_COLUMNS, "anomaly_type")


@dataclass(frozen=True)
class Chart:
    """A chart for a desk and one for a phone, as data URIs, and what they show in words."""

    wide: str
    narrow: str
    alt: str


@dataclass(frozen=True)
class ScoresSection:
    """The charts of the scores; ROC curve where both classes are labelled."""

    histogram: Chart
    timeline: Chart
    timeline_note: str
    legend: Sequence[tuple[str, str]]
    """Kind and name of each group of recordings."""
    roc: str | None
    roc_alt: str


def describe_scores(page: AssetPage, say: Words) -> ScoresSection:
    """The section of the page."""
    groups = _score_groups(page, say)
    roc, roc_alt = _roc(page, say)
    timeline, note = _timeline(page, groups, say)
    return ScoresSection(
        histogram=_histogram(groups, page.rule.clip_threshold, say),
        timeline=timeline,
        timeline_note=note,
        legend=[(group.kind, group.label) for group in groups],
        roc=roc,
        roc_alt=roc_alt,
    )


def _labels(groups: Sequence[charts.ScoreGroup], limit: float, say: Words) -> dict[str, str]:
    beyond = charts.axis_of(groups, limit)[1]
    return {
        "score": say("scores.axis"),
        "threshold": say("scores.threshold", value=words.number(limit)),
        "beyond": say("scores.beyond", value=f"{beyond:.3g}"),
    }


def _histogram(groups: Sequence[charts.ScoreGroup], limit: float, say: Words) -> Chart:
    labels = _labels(groups, limit, say)
    wide, narrow = (charts.draw_scores(groups, threshold=limit, width=width, labels=labels) for width in (WIDE, NARROW))
    return Chart(
        wide, narrow, say("scores.alt", threshold=words.number(limit), groups=_count_above(groups, limit, say))
    )


def _count_above(groups: Sequence[charts.ScoreGroup], limit: float, say: Words) -> str:
    return ", ".join(
        say("scores.alt.group", label=group.label, above=int((group.scores > limit).sum())) for group in groups
    )


def _score_groups(page: AssetPage, say: Words) -> list[charts.ScoreGroup]:
    return [
        charts.ScoreGroup(kind, say(f"scores.group.{kind}", n=len(rows)), rows["score"].to_numpy(dtype=np.float64))
        for kind, rows in _rows_by_kind(page).items()
    ]


def _rows_by_kind(page: AssetPage) -> dict[str, pd.DataFrame]:
    """Clip ids and scores of the normals and of the tests, by kind, without kinds that have none.

    Tests that are copies of what was learnt are left out: they say nothing, and would pass for quiet unlabelled ones.
    """
    tests = page.scores[~learnt_from(page.scores)]
    normals = pd.DataFrame({"clip_id": list(page.normal_ids), "score": page.normal_scores})
    kind = tests["label"].map({"normal": "test-normal", "anomaly": "anomaly"}).fillna("unlabelled")
    kind = kind.mask(tests["state"] == "off", "off")
    parts = {name: normals if name == "normal" else tests[kind == name] for name in charts.KINDS}
    return {name: rows for name, rows in parts.items() if len(rows)}


def _timeline(page: AssetPage, groups: Sequence[charts.ScoreGroup], say: Words) -> tuple[Chart, str]:
    """The scores in the order of recording, or of names where that is not known of all, and a sentence on which."""
    rows = _rows_by_kind(page)
    names = pd.Series([str(name) for part in rows.values() for name in part["clip_id"]])
    recorded = _recorded(page.context, names.tolist())
    missing = int(recorded.isna().sum())
    in_order = pd.DataFrame({"time": recorded if not missing else pd.NaT, "name": names}).sort_values(["time", "name"])
    places = pd.Series(np.arange(1.0, len(names) + 1), index=in_order.index).sort_index().to_numpy()
    ends = np.cumsum([len(part) for part in rows.values()])[:-1]
    moments = [charts.Moments(group, part) for group, part in zip(groups, np.split(places, ends), strict=True)]
    marks = [] if missing else _marks(in_order["time"].tolist())
    limit = page.rule.clip_threshold
    labels = _labels(groups, limit, say) | {"time": say("timeline.order" if missing else "timeline.time")}
    wide, narrow = (
        charts.draw_timeline(moments, threshold=limit, marks=marks, width=width, labels=labels)
        for width in (WIDE, NARROW)
    )
    alt = say("timeline.alt", threshold=words.number(limit), groups=_count_above(groups, limit, say))
    if missing:
        return Chart(wide, narrow, alt), say("timeline.undated", n=missing, all=len(names))
    first, last = (f"{day:%Y-%m-%d}" for day in (recorded.min(), recorded.max()))
    return Chart(wide, narrow, alt), say("timeline.dated", first=first, last=last)


def _recorded(context: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """When each of the clips was recorded; missing where it was not written down."""
    known = context.drop_duplicates("clip_id").set_index("clip_id")["recorded_at"]
    # A plant that writes the offset of its clock means the time on its wall: it is read as such.
    said = known.reindex(names).astype("string").str.replace(r"(Z|[+-]\d\d:?\d\d)$", "", regex=True)
    return pd.to_datetime(said, format="ISO8601", errors="coerce").reset_index(drop=True)


def _marks(times: Sequence[pd.Timestamp]) -> list[charts.Mark]:
    """Where a day begins, or an hour where all is of one day; digits alone, since names of months have a language."""
    if times[0].date() != times[-1].date():
        labels = [f"{time:%m-%d}" for time in times]
    else:
        labels = [f"{time:%H}:00" for time in times]
    return [
        charts.Mark(float(place), label)
        for place, (before, label) in enumerate(zip(["", *labels], labels, strict=False), start=1)
        if label != before
    ]


def _roc(page: AssetPage, say: Words) -> tuple[str | None, str]:
    labelled = page.scores[page.scores["label"].notna()]
    anomaly = (labelled["label"] == "anomaly").to_numpy()
    if not anomaly.any() or anomaly.all():
        return None, ""
    values = labelled["score"].to_numpy(dtype=np.float64)
    false_alarms, hits, _ = roc_curve(anomaly, values)
    rang = too_high(labelled, page.rule).to_numpy()
    point = float(rang[~anomaly].mean()), float(rang[anomaly].mean())
    labels = {"false_alarms": say("roc.normals"), "hits": say("roc.faults")}
    alt = say("roc.point", false_alarms=f"{point[0]:.0%}", hits=f"{point[1]:.0%}")
    return charts.draw_roc(false_alarms, hits, operating_point=point, labels=labels), alt


# --- metrics ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MetricRow:
    """A metric, or why it is not defined."""

    name: str
    value: float | None
    interval: tuple[float, float] | None
    why: Said | None


def describe_metrics(page: AssetPage, say: Words) -> dict[str, Any]:
    """The metrics of the labelled tests, and what became of them under each condition."""
    metrics, counts = page.metrics, page.metrics.counts
    leaked = int(learnt_from(page.scores).sum())
    rows = {name: _metric_row(metrics, name, say) for name in METRIC_NAMES}
    by_domain = [row for name, row in rows.items() if name not in _MAIN_METRICS]
    caveat = metrics.notes.get("intervals")
    return {
        "labelled": counts.normal_source + counts.normal_target + counts.anomaly_source + counts.anomaly_target > 0,
        "caption": say(
            "metrics.caption",
            normals=counts.normal_source + counts.normal_target,
            anomalies=counts.anomaly_source + counts.anomaly_target,
            unlabelled=counts.unlabelled - leaked,
        ),
        "main": [rows[name] for name in _MAIN_METRICS],
        "by_domain": by_domain if any(row.value is not None for row in by_domain) else [],
        "caveat": say.translate(caveat) if caveat else None,
        "conditions": _condition_rows(page, say),
        "limits": say(
            "metrics.limits",
            threshold=words.number(page.threshold.value),
            limit=words.number(page.rule.clip_threshold),
            rule=name_rule(page.rule, say),
        )
        if page.threshold.value != page.rule.clip_threshold
        else None,
        "unwritten": [say.condition(name) for name in CONDITION_COLUMNS if not page.context[name].notna().any()],
    }


def _metric_row(metrics: AssetMetrics, name: str, say: Words) -> MetricRow:
    value, interval = getattr(metrics, name), interval_of(metrics, name)
    why = say.translate(metrics.notes.get(name, words.DASH)) if value is None else None
    return MetricRow(name, value, (interval.low, interval.high) if interval else None, why)


@dataclass(frozen=True)
class ConditionRow:
    """What became of the labelled tests under one value of one condition; `learnt` None where nobody learns by it."""

    condition: str
    value: str
    faults: int
    found: int
    normals: int
    false_alarms: int
    learnt: int | None


def _condition_rows(page: AssetPage, say: Words) -> list[ConditionRow]:
    """By domain, by each condition that was written down, and by the kind of fault."""
    tests = page.scores[page.scores["label"].notna()]
    if tests.empty:
        return []
    tests = tests.assign(high=too_high(tests, page.rule))
    written = page.context.drop_duplicates("clip_id").set_index("clip_id")
    known = tests.join(written[[*CONDITION_COLUMNS, "anomaly_type"]], on="clip_id")
    learnt = written.reindex([str(name) for name in page.normal_ids])
    rows = []
    for column in _GROUPED:
        counts = known[column].value_counts()
        for value in sorted(counts.index[:MAX_VALUES], key=str):
            rows.append(_condition_row(column, value, known[known[column] == value], learnt, say))
    return rows


def _condition_row(column: str, value: Any, rows: pd.DataFrame, learnt: pd.DataFrame, say: Words) -> ConditionRow:
    high, anomaly = rows["high"], rows["label"] == "anomaly"
    named = column if column in ("domain", "anomaly_type") else None
    return ConditionRow(
        condition=say(f"conditions.{named}") if named else say.condition(column),
        value=say(f"domain.{value}") if column == "domain" else str(value),
        faults=int(anomaly.sum()),
        found=int((anomaly & high).sum()),
        normals=int((~anomaly).sum()),
        false_alarms=int((~anomaly & high).sum()),
        learnt=_learnt_under(column, value, learnt),
    )


def _learnt_under(column: str, value: Any, learnt: pd.DataFrame) -> int | None:
    """Normals of the machine's own that are of one value of one condition; they are of its own domain, all of them."""
    if column == "domain":
        return len(learnt) if value == "target" else None
    return None if column == "anomaly_type" else int((learnt[column] == value).sum())
