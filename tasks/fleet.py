"""All machines of a customer on one page: what covers each, how sure that is, and what it last said.

What an onboarding found out lies beside the model that it made, as a card (`card.json`); the page takes the champion's
card of each asset and what the monitor has filed since. It holds no clock of its own: the same store gives the same
page.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Literal, get_args

import pandas as pd
from prefect import task
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from engines.alarm import AlarmRule, AlarmState
from schemas.errors import InputError
from schemas.references import Model
from schemas.settings import AlarmPolicy, Kpi, Language
from tasks import keys
from tasks.calibrating import Champion
from tasks.drifting import read_drift
from tasks.ledger import Role, asset_ids, ledger_version, read_corrected
from tasks.store import ModelT, ObjectStore, open_store
from tasks.watch_log import WatchLog, read_rows

if TYPE_CHECKING:
    from tasks.report.pages import AssetPage

Status = Literal["ringing", "blind", "unset", "drifted", "changed", "unmet", "rehearsal", "unproven", "covered"]
STATUSES: tuple[Status, ...] = get_args(Status)
"""What a machine's line says first, the most urgent first."""


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
    )
    store.put_model(card_key(asset.customer, asset.asset_id, model.version), card)


class Watched(BaseModel):
    """What the monitor has judged of a machine by its champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recordings: int
    refused: int = Field(description="Of these, how many the quality gate refused.")
    last: AwareDatetime = Field(description="When the newest was recorded.")
    alarm: AlarmState
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
    watched: Watched | None = Field(description="None where the monitor has judged nothing by the champion yet.")


class Fleet(BaseModel):
    """All machines of a customer, the most urgent first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    machines: tuple[Machine, ...]


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
    champion = _read(store, keys.asset(customer, asset_id, "champion.json"), Champion)
    card = None if champion is None else _read(store, card_key(customer, asset_id, champion.version), AssetCard)
    changed = champion is not None and champion.ledger_version != ledger_version(ledger)
    watched = _watched(store, customer, asset_id, champion)
    return Machine(
        asset=asset_id,
        machine_type=ledger["machine_type"].iloc[0],
        section_id=ledger["section_id"].iloc[0],
        status=_status(champion, card, watched, changed=changed),
        champion=champion,
        card=card,
        recordings={
            str(role): int(count)
            for role, count in ledger.groupby("role")["recording_id"].nunique().items()
            if role != Role.RETRACTED
        },
        watched=watched,
    )


def _read(store: ObjectStore, key: str, model: type[ModelT]) -> ModelT | None:
    return store.get_model(key, model) if store.exists(key) else None


def _watched(store: ObjectStore, customer: str, asset_id: str, champion: Champion | None) -> Watched | None:
    """What the monitor has judged by the champion; None where it has judged nothing yet."""
    if champion is None:
        return None
    rows = read_rows(store, customer, asset_id, champion.version)
    if rows.empty:
        return None
    drift = read_drift(store, customer, asset_id)
    return Watched(
        recordings=len(rows),
        refused=int((rows["decision"] == "refused").sum()),
        last=rows["time"].max().to_pydatetime(),
        alarm=WatchLog(store, customer, asset_id, champion.version).state,
        drifted=None if drift is None or drift.model_version != champion.version else drift.mark is not None,
    )


def _status(champion: Champion | None, card: AssetCard | None, watched: Watched | None, *, changed: bool) -> Status:
    """The most urgent of all that is the matter with a machine."""
    if watched is not None and watched.alarm.phase == "alarm":
        return "ringing"
    if champion is None or card is None:
        return "unset"
    if card.synthetic:
        return "rehearsal"
    if card.advice == "blind":
        return "blind"
    if watched is not None and watched.drifted:
        return "drifted"
    if changed:
        return "changed"
    if card.kpi_status == "not_met":
        return "unmet"
    return "covered" if card.kpi_status == "met" else "unproven"


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
    from tasks.report.pages import render_fleet_page

    key = keys.fleet(customer)
    # Two runs that end at once: the later one to read is the later one to write.
    with store.lock(key):
        fleet = gather_fleet(store, customer)
        store.put(key, render_fleet_page(fleet, language=language).encode())
    return fleet
