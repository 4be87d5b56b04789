"""Standardized clips as FLAC objects: 24 bits, mono, the grid of `engines.standardize`."""

from __future__ import annotations

import io

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from engines.standardize import to_waveform
from schemas.errors import StoreError


def to_flac(codes: NDArray[np.int32], sample_rate: int) -> bytes:
    """FLAC bytes of grid codes int32 (samples,)."""
    buffer = io.BytesIO()
    # soundfile takes the top 24 bits of an int32
    sf.write(buffer, codes << 8, sample_rate, format="FLAC", subtype="PCM_24")
    return buffer.getvalue()


def from_flac(data: bytes, *, key: str) -> NDArray[np.float32]:
    """Samples float32 (samples,) of a stored clip.

    Raises
    ------
    StoreError
        The object is no FLAC of ours.
    """
    try:
        codes, _ = sf.read(io.BytesIO(data), dtype="int32")
    except sf.LibsndfileError as error:
        raise StoreError(f"{key} is damaged ({error}); delete its package folder and onboard it again") from error
    return to_waveform(codes >> 8)
