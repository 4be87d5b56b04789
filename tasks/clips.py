"""One row of a package's table with its file, and what the gate found out about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.quality import SignalMeasures
from engines.standardize import Sensor
from schemas.problems import Problem, Severity
from schemas.rules import report
from schemas.settings import QaLimits

AssetKey = tuple[str, str]
"""(machine_type, section_id) of one customer."""


class ClipVerdict(StrEnum):
    """What becomes of one clip."""

    OK = "ok"
    WARN = "warn"
    REJECT = "reject"


@dataclass(frozen=True)
class SoundMeasures:
    """What was read off the spectrum of a recording that sounds at all, mixed to one channel."""

    band_hz: float
    """Upper end of the band that it really holds."""
    lost_energy: float
    """Share of its energy above the band that is listened to, 0-1."""
    hum_ratio: float
    """Share of its energy in the comb of `mains_hz`, 0-1."""
    mains_hz: float
    """50 or 60, whichever comb holds more."""
    speech_ratio: float
    """Share of the time in which somebody seems to speak, 0-1; 0 for accelerometers."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """What is kept of a recording to hold it against others: a kilobyte."""

    fingerprint: NDArray[np.int8]
    """Of `engines.fingerprints`."""
    windows: NDArray[np.int8]
    """Of `engines.excerpts`: half a kilobyte for every two seconds."""
    profile_db: NDArray[np.float32]
    """Third-octave levels of `engines.spectra`, dB."""
    channels_db: tuple[NDArray[np.float32], ...]
    """The same of every channel; nothing of a recording of one channel."""
    samples: int
    """Of the whole recording in standard form."""


@dataclass
class Clip:
    """One row of the table, its file, and what was found about them."""

    row: int
    clip_id: str
    path: str
    asset: AssetKey
    split: str
    domain: str
    label: str
    sensor: Sensor
    standard_rate: int
    """Hz at which its machine type is listened to."""
    file_is_there: bool = False
    measures: SignalMeasures | None = None
    sound: SoundMeasures | None = None
    sketch: Sketch | None = None
    problems: list[Problem] = field(default_factory=list)
    """Of this clip's signal."""
    breaches: list[str] = field(default_factory=list)
    """Rules of the table and the archive that this clip's row or file breaks, or its asset."""

    @property
    def verdict(self) -> ClipVerdict:
        if self.breaches or any(problem.severity is Severity.REJECT for problem in self.problems):
            return ClipVerdict.REJECT
        return ClipVerdict.WARN if self.problems else ClipVerdict.OK

    @property
    def is_good(self) -> bool:
        return self.verdict is not ClipVerdict.REJECT

    @property
    def reasons(self) -> list[str]:
        return list(dict.fromkeys([*self.breaches, *(problem.rule for problem in self.problems)]))

    def add(self, rule: str, *, limits: QaLimits | None = None, **facts: Any) -> None:
        """Note a problem of this clip's signal."""
        place = {"file": self.path, "row": self.row, "clip_id": self.clip_id}
        self.problems.append(report(rule, limits=limits, **place, **facts))
