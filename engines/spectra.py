"""What the spectrum of a recording says of how it was made: its real band, mains hum, its shape.

Conventions: a waveform is float32 (samples,), mono, finite, on a linear full scale; powers are linear (full scale²)
and frequencies in Hz. The resolution is fine on purpose (0.1 Hz for recordings of 16 s and more, twice the inverse of
the length below that): hum is told from a motor that turns a little slower than the mains.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from engines.recordings import split

BLOCK_S = 16.0
"""Longer recordings are transformed in blocks of this length; shorter ones are filled up with zeros to it, so that
recordings of any length and rate share one grid of frequencies."""

WALL_BANDS = 64
WALL_DROP = 1e3
"""A band ends in a wall where everything above is 30 dB below each of the four bands at its edge."""

MAINS_HZ = (50.0, 60.0)
HARMONICS = 12
MAINS_DRIFT_HZ = 0.2
"""Grids are held within this of their nominal frequency (Commission Regulation (EU) 2017/1485, annex III, and Korea's
grid code alike); motors slip by more."""
SOUGHT_HZ, SOUGHT_STEP_HZ = 0.6, 0.02
"""A comb is sought this far around the nominal frequency, in such steps: one that fits best beyond the drift is a
motor's. At the highest harmonic half a step is half of `HUM_WIDTH_HZ`."""
HUM_WIDTH_HZ = 0.25
"""Half width of a harmonic."""
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


_CHUNK = 1 << 16


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

    @cached_property
    def total(self) -> float:
        """Mean power about the mean; 0 for a constant."""
        return float(self._bounded.sum())

    def between(self, low_hz: NDArray[np.floating], high_hz: NDArray[np.floating]) -> NDArray[np.float64]:
        """Power in each band [low, high), float64 (bands,)."""
        edges = np.ceil(np.stack([low_hz, high_hz], axis=1) / self.step_hz).astype(int)
        edges = np.minimum(edges, len(self.power))
        sums = np.add.reduceat(self._bounded, edges.ravel())[::2]
        # Of an empty band reduceat gives the bin at its edge.
        return np.where(edges[:, 0] < edges[:, 1], sums, 0.0)

    def share_above(self, frequency_hz: float) -> float:
        """Share of the power above a frequency, 0-1: what resampling to twice that would take. A constant has 0."""
        if not self.total > 0:
            return 0.0
        return float(self._bounded[int(frequency_hz / self.step_hz) + 1 :].sum() / self.total)

    @cached_property
    def _bounded(self) -> NDArray[np.float64]:
        """The power with a zero behind it, where a band may end."""
        bounded = np.zeros(len(self.power) + 1)
        bounded[:-1] = self.power
        return bounded


@dataclass(frozen=True)
class Hum:
    """How much of a recording is mains hum: `mains_hz` 50 or 60, `share` of the power, 0-1."""

    mains_hz: float
    share: float


def spectrum(waveform: NDArray[np.float32], sample_rate: int) -> Spectrum:
    """Power spectrum of a waveform, its mean left out: Hann windows, blocks of `BLOCK_S` averaged (Welch, 1967).

    A constant gives zeros, whatever its level.
    """
    return mean_spectrum([waveform], sample_rate)


def mean_spectrum(pieces: Iterable[NDArray[np.float32]], sample_rate: int) -> Spectrum:
    """The spectrum of a waveform that comes in pieces of any length, at least one sample in all."""
    size = round(BLOCK_S * sample_rate)
    blocks = split(pieces, itertools.repeat(size))
    head = next(blocks)
    length = len(head)
    first = total = _block_power(head, size)
    for block in blocks:
        if length == size:
            total = first * size
        total += len(block) * _block_power(block, size)
        length += len(block)
    if length > size:
        total /= length
    return Spectrum(total, first, sample_rate / size, 2 * sample_rate / min(length, size), sample_rate)


def _block_power(block: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Power of a block by frequency, float32 (size // 2 + 1,), whose sum is the block's mean power."""
    window, gain = hann_window(len(block))
    # Before the transform, not after: the rounding of a large offset would leak into every bin.
    centred = block - np.float32(block.mean(dtype=np.float64))
    centred *= window
    power = _squared_bins(centred, size)
    # Every other bin stands for two of the full spectrum, that of 0 Hz and that of the Nyquist frequency for one.
    power[1 : (size + 1) // 2] *= 2
    power *= 1 / (gain * size)
    return power


def _squared_bins(waveform: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Squared magnitudes of the transform of a waveform filled up with zeros to `size`, float32 (size // 2 + 1,).

    One step of Cooley and Tukey (1965) at radix 4, since four transforms side by side take a third of the time of one
    that is four times as long. `size` is a multiple of 4.
    """
    quarter = size // 4
    parts = np.zeros((4, quarter), dtype=np.float32)
    for part, row in enumerate(parts):
        own = waveform[part::4]
        row[: len(own)] = own
    bins = scipy.fft.rfft(parts, overwrite_x=True)
    bins *= _twiddles(size)
    even, odd = bins[0] + bins[2], bins[1] + bins[3]
    even_turned, odd_turned = bins[0] - bins[2], (bins[1] - bins[3]) * np.complex64(-1j)
    count = quarter // 2 + 1
    power = np.empty(size // 2 + 1, dtype=np.float32)
    # The bins of a real waveform that run down from a multiple of the quarter mirror those that run up from it.
    _square(even + odd, power[:count])
    _square(even_turned - odd_turned, power[quarter : quarter - count : -1])
    _square(even_turned + odd_turned, power[quarter : quarter + count])
    _square(even - odd, power[: 2 * quarter - count : -1])
    return power


def _square(bins: NDArray[np.complex64], power: NDArray[np.float32]) -> None:
    np.square(bins.real, out=power)
    power += np.square(bins.imag)


@lru_cache(maxsize=2)
def _twiddles(size: int) -> NDArray[np.complex64]:
    turns = np.arange(4)[:, None] * np.arange(size // 8 + 1) / size
    return np.asarray(np.exp(-2j * np.pi * turns), dtype=np.complex64)


@lru_cache(maxsize=4)
def hann_window(size: int) -> tuple[NDArray[np.float32], float]:
    """A window, float32 (size,), and what it makes of a power: `Σ window²`.

    The side lobes of a Hann window fall fast: a tone does not fill bins that hold no sound.
    """
    window = np.empty(size, dtype=np.float32)
    for start in range(0, size, _CHUNK):
        steps = np.arange(start + 1, min(start + _CHUNK, size) + 1)
        window[start : start + _CHUNK] = 0.5 + 0.5 * np.cos(np.pi * (2 * steps - size - 1.0) / (size + 1))
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
    quietest = np.lib.stride_tricks.sliding_window_view(density, 4).min(axis=1)  # of a band and the three below it
    last = np.arange(3, WALL_BANDS - 2)
    floor = WALL_DROP * above[last + 2]
    for i in np.flatnonzero((density[last] > 0) & (quietest[last - 3] >= floor)):
        # A row of harmonics that ends is no wall: between the lines there is nothing on either side.
        bands = range(last[i] - 3, last[i] + 1)
        between = [np.median(found.power[edges[band] : edges[band + 1]]) for band in bands]
        if min(between) >= floor[i] / 2:
            return nyquist * int(last[i] + 1) / WALL_BANDS
    return nyquist


def find_hum(found: Spectrum) -> Hum:
    """The mains frequency whose comb holds more of the power, and that share; 0 where there is no comb.

    The comb's own frequency is sought first, and counts within `MAINS_DRIFT_HZ`: its harmonics are off by as many times
    what the grid is off by, and windows wide enough for all of them would take in tones of the machine.

    A comb has at least three harmonics that stand out of their surroundings, each with 1 % of the comb's power or
    more, and a quarter of it in the odd ones: a tone at 100 Hz may be anything, 100, 200 and 300 Hz are a motor's own.
    """
    return max((_comb(found, mains) for mains in MAINS_HZ), key=lambda hum: hum.share)


def _comb(found: Spectrum, mains_hz: float) -> Hum:
    width = max(HUM_WIDTH_HZ, found.resolution_hz)
    count = min(HARMONICS, int((found.sample_rate / 2 - 4 * width) / (mains_hz + SOUGHT_HZ)))
    if not found.total > 0 or count < LEAST_HARMONICS:
        return Hum(mains_hz, 0.0)
    fundamental = _fundamental(found, mains_hz, count, width)
    if abs(fundamental - mains_hz) > MAINS_DRIFT_HZ + SOUGHT_STEP_HZ / 2:
        return Hum(mains_hz, 0.0)
    harmonics = fundamental * np.arange(1, count + 1)
    lines = found.between(harmonics - width, harmonics + width)
    around = found.between(harmonics - 4 * width, harmonics + 4 * width) - lines
    stand_out = lines >= HUM_PROMINENCE * around / 3
    heard = np.where(stand_out, lines, 0.0)
    few = np.count_nonzero(heard > 0.01 * heard.sum()) < LEAST_HARMONICS
    if few or heard[::2].sum() < ODD_SHARE * heard.sum():
        return Hum(mains_hz, 0.0)
    return Hum(mains_hz, float(heard.sum() / found.total))


def _fundamental(found: Spectrum, mains_hz: float, count: int, width: float) -> float:
    """The frequency near the mains' own whose comb holds most; of equals that nearest to it."""
    steps = round(SOUGHT_HZ / SOUGHT_STEP_HZ)
    sought = mains_hz + SOUGHT_STEP_HZ * np.array(sorted(range(-steps, steps + 1), key=abs))
    harmonics = sought[:, None] * np.arange(1, count + 1)
    # Half as wide as the lines are: where only a flank is in the window, the middle is elsewhere.
    edges = np.ceil(np.stack([harmonics - width / 2, harmonics + width / 2]) / found.step_hz).astype(int)
    sums = np.cumsum(found._bounded[: edges.max() + 1])
    held = (sums[edges[1] - 1] - sums[edges[0] - 1]).sum(axis=1)
    return float(sought[np.argmax(held >= 0.99 * held.max())])


def profile_db(found: Spectrum, *, up_to_hz: float) -> NDArray[np.float32]:
    """Level of every third-octave band in dB of full scale, float32 (29,); NaN from `up_to_hz` on."""
    low, high = THIRD_OCTAVES_HZ * 2 ** (-1 / 6), THIRD_OCTAVES_HZ * 2 ** (1 / 6)
    levels = 10 * np.log10(np.maximum(found.between(low, high), 1e-15))
    levels[high > min(up_to_hz, found.sample_rate / 2)] = np.nan
    if not np.isnan(levels).all():
        levels = np.maximum(levels, np.nanmax(levels) - PROFILE_RANGE_DB)
    return np.asarray(levels, dtype=np.float32)
