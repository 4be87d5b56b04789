"""Whether somebody speaks in a recording: a hint for privacy, by how a voice moves.

A voice is harmonic, like a machine; unlike a machine it glides. Its pitch, 75 to 400 Hz, moves within every syllable,
and a syllable lasts a tenth of a second or a few before a pause or a consonant. So frames of 32 ms are searched for a
pitch by autocorrelation; unbroken runs of pitched frames of a syllable's length whose pitch glides are counted.

Conventions: waveforms are float32 (samples,), mono, linear full scale. No words can be made out of what is computed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from engines.recordings import resample, split

FRAME_S = 0.04
HOP_S = 0.016
VOICE_BAND_HZ = (100.0, 1500.0)
RATE_HZ = 4000
"""The rate at which a voice's pitch is sought: what its band needs, and no more."""
PITCH_HZ = (75.0, 400.0)
LEAST_BAND_HZ = 2000.0
"""Recordings of a narrower band hold nothing that anybody could understand."""

VOICED = 0.6
"""Autocorrelation from which a frame has a pitch."""
OCTAVE_COST = 0.05
"""What a lag loses an octave: twice a period fits as well as one."""
LARGEST_STEP = 0.12
"""Octaves that a pitch moves from one frame to the next, at most; more is another sound."""
SYLLABLE_S = (0.08, 0.8)
GLIDE = (0.06, 0.9)
"""Octaves that the pitch of a syllable covers."""
SMOOTH = 1.8
"""The way a syllable's pitch goes, over what it covers, at most: a voice rises or falls, noise wavers."""
DIP_DB = 7.0
DIP_S = 0.13
"""A voice falls by so many dB shortly before or after a syllable; a machine hardly does within its cycle."""
VARIETY = 0.05
"""Standard deviation of the syllables' pitches, octaves, at least."""
EVEN_SHARE = 0.75
"""Where so many syllables have their usual length to within a frame, it is a drive that indexes: its moves take as long
each time."""
LEAST_SYLLABLES = 3
_CHUNK_FRAMES = 2048


def speech_ratio(waveform: NDArray[np.float32], sample_rate: int, *, band_hz: float) -> float:
    """Share of the time in gliding syllables, 0-1; 0 where there are fewer than three of them.

    band_hz: upper end of the band that the recording really holds.
    """
    return speech_ratio_of_pieces(lambda: [waveform], sample_rate, band_hz=band_hz)


def speech_ratio_of_pieces(
    begin: Callable[[], Iterable[NDArray[np.float32]]], sample_rate: int, *, band_hz: float
) -> float:
    """The same of a waveform that comes in pieces of any length, from the first one whenever `begin` is called."""
    if band_hz < LEAST_BAND_HZ:
        return 0.0
    chunks = _frames(resample(begin(), sample_rate, RATE_HZ, quality="LQ"))
    first = next(chunks, None)
    if first is None:
        return 0.0
    level_db = np.concatenate([_levels_db(first), *map(_levels_db, chunks)])
    if np.ptp(level_db) < DIP_DB:
        return 0.0  # no pitch need be sought in a sound so steady
    is_all = len(first) == len(level_db)
    chunks = iter([first]) if is_all else _frames(resample(begin(), sample_rate, RATE_HZ, quality="LQ"))
    pitch = np.concatenate(list(map(_pitches, chunks)))
    syllables = [run for run in _runs(pitch) if _glides(pitch[run]) and _dips(level_db, run)]
    if len(syllables) < LEAST_SYLLABLES or np.std([pitch[run].mean() for run in syllables]) < VARIETY:
        return 0.0
    lengths = np.array([run.stop - run.start for run in syllables])
    even = np.abs(lengths - np.median(lengths)) <= 1
    return float(lengths.sum() / len(pitch)) if even.mean() < EVEN_SHARE else 0.0


def _frames(slow: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Frames of a waveform at `RATE_HZ`, (frames, samples), some thousand at a time."""
    size, hop = round(FRAME_S * RATE_HZ), round(HOP_S * RATE_HZ)
    rest = np.empty(0, dtype=np.float32)
    for piece in split(slow, itertools.repeat(_CHUNK_FRAMES * hop)):
        joined = np.concatenate([rest, piece]) if len(rest) else piece
        if len(joined) >= size:
            frames = np.lib.stride_tricks.sliding_window_view(joined, size)[::hop]
            yield frames
            joined = joined[len(frames) * hop :]
        rest = joined


def _pitches(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pitch of every frame (frames, samples) in octaves above 1 Hz, NaN where there is none.

    Autocorrelation within the voice's band, divided by the window's own (Boersma, 1993), and its highest peak.
    """
    size = frames.shape[1]
    window, own, band = _tools(size)
    bins = scipy.fft.rfft(frames * window, 2 * size)
    power = (bins.real**2 + bins.imag**2) * band
    shortest, longest = int(RATE_HZ / PITCH_HZ[1]), int(RATE_HZ / PITCH_HZ[0]) + 1
    lags = scipy.fft.irfft(power, 2 * size)
    zero, candidates = lags[:, 0], lags[:, shortest - 1 : longest + 2] / own[shortest - 1 : longest + 2]
    rows = np.arange(len(candidates))
    octaves = np.log2(np.arange(shortest, longest + 1) / shortest)
    best = (candidates[:, 1:-1] - OCTAVE_COST * zero[:, None] * octaves).argmax(axis=1) + 1
    before, height, after = (candidates[rows, best + step] for step in (-1, 0, 1))
    # A peak has lower neighbours; the parabola through the three tells where it lies between the samples.
    voiced = (before < height) & (after < height) & (height > VOICED * zero) & (zero > 0)
    bend = np.where(voiced, before - 2 * height + after, -1.0)
    lag = shortest - 1 + best + np.where(voiced, (before - after) / (2 * bend), 0.0)
    return np.where(voiced, np.log2(RATE_HZ / lag), np.nan)


@lru_cache(maxsize=1)
def _tools(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The window, its autocorrelation, and the bins of the voice's band."""
    window = np.hanning(size).astype(np.float32)
    own = scipy.fft.irfft(np.abs(scipy.fft.rfft(window, 2 * size)) ** 2)
    frequencies = np.arange(size + 1) * RATE_HZ / (2 * size)
    band = (frequencies >= VOICE_BAND_HZ[0]) & (frequencies <= VOICE_BAND_HZ[1])
    return window, np.maximum(own / own[0], 1e-3).astype(np.float32), band.astype(np.float32)


def _runs(pitch: NDArray[np.float64]) -> list[slice]:
    """Unbroken stretches of frames whose pitch moves little from one to the next."""
    steps = np.abs(np.diff(pitch))
    linked = steps <= LARGEST_STEP  # false where either is NaN
    edges = np.flatnonzero(np.diff(np.r_[False, linked, False].astype(np.int8)))
    return [slice(int(start), int(stop) + 1) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _glides(pitch: NDArray[np.float64]) -> bool:
    """Whether a run has a syllable's length and moves as a voice does."""
    lasts = len(pitch) * HOP_S
    covers = float(pitch.max() - pitch.min())
    way = float(np.abs(np.diff(pitch)).sum())
    return SYLLABLE_S[0] <= lasts <= SYLLABLE_S[1] and GLIDE[0] <= covers <= GLIDE[1] and way <= SMOOTH * covers


def _dips(level_db: NDArray[np.float64], run: slice) -> bool:
    """Whether it is quieter shortly before or after a run."""
    reach = round(DIP_S / HOP_S)
    around = np.r_[level_db[max(0, run.start - reach) : run.start], level_db[run.stop : run.stop + reach]]
    return around.size > 0 and float(np.median(level_db[run]) - around.min()) >= DIP_DB


def _levels_db(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    power = np.einsum("fs,fs->f", frames, frames) / frames.shape[1]
    return np.asarray(10 * np.log10(np.maximum(power, 1e-12)), dtype=np.float64)
