"""A customer as code: `customers/<name>.yaml`, what is onboarded and watched for whom, when, and by which settings.

The file fills `Customer`, and `alp deploy` makes of it two deployments, `onboard/<name>` and `monitor/<name>`. A key
that is left out keeps its default; `name` alone must be there.

    name: acme
    time_zone: Asia/Seoul
    schedule: {onboard: "*/15 * * * *", monitor: "*/5 * * * *"}
    machine_types: {compressor: , mixer: {en: mixer, ko: 믹서}}

Times of a schedule are of the customer's time zone; retention is in days.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from schemas.crons import check_cron
from schemas.errors import UsageError
from schemas.machine_types import MACHINE_TYPE_ID, MachineType, fold, load_machine_types, spelling_index
from schemas.settings import (
    AlarmPolicy,
    EncoderChoice,
    EngineChoice,
    Kpi,
    Language,
    OnboardSettings,
    QaLimits,
    RoutingSettings,
)
from schemas.settings_base import Settings
from schemas.settings_file import KEYS
from schemas.time_zones import check_time_zone
from schemas.yaml_files import place_in, read_mapping
from schemas.yaml_models import fill_model

SLUG = r"[a-z0-9]+(-[a-z0-9]+)*"
"""What may be a name in the store's keys."""
LONGEST_NAME = 48
_INBOX = r"^inbox(/[^/\\\x00-\x1f\x7f.][^/\\\x00-\x1f\x7f]*)+$"


class Schedule(Settings):
    """When the customer's two flows start, by cron in the customer's time zone; none: by hand alone."""

    onboard: str | None = Field(
        default="*/15 * * * *", description="When the inbox is looked into; cron, in quotes. null: by hand alone."
    )
    monitor: str | None = Field(
        default="*/5 * * * *", description="When new recordings are judged; cron, in quotes. null: by hand alone."
    )

    @field_validator("onboard", "monitor")
    @classmethod
    def _is_cron(cls, cron: str | None) -> str | None:
        return None if cron is None else check_cron(cron)


class Retention(Settings):
    """How long what the customer sent is kept."""

    recordings_days: int | None = Field(
        default=None,
        ge=1,
        description="Days after which a recording that was judged is deleted below recordings/; null: it is kept."
        " Alarms keep their own sound, and packages are never deleted.",
    )


class Contact(Settings):
    """Whom to ask about a run; alarms are told by `alp alarms connect`."""

    name: str = Field(min_length=1, description="Who it is.")
    email: str | None = Field(default=None, pattern=r"^[^@\s,]+@[^@\s,]+$", description="An e-mail address.")
    phone: str | None = Field(default=None, min_length=1, description="A telephone number, in quotes.")
    role: str | None = Field(default=None, min_length=1, description="What they answer for.")

    @property
    def line(self) -> str:
        """All of it in a line."""
        return ", ".join(dict.fromkeys(part for part in (self.name, self.role, self.email, self.phone) if part))


class Customer(Settings):
    """One customer."""

    name: str = Field(description="The file's own name: at most 48 lower-case letters, digits and single hyphens.")
    inbox: str | None = Field(
        default=None, description="Folder of the store where packages are dropped; left out: inbox/<name>."
    )
    schedule: Schedule = Field(default=Schedule(), description="When the two flows start.")
    time_zone: str = Field(default="UTC", description="IANA name of the schedule's time zone, such as Asia/Seoul.")
    machine_types: Mapping[str, MachineType | None] = Field(
        default_factory=dict,
        description="Machines there are, by type: nothing behind a type that ALP knows, names behind one of their own.",
    )
    engine: EngineChoice = Field(default="auto", description="`auto` lets the router choose.")
    encoder: EncoderChoice = Field(default="auto", description="`auto` takes the best whose weights are here.")
    routing: RoutingSettings = Field(
        default=RoutingSettings(), description="What an engine needs, and who is forbidden."
    )
    qa: QaLimits = Field(default_factory=QaLimits, description="Limits of the quality gate.")
    alarm: AlarmPolicy = Field(default=AlarmPolicy(), description="How many false alarms the plant will bear.")
    kpi: Kpi = Field(default=Kpi(), description="What the customer calls good enough.")
    language: Language = Field(default="en", description="Of reports and alarms: en or ko.")
    seed: int = Field(default=0, ge=0, description="Of everything drawn at random.")
    share_source: bool | None = Field(
        default=None,
        description="Whether the normals may serve other customers: true or false. Left out: as `alp library` says.",
    )
    retention: Retention = Field(default=Retention(), description="How long recordings are kept.")
    contacts: tuple[Contact, ...] = Field(default=(), description="Whom to ask: name, email, phone, role of each.")

    @field_validator("name")
    @classmethod
    def _is_slug(cls, name: str) -> str:
        if not re.fullmatch(SLUG, name) or len(name) > LONGEST_NAME:
            raise ValueError("it cannot be used as a name in the store")
        return name

    @field_validator("inbox")
    @classmethod
    def _is_inbox(cls, inbox: str | None) -> str | None:
        if inbox is not None and not re.fullmatch(_INBOX, inbox):
            raise ValueError("it lies below inbox/, such as inbox/acme, with no slash at its end and no dot first")
        return inbox

    @field_validator("machine_types", mode="before")
    @classmethod
    def _give_types_their_ids(cls, types: Any) -> Any:
        if isinstance(types, list):
            first = types[0] if types and isinstance(types[0], str) else "compressor"
            raise ValueError(f"each type is a key of its own, with a colon behind it and no hyphen before: `{first}:`")
        if not isinstance(types, dict):
            return types
        for key, kind in types.items():
            _require_names(str(key), kind)
        return {
            key: {"id": str(key), **kind} if isinstance(kind, dict) and "id" not in kind else kind
            for key, kind in types.items()
        }

    @field_validator("machine_types")
    @classmethod
    def _know_every_type(cls, types: Mapping[str, MachineType | None]) -> Mapping[str, MachineType | None]:
        known = load_machine_types()
        for key, kind in types.items():
            if kind is None and key not in known:
                raise ValueError(_unknown_type(key, known))
            if kind is not None and kind.id != key:
                raise ValueError(f"machine type {key!r} calls itself {kind.id!r}; leave its id out")
            _require_form(kind)
        try:
            OnboardSettings(machine_types=tuple(kind for kind in types.values() if kind))
        except ValueError as error:
            raise ValueError(_first_line(error)) from error
        return types

    @field_validator("time_zone")
    @classmethod
    def _is_time_zone(cls, name: str) -> str:
        return check_time_zone(name)

    @property
    def inbox_folder(self) -> str:
        """Prefix of the store, without its last slash, where packages are dropped."""
        return self.inbox or f"inbox/{self.name}"

    def settings(self) -> OnboardSettings:
        """What an onboarding of this customer's packages computes by."""
        own = tuple(kind for kind in self.machine_types.values() if kind is not None)
        return OnboardSettings(machine_types=own, **{name: getattr(self, name) for name in KEYS})

    @property
    def tags(self) -> tuple[str, ...]:
        """By which runs and deployments are found in the Prefect UI."""
        return ("alp", f"customer:{self.name}", *(f"machine:{kind}" for kind in self.machine_types))


def read_customer(path: Path) -> Customer:
    """The customer that a YAML file describes.

    Raises
    ------
    UsageError
        The file cannot be read, or says what no customer has; the message names file, line, key, value and remedy, for
        all faults at once.
    """
    entries = read_mapping(
        path,
        what="the customer",
        wanted="a customer's keys are wanted, such as `name: acme`; see docs/customers.md",
        hint="A cron expression stands in quotes.",
    )
    place = place_in(path)
    customer = fill_model(Customer, entries, keys=tuple(Customer.model_fields), place=place, what="key")
    if customer.name != path.stem:
        raise UsageError(
            f"{place(['name'])}: name is {customer.name!r} in a file called {path.name}; call both the same"
        )
    return customer


def _require_form(kind: MachineType | None) -> None:
    """A ValueError where a type's own form states what makes none."""
    if kind is not None and (kind.form or kind.sample_rate):
        try:
            _ = kind.recording_form
        except UsageError as error:
            raise ValueError(str(error)) from error


def _require_names(key: str, kind: Any) -> None:
    """A ValueError where what stands behind a type cannot be the names of one of the customer's own."""
    if kind is None or isinstance(kind, MachineType):
        return
    if not isinstance(kind, dict):
        raise ValueError(
            f"behind {key} stands {kind!r}; leave it empty where ALP knows the type, or write its names:"
            f" {_own_type(key)}"
        )
    if not re.fullmatch(MACHINE_TYPE_ID, key):
        raise ValueError(
            f"{key!r} would be a name in the store, which takes lower-case letters, digits and underscores: write"
            f" {_own_type(key)}"
        )


def _unknown_type(key: str, known: Mapping[str, MachineType]) -> str:
    if meant := spelling_index(known).get(fold(key)):
        return f"ALP calls that machine type by another name; did you mean `{meant}:`?"
    near = difflib.get_close_matches(key, known, n=1)
    return (
        f"ALP knows no machine type {key!r}; "
        + (f"did you mean {near[0]}? Else name it" if near else "name it")
        + f": {_own_type(key)}. It knows {', '.join(known)}"
    )


def _own_type(key: str) -> str:
    """How a type of one's own is written, under a key that may be one."""
    plain = re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_")
    if not key.isascii() or not re.fullmatch(MACHINE_TYPE_ID, plain):
        return f"`mixer: {{en: mixer, ko: {key}}}`"
    return f"`{plain}: {{en: {key}}}`"


def _first_line(error: ValueError) -> str:
    """What pydantic found, without its frame."""
    found = getattr(error, "errors", None)
    return str(found(include_url=False)[0]["msg"]).removeprefix("Value error, ") if found else str(error)
