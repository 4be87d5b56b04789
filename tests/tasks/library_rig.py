"""Packages as onboardings file them, on the ledgers and in the library, for tests of what one leaves to the next."""

from __future__ import annotations

from typing import Any

import pandas as pd

from schemas.metadata import CONDITION_COLUMNS
from schemas.references import Dataset, Package, Run
from schemas.settings import OnboardSettings, RoutingSettings
from tasks import keys
from tasks.ledger import join, role_of
from tasks.library import Joined, join_library
from tasks.object_store import ObjectStore


def segments(*recordings: str, section: str = "00", kind: str = "fan", **said: Any) -> pd.DataFrame:
    """Standardized rows of one asset, one segment a recording; target normals unless `said` otherwise."""
    split, domain, supp_type = said.get("split", "train"), said.get("domain", "target"), said.get("supp_type")
    row = {
        "split": split,
        "domain": domain,
        "supp_type": supp_type,
        "label": "normal",
        "is_anomaly": False,
        "role": str(role_of(split, domain, supp_type)),
        "machine_type": kind,
        "section_id": section,
        "segment": 0,
        "sensor": "microphone",
        "synthetic": False,
        "start_s": 0.0,
        "duration_s": 10.0,
        "sample_rate": 16_000,
        "bandwidth_hz": 8000.0,
        "confirmed_by": "Kim",
        **dict.fromkeys(CONDITION_COLUMNS),
        **said,
    }
    names = {
        "recording_id": list(recordings),
        "clip_id": [f"clip-{name}" for name in recordings],
        "relative_path": [f"audio/{name}.wav" for name in recordings],
        "audio": [f"packages/acme/p/audio/{name}.flac" for name in recordings],
    }
    return pd.DataFrame(names).assign(**row)


def run_of(store: ObjectStore, customer: str, package: str, **routing: Any) -> Run:
    settings = OnboardSettings(routing=RoutingSettings(**routing))
    return Run(
        run_id=f"run-{package}",
        customer=customer,
        package_id=package,
        store=store.url,
        settings=settings,
        code_version="1",
    )


def send(store: ObjectStore, customer: str, package: str, *parts: pd.DataFrame) -> tuple[Joined, ...]:
    """File a package as an onboarding does: on the ledgers, and its normals in the library."""
    rows = pd.concat(parts, ignore_index=True)
    home = keys.package(customer, package, "metadata.parquet")
    store.put_frame(home, rows)
    store.put(keys.raw(customer, package), b"")
    store.put(keys.package(customer, package, "quality.json"), b"")
    for (kind, section), part in rows.groupby(["machine_type", "section_id"]):
        key = keys.asset(customer, keys.asset_id(str(kind), str(section)), "ledger.parquet")
        before = store.get_frame(key) if store.exists(key) else pd.DataFrame()
        store.put_frame(key, join(before, part, package_id=package))
    dataset = Dataset(package_id=package, metadata_key=home, segments=len(rows), assets=())
    upload = Package(
        customer=customer, package_id=package, name="p.zip", raw_key=keys.raw(customer, package), files=1, bytes=1
    )
    return join_library.fn(dataset, upload, run_of(store, customer, package))
