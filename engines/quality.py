"""Measures of a recording's signal that tell a usable clip from a broken one.

Conventions: samples are float32 (frames, channels) on a linear full scale, ±1 = the converter's range; ratios
are shares in 0-1; all channels are measured together. Limits and verdicts are not here: a measure knows no rule.
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
    silence_ratio: float
    """Share of 20 ms frames in which no sample of any channel exceeds one 16-bit step."""
    dc_offset: float
    """Mean of the channel that is furthest off centre, signed, linear."""
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
    magnitude = np.abs(samples)
    peak = float(magnitude.max())
    frames, channels = samples.shape
    means = samples.mean(axis=0, dtype=np.float64)
    power = np.einsum("fc,fc->c", samples, samples, dtype=np.float64) / frames
    return SignalMeasures(
        duration_s=frames / sample_rate,
        sample_rate=sample_rate,
        channels=channels,
        rms=float(np.sqrt(power.mean())),
        ac_rms=float(np.sqrt(np.maximum(power - means**2, 0.0).mean())),
        peak=peak,
        clipping_ratio=float(np.count_nonzero(magnitude >= full_scale * max(1.0, peak)) / samples.size),
        silence_ratio=_silence_ratio(magnitude, sample_rate),
        dc_offset=float(means[np.argmax(np.abs(means))]),
        has_nan=has_nan,
        content_sha256=content,
    )


def energy_above(samples: NDArray[np.float32], sample_rate: int, frequency_hz: float) -> float:
    """Share of a recording's energy above a frequency, 0-1: what resampling to twice that frequency would take.

    samples: finite float32 (frames, channels); sample_rate and frequency_hz in Hz. The periodograms of blocks of at
    most one second are summed over blocks and channels (Bartlett's method without a window); each block's mean is
    left out. A recording that is constant has no energy, and 0 is returned.
    """
    total = above = 0.0
    for start in range(0, len(samples), sample_rate):
        block = samples[start : start + sample_rate]
        # Before the transform, not after: the rounding of a large offset would leak into every bin.
        centred = block - block.mean(axis=0, dtype=np.float64)
        energy = (np.abs(np.fft.rfft(centred, axis=0)) ** 2).sum(axis=1)
        if len(block) % 2 == 0:
            # Every other bin stands for two of the full spectrum, that of the Nyquist frequency for one.
            energy[-1] /= 2
        total += energy.sum()
        above += energy[np.fft.rfftfreq(len(block), 1 / sample_rate) > frequency_hz].sum()
    return float(above / total) if total > 0 else 0.0


def content_hash(samples: NDArray[np.float32]) -> str:
    """SHA-256 of the samples and the number of channels, as 64 hex digits.

    samples: float32 (frames, channels). The sample rate is left out on purpose: a file whose header was
    corrected still holds the same recording.
    """
    digest = hashlib.sha256(f"{samples.shape[1]}:".encode())
    # Adding zero turns -0.0 into 0.0: they sound the same, and a lossless re-encoding loses the sign.
    digest.update(np.ascontiguousarray(samples + np.float32(0.0), dtype="<f4").data)
    return digest.hexdigest()


def _silence_ratio(magnitude: NDArray[np.float32], sample_rate: int) -> float:
    """Share of frames of `SILENCE_FRAME_S` whose largest magnitude is digital silence; a short rest counts as one."""
    hop = max(1, round(SILENCE_FRAME_S * sample_rate))
    # The channels of a frame lie side by side, so that a block of frames is one run of the flat array.
    starts = np.arange(0, len(magnitude), hop) * magnitude.shape[1]
    loudest = np.maximum.reduceat(magnitude.ravel(), starts)
    return float(np.mean(loudest <= DIGITAL_SILENCE))
