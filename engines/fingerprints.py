"""Tell whether two files hold the same recording: re-encoded, at another gain, or shifted.

Machines run steadily, so that two recordings of one machine sound alike for good reasons. What two *recordings* never
share is the fine structure of their noise: the periodogram of noise scatters from bin to bin by as much as its mean,
and every recording scatters otherwise. A shift or a gain leaves that scatter, codecs leave most of it.

Two steps. A *fingerprint* of a few hundred bytes a recording holds the scatter in small groups of bins over the whole
band; those of all recordings are compared by one matrix product. Pairs that look alike are then held against each
other sample by sample: the generalized cross-correlation with phase transform (Knapp and Carter, 1976) peaks at the
shift, as high as the share of the band in which the two agree.

A machine that repeats a cycle, started by a trigger, agrees with itself too: in what it plays, not in the noise
beneath. So the two, laid on each other, are compared once more where each frequency is at its quietest.

Conventions: waveforms are float32 (samples,), mono; fingerprints int8 (DIMENSIONS,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from engines.quality import DIGITAL_SILENCE
from engines.spectra import Spectrum, hann_window

GROUPS_HZ = 20.0 * 2.0 ** (np.arange(69) / 8)
"""Where the groups of bins lie: eight an octave, 20 Hz to 7.2 kHz."""
GROUP_BINS = 8
SPACING_HZ = 0.25
DIMENSIONS = len(GROUPS_HZ) * GROUP_BINS
_QUANTUM = 32.0
_RANGE_DB = 70.0
"""A group this far below the loudest holds the resampler's noise, not the recording's."""

ALIKE = 0.22
"""Fingerprints that correlate by more are worth a look; unrelated ones of 10 s scatter by 0.05 about 0."""
LEAST_GROUPS = 8
"""Fingerprints that share fewer groups with sound in them cannot be compared."""

LOOKS = 2
"""Pairs that are looked at for one recording."""

COMPARED_S = 32.0
"""As much of two recordings is held against each other: the fingerprint found the likeness in the first half."""

_ROUNDING = 10 * DIGITAL_SILENCE**2 / 12
"""Power that is taken for sound: 10 dB above the rounding noise of 16 bits."""

LEAST_BINS = 256
"""A recording in which fewer bins stand out of its floor is a tone; two of those can't be told apart."""


SHARED_S = 2.0
"""Where two recordings agree a little, the part that they would share is looked at alone if it is this long."""

SAME_NOISE = 0.4
"""Recordings whose noise is coherent from here on hold one recording; others reach 0.25, MP3 leaves 0.57."""

_FRAMES_S = (0.032, 0.128)
"""Frames for fast sweeps, and for steady tones that lie close together: between either, noise is heard in one."""
_QUIET = 0.25
_LEAST_FRAMES = 16
"""The noise is heard in the quietest quarter of the frames, and in this many at least."""


@dataclass(frozen=True)
class Agreement:
    """How two recordings agree: `coherence` 0-1 over the band, at `shift_s`."""

    coherence: float
    shift_s: float
    """Where the second begins within the first, s; negative where it begins before it."""
    noise: float = 0.0
    """Coherence of what is heard of the two where they are quietest, 0-1: of their noise."""


def fingerprint(found: Spectrum) -> NDArray[np.int8]:
    """The scatter of a recording's spectrum, int8 (DIMENSIONS,); zeros where it holds nothing.

    Files of one recording at several rates have nearly the same.
    """
    return scatter_of(found.first, found.step_hz, groups_hz=GROUPS_HZ, spacing_hz=SPACING_HZ)


def scatter_of(
    power: NDArray[np.float32], step_hz: float, *, groups_hz: NDArray[np.float64], spacing_hz: float
) -> NDArray[np.int8]:
    """How power spectra (…, bins) scatter within groups of `GROUP_BINS` bins, int8 (…, groups · GROUP_BINS).

    Groups without sound, or beyond the spectrum, are zeros.
    """
    offsets = np.rint(spacing_hz / step_hz * np.arange(GROUP_BINS)).astype(int)
    places = np.rint(groups_hz / step_hz).astype(int)[:, None] + offsets
    bins = power.shape[-1]
    own = np.where(places[:, -1:] < bins, power[..., np.minimum(places, bins - 1)], np.float32(0))
    means = own.mean(axis=-1)
    floor = np.maximum(means.max(axis=-1, keepdims=True) * 10 ** (-_RANGE_DB / 10), 2 * _ROUNDING / bins)
    # The fourth root of an exponential variable is nearly normal: no bin outweighs the others.
    scatter = np.sqrt(np.sqrt(own))
    scatter -= scatter.mean(axis=-1, keepdims=True)
    spread = np.sqrt((scatter**2).mean(axis=-1))
    scale = np.where((means > floor) & (spread > 0), _QUANTUM / np.where(spread > 0, spread, 1), 0)
    rounded = np.clip(np.rint(scatter * scale[..., None]), -127, 127).astype(np.int8)
    return np.asarray(rounded.reshape(*power.shape[:-1], -1))


def look_alikes(fingerprints: NDArray[np.int8], *, chunk: int = 1024) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of fingerprints (n, DIMENSIONS) worth a look, sorted by j and the likest first.

    At most `LOOKS` pairs for each j, so that a thousand tones that sound the same do not make a million pairs.
    Takes n² / 2 products of `DIMENSIONS`, in chunks: a few seconds of one core at n = 10,000.
    """
    rows = fingerprints.astype(np.float32)
    heard = np.asarray(rows.reshape(len(rows), len(GROUPS_HZ), GROUP_BINS).any(axis=2), dtype=np.float32)
    norms = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    rows /= np.where(norms > 0, norms, 1)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(rows), chunk):
        later = np.arange(start, min(start + chunk, len(rows)))
        best = np.full((LOOKS, len(later)), -np.inf, dtype=np.float32)
        which = np.full((LOOKS, len(later)), -1)
        for left in range(0, int(later[-1]) + 1, chunk):
            earlier = np.arange(left, min(left + chunk, len(rows)))
            likeness = rows[earlier] @ rows[later].T
            likeness[heard[earlier] @ heard[later].T < LEAST_GROUPS] = -np.inf
            likeness[earlier[:, None] >= later] = -np.inf
            if likeness.max() <= ALIKE:
                continue
            best, which = _highest(
                np.concatenate([best, likeness]),
                np.concatenate([which, np.broadcast_to(earlier[:, None], likeness.shape)]),
            )
        pairs += [(int(which[rank, column]), int(later[column])) for column, rank in np.argwhere((best > ALIKE).T)]
    return pairs


def _highest(values: NDArray[np.float32], names: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The `LOOKS` highest values of each column, falling, and their names."""
    highest = np.argpartition(-values, LOOKS, axis=0)[:LOOKS]
    falling = np.argsort(-np.take_along_axis(values, highest, axis=0), axis=0, kind="stable")
    order = np.take_along_axis(highest, falling, axis=0)
    return np.take_along_axis(values, order, axis=0), np.take_along_axis(names, order, axis=0)


def agree(
    first: NDArray[np.float32], second: NDArray[np.float32], sample_rate: int, *, least: float = 0.0
) -> Agreement:
    """Hold two recordings, or their first `COMPARED_S`, against each other at every shift.

    least: where they agree by less, the noise is not looked at.

    The coherence of unrelated recordings stays near 1/√bins, about 0.01; that of a copy is the share of the band in
    which the two agree, over the part that they share. A recording that is all tone gives 0: nothing can be told of it.
    """
    compared = round(COMPARED_S * sample_rate)
    one, other = first[:compared], second[:compared]
    coherence, shift = _align(one, other)
    parts = _shared(one, other, shift)
    if SHARED_S * sample_rate <= len(parts[0]) < max(len(one), len(other)):
        # What only one of the two holds was noise to the comparison.
        again, moved = _align(*parts)
        if again > coherence:
            coherence, shift = again, shift + moved
            parts = _shared(one, other, shift)
    noise = noise_coherence(*parts, sample_rate) if coherence >= least else 0.0
    return Agreement(coherence, shift / sample_rate, noise)


def _shared(
    first: NDArray[np.float32], second: NDArray[np.float32], shift: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The part of each that the other one holds too, where the second begins `shift` samples into the first."""
    one, other = first[max(0, shift) :], second[max(0, -shift) :]
    length = min(len(one), len(other))
    return one[:length], other[:length]


def _align(first: NDArray[np.float32], second: NDArray[np.float32]) -> tuple[float, int]:
    """The coherence of two recordings at the shift, in samples, where they agree best."""
    heads = first, second
    size = scipy.fft.next_fast_len(sum(map(len, heads)), real=True)
    (one, floor), (other, other_floor) = (_tapered_bins(head, size) for head in heads)
    heard = _stands_out(one, floor) & _stands_out(other, other_floor)
    if np.count_nonzero(heard) < LEAST_BINS:
        return 0.0, 0
    cross = other.conj() * one
    phases = np.where(heard, cross / np.where(heard, np.abs(cross), 1), 0)
    correlation = scipy.fft.irfft(phases, size)
    peak = int(np.argmax(np.abs(correlation)))
    shift = peak if peak < len(first) else peak - size
    return float(abs(correlation[peak]) * size / (2 * np.count_nonzero(heard))), shift


def noise_coherence(first: NDArray[np.float32], second: NDArray[np.float32], sample_rate: int) -> float:
    """How coherent two waveforms of one length are where they are quietest, 0-1: the median over the band.

    What a machine plays again sample by sample is loud at its own times and frequencies; beneath it every recording has
    noise of its own, and a copy has that of its original. 0 where too little is shared to tell.
    """
    return min(_quiet_coherence(first, second, round(frame * sample_rate)) for frame in _FRAMES_S)


def _quiet_coherence(first: NDArray[np.float32], second: NDArray[np.float32], size: int) -> float:
    frames = 2 * (len(first) // size) - 1
    if size < 4 or frames < _LEAST_FRAMES // 2:
        return 0.0
    one, other = _frames(first, size), _frames(second, size)
    powers = np.abs(one) ** 2, np.abs(other) ** 2
    means = [power.mean(axis=0) for power in powers]
    floor = _ROUNDING * hann_window(size)[1]
    heard = np.logical_and(*(_is_heard(mean, floor) for mean in means))
    if not heard.any():
        return 0.0
    level = sum(power[:, heard] / mean[heard] for power, mean in zip(powers, means, strict=True))
    count = min(frames, max(_LEAST_FRAMES, round(_QUIET * frames)))
    quiet = np.argpartition(level, count - 1, axis=0)[:count]
    one, other = (np.take_along_axis(bins[:, heard], quiet, axis=0) for bins in (one, other))
    product = np.abs((one * other.conj()).sum(axis=0))
    energy = np.sqrt((np.abs(one) ** 2).sum(axis=0) * (np.abs(other) ** 2).sum(axis=0))
    return float(np.median(product / np.where(energy > 0, energy, 1)))


def _frames(waveform: NDArray[np.float32], size: int) -> NDArray[np.complex64]:
    """Spectra of Hann frames that overlap by half, (frames, bins)."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, size)[:: size // 2]
    return np.asarray(scipy.fft.rfft(frames * hann_window(size)[0], axis=1))


def _tapered_bins(waveform: NDArray[np.float32], size: int) -> tuple[NDArray[np.complex64], float]:
    """Spectrum of a waveform and what a 16-bit converter's noise makes of its bins."""
    window, gain = hann_window(len(waveform))
    centred = (waveform - np.float32(waveform.mean(dtype=np.float64))) * window
    return np.asarray(scipy.fft.rfft(centred, size)), _ROUNDING * gain


def _stands_out(bins: NDArray[np.complex64], floor: float) -> NDArray[np.bool_]:
    """Where a spectrum is above the floor, and within 60 dB of its loudest 1 %: above what a resampler adds."""
    return _is_heard(np.abs(bins) ** 2, floor)


def _is_heard(power: NDArray[np.float32], floor: float) -> NDArray[np.bool_]:
    count = max(1, len(power) // 100)
    loud = float(np.partition(power, -count)[-count])
    return np.asarray(power > max(1e-6 * loud, floor))
