"""When machine types learn anew, as a YAML file says it: one for all customers, beside whoever deploys.

    growth: {recordings: 30, share: 0.2}
    rest_minutes: 15
    sweep: "17 3 * * *"
    time_zone: Asia/Seoul

Every key may be left out. Times are of the file's time zone.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from schemas.crons import check_cron
from schemas.settings import GrowthPolicy
from schemas.settings_base import Settings
from schemas.time_zones import check_time_zone
from schemas.yaml_files import place_in, read_mapping
from schemas.yaml_models import fill_model


class Retraining(Settings):
    """When retrainings start."""

    growth: GrowthPolicy = Field(
        default=GrowthPolicy(), description="What makes one due: {recordings: 30, share: 0.2}, whichever comes first."
    )
    rest_minutes: float = Field(
        default=15.0,
        ge=0,
        le=120,
        description="Minutes between the package by which one became due and its start: what else comes by then is in.",
    )
    sweep: str | None = Field(
        default="17 3 * * *",
        description="When every type is looked at, told of or not; cron, in quotes. null: by events and by hand alone.",
    )
    time_zone: str = Field(default="UTC", description="IANA name of the sweep's time zone, such as Asia/Seoul.")

    @field_validator("sweep")
    @classmethod
    def _is_cron(cls, cron: str | None) -> str | None:
        return None if cron is None else check_cron(cron)

    @field_validator("time_zone")
    @classmethod
    def _is_time_zone(cls, name: str) -> str:
        return check_time_zone(name)


def read_retraining(path: Path) -> Retraining:
    """What a YAML file says of retraining.

    Raises
    ------
    UsageError
        The file cannot be read, or says what it may not; the message names file, line, key, value and remedy, for all
        faults at once.
    """
    entries = read_mapping(
        path,
        what="when to retrain",
        wanted="its keys are wanted, such as `rest_minutes: 15`; see docs/customers.md",
        hint="A cron expression stands in quotes.",
    )
    return fill_model(Retraining, entries, keys=tuple(Retraining.model_fields), place=place_in(path), what="key")
