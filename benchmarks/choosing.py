"""What ALP would choose for an asset: the router's engine, and the ensemble of all that are able.

The router sees what it sees at an onboarding: counts, the condition columns and the sound of the source's normals, and
the leave-one-out scores of the engines it weighs against each other. It never sees a test clip.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.methods import Outcome
from engines.base import ClipSet
from engines.conditions import ConditionEvidence, judge_condition, recording_features
from engines.ensemble import combine
from engines.routing import (
    AssetData,
    choose_engine,
    count_false_alarms,
    judge_criteria,
    qualifying,
    settle,
)
from schemas.engine_settings import EnsembleSettings
from schemas.errors import RejectedError
from schemas.metadata import CONDITION_COLUMNS
from schemas.references import Criterion
from schemas.settings import RoutingSettings

LIMITS = RoutingSettings()
SEED = 0

Outcomes = Mapping[str, Outcome]


def weigh_conditions(source: ClipSet | None) -> tuple[ConditionEvidence, ...]:
    """What the source's normals say of each condition column; nothing where there is no source."""
    if source is None:
        return ()
    names, features = tuple(source.recordings), None
    if len(names) >= LIMITS.min_source_c:
        names, features = recording_features(source, min(clip.bandwidth_hz for clip in source.clips), seed=SEED)
    conditions = {clip.recording_id: clip.conditions for clip in source.clips}
    return tuple(
        judge_condition(
            features, [conditions[name].get(column) for name in names], column=column, limits=LIMITS, seed=SEED
        )
        for column in CONDITION_COLUMNS
    )


def describe(shots: int, source: ClipSet | None, evidence: tuple[ConditionEvidence, ...]) -> AssetData:
    """The asset as the router sees it."""
    return AssetData(shots, len(source.recordings) if source is not None else 0, evidence)


def true_columns(data: AssetData) -> tuple[str, ...]:
    """The condition columns that engine C is given."""
    return qualifying(data, LIMITS)


def choose(data: AssetData, outcomes: Outcomes, rows: Mapping[str, str], *, alone: str) -> dict[str, Outcome]:
    """The outcomes `routed` and `ensemble` of one draw.

    `rows` names the row of each engine, `alone` that of engine A where the router has no other.
    """
    criteria = judge_criteria(data, LIMITS)
    return {"routed": _route(criteria, outcomes, rows, alone), "ensemble": _combine(criteria, outcomes, rows)}


def _route(criteria: list[Criterion], outcomes: Outcomes, rows: Mapping[str, str], alone: str) -> Outcome:
    choice = choose_engine(criteria)
    trials = {
        engine: count_false_alarms(outcomes[rows[engine]]["normal_scores"])
        for engine in choice.candidates
        if len(choice.candidates) > 1
    }
    engine, _ = settle(choice, trials)
    row = alone if choice.candidates == ("a",) else rows[engine]
    return {"scores": outcomes[row]["scores"], "chose": row}


def _combine(criteria: list[Criterion], outcomes: Outcomes, rows: Mapping[str, str]) -> Outcome:
    try:
        members = choose_engine(criteria, wanted="ensemble").members
    except RejectedError:
        return {"why": "not eligible: one engine alone is able"}
    own = [outcomes[rows[engine]] for engine in members]
    scores, normals = np.array([one["scores"] for one in own]).T, np.array([one["normal_scores"] for one in own]).T
    together = combine(scores, normals, rule=EnsembleSettings().rule)
    return {"scores": together.tolist(), "chose": "+".join(rows[engine] for engine in members)}
