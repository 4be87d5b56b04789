"""What a package brought for one asset, and what was wrong with it, for the asset's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.problems import Severity
from tasks.report.words import Said, Words

if TYPE_CHECKING:
    from tasks.report.pages import AssetPage, Fault

COUNTED = ("target", "known_target", "normals", "source", "test", "supplemental", "quarantined")
"""Counts of an intake, in the order of the page."""
_TONES = {Severity.ERROR: "bad", Severity.REJECT: "bad", Severity.WARN: "caution"}
_WORDS = {Severity.ERROR: "reject", Severity.REJECT: "reject", Severity.WARN: "warn"}


@dataclass(frozen=True)
class FaultLine:
    """A fault of the asset's recordings and its remedy."""

    verdict: str
    tone: str
    recordings: int
    title: Said
    remedy: Said


@dataclass(frozen=True)
class Received:
    """Counts (name, number) of what came, and the faults."""

    counts: Sequence[tuple[str, int]]
    faults: Sequence[FaultLine]


def describe_received(page: AssetPage, say: Words) -> Received:
    """The section of the page; without an intake no counts."""
    counts = [] if page.intake is None else [(say(f"received.{name}"), getattr(page.intake, name)) for name in COUNTED]
    return Received(counts=counts, faults=[_fault_line(fault, say) for fault in page.faults])


def _fault_line(fault: Fault, say: Words) -> FaultLine:
    return FaultLine(
        verdict=say(f"quality.{_WORDS[fault.severity]}"),
        tone=_TONES[fault.severity],
        recordings=fault.recordings,
        title=say.message(*fault.problems),
        remedy=say.remedy(fault.problems[0]),
    )
