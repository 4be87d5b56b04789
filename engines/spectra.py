"""What the spectrum of a recording says of how it was made: its real band, mains hum, its shape.

Conventions: a waveform is float32 (samples,), mono, finite, on a linear full scale; powers are linear (full scale²)
and frequencies in Hz. The resolution is fine on purpose (0.1 Hz for recordings of 16 s and more, twice the inverse of
the length below that): hum is told from a motor that turns a little slower than the mains.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

BLOCK_S = 16.0
"""Longer recordings are transformed in blocks of this length; shorter ones are filled up with zeros to it, so that
recordings of any length and rate share one grid of frequencies."""

WALL_BANDS = 64
WALL_DROP = 1e3
"""A band ends in a wall where everything above is 30 dB below each of the four bands at its edge."""

MAINS_HZ = (50.0, 60.0)
HARMONICS = 12
HUM_WIDTH_HZ = 0.25
"""The mains is held within this of its nominal frequency; motors slip by more."""
HUM_PROMINENCE = 10.0
"""A harmonic counts where its power is this many times (10 dB) what its surroundings would give it."""
LEAST_HARMONICS = 3
ODD_SHARE = 0.25
"""Share of a comb in its odd harmonics. Magnets pull twice a period, so that motors and transformers hum at the even
ones; what a cable picks up has the mains frequency itself and its odd harmonics."""

THIRD_OCTAVES_HZ = 25.0 * 2.0 ** (np.arange(29) / 3)
"""Centres of the bands of a profile, 25 Hz to 16 kHz."""
PROFILE_RANGE_DB = 60.0
"""A profile's bands are held to at most this far below its loudest: what is below is noise of the converter."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Power of a waveform by frequency: float32 (bins,), bins 0 Hz to half the sample rate, `step_hz` apart."""

    power: NDArray[np.float32]
    """Mean over the recording."""
    first: NDArray[np.float32]
    """Of its first block, `BLOCK_S` or the whole of a shorter recording; what `engines.fingerprints` reads."""
    step_hz: float
    resolution_hz: float
    """How far from its frequency a tone reaches: the half width of the window's main lobe."""
    sample_rate: int

    @property
    def total(self) -> float:
        """Mean power about the mean; 0 for a constant."""
        return float(self.power.sum(dtype=np.float64))

    def between(self, low_hz: float, high_hz: float) -> float:
        """Power in [low, high)."""
        return float(self.power[self._bin(low_hz) : self._bin(high_hz)].sum(dtype=np.float64))

    def share_above(self, frequency_hz: float) -> float:
        """Share of the power above a frequency, 0-1: what resampling to twice that would take. A constant has 0."""
        if not self.total > 0:
            return 0.0
        return float(self.power[int(frequency_hz / self.step_hz) + 1 :].sum(dtype=np.float64) / self.total)

    def _bin(self, frequency_hz: float) -> int:
        return min(len(self.power), int(np.ceil(frequency_hz / self.step_hz)))


@dataclass(frozen=True)
class Hum:
    """How much of a recording is mains hum: `mains_hz` 50 or 60, `share` of the power, 0-1."""

    mains_hz: float
    share: float


def spectrum(waveform: NDArray[np.float32], sample_rate: int) -> Spectrum:
    """Power spectrum of a waveform, its mean left out: Hann windows, blocks of `BLOCK_S` averaged (Welch, 1967).

    A constant gives zeros, whatever its level.
    """
    size = round(BLOCK_S * sample_rate)
    blocks = [waveform[start : start + size] for start in range(0, len(waveform), size)]
    first = total = _block_power(blocks[0], size)
    if len(blocks) > 1:
        total = first * size
        for block in blocks[1:]:
            total += len(block) * _block_power(block, size)
        total /= len(waveform)
    return Spectrum(total, first, sample_rate / size, 2 * sample_rate / len(blocks[0]), sample_rate)


def _block_power(block: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Power of a block by frequency, float32 (size // 2 + 1,), whose sum is the block's mean power."""
    window, gain = hann_window(len(block))
    # Before the transform, not after: the rounding of a large offset would leak into every bin.
    bins = scipy.fft.rfft((block - np.float32(block.mean(dtype=np.float64))) * window, size)
    power = bins.real**2 + bins.imag**2
    # Every other bin stands for two of the full spectrum, that of 0 Hz and that of the Nyquist frequency for one.
    power[1 : (size + 1) // 2] *= 2
    power *= 1 / (gain * size)
    return np.asarray(power, dtype=np.float32)


@lru_cache(maxsize=8)
def hann_window(size: int) -> tuple[NDArray[np.float32], float]:
    """A window, float32 (size,), and what it makes of a power: `Σ window²`.

    The side lobes of a Hann window fall fast: a tone does not fill bins that hold no sound.
    """
    window = np.hanning(size + 2)[1:-1].astype(np.float32)
    return window, float(np.dot(window, window))


def held_band_hz(found: Spectrum) -> float:
    """Upper end of the band that a recording really holds, Hz; half the sample rate where it ends in no wall.

    A recording that was made at a lower rate, or went through a codec, ends in a wall: a step of 30 dB or more
    within two of 64 bands. What fades out, as sound does in air and in a machine, is not cut.
    """
    nyquist = found.sample_rate / 2
    edges = np.linspace(0, len(found.power), WALL_BANDS + 1).astype(int)
    if edges[1] == 0:
        return nyquist
    density = np.add.reduceat(found.power, edges[:-1]) / np.diff(edges)
    above = np.maximum.accumulate(density[::-1])[::-1]
    for last in range(3, WALL_BANDS - 2):
        floor = WALL_DROP * above[last + 2]
        if density[last] > 0 and density[last - 3 : last + 1].min() >= floor:
            # A row of harmonics that ends is no wall: between the lines there is nothing on either side.
            between = [np.median(found.power[edges[i] : edges[i + 1]]) for i in range(last - 3, last + 1)]
            if min(between) >= floor / 2:
                return nyquist * (last + 1) / WALL_BANDS
    return nyquist


def find_hum(found: Spectrum) -> Hum:
    """The mains frequency whose comb holds more of the power, and that share; 0 where there is no comb.

    A comb has at least three harmonics that stand out of their surroundings, each with 1 % of the comb's power or
    more, and a quarter of it in the odd ones: a tone at 100 Hz may be anything, 100, 200 and 300 Hz are a motor's own.
    """
    return max((_comb(found, mains) for mains in MAINS_HZ), key=lambda hum: hum.share)


def _comb(found: Spectrum, mains_hz: float) -> Hum:
    width = max(HUM_WIDTH_HZ, found.resolution_hz)
    count = min(HARMONICS, int((found.sample_rate / 2 - 4 * width) / mains_hz))
    if not found.total > 0 or count < LEAST_HARMONICS:
        return Hum(mains_hz, 0.0)
    harmonics = mains_hz * np.arange(1, count + 1)
    lines = np.array([found.between(f - width, f + width) for f in harmonics])
    around = np.array([found.between(f - 4 * width, f + 4 * width) for f in harmonics]) - lines
    stand_out = lines >= HUM_PROMINENCE * around / 3
    heard = np.where(stand_out, lines, 0.0)
    few = np.count_nonzero(heard > 0.01 * heard.sum()) < LEAST_HARMONICS
    if few or heard[::2].sum() < ODD_SHARE * heard.sum():
        return Hum(mains_hz, 0.0)
    return Hum(mains_hz, float(heard.sum() / found.total))


def profile_db(found: Spectrum, *, up_to_hz: float) -> NDArray[np.float32]:
    """Level of every third-octave band in dB of full scale, float32 (29,); NaN from `up_to_hz` on."""
    low, high = THIRD_OCTAVES_HZ * 2 ** (-1 / 6), THIRD_OCTAVES_HZ * 2 ** (1 / 6)
    bands = [found.between(*edges) for edges in zip(low, high, strict=True)]
    levels = 10 * np.log10(np.maximum(bands, 1e-15))
    levels[high > min(up_to_hz, found.sample_rate / 2)] = np.nan
    if not np.isnan(levels).all():
        levels = np.maximum(levels, np.nanmax(levels) - PROFILE_RANGE_DB)
    return np.asarray(levels, dtype=np.float32)
