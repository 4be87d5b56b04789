"""Is a recording like those that the alarm was calibrated on? If not, its score may be low for the wrong reason.

An engine hears what a clip holds. A recorder whose gain fell, or that holds another band, can turn a screaming machine
into a low score, and a low score reads "normal". A recording of more pieces than the normals were cut into has more
chances to score high than the stated false-alarm rate counts with, since a recording's score is its highest piece's.

- `band`: the band it holds ends below `BAND_SLACK` of the lowest of the normals', or beyond their highest over it;
- `level`: its level is further outside of the normals' range than that range is wide, and than `LEVEL_SLACK_DB`;
- `longer`: it has more pieces than any normal. Only the false-alarm rate does not cover it; a low score stays one.

No distribution is assumed and nothing is certified: these are limits beyond which nobody compared anything.

Units: bands in Hz, levels in dB of full scale (of the deviation from the mean), lengths in s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from engines.base import ClipSet
from schemas.errors import InputError

Difference = Literal["band", "level", "longer"]
UNHEARD: frozenset[Difference] = frozenset({"band", "level"})
"""Differences for which a low score says nothing of the machine."""

BAND_SLACK = 0.9
"""As for the gate's `warn_band_ratio`: what the band of one recorder may lose from one recording to the next."""
LEVEL_SLACK_DB = 6.0
"""As for the gate's `warn_odd_level_db`, where normals are all alike."""
SILENCE_DB = -200.0
"""Level of digital silence."""


class Recorded(BaseModel):
    """How the normals of an asset were recorded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pieces: int = Field(ge=1, description="Most clips that one normal was cut into.")
    longest_s: FiniteFloat = Field(gt=0, description="Length of the longest normal.")
    band_hz: tuple[FiniteFloat, FiniteFloat] = Field(description="Lowest and highest band that a normal holds.")
    level_db: tuple[FiniteFloat, FiniteFloat] = Field(description="Lowest and highest level of a normal.")

    @classmethod
    def measure(cls, *normals: ClipSet) -> Recorded:
        """What all normals have in common; those held out from the engine too.

        Raises
        ------
        InputError : there is no clip, or one is broken.
        """
        found = [take for clips in normals for take in _takes(clips)]
        if not found:
            raise InputError("no normal recording is given; how they were recorded is measured on one at least")
        return cls(
            pieces=max(take.pieces for take in found),
            longest_s=max(take.length_s for take in found),
            band_hz=(min(take.band_hz for take in found), max(take.band_hz for take in found)),
            level_db=(min(take.level_db for take in found), max(take.level_db for take in found)),
        )

    def differences(self, clips: ClipSet) -> list[tuple[Difference, ...]]:
        """In what each recording differs, in `clips.recordings` order; empty where it is like the normals.

        Raises
        ------
        InputError : a clip is broken.
        """
        return [self._differences(take) for take in _takes(clips)]

    def _differences(self, take: _Take) -> tuple[Difference, ...]:
        (narrow, wide), (low, high) = self.band_hz, self.level_db
        slack = max(LEVEL_SLACK_DB, high - low)
        found: dict[Difference, bool] = {
            "band": not BAND_SLACK * narrow <= take.band_hz <= wide / BAND_SLACK,
            "level": not low - slack <= take.level_db <= high + slack,
            "longer": take.pieces > self.pieces,
        }
        return tuple(name for name, differs in found.items() if differs)


class _Take(BaseModel):
    """One recording, as it was recorded."""

    pieces: int
    length_s: float
    band_hz: float
    level_db: float


def _takes(clips: ClipSet) -> list[_Take]:
    """One a recording, in `clips.recordings` order."""
    samples: dict[str, list[int]] = {}
    energies: dict[str, list[float]] = {}
    bands: dict[str, list[float]] = {}
    rate = clips.clips[0].sample_rate if len(clips) else 1
    for clip, waveform in clips:
        samples.setdefault(clip.recording_id, []).append(waveform.size)
        energies.setdefault(clip.recording_id, []).append(_energy(waveform))
        bands.setdefault(clip.recording_id, []).append(clip.bandwidth_hz)
    return [
        _Take(
            pieces=len(samples[name]),
            length_s=sum(samples[name]) / rate,
            band_hz=min(bands[name]),
            level_db=_level_db(energies[name], samples[name]),
        )
        for name in clips.recordings
    ]


def _energy(waveform: NDArray[np.float32]) -> float:
    return float(np.var(waveform, dtype=np.float64) * waveform.size)


def _level_db(energies: Sequence[float], samples: Sequence[int]) -> float:
    power = sum(energies) / sum(samples)
    return 10 * math.log10(power) if power > 0 else SILENCE_DB
