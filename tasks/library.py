"""The library: accepted normals of every onboarded package, filed by machine type, as source for other assets.

`library/<machine_type>/<customer>-<package>.parquet` holds one row a standardized segment. An asset's *source* is its
own normals of other domains and the library's normals of its machine type, from its own customer's other machines
always and from another customer's with that customer's consent. Nothing that the asset learns from as target, or is
judged on, may come back to it as source, not even where two plants sent one file: recordings are known by their
sound. Corrections are applied when the library is read: nobody learns from a recording that its owner retracted.
Synthetic recordings are source for synthetic assets alone.
"""

from __future__ import annotations

import pandas as pd
from prefect import task
from pydantic import BaseModel, ConfigDict, Field

from engines.base import ClipSet
from schemas.metadata import CONDITION_COLUMNS as CONDITIONS
from schemas.references import Asset, Dataset, Package, Run, Source
from tasks import keys
from tasks.corrections import not_normal, standing_corrections
from tasks.ledger import Role, clip_set, rows_of
from tasks.logbook import note
from tasks.runs import digest
from tasks.sharing import lenders, library_keys
from tasks.store import ObjectStore, open_store

LIBRARY_COLUMNS = (
    "recording_id",
    "segment",
    "machine_type",
    "section_id",
    "role",
    "domain",
    "sensor",
    "synthetic",
    "start_s",
    "duration_s",
    "sample_rate",
    "bandwidth_hz",
    "audio",
    *CONDITIONS,
)
"""What the library says of a segment: nothing of who confirmed it and what its file was called."""
OWNER_COLUMNS = ("customer", "package")
NORMALS = (Role.TARGET, Role.SOURCE)


class Joined(BaseModel):
    """What a package brought to the library of one machine type."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine_type: str
    recordings: int = Field(ge=0, description="Its normals.")
    hours: float = Field(ge=0, description="Of their sound.")
    new: int = Field(ge=0, description="Those of them that it had not brought before.")


@task(name="Add the normals to the library", task_run_name="Add the normals of {package.name} to the library")
def join_library(dataset: Dataset, package: Package, run: Run) -> tuple[Joined, ...]:
    """File the accepted normals by machine type, and say what that brought."""
    store = open_store(run.store)
    segments = store.get_frame(dataset.metadata_key)
    useful = segments[segments["role"].isin([*NORMALS, Role.MACHINE])]
    return tuple(
        _join_type(store, str(machine_type), rows[list(LIBRARY_COLUMNS)].reset_index(drop=True), package, run)
        for machine_type, rows in useful.groupby("machine_type")
    )


def _join_type(store: ObjectStore, machine_type: str, rows: pd.DataFrame, package: Package, run: Run) -> Joined:
    key = keys.library(machine_type, run.customer, package.package_id)
    before = store.get_frame(key) if store.exists(key) else _no_rows()
    if not before.equals(rows):
        store.put_frame(key, rows)
    normals = rows[rows["role"].isin(NORMALS)]
    names = set(normals["recording_id"])
    return Joined(
        machine_type=machine_type,
        recordings=len(names),
        hours=round(float(normals["duration_s"].sum()) / 3600, 4),
        new=len(names - set(before.loc[before["role"].isin(NORMALS), "recording_id"])),
    )


def library_rows(store: ObjectStore, owners: frozenset[str] | None = None, *, machine_type: str = "") -> pd.DataFrame:
    """Rows of the library of some owners (default: all), with their customer and package, corrections applied.

    A recording that one of these owners retracted or calls anomalous is left out, whoever else sent it. Sorted by
    customer, section, recording, package and segment; a recording that several packages brought is there as often.
    """
    frames = [_owned(store, key) for key in library_keys(store, owners, machine_type=machine_type)]
    rows = pd.concat(frames, ignore_index=True) if frames else _no_rows()
    assets = rows[["customer", "machine_type", "section_id"]].drop_duplicates().itertuples(index=False, name=None)
    spoilt = {
        recording
        for customer, kind, section in assets
        for recording in not_normal(standing_corrections(store, customer, keys.asset_id(kind, section)))
    }
    rows = rows[~rows["recording_id"].isin(spoilt)]
    order = ["customer", "machine_type", "section_id", "recording_id", "package", "segment"]
    return rows.sort_values(order).reset_index(drop=True)


def _owned(store: ObjectStore, key: str) -> pd.DataFrame:
    _, customer, package_id = keys.library_parts(key)
    return store.get_frame(key)[list(LIBRARY_COLUMNS)].assign(customer=customer, package=package_id)


def _no_rows() -> pd.DataFrame:
    numbers = {"segment": "int64", "start_s": "float64", "duration_s": "float64", "sample_rate": "int64"}
    kinds = numbers | {"bandwidth_hz": "float64", "synthetic": "bool"}
    return pd.DataFrame({name: pd.Series(dtype=kinds.get(name, "str")) for name in (*LIBRARY_COLUMNS, *OWNER_COLUMNS)})


class LeftOut(BaseModel):
    """`left_out.json`: how many recordings are no source for what they are, though nothing else stands against them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    synthetic: int = Field(description="Synthetic recordings, the asset's own normals not all being synthetic.")


@task(name="Gather the source", task_run_name="Gather the source of {asset.asset_id}")
def gather_source(asset: Asset, run: Run) -> Source:
    """Write down what the asset may learn from besides its own normals, as `source.parquet` beside the run.

    What is left out for being synthetic is counted in `left_out.json`.
    """
    store = open_store(run.store)
    ledger = store.get_frame(asset.ledger_key)
    library = library_rows(store, lenders(store, asset.customer), machine_type=asset.machine_type)
    rows, left_out = source_rows(ledger, library, asset, clean_machine=run.settings.routing.clean_machine)
    key = keys.run(run.customer, run.run_id, f"{asset.asset_id}/source.parquet")
    aside = _left_out_key(asset, run)
    reused = store.exists(key) and store.get_frame(key).equals(rows) and store.exists(aside)
    if not reused:
        store.put_frame(key, rows)
        store.put_model(aside, left_out)
    recordings = rows.drop_duplicates("recording_id")
    own = (recordings["customer"] == asset.customer) & (recordings["section_id"] == asset.section_id)
    source = Source(
        asset=asset,
        key=key,
        version=source_version(rows),
        recordings=len(recordings),
        own=int(own.sum()),
        customers=tuple(sorted(set(recordings["customer"]))),
        reused=reused,
    )
    note(f"{source.recordings} source normals, {source.own} of them the asset's own")
    if left_out.synthetic:
        note(f"Synthetic recordings left out: {left_out.synthetic}; not all normals of the asset are synthetic")
    return source


def _left_out_key(asset: Asset, run: Run) -> str:
    return keys.run(run.customer, run.run_id, f"{asset.asset_id}/left_out.json")


def read_left_out(store: ObjectStore, asset: Asset, run: Run) -> LeftOut:
    """What `gather_source` left out in this run."""
    return store.get_model(_left_out_key(asset, run), LeftOut)


def source_rows(
    ledger: pd.DataFrame, library: pd.DataFrame, asset: Asset, *, clean_machine: bool
) -> tuple[pd.DataFrame, LeftOut]:
    """The source of an asset, one row a segment, sorted by recording; each recording once; and what was left out.

    ledger: the asset's, corrected. library: rows of its machine type that it may see, as `library_rows` gives them.

    Of a recording that several assets hold, the asset's own rows count, else its customer's, else the first by name.
    Recordings of another kind of sensor, or standardized to another rate, than the asset's normals are left out:
    they cannot be compared with them. So are synthetic ones, unless the asset's own normals are synthetic too: what
    they would teach is how the generator sounds.
    """
    roles = [Role.SOURCE, *([Role.MACHINE] if clean_machine else [])]
    own = rows_of(ledger, roles).reindex(columns=list(LIBRARY_COLUMNS))
    own = own.assign(customer=asset.customer, package=rows_of(ledger, roles)["package"])
    same = (library["customer"] == asset.customer) & (library["section_id"] == asset.section_id)
    others = library[~same & library["role"].isin([*NORMALS, *roles])]
    taken = ledger.loc[~ledger["role"].isin(roles), "recording_id"]
    rows = pd.concat([part for part in (own, others) if len(part)] or [_no_rows()], ignore_index=True)
    normals = rows_of(ledger, [Role.TARGET])
    comparable = rows["sensor"].isin(normals["sensor"]) & rows["sample_rate"].isin(normals["sample_rate"])
    rows = rows[comparable & ~rows["recording_id"].isin(taken)]
    serves = serves_beside(rows, normals)
    left_out = LeftOut(synthetic=int(rows.loc[~serves, "recording_id"].nunique()))
    return _each_once(rows[serves], asset), left_out


def serves_beside(rows: pd.DataFrame, normals: pd.DataFrame) -> pd.Series:
    """Which rows may be source for an asset with such normals: synthetic ones only where these all are; bool.

    A recording that one of its holders calls synthetic is synthetic, whoever else sent it.
    """
    if len(normals) and normals["synthetic"].astype(bool).all():
        return pd.Series(True, index=rows.index)
    synthetic = rows.loc[rows["synthetic"].astype(bool), "recording_id"]
    return ~rows["recording_id"].isin(synthetic)


def _each_once(rows: pd.DataFrame, asset: Asset) -> pd.DataFrame:
    """All segments of each recording from one holder, the nearest to the asset."""
    own = (rows["customer"] == asset.customer) & (rows["section_id"] == asset.section_id)
    distance = (rows["customer"] != asset.customer).astype(int) + (~own).astype(int)
    holder = ["customer", "section_id", "package", "role"]
    ranked = rows.assign(distance=distance).sort_values(["recording_id", "distance", *holder, "segment"])
    nearest = ranked.drop_duplicates("recording_id")[["recording_id", *holder]]
    kept = ranked.merge(nearest, on=["recording_id", *holder])
    return kept.drop(columns="distance").drop_duplicates(["recording_id", "segment"]).reset_index(drop=True)


def source_version(rows: pd.DataFrame) -> str:
    """Sixteen hex digits over the recordings, their standardized sound and conditions, free of who sent them."""
    # A clip object is named by its sound: another segment length or resampler makes another source.
    sound = rows["audio"].astype("string").str.rsplit("/", n=1).str[-1]
    said = rows[["recording_id", "segment", *CONDITIONS]].assign(sound=sound).astype("string").fillna("")
    return digest(*sorted("\x1f".join(row) for row in said.itertuples(index=False, name=None)))


def source_clips(store: ObjectStore, source_key: str) -> ClipSet:
    """The clips of a gathered source, read from the store one at a time."""
    return clip_set(store, store.get_frame(source_key))
