"""What makes a run the same run: its id, its manifest, and when a finished one still stands.

`run_id` = hash(package id, customer, settings, code version, snapshot of what other packages gave to learn from). The
manifest is written last: a run folder without one is a run that was cut off, and goes on where it stopped. It goes on
under another id where other packages came in between; what it left under the first is taken away after `STALE`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.references import OnboardResult, Package, QualityReport, Run
from schemas.settings import OnboardSettings
from tasks import keys
from tasks.sharing import snapshot
from tasks.store import ObjectStat, ObjectStore, open_store

STALE = timedelta(days=1)
"""A run without a manifest that has written nothing for so long is not under way."""
_ROOMS_THAT_COMPUTE = ("schemas", "engines", "tasks", "flows")

REJECTED = "Rejected"
"""Name of the state in which the run of a refused package ends."""

REPORTED_PACKAGES = ("numpy", "pandas", "prefect", "scikit-learn", "scipy", "soundfile", "soxr", "torch")


class Manifest(BaseModel):
    """The last object a run writes: what was asked, by which code, and what came out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: Run
    package: Package
    quality: QualityReport
    result: OnboardResult
    prefect_run_id: str | None = Field(description="The flow run that finished it; differs between repeats.")
    versions: dict[str, str]
    objects: dict[str, str] = Field(description="SHA-256 of every object the run handed over, by key.")


@cache
def code_version() -> str:
    """Release and a hash of the code that computes, so that changed code never reuses old results."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for room in _ROOMS_THAT_COMPUTE:
        for path in sorted((root / room).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{metadata.version('alp')}+{digest.hexdigest()[:12]}"


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    return {name: metadata.version(name) for name in REPORTED_PACKAGES}


def digest(*parts: str) -> str:
    """Sixteen hex digits over `parts`, none of which can run into the next."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def name_run(package: Package, store: str, settings: OnboardSettings) -> Run:
    """The run that onboards `package` with `settings` and this code, on the library and ledgers as they are now."""
    library = snapshot(open_store(store), package.customer, besides=package.package_id)
    return Run(
        run_id=digest(package.customer, package.package_id, settings.digest(), code_version(), library),
        customer=package.customer,
        package_id=package.package_id,
        store=store,
        settings=settings,
        code_version=code_version(),
        library=library,
    )


def manifest_key(run: Run) -> str:
    return keys.run(run.customer, run.run_id, "manifest.json")


def finished_runs(
    store: ObjectStore, customer: str, package_id: str | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and manifest of every finished run of a package, or of all, by key; as plain JSON, whichever version wrote
    it."""
    for key in store.list_keys(f"runs/{customer}/"):
        if key.endswith("/manifest.json"):
            manifest = json.loads(store.get(key))
            if package_id is None or manifest["package"]["package_id"] == package_id:
                yield key, manifest


def half_runs(store: ObjectStore, customer: str) -> dict[str, dict[str, ObjectStat]]:
    """What lies there of runs that have no manifest, by run id: under way, or cut off."""
    runs: dict[str, dict[str, ObjectStat]] = {}
    for key, stat in store.list_objects(f"runs/{customer}/"):
        runs.setdefault(key.split("/")[2], {})[key] = stat
    return {run_id: found for run_id, found in runs.items() if keys.run(customer, run_id, "manifest.json") not in found}


def forget_half_runs(store: ObjectStore, customer: str) -> list[str]:
    """Erase what lies there of runs that were cut off and did not go on under their id; the ids, sorted."""
    newest = datetime.now(UTC) - STALE
    gone = [
        run_id
        for run_id, found in sorted(half_runs(store, customer).items())
        if all(stat.modified < newest for stat in found.values())
    ]
    for run_id in gone:
        store.erase(keys.run(customer, run_id, ""))
    return gone


def checksums(store: ObjectStore, prefix: str) -> dict[str, str]:
    """SHA-256 of every object under `prefix`, by key."""
    return {key: hashlib.sha256(store.get(key)).hexdigest() for key in store.list_keys(prefix)}
