"""Measures of a recording's waveform that tell a usable clip from a broken one.

Conventions: samples are float32 (frames, channels) on a linear full scale, ±1 = the converter's range; ratios
are shares in 0-1; all channels are measured together unless a name says otherwise. What is read off the spectrum
stands in `engines.spectra`. Limits and verdicts are not here: a measure knows no rule.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FULL_SCALE_16_BIT = 32767 / 32768
"""The largest positive sample of a 16-bit converter: a sample this far out is taken as clipped."""

DIGITAL_SILENCE = 1 / 32768
"""One step of a 16-bit converter (-90.3 dBFS). No live microphone or accelerometer stays within it."""

SILENCE_FRAME_S = 0.02
"""A frame is silent as a whole or not at all, so that zero crossings do not count as silence."""

GAP_BELOW_MEDIAN = 0.01
"""A frame whose swing is below this share (-40 dB) of the median frame's is a gap."""

FLAT_TOP_TOLERANCE = 0.002
"""Samples this close to the channel's extreme, relative to it, lie on the same top."""

FLAT_TOP_LEAST_PEAK = 64 * DIGITAL_SILENCE
"""Below this peak the converter's own steps make tops flat."""

SIXTEEN_BITS = 16.0

LEAST_LEVELS = 5
"""Fewer different sample values say nothing about the converter."""

VISITS_PER_LEVEL = 8
"""Values that are taken less often than this on average say nothing either: most that could be taken were missed."""

DEAD_CHANNEL = 1e-3
"""A channel this far (-60 dB) below the loudest one carries nothing of the machine."""

_CHUNK = 1 << 16
"""Frames that are worked on at a time where a measure needs a copy, so that a long recording is not held twice."""

RECORDING_ID_DIGITS = 16
"""Hexadecimal digits of a recording's hash that name it."""


@dataclass(frozen=True)
class SignalMeasures:
    """What was measured on one recording."""

    duration_s: float
    sample_rate: int
    """Hz."""
    channels: int
    rms: float
    """Root mean square over all channels, linear."""
    ac_rms: float
    """The same about each channel's mean: what is left of a sensor that is stuck at one value is 0."""
    peak: float
    """Largest magnitude, linear; above 1 only in float files."""
    clipping_ratio: float
    """Share of samples at full scale; where float samples go beyond ±1, their own peak is the full scale."""
    flat_top_ratio: float
    """Share of samples on tops cut flat at the channel's own extreme, wherever that lies: clipped before the file."""
    bits_used: float
    """Bits of a converter with the step that the samples really take, at most 16; 16 too where it cannot be told."""
    silence_ratio: float
    """Share of 20 ms frames in which no sample of any channel exceeds one 16-bit step."""
    stuck_ratio: float
    """Share of 20 ms frames that stand still at another value than zero in every channel."""
    gap_ratio: float
    """Share of 20 ms frames that move, but 40 dB less than the median frame in every channel."""
    dc_offset: float
    """Mean of the channel that is furthest off centre, signed, linear."""
    dead_channels: tuple[int, ...]
    """Channels, counted from 1, that are 60 dB or more below the loudest; none where there is no sound at all."""
    mono_ratio: float
    """Power of the channels' mean over the channels' mean power: 1 alike, 1/channels unrelated, 0 cancelling."""
    has_nan: bool
    """Whether any sample is NaN or infinite; such samples count as 0 in the other measures."""
    content_sha256: str
    """Hash of the samples: equal for the same sound under another header or in another lossless format."""

    @property
    def recording_id(self) -> str:
        """Who the recording is, whatever file it came in: the first digits of its hash."""
        return self.content_sha256[:RECORDING_ID_DIGITS]


def measure(samples: NDArray[np.float32], sample_rate: int, *, full_scale: float = FULL_SCALE_16_BIT) -> SignalMeasures:
    """Measure one recording.

    samples: float32 (frames, channels), at least one frame and one channel.
    sample_rate: Hz.
    full_scale: magnitude at and above which a sample counts as clipped; coarser converters than 16 bit have a
        lower one.

    Raises ValueError for an empty array or another number of axes.
    """
    if samples.ndim != 2 or samples.size == 0:
        raise ValueError(f"samples of shape (frames, channels) are wanted, at least 1 × 1; got {samples.shape}")
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    content = content_hash(samples)
    with np.errstate(invalid="ignore"):  # two infinities that cancel leave NaN, which is what is looked for
        has_nan = not np.isfinite(samples.sum(dtype=np.float64))
    if has_nan:
        samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    channels = np.ascontiguousarray(samples.T)
    highest, lowest = _frame_extremes(channels, sample_rate)
    peak = float(max(highest.max(), -lowest.min()))
    means = channels.mean(axis=1, dtype=np.float64)
    variance = np.array([_variance(channel, mean) for channel, mean in zip(channels, means, strict=True)])
    power = variance + means**2
    silent, stuck, gaps = _still_frames(highest, lowest)
    return SignalMeasures(
        duration_s=channels.shape[1] / sample_rate,
        sample_rate=sample_rate,
        channels=len(channels),
        rms=float(np.sqrt(power.mean())),
        ac_rms=float(np.sqrt(variance.mean())),
        peak=peak,
        clipping_ratio=_share_beyond(channels, full_scale * max(1.0, peak), peak),
        flat_top_ratio=_flat_top_ratio(channels),
        bits_used=_bits_used(channels),
        silence_ratio=silent,
        stuck_ratio=stuck,
        gap_ratio=gaps,
        dc_offset=float(means[np.argmax(np.abs(means))]),
        dead_channels=tuple(int(i) + 1 for i in np.flatnonzero(variance < DEAD_CHANNEL**2 * variance.max())),
        mono_ratio=_mono_ratio(channels, variance),
        has_nan=has_nan,
        content_sha256=content,
    )


def content_hash(samples: NDArray[np.float32]) -> str:
    """SHA-256 of the samples and the number of channels, as 64 hex digits.

    samples: float32 (frames, channels). The sample rate is left out on purpose: a file whose header was
    corrected still holds the same recording.
    """
    digest = hashlib.sha256(f"{samples.shape[1]}:".encode())
    for start in range(0, len(samples), _CHUNK):
        # Adding zero turns -0.0 into 0.0: they sound the same, and a lossless re-encoding loses the sign.
        digest.update(np.ascontiguousarray(samples[start : start + _CHUNK] + np.float32(0.0), dtype="<f4").data)
    return digest.hexdigest()


def _variance(channel: NDArray[np.float32], mean: float) -> float:
    """Mean square about the mean, which is left out first: in float32 the square of an offset would drown the rest."""
    total = 0.0
    for start in range(0, len(channel), _CHUNK):
        centred = channel[start : start + _CHUNK] - np.float32(mean)
        total += float(np.dot(centred, centred))
    return total / len(channel)


def _frame_extremes(channels: NDArray[np.float32], sample_rate: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Highest and lowest sample of every frame of `SILENCE_FRAME_S`, each (channels, frames); a short rest is one."""
    hop = max(1, round(SILENCE_FRAME_S * sample_rate))
    whole = channels.shape[1] // hop * hop
    frames = channels[:, :whole].reshape(len(channels), -1, hop)
    highest, lowest = frames.max(axis=2), frames.min(axis=2)
    rest = channels[:, whole:]
    if rest.size:
        highest = np.concatenate([highest, rest.max(axis=1, keepdims=True)], axis=1)
        lowest = np.concatenate([lowest, rest.min(axis=1, keepdims=True)], axis=1)
    return highest, lowest


def _still_frames(highest: NDArray[np.float32], lowest: NDArray[np.float32]) -> tuple[float, float, float]:
    """Shares of frames that are digital silence, that stand still elsewhere, and that all but stand still."""
    silent = (np.maximum(highest, -lowest) <= DIGITAL_SILENCE).all(axis=0)
    swing = highest - lowest
    stuck = (swing <= DIGITAL_SILENCE).all(axis=0) & ~silent
    usual = np.median(swing, axis=1, keepdims=True)
    gaps = (swing < GAP_BELOW_MEDIAN * usual).all(axis=0) & ~silent & ~stuck
    return float(silent.mean()), float(stuck.mean()), float(gaps.mean())


def _share_beyond(channels: NDArray[np.float32], limit: float, peak: float) -> float:
    if peak < limit:
        return 0.0
    return float(np.count_nonzero(np.abs(channels) >= limit) / channels.size)


def _flat_top_ratio(channels: NDArray[np.float32]) -> float:
    return sum(_flat_samples(channel, sign) for channel in channels for sign in (1, -1)) / channels.size


def _flat_samples(channel: NDArray[np.float32], sign: int) -> int:
    """Samples on flat tops of one channel's upper side, or lower one (`sign` -1).

    A run of three samples or more within a tolerance t of the maximum is a flat top where the waveform falls off
    steeply at its ends. A smooth top of n samples within t is a parabola: it falls by 4t/n at the next sample. A
    flat one falls by four times as much, or more.
    """
    top = float(channel.max() if sign > 0 else -channel.min())
    if top < FLAT_TOP_LEAST_PEAK:
        return 0
    tolerance = max(DIGITAL_SILENCE, FLAT_TOP_TOLERANCE * top)
    edge = np.float32(sign * (top - tolerance))
    near = np.flatnonzero(channel >= edge if sign > 0 else channel <= edge)
    breaks = np.flatnonzero(np.diff(near) > 1)
    first, last = near[np.r_[0, breaks + 1]], near[np.r_[breaks, len(near) - 1]]
    length = last - first + 1
    before, after = channel[np.maximum(first - 1, 0)], channel[np.minimum(last + 1, len(channel) - 1)]
    fall = sign * (channel[first] - before + channel[last] - after) / 2
    return int(length[(length >= 3) & (fall * length >= 16 * tolerance)].sum())


def _bits_used(channels: NDArray[np.float32]) -> float:
    """Bits of a converter whose step is the distance between neighbouring values that the samples take.

    The distance is the 2nd percentile over all neighbours, on the 16-bit grid: a few stray values change nothing.
    """
    taken = np.zeros(65537, dtype=bool)
    samples = channels.ravel()
    for start in range(0, len(samples), _CHUNK):
        codes = samples[start : start + _CHUNK] * np.float32(32768)
        np.clip(np.rint(codes, out=codes), -32768, 32768, out=codes)
        taken[codes.astype(np.int32) + 32768] = True
    distances = np.diff(np.flatnonzero(taken))
    levels = len(distances) + 1
    if levels < LEAST_LEVELS or channels.size < VISITS_PER_LEVEL * levels:
        return SIXTEEN_BITS
    step = int(np.quantile(distances, 0.02, method="lower"))
    # A converter's values are evenly spaced, but for rounding after a gain; those of a perfect tone are not.
    even = np.mean(np.abs(distances - step) <= 1) >= 0.5
    return SIXTEEN_BITS - float(np.log2(step)) if even else SIXTEEN_BITS


def _mono_ratio(channels: NDArray[np.float32], variance: NDArray[np.float64]) -> float:
    if len(channels) == 1 or not variance.any():
        return 1.0
    return float(channels.mean(axis=0).var(dtype=np.float64) / variance.mean())
