"""A machine to record again and again, for tests that tell a copy from another recording."""

from __future__ import annotations

import numpy as np
import scipy.signal
from numpy.typing import NDArray

RATE = 16_000


def machine(seed: int, *, seconds: float = 4.0) -> NDArray[np.float32]:
    """A machine of steady tones and coloured noise; only the noise differs from recording to recording."""
    time = np.arange(int(seconds * RATE)) / RATE
    rng = np.random.default_rng(seed)
    hiss = scipy.signal.lfilter([1], [1, -0.8], rng.normal(size=len(time)))
    tones = sum(np.sin(2 * np.pi * f * time + rng.uniform(0, 6)) for f in (97, 194, 388, 1210))
    return (0.03 * hiss + 0.05 * tones).astype(np.float32)
