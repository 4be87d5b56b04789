"""Sound for the players of a page: 16-bit FLAC as data URIs, which every current browser plays."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

LISTENING_PEAK = 0.89
"""Peak of the loudest clip of a page, -1 dBFS."""


def common_gain(waveforms: Iterable[NDArray[np.float32]]) -> float:
    """One gain for all clips of a page: the loudest reaches `LISTENING_PEAK`, and louder stays louder."""
    peak = max((float(np.abs(waveform).max(initial=0.0)) for waveform in waveforms), default=0.0)
    return LISTENING_PEAK / peak if peak > 0 else 1.0


def flac_uri(waveform: NDArray[np.float32], sample_rate: int, *, gain: float = 1.0) -> str:
    """Samples float32 (n,), linear full scale, times `gain`, as a data URI; beyond full scale they are clipped."""
    buffer = io.BytesIO()
    sf.write(buffer, np.clip(waveform * gain, -1.0, 1.0), sample_rate, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(buffer.getvalue()).decode()}"
