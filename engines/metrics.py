"""How well scores and decisions separate anomalies from normals, by the DCASE 2023 Task 2 definitions.

Conventions
-----------
- A score is higher for a more anomalous clip; a decision of true is an alarm. All arrays are (n_clips,).
- `is_anomaly` is true, false, or unlabelled (None or NaN). Unlabelled clips are left out and counted.
- `domain` is "source" or "target". `auc_source` and `auc_target` rank that domain's normals against **all**
  anomalies; `auc` and `pauc` take all labelled clips; precision, recall and F1 of a domain take that domain's
  clips alone.
- `official` is the harmonic mean of auc_source, auc_target and pauc: over one asset's three values, and for a
  package over the three values of all its assets.
- What cannot be computed is None, with the reason under its name in `notes`; never NaN, never an exception.
- Clips count as independent. Segments of one recording are not, and then the intervals are too narrow.
- Intervals are 95 %, two-sided: percentile bootstrap of the metrics, exact (Clopper-Pearson) of the detection rates by
  anomaly type. What they prove of a target is `engines.evidence`.

Sources
-------
- K. Dohi et al., "Description and discussion on DCASE 2023 Challenge Task 2", 2023, and its evaluator.
- D. K. McClish, "Analyzing a portion of the ROC curve", Medical Decision Making 9, 1989.
- B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13 (percentile intervals).
- C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
  binomial", Biometrika 26, 1934.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from schemas.errors import InputError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MAX_FPR = 0.1
"""False-positive rate up to which DCASE integrates the partial AUC."""

RANKING_NAMES = ("auc", "pauc", "auc_source", "auc_target", "official")
DECISION_NAMES = tuple(
    f"{name}{suffix}" for suffix in ("", "_source", "_target") for name in ("precision", "recall", "f1")
)
METRIC_NAMES = RANKING_NAMES + DECISION_NAMES

UNNAMED_TYPE = ""
"""Type of an anomaly whose label does not say what is wrong."""

_OFFICIAL_NAMES = ("auc_source", "auc_target", "pauc")
_SMALL_STRATUM = 5
"""Clips below which resampling shows too little of a class's spread."""
_MIN_DEFINED = 0.95
"""Share of resamples in which a value must be defined for its percentiles to mean anything."""
_MAX_CELLS = 2_000_000
"""Weights held at once while resampling (16 MB): larger sets are resampled in several blocks."""


class Metrics(BaseModel):
    """The values an asset and a package have in common; each lies in 0-1, or is None where undefined."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    auc: FiniteFloat | None = Field(description="Area under the ROC curve, all labelled clips.")
    pauc: FiniteFloat | None = Field(description="McClish-standardized AUC up to a false-positive rate of 0.1.")
    auc_source: FiniteFloat | None = Field(description="Source normals against all anomalies.")
    auc_target: FiniteFloat | None = Field(description="Target normals against all anomalies.")
    official: FiniteFloat | None = Field(description="Harmonic mean of auc_source, auc_target and pauc.")
    precision: FiniteFloat | None = Field(description="Share of alarms that are anomalies.")
    recall: FiniteFloat | None = Field(description="Share of anomalies that alarm.")
    f1: FiniteFloat | None = Field(description="Harmonic mean of precision and recall.")
    precision_source: FiniteFloat | None = None
    recall_source: FiniteFloat | None = None
    f1_source: FiniteFloat | None = None
    precision_target: FiniteFloat | None = None
    recall_target: FiniteFloat | None = None
    f1_target: FiniteFloat | None = None
    notes: dict[str, str] = Field(description="Why a value is None, by its name; caveats under `intervals`.")


class Counts(BaseModel):
    """Clips that the metrics stand on, by class and domain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    normal_source: int
    normal_target: int
    anomaly_source: int
    anomaly_target: int
    unlabelled: int = Field(description="Clips left out of every metric.")


class Interval(BaseModel):
    """A 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: FiniteFloat
    high: FiniteFloat


class Detection(BaseModel):
    """How many anomalies of one type alarm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    anomalies: int = Field(description="Labelled anomalies of this type.")
    hits: int = Field(description="Of these, how many alarm.")
    rate: FiniteFloat = Field(description="Share that alarms, 0-1.")
    interval: Interval = Field(description="Clopper-Pearson.")


class AssetMetrics(Metrics):
    """Metrics of one asset's test clips."""

    counts: Counts
    intervals: dict[str, Interval] = Field(description="Bootstrap, by name; only values that are defined have one.")
    found_above: FiniteFloat | None = Field(
        default=None,
        description="Precision, recall, F1 and `by_anomaly_type` count a clip as an alarm when its score is above this:"
        " the limit of the alarm rule in use, not the threshold of one clip by itself.",
    )
    rule: str | None = Field(default=None, description="That rule: high clips that make an alarm, of how many.")
    by_anomaly_type: dict[str, Detection] = Field(
        default_factory=dict, description="Sorted by name; `UNNAMED_TYPE` where labels name types only of some."
    )


class PackageMetrics(Metrics):
    """Macro means over assets; `official` is the harmonic mean over the three values of every asset."""

    n_assets: int
    averaged_over: dict[str, int] = Field(description="Assets that have the value, by its name.")


def validate_scores(scores: npt.ArrayLike, name: str = "scores") -> FloatArray:
    """Check that scores are one finite number a clip.

    Parameters
    ----------
    scores : (n,) numbers.
    name : what to call them in an error.

    Returns
    -------
    float64 (n,)

    Raises
    ------
    InputError : not one-dimensional, not numeric, or NaN or infinite; names the first such clip.
    """
    try:
        array = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers: {error}. Give one score a clip.") from error
    if array.ndim != 1:
        raise InputError(f"{name} has shape {array.shape}; give one score a clip, shape (n,).")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        first = int(wrong[0])
        raise InputError(
            f"{name}[{first}] is {array[first]} ({wrong.size} of {array.size} are not finite); "
            "leave out clips that the engine could not score."
        )
    return array


def roc_auc(scores: npt.ArrayLike, is_anomaly: npt.ArrayLike) -> float | None:
    """Area under the ROC curve; a tie between an anomaly and a normal counts one half.

    Parameters
    ----------
    scores : (n,) float, higher is more anomalous.
    is_anomaly : (n,) bool, None or NaN where unlabelled.

    Returns
    -------
    Value in 0-1, or None unless both classes are present.

    Raises
    ------
    InputError : lengths differ, a score is not finite, or a label is none of true, false and missing.
    """
    return partial_auc(scores, is_anomaly, max_fpr=1.0)


def partial_auc(scores: npt.ArrayLike, is_anomaly: npt.ArrayLike, *, max_fpr: float = MAX_FPR) -> float | None:
    """Area under the ROC curve up to `max_fpr`, standardized so that chance is 0.5 (McClish 1989).

    Equal to `sklearn.metrics.roc_auc_score(is_anomaly, scores, max_fpr=max_fpr)`.

    Parameters, returns and errors as `roc_auc`; `max_fpr` in (0, 1], else InputError.
    """
    if not 0 < max_fpr <= 1:
        raise InputError(f"max_fpr is {max_fpr}; it must be above 0 and at most 1.")
    values = validate_scores(scores)
    labels = _validate_labels(is_anomaly, values.size)
    labelled = ~np.isnan(labels)
    anomaly = labels[labelled][None, :]
    area = _partial_areas(values[labelled], anomaly, 1.0 - anomaly, max_fpr=max_fpr)[0]
    return None if np.isnan(area) else float(area)


def evaluate(
    scores: npt.ArrayLike,
    is_anomaly: npt.ArrayLike,
    domain: npt.ArrayLike,
    *,
    decisions: npt.ArrayLike | None = None,
    anomaly_types: Sequence[str | None] | None = None,
    seed: int = 0,
    bootstrap: int = 1000,
) -> AssetMetrics:
    """All metrics of one asset's test clips, with bootstrap intervals.

    Intervals are 95 % percentile bootstrap, resampled within each class and domain, so that the mix of
    classes and domains is that of the test set. A value of exactly 0 or 1 gets an interval of no width:
    resampling cannot show an error that the test set does not hold.

    Parameters
    ----------
    scores : (n,) float, higher is more anomalous.
    is_anomaly : (n,) bool, None or NaN where unlabelled.
    domain : (n,) "source" or "target".
    decisions : (n,) bool, true for an alarm; without them precision, recall and F1 are None.
    anomaly_types : (n,) text, what is wrong with an anomaly, None where its label does not say; without them, or where
        none says, or without decisions, `by_anomaly_type` is empty.
    seed : of the resampling.
    bootstrap : resamples; 0 gives no intervals.

    Raises
    ------
    InputError : lengths differ, a score is not finite, or a label, domain or decision is not one.
    """
    clips, unlabelled = _validate(scores, is_anomaly, domain, decisions)
    point = _statistics(clips, np.ones((1, clips.scores.size)))
    values = {name: float(value[0]) for name, value in point.items() if not np.isnan(value[0])}
    counts = _count(clips, unlabelled)
    notes = _explain_missing(clips, counts, values)
    intervals: dict[str, Interval] = {}
    if bootstrap > 0:
        intervals, caveat = _bootstrap_intervals(clips, values, seed=seed, resamples=bootstrap)
        if caveat:
            notes["intervals"] = caveat
    metrics = {name: values.get(name) for name in METRIC_NAMES}
    detected = _detect_by_type(is_anomaly, decisions, anomaly_types)
    return AssetMetrics(**metrics, counts=counts, intervals=intervals, by_anomaly_type=detected, rule=None, notes=notes)


def clopper_pearson(hits: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Exact two-sided interval of a rate, 0-1, from `hits` of `trials` independent ones (Clopper and Pearson 1934).

    Raises
    ------
    InputError : not 0 ≤ hits ≤ trials, or no trial.
    """
    if not 0 <= hits <= trials or trials == 0:
        raise InputError(f"{hits} of {trials} is no rate; give 0 or more of one or more.")
    tail = (1 - confidence) / 2
    low = float(scipy.stats.beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(scipy.stats.beta.isf(tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return Interval(low=low, high=high)


def macro(assets: Sequence[AssetMetrics]) -> PackageMetrics:
    """Means over the assets of a package, each asset counting the same.

    A value that some assets lack is averaged over those that have it; `averaged_over` says over how many and
    `notes` says so. `official` is taken over the assets that have all three of its values, as one harmonic
    mean (DCASE 2023), not as a mean of the assets' own.
    """
    values: dict[str, float | None] = {}
    averaged_over: dict[str, int] = {}
    notes: dict[str, str] = {}
    for name in METRIC_NAMES:
        found = [value for asset in assets if (value := getattr(asset, name)) is not None]
        averaged_over[name] = len(found)
        values[name] = float(np.mean(found)) if found else None
        if not found:
            notes[name] = "no asset has it"
        elif len(found) < len(assets):
            notes[name] = f"over {len(found)} of {len(assets)} assets: the others lack it"
    complete = [asset for asset in assets if asset.official is not None]
    if complete:
        parts = [[getattr(asset, name) for name in _OFFICIAL_NAMES] for asset in complete]
        values["official"] = float(_harmonic_mean(np.ravel(parts)))
    return PackageMetrics(**values, n_assets=len(assets), averaged_over=averaged_over, notes=notes)


@dataclass(frozen=True)
class _Clips:
    """Labelled clips only, all arrays (n,)."""

    scores: FloatArray
    anomaly: BoolArray
    source: BoolArray
    alarm: BoolArray | None


def _validate(
    scores: npt.ArrayLike,
    is_anomaly: npt.ArrayLike,
    domain: npt.ArrayLike,
    decisions: npt.ArrayLike | None,
) -> tuple[_Clips, int]:
    """Check all inputs and split off the unlabelled clips, which are returned as a count."""
    values = validate_scores(scores)
    labels = _validate_labels(is_anomaly, values.size)
    source = _validate_domains(domain, values.size)
    alarm = None if decisions is None else _validate_decisions(decisions, values.size)
    labelled = ~np.isnan(labels)
    clips = _Clips(
        scores=values[labelled],
        anomaly=labels[labelled] == 1,
        source=source[labelled],
        alarm=None if alarm is None else alarm[labelled],
    )
    return clips, int(np.count_nonzero(~labelled))


def _validate_labels(is_anomaly: npt.ArrayLike, n: int, name: str = "is_anomaly") -> FloatArray:
    """Labels as float64 (n,): 1 anomaly, 0 normal, NaN unlabelled."""
    raw = np.asarray(is_anomaly, dtype=object)
    _check_length(raw, n, name)
    labels = np.full(n, np.nan)
    for index, value in enumerate(raw):
        if value is None:
            continue
        # A text such as "False" is true in Python: only numbers and booleans are labels.
        if not isinstance(value, bool | np.bool_ | int | float | np.integer | np.floating):
            raise InputError(f"{name}[{index}] is {value!r}; give true, false, or None where unknown.")
        if value not in (0, 1) and not np.isnan(value):
            raise InputError(f"{name}[{index}] is {value!r}; give true, false, or None where unknown.")
        labels[index] = value
    return labels


def _validate_domains(domain: npt.ArrayLike, n: int) -> BoolArray:
    """Domains as bool (n,), true for source."""
    raw = np.asarray(domain, dtype=object)
    _check_length(raw, n, "domain")
    for index, value in enumerate(raw):
        if value not in ("source", "target"):
            raise InputError(f"domain[{index}] is {value!r}; it must be 'source' or 'target'.")
    return np.asarray(raw == "source", dtype=np.bool_)


def _validate_decisions(decisions: npt.ArrayLike, n: int) -> BoolArray:
    """Decisions as bool (n,); unlike a label, a decision is never missing."""
    alarm = _validate_labels(decisions, n, "decisions")
    missing = np.flatnonzero(np.isnan(alarm))
    if missing.size:
        raise InputError(f"decisions[{int(missing[0])}] is missing; decide every clip that has a score.")
    return np.asarray(alarm == 1)


def _detect_by_type(
    is_anomaly: npt.ArrayLike, decisions: npt.ArrayLike | None, anomaly_types: Sequence[str | None] | None
) -> dict[str, Detection]:
    """Detection rate of every type of labelled anomaly; nothing where no type is named or nothing was decided."""
    if anomaly_types is None or decisions is None:
        return {}
    labels = np.asarray(is_anomaly, dtype=object)
    _check_length(np.asarray(anomaly_types, dtype=object), labels.size, "anomaly_types")
    rang: dict[str, list[bool]] = {}
    for label, kind, decision in zip(labels, anomaly_types, np.asarray(decisions), strict=True):
        # NaN, an unlabelled clip, equals nothing.
        if label == 1:
            rang.setdefault(kind or UNNAMED_TYPE, []).append(bool(decision))
    if not set(rang) - {UNNAMED_TYPE}:
        return {}
    return {kind: _detection(sum(rang[kind]), len(rang[kind])) for kind in sorted(rang)}


def _detection(hits: int, anomalies: int) -> Detection:
    interval = clopper_pearson(hits, anomalies)
    return Detection(anomalies=anomalies, hits=hits, rate=hits / anomalies, interval=interval)


def _check_length(values: npt.NDArray[Any], n: int, name: str) -> None:
    if values.shape != (n,):
        raise InputError(f"{name} has shape {values.shape} beside {n} scores; give one value a clip.")


def _partial_areas(scores: FloatArray, anomaly: FloatArray, normal: FloatArray, *, max_fpr: float = 1.0) -> FloatArray:
    """McClish-standardized ROC areas of one set of scores under many weightings.

    `anomaly` and `normal` are float64 (b, n): how often each clip counts in either class. Returns float64
    (b,), NaN where a class is empty. With weights of 0 and 1 this is the plain ROC curve, with counts of a
    resample it is that resample's.
    """
    if not scores.size:
        return np.full(anomaly.shape[0], np.nan)
    order = np.argsort(-scores, kind="stable")
    # Tied scores make one step of the curve, so only the last clip of each tie is a vertex.
    vertices = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)
    with np.errstate(invalid="ignore"):
        tpr = _cumulative_share(anomaly[:, order], vertices)
        fpr = _cumulative_share(normal[:, order], vertices)
        width, height = np.diff(fpr, axis=1), np.diff(tpr, axis=1)
        # The step that crosses max_fpr counts up to the crossing; a vertical step has no area.
        inside = np.divide(max_fpr - fpr[:, :-1], width, out=np.zeros_like(width), where=width > 0).clip(0, 1)
        area = (width * inside * (tpr[:, :-1] + 0.5 * inside * height)).sum(axis=1)
        area = np.where(np.isnan(tpr[:, -1] + fpr[:, -1]), np.nan, area)
    if max_fpr == 1:
        return np.asarray(area)
    chance = 0.5 * max_fpr**2
    return np.asarray(0.5 * (1 + (area - chance) / (max_fpr - chance)))


def _cumulative_share(weights: FloatArray, vertices: npt.NDArray[np.intp]) -> FloatArray:
    """Share of each row's weight up to each vertex, starting at 0: float64 (b, vertices + 1)."""
    total = np.cumsum(weights, axis=1)[:, vertices]
    start = np.zeros((weights.shape[0], 1))
    return np.hstack([start, total]) / total[:, -1:]


def _statistics(clips: _Clips, weights: FloatArray) -> dict[str, FloatArray]:
    """Every metric under each row of `weights` (b, n), as float64 (b,), NaN where undefined."""
    anomaly, normal = weights * clips.anomaly, weights * ~clips.anomaly
    values = {
        "auc": _partial_areas(clips.scores, anomaly, normal),
        "pauc": _partial_areas(clips.scores, anomaly, normal, max_fpr=MAX_FPR),
        "auc_source": _partial_areas(clips.scores, anomaly, normal * clips.source),
        "auc_target": _partial_areas(clips.scores, anomaly, normal * ~clips.source),
    }
    values["official"] = _harmonic_mean(np.stack([values[name] for name in _OFFICIAL_NAMES]))
    if clips.alarm is not None:
        everywhere = np.ones_like(clips.source)
        for suffix, part in (("", everywhere), ("_source", clips.source), ("_target", ~clips.source)):
            rates = _decision_rates(anomaly * part, normal * part, clips.alarm)
            values |= {f"{name}{suffix}": value for name, value in rates.items()}
    return values


def _decision_rates(anomaly: FloatArray, normal: FloatArray, alarm: BoolArray) -> dict[str, FloatArray]:
    """Precision, recall and F1 from class weights (b, n) and decisions (n,)."""
    hits = (anomaly * alarm).sum(axis=1)
    false_alarms = (normal * alarm).sum(axis=1)
    anomalies = anomaly.sum(axis=1)
    with np.errstate(invalid="ignore"):
        f1 = 2 * hits / (hits + false_alarms + anomalies)
        return {
            "precision": hits / (hits + false_alarms),
            "recall": hits / anomalies,
            "f1": np.where(anomalies > 0, f1, np.nan),
        }


def _harmonic_mean(values: FloatArray) -> FloatArray:
    """Harmonic mean over the first axis; 0 where a value is 0, its limit."""
    with np.errstate(divide="ignore"):
        return np.asarray(values.shape[0] / (1 / values).sum(axis=0))


def _count(clips: _Clips, unlabelled: int) -> Counts:
    return Counts(
        normal_source=int(np.sum(~clips.anomaly & clips.source)),
        normal_target=int(np.sum(~clips.anomaly & ~clips.source)),
        anomaly_source=int(np.sum(clips.anomaly & clips.source)),
        anomaly_target=int(np.sum(clips.anomaly & ~clips.source)),
        unlabelled=unlabelled,
    )


def _explain_missing(clips: _Clips, counts: Counts, values: dict[str, float]) -> dict[str, str]:
    """A reason for each metric that is not in `values`."""
    anomalies = counts.anomaly_source + counts.anomaly_target
    normals = {
        "auc": ("labelled normals", counts.normal_source + counts.normal_target),
        "auc_source": ("labelled source normals", counts.normal_source),
        "auc_target": ("labelled target normals", counts.normal_target),
    }
    normals["pauc"] = normals["auc"]
    reasons: dict[str, str] = {}
    for name, (needed, count) in normals.items():
        lacking = [] if anomalies else ["labelled anomalies"]
        lacking += [] if count else [needed]
        reasons[name] = "no " + " and no ".join(lacking)
    missing = [name for name in _OFFICIAL_NAMES if name not in values]
    reasons["official"] = "; ".join(f"{name} is undefined: {reasons[name]}" for name in missing)
    undecided = "no decisions were given" if clips.alarm is None else None
    for suffix, place in (("", "labelled"), ("_source", "labelled source"), ("_target", "labelled target")):
        reasons[f"precision{suffix}"] = undecided or f"no alarm on a {place} clip"
        reasons[f"recall{suffix}"] = undecided or f"no {place} anomalies"
        reasons[f"f1{suffix}"] = reasons[f"recall{suffix}"]
    return {name: reasons[name] for name in METRIC_NAMES if name not in values}


def _bootstrap_intervals(
    clips: _Clips, values: dict[str, float], *, seed: int, resamples: int
) -> tuple[dict[str, Interval], str]:
    """95 % percentile intervals of the metrics in `values`, and what is wrong with them."""
    if not values:
        return {}, ""
    strata = [np.flatnonzero((clips.anomaly == a) & (clips.source == s)) for a in (0, 1) for s in (0, 1)]
    strata = [stratum for stratum in strata if stratum.size]
    blocks = [
        _statistics(clips, weights)
        for weights in _resample_weights(strata, clips.scores.size, seed=seed, resamples=resamples)
    ]
    intervals, caveats = {}, []
    for name in values:
        draws = np.concatenate([block[name] for block in blocks])
        # Precision is undefined in a resample that drew no alarm.
        defined = draws[~np.isnan(draws)]
        if defined.size < _MIN_DEFINED * draws.size:
            caveats.append(f"none for {name}: undefined in {draws.size - defined.size} of {draws.size} resamples")
            continue
        low, high = np.percentile(defined, [2.5, 97.5])
        intervals[name] = Interval(low=float(low), high=float(high))
    smallest = min(stratum.size for stratum in strata)
    if smallest < _SMALL_STRATUM:
        caveats.append(f"too narrow: a class of a domain has only {smallest} clips to resample")
    return intervals, "; ".join(caveats)


def _resample_weights(
    strata: Sequence[npt.NDArray[np.intp]], n: int, *, seed: int, resamples: int
) -> Iterator[FloatArray]:
    """Blocks of float64 (b, n): how often each clip is drawn when each stratum is resampled by itself."""
    rng = np.random.default_rng(seed)
    block = max(1, _MAX_CELLS // n)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        weights = np.zeros((size, n))
        for stratum in strata:
            uniform = np.full(stratum.size, 1 / stratum.size)
            weights[:, stratum] = rng.multinomial(stratum.size, uniform, size=size)
        yield weights
