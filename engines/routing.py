"""Which engine the data can carry: named criteria, each reported with value, limit, verdict and a sentence.

Engine A is the only one of this version; the criteria of further engines join the table when they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import RejectedError
from schemas.references import Criterion

MIN_TARGET_NORMALS = 3
"""Recordings engine A needs: two to remember when the third is left out, with something to compare between."""


@dataclass(frozen=True)
class AssetData:
    """What an asset has for engines to learn from, in recordings."""

    target_normals: int
    source_normals: int


def judge_criteria(data: AssetData, *, min_target: int = MIN_TARGET_NORMALS) -> list[Criterion]:
    """Every criterion of every engine, met or not."""
    met = data.target_normals >= min_target
    return [
        Criterion(
            engine="a",
            name="target_normals",
            value=data.target_normals,
            limit=min_target,
            met=met,
            sentence=f"A: {'yes' if met else 'no'}: {data.target_normals} normal recordings of this machine,"
            f" {min_target} needed",
        )
    ]


def choose_engine(criteria: Sequence[Criterion], *, wanted: str = "auto") -> tuple[str, str]:
    """The engine and the reason for it.

    Raises
    ------
    RejectedError
        No engine's criteria are met, or not those of the engine that was asked for.
    """
    unmet = {criterion.engine for criterion in criteria if not criterion.met}
    able = [engine for engine in dict.fromkeys(c.engine for c in criteria) if engine not in unmet]
    if wanted != "auto":
        if wanted not in able:
            raise RejectedError("; ".join(c.sentence for c in criteria if c.engine == wanted and not c.met))
        return wanted, f"engine {wanted.upper()} was asked for"
    if not able:
        raise RejectedError("; ".join(c.sentence for c in criteria if not c.met))
    chosen = able[-1]
    return chosen, next(c.sentence for c in criteria if c.engine == chosen)
