"""What a package's page says, put into words and tables for its template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from schemas.problems import Problem, Severity, as_runs
from schemas.references import AssetResult, Verdict
from tasks.report import words
from tasks.report.conclusion import TONES, Conclusion, name_measured, name_verdict
from tasks.report.first_screen import name_window
from tasks.report.words import Said, Words

if TYPE_CHECKING:
    from tasks.report.pages import PackagePage

MAX_PLACES = 40
"""Places listed a problem."""
OPEN_PLACES = 8
"""Places that are shown without a click."""
MAX_NEXT_STEPS = 6
"""Kinds of problems named on the first screen of a rejected package."""
MAX_QUALITY_ROWS = 300
"""Rows of the table of recordings; those with problems are kept first."""
QUALITY_MEASURES = (
    "duration_s",
    "sample_rate",
    "channels",
    "band_hz",
    "rms",
    "peak",
    "clipping_ratio",
    "silence_ratio",
    "dc_offset",
)
"""Columns of the table of recordings, as `engines.quality` names them."""

_VERDICT_ORDER = ("reject", "warn", "ok")


def describe(page: PackagePage, say: Words) -> dict[str, Any]:
    """What the template shows beside the page's own fields."""
    measures = [name for name in QUALITY_MEASURES if name in page.quality_table.columns]
    facts = [
        (say("about.customer"), page.package.customer),
        (say("about.package"), page.package.name),
        (say("about.package_id"), page.package.package_id),
        (say("about.run"), page.run_id),
    ]
    if page.prefect_run_id:
        facts.append((say("about.prefect_run"), page.prefect_run_id))
    return {
        "verdict": _package_verdict(page, say),
        "concluded": _concluded(page, say),
        "problems": _problem_groups(page.quality.problems, say),
        "assets": [
            (
                say.machine(asset.machine_type, asset.section_id),
                _relative_link(asset),
                asset,
                _rule(asset, say),
                _sureness(concluded),
            )
            for asset, concluded in _pairs(page)
        ],
        "intakes": [(say.machine(a.machine_type, a.section_id), a) for a in page.quality.assets],
        "open_places": OPEN_PLACES,
        "measures": measures,
        "quality_rows": _quality_rows(page.quality_table, measures),
        "mixed_down": _mixed_down(page.quality_table, say),
        "failing": [(each.rule, _share(each.kept), _share(each.needed)) for each in page.statements if not each.holds],
        "facts": facts,
    }


def _package_verdict(page: PackagePage, say: Words) -> dict[str, Any]:
    quality = page.quality
    errors = sum(problem.count for problem in quality.problems if problem.severity == Severity.ERROR)
    if quality.verdict == Verdict.REJECTED:
        kind = "bad_input" if quality.bad_input else "quality"
        blocking = [p for p in quality.problems if p.severity == Severity.ERROR or p.rule == "asset.normals"]
        groups = _group(blocking, say)
        return {
            "tone": "bad",
            "headline": say(f"verdict.rejected.{kind}"),
            "lead": say(f"verdict.lead.{kind}", n=errors),
            "next": groups[:MAX_NEXT_STEPS],
            "more": max(0, len(groups) - MAX_NEXT_STEPS),
        }
    if quality.verdict == Verdict.ACCEPTED_WITH_QUARANTINE:
        headline = say("verdict.accepted_with_quarantine", n=quality.quarantined)
    else:
        headline = say("verdict.accepted.warned" if quality.problems else "verdict.accepted")
    # Nobody shall stop at green here while a machine's own page is red.
    tones = {"good" if quality.verdict == Verdict.ACCEPTED else "caution"}
    tones |= {concluded.tone for concluded in page.concluded if concluded is not None}
    tone = next(tone for tone in TONES if tone in tones)
    return {"tone": tone, "headline": headline, "lead": say(f"verdict.lead.{quality.verdict}"), "next": [], "more": 0}


def _pairs(page: PackagePage) -> list[tuple[AssetResult, Conclusion | None]]:
    concluded = page.concluded or [None] * len(page.assets)
    return list(zip(page.assets, concluded, strict=True))


@dataclass(frozen=True)
class ConcludedLine:
    """What the page of a machine says first, and where it is."""

    name: str
    link: str | None
    verdict: str
    tone: str
    measured: str


def _concluded(page: PackagePage, say: Words) -> list[ConcludedLine]:
    """The machines' own verdicts, the gravest first."""
    known = [(asset, concluded) for asset, concluded in _pairs(page) if concluded is not None]
    return [
        ConcludedLine(
            name=say.machine(asset.machine_type, asset.section_id),
            link=_relative_link(asset),
            verdict=name_verdict(concluded, say),
            tone=concluded.tone,
            measured=name_measured(concluded, say),
        )
        for asset, concluded in sorted(known, key=lambda pair: TONES.index(pair[1].tone))
    ]


def _rule(asset: AssetResult, say: Words) -> str:
    """When it rings, in the words of the machine's page."""
    if asset.rule is None:
        return words.DASH
    m, window = map(int, asset.rule.split(" of "))
    return name_window(m, window, say)


def _sureness(concluded: Conclusion | None) -> str | None:
    return None if concluded is None else concluded.sureness


@dataclass(frozen=True)
class Place:
    """Where a rule failed; cells are texts, `message` None where the group's title says it all."""

    where: str
    row: int | None
    column: str | None
    value: str | None
    message: Said | None


@dataclass(frozen=True)
class ProblemGroup:
    """All places where one rule failed and the remedy is the same; `columns` names the fields worth a column."""

    title: Said
    remedy: Said
    count: int
    places: Sequence[Place]
    columns: Sequence[str]
    more_rows: str
    """Lines of the table among the places that are not shown."""


def _problem_groups(problems: Sequence[Problem], say: Words) -> list[tuple[Severity, int, list[ProblemGroup]]]:
    """Problems by severity, the gravest first, then by rule and remedy in the order they were found."""
    sections = []
    for severity in (Severity.ERROR, Severity.REJECT, Severity.WARN):
        mine = [problem for problem in problems if problem.severity == severity]
        if mine:
            sections.append((severity, sum(problem.count for problem in mine), _group(mine, say)))
    return sections


def _group(problems: Sequence[Problem], say: Words) -> list[ProblemGroup]:
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.rule, problem.remedy), []).append(problem)
    return [_problem_group(group, say) for group in groups.values()]


def _problem_group(problems: Sequence[Problem], say: Words) -> ProblemGroup:
    title = say.message(*problems)
    alike = len({problem.message for problem in problems}) == 1
    places = [
        Place(
            where=problem.file or problem.clip_id or say.subject(problem),
            row=problem.row,
            column=problem.column_name,
            # What is counted over a machine or a package stands in the sentence, and is the value of nothing.
            value=problem.value if problem.file or problem.clip_id else None,
            message=None if alike else say.message(problem),
        )
        for problem in problems[:MAX_PLACES]
    ]
    named = any(problem.file or problem.clip_id for problem in problems)
    columns = [
        name
        for name in ("row", "column", "value", "message")
        if any(getattr(place, name) is not None for place in places)
    ]
    shown = {problem.row for problem in problems[:MAX_PLACES]}
    rows = {row for problem in problems for row in problem.rows()} - shown
    return ProblemGroup(
        title=title,
        remedy=say.remedy(problems[0]),
        count=sum(problem.count for problem in problems),
        places=places if named or columns else [],
        columns=columns,
        more_rows=words.rows_text(as_runs(rows)),
    )


def _share(value: float) -> str:
    """Rounded down, so that what fails a statement never reads as 100 %."""
    return f"{math.floor(1000 * value) / 10:g} %"


def _relative_link(asset: AssetResult) -> str | None:
    """From the package's page to the asset's, which lies one folder down: `<asset>/report.html`."""
    return asset.report and "/".join(asset.report.split("/")[-2:])


def _quality_rows(table: pd.DataFrame, measures: Sequence[str]) -> list[dict[str, Any]]:
    """Rows for the table of recordings, as texts, those with problems first."""
    if table.empty:
        return []
    order = table["verdict"].map({name: i for i, name in enumerate(_VERDICT_ORDER)}) if "verdict" in table else 0
    ranked = table.assign(_order=order).sort_values("_order", kind="stable").head(MAX_QUALITY_ROWS)
    return [
        {
            "name": next((row[key] for key in ("clip_id", "relative_path") if not pd.isna(row[key])), words.DASH),
            "verdict": row.get("verdict", "ok"),
            "cells": [(name, _measure_text(name, row[name])) for name in measures],
        }
        for row in ranked.to_dict("records")
    ]


def _mixed_down(table: pd.DataFrame, say: Words) -> list[str]:
    """What became of recordings of several channels, a sentence a sensor; none where all have one."""
    if "sensor" not in table or "channels" not in table:
        return []
    counts = table.loc[table["channels"].fillna(1) > 1, "sensor"].value_counts()
    return [say(f"quality.mixed.{sensor}", n=int(count)) for sensor, count in sorted(counts.items())]


def _measure_text(name: str, value: Any) -> str:
    if value is None or pd.isna(value):
        return words.DASH
    if name in ("rms", "peak"):
        return f"{20 * math.log10(value):.1f}" if value > 0 else "−∞"
    if name.endswith("_ratio"):
        return f"{value:.1%}" if value else "0 %"
    if name in ("sample_rate", "channels", "band_hz"):
        return f"{int(value):,}"
    return f"{value:.3f}" if name == "dc_offset" else f"{value:.1f}"
