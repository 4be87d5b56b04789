"""Are the operating conditions in the metadata true? A column is, where its values can be told from the sound.

Engine C learns from conditions, and labels that have nothing to do with the sound teach it noise. So each column is
put to the test on the source's normal recordings:

1. A recording is described by the mean and the deviation of each log-mel band, averaged over its clips; each of
   these features is standardized over the set, which no label enters.
2. Ridge regression onto indicators of the values, in stratified folds by recording. A recording held out is given
   the value whose predicted share is highest against its share of the training recordings, so that a frequent
   value gains nothing by being frequent. Balanced accuracy: the mean over values of the share recognized.
3. The same with the values shuffled within each fold, many times. Within a fold, since every fold then keeps its
   counts of each value: under the hypothesis that values and sound have nothing to do with each other the test is
   exact (Phipson & Smyth 2010: p = (1 + b) / (1 + m)), and the folds' smoothing matrices serve every shuffle.

Seven columns are seven chances to be lucky: p-values are Bonferroni's, multiplied by the number of condition columns
there are, filled or not. Seven columns of chance then pass none but in `significance` of all sets.

What the test cannot see: a value that stands for something else that is heard (a plant, a day, another column) passes
as true, and so does a column that is right in part.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from engines.base import Clip, ClipSet, Progress
from engines.features import log_mel
from schemas.engine_settings import LogMelSettings
from schemas.errors import InputError
from schemas.metadata import CONDITION_COLUMNS
from schemas.settings import RoutingSettings

MAX_RECORDINGS = 500
"""Recordings looked at; of more, those whose ids hash lowest with the seed. Enough for a weak trace, in seconds."""
FOLDS = 5
RIDGE = 0.1
"""Penalty in units of the kernel's mean eigenvalue; chosen on toy sounds, where 0.03 to 1 differ little."""
NEEDED_CLASSES = 2
"""Values a column must tell apart."""


@dataclass(frozen=True)
class ConditionEvidence:
    """What the source's normals say of one condition column.

    `filled` is the share of recordings that name the condition, `classes` the number of values that enough of them
    share, `chance` what guessing between these reaches. Where the column was put to the test, `accuracy` is the
    balanced accuracy on held-out recordings, `shuffled` the best that shuffled labels reached, and `p_value` is
    corrected for the number of columns; None otherwise.
    """

    column: str
    filled: float
    classes: int
    chance: float
    accuracy: float | None = None
    p_value: float | None = None
    shuffled: float | None = None

    def is_true(self, limits: RoutingSettings) -> bool:
        """Whether the sound tells the values apart better than shuffled labels would let it."""
        if self.p_value is None or self.accuracy is None:
            return False
        return self.p_value <= limits.significance and self.accuracy > self.chance


def recording_features(
    clips: ClipSet, bandwidth_hz: float, progress: Progress | None = None, *, seed: int = 0
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """What the recordings sound like: (ids, sorted; features float64 (n_recordings, 2 bands), standardized).

    Mean and deviation (dB) of each log-mel band of 0 Hz to `bandwidth_hz` over a clip's frames, averaged over the
    recording's clips. Bands that a recording does not hold read 0, the set's mean. At most `MAX_RECORDINGS`.

    Raises
    ------
    InputError
        A clip is broken or shorter than a window; it is named.
    """
    by_recording: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for index in _sampled(clips, seed=seed):
        clip = clips.clips[index]
        by_recording[clip.recording_id].append(_describe(clip, clips.waveform(index), bandwidth_hz))
        if progress is not None:
            progress(1)
    names = tuple(sorted(by_recording))
    rows = [np.mean(by_recording[name], axis=0) for name in names]
    return names, _standardized(np.array(rows, dtype=np.float64).reshape(len(names), -1))


def judge_condition(
    features: NDArray[np.float64] | None,
    values: Sequence[str | None],
    *,
    column: str,
    limits: RoutingSettings,
    seed: int,
) -> ConditionEvidence:
    """The evidence of one column from features (n, d) and what each recording says of the condition (None: nothing).

    Without features, or with less than two values that `limits.min_class` recordings share, there is no test; rarer
    values are left out of it. The number of shuffles follows from `limits.significance`: so many that a p-value can
    be small enough after correction.
    """
    filled = sum(value is not None for value in values) / max(1, len(values))
    counts = Counter(value for value in values if value is not None)
    classes = sorted(value for value, count in counts.items() if count >= limits.min_class)
    chance = 1 / max(1, len(classes))
    if features is None or len(classes) < NEEDED_CLASSES:
        return ConditionEvidence(column, filled, len(classes), chance)
    kept = [row for row, value in enumerate(values) if value in classes]
    labels = np.array([classes.index(str(values[row])) for row in kept], dtype=np.intp)
    rng = np.random.default_rng([seed, *column.encode()])
    shuffles = math.ceil(len(CONDITION_COLUMNS) / limits.significance)
    accuracy, chances = _compare_with_shuffled(features[kept], labels, shuffles=shuffles, rng=rng)
    # Accuracies are sums of a few fractions: equal ones may differ in the last bits, and a tie counts as reached.
    reached = int((chances >= accuracy - 1e-9).sum())
    return ConditionEvidence(
        column,
        filled,
        len(classes),
        chance,
        accuracy=accuracy,
        p_value=min(1.0, len(CONDITION_COLUMNS) * (1 + reached) / (1 + shuffles)),
        shuffled=float(chances.max()),
    )


def _sampled(clips: ClipSet, *, seed: int) -> list[int]:
    """Clips of at most `MAX_RECORDINGS` recordings, in the order of their ids."""
    ranked = sorted(clips.recordings, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    chosen = set(ranked[:MAX_RECORDINGS])
    indices = [i for i, clip in enumerate(clips.clips) if clip.recording_id in chosen]
    return sorted(indices, key=lambda i: clips.clips[i].clip_id)


def _describe(clip: Clip, waveform: NDArray[np.float32], bandwidth_hz: float) -> NDArray[np.float64]:
    """Mean and deviation of each band of one clip, float64 (2 bands,), NaN for bands it does not hold."""
    try:
        heard = log_mel(
            waveform,
            LogMelSettings(),
            sample_rate=clip.sample_rate,
            bandwidth_hz=bandwidth_hz,
            held_hz=min(clip.bandwidth_hz, bandwidth_hz),
        )
    except InputError as error:
        raise InputError(f"clip {clip.clip_id!r}: {error}") from error
    values = np.where(heard.band_mask[:, None], heard.values, np.nan).astype(np.float64)
    return np.concatenate([values.mean(axis=1), values.std(axis=1)])


def _standardized(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column with mean 0 and deviation 1 over the rows that hold it, 0 where a row does not."""
    held = np.isfinite(features)
    count = np.maximum(held.sum(axis=0), 1)
    known = np.where(held, features, 0.0)
    centred = np.where(held, known - known.sum(axis=0) / count, 0.0)
    deviation = np.sqrt(np.square(centred).sum(axis=0) / count)
    # A feature that does not vary, but for rounding, says nothing and must not be blown up.
    flat = deviation <= 1e-9 * (1.0 + np.abs(known).max(axis=0, initial=0.0))
    return np.where(flat, 0.0, centred / np.where(flat, 1.0, deviation))


def _compare_with_shuffled(
    features: NDArray[np.float64], labels: NDArray[np.intp], *, shuffles: int, rng: np.random.Generator
) -> tuple[float, NDArray[np.float64]]:
    """Balanced accuracy of the labels and of as many shuffles of them, float64 (shuffles,)."""
    fold_of = _stratified_folds(labels, rng)
    columns = [labels, *(_shuffled_within(labels, fold_of, rng) for _ in range(shuffles))]
    candidates = np.stack(columns, axis=1)
    guesses = np.empty_like(candidates)
    for fold in range(FOLDS):
        out = fold_of == fold
        if out.any():
            guesses[out] = _predict(features[~out], candidates[~out], features[out], classes=int(labels.max()) + 1)
    accuracies = _balanced_accuracy(candidates, guesses)
    return float(accuracies[0]), accuracies[1:]


def _stratified_folds(labels: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """A fold for each recording, intp (n,): each class is dealt out in turn, on from where the last one ended."""
    order = np.concatenate([rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)])
    fold_of = np.empty(len(labels), dtype=np.intp)
    fold_of[order] = np.arange(len(labels)) % FOLDS
    return fold_of


def _shuffled_within(labels: NDArray[np.intp], fold_of: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    shuffled = labels.copy()
    for fold in range(FOLDS):
        rows = np.flatnonzero(fold_of == fold)
        shuffled[rows] = labels[rng.permutation(rows)]
    return shuffled


def _predict(
    known: NDArray[np.float64], labels: NDArray[np.intp], asked: NDArray[np.float64], *, classes: int
) -> NDArray[np.intp]:
    """Labels of `asked` (m, d), intp (m, s), learnt from `known` (n, d) and each of s labellings (n, s).

    Ridge regression with centred features, kernel K and penalty λ smooths the indicator y_c of each value c:
    f_c(x) = n_c / n + k(x)ᵀ (K + λ I)⁻¹ y_c. It estimates P(c | x), so f_c / n_c ranks the values as if all were
    equally frequent; its first term, 1 / n, is the same for all and left out.
    """
    mean = known.mean(axis=0)
    known, asked = known - mean, asked - mean
    kernel = known @ known.T
    penalty = RIDGE * max(float(np.trace(kernel)) / len(known), 1e-12)
    smoother = cho_solve(cho_factor(kernel + penalty * np.eye(len(known))), known @ asked.T).T
    shares = []
    for label in range(classes):
        indicator = (labels == label).astype(np.float64)
        shares.append(smoother @ indicator / indicator.sum(axis=0))
    return np.asarray(np.argmax(np.stack(shares), axis=0), dtype=np.intp)


def _balanced_accuracy(labels: NDArray[np.intp], guesses: NDArray[np.intp]) -> NDArray[np.float64]:
    """Mean over classes of the share recognized, float64 (s,), of labels and guesses (n, s)."""
    right = labels == guesses
    recalls = [(right & (labels == label)).sum(axis=0) / (labels == label).sum(axis=0) for label in np.unique(labels)]
    return np.asarray(np.mean(recalls, axis=0), dtype=np.float64)
