"""All machines of a customer on one page: what covers each, how sure that is, and what it last said.

What an onboarding found out lies beside the model that it made, as a card (`card.json`); the page takes the champion's
card of each asset and what the monitor has filed since, which writes it anew (`tasks.fleet_upkeep`). It holds no clock
of its own: the same store gives the same page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import TYPE_CHECKING, Literal, get_args

import pandas as pd
from prefect import task
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from engines.alarm import AlarmRule, AlarmState
from schemas.errors import InputError
from schemas.machine_types import MachineType, MachineTypes, load_machine_types
from schemas.references import Model
from schemas.settings import AlarmPolicy, Kpi, Language
from tasks import keys
from tasks.alarms import alarm_stamp
from tasks.calibrating import Champion
from tasks.covering import Coverage, read_coverage
from tasks.drifting import read_drift
from tasks.ledger import Role, asset_ids, ledger_version, read_corrected
from tasks.pacing import Pace, read_pace
from tasks.store import ObjectStore, open_store
from tasks.watch_log import count_recordings, is_left_open, is_loud, part_keys, read_state

if TYPE_CHECKING:
    from tasks.report.pages import AssetPage

Status = Literal[
    "ringing",
    "uncovered",
    "blind",
    "unset",
    "drifted",
    "outrun",
    "changed",
    "unmet",
    "rehearsal",
    "unproven",
    "covered",
]
STATUSES: tuple[Status, ...] = get_args(Status)
"""What a machine's line says first, the most urgent first."""

_LANGUAGE = re.compile(rb'<html lang="([a-z]+)">')
_HEAD_BYTES = 1000


class AssetCard(BaseModel):
    """`card.json` of a model: what its onboarding concluded, in figures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine_type: str
    section_id: str
    run_id: str
    package: str = Field(description="What the customer calls the package that was onboarded.")
    report: str = Field(description="Store key of the asset's page.")
    engine: str
    encoder: str
    synthetic: bool
    rule: AlarmRule
    sureness: Literal["certified", "estimated", "modelled"]
    advice: Literal["go", "listen", "blind"]
    policy: AlarmPolicy
    kpi: Kpi
    kpi_status: Literal["met", "not_met", "unproven", "synthetic"]
    kpi_value: float | None
    longest_s: float | None = Field(default=None, description="Length of the longest normal, which the rate stands on.")
    faults: int = Field(description="Labelled faulty test recordings.")
    found: int = Field(description="Of these, how many are too high.")
    normals: int = Field(description="Labelled normal test recordings.")
    false_alarms: int = Field(description="Of these, how many are too high.")
    last_recorded: date | None = Field(description="Day of the newest recording that says when it was made.")
    own_type: MachineType | None = Field(
        default=None, description="What the customer calls its machine type, where that is one of its own."
    )


def card_key(customer: str, asset_id: str, version: str) -> str:
    """Where the card of a model lies."""
    return f"{keys.model(customer, asset_id, version)}/card.json"


def file_card(store: ObjectStore, page: AssetPage, model: Model, *, report: str) -> None:
    """Write the card of a model from its asset's page."""
    from tasks.report import verdicts

    asset = model.asset
    kpi = verdicts.judge_kpi(page.kpi, page.rule, page.metrics, synthetic=page.synthetic)
    seen = verdicts.observe(page.scores, page.rule)
    recorded = pd.to_datetime(page.context["recorded_at"].dropna().astype(str).str[:10], errors="coerce").max()
    card = AssetCard(
        machine_type=asset.machine_type,
        section_id=asset.section_id,
        run_id=page.run_id,
        package=page.package_name,
        report=report,
        engine=model.engine,
        encoder=model.encoder,
        synthetic=page.synthetic,
        rule=page.rule,
        sureness=verdicts.how_sure(page.rule),
        advice=verdicts.advise_on_ringing(page.rule, page.policy, page.scores),
        policy=page.policy,
        kpi=page.kpi,
        kpi_status=kpi.status,
        kpi_value=kpi.value,
        longest_s=page.longest_s,
        faults=seen.anomalies,
        found=seen.hits,
        normals=seen.normals,
        false_alarms=seen.false_alarms,
        last_recorded=None if pd.isna(recorded) else recorded.date(),
        own_type=_own_type(page.types, asset.machine_type),
    )
    store.put_model(card_key(asset.customer, asset.asset_id, model.version), card)


def _own_type(types: MachineTypes | None, machine_type: str) -> MachineType | None:
    kind = None if types is None else types.get(machine_type)
    return None if kind == load_machine_types().get(machine_type) else kind


class Watched(BaseModel):
    """What the monitor has judged of a machine by its champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judged: int
    refused: int = Field(description="Recordings that the quality gate refused; they are not among the judged.")
    last: AwareDatetime | None = Field(description="When the newest judged one was recorded; None where there is none.")
    alarm: AlarmState
    left_open: bool = Field(description="Whether the former model's alarm is on: its low clips have not come since.")
    picture: str | None = Field(description="Store key of the picture of the alarm that is on, where there is one.")
    sound: str | None = Field(description="Store key of its sound.")
    drifted: bool | None = Field(description="Whether it is to be recalibrated; None before a whole window was judged.")


class Machine(BaseModel):
    """One line of the fleet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: str
    machine_type: str
    section_id: str
    status: Status
    champion: Champion | None
    card: AssetCard | None = Field(description="Of the champion; None where an older version onboarded it.")
    recordings: dict[str, int] = Field(description="By role, corrections applied.")
    watched: Watched | None = Field(
        description="None where the monitor has judged nothing by the champion yet, and no alarm was left open."
    )
    coverage: Coverage | None = Field(description="Whether good recordings come; None where it was never watched.")
    pace: Pace | None = Field(description="How often they come, where that is known by the card's policy.")


class Fleet(BaseModel):
    """All machines of a customer, the most urgent first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    machines: tuple[Machine, ...]

    @property
    def types(self) -> MachineTypes:
        """Every machine type, the customer's own as its machines' champions know them."""
        own = [each.card.own_type for each in self.machines if each.card is not None and each.card.own_type is not None]
        return dict(load_machine_types()) | {kind.id: kind for kind in own}


def gather_fleet(store: ObjectStore, customer: str) -> Fleet:
    """Read what the store knows of every asset of a customer.

    Raises
    ------
    UsageError
        The customer's name cannot be used in the store.
    InputError
        The customer has no assets.
    """
    names = asset_ids(store, keys.check_customer(customer))
    if not names:
        raise InputError(
            f"customer {customer} has no assets in {store.url}; onboard a package, or give another --store"
        )
    machines = [_gather_machine(store, customer, name) for name in names]
    return Fleet(
        customer=customer,
        machines=tuple(sorted(machines, key=lambda machine: (STATUSES.index(machine.status), machine.asset))),
    )


def _gather_machine(store: ObjectStore, customer: str, asset_id: str) -> Machine:
    ledger = read_corrected(store, customer, asset_id)
    champion = store.find_model(keys.asset(customer, asset_id, "champion.json"), Champion)
    card = None if champion is None else store.find_model(card_key(customer, asset_id, champion.version), AssetCard)
    changed = champion is not None and champion.ledger_version != ledger_version(ledger)
    watched = _watched(store, customer, asset_id, champion, AlarmPolicy() if card is None else card.policy)
    coverage, pace = read_coverage(store, customer, asset_id), _pace(store, customer, asset_id, card)
    return Machine(
        asset=asset_id,
        machine_type=ledger["machine_type"].iloc[0],
        section_id=ledger["section_id"].iloc[0],
        status=_status(champion, card, watched, coverage, pace, changed=changed),
        champion=champion,
        card=card,
        recordings={
            str(role): int(count)
            for role, count in ledger.groupby("role")["recording_id"].nunique().items()
            if role != Role.RETRACTED
        },
        watched=watched,
        coverage=coverage,
        pace=pace,
    )


def _pace(store: ObjectStore, customer: str, asset_id: str, card: AssetCard | None) -> Pace | None:
    """How often recordings come; None where the monitor found that by another cadence than the card's."""
    found = read_pace(store, customer, asset_id)
    return found if found is not None and card is not None and found.stated == card.policy.clips_per_day else None


def _watched(
    store: ObjectStore, customer: str, asset_id: str, champion: Champion | None, policy: AlarmPolicy
) -> Watched | None:
    """What the monitor has judged by the champion; None where it has judged nothing yet, and nothing was left open."""
    if champion is None:
        return None
    state = read_state(store, customer, asset_id, champion.version)
    left_open = is_left_open(state, rearm_clips=policy.rearm_clips)
    if not left_open and not part_keys(store, customer, asset_id, champion.version):
        return None
    counted = count_recordings(store, customer, asset_id, champion.version)
    drift = read_drift(store, customer, asset_id)
    is_on = left_open or state.phase == "alarm"
    picture, sound = _evidence(store, customer, asset_id, state.raised_at) if is_on else (None, None)
    return Watched(
        judged=counted.judged,
        refused=counted.refused,
        last=counted.last,
        alarm=state,
        left_open=left_open,
        picture=picture,
        sound=sound,
        drifted=None if drift is None or drift.model_version != champion.version else drift.mark is not None,
    )


def _evidence(
    store: ObjectStore, customer: str, asset_id: str, raised_at: datetime | None
) -> tuple[str | None, str | None]:
    """Keys of the picture and the sound of the alarm that was raised at a time; None for what is not there."""
    if raised_at is None:
        return None, None
    found = list(store.list_keys(keys.alarm(customer, asset_id, f"{alarm_stamp(raised_at)}-")))
    picture, sound = ([key for key in found if key.endswith(end)] for end in (".png", ".flac"))
    return picture[-1] if picture else None, sound[-1] if sound else None


def _status(
    champion: Champion | None,
    card: AssetCard | None,
    watched: Watched | None,
    coverage: Coverage | None,
    pace: Pace | None,
    *,
    changed: bool,
) -> Status:
    """The most urgent of all that is the matter with a machine."""
    if watched is not None and _is_ringing(watched, card):
        return "ringing"
    if coverage is not None and not coverage.covered:
        return "uncovered"
    if champion is None or card is None:
        return "unset"
    if card.synthetic:
        return "rehearsal"
    if card.advice == "blind":
        return "blind"
    if watched is not None and watched.drifted:
        return "drifted"
    if pace is not None and pace.outrun:
        return "outrun"
    if changed:
        return "changed"
    if card.kpi_status == "not_met":
        return "unmet"
    return "covered" if card.kpi_status == "met" else "unproven"


def _is_ringing(watched: Watched, card: AssetCard | None) -> bool:
    """Whether an alarm is on, or hold-off alone keeps the next one from being raised."""
    state = watched.alarm
    is_kept = card is not None and is_loud(state) and sum(clip.exceeded for clip in state.recent) >= card.rule.m
    return state.phase == "alarm" or watched.left_open or (state.phase == "hold_off" and is_kept)


@task(name="Write the fleet page", task_run_name="Write the fleet page of {customer}")
def write_fleet_page(customer: str, store: str, language: Language) -> None:
    """Gather, render and file `fleet.html` of a customer."""
    file_fleet_page(open_store(store), customer, language=language)


def file_fleet_page(store: ObjectStore, customer: str, *, language: Language) -> Fleet:
    """Write the page as the store knows the fleet now.

    Raises
    ------
    UsageError, InputError
        As `gather_fleet`.
    """
    return _file(store, customer, lambda: language)


def refresh_fleet_page(store: ObjectStore, customer: str, *, otherwise: Language) -> Fleet:
    """Write the page anew in the language that it says it is in; `otherwise`: in which, where there is none yet.

    Raises
    ------
    UsageError, InputError
        As `gather_fleet`.
    """
    return _file(store, customer, lambda: language_of_page(store, customer) or otherwise)


def language_of_page(store: ObjectStore, customer: str) -> Language | None:
    """The language that the page says it is in; None where there is no page."""
    key = keys.fleet(customer)
    said = _LANGUAGE.search(store.get(key)[:_HEAD_BYTES]) if store.exists(key) else None
    return next((language for language in get_args(Language) if said and said[1].decode() == language), None)


def _file(store: ObjectStore, customer: str, language: Callable[[], Language]) -> Fleet:
    from tasks.report.pages import render_fleet_page

    key = keys.fleet(customer)
    # Two runs that end at once: the later one to read is the later one to write.
    with store.lock(key):
        fleet = gather_fleet(store, customer)
        store.put(key, render_fleet_page(fleet, language=language()).encode())
    return fleet
