"""Patches compared with patches: neighbourhoods, exact search, maps and scores. Pure functions, one clip at a time.

A patch anomaly is 1 − cosine: 0 is known, 1 unrelated, 2 opposite. Results depend on the operands alone, to the last
bit, as long as torch runs on one thread (`engines.workers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from engines.base import AnomalyMap
from engines.encoders.base import PatchLayer
from schemas.errors import InputError

SEARCH_CHUNK = 4096
"""Patches of the memory that are multiplied at once; bounds the memory a search takes."""


def smooth(layer: PatchLayer, cells: int) -> PatchLayer:
    """Each patch replaced by the mean of the sound patches in the `cells` × `cells` around it.

    Source: PatchCore, Roth et al. 2022, eq. 2, with averaging for aggregation.
    """
    if cells == 1:
        return layer
    weights = layer.mask.reshape(*layer.grid, 1).astype(np.float64)
    patches = np.where(weights > 0, layer.patches.reshape(*layer.grid, -1), 0.0)
    total = uniform_filter(patches, (cells, cells, 1), mode="constant")
    share = uniform_filter(weights, (cells, cells, 1), mode="constant")
    mean = np.divide(total, share, out=np.zeros_like(total), where=weights > 0)
    return replace(layer, patches=mean.reshape(layer.patches.shape).astype(np.float32))


def unit_patches(layer: PatchLayer) -> NDArray[np.float32]:
    """The sound patches of a single clip's layer at unit length, float32 (sound rows, sound columns, dim)."""
    rows, columns = layer.sound
    patches = layer.patches.reshape(*layer.grid, -1)[np.ix_(rows, columns)].astype(np.float64)
    length = np.sqrt(np.square(patches).sum(axis=-1, keepdims=True))
    return aligned(np.asarray(patches / np.maximum(length, 1e-12), dtype=np.float32))


def nearest_cosine(queries: NDArray[np.float32], memory: NDArray[np.float32]) -> NDArray[np.float64]:
    """Highest cosine of each query to the memory, float64 (…,): an exact search, by products in chunks.

    `queries` float32 (…, dim) and `memory` float32 (n, dim) hold vectors of unit length, both `aligned`.
    """
    import torch

    flat, known = torch.from_numpy(queries).flatten(end_dim=-2), torch.from_numpy(memory)
    best = torch.full((len(flat),), -1.0)
    for start in range(0, len(known), SEARCH_CHUNK):
        best = torch.maximum(best, (flat @ known[start : start + SEARCH_CHUNK].T).amax(dim=1))
    return best.numpy().astype(np.float64).clip(-1.0, 1.0).reshape(queries.shape[:-1])


def map_layers(layers: Sequence[PatchLayer], memories: Sequence[NDArray[np.float32]]) -> AnomalyMap:
    """Anomaly map of a single clip: 1 − cosine of each layer, interpolated to the finest grid and averaged.

    The map ends where the sound ends; rows that the clip does not hold are NaN.

    Raises
    ------
    InputError
        The memories, float32 (n, dim) each, are not of these layers.
    """
    if [layer.patches.shape[2] for layer in layers] != [memory.shape[1] for memory in memories]:
        raise InputError("the encoder's patches do not fit the model's memory; refit the asset")
    by_rows = max(layers, key=lambda layer: layer.grid[0])
    by_columns = max(layers, key=lambda layer: layer.grid[1])
    frequencies, times = by_rows.frequencies_hz, by_columns.times_s[by_columns.sound[1]]
    total = np.zeros((len(frequencies), len(times)))
    for layer, memory in zip(layers, memories, strict=True):
        rows, columns = layer.sound
        anomaly = 1.0 - nearest_cosine(unit_patches(layer), memory)
        along_frequency = _interpolation(layer.frequencies_hz[rows], frequencies)
        along_time = _interpolation(layer.times_s[columns], times)
        # einsum without a plan sums in one order; BLAS might not.
        total += np.einsum("fc,tc->ft", np.einsum("fr,rc->fc", along_frequency, anomaly), along_time)
    values = np.full(total.shape, np.nan, dtype=np.float32)
    held = by_rows.sound[0]
    values[held] = total[held] / len(layers)
    return AnomalyMap(values, frequencies, times)


def _interpolation(known: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix (wanted, known) of linear interpolation; beyond the ends the end's value holds."""
    return np.stack([np.interp(wanted, known, unit) for unit in np.eye(len(known))], axis=1)


def tail_mean(values: NDArray[np.float32], fraction: float) -> float:
    """Mean of the highest `fraction` of the cells that are not NaN, at least one cell."""
    cells = np.sort(values[~np.isnan(values)].astype(np.float64))
    return float(cells[-max(1, round(fraction * cells.size)) :].mean())


def aligned(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy where torch would put it: the last bit of a matrix product may hang on where its operands lie."""
    import torch

    copy: NDArray[np.float32] = torch.tensor(array).numpy()
    return copy
