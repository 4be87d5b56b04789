"""Seeded draws that stay the same for ever.

Each stream is named by a key (seed, machine type, section, clip, purpose …): its SHA-256 seeds a PCG64, so no
stream depends on what else was drawn, in which order, or which other machines were asked for.

NumPy promises stable streams for `BitGenerator.random_raw` and `SeedSequence`, but not for the distributions of
`Generator` (NEP 19). The toy sounds are frozen, so every distribution is built here from raw 64-bit words with
integer arithmetic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
T = TypeVar("T")

# The sum of four independent uniform 16-bit words has this mean and variance (Irwin-Hall, n = 4).
_WORDS_MEAN = 4 * 65535 / 2
_EVEN_WORDS = np.uint64(0x0000FFFF0000FFFF)
_WORDS_STD = (4 * (65536**2 - 1) / 12) ** 0.5


class Draws:
    """One stream of random numbers, named by its key."""

    def __init__(self, *key: str | int) -> None:
        digest = hashlib.sha256("\x1f".join(str(part) for part in key).encode()).digest()
        self._bits = np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest[:16], "big")))

    def uniform(self, low: float, high: float) -> float:
        """One number in [low, high)."""
        return float(self.uniforms(low, high, 1)[0])

    def uniforms(self, low: float, high: float, n: int) -> FloatArray:
        """`n` numbers in [low, high), float64 (n,)."""
        fractions = (self._raw(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return np.asarray(low + (high - low) * fractions)

    def integer(self, low: int, high: int) -> int:
        """One whole number in low … high, both included."""
        return low + int(self.uniform(0.0, 1.0) * (high - low + 1))

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices."""
        return choices[self.integer(0, len(choices) - 1)]

    def shuffle(self, choices: Sequence[T]) -> list[T]:
        """The choices in a random order."""
        order = np.argsort(self._raw(len(choices)), kind="stable")
        return [choices[i] for i in order]

    def noise(self, n: int) -> FloatArray:
        """White noise of mean 0 and variance 1, float64 (n,): the normal law to within an excess kurtosis of -0.3."""
        words = self._raw(n)
        pairs = words & _EVEN_WORDS
        words >>= np.uint64(16)
        words &= _EVEN_WORDS
        pairs += words
        np.right_shift(pairs, np.uint64(32), out=words)
        pairs += words
        pairs &= np.uint64(0x3FFFF)
        noise = pairs.astype(np.float64)
        noise -= _WORDS_MEAN
        noise /= _WORDS_STD
        return noise

    def _raw(self, n: int) -> NDArray[np.uint64]:
        return np.asarray(self._bits.random_raw(n), dtype=np.uint64)
