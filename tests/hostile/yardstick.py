"""How slow this machine is at the moment: ten seconds of one that is half as fast would bound half the work."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import scipy.fft


def processor_seconds() -> float:
    """Seconds of the processor for a fixed piece of what taking uploads in is made of: Python, Fourier transforms, SHA.

    About one second where an upload's ten seconds were promised.
    """
    block = np.ones((256, 2048), dtype=np.float32)
    data = bytes(2 << 20)
    start = time.process_time()
    for _ in range(300):
        sum(number & 3 for number in range(40_000))
        scipy.fft.rfft(scipy.fft.rfft(block, axis=1).real, axis=1)
        hashlib.sha256(data).digest()
    return time.process_time() - start
