"""Paired bootstrap intervals of the difference between two methods that scored the same clips.

What varies is resampled where it varies, and jointly for both methods:

- assets, where there are several (toy: each seed of each machine type), with replacement;
- an asset's redraws, with replacement;
- an asset's test clips, with replacement within each class and domain. A clip that is tested in several redraws has
  one weight in all of them: five redraws do not make its 50 anomalies 250.

The interval is the 2.5th to 97.5th percentile of the mean difference over assets and redraws. With one asset it says
how far the figure would move on other recordings of that asset, and nothing about other machines.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 8 and 13.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MAX_FPR = 0.1
RESAMPLES = 1000
METRICS = ("auc", "auc_target", "official")


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of one method in one redraw: `clips` int (n,) into the asset's clips, `scores` float64 (n,)."""

    clips: NDArray[np.int64]
    scores: FloatArray


@dataclass(frozen=True, eq=False)
class Asset:
    """Who an asset's clips are, bool (n_clips,) each, and each method's scores of every redraw."""

    is_anomaly: NDArray[np.bool_]
    is_source: NDArray[np.bool_]
    redraws: Mapping[str, Sequence[Scored]]


@dataclass(frozen=True)
class Difference:
    """Mean of first − second, and its 95 % interval."""

    mean: float
    low: float
    high: float


def weighted_auc(scores: FloatArray, anomaly: FloatArray, normal: FloatArray, *, max_fpr: float = 1.0) -> FloatArray:
    """ROC areas under many weightings at once, McClish-standardized where `max_fpr` < 1: float64 (b,).

    `scores` float64 (n,); `anomaly` and `normal` float64 (b, n): how often each clip counts in either class. Tied
    scores make one step of the curve. NaN where a class is empty.
    """
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    with np.errstate(invalid="ignore"):
        rise, run = (_shares(weights[:, order], last_of_tie) for weights in (anomaly, normal))
        width = np.diff(run, axis=1)
        inside = np.divide(max_fpr - run[:, :-1], width, out=np.zeros_like(width), where=width > 0).clip(0, 1)
        area = (width * inside * (rise[:, :-1] + 0.5 * inside * np.diff(rise, axis=1))).sum(axis=1)
    if max_fpr < 1:
        least = 0.5 * max_fpr**2
        area = 0.5 * (1 + (area - least) / (max_fpr - least))
    return np.asarray(np.where(np.isnan(rise[:, -1] + run[:, -1]), np.nan, area))


def _shares(weights: FloatArray, ends: NDArray[np.intp]) -> FloatArray:
    total = np.cumsum(weights, axis=1)[:, ends]
    return np.hstack([np.zeros((len(weights), 1)), total]) / total[:, -1:]


def ranking(asset: Asset, tested: Scored, weights: FloatArray) -> dict[str, FloatArray]:
    """`METRICS` of one redraw under clip weights float64 (b, n_clips), by the definitions of `engines.metrics`.

    Without source normals `official` is NaN.
    """
    anomaly, source = asset.is_anomaly[tested.clips], asset.is_source[tested.clips]
    here = weights[:, tested.clips]
    faulty, normal = here * anomaly, here * ~anomaly
    areas = {"auc": weighted_auc(tested.scores, faulty, normal)}
    for name, own in (("auc_source", source), ("auc_target", ~source)):
        areas[name] = weighted_auc(tested.scores, faulty, normal * own)
    parts = np.stack(
        [areas["auc_source"], areas["auc_target"], weighted_auc(tested.scores, faulty, normal, max_fpr=MAX_FPR)]
    )
    with np.errstate(divide="ignore"):
        areas["official"] = 3.0 / (1.0 / parts).sum(axis=0)
    return areas


@dataclass(frozen=True, eq=False)
class Resampled:
    """One method's metrics: `point` float64 (assets, redraws), `spread` float64 (resamples, assets, redraws)."""

    point: Mapping[str, FloatArray]
    spread: Mapping[str, FloatArray]


class Bootstrap:
    """Resamples of some assets' clips and redraws, drawn once, so that every method meets the same ones."""

    def __init__(self, assets: Sequence[Asset], *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self._assets = assets
        generator = np.random.default_rng(seed)
        self._weights = [_resample_clips(asset, resamples, generator) for asset in assets]
        redraws = {len(runs) for asset in assets for runs in asset.redraws.values()}
        (self._redraws,) = redraws
        self._picks = _resample_units(len(assets), self._redraws, resamples, generator)

    def of(self, method: str) -> Resampled:
        """All metrics of a method on every asset, redraw and resample."""
        point: dict[str, list[list[float]]] = {name: [] for name in METRICS}
        spread: dict[str, list[FloatArray]] = {name: [] for name in METRICS}
        for asset, weights in zip(self._assets, self._weights, strict=True):
            plain = [ranking(asset, run, np.ones((1, len(asset.is_anomaly)))) for run in asset.redraws[method]]
            drawn = [ranking(asset, run, weights) for run in asset.redraws[method]]
            for name in METRICS:
                point[name].append([float(areas[name][0]) for areas in plain])
                spread[name].append(np.stack([areas[name] for areas in drawn], axis=1))
        return Resampled(
            {name: np.array(values) for name, values in point.items()},
            {name: np.stack(values, axis=1) for name, values in spread.items()},
        )

    def difference(self, first: Resampled, second: Resampled, metric: str) -> Difference | None:
        """First − second; None where the metric is not defined (no source normals)."""
        point = first.point[metric] - second.point[metric]
        if np.isnan(point).any():
            return None
        apart = first.spread[metric] - second.spread[metric]
        weighted = np.where(np.isnan(apart), 0.0, apart) * self._picks
        known = np.where(np.isnan(apart), 0.0, self._picks)
        total = known.sum(axis=(1, 2))
        # A resample without a class says nothing, and is left out.
        low, high = np.percentile(weighted.sum(axis=(1, 2))[total > 0] / total[total > 0], [2.5, 97.5])
        return Difference(float(point.mean()), float(low), float(high))


def _resample_clips(asset: Asset, resamples: int, generator: np.random.Generator) -> FloatArray:
    """How often each clip counts, float64 (resamples, n_clips): as many of each class and domain as there are."""
    weights = np.zeros((resamples, len(asset.is_anomaly)))
    for anomaly in (False, True):
        for source in (False, True):
            own = np.flatnonzero((asset.is_anomaly == anomaly) & (asset.is_source == source))
            if len(own):
                weights[:, own] = generator.multinomial(len(own), np.full(len(own), 1 / len(own)), size=resamples)
    return weights


def _resample_units(assets: int, redraws: int, resamples: int, generator: np.random.Generator) -> FloatArray:
    """How often each redraw of each asset counts, float64 (resamples, assets, redraws)."""
    chosen = generator.multinomial(assets, np.full(assets, 1 / assets), size=resamples)
    within = generator.multinomial(redraws, np.full(redraws, 1 / redraws), size=(resamples, assets))
    return np.asarray(chosen[:, :, None] * within, dtype=np.float64)
