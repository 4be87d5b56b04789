"""Background noises of a plant, each as the spectrum of one clip, complex128 (N_BINS,), in any unit.

    white    broadband, equal power per Hz                  air leaks, sprays
    pink     power falls with f                             a hall full of machines
    brown    power falls with f², level below 60 Hz         traffic, large ventilation
    hum      harmonics of the 60 Hz mains over a faint bed  transformers, lighting
    impulse  clanks at random times over a faint bed        work on metal
    babble   four people talking at once                    staff nearby

Where the microphone hangs and how loud the noise is against the machine are the renderer's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from engines.toy.draws import Draws, FloatArray
from engines.toy.waves import (
    N_SAMPLES,
    SAMPLE_RATE,
    Spectrum,
    drift,
    falling,
    harmonics,
    periodic,
    ring,
    rms,
    rotate,
    spectral_rms,
    strike,
)

_MAINS_HZ = 60.0
_LOWEST_HZ = 60.0
_VOICES = 4

# First three formants of five vowels, Hz (the means of men: Peterson and Barney 1952, table II).
_VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))
_HILLS = (1.0, 0.5, 0.25)
_MOST_SYLLABLES = 256
_SYLLABLE = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(1_024) / 1_024)


def make_noise(noise_id: str, draws: Draws) -> Spectrum:
    """One clip of that noise as a spectrum, complex128 (N_BINS,), in any unit. KeyError for an unknown noise."""
    return _NOISES[noise_id](draws)


def _make_white(draws: Draws) -> Spectrum:
    return np.fft.rfft(draws.noise(N_SAMPLES))


def _make_pink(draws: Draws) -> Spectrum:
    return _make_white(draws) * _falloff(0.5)


def _make_brown(draws: Draws) -> Spectrum:
    return _make_white(draws) * _falloff(1.0)


def _make_hum(draws: Draws) -> Spectrum:
    turns = rotate(_MAINS_HZ, draws, wander=0.0005)
    amplitudes = falling(range(2, 60, 2), 1.2, draws)
    amplitudes |= {order: 0.4 * a for order, a in falling(range(1, 60, 2), 1.4, draws).items()}
    hum = harmonics(turns, amplitudes, draws) * (1.0 + 0.08 * drift(draws))
    return np.fft.rfft(hum + 0.04 * draws.noise(N_SAMPLES))


def _make_impulse(draws: Draws) -> Spectrum:
    clanks = np.zeros(N_SAMPLES)
    for _ in range(draws.integer(12, 36)):
        start, gain = draws.uniforms(0.0, N_SAMPLES, 1), 10.0 ** draws.uniforms(-0.7, 0.0, 1)
        strike(clanks, start, gain, ring(draws.uniform(300.0, 1_800.0), draws.uniform(0.010, 0.060)))
        strike(clanks, start, 0.6 * gain, ring(draws.uniform(2e3, 6e3), draws.uniform(0.003, 0.020)))
    bed = _make_pink(draws)
    return np.asarray(np.fft.rfft(clanks) / rms(clanks) + 0.25 * bed / spectral_rms(bed))


def _make_babble(draws: Draws) -> Spectrum:
    crowd = np.zeros(N_SAMPLES)
    for _ in range(_VOICES):
        crowd += draws.uniform(0.4, 1.0) * _speak(draws)
    return np.fft.rfft(crowd / rms(crowd) + 0.06 * draws.noise(N_SAMPLES))


def _speak(draws: Draws) -> FloatArray:
    """One voice, (N_SAMPLES,): syllables of one vowel each, one in five silent, on a pitch that wanders."""
    pitch_hz = draws.uniform(95.0, 230.0)
    pitch = rotate(pitch_hz, draws, wander=0.08)
    syllables = rotate(draws.uniform(3.2, 5.5), draws, wander=0.25)
    tables = _vowel_tables(pitch_hz)
    tables = np.concatenate([tables, np.zeros_like(tables[:1])])
    said = draws.uniforms(0.0, len(tables), _MOST_SYLLABLES).astype(np.int64)
    now = said[np.floor(syllables).astype(np.int64)]
    angle = ((pitch - np.floor(pitch)) * tables.shape[1]).astype(np.int64)
    # The vowel changes where the loudness is zero, so that no syllable begins with a click.
    return np.asarray(tables.ravel()[now * tables.shape[1] + angle] * periodic(syllables, _SYLLABLE))


def _vowel_tables(pitch_hz: float) -> FloatArray:
    """One glottal period of every vowel at that pitch, (vowels, 4096): a buzz through three formants."""
    orders = np.arange(1, int(4_000.0 / pitch_hz) + 1)
    spectra = np.zeros((len(_VOWELS), 2_049), dtype=np.complex128)
    for vowel, formants in enumerate(_VOWELS):
        hill = sum(np.exp(-(((orders * pitch_hz - f) / 140.0) ** 2)) * g for f, g in zip(formants, _HILLS, strict=True))
        spectra[vowel, orders] = (hill + 0.02) / orders**0.5
    return np.fft.irfft(spectra, 4_096, axis=1) * 2_048


@lru_cache(maxsize=4)
def _falloff(slope: float) -> FloatArray:
    """Amplitude over frequency, (N_BINS,): f to the power of -slope above the corner, level below, no DC."""
    frequencies = np.fft.rfftfreq(N_SAMPLES, 1.0 / SAMPLE_RATE)
    gains = np.maximum(frequencies, _LOWEST_HZ) ** -slope
    gains[frequencies < 10.0] = 0.0
    return np.asarray(gains)


_NOISES: dict[str, Callable[[Draws], Spectrum]] = {
    "white": _make_white,
    "pink": _make_pink,
    "brown": _make_brown,
    "hum": _make_hum,
    "impulse": _make_impulse,
    "babble": _make_babble,
}
NOISE_IDS = tuple(_NOISES)
