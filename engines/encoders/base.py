"""What an encoder is: a front end that it states, and patches that it makes of standardized spectrograms.

The order of things is waveform → `Encoder.spectrogram` → standardization by the asset's normals (the engine's,
since the statistics belong to the asset's model) → `Encoder.encode`. Statistics that are fixed for all assets fit
the same way.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from engines.features import Spectrogram, log_mel
from schemas.engine_settings import LogMelSettings


@dataclass(frozen=True, eq=False)
class PatchLayer:
    """Patches of one layer of an encoder.

    `patches` float32 (clips, frequency · time, dim), time running fastest; `frequencies_hz` float64 (frequency,)
    and `times_s` float64 (time,) are the centres of the cells, times from the start of the longest clip; `mask`
    bool (clips, frequency · time) is True where a patch covers sound. The patches under a False mask are
    meaningless: they enter no memory and no score.
    """

    patches: NDArray[np.float32]
    frequencies_hz: NDArray[np.float64]
    times_s: NDArray[np.float64]
    mask: NDArray[np.bool_]

    @property
    def grid(self) -> tuple[int, int]:
        """Cells along (frequency, time)."""
        return len(self.frequencies_hz), len(self.times_s)

    @property
    def sound(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns that cover sound in a layer of a single clip; its mask is their product."""
        mask = self.mask.reshape(self.grid)
        return np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))


@dataclass(frozen=True)
class EncoderIdentity:
    """What must agree between the encoder a model was fitted with and the one it is used with.

    `precision` is one of them: bfloat16 moved scores of engine A by 1e-4, which is as little as two normals may lie
    apart, and a threshold belongs to the scores that it was calibrated on.
    """

    name: str
    version: int
    weights: str
    front_end: str
    precision: str = "float32"

    @property
    def digest(self) -> str:
        """Sixteen hex digits, for keys."""
        parts = (self.name, str(self.version), self.weights, self.front_end, self.precision)
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


class Encoder(ABC):
    """Turns spectrograms into patches, each clip by itself: what else is in the set never matters.

    Safe to be called from several threads at once.
    """

    name: ClassVar[str]
    front_end: LogMelSettings

    @property
    @abstractmethod
    def identity(self) -> EncoderIdentity:
        """Name, version of the patches' making, hash of the weights and hash of the front end."""

    def spectrogram(
        self, waveform: NDArray[np.float32], *, sample_rate: int, bandwidth_hz: float, held_hz: float | None = None
    ) -> Spectrogram:
        """The encoder's own view of a waveform; see `engines.features.log_mel`."""
        return log_mel(waveform, self.front_end, sample_rate=sample_rate, bandwidth_hz=bandwidth_hz, held_hz=held_hz)

    @abstractmethod
    def encode_one(self, spectrogram: Spectrogram) -> list[PatchLayer]:
        """Layers of one standardized spectrogram, `clips` = 1."""

    def encode(self, spectrograms: Sequence[Spectrogram]) -> list[PatchLayer]:
        """Layers of several clips; the grid is the longest clip's, and cells beyond a shorter one are masked."""
        return [_stack(layers) for layers in zip(*map(self.encode_one, spectrograms), strict=True)]


def _stack(layers: Sequence[PatchLayer]) -> PatchLayer:
    longest = max(layers, key=lambda layer: len(layer.times_s))
    rows, columns = longest.grid
    patches = np.zeros((len(layers), rows, columns, longest.patches.shape[2]), dtype=np.float32)
    mask = np.zeros((len(layers), rows, columns), dtype=np.bool_)
    for i, layer in enumerate(layers):
        width = len(layer.times_s)
        patches[i, :, :width] = layer.patches.reshape(rows, width, -1)
        mask[i, :, :width] = layer.mask.reshape(rows, width)
    return PatchLayer(
        patches=patches.reshape(len(layers), rows * columns, -1),
        frequencies_hz=longest.frequencies_hz,
        times_s=longest.times_s,
        mask=mask.reshape(len(layers), rows * columns),
    )
