"""Which of an asset's normals are unlike the others.

A machine runs at several speeds and loads, so that there is no one normal: a recording is held against those nearest
to it, not against their mean. Odd is what has no neighbours as close as others have.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 2
LEAST_CLIPS = 6
"""Among fewer recordings nobody can say which is the odd one."""
TIMES_USUAL = 3.0
"""Odd is this many times the median recording's distance to its neighbours, and more than the limit."""
_CHUNK = 256


def odd_levels(levels_db: NDArray[np.float64], limit_db: float) -> NDArray[np.float64]:
    """How far each recording's level is from its two nearest, float64 (n,) dB; 0 where that is usual."""
    return _odd(_neighbour_distances(levels_db[:, None].astype(np.float32)), limit_db)


def odd_profiles(profiles_db: NDArray[np.float32], limit_db: float) -> NDArray[np.float64]:
    """How far each recording's spectrum is from its two nearest, float64 (n,) dB; 0 where that is usual.

    profiles_db: float32 (n, bands); bands that any of them lacks (NaN) are left out. The distance is the root mean
    square over bands of the difference, levels apart.
    """
    shared = profiles_db[:, ~np.isnan(profiles_db).any(axis=0)]
    if shared.shape[1] == 0:
        return np.zeros(len(profiles_db))
    shapes = shared - shared.mean(axis=1, keepdims=True)
    return _odd(_neighbour_distances(shapes / np.float32(np.sqrt(shared.shape[1]))), limit_db)


def _odd(distances: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    if len(distances) < LEAST_CLIPS:
        return np.zeros(len(distances))
    return np.where(distances > max(limit, TIMES_USUAL * float(np.median(distances))), distances, 0.0)


def _neighbour_distances(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean Euclidean distance of each point (n, dimensions) to its `NEIGHBOURS` nearest others."""
    from scipy.spatial.distance import cdist

    count = min(NEIGHBOURS, len(points) - 1)
    found = np.zeros(len(points))
    for start in range(0, len(points) if count else 0, _CHUNK):
        distances = cdist(points[start : start + _CHUNK], points)
        distances[np.arange(len(distances)), start + np.arange(len(distances))] = np.inf
        found[start : start + len(distances)] = np.partition(distances, count - 1, axis=1)[:, :count].mean(axis=1)
    return found
