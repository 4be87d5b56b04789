"""Log-mel spectrograms over the band that a recording holds, and the statistics of their bands.

Levels are dB of full scale (a full-scale sine reads about 0 dB in its bin), frequencies Hz, times s. Frames lie
wholly inside the clip: nothing is padded, so every frame is real sound. All arrays are float32 (bands, frames)
unless said otherwise; statistics are float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.sparse import csr_array

from schemas.engine_settings import LogMelSettings
from schemas.errors import InputError, UsageError

WIDE_BAND_HZ = 8_000.0
"""The band that `LogMelSettings.window_s` is meant for."""


@dataclass(frozen=True, eq=False)
class Spectrogram:
    """A log-mel spectrogram and which of its cells are sound.

    `values` float32 (bands, frames), dB or standardized; `frequencies_hz` float64 (bands,) and `times_s` float64
    (frames,) are centres; `band_mask` bool (bands,) is False for bands that the recording does not hold.
    """

    values: NDArray[np.float32]
    frequencies_hz: NDArray[np.float64]
    times_s: NDArray[np.float64]
    band_mask: NDArray[np.bool_]

    @property
    def hop_s(self) -> float:
        """Step from frame to frame; 0 where there is one frame."""
        return float(self.times_s[1] - self.times_s[0]) if len(self.times_s) > 1 else 0.0

    def pieces(self, max_s: float) -> list[Spectrogram]:
        """The spectrogram cut along time into the fewest equal pieces that are not longer than `max_s`."""
        frames = len(self.times_s)
        limit = max(1, int(max_s / self.hop_s)) if self.hop_s else frames
        edges = np.linspace(0, frames, -(-frames // limit) + 1).round().astype(int)
        return [
            replace(self, values=self.values[:, start:stop], times_s=self.times_s[start:stop])
            for start, stop in itertools.pairwise(edges)
        ]


@dataclass(frozen=True)
class FrameGrid:
    """Window, hop and mel bands in samples and counts, as a band and a sample rate decide them."""

    window: int
    hop: int
    n_mels: int

    @classmethod
    def of(cls, settings: LogMelSettings, *, sample_rate: int, bandwidth_hz: float) -> Self:
        """The grid for one band.

        A window of T s tells frequencies 1/T apart. In a band of B Hz it grows as 1/√B from what the settings say
        for 8 kHz, and the hop with it: what the narrow band lacks in detail is lost half in frequency and half in
        time. The mel bands are as many as are at least 1/T apart, so that none is interpolated from its neighbours.
        """
        if not 0 < bandwidth_hz <= sample_rate / 2:
            raise InputError(f"bandwidth_hz={bandwidth_hz:g} does not lie in (0, {sample_rate / 2:g}] Hz")
        growth = math.sqrt(max(1.0, WIDE_BAND_HZ / bandwidth_hz))
        window = round(settings.window_s * growth * sample_rate)
        return cls(
            window=window,
            hop=max(1, round(settings.hop_s * growth * sample_rate)),
            n_mels=min(settings.n_mels, _resolved_mels(bandwidth_hz, sample_rate / window)),
        )


def _resolved_mels(bandwidth_hz: float, bin_hz: float) -> int:
    """The most mel bands whose narrowest, the lowest, is `bin_hz` wide.

    Slaney's mel scale is linear below 1 kHz, 3 mel to 200 Hz.
    """
    import librosa

    mels = float(librosa.hz_to_mel(bandwidth_hz))
    return max(1, int(mels / (bin_hz * 3 / 200)) - 1)


@lru_cache(maxsize=16)
def _mel_filters(sample_rate: int, window: int, n_mels: int, bandwidth_hz: float) -> NDArray[np.float32]:
    """Slaney's mel filters, float32 (n_mels, window // 2 + 1), zero above `bandwidth_hz`."""
    import librosa.filters

    filters = librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=n_mels, fmin=0.0, fmax=bandwidth_hz)
    return np.asarray(filters, dtype=np.float32)


@lru_cache(maxsize=16)
def _mel_weights(sample_rate: int, window: int, n_mels: int, bandwidth_hz: float) -> csr_array:
    """The filters with unit sum. Sparse, since its products add in one order whatever the threads do."""
    filters = _mel_filters(sample_rate, window, n_mels, bandwidth_hz)
    return csr_array(filters / filters.sum(axis=1, keepdims=True))


@lru_cache(maxsize=16)
def _mel_centres(n_mels: int, bandwidth_hz: float) -> NDArray[np.float64]:
    import librosa

    return np.asarray(librosa.mel_frequencies(n_mels + 2, fmin=0.0, fmax=bandwidth_hz)[1:-1], dtype=np.float64)


def log_mel(
    waveform: NDArray[np.float32],
    settings: LogMelSettings,
    *,
    sample_rate: int,
    bandwidth_hz: float,
    held_hz: float | None = None,
) -> Spectrogram:
    """Log-mel spectrogram of one clip, over 0 Hz to `bandwidth_hz`.

    Parameters
    ----------
    waveform
        Mono, float32 (samples,), full scale 1.
    bandwidth_hz
        The band to cover.
    held_hz
        The band that this clip really holds where it is less; bands above it are masked.

    Raises
    ------
    InputError
        The clip is shorter than one window.
    """
    grid = FrameGrid.of(settings, sample_rate=sample_rate, bandwidth_hz=bandwidth_hz)
    if waveform.size < grid.window:
        raise InputError(
            f"{waveform.size / sample_rate:.3f} s is shorter than one window of {grid.window / sample_rate:.3f} s; "
            "record at least 1 s"
        )
    hann = np.hanning(grid.window + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, grid.window)[:: grid.hop]
    spectrum = rfft(frames * (hann * (2.0 / hann.sum())), axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mel = _mel_weights(sample_rate, grid.window, grid.n_mels, bandwidth_hz) @ power.T
    decibels = np.maximum(10.0 * np.log10(np.maximum(mel, np.float32(1e-30))), settings.floor_db)
    centres = _mel_centres(grid.n_mels, bandwidth_hz)
    return Spectrogram(
        values=decibels.astype(np.float32),
        frequencies_hz=centres,
        times_s=(np.arange(len(frames)) * grid.hop + grid.window / 2) / sample_rate,
        band_mask=centres <= (held_hz if held_hz is not None else bandwidth_hz),
    )


@dataclass(frozen=True, eq=False)
class BandMoments:
    """Sums over the frames of one clip: what band statistics are made of, so that a clip can be left out.

    `frames` int64 (bands,), `total` and `squares` float64 (bands,) are 0 in bands that the clip does not hold.
    """

    frames: NDArray[np.int64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, spectrogram: Spectrogram) -> Self:
        """Sums of one spectrogram in dB."""
        values, held = spectrogram.values.astype(np.float64), spectrogram.band_mask
        frames = values.shape[1] * held.astype(np.int64)
        return cls(frames, values.sum(axis=1) * held, np.square(values).sum(axis=1) * held)


@dataclass(frozen=True, eq=False)
class BandStatistics:
    """Mean and standard deviation of each band over the frames of an asset's normals, dB, float64 (bands,)."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def of(cls, moments: Iterable[BandMoments], *, std_floor_db: float) -> Self:
        """Statistics of each band over all frames of the clips that hold it; `std` is at least `std_floor_db`.

        Raises
        ------
        UsageError
            There are bands that no clip holds.
        """
        clips = list(moments)
        frames = np.sum([clip.frames for clip in clips], axis=0)
        if not frames.all():
            raise UsageError(
                f"{np.count_nonzero(frames == 0)} of {frames.size} bands are held by none of {len(clips)} clips; "
                "hear the clips up to the band that the widest of them holds"
            )
        mean = np.sum([clip.total for clip in clips], axis=0) / frames
        variance = np.sum([clip.squares for clip in clips], axis=0) / frames - np.square(mean)
        return cls(mean, np.maximum(np.sqrt(np.maximum(variance, 0.0)), std_floor_db))

    def standardize(self, spectrogram: Spectrogram) -> Spectrogram:
        """The spectrogram in deviations from the normals; bands it does not hold are 0, the normals' mean.

        Raises
        ------
        InputError
            The statistics are of another number of bands.
        """
        if len(self.mean) != len(spectrogram.values):
            raise InputError(
                f"statistics of {len(self.mean)} bands do not fit a spectrogram of {len(spectrogram.values)}; "
                "refit the asset"
            )
        values = (spectrogram.values - self.mean[:, None]) / self.std[:, None]
        values = np.where(spectrogram.band_mask[:, None], values, 0.0)
        return replace(spectrogram, values=values.astype(np.float32))
