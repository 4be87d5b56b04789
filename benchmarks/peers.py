"""The methods that ALP's engines are held against: plain, known, and given the same normals.

All hear the DCASE front end: log-mel of 128 bands, 64 ms window, 32 ms hop, over the band that the recordings hold
(`engines.features`, which takes fewer bands where a narrow band cannot fill them). A peer has `fit(target, source)` and
`decision_function(clips)` as an engine has, higher = more anomalous, and learns from training normals alone.

- `LogMelNeighbour`: mean and deviation of each band over time, one vector a clip, standardized by all training normals;
  distance to the nearest normal of each domain, z-normalized by that domain's own leave-one-out distances; the least
  over domains.
- `PooledDetector`: a detector of PyOD on engine B's pooled embeddings, all training normals together.
- `Autoencoder`: the DCASE 2023 Task 2 baseline (Harada et al., "First-shot anomaly sound detection for machine
  condition monitoring: a domain generalization baseline", EUSIPCO 2023): 5 frames in, 8 numbers in the middle; the
  clip's score is the mean squared reconstruction error (`mse`), or the least over domains of the mean Mahalanobis
  distance of the error by that domain's covariance (`mahalanobis`).

Clips' features, and what the autoencoder learns from the source, are kept between the fits of one asset.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from engines import fitting
from engines.banks import pool_over_time
from engines.base import Clip, ClipSet
from engines.encoders.base import Encoder
from engines.features import log_mel
from schemas.engine_settings import LogMelSettings

if TYPE_CHECKING:
    from engines.memory_banks import MemoryBanks

FRONT_END = LogMelSettings(n_mels=128, window_s=0.064, hop_s=0.032)
FloatArray = NDArray[np.float64]
Describe = Callable[[Clip, NDArray[np.float32]], NDArray[np.float32]]


class Features:
    """What `describe` says of each clip, computed once a clip id."""

    def __init__(self, describe: Describe) -> None:
        self._describe = describe
        self._kept: dict[str, NDArray[np.float32]] = {}

    def of(self, clips: ClipSet) -> list[NDArray[np.float32]]:
        """Features of each clip, in order."""
        for i, clip in enumerate(clips.clips):
            if clip.clip_id not in self._kept:
                self._kept[clip.clip_id] = self._describe(clip, clips.waveform(i))
        return [self._kept[clip.clip_id] for clip in clips.clips]


def hear(clip: Clip, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-mel spectrogram in dB, float32 (bands, frames)."""
    return log_mel(waveform, FRONT_END, sample_rate=clip.sample_rate, bandwidth_hz=clip.bandwidth_hz).values


class LogMelNeighbour:
    """Log-mel statistics, nearest neighbour, domain normalization by training normals alone."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._banks: list[tuple[Any, float, float]] = []

    def fit(self, target: ClipSet, source: ClipSet | None = None) -> Self:
        domains = [self._statistics(clips) for clips in (source, target) if clips is not None]
        together = np.concatenate(domains)
        self._mean, self._std = together.mean(axis=0), np.maximum(together.std(axis=0), 1e-6)
        self._banks = [_bank((vectors - self._mean) / self._std) for vectors in domains]
        return self

    def decision_function(self, clips: ClipSet) -> FloatArray:
        vectors = (self._statistics(clips) - self._mean) / self._std
        far = [(bank.kneighbors(vectors)[0][:, 0] - mean) / std for bank, mean, std in self._banks]
        return np.asarray(np.min(far, axis=0), dtype=np.float64)

    def _statistics(self, clips: ClipSet) -> FloatArray:
        return np.stack([np.concatenate([x.mean(axis=1), x.std(axis=1)]) for x in self._features.of(clips)]).astype(
            np.float64
        )


def _bank(vectors: FloatArray) -> tuple[Any, float, float]:
    """A search among normals, and mean and deviation of their distances, each to the nearest of the others."""
    from sklearn.neighbors import NearestNeighbors

    bank = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(vectors)
    apart = bank.kneighbors()[0][:, 0]
    return bank, float(apart.mean()), max(float(apart.std()), 1e-6)


class BankEmbedding:
    """Engine B's embedding of a clip. The source alone decides it: a B fitted to any target of the asset gives it."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._features: Features | None = None

    def learn(self, target: ClipSet, source: ClipSet) -> Features:
        """The embeddings of an asset's clips, float32 (dim,) each."""
        if self._features is None:
            from engines.memory_banks import MemoryBanks

            engine = MemoryBanks(self._encoder, workers=1).fit(target, source)
            self._features = Features(partial(self._embed, engine))
        return self._features

    def _embed(self, engine: MemoryBanks, clip: Clip, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        ear = engine._require_fit().ear  # what B hears, by the only door there is
        heard = ear.statistics.standardize(fitting.hear(self._encoder, clip, waveform, ear.bandwidth_hz))
        pieces = [self._encoder.encode_one(piece) for piece in heard.pieces(engine.settings.max_image_s)]
        pooled = np.concatenate([pool_over_time(layer).ravel() for layer in zip(*pieces, strict=True)])
        return ear.embed(pooled[None], engine.settings)[0].astype(np.float32)


class PooledDetector:
    """PyOD's kNN or isolation forest, at PyOD's own defaults, on engine B's embeddings."""

    def __init__(self, kind: Literal["knn", "iforest"], embedding: BankEmbedding, *, seed: int = 0) -> None:
        self._kind, self._embedding, self._seed = kind, embedding, seed

    def fit(self, target: ClipSet, source: ClipSet) -> Self:
        from pyod.models.iforest import IForest
        from pyod.models.knn import KNN

        self._features = self._embedding.learn(target, source)
        vectors = np.stack([x for clips in (source, target) for x in self._features.of(clips)])
        if self._kind == "knn":
            # PyOD's default of 5 neighbours, as far as there are so many others.
            self._detector: Any = KNN(n_neighbors=min(5, len(vectors) - 1))
        else:
            self._detector = IForest(random_state=self._seed)
        self._detector.fit(vectors)
        return self

    def decision_function(self, clips: ClipSet) -> FloatArray:
        return np.asarray(self._detector.decision_function(np.stack(self._features.of(clips))), dtype=np.float64)


FRAMES = 5
WIDTH, BOTTLENECK = 128, 8
BATCH, LEARNING_RATE = 256, 1e-3
SOURCE_STEPS, TARGET_STEPS = 500, 50
"""Steps of Adam: on the source alone, once for all draws of an asset; then on source and target normals of a draw.

On toy sounds of other seeds 300, 1000 and 3000 steps on the source gave AUCs within .02 of one another on a fan, and
.57, .61 and .64 on a valve: more training would not lift this peer into the others' range."""
ALONE_STEPS = 500
"""Steps where there is no source."""
MAX_FRAMES = 10_000
"""Of a domain that a covariance is estimated from; above, evenly spaced ones."""
RIDGE = 1e-3
"""Added to each covariance's diagonal, as a share of its mean: 3 clips may leave it singular."""


class Autoencoder:
    """The DCASE 2023 baseline's network. `scores` gives both of its scores at once.

    Training on the source, the same for every draw of an asset, is done once and kept in `pretrained`, a dictionary
    that is empty at first; the steps on source and target together follow for each draw.
    """

    def __init__(self, features: Features, pretrained: dict[str, Any], *, seed: int = 0) -> None:
        self._features, self._pretrained, self._seed = features, pretrained, seed

    def fit(self, target: ClipSet, source: ClipSet | None = None) -> Self:
        import torch

        own = self._stacked(target)
        if source is None:
            domains = [own]
            self._set_up(own)
            self._train(own, ALONE_STEPS)
        else:
            self._start_from_source(source)
            domains = [self._pretrained["frames"], own]
            self._train(torch.cat(domains), TARGET_STEPS)
        self._network.eval()
        self._precisions = [self._precision(frames) for frames in domains]
        return self

    def decision_function(self, clips: ClipSet) -> FloatArray:
        return self.scores(clips)["mse"]

    def scores(self, clips: ClipSet) -> Mapping[str, FloatArray]:
        """`mse` and `mahalanobis` of each clip, float64 (n,)."""
        errors = [self._errors(stack(x)) for x in self._features.of(clips)]
        squared = [float(np.square(error).mean()) for error in errors]
        apart = [
            min(float(((error @ precision) * error).sum(axis=1).mean()) for precision in self._precisions)
            for error in (error.reshape(-1, self._bands).astype(np.float64) for error in errors)
        ]
        return {"mse": np.array(squared), "mahalanobis": np.array(apart)}

    def _stacked(self, clips: ClipSet) -> Any:
        import torch

        return torch.from_numpy(np.concatenate([stack(x) for x in self._features.of(clips)]))

    def _start_from_source(self, source: ClipSet) -> None:
        import torch

        kept = self._pretrained
        if not kept:
            frames = self._stacked(source)
            self._set_up(frames)
            self._train(frames, SOURCE_STEPS)
            state = {name: value.clone() for name, value in self._network.state_dict().items()}
            kept |= {"state": state, "mean": self._mean, "std": self._std, "frames": frames}
        else:
            self._build(kept["frames"].shape[1])
            self._network.load_state_dict(kept["state"])
            self._mean, self._std = kept["mean"], kept["std"]
        self._generator = torch.Generator().manual_seed(self._seed)

    def _set_up(self, frames: Any) -> None:
        import torch

        self._build(frames.shape[1])
        self._mean, self._std = frames.mean(), frames.std()
        self._generator = torch.Generator().manual_seed(self._seed)

    def _build(self, inputs: int) -> None:
        import torch

        self._bands = inputs // FRAMES
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._network = build_network(inputs)

    def _train(self, frames: Any, steps: int) -> None:
        import torch

        self._network.train()
        optimizer = torch.optim.Adam(self._network.parameters(), lr=LEARNING_RATE)
        for _ in range(steps):
            batch = frames[torch.randint(len(frames), (BATCH,), generator=self._generator)]
            batch = (batch - self._mean) / self._std
            loss = torch.nn.functional.mse_loss(self._network(batch), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _errors(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with torch.no_grad():
            inputs = (torch.from_numpy(frames) - self._mean) / self._std
            return np.asarray((inputs - self._network(inputs)).numpy())

    def _precision(self, frames: Any) -> FloatArray:
        """Inverse covariance of a domain's errors in one frame, float64 (bands, bands)."""
        some = frames[:: -(-len(frames) // MAX_FRAMES)]
        errors = self._errors(some.numpy()).reshape(-1, self._bands).astype(np.float64)
        covariance = np.cov(errors, rowvar=False)
        covariance[np.diag_indices(self._bands)] += RIDGE * np.trace(covariance) / self._bands
        return np.linalg.inv(covariance)


def stack(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each `FRAMES` frames in a row as one vector, float32 (frames − 4, 5 · bands)."""
    windows = np.lib.stride_tricks.sliding_window_view(values, FRAMES, axis=1)
    return np.ascontiguousarray(windows.transpose(1, 2, 0).reshape(windows.shape[1], -1))


def build_network(inputs: int) -> Any:
    """The DCASE 2023 baseline's layers."""
    from torch import nn

    def layers(sizes: list[int]) -> list[Any]:
        made: list[Any] = []
        for size, following in itertools.pairwise(sizes):
            made += [nn.Linear(size, following), nn.BatchNorm1d(following, momentum=0.01, eps=1e-3), nn.ReLU()]
        return made

    return nn.Sequential(*layers([inputs, *[WIDTH] * 4, BOTTLENECK, *[WIDTH] * 4]), nn.Linear(WIDTH, inputs))
