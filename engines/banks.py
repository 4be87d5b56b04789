"""Distances to banks of normal embeddings, and what makes those of two domains comparable. Pure functions.

An *embedding* is float64 (dim,); a *bank* is the embeddings of one domain's normals, float64 (n, dim). Distances are
squared Euclidean unless said otherwise. A *group* is a recording: embeddings of one group are never each other's
neighbours. Every distance is computed from its own pair alone, so it is the same to the last bit whatever else is in
the bank: leaving a recording out means leaving its column out.

Sources: MemMixup and domain normalization, Saengthong & Shinozaki, "Deep Generic Representations for
Domain-Generalized Anomalous Sound Detection" (GenRep), 2024; local density, Wilkinghoff et al., "Keeping the Balance:
Anomaly Score Calculation for Domain Generalization", 2025. Both normalize here by training normals alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engines.encoders.base import PatchLayer

SPREAD_FLOOR = 0.05
"""Least spread of distances, as a share of their mean: two recordings can agree by chance."""

TINY = 1e-9
"""Least mean distance of a domain, where source normals vary by about 1: a bank may hold one clip twice."""


def pool_over_time(pieces: Sequence[PatchLayer]) -> NDArray[np.float64]:
    """Mean and standard deviation over time of one clip's patches, float64 (2, rows, dim).

    `pieces` are one layer of the clip, cut along time. A frequency row that the clip does not hold is NaN.
    """
    rows, dim = pieces[0].grid[0], pieces[0].patches.shape[2]
    heard, _ = pieces[0].sound
    patches = np.concatenate(
        [piece.patches.reshape(*piece.grid, dim)[np.ix_(*piece.sound)] for piece in pieces], axis=1
    ).astype(np.float64)
    pooled = np.full((2, rows, dim), np.nan)
    pooled[0, heard], pooled[1, heard] = patches.mean(axis=1), patches.std(axis=1)
    return pooled


def squared_distances(queries: NDArray[np.float64], bank: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared Euclidean distances, float64 (queries, bank)."""
    from scipy.spatial.distance import cdist

    # Not by a matrix product, whose last bit hangs on how many rows are multiplied at once.
    return np.asarray(cdist(queries, bank, "sqeuclidean"), dtype=np.float64)


def mean_of_nearest(distances: NDArray[np.float64], neighbours: int) -> NDArray[np.float64]:
    """Mean of the `neighbours` smallest finite distances along the last axis, of all where there are fewer.

    Infinite distances are no neighbours; where there is no other, the mean is infinite.
    """
    nearest = np.sort(distances, axis=-1)[..., :neighbours]
    found = np.isfinite(nearest)
    count = found.sum(axis=-1)
    total = np.where(found, nearest, 0.0).sum(axis=-1)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.inf), where=count > 0), dtype=np.float64)


def without_own_group(
    distances: NDArray[np.float64], groups: NDArray[np.int64], *, start: int = 0
) -> NDArray[np.float64]:
    """Distances among the clips of a bank, (clips from `start` on, clips, …), infinite within a recording."""
    same = groups[start : start + len(distances), None] == groups[None]
    return np.where(same.reshape(*same.shape, *[1] * (distances.ndim - 2)), np.inf, distances)


@dataclass(frozen=True, eq=False)
class Mixes:
    """MemMixup: each target t mixed with its nearest sources s, λt + (1 − λ)s, as distances tell it.

    With ‖y − λt − (1 − λ)s‖² = λ‖y − t‖² + (1 − λ)‖y − s‖² − λ(1 − λ)‖t − s‖² no mix is ever made: a query needs its
    distances to targets and sources only. `partners` int64 (targets, mixes) are the sources, `gaps` float64 of the same
    shape their distances to the target. A mix depends on its own target and the source alone.
    """

    share: float
    partners: NDArray[np.int64]
    gaps: NDArray[np.float64]

    @classmethod
    def of(cls, to_source: NDArray[np.float64], *, share: float, count: int) -> Self:
        """Mixes of each target with its `count` nearest sources, by distances float64 (targets, sources)."""
        partners = np.argsort(to_source, axis=1, kind="stable")[:, :count].astype(np.int64)
        return cls(share, partners, np.take_along_axis(to_source, partners, axis=1))

    def subset(self, targets: NDArray[np.int64]) -> Mixes:
        """The mixes of some targets."""
        return Mixes(self.share, self.partners[targets], self.gaps[targets])

    def reach(
        self, to_target: NDArray[np.float64], to_source: NDArray[np.float64], *, neighbours: int
    ) -> NDArray[np.float64]:
        """The smallest distances of each query to each target and its mixes, (queries, targets, ≤ neighbours).

        Ascending; more than `neighbours` of one target are never needed.
        """
        reached = np.empty((*to_target.shape, min(neighbours, 1 + self.partners.shape[1])))
        for row, (own, source) in enumerate(zip(to_target, to_source, strict=True)):
            mixed = self.share * own[:, None] + (1 - self.share) * source[self.partners]
            mixed -= self.share * (1 - self.share) * self.gaps
            every = np.concatenate([own[:, None], np.maximum(mixed, 0.0)], axis=1)
            reached[row] = np.sort(every, axis=1)[:, : reached.shape[2]]
        return reached


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of the distances at which a domain's own normals lie from its bank."""

    mean: float
    std: float

    @classmethod
    def of_source(cls, own: NDArray[np.float64]) -> Self:
        """The spread of source normals, each left out of its bank, `own` float64 (clips,)."""
        return cls._floored(float(own.mean()), float(own.std(ddof=1)))

    @classmethod
    def of_target(cls, own: NDArray[np.float64], *, recordings: int, source: Spread, shrinkage: float) -> Self:
        """The spread of target normals, its relative size shrunk toward the source's.

        The two domains' distances differ in size (a bank of ten is farther from all than one of two hundred), so what
        is shared is std / mean: its square is averaged over `recordings` − 1 degrees of freedom of the target and
        `shrinkage` of the source. One recording has no other to be measured by, and takes the source's spread.
        """
        freedom = recordings - 1
        if freedom < 1:
            return cls(source.mean, source.std)
        mean = max(float(own.mean()), TINY)
        relative = own.std(ddof=1) / mean
        shrunk = (freedom * relative**2 + shrinkage * (source.std / source.mean) ** 2) / (freedom + shrinkage)
        return cls._floored(mean, mean * float(np.sqrt(shrunk)))

    @classmethod
    def toward(cls, own: NDArray[np.float64], *, recordings: int, source: Spread, shrinkage: float) -> Self:
        """The spread of target normals, mean and variance both shrunk toward the source's.

        For distances that are of one size in both domains. `recordings` of the target weigh against `shrinkage` of the
        source; one recording has no other to be measured by.
        """
        if recordings < 2:
            return cls(source.mean, source.std)
        count = recordings + shrinkage
        mean = (recordings * float(own.mean()) + shrinkage * source.mean) / count
        variance = (recordings * float(own.var()) + shrinkage * source.std**2) / count
        return cls._floored(mean, float(np.sqrt(variance)))

    @classmethod
    def _floored(cls, mean: float, std: float) -> Self:
        mean = max(mean, TINY)
        return cls(mean, max(std, SPREAD_FLOOR * mean))

    def standardize(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Deviations from the domain's normals."""
        return np.asarray((distances - self.mean) / self.std, dtype=np.float64)


def shrink_densities(
    own: NDArray[np.float64], *, recordings: int, source_mean: float, shrinkage: float
) -> NDArray[np.float64]:
    """The distance at which each target's neighbours lie, shrunk toward that of all targets, float64 like `own`.

    A geometric mean, in which the clip's own distance weighs `recordings` and the mean of all weighs `shrinkage`. One
    recording has no neighbours, and takes the mean distance of the source.
    """
    if recordings < 2:
        return np.full(own.shape, max(source_mean, TINY))
    logs = np.log(np.maximum(own, TINY))
    return np.asarray(np.exp((recordings * logs + shrinkage * logs.mean()) / (recordings + shrinkage)))


@dataclass(frozen=True, eq=False)
class Domain:
    """How distances to one bank become comparable with those to the other.

    `density` float64 (clips,) divides the distances to each clip of the bank; `spread` standardizes what is left.
    """

    density: NDArray[np.float64]
    spread: Spread | None

    def score(self, distances: NDArray[np.float64], *, neighbours: int) -> NDArray[np.float64]:
        """Scores of queries by their distances, float64 (queries, clips) or (queries, clips, mixes)."""
        density = self.density.reshape(-1, *[1] * (distances.ndim - 2))
        scaled = (distances / density).reshape(len(distances), -1)
        mean = mean_of_nearest(scaled, neighbours)
        return mean if self.spread is None else self.spread.standardize(mean)
