"""Every setting of ALP, as frozen pydantic models with a described field each.

Two kinds: `Settings` change what a run computes and enter its `run_id`; `Environment` says where things
are (store, folders) and is read from `ALP_*` variables. YAML fills models, it never builds objects.

Units: seconds, hertz, linear full scale (0-1) unless a name says dB.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import UsageError
from schemas.forms import shared_quantity
from schemas.machine_types import MachineType, MachineTypes, with_own_types
from schemas.settings_base import Settings as Settings

EngineChoice = Literal["auto", "a", "b", "c", "ensemble"]
EncoderChoice = Literal["auto", "ast", "lite0", "logmel"]
Language = Literal["en", "ko"]


class ArchiveLimits(Settings):
    """What a package may weigh; counted while it is read, never believed from a header."""

    max_entries: int = Field(default=50_000, gt=0, description="Files in the archive.")
    max_file_bytes: int = Field(default=512 * 2**20, gt=0, description="Unpacked size of one file.")
    max_total_bytes: int = Field(default=64 * 2**30, gt=0, description="Unpacked size of all files.")
    max_ratio: float = Field(default=200.0, gt=1, description="Unpacked over packed size, beyond `ratio_from_bytes`.")
    ratio_from_bytes: int = Field(
        default=16 * 2**20,
        gt=0,
        description="Smaller files may pack as they like: a dead sensor's silence packs 1000:1.",
    )
    max_table_bytes: int = Field(default=64 * 2**20, gt=0, description="Size of metadata.csv.")
    max_table_columns: int = Field(default=500, gt=0, description="Columns of metadata.csv.")
    max_cell_chars: int = Field(default=1000, gt=0, description="Characters of one cell of metadata.csv.")


class QaLimits(Settings):
    """Limits of the signal checks. A clip beyond a `reject` limit is quarantined, beyond `warn` only named."""

    min_duration_s: float = Field(default=1.0, gt=0, description="Shorter clips hold too little of a machine's cycle.")
    max_duration_s: float = Field(default=3600.0, gt=0, description="Longer files are recordings to cut, not clips.")
    min_sample_rate: int = Field(default=500, gt=0, description="Below this no machine sound is left.")
    max_sample_rate: int = Field(default=384_000, gt=0, description="Above this a header is not to be believed.")
    max_channels: int = Field(default=8, gt=0, description="More channels than any plant microphone has.")
    max_samples: int = Field(default=2**28, gt=0, description="Frames × channels of one file: 1 GiB as float32.")
    reject_rms: float = Field(default=1e-5, ge=0, description="RMS below this (-100 dBFS) is an unplugged sensor.")
    warn_rms: float = Field(default=1e-3, ge=0, description="RMS below this (-60 dBFS) wastes the converter.")
    warn_clipping_ratio: float = Field(default=1e-3, ge=0, le=1, description="Share of samples at full scale.")
    reject_clipping_ratio: float = Field(default=0.5, ge=0, le=1, description="Above this the waveform is lost.")
    reject_over_range_ratio: float = Field(
        default=1e-4, ge=0, le=1, description="Share of samples beyond twice full scale, which would be cut off."
    )
    warn_silence_ratio: float = Field(default=0.2, ge=0, le=1, description="Share of time in digital silence.")
    reject_silence_ratio: float = Field(default=0.9, ge=0, le=1, description="Above this there is nothing to hear.")
    warn_dc_offset: float = Field(default=0.05, ge=0, le=1, description="Absolute mean of the samples.")
    warn_stuck_ratio: float = Field(
        default=0.02, ge=0, le=1, description="Share of time at which the sensor stands still at a value."
    )
    warn_gap_ratio: float = Field(default=0.02, ge=0, le=1, description="Share of time 40 dB below the usual level.")
    warn_bits: float = Field(default=11.0, gt=0, le=16, description="Bits that the samples really use.")
    warn_band_ratio: float = Field(
        default=0.9, gt=0, le=1, description="Share of the band listened to that the recording really holds."
    )
    warn_mono_ratio: float = Field(
        default=0.2, ge=0, le=1, description="Power of the microphones' mean, over that of unrelated microphones."
    )
    warn_hum_ratio: float = Field(default=0.75, ge=0, le=1, description="Share of energy in the comb of the mains.")
    warn_speech_ratio: float = Field(default=0.1, ge=0, le=1, description="Share of time in which somebody speaks.")
    warn_odd_level_db: float = Field(
        default=6.0, gt=0, description="How far a normal's level may be from the two nearest of its asset."
    )
    warn_odd_spectrum_db: float = Field(
        default=6.0, gt=0, description="How far a normal's spectrum may be from the two nearest of its asset."
    )
    copy_coherence: float = Field(
        default=0.4, gt=0, le=1, description="From here on two files hold the same recording; others reach 0.17."
    )
    copy_overlap: float = Field(
        default=0.8, gt=0, le=1, description="Share of a recording that another one must hold to be a copy of it."
    )
    min_normals: int = Field(
        default_factory=lambda: int(shared_quantity("min_normals")),
        ge=3,
        description="Good target normals an asset needs before it can be judged; by default what the form says.",
    )
    recommended_normals: int = Field(
        default_factory=lambda: int(shared_quantity("recommended_normals")),
        ge=3,
        description="Good target normals we ask a plant for; by default what the form says.",
    )


class StandardizeSettings(Settings):
    """The one form every later step reads: mono, one rate, segments."""

    sample_rate: int = Field(default=16_000, gt=0, description="Hz; a machine type's YAML may say otherwise.")
    segment_s: float = Field(
        default_factory=lambda: shared_quantity("clip_s"),
        gt=0,
        description="Longer recordings are cut into pieces of this length; by default the form's clips.",
    )
    warn_lost_energy: float = Field(default=0.1, ge=0, le=1, description="Share of energy above the new Nyquist.")


class RoutingSettings(Settings):
    """What an engine needs before the router trusts it with an asset; counts are normal recordings."""

    min_source: int = Field(default=30, ge=1, description="Source normals of the machine type that engine B needs.")
    min_source_c: int = Field(default=200, ge=1, description="Source normals that engine C needs.")
    min_columns: int = Field(default=2, ge=1, description="Condition columns that must qualify for engine C.")
    min_filled: float = Field(default=0.95, gt=0, le=1, description="Share of source normals that name a condition.")
    min_class: int = Field(default=5, ge=2, description="Source normals a value needs to count as a class.")
    significance: float = Field(
        default=0.01,
        ge=1e-4,
        lt=1,
        description="A condition is true if shuffled labels are told from the sound so well only this often, all"
        " columns taken together.",
    )
    forbid: tuple[Literal["a", "b", "c"], ...] = Field(
        default=(), description="Engines that must not be used: `auto` and `ensemble` leave them out, naming one fails."
    )
    clean_machine: bool = Field(default=False, description="Clean-machine clips (supp_type=machine) count as source.")


_WATCHED_BY = {"hold_off_s", "rearm_clips", "drift_window", "drift_alarms_per_year"}
"""Of an `AlarmPolicy`, what a model does not depend on."""


class AlarmPolicy(Settings):
    """How many false alarms a plant will bear, and how often it listens."""

    false_alarms_per_day: float = Field(default=1.0, gt=0, description="The budget.")
    clips_per_day: float = Field(default=1440.0, gt=0, description="The cadence: one clip a minute is 1,440 a day.")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="Of bounds that hold for one calibration set.")
    rule: Literal["auto", "clip", "m_of_n"] = Field(
        default="auto",
        description="`clip`: one clip above the threshold alarms. `m_of_n`: so many of the last few must be high."
        " `auto`: the clip rule where the normals carry the budget by it, else the quickest m of n that keeps it.",
    )
    max_window: int = Field(
        default=10, ge=1, le=100, description="Clips an m-of-n rule may look back on: the longest a detection may wait."
    )
    hold_off_s: float = Field(
        default=3600.0, ge=0, le=30 * 86400, description="After an alarm no other one of that machine for this long."
    )
    rearm_clips: int = Field(
        default=3, ge=1, le=1000, description="Clips in a row below the threshold that end an alarm."
    )
    calibration: Literal["auto", "leave_one_out", "split"] = Field(
        default="auto",
        description="Where the normal scores come from. `split`: recordings kept from the engine; `leave_one_out`:"
        " each recording judged without itself; `auto`: split where half of the normals carry the budget.",
    )
    drift_window: int = Field(
        default=200, ge=10, le=10_000, description="Clips compared with the calibration at a time; none counts twice."
    )
    drift_alarms_per_year: float = Field(
        default=1.0, gt=0, description="The budget of false drift verdicts a machine, on average over calibrations."
    )

    @model_validator(mode="after")
    def _is_a_budget(self) -> AlarmPolicy:
        if self.false_alarms_per_day > self.clips_per_day:
            raise ValueError(
                f"false_alarms_per_day {self.false_alarms_per_day:g} is more than the {self.clips_per_day:g} recordings"
                " judged a day (clips_per_day), of which each can ring once; give a smaller budget"
            )
        return self

    @property
    def alpha(self) -> float:
        """Probability of a false alarm that one clip may have."""
        return min(1.0, self.false_alarms_per_day / self.clips_per_day)

    def calibration_digest(self) -> str:
        """Sixteen hex digits that change with what decides a model and its threshold: not with what is only watched by.

        Hold-off, re-arming and drift can be changed while a machine is watched, by the same model.
        """
        kept = self.model_dump(mode="json", exclude=_WATCHED_BY)
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


class Kpi(Settings):
    """What the customer calls good enough."""

    metric: Literal["auc", "pauc", "official", "alarms_per_day", "miss_rate"] = Field(
        default="auc",
        description="`official`: harmonic mean of the source's AUC, the target's AUC and the partial AUC (DCASE 2023)."
        " `miss_rate`: share of labelled anomalies that do not count towards an alarm.",
    )
    target: float = Field(
        default=0.95,
        ge=0,
        description="At least, of auc, pauc and official; at most, of alarms_per_day and miss_rate. All but alarms a"
        " day lie in 0-1.",
    )

    @model_validator(mode="after")
    def _is_within_reach(self) -> Kpi:
        if self.metric != "alarms_per_day" and self.target > 1:
            raise ValueError(f"a target of {self.metric} lies in 0-1, and {self.target:g} does not: 95 % is 0.95")
        return self


class GrowthPolicy(Settings):
    """When a machine type's models are to learn anew, by what the library gained since they last did.

    Due is a retraining once there are `recordings` new normals, or `share` as many as there were then. Where none were,
    `recordings` alone decides: any number is more than nothing.
    """

    recordings: int = Field(default=30, ge=1, description="New normal recordings of the type.")
    share: float = Field(
        default=0.2, gt=0, description="New normal recordings over those of the last retraining: 0.2 is 20 %."
    )

    def is_passed(self, *, new: int, before: int) -> bool:
        """Whether so many new recordings, beside those that were there before, make a retraining due."""
        return new >= self.recordings or (before > 0 and new >= self.share * before)


class OnboardSettings(Settings):
    """All that decides what an onboarding computes."""

    engine: EngineChoice = Field(default="auto", description="`auto` lets the router choose.")
    encoder: EncoderChoice = Field(default="auto", description="`auto` takes the best whose weights are here.")
    archive: ArchiveLimits = ArchiveLimits()
    qa: QaLimits = QaLimits()
    standardize: StandardizeSettings = StandardizeSettings()
    routing: RoutingSettings = RoutingSettings()
    alarm: AlarmPolicy = AlarmPolicy()
    kpi: Kpi = Kpi()
    language: Language = Field(default="en", description="Of the report.")
    seed: int = Field(default=0, ge=0, description="Of everything drawn at random.")
    machine_types: tuple[MachineType, ...] = Field(
        default=(), description="The customer's own machine types, beside the built-in ones or instead of one."
    )

    @model_validator(mode="after")
    def _share_no_spelling(self) -> OnboardSettings:
        try:
            _ = self.known_machine_types
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def known_machine_types(self) -> MachineTypes:
        """Every machine type that a table of this customer may name, by id."""
        return with_own_types(self.machine_types)

    def sample_rate_of(self, machine_type: str) -> int:
        """Hz of a machine type's standardized clips."""
        kind = self.known_machine_types.get(machine_type)
        return (kind.sample_rate if kind else None) or self.standardize.sample_rate


class Environment(BaseSettings):
    """Where things are on this machine, from `ALP_*` variables."""

    model_config = SettingsConfigDict(env_prefix="ALP_", frozen=True, extra="ignore")

    store: str = Field(default="file://./alp-data", description="URL of the object store.")
    customers: str = Field(default="./customers", description="Folder with a YAML file for each customer.")
    retraining: str | None = Field(
        default=None, description="YAML file that says when to retrain; default: ./retraining.yaml, if there is one."
    )
    backup: str | None = Field(default=None, description="URL of the place where backups lie, by default none.")
    platform: str = Field(
        default="./alp-platform",
        description="Folder of the local platform that `alp up` starts; commands use what runs there. Empty: none.",
    )
    cache: str | None = Field(default=None, description="Folder for unpacked weights; default: the user's cache.")
    ast_weights: str | None = Field(
        default=None, description="Folder with AST's weights; default: where `alp encoder fetch ast` put them."
    )
    ast_precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="Of encoder ast; auto: bfloat16 where the processor computes in it."
    )
    allow_download: bool = Field(default=False, description="Whether `alp encoder fetch` may use the network.")
    link_base: str | None = Field(
        default=None,
        description="Address under which people find the store's objects, such as https://files.plant.example/alp; put"
        " before keys in messages. Default: the store's own URL.",
    )
    link_hours: float = Field(
        default=24.0,
        ge=0.01,
        le=168,
        description="How long links in the Prefect UI to pages of a store in a bucket hold; at most a week.",
    )
    runner: Literal["threads", "processes", "dask"] = Field(
        default="threads",
        description="What steps over many machines and portions of clips run on: threads or processes here, or workers"
        " of a Dask cluster. It changes no result.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Steps at a time, where they run here; default: one a core, at most four.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Threads that a step in a process of its own computes on; default: its share of the cores.",
    )
    dask_scheduler: str | None = Field(
        default=None,
        description="Address of a Dask scheduler, such as tcp://10.0.0.5:8786, on a network that nobody else can reach;"
        " default: a cluster on this machine, for the length of a run.",
    )
    log_format: Literal["plain", "json"] = Field(
        default="plain",
        description="Of what `alp`, and the server, the worker and the runs of `alp up`, write to their logs; json: a"
        " JSON object a line, with customer, machine, package, run and stage.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1024,
        le=65535,
        description="Port of loopback at which the worker of `alp up` tells its metrics to Prometheus; its server then"
        " does at /api/metrics. Default: neither does.",
    )
    smtp: SecretStr | None = Field(
        default=None, description="Mail server for `alp alarms connect --email`, smtp://user:password@host:587."
    )
    sendgrid_key: SecretStr | None = Field(default=None, description="The same, where SendGrid sends the mail.")
