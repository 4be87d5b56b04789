"""An asset's normals: which of them the engine learns from, and the scores that its threshold rests on.

Normal scores lie beside the model, `calibration.parquet` (recording_id, score) and `calibration.json` (how they were
made, and what the recordings were like), so that nobody has to load an engine to know them. They are made in one of two
ways:

- **leave-one-out**: the engine learns from all normals, and each is scored by an engine fitted without it;
- **split**: the engine learns from one half, and scores the other, which it never hears while it learns. A threshold
  set on the held-out half can be certified (docs/calibration.md), for half the normals to learn from.

Which recordings are held out follows from their ids alone: not from their order, nor from the packages they came in.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from engines.base import ClipSet, Engine, recording_scores
from engines.calibration import MIN_TAIL_NORMALS, Method, alarm_rank
from engines.comparability import Recorded
from schemas.errors import RejectedError, StoreError
from schemas.settings import OnboardSettings
from tasks.store import ObjectStore

CALIBRATION = "calibration"
"""Name of the two files, `.parquet` and `.json`, in a model's folder."""


class CalibrationCard(BaseModel):
    """`calibration.json`: how the normal scores beside a model were made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method
    learnt: int = Field(description="Normal recordings that the engine learnt from.")
    calibrated: int = Field(description="Normal recordings that have a score.")
    recorded: Recorded = Field(description="What a recording must be like for its score to be compared with these.")


@dataclass(frozen=True, eq=False)
class NormalScores:
    """Scores of normals by engines that did not learn from them: float64 (n,), by recording id."""

    recording_ids: tuple[str, ...]
    scores: NDArray[np.float64]
    method: Method
    learnt: int
    """Normal recordings that the engine learnt from."""
    recorded: Recorded
    """How all of them were recorded."""


@dataclass(frozen=True, eq=False)
class Division:
    """Ledger rows of an asset's normals: those to learn from, and those held out; none by leave-one-out."""

    learnt: pd.DataFrame
    held_out: pd.DataFrame

    @property
    def is_split(self) -> bool:
        """Whether normals are held out."""
        return len(self.held_out) > 0


def divide(normals: pd.DataFrame, settings: OnboardSettings) -> Division:
    """Hold half of the normals out where the alarm policy asks for it, or they carry its budget.

    Raises
    ------
    RejectedError
        The policy asks for a split, and there are too few normals for one.
    """
    policy, least = settings.alarm, settings.qa.min_normals
    names = sorted(set(normals["recording_id"]), key=_place)
    learnt = max(least, len(names) // 2)
    held_out = len(names) - learnt
    carried = held_out > 0 and alarm_rank(held_out, policy.alpha) > 0
    if policy.calibration == "leave_one_out" or (policy.calibration == "auto" and not carried):
        return Division(normals, normals.iloc[:0])
    if held_out < MIN_TAIL_NORMALS:
        raise RejectedError(
            f"calibration by split needs {least + MIN_TAIL_NORMALS} normal recordings, {least} to learn from and "
            f"{MIN_TAIL_NORMALS} to calibrate on, and there are {len(names)}; record more, or set alarm.calibration "
            "to auto or leave_one_out"
        )
    is_learnt = normals["recording_id"].isin(names[:learnt])
    return Division(normals[is_learnt].reset_index(drop=True), normals[~is_learnt].reset_index(drop=True))


def _place(recording_id: str) -> str:
    """Where a recording stands in the order by which normals are divided: as good as drawn, and the same for ever."""
    return hashlib.sha256(f"calibration\0{recording_id}".encode()).hexdigest()


def score_normals(engine: Engine, learnt: ClipSet, held_out: ClipSet) -> NormalScores:
    """Scores of the held-out normals by the engine; of those it learnt from, left out, where none are held out."""
    fitted, recorded = len(learnt.recordings), Recorded.measure(learnt, held_out)
    if len(held_out):
        scores = recording_scores(held_out, engine.decision_function(held_out))
        return NormalScores(tuple(held_out.recordings), scores, "split", fitted, recorded)
    method: Method = "leave_one_out" if engine.normal_scores_method == "leave_one_out" else "leave_group_out"
    return NormalScores(tuple(learnt.recordings), engine.normal_scores(), method, fitted, recorded)


def save_normal_scores(found: NormalScores, folder: Path) -> None:
    """Write the two files into a model's folder."""
    table = pd.DataFrame({"recording_id": list(found.recording_ids), "score": found.scores})
    table.to_parquet(folder / f"{CALIBRATION}.parquet", index=False)
    card = CalibrationCard(
        method=found.method, learnt=found.learnt, calibrated=len(found.scores), recorded=found.recorded
    )
    (folder / f"{CALIBRATION}.json").write_text(card.model_dump_json(indent=2) + "\n")


def read_normal_scores(store: ObjectStore, prefix: str) -> NormalScores:
    """The normal scores of the model under `prefix`.

    Raises
    ------
    StoreError
        They are not there, as of a model of an older version, or the two files do not fit.
    """
    names = [f"{prefix}/{CALIBRATION}.{ending}" for ending in ("json", "parquet")]
    for name in names:
        if not store.exists(name):
            raise StoreError(f"{name} is not there; onboard a package of the asset again, which makes the model anew")
    card, table = store.get_model(names[0], CalibrationCard), store.get_frame(names[1])
    if len(table) != card.calibrated:
        raise StoreError(
            f"{names[1]} holds {len(table)} scores, {names[0]} says {card.calibrated}; delete the model's folder and "
            "onboard a package of the asset again"
        )
    ids = tuple(table["recording_id"].astype(str))
    return NormalScores(ids, table["score"].to_numpy(dtype=np.float64), card.method, card.learnt, card.recorded)
