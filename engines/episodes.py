"""How engine C learns: a small network that is trained, by episodes, to tell operating conditions apart.

A *recording* lends *crops*, pieces of its standardized log-mel spectrogram of a fixed number of frames. A *task* is a
condition column, a *class* one of its values. An episode draws some classes of one task, and from each a few support
and query crops, no two of one recording where the class has enough. All crops are float32 (crops, frames, bands), in
deviations of the source's normals; embeddings are float32 (crops, dim).

- ProtoNet (Snell et al. 2017, eq. 1-2): a class's prototype is the mean of its support embeddings; the loss is the
  cross-entropy of the queries under a softmax over negative squared distances.
- Reptile (Nichol et al. 2018, alg. 2): a copy of the network learns one episode for a few steps, by that same loss on
  freshly drawn crops; then the network moves a part of the way to the copy.

Normalization is over groups of channels (Wu & He 2018): a batch's statistics would tie a clip to those beside it, and
do not survive Reptile's averaging of weights.

Nothing is drawn from torch's own generator: one seed gives the same weights to the last bit on a CPU, as long as torch
runs on one thread (`engines.workers`). On CUDA sums may be added in another order.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from schemas.engine_settings import PrototypeSettings
from schemas.errors import InputError, UsageError

if TYPE_CHECKING:
    import torch

CHANNELS = (16, 32, 64)
"""Channels of the convolutions; each halves both axes."""

GROUPS = 4

VARIANCE_FLOOR = 1e-6
"""Added below the root of a variance over time, whose slope is infinite at 0."""


class Network:
    """Three strided convolutions, their mean and deviation over time, and a linear map to the embedding.

    What lies before the map is the *features*, float32 (crops, `n_features`): of each channel and each cell along
    frequency, how high it stands and how much it moves. `seed` decides the weights.
    """

    def __init__(self, bands: int, embedding_dim: int, *, seed: int) -> None:
        import torch
        from torch import nn

        generator = torch.Generator().manual_seed(seed)
        blocks: list[nn.Module] = []
        cells = bands
        for before, after in zip((1, *CHANNELS), CHANNELS, strict=False):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, device="meta")
            blocks += [convolution, nn.GroupNorm(GROUPS, after), nn.ReLU()]
            cells = (cells + 1) // 2
        self.n_features = 2 * CHANNELS[-1] * cells
        head = nn.Linear(self.n_features, embedding_dim, device="meta")
        # Made without weights, since a layer would draw its first ones from torch's own generator.
        self._module = nn.ModuleDict({"trunk": nn.Sequential(*blocks), "head": head}).to_empty(device="cpu")
        for layer in self._module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _draw_weights(layer, generator)
            elif isinstance(layer, nn.GroupNorm):
                layer.reset_parameters()

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        """What is pooled from the last convolution, float32 (crops, n_features)."""
        import torch

        cells: torch.Tensor = self._module["trunk"](crops.transpose(1, 2)[:, None])
        deviation = (cells.var(dim=3, correction=0) + VARIANCE_FLOOR).sqrt()
        return torch.cat([cells.mean(dim=3).flatten(1), deviation.flatten(1)], dim=1)

    def embed(self, crops: torch.Tensor) -> torch.Tensor:
        """Embeddings, float32 (crops, embedding_dim)."""
        embedded: torch.Tensor = self._module["head"](self.features(crops))
        return embedded

    def parameters(self) -> list[torch.nn.Parameter]:
        """All weights, in one order."""
        return list(self._module.parameters())

    def to(self, device: str) -> None:
        """Move the weights."""
        self._module.to(device)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """All weights by name, float32."""
        return {name: value.detach().cpu().numpy() for name, value in self._module.state_dict().items()}

    def load_weights(self, weights: dict[str, NDArray[np.float32]]) -> None:
        """Take over what `weights` gave.

        Raises
        ------
        InputError
            They are not those of a network of this shape.
        """
        import torch

        try:
            self._module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
        except RuntimeError as error:
            raise InputError(f"the weights do not fit the network: {error}; refit the asset") from error


def _draw_weights(layer: torch.nn.Conv2d | torch.nn.Linear, generator: torch.Generator) -> None:
    """Uniform in ± 1 / √inputs, as torch draws its own layers."""
    import torch

    bound = 1 / math.sqrt(layer.weight[0].numel())
    with torch.no_grad():
        for weights in layer.parameters():
            weights.uniform_(-bound, bound, generator=generator)


class Footage:
    """The spectrograms of many clips as one tensor on one device, to cut crops from.

    `spectrograms` are float32 (bands, frames) of any lengths; `recordings` name the recording of each.
    """

    def __init__(
        self, spectrograms: Sequence[NDArray[np.float32]], recordings: Sequence[str], *, frames: int, device: str
    ) -> None:
        import torch

        self.frames, self.device = frames, device
        self._lengths = torch.tensor([image.shape[1] for image in spectrograms])
        if int(self._lengths.min()) < frames:
            raise UsageError(f"a crop of {frames} frames is longer than a clip of {int(self._lengths.min())}")
        # Shorter clips are filled up, and no crop reaches into the filling.
        self._values = torch.zeros(len(spectrograms), int(self._lengths.max()), len(spectrograms[0]))
        for row, image in zip(self._values, spectrograms, strict=True):
            row[: image.shape[1]] = torch.from_numpy(np.ascontiguousarray(image.T))
        self._values = self._values.to(device)
        self._clips: dict[str, list[int]] = {}
        for i, name in enumerate(recordings):
            self._clips.setdefault(name, []).append(i)

    def crop(self, recordings: Sequence[str], generator: torch.Generator) -> torch.Tensor:
        """A crop of each recording, from a random clip of it at a random moment, float32 (n, frames, bands)."""
        import torch

        chances = torch.rand(2, len(recordings), generator=generator)
        own = [self._clips[name] for name in recordings]
        clips = torch.tensor([known[int(chance * len(known))] for known, chance in zip(own, chances[0], strict=True)])
        starts = (chances[1] * (self._lengths[clips] - self.frames + 1)).long()
        moments = starts[:, None] + torch.arange(self.frames)
        return self._values[clips[:, None].to(self.device), moments.to(self.device)]


@dataclass(frozen=True)
class Task:
    """A condition column, its values, and the recordings of each."""

    column: str
    values: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Episode:
    """Support crops (classes × shots, frames, bands) and query crops (classes × queries, …), class by class."""

    support: torch.Tensor
    query: torch.Tensor
    classes: int

    def loss(self, network: Network) -> torch.Tensor:
        """Cross-entropy of the queries over negative squared distances to the prototypes."""
        import torch

        embedded = network.embed(torch.cat([self.support, self.query]))
        support, query = embedded[: len(self.support)], embedded[len(self.support) :]
        prototypes = support.reshape(self.classes, -1, support.shape[1]).mean(dim=1)
        distances = (query[:, None] - prototypes[None]).square().sum(dim=2)
        truth = torch.arange(self.classes, device=query.device).repeat_interleave(len(query) // self.classes)
        return torch.nn.functional.cross_entropy(-distances, truth)


class Sampler:
    """Draws episodes of tasks, which take turns."""

    def __init__(self, footage: Footage, tasks: Sequence[Task], settings: PrototypeSettings, seed: int) -> None:
        import torch

        self._footage, self._tasks, self._settings = footage, tuple(tasks), settings
        self._generator = torch.Generator().manual_seed(seed)
        self._turn = 0

    def draw(self) -> Episode:
        """The next episode."""
        return self.draw_of(self.next_task())

    def next_task(self) -> Task:
        """The task whose turn it is."""
        task = self._tasks[self._turn % len(self._tasks)]
        self._turn += 1
        return task

    def draw_of(self, task: Task) -> Episode:
        """An episode of one task: at most `ways` of its classes, `shots` support and `queries` query crops of each.

        A class of fewer recordings than that lends some of them again, at another moment.
        """
        classes = [task.classes[i] for i in self._order(len(task.classes))[: self._settings.ways]]
        shots, queries = self._settings.shots, self._settings.queries
        support, query = [], []
        for recordings in classes:
            order = self._order(len(recordings))
            drawn = [recordings[order[i % len(order)]] for i in range(shots + queries)]
            support += drawn[:shots]
            query += drawn[shots:]
        crop = self._footage.crop
        return Episode(crop(support, self._generator), crop(query, self._generator), len(classes))

    def _order(self, count: int) -> list[int]:
        import torch

        order: list[int] = torch.randperm(count, generator=self._generator).tolist()
        return order


def train(network: Network, sampler: Sampler, settings: PrototypeSettings) -> int:
    """Train a network in place by `settings.episodes` episodes; returns how many there were before time ran out."""
    step = _ProtoNet(network, settings) if settings.train_mode == "protonet" else _Reptile(network, settings)
    deadline = time.monotonic() + settings.time_budget_s
    for done in range(settings.episodes):
        # The first episode is always made, so that no budget leaves the network untrained.
        if done and time.monotonic() > deadline:
            return done
        step(sampler)
    return settings.episodes


def finetune(network: Network, sampler: Sampler, settings: PrototypeSettings, device: str) -> Network:
    """A copy of the network after `finetune_steps` more episodes, on that device."""
    tuned = copy.deepcopy(network)
    tuned.to(device)
    step = _ProtoNet(tuned, settings)
    for _ in range(settings.finetune_steps):
        step(sampler)
    return tuned


class _ProtoNet:
    """One step of Adam an episode."""

    def __init__(self, network: Network, settings: PrototypeSettings) -> None:
        import torch

        self._network = network
        self._optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)

    def __call__(self, sampler: Sampler) -> None:
        self._learn(sampler.draw())

    def _learn(self, episode: Episode) -> None:
        self._optimizer.zero_grad()
        episode.loss(self._network).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()


class _Reptile:
    """A few steps on one task by a copy, then a part of the way to the copy."""

    def __init__(self, network: Network, settings: PrototypeSettings) -> None:
        self._network, self._settings = network, settings

    def __call__(self, sampler: Sampler) -> None:
        import torch

        task = sampler.next_task()
        fast = copy.deepcopy(self._network)
        learn = _ProtoNet(fast, self._settings)
        for _ in range(self._settings.reptile_steps):
            learn._learn(sampler.draw_of(task))
        with torch.no_grad():
            for slow, learnt in zip(self._network.parameters(), fast.parameters(), strict=True):
                slow.lerp_(learnt, self._settings.reptile_rate)
