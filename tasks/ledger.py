"""An asset's ledger: every recording the asset ever got, over all packages.

One row a standardized segment. Rows are never removed; a recording that comes twice is entered once. What the
engines learn from depends on the set of recordings alone, not on the packages or the order they came in, so
two half packages make the same asset as the whole one. The store keeps the ledger as the plant sent it; whoever reads
it for a run sees it through the corrections made since (`correct`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import pandas as pd

from engines.base import Clip, ClipSet
from schemas.metadata import CONDITION_COLUMNS as CONDITIONS
from schemas.references import Asset, Run
from tasks import keys
from tasks.clip_files import from_flac
from tasks.corrections import Correction, not_normal, standing_corrections
from tasks.runs import digest
from tasks.store import ObjectStore

IDENTITY = ["recording_id", "segment", "split", "domain", "label", "supp_type"]
"""What a row says of a segment."""


class Role(StrEnum):
    """What a recording is to its asset."""

    TARGET = "target"
    """A normal recording of the asset's own domain: engines learn from it, thresholds rest on it."""
    SOURCE = "source"
    """A normal recording of another domain of the same machine."""
    NOISE = "noise"
    """The place without the machine."""
    MACHINE = "machine"
    """The machine without the place's noise."""
    TEST = "test"
    """A recording to judge."""
    RETRACTED = "retracted"
    """A recording that was taken back: neither learnt from nor judged."""


def role_of(split: str, domain: str, supp_type: str | None) -> Role:
    """The role of a row of the strict table."""
    if split == "test":
        return Role.TEST
    if split == "supplemental":
        return Role.NOISE if supp_type == "noise" else Role.MACHINE
    return Role.TARGET if domain == "target" else Role.SOURCE


def read_ledger(store: ObjectStore, key: str) -> pd.DataFrame:
    """The ledger at `key`; an empty frame where the asset is new."""
    return store.get_frame(key) if store.exists(key) else pd.DataFrame()


def read_corrected(store: ObjectStore, customer: str, asset_id: str) -> pd.DataFrame:
    """An asset's ledger as it stands after all corrections; an empty frame where the asset is new."""
    ledger = read_ledger(store, keys.asset(customer, asset_id, "ledger.parquet"))
    return correct(ledger, standing_corrections(store, customer, asset_id))


def asset_ids(store: ObjectStore, customer: str) -> list[str]:
    """The assets of a customer that have a ledger, sorted."""
    found = store.list_keys(f"assets/{customer}/")
    return [key.split("/")[2] for key in found if key.endswith("/ledger.parquet")]


def known_normals(store: ObjectStore, customer: str, *, besides: str) -> dict[tuple[str, str], frozenset[str]]:
    """Ids of the target normals that the customer's assets hold from packages other than `besides`.

    Keyed by (machine_type, section_id).
    """
    known: dict[tuple[str, str], frozenset[str]] = {}
    for asset_id in asset_ids(store, customer):
        ledger = read_corrected(store, customer, asset_id)
        rows = ledger[(ledger["role"] == Role.TARGET) & (ledger["package"] != besides)]
        for (machine_type, section), group in rows.groupby(["machine_type", "section_id"]):
            known[str(machine_type), str(section)] = frozenset(group["recording_id"])
    return known


def known_not_normal(store: ObjectStore, customer: str) -> dict[tuple[str, str], frozenset[str]]:
    """Ids of the recordings that corrections keep each of the customer's assets from learning as normal.

    Keyed by (machine_type, section_id); without the assets of which nobody corrected anything.
    """
    found: dict[tuple[str, str], frozenset[str]] = {}
    for asset_id in asset_ids(store, customer):
        if spoilt := not_normal(standing_corrections(store, customer, asset_id)):
            first = read_ledger(store, keys.asset(customer, asset_id, "ledger.parquet")).iloc[0]
            found[str(first["machine_type"]), str(first["section_id"])] = spoilt
    return found


def join(ledger: pd.DataFrame, arrived: pd.DataFrame, *, package_id: str) -> pd.DataFrame:
    """The ledger with a package's rows of this asset entered, sorted by recording.

    What the same package entered before is replaced, so that joining twice changes nothing. A recording that
    another package brought stays entered once; of a test clip sent again the newest row stands, since a label may
    have been corrected, but a package that comes a second time is not news. A clip id that the asset knows for
    another recording gets the package's first eight digits behind it, so that ids stay unique within an asset.
    """
    rows = arrived.assign(package=package_id)
    if not ledger.empty:
        others = ledger[ledger["package"] != package_id]
        if len(others) == len(ledger):
            others = others[~_are_among(others, rows[rows["split"] == "test"])]
        rows = rows[~_are_among(rows, others)]
        owners = dict(zip(others["clip_id"], others["recording_id"], strict=True))
        taken = [owners.get(c, r) != r for c, r in zip(rows["clip_id"], rows["recording_id"], strict=True)]
        clashes = pd.Series(taken, index=rows.index, dtype=bool)
        rows = rows.assign(clip_id=rows["clip_id"].mask(clashes, rows["clip_id"] + f"@{package_id[:8]}"))
        rows = pd.concat([part for part in (others, rows) if len(part)])
    return rows.sort_values(["recording_id", "split", "clip_id", "segment"]).reset_index(drop=True)


def _are_among(rows: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    """Which of `rows` say of the same segment the same thing as one of `others`; bool, indexed like `rows`."""
    known = set(_identities(others))
    return pd.Series([identity in known for identity in _identities(rows)], index=rows.index, dtype=bool)


def _identities(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """What makes a row the same row.

    A test row is known by its clip id, not its label: each clip sent is owed one score, whatever it is called.
    """
    said = rows[IDENTITY].astype("string").fillna("")
    is_test = rows["split"] == "test"
    said["clip_id"] = rows["clip_id"].astype("string").where(is_test, "")
    said[["domain", "label"]] = said[["domain", "label"]].mask(is_test, "")
    return list(said.itertuples(index=False, name=None))


def correct(ledger: pd.DataFrame, corrections: Mapping[str, Correction]) -> pd.DataFrame:
    """The ledger as it stands after corrections, each of which is of the recording it is keyed by.

    A retracted recording is neither learnt from nor judged. A training recording that is an anomaly in truth becomes
    a labelled test recording; where its sound was sent as a test clip too, that clip is judged, and it once.
    Noise-only and clean-machine recordings can be retracted, but have no label to be changed.
    """
    if ledger.empty:
        return ledger
    corrected = ledger.copy()
    for recording_id, correction in corrections.items():
        rows = corrected["recording_id"] == recording_id
        if correction.action == "retract":
            corrected.loc[rows, "role"] = Role.RETRACTED.value
        elif correction.label == "anomaly":
            _turn_into_tests(corrected, rows & (corrected["split"] == "train"))
            _label_tests(corrected, rows & (corrected["split"] == "test"), anomaly=True)
        else:
            _label_tests(corrected, rows & (corrected["split"] == "test"), anomaly=False)
    return corrected


def _turn_into_tests(ledger: pd.DataFrame, training: pd.Series) -> None:
    recordings = ledger.loc[training, "recording_id"]
    judged_anyway = ledger.loc[ledger["split"] == "test", "recording_id"]
    ledger.loc[training, "role"] = Role.RETRACTED.value
    moved = training & ledger["recording_id"].isin(set(recordings) - set(judged_anyway))
    ledger.loc[moved, ["split", "role"]] = ["test", Role.TEST.value]


def _label_tests(ledger: pd.DataFrame, tests: pd.Series, *, anomaly: bool) -> None:
    """Set the label of test rows, and everything that says the same in other words."""
    said: dict[str, Any] = {"label": "anomaly" if anomaly else "normal", "is_anomaly": anomaly}
    said |= {"confirmed_normal": False} if anomaly else {"anomaly_type": None, "anomaly_regions": None}
    for column, value in said.items():
        if column in ledger:
            ledger.loc[tests, column] = value


def ledger_version(ledger: pd.DataFrame) -> str:
    """Sixteen hex digits over what the ledger says, free of the packages and their order."""
    said = ledger[[*IDENTITY, "clip_id", "role"]].astype("string").fillna("")
    return digest(*sorted("\x1f".join(row) for row in said.itertuples(index=False, name=None)))


def describe_asset(run: Run, ledger: pd.DataFrame, *, ledger_key: str) -> Asset:
    """The reference to one asset at this ledger."""
    first = ledger.iloc[0]
    recordings = ledger.groupby("role")["recording_id"].nunique()
    tests = ledger[(ledger["role"] == Role.TEST) & (ledger["segment"] == 0)]
    return Asset(
        customer=run.customer,
        machine_type=first["machine_type"],
        section_id=first["section_id"],
        asset_id=keys.asset_id(first["machine_type"], first["section_id"]),
        ledger_key=ledger_key,
        ledger_version=ledger_version(ledger),
        target=int(recordings.get(Role.TARGET, 0)),
        source=int(recordings.get(Role.SOURCE, 0)),
        test=len(tests),
    )


def rows_of(ledger: pd.DataFrame, roles: Iterable[Role]) -> pd.DataFrame:
    """The rows of some roles, in the ledger's order."""
    return ledger[ledger["role"].isin(list(roles))].reset_index(drop=True)


def clip_set(store: ObjectStore, rows: pd.DataFrame) -> ClipSet:
    """The clips of ledger rows, read from the store one at a time."""
    audio = rows["audio"].tolist()
    clips = [
        # Named by the recording: what people call a clip may change, and a model must not change with it.
        Clip(
            f"{row['recording_id']}#{row['segment']}",
            row["recording_id"],
            int(row["sample_rate"]),
            float(row["bandwidth_hz"]),
            {name: str(row[name]) for name in CONDITIONS if name in row and pd.notna(row[name])},
        )
        for row in rows.to_dict("records")
    ]
    return ClipSet(clips, lambda i: from_flac(store.get(audio[i]), key=audio[i]))
