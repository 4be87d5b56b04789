"""Settings of the engines and of what they hear, as frozen pydantic models.

Units: seconds and hertz; levels in dB of full scale. Defaults were chosen on toy sounds and on one
set of real compressor recordings; any other set measures them.
"""

from __future__ import annotations

from typing import Literal

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
    max_patches: int = Field(
        default=20_000, ge=100, description="Patches kept a layer; above, a subsample of each clip's."
    )
    max_memory_mib: int = Field(
        default=64, ge=1, description="Size of all layers' patches; where it is reached first, fewer patches are kept."
    )
    subsample: Literal["random", "coreset"] = Field(
        default="coreset", description="Which patches of a clip are kept: any, or those far from one another."
    )
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


class MemoryBankSettings(Settings):
    """Engine B: what is kept of source and target normals, and how a distance becomes a score."""

    spread_share: float = Field(
        default=0.8, ge=0, le=1, description="Of a squared distance, the share of deviations over time; rest: of means."
    )
    distance: Literal["sqeuclidean", "cosine"] = Field(default="sqeuclidean", description="Between embeddings.")
    neighbours: int = Field(default=1, ge=1, description="Nearest embeddings of a bank that a distance averages over.")
    mixup: bool = Field(default=True, description="MemMixup: fill the target bank up with mixes.")
    mixup_lambda: float = Field(default=0.9, gt=0, le=1, description="Share of the target in a mix.")
    mixup_neighbours: int = Field(default=10, ge=1, description="Nearest sources that each target is mixed with.")
    normalization: Literal["zscore", "local_density", "none"] = Field(
        default="local_density",
        description="How distances to the two banks are made comparable, by training normals alone.",
    )
    shrinkage: float = Field(
        default=10.0,
        ge=0,
        description="Recordings that what is known beforehand of the target's distances weighs as much as: for zscore"
        " the source's relative spread, for local_density the targets' mean density; 0: not shrunk.",
    )
    std_floor_db: float = Field(default=1.0, gt=0, description="Bands that vary less are standardized as if by this.")
    max_image_s: float = Field(default=10.0, ge=1, description="Longer clips are encoded in equal pieces.")
    max_source: int = Field(default=2000, ge=2, description="Source recordings kept; above, a seeded subsample.")
    max_refits: int = Field(default=64, ge=2, description="Up to so many recordings each is left out alone.")
    seed: int = Field(default=0, ge=0, description="Of the subsample.")


class PrototypeSettings(Settings):
    """Engine C: the network that learns from conditions, its episodes, and how prototypes score."""

    front_end: LogMelSettings = LogMelSettings()
    columns: tuple[str, ...] = Field(
        default=(), description="Condition columns to learn from; none named: all that are filled well enough."
    )
    crop_s: float = Field(default=0.5, gt=0, description="What the network hears at once, for a band of 8 kHz.")
    embedding_dim: int = Field(default=64, ge=2, description="Size of an embedding.")
    train_mode: Literal["protonet", "reptile"] = Field(default="protonet", description="How episodes train.")
    episodes: int = Field(default=300, ge=1, description="Episodes that the source trains by.")
    ways: int = Field(default=5, ge=2, description="At most so many classes in an episode.")
    shots: int = Field(default=3, ge=1, description="Support recordings of a class in an episode.")
    queries: int = Field(default=5, ge=1, description="Query recordings of a class in an episode.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Of Adam.")
    reptile_steps: int = Field(default=5, ge=1, description="Reptile: steps on one task.")
    reptile_rate: float = Field(default=0.5, gt=0, le=1, description="Reptile: share of the way to what they reached.")
    time_budget_s: float = Field(default=120.0, gt=0, description="Training ends here even if episodes are left.")
    adapt: Literal["prototype", "finetune"] = Field(default="prototype", description="How the target's normals adapt.")
    finetune_steps: int = Field(default=20, ge=1, description="Episodes of the finetune.")
    space: Literal["features", "embedding"] = Field(
        default="features", description="Where distances are measured: before the last linear map, or after it."
    )
    score: Literal["distance", "nll"] = Field(
        default="nll", description="Squared distance to the nearest prototype, or with the source's variance within it."
    )
    variance_floor: float = Field(default=0.1, gt=0, description="Added to each variance, in mean variances.")
    source_prototypes: bool = Field(default=True, description="Whether the source's normals are prototypes too.")
    normalization: Literal["zscore", "none"] = Field(
        default="zscore", description="Of distances by those of the domain's own normals."
    )
    shrinkage: float = Field(
        default=10.0, ge=0, description="Source recordings that the target's spread is mixed with."
    )
    tail_fraction: float = Field(default=0.05, gt=0, le=1, description="Share of the highest crops in a score.")
    std_floor_db: float = Field(default=1.0, gt=0, description="Bands that vary less are standardized as if by this.")
    max_source: int = Field(default=1000, ge=10, description="Source recordings kept; above, a seeded subsample.")
    max_refits: int = Field(default=64, ge=2, description="Up to so many recordings each is left out alone.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where it trains; auto: CUDA if any.")
    seed: int = Field(default=0, ge=0, description="Of weights, episodes and the subsample.")


class EnsembleSettings(Settings):
    """How several engines become one."""

    rule: Literal["majority", "any", "all", "fisher"] = Field(
        default="majority",
        description="It rings when more than half of the engines ring, any of them, or all; fisher: the mean of all.",
    )
    max_refits: int = Field(default=10, ge=2, description="Every member is fitted again for so many groups left out.")
