"""Engine B, two memory banks: how far is a clip from the nearest source normal, and how far from the nearest target?

1. Log-mel over the band that all target normals hold, and at least one of the source; each band standardized by the
   source normals that hold it.
2. An encoder's patches are pooled over time, row by row of frequency: mean and standard deviation of every dimension.
   Each is scaled by how much source normals vary in it, layers count equally, and the deviations make up
   `spread_share` of a squared distance: one embedding a clip.
3. d = mean squared distance to the `neighbours` nearest of a bank. To the target bank belong the mixes of each target
   with its nearest sources (MemMixup).
4. d is normalized by the training normals of its domain, each left out of its bank with the mixes made from it.
   Score = the smaller of the two domains' normalized distances.

After GenRep (Saengthong & Shinozaki 2024); `local_density` after Wilkinghoff et al. 2025. GenRep's published code
normalizes by the distances of the tests; nothing here ever sees a test.

The source alone decides how a clip becomes an embedding, so leaving a target out refits banks, mixes and normalization
on the same embeddings, and is exact. (Only a target that is narrower than all others changes the band, and with it
the embeddings: they are then made again.) A score depends on the clip and the model alone, a model on the sets of
normals alone: not on their order, nor on the number of workers.
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

from engines.banks import (
    Domain,
    Mixes,
    Spread,
    mean_of_nearest,
    pool_over_time,
    shrink_densities,
    squared_distances,
    without_own_group,
)
from engines.base import ClipSet, Engine, Progress, recording_scores
from engines.encoders.base import Encoder
from engines.features import BandMoments, BandStatistics, Spectrogram
from engines.fitting import (
    MIN_RECORDINGS,
    by_clip_id,
    folds,
    hear,
    name_method,
    require_normals,
    require_rate,
    shared_band,
)
from engines.saving import EncoderCard, Tensors, read_card, write_card
from engines.workers import WorkDone, Workers
from schemas.engine_settings import MemoryBankSettings
from schemas.errors import InputError, UsageError

MIN_SOURCE_RECORDINGS = 2
"""Fewest source recordings that can be fitted to: each needs another to be near. The router asks for more."""

SMALLEST_DENSITY = 1e-3
"""Least distance by which a source clip divides, as a share of the mean: two clips may be copies of one."""

ROWS_AT_ONCE = 256
"""Source clips whose distances to all others are held at once."""


@dataclass(frozen=True, eq=False)
class Ear:
    """How a clip becomes an embedding; learnt from source normals alone.

    `filling` and `weights` are float64 (dim,): what stands in for frequency rows that a clip does not hold, and the
    factor of each dimension.
    """

    sample_rate: int
    bandwidth_hz: float
    statistics: BandStatistics
    filling: NDArray[np.float64]
    weights: NDArray[np.float64]

    def embed(self, pooled: NDArray[np.float64], settings: MemoryBankSettings) -> NDArray[np.float64]:
        """The embeddings of pooled patches, float64 (clips, dim), rounded to float32 as they are saved."""
        vectors = np.where(np.isnan(pooled), self.filling, pooled) * self.weights
        if settings.distance == "cosine":
            # At unit length the squared distance is 2 (1 − cosine).
            length = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
            vectors = vectors / np.maximum(length, 1e-12)
        return vectors.astype(np.float32).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Banks:
    """All that is learnt from the normals; embeddings are float64 (clips, dim)."""

    ear: Ear
    source: NDArray[np.float64]
    target: NDArray[np.float64]
    mixes: Mixes
    source_domain: Domain
    target_domain: Domain


class MemoryBanks(Engine):
    """Two memory banks over an encoder.

    `workers` is how many clips are encoded side by side (default: one a core); it changes the speed, never a score.
    `least` is the fewest normal recordings it is fitted to; below 3 only for an engine that leaves some of three out.
    """

    name: ClassVar[str] = "b"

    def __init__(
        self,
        encoder: Encoder,
        settings: MemoryBankSettings | None = None,
        *,
        workers: int | None = None,
        least: int = MIN_RECORDINGS,
    ) -> None:
        self.encoder = encoder
        self.settings = settings or MemoryBankSettings()
        self._least = least
        self._workers = workers
        self._banks: Banks | None = None
        self._normal_scores: NDArray[np.float64] = np.empty(0)

    def fit(self, target: ClipSet, source: ClipSet | None = None, *, progress: Progress | None = None) -> Self:
        """Fill both banks, and score each target recording by banks without it.

        Every clip is encoded once, and nearly all the time goes there; `progress` counts the source in, and ends at
        the number of target clips.

        Raises
        ------
        InputError
            Fewer than 3 target recordings, no source or one recording of it, two clips of one name, a source of
            another sample rate than the target, or a broken clip.
        """
        require_normals(target, engine=self.name, least=self._least)
        normals, others = by_clip_id(target), by_clip_id(_require_source(source, target, self.settings))
        left_out = folds(target.recordings, self.settings.max_refits)
        kept = [[i for i, clip in enumerate(normals.clips) if clip.recording_id not in fold] for fold in left_out]
        bands = [shared_band(normals, indices, others) for indices in kept]
        whole = shared_band(normals, range(len(normals)), others)
        scores = np.empty(len(normals))
        with Workers(self._workers) as workers:
            work = len({whole, *bands}) * (len(normals) + 2 * len(others))
            done = WorkDone(progress, clips=len(normals), work=work)
            trainer = _Trainer(self.encoder, self.settings, normals, others, workers, done)
            for indices, band in zip(kept, bands, strict=True):
                left = sorted(set(range(len(normals))) - set(indices))
                scores[left] = trainer.at(band).score_without(left)
            self._banks = trainer.at(whole).banks()
        by_recording = dict(zip(normals.recordings, recording_scores(normals, scores), strict=True))
        self._normal_scores = np.array([by_recording[name] for name in target.recordings])
        self.normal_scores_method = name_method(left_out)
        return self

    def decision_function(self, clips: ClipSet, *, progress: Progress | None = None) -> NDArray[np.float64]:
        banks = self._require_fit()
        require_rate(clips, banks.ear.sample_rate)
        done = WorkDone(progress, clips=len(clips), work=len(clips))

        def score(index: int) -> float:
            clip, waveform = clips.clips[index], clips.waveform(index)
            heard = banks.ear.statistics.standardize(hear(self.encoder, clip, waveform, banks.ear.bandwidth_hz))
            pooled, _ = _pool(self.encoder, heard, self.settings.max_image_s)
            value = _score_embedding(banks, banks.ear.embed(pooled[None], self.settings), self.settings)
            done.add(1)
            return value

        with Workers(self._workers) as workers:
            return np.array(workers.map(score, range(len(clips))), dtype=np.float64)

    def normal_scores(self) -> NDArray[np.float64]:
        """Scores of the target's recordings, each by an engine fitted without it, float64 (n_recordings,).

        In the order of `target.recordings`. Above `max_refits` recordings they are left out in that many groups;
        `normal_scores_method` says which.
        """
        self._require_fit()
        return self._normal_scores.copy()

    def save(self, folder: Path) -> None:
        """Write `engine.json` and `banks.safetensors` into an existing folder."""
        from safetensors.numpy import save_file

        banks = self._require_fit()
        card = _Card(
            settings=self.settings,
            encoder=EncoderCard.of(self.encoder.identity),
            sample_rate=banks.ear.sample_rate,
            bandwidth_hz=banks.ear.bandwidth_hz,
            source=_SpreadCard.of(banks.source_domain.spread),
            target=_SpreadCard.of(banks.target_domain.spread),
            normal_scores_method=self.normal_scores_method,
        )
        tensors = {
            "bands.mean": banks.ear.statistics.mean,
            "bands.std": banks.ear.statistics.std,
            "ear.filling": banks.ear.filling,
            "ear.weights": banks.ear.weights,
            "source.embeddings": banks.source.astype(np.float32),
            "source.density": banks.source_domain.density,
            "target.embeddings": banks.target.astype(np.float32),
            "target.density": banks.target_domain.density,
            "normal_scores": self._normal_scores,
        }
        if self.settings.mixup:
            tensors |= {"mixes.partners": banks.mixes.partners, "mixes.gaps": banks.mixes.gaps}
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "banks.safetensors")
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
        engine._banks, engine._normal_scores = _read_banks(folder, card)
        engine.normal_scores_method = card.normal_scores_method
        return engine

    def _require_fit(self) -> Banks:
        if self._banks is None:
            raise UsageError("engine B has no banks yet; call fit or load first")
        return self._banks


class _Trainer:
    """Makes embeddings of target and source for one band after another; each band's once."""

    def __init__(
        self,
        encoder: Encoder,
        settings: MemoryBankSettings,
        target: ClipSet,
        source: ClipSet,
        workers: Workers,
        done: WorkDone,
    ) -> None:
        self._encoder, self._settings = encoder, settings
        self._target, self._source = target, source
        self._workers, self._done = workers, done
        self._bands: dict[float, _Normals] = {}

    def at(self, bandwidth_hz: float) -> _Normals:
        """The normals as they are heard up to `bandwidth_hz`."""
        if bandwidth_hz not in self._bands:
            self._bands[bandwidth_hz] = self._embed_all(bandwidth_hz)
        return self._bands[bandwidth_hz]

    def _embed_all(self, bandwidth_hz: float) -> _Normals:
        statistics = self._source_statistics(bandwidth_hz)
        source, blocks = self._pool_all(self._source, statistics, bandwidth_hz)
        target, _ = self._pool_all(self._target, statistics, bandwidth_hz)
        ear = Ear(
            sample_rate=self._source.clips[0].sample_rate,
            bandwidth_hz=bandwidth_hz,
            statistics=statistics,
            filling=np.nanmean(source, axis=0),
            weights=_weigh_blocks(source, blocks, spread_share=self._settings.spread_share),
        )
        return _Normals.of(
            self._settings,
            ear,
            source=ear.embed(source, self._settings),
            source_groups=_groups(self._source),
            target=ear.embed(target, self._settings),
            target_groups=_groups(self._target),
        )

    def _hear(self, clips: ClipSet, index: int, bandwidth_hz: float) -> Spectrogram:
        return hear(self._encoder, clips.clips[index], clips.waveform(index), bandwidth_hz)

    def _source_statistics(self, bandwidth_hz: float) -> BandStatistics:
        """Statistics of each band over the source clips that hold it.

        Spectrograms are heard again afterwards and not kept: those of 2000 clips would fill half a gigabyte.
        """

        def moments(index: int) -> BandMoments:
            heard = self._hear(self._source, index, bandwidth_hz)
            self._done.add(1)
            return BandMoments.of(heard)

        every = self._workers.map(moments, range(len(self._source)))
        return BandStatistics.of(every, std_floor_db=self._settings.std_floor_db)

    def _pool_all(
        self, clips: ClipSet, statistics: BandStatistics, bandwidth_hz: float
    ) -> tuple[NDArray[np.float64], list[int]]:
        def pool(index: int) -> tuple[NDArray[np.float64], list[int]]:
            heard = statistics.standardize(self._hear(clips, index, bandwidth_hz))
            pooled = _pool(self._encoder, heard, self._settings.max_image_s)
            self._done.add(1)
            return pooled

        pooled = self._workers.map(pool, range(len(clips)))
        return np.stack([vector for vector, _ in pooled]), pooled[0][1]


@dataclass(frozen=True, eq=False)
class _Normals:
    """Embeddings of all normals of one band and their distances, from which banks of any of the targets are learnt.

    `to_source` float64 (targets, sources) and `reach` float64 (targets, targets, mixes) are distances of targets;
    `source_own` float64 (sources,) those of sources to the bank of the other source recordings.
    """

    settings: MemoryBankSettings
    ear: Ear
    source: NDArray[np.float64]
    source_own: NDArray[np.float64]
    target: NDArray[np.float64]
    groups: NDArray[np.int64]
    to_source: NDArray[np.float64]
    mixes: Mixes
    reach: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        settings: MemoryBankSettings,
        ear: Ear,
        *,
        source: NDArray[np.float64],
        source_groups: NDArray[np.int64],
        target: NDArray[np.float64],
        target_groups: NDArray[np.int64],
    ) -> Self:
        to_source = squared_distances(target, source)
        count = settings.mixup_neighbours if settings.mixup else 0
        mixes = Mixes.of(to_source, share=settings.mixup_lambda, count=count)
        reach = mixes.reach(squared_distances(target, target), to_source, neighbours=settings.neighbours)
        own = _own_distances(source, source_groups, settings.neighbours)
        return cls(settings, ear, source, own, target, target_groups, to_source, mixes, reach)

    def banks(self, kept: Sequence[int] | None = None) -> Banks:
        """Banks of the targets at `kept` (default: of all), and of no other."""
        chosen = np.arange(len(self.target)) if kept is None else np.asarray(kept, dtype=np.int64)
        target_own = mean_of_nearest(
            without_own_group(self.reach[np.ix_(chosen, chosen)], self.groups[chosen]).reshape(len(chosen), -1),
            self.settings.neighbours,
        )
        source_domain, target_domain = make_comparable(
            self.settings, self.source_own, target_own, recordings=len(np.unique(self.groups[chosen]))
        )
        mixes = self.mixes.subset(chosen)
        return Banks(self.ear, self.source, self.target[chosen], mixes, source_domain, target_domain)

    def score_without(self, left: Sequence[int]) -> NDArray[np.float64]:
        """Scores of the targets at `left` by banks of all the others."""
        kept = sorted(set(range(len(self.target))) - set(left))
        banks, neighbours = self.banks(kept), self.settings.neighbours
        by_source = banks.source_domain.score(self.to_source[left], neighbours=neighbours)
        by_target = banks.target_domain.score(self.reach[np.ix_(left, kept)], neighbours=neighbours)
        return np.minimum(by_source, by_target)


def make_comparable(
    settings: MemoryBankSettings, source_own: NDArray[np.float64], target_own: NDArray[np.float64], *, recordings: int
) -> tuple[Domain, Domain]:
    """How distances to the source bank and to the target bank are normalized.

    By the distances at which their own normals lie from banks without them, float64 (clips,); `recordings` is how many
    recordings the targets are of.
    """
    plain = Domain(np.ones(len(source_own)), None), Domain(np.ones(len(target_own)), None)
    if settings.normalization == "none":
        return plain
    source = Spread.of_source(source_own)
    if settings.normalization == "zscore":
        target = Spread.of_target(target_own, recordings=recordings, source=source, shrinkage=settings.shrinkage)
        return Domain(plain[0].density, source), Domain(plain[1].density, target)
    densities = shrink_densities(
        target_own, recordings=recordings, source_mean=source.mean, shrinkage=settings.shrinkage
    )
    return Domain(np.maximum(source_own, SMALLEST_DENSITY * source.mean), None), Domain(densities, None)


def _score_embedding(banks: Banks, embedding: NDArray[np.float64], settings: MemoryBankSettings) -> float:
    """Score of one clip, from its embedding float64 (1, dim)."""
    to_source = squared_distances(embedding, banks.source)
    to_target = squared_distances(embedding, banks.target)
    reach = banks.mixes.reach(to_target, to_source, neighbours=settings.neighbours)
    by_source = banks.source_domain.score(to_source, neighbours=settings.neighbours)
    by_target = banks.target_domain.score(reach, neighbours=settings.neighbours)
    return float(min(by_source[0], by_target[0]))


def _require_source(source: ClipSet | None, target: ClipSet, settings: MemoryBankSettings) -> ClipSet:
    """The source recordings that are kept: at most `max_source`, drawn by the hash of their names."""
    found = source.recordings if source is not None else []
    if source is None or len(found) < MIN_SOURCE_RECORDINGS:
        raise InputError(
            f"engine B needs source normals, {MIN_SOURCE_RECORDINGS} recordings of other machines of the type or more, "
            f"and found {len(found)}: mark rows domain=source, let the library grow, or take engine A"
        )
    if len({clip.clip_id for clip in source.clips}) < len(source):
        raise InputError("two normals of the source have the same clip_id; name each clip once")
    require_rate(source, target.clips[0].sample_rate)
    drawn = sorted(found, key=lambda name: hashlib.sha256(f"{settings.seed}|{name}".encode()).digest())
    kept = set(drawn[: settings.max_source])
    return source.subset([i for i, clip in enumerate(source.clips) if clip.recording_id in kept])


def _pool(encoder: Encoder, heard: Spectrogram, max_image_s: float) -> tuple[NDArray[np.float64], list[int]]:
    """Pooled patches of one standardized clip, float64 (dim,), and the sizes of their blocks.

    The blocks of each layer are two: means over time, then standard deviations.
    """
    layers = zip(*(encoder.encode_one(piece) for piece in heard.pieces(max_image_s)), strict=True)
    blocks = [block.ravel() for layer in layers for block in pool_over_time(layer)]
    return np.concatenate(blocks), [block.size for block in blocks]


def _weigh_blocks(pooled: NDArray[np.float64], blocks: Sequence[int], *, spread_share: float) -> NDArray[np.float64]:
    """The factor of each dimension.

    With it the variance of source normals, summed over a block of means, is 1 − `spread_share`, and over a block of
    deviations `spread_share`. A block in which they do not vary at all says nothing, and weighs nothing.
    """
    totals = [part.sum() for part in np.split(np.nanvar(pooled, axis=0), np.cumsum(blocks)[:-1])]
    shares = [1.0 - spread_share, spread_share] * (len(blocks) // 2)
    factors = [np.sqrt(share / total) if total > 0 else 0.0 for share, total in zip(shares, totals, strict=True)]
    return np.repeat(factors, blocks)


def _own_distances(bank: NDArray[np.float64], groups: NDArray[np.int64], neighbours: int) -> NDArray[np.float64]:
    """Mean distance of each clip to its nearest of other recordings, float64 (clips,)."""
    own = []
    for start in range(0, len(bank), ROWS_AT_ONCE):
        distances = squared_distances(bank[start : start + ROWS_AT_ONCE], bank)
        own.append(mean_of_nearest(without_own_group(distances, groups, start=start), neighbours))
    return np.concatenate(own)


def _groups(clips: ClipSet) -> NDArray[np.int64]:
    """The number of each clip's recording, int64 (clips,)."""
    number = {name: i for i, name in enumerate(clips.recordings)}
    return np.array([number[clip.recording_id] for clip in clips.clips], dtype=np.int64)


class _SpreadCard(BaseModel):
    """A domain's spread of distances in engine.json."""

    model_config = ConfigDict(extra="forbid")

    mean: float
    std: float = Field(gt=0)

    @classmethod
    def of(cls, spread: Spread | None) -> Self | None:
        return None if spread is None else cls(mean=spread.mean, std=spread.std)

    @staticmethod
    def read(card: _SpreadCard | None) -> Spread | None:
        return None if card is None else Spread(card.mean, card.std)


class _Card(BaseModel):
    """engine.json."""

    model_config = ConfigDict(extra="forbid")

    format_version: Literal[1] = 1
    engine: Literal["b"] = "b"
    settings: MemoryBankSettings
    encoder: EncoderCard
    sample_rate: int = Field(gt=0)
    bandwidth_hz: float = Field(gt=0)
    source: _SpreadCard | None
    target: _SpreadCard | None
    normal_scores_method: str


def _read_banks(folder: Path, card: _Card) -> tuple[Banks, NDArray[np.float64]]:
    tensors = Tensors(folder / "banks.safetensors")
    ear = Ear(
        sample_rate=card.sample_rate,
        bandwidth_hz=card.bandwidth_hz,
        statistics=BandStatistics(
            tensors.array("bands.mean", np.float64, 1), tensors.array("bands.std", np.float64, 1)
        ),
        filling=tensors.array("ear.filling", np.float64, 1),
        weights=tensors.array("ear.weights", np.float64, 1),
    )
    target = tensors.array("target.embeddings", np.float32, 2).astype(np.float64)
    banks = Banks(
        ear=ear,
        source=tensors.array("source.embeddings", np.float32, 2).astype(np.float64),
        target=target,
        mixes=_read_mixes(tensors, card.settings, len(target)),
        source_domain=Domain(tensors.array("source.density", np.float64, 1), _SpreadCard.read(card.source)),
        target_domain=Domain(tensors.array("target.density", np.float64, 1), _SpreadCard.read(card.target)),
    )
    _require_fitting(banks, tensors.path)
    return banks, tensors.array("normal_scores", np.float64, 1)


def _read_mixes(tensors: Tensors, settings: MemoryBankSettings, clips: int) -> Mixes:
    if not settings.mixup:
        return Mixes(settings.mixup_lambda, np.empty((clips, 0), np.int64), np.empty((clips, 0)))
    partners, gaps = tensors.array("mixes.partners", np.int64, 2), tensors.array("mixes.gaps", np.float64, 2)
    return Mixes(settings.mixup_lambda, partners, gaps)


def _require_fitting(banks: Banks, path: Path) -> None:
    """Refuse arrays that do not belong together."""
    ear, partners = banks.ear, banks.mixes.partners
    clips, others, dim = len(banks.target), len(banks.source), len(ear.weights)
    shapes = [
        (banks.target.shape, (clips, dim)),
        (banks.source.shape, (others, dim)),
        (ear.filling.shape, (dim,)),
        (ear.statistics.std.shape, ear.statistics.mean.shape),
        (banks.target_domain.density.shape, (clips,)),
        (banks.source_domain.density.shape, (others,)),
        (partners.shape, (clips, partners.shape[1])),
        (banks.mixes.gaps.shape, partners.shape),
    ]
    divisors = (ear.statistics.std, banks.target_domain.density, banks.source_domain.density)
    fit = all(found == wanted for found, wanted in shapes) and all((array > 0).all() for array in divisors)
    if not fit or (partners < 0).any() or (partners >= others).any():
        raise InputError(f"{path}: the arrays of the banks do not fit together; refit the asset")
