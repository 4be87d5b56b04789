"""What ALP would choose for an asset: the router's engine, and the ensemble of all that are able.

The router sees what it sees at an onboarding: counts, the condition columns and the sound of the source's normals, and
the leave-one-out scores of the engines it weighs against each other. It never sees a test clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.methods import Method, Outcome, new_engine
from benchmarks.sets import BenchSet
from engines.base import ClipSet, Engine
from engines.conditions import ConditionEvidence, judge_condition, recording_features
from engines.ensemble import Ensemble, combine
from engines.routing import (
    AssetData,
    Choice,
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


def weigh_conditions(bench: BenchSet) -> tuple[ConditionEvidence, ...]:
    """What the source's normals say of each condition column, in the band that all target normals hold.

    Nothing where there is no source.
    """
    source = bench.source
    if source is None:
        return ()
    band = min(bench.clips[i].clip.bandwidth_hz for i in bench.indices("pool"))
    names, features = tuple(source.recordings), None
    if len(names) >= LIMITS.min_source_c:
        names, features = recording_features(source, band, seed=SEED)
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


class Routed:
    """What an onboarding does of its own accord: fit every candidate, settle on one, and score with it."""

    def __init__(self, choice: Choice, make: Callable[[str], Engine]) -> None:
        self._choice, self._make = choice, make
        self._kept: Engine | None = None

    def fit(self, target: ClipSet, source: ClipSet | None) -> Self:
        """Fit the candidates; the router has the last word."""
        fitted = {name: self._make(name).fit(target, source) for name in self._choice.candidates}
        trials = {name: count_false_alarms(engine.normal_scores()) for name, engine in fitted.items()}
        self._kept = fitted[settle(self._choice, trials)[0]]
        return self

    def decision_function(self, clips: ClipSet) -> NDArray[np.float64]:
        """Scores of the engine that was kept, float64 (n,)."""
        assert self._kept is not None
        return self._kept.decision_function(clips)


def choice_methods(data: AssetData, *, auto: str, alone: str) -> list[Method]:
    """`routed` and `ensemble` as things to fit, for what they cost; their scores come from those of the engines."""
    criteria = judge_criteria(data, LIMITS)
    choice = choose_engine(criteria)
    encoder = alone if choice.candidates == ("a",) else auto
    found = [Method(("routed",), lambda shelf: Routed(choice, partial(new_engine, shelf, encoder)))]
    try:
        members = choose_engine(criteria, wanted="ensemble").members
    except RejectedError:
        return found
    return [*found, Method(("ensemble",), lambda shelf: Ensemble(members, partial(new_engine, shelf, auto)))]
