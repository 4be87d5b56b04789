"""The one form every later step reads: mono, one sample rate, a fixed gain, pieces of at most one segment.

Samples are quantized here to the 24-bit grid that the stored FLAC holds, so that a clip judged from memory and
the same clip judged from the store give the same score. The grid spans ±2 full scale: resampling a clipped
recording overshoots, and clipping it again would add distortion that the machine never made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.recordings import HeldRecording, Recording, RunningVariance, resample, split

RANGE = 2.0
"""Largest magnitude that the standard form holds, in full scales."""

GRID = 2.0**22
"""Steps per unit of full scale: 24 bits signed over ±`RANGE`."""

_CODE_LIMIT = int(RANGE * GRID) - 1

Sensor = Literal["microphone", "accelerometer"]


class StandardForm(Protocol):
    """A recording in its standard form, piece by piece."""

    @property
    def samples(self) -> int:
        """How many."""
        ...

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    @property
    def bandwidth_hz(self) -> float:
        """Upper end of the band that the recording really holds."""
        ...

    @property
    def lost_energy(self) -> float:
        """Share of the recording's energy that lay above the new Nyquist frequency, 0-1."""
        ...

    def pieces(self) -> Iterator[NDArray[np.int32]]:
        """All samples on the 24-bit grid, int32 (n,) each; every call begins anew."""
        ...


@dataclass(frozen=True, eq=False)
class Standardized:
    """A recording in its standard form, held in memory: `codes` int32 (samples,) on the 24-bit grid."""

    codes: NDArray[np.int32]
    sample_rate: int
    bandwidth_hz: float
    lost_energy: float

    @property
    def samples(self) -> int:
        """How many."""
        return len(self.codes)

    @property
    def waveform(self) -> NDArray[np.float32]:
        """Samples in linear full scale, float32 (samples,)."""
        return to_waveform(self.codes)

    def pieces(self) -> Iterator[NDArray[np.int32]]:
        """All codes at once."""
        yield self.codes


@dataclass(frozen=True, eq=False)
class LongStandardized:
    """A recording in its standard form, made anew from the recording each time that it is gone through."""

    recording: Recording
    sensor: Sensor
    samples: int
    sample_rate: int
    bandwidth_hz: float
    lost_energy: float

    def pieces(self) -> Iterator[NDArray[np.int32]]:
        """As many codes at a time as the recording has blocks."""
        return standard_pieces(self.recording, sensor=self.sensor, target_rate=self.sample_rate)


def to_waveform(codes: NDArray[np.int32]) -> NDArray[np.float32]:
    """Grid codes as samples, float32; exact, since 24 bits fit a float32's mantissa."""
    waveform = codes.astype(np.float32)
    waveform *= np.float32(1 / GRID)
    return waveform


def _to_codes(waveform: NDArray[np.float32]) -> NDArray[np.int32]:
    # Exact in float32: the grid is a power of two, and within the limit a code needs no more than 24 bits.
    limit = np.float32(_CODE_LIMIT / GRID)
    scaled = np.clip(waveform, -limit, limit)
    scaled *= np.float32(GRID)
    return np.asarray(np.rint(scaled, out=scaled).astype(np.int32))


def head(pieces: Iterable[NDArray[np.int32]], samples: int) -> NDArray[np.float32]:
    """The first so many samples of a recording in standard form, float32 (samples,); all of a shorter one."""
    return to_waveform(next(split(pieces, [samples])))


def to_mono(samples: NDArray[np.float32], sensor: Sensor) -> NDArray[np.float32]:
    """One channel, float32 (frames,), of `samples` (frames, channels).

    Microphones are averaged; of an accelerometer the first axis is taken, since axes at right angles to each
    other carry different motions and their mean is none of them.
    """
    if samples.ndim == 1 or samples.shape[1] == 1:
        return samples.reshape(-1)
    mono = samples[:, 0].astype(np.float32)
    if sensor == "microphone":
        # Channel by channel: a mean over so short an axis takes ten times as long.
        for channel in samples.T[1:]:
            mono += channel
        mono /= np.float32(samples.shape[1])
    return mono


def standardize(
    samples: NDArray[np.float32],
    sample_rate: int,
    *,
    target_rate: int,
    sensor: Sensor = "microphone",
    held_hz: float | None = None,
) -> Standardized:
    """Mix, resample and quantize one recording that is held in memory.

    Parameters
    ----------
    samples : float32 (frames,) or (frames, channels), linear full scale
    sample_rate, target_rate : Hz
    held_hz : upper end of the band that the recording really holds (`engines.spectra.held_band_hz`); without it, all
        that its sample rate can carry
    """
    held = HeldRecording(samples.reshape(len(samples), -1), sample_rate)
    before, after = RunningVariance(), RunningVariance()
    codes = [_to_codes(piece) for piece in _listened(held, sensor, target_rate, before, after)]
    return Standardized(
        codes=codes[0] if len(codes) == 1 else np.concatenate(codes),
        sample_rate=target_rate,
        bandwidth_hz=_bandwidth(sample_rate, target_rate, held_hz),
        lost_energy=_lost_energy(before, after),
    )


def standardize_long(
    recording: Recording, *, target_rate: int, sensor: Sensor = "microphone", held_hz: float | None = None
) -> LongStandardized:
    """The same of a recording that is too long to be held; goes through it once."""
    before, after = RunningVariance(), RunningVariance()
    samples = sum(map(len, _listened(recording, sensor, target_rate, before, after)))
    return LongStandardized(
        recording,
        sensor,
        samples,
        sample_rate=target_rate,
        bandwidth_hz=_bandwidth(recording.sample_rate, target_rate, held_hz),
        lost_energy=_lost_energy(before, after),
    )


def mono_pieces(recording: Recording, sensor: Sensor) -> Iterator[NDArray[np.float32]]:
    """A recording's one channel by `to_mono`, block by block."""
    return (to_mono(block, sensor) for block in recording.blocks())


def standard_pieces(recording: Recording, *, sensor: Sensor, target_rate: int) -> Iterator[NDArray[np.int32]]:
    """A recording's standard form from the beginning, as far as it is asked for: codes, int32 (n,) each."""
    return map(_to_codes, resample(mono_pieces(recording, sensor), recording.sample_rate, target_rate))


def _listened(
    recording: Recording, sensor: Sensor, target_rate: int, before: RunningVariance, after: RunningVariance
) -> Iterator[NDArray[np.float32]]:
    """A recording at the new rate; where that is the lower one, with its variance before and after."""
    mono = mono_pieces(recording, sensor)
    if recording.sample_rate <= target_rate:
        return resample(mono, recording.sample_rate, target_rate)
    return _counted(resample(_counted(mono, before), recording.sample_rate, target_rate), after)


def _counted(pieces: Iterable[NDArray[np.float32]], variance: RunningVariance) -> Iterator[NDArray[np.float32]]:
    for piece in pieces:
        if len(piece):
            variance.add(piece)
        yield piece


def _bandwidth(sample_rate: int, target_rate: int, held_hz: float | None) -> float:
    return min(sample_rate / 2 if held_hz is None else held_hz, target_rate / 2)


def _lost_energy(before: RunningVariance, after: RunningVariance) -> float:
    """Share of the variance that resampling took away, 0-1."""
    if before.variance == 0.0:
        return 0.0
    return min(1.0, max(0.0, 1.0 - after.variance / before.variance))


def cut_segments(samples: int, sample_rate: int, *, segment_s: float, min_s: float = 1.0) -> list[tuple[int, int]]:
    """Where to cut a recording: `[(start, stop), …]` in samples.

    A recording no longer than one segment stays whole. A last piece shorter than `min_s` joins the piece
    before it, so that nothing is lost and no piece is too short to judge.
    """
    length = round(segment_s * sample_rate)
    starts = list(range(0, samples, length)) or [0]
    if len(starts) > 1 and samples - starts[-1] < min_s * sample_rate:
        starts.pop()
    return list(zip(starts, [*starts[1:], samples], strict=True))
