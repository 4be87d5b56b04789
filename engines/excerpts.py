"""Find where one recording begins within another: excerpts of long recordings, and windows that overlap.

Of two recordings that share a stretch of sound one begins within the other. Its beginning, a *window* of four
seconds, is held against windows of all others, every two seconds: the scatter of the spectrum from bin to bin
(`engines.fingerprints`) stays alike as long as the two windows share three seconds. What is shared for less than a
window, or lies beyond the first `SEARCHED_S` of a recording, is not found.

Conventions: waveforms are float32 (samples,), mono; prints int8 (windows, DIMENSIONS), one row a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from engines.fingerprints import GROUP_BINS, LEAST_GROUPS, LOOKS, scatter_of
from engines.spectra import hann_window

WINDOW_S = 4.0
HOP_S = 2.0
SEARCHED_S = 300.0
"""As much of a recording is searched for the beginnings of others."""

RATE = 4000
"""Hz; what lies lower than half of it tells recordings apart well enough."""
GROUPS_HZ = 48.0 * 2.0 ** (np.arange(64) / 12)
"""Where the groups of bins lie: twelve an octave, 48 Hz to 1.8 kHz."""
SPACING_HZ = 0.5
"""Nearer bins of a window of four seconds say the same."""
DIMENSIONS = len(GROUPS_HZ) * GROUP_BINS

ALIKE = 0.3
"""Windows that correlate by more are worth a look; unrelated ones reach 0.2, those that share three seconds 0.37."""

_NEAR = 3 * LOOKS
"""Windows beside the likest one are alike too."""


@dataclass(frozen=True)
class Excerpt:
    """The recording `excerpt` seems to begin about `start_s` into the recording `whole`."""

    whole: int
    excerpt: int
    start_s: float


def window_prints(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.int8]:
    """The scatter of every window of a recording, int8 (windows, DIMENSIONS); no rows of one shorter than a window."""
    waveform = waveform[: round(SEARCHED_S * sample_rate)]
    rate = min(RATE, sample_rate)
    if sample_rate > RATE:
        import soxr

        waveform = soxr.resample(waveform, sample_rate, RATE, quality="LQ")
    size, hop = round(WINDOW_S * rate), round(HOP_S * rate)
    if len(waveform) < size:
        return np.zeros((0, DIMENSIONS), dtype=np.int8)
    window, gain = hann_window(size)
    own = np.lib.stride_tricks.sliding_window_view(waveform, size)[::hop]
    # The mean may stay: a Hann window keeps it below 1 Hz.
    bins = scipy.fft.rfft(own * window, axis=1)[:, : _bins_read(rate, size)]
    power = np.square(bins.real)
    power += np.square(bins.imag)
    power *= 2 / (gain * size)
    return scatter_of(power, rate / size, groups_hz=GROUPS_HZ, spacing_hz=SPACING_HZ)


def _bins_read(rate: int, size: int) -> int:
    """As many bins as hold the groups."""
    return round(float(GROUPS_HZ[-1] + SPACING_HZ * GROUP_BINS) * size / rate) + 1


def find_excerpts(prints: Sequence[NDArray[np.int8]], *, chunk: int = 2048) -> list[Excerpt]:
    """Where each recording seems to begin within others: at most `LOOKS` places of each, the likest first.

    Takes one product of `DIMENSIONS` for every pair of a recording and a window, in chunks.
    """
    heads = [number for number, own in enumerate(prints) if len(own)]
    if not heads:
        return []
    rows = np.concatenate([prints[number] for number in heads])
    counts = [len(prints[number]) for number in heads]
    owner = np.repeat(heads, counts)
    start_s = HOP_S * np.concatenate([np.arange(count) for count in counts])
    beginnings, heard = _normed(np.array([prints[number][0] for number in heads]))
    found: list[list[tuple[float, int]]] = [[] for _ in heads]
    for left in range(0, len(rows), chunk):
        windows, sounding = _normed(rows[left : left + chunk])
        for top in range(0, len(heads), chunk):
            likeness = windows @ beginnings[top : top + chunk].T
            likeness[sounding @ heard[top : top + chunk].T < LEAST_GROUPS] = 0
            likeness[owner[left : left + chunk, None] == heads[top : top + chunk]] = 0
            for column in np.flatnonzero(likeness.max(axis=0) > ALIKE):
                places = np.argsort(-likeness[:, column], kind="stable")[:_NEAR]
                alike = [(float(likeness[place, column]), left + int(place)) for place in places]
                rising = sorted([*found[top + column], *alike])
                likest_of_each = {int(owner[place]): (value, place) for value, place in rising if value > ALIKE}
                found[top + column] = sorted(likest_of_each.values(), reverse=True)[:LOOKS]
    return [
        Excerpt(int(owner[place]), heads[number], float(start_s[place]))
        for number, own in enumerate(found)
        for _, place in own
    ]


def _normed(prints: NDArray[np.int8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Prints of length 1, and in which groups they hold sound."""
    rows = prints.astype(np.float32)
    heard = np.asarray(rows.reshape(len(rows), len(GROUPS_HZ), GROUP_BINS).any(axis=2), dtype=np.float32)
    norms = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    rows /= np.where(norms > 0, norms, 1)
    return rows, heard
