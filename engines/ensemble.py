"""The ensemble: every engine that the data can carry, each score turned into its own p-value, and one rule for all.

Scores of different engines have no common unit; p-values have. The p-value of a score s among n normal scores of its
engine is that of Student's prediction: P(T > (s − m) / (d · √(1 + 1/n))) with n − 1 degrees of freedom, m and d the
mean and standard deviation of the engine's leave-one-out scores. It is modelled, not conformal: conformal p-values of
ten normals take eleven values, and what all engines call "beyond every normal" would be one tie.

The combined score is −log10 p of one of the engines, ordered by alarm: the one from which on more than half of them
are at least as alarmed (`majority`), the most alarmed (`any`), or the least (`all`, which is the minimum of normalized
scores). `fisher` is the mean of −log10 p, Fisher's method up to a constant. By majority an ensemble rings at a
threshold exactly when more than half of its engines do: engine A alone, to which every normal of the source is new,
cannot make it ring.

Sources: R. A. Fisher, Statistical Methods for Research Workers, 1925 (§21.1, combining p-values); G. E. P. Box and
G. C. Tiao, Bayesian Inference in Statistical Analysis, 1973 (Student's predictive distribution).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import scipy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from engines.base import ClipSet, Engine, Progress
from engines.fitting import MIN_RECORDINGS, folds, name_method, require_normals
from engines.saving import Tensors, read_card, write_card
from schemas.engine_settings import EnsembleSettings
from schemas.errors import InputError, UsageError

Rule = Literal["majority", "any", "all", "fisher"]
MakeMember = Callable[[str, int], Engine]
"""A new member by its name and the fewest normals it accepts."""

SPREAD_FLOOR = 1e-6
"""Least standard deviation of normal scores, as a share of their mean's size."""


def log_p_values(scores: NDArray[np.float64], normal_scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """log10 of Student's predictive p-values, float64 like `scores`.

    Parameters
    ----------
    scores
        float64 (m,) or (m, k), higher = more anomalous.
    normal_scores
        float64 (n,) or (n, k), n ≥ 2: leave-one-out scores of the normals, one column an engine.
    """
    count = len(normal_scores)
    if count < 2:
        raise InputError(f"{count} normal score gives no spread; the ensemble needs two")
    mean, spread = normal_scores.mean(axis=0), normal_scores.std(axis=0, ddof=1)
    spread = np.maximum(spread, np.maximum(SPREAD_FLOOR * np.abs(mean), 1e-12))
    deviation = (scores - mean) / (spread * np.sqrt(1 + 1 / count))
    return np.asarray(scipy.stats.t.logsf(deviation, df=count - 1) / np.log(10), dtype=np.float64)


def combine(
    scores: NDArray[np.float64], normal_scores: NDArray[np.float64], *, rule: Rule = "majority"
) -> NDArray[np.float64]:
    """One score a clip from those of k engines, float64 (m,); higher = more anomalous.

    Parameters
    ----------
    scores
        float64 (m, k): a column an engine.
    normal_scores
        float64 (n, k): a column an engine, its leave-one-out scores of the n normals. Each column is read by itself and
        may stand in an order of its own: what is in one row need not be one normal's.
    rule
        Which of the engines' −log10 p is the score; see the module.
    """
    surprise = np.sort(-log_p_values(scores, normal_scores), axis=1)
    count = surprise.shape[1]
    match rule:
        case "fisher":
            return np.asarray(surprise.mean(axis=1), dtype=np.float64)
        case "any":
            chosen = count - 1
        case "all":
            chosen = 0
        case "majority":
            # Of 2 engines both must ring, of 3 two, of 4 three.
            chosen = (count - 1) // 2
    return np.asarray(surprise[:, chosen], dtype=np.float64)


class Ensemble(Engine):
    """All of several engines, judged by one rule.

    `make` gives new members; a member is fitted once on all normals, and once more for every fold that is left out,
    since the p-values are learnt from the normals too. It has no anomaly map: a member's would be in the member's unit,
    and the threshold is in the ensemble's.
    """

    name: ClassVar[str] = "ensemble"

    def __init__(
        self,
        members: tuple[str, ...],
        make: MakeMember,
        settings: EnsembleSettings | None = None,
    ) -> None:
        if len(members) < 2:
            raise UsageError(f"an ensemble of {len(members)} engine is none; name two or more")
        if twice := _named_twice(members):
            raise UsageError(f"an ensemble names engine {twice.upper()} twice; name each engine once")
        self.member_names = members
        self.settings = settings or EnsembleSettings()
        self.members: dict[str, Engine] = {}
        self._make = make
        self._calibration: NDArray[np.float64] = np.empty((0, 0))
        self._normal_scores: NDArray[np.float64] = np.empty(0)

    def fit(self, target: ClipSet, source: ClipSet | None = None, *, progress: Progress | None = None) -> Self:
        """Fit every member, then score each normal by an ensemble fitted without it.

        Raises
        ------
        InputError
            Fewer than 3 recordings, or what a member refuses.
        """
        require_normals(target, engine=self.name)
        left_out = folds(target.recordings, self.settings.max_refits)
        members, calibration = self._fit_members(target, source, least=MIN_RECORDINGS)
        scores: dict[str, float] = {}
        for fold in left_out:
            scores.update(self._score_without(fold, target, source))
            _tell(progress, sum(clip.recording_id in fold for clip in target.clips))
        self.members, self._calibration = members, calibration
        self._normal_scores = np.array([scores[name] for name in target.recordings])
        self.normal_scores_method = name_method(left_out)
        return self

    def _fit_members(
        self, target: ClipSet, source: ClipSet | None, *, least: int
    ) -> tuple[dict[str, Engine], NDArray[np.float64]]:
        members = {name: self._make(name, least).fit(target, source) for name in self.member_names}
        # Sorted: sums over normals then do not hang on the order they came in.
        columns = [np.sort(member.normal_scores()) for member in members.values()]
        return members, np.stack(columns, axis=1)

    def _score_without(self, fold: set[str], target: ClipSet, source: ClipSet | None) -> dict[str, float]:
        left = [i for i, clip in enumerate(target.clips) if clip.recording_id in fold]
        kept = [i for i, clip in enumerate(target.clips) if clip.recording_id not in fold]
        others = target.subset(kept)
        members, calibration = self._fit_members(others, source, least=2)
        found = self._combine(members, calibration, target.subset(left))
        best: dict[str, float] = {}
        for i, score in zip(left, found, strict=True):
            name = target.clips[i].recording_id
            best[name] = max(float(score), best.get(name, -np.inf))
        return best

    def _combine(
        self, members: Mapping[str, Engine], calibration: NDArray[np.float64], clips: ClipSet
    ) -> NDArray[np.float64]:
        if not len(clips):
            return np.empty(0)
        scores = np.stack([member.decision_function(clips) for member in members.values()], axis=1)
        return combine(scores, calibration, rule=self.settings.rule)

    def decision_function(self, clips: ClipSet, *, progress: Progress | None = None) -> NDArray[np.float64]:
        self._require_fit()
        scores = self._combine(self.members, self._calibration, clips)
        _tell(progress, len(clips))
        return scores

    def normal_scores(self) -> NDArray[np.float64]:
        self._require_fit()
        return self._normal_scores.copy()

    def save(self, folder: Path) -> None:
        """Write `engine.json`, `ensemble.safetensors` and a folder a member into an existing folder."""
        from safetensors.numpy import save_file

        self._require_fit()
        for name, member in self.members.items():
            (folder / name).mkdir()
            member.save(folder / name)
        arrays = {"calibration": self._calibration, "normal_scores": self._normal_scores}
        save_file(arrays, folder / "ensemble.safetensors")
        card = _Card(settings=self.settings, members=self.member_names, normal_scores_method=self.normal_scores_method)
        write_card(card, folder)

    @classmethod
    def load(cls, folder: Path, load_member: Callable[[Path], Engine], make: MakeMember) -> Self:
        """The ensemble that `save` wrote; `load_member` reads a member's folder.

        Raises
        ------
        InputError
            A file is absent or of another format, names a member twice, or does not fit the members.
        """
        card = read_card(folder, _Card, engine=cls.name)
        engine = cls(card.members, make, card.settings)
        tensors = Tensors(folder / "ensemble.safetensors")
        engine.members = {name: load_member(folder / name) for name in card.members}
        engine._calibration = tensors.array("calibration", np.float64, 2)
        engine._normal_scores = tensors.array("normal_scores", np.float64, 1)
        engine.normal_scores_method = card.normal_scores_method
        if engine._calibration.shape[1] != len(card.members):
            raise InputError(f"{tensors.path}: the normal scores do not fit the members; refit the asset")
        return engine

    def _require_fit(self) -> None:
        if not self.members:
            raise UsageError("the ensemble has no members yet; call fit or load first")


def _named_twice(members: tuple[str, ...]) -> str | None:
    """The first member that is there more than once."""
    return next((name for name, count in Counter(members).items() if count > 1), None)


def _tell(progress: Progress | None, clips: int) -> None:
    if progress and clips:
        progress(clips)


class _Card(BaseModel):
    """engine.json."""

    model_config = ConfigDict(extra="forbid")

    format_version: Literal[1] = 1
    engine: Literal["ensemble"] = "ensemble"
    settings: EnsembleSettings
    members: tuple[Annotated[str, Field(pattern="^[abc]$")], ...] = Field(min_length=2)
    normal_scores_method: str

    @field_validator("members")
    @classmethod
    def _name_each_once(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        if twice := _named_twice(members):
            raise ValueError(f"engine {twice.upper()} is named twice")
        return members
