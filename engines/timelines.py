"""Which recordings are cut out of the same sound, and where each lies in it.

Pairs of recordings that hold the same sound are known with their shift. Copies of copies belong together too, whichever
pairs were looked at: the recordings that are linked, directly or through others, lie on one *timeline*. Times in s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """The recording `second` begins `shift_s` after the recording `first`; before it where that is negative."""

    first: int
    second: int
    shift_s: float


def lay_out(links: Iterable[Link]) -> list[dict[int, float]]:
    """The timelines that links make: of each the recordings on it, sorted, and where they begin.

    The first of each begins at 0. Takes time in proportion to the links; where those of a ring disagree by a little,
    as measured shifts do, the shortest way from the first recording counts.
    """
    steps: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for link in links:
        steps[link.first].append((link.second, link.shift_s))
        steps[link.second].append((link.first, -link.shift_s))
    found: list[dict[int, float]] = []
    seen: set[int] = set()
    for start in sorted(steps):
        if start not in seen:
            begins = _reach(start, steps)
            seen.update(begins)
            found.append(dict(sorted(begins.items())))
    return found


def _reach(start: int, steps: dict[int, list[tuple[int, float]]]) -> dict[int, float]:
    """Where everything that can be reached begins, breadth first."""
    begins = {start: 0.0}
    frontier = [start]
    while frontier:
        reached = [(other, begins[one] + shift) for one in frontier for other, shift in steps[one]]
        frontier = []
        for other, begin in reached:
            if other not in begins:
                begins[other] = begin
                frontier.append(other)
    return begins
