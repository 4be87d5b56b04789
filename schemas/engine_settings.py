"""Settings of the engines and of what they hear, as frozen pydantic models.

Units: seconds and hertz; levels in dB of full scale. Defaults were chosen on toy sounds and on one
set of real compressor recordings; any other set measures them.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from schemas.settings import Settings


class LogMelSettings(Settings):
    """How a waveform becomes a log-mel spectrogram.

    Window and hop are given for a band of 8 kHz. For a band of B Hz both grow by √(8 kHz / B), and there are no more
    mel bands than the window can tell apart: 95 of 0-8 kHz through 32 ms, 62 of 0-500 Hz through 128 ms.
    """

    n_mels: int = Field(default=128, ge=8, description="At most so many mel bands.")
    window_s: float = Field(default=0.032, gt=0, description="Hann window for a band of 8 kHz.")
    hop_s: float = Field(default=0.016, gt=0, description="Step from window to window for a band of 8 kHz.")
    floor_db: float = Field(default=-120.0, lt=0, description="Power below this is silence, and reads as this.")


class PatchMemorySettings(Settings):
    """Engine A: what is remembered of the normals and how a map becomes a score."""

    tail_fraction: float = Field(default=0.05, gt=0, le=1, description="Share of the map's highest cells in a score.")
    neighbourhood: int = Field(default=3, ge=1, description="Patches are averaged over so many cells a side; odd.")
    max_patches: int = Field(default=20_000, ge=100, description="Patches kept a layer; above, a seeded subsample.")
    std_floor_db: float = Field(default=1.0, gt=0, description="Bands that vary less are standardized as if by this.")
    max_image_s: float = Field(default=10.0, ge=1, description="Longer clips are encoded in equal pieces.")
    max_refits: int = Field(default=32, ge=2, description="Up to so many recordings each is left out alone.")
    seed: int = Field(default=0, ge=0, description="Of the subsample.")

    @field_validator("neighbourhood")
    @classmethod
    def _require_a_middle(cls, cells: int) -> int:
        if cells % 2 == 0:
            raise ValueError("a neighbourhood has a cell in its middle: give an odd number")
        return cells
