"""Engine A, training-free patch memory: how unlike every patch of the normals is each patch of a clip?

1. Log-mel over the band that all target normals hold; each band standardized by their mean and deviation.
2. An encoder makes patches of the standardized spectrogram; all patches of the normals are the memory.
3. Patch anomaly = 1 − the highest cosine to the memory, averaged over the encoder's layers on the finest grid: the
   anomaly map. Clip score = mean of its highest `tail_fraction` of cells.

After PatchCore (Roth et al. 2022) with cosine for the distance and a tail mean for its single highest patch. Only
the target's normals are used; `source` is ignored.

A score depends on the clip and the model alone, and a model on the set of normals alone: neither on the order of
clips, nor on what is scored beside them, nor on the number of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.base import AnomalyMap, Clip, ClipSet, Engine, Progress, recording_scores
from engines.encoders.base import Encoder, EncoderIdentity
from engines.features import BandMoments, BandStatistics, Spectrogram
from engines.patches import aligned, map_layers, smooth, tail_mean, unit_patches
from engines.workers import WorkDone, Workers
from schemas.engine_settings import PatchMemorySettings
from schemas.errors import InputError, UsageError, WeightsError

MIN_RECORDINGS = 3

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Memory:
    """All that is learnt from the normals; `layers` hold float32 (n, dim) patches of unit length."""

    sample_rate: int
    bandwidth_hz: float
    statistics: BandStatistics
    layers: tuple[NDArray[np.float32], ...]


class PatchMemory(Engine):
    """Training-free patch memory over an encoder.

    `workers` is how many clips are encoded side by side (default: one a core); it changes the speed, never a score.

    Attributes
    ----------
    normal_scores_method
        `leave_one_out`, or `32_fold` where there are more recordings than `max_refits`; empty before `fit`.
    """

    name: ClassVar[str] = "a"

    def __init__(
        self, encoder: Encoder, settings: PatchMemorySettings | None = None, *, workers: int | None = None
    ) -> None:
        self.encoder = encoder
        self.settings = settings or PatchMemorySettings()
        self.normal_scores_method = ""
        self._workers = workers
        self._memory: Memory | None = None
        self._normal_scores: NDArray[np.float64] = np.empty(0)

    def fit(self, target: ClipSet, source: ClipSet | None = None, *, progress: Progress | None = None) -> Self:
        """Remember the target's normals, and score each recording by a memory of the others.

        `source` is ignored. Nearly all the time goes into the memories refitted for `normal_scores`; `progress`
        counts them in, and ends at the number of clips.

        Raises
        ------
        InputError
            Fewer than 3 recordings, two clips of one name, or a broken clip.
        """
        _require_normals(target)
        clips = target.subset(sorted(range(len(target)), key=lambda i: target.clips[i].clip_id))
        folds = _folds(sorted(target.recordings), self.settings.max_refits)
        scores = np.empty(len(clips))
        with Workers(self._workers) as workers:
            done = WorkDone(progress, clips=len(clips), work=len(clips) * (len(folds) + 1))
            trainer = _Trainer(self.encoder, self.settings, clips, workers, done)
            memory = trainer.remember(range(len(clips)))
            for fold in folds:
                left = [i for i, clip in enumerate(clips.clips) if clip.recording_id in fold]
                scores[left] = trainer.score_without(left)
        self._memory = memory
        by_recording = dict(zip(clips.recordings, recording_scores(clips, scores), strict=True))
        self._normal_scores = np.array([by_recording[name] for name in target.recordings])
        self.normal_scores_method = "leave_one_out" if len(folds) == len(by_recording) else f"{len(folds)}_fold"
        return self

    def decision_function(self, clips: ClipSet, *, progress: Progress | None = None) -> NDArray[np.float64]:
        memory = self._fitted(clips)
        done = WorkDone(progress, clips=len(clips), work=len(clips))

        def score(index: int) -> float:
            value = tail_mean(self._map(memory, clips, index).values, self.settings.tail_fraction)
            done.add(1)
            return value

        with Workers(self._workers) as workers:
            return np.array(workers.map(score, range(len(clips))), dtype=np.float64)

    def anomaly_map(self, clips: ClipSet, index: int) -> AnomalyMap:
        memory = self._fitted(clips)
        with Workers(1) as workers:
            return workers.map(lambda i: self._map(memory, clips, i), [index])[0]

    def normal_scores(self) -> NDArray[np.float64]:
        """Scores of the target's recordings, each by an engine fitted without it, float64 (n_recordings,).

        In the order of `target.recordings`. Above `max_refits` recordings they are left out in that many groups;
        `normal_scores_method` says which. They are compared with fewer normals than a new recording will be, so
        they tend to lie a little higher than its score.
        """
        self._require_fit()
        return self._normal_scores.copy()

    def save(self, folder: Path) -> None:
        """Write `engine.json` and `memory.safetensors` into an existing folder."""
        from safetensors.numpy import save_file

        memory = self._require_fit()
        card = _Card(
            settings=self.settings,
            encoder=_EncoderCard(**asdict(self.encoder.identity)),
            sample_rate=memory.sample_rate,
            bandwidth_hz=memory.bandwidth_hz,
            layers=len(memory.layers),
            normal_scores_method=self.normal_scores_method,
        )
        tensors = {f"layers.{i}": layer for i, layer in enumerate(memory.layers)}
        statistics = {"bands.mean": memory.statistics.mean, "bands.std": memory.statistics.std}
        save_file({**tensors, **statistics, "normal_scores": self._normal_scores}, folder / "memory.safetensors")
        (folder / "engine.json").write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, encoder: Encoder, *, workers: int | None = None) -> Self:
        """The engine that `save` wrote, giving the same scores.

        Raises
        ------
        InputError
            A file is absent or of another format, or its arrays do not fit together.
        WeightsError
            `encoder` is not the one that the model was fitted with.
        """
        card = _read_card(folder)
        fitted_with = EncoderIdentity(**card.encoder.model_dump())
        if fitted_with != encoder.identity:
            raise WeightsError(
                f"the model in {folder} was fitted with {fitted_with}, not {encoder.identity}; refit the asset"
            )
        engine = cls(encoder, card.settings, workers=workers)
        engine._memory, engine._normal_scores = _read_memory(folder, card)
        engine.normal_scores_method = card.normal_scores_method
        return engine

    def _require_fit(self) -> Memory:
        if self._memory is None:
            raise UsageError("engine A has no memory yet; call fit or load first")
        return self._memory

    def _fitted(self, clips: ClipSet) -> Memory:
        memory = self._require_fit()
        for clip in clips.clips[:1]:
            if clip.sample_rate != memory.sample_rate:
                raise InputError(
                    f"clip {clip.clip_id!r} is sampled at {clip.sample_rate} Hz, the model at {memory.sample_rate} Hz; "
                    "standardize it first"
                )
        return memory

    def _map(self, memory: Memory, clips: ClipSet, index: int) -> AnomalyMap:
        heard = _hear(self.encoder, clips.clips[index], clips.waveform(index), memory.bandwidth_hz)
        return _map_anomalies(self.encoder, self.settings, memory, heard)


class _Trainer:
    """Fits memories to subsets of one set of clips; each spectrogram is computed once."""

    def __init__(
        self, encoder: Encoder, settings: PatchMemorySettings, clips: ClipSet, workers: Workers, done: WorkDone
    ) -> None:
        self._encoder, self._settings, self._clips = encoder, settings, clips
        self._workers, self._done = workers, done
        self._bandwidth_hz = 0.0
        self._heard: list[Spectrogram] = []
        self._moments: list[BandMoments] = []

    def remember(self, indices: Sequence[int]) -> Memory:
        """The memory of the clips at `indices`, and of nothing else."""
        clips = [self._clips.clips[i] for i in indices]
        self._hear_all(min(clip.bandwidth_hz for clip in clips))
        moments = [self._moments[i] for i in indices]
        statistics = BandStatistics.of(moments, std_floor_db=self._settings.std_floor_db)
        quota = -(-self._settings.max_patches // len(clips))

        def patches(index: int) -> list[NDArray[np.float32]]:
            image, name = statistics.standardize(self._heard[index]), self._clips.clips[index].clip_id
            kept = _clip_patches(self._encoder, self._settings, image, quota, name)
            self._done.add(1)
            return kept

        layers = zip(*self._workers.map(patches, indices), strict=True)
        return Memory(
            sample_rate=clips[0].sample_rate,
            bandwidth_hz=self._bandwidth_hz,
            statistics=statistics,
            layers=tuple(aligned(np.concatenate(parts)) for parts in layers),
        )

    def score_without(self, left: Sequence[int]) -> list[float]:
        """Scores of the clips at `left` by a memory of all the others."""
        memory = self.remember(sorted(set(range(len(self._clips))) - set(left)))

        def score(index: int) -> float:
            found = _map_anomalies(self._encoder, self._settings, memory, self._heard[index])
            self._done.add(1)
            return tail_mean(found.values, self._settings.tail_fraction)

        return self._workers.map(score, left)

    def _hear_all(self, bandwidth_hz: float) -> None:
        if bandwidth_hz == self._bandwidth_hz:
            return
        self._heard = self._workers.map(
            lambda i: _hear(self._encoder, self._clips.clips[i], self._clips.waveform(i), bandwidth_hz),
            range(len(self._clips)),
        )
        self._moments = [BandMoments.of(heard) for heard in self._heard]
        self._bandwidth_hz = bandwidth_hz


def _require_normals(target: ClipSet) -> None:
    count = len(target.recordings)
    if count < MIN_RECORDINGS:
        raise InputError(f"{count} normal recordings of the target; engine A needs {MIN_RECORDINGS}: record more")
    if len({clip.clip_id for clip in target.clips}) < len(target):
        raise InputError("two normals of the target have the same clip_id; name each clip once")


def _folds(recordings: Sequence[str], max_refits: int) -> list[set[str]]:
    """Groups of recordings to leave out together: one each, or `max_refits` interleaved groups."""
    count = min(len(recordings), max_refits)
    return [set(recordings[start::count]) for start in range(count)]


def _hear(encoder: Encoder, clip: Clip, waveform: NDArray[np.float32], bandwidth_hz: float) -> Spectrogram:
    """What the encoder hears of a clip up to `bandwidth_hz`; an `InputError` names the clip."""
    held_hz = min(clip.bandwidth_hz, bandwidth_hz)
    try:
        return encoder.spectrogram(waveform, sample_rate=clip.sample_rate, bandwidth_hz=bandwidth_hz, held_hz=held_hz)
    except InputError as error:
        raise InputError(f"clip {clip.clip_id!r}: {error}") from error


def _map_anomalies(encoder: Encoder, settings: PatchMemorySettings, memory: Memory, heard: Spectrogram) -> AnomalyMap:
    """The anomaly map of one clip, from its spectrogram in dB; a long clip's piece by piece."""
    maps = []
    for piece in memory.statistics.standardize(heard).pieces(settings.max_image_s):
        layers = [smooth(layer, settings.neighbourhood) for layer in encoder.encode_one(piece)]
        maps.append(map_layers(layers, memory.layers))
    return AnomalyMap(
        values=np.concatenate([part.values for part in maps], axis=1),
        frequencies_hz=maps[0].frequencies_hz,
        times_s=np.concatenate([part.times_s for part in maps]),
    )


def _clip_patches(
    encoder: Encoder, settings: PatchMemorySettings, image: Spectrogram, quota: int, clip_id: str
) -> list[NDArray[np.float32]]:
    """At most `quota` patches a layer of one clip, (n, dim): the same draw whatever else is remembered."""
    pieces = [encoder.encode_one(piece) for piece in image.pieces(settings.max_image_s)]
    kept = []
    for parts in zip(*pieces, strict=True):
        units = [unit_patches(smooth(layer, settings.neighbourhood)) for layer in parts]
        patches = np.concatenate([unit.reshape(-1, unit.shape[-1]) for unit in units])
        if len(patches) > quota:
            name = int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "big")
            patches = patches[np.random.default_rng([settings.seed, name]).permutation(len(patches))[:quota]]
        kept.append(patches)
    return kept


class _EncoderCard(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    version: int
    weights: str
    front_end: str


class _Card(BaseModel):
    """engine.json."""

    model_config = ConfigDict(extra="forbid")

    format_version: Literal[1] = 1
    engine: Literal["a"] = "a"
    settings: PatchMemorySettings
    encoder: _EncoderCard
    sample_rate: int = Field(gt=0)
    bandwidth_hz: float = Field(gt=0)
    layers: int = Field(gt=0)
    normal_scores_method: str


def _read_card(folder: Path) -> _Card:
    path = folder / "engine.json"
    try:
        return _Card.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is absent; this folder holds no saved engine") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no model of engine A that this version reads: {error}") from error


def _read_memory(folder: Path, card: _Card) -> tuple[Memory, NDArray[np.float64]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / "memory.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}; refit the asset") from error

    def array(name: str, dtype: type[_Scalar], axes: int) -> NDArray[_Scalar]:
        value = tensors.get(name)
        if value is None or value.dtype != dtype or value.ndim != axes or not value.size:
            raise InputError(f"{path} lacks {name!r} as {np.dtype(dtype)} of {axes} axes; refit the asset")
        if not np.isfinite(value).all():
            raise InputError(f"{path}: {name!r} holds NaN or Inf; refit the asset")
        return value

    mean, std = array("bands.mean", np.float64, 1), array("bands.std", np.float64, 1)
    if mean.shape != std.shape or (std <= 0).any():
        raise InputError(f"{path}: the band statistics do not fit together; refit the asset")
    layers = tuple(aligned(array(f"layers.{i}", np.float32, 2)) for i in range(card.layers))
    memory = Memory(card.sample_rate, card.bandwidth_hz, BandStatistics(mean, std), layers)
    return memory, array("normal_scores", np.float64, 1)
