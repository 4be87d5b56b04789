"""Engine A, training-free patch memory: how unlike every patch of the normals is each patch of a clip?

1. Log-mel over the band that all target normals hold; each band standardized by their mean and deviation.
2. An encoder makes patches of the standardized spectrogram; all patches of the normals are the memory, or where they
   are too many, of each clip those that lie far from one another (`engines.coreset`).
3. Patch anomaly = 1 − the highest cosine to the memory, averaged over the encoder's layers on the finest grid: the
   anomaly map. Clip score = mean of its highest `tail_fraction` of cells.

After PatchCore (Roth et al. 2022) with cosine for the distance and a tail mean for its single highest patch; and its
coreset is of all normals together, here of each clip by itself, so that leaving one out leaves the others' patches as
they are. Only the target's normals are used; `source` is ignored.

A score depends on the clip and the model alone, and a model on the set of normals alone: neither on the order of
clips, nor on what is scored beside them, nor on the number of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from engines.base import AnomalyMap, ClipSet, Engine, Progress, recording_scores
from engines.coreset import farthest_points
from engines.encoders.base import Encoder
from engines.features import BandMoments, BandStatistics, Spectrogram
from engines.fitting import MIN_RECORDINGS, by_clip_id, folds, hear, name_method, require_normals, require_rate
from engines.patches import aligned, map_layers, smooth, tail_mean, unit_patches
from engines.saving import EncoderCard, Tensors, read_card, write_card
from engines.workers import WorkDone, Workers
from schemas.engine_settings import PatchMemorySettings
from schemas.errors import InputError, UsageError


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
    `least` is the fewest normal recordings it is fitted to; below 3 only for an engine that leaves some of three out.
    """

    name: ClassVar[str] = "a"

    def __init__(
        self,
        encoder: Encoder,
        settings: PatchMemorySettings | None = None,
        *,
        workers: int | None = None,
        least: int = MIN_RECORDINGS,
    ) -> None:
        self.encoder = encoder
        self.settings = settings or PatchMemorySettings()
        self._least = least
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
        require_normals(target, engine=self.name, least=self._least)
        clips = by_clip_id(target)
        left_out = folds(target.recordings, self.settings.max_refits)
        scores = np.empty(len(clips))
        with Workers(self._workers) as workers:
            done = WorkDone(progress, clips=len(clips), work=len(clips) * (len(left_out) + 1))
            trainer = _Trainer(self.encoder, self.settings, clips, workers, done)
            memory = trainer.remember(range(len(clips)))
            for fold in left_out:
                left = [i for i, clip in enumerate(clips.clips) if clip.recording_id in fold]
                scores[left] = trainer.score_without(left)
        self._memory = memory
        by_recording = dict(zip(clips.recordings, recording_scores(clips, scores), strict=True))
        self._normal_scores = np.array([by_recording[name] for name in target.recordings])
        self.normal_scores_method = name_method(left_out)
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
            encoder=EncoderCard.of(self.encoder.identity),
            sample_rate=memory.sample_rate,
            bandwidth_hz=memory.bandwidth_hz,
            layers=len(memory.layers),
            normal_scores_method=self.normal_scores_method,
        )
        tensors = {f"layers.{i}": layer for i, layer in enumerate(memory.layers)}
        statistics = {"bands.mean": memory.statistics.mean, "bands.std": memory.statistics.std}
        save_file({**tensors, **statistics, "normal_scores": self._normal_scores}, folder / "memory.safetensors")
        write_card(card, folder)

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
        card = read_card(folder, _Card, engine=cls.name)
        card.encoder.require(encoder.identity, folder)
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
        require_rate(clips, memory.sample_rate)
        return memory

    def _map(self, memory: Memory, clips: ClipSet, index: int) -> AnomalyMap:
        heard = hear(self.encoder, clips.clips[index], clips.waveform(index), memory.bandwidth_hz)
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

        def patches(index: int) -> list[NDArray[np.float32]]:
            image, name = statistics.standardize(self._heard[index]), self._clips.clips[index].clip_id
            kept = _clip_patches(self._encoder, self._settings, image, name, clips=len(clips))
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
            lambda i: hear(self._encoder, self._clips.clips[i], self._clips.waveform(i), bandwidth_hz),
            range(len(self._clips)),
        )
        self._moments = [BandMoments.of(heard) for heard in self._heard]
        self._bandwidth_hz = bandwidth_hz


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
    encoder: Encoder, settings: PatchMemorySettings, image: Spectrogram, clip_id: str, *, clips: int
) -> list[NDArray[np.float32]]:
    """The patches of each layer that one of `clips` clips adds to the memory, (n, dim).

    They are drawn from the clip alone: the same whatever else is remembered.
    """
    pieces = [encoder.encode_one(piece) for piece in image.pieces(settings.max_image_s)]
    layers = []
    for parts in zip(*pieces, strict=True):
        units = [unit_patches(smooth(layer, settings.neighbourhood)) for layer in parts]
        layers.append(np.concatenate([unit.reshape(-1, unit.shape[-1]) for unit in units]))
    quota = _quota(settings, clips, dims=sum(patches.shape[1] for patches in layers))
    name = int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "big")
    return [_subsample(patches, quota, settings.subsample, seed=[settings.seed, name]) for patches in layers]


def _quota(settings: PatchMemorySettings, clips: int, *, dims: int) -> int:
    """Patches a layer that each clip may add, so that neither `max_patches` nor `max_memory_mib` is exceeded."""
    total = min(settings.max_patches, settings.max_memory_mib * 2**20 // (4 * dims))
    return max(1, -(-total // clips))


def _subsample(
    patches: NDArray[np.float32], quota: int, how: Literal["random", "coreset"], *, seed: list[int]
) -> NDArray[np.float32]:
    if len(patches) <= quota:
        return patches
    rng = np.random.default_rng(seed)
    if how == "coreset":
        return patches[farthest_points(patches, quota, start=int(rng.integers(len(patches))))]
    return patches[rng.permutation(len(patches))[:quota]]


class _Card(BaseModel):
    """engine.json."""

    model_config = ConfigDict(extra="forbid")

    format_version: Literal[1] = 1
    engine: Literal["a"] = "a"
    settings: PatchMemorySettings
    encoder: EncoderCard
    sample_rate: int = Field(gt=0)
    bandwidth_hz: float = Field(gt=0)
    layers: int = Field(gt=0)
    normal_scores_method: str


def _read_memory(folder: Path, card: _Card) -> tuple[Memory, NDArray[np.float64]]:
    tensors = Tensors(folder / "memory.safetensors")
    mean, std = tensors.array("bands.mean", np.float64, 1), tensors.array("bands.std", np.float64, 1)
    if mean.shape != std.shape or (std <= 0).any():
        raise InputError(f"{tensors.path}: the band statistics do not fit together; refit the asset")
    layers = tuple(aligned(tensors.array(f"layers.{i}", np.float32, 2)) for i in range(card.layers))
    memory = Memory(card.sample_rate, card.bandwidth_hz, BandStatistics(mean, std), layers)
    return memory, tensors.array("normal_scores", np.float64, 1)
