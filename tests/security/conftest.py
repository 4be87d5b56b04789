"""Two customers whose names begin alike, each onboarded with recordings that bear its mark, on one S3 server."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engines.toy.plan import ToyPlan
from schemas.settings import OnboardSettings
from tasks.store import ObjectStore, open_store
from tasks.toy import write_toy_package
from tests.deployments.prefect_rig import harness
from tests.s3_server import S3Server

FIRST, SECOND = "acme", "acme-ulsan"
MARKS = {FIRST: "markalpha", SECOND: "markbeta"}
"""In every recording's name, every machine's and every confirmer's."""


@dataclass(frozen=True)
class Tenants:
    """A store that holds both customers, and on the Prefect server their runs."""

    store: ObjectStore

    def objects_of(self, customer: str) -> dict[str, bytes]:
        """Every object that is the customer's by its key."""
        keys = [key for key in self.store.list_keys() if owner(key) == customer]
        return {key: self.store.get(key) for key in keys}


def owner(key: str) -> str | None:
    """Whose an object is, read off its key as docs/storage.md draws it."""
    room, _, rest = key.partition("/")
    first, _, below = rest.partition("/")
    if room == "library":
        return below.rpartition("-")[0]
    return first if room in ("inbox", "raw", "packages", "assets", "recordings", "customers", "runs") else None


@pytest.fixture(scope="module")
def prefect_harness() -> Iterator[None]:
    """A Prefect server for the flows of a module."""
    with harness(log_level="INFO"):
        yield


@pytest.fixture(scope="module")
def tenants(prefect_harness: None, s3_url_of_module: str, tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    """Both onboarded; neither has consented to anything."""
    from flows.onboard import onboard

    folder = tmp_path_factory.mktemp("tenants")
    for seed, customer in enumerate((FIRST, SECOND)):
        source = folder / customer
        write_toy_package(source, ToyPlan(machine_types=("fan",), scale=0.001, seed=seed))
        _mark(source / "metadata.csv", MARKS[customer])
        onboard(str(source), customer, s3_url_of_module, OnboardSettings(encoder="logmel", engine="a"))
    return Tenants(open_store(s3_url_of_module))


@pytest.fixture(scope="module")
def s3_url_of_module(s3_server: S3Server, s3_bucket: str) -> str:
    """URL of an empty store for a module's tests."""
    return s3_server.url(s3_bucket, "tenants")


def _mark(table: Path, mark: str) -> None:
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row |= {"clip_id": f"{mark}-{number}", "section_id": f"{mark}-line", "confirmed_by": f"{mark} Kim"}
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
