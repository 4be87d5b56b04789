"""The engine of an asset and why it was chosen, in words and tables for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.metadata import CONDITION_COLUMNS
from schemas.references import Criterion, Selection
from tasks.report.words import Said, Words


def describe_engine(selection: Selection, say: Words) -> dict[str, Any]:
    """Name, description and the criteria of every engine."""
    if selection.engine == "ensemble":
        name = say("engine.name.ensemble", members=name_members(selection), encoder=selection.encoder)
    else:
        name = say("engine.name", engine=selection.engine.upper(), encoder=selection.encoder)
    engines = dict.fromkeys(criterion.engine for criterion in selection.criteria)
    return {
        "name": name,
        "description": say(f"engine.{selection.engine}"),
        "source": selection.source.recordings,
        "groups": [_criteria_group(selection, engine, say) for engine in engines],
    }


def name_members(selection: Selection) -> str:
    """The engines of an ensemble: `A, B`."""
    return ", ".join(member.upper() for member in selection.members)


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
