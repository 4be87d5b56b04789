"""Building blocks of the toy sounds: shafts that turn, waves that repeat, things that are struck.

Conventions: one clip is float64 (N_SAMPLES,) at SAMPLE_RATE, its spectrum is NumPy's rfft of it, complex128
(N_BINS,); frequencies in Hz, times in s, `turns` in revolutions. Bodies and microphones filter the spectrum of the
whole clip, as if it were one turn of an endless loop: it begins in full swing, with no onset of the filter.

New arrays of a clip's size cost as much as the arithmetic on them, so the busiest functions work in place.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from engines.toy.draws import Draws, FloatArray

SAMPLE_RATE = 16_000
DURATION_S = 10
N_SAMPLES = SAMPLE_RATE * DURATION_S
N_BINS = N_SAMPLES // 2 + 1

Spectrum = NDArray[np.complex128]

# Highest partial that is put into a wave: below Nyquist with room for a shaft that runs a little fast.
HIGHEST_HZ = 7_200.0

_TABLE_SIZE = 16_384
_KNOTS_PER_S = 4
_TIMES = np.arange(N_SAMPLES) / SAMPLE_RATE
_KNOTS = np.linspace(0.0, DURATION_S, DURATION_S * _KNOTS_PER_S + 1)


def rms(signal: FloatArray) -> float:
    """Root mean square, in the signal's unit."""
    return float(np.sqrt(np.mean(signal * signal)))


def spectral_rms(spectrum: Spectrum) -> float:
    """Root mean square of the clip that has this spectrum (Parseval)."""
    both_sides = 2.0 * np.vdot(spectrum, spectrum).real - abs(spectrum[0]) ** 2 - abs(spectrum[-1]) ** 2
    return float(np.sqrt(both_sides)) / N_SAMPLES


def from_db(decibels: float) -> float:
    """Amplitude ratio of a level difference."""
    return float(10.0 ** (decibels / 20.0))


def drift(draws: Draws) -> FloatArray:
    """A slow wander of unit variance at its knots, (N_SAMPLES,): what no real machine or voice is without."""
    return np.interp(_TIMES, _KNOTS, draws.noise(len(_KNOTS)))


def rotate(frequency_hz: float, draws: Draws, *, wander: float) -> FloatArray:
    """Revolutions made since the clip began, (N_SAMPLES,), of a shaft whose speed wanders.

    `wander` is the relative standard deviation of the speed. The shaft starts at a random angle.
    """
    start = draws.uniform(0.0, 1.0)
    turns = drift(draws)
    turns *= wander * frequency_hz / SAMPLE_RATE
    turns += frequency_hz / SAMPLE_RATE
    np.cumsum(turns, out=turns)
    turns += start
    return turns


def periodic(turns: FloatArray, table: FloatArray) -> FloatArray:
    """Read one revolution's wave, (size,), at every angle of `turns`, with linear interpolation."""
    # Two samples more: an angle just below a full turn may round up to it.
    rolled = np.concatenate([table, table[:2]])
    wave = turns - np.floor(turns)
    wave *= len(table)
    index = wave.astype(np.int64)
    wave -= index
    wave *= np.diff(rolled)[index]
    wave += rolled[index]
    return wave


def harmonics(turns: FloatArray, amplitudes: Mapping[int, float], draws: Draws) -> FloatArray:
    """Sum of the shaft's harmonics, (N_SAMPLES,), each with its amplitude and a random phase.

    Partials above HIGHEST_HZ (at the clip's mean speed) are left out, so that nothing folds back.
    """
    mean_hz = float(turns[-1] - turns[0]) / DURATION_S
    spectrum = np.zeros(_TABLE_SIZE // 2 + 1, dtype=np.complex128)
    for (order, amplitude), phase in zip(
        amplitudes.items(), draws.uniforms(0.0, 2.0 * np.pi, len(amplitudes)), strict=True
    ):
        if order * mean_hz < HIGHEST_HZ:
            spectrum[order] += amplitude * np.exp(1j * phase)
    return periodic(turns, np.fft.irfft(spectrum, _TABLE_SIZE) * (_TABLE_SIZE / 2))


def falling(orders: range, slope: float, draws: Draws, *, spread_db: float = 5.0) -> dict[int, float]:
    """Amplitudes that fall with the harmonic's rank to the power of -slope, each off by up to `spread_db`."""
    offsets = draws.uniforms(-spread_db, spread_db, len(orders))
    return {
        order: rank**-slope * from_db(float(offset))
        for rank, (order, offset) in enumerate(zip(orders, offsets, strict=True), start=1)
    }


def smooth(signal: FloatArray, corner_hz: float) -> FloatArray:
    """One-pole low-pass, same length: falls by 6 dB an octave above the corner."""
    pole = float(np.exp(-2.0 * np.pi * corner_hz / SAMPLE_RATE))
    return np.asarray(lfilter([1.0 - pole], [1.0, -pole], signal))


def sharpen(signal: FloatArray) -> FloatArray:
    """Halved first difference, same length: a gentle high-pass that reaches 1 at Nyquist."""
    return np.asarray(0.5 * (signal - np.concatenate([signal[-1:], signal[:-1]])))


def ring(frequency_hz: float, decay_s: float) -> FloatArray:
    """What one mode answers to a blow: a damped cosine of peak 1, (6 decay times,), faded out to its end."""
    n = max(int(6.0 * decay_s * SAMPLE_RATE), 8)
    t = np.arange(n) / SAMPLE_RATE
    return np.asarray(np.cos(2.0 * np.pi * frequency_hz * t) * np.exp(-t / decay_s) * (1.0 - np.arange(n) / n))


def strike(sound: FloatArray, starts: FloatArray, gains: FloatArray, kernel: FloatArray) -> None:
    """Add `gain × kernel` to `sound` in place at every start (samples); what would ring past the end is cut."""
    for start, gain in zip(starts.astype(np.int64).tolist(), gains.tolist(), strict=True):
        if 0 <= start < len(sound):
            piece = sound[start : start + len(kernel)]
            piece += gain * kernel[: len(piece)]


def crossings(turns: FloatArray) -> FloatArray:
    """Samples at which the shaft completes a revolution, float64 (n,)."""
    return np.flatnonzero(np.diff(np.floor(turns))).astype(np.float64) + 1.0


def jittered(starts: FloatArray, spread_s: float, draws: Draws) -> FloatArray:
    """The starts (samples), each moved by up to `spread_s` either way."""
    return np.asarray(starts + draws.uniforms(-spread_s, spread_s, len(starts)) * SAMPLE_RATE)
