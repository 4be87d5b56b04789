"""A recording as blocks of samples: one of an hour is measured in the memory that one of ten seconds needs.

Conventions: blocks are float32 (frames, channels) on a linear full scale, in order, and may not be written to; the
waveform of one channel is float32 (samples,). What is measured over blocks does not depend on whether the recording
is held in memory or read anew for every pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import soxr
from numpy.typing import NDArray

Number = TypeVar("Number", np.float32, np.int32)

READ_SAMPLES = 1 << 20
"""Frames × channels that are asked for at a time: 65 s at 16 kHz, so that a clip is one block."""


class Recording(Protocol):
    """Samples that can be gone through from the first to the last, as often as they are needed."""

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    @property
    def frames(self) -> int:
        """Samples of one channel."""
        ...

    @property
    def channels(self) -> int:
        """At least one."""
        ...

    def blocks(self, size: int | None = None) -> Iterator[NDArray[np.float32]]:
        """All samples, float32 (size, channels), the last block shorter; every call begins anew.

        size: frames of a block; by default `READ_SAMPLES` over all channels.
        """
        ...


@dataclass(frozen=True, eq=False)
class HeldRecording:
    """A recording in memory: samples float32 (frames, channels), at least 1 × 1."""

    samples: NDArray[np.float32]
    sample_rate: int
    """Hz."""

    @property
    def frames(self) -> int:
        """Samples of one channel."""
        return len(self.samples)

    @property
    def channels(self) -> int:
        """At least one."""
        return int(self.samples.shape[1])

    def blocks(self, size: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Views of the samples."""
        size = size or READ_SAMPLES // self.channels
        return (self.samples[start : start + size] for start in range(0, len(self.samples), size))


class RunningVariance:
    """Count and variance of samples that come block by block (Chan, Golub and LeVeque, 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.variance = 0.0
        self._mean = 0.0

    def add(self, block: NDArray[np.float32]) -> None:
        """Count a block of one channel, float32 (samples,), at least one."""
        mean, variance = float(block.mean(dtype=np.float64)), float(block.var(dtype=np.float64))
        share = len(block) / (self.count + len(block))
        apart = mean - self._mean
        self.variance = (1 - share) * self.variance + share * variance + share * (1 - share) * apart**2
        self._mean += share * apart
        self.count += len(block)


def split(pieces: Iterable[NDArray[Number]], sizes: Iterable[int]) -> Iterator[NDArray[Number]]:
    """The same samples, (n, …) each, in pieces of those sizes, the last one shorter where they run out.

    Copied only where pieces meet.
    """
    source = iter(pieces)
    rest: NDArray[Number] | None = None
    for size in sizes:
        own: list[NDArray[Number]] = []
        missing = size
        while missing and (piece := next(source, None) if rest is None else rest) is not None:
            own.append(piece[:missing])
            rest = piece[missing:] if len(piece) > missing else None
            missing -= len(own[-1])
        if not own:
            return
        yield own[0] if len(own) == 1 else np.concatenate(own)


def resample(
    pieces: Iterable[NDArray[np.float32]], sample_rate: int, target_rate: int, *, quality: str = "HQ"
) -> Iterator[NDArray[np.float32]]:
    """A waveform at another rate, piece by piece: sample by sample what resampling it as a whole gives."""
    if sample_rate == target_rate:
        yield from pieces
        return
    stream = soxr.ResampleStream(sample_rate, target_rate, 1, dtype="float32", quality=quality)
    held: NDArray[np.float32] | None = None
    for piece in pieces:
        if held is not None:
            yield stream.resample_chunk(held)
        held = piece
    if held is not None:
        yield stream.resample_chunk(held, last=True)
