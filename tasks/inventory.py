"""What the library holds, by machine type, plant, asset and condition, and what to collect next.

Milestones follow the form that plants get (`schemas.forms`): normal clips to be judged at all and those recommended,
the place without the machine, operating conditions, then the source that engines B and C need, and last the size of a
benchmark section. Sizes are those of 16-bit PCM at the stored rate: 0.32 MB a clip of 10 s at
16 kHz. Durations in seconds unless a name says hours.
"""

from __future__ import annotations

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from schemas.forms import RecordingForm, Span, form_of, shared_quantity
from schemas.metadata import CONDITION_COLUMNS
from schemas.settings import OnboardSettings, RoutingSettings
from tasks import keys
from tasks.ledger import Role, read_corrected, rows_of
from tasks.library import NORMALS, library_rows, serves_beside
from tasks.sharing import consent, lenders
from tasks.store import ObjectStore

CLIP_MB = 0.32
OPERATION_COLUMNS = ("speed_level", "load_level", "operating_mode")
"""Conditions that a plant sets, not where the microphone hangs."""
BENCHMARK_SOURCE, BENCHMARK_TARGET, BENCHMARK_SUPPLEMENTAL = 990, 10, 100
"""Clips of a section of DCASE 2025 Task 2."""
PCM_BYTES = 2


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AssetStock(_Part):
    """What the library holds of one machine."""

    asset: str
    section_id: str
    recordings: int = Field(description="Normal recordings, of the machine's own domain and of others.")
    target: int
    source: int
    clean_machine: int = Field(description="Recordings of the machine without the place's noise; not counted above.")
    hours: float
    bytes: int
    conditions: dict[str, dict[str, int]] = Field(description="Normal recordings by column and value.")
    next: str | None = Field(description="What to collect next; None of a machine that only lends its normals.")


class PlantStock(_Part):
    """What the library holds of one customer's machines of a type."""

    customer: str
    shared: bool = Field(description="Whether other customers may learn from these.")
    recordings: int
    hours: float
    bytes: int
    assets: tuple[AssetStock, ...]
    source: int | None = Field(description="Source normals a further machine of this plant starts with; None: lent.")
    next: str | None = Field(description="What this plant's source still needs; None of a plant that only lends.")


class TypeStock(_Part):
    """What the library holds of a machine type."""

    machine_type: str
    recordings: int
    hours: float
    bytes: int
    plants: tuple[PlantStock, ...]


class Inventory(_Part):
    """What `alp library` lists."""

    customer: str | None = Field(description="Whose view this is; None: the operator's, of everything.")
    bytes_are: str = "16-bit PCM estimate"
    machine_types: tuple[TypeStock, ...]


def take_stock(store: ObjectStore, settings: OnboardSettings, *, customer: str | None = None) -> Inventory:
    """The library with its corrections applied; of one customer, what that customer may use."""
    rows = library_rows(store, None if customer is None else lenders(store, customer))
    kinds = [
        _stock_type(store, str(machine_type), part, settings, customer)
        for machine_type, part in rows.groupby("machine_type")
    ]
    return Inventory(customer=customer, machine_types=tuple(kinds))


def _stock_type(
    store: ObjectStore, machine_type: str, rows: pd.DataFrame, settings: OnboardSettings, viewer: str | None
) -> TypeStock:
    owners = set(rows["customer"]) | ({viewer} if viewer else set())
    plants = [
        _stock_plant(store, machine_type, owner, rows, settings, lent=viewer not in (None, owner))
        for owner in sorted(owners)
    ]
    return TypeStock(machine_type=machine_type, plants=tuple(plants), **_amounts(_normals(rows)))


def _stock_plant(
    store: ObjectStore, machine_type: str, owner: str, rows: pd.DataFrame, settings: OnboardSettings, *, lent: bool
) -> PlantStock:
    own = rows[rows["customer"] == owner]
    usable = _normals(rows[rows["customer"].isin(lenders(store, owner))])
    usable = usable[serves_beside(usable, rows_of(own, [Role.TARGET]))].drop_duplicates("recording_id")
    assets = [
        _stock_asset(store, owner, machine_type, str(section), part, settings, lent=lent)
        for section, part in own.groupby("section_id")
    ]
    return PlantStock(
        customer=owner,
        shared=consent(store, owner),
        assets=tuple(assets),
        source=None if lent else len(usable),
        next=None if lent else next_for_plant(machine_type, usable, settings),
        **_amounts(_normals(own)),
    )


def _stock_asset(
    store: ObjectStore,
    owner: str,
    machine_type: str,
    section: str,
    rows: pd.DataFrame,
    settings: OnboardSettings,
    *,
    lent: bool,
) -> AssetStock:
    asset_id = keys.asset_id(machine_type, section)
    normals = _normals(rows).drop_duplicates("recording_id")
    ledger = read_corrected(store, owner, asset_id)
    return AssetStock(
        asset=asset_id,
        section_id=section,
        target=_count(rows, Role.TARGET),
        source=_count(rows, Role.SOURCE),
        clean_machine=_count(rows, Role.MACHINE),
        conditions={
            column: {str(value): int(count) for value, count in normals[column].value_counts().sort_index().items()}
            for column in CONDITION_COLUMNS
            if normals[column].notna().any()
        },
        next=None if lent or ledger.empty else next_for_asset(ledger, settings),
        **_amounts(_normals(rows)),
    )


def _normals(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["role"].isin(NORMALS)]


def _count(rows: pd.DataFrame, role: Role) -> int:
    return int(rows.loc[rows["role"] == role, "recording_id"].nunique())


def _amounts(rows: pd.DataFrame) -> dict[str, int | float]:
    """Recordings, hours and bytes, each segment counted once."""
    once = rows.drop_duplicates(["recording_id", "segment"])
    return {
        "recordings": int(once["recording_id"].nunique()),
        "hours": round(float(once["duration_s"].sum()) / 3600, 4),
        "bytes": int((once["duration_s"] * once["sample_rate"]).sum()) * PCM_BYTES,
    }


def next_for_asset(ledger: pd.DataFrame, settings: OnboardSettings) -> str:
    """What to record next of one machine, in a sentence. `ledger`: the asset's, corrected."""
    form = form_of(str(ledger["machine_type"].iloc[0]))
    normals = rows_of(ledger, [Role.TARGET])
    count = int(normals["recording_id"].nunique())
    least, recommended = settings.qa.min_normals, settings.qa.recommended_normals
    if count < least:
        return f"Record {_clips(least - count)}: without {least} normal recordings it cannot be judged."
    if count < recommended:
        return f"Record {_clips(recommended - count)}: {count} are here and {recommended} are recommended."
    noise = float(rows_of(ledger, [Role.NOISE])["duration_s"].sum())
    if noise < form.noise_s[0]:
        return (
            f"Record {form.noise_s[0]:g}-{form.noise_s[1]:g} s of the place with the machine off"
            f" ({_span(form, form.noise_s)} clips of {form.clip_s:g} s): {noise:.0f} s are here."
        )
    if (missing := _missing_conditions(normals, form)) is not None:
        return missing
    return (
        "It has all that the form asks for; a set of benchmark size would be"
        f" {BENCHMARK_SOURCE} source and {BENCHMARK_TARGET} target normals and {BENCHMARK_SUPPLEMENTAL} clips of noise"
        f" or clean machine, about {(BENCHMARK_SOURCE + BENCHMARK_TARGET + BENCHMARK_SUPPLEMENTAL) * CLIP_MB:.0f} MB."
    )


def _missing_conditions(normals: pd.DataFrame, form: RecordingForm) -> str | None:
    """What is missing of the operating conditions that the form asks for; None where nothing is."""
    seconds = {column: normals.groupby(column)["duration_s"].sum() for column in OPERATION_COLUMNS}
    heard = {column: spent[spent >= form.level_s[0]] for column, spent in seconds.items()}
    best = max(OPERATION_COLUMNS, key=lambda column: (len(heard[column]), len(seconds[column])))
    if len(heard[best]) >= form.levels:
        return None
    said = ", ".join(f"{value} {spent:.0f} s" for value, spent in seconds[best].items())
    here = f"so far {best} names {said}" if said else "so far no operating condition is named"
    return (
        f"Record {form.levels} operating conditions (such as low, medium and high speed) for"
        f" {form.level_s[0] / 60:g}-{form.level_s[1] / 60:g} minutes each ({_span(form, form.level_s)} clips of"
        f" {form.clip_s:g} s) and name them in the table: {here}."
    )


def next_for_plant(machine_type: str, usable: pd.DataFrame, settings: OnboardSettings) -> str:
    """What a further machine of this type would start with, in a sentence. `usable`: one row a source recording."""
    limits, count = settings.routing, len(usable)
    if count < limits.min_source:
        return (
            f"A further {machine_type} starts with engine A: {count} of the {limits.min_source} source normals that"
            f" engine B needs are here; {_clips(limits.min_source - count)} of any {machine_type} close the gap."
        )
    filled = {column: float(usable[column].notna().mean()) for column in CONDITION_COLUMNS}
    full = [column for column, share in filled.items() if share >= limits.min_filled]
    able = [column for column in full if _tells_apart(usable[column], limits)]
    wants = []
    if count < limits.min_source_c:
        wants.append(f"{_clips(limits.min_source_c - count)} ({count} of {limits.min_source_c} are here)")
    if len(able) < limits.min_columns:
        shares = ", ".join(f"{column} {share:.0%}" for column, share in filled.items() if share > 0) or "none so far"
        wants.append(
            f"{limits.min_columns} condition columns filled to {limits.min_filled:.0%} with two values or more"
            f" ({len(able)} are; filled: {shares})"
        )
    if wants:
        return f"A further {machine_type} starts with engine B; engine C needs {' and '.join(wants)}."
    return (
        f"A further {machine_type} may start with engine C: {count} source normals and {', '.join(able)} are here,"
        " if the conditions can be told from the sound."
    )


def _tells_apart(values: pd.Series, limits: RoutingSettings) -> bool:
    """Whether two values or more have enough recordings to count as classes."""
    return int((values.value_counts() >= limits.min_class).sum()) > 1


def _clips(count: int) -> str:
    seconds = shared_quantity("clip_s")
    return f"{count} more normal clip{'s' if count != 1 else ''} of {seconds:g} s ({count * CLIP_MB:.2g} MB)"


def _span(form: RecordingForm, seconds: Span) -> str:
    return "-".join(str(form.clips(value)) for value in seconds)
