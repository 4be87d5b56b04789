"""Coresets: the few patches that cover many, where a memory must not hold them all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.patches import aligned


def farthest_points(patches: NDArray[np.float32], count: int, *, start: int) -> NDArray[np.int64]:
    """Which `count` patches cover all of them best: greedy k-centres by cosine, int64 (count,), `start` first.

    Each next one is the patch that is farthest from those already taken; the largest distance of any patch to its
    nearest centre is then at most twice the least possible.

    `patches` float32 (n, dim) hold vectors of unit length, `count` ≤ n.

    Source: Gonzalez 1985; as a coreset Sener & Savarese 2018, of patches Roth et al. 2022 (PatchCore, algorithm 1),
    there after a random projection, which patches of at most some hundred dimensions and clips of a thousand patches
    do not need.
    """
    import torch

    known = torch.from_numpy(aligned(patches))
    taken = np.empty(count, dtype=np.int64)
    nearest = torch.full((len(known),), -2.0)
    chosen = start
    for i in range(count):
        taken[i] = chosen
        torch.maximum(nearest, known @ known[chosen], out=nearest)
        # A patch once taken is never the farthest, whatever rounding makes of its cosine with itself.
        nearest[chosen] = 2.0
        chosen = int(nearest.argmin())
    return taken
