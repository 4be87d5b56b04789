"""The one form every later step reads: mono, one sample rate, a fixed gain, pieces of at most one segment.

Samples are quantized here to the 24-bit grid that the stored FLAC holds, so that a clip judged from memory and
the same clip judged from the store give the same score. The grid spans ±2 full scale: resampling a clipped
recording overshoots, and clipping it again would add distortion that the machine never made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray

GRID = 2.0**22
"""Steps per unit of full scale: 24 bits signed over ±2."""

_CODE_LIMIT = 2**23 - 1

Sensor = Literal["microphone", "accelerometer"]


@dataclass(frozen=True, eq=False)
class Standardized:
    """A recording in its standard form.

    `codes` int32 (samples,) on the 24-bit grid; `bandwidth_hz` the band the recording really holds;
    `lost_energy` the share of its energy that lay above the new Nyquist frequency, 0-1.
    """

    codes: NDArray[np.int32]
    sample_rate: int
    bandwidth_hz: float
    lost_energy: float

    @property
    def waveform(self) -> NDArray[np.float32]:
        """Samples in linear full scale, float32 (samples,)."""
        return to_waveform(self.codes)


def to_waveform(codes: NDArray[np.int32]) -> NDArray[np.float32]:
    """Grid codes as samples, float32; exact, since 24 bits fit a float32's mantissa."""
    return (codes / GRID).astype(np.float32)


def to_mono(samples: NDArray[np.float32], sensor: Sensor) -> NDArray[np.float32]:
    """One channel, float32 (frames,), of `samples` (frames, channels).

    Microphones are averaged; of an accelerometer the first axis is taken, since axes at right angles to each
    other carry different motions and their mean is none of them.
    """
    if samples.ndim == 1 or samples.shape[1] == 1:
        return samples.reshape(-1)
    mono = samples[:, 0] if sensor == "accelerometer" else samples.mean(axis=1)
    return np.asarray(mono, dtype=np.float32)


def standardize(
    samples: NDArray[np.float32],
    sample_rate: int,
    *,
    target_rate: int,
    sensor: Sensor = "microphone",
    held_hz: float | None = None,
) -> Standardized:
    """Mix, resample and quantize one recording.

    Parameters
    ----------
    samples : float32 (frames,) or (frames, channels), linear full scale
    sample_rate, target_rate : Hz
    held_hz : upper end of the band that the recording really holds (`engines.spectra.held_band_hz`); without it, all
        that its sample rate can carry
    """
    mono = to_mono(samples, sensor)
    resampled = mono if sample_rate == target_rate else soxr.resample(mono, sample_rate, target_rate, quality="HQ")
    codes = np.clip(np.rint(resampled.astype(np.float64) * GRID), -_CODE_LIMIT, _CODE_LIMIT).astype(np.int32)
    return Standardized(
        codes=codes,
        sample_rate=target_rate,
        bandwidth_hz=min(sample_rate / 2 if held_hz is None else held_hz, target_rate / 2),
        lost_energy=_lost_energy(mono, resampled) if sample_rate > target_rate else 0.0,
    )


def _lost_energy(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Share of the variance that resampling took away, 0-1."""
    power = float(np.var(before, dtype=np.float64))
    if power == 0.0:
        return 0.0
    return min(1.0, max(0.0, 1.0 - float(np.var(after, dtype=np.float64)) / power))


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
