"""Engine C, prototypes learned from metadata: how far is a clip from what the asset's conditions sound like?

1. Log-mel over the band that all target normals hold, and at least one of the source; each band standardized by the
   mean and deviation of the source normals that hold it.
2. A small network learns, by episodes on source normals alone, to tell the values of each condition column apart
   (`engines.episodes`).
3. Every clip is cut into overlapping crops as long as those it learnt from; each crop is a point in the network's
   space.
4. Every normal recording is a prototype, the mean of its crops: one support of one shot. A condition that the form
   does not ask for still sounds like one of them, where a mean over all recordings of a value would lie between them.
5. Distance of a clip to a prototype, per column: the mean over its `tail_fraction` of farthest crops of the squared
   distance; `nll` weighs each dimension by the inverse of its variance within the column's values in the source, a
   Gaussian's negative log-likelihood but for a constant.
6. The distance to the nearest prototype of the source, and that of the target, is standardized by the distances at
   which that domain's own normals lie from the others; those of few targets are shrunk toward the source's. Score =
   the smaller of the two, averaged over the columns: what sounds like another machine's normal is no anomaly.

After Prototypical Networks (Snell et al. 2017) and Reptile (Nichol et al. 2018). The network's crops are short, since
a fault may be, and a mean over a clip would drown it.

Training may run on CUDA; scores are always computed on the CPU, clip by clip, so that a model scores alike on every
machine. What is learnt from the source does not hang on the target, but for its band.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from engines.banks import Spread
from engines.base import Clip, ClipSet, Engine, Progress, recording_scores
from engines.episodes import Footage, Network, Sampler, Task, finetune, train
from engines.features import BandMoments, BandStatistics, FrameGrid, Spectrogram, log_mel
from engines.fitting import (
    MIN_RECORDINGS,
    by_clip_id,
    folds,
    name_method,
    naming,
    require_normals,
    require_rate,
    shared_band,
)
from engines.saving import Tensors, read_card, write_card
from engines.workers import WorkDone, Workers
from schemas.engine_settings import PrototypeSettings
from schemas.errors import InputError, UsageError
from schemas.metadata import CONDITION_COLUMNS

MIN_FILLED = 0.95
"""Share of source recordings that a column must name to qualify by itself."""
MIN_CLASS = 5
"""Source recordings that a value needs to count as a class where columns qualify by themselves."""
MIN_FRAMES = 4
"""Frames of the shortest crop."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Space:
    """Where crops become points: band statistics, network, and frames of a crop."""

    statistics: BandStatistics
    network: Network
    frames: int
    kind: Literal["features", "embedding"]

    def points(self, heard: Spectrogram) -> NDArray[np.float32]:
        """The crops of one clip as points, float32 (crops, dim), from its spectrogram in dB.

        Crops overlap by half and the last one ends with the clip; a clip shorter than a crop is one.
        """
        import torch

        frames = torch.tensor(self.statistics.standardize(heard).values.T.copy())
        length = min(self.frames, len(frames))
        starts = [*range(0, len(frames) - length, max(1, length // 2)), len(frames) - length]
        crops = torch.stack([frames[start : start + length] for start in starts])
        with torch.inference_mode():
            found = self.network.features(crops) if self.kind == "features" else self.network.embed(crops)
        return np.asarray(found.numpy())


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the crops of one clip, float64 (dim,)."""

    crops: int
    total: Floats
    squares: Floats

    @classmethod
    def of(cls, points: NDArray[np.float32]) -> Self:
        """Sums of float32 (crops, dim)."""
        values = points.astype(np.float64)
        return cls(len(values), values.sum(axis=0), np.square(values).sum(axis=0))

    @property
    def mean(self) -> Floats:
        """The clip's mean point."""
        return self.total / self.crops


@dataclass(frozen=True, eq=False)
class Column:
    """What a column scores by: weights of the dimensions, float64 (dim,), and how far source normals lie apart."""

    name: str
    weights: Floats
    spread: Spread


@dataclass(frozen=True, eq=False)
class Lesson:
    """All that is learnt from the source for one band; `heard` is kept for the finetune alone."""

    bandwidth_hz: float
    tasks: tuple[Task, ...]
    heard: tuple[Spectrogram, ...]
    space: Space
    columns: tuple[Column, ...]
    prototypes: Floats
    episodes: int


@dataclass
class Lessons:
    """What was learnt already, so that engines fitted to the same source with the same settings learn it once.

    Give one to all engines that share a source, such as those that an ensemble refits; what it holds does not change
    any result.
    """

    known: dict[str, Lesson] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted engine.

    `weights` float64 (dim, columns); `source` and `target` float64 (prototypes, dim); their spreads are one a column.
    """

    sample_rate: int
    bandwidth_hz: float
    space: Space
    names: tuple[str, ...]
    weights: Floats
    source: Floats
    target: Floats
    source_spreads: tuple[Spread, ...]
    target_spreads: tuple[Spread, ...]

    def score(self, heard: Spectrogram, settings: PrototypeSettings) -> float:
        """Score of one clip from its spectrogram in dB."""
        points = self.space.points(heard)
        scores = _standardize(_distances(points, self.target, self.weights, settings), self.target_spreads, settings)
        if settings.source_prototypes:
            by_source = _distances(points, self.source, self.weights, settings)
            scores = np.minimum(scores, _standardize(by_source, self.source_spreads, settings))
        return math.fsum(scores) / len(scores)


def _distances(points: NDArray[np.float32], prototypes: Floats, weights: Floats, settings: PrototypeSettings) -> Floats:
    """Distances of a clip's crops float32 (crops, dim) to each prototype, float64 (prototypes, columns).

    Prototype by prototype, so that a distance does not hang on which others there are, not even in its last bit.
    """
    values = points.astype(np.float64)
    kept = max(1, round(settings.tail_fraction * len(values)))
    found = np.empty((len(prototypes), weights.shape[1]))
    for row, prototype in zip(found, prototypes, strict=True):
        crops = np.sort(np.square(values - prototype) @ weights, axis=0)
        row[:] = crops[-kept:].mean(axis=0) / values.shape[1]
    return found


def _standardize(distances: Floats, spreads: Sequence[Spread], settings: PrototypeSettings) -> Floats:
    """The distance to the nearest prototype in each column, float64 (columns,), as deviations from the domain's own."""
    nearest = np.asarray(distances.min(axis=0), dtype=np.float64)
    if settings.normalization == "none":
        return nearest
    return np.array([spread.standardize(value) for spread, value in zip(spreads, nearest, strict=True)])


class Prototypes(Engine):
    """Prototypes in a space learned from operating conditions.

    `workers` is how many clips are embedded side by side (default: one a core); it changes the speed, never a score.
    `least` is the fewest normal recordings it is fitted to; below 3 only for an engine that leaves some of three out.
    `lessons` is shared by engines that learn from the same source.
    """

    name: ClassVar[str] = "c"

    def __init__(
        self,
        settings: PrototypeSettings | None = None,
        *,
        workers: int | None = None,
        least: int = MIN_RECORDINGS,
        lessons: Lessons | None = None,
    ) -> None:
        self.settings = settings or PrototypeSettings()
        self.episodes_trained = 0
        self._least = least
        self._workers = workers
        self._lessons = lessons or Lessons()
        self._model: Model | None = None
        self._normal_scores: Floats = np.empty(0)

    @property
    def hit_budget(self) -> bool:
        """Whether training ended before its last episode; such a model is not reproducible."""
        return 0 < self.episodes_trained < self.settings.episodes

    @property
    def columns(self) -> tuple[str, ...]:
        """The condition columns that were learnt from."""
        return self._require_fit().names

    def fit(self, target: ClipSet, source: ClipSet | None = None, *, progress: Progress | None = None) -> Self:
        """Learn the source's conditions, then make the target's prototypes, and those without each recording.

        Raises
        ------
        InputError
            Fewer than 3 recordings of the target, two clips of one name, a broken clip, no source, or no condition
            column in it to learn from.
        """
        require_normals(target, engine=self.name, least=self._least)
        chosen = _require_source(source, target, self.settings)
        clips, left_out = by_clip_id(target), folds(target.recordings, self.settings.max_refits)
        with Workers(self._workers) as workers:
            done = WorkDone(progress, clips=len(clips), work=len(clips) + len(left_out) + 1)
            trainer = _Trainer(self.settings, clips, chosen, workers, self._lessons)
            model, episodes = trainer.fit(range(len(clips)))
            done.add(1)
            scores = np.empty(len(clips))
            for fold in left_out:
                left = [i for i, clip in enumerate(clips.clips) if clip.recording_id in fold]
                scores[left] = trainer.score_without(left)
                done.add(len(left) + 1)
        self._model, self.episodes_trained = model, episodes
        by_recording = dict(zip(clips.recordings, recording_scores(clips, scores), strict=True))
        self._normal_scores = np.array([by_recording[name] for name in target.recordings])
        self.normal_scores_method = name_method(left_out)
        return self

    def decision_function(self, clips: ClipSet, *, progress: Progress | None = None) -> Floats:
        model = self._require_fit()
        require_rate(clips, model.sample_rate)
        done = WorkDone(progress, clips=len(clips), work=len(clips))

        def score(index: int) -> float:
            heard = _hear(clips, index, self.settings, model.bandwidth_hz)
            value = model.score(heard, self.settings)
            done.add(1)
            return value

        with Workers(self._workers) as workers:
            return np.array(workers.map(score, range(len(clips))), dtype=np.float64)

    def normal_scores(self) -> Floats:
        """Scores of the target's recordings, each by an engine fitted without it, float64 (n_recordings,).

        In the order of `target.recordings`. Above `max_refits` recordings they are left out in that many groups;
        `normal_scores_method` says which.
        """
        self._require_fit()
        return self._normal_scores.copy()

    def save(self, folder: Path) -> None:
        """Write `engine.json` and `prototypes.safetensors` into an existing folder."""
        from safetensors.numpy import save_file

        model = self._require_fit()
        tensors: dict[str, NDArray[np.generic]] = {
            "bands.mean": model.space.statistics.mean,
            "bands.std": model.space.statistics.std,
            "normal_scores": self._normal_scores,
        }
        tensors |= {f"network.{name}": value for name, value in model.space.network.weights().items()}
        tensors |= {
            "weights": np.ascontiguousarray(model.weights),
            "prototypes.source": model.source,
            "prototypes.target": model.target,
            "spreads.source": _spread_table(model.source_spreads),
            "spreads.target": _spread_table(model.target_spreads),
        }
        save_file(tensors, folder / "prototypes.safetensors")
        card = _Card(
            settings=self.settings,
            sample_rate=model.sample_rate,
            bandwidth_hz=model.bandwidth_hz,
            crop_frames=model.space.frames,
            columns=model.names,
            episodes_trained=self.episodes_trained,
            normal_scores_method=self.normal_scores_method,
        )
        write_card(card, folder)

    @classmethod
    def load(cls, folder: Path, *, workers: int | None = None) -> Self:
        """The engine that `save` wrote, giving the same scores.

        Raises
        ------
        InputError
            A file is absent or of another format, or its arrays do not fit together.
        """
        card = read_card(folder, _Card, engine=cls.name)
        engine = cls(card.settings, workers=workers)
        engine._model, engine._normal_scores = _read_model(folder, card)
        engine.episodes_trained = card.episodes_trained
        engine.normal_scores_method = card.normal_scores_method
        return engine

    def _require_fit(self) -> Model:
        if self._model is None:
            raise UsageError("engine C has no prototypes yet; call fit or load first")
        return self._model


class _Trainer:
    """Fits models to subsets of one target; what the source teaches is learnt once a band."""

    def __init__(
        self, settings: PrototypeSettings, target: ClipSet, source: ClipSet, workers: Workers, lessons: Lessons
    ) -> None:
        self._settings, self._target, self._source = settings, target, source
        self._workers, self._lessons = workers, lessons
        self._tasks = plan_tasks(source, settings)
        self._source_digest = ""
        self._heard: dict[float, list[Spectrogram]] = {}
        self._own: dict[float, _Own] = {}

    def fit(self, indices: Sequence[int]) -> tuple[Model, int]:
        """The model of the target's clips at `indices`, and of nothing else of it; and the episodes trained."""
        band = shared_band(self._target, indices, self._source)
        lesson = self._learn(band)
        heard = self._hear_target(band)
        if self._settings.adapt == "finetune":
            lesson = self._tune(lesson, indices, heard)
            own = self._describe_own(lesson, self._target.subset(indices), [heard[i] for i in indices])
        else:
            if band not in self._own:
                self._own[band] = self._describe_own(lesson, self._target, heard)
            own = self._own[band].keep({self._target.clips[i].recording_id for i in indices})
        spreads = [column.spread for column in lesson.columns]
        model = Model(
            sample_rate=self._target.clips[0].sample_rate,
            bandwidth_hz=band,
            space=lesson.space,
            names=tuple(column.name for column in lesson.columns),
            weights=_weight_table(lesson.columns),
            source=lesson.prototypes,
            target=own.prototypes,
            source_spreads=tuple(spreads),
            target_spreads=own.spreads(spreads, shrinkage=self._settings.shrinkage),
        )
        return model, lesson.episodes

    def score_without(self, left: Sequence[int]) -> list[float]:
        """Scores of the clips at `left` by a model of all the others."""
        model, _ = self.fit(sorted(set(range(len(self._target))) - set(left)))
        heard = self._hear_target(model.bandwidth_hz)
        return self._workers.map(lambda i: model.score(heard[i], self._settings), left)

    def _hear_target(self, band: float) -> list[Spectrogram]:
        if band not in self._heard:
            self._heard[band] = self._hear_all(self._target, band)
        return self._heard[band]

    def _hear_all(self, clips: ClipSet, band: float) -> list[Spectrogram]:
        return self._workers.map(lambda i: _hear(clips, i, self._settings, band), range(len(clips)))

    def _describe_own(self, lesson: Lesson, clips: ClipSet, heard: Sequence[Spectrogram]) -> _Own:
        points = self._workers.map(lesson.space.points, heard)
        names, prototypes = _recording_means(clips, [Moments.of(one) for one in points])
        weights = _weight_table(lesson.columns)
        distances = self._workers.map(lambda one: _distances(one, prototypes, weights, self._settings), points)
        return _Own(names, prototypes, tuple(clip.recording_id for clip in clips.clips), np.stack(distances))

    def _learn(self, band: float) -> Lesson:
        """What the source teaches in one band."""
        if not self._source_digest:
            self._source_digest = self._digest_source()
        key = f"{self._source_digest}:{band!r}"
        if key not in self._lessons.known:
            self._lessons.known[key] = self._study(band)
        return self._lessons.known[key]

    def _study(self, band: float) -> Lesson:
        source = self._source
        heard = self._hear_all(source, band)
        statistics = BandStatistics.of([BandMoments.of(one) for one in heard], std_floor_db=self._settings.std_floor_db)
        images = [statistics.standardize(one).values for one in heard]
        frames = min(_crop_frames(self._settings, source.clips[0].sample_rate, band), *(len(i[0]) for i in images))
        recordings = [clip.recording_id for clip in source.clips]

        def teach(device: str) -> tuple[Network, int]:
            footage = Footage(images, recordings, frames=frames, device=device)
            network = Network(len(images[0]), self._settings.embedding_dim, seed=self._settings.seed)
            network.to(device)
            sampler = Sampler(footage, self._tasks, self._settings, self._settings.seed)
            episodes = train(network, sampler, self._settings)
            network.to("cpu")
            return network, episodes

        # In a worker's thread, which has torch on one thread.
        network, episodes = self._workers.map(teach, [_pick_device(self._settings)])[0]
        space = Space(statistics, network, frames, self._settings.space)
        kept = tuple(heard) if self._settings.adapt == "finetune" else ()
        return Lesson(band, self._tasks, kept, space, *self._measure_source(space, heard), episodes)

    def _measure_source(self, space: Space, heard: Sequence[Spectrogram]) -> tuple[tuple[Column, ...], Floats]:
        """Each column's weights and spread, and the source's prototypes, from the source's clips in order."""
        points = self._workers.map(space.points, heard)
        moments = [Moments.of(one) for one in points]
        pairs = list(zip(self._source.clips, moments, strict=True))
        weights = [_weigh_column(task, pairs, self._settings) for task in self._tasks]
        table = np.stack(weights, axis=1)
        names, prototypes = _recording_means(self._source, moments)
        place = {name: row for row, name in enumerate(names)}

        def find_nearest(index: int) -> Floats:
            found = _distances(points[index], prototypes, table, self._settings)
            found[place[self._source.clips[index].recording_id]] = np.inf
            return np.asarray(found.min(axis=0))

        own = np.stack(self._workers.map(find_nearest, range(len(points))))
        columns = tuple(
            Column(task.column, each, Spread.of_source(own[:, number]))
            for number, (task, each) in enumerate(zip(self._tasks, weights, strict=True))
        )
        return columns, prototypes

    def _tune(self, lesson: Lesson, indices: Sequence[int], heard: Sequence[Spectrogram]) -> Lesson:
        """The lesson after a short finetune in which the target's values join the source's as further classes."""
        clips = [*self._source.clips, *(self._target.clips[i] for i in indices)]
        names = [f"source/{c.recording_id}" for c in self._source.clips]
        names += [f"target/{self._target.clips[i].recording_id}" for i in indices]
        known = [*lesson.heard, *(heard[i] for i in indices)]
        images = [lesson.space.statistics.standardize(one).values for one in known]
        frames = min(lesson.space.frames, *(len(image[0]) for image in images))
        own = [(clip, name) for clip, name in zip(clips, names, strict=True) if name.startswith("target/")]
        tasks = [_join_task(task, own) for task in lesson.tasks]

        def teach(device: str) -> Network:
            footage = Footage(images, names, frames=frames, device=device)
            tuned = finetune(
                lesson.space.network,
                Sampler(footage, tasks, self._settings, self._settings.seed),
                self._settings,
                device,
            )
            tuned.to("cpu")
            return tuned

        network = self._workers.map(teach, [_pick_device(self._settings)])[0]
        space = Space(lesson.space.statistics, network, lesson.space.frames, lesson.space.kind)
        columns, prototypes = self._measure_source(space, lesson.heard)
        return Lesson(lesson.bandwidth_hz, lesson.tasks, lesson.heard, space, columns, prototypes, lesson.episodes)

    def _digest_source(self) -> str:
        """What the network is learnt from: settings, clips with their conditions, and samples."""
        digest = hashlib.sha256(self._settings.digest().encode())
        for clip, waveform in self._source:
            conditions = sorted(clip.conditions.items())
            digest.update(repr((clip.clip_id, clip.recording_id, clip.bandwidth_hz, conditions)).encode())
            digest.update(waveform.tobytes())
        return digest.hexdigest()


def plan_tasks(source: ClipSet, settings: PrototypeSettings) -> tuple[Task, ...]:
    """A task a condition column, sorted by name: those that the settings name, or all that qualify.

    A column qualifies that names `MIN_FILLED` of the source's recordings and has two values of `MIN_CLASS` recordings.
    A column that the settings name needs two values of two recordings.

    Raises
    ------
    InputError
        None qualifies, or one that is named cannot be learnt from.
    """
    first = {clip.recording_id: clip for clip in reversed(by_clip_id(source).clips)}
    tasks = []
    for column in sorted(settings.columns or CONDITION_COLUMNS):
        values = {name: clip.conditions[column] for name, clip in first.items() if column in clip.conditions}
        least = 2 if settings.columns else MIN_CLASS
        counts = Counter(values.values())
        kept = sorted(value for value, count in counts.items() if count >= least)
        classes = tuple(tuple(sorted(name for name in values if values[name] == value)) for value in kept)
        filled = settings.columns or len(values) >= MIN_FILLED * len(first)
        if filled and len(classes) >= 2:
            tasks.append(Task(column, tuple(kept), classes))
        elif settings.columns:
            raise InputError(
                f"column {column!r} has {len(classes)} values that two source recordings or more share, engine C needs "
                "2: name another column, or give source that varies in it"
            )
    if not tasks:
        raise InputError(
            f"engine C finds no condition column in {len(first)} source recordings to learn from: one must be filled "
            f"for {MIN_FILLED:.0%} of them and have 2 values of {MIN_CLASS} recordings; fill in {CONDITION_COLUMNS[0]} "
            "or the like, or take another engine"
        )
    return tuple(tasks)


def _require_source(source: ClipSet | None, target: ClipSet, settings: PrototypeSettings) -> ClipSet:
    """The source's clips in the order of their ids, at most `max_source` recordings of them.

    Raises
    ------
    InputError
        There is none, a name stands twice, or the sample rate is not the target's.
    """
    if source is None or not len(source):
        raise InputError("engine C learns from other normals' conditions and there is no source; take engine A")
    if len({clip.clip_id for clip in source.clips}) < len(source):
        raise InputError("two normals of the source have the same clip_id; name each clip once")
    require_rate(source, target.clips[0].sample_rate)
    names = sorted(source.recordings)
    if len(names) > settings.max_source:
        names = [names[i] for i in np.random.default_rng(settings.seed).permutation(len(names))[: settings.max_source]]
    kept = set(names)
    return by_clip_id(source.subset([i for i, clip in enumerate(source.clips) if clip.recording_id in kept]))


def _hear(clips: ClipSet, index: int, settings: PrototypeSettings, bandwidth_hz: float) -> Spectrogram:
    """Log-mel of one clip over the model's band.

    Raises
    ------
    InputError
        The clip cannot be heard; it is named.
    """
    clip = clips.clips[index]
    waveform = clips.waveform(index)
    with naming(clip):
        return log_mel(
            waveform,
            settings.front_end,
            sample_rate=clip.sample_rate,
            bandwidth_hz=bandwidth_hz,
            held_hz=min(clip.bandwidth_hz, bandwidth_hz),
        )


def _crop_frames(settings: PrototypeSettings, sample_rate: int, bandwidth_hz: float) -> int:
    """Frames of a crop: as many as `crop_s` holds in a band of 8 kHz, so that a crop grows with window and hop."""
    wide = FrameGrid.of(settings.front_end, sample_rate=sample_rate, bandwidth_hz=min(sample_rate / 2, 8_000.0))
    return max(MIN_FRAMES, round(settings.crop_s * sample_rate / wide.hop))


def _pick_device(settings: PrototypeSettings) -> str:
    """Where to train.

    Raises
    ------
    UsageError
        CUDA is asked for and there is none.
    """
    import torch

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device 'cuda' was asked for and torch finds none; set device to 'cpu' or 'auto'")
    return "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"


@dataclass(frozen=True, eq=False)
class _Own:
    """The target's normals in one space: `names` of recordings with their `prototypes` float64 (n, dim); `groups`, the
    recording of each clip, and `distances` of each clip to each prototype, float64 (clips, n, columns)."""

    names: tuple[str, ...]
    prototypes: Floats
    groups: tuple[str, ...]
    distances: Floats

    def keep(self, wanted: set[str]) -> _Own:
        """Only those recordings."""
        rows = [i for i, name in enumerate(self.names) if name in wanted]
        clips = [i for i, name in enumerate(self.groups) if name in wanted]
        return _Own(
            tuple(self.names[i] for i in rows),
            self.prototypes[rows],
            tuple(self.groups[i] for i in clips),
            self.distances[np.ix_(clips, rows)],
        )

    def spreads(self, source: Sequence[Spread], *, shrinkage: float) -> tuple[Spread, ...]:
        """How far the recordings lie from the nearest of the others, in each column."""
        others = np.array([[group != name for name in self.names] for group in self.groups])
        nearest = np.where(others[:, :, None], self.distances, np.inf).min(axis=1)
        return tuple(
            Spread.toward(nearest[:, number], recordings=len(self.names), source=each, shrinkage=shrinkage)
            for number, each in enumerate(source)
        )


def _recording_means(clips: ClipSet, moments: Sequence[Moments]) -> tuple[tuple[str, ...], Floats]:
    """Recordings and the mean point of each, float64 (recordings, dim), its clips weighing alike."""
    grouped: dict[str, list[Floats]] = {}
    for clip, one in zip(clips.clips, moments, strict=True):
        grouped.setdefault(clip.recording_id, []).append(one.mean)
    return tuple(grouped), np.stack([np.mean(np.stack(means), axis=0) for means in grouped.values()])


def _weight_table(columns: Sequence[Column]) -> Floats:
    return np.stack([column.weights for column in columns], axis=1)


def _spread_table(spreads: Sequence[Spread]) -> Floats:
    return np.array([[spread.mean, spread.std] for spread in spreads])


def _weigh_column(task: Task, clips: Sequence[tuple[Clip, Moments]], settings: PrototypeSettings) -> Floats:
    """The weights that make of a squared distance what `settings.score` says, float64 (dim,)."""
    members = {name: value for value, names in zip(task.values, task.classes, strict=True) for name in names}
    learnt = [(clip, moments) for clip, moments in clips if clip.recording_id in members]
    if settings.score == "distance":
        return np.ones_like(learnt[0][1].total)
    crops = 0
    within = np.zeros(learnt[0][1].total.shape)
    for value in task.values:
        own = [moments for clip, moments in learnt if members[clip.recording_id] == value]
        count = sum(one.crops for one in own)
        total = np.sum([one.total for one in own], axis=0)
        within += np.sum([one.squares for one in own], axis=0) - np.square(total) / count
        crops += count
    variance = np.maximum(within / crops, 0.0)
    floor = settings.variance_floor * float(variance.mean())
    return np.asarray(1.0 / (variance + floor + np.finfo(np.float32).tiny))


def _join_task(task: Task, own: Sequence[tuple[Clip, str]]) -> Task:
    """The task with the target's values as further classes; clips without a value are one class."""
    values: dict[str, set[str]] = {}
    for clip, name in own:
        values.setdefault(f"target/{clip.conditions.get(task.column, '')}", set()).add(name)
    classes = [tuple(f"source/{name}" for name in names) for names in task.classes]
    classes += [tuple(sorted(values[value])) for value in sorted(values)]
    return Task(task.column, (*task.values, *sorted(values)), tuple(classes))


class _Card(BaseModel):
    """engine.json."""

    model_config = ConfigDict(extra="forbid")

    format_version: Literal[2] = 2
    engine: Literal["c"] = "c"
    settings: PrototypeSettings
    sample_rate: int = Field(gt=0)
    bandwidth_hz: float = Field(gt=0)
    crop_frames: int = Field(gt=0)
    columns: tuple[str, ...] = Field(min_length=1)
    episodes_trained: int = Field(gt=0)
    normal_scores_method: str


def _read_model(folder: Path, card: _Card) -> tuple[Model, Floats]:
    tensors = Tensors(folder / "prototypes.safetensors")
    mean, std = tensors.array("bands.mean", np.float64, 1), tensors.array("bands.std", np.float64, 1)
    if mean.shape != std.shape or (std <= 0).any():
        raise InputError(f"{tensors.path}: the band statistics do not fit together; refit the asset")
    network = Network(len(mean), card.settings.embedding_dim, seed=card.settings.seed)
    shapes = network.weights()
    network.load_weights(
        {name: tensors.array(f"network.{name}", np.float32, value.ndim) for name, value in shapes.items()}
    )
    space = Space(BandStatistics(mean, std), network, card.crop_frames, card.settings.space)
    dim = network.n_features if card.settings.space == "features" else card.settings.embedding_dim
    weights = tensors.array("weights", np.float64, 2)
    source, target = (tensors.array(f"prototypes.{domain}", np.float64, 2) for domain in ("source", "target"))
    spreads = [tensors.array(f"spreads.{domain}", np.float64, 2) for domain in ("source", "target")]
    columns = len(card.columns)
    fits = weights.shape == (dim, columns) and {one.shape for one in spreads} == {(columns, 2)}
    if not fits or {source.shape[1], target.shape[1]} != {dim} or not (len(source) and len(target)):
        raise InputError(f"{tensors.path}: the prototypes do not fit the network; refit the asset")
    if any((one[:, 1] <= 0).any() for one in spreads):
        raise InputError(f"{tensors.path}: a spread is not above zero; refit the asset")
    model = Model(
        card.sample_rate,
        card.bandwidth_hz,
        space,
        card.columns,
        weights,
        source,
        target,
        *(tuple(Spread(float(mean), float(std)) for mean, std in one) for one in spreads),
    )
    return model, tensors.array("normal_scores", np.float64, 1)
