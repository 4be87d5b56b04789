"""The small things that flows and tasks pass to each other: store keys, hashes and counts, never arrays.

Prefect serializes what crosses a task's border; a reference of a few hundred bytes costs nothing there, and a
worker on another machine needs nothing but the store to act on it. All are frozen pydantic models.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.problems import Problem
from schemas.settings import OnboardSettings


class Reference(BaseModel):
    """Base of all references: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reused: bool = Field(
        default=False, description="True: it lay in the store already, nothing was computed.", exclude=True
    )


class Verdict(StrEnum):
    """What the quality gate says of a package."""

    ACCEPTED = "accepted"
    ACCEPTED_WITH_QUARANTINE = "accepted_with_quarantine"
    REJECTED = "rejected"


class Package(Reference):
    """A customer's upload as it came."""

    customer: str
    package_id: str = Field(description="Hash of the sorted (path, content hash) pairs, 16 hex digits.")
    name: str = Field(description="What the customer called it.")
    raw_key: str = Field(description="Where the untouched upload lies in the store.")
    files: int
    bytes: int = Field(description="Unpacked size.")

    @property
    def short_id(self) -> str:
        """The first eight digits of the id, for names people read."""
        return self.package_id[:8]


class Run(Reference):
    """One piece of work: which package, with which settings and code, on which store."""

    run_id: str
    customer: str
    package_id: str
    store: str = Field(description="URL of the object store.")
    settings: OnboardSettings
    code_version: str
    library: str = Field(default="", description="Hash of all that other packages have given the library and ledgers.")


class AssetIntake(Reference):
    """What one package brings for one asset, after the quality gate."""

    machine_type: str
    section_id: str
    target: int = Field(description="Good normal recordings of the asset's own domain in this package.")
    source: int = Field(description="Good normal recordings of other domains.")
    test: int = Field(description="Recordings to judge.")
    supplemental: int = Field(description="Noise-only and clean-machine recordings.")
    quarantined: int = Field(description="Clips that are not good in themselves.")
    known_target: int = Field(default=0, description="Target normals the asset has from other packages.")
    normals: int = Field(description="Target normals in all, a recording that came twice counted once.")
    accepted: bool = Field(description="False: too few good normals; nothing of this asset is filed.")


class QualityReport(Reference):
    """What the quality gate found; the verdict per clip lies at `quality_key`."""

    package_id: str
    verdict: Verdict
    bad_input: bool = Field(description="True: the contract is broken (exit 3), not merely the sound poor (exit 4).")
    clips: int
    ok: int
    warned: int
    quarantined: int = Field(description="Clips held back for their sound, or with an asset of too few normals.")
    broken: int = Field(default=0, description="Clips whose row or file breaks the contract, in no other count.")
    synthetic: bool = Field(description="True: every row is marked synthetic, so nothing is proved about a plant.")
    assets: tuple[AssetIntake, ...]
    problems: tuple[Problem, ...]
    metadata_key: str | None = Field(description="The strict table; None where the contract is broken.")
    quality_key: str = Field(description="One row a clip: verdict, reasons, measures.")


class Statement(Reference):
    """What is stated of all recordings of a package together: for how many a rule holds, and whether that is enough."""

    rule: str
    needed: float = Field(description="Share of the clips, 0-1, for which the rule must hold.")
    kept: float = Field(description="Share of the clips for which it holds, of those that it can be told of.")
    holds: bool


class Asset(Reference):
    """One machine of one customer, at one version of its ledger."""

    customer: str
    machine_type: str
    section_id: str
    asset_id: str = Field(description="Slug of machine type and section, unique within the customer.")
    ledger_key: str = Field(description="The ledger as this run saw it.")
    ledger_version: str
    target: int = Field(description="Active target normal recordings on the ledger.")
    source: int = Field(description="Active source normal recordings on the ledger.")
    test: int = Field(description="Test clips on the ledger, each as often as it was sent.")


class Dataset(Reference):
    """A package in its standard form, joined to its assets' ledgers."""

    package_id: str
    metadata_key: str
    segments: int
    assets: tuple[Asset, ...]


class Source(Reference):
    """What an asset may learn from besides its own normals: other domains of itself, and the library."""

    asset: Asset
    key: str = Field(description="Ledger-like rows of the source, one a segment, as this run saw them.")
    version: str = Field(description="Hash of the recordings and of the conditions they name.")
    recordings: int = Field(description="Source normal recordings.")
    own: int = Field(description="Of these, how many the asset itself brought as another domain.")
    customers: tuple[str, ...] = Field(description="Whose recordings these are, sorted.")


class Criterion(Reference):
    """One question the router asked, and the answer."""

    engine: str
    name: str
    value: float
    limit: float
    met: bool
    sentence: str
    decisive: bool = Field(default=True, description="False: told for the reader; other criteria of it decide.")


class Selection(Reference):
    """Which engine judges an asset, and why."""

    asset: Asset
    source: Source
    engine: str
    encoder: str
    reason: str
    criteria: tuple[Criterion, ...]
    candidates: tuple[str, ...] = Field(
        default=(),
        description="Engines to be fitted: the chosen one, and those it must prove itself against, in that order.",
    )
    members: tuple[str, ...] = Field(default=(), description="Of an ensemble, the engines it is made of.")
    columns: tuple[str, ...] = Field(default=(), description="Condition columns that qualify, for engine C to learn.")


class Model(Reference):
    """A fitted engine in the store."""

    asset: Asset
    version: str = Field(description="Hash of the normals, the settings and the code it was fitted with.")
    prefix: str = Field(description="Folder of engine.json and all else that is kept of the model.")
    engine: str
    encoder: str
    caveats: tuple[str, ...] = Field(
        default=(), description="Sentences on why the same recordings, fitted again, may make another model."
    )


class Scores(Reference):
    """Raw scores of an asset's test recordings."""

    selection: Selection
    model: Model
    key: str
    recordings: int


class AssetResult(BaseModel):
    """The line of one asset in what `alp onboard --json` prints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine_type: str
    section_id: str
    engine: str
    encoder: str
    n_target: int
    n_source: int
    n_test: int
    auc: float | None
    pauc: float | None
    auc_source: float | None
    auc_target: float | None
    threshold: float | None = Field(description="None in a dry run, as all that follows from it.")
    certified: bool | None = Field(description="Of `alarms_per_day`.")
    alarms_per_day: float | None = Field(description="False alarms a day to expect by `rule`, on average.")
    report: str | None = Field(description="Store key of the asset's page; the command line prints its location.")
    rule: str | None = Field(default=None, description="High clips that make an alarm, of how many: `5 of 5`.")
    clips_per_day: float | None = Field(default=None, description="Recordings a day that `alarms_per_day` stands on.")
    grades: dict[str, int] | None = Field(default=None, description="Test clips by grade.")
    highest_severity: float | None = Field(default=None, description="Of a test clip, 0-100.")


class Calibrated(Reference):
    """An asset's threshold and what it decided."""

    scores: Scores
    threshold_key: str
    rule_key: str = Field(description="Which high clips make an alarm: `engines.alarm.AlarmRule`.")
    normals_key: str = Field(description="Scores of the normals that the threshold rests on, by recording id.")
    background_key: str | None = Field(description="What machine-off is told by; None without noise-only recordings.")
    result: AssetResult


Stage = Literal["ingest", "qa", "standardize", "select", "score", "calibrate", "report"]


class OnboardResult(BaseModel):
    """What `alp onboard --json` prints, but for locations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    package: str
    run_id: str
    verdict: Verdict
    quarantined: tuple[str, ...] = Field(description="Ids of the clips held back.")
    reused: tuple[Stage, ...] = Field(description="Stages whose stored outputs served again, wholly.")
    assets: tuple[AssetResult, ...]
