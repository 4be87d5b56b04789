"""Which engine the data can carry: named criteria, each with value, limit, verdict and one sentence, and the choice.

Criteria are told of every engine, chosen or not. The *decisive* ones open an engine or close it; the others say more:
one for each condition column, and what the source never heard. Counts are normal recordings.

- A needs normals of the asset itself.
- B needs `min_source` source normals of the machine type besides.
- C needs `min_source_c` of them, and `min_columns` condition columns that are filled, tell conditions apart, and are
  true (`engines.conditions`). Then it must prove itself: `settle` lets it have the asset only if on normals held out
  it rings no more often than the engines it would replace.

Of the engines that the data carry the best is taken: C, else B, else A.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy
from numpy.typing import ArrayLike

from engines.conditions import NEEDED_CLASSES, ConditionEvidence
from schemas.errors import InputError, RejectedError
from schemas.metadata import CONDITION_COLUMNS
from schemas.references import Criterion
from schemas.settings import EngineChoice, RoutingSettings

MIN_TARGET_NORMALS = 3
"""Recordings every engine needs: two to learn from when the third is left out, with something to compare between."""
ENGINES = ("a", "b", "c")
"""From the one that needs least of the data to the one that needs most."""
TRIAL_RINGS = 0.1
"""Normals, of all held out in a trial, that ring on average if scores are normally distributed: one in ten trials."""
MAX_NAMED = 5
"""Values of a column that a sentence names."""


@dataclass(frozen=True)
class AssetData:
    """What an asset has for engines to learn from.

    `conditions` is the evidence of every condition column on the source's normals; `unseen` the target's values, by
    column, that no source normal was recorded under.
    """

    target_normals: int
    source_normals: int
    conditions: tuple[ConditionEvidence, ...] = ()
    unseen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """The engine to be fitted and why.

    `candidates` are the engines to fit, the chosen one first, then those it must prove itself against; `members` the
    engines that an ensemble is made of.
    """

    engine: str
    reason: str
    candidates: tuple[str, ...]
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class FalseAlarms:
    """How many of the normals held out rang."""

    held_out: int
    rang: int


def judge_criteria(
    data: AssetData, limits: RoutingSettings, *, min_target: int = MIN_TARGET_NORMALS
) -> list[Criterion]:
    """Every criterion of every engine, met or not; those of one engine stand together."""
    return [
        _target_criterion("a", data, min_target),
        *_permission("a", limits),
        _target_criterion("b", data, min_target),
        _source_criterion("b", data, limits.min_source),
        *_permission("b", limits),
        _target_criterion("c", data, min_target),
        _source_criterion("c", data, limits.min_source_c),
        _columns_criterion(data, limits),
        *_permission("c", limits),
        *(_column_criterion(evidence, data, limits) for evidence in data.conditions),
        *(_unseen_criterion(column, data.unseen[column]) for column in sorted(data.unseen) if data.unseen[column]),
    ]


def qualifying(data: AssetData, limits: RoutingSettings) -> tuple[str, ...]:
    """The condition columns that engine C may learn from, in the order of the evidence."""
    return tuple(evidence.column for evidence in data.conditions if _first_fault(evidence, data, limits) is None)


def choose_engine(criteria: Sequence[Criterion], *, wanted: EngineChoice = "auto") -> Choice:
    """The engine to be fitted, those it is compared with, and the reason, which says also why none better.

    Raises
    ------
    RejectedError
        No engine's criteria are met, or not those of the engine that was asked for; an ensemble of less than two.
        The message says why; `advise` says what would help.
    """
    able = _able(criteria)
    if wanted == "ensemble":
        return _choose_ensemble(criteria, able)
    if wanted != "auto":
        if wanted not in able:
            raise RejectedError("; ".join(_unmet(criteria, wanted)))
        return Choice(wanted, f"engine {wanted.upper()} was asked for", (wanted,))
    if not able:
        raise RejectedError("; ".join(sentence for engine in ENGINES for sentence in _unmet(criteria, engine)))
    best = able[-1]
    better = ENGINES[: ENGINES.index(best) : -1]
    why_none = [sentence for engine in better for sentence in _why_not(criteria, engine)]
    reason = "; ".join([f"engine {best.upper()} is the highest that the data carry", *why_none])
    return Choice(best, reason, able[::-1] if best == "c" else (best,))


def advise(criteria: Sequence[Criterion], *, wanted: EngineChoice) -> list[str]:
    """What to do where `choose_engine` refuses: a sentence for each thing that is missing, and what can be had now.

    Of several engines that could be made able, the one that needs least.
    """
    able = _able(criteria)
    engine = wanted if wanted in ENGINES else next(each for each in ENGINES if each not in able)
    remedies = [_remedy(criterion) for criterion in _unmet_criteria(criteria, engine)]
    return [*remedies, *([f"or ask for auto, which takes {able[-1].upper()} now"] if able else [])]


def settle(choice: Choice, trials: Mapping[str, FalseAlarms]) -> tuple[str, list[Criterion]]:
    """The engine that keeps the asset after the trial on held-out normals, and the criterion that decided.

    The chosen one keeps it if it rings no more often, by share, than each of the other candidates; else the next
    candidate has it. `trials` holds an entry for every candidate. A choice without rivals stands without a trial.
    """
    first, *rivals = choice.candidates
    if not rivals:
        return choice.engine, []
    own = trials[first]
    met = all(own.rang * trials[rival].held_out <= trials[rival].rang * own.held_out for rival in rivals)
    others = " and ".join(f"{rival.upper()} on {trials[rival].rang}" for rival in rivals)
    trial = Criterion(
        engine=first,
        name="false_alarms",
        value=own.rang,
        limit=min(trials[rival].rang for rival in rivals),
        met=met,
        sentence=_sentence(first, met, f"rings on {own.rang} of {own.held_out} normals held out, {others}"),
    )
    return first if met else rivals[0], [trial]


def explain_settled(choice: Choice, engine: str, trial: Sequence[Criterion]) -> str:
    """The reason for the engine that keeps the asset, after `settle`."""
    if not trial:
        return choice.reason
    best = f"engine {engine.upper()} is the highest that the data carry"
    return "; ".join([best, *(criterion.sentence for criterion in trial)])


def count_false_alarms(normal_scores: ArrayLike, *, level: float | None = None) -> FalseAlarms:
    """How many normals would ring if each were met by a threshold set on the others alone.

    Parameters
    ----------
    normal_scores
        Leave-one-out scores of the target's normals, (n,), n ≥ 3, higher = more anomalous.
    level
        Share that rings on average where scores are independent and normally distributed; by default
        `TRIAL_RINGS` / n, 1 % of ten. A fixed share would let a large set ring by chance alone: at 1 % of a
        hundred normals, engine C as good as A and B would lose every second asset to luck.

    The threshold is the upper prediction limit for one more observation, mean + t · sd · √(1 + 1/m), with the
    (1 − level) quantile of Student's t with m − 1 degrees of freedom and m = n − 1 others (Hahn & Meeker,
    Statistical Intervals, 1991, section 4.7). Engines' scores have units of their own, so only what rings can be
    compared. A rank against the others cannot tell engines apart: whatever the scores, the highest of ten is
    the highest of ten. A limit from mean and spread can, since an engine that now and then scores a normal far above
    the rest rings on it, and one whose normals lie together does not. With few others the limit lies far out (32
    deviations at m = 2 and 1 %), so few normals rarely decide against an engine.

    A score rings above the limit only: others that are all alike set the limit at their value, and a tie with it, but
    for rounding, does not ring.

    Raises
    ------
    InputError
        There are fewer than three scores, or one is NaN or infinite.
    """
    scores = np.asarray(normal_scores, dtype=np.float64)
    if scores.ndim != 1 or scores.size < MIN_TARGET_NORMALS:
        raise InputError(f"normal scores of shape {scores.shape}: the trial needs (n,) with n ≥ {MIN_TARGET_NORMALS}")
    if not np.isfinite(scores).all():
        raise InputError("a normal score is NaN or infinite; the engine is broken")
    others = scores.size - 1
    share = TRIAL_RINGS / scores.size if level is None else level
    reach = float(scipy.stats.t.isf(share, others - 1)) * math.sqrt(1.0 + 1.0 / others)
    rounding = 1e-9 * float(np.abs(scores).max())
    rang = 0
    for index, score in enumerate(scores):
        rest = np.delete(scores, index)
        rang += bool(score > rest.mean() + reach * rest.std(ddof=1) + rounding)
    return FalseAlarms(held_out=scores.size, rang=rang)


def _choose_ensemble(criteria: Sequence[Criterion], able: tuple[str, ...]) -> Choice:
    unable = [engine for engine in reversed(ENGINES) if engine not in able]
    if len(able) < 2:
        found = f"only {able[0].upper()} is able: ask for auto" if able else "none is able"
        why_not = [sentence for engine in unable for sentence in _unmet(criteria, engine)]
        raise RejectedError("; ".join([f"an ensemble needs two able engines and {found}", *why_not]))
    names = [engine.upper() for engine in able]
    reason = f"an ensemble of {', '.join(names[:-1])} and {names[-1]} was asked for"
    why_not = [sentence for engine in unable for sentence in _why_not(criteria, engine)]
    return Choice("ensemble", "; ".join([reason, *why_not]), ("ensemble",), able)


def _unmet(criteria: Sequence[Criterion], engine: str) -> list[str]:
    """Why an engine cannot be had: the sentences of its decisive criteria that are not met."""
    return [criterion.sentence for criterion in _unmet_criteria(criteria, engine)]


def _unmet_criteria(criteria: Sequence[Criterion], engine: str) -> list[Criterion]:
    return [each for each in criteria if each.engine == engine and each.decisive and not each.met]


def _able(criteria: Sequence[Criterion]) -> tuple[str, ...]:
    return tuple(engine for engine in ENGINES if not _unmet(criteria, engine))


def _remedy(criterion: Criterion) -> str:
    """What would meet a decisive criterion."""
    missing = math.ceil(criterion.limit - criterion.value)
    wanting = {
        "target_normals": f"record {missing} more normals of this machine",
        "source_normals": f"onboard {missing} more source normals, of other machines of its type or other domains",
        "condition_columns": f"fill in {missing} more condition columns of the source, as conditions truly were",
        "allowed": "take it off routing.forbid in the settings",
    }
    return f"for {criterion.engine.upper()}: {wanting[criterion.name]}"


def _why_not(criteria: Sequence[Criterion], engine: str) -> list[str]:
    """The first thing in an engine's way; where too few columns qualify, also what is wrong with the first of them."""
    mine = [criterion for criterion in criteria if criterion.engine == engine and not criterion.met]
    first = next(criterion for criterion in mine if criterion.decisive)
    columns = [criterion.sentence for criterion in mine if criterion.name in CONDITION_COLUMNS]
    return [first.sentence, *(columns[:1] if first.name == "condition_columns" else [])]


def _target_criterion(engine: str, data: AssetData, least: int) -> Criterion:
    return _count_criterion(engine, "target_normals", data.target_normals, least, "normal recordings of this machine")


def _source_criterion(engine: str, data: AssetData, least: int) -> Criterion:
    return _count_criterion(engine, "source_normals", data.source_normals, least, "source normals of this machine type")


def _count_criterion(engine: str, name: str, found: int, least: int, what: str) -> Criterion:
    met = found >= least
    sentence = _sentence(engine, met, f"{found} {what}, {least} needed")
    return Criterion(engine=engine, name=name, value=found, limit=least, met=met, sentence=sentence)


def _columns_criterion(data: AssetData, limits: RoutingSettings) -> Criterion:
    columns = qualifying(data, limits)
    found = f"{len(columns)} of {len(CONDITION_COLUMNS)} condition columns qualify, {limits.min_columns} needed"
    if columns:
        found += f" ({', '.join(columns)})"
    met = len(columns) >= limits.min_columns
    return Criterion(
        engine="c",
        name="condition_columns",
        value=len(columns),
        limit=limits.min_columns,
        met=met,
        sentence=_sentence("c", met, found),
    )


def _permission(engine: str, limits: RoutingSettings) -> Iterator[Criterion]:
    if engine in limits.forbid:
        sentence = _sentence(engine, False, "forbidden by the settings")
        yield Criterion(engine=engine, name="allowed", value=0, limit=1, met=False, sentence=sentence)


def _column_criterion(evidence: ConditionEvidence, data: AssetData, limits: RoutingSettings) -> Criterion:
    """The first thing that keeps a column from qualifying, or how well its values are told from the sound."""
    fault = _first_fault(evidence, data, limits)
    value, limit, found = fault or _told_from_sound(evidence)
    return Criterion(
        engine="c",
        name=evidence.column,
        value=value,
        limit=limit,
        met=fault is None,
        sentence=_sentence("c", fault is None, found),
        decisive=False,
    )


def _first_fault(
    evidence: ConditionEvidence, data: AssetData, limits: RoutingSettings
) -> tuple[float, float, str] | None:
    """Value, limit and words of what is wrong with a column; None where it qualifies."""
    column = evidence.column
    if not data.source_normals:
        return 0, limits.min_source_c, f"{column} cannot be judged without source normals"
    if evidence.filled < limits.min_filled:
        found, needed = _percent(evidence.filled), _percent(limits.min_filled)
        return evidence.filled, limits.min_filled, f"{column} is {found} filled, {needed} needed"
    if evidence.classes < NEEDED_CLASSES:
        some = f"only {evidence.classes} value" if evidence.classes else "no value"
        return (
            evidence.classes,
            NEEDED_CLASSES,
            f"{some} of {column} has {limits.min_class} normals or more, {NEEDED_CLASSES} needed",
        )
    if evidence.p_value is None:
        least = limits.min_source_c
        return data.source_normals, least, f"{column} is put to the test from {least} source normals on"
    if not evidence.is_true(limits):
        reached, shuffled, _ = _told_from_sound(evidence)
        return reached, shuffled, f"{column} cannot be told from the sound: are the labels right?"
    return None


def _told_from_sound(evidence: ConditionEvidence) -> tuple[float, float, str]:
    reached = evidence.accuracy or 0.0
    limit = evidence.chance if evidence.shuffled is None else evidence.shuffled
    found = f"{evidence.column} is told from the sound in {_percent(reached)} of normals held out"
    return reached, limit, f"{found}, in {_percent(evidence.chance)} by chance"


def _unseen_criterion(column: str, values: Sequence[str]) -> Criterion:
    named = ", ".join(values[:MAX_NAMED]) + (", …" if len(values) > MAX_NAMED else "")
    return Criterion(
        engine="c",
        name="unseen_conditions",
        value=len(values),
        limit=0,
        met=False,
        sentence=f"C: warning: the source never heard {column} {named}",
        decisive=False,
    )


def _sentence(engine: str, met: bool, found: str) -> str:
    return f"{engine.upper()}: {'yes' if met else 'no'}: {found}"


def _percent(share: float) -> str:
    """`62 %`; to a tenth, rounded down, so that what falls short never reads as what is needed."""
    return f"{math.floor(1000 * share + 1e-6) / 10:g} %"
