"""Measures of a recording's waveform that tell a usable clip from a broken one.

Conventions: samples are float32 (frames, channels) on a linear full scale, ±1 = the converter's range; ratios
are shares in 0-1. What is measured of each channel is told of the worst that is listened to (`engines.standardize`): of
an accelerometer the first, of microphones any, since their mean is heard. Microphones that carry nothing at all spoil
no mean; they are left out, and named. What is read off the spectrum stands in `engines.spectra`. Limits and verdicts
are not here: a measure knows no rule.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.recordings import READ_SAMPLES, HeldRecording, Recording, RunningVariance
from engines.standardize import RANGE, Sensor

FULL_SCALE_16_BIT = 32767 / 32768
"""The largest positive sample of a 16-bit converter: a sample this far out is taken as clipped."""

DIGITAL_SILENCE = 1 / 32768
"""One step of a 16-bit converter (-90.3 dBFS). No live microphone or accelerometer stays within it."""

LARGEST_SAMPLE = 2.0**32
"""No converter gives more, even where its counts were written as they are: what is beyond is no sample."""

SILENCE_FRAME_S = 0.02
"""A frame is silent as a whole or not at all, so that zero crossings do not count as silence."""

GAP_BELOW_MEDIAN = 0.01
"""A frame whose swing is below this share (-40 dB) of the median frame's is a gap."""

FLAT_TOP_TOLERANCE = 0.002
"""Samples this close to a top's level, relative to it, lie on the same top."""

FLAT_TOP_LEAST_PEAK = 64 * DIGITAL_SILENCE
"""Below this peak the converter's own steps make tops flat."""

FLAT_TOP_LEAST_FRAMES = 3
LEAST_STRAYS, STRAY_FRAMES = 8, 0.02
"""Below the extreme, tops may be cut at a level that three frames or more reach and do not pass; in so many frames, or
such a share of them, stray samples may reach beyond it."""

SIXTEEN_BITS = 16.0

LEAST_LEVELS = 5
"""Fewer different sample values say nothing about the converter."""

VISITS_PER_LEVEL = 8
"""Values that are taken less often than this on average say nothing either: most that could be taken were missed."""

DEAD_CHANNEL = 1e-3
"""A channel this far (-60 dB) below the loudest one carries nothing of the machine."""

_GRID = 1 << 15
_LOW_QUANTILE = 0.02

_CHUNK, _FEW = 1 << 16, 1 << 14
"""Frames, and samples, that are worked on at a time where a measure needs a copy."""

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
    heard_rms: float
    """The same of the one channel that is listened to: of microphones' mean, of an accelerometer's first axis."""
    peak: float
    """Largest magnitude, linear; above 1 only in float files."""
    over_range_ratio: float
    """Share of the samples listened to that the standard form cannot hold (`engines.standardize.RANGE`)."""
    clipping_ratio: float
    """Share of samples at full scale; where float samples go beyond ±1, their own peak is the full scale."""
    flat_top_ratio: float
    """Share of samples on tops cut flat at the channel's own extreme, wherever that lies: clipped before the file."""
    flat_top_level: float
    """Where most of them lie, a magnitude, linear."""
    bits_used: float
    """Bits of a converter with the step that the samples really take, at most 16; 16 too where it cannot be told."""
    silence_ratio: float
    """Share of 20 ms frames in which no sample exceeds one 16-bit step."""
    stuck_ratio: float
    """Share of 20 ms frames that stand still at another value than zero."""
    gap_ratio: float
    """Share of 20 ms frames that move, but 40 dB less than the median frame."""
    dc_offset: float
    """Mean, signed, linear."""
    dead_channels: tuple[int, ...]
    """Channels, counted from 1, that are 60 dB or more below the loudest; none where there is no sound at all."""
    mono_ratio: float
    """Power of the channels' mean over the channels' mean power: 1 alike, 1/channels unrelated, 0 cancelling."""
    has_nan: bool
    """Whether any sample is NaN, infinite or beyond `LARGEST_SAMPLE`; such ones count as 0 in the other measures."""
    content_sha256: str
    """Hash of the samples: equal for the same sound under another header or in another lossless format."""

    @property
    def recording_id(self) -> str:
        """Who the recording is, whatever file it came in: the first digits of its hash."""
        return self.content_sha256[:RECORDING_ID_DIGITS]


def measure(
    samples: NDArray[np.float32],
    sample_rate: int,
    *,
    sensor: Sensor = "microphone",
    full_scale: float = FULL_SCALE_16_BIT,
) -> SignalMeasures:
    """Measure a recording that is held in memory.

    samples: float32 (frames, channels), at least one frame and one channel.
    sample_rate: Hz.
    sensor, full_scale: as in `measure_recording`.

    Raises ValueError for an empty array or another number of axes.
    """
    if samples.ndim != 2 or samples.size == 0:
        raise ValueError(f"samples of shape (frames, channels) are wanted, at least 1 × 1; got {samples.shape}")
    held = HeldRecording(np.ascontiguousarray(samples, dtype=np.float32), sample_rate)
    return measure_recording(held, sensor=sensor, full_scale=full_scale)


def measure_recording(
    recording: Recording, *, sensor: Sensor = "microphone", full_scale: float = FULL_SCALE_16_BIT
) -> SignalMeasures:
    """Measure one recording, going through its samples twice.

    sensor: what it was made with, which decides what of several channels is listened to.
    full_scale: magnitude at and above which a sample counts as clipped; coarser converters than 16 bit have a
        lower one.
    """
    found = _survey(recording)
    listened = 1 if sensor == "accelerometer" else recording.channels
    tallies = _tally(recording, found, listened, full_scale)
    frames = recording.frames
    variance = np.array(tallies.squares) / frames
    power = variance + found.means**2
    dead = variance < DEAD_CHANNEL**2 * variance.max()
    heard = [i for i in range(listened) if not dead[i]] or [0]
    silent, stuck, gaps = (shares[heard].max() for shares in _still_frames(found.highest, found.lowest))
    flattest = max((tallies.flat[i] for i in heard), key=lambda flat: flat.samples)
    return SignalMeasures(
        duration_s=frames / recording.sample_rate,
        sample_rate=recording.sample_rate,
        channels=recording.channels,
        rms=float(np.sqrt(power.mean())),
        ac_rms=float(np.sqrt(variance.mean())),
        heard_rms=float(np.sqrt(tallies.mono.variance if listened > 1 else variance[0])),
        peak=float(found.peaks.max()),
        over_range_ratio=tallies.over_range / frames,
        clipping_ratio=max(tallies.beyond[i] for i in heard) / frames,
        flat_top_ratio=flattest.samples / frames,
        flat_top_level=flattest.level,
        bits_used=min(tallies.values[i].bits_used(frames) for i in heard),
        silence_ratio=float(silent),
        stuck_ratio=float(stuck),
        gap_ratio=float(gaps),
        dc_offset=float(max(found.means[:listened], key=abs)),
        dead_channels=tuple(int(i) + 1 for i in np.flatnonzero(dead)),
        mono_ratio=tallies.mono.variance / float(variance.mean()) if tallies.mono.count and variance.any() else 1.0,
        has_nan=found.has_nan,
        content_sha256=found.content_sha256,
    )


def content_hash(samples: NDArray[np.float32]) -> str:
    """SHA-256 of the samples and the number of channels, as 64 hex digits.

    samples: float32 (frames, channels). The sample rate is left out on purpose: a file whose header was
    corrected still holds the same recording.
    """
    digest = _new_digest(samples.shape[1])
    _hash_block(digest, samples)
    return digest.hexdigest()


def _new_digest(channels: int) -> hashlib._Hash:
    return hashlib.sha256(f"{channels}:".encode())


def _hash_block(digest: hashlib._Hash, block: NDArray[np.float32]) -> None:
    for start in range(0, len(block), _CHUNK):
        # Adding zero turns -0.0 into 0.0: they sound the same, and a lossless re-encoding loses the sign.
        digest.update(np.ascontiguousarray(block[start : start + _CHUNK] + np.float32(0.0), dtype="<f4").data)


# --- the first time through: what the counts are relative to ------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Survey:
    """What is known of a recording after the first time through; what is no sample counts as 0 but in the hash."""

    highest: NDArray[np.float32]
    """Highest sample of every frame of `SILENCE_FRAME_S`, (channels, frames); a short rest is a frame."""
    lowest: NDArray[np.float32]
    means: NDArray[np.float64]
    """Of each channel."""
    has_nan: bool
    content_sha256: str

    @property
    def peaks(self) -> NDArray[np.float32]:
        """Largest magnitude of each channel."""
        return np.asarray(np.maximum(self.highest.max(axis=1), -self.lowest.min(axis=1)))


def _survey(recording: Recording) -> _Survey:
    digest, has_nan = _new_digest(recording.channels), False
    sums: NDArray[np.float64] = np.zeros(recording.channels)
    extremes = []
    for block in recording.blocks(_block_frames(recording)):
        _hash_block(digest, block)
        channels = np.ascontiguousarray(block.T)
        own = _frame_extremes(channels, recording.sample_rate)
        # False where one is NaN: an extreme of what holds NaN is NaN.
        if not (max(own[0].max(), -own[1].min()) <= LARGEST_SAMPLE):
            has_nan, channels = True, _without_no_samples(channels)
            own = _frame_extremes(channels, recording.sample_rate)
        sums += channels.sum(axis=1, dtype=np.float64)
        extremes.append(own)
    highest, lowest = (np.concatenate(each, axis=1) for each in zip(*extremes, strict=True))
    return _Survey(highest, lowest, sums / recording.frames, has_nan, digest.hexdigest())


def _block_frames(recording: Recording) -> int:
    """Frames of a block that cuts none of the frames of `SILENCE_FRAME_S`."""
    hop = _hop(recording.sample_rate)
    return max(1, READ_SAMPLES // recording.channels // hop) * hop


def _hop(sample_rate: int) -> int:
    return max(1, round(SILENCE_FRAME_S * sample_rate))


def _without_no_samples(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(np.abs(channels) <= LARGEST_SAMPLE, channels, np.float32(0))


def _frame_extremes(channels: NDArray[np.float32], sample_rate: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Highest and lowest sample of every frame of `SILENCE_FRAME_S`, each (channels, frames); a short rest is one."""
    hop = _hop(sample_rate)
    whole = channels.shape[1] // hop * hop
    frames = channels[:, :whole].reshape(len(channels), -1, hop)
    highest, lowest = frames.max(axis=2), frames.min(axis=2)
    rest = channels[:, whole:]
    if rest.size:
        highest = np.concatenate([highest, rest.max(axis=1, keepdims=True)], axis=1)
        lowest = np.concatenate([lowest, rest.min(axis=1, keepdims=True)], axis=1)
    return highest, lowest


def _still_frames(
    highest: NDArray[np.float32], lowest: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Shares of frames that are digital silence, that stand still elsewhere, and that all but stand still.

    Float64 (channels,) each.
    """
    silent = np.maximum(highest, -lowest) <= DIGITAL_SILENCE
    swing = highest - lowest
    stuck = (swing <= DIGITAL_SILENCE) & ~silent
    usual = np.median(swing, axis=1, keepdims=True)
    gaps = (swing < GAP_BELOW_MEDIAN * usual) & ~silent & ~stuck
    return silent.mean(axis=1), stuck.mean(axis=1), gaps.mean(axis=1)


# --- the second time through: counts ------------------------------------------------------------------------------


@dataclass(eq=False)
class _Tallies:
    """What is counted the second time through; of channels that are not listened to only `squares` and `mono`."""

    squares: list[float]
    """Sum of squares about its mean, of each channel."""
    beyond: list[int]
    """Samples at full scale, of each channel."""
    flat: list[_FlatTops]
    """Of each channel."""
    values: list[_TakenValues]
    """Of each channel."""
    mono: RunningVariance
    """Of the mean of the channels; nothing where there is but one."""
    over_range: int = 0
    """Samples listened to that the standard form cannot hold."""


def _tally(recording: Recording, found: _Survey, listened: int, full_scale: float) -> _Tallies:
    """Go through a recording whose first `listened` channels count."""
    flat = [_FlatTops(*extremes) for extremes in zip(found.highest[:listened], found.lowest[:listened], strict=True)]
    bounds = zip(found.lowest.min(axis=1)[:listened], found.highest.max(axis=1)[:listened], strict=True)
    values = [_TakenValues(float(low), float(high)) for low, high in bounds]
    limits = full_scale * np.maximum(1.0, found.peaks)
    tallies = _Tallies([0.0] * recording.channels, [0] * listened, flat, values, RunningVariance())
    for block in recording.blocks(_block_frames(recording)):
        channels = np.ascontiguousarray(block.T)
        if found.has_nan:
            channels = _without_no_samples(channels)
        for i, channel in enumerate(channels):
            tallies.squares[i] += _squares(channel, found.means[i])
        for i, channel in enumerate(channels[:listened]):
            flat[i].add(channel)
            values[i].add(channel)
            if found.peaks[i] >= limits[i]:
                tallies.beyond[i] += int(np.count_nonzero(np.abs(channel) >= limits[i]))
        mono = channels.mean(axis=0) if len(channels) > 1 else channels[0]
        if len(channels) > 1:
            tallies.mono.add(mono)
        if found.peaks.max() > RANGE:
            heard = mono if listened > 1 else channels[0]
            tallies.over_range += int(np.count_nonzero(np.abs(heard) > RANGE))
    return tallies


def _squares(channel: NDArray[np.float32], mean: float) -> float:
    """Sum of squares about the mean, which is left out first: in float32 the square of an offset drowns the rest."""
    total = 0.0
    for start in range(0, len(channel), _CHUNK):
        centred = channel[start : start + _CHUNK] - np.float32(mean)
        total += float(np.dot(centred, centred))
    return total


class _FlatTops:
    """Counts the samples on flat tops of one channel; a top that the edge of a block cuts is taken for two."""

    def __init__(self, highest: NDArray[np.float32], lowest: NDArray[np.float32]) -> None:
        self._found = {sign: dict.fromkeys(_shared_tops(tops), 0) for sign, tops in {1: highest, -1: -lowest}.items()}

    def add(self, channel: NDArray[np.float32]) -> None:
        """Count those of more samples, float32 (n,)."""
        for sign, found in self._found.items():
            for level in found:
                found[level] += _flat_samples(channel, level, sign)

    @property
    def samples(self) -> int:
        """On both sides."""
        return sum(max(found.values()) for found in self._found.values())

    @property
    def level(self) -> float:
        """Magnitude of the top that has most of them."""
        return max((samples, level) for found in self._found.values() for level, samples in found.items())[1]


def _shared_tops(tops: NDArray[np.float32]) -> set[float]:
    """Levels at which a channel may be cut, of the highest samples of its frames: float32 (frames,).

    The highest of all, and that which most frames share once a few are left out, in which stray samples reach beyond.
    """
    ordered = np.sort(tops)
    last = np.arange(len(ordered))[-max(LEAST_STRAYS, int(STRAY_FRAMES * len(ordered))) - 1 :][::-1]
    first = np.searchsorted(ordered, ordered[last] - _top_tolerance(ordered[last]))
    most = int(np.argmax(last - first))
    levels = {float(ordered[-1])}
    if last[most] - first[most] + 1 >= FLAT_TOP_LEAST_FRAMES and first[0] > last[most]:
        levels.add(float(ordered[last[most]]))
    return levels


def _top_tolerance(top: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.maximum(np.float32(DIGITAL_SILENCE), np.float32(FLAT_TOP_TOLERANCE) * top))


def _flat_samples(channel: NDArray[np.float32], top: float, sign: int) -> int:
    """Samples on flat tops at the level `top` of one channel's upper side, or lower one (`sign` -1).

    A run of three samples or more within a tolerance t of the level is a flat top where the waveform falls off
    steeply at its ends. A smooth top of n samples within t is a parabola: it falls by 4t/n at the next sample. A
    flat one falls by four times as much, or more.
    """
    if top < FLAT_TOP_LEAST_PEAK:
        return 0
    tolerance = max(DIGITAL_SILENCE, FLAT_TOP_TOLERANCE * top)
    edge = np.float32(sign * (top - tolerance))
    near = np.flatnonzero(channel >= edge if sign > 0 else channel <= edge)
    near = near[sign * channel[near] <= np.float32(top + tolerance)]
    if len(near) < 3:
        return 0
    breaks = np.flatnonzero(np.diff(near) > 1)
    first, last = near[np.r_[0, breaks + 1]], near[np.r_[breaks, len(near) - 1]]
    length = last - first + 1
    before, after = channel[np.maximum(first - 1, 0)], channel[np.minimum(last + 1, len(channel) - 1)]
    fall = sign * (channel[first] - before + channel[last] - after) / 2
    return int(length[(length >= 3) & (fall * length >= 16 * tolerance)].sum())


class _TakenValues:
    """Which values of the 16-bit grid the samples of a channel take; `low` and `high` bound them."""

    def __init__(self, low: float, high: float) -> None:
        self._taken = np.zeros(2 * _GRID + 1, dtype=bool)
        ends = np.clip(np.rint(np.array([low, high]) * _GRID), -_GRID, _GRID)
        self._span = int(ends[1] - ends[0])
        self._fine = False

    def add(self, samples: NDArray[np.float32]) -> None:
        """Note the values of more samples, float32 (n,), as long as they can change the answer."""
        for start in range(0, len(samples), _FEW):
            if self._fine:
                return
            codes = samples[start : start + _FEW] * np.float32(_GRID)
            np.clip(np.rint(codes, out=codes), -_GRID, _GRID, out=codes)
            self._taken[codes.astype(np.intp) + _GRID] = True
            # Two neighbours stay neighbours whatever comes, and there are never more distances than the span.
            neighbours = np.count_nonzero(self._taken[1:] & self._taken[:-1])
            self._fine = bool(neighbours > _LOW_QUANTILE * self._span)

    def bits_used(self, size: int) -> float:
        """Bits of a converter whose step is the distance between neighbouring values that `size` samples take.

        The distance is the 2nd percentile over all neighbours: a few stray values change nothing.
        """
        distances = np.diff(np.flatnonzero(self._taken))
        levels = len(distances) + 1
        if self._fine or levels < LEAST_LEVELS or size < VISITS_PER_LEVEL * levels:
            return SIXTEEN_BITS
        step = int(np.quantile(distances, _LOW_QUANTILE, method="lower"))
        # A converter's values are evenly spaced, but for rounding after a gain; those of a perfect tone are not.
        even = np.mean(np.abs(distances - step) <= 1) >= 0.5
        return SIXTEEN_BITS - float(np.log2(step)) if even else SIXTEEN_BITS
