"""One asset as it stands: what it is made of, and the corrections that people make to it."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import InputError, StoreError, UsageError
from schemas.machine_types import fold, load_machine_types, spelling_index
from schemas.references import Verdict
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.champions import Champion, onboarding_key
from tasks.corrections import (
    Correction,
    Label,
    add_correction,
    find_clip,
    near_matches,
    read_corrections,
    standing,
    standing_corrections,
)
from tasks.customers import customer_path, find_customer
from tasks.ledger import Role, asset_ids, correct, ledger_version, read_corrected, read_ledger
from tasks.logbook import note
from tasks.runs import finished_runs
from tasks.store import ObjectStore


class PackagePart(BaseModel):
    """What a package brought to an asset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: str
    recordings: int


class AssetState(BaseModel):
    """What `alp asset show` prints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    asset: str
    machine_type: str
    section_id: str
    champion: Champion | None
    ledger_version: str
    recordings: dict[str, int] = Field(description="By role, corrections applied.")
    hours: float
    packages: tuple[PackagePart, ...]
    corrections: tuple[Correction, ...] = Field(description="Those that stand, by clip.")


def find_asset(store: ObjectStore, customer: str, name: str) -> str:
    """The asset `name` of a customer: its id, such as `compressor-00`, or its machine type and section in any spelling
    of the type, such as `compressor-1호기` or `압축기 1호기`.

    Raises
    ------
    UsageError
        The customer's name cannot be used in the store.
    InputError
        The customer has no such asset; the message names those that are spelt alike, or all.
    """
    known = asset_ids(store, keys.check_customer(customer))
    if found := next((spelt for spelt in _possible_ids(name) if spelt in known), None):
        return found
    if not known:
        raise InputError(
            f"customer {customer} has no assets in {store.url}; onboard a package, or give another --store"
        )
    there = near_matches(name, known) or ", ".join(known[:10])
    raise InputError(f"customer {customer} has no asset {name[:200]!r}; did you mean {there}?")


def _possible_ids(name: str) -> Iterator[str]:
    """The ids that a name may stand for, itself first."""
    yield name
    types = spelling_index(load_machine_types())
    plain = unicodedata.normalize("NFC", name).strip()
    for joint in re.finditer(r"[- /]", plain):
        kind, section = plain[: joint.start()], plain[joint.end() :].strip()
        if kind and section:
            yield keys.asset_id(types.get(fold(kind), kind), section)


def describe_state(store: ObjectStore, customer: str, asset_id: str) -> AssetState:
    """The asset with its champion, its recordings by role, its packages and its corrections."""
    ledger = read_corrected(store, customer, asset_id)
    champion = keys.asset(customer, asset_id, "champion.json")
    parts = ledger.groupby("package")["recording_id"].nunique()
    standing_now = standing(read_corrections(store, customer, asset_id)).values()
    return AssetState(
        customer=customer,
        asset=asset_id,
        machine_type=ledger["machine_type"].iloc[0],
        section_id=ledger["section_id"].iloc[0],
        champion=store.find_model(champion, Champion),
        ledger_version=ledger_version(ledger),
        recordings={str(r): int(n) for r, n in ledger.groupby("role")["recording_id"].nunique().items()},
        hours=round(float(ledger.drop_duplicates(["recording_id", "segment"])["duration_s"].sum()) / 3600, 4),
        packages=tuple(PackagePart(package=str(name), recordings=int(n)) for name, n in parts.items()),
        corrections=tuple(sorted(standing_now, key=lambda said: said.clip_id)),
    )


class Corrected(BaseModel):
    """What a correction did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    correction: Correction
    written: bool = Field(description="False: the ledger says so already.")
    package: str = Field(description="The package that holds the clip.")
    clips: tuple[str, ...] = Field(description="Every clip of the asset that has this very sound.")
    normals: int = Field(description="Target normals that the asset has left.")


def retract_clip(
    store: ObjectStore, customer: str, asset_id: str, clip_id: str, *, reason: str | None = None
) -> Corrected:
    """Take a recording back: it is neither learnt from nor judged any more.

    Raises
    ------
    InputError
        The asset has no such clip.
    """
    return _correct(store, customer, asset_id, clip_id, action="retract", reason=reason)


def relabel_clip(
    store: ObjectStore, customer: str, asset_id: str, clip_id: str, label: Label, *, reason: str | None = None
) -> Corrected:
    """Say what a recording really is. A training recording that is an anomaly becomes a labelled test.

    `normal` also takes back what was said of the recording before.

    Raises
    ------
    InputError
        The asset has no such clip.
    UsageError
        A noise-only or clean-machine recording cannot be an anomaly; it can be retracted.
    """
    return _correct(store, customer, asset_id, clip_id, action="relabel", label=label, reason=reason)


def _correct(store: ObjectStore, customer: str, asset_id: str, clip_id: str, **said: Any) -> Corrected:
    ledger = read_ledger(store, keys.asset(customer, asset_id, "ledger.parquet"))
    rows = find_clip(ledger, clip_id, asset_id=asset_id)
    if said.get("label") == "anomaly" and (rows["split"] == "supplemental").all():
        raise UsageError(
            f"clip {clip_id!r} is {rows['supp_type'].iloc[0]}-only, which is never judged; retract it if it is no good"
        )
    recording_id = str(rows["recording_id"].iloc[0])
    correction = Correction(recording_id=recording_id, clip_id=str(rows["clip_id"].iloc[0]), **said)
    before = standing_corrections(store, customer, asset_id)
    after = correct(ledger, before | {recording_id: correction})
    written = ledger_version(after) != ledger_version(correct(ledger, before))
    if written:
        add_correction(store, customer, asset_id, correction)
    same_sound = ledger.loc[ledger["recording_id"] == recording_id, "clip_id"].astype(str)
    return Corrected(
        correction=correction,
        written=written,
        package=str(rows["package"].iloc[0]),
        clips=tuple(sorted(set(same_sound))),
        normals=int(after.loc[after["role"] == Role.TARGET, "recording_id"].nunique()),
    )


def settings_of(
    store: ObjectStore, customer: str, asset_id: str, package_id: str, *, folder: Path | None = None
) -> OnboardSettings:
    """The settings by which a package was onboarded; where that is not known, those that its customer had for others.

    Runs carry no dates. Of the package's finished runs the one whose threshold is the champion's goes before others,
    and of several the last by id. After them come the settings by which the champion is heard, those of the customer's
    other runs, the last written first, and its file.

    Parameters
    ----------
    folder : of the customers' files; None: as `ALP_CUSTOMERS` says.

    Raises
    ------
    StoreError
        None of these is there, or none is of this version: the defaults would judge by another alarm, speak another
        language and know no machine types of the customer's own.
    UsageError
        The customer's file is faulty.
    """
    for where, found in _kept_settings(store, customer, asset_id, package_id):
        try:
            return OnboardSettings.model_validate(found)
        except ValidationError:
            note(f"{where} names settings of another version, which do not serve")
    if (described := find_customer(customer, folder)) is not None:
        note(f"No run of {customer} says by which settings {asset_id} was onboarded: those of its file serve")
        return described.settings()
    raise StoreError(
        f"nothing says by which settings package {package_id} of {customer} was onboarded, neither a run of it nor"
        f" {customer_path(customer, folder)}; onboard it with the settings that it needs: alp onboard"
        f" {keys.raw(customer, package_id)} --customer {customer} --settings FILE"
    )


def _kept_settings(
    store: ObjectStore, customer: str, asset_id: str, package_id: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where settings are kept by which the package may be onboarded, best first, as whichever version wrote them."""
    champion = store.find_model(keys.asset(customer, asset_id, "champion.json"), Champion)
    threshold = _champion_threshold(store, customer, asset_id, champion)

    def made_champion(key: str) -> bool:
        made = key.replace("manifest.json", f"{asset_id}/threshold.json")
        return threshold is not None and store.exists(made) and store.get(made) == threshold

    runs = [
        (key, manifest)
        for key, manifest in finished_runs(store, customer)
        if manifest["result"]["verdict"] != Verdict.REJECTED
    ]
    own = {key: made_champion(key) for key, manifest in runs if manifest["package"]["package_id"] == package_id}
    settings = {key: manifest["run"]["settings"] for key, manifest in runs}
    yield from ((key, settings[key]) for key in sorted(own, key=lambda key: (own[key], key), reverse=True))
    if champion is not None:
        beside = onboarding_key(keys.model(customer, asset_id, champion.version))
        if store.exists(beside):
            yield beside, json.loads(store.get(beside)).get("settings", {})
    others = sorted(settings.keys() - own.keys(), key=lambda key: (store.stat(key).modified, key), reverse=True)
    yield from ((key, settings[key]) for key in others)


def _champion_threshold(store: ObjectStore, customer: str, asset_id: str, champion: Champion | None) -> bytes | None:
    if champion is None:
        return None
    threshold = f"{keys.model(customer, asset_id, champion.version)}/threshold.json"
    return store.get(threshold) if store.exists(threshold) else None
